/* SPDX-License-Identifier: Apache-2.0 */
#include "store/pool_priv.h"

#include <assert.h>
#include <errno.h>

#include "base/container.h"
#include "base/hash.h"
#include "base/node.h"
#include "base/plant.h"

uint32_t pool_size_within(uint64_t bytes)
{
	uint32_t size = SEGMENT_BYTES_MAX;

	while (size > bytes)
		size /= 2;
	return size < SEGMENT_BYTES_MIN ? 0 : size;
}

unsigned pool_class_of(uint32_t size)
{
	return (unsigned)__builtin_ctz(size) - (unsigned)__builtin_ctz(SEGMENT_BYTES_MIN);
}

static struct row row_of(const struct segment *s)
{
	struct row row = { .generation = s->generation };

	if (!segment_is_used(s))
		return row;
	row.job = s->job->id;
	row.request = s->request;
	row.key = s->key;
	row.stamp_ns = s->stamp_ns;
	row.sealed_ns = s->sealed_ns;
	row.freed_ns = s->freed_ns;
	row.size = s->size;
	row.front = s->front;
	row.back = s->back;
	row.flags = ROW_USED | (s->was_sealed ? ROW_SEALED : 0) |
		    (s->state == SEGMENT_FREEING ? ROW_FREED : 0) |
		    (s->is_revoked ? ROW_REVOKED : 0) | (s->job->is_over ? ROW_OVER : 0) |
		    (s->is_exported ? ROW_EXPORTED : 0) | (s->author ? ROW_AUTHORED : 0);
	return row;
}

void pool_note(struct pool *p, const struct segment *s)
{
	struct row row;

	if (!p->table.memory.ptr)
		return;
	row = row_of(s);
	table_set_row(&p->table, s->index, &row);
}

static void count(struct pool *p, const struct segment *s, int sign)
{
	uint64_t held = sign > 0 ? s->held : -(uint64_t)s->held;
	unsigned one = (unsigned)sign;

	switch (s->state) {
	case SEGMENT_VOID:
		p->void_count += one;
		break;
	case SEGMENT_MAKING:
	case SEGMENT_SCRUBBING:
		p->coming_count[s->class_of_size] += one;
		break;
	case SEGMENT_CLEAN:
		p->clean_count[s->class_of_size] += one;
		break;
	case SEGMENT_OPEN:
	case SEGMENT_SEALED:
	case SEGMENT_FREEING:
		p->used += held;
		p->used_count += one;
		break;
	case SEGMENT_REFILLING:
		break;
	case SEGMENT_DIRTY:
		p->dirty_count[s->class_of_size] += one;
		break;
	case SEGMENT_UNMAKING:
		p->leaving += held;
		p->leaving_count += one;
		break;
	case SEGMENT_STATES:
		assert(false);
	}
}

void pool_enter(struct pool *p, struct segment *s, enum segment_state state)
{
	count(p, s, -1);
	list_remove(&s->link);
	s->state = state;
	count(p, s, 1);
	if (state == SEGMENT_VOID && s->generation < UINT32_MAX)
		list_insert(&p->voids, &s->link);
	else if (state == SEGMENT_CLEAN)
		list_insert(p->clean[s->class_of_size].next, &s->link); /* the warmest first */
	else if (state == SEGMENT_DIRTY)
		list_insert(s->is_exported ? &p->exported[s->class_of_size]
					   : &p->dirty[s->class_of_size],
			    &s->link);
}

void pool_hold(struct pool *p, struct segment *s, uint32_t held)
{
	count(p, s, -1);
	p->reserved += (uint64_t)held - s->held;
	s->held = held;
	count(p, s, 1);
	assert(p->reserved <= p->limit);
}

struct segment *pool_segment_at(const struct pool *p, unsigned index)
{
	return &p->chunks[index / CHUNK_SEGMENTS][index % CHUNK_SEGMENTS];
}

struct segment *pool_lookup(const struct pool *p, uint64_t id)
{
	uint64_t index = id & ((1u << SEGMENT_POOL_SHIFT) - 1);

