/* SPDX-License-Identifier: Apache-2.0 */
/*
 * choose: which store is asked for segments. Why so: doc/why/026-near-placement.md.
 */
#include "meta/shard_priv.h"

static uint32_t segment_max(const struct store *st)
{
	uint32_t size = SEGMENT_BYTES_MIN;

	while (size < SEGMENT_BYTES_MAX && 2ull * size <= st->limit_bytes / SEGMENT_POOL_SHARE)
		size *= 2;
	return size;
}

uint32_t stores_segment_max(const struct shard *s)
{
	uint32_t size = SEGMENT_BYTES_MIN;

	for (struct list *l = s->stores.next; l != &s->stores; l = l->next) {
		const struct store *st = container_of(l, struct store, link);

		if (segment_max(st) > size)
			size = segment_max(st);
	}
	return size;
}

static uint64_t used_bytes(const struct store *st)
{
	uint64_t used = 0;

	for (struct slot *slot = slot_from(st->shard, 0); slot;
	     slot = slot_from(st->shard, slot->number + 1))
		used += catalog_store_bytes(slot->catalog, st->id);
	return used;
}

/* So many of the oldest asks are looked at for it. */
#define QUIET_SCAN 64

static bool is_quiet(const struct shard *s, const struct store *st)
{
	const struct list *l = s->askings.next;

	for (int i = 0; i < QUIET_SCAN && l != &s->askings; i++, l = l->next) {
		const struct asking *a = container_of((struct list *)l, struct asking, link);

		if (a->store == st && a->call.is_pending &&
		    s->loop->now_ns - a->placed_ns > ASK_QUIET_MS * MS)
			return true;
	}
	return false;
}

static bool is_only(const struct store *st)
{
	return st->link.next == st->link.prev;
}

/* The later ones only where there is none of the earlier. */
enum rank { HAS_ROOM, IS_FULL, IS_QUIET, RANKS };

/*
 * Of those that answer the one with most room, as far as this shard knows; if none does,
 * of all. NULL: none is connected. `full`: one that has said so; may be NULL.
 */
static struct store *roomiest(const struct shard *s, const struct store *full)
{
	struct store *best = NULL;
	enum rank lowest = RANKS;
	int64_t most = INT64_MIN;

	for (struct list *l = s->stores.next; l != &s->stores; l = l->next) {
		struct store *st = container_of(l, struct store, link);
		enum rank rank;
		int64_t room;

		if (!st->conn)
			continue;
		if (is_only(st))
			return st;
		room = (int64_t)(st->limit_bytes - used_bytes(st));
		rank = is_quiet(s, st) ? IS_QUIET : st == full ? IS_FULL : HAS_ROOM;
		if (rank < lowest || (rank == lowest && room > most)) {
			lowest = rank;
			most = room;
			best = st;
		}
	}
	return best;
}

/* Of a pool. */
#define PARTS 1024

static uint64_t parts_used(const struct store *st)
{
	return used_bytes(st) / (st->limit_bytes / PARTS + 1);
}

/* What other shards have there is not known here: so each has its part of the lead. */
static bool leads(const struct store *near, const struct store *other)
{
	uint64_t lead = PARTS / NEAR_LEAD_SHARE / near->shard->config.count;

	return near != other && parts_used(near) > parts_used(other) + lead;
}

struct store *store_beside(struct store *st)
{
	return roomiest(st->shard, st);
}

struct store *store_choose(struct asking *a)
{
	const struct shard *s = a->shard;
	const struct presence *p = presence_find(s, a->req.session);
	uint64_t near_id = p ? p->near : 0;
	struct store *near = near_id ? store_find_id(s, near_id) : NULL, *best;

	a->is_now = false;
	if (near && !near->conn)
		near = NULL;
	if (a->req.is_move && near_id)
		return near;
	best = roomiest(s, a->is_near_full ? near : NULL);
	if (!near || a->is_near_full || is_only(near) || is_quiet(s, near) || leads(near, best))
		return best;
	a->is_now = true;
	return near;
}

uint64_t store_need(const struct asking *a)
{
	const struct store *st = a->store;

	if (is_only(st) || a->need <= st->limit_bytes - st->limit_bytes / POOL_RESERVE_SHARE)
		return a->need;
	return st->limit_bytes / 2;
}
