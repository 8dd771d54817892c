/* SPDX-License-Identifier: Apache-2.0 */
/*
 * web: a connection of a foreign protocol, served by a fiber of its own that reads,
 * answers, and reads again. For doors of few connections.
 */
#pragma once

#include "base/limits.h"
#include "proxy/proxy_priv.h"

struct web {
	struct fiber fiber;
	struct list link;
	struct proxy *proxy;
	struct stream *stream;
	struct waitq ready;
	bool is_serving; /* a request is whole, and is being answered */
	bool is_leaving; /* to make room */
	size_t len;
	char in[WEB_REQUEST_BYTES];
};

/* Takes the stream. If there are too many, the one that has said half a request for longest goes.
 */
void web_accept(struct proxy *p, struct stream *s, fiber_fn *run);
/* More bytes into `in`: their count; 0 at the end; -EMSGSIZE if it is full; -ETIMEDOUT. */
ssize_t web_read(struct web *w, uint64_t due_ns);
int web_write(struct web *w, const void *bytes, size_t len, uint64_t due_ns);
