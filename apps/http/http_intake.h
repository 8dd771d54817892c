/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_intake: makes whole messages of bytes as they come, however they are cut. No I/O.
 *
 *	HEAD --empty line--> BODY, or CHUNK_SIZE <--> CHUNK --> TRAILER --> WHOLE
 *
 * It holds at most HTTP_HEAD_MAX and `body_max` bytes, and grows with what came, not with
 * what was announced. For zeros and a kind it is at the beginning of a message.
 */
#pragma once

#include "http_head.h"

enum http_state {
	HTTP_AT_HEAD,
	HTTP_AT_BODY,
	HTTP_AT_CHUNK_SIZE,
	HTTP_AT_CHUNK,
	HTTP_AT_TRAILER,
	HTTP_AT_END, /* a whole message */
};

struct http_intake {
	enum http_kind kind;
	size_t body_max;
	enum http_state state;
	struct http_head head; /* behind HTTP_AT_HEAD */
	char *body;            /* owned; a NUL is behind it, also behind none */
	size_t body_len;

	/* http_intake.c's own. */
	char text[HTTP_HEAD_MAX]; /* the head; then a line of the chunks */
	char line[256];
	size_t text_len, line_len, trailer_len, cap;
	uint64_t left; /* of the body, or of the chunk with its end of line */
};

/*
 * Takes bytes up to the end of the message at most; how many it took. -EBADMSG: no HTTP;
 * -E2BIG: the head is too long; -EMSGSIZE: the body is; -EOPNOTSUPP: an encoding that is
 * not ours; -ENOMEM. After one of them nothing behind it can be understood.
 */
int64_t http_intake_take(struct http_intake *in, const char *bytes, size_t len);

/* The connection is closed at the other end. 0: the message is whole with that; -EPIPE: it is not.
 */
int http_intake_close(struct http_intake *in);

static inline bool http_intake_is_whole(const struct http_intake *in)
{
	return in->state == HTTP_AT_END;
}

/* Nothing has come of the next message. */
static inline bool http_intake_is_idle(const struct http_intake *in)
{
	return in->state == HTTP_AT_HEAD && in->text_len == 0;
}

void http_intake_next(struct http_intake *in); /* the message is done with */
void http_intake_fini(struct http_intake *in);
