/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sort over Wadi and over others is a program of its own (bench/sort), for it is about
 * the time of whole functions: it is found and run, and prints for itself.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/cell.h"

/* Beside the program, as installed; or in the sources, of which it was built. */
static const char *const PLACES[] = { "../libexec/wadi/bench-sort", "../../../bench/sort" };

static bool find(const struct bench *b, char *path, size_t cap)
{
	const char *slash = strrchr(b->program, '/');
	int len = slash ? (int)(slash + 1 - b->program) : 0;

	for (size_t i = 0; i < sizeof(PLACES) / sizeof(PLACES[0]); i++) {
		snprintf(path, cap, "%.*s%s", len, b->program, PLACES[i]);
		if (access(path, X_OK) == 0)
			return true;
	}
	return false;
}

static void run(const struct bench *b, const char *path)
{
	const char *argv[12] = { path, "--pairs" };
	unsigned n = 2;
	char pairs[16], build[4096];

	snprintf(pairs, sizeof(pairs), "%u", b->pairs);
	argv[n++] = pairs;
	if (b->is_json)
		argv[n++] = "--json";
	argv[n++] = bench_attach_name(b->attach);
	if (b->peers & 1u << BENCH_REDIS)
		argv[n++] = "redis";
	if (b->peers & 1u << BENCH_DIR)
		argv[n++] = "dir";
	/* The build that we are of, if it is not installed. */
	snprintf(build, sizeof(build), "%s", b->program);
	for (unsigned up = 0; up < 3 && strrchr(build, '/'); up++)
		*strrchr(build, '/') = '\0';
	setenv("WADI_BUILD", build, 1);
	execv(path, (char *const *)argv);
	_exit(127);
}

int bench_sort_run(struct bench *b, enum bench_kind kind)
{
	char path[4200];
	int status = 0;
	pid_t child;

	(void)kind;
	if (!find(b, path, sizeof(path)))
		return bench_fail(b, -ENOENT, "there is no bench-sort beside this program");
	fflush(stdout);
	child = fork();
	if (child == 0)
		run(b, path);
	if (child < 0)
		return bench_fail(b, -errno, "cannot run %s", path);
	while (waitpid(child, &status, 0) < 0)
		; /* a signal, of which it is told as well */
	if (bench_is_interrupted())
		return -ECANCELED;
	return status ? bench_fail(b, -EIO, "%s has failed", path) : 0;
}
