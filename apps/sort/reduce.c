/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reduce: a bucket, from the mappers' runs to a part of the output.
 *
 * Waits until each mapper has left its object, then merges all runs through windows,
 * as large as the room allows. Where not even the smallest windows of all runs fit,
 * groups of neighbors are merged first, into objects of one run each, and again until
 * they are few enough. These objects belong to this run of the function alone, since
 * two attempts may be at it.
 */
#include "function.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "merge.h"
#include "output.h"
#include "region.h"
#include "runs.h"

/* Below this, a read is more round trip than transfer. */
#define WINDOW_MIN ((uint64_t)256 << 10)

struct reduce {
	struct function *f;
	struct run_list runs; /* what is to be merged */
	char shuffled[STORE_PATH_MAX], apart[STORE_PATH_MAX], merged[STORE_PATH_MAX];
	uint32_t merged_count;
	struct piece piece;
	struct region piece_region;
};

/* One merge, of runs that lie side by side in the list. */
struct pass {
	struct merge merge;
	struct reduce *red;
	const struct run *runs;
	struct window *windows;
	struct region room;
};

static size_t reduce_room(const struct reduce *red)
{
	return function_room(red->f) - red->piece.cap;
}

static uint64_t window_need(const struct run *run)
{
	uint64_t need = run->longest > WINDOW_MIN ? run->longest : WINDOW_MIN;

	return need < run->len ? need : run->len;
}

/* How many of the first runs can be merged at once. */
static size_t group_of(const struct run *runs, size_t count, uint64_t room)
{
	size_t n = 0;

	while (n < count && window_need(&runs[n]) <= room)
		room -= window_need(&runs[n++]);
	return n;
}

/* Gives each window what it needs and an equal part of the rest; returns the sum. */
static size_t windows_size(struct window *windows, const struct run *runs, size_t count,
			   size_t room)
{
	uint64_t need = 0, all = 0, more;
	size_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		need += window_need(&runs[i]);
		all += runs[i].len;
	}
	more = all <= room ? all : (room - need) / count;
	for (size_t i = 0; i < count; i++) {
		uint64_t cap = window_need(&runs[i]) + more;

		windows[i].cap = (size_t)(cap < runs[i].len ? cap : runs[i].len);
		windows[i].left = runs[i].len;
		sum += windows[i].cap;
	}
	return sum;
}

static struct store_read read_of(const struct run *run, const struct window *w, size_t n,
				 char path[STORE_PATH_MAX])
{
	runs_path(run->directory, run->object, path);
	return (struct store_read){
		.path = path,
		.offset = run->offset + run->len - w->left,
		.buf = w->buf + w->end,
		.len = n,
	};
}

static int pass_fill(struct merge *m, struct window *w, size_t n)
{
	struct pass *p = (struct pass *)m; /* its first member */
	char path[STORE_PATH_MAX];
	struct store_read read = read_of(&p->runs[w - p->windows], w, n, path);

	return store_read(p->red->f->store, &read, 1);
}

_Static_assert(offsetof(struct pass, merge) == 0, "a merge of ours is a pass");

/* All windows at once, so that their reads are in flight together. */
static int windows_fill(struct pass *p)
{
	size_t count = p->merge.count;
	struct store_read *reads = calloc(count + 1, sizeof(*reads));
	char(*paths)[STORE_PATH_MAX] = calloc(count + 1, sizeof(*paths));
	int r = -ENOMEM;

	if (reads && paths) {
		for (size_t i = 0; i < count; i++)
			reads[i] =
				read_of(&p->runs[i], &p->windows[i], p->windows[i].cap, paths[i]);
		r = store_read(p->red->f->store, reads, count);
	}
	for (size_t i = 0; r == 0 && i < count; i++) {
		p->windows[i].end = p->windows[i].cap;
		p->windows[i].left -= p->windows[i].cap;
	}
	free(paths);
	free(reads);
	return r;
}

static void pass_fini(struct pass *p)
{
	merge_fini(&p->merge);
	region_fini(&p->room);
	free(p->windows);
}

static int pass_init(struct pass *p, struct reduce *red, const struct run *runs, size_t count)
{
	size_t sum = 0;
	uint8_t *buf;
	int r;

	*p = (struct pass){
		.merge = { .format = red->f->req->format, .count = count, .fill = pass_fill },
		.red = red,
		.runs = runs,
		.windows = calloc(count + 1, sizeof(struct window)),
	};
	p->merge.windows = p->windows;
	if (p->windows)
		sum = windows_size(p->windows, runs, count, reduce_room(red));
	r = p->windows ? region_init(&p->room, sum) : -ENOMEM;
	if (r == 0) {
		buf = p->room.ptr;
		for (size_t i = 0; i < count; i++) {
			p->windows[i].buf = buf;
			buf += p->windows[i].cap;
		}
		r = windows_fill(p);
	}
	if (r == 0)
		r = merge_init(&p->merge);
	if (r == -ENOMEM)
		function_no_memory(red->f, sum);
	if (r < 0)
		pass_fini(p);
	return r;
}

static int damaged(struct reduce *red, int r)
{
	return r < 0 ? problem_set(red->f->problem, r, "a run of %s is damaged", red->shuffled) : 0;
}

