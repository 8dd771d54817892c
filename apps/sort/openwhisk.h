/* SPDX-License-Identifier: Apache-2.0 */
/*
 * openwhisk: what is said to OpenWhisk's REST interface, and what it answers. Pure: no I/O.
 *
 *	openwhisk://HOST[:PORT][?image=IMAGE]    an action of ours, made if it is not there
 *	openwhisk://HOST[:PORT]/ACTION           one that the user has made
 *
 * By TLS, but for this machine; openwhisk+http:// and openwhisk+https:// say it themselves.
 */
#pragma once

#include "problem.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The platform's own, which no deployment can change: of parameters, and of a result. */
#define OPENWHISK_PAYLOAD_MAX ((size_t)1 << 20)

/* Of the code of an action, by default. */
#define OPENWHISK_CODE_MAX ((size_t)48 << 20)

/* Of a run's time and memory, by default. */
#define OPENWHISK_TIMEOUT_MAX_MS 300000
#define OPENWHISK_MEMORY_MIN_MB  128

#define OPENWHISK_NAME_MAX 256

struct openwhisk {
	char base[320]; /* scheme, host and port, and the way to the namespace */
	char action[OPENWHISK_NAME_MAX];
	char image[OPENWHISK_NAME_MAX]; /* that runs the code */
	bool is_ours;
};

int openwhisk_parse(const char *url, struct openwhisk *ret, struct problem *problem);

/* What came in the body of an answer. */
struct openwhisk_answer {
	char id[64];      /* of the activation; "": none */
	char *output;     /* the function's reply, whatever it is; owned; NULL: none */
	int r;            /* without one: -ETIMEDOUT, -ECHILD; 0: nothing is known yet */
	uint64_t init_ns; /* 0: it was warm, or nobody told */
	char said[1024];  /* the platform's own sentence; "" */
	char log[2048];   /* the end of it */
};

void openwhisk_answer_parse(const char *body, size_t len, struct openwhisk_answer *ret);
void openwhisk_answer_fini(struct openwhisk_answer *a);

/* The parameters of a request line, which has them as "value"; to be freed. NULL: it has none. */
char *openwhisk_parameters(const char *line);

struct openwhisk_code {
	const void *zip;
	size_t len;
	uint64_t timeout_ms;
	size_t memory; /* of a function */
};

/* The body that creates the action, with its digest in an annotation; to be freed. */
char *openwhisk_action_make(const struct openwhisk *w, const struct openwhisk_code *code);

/* The action is there, and made of the same. */
bool openwhisk_action_is(const char *body, size_t len, const struct openwhisk *w,
			 const struct openwhisk_code *code);
