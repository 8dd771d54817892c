/* SPDX-License-Identifier: Apache-2.0 */
/*
 * get DIR/ and get -r: what is in a directory, one after the other, or as files.
 *
 * An object's name may be anything, a file's may not: what would leave the directory or
 * has no name there is told and left out.
 */
#include "cli/get.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "cli/cli.h"
#include "cli/terminal.h"

static int fail_long(const struct get *g, const char *name)
{
	return fail_local(g->in, "cannot get", name, -ENAMETOOLONG);
}

int get_children(struct get *g, const char *directory, int fd, const char *name)
{
	struct wadi_list_options options = WADI_LIST_OPTIONS;
	struct wadi_list_entry entry;
	struct wadi_list *list;
	unsigned left_out = 0;
	char path[PATH_TEXT_MAX];
	int code = EXIT_DONE, r = 0;

	if (g->options.wait_ms)
		r = wadi_wait_count(g->w, directory, 1, g->options.wait_ms, NULL);
	if (r == 0)
		r = wadi_list_open(g->w, directory, &options, &list);
	if (r < 0)
		return fail_status(g->in, g->w, directory, r);
	while (!code && (r = wadi_list_next(list, &entry)) > 0) {
		if (entry.stat.is_directory) {
			left_out++;
			continue;
		}
		code = path_join(directory, entry.name, path) ? get_stream(g, path, fd, name)
							      : fail_long(g, entry.name);
	}
	if (r < 0)
		code = fail_status(g->in, g->w, directory, r);
	wadi_list_close(&list);
	if (!code && left_out) {
		fail_usage(
			g->in,
			"%s: left out %u director%s in it; `wadi get -r` has all that lies below",
			directory, left_out, left_out == 1 ? "y" : "ies");
		code = EXIT_REFUSED;
	}
	return code;
}

/* Not empty, no "." and "..", no "//": a name that stays below, and is one. */
static bool is_file_name(const char *name)
{
	for (;;) {
		size_t len = strcspn(name, "/");

		if (len == 0 || len > 255 ||
		    (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.'))))
			return false;
		if (!name[len])
			return true;
		name += len + 1;
	}
}

/* The directories of a file, from `below` on, which is behind the root. */
static int make_parents(char *file, size_t below)
{
	for (char *p = file + below; (p = strchr(p, '/')); p++) {
		int r;

		*p = '\0';
		r = mkdir(file, 0777) < 0 && errno != EEXIST ? -errno : 0;
		*p = '/';
		if (r < 0)
			return r;
	}
	return 0;
}

static int get_one(struct get *g, const char *root, const char *from, const char *name)
{
	char path[PATH_TEXT_MAX], file[PATH_TEXT_MAX + 4096];
	int r;

	if (!is_file_name(name)) {
		fail_usage(g->in, "left out '%.1000s': no name for a file", name);
		return EXIT_REFUSED;
	}
	if (!path_join(from, name, path))
		return fail_long(g, name);
	snprintf(file, sizeof(file), "%s/%s", root, name);
	r = make_parents(file, strlen(root) + 1);
	if (r < 0)
		return fail_local(g->in, "cannot make the directory of", file, r);
	return get_file(g, path, file);
}

/* `root` and what is above it. */
static int make_root(const struct invocation *in, const char *root)
{
	char *copy = strdup(root);
	int r;

	if (!copy)
		return fail_local(in, "cannot make", root, -ENOMEM);
	r = make_parents(copy, 1);
	free(copy);
	if (r == 0 && mkdir(root, 0777) < 0 && errno != EEXIST)
		r = -errno;
	return r < 0 ? fail_local(in, "cannot make", root, r) : EXIT_DONE;
}

int get_tree(struct get *g, const char *path, const char *root)
{
	struct wadi_list_options options = WADI_LIST_OPTIONS;
	struct wadi_list_entry entry;
	struct wadi_list *list;
	char from[PATH_TEXT_MAX];
	int code, one, r;
	bool is_over;

	if (strlen(root) >= 4000)
		return fail_local(g->in, "cannot make", root, -ENAMETOOLONG);
	if (!path_join(path, "", from))
		return fail_long(g, path);
	options.is_recursive = true;
	r = wadi_list_open(g->w, from, &options, &list);
	if (r < 0)
		return fail_status(g->in, g->w, from, r);
	code = make_root(g->in, root);
	is_over = code != EXIT_DONE;
	/* What cannot be had is told and left out; where nobody answers, nothing can be had. */
	while (!is_over && (r = wadi_list_next(list, &entry)) > 0) {
		one = get_one(g, root, from, entry.name);
		is_over = exit_is_silence(one);
		code = code && !is_over ? code : one;
	}
	if (r < 0)
		code = fail_status(g->in, g->w, from, r);
	wadi_list_close(&list);
	return code;
}
