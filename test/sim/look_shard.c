/* SPDX-License-Identifier: Apache-2.0 */
#include "look.h"

#include <stdio.h>

#include "meta/shard_priv.h"

const char *look_at_shard(const struct shard *s)
{
	const char *why = NULL;

	for (unsigned i = 0; i < SLOT_COUNT && !why; i++)
		if (s->slots[i])
			why = look_at_catalog(s->slots[i]->catalog, s->asking_count > 0);
	return why;
}

unsigned shard_segments(const struct shard *s, struct owned *list, unsigned cap)
{
	unsigned n = 0;

	for (unsigned i = 0; i < SLOT_COUNT; i++)
		if (s->slots[i])
			n += catalog_segments(s->slots[i]->catalog, list + n, cap - n);
	return n;
}

uint64_t shard_lsn(const struct shard *s)
{
	return s->log.lsn;
}

void shard_bills(const struct shard *s, unsigned __int128 *jobs, unsigned __int128 *values)
{
	for (unsigned i = 0; i < SLOT_COUNT; i++) {
		struct catalog_sums sums;

		if (!s->slots[i])
			continue;
		catalog_sums(s->slots[i]->catalog, shard_now(s), &sums);
		*jobs += sums.byte_ns;
		*values += sums.value_byte_ns;
	}
}

bool shard_is_empty(const struct shard *s, char *why, size_t cap)
{
	for (unsigned i = 0; i < SLOT_COUNT; i++)
		if (s->slots[i] && !catalog_is_empty(s->slots[i]->catalog, why, cap))
			return false;
	if (s->waiter_count == 0 && s->asking_count == 0)
		return true;
	snprintf(why, cap, "%u who wait and %u who ask for space at shard %u", s->waiter_count,
		 s->asking_count, s->config.index);
	return false;
}
