/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve: a function behind HTTP/1.1, as Knative, Cloud Run and Azure's custom handlers call
 * it. One thread for all connections; one for each run at a time.
 *
 *	POST, any path         a run; what is in the body says event.h
 *	GET, HEAD              200: it is up, as health checks ask
 *	GET /robots.txt, /favicon.ico     404, as the Functions Framework answers
 *
 * Where all places for runs are taken: 429. A connection that is idle goes if another one
 * needs its place, else after WEB_IDLE_S. SIGTERM: what runs is run to its end and answered,
 * and nothing else is taken.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* A platform before us keeps connections of its own: these are enough for it and its probes. */
#define SERVE_CONNS_MAX 64

/* The most places for runs: each has a thread, and a connection whose caller waits. */
#define SERVE_RUNS_MAX 32

/* One run at a time: from the request, a line of JSON, to the reply, likewise, to be freed. */
struct serve_function {
	char *(*run)(struct serve_function *f, const char *line, size_t len);
};

struct serve_config {
	const char *address; /* ADDR:PORT, :PORT; NULL: as the environment of the platform says */
	struct serve_function **functions; /* one for each run at a time; not ours */
	size_t function_count;             /* at most SERVE_RUNS_MAX */
	bool is_action;                    /* of OpenWhisk's: POST /init, then POST /run */
};

/* Until SIGTERM or SIGINT; prints where it listens first. The exit status of a program. */
int serve(const struct serve_config *config);
