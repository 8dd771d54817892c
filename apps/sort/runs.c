/* SPDX-License-Identifier: Apache-2.0 */
#include "runs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is read of an object before it is known how long its index is: 20 runs. */
#define TAIL_GUESS 488

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

static int store_sink_write(struct sink *s, const uint8_t *data, size_t len)
{
	struct store_sink *sk = (struct store_sink *)s; /* its first member */
	int r;

	if (!sk->stream) {
		r = store_writer_open(sk->store, sk->path, &sk->stream);
		if (r < 0)
			return r;
	}
	return store_writer_write(sk->stream, data, len);
}

_Static_assert(offsetof(struct store_sink, sink) == 0, "a sink of ours is an object's");

void store_sink_init(struct store_sink *sk, struct store *store, const char *path)
{
	*sk = (struct store_sink){ .sink.write = store_sink_write, .store = store };
	snprintf(sk->path, sizeof(sk->path), "%s", path);
}

void store_sink_fini(struct store_sink *sk)
{
	store_writer_abandon(&sk->stream);
}

int store_sink_begin(struct store_sink *sk, struct piece *piece)
{
	int r = 0;

	if (piece->to != &sk->sink)
		r = piece_flush(piece);
	piece->to = &sk->sink;
	return r;
}

int store_sink_commit(struct store_sink *sk, struct piece *piece)
{
	size_t used = piece->used;
	int r;

	if (sk->stream) {
		r = piece_flush(piece);
		return r < 0 ? r : store_writer_commit(&sk->stream);
	}
	piece->used = 0;
	return store_put(sk->store, sk->path, piece->ptr, used);
}

void runs_writer_init(struct runs_writer *w, struct store *store, struct problem *problem,
		      const char *path)
{
	*w = (struct runs_writer){ .problem = problem };
	store_sink_init(&w->inside, store, path);
}

void runs_writer_fini(struct runs_writer *w)
{
	store_sink_fini(&w->inside);
	store_sink_fini(&w->apart);
	free(w->done);
	w->done = NULL;
}

int runs_begin(struct runs_writer *w, struct piece *piece, const char *directory, uint32_t object)
{
	char path[STORE_PATH_MAX];

	w->now = (struct run_size){ .object = directory ? object : RUN_INSIDE };
	if (!directory)
		return store_sink_begin(&w->inside, piece);
	runs_path(directory, object, path);
	store_sink_init(&w->apart, w->inside.store, path);
	return store_sink_begin(&w->apart, piece);
}

