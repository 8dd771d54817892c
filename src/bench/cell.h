/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cell: one operation, one size, so many clients and requests in flight: every system in
 * turn, pair by pair, and a row for each.
 */
#pragma once

#include "bench/bench.h"
#include "bench/worker.h"

struct cell {
	enum bench_kind kind;
	const char *op;     /* what rows call it; NULL: as the operation is called */
	struct load load;   /* `clients` are those of all threads together */
	struct load beside; /* what another client does meanwhile; of 0 clients: nothing */
};

/* Negative: Wadi could not be measured, or we were interrupted; `b->error` says why. */
int cell_run(struct bench *b, const struct cell *c);

int bench_fail(struct bench *b, int r, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Those that were asked for, or else of the bench itself. */
struct bench_list bench_sizes(const struct bench *b, enum bench_kind kind);
/* benches.def's functions. */
int bench_op_run(struct bench *b, enum bench_kind kind);
int bench_batch_run(struct bench *b, enum bench_kind kind);
int bench_mixed_run(struct bench *b, enum bench_kind kind);
int bench_open_run(struct bench *b, enum bench_kind kind);
int bench_attach_run(struct bench *b, enum bench_kind kind);
int bench_catalog_run(struct bench *b, enum bench_kind kind);
int bench_log_run(struct bench *b, enum bench_kind kind);
int bench_index_run(struct bench *b, enum bench_kind kind);
int bench_sort_run(struct bench *b, enum bench_kind kind);
