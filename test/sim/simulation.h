/* SPDX-License-Identifier: Apache-2.0 */
/*
 * simulation: one seed from its beginning to its end: a cluster, a workload, faults, and
 * a model that says whether all went as promised.
 */
#pragma once

#include "fault.h"

struct outcome_of {
	char failure[600]; /* "": none */
	char faults[4096]; /* as a list */
	char shape[200];   /* who runs where, and what they do, in words */
	uint64_t fingerprint, ops, gets, puts, checks, end_ms;
};

/* `faults` NULL: those of the seed. */
void simulate(uint64_t seed, const char *faults, struct outcome_of *ret);
void faults_of_seed(uint64_t seed, char *buf, size_t cap);
