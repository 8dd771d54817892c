/* SPDX-License-Identifier: Apache-2.0 */
/* What a store core in the same process does without asking through a connection. */
#include "store/store_priv.h"

#include <errno.h>

static int near_pin(struct reach *r, uint64_t job, uint64_t segment, uint32_t generation,
		    uint32_t offset, uint32_t len, uint8_t **ret)
{
	struct segment *s;
	int e = pool_pin(&r->store->pool, job, segment, generation, offset, len, &s, ret);

	return e < 0 && e != -ERANGE ? -ESTALE : e;
}

static int near_pin_to_write(struct reach *r, uint64_t job, uint64_t segment, uint32_t generation,
			     uint64_t key, uint32_t offset, uint32_t len, uint8_t **ret)
{
	struct segment *s;
	int e = pool_pin_to_write(&r->store->pool, job, segment, generation, key, offset, len, &s,
				  ret);

	return e < 0 && e != -ERANGE ? -ESTALE : e;
}

static void near_unpin(struct reach *r, uint64_t id, bool was_to_write)
{
	store_unpin(r->store, pool_pinned(&r->store->pool, id), was_to_write);
}

static int export(struct store *s, uint64_t job, uint64_t segment, uint32_t generation,
		  struct segment **ret)
{
	int e = pool_export(&s->pool, job, segment, generation, s->loop->now_ns, ret);

	if (e == 0)
		store_changed(s); /* it may be one more to look at */
	return e;
}

static int near_export(struct reach *r, uint64_t job, uint64_t segment, uint32_t generation,
		       uint32_t *ret_size)
{
	struct segment *s;

	if (export(r->store, job, segment, generation, &s) < 0)
		return -ESTALE;
	*ret_size = s->size;
	return memory_export(&s->memory);
}

static int near_let_write(struct reach *r, uint64_t job, uint64_t segment, uint32_t generation,
			  uint64_t key, uint64_t author, uint32_t *ret_since)
{
	struct segment *s;

	if (pool_export_to_write(&r->store->pool, job, segment, generation, key, author, &s) < 0)
		return -ESTALE;
	*ret_since = s->authored;
	return 0;
}

static int near_export_to_write(struct reach *r, uint64_t job, uint64_t segment,
				uint32_t generation, uint64_t author, uint32_t *ret_size)
{
	struct segment *s;

	if (export(r->store, job, segment, generation, &s) < 0 || s->author != author)
		return -ESTALE;
	*ret_size = s->size;
	return memory_export_to_write(&s->memory);
}

static void near_author_over(struct reach *r, uint64_t job, uint64_t author)
{
	pool_author_over(&r->store->pool, job, author);
	store_changed(r->store);
}

static bool near_is_short(struct reach *r)
{
	return pool_lacking(&r->store->pool) > 0;
}

static void near_hold_views(struct reach *r, uint64_t job, bool is_held)
{
	struct store *s = r->store;

	pool_hold_views(&s->pool, job, is_held);
	if (!timer_is_running(&s->views))
		store_end_views(s);
}

static const struct reach_ops REACH_OPS = {
	.pin = near_pin,
	.pin_to_write = near_pin_to_write,
	.unpin = near_unpin,
	.export = near_export,
	.let_write = near_let_write,
	.export_to_write = near_export_to_write,
	.author_over = near_author_over,
	.is_short = near_is_short,
	.hold_views = near_hold_views,
};

void store_reach(struct store *s, struct reach **ret, const struct reach_ops **ret_ops)
{
	*ret = s->reach;
	*ret_ops = &REACH_OPS;
}
