/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stat, rm, mv, wait: one object, without its bytes.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wadi/wadi.h>

#include "base/quantity.h"
#include "cli/show.h"
#include "cli/terminal.h"

static bool ends_in_slash(const char *path)
{
	size_t len = strlen(path);

	return len && path[len - 1] == '/';
}

static void put_stat(const struct wadi *w, const char *path, const struct wadi_stat *s)
{
	char shown[PATH_TEXT_MAX], text[QUANTITY_TEXT_MAX];

	printf("path        %s\n", path_shown(w, path, shown));
	if (s->is_directory) {
		printf("directory   with %llu objects directly in it\n",
		       (unsigned long long)s->len);
		return;
	}
	printf("length      %llu byte%s", (unsigned long long)s->len, s->len == 1 ? "" : "s");
	printf(s->len < 1024 ? "\n" : " (%s)\n", bytes_rough(s->len, text));
	printf("version     %llu\n", (unsigned long long)s->version);
	printf("object      %016llx\n", (unsigned long long)s->object);
	printf("age         %s\n", duration_rough(s->age_ms, text));
	printf("ttl left    %s\n", s->ttl_left_ms == UINT64_MAX
					   ? "none; it goes with its job"
					   : duration_rough(s->ttl_left_ms, text));
	if (s->reads_left == UINT32_MAX)
		printf("reads left  any number\n");
	else
		printf("reads left  %u\n", s->reads_left);
	printf("tier        %s\n", tier_name(s->tier));
	if (s->extent_count)
		printf("extents     %u\n", s->extent_count);
	else
		printf("extents     none; a small value, kept with its name\n");
	if (s->attributes_len)
		printf("attributes  %u bytes; --json shows them\n", s->attributes_len);
}

int command_stat(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	CLEANUP(client_close) struct wadi *w = NULL;
	struct show_options o;
	struct wadi_stat s;
	int code, r;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	code = client_open(&in, &w);
	if (code)
		return code;
	r = wadi_stat(w, in.words[0], &s);
	if (r < 0)
		return fail_status(&in, w, in.words[0], r);
	if (o.json) {
		struct json j = json_begin(stdout);

		json_word(&j, "path", in.words[0]);
		stat_json(&j, &s);
		json_end(&j);
	} else {
		put_stat(w, in.words[0], &s);
	}
	return EXIT_DONE;
}

/* What there is at PATH may be a directory: then what to type instead is told. */
static int fail_missing(const struct invocation *in, struct wadi *w, const char *path, int r,
			const char *instead)
{
	char shown[PATH_TEXT_MAX];
	struct wadi_stat s;

	if (r != -ENOENT || wadi_stat(w, path, &s) < 0 || !s.is_directory)
		return fail_status(in, w, path, r);
	fprintf(stderr, "wadi: %s %s: DIRECTORY: the path names a directory; %s\n",
		in->command->name, path_shown(w, path, shown), instead);
	return EXIT_REFUSED;
}

/* What lies below, then the object of that name itself; one of them must have been there. */
static int remove_all(struct wadi *w, const char *path)
{
	uint64_t count = 0;
	int r = wadi_remove_tree(w, path, &count);

	if (r == -ENOENT)
		r = 0;
	if (r < 0 || ends_in_slash(path))
		return r < 0 ? r : count ? 0 : -ENOENT;
	r = wadi_remove(w, path, 0);
	return r == -ENOENT && count ? 0 : r;
}

int command_rm(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	CLEANUP(client_close) struct wadi *w = NULL;
	struct rm_options o;
	int code;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	if (o.if_version && (o.recursive || in.word_count > 1))
		return fail_usage(&in, "--if-version is of one object; type one PATH, without -r");
	for (int i = 0; i < in.word_count; i++)
		if (!o.recursive && ends_in_slash(in.words[i]))
			return fail_usage(&in, "'%.200s' is a directory; did you mean wadi rm -r?",
					  in.words[i]);
	code = client_open(&in, &w);
	if (code)
		return code;
	for (int i = 0; i < in.word_count; i++) {
		const char *path = in.words[i];
		int r = o.recursive ? remove_all(w, path) : wadi_remove(w, path, o.if_version);

		if (r < 0) {
			int one = fail_missing(&in, w, path, r,
					       "`wadi rm -r` removes all that is in it");

			code = code ? code : one;
		}
	}
	return code;
}

int command_mv(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	CLEANUP(client_close) struct wadi *w = NULL;
	struct mv_options o;
	char to[PATH_TEXT_MAX];
	const char *base;
	int code, r;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	if (ends_in_slash(in.words[0]))
		return fail_usage(&in, "'%.200s' is a directory; mv moves one object", in.words[0]);
	base = strrchr(in.words[0], '/');
	base = base ? base + 1 : in.words[0];
	if (!ends_in_slash(in.words[1]))
		base = NULL; /* the new path is whole */
	else if (!path_join(in.words[1], base, to))
		return fail_local(&in, "cannot move to", in.words[1], -ENAMETOOLONG);
	code = client_open(&in, &w);
	if (code)
		return code;
	r = wadi_rename(w, in.words[0], base ? to : in.words[1], o.create ? WADI_CREATE : 0, NULL);
	return r < 0 ? fail_missing(&in, w, in.words[0], r, "mv moves one object") : EXIT_DONE;
}

int command_wait(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	CLEANUP(client_close) struct wadi *w = NULL;
	struct wait_options o;
	struct wadi_stat s;
	uint64_t count;
	int code, r;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	if (!o.count && ends_in_slash(in.words[0]))
		return fail_usage(
			&in,
			"'%.200s' is a directory; type --count N, how many objects to wait for",
			in.words[0]);
	code = client_open(&in, &w);
	if (code)
		return code;
	if (o.count)
		r = wadi_wait_count(w, in.words[0], o.count, (uint32_t)o.timeout, &count);
	else
		r = wadi_wait(w, in.words[0], (uint32_t)o.timeout, &s);
	return r < 0 ? fail_status(&in, w, in.words[0], r) : EXIT_DONE;
}
