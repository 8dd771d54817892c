/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fds: descriptors on their way through a stream, one way; ours until they are sent, or taken.
 */
#pragma once

#include "loop/stream.h"

struct fds {
	int fd[STREAM_FDS_MAX];
	unsigned count;
};

void fds_close(struct fds *f);
/* Copies of the caller's, into one that has none. On failure, of -EMFILE and the like, none again.
 */
int fds_copy(struct fds *f, const int *fds, unsigned count);
/* The first ones are the caller's now: how many. */
unsigned fds_take(struct fds *f, int *fds, unsigned cap);
