/* SPDX-License-Identifier: Apache-2.0 */
#include "look.h"

#include <stdio.h>

#include "meta/shard_priv.h"

static int is_known(void *owner, uint64_t store, const char *address)
{
	const struct shard *s = owner;

	for (struct list *l = s->stores.next; l != &s->stores; l = l->next) {
		const struct store *st = container_of(l, struct store, link);

		/* A power cut may leave a segment and not where its store is; it comes and says so.
		 */
		if (st->id == store)
			return strcmp(st->address, address) == 0 || (!address[0] && !st->conn) ? 0
											       : -1;
	}
	return -1;
}

const char *look_at_shard(const struct shard *s)
{
	const char *why = NULL;

	for (struct slot *slot = slot_from(s, 0); slot && !why;
	     slot = slot_from(s, slot->number + 1)) {
		why = look_at_catalog(slot->catalog, s->asking_count > 0);
		if (!why && catalog_stores(slot->catalog, is_known, (void *)s) < 0)
			why = "a shard knows each store that a slot has segments of, and where it "
			      "is";
	}
	return why;
}

unsigned shard_segments(const struct shard *s, struct owned *list, unsigned cap)
{
	unsigned n = 0;

	for (struct slot *slot = slot_from(s, 0); slot; slot = slot_from(s, slot->number + 1))
		n += catalog_segments(slot->catalog, list + n, cap - n);
	return n;
}

uint64_t shard_lsn(const struct shard *s)
{
	return s->log.lsn;
}

uint64_t shard_holds(const struct shard *s)
{
	uint64_t n = 0;

	for (struct slot *slot = slot_from(s, 0); slot; slot = slot_from(s, slot->number + 1))
		n += catalog_holds(slot->catalog);
	return n;
}

uint64_t shard_other_session(const struct shard *s, const uint64_t *list, unsigned count)
{
	uint64_t other = 0;

	for (struct slot *slot = slot_from(s, 0); slot && !other;
	     slot = slot_from(s, slot->number + 1))
		other = catalog_other_session(slot->catalog, list, count);
	return other;
}

void shard_forget(struct shard *s)
{
	for (struct slot *slot = slot_from(s, 0); slot; slot = slot_from(s, slot->number + 1))
		catalog_forget(slot->catalog);
}

void shard_bills(const struct shard *s, unsigned __int128 *jobs, unsigned __int128 *values)
{
	for (struct slot *slot = slot_from(s, 0); slot; slot = slot_from(s, slot->number + 1)) {
		struct catalog_sums sums;

		catalog_sums(slot->catalog, shard_now(s), &sums);
		*jobs += sums.byte_ns;
		*values += sums.value_byte_ns;
	}
}

static bool is_asked_nothing(const struct shard *s, char *why, size_t cap)
{
	if (s->waiter_count == 0 && s->asking_count == 0)
		return true;
	snprintf(why, cap, "%u who wait and %u who ask for space at shard %u", s->waiter_count,
		 s->asking_count, s->config.index);
	return false;
}

bool shard_is_at_rest(const struct shard *s, char *why, size_t cap)
{
	for (struct slot *slot = slot_from(s, 0); slot; slot = slot_from(s, slot->number + 1))
		if (!catalog_is_at_rest(slot->catalog, why, cap))
			return false;
	return is_asked_nothing(s, why, cap);
}

bool shard_is_empty(const struct shard *s, char *why, size_t cap)
{
	for (struct slot *slot = slot_from(s, 0); slot; slot = slot_from(s, slot->number + 1))
		if (!catalog_is_empty(slot->catalog, why, cap))
			return false;
	return is_asked_nothing(s, why, cap);
}
