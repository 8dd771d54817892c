/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index: what has a name, in byte order of the names, embedded. A treap: who is above
 * whom follows from a priority, which is a hash with a secret seed, so nobody outside
 * can make it deep. Nothing allocates, and nothing recurses.
 */
#pragma once

#include <stdbool.h>

#include "base/cursor.h"

struct index_link {
	struct index_link *left, *right, *parent;
};

struct index_ops {
	struct slice (*key)(const struct index_link *l);
	uint64_t (*priority)(const struct index_link *l);
};

struct index {
	struct index_link *root;
	const struct index_ops *ops;
};

/* Below 0, 0 or above as memcmp(); a name comes before those that it begins. */
int slice_compare(struct slice a, struct slice b);
static inline bool slice_begins_with(struct slice s, struct slice prefix)
{
	return s.len >= prefix.len &&
	       (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

/* No other link has the same key. */
void index_add(struct index *x, struct index_link *l);
void index_remove(struct index *x, struct index_link *l);
/* `l`, of the same key and priority, takes the place of `old`. */
/* It is about to be replaced: its neighbors are asked for. */
void index_expect(const struct index_link *l);
void index_replace(struct index *x, struct index_link *old, struct index_link *l);

/* The first one whose key is not below `key` (is_after: that is above it); NULL if none. */
struct index_link *index_seek(const struct index *x, struct slice key, bool is_after);
struct index_link *index_next(const struct index_link *l);
static inline struct index_link *index_first(const struct index *x)
{
	return index_seek(x, (struct slice){ 0 }, false);
}
