/* SPDX-License-Identifier: Apache-2.0 */
#include "store/restore.h"

#include "base/node.h"
#include "store/janitor.h"

/* A segment holds a page at least, and most hold more: so many are enough for a limit. */
#define LIMIT_PER_SEGMENT 8192
#define SEGMENTS_LEAST    1024

static const struct keep_name TABLE = { .kind = KEEP_TABLE };

/* The number of a pool is never used again, by no store: it is random. */
static uint64_t new_number(void)
{
	uint64_t n = 0;

	while (n == 0)
		n = node_random_u64() >> SEGMENT_POOL_SHIFT;
	return n;
}

static unsigned segments_for(const struct media *media, uint64_t limit)
{
	uint64_t n = limit / LIMIT_PER_SEGMENT, most = media->count_max();

	n = n > SEGMENTS_LEAST ? n : SEGMENTS_LEAST;
	n = n < most ? n : most;
	return (unsigned)(n < POOL_SEGMENTS_MAX ? n : POOL_SEGMENTS_MAX);
}

static int get_row(const struct table *t, unsigned index, struct row *ret)
{
	int r = table_row(t, index, ret);

	return r == 0 && !row_is_possible(ret) ? -EBADMSG : r;
}

/* In use, and still of somebody. */
static bool goes_on(const struct row *row)
{
	return (row->flags & (ROW_USED | ROW_FREED)) == ROW_USED;
}

static uint32_t row_bytes(const struct row *row)
{
	return row->flags & ROW_SEALED ? segment_booked(row->size, row->front, row->back)
				       : row->size;
}

static uint64_t bytes_in_use(const struct table *t)
{
	uint64_t n = 0;
	struct row row;

	for (unsigned i = 0; i < t->row_count; i++)
		if (get_row(t, i, &row) == 0 && goes_on(&row))
			n += row_bytes(&row);
	return n;
}

/* Rows behind this were never used. */
static unsigned rows_used(const struct table *t)
{
	unsigned n = t->row_count;
	struct row row;

	while (n > 0 && get_row(t, n - 1, &row) == -ENOENT)
		n--;
	return n;
}

/*
 * What nobody put anything into is not there after this, whether it was punched before or
 * not. If that fails, the janitor tries again, and the pages are counted until then.
 */
static uint32_t punch(const struct media *media, struct memory *m, const struct row *row)
{
	uint32_t low = (row->front + SEGMENT_PAGE - 1) & ~(uint32_t)(SEGMENT_PAGE - 1);
	uint32_t high = row->back & ~(uint32_t)(SEGMENT_PAGE - 1);

	if (!(row->flags & ROW_SEALED) || row_bytes(row) == row->size)
		return row->size;
	return media->punch(m, low, high) == 0 ? row_bytes(row) : row->size;
}

/* The keeper has it, and we cannot have it now: who is started after us may. */
static bool is_there(int r)
{
	return r < 0 && r != -ENOENT && r != -EBADF;
}

/* Its memory, if it is what the row says; else there is none. */
static int take(struct keep *keep, const struct media *media, uint32_t index, const struct row *row,
		struct memory *ret)
{
	int r = keep_take(keep, segment_name(index), ret);

	if (is_there(r))
		return r;
	if (r == 0 && ret->size == row->size)
		return 0;
	keep_drop(keep, segment_name(index));
	media->free(ret);
	return 0;
}

/* It is free, and functions may map it still: they have nothing of it left. */
static int retire(struct keep *keep, const struct media *media, struct retired *retired,
		  uint32_t index, const struct row *row)
{
	struct memory memory = { .fd = -1 };
	int r = take(keep, media, index, row, &memory);

	if (!memory.ptr)
		return r;
	(void)media->punch(&memory, 0, memory.size);
	keep_drop(keep, segment_name(index));
	retired_add(retired, media, &memory);
	return 0;
}

/* It is free from now on, in the book too; unless that was what came there last. */
static void close_row(struct pool *p, const struct table *t, uint32_t index, struct row *row,
		      uint64_t wall_ns)
{
	struct closed last;

	if (table_closed(t, &last) == 0 && last.index == index &&
	    last.generation == row->generation)
		return;
	if (!(row->flags & ROW_FREED)) {
		row->flags |= ROW_FREED;
		row->freed_ns = wall_ns;
	}
	p->closed.moments += row_book(row).moments;
	p->closed.index = index;
	p->closed.generation = row->generation;
}

