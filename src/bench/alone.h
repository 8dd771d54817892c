/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alone: a part of the server in this process, without sockets: its calls, one after the
 * other, as fast as they go. They are timed 64 at a time, since one is little longer than
 * a look at the clock.
 */
#pragma once

#include "bench/bench.h"
#include "bench/histogram.h"

#define ALONE_CALLS 64
/* From one number to the next: a prime, so that neighbors in time are none in the names. */
#define ALONE_STEP 7919

struct alone {
	struct bench *b; /* not ours */
	enum bench_kind kind;
	uint64_t size, moved; /* of an object, and of its bytes by a call */
	/* 0, or a negative errno, which ends it. */
	int (*call)(struct alone *a, uint64_t n);

	struct histogram latency;
	uint64_t calls, busy_ns, cpu_ns;
};

/* Calls with numbers below `names` (no multiple of ALONE_STEP), all over them, until `count` are
 * done or `ns` is over. */
int alone_run(struct alone *a, uint64_t names, uint64_t count, uint64_t ns);
/* A row of what was measured last. */
void alone_give(struct alone *a, const char *op, double object_bytes);
