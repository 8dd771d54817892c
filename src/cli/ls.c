/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wadi/wadi.h>

#include "base/quantity.h"
#include "cli/json.h"
#include "cli/show.h"
#include "cli/terminal.h"

struct ls {
	const struct invocation *in;
	struct wadi *w;
	const struct ls_options *options;
};

static void put_heading(void)
{
	if (terminal_is(stdout))
		printf("%12s  %-7s %-8s %5s %-5s %s\n", "LENGTH", "AGE", "TTL LEFT", "READS",
		       "TIER", "NAME");
}

/* The columns of -l; the name comes behind them, because it may be anything. */
static void put_details(const struct wadi_stat *s)
{
	char age[QUANTITY_TEXT_MAX], ttl[QUANTITY_TEXT_MAX] = "-", reads[16] = "-";

	if (s->is_directory) {
		printf("%12s  %-7s %-8s %5s %-5s ", "directory", "-", "-", "-", "-");
		return;
	}
	duration_brief(s->age_ms, age);
	if (s->ttl_left_ms != UINT64_MAX)
		duration_brief(s->ttl_left_ms, ttl);
	if (s->reads_left != UINT32_MAX)
		snprintf(reads, sizeof(reads), "%u", s->reads_left);
	printf("%12llu  %-7s %-8s %5s %-5s ", (unsigned long long)s->len, age, ttl, reads,
	       tier_name(s->tier));
}

static void put_entry(const struct ls *ls, const char *name, size_t len, const struct wadi_stat *s)
{
	if (ls->options->json) {
		struct json j = json_begin(stdout);

		json_text(&j, "name", name, len);
		stat_json(&j, s);
		json_end(&j);
		return;
	}
	if (ls->options->details)
		put_details(s);
	name_put(stdout, name, len);
	putchar('\n');
}

/* `ls /`: the jobs that live. */
static int list_jobs(const struct ls *ls)
{
	struct wadi_job_info *jobs;
	size_t count;
	int r = jobs_list(ls->w, &jobs, &count);

	if (r < 0)
		return fail_about(ls->in, ls->w, "/", r);
	for (size_t i = 0; i < count; i++) {
		struct wadi_stat s = { .is_directory = true, .len = jobs[i].object_count };
		char name[WADI_JOB_NAME_MAX + 2];

		if (jobs[i].has_ended)
			continue;
		snprintf(name, sizeof(name), "%s/", jobs[i].name);
		put_entry(ls, name, strlen(name), &s);
	}
	free(jobs);
	return EXIT_DONE;
}

/* Is it the whole job, which is there even if nothing is in it? */
static bool is_job_root(const char *path)
{
	const char *slash;

	if (!*path)
		return true;
	if (path[0] != '/')
		return false;
	slash = strchr(path + 1, '/');
	return !slash || !slash[1];
}

/* Nothing is below it; perhaps it is an object itself, as `ls` of a file is that file. */
static int list_object(const struct ls *ls, const char *path, int r)
{
	size_t len = strlen(path);
	struct wadi_stat s;

	if (is_job_root(path))
		return EXIT_DONE;
	if (path[len - 1] != '/') {
		r = wadi_stat(ls->w, path, &s);
		if (r == 0) {
			put_entry(ls, path, len, &s);
			return EXIT_DONE;
		}
	}
	return fail_status(ls->in, ls->w, path, r);
}

static int list_directory(const struct ls *ls, const char *path)
{
	struct wadi_list_options options = WADI_LIST_OPTIONS;
	struct wadi_list_entry entry;
	struct wadi_list *list = NULL;
	bool is_first = true;
	int r;

	options.is_recursive = ls->options->recursive;
	r = wadi_list_open(ls->w, path, &options, &list);
	while (r >= 0 && (r = wadi_list_next(list, &entry)) > 0) {
		if (is_first && ls->options->details && !ls->options->json)
			put_heading();
		is_first = false;
		put_entry(ls, entry.name, entry.name_len, &entry.stat);
	}
	if (r == -ENOENT || (r == 0 && is_first))
		r = list_object(ls, path, -ENOENT);
	else if (r < 0)
		r = fail_status(ls->in, ls->w, path, r);
	wadi_list_close(&list);
	return r;
}

int command_ls(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	CLEANUP(client_close) struct wadi *w = NULL;
	struct ls_options o;
	struct ls ls = { .in = &in, .options = &o };
	const char *path;
	int code;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	code = client_open(&in, &w);
	if (code)
		return code;
	ls.w = w;
	path = in.word_count ? in.words[0] : "";
	return strcmp(path, "/") == 0 ? list_jobs(&ls) : list_directory(&ls, path);
}
