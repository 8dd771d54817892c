/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/keep_set.h"

#include <string.h>

#include "base/limits.h"
#include "base/node.h"

unsigned keep_set_from(const struct keep_set *s, struct keep_name name)
{
	unsigned from = 0, to = s->count;

	while (from < to) {
		unsigned mid = from + (to - from) / 2;

		if (keep_name_compare(s->list[mid].name, name) < 0)
			from = mid + 1;
		else
			to = mid;
	}
	return from;
}

int keep_set_reserve(struct keep_set *s)
{
	unsigned cap = s->cap ? 2 * s->cap : 64;
	struct kept *more;

	if (s->count == KEEP_REGIONS_MAX)
		return -ENOSPC;
	if (s->count < s->cap)
		return 0;
	more = node_resize(s->list, cap * sizeof(*more));
	if (!more)
		return -ENOMEM;
	s->list = more;
	s->cap = cap;
	return 0;
}

void keep_set_fini(struct keep_set *s)
{
	node_free(s->list);
	*s = (struct keep_set){ 0 };
}

struct kept *keep_set_get(const struct keep_set *s, struct keep_name name)
{
	unsigned i = keep_set_from(s, name);

	return i < s->count && keep_name_compare(s->list[i].name, name) == 0 ? &s->list[i] : NULL;
}

bool keep_set_find(const struct keep_set *s, struct keep_name from, struct keep_name *ret)
{
	for (unsigned i = keep_set_from(s, from); i < s->count; i++) {
		const struct kept *k = &s->list[i];

		if (k->name.kind != from.kind || k->name.owner != from.owner)
			break;
		if (!k->is_found)
			continue;
		*ret = k->name;
		return true;
	}
	return false;
}

void keep_set_add(struct keep_set *s, const struct kept *k)
{
	unsigned i = keep_set_from(s, k->name);

	memmove(&s->list[i + 1], &s->list[i], (s->count - i) * sizeof(*s->list));
	s->list[i] = *k;
	s->count++;
}

void keep_set_remove(struct keep_set *s, struct kept *k)
{
	unsigned i = (unsigned)(k - s->list);

	s->count--;
	memmove(k, k + 1, (s->count - i) * sizeof(*s->list));
}
