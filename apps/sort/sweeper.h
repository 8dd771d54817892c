/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sweeper: a process that removes directories of ours once we are gone, however we went.
 *
 * It waits for the end of a pipe that only we can write to, and which tells it the
 * names: so nothing needs to be done for it to notice a kill -9. It leaves our session,
 * lest it dies of what we die of, and has none of our other files open.
 *
 * What it does not: it is no match for whoever kills it as well, or for the power.
 */
#pragma once

#include <sys/types.h>

struct sweeper {
	pid_t pid; /* 0: there is none */
	int fd;
};

int sweeper_start(struct sweeper *s);

/* To be removed, with all that is in it, at the end. */
int sweeper_add(struct sweeper *s, const char *path);

/* Now is the end. Returns when all is gone, or cannot be removed. */
void sweeper_end(struct sweeper *s);
