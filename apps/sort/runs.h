/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runs: an object of sorted runs, which is what a mapper leaves for one bucket.
 *
 *	run | run | ... | index: (object, 0, len, longest) of each, 4, 4, 8 and 8 bytes
 *	| count, magic, 4 bytes each
 *
 * Little-endian. A run is records or lines as they were, nothing added. The index is
 * at the end, because a writer learns what is in it while it writes. `longest` is the
 * size of the largest item: a merge needs as much room for the run at least.
 *
 * A mapper whose share fits its memory has one run per bucket, and it lies in the object
 * itself (`object` is RUN_INSIDE). One that goes through its memory several times puts
 * each run into an object of its own, so that it need not hold one open for each bucket,
 * and the object of runs is an index and nothing else.
 */
#pragma once

#include "piece.h"
#include "store.h"

#define RUNS_MAGIC        0x534e5552u /* "RUNS" */
#define RUNS_TRAILER_SIZE 8
#define RUNS_ENTRY_SIZE   24
#define RUN_INSIDE        UINT32_MAX

/* Of one mapper for a bucket, at most: at the smallest memory, what a terabyte needs. */
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
 * An object on its way out through a piece: one put if it fits in there, else a stream.
 * The piece is flushed between objects, and not inside one.
 */
struct store_sink {
	struct sink sink;
	struct store *store;         /* not ours */
	struct store_writer *stream; /* NULL while all is in the piece */
	char path[STORE_PATH_MAX];
};

void store_sink_init(struct store_sink *sk, struct store *store, const char *path);
void store_sink_fini(struct store_sink *sk); /* abandons what was not committed */
int store_sink_begin(struct store_sink *sk, struct piece *piece);

/* The object is there, or was there already. */
int store_sink_commit(struct store_sink *sk, struct piece *piece);

struct runs_writer {
	struct problem *problem; /* not ours */
	struct store_sink inside, apart;
	struct run_size {
		uint32_t object;
		uint64_t len, longest;
	} now, *done; /* the run being written, and those before it */
	size_t count, cap;
};

void runs_writer_init(struct runs_writer *w, struct store *store, struct problem *problem,
		      const char *path);
void runs_writer_fini(struct runs_writer *w); /* abandons what was not committed */

/*
 * What runs_put() puts from here on is one sorted run: inside, or (`directory` is not
 * NULL) in an object of its own. Runs are all inside or all apart.
 */
int runs_begin(struct runs_writer *w, struct piece *piece, const char *directory, uint32_t object);
int runs_end(struct runs_writer *w, struct piece *piece);

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

/* Where runs are: in the objects 0 to count - 1 of a directory, or in another one. */
struct runs_place {
	const char *directory, *apart; /* not ours; the list points to them */
	size_t count;
};

/* All runs, in the order of their objects. */
int runs_find(struct store *s, const struct runs_place *place, struct problem *problem,
	      struct run_list *ret);

/*
 * Pure: the runs of object number `object`, `object_len` bytes long, from its last ones.
 * -ENOBUFS: the index is longer than the tail, *ret_need says how long.
 */
int runs_decode(const uint8_t *tail, size_t tail_len, uint64_t object_len,
		const struct runs_place *place, uint32_t object, struct run_list *ret,
		size_t *ret_need);
