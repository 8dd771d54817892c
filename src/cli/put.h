/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put: what the put of one file and that of a tree have in common.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <wadi/wadi.h>

#include "cli/progress.h"

struct invocation;

/* What is not longer goes in one call. */
#define PUT_SMALL (1 << 20)

struct put {
	const struct invocation *in;
	struct wadi *w;
	struct wadi_put_options options;
	char *buf; /* PUT_SMALL + 1 bytes */
	bool is_json;
	struct progress progress;
	uint64_t len, version; /* of the last one */
};

/* Exit codes. `name` is for messages. */
int put_stream(struct put *p, int fd, const char *name, const char *path);
int put_file(struct put *p, const char *file, const char *path);
int put_tree(struct put *p, const char *directory, const char *path);

/* Up to `len` bytes, fewer only at the end; or a negative errno. */
ssize_t read_full(int fd, void *buf, size_t len);
