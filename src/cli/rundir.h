/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rundir: where a server's sockets are: $XDG_RUNTIME_DIR/wadi-PORT, else
 * /tmp/wadi-UID-PORT; mode 0700, locked, so that one server has it at a time.
 */
#pragma once

#include <stdbool.h>

/* A socket in it has room in a sockaddr_un. */
#define RUNDIR_PATH_MAX 80

struct rundir {
	char path[RUNDIR_PATH_MAX];
	int lock_fd; /* -1: none is open */
};

/* Of this number: a port, or what is none. Told on stderr: why not. -EBUSY: another server has it.
 */
int rundir_open(struct rundir *d, unsigned number);
/* One that a predecessor had, if it is there still: else -ENOENT, and nothing is told. */
int rundir_open_again(struct rundir *d, const char *path);
/* Removes it; fine if not open. */
void rundir_close(struct rundir *d);
/* Leaves it, and what is in it, to a successor. */
void rundir_leave(struct rundir *d);
