/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spares: pieces of memory of one size that are used again and again, warmest first. What is
 * taken has whatever was in it, so its owner sets what it reads, and pays for no more.
 */
#pragma once

#include <string.h>

#include "base/limits.h"
#include "base/node.h"

struct spares {
	void *first; /* whose first bytes point at the next */
	unsigned count;
};

/* NULL if there is no memory. `size` is the same each time, and at least a pointer's. */
static inline void *spares_take(struct spares *s, size_t size)
{
	void *p = s->first;

	if (!p)
		return node_alloc(size);
	memcpy(&s->first, p, sizeof(s->first));
	s->count--;
	return p;
}

/* NULL is fine. */
static inline void spares_give(struct spares *s, void *p)
{
	if (!p || s->count >= SPARES_MAX) {
		node_free(p);
		return;
	}
	memcpy(p, &s->first, sizeof(s->first));
	s->first = p;
	s->count++;
}

static inline void spares_fini(struct spares *s)
{
	while (s->first) {
		void *p = s->first;

		memcpy(&s->first, p, sizeof(s->first));
		node_free(p);
	}
	s->count = 0;
}
