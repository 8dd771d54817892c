/* SPDX-License-Identifier: Apache-2.0 */
/*
 * first: the first object that a fresh process gets, as a function does that its platform has
 * just started. The process is this program once more, which does nothing else.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct first {
	const char *program; /* wadi */
	const char *endpoint, *token;
	const char *key;
	size_t len;
};

struct first_times {
	uint64_t open_ns;  /* from before wadi_open() until the object is there */
	uint64_t start_ns; /* from before the process was made */
};

/* Starts it on this thread's cores. A negative errno if it did not get the object. */
int first_run(const struct first *f, struct first_times *ret);
/* What it does: prints what first_run() reads. Its exit code. */
int first_main(const char *key, size_t len);
