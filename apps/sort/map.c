/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map: a share of the input, sorted, in pieces for the buckets.
 *
 * The share is read into an arena, as much as fits. The arena is sorted, and so a
 * bucket is a range of it, found by its splitter: nothing is looked at once more to
 * see where it belongs. A share that fits makes one object per bucket, with one run in
 * it. A larger one makes a run per bucket and arena, and at the end, for each bucket, an
 * index of them: a reducer that counts objects sees a mapper when it is done.
 */
#include "function.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "keys.h"
#include "region.h"
#include "runs.h"

/* How many items ahead the gathering of records asks for memory. */
#define AHEAD 16

struct map {
	struct function *f;
	struct input input;
	struct keys splitters;
	struct runs_writer *writers; /* one per bucket */
	struct piece piece;
	struct sorter *sorter;
	uint32_t round; /* how many times the arena has been emptied */

	struct region arena, items_region, scratch_region, piece_region;
	struct item *items, *scratch;
	size_t item_cap;
};

static int splitters_read(struct map *m)
{
	struct store *store = m->f->store;
	struct store_list list;
	struct store_read read = { .path = "splitters/00000" };
	int r = store_list(store, "splitters", &list);

	if (r < 0)
		return r;
	if (list.count == 1)
		read.len = list.entries[0].len;
	else
		r = problem_set(m->f->problem, -ENOENT, "there are no splitters in the store");
	store_list_fini(&list);
	if (r == 0)
		read.buf = keys_room(&m->splitters, read.len);
	if (r == 0 && read.len > 0)
		r = read.buf ? store_read(store, &read, 1) : function_no_memory(m->f, read.len);
	if (r == 0)
		r = keys_index(&m->splitters);
	return r < 0 ? problem_set(m->f->problem, r, "the splitters are damaged") : 0;
}

static uint64_t share_len(const struct request *req)
{
	uint64_t len = 0;

	for (size_t i = 0; i < req->input_count; i++)
		len += req->input[i].len;
	return len;
}

/*
 * Divides the room between the arena, and the items and their scratch. How long lines
 * are on average nobody knows: when the items are used up, the rest of the arena makes
 * another run.
 */
static int regions_init(struct map *m)
{
	const struct request *req = m->f->req;
	size_t room = function_room(m->f) - function_piece(m->f);
	bool is_lines = req->format == FORMAT_LINES;
	size_t arena = is_lines ? room / 10 * 6
				: room / (RECORD_SIZE + 2 * sizeof(struct item)) * RECORD_SIZE;
	uint64_t share = share_len(req);

	/* What the input may add to it, and a little more, so that a share that fits does not fill
	 * it. */
	if (is_lines)
		share += function_line_max(m->f) + 2 + req->input_count;
	else
		share += RECORD_SIZE;
	if (arena > share)
		arena = (size_t)share;
	m->item_cap = is_lines ? room / 10 * 4 / (2 * sizeof(struct item)) : arena / RECORD_SIZE;
	if (is_lines && m->item_cap > arena)
		m->item_cap = arena;
	if (region_init(&m->arena, arena) < 0 ||
	    region_init(&m->items_region, m->item_cap * sizeof(struct item)) < 0 ||
	    region_init(&m->scratch_region, m->item_cap * sizeof(struct item)) < 0 ||
	    region_init(&m->piece_region, function_piece(m->f)) < 0)
		return function_no_memory(m->f, room);
	m->items = (struct item *)m->items_region.ptr;
	m->scratch = (struct item *)m->scratch_region.ptr;
	m->piece = (struct piece){ .ptr = m->piece_region.ptr, .cap = m->piece_region.len };
	return 0;
}

static int writers_init(struct map *m)
{
	const struct request *req = m->f->req;

	m->writers = calloc(req->reduces, sizeof(*m->writers));
	m->sorter = sorter_new();
	if (!m->writers || !m->sorter)
		return function_no_memory(m->f, req->reduces * sizeof(*m->writers));
	for (uint32_t i = 0; i < req->reduces; i++) {
		char directory[STORE_PATH_MAX], path[STORE_PATH_MAX];

		runs_path("shuffle", i, directory);
		runs_path(directory, req->index, path);
		runs_writer_init(&m->writers[i], m->f->store, m->f->problem, path);
	}
	return 0;
}

static void map_fini(struct map *m)
{
	for (uint32_t i = 0; m->writers && i < m->f->req->reduces; i++)
		runs_writer_fini(&m->writers[i]);
	free(m->writers);
	sorter_free(m->sorter);
	region_fini(&m->piece_region);
	region_fini(&m->scratch_region);
	region_fini(&m->items_region);
	region_fini(&m->arena);
	keys_fini(&m->splitters);
	input_fini(&m->input);
}

