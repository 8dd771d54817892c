/* SPDX-License-Identifier: Apache-2.0 */
/*
 * starts: what runs took beyond their functions' own time, and of that for attaching to the
 * store. Cold ones were the first of their instance, the others are warm. Whether a run had to
 * attach is another matter: a warm instance does for a job that it has not seen.
 */
#pragma once

#include <stdint.h>

#include "crew.h"

#define STARTS_MAX ((size_t)5 * FUNCTIONS_MAX) /* one run that succeeded for each function */

struct times {
	size_t count;
	uint64_t ns[STARTS_MAX];
};

/* Those beyond STARTS_MAX are left out. */
void times_add(struct times *t, uint64_t ns);

/* Sorts them; 0: there are none. */
uint64_t times_median_ns(struct times *t);

struct starts {
	struct times beyond; /* a run's time at the driver less that of its function */
	struct times init;   /* to make the instance, where the platform tells */
};

struct starts_all {
	struct starts cold, warm;
	struct times attach;         /* of those that attached afresh */
	uint64_t attached_ns;        /* all of them */
	uint64_t fresh_ns, store_ns; /* what those runs took, and all that have a store */
	uint32_t kept_count;         /* runs that had the store from before */
	uint32_t refused_count; /* runs that the platform had no room for, and which came again */
};

/* A task that has ended; returns what it took beyond its function if it was cold, else 0. */
uint64_t starts_add(struct starts_all *s, const struct task *t);
