/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify: from what the validators say of the parts to what holds for the whole.
 */
#pragma once

#include "request.h"

/* What went in, or what came out. */
struct tally {
	uint64_t count;
	u128 sum;
};

void tally_add(struct tally *t, const json_t *reply);

struct part {
	const char *path;    /* not ours */
	const json_t *reply; /* of its validator; not ours */
};

/*
 * The parts in order hold what went in, and no key in one is above the first of the
 * next. Adds keys that are equal across parts to *duplicates.
 */
int verify_parts(const struct part *parts, size_t count, struct tally in, uint64_t *duplicates,
		 struct problem *problem);
