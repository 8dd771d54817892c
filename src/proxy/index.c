/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/index.h"

#include <errno.h>

#include "base/container.h"
#include "base/node.h"

/*
 * Leases are written so often, a fraction of SERVE_MS; segments that are wanted back are looked at
 * more often, since somebody waits and nobody tells when a view ends.
 */
#define RENEW_MS 100
#define LOOK_MS  5

/* Steps of copying into a larger table, of INDEX_STEP entries each, in one look. */
#define COPY_STEPS 8

static struct job_index *index_find(const struct proxy *p, uint64_t job)
{
	for (struct list *l = p->indexes.next; l != &p->indexes; l = l->next) {
		struct job_index *x = container_of(l, struct job_index, link);

		if (x->job == job)
			return x;
	}
	return NULL;
}

struct job_index *index_ref(struct job_index *x)
{
	x->user_count++;
	return x;
}

void index_give_region(struct proxy *p, struct region *g)
{
	if (g)
		p->index_bytes -= g->size;
	region_free(g);
}

void index_unref(struct job_index *x)
{
	struct proxy *p = x->proxy;

	if (--x->user_count > 0)
		return;
	index_give_region(p, x->head);
	index_give_region(p, x->table);
	index_give_region(p, x->next_table);
	p->index_count--;
	p->index_places &= ~(1ull << x->place);
	node_free(x->pins);
	node_free(x->readers);
	node_free(x);
}

void index_stop_serving(struct job_index *x)
{
	if (x->until_ns)
		core_served(x->proxy->core, x->job);
	x->until_ns = NULL;
}

void index_end(struct job_index *x)
{
	x->is_over = true;
	list_remove(&x->link);
	mapped_end_all(x);
	copies_fini(x);
	index_writer_close(&x->writer);
	index_stop_serving(x);
	readers_end(x);
	index_unref(x);
}

/* Looking after them. */

static void look_soon(struct proxy *p, uint64_t ms)
{
	uint64_t due_ns = p->loop->now_ns + ms * 1000000;

	if (!timer_is_running(&p->index_look) || p->index_look.link.due > due_ns)
		timer_start(p->loop, &p->index_look, due_ns);
}

void index_look_soon(struct proxy *p)
{
	look_soon(p, LOOK_MS);
}

void index_renew(struct job_index *x)
{
	if (x->until_ns && !x->is_blind)
		index_writer_lease(&x->writer, *x->until_ns);
}

/* True: there is more. */
static bool copy_some(struct job_index *x)
{
	if (!x->next_table)
		return false;
	for (unsigned i = 0; i < COPY_STEPS; i++) {
		if (!index_writer_copy(&x->writer))
			continue;
		index_give_region(x->proxy, x->table);
		x->table = x->next_table;
		x->next_table = NULL;
		x->is_growing = false;
		return false;
	}
	return true;
}

static void look(struct timer *t)
{
	struct proxy *p = container_of(t, struct proxy, index_look);
	bool has_more = false;

	for (struct list *l = p->indexes.next; l != &p->indexes; l = l->next) {
		struct job_index *x = container_of(l, struct job_index, link);

		readers_look(x);
		if (x->is_blind)
			x->is_blind = !mapped_drop_all(x);
		has_more |= mapped_look(x, false);
		has_more |= copy_some(x);
		has_more |= x->is_blind;
		index_renew(x);
	}
	if (!list_is_empty(&p->indexes))
		look_soon(p, has_more ? LOOK_MS : RENEW_MS);
}

static void blind(struct job_index *x)
{
	index_writer_lease(&x->writer, 0);
	x->is_blind = true;
	index_look_soon(x->proxy);
}

void proxy_forget(struct proxy *p, uint64_t job, struct slice path)
{
	struct job_index *x = index_find(p, job);

	if (!x)
		return;
	if (path.len > 0)
		index_writer_drop(&x->writer, index_hash(path.ptr, path.len, x->writer.seed));
	else if (!mapped_drop_all(x))
		blind(x);
}