	return pool_of_segment(id) == p->number && index < p->segment_count
		       ? pool_segment_at(p, (unsigned)index)
		       : NULL;
}

static struct segment *segment_add(struct pool *p)
{
	struct segment **chunk = &p->chunks[p->segment_count / CHUNK_SEGMENTS], *s;

	if (p->segment_count == p->segment_max)
		return NULL;
	if (!*chunk)
		*chunk = node_alloc(CHUNK_SEGMENTS * sizeof(**chunk));
	if (!*chunk)
		return NULL;
	s = pool_segment_at(p, p->segment_count);
	*s = (struct segment){
		.index = p->segment_count,
		.id = p->number << SEGMENT_POOL_SHIFT | p->segment_count,
		.generation = 1,
		.memory.fd = -1,
	};
	p->segment_count++;
	p->void_count++;
	list_init(&s->link);
	list_init(&s->of_job);
	list_init(&s->transfers);
	pool_enter(p, s, SEGMENT_VOID);
	return s;
}

struct segment *pool_segment_new(struct pool *p)
{
	return list_is_empty(&p->voids) ? segment_add(p)
					: container_of(p->voids.next, struct segment, link);
}

int pool_init(struct pool *p, uint64_t number, uint64_t limit, unsigned segment_max)
{
	uint32_t size_max = pool_size_within(limit / SEGMENT_POOL_SHARE);

	*p = (struct pool){
		.number = number,
		.limit = limit,
		.size_max = size_max ? size_max : SEGMENT_BYTES_MIN,
		.segment_max = segment_max < POOL_SEGMENTS_MAX ? segment_max : POOL_SEGMENTS_MAX,
	};
	/* A pool that is too small to have 64 segments has none to spare. */
	if (size_max)
		p->moving = POOL_MOVE_SEGMENTS * (uint64_t)size_max;
	list_init(&p->voids);
	list_init(&p->punches);
	list_init(&p->looks);
	list_init(&p->touched);
	for (unsigned i = 0; i < POOL_URGENCIES; i++)
		list_init(&p->begun[i]);
	list_init(&p->over);
	list_init(&p->asks);
	for (unsigned i = 0; i < POOL_CLASSES; i++) {
		list_init(&p->clean[i]);
		list_init(&p->dirty[i]);
		list_init(&p->exported[i]);
	}
	p->chunks = node_alloc(POOL_SEGMENTS_MAX / CHUNK_SEGMENTS * sizeof(*p->chunks));
	return p->chunks ? 0 : -ENOMEM;
}

uint64_t pool_request_hash(const struct pool *p, uint64_t job, uint64_t request)
{
	uint64_t key[2] = { job, request };

	return hash_64(key, sizeof(key), p->number);
}

struct pool_job *pool_job_find(const struct pool *p, uint64_t id)
{
	for (struct hlink *l = htable_first(&p->jobs, pool_request_hash(p, id, 0)); l;
	     l = htable_next(l)) {
		struct pool_job *j = container_of(l, struct pool_job, by_id);

		if (j->id == id)
			return j;
	}
	return NULL;
}

void pool_job_unref(struct pool *p, struct pool_job *j)
{
	if (--j->count > 0)
		return;
	htable_remove(&p->jobs, &j->by_id);
	list_remove(&j->link);
	node_free(j);
}

struct pool_job *pool_job_ref(struct pool *p, uint64_t id)
{
	struct pool_job *j = pool_job_find(p, id);

	if (!j) {
		j = htable_reserve(&p->jobs) < 0 ? NULL : node_alloc(sizeof(*j));
		if (!j)
			return NULL;
		j->id = id;
		list_init(&j->used);
		list_init(&j->refilling);
		list_init(&j->link);
		for (unsigned i = 0; i < POOL_CLASSES; i++)
			list_init(&j->warm[i]);
		htable_add(&p->jobs, &j->by_id, pool_request_hash(p, id, 0));
	}
	j->count++;
	return j;
}

void pool_disown(struct pool *p, struct segment *s)
{
	list_remove(&s->of_job);
	pool_job_unref(p, s->job);
	s->job = NULL;
}