static int pass_to_output(struct pass *p, struct output *out)
{
	struct piece *piece = &p->red->piece;
	const uint8_t *item;
	size_t size;
	int r, more;

	piece->to = &out->sink;
	while ((more = merge_next(&p->merge, &item, &size)) > 0) {
		p->red->f->count++;
		r = piece_put(piece, item, size);
		if (r < 0)
			return r;
	}
	r = damaged(p->red, more);
	return r < 0 ? r : piece_flush(piece);
}

static int pass_to_object(struct pass *p, struct store_sink *sk)
{
	struct piece *piece = &p->red->piece;
	const uint8_t *item;
	size_t size;
	int more, r = store_sink_begin(sk, piece);

	while (r == 0 && (more = merge_next(&p->merge, &item, &size)) > 0)
		r = piece_put(piece, item, size);
	if (r == 0)
		r = damaged(p->red, more);
	return r < 0 ? r : store_sink_commit(sk, piece);
}

/* Merges a group into an object that is one run, which takes its place in `ret`. */
static int group_merge(struct reduce *red, const struct run *runs, size_t count,
		       struct run_list *ret)
{
	struct run run = { .directory = red->merged, .object = red->merged_count++ };
	struct store_sink sk;
	char path[STORE_PATH_MAX];
	struct pass p;
	int r = pass_init(&p, red, runs, count);

	if (r < 0)
		return r;
	runs_path(run.directory, run.object, path);
	store_sink_init(&sk, red->f->store, path);
	r = pass_to_object(&p, &sk);
	store_sink_fini(&sk);
	pass_fini(&p);

	for (size_t i = 0; i < count; i++) {
		run.len += runs[i].len;
		if (runs[i].longest > run.longest)
			run.longest = runs[i].longest;
	}
	if (r == 0 && run_list_add(ret, &run) < 0)
		r = function_no_memory(red->f, sizeof(run));
	return r;
}

/* What an earlier round made and this one has merged, so that rounds take room once. */
static int merged_remove(struct reduce *red, const struct run_list *old)
{
	for (size_t i = 0; i < old->count; i++) {
		char path[STORE_PATH_MAX];
		int r;

		if (old->runs[i].directory != red->merged)
			continue;
		runs_path(red->merged, old->runs[i].object, path);
		r = store_remove(red->f->store, path);
		if (r < 0)
			return r;
	}
	return 0;
}

static int round_merge(struct reduce *red)
{
	struct run_list next = { 0 };
	int r = 0;

	for (size_t i = 0, n; r == 0 && i < red->runs.count; i += n) {
		n = group_of(red->runs.runs + i, red->runs.count - i, reduce_room(red));
		if (n == 0)
			r = function_no_memory(red->f, (size_t)red->runs.runs[i].longest);
		else
			r = group_merge(red, red->runs.runs + i, n, &next);
	}
	if (r == 0 && next.count == red->runs.count)
		r = function_no_memory(red->f, reduce_room(red));
	if (r == 0)
		r = merged_remove(red, &red->runs);
	run_list_fini(&red->runs);
	red->runs = next;
	return r;
}

static int bucket_write(struct reduce *red)
{
	struct output out;
	struct pass p;
	int r = pass_init(&p, red, red->runs.runs, red->runs.count);

	if (r < 0)
		return r;
	r = output_open(&out, red->f->req->output, red->f->problem);
	if (r == 0)
		r = pass_to_output(&p, &out);
	if (r == 0)
		r = output_commit(&out);
	red->f->written_bytes = out.written;
	output_fini(&out);
	pass_fini(&p);
	return r;
}

static int bucket_find(struct reduce *red)
{
	const struct request *req = red->f->req;
	struct runs_place place = { red->shuffled, red->apart, req->maps };
	uint64_t unique = 0;
	int r;

	(void)!getrandom(&unique, sizeof(unique),
			 0); /* then two attempts might meet, and one fail */
	runs_path("shuffle", req->index, red->shuffled);
	runs_path("runs", req->index, red->apart);
	runs_path("merge", req->index, red->merged);
	snprintf(red->merged + strlen(red->merged), 18, "/%016llx", (unsigned long long)unique);
	r = store_wait_count(red->f->store, red->shuffled, req->maps, req->timeout_ms);
	if (r == 0)
		r = runs_find(red->f->store, &place, red->f->problem, &red->runs);
	return r;
}

int reduce_run(struct function *f)
{
	struct reduce red = { .f = f };
	uint32_t rounds = 0;
	int r;

	if (!f->req->output || f->req->maps == 0)
		return problem_set_final(f->problem, -EINVAL,
					 "reduce: no \"output\" or no \"maps\"");
	if (region_init(&red.piece_region, function_piece(f)) < 0)
		return function_no_memory(f, function_piece(f));
	red.piece = (struct piece){ .ptr = red.piece_region.ptr, .cap = red.piece_region.len };
	r = bucket_find(&red);
	for (;
	     r == 0 && group_of(red.runs.runs, red.runs.count, reduce_room(&red)) < red.runs.count;
	     rounds++)
		r = round_merge(&red);
	if (r == 0)
		r = bucket_write(&red);
	if (r == 0 && rounds > 0) {
		strcpy(red.merged + strlen(red.merged), "/");
		r = store_remove(f->store, red.merged);
	}
	f->more = json_pack("{si}", "rounds", (int)rounds);
	run_list_fini(&red.runs);
	region_fini(&red.piece_region);
	return r;
}
