/* SPDX-License-Identifier: Apache-2.0 */
/*
 * words: the nearest valid word to what somebody typed.
 *
 * Near is: at most a third of the longer word's letters left out, added, changed or
 * swapped with their neighbor, whatever their case; or the beginning of exactly one.
 *
 *	struct nearest n = nearest_begin("--memroy");
 *	nearest_try(&n, "--memory");
 *	nearest_try(&n, "--listen");
 *	nearest_end(&n)                    "--memory"
 */
#pragma once

#include <stdbool.h>

struct nearest {
	const char *word, *best, *longer; /* not ours */
	unsigned best_distance;
	bool is_longer_unique;
};

struct nearest nearest_begin(const char *word);
void nearest_try(struct nearest *n, const char *valid); /* stays until the end */
const char *nearest_end(const struct nearest *n);       /* NULL: none is near */
