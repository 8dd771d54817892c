/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remote: what platforms that are asked over HTTP have in common. A platform says how to ask
 * and what an answer means; connections, deadlines and what became of requests that were not
 * answered are here.
 *
 *	IDLE --start--> ASKED --an answer: not yet--> RESTING --again_ns--> ASKED
 *	                  +----------- an answer: ended ----> (returned)
 *
 * Nobody can end a run by force there: one that is killed or late is given up, and perhaps
 * goes on until its platform ends it. Functions can run again beside it.
 */
#pragma once

#include "http.h"
#include "platform.h"

struct remote_call {
	struct platform_run *run; /* NULL: idle */
	struct http_request http;
	char url[1024];
	char id[128];      /* of the run there, once it is known; "" */
	uint64_t again_ns; /* resting until then; 0: asked */
	bool is_given_up;
	uint32_t asked; /* requests of this run */
	char *body;     /* owned */
};

struct remote;

struct remote_ops {
	/* Fills method, url, headers and body of the next request; or why that cannot be, as r
	 * and log of its run, and returns it. */
	int (*ask)(struct remote *r, struct remote_call *c);

	/* True: the run has ended, and its r, output, log and init_ns are set. False: ask again,
	 * at again_ns. There is an answer, c->http.r is 0. */
	bool (*answer)(struct remote *r, struct remote_call *c);

	void (*close)(struct remote *r); /* all that is the platform's own, and `r` */
};

struct remote {
	struct platform platform;
	const struct remote_ops *ops;
	struct problem *problem; /* not ours */
	struct http *http;
	size_t parallel;
	struct remote_call *calls;
};

/* `r` is the platform's, with zeros in it; from here on remote's. */
int remote_init(struct remote *r, const struct remote_ops *ops, const struct http_config *http,
		const struct platform_config *config, struct problem *problem);

/* What remote_init() made; fine for zeros. */
void remote_fini(struct remote *r);

/* How its run ends: a sentence into its log. Returns `result`. */
int remote_end(struct remote_call *c, int result, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The reply is taken. */
void remote_reply(struct remote_call *c, char *output);

/*
 * What a status means that says nothing of the run itself: 429 and 503: refused, until Retry-After
 * if there is one; 401, 403: -EACCES; 404: -ENOENT; 413: -E2BIG; other 4xx: -EINVAL, all of them
 * final; anything else: it may have run. `said` is the platform's own sentence, or NULL.
 */
void remote_end_by_status(struct remote_call *c, const char *said);