/* Of one that is in use; what is free, and functions may map still, is none. */
static int memory_of(struct keep *keep, const struct media *media, struct retired *retired,
		     uint32_t index, const struct row *row, struct memory *ret)
{
	if (goes_on(row))
		return take(keep, media, index, row, ret);
	return row->flags & ROW_EXPORTED ? retire(keep, media, retired, index, row) : 0;
}

static int restore_row(struct pool *p, const struct table *t, unsigned index, struct keep *keep,
		       const struct media *media, struct retired *retired, uint64_t wall_ns,
		       struct restored *ret)
{
	struct memory memory = { .fd = -1 };
	struct row row;
	uint32_t held;
	int r = get_row(t, index, &row);

	/* Damaged: what its generation was is unknown, so it is never used again. */
	if (r < 0)
		row = (struct row){ .generation = r == -ENOENT ? 0 : UINT32_MAX };
	ret->lost += r < 0 && r != -ENOENT;
	r = memory_of(keep, media, retired, index, &row, &memory);
	if (r < 0)
		return r;
	if (goes_on(&row)) {
		ret->lost += !memory.ptr;
		ret->count += memory.ptr != NULL;
	}
	if (row.flags & ROW_USED && !memory.ptr)
		close_row(p, t, index, &row, wall_ns);
	held = memory.ptr ? punch(media, &memory, &row) : 0;
	if (held > p->limit - p->reserved)
		p->limit = p->reserved + held; /* it could not be punched, and is there */
	r = pool_restore(p, &row, &memory, held);
	if (r < 0)
		media->free(&memory);
	return r;
}

static int restore_all(struct pool *p, const struct table *t, unsigned count, struct keep *keep,
		       const struct media *media, struct retired *retired, uint64_t wall_ns,
		       struct restored *ret)
{
	struct row row;
	int r = table_closed(t, &p->closed);

	for (unsigned i = 0; i < count && r == 0; i++)
		r = restore_row(p, t, i, keep, media, retired, wall_ns, ret);
	for (unsigned i = 0; i < count && r == 0; i++)
		if (get_row(t, i, &row) == 0 && row.flags & ROW_USED && row.flags & ROW_OVER)
			pool_job_over(p, row.job);
	p->book.moments += p->closed.moments;
	return r;
}

/* A table for our successor takes the place of the one that we found, at once. */
static int make_table(struct pool *p, struct keep *keep, const struct media *media)
{
	struct memory memory;
	int r = keep_make(keep, media, table_size(p->segment_max), &memory);

	if (r < 0)
		return r;
	r = media->fill(&memory, 0, memory.size);
	if (r < 0) {
		media->free(&memory);
		return r;
	}
	table_init(&p->table, memory, p->segment_max, p->number);
	pool_write_table(p);
	return keep_put(keep, TABLE, &p->table.memory);
}

int pool_open(struct pool *p, struct keep *keep, const struct media *media, struct retired *retired,
	      uint64_t limit, uint64_t wall_ns, struct restored *ret)
{
	struct memory memory = { .fd = -1 };
	unsigned count = 0, most = segments_for(media, limit);
	uint64_t number = 0, used = 0;
	struct table found = { 0 };
	int r;

	*ret = (struct restored){ 0 };
	*p = (struct pool){ 0 };
	r = keep_take(keep, TABLE, &memory);
	if (is_there(r))
		return r;
	if (r == 0)
		ret->is_again = table_open(&found, memory, &number) == 0;
	if (ret->is_again) {
		used = bytes_in_use(&found);
		count = rows_used(&found);
		most = count > most ? count : most;
	}
	r = pool_init(p, ret->is_again ? number : new_number(), used > limit ? used : limit, most);
	if (r == 0 && ret->is_again)
		r = restore_all(p, &found, count, keep, media, retired, wall_ns, ret);
	ret->limit = p->limit > limit ? limit : 0;
	if (r == 0 && keep)
		r = make_table(p, keep, media);
	media->free(&memory);
	return r;
}
