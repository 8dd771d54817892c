/* SPDX-License-Identifier: Apache-2.0 */
/*
 * web: a connection of somebody who calls a function: requests, one after the other, and
 * the answers to them. It waits for nothing; serve.c does.
 *
 *	FREE --> READING --a whole request--> RUNNING --> WRITING --> READING
 *	            +------ answered at once ----------------^  +---> LEAVING --> FREE
 *
 * LEAVING reads on for a moment: who still sends when we close loses our answer.
 */
#pragma once

#include "event.h"
#include "http_intake.h"

/* Requests are references, not data. Lambda's limit, so that a driver knows one for all. */
#define WEB_BODY_MAX ((size_t)6 << 20)

#define WEB_MESSAGE_S 60  /* a message that has begun is to be whole */
#define WEB_IDLE_S    900 /* platforms freeze functions for minutes, connections open */
#define WEB_LEAVE_S   2

enum web_state { WEB_FREE, WEB_READING, WEB_RUNNING, WEB_WRITING, WEB_LEAVING };

struct web {
	enum web_state state;
	int fd;
	uint64_t due_ns;  /* then its time is over; of a run: never */
	uint64_t idle_ns; /* since when nothing of a request has come; 0: something has */
	struct http_intake in;
	struct event event; /* of the run; the server's */

	/* web.c's own. */
	bool was_told_to_continue, closes;
	char *out;
	size_t out_len, out_sent;
	char buf[16384]; /* bytes of the next request, which the intake has not taken */
	size_t buf_len;
};

void web_open(struct web *w, int fd); /* takes the descriptor */
void web_close(struct web *w);

/* The socket is readable, or writable, or the time is over. True: a whole request is in w->in. */
bool web_ready(struct web *w);
void web_late(struct web *w);

/* The request is with a worker, who ends with web_answer(). */
void web_run(struct web *w);

/* web_tell() is in our own words: 200, or an error that reads like a function's. */
void web_answer(struct web *w, const struct event_answer *a);
void web_tell(struct web *w, int status, const char *why);

/* The connection goes after this answer. */
void web_leave(struct web *w);
