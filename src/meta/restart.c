/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restart: a shard takes over from its predecessor: images and records into its slots,
 * then what follows from them: sessions and stores that may come back, what is due, what is
 * owed.
 */
#include "base/log.h"
#include "base/plant.h"
#include "base/node.h"
#include "meta/restore.h"
#include "meta/shard_priv.h"

static int begin(void *owner, const struct leaf_header *h)
{
	struct shard *s = owner;

	s->seed = h->seed;
	return 0;
}

static void restore_over(struct shard *s)
{
	if (s->restore)
		restore_end(s->restore);
	s->restore = node_free(s->restore);
}

static int image(void *owner, uint16_t number, struct slice bytes)
{
	struct shard *s = owner;
	struct rcur c = rcur_make(bytes.ptr, bytes.len);
	struct slot *slot;
	int r = shard_slot(s, number, &slot);

	if (r < 0)
		return r;
	if (s->restore && s->restore->catalog != slot->catalog)
		return -EBADMSG; /* the one before is not whole */
	if (!s->restore) {
		s->restore = node_alloc(sizeof(*s->restore));
		if (!s->restore)
			return -ENOMEM;
		r = restore_begin(s->restore, slot->catalog);
	}
	if (r == 0)
		r = restore_next(s->restore, &c);
	if (r == 0)
		r = rcur_finish(&c);
	if (r == 0 && s->restore->is_whole) {
		s->slot_lsns[number] = s->restore->lsn;
		restore_over(s);
	}
	return r;
}

static int record(void *owner, uint16_t number, uint64_t lsn, struct slice bytes)
{
	struct shard *s = owner;
	struct rcur c = rcur_make(bytes.ptr, bytes.len);
	struct slot *slot;
	int r = shard_slot(s, number, &slot);

	if (r < 0 || lsn <= s->slot_lsns[number])
		return r;
	if (planted(EFFECT_TWICE) && lsn % 16 == 5) {
		struct rcur again = c;

		(void)catalog_replay(slot->catalog, &again);
	}
	r = catalog_replay(slot->catalog, &c);
	return r == 0 ? rcur_finish(&c) : r;
}

/*
 * The clock of the slots is the machine's since its start, which nobody can set, plus what
 * the wall clock was ahead of that at the first start: where the keeper was there all the
 * while, that is known. Else the wall clock is believed, but it never goes back.
 */
static void set_clock(struct shard *s, const struct recovered *what)
{
	uint64_t last_ns = 0;

	if (what->has_clock)
		s->base_ns = what->base_ns;
	for (struct slot *slot = slot_from(s, 0); slot; slot = slot_from(s, slot->number + 1))
		if (catalog_last_ns(slot->catalog) > last_ns)
			last_ns = catalog_last_ns(slot->catalog);
	if (last_ns > shard_now(s))
		s->base_ns = last_ns - s->loop->now_ns;
	s->awake_ns = shard_now(s);
}

/*
 * A repair has given up records that slots of the snapshot have seen. Their numbers come again,
 * so this snapshot must not be what the next server begins with.
 */
static void snapshot_if_ahead(struct shard *s)
{
	for (int i = 0; i < SLOT_COUNT; i++)
		if (s->slot_lsns[i] > s->log.lsn)
			s->log.begun_bytes = UINT64_MAX / 2; /* it is time */
}

static void plan_slots(struct shard *s)
{
	for (struct slot *slot = slot_from(s, 0); slot; slot = slot_from(s, slot->number + 1)) {
		uint64_t due = catalog_due(slot->catalog);

		if (due != UINT64_MAX)
			heap_add(&s->dues, &slot->due, due);
	}
}

int shard_recover(struct shard *s, const struct oplog_config *config)
{
	const struct recovery to = { .owner = s, .begin = begin, .image = image, .record = record };
	struct keep_name name = { KEEP_LOG, s->config.index, 0 };
	uint64_t begun_ns = node_now_ns();
	struct recovered what;
	int r;

	what.words[0] = '\0';
	s->log.config = *config;
	s->is_blank = !keep_find(config->keep, name, &name) || name.kind != KEEP_LOG ||
		      name.owner != s->config.index;
	r = regions_recover(s);
	if (r == 0)
		r = oplog_recover(&s->log, config, &to, &what);
	restore_over(s);
	if (r == 0)
		r = presences_recover(s);
	if (r == 0)
		r = stores_recover(s);
	if (r < 0) {
		log_error("the state of the metadata server cannot be read: %s shard=%u errno=%d",
			  what.words[0] ? what.words : "no memory", s->config.index, -r);
		return r;
	}
	regions_recovered(s);
	set_clock(s, &what);
	snapshot_if_ahead(s);
	if (what.is_found)
		s->succeeded_ns = s->loop->now_ns;
	plan_slots(s);
	for (struct slot *slot = slot_from(s, 0); slot; slot = slot_from(s, slot->number + 1))
		jobs_over_tell(slot);
	if (what.memory) { /* it is still the same */
		s->incarnation = what.memory;
		if (what.memory_ns)
			s->memory_ns = what.memory_ns;
	}
	s->recovered_snapshot = what.snapshot_number;
	s->was_blank = what.is_found && what.memory_ns == 0;
	s->is_blank = false; /* what is made from now on */
	/* Whoever was told on before this memory was there has no lease after that time. */
	s->has_forgotten = what.is_found && s->incarnation != s->log.incarnation &&
			   s->loop->now_ns < s->memory_ns + SERVE_MS * MS;
	s->has_gone_on = what.is_found;
	if (what.is_found)
		log_info("went on from what was left shard=%u lsn=%llu snapshot_lsn=%llu "
			 "records=%llu torn_bytes=%llu ms=%llu",
			 s->config.index, (unsigned long long)s->log.lsn,
			 (unsigned long long)what.snapshot_lsn,
			 (unsigned long long)what.record_count, (unsigned long long)what.torn_bytes,
			 (unsigned long long)((node_now_ns() - begun_ns) / MS));
	return 0;
}
