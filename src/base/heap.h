/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heap: what is due soonest, embedded. A pairing heap: to add is a comparison, to
 * remove is a few; nothing allocates. Equal due times come out in no particular
 * order, but in the same one in every run of the same steps.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_link {
	uint64_t due;
	struct heap_link *child, *next; /* first child; next sibling */
	struct heap_link **hook;        /* what points at us: NULL while on no heap */
};

struct heap {
	struct heap_link *top;
};

static inline bool heap_has(const struct heap_link *l)
{
	return l->hook != NULL;
}

/* The soonest; NULL if there is none. */
static inline struct heap_link *heap_top(const struct heap *h)
{
	return h->top;
}

void heap_add(struct heap *h, struct heap_link *l, uint64_t due);
void heap_remove(struct heap *h, struct heap_link *l); /* fine if on no heap */