void pool_fini(struct pool *p, const struct media *media)
{
	for (unsigned i = 0; i < p->segment_count; i++) {
		struct segment *s = pool_segment_at(p, i);

		assert(!s->is_away && s->pin_count == 0);
		media->free(&s->memory);
		if (s->job)
			pool_disown(p, s);
	}
	media->free(&p->table.memory);
	for (unsigned i = 0; p->chunks && i < POOL_SEGMENTS_MAX / CHUNK_SEGMENTS; i++)
		node_free(p->chunks[i]);
	p->chunks = node_free(p->chunks);
	htable_fini(&p->jobs);
	htable_fini(&p->requests);
	htable_fini(&p->asked);
}

/*
 * The middle of a sealed segment goes, once nobody can be writing there; nor reading, which would
 * bring pages back that nobody counts.
 */
static bool consider_punch(struct pool *p, struct segment *s, uint64_t now_ns)
{
	if (s->state != SEGMENT_SEALED || s->writer_count > 0 || s->early_count > 0 || s->is_away ||
	    s->held == segment_booked_now(s) || !list_is_empty(&s->link))
		return false;
	s->since_ns = now_ns;
	list_insert(&p->punches, &s->link);
	return true;
}

/* What a segment adds to the book will not change any more. */
static void close_row(struct pool *p, unsigned index, const struct row *row)
{
	if (!p->table.memory.ptr)
		return;
	p->closed.moments += row_book(row).moments;
	p->closed.index = index;
	p->closed.generation = row->generation;
	table_set_closed(&p->table, &p->closed);
}

static void unmake(struct pool *p, struct segment *s)
{
	pool_disown(p, s);
	s->done = 0;
	pool_enter(p, s, SEGMENT_UNMAKING);
	s->urgency = POOL_CLEARED;
	if (!s->is_away)
		list_insert(&p->begun[POOL_CLEARED], &s->link);
}

void pool_keep_warm(struct pool *p, struct segment *s, uint64_t now_ns)
{
	struct list *warm = &s->job->warm[s->class_of_size];

	if (s->author == AUTHOR_GONE) {
		unmake(p, s);
		return;
	}
	s->since_ns = now_ns;
	list_remove(&s->of_job);
	list_insert(s->author ? warm->next : warm, &s->of_job);
	pool_enter(p, s, SEGMENT_DIRTY);
	if (s->job->is_over && list_is_empty(&s->job->link))
		list_insert(&p->over, &s->job->link);
}

/* Those of a list of its job's become nobody's when they are free. */
static void author_leaves(struct list *of, uint64_t author)
{
	for (struct list *l = of->next; l != of; l = l->next) {
		struct segment *s = container_of(l, struct segment, of_job);

		if (s->author == author)
			s->author = planted(AUTHOR_FORGOTTEN) ? 0 : AUTHOR_GONE;
	}
}

void pool_author_over(struct pool *p, uint64_t job, uint64_t author)
{
	struct pool_job *j = pool_job_find(p, job);

	if (!j)
		return;
	j->count++;
	author_leaves(&j->used, author);
	author_leaves(&j->refilling, author);
	for (unsigned c = 0; c < POOL_CLASSES; c++)
		for (struct segment *s; (s = pool_find_warm(j, c, author)) && s->author == author;)
			unmake(p, s);
	pool_job_unref(p, j);
}

/* Warm for its job, or its author: not if that may still write what was taken from it, or is gone.
 */
static bool stays_warm(const struct segment *s)
{
	if (s->is_away || s->generation == UINT32_MAX)
		return false;
	return !s->author || (s->author != AUTHOR_GONE && !s->is_revoked);
}

/*
 * The last pin of a freed segment is gone, and this generation is over. That its job is
 * over is in the row of another one before it goes from this one.
 */
