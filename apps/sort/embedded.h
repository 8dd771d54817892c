/* SPDX-License-Identifier: Apache-2.0 */
/*
 * embedded: a Wadi store for one run of the sort, `wadi dev` as a child. It ends by
 * SIGTERM when it is closed, and when the driver dies, however that happens.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "problem.h"

#define ENDPOINT_MAX 256

struct embedded {
	char tcp[ENDPOINT_MAX], local[ENDPOINT_MAX]; /* endpoints; "" if it has none */

	/* embedded.c's own. */
	pid_t pid; /* 0: not started */
	int out_fd;
};

/* Returns when it is ready. */
int embedded_open(struct embedded *e, const char *program, uint64_t memory,
		  struct problem *problem);
void embedded_close(struct embedded *e);
