/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copies: small values lie with the metadata, where no function can look. Those that are read
 * often are copied into memory of the index's own, which functions map as they map a segment.
 *
 * A region is filled from its beginning on, and emptied as a whole: its entries are dropped, and
 * once no function is in the middle of reading one (pins.h) it is filled again, in the same life,
 * so that nobody has to map it anew. Nobody is waited for: one that a stopped function reads is
 * passed over. Metadata has the values themselves, so a successor begins without any of it.
 */
#include <errno.h>
#include <string.h>

#include "base/container.h"
#include "base/node.h"
#include "proxy/index.h"

/* Calls of pins_reclaim(), of INDEX_STEP entries each, for all that a region can have. */
#define EMPTY_STEPS (COPIES_BYTES / SEGMENT_ALIGN / INDEX_STEP + 1)

struct growing {
	struct fiber fiber;
	struct job_index *index;
};

static void grow_ended(struct fiber *self)
{
	struct growing *g = container_of(self, struct growing, fiber);

	g->index->copies.is_growing = false;
	index_unref(g->index);
	node_free(g);
}

static int add(struct job_index *x, struct region *region)
{
	struct copies *c = &x->copies;
	struct copies_region *n = &c->all[c->count];
	int r;

	*n = (struct copies_region){ .region = region, .id = node_random_u64() };
	r = x->is_over ? -EIDRM : mapped_add_copies(x, n, &n->number);
	if (r < 0)
		return r;
	c->now = c->count++;
	c->used = 0;
	return 0;
}

static void grow_run(struct fiber *self)
{
	struct job_index *x = container_of(self, struct growing, fiber)->index;
	struct region *region = NULL;
	int r = index_take_region(x->proxy, COPIES_BYTES, NULL, &region);

	if (r == 0)
		region->is_punched = true;
	if (r == 0)
		r = add(x, region);
	if (r < 0)
		index_give_region(x->proxy, region);
	x->copies.is_grown = r < 0 || x->copies.count == COPIES_MAX;
}

static void grow(struct job_index *x)
{
	struct growing *g = node_alloc(sizeof(*g));

	if (!g)
		return;
	*g = (struct growing){ .index = index_ref(x) };
	x->copies.is_growing = true;
	if (fiber_start(&x->proxy->loop->fibers, &g->fiber, grow_run, grow_ended) < 0)
		grow_ended(&g->fiber);
}

static bool empty(struct job_index *x, uint32_t number)
{
	for (unsigned i = 0; i < EMPTY_STEPS; i++)
		if (pins_reclaim(&x->writer, number, x->pins, x->reader_count))
			return true;
	return false;
}

/* True: there is one to be filled from its beginning on. */
static bool turn_to_next(struct job_index *x)
{
	struct copies *c = &x->copies;

	if (!c->is_grown) {
		if (!c->is_growing)
			grow(x);
		return false;
	}
	for (unsigned i = 1; i <= c->count; i++) {
		unsigned next = (c->now + i) % c->count;

		if (!empty(x, c->all[next].number))
			continue;
		c->now = next;
		c->used = 0;
		return true;
	}
	return false;
}

int copies_put(struct job_index *x, const void *value, uint32_t len, uint32_t *ret_number,
	       uint64_t *ret_offset)
{
	struct copies *c = &x->copies;
	uint32_t room = (len + SEGMENT_ALIGN - 1) & ~(uint32_t)(SEGMENT_ALIGN - 1);

	if ((c->count == 0 || c->used + room > COPIES_BYTES) && !turn_to_next(x))
		return -EAGAIN;
	*ret_number = c->all[c->now].number;
	*ret_offset = c->used;
	memcpy(c->all[c->now].region->memory.ptr + c->used, value, len);
	c->used += room;
	return 0;
}

int copies_export(const struct job_index *x, uint64_t id, uint32_t *ret_size)
{
	for (unsigned i = 0; i < x->copies.count && !x->is_over; i++) {
		if (x->copies.all[i].id != id)
			continue;
		*ret_size = COPIES_BYTES;
		return memory_export(&x->copies.all[i].region->memory);
	}
	return -ESTALE;
}

void copies_fini(struct job_index *x)
{
	for (unsigned i = 0; i < x->copies.count; i++)
		index_give_region(x->proxy, x->copies.all[i].region);
	x->copies.count = 0;
}
