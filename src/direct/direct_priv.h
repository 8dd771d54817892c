/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "core/core.h"
#include "direct/direct.h"
#include "proxy/proxy.h"

struct direct {
	struct loop *loop;
	struct net *net;
	struct core *core;
	struct proxy *proxy;
	struct address metas[SHARDS_MAX];
	unsigned meta_count;
	char *endpoint; /* as given */
	char token[TOKEN_BYTES_MAX + 1];
	int pid; /* its descriptors are another process's as well after a fork */
};

/* Frees all of it. NULL is fine. */
void direct_free(struct direct *d);

/* One that is like this, for this thread; NULL: none. */
struct direct *warm_take(const char *endpoint, const char *token);
/* Takes it, for any thread. */
void warm_give(struct direct *d);
