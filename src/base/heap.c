/* SPDX-License-Identifier: Apache-2.0 */
#include "base/heap.h"

#include <assert.h>

/* Of two trees the one that is due later becomes a child of the other. Neither has siblings. */
static struct heap_link *meld(struct heap_link *a, struct heap_link *b)
{
	if (!a || !b)
		return a ? a : b;
	if (b->due < a->due) {
		struct heap_link *t = a;

		a = b;
		b = t;
	}
	b->next = a->child;
	if (b->next)
		b->next->hook = &b->next;
	a->child = b;
	b->hook = &a->child;
	return a;
}

static void crown(struct heap *h, struct heap_link *l)
{
	h->top = l;
	if (l) {
		l->next = NULL;
		l->hook = &h->top;
	}
}

/* Pairs from the left, then all of them from the right: this is what keeps it shallow. */
static struct heap_link *meld_siblings(struct heap_link *first)
{
	struct heap_link *pairs = NULL, *all = NULL;

	while (first) {
		struct heap_link *a = first, *b = a->next;

		first = b ? b->next : NULL;
		a->next = NULL;
		if (b)
			b->next = NULL;
		a = meld(a, b);
		a->next = pairs;
		pairs = a;
	}
	while (pairs) {
		struct heap_link *a = pairs;

		pairs = a->next;
		a->next = NULL;
		all = meld(all, a);
	}
	return all;
}

void heap_add(struct heap *h, struct heap_link *l, uint64_t due)
{
	assert(!heap_has(l));
	*l = (struct heap_link){ .due = due };
	crown(h, meld(h->top, l));
}

void heap_remove(struct heap *h, struct heap_link *l)
{
	struct heap_link *rest;

	if (!heap_has(l))
		return;
	rest = meld_siblings(l->child);
	if (l == h->top) {
		crown(h, rest);
	} else {
		*l->hook = l->next;
		if (l->next)
			l->next->hook = l->hook;
		crown(h, meld(h->top, rest));
	}
	l->child = l->next = NULL;
	l->hook = NULL;
}
