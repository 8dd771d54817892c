/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_priv.h"

#include <stdio.h>

#include "look.h"

#define LIST_MAX 2048

const char *look_at_store(struct store *s)
{
	struct segment_entry list[LIST_MAX];
	const struct pool *p = &s->pool;
	bool has_more;
	unsigned n = pool_list(p, UINT16_MAX, 0, list, LIST_MAX, &has_more);
	uint64_t used = 0;

	for (unsigned i = 0; i < n; i++) {
		used += list[i].size;
		if (i > 0 && list[i].segment <= list[i - 1].segment)
			return "a pool lists each segment once";
	}
	if (!has_more && n != p->used_count)
		return "a pool counts the segments that are in use";
	if (p->reserved > p->limit)
		return "a pool never reserves more than its limit";
	if (p->used > p->reserved)
		return "what is in use is reserved";
	if (!has_more && p->used > used)
		return "segments in use hold no more than their sizes";
	return NULL;
}

unsigned store_segments(struct store *s, struct owned *list, unsigned cap)
{
	struct segment_entry entries[LIST_MAX];
	bool has_more;
	unsigned n = pool_list(&s->pool, UINT16_MAX, 0, entries, LIST_MAX, &has_more);

	for (unsigned i = 0; i < n && i < cap; i++)
		list[i] = (struct owned){ .segment = entries[i].segment,
					  .job = entries[i].job,
					  .generation = entries[i].generation };
	return n < cap ? n : cap;
}

unsigned __int128 store_bill(const struct store *s)
{
	return book_integral(&s->pool.book, store_time_ns(s));
}

bool store_is_empty(struct store *s, char *why, size_t cap)
{
	const struct pool *p = &s->pool;

	if (p->used == 0 && p->used_count == 0 && p->ask_count == 0 && list_is_empty(&s->waits))
		return true;
	snprintf(why, cap, "%llu bytes in %u segments, %u who wait for space%s",
		 (unsigned long long)p->used, p->used_count, p->ask_count,
		 list_is_empty(&s->waits) ? "" : ", duties that wait for pins");
	return false;
}

void store_unmap(struct store *s)
{
	retired_fini(&s->retired);
}