static int items_put(struct map *m, struct runs_writer *w, const struct item *items, size_t count)
{
	enum format format = m->f->req->format;
	const uint8_t *arena = m->arena.ptr;
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++) {
		if (i + AHEAD < count) {
			__builtin_prefetch(arena + items[i + AHEAD].offset);
			__builtin_prefetch(arena + items[i + AHEAD].offset + 64);
		}
		r = runs_put(w, &m->piece, arena + items[i].offset,
			     item_size(format, items[i].key_len));
	}
	return r;
}

/* The items of one bucket, as a run: in its object if there is to be only this one. */
static int run_put(struct map *m, uint32_t bucket, const struct item *items, size_t count,
		   bool is_only)
{
	struct runs_writer *w = &m->writers[bucket];
	char directory[STORE_PATH_MAX];
	uint32_t object = m->f->req->index * RUNS_MAX + m->round;
	int r;

	runs_path("runs", bucket, directory);
	r = runs_begin(w, &m->piece, is_only ? NULL : directory, object);
	if (r == 0)
		r = items_put(m, w, items, count);
	return r < 0 ? r : runs_end(w, &m->piece);
}

/* Sorted items to their buckets. After the last ones the objects are committed. */
static int buckets_put(struct map *m, const struct item *items, size_t count, bool is_last)
{
	bool is_only = is_last && m->round == 0;

	if (m->round == RUNS_MAX)
		return problem_set_final(m->f->problem, -E2BIG,
					 "map %u: more than %d runs; more --maps or more "
					 "--function-memory makes fewer",
					 m->f->req->index, RUNS_MAX);
	for (uint32_t i = 0; i < m->f->req->reduces; i++) {
		size_t n = count;
		int r;

		if (i < m->splitters.count)
			n = splitter_find(&m->splitters.keys[i], items, count, m->arena.ptr);
		r = n > 0 ? run_put(m, i, items, n, is_only) : 0;
		if (r == 0 && is_last)
			r = runs_commit(&m->writers[i], &m->piece);
		if (r < 0)
			return r;
		items += n;
		count -= n;
	}
	m->round++;
	return 0;
}

/* All whole items of the arena, in as many runs as the items' room makes of them. */
static int arena_sort(struct map *m, size_t whole, bool is_end)
{
	size_t from = 0;

	do {
		size_t count = items_find(m->f->req->format, m->arena.ptr, from, whole, m->items,
					  m->item_cap, &from);
		int r;

		for (size_t i = 0; i < count; i++)
			function_tally(m->f, m->arena.ptr + m->items[i].offset,
				       item_size(m->f->req->format, m->items[i].key_len));
		items_sort(m->sorter, m->items, m->scratch, count, m->arena.ptr);
		r = buckets_put(m, m->items, count, is_end && from == whole);
		if (r < 0)
			return r;
	} while (from < whole);
	return 0;
}

/* How much of what is in the arena is whole items. */
static size_t whole_of(const struct map *m, size_t have)
{
	const uint8_t *newline;

	if (m->f->req->format == FORMAT_RECORDS)
		return have / RECORD_SIZE * RECORD_SIZE;
	newline = memrchr(m->arena.ptr, '\n', have);
	return newline ? (size_t)(newline - m->arena.ptr) + 1 : 0;
}

static int share_map(struct map *m)
{
	size_t have = 0;
	bool is_end;

	do {
		size_t room = m->arena.len - have, whole;
		int64_t n = input_fill(&m->input, m->arena.ptr + have, room);
		int r;

		if (n < 0)
			return (int)n;
		have += (size_t)n;
		/* Else there may be more; if not, an empty round tells. */
		is_end = (size_t)n < room;
		whole = whole_of(m, have);
		if (is_end && whole < have)
			return problem_set_final(m->f->problem, -EBADMSG,
						 "the share's last %zu bytes are no record",
						 have - whole);
		r = arena_sort(m, whole, is_end);
		if (r < 0)
			return r;
		have -= whole;
		memmove(m->arena.ptr, m->arena.ptr + whole, have);
	} while (!is_end);
	return 0;
}

int map_run(struct function *f)
{
	const struct request *req = f->req;
	struct map m = { .f = f };
	int r;

	if (req->reduces == 0)
		return problem_set_final(f->problem, -EINVAL, "map: no \"reduces\"");
	input_init(&m.input, req->format, req->input, req->input_count, function_line_max(f),
		   f->problem);
	r = splitters_read(&m);
	if (r == 0)
		r = regions_init(&m);
	if (r == 0)
		r = writers_init(&m);
	if (r == 0)
		r = share_map(&m);
	f->read_bytes = m.input.read_bytes;
	map_fini(&m);
	return r;
}
