/* SPDX-License-Identifier: Apache-2.0 */
/*
 * platform: runs a function there with this input. One file per platform; the driver
 * knows none of them.
 *
 * A run is the caller's, and is the platform's between start() and the wait() that
 * returns it. A run that ended without a reply has failed, and was perhaps done all the
 * same: functions are written so that they can run again.
 */
#pragma once

#include "problem.h"

#include <stddef.h>
#include <stdint.h>

struct platform_run {
	const char *input; /* a line of JSON with its newline; not ours */
	uint64_t due_ns;   /* then it is ended by force */

	/* Of a run that has ended. */
	int r;                               /* 0: there is a reply; -ETIMEDOUT; -ECHILD: it died */
	char *output;                        /* the reply, a line of JSON; owned */
	char log[2048];                      /* the end of what it logged */
	uint64_t start_ns, ready_ns, end_ns; /* asked for; up and reading; replied. 0: never */
};

struct platform {
	const struct platform_ops *ops;
};

struct platform_ops {
	int (*start)(struct platform *p, struct platform_run *run);

	/* 1: a run ended; 0: due, or a signal came, and the caller looks round. */
	int (*wait)(struct platform *p, uint64_t due_ns, struct platform_run **ret);

	/* As if it had died by itself: wait() returns it. */
	void (*kill)(struct platform *p, struct platform_run *run);

	/* Ends all that still run; none of them is returned, and none is touched again. */
	void (*abandon)(struct platform *p);

	/* Nothing runs any more. */
	void (*close)(struct platform *p);
};

struct platform_config {
	const char *program;    /* wadi-sort-fn */
	size_t function_memory; /* enforced where the platform can */
	size_t parallel;        /* runs at once, at most */
};

/* Processes of this machine. Signals that are blocked in the caller can come during wait(). */
int platform_process_open(const struct platform_config *config, struct problem *problem,
			  struct platform **ret);

/* Threads of this process, which the store `memory:` is made for: no memory limit, no force. */
int platform_thread_open(const struct platform_config *config, struct problem *problem,
			 struct platform **ret);
