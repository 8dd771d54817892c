/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spares: pieces of memory of one size that are used again and again, warmest first. What is
 * taken has whatever was in it, so its owner sets what it reads, and pays for no more. What
 * was given is poisoned, so that address sanitizer sees who still uses it.
 */
#pragma once

#include <string.h>

#include "base/limits.h"
#include "base/node.h"
#include "base/sanitizer.h"

struct spares {
	void *first; /* whose first bytes point at the next */
	unsigned count;
};

static inline void *spares_pop(struct spares *s, size_t size)
{
	void *p = s->first;

	if (!p)
		return NULL;
	(void)size;
	ON_ASAN(__asan_unpoison_memory_region(p, size);)
	memcpy(&s->first, p, sizeof(s->first));
	s->count--;
	return p;
}

/* NULL if there is no memory. `size` is the same each time, and at least a pointer's. */
static inline void *spares_take(struct spares *s, size_t size)
{
	return s->first ? spares_pop(s, size) : node_alloc(size);
}

/* NULL is fine. */
static inline void spares_give(struct spares *s, void *p, size_t size)
{
	if (!p || s->count >= SPARES_MAX) {
		node_free(p);
		return;
	}
	memcpy(p, &s->first, sizeof(s->first));
	s->first = p;
	s->count++;
	(void)size;
	ON_ASAN(__asan_poison_memory_region(p, size);)
}

static inline void spares_fini(struct spares *s, size_t size)
{
	while (s->first)
		node_free(spares_pop(s, size));
}