static void settle(struct pool *p, struct segment *s, uint64_t now_ns)
{
	struct row row = row_of(s), free_row = { 0 };

	/* Who maps it keeps its pages, so a successor has to find and punch them. */
	if (s->is_exported)
		free_row = (struct row){ .size = s->size, .flags = ROW_EXPORTED };
	pool_lingers(p, s, 0);
	htable_remove(&p->requests, &s->by_request);
	list_remove(&s->of_job);
	close_row(p, s->index, &row);
	if (s->job->is_over && !list_is_empty(&s->job->used))
		pool_note(p, container_of(s->job->used.next, struct segment, of_job));
	s->generation++;
	s->key = 0;
	p->counters.freed_count++;
	free_row.generation = s->generation;
	table_set_row(&p->table, s->index, &free_row);
	if (!stays_warm(s))
		unmake(p, s);
	else if (s->held == s->size)
		pool_keep_warm(p, s, now_ns);
	else if (!pool_refill(p, s, now_ns))
		unmake(p, s);
}

bool pool_unpin(struct pool *p, struct segment *s, bool is_to_write, uint64_t now_ns)
{
	assert(s->pin_count > 0);
	s->pin_count--;
	if (is_to_write) {
		assert(s->writer_count > 0);
		s->writer_count--;
	}
	if (s->state != SEGMENT_FREEING)
		return consider_punch(p, s, now_ns);
	if (s->pin_count > 0)
		return false;
	settle(p, s, now_ns);
	return true;
}

int pool_seal(struct pool *p, uint64_t id, uint32_t generation, uint32_t front, uint32_t back,
	      uint64_t stamp_ns, uint64_t now_ns)
{
	struct segment *s;
	int r = pool_find(p, id, generation, &s);

	if (r < 0)
		return r;
	if (front > back || back > s->size)
		return -EINVAL;
	if (s->state == SEGMENT_SEALED)
		return 0;
	s->front = front;
	s->back = back;
	s->sealed_ns = stamp_ns;
	s->was_sealed = true;
	pool_enter(p, s, SEGMENT_SEALED);
	pool_note(p, s);
	book_add(&p->book, (int64_t)segment_booked_now(s) - s->size, stamp_ns);
	consider_punch(p, s, now_ns);
	return 0;
}

int pool_revoke(struct pool *p, uint64_t id, uint32_t generation, struct segment **ret)
{
	struct segment *s;

	if (pool_find(p, id, generation, &s) < 0)
		return 0;
	s->is_revoked = true;
	pool_note(p, s);
	if (s->writer_count == 0)
		return 0;
	*ret = s;
	return -EAGAIN;
}

int pool_free(struct pool *p, uint64_t id, uint32_t generation, uint64_t stamp_ns, uint64_t now_ns,
	      struct segment **ret)
{
	struct segment *s = pool_lookup(p, id);

	if (!s || s->generation != generation || !segment_is_used(s))
		return 0;
	*ret = s;
	if (stamp_ns == 0)
		stamp_ns = s->stamp_ns;
	if (s->state != SEGMENT_FREEING) {
		book_add(&p->book,
			 -(int64_t)(s->state == SEGMENT_OPEN ? s->size : segment_booked_now(s)),
			 stamp_ns);
		s->freed_ns = stamp_ns;
		pool_enter(p, s, SEGMENT_FREEING);
		pool_note(p, s);
	}
	if (s->pin_count > 0) {
		pool_watch(p, s, now_ns);
		return -EAGAIN;
	}
	settle(p, s, now_ns);
	return 0;
}

void pool_job_over(struct pool *p, uint64_t job)
{
	struct pool_job *j = pool_job_find(p, job);

	for (struct list *l = p->asks.next; l != &p->asks; l = l->next) {
		struct ask *a = container_of(l, struct ask, link);

		if (a->job == job)
			pool_refuse(p, a, -EIDRM);
	}
	if (!j || j->is_over)
		return;
	j->is_over = true;
	if (!list_is_empty(&j->used))
		pool_note(p, container_of(j->used.next, struct segment, of_job));
	list_insert(&p->over,
		    &j->link); /* what it left goes; so does the link, if that is nothing */
}

static int restore_used(struct pool *p, struct segment *s, const struct row *row,
			struct memory *memory, uint32_t held)
{
	struct pool_job *j = htable_reserve(&p->requests) < 0 ? NULL : pool_job_ref(p, row->job);

