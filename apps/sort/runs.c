/* SPDX-License-Identifier: Apache-2.0 */
#include "runs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is read of an object before it is known how long its index is: 31 runs. */
#define TAIL_GUESS 504

void run_list_fini(struct run_list *l)
{
	free(l->runs);
	*l = (struct run_list){ 0 };
}

int run_list_add(struct run_list *l, const struct run *run)
{
	if (l->count == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 4;
		struct run *more = reallocarray(l->runs, cap, sizeof(*more));

		if (!more)
			return -ENOMEM;
		l->runs = more;
		l->cap = cap;
	}
	l->runs[l->count++] = *run;
	return 0;
}

void runs_path(const char *directory, uint32_t object, char ret[STORE_PATH_MAX])
{
	snprintf(ret, STORE_PATH_MAX, "%s/%05u", directory, object);
}

static void put_le(uint8_t *to, uint64_t v, size_t width)
{
	for (size_t i = 0; i < width; i++)
		to[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_le(const uint8_t *from, size_t width)
{
	uint64_t v = 0;

	for (size_t i = 0; i < width; i++)
		v |= (uint64_t)from[i] << (8 * i);
	return v;
}

static int runs_write(struct sink *s, const uint8_t *data, size_t len)
{
	struct runs_writer *w = (struct runs_writer *)s; /* its first member */
	int r;

	if (!w->stream) {
		r = store_writer_open(w->store, w->path, &w->stream);
		if (r < 0)
			return r;
	}
	return store_writer_write(w->stream, data, len);
}

_Static_assert(offsetof(struct runs_writer, sink) == 0, "a sink of ours is a writer");

void runs_writer_init(struct runs_writer *w, struct store *store, struct problem *problem,
		      const char *path)
{
	*w = (struct runs_writer){
		.sink.write = runs_write,
		.store = store,
		.problem = problem,
	};
	snprintf(w->path, sizeof(w->path), "%s", path);
}

void runs_writer_fini(struct runs_writer *w)
{
	store_writer_abandon(&w->stream);
	free(w->done);
	w->done = NULL;
}

int runs_begin(struct runs_writer *w, struct piece *piece)
{
	int r = 0;

	if (piece->to != &w->sink)
		r = piece_flush(piece);
	piece->to = &w->sink;
	return r;
}

static int done_add(struct runs_writer *w)
{
	if (w->count == RUNS_MAX)
		return problem_set_final(w->problem, -E2BIG,
					 "%s: more than %d runs; more --maps or more "
					 "--function-memory makes fewer",
					 w->path, RUNS_MAX);
	if (w->count == w->cap) {
		size_t cap = w->cap ? 2 * w->cap : 4;
		struct run_size *more = reallocarray(w->done, cap, sizeof(*more));

		if (!more)
			return problem_set(w->problem, -ENOMEM, "no memory");
		w->done = more;
		w->cap = cap;
	}
	w->done[w->count++] = w->now;
	return 0;
}

int runs_end(struct runs_writer *w)
{
	int r = w->now.len > 0 ? done_add(w) : 0;

	w->now = (struct run_size){ 0 };
	return r;
}

static int index_put(struct runs_writer *w, struct piece *piece)
{
	uint8_t buf[RUNS_ENTRY_SIZE];

	for (size_t i = 0; i < w->count; i++) {
		int r;

		put_le(buf, w->done[i].len, 8);
		put_le(buf + 8, w->done[i].longest, 8);
		r = piece_put(piece, buf, RUNS_ENTRY_SIZE);
		if (r < 0)
			return r;
	}
	put_le(buf, w->count, 4);
	put_le(buf + 4, RUNS_MAGIC, 4);
	return piece_put(piece, buf, RUNS_TRAILER_SIZE);
}

int runs_commit(struct runs_writer *w, struct piece *piece)
{
	size_t used;
	int r = runs_begin(w, piece);

	if (r == 0)
		r = index_put(w, piece);
	if (r < 0)
		return r;
	if (w->stream) {
		r = piece_flush(piece);
		return r < 0 ? r : store_writer_commit(&w->stream);
	}
	used = piece->used;
	piece->used = 0;
	return store_put(w->store, w->path, piece->ptr, used);
}

int runs_decode(const uint8_t *tail, size_t tail_len, uint64_t object_len, struct run run,
		struct run_list *ret, size_t *ret_need)
{
	const uint8_t *end = tail + tail_len;
	uint64_t data_len;
	size_t count, need;

	if (tail_len < RUNS_TRAILER_SIZE || get_le(end - 4, 4) != RUNS_MAGIC)
		return -EBADMSG;
	count = (size_t)get_le(end - 8, 4);
	need = count * RUNS_ENTRY_SIZE + RUNS_TRAILER_SIZE;
	if (count > RUNS_MAX || need > object_len)
		return -EBADMSG;
	*ret_need = need;
	if (need > tail_len)
		return -ENOBUFS;

	data_len = object_len - need;
	run.offset = 0;
	for (const uint8_t *p = end - need; p < end - RUNS_TRAILER_SIZE; p += RUNS_ENTRY_SIZE) {
		run.len = get_le(p, 8);
		run.longest = get_le(p + 8, 8);
		if (run.len > data_len - run.offset || run.longest > run.len)
			return -EBADMSG;
		if (run_list_add(ret, &run) < 0)
			return -ENOMEM;
		run.offset += run.len;
	}
	return run.offset == data_len ? 0 : -EBADMSG;
}

/* The objects of one directory while their indexes are read. */
struct finding {
	struct store *store;
	struct problem *problem;
	const char *directory;
	const struct store_entry *entries;
	size_t count;
	struct store_read *reads; /* of the tails */
	char (*paths)[STORE_PATH_MAX];
	uint8_t (*tails)[TAIL_GUESS];
};

static int index_read(const struct finding *f, uint32_t object, struct run_list *ret)
{
	struct run run = { .directory = f->directory, .object = object };
	uint64_t len = f->entries[object].len;
	size_t need = 0;
	int r = runs_decode(f->tails[object], f->reads[object].len, len, run, ret, &need);

	if (r == -ENOBUFS) {
		uint8_t *tail = malloc(need);
		struct store_read read = { f->paths[object], len - need, tail, need };

		r = tail ? store_read(f->store, &read, 1) : -ENOMEM;
		if (r == 0)
			r = runs_decode(tail, need, len, run, ret, &need);
		free(tail);
	}
	if (r == -EBADMSG)
		return problem_set(f->problem, r, "%s is damaged", f->paths[object]);
	return r < 0 ? problem_set(f->problem, r, "no memory for the runs") : 0;
}

static int tails_read(struct finding *f)
{
	for (size_t i = 0; i < f->count; i++) {
		uint64_t len = f->entries[i].len;
		size_t n = len < TAIL_GUESS ? (size_t)len : TAIL_GUESS;

		runs_path(f->directory, (uint32_t)i, f->paths[i]);
		if (strcmp(f->paths[i] + strlen(f->directory) + 1, f->entries[i].name) != 0)
			return problem_set(f->problem, -ENOENT, "%s is missing", f->paths[i]);
		f->reads[i] = (struct store_read){ f->paths[i], len - n, f->tails[i], n };
	}
	return store_read(f->store, f->reads, f->count);
}

static int indexes_read(struct finding *f, struct run_list *ret)
{
	int r;

	f->reads = calloc(f->count, sizeof(*f->reads));
	f->paths = calloc(f->count, sizeof(*f->paths));
	f->tails = calloc(f->count, sizeof(*f->tails));
	if (f->reads && f->paths && f->tails)
		r = tails_read(f);
	else
		r = problem_set(f->problem, -ENOMEM, "no memory for the indexes of %zu objects",
				f->count);
	for (size_t i = 0; r == 0 && i < f->count; i++)
		r = index_read(f, (uint32_t)i, ret);
	free(f->tails);
	free(f->paths);
	free(f->reads);
	return r;
}

int runs_find(struct store *s, const char *directory, size_t count, struct problem *problem,
	      struct run_list *ret)
{
	struct store_list list;
	int r = store_list(s, directory, &list);

	if (r < 0)
		return r;
	if (list.count == count) {
		struct finding f = { .store = s,
				     .problem = problem,
				     .directory = directory,
				     .entries = list.entries,
				     .count = count };

		r = indexes_read(&f, ret);
	} else {
		r = problem_set(problem, -ENOENT, "%s has %zu objects and should have %zu",
				directory, list.count, count);
	}
	store_list_fini(&list);
	return r;
}
