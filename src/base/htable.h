/* SPDX-License-Identifier: Apache-2.0 */
/*
 * htable: a hash table of embedded links. The caller hashes (with a secret seed,
 * where the keys come from outside) and compares; equal hashes lie on one chain.
 *
 *	for (l = htable_first(t, hash); l; l = htable_next(l))
 *		if (is_what_i_want(container_of(l, ...)))
 *
 * It grows in small steps, two buckets for each change, so no call takes long. If
 * there is no memory to grow, chains get longer and nothing fails but the first add.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct hlink {
	struct hlink *next;
	uint64_t hash;
};

struct htable {
	struct hlink **buckets,
		**old; /* while it grows, those from `moved` on are still in `old` */
	size_t mask, old_mask, moved, count;
};

/* Makes room for the first add. 0 or -ENOMEM; may be called at any time. */
int htable_reserve(struct htable *t);
void htable_fini(struct htable *t); /* the links are the caller's */

void htable_add(struct htable *t, struct hlink *l, uint64_t hash); /* after htable_reserve() */
void htable_remove(struct htable *t, struct hlink *l);

/* It is about to be looked at: what is asked for early is there when it is needed. */
void htable_expect(const struct htable *t, uint64_t hash);
struct hlink *htable_first(const struct htable *t, uint64_t hash);
struct hlink *htable_next(const struct hlink *l);

/* Any link in the bucket *at or behind it, which then is where it was: to empty a table. */
struct hlink *htable_any(const struct htable *t, size_t *at);

/* Walks over all links in any order; `at` begins as 0. NULL at the end. No changes meanwhile. */
struct hlink *htable_walk(const struct htable *t, size_t *at, struct hlink *previous);
