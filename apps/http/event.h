/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event: what a function is asked inside a request of HTTP, and what its reply is inside
 * the answer. Pure.
 *
 *	plain        the body is the function's line of JSON
 *	binary       a CloudEvent 1.0 in headers; the body is the line
 *	structured   application/cloudevents+json; its "data" is the line
 *	action       what OpenWhisk posts to /run, in which the line is plain
 *	azure        the envelope of a custom handler: {"Data": {binding: ...}, "Metadata"}; the
 *	             line is in the first binding, of an HTTP trigger in its "Body"
 *
 * The answer to an event is an event, to an envelope an envelope; OpenWhisk wants 200 for every
 * reply. A reply with "error" is
 * answered 500, or, where "is_final" says that it would come again, 422; an envelope of an
 * HTTP trigger carries that status inside.
 */
#pragma once

#include <jansson.h>

#include "http_head.h"

enum event_kind { EVENT_PLAIN, EVENT_BINARY, EVENT_STRUCTURED, EVENT_ACTION, EVENT_AZURE };

#define EVENT_ID_MAX 256 /* bytes with the NUL */

struct event {
	enum event_kind kind;
	char *line; /* owned: the request of the function */
	char id[EVENT_ID_MAX];
	bool is_http; /* of azure: an HTTP trigger */
};

/*
 * 0, or the status to refuse it with, 400 or 415, and *ret_why, a literal. `is_azure`: this
 * process is a custom handler, where both envelopes and plain requests come.
 */
int event_read(const struct http_head *head, const char *body, bool is_azure, struct event *ret,
	       const char **ret_why);
void event_fini(struct event *e);

struct event_answer {
	int status;
	const char *type;  /* of the body */
	char headers[512]; /* each with its end of line */
	char *body;        /* owned */
};

/* 0, or -ENOMEM. `reply` is JSON, which is what functions make. */
int event_answer(const struct event *e, const char *reply, struct event_answer *ret);
