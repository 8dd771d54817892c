/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server: one process of a store that a sort has for itself, as a child. It ends by SIGTERM
 * when it is closed, and when the driver dies, however that happens.
 */
#pragma once

#include <sys/types.h>

#include "problem.h"

#define ENDPOINT_MAX 256

struct server {
	char tcp[ENDPOINT_MAX], local[ENDPOINT_MAX]; /* endpoints; "" if it has none */

	/* server.c's own. */
	pid_t pid; /* 0: not started */
	int out_fd;
};

/* `argv` as its main() has it. Returns when it is ready. */
int server_open(struct server *s, const char *program, const char *const argv[],
		struct problem *problem);
void server_close(struct server *s); /* fine if it was not opened */
