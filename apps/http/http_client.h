/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_client: calls of one server, one after the other, over a connection that is kept.
 *
 * A kept connection may have been closed while nobody looked, or while this process was
 * frozen: a call that finds it so before any byte of an answer came is made once more over
 * a new one. So calls must bear to come twice. Not for strangers: no TLS, no redirects.
 */
#pragma once

#include "http_intake.h"

struct http_client {
	struct http_intake in; /* the answer, until the next call */

	/* http_client.c's own. */
	int fd;
	bool was_used; /* an answer came over this connection */
	char host[256], port[8];
};

struct http_call {
	const char *method, *target;
	const char *headers; /* each with its end of line; "" */
	const char *body;
	size_t body_len;
	uint64_t due_ns; /* UINT64_MAX: as long as the connection lives */
};

/* `address` is host:port. Connects at the first call. -EINVAL: no address. */
int http_client_init(struct http_client *c, const char *address, size_t body_max);
void http_client_fini(struct http_client *c);

/* 0: an answer, whatever its status; -EHOSTUNREACH, -ETIMEDOUT, -EPIPE, or what the intake says. */
int http_client_call(struct http_client *c, const struct http_call *call);