static int done_add(struct runs_writer *w)
{
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

int runs_end(struct runs_writer *w, struct piece *piece)
{
	int r;

	if (w->now.len == 0)
		return 0;
	r = done_add(w);
	if (r == 0 && w->now.object != RUN_INSIDE)
		r = store_sink_commit(&w->apart, piece);
	return r;
}

static int index_put(struct runs_writer *w, struct piece *piece)
{
	uint8_t buf[RUNS_ENTRY_SIZE] = { 0 };

	for (size_t i = 0; i < w->count; i++) {
		int r;

		put_le(buf, w->done[i].object, 4);
		put_le(buf + 8, w->done[i].len, 8);
		put_le(buf + 16, w->done[i].longest, 8);
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
	int r = store_sink_begin(&w->inside, piece);

	if (r == 0)
		r = index_put(w, piece);
	return r < 0 ? r : store_sink_commit(&w->inside, piece);
}

/* One entry; *offset is where the next run inside begins. */
static int entry_decode(const uint8_t *entry, uint64_t data_len, const struct runs_place *place,
			struct run *run, uint64_t *offset)
{
	uint32_t object = (uint32_t)get_le(entry, 4);

	run->len = get_le(entry + 8, 8);
	run->longest = get_le(entry + 16, 8);
	if (run->longest > run->len)
		return -EBADMSG;
	if (object != RUN_INSIDE) {
		run->directory = place->apart;
		run->object = object;
		run->offset = 0;
		return 0;
	}
	if (run->len > data_len - *offset)
		return -EBADMSG;
	run->offset = *offset;
	*offset += run->len;
	return 0;
}

int runs_decode(const uint8_t *tail, size_t tail_len, uint64_t object_len,
		const struct runs_place *place, uint32_t object, struct run_list *ret,
		size_t *ret_need)
{
	const uint8_t *end = tail + tail_len;
	uint64_t data_len, offset = 0;
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
	for (const uint8_t *p = end - need; p < end - RUNS_TRAILER_SIZE; p += RUNS_ENTRY_SIZE) {
		struct run run = { .directory = place->directory, .object = object };
		int r = entry_decode(p, data_len, place, &run, &offset);

		if (r == 0)
			r = run_list_add(ret, &run);
		if (r < 0)
			return r;
	}
	return offset == data_len ? 0 : -EBADMSG;
}

/* The objects of one directory while their indexes are read. */
struct finding {
	struct store *store;
	struct problem *problem;
	const struct runs_place *place;
	const struct store_entry *entries;
	struct store_read *reads; /* of the tails */
	char (*paths)[STORE_PATH_MAX];
	uint8_t (*tails)[TAIL_GUESS];
};

static int index_read(const struct finding *f, uint32_t object, struct run_list *ret)
{
	uint64_t len = f->entries[object].len;
	size_t need = 0;
	int r = runs_decode(f->tails[object], f->reads[object].len, len, f->place, object, ret,
			    &need);

	if (r == -ENOBUFS) {
		uint8_t *tail = malloc(need);
		struct store_read read = { f->paths[object], len - need, tail, need };

		r = tail ? store_read(f->store, &read, 1) : -ENOMEM;
		if (r == 0)
			r = runs_decode(tail, need, len, f->place, object, ret, &need);
		free(tail);
	}
	if (r == -EBADMSG)
		return problem_set(f->problem, r, "%s is damaged", f->paths[object]);
	return r < 0 ? problem_set(f->problem, r, "no memory for the runs") : 0;
}

static int tails_read(struct finding *f)
{
	for (size_t i = 0; i < f->place->count; i++) {
		uint64_t len = f->entries[i].len;
		size_t n = len < TAIL_GUESS ? (size_t)len : TAIL_GUESS;

		runs_path(f->place->directory, (uint32_t)i, f->paths[i]);
		if (strcmp(f->paths[i] + strlen(f->place->directory) + 1, f->entries[i].name) != 0)
			return problem_set(f->problem, -ENOENT, "%s is missing", f->paths[i]);
		f->reads[i] = (struct store_read){ f->paths[i], len - n, f->tails[i], n };
	}
	return store_read(f->store, f->reads, f->place->count);
}

static int indexes_read(struct finding *f, struct run_list *ret)
{
	int r;

	f->reads = calloc(f->place->count, sizeof(*f->reads));
	f->paths = calloc(f->place->count, sizeof(*f->paths));
	f->tails = calloc(f->place->count, sizeof(*f->tails));
	if (f->reads && f->paths && f->tails)
		r = tails_read(f);
	else
		r = problem_set(f->problem, -ENOMEM, "no memory for the indexes of %zu objects",
				f->place->count);
	for (size_t i = 0; r == 0 && i < f->place->count; i++)
		r = index_read(f, (uint32_t)i, ret);
	free(f->tails);
	free(f->paths);
	free(f->reads);
	return r;
}

int runs_find(struct store *s, const struct runs_place *place, struct problem *problem,
	      struct run_list *ret)
{
	struct finding f = { .store = s, .problem = problem, .place = place };
	struct store_list list;
	int r = store_list(s, place->directory, &list);

	if (r < 0)
		return r;
	f.entries = list.entries;
	if (list.count == place->count)
		r = indexes_read(&f, ret);
	else
		r = problem_set(problem, -ENOENT, "%s has %zu objects and should have %zu",
				place->directory, list.count, place->count);
	store_list_fini(&list);
	return r;
}
