/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_head: the first lines of a message in HTTP/1.1 (RFC 9112), up to the empty one.
 * Pure. Strict where two readers could understand different things: a message with two
 * lengths, with a length and an encoding, with blanks before a colon or folded lines is none.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_MAX       16384 /* bytes; what servers of platforms take */
#define HTTP_HEAD_LINES_MAX 100

enum http_kind { HTTP_REQUEST, HTTP_RESPONSE };

/* How long the body is: none, `body_len` bytes, chunks, or all up to the end of the connection. */
enum http_body { HTTP_BODY_NONE, HTTP_BODY_LENGTH, HTTP_BODY_CHUNKED, HTTP_BODY_REST };

struct http_header {
	const char *name, *value; /* no blanks around the value */
};

struct http_head {
	const char *method, *target; /* of a request */
	int status;                  /* of a response */
	enum http_body body;
	uint64_t body_len;
	bool keeps;            /* the connection goes on behind the answer */
	bool expects_continue; /* the body comes when it was asked for */
	size_t header_count;
	struct http_header headers[HTTP_HEAD_LINES_MAX];
};

/*
 * `buf` is all of the head, with the empty line at its end; it is cut into strings, to which
 * `ret` points. -EBADMSG: no such message; -E2BIG: too many headers; -EOPNOTSUPP: an encoding
 * other than chunked.
 */
int http_head_parse(enum http_kind kind, char *buf, size_t len, struct http_head *ret);

/* The value of the first header of this name, in any case; NULL: there is none. */
const char *http_head_value(const struct http_head *h, const char *name);
