/* SPDX-License-Identifier: Apache-2.0 */
/*
 * problem: what went wrong, in a sentence for whoever started the job.
 *
 * Errors are negative errno values everywhere; a problem goes beside them, is
 * written where most is known, and is printed once. The first sentence stays: what
 * fails later, on the way out, is a consequence.
 */
#pragma once

#include <stdbool.h>

#define PROBLEM_MAX 1024 /* bytes; room for two paths that are not absurd */

struct problem {
	char text[PROBLEM_MAX];
	bool is_final; /* to try again would end the same way: the input or the request is bad */
};

/* Both return `r`, so that a failure is one line. */
int problem_set(struct problem *p, int r, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int problem_set_final(struct problem *p, int r, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