void proxy_forget_shard(struct proxy *p, uint16_t shard)
{
	for (struct list *l = p->indexes.next; l != &p->indexes; l = l->next) {
		struct job_index *x = container_of(l, struct job_index, link);

		if (core_shard_of(p->core, x->job) == shard)
			blind(x);
	}
}

void index_segment_wanted(struct proxy *p, uint64_t job, uint64_t segment, bool is_short)
{
	struct job_index *x = index_find(p, job);

	if (x)
		mapped_want(x, segment, is_short);
}

void index_job_over(struct proxy *p, uint64_t job)
{
	struct job_index *x = index_find(p, job);

	if (x)
		index_end(x);
}

void indexes_init(struct proxy *p)
{
	list_init(&p->indexes);
	p->index_look.fire = look;
}

void indexes_stop(struct proxy *p)
{
	timer_stop(p->loop, &p->index_look);
	while (!list_is_empty(&p->indexes))
		index_end(container_of(p->indexes.next, struct job_index, link));
}

/* Making one. */

int index_take_region(struct proxy *p, size_t size, const struct keep_name *name,
		      struct region **ret)
{
	int r;

	if (p->index_bytes + size > p->config.index_bytes_max)
		return -EUSERS;
	p->index_bytes += size;
	r = region_new(p, size, name, ret);
	if (r < 0)
		p->index_bytes -= size;
	return r;
}

/* One that nobody reads goes for it. */
static bool has_room(struct proxy *p)
{
	for (struct list *l = p->indexes.next; l != &p->indexes; l = l->next) {
		struct job_index *x = container_of(l, struct job_index, link);

		if (p->index_count < p->config.indexes_max)
			break;
		if (x->user_count > 1)
			continue;
		index_end(x);
		break;
	}
	return p->index_count < p->config.indexes_max;
}

struct job_index *index_alloc(struct proxy *p, uint64_t job, uint16_t place)
{
	struct job_index *x = node_alloc(sizeof(*x));

	if (!x)
		return NULL;
	*x = (struct job_index){ .proxy = p, .job = job, .place = place, .user_count = 1 };
	list_init(&x->link);
	p->index_count++;
	p->index_places |= 1ull << place;
	return x;
}

int index_open(struct job_index *x)
{
	struct proxy *p = x->proxy;
	int r = index_writer_open(&x->writer, x->head->memory.ptr, x->head->size,
				  x->table->memory.ptr, x->table->size, node_random_u64());

	if (r < 0)
		return r;
	list_insert(&p->indexes, &x->link);
	look_soon(p, RENEW_MS);
	return 0;
}

/* One that no other index has, not even one that is being made or is over; there are fewer of those
 * than may be. */
static uint16_t place_free(const struct proxy *p)
{
	_Static_assert(INDEXES_MAX <= 64, "a bit for each");
	return (uint16_t)__builtin_ctzll(~p->index_places);
}

static int index_new(struct proxy *p, uint64_t job, struct job_index **ret)
{
	struct job_index *x = has_room(p) ? index_alloc(p, job, place_free(p)) : NULL;
	struct keep_name name = { .kind = KEEP_INDEX, .number = job };
	int r;

	if (!x)
		return -EUSERS;
	name.owner = x->place;
	r = index_take_region(p, INDEX_HEAD_BYTES, &name, &x->head);
	if (r == 0)
		r = index_take_region(p, INDEX_TABLE_BYTES_FIRST, NULL, &x->table);
	/* Two may have begun at the same time. */
	if (r == 0 && index_find(p, job))
		r = -EEXIST;
	if (r == 0)
		r = index_open(x);
	if (r < 0) {
		index_unref(x);
		return r;
	}
	*ret = x;
	return 0;
}

