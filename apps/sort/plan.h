/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan: the files of the input, and how they are cut into shares.
 *
 * The files count as one stream; a share is an equal part of its bytes, and so a list
 * of ranges of files. Records are never cut. Lines are, and input.h says whose they are.
 */
#pragma once

#include "options.h"

struct plan_file {
	char *path; /* owned */
	uint64_t len;
};

struct plan {
	enum format format;
	struct plan_file *files; /* owned */
	size_t count;
	uint64_t len; /* of all */
};

/* Looks at each path; a directory stands for the files in it, in order of their names. */
int plan_input(struct plan *p, const struct paths *paths, struct problem *problem);
int plan_add(struct plan *p, const char *path, uint64_t len);
void plan_fini(struct plan *p);

/* Share `index` of `count`, as requests have it: [[path, offset, length], ...]; NULL: no memory. */
json_t *plan_share(const struct plan *p, uint32_t index, uint32_t count);
