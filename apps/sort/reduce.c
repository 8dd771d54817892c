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

#include "output.h"
#include "pass.h"
#include "region.h"
#include "runs.h"

struct reduce {
	struct function *f;
	struct run_list runs; /* what is to be merged */
	char shuffled[STORE_PATH_MAX], apart[STORE_PATH_MAX], merged[STORE_PATH_MAX];
	uint32_t merged_count;
	struct piece piece;
	struct region piece_region;
};

static size_t reduce_room(const struct reduce *red)
{
	return function_room(red->f) - red->piece.cap;
}

/* How many of the first runs can be merged at once. */
static size_t group_of(const struct run *runs, size_t count, uint64_t room)
{
	size_t n = 0;

	while (n < count && run_need(&runs[n]) <= room)
		room -= run_need(&runs[n++]);
	return n;
}

static int damaged(struct reduce *red, int r)
{
	return r < 0 ? problem_set(red->f->problem, r, "a run of %s is damaged", red->shuffled) : 0;
}

static int pass_to_output(struct reduce *red, struct pass *p, struct output *out)
{
	struct piece *piece = &red->piece;
	const uint8_t *item;
	size_t size;
	int r, more;

	piece->to = &out->sink;
	while ((more = merge_next(&p->merge, &item, &size)) > 0) {
		red->f->count++;
		r = piece_put(piece, item, size);
		if (r < 0)
			return r;
	}
	r = damaged(red, more);
	return r < 0 ? r : piece_flush(piece);
}

static int pass_to_object(struct reduce *red, struct pass *p, struct store_sink *sk)
{
	struct piece *piece = &red->piece;
	const uint8_t *item;
	size_t size;
	int more, r = store_sink_begin(sk, piece);

	while (r == 0 && (more = merge_next(&p->merge, &item, &size)) > 0)
		r = piece_put(piece, item, size);
	if (r == 0)
		r = damaged(red, more);
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
	int r = pass_init(&p, red->f, runs, count, reduce_room(red), false);

	if (r < 0)
		return r;
	runs_path(run.directory, run.object, path);
	store_sink_init(&sk, red->f->store, path);
	r = pass_to_object(red, &p, &sk);
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
	int r = pass_init(&p, red->f, red->runs.runs, red->runs.count, reduce_room(red), true);

	if (r < 0)
		return r;
	r = output_open(&out, red->f->req->output, red->f->problem);
	if (r == 0)
		r = pass_to_output(red, &p, &out);
	if (r == 0)
		r = pass_end(&p);
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
