/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench: what `wadi bench` makes of the rows that it is given: lines of JSON, a table for
 * eyes, a picture.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "bench/bench.h"

void bench_json(FILE *f, const struct bench_row *row);

/* What a row stands for beside others of its cell: a system, or a way to attach. */
const char *bench_label(const struct bench_row *row);

/* A line of its own for each cell, before the rows of it. */
struct bench_table {
	FILE *f;
	struct bench_row last; /* of the cell that is open; pairs == 0 and bench NULL: none */
};
void bench_table_row(struct bench_table *t, const struct bench_row *row, unsigned pairs);

#define BENCH_ROWS_MAX 4096
struct bench_plot {
	struct bench_row *rows; /* BENCH_ROWS_MAX */
	unsigned count;
};
/* Latency by size, throughput by size, and throughput by clients, of each operation that has
 * more than one of them. 0 or a negative errno. */
int bench_plot_write(const struct bench_plot *p, const char *path);
