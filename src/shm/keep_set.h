/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keep_set: names and what is kept under them, in the order of names. Who closes or
 * frees what is in an entry is the business of whoever has the set.
 */
#pragma once

#include "shm/keep.h"

struct plain;

struct kept {
	struct keep_name name;
	int fd;              /* -1 if it is plain memory */
	bool is_found;       /* the predecessor's, and nobody has taken it */
	struct plain *plain; /* NULL if it is a descriptor */
};

struct keep_set {
	struct kept *list;
	unsigned count, cap;
};

static inline int keep_name_compare(struct keep_name a, struct keep_name b)
{
	if (a.kind != b.kind)
		return a.kind < b.kind ? -1 : 1;
	if (a.owner != b.owner)
		return a.owner < b.owner ? -1 : 1;
	return a.number < b.number ? -1 : a.number > b.number;
}

/* Room for one more: -ENOMEM; -ENOSPC: there are KEEP_REGIONS_MAX. */
int keep_set_reserve(struct keep_set *s);
void keep_set_fini(struct keep_set *s);

/* NULL: there is none. Good until the set changes. */
struct kept *keep_set_get(const struct keep_set *s, struct keep_name name);
/* Where in the list the first is that is at `name` or behind it; `count`: none is. */
unsigned keep_set_from(const struct keep_set *s, struct keep_name name);
/* keep_find() */
bool keep_set_find(const struct keep_set *s, struct keep_name from, struct keep_name *ret);
/* After keep_set_reserve(), and none of that name is there. */
void keep_set_add(struct keep_set *s, const struct kept *k);
void keep_set_remove(struct keep_set *s, struct kept *k);
