/* SPDX-License-Identifier: Apache-2.0 */
#include "look.h"

#include <stdio.h>

#include "base/container.h"
#include "meta/catalog_priv.h"

const char *look_at_catalog(const struct catalog *c, bool is_asking)
{
	const char *why = catalog_check(c);
	struct hlink *l = NULL;
	size_t at = 0;

	while (!why && !is_asking && (l = htable_walk(&c->jobs, &at, l)) != NULL)
		if (container_of(l, struct job, by_id)->asked_bytes != 0)
			why = "who does not ask for space any more has none reserved";
	return why;
}

static unsigned pool_segments(const struct pool *p, struct owned *list, unsigned cap)
{
	unsigned n = 0;

	for (struct list *l = p->segments.next; l != &p->segments && n < cap; l = l->next) {
		const struct segment *s = container_of(l, struct segment, of_pool);

		if (s->state == SEGMENT_LOST || s->state == SEGMENT_GONE)
			continue;
		list[n++] = (struct owned){ .segment = s->id,
					    .job = s->job ? s->job->id : 0,
					    .generation = s->generation,
					    .is_given_back = s->state == SEGMENT_FREEING };
	}
	return n;
}

unsigned catalog_segments(const struct catalog *c, struct owned *list, unsigned cap)
{
	unsigned n = 0;

	for (struct list *l = c->pools.next; l != &c->pools; l = l->next)
		n += pool_segments(container_of(l, struct pool, link), list + n, cap - n);
	return n;
}

uint64_t catalog_holds(const struct catalog *c)
{
	return c->holds.count;
}

uint64_t catalog_other_session(const struct catalog *c, const uint64_t *list, unsigned count)
{
	struct hlink *l = NULL;
	size_t at = 0;

	while ((l = htable_walk(&c->sessions, &at, l)) != NULL) {
		uint64_t id = container_of(l, struct session, by_id)->id;
		unsigned i = 0;

		while (i < count && list[i] != id)
			i++;
		if (i == count)
			return id;
	}
	return 0;
}

void catalog_forget(struct catalog *c)
{
	struct hlink *l = NULL;
	size_t at = 0;

	while ((l = htable_walk(&c->jobs, &at, l)) != NULL) {
		struct job *j = container_of(l, struct job, by_id);

		while (j->attempt_count > 0)
			attempt_drop_first(c, j);
	}
}

struct kind_left {
	const char *name;
	uint64_t count;
};

/* None of the kinds, of which the last has no name; else which. */
static bool is_none_left(const struct catalog *c, const struct kind_left *kind, char *why,
			 size_t cap)
{
	for (; kind->name; kind++) {
		if (kind->count == 0)
			continue;
		snprintf(why, cap, "%llu %s in slot %u", (unsigned long long)kind->count,
			 kind->name, c->slot);
		return false;
	}
	return true;
}

bool catalog_is_at_rest(const struct catalog *c, char *why, size_t cap)
{
	const struct kind_left all[] = {
		{ "holds", c->holds.count + c->reads.count },
		{ "open objects", c->opens.count },
		{ "requests for segments", c->requests.count },
		{ 0 },
	};

	return is_none_left(c, all, why, cap);
}

bool catalog_is_empty(const struct catalog *c, char *why, size_t cap)
{
	const struct kind_left all[] = {
		{ "objects", c->object_count },
		{ "entries", c->entries.count },
		{ "directories", c->directories.count },
		{ "attempts", c->attempts.count + c->ends.count },
		{ "segments", c->segment_count },
		{ "requests for segments", c->requests.count },
		{ "holds", c->holds.count + c->reads.count },
		{ "open objects", c->opens.count },
		{ "bytes of values", c->value_account.bytes },
		{ "pieces of debris", !list_is_empty(&c->debris) },
		{ 0 },
	};

	return is_none_left(c, all, why, cap);
}
