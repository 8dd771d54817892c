/* SPDX-License-Identifier: Apache-2.0 */
/*
 * near: for functions that map the segments of this process's pool: where the bytes of an
 * object are. They copy and check them by themselves, so no byte of it passes through here.
 */
#include <errno.h>

#include "base/hash.h"
#include "core/core_priv.h"

static bool is_near(const struct core *c, uint64_t segment)
{
	return pool_of_segment(segment) == c->config.reach_store;
}

bool core_has_pool(const struct core *c)
{
	return c->config.reach != NULL;
}

/* Of an extent with a table its sums, as they are there; else its one sum. */
static int sums_put(struct core *c, uint64_t job, const struct extent *e, struct wcur *to)
{
	const struct reach_ops *ops = c->config.reach_ops;
	uint32_t len = extent_table_count(e->len) * 4;
	uint8_t *table;
	int r;

	if (len == 0) {
		put_u32(to, e->crc);
		return 0;
	}
	r = ops->pin(c->config.reach, job, e->table_segment, e->table_generation, e->table_offset,
		     len, &table);
	if (r < 0)
		return r;
	r = crc_more(crc_begin(e->seed), table, len) == e->crc ? 0 : -EIO;
	if (r == 0)
		put_bytes(to, table, len);
	ops->unpin(c->config.reach, e->table_segment, false);
	return r;
}

/* 1: it is there; 0: it is elsewhere, or has no room. */
static int extent_near_put(struct core *c, uint64_t job, const struct extent *e, struct wcur *to)
{
	uint32_t table = extent_table_count(e->len), sums = table ? table : 1;
	int r;

	if (!is_near(c, e->segment) || (table && !is_near(c, e->table_segment)) ||
	    (size_t)(to->end - to->p) < NEAR_EXTENT_SIZE + sums * (size_t)4)
		return 0;
	near_extent_put(to, &(struct near_extent){ .segment = e->segment,
						   .generation = e->generation,
						   .offset = e->offset,
						   .len = e->len,
						   .sum_count = sums,
						   .seed = e->seed });
	r = sums_put(c, job, e, to);
	return r < 0 ? r : 1;
}

int object_near(struct core *c, struct found *f, uint64_t offset, uint64_t due_ns, struct wcur *to,
		uint64_t *ret_first)
{
	const struct extent *e;
	int count = 0, r = 1;
	uint32_t at;

	if (!core_has_pool(c) || f->stat.extent_count == 0 || offset >= f->stat.len)
		return 0;
	e = extent_at(f, offset, &at);
	if (!e) {
		r = object_find_on(c, f, offset, due_ns);
		e = r == 0 ? extent_at(f, offset, &at) : NULL;
		if (!e)
			return r < 0 ? r : -EBADMSG;
	}
	*ret_first = offset - at;
	for (; r >= 0 && e < f->u.extents + f->extent_count; e++) {
		r = extent_near_put(c, f->job, e, to);
		if (r <= 0)
			break;
		count++;
	}
	if (r == -ESTALE)
		f->extent_count = 0; /* they were moved: who asks again finds them */
	return r < 0 ? r : count;
}

int core_pin(struct core *c, uint64_t job, uint64_t segment, uint32_t generation, uint32_t offset,
	     uint32_t len)
{
	uint8_t *ptr;

	if (!core_has_pool(c) || !is_near(c, segment))
		return -EOPNOTSUPP;
	return c->config.reach_ops->pin(c->config.reach, job, segment, generation, offset, len,
					&ptr);
}

void core_unpin(struct core *c, uint64_t segment)
{
	c->config.reach_ops->unpin(c->config.reach, segment, false);
}

void core_hold_views(struct core *c, uint64_t job, bool is_held)
{
	c->config.reach_ops->hold_views(c->config.reach, job, is_held);
}

int core_export(struct core *c, uint64_t job, uint64_t segment, uint32_t generation,
		uint32_t *ret_size)
{
	if (!core_has_pool(c) || !is_near(c, segment))
		return -EOPNOTSUPP;
	return c->config.reach_ops->export(c->config.reach, job, segment, generation, ret_size);
}
