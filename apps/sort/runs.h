/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runs: an object of sorted runs, which is what a mapper leaves for one bucket, and a
 * merge for the next.
 *
 *	run 0 | run 1 | ... | index: (len, longest) of each, 8 bytes each | count, magic, 4 each
 *
 * Little-endian. A run is records or lines as they were, nothing added. The index is
 * at the end, because a writer learns what is in it while it writes. `longest` is the
 * size of the largest item: a merge needs as much room for the run at least.
 */
#pragma once

#include "piece.h"
#include "store.h"

#define RUNS_MAGIC        0x534e5552u /* "RUNS" */
#define RUNS_TRAILER_SIZE 8
#define RUNS_ENTRY_SIZE   16

/* Of one object: at the smallest memory, what a terabyte per mapper needs. */
#define RUNS_MAX 65536

struct run {
	const char *directory; /* not ours; the object is directory/number */
	uint32_t object;
	uint64_t offset, len; /* in the object */
	uint64_t longest;
};

struct run_list {
	struct run *runs; /* owned */
	size_t count, cap;
};

void run_list_fini(struct run_list *l);
int run_list_add(struct run_list *l, const struct run *run);

/* The name of an object of a directory of numbered ones: five digits, so that they list in order.
 */
void runs_path(const char *directory, uint32_t object, char ret[STORE_PATH_MAX]);

/*
 * Writes one object through a piece, which is flushed between the runs of different
 * writers and not between those of one, so that a small object is a single put.
 */
struct runs_writer {
	struct sink sink;

	/* runs.c's own. */
	struct store *store;         /* not ours */
	struct problem *problem;     /* not ours */
	struct store_writer *stream; /* NULL while all is in the piece */
	struct run_size {
		uint64_t len, longest;
	} now, *done; /* the run being written, and those before it */
	size_t count, cap;
	char path[STORE_PATH_MAX];
};

void runs_writer_init(struct runs_writer *w, struct store *store, struct problem *problem,
		      const char *path);
void runs_writer_fini(struct runs_writer *w); /* abandons what was not committed */

/* What runs_put() puts from here on is one sorted run. */
int runs_begin(struct runs_writer *w, struct piece *piece);
int runs_end(struct runs_writer *w);

static inline int runs_put(struct runs_writer *w, struct piece *piece, const uint8_t *item,
			   size_t size)
{
	w->now.len += size;
	if (size > w->now.longest)
		w->now.longest = size;
	return piece_put(piece, item, size);
}

/* Adds the index; the object is there, or was there already. */
int runs_commit(struct runs_writer *w, struct piece *piece);

/* The runs of the objects 0 to count - 1 of a directory, in this order. */
int runs_find(struct store *s, const char *directory, size_t count, struct problem *problem,
	      struct run_list *ret);

/*
 * Pure: the runs of an object of `object_len` bytes from its last ones; `run` says which
 * object. -ENOBUFS: the index is longer than the tail, *ret_need says how long.
 */
int runs_decode(const uint8_t *tail, size_t tail_len, uint64_t object_len, struct run run,
		struct run_list *ret, size_t *ret_need);
