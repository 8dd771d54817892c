/* SPDX-License-Identifier: Apache-2.0 */
#include "base/htable.h"

#include <assert.h>
#include <errno.h>

#include "base/node.h"

#define BUCKETS_FIRST 16

int htable_reserve(struct htable *t)
{
	if (t->buckets)
		return 0;
	t->buckets = node_alloc(BUCKETS_FIRST * sizeof(*t->buckets));
	if (!t->buckets)
		return -ENOMEM;
	t->mask = BUCKETS_FIRST - 1;
	return 0;
}

void htable_fini(struct htable *t)
{
	node_free(t->buckets);
	node_free(t->old);
	*t = (struct htable){ 0 };
}

/* Where a hash's chain begins: in `old` as long as its bucket there has not been moved. */
static struct hlink **chain(const struct htable *t, uint64_t hash)
{
	if (t->old && (hash & t->old_mask) >= t->moved)
		return &t->old[hash & t->old_mask];
	return &t->buckets[hash & t->mask];
}

static void move_one(struct htable *t)
{
	struct hlink *l = t->old[t->moved], *next;

	t->old[t->moved++] = NULL;
	for (; l; l = next) {
		struct hlink **to = &t->buckets[l->hash & t->mask];

		next = l->next;
		l->next = *to;
		*to = l;
	}
	if (t->moved > t->old_mask)
		t->old = node_free(t->old);
}

static void grow(struct htable *t)
{
	for (int i = 0; i < 2 && t->old; i++)
		move_one(t);
	if (!t->old && t->count > t->mask) {
		size_t count = 2 * (t->mask + 1);
		struct hlink **more = node_alloc(count * sizeof(*more));

		if (!more)
			return;
		t->old = t->buckets;
		t->old_mask = t->mask;
		t->moved = 0;
		t->buckets = more;
		t->mask = count - 1;
	}
}

void htable_add(struct htable *t, struct hlink *l, uint64_t hash)
{
	struct hlink **at;

	assert(t->buckets);
	grow(t);
	at = chain(t, hash);
	l->hash = hash;
	l->next = *at;
	*at = l;
	t->count++;
}

void htable_remove(struct htable *t, struct hlink *l)
{
	struct hlink **at = chain(t, l->hash);

	while (*at != l) {
		assert(*at);
		at = &(*at)->next;
	}
	*at = l->next;
	l->next = NULL;
	t->count--;
}

static struct hlink *same(struct hlink *l, uint64_t hash)
{
	while (l && l->hash != hash)
		l = l->next;
	return l;
}

void htable_expect(const struct htable *t, uint64_t hash)
{
	if (t->buckets)
		__builtin_prefetch(chain(t, hash));
}

struct hlink *htable_first(const struct htable *t, uint64_t hash)
{
	return t->buckets ? same(*chain(t, hash), hash) : NULL;
}

struct hlink *htable_next(const struct hlink *l)
{
	return same(l->next, l->hash);
}

/* Those of `old`, if it still grows, then the others; NULL behind the last one. */
static struct hlink **bucket(const struct htable *t, size_t i)
{
	size_t old_count = t->old ? t->old_mask + 1 : 0;

	if (!t->buckets || i >= old_count + t->mask + 1)
		return NULL;
	return i < old_count ? &t->old[i] : &t->buckets[i - old_count];
}

struct hlink *htable_any(const struct htable *t, size_t *at)
{
	struct hlink **b;

	for (; (b = bucket(t, *at)) != NULL; (*at)++)
		if (*b)
			return *b;
	return NULL;
}

struct hlink *htable_walk(const struct htable *t, size_t *at, struct hlink *previous)
{
	struct hlink **b;

	if (previous && previous->next)
		return previous->next;
	while ((b = bucket(t, *at)) != NULL) {
		(*at)++;
		if (*b)
			return *b;
	}
	return NULL;
}
