/* SPDX-License-Identifier: Apache-2.0 */
/*
 * get: what the get of one object and that of a tree have in common.
 */
#pragma once

#include <stdint.h>
#include <wadi/wadi.h>

#include "cli/progress.h"

struct invocation;

#define GET_PIECE (1 << 20)

struct get {
	const struct invocation *in;
	struct wadi *w;
	struct wadi_get_options options;
	char *buf; /* GET_PIECE bytes */
	struct progress progress;
};

/* Exit codes. */
int get_stream(struct get *g, const char *path, int fd, const char *name);
int get_file(struct get *g, const char *path, const char *file);
int get_children(struct get *g, const char *directory, int fd, const char *name);
int get_tree(struct get *g, const char *path, const char *directory);

/* 0 or a negative errno. */
int write_full(int fd, const void *buf, size_t len);
