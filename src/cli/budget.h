/* SPDX-License-Identifier: Apache-2.0 */
/*
 * budget: all memory of a process within --memory. What is not the pool's (catalogs, log,
 * small values, buffers) is measured ten times a second, and what it needs beyond its
 * share is lent by the pool. When the pool has nothing to lend, nothing new is
 * accepted until something is given back: `is_full`.
 */
#pragma once

#include <stdatomic.h>

#include "loop/loop.h"

struct store;

struct budget {
	atomic_bool is_full; /* shards of other loops look at it */

	/* budget.c's own. */
	struct loop *loop;
	struct store *store; /* NULL: there is no pool */
	uint64_t memory_bytes, share_bytes;
	struct timer timer;
	int fd;
	bool is_told;
	uint64_t trim_ns;                /* when free pages may be given back again */
	uint64_t cpu_ns, trimmed_cpu_ns; /* CPU time: at the last look, when they were */
	uint64_t busy_ns;                /* when the last look found that there was work */
};

/* share_bytes: of memory_bytes, what is not the pool's limit. */
int budget_open(struct budget *b, struct loop *l, struct store *store, uint64_t memory_bytes,
		uint64_t share_bytes);
/* Fine if it was not opened, and zeroed. */
void budget_close(struct budget *b);