int index_get(struct proxy *p, uint64_t job, struct job_index **ret)
{
	int r = 0;

	*ret = index_find(p, job);
	if (!*ret)
		r = index_new(p, job, ret);
	if (r == -EEXIST) {
		*ret = index_find(p, job);
		r = 0;
	}
	return r;
}

/* Larger tables. */

struct growing {
	struct fiber fiber;
	struct job_index *index;
};

static void grow_ended(struct fiber *self)
{
	struct growing *g = container_of(self, struct growing, fiber);

	index_unref(g->index);
	node_free(g);
}

static void grow_run(struct fiber *self)
{
	struct job_index *x = container_of(self, struct growing, fiber)->index;
	uint64_t size = (uint64_t)x->table->size * 4;
	struct region *g = NULL;
	int r = size <= INDEX_TABLE_BYTES_MAX ? index_take_region(x->proxy, size, NULL, &g)
					      : -EUSERS;

	if (r == 0 && !x->is_over)
		r = index_writer_grow(&x->writer, g->memory.ptr, g->size);
	if (r < 0 || x->is_over) {
		index_give_region(x->proxy, g);
		return; /* is_growing: it is not tried again */
	}
	x->next_table = g;
	index_look_soon(x->proxy);
}

void index_grow(struct job_index *x)
{
	struct growing *g;

	if (x->is_growing || x->is_over || !index_writer_is_full(&x->writer))
		return;
	g = node_alloc(sizeof(*g));
	if (!g)
		return;
	*g = (struct growing){ .index = index_ref(x) };
	x->is_growing = true;
	if (fiber_start(&x->proxy->loop->fibers, &g->fiber, grow_run, grow_ended) < 0)
		grow_ended(&g->fiber);
}

/* What is in it. */

/* A hash has the place in its lower half, so this is of the other one; 0 is nobody's. */
static uint32_t *seen_place(struct job_index *x, struct slice path, uint32_t *ret_mark)
{
	struct hash_128 hash = index_hash(path.ptr, path.len, x->writer.seed);

	*ret_mark = (uint32_t)hash.hi;
	return &x->seen[hash.lo % INDEX_SEEN];
}

bool index_was_got(struct job_index *x, struct slice path)
{
	uint32_t mark, *place = seen_place(x, path, &mark);

	if (*place != mark)
		return false;
	*place = 0;
	return true;
}

void index_note(struct job_index *x, struct slice path)
{
	uint32_t mark, *place = seen_place(x, path, &mark);

	*place = mark;
}

/* A value has one sum, and so has the first extent. */
static int place_of(struct job_index *x, const struct found *f, struct index_item *item)
{
	if (f->stat.extent_count == 0) {
		item->seed = f->value_seed;
		item->crc = f->value_crc;
		return copies_put(x, f->u.value, f->value_len, &item->mapping, &item->offset);
	}
	if (f->extent_count != f->stat.extent_count)
		return -EOPNOTSUPP;
	item->seed = f->u.extents[0].seed;
	item->crc = f->u.extents[0].crc;
	return mapped_get(x, f, &item->mapping, &item->offset);
}

int index_enter(struct job_index *x, const struct found *f, struct slice path)
{
	struct index_item item = { .len = f->stat.len,
				   .version = f->stat.version,
				   .object = f->stat.object,
				   .extent_count = f->stat.extent_count,
				   .tier = (uint8_t)f->stat.tier };
	int r;

	if (x->is_over || x->is_blind)
		return -EAGAIN;
	/* An entry has no room for a door's own words. */
	if (f->stat.attributes.len > 0)
		return -EOPNOTSUPP;
	r = place_of(x, f, &item);
	if (r < 0)
		return r;
	item.committed_ns = f->asked_ns - f->stat.age_ms * 1000000;
	if (f->stat.ttl_left_ms != NONE_64)
		item.expiry_ns = f->asked_ns + f->stat.ttl_left_ms * 1000000;
	return index_writer_put(&x->writer, index_hash(path.ptr, path.len, x->writer.seed), &item);
}
