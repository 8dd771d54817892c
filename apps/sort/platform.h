/* SPDX-License-Identifier: Apache-2.0 */
/*
 * platform: runs a function there with this input. One file per platform; the driver
 * knows none of them.
 *
 * A run is the caller's, and is the platform's between start() and the wait() that
 * returns it. A run that ended without a reply has failed, and was perhaps done all the
 * same: functions are written so that they can run again. One that was refused was not
 * done; the platform had no room for it, and says why in its log. To run it again, that
 * one or another, is up to the caller.
 *
 *	process    each run is a process of this machine
 *	openwhisk  each run is an activation (openwhisk.h has the words)
 *	lambda     each run is an invocation (lambda.h)
 *	http       each run is a POST to a function behind HTTP (platform_http.c)
 *	thread     each run is a thread of this process, for measuring; only the store
 *	           `memory:` is for it
 */
#pragma once

#include "problem.h"

#include <stddef.h>
#include <stdint.h>

struct platform_run {
	const char *input; /* a line of JSON with its newline; not ours */
	uint64_t due_ns;   /* then it is ended by force */

	/* Of a run that has ended. */
	int r; /* 0: there is a reply; -ETIMEDOUT; -ECHILD: it died; -EAGAIN: refused; else final */
	char *output;              /* the reply, a line of JSON; owned */
	char log[2048];            /* the end of what it logged, or what the platform said */
	uint64_t start_ns, end_ns; /* asked for; replied. 0: never */
	uint64_t init_ns;          /* to make the instance that ran it; 0: nobody told */
	uint64_t again_ns;         /* not a success: not to be asked again before; 0: nobody told */
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
	const char *url;        /* which platform, and where */
	const char *program;    /* wadi-sort-fn */
	const char *bundle;     /* the same with all that it needs, for other machines: a zip */
	size_t function_memory; /* enforced where the platform can */
	size_t parallel;        /* runs at once, at most */
	uint64_t timeout_ms;    /* of a run, where the platform can */
	const char *auth, *auth_file; /* as the user gave them; NULL */
};

int platform_open(const struct platform_config *config, struct problem *problem,
		  struct platform **ret);

/* options.def has the words; this is what may stand behind them. */
int platform_check(const char *url, struct problem *problem);

/* The word for it in a report: `url` up to the length. */
const char *platform_kind(const char *url, size_t *ret_len);

/* Who we are there: from the file, the option, or the environment's `name`. */
int platform_auth(const struct platform_config *config, const char *name, char *ret, size_t cap,
		  struct problem *problem);

/* Signals that are blocked in the caller can come during wait(). */
int platform_process_open(const struct platform_config *config, struct problem *problem,
			  struct platform **ret);

/* No memory limit, no force. */
int platform_thread_open(const struct platform_config *config, struct problem *problem,
			 struct platform **ret);

int platform_openwhisk_open(const struct platform_config *config, struct problem *problem,
			    struct platform **ret);

int platform_lambda_open(const struct platform_config *config, struct problem *problem,
			 struct platform **ret);

int platform_http_check(const char *url, struct problem *problem);
int platform_http_open(const struct platform_config *config, struct problem *problem,
		       struct platform **ret);