	if (!j)
		return -ENOMEM;
	s->size = row->size;
	s->class_of_size = (uint8_t)pool_class_of(row->size);
	s->key = row->key;
	s->job = j;
	s->request = row->request;
	s->stamp_ns = row->stamp_ns;
	s->sealed_ns = row->sealed_ns;
	s->front = row->front;
	s->back = row->back;
	s->is_revoked = row->flags & ROW_REVOKED;
	s->was_sealed = row->flags & ROW_SEALED;
	s->is_exported = row->flags & ROW_EXPORTED;
	s->author = row->flags & ROW_AUTHORED ? AUTHOR_GONE : 0;
	s->is_viewed = s->is_exported;
	s->pin_count = s->is_viewed;
	s->memory = *memory;
	*memory = (struct memory){ .fd = -1 };
	list_insert(&j->used, &s->of_job);
	htable_add(&p->requests, &s->by_request, pool_request_hash(p, row->job, row->request));
	pool_hold(p, s, held);
	pool_enter(p, s, s->was_sealed ? SEGMENT_SEALED : SEGMENT_OPEN);
	consider_punch(p, s, 0);
	pool_watch(p, s, 0);
	return 0;
}

int pool_restore(struct pool *p, const struct row *row, struct memory *memory, uint32_t held)
{
	bool is_used = row->flags & ROW_USED;
	struct book b = row_book(row);
	struct segment *s;

	s = segment_add(p);
	if (!s)
		return -ENOMEM;
	s->generation = row->generation ? row->generation : 1;
	if (is_used && memory->ptr) {
		p->book.bytes += b.bytes;
		p->book.moments += b.moments;
		return restore_used(p, s, row, memory, held);
	}
	s->generation += is_used;
	if (s->generation == UINT32_MAX)
		list_remove(&s->link); /* never again */
	return 0;
}

void pool_write_table(struct pool *p)
{
	table_set_closed(&p->table, &p->closed);
	for (unsigned i = 0; i < p->segment_count; i++)
		if (segment_is_used(pool_segment_at(p, i)) || pool_segment_at(p, i)->generation > 1)
			pool_note(p, pool_segment_at(p, i));
}

unsigned pool_list(const struct pool *p, uint16_t of_slot, uint64_t after,
		   struct segment_entry *list, unsigned cap, bool *ret_has_more)
{
	const struct segment *s = pool_lookup(p, after);
	unsigned n = 0;

	*ret_has_more = false;
	for (unsigned i = after ? (s ? s->index + 1 : p->segment_count) : 0; i < p->segment_count;
	     i++) {
		s = pool_segment_at(p, i);
		if (!segment_is_used(s) ||
		    (of_slot != UINT16_MAX && slot_of_id(s->job->id) != of_slot))
			continue;
		if (n == cap) {
			*ret_has_more = true;
			break;
		}
		list[n++] = (struct segment_entry){ .segment = s->id,
						    .job = s->job->id,
						    .request = s->request,
						    .generation = s->generation,
						    .size = s->size };
	}
	return n;
}

bool pool_is_out_of_segments(const struct pool *p)
{
	return p->segment_count - p->void_count >= p->segment_max;
}

uint64_t pool_lend(struct pool *p, uint64_t bytes)
{
	uint64_t room = p->limit - p->reserved, more;

	p->lend_wanted = bytes;
	if (bytes <= p->lent) {
		p->reserved -= p->lent - bytes;
		p->used -= p->lent - bytes;
		p->lent = bytes;
		return bytes;
	}
	more = bytes - p->lent < room ? bytes - p->lent : room;
	p->reserved += more;
	p->used += more;
	p->lent += more;
	return p->lent;
}

uint64_t pool_clean_bytes(const struct pool *p)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < POOL_CLASSES; i++)
		n += (uint64_t)p->clean_count[i] * class_size(i);
	return n;
}

uint64_t pool_job_bytes(const struct pool *p, uint64_t job)
{
	const struct pool_job *j = pool_job_find(p, job);
	uint64_t n = 0;

	for (const struct list *l = j ? j->used.next : NULL; l && l != &j->used; l = l->next)
		n += container_of((struct list *)l, struct segment, of_job)->held;
	return n;
}
