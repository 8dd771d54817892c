/* SPDX-License-Identifier: Apache-2.0 */
/*
 * output: a file of long-term storage. It is written under a name of this run alone
 * and appears under its own when it is whole, so that functions may be killed, run
 * again, or run twice at once, and the file is right whoever was last.
 *
 * No fsync: the job's promise is about its functions, not about the machine.
 */
#pragma once

#include "piece.h"
#include "problem.h"

struct output {
	struct sink sink;
	uint64_t written;

	/* output.c's own. */
	struct problem *problem; /* not ours */
	int fd;
	char *path, *temporary;
};

int output_open(struct output *o, const char *path, struct problem *problem);
int output_commit(struct output *o);

/* Removes what was not committed. */
void output_fini(struct output *o);
