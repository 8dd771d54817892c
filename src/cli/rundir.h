/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rundir: where a server's sockets are: $XDG_RUNTIME_DIR/wadi-PORT, else
 * /tmp/wadi-UID-PORT; mode 0700, locked, so that one server has it at a time.
 */
#pragma once

#include <stdint.h>

/* A socket in it has room in a sockaddr_un. */
#define RUNDIR_PATH_MAX 80

struct rundir {
	char path[RUNDIR_PATH_MAX];
	int lock_fd; /* -1: none is open */
};

/* Told on stderr: why not. -EBUSY: another server has it. */
int rundir_open(struct rundir *d, uint16_t port);
/* Removes it; fine if not open. */
void rundir_close(struct rundir *d);
