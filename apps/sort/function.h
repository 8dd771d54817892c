/* SPDX-License-Identifier: Apache-2.0 */
/*
 * function: one run of one of the job's functions, whatever platform started it.
 *
 * function_run() takes a request and makes a reply, both a line of JSON; between runs
 * only the instance is kept, and nothing is shared between threads. Each kind of function
 * has a file: generate, sample, map, reduce, validate.
 *
 * Memory: a function holds at most `function_memory` bytes. FUNCTION_BASE of it is for
 * code, libraries, the store's client and what is small; function_room() is what it
 * may take in regions.
 */
#pragma once

#include "instance.h"
#include "request.h"

#define FUNCTION_BASE ((size_t)12 << 20)

struct function {
	const struct request *req;
	struct problem *problem;
	struct store *store; /* NULL if this kind has no use for it */
	uint64_t attach_ns;  /* until the store was open */

	/* For the reply. */
	uint64_t count;                     /* records or lines */
	u128 sum;                           /* of all their sums; the same in any order */
	uint64_t read_bytes, written_bytes; /* of long-term storage */
	json_t *more;                       /* an object: what only this kind tells */
};

/*
 * The reply, without a newline, to be freed; NULL if there is no memory for one. It has
 *	"op", "index", "attempt", "count", "sum" (hexadecimal), "read_bytes",
 *	"written_bytes", "wall_ns", "io_ns", "wait_ns" (in the store, and there for
 *	others), "store_read_bytes", "store_written_bytes", "peak_memory",
 *	"run" (of the instance: 1 is a cold start), and with a store "attach_ns" (part of
 *	io_ns; 0: it was kept)
 * or	"error" and "is_final".
 */
char *function_run(struct instance *i, const char *line, size_t len);

static inline size_t function_room(const struct function *f)
{
	return f->req->function_memory - FUNCTION_BASE;
}

/* What one output buffer takes of the room. */
static inline size_t function_piece(const struct function *f)
{
	size_t piece = f->req->function_memory / 16;
	size_t max = (size_t)16 << 20;

	return piece < max ? piece : max;
}

/* Of a line without its newline. */
static inline size_t function_line_max(const struct function *f)
{
	return f->req->function_memory / 4;
}

int function_no_memory(struct function *f, size_t len);

/* Adds an item to count and sum. */
void function_tally(struct function *f, const uint8_t *item, size_t size);

typedef int function_fn(struct function *f);
function_fn generate_run, sample_run, map_run, reduce_run, validate_run;
