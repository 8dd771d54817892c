/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <wadi/wadi.h>

#include "cli/terminal.h"

int client_check(const struct invocation *in)
{
	const char *endpoint = *(const char *const *)options_value(&in->options, "endpoint");

	if (!endpoint || strncmp(endpoint, "tcp://", 6) == 0 ||
	    strncmp(endpoint, "unix://", 7) == 0 || strncmp(endpoint, "direct://", 9) == 0)
		return EXIT_DONE;
	if (endpoint[0] == '/')
		return fail_usage(in, "'%.200s' is not an endpoint; did you mean unix://%.200s?",
				  endpoint, endpoint);
	if (!strstr(endpoint, "://"))
		return fail_usage(in, "'%.200s' is not an endpoint; did you mean tcp://%.200s?",
				  endpoint, endpoint);
	return fail_usage(in,
			  "'%.200s' is not an endpoint; type tcp://HOST:PORT, unix:///PATH, or "
			  "direct://HOST:PORT of metadata",
			  endpoint);
}

int client_open(const struct invocation *in, struct wadi **ret)
{
	struct wadi_options options = WADI_OPTIONS;
	int r;

	options.endpoint = *(const char *const *)options_value(&in->options, "endpoint");
	options.token = *(const char *const *)options_value(&in->options, "token");
	options.timeout_ms = (uint32_t) * (const uint64_t *)options_value(&in->options, "timeout");
	r = client_check(in);
	if (r)
		return r;
	r = wadi_open(&options, ret);
	if (r == -EHOSTUNREACH && !options.endpoint) {
		/* Who has just begun has not started one, or not said where it is. */
		fprintf(stderr,
			"wadi: %s: UNREACHABLE: nobody answers at tcp://127.0.0.1:4870; `wadi dev` "
			"starts a store, and WADI_ENDPOINT says where another is\n",
			in->command->name);
		return EXIT_UNREACHABLE;
	}
	return r < 0 ? fail_about(in, *ret, NULL, r) : EXIT_DONE;
}

void client_close(struct wadi **w)
{
	wadi_close(*w);
	*w = NULL;
}

const char *path_shown(const struct wadi *w, const char *path, char *buf)
{
	const char *job = w && path[0] != '/' ? wadi_job_name(w) : NULL;
	size_t n = 0;

	if (job)
		n = (size_t)snprintf(buf, PATH_TEXT_MAX, "/%s/", job);
	name_safe(path, strlen(path), buf + n, PATH_TEXT_MAX - n);
	return buf;
}

bool path_join(const char *directory, const char *name, char *buf)
{
	size_t len = strlen(directory);
	bool has_slash = len == 0 || directory[len - 1] == '/';
	int n = snprintf(buf, PATH_TEXT_MAX, "%s%s%s", directory, has_slash ? "" : "/", name);

	return n >= 0 && n < PATH_TEXT_MAX;
}

/* The handle's words are "get x: NOTFOUND: there is ...": what is behind the name. */
static const char *why_of(const struct wadi *w, int r)
{
	const char *words = w ? wadi_strerror(w) : strerror(-r), *at;
	char mark[40];

	snprintf(mark, sizeof(mark), ": %s: ", wadi_status_name(r));
	at = strstr(words, mark);
	return at ? at + strlen(mark) : words;
}

int fail_about(const struct invocation *in, const struct wadi *w, const char *about, int r)
{
	const char *why = why_of(w, r);
	char safe[2048];

	fprintf(stderr, "wadi: %s", in->command->name);
	if (about)
		fprintf(stderr, " %s", name_safe(about, strlen(about), safe, sizeof(safe)));
	fprintf(stderr, ": %s: %s\n", wadi_status_name(r),
		name_safe(why, strlen(why), safe, sizeof(safe)));
	return exit_code_of(r);
}

int fail_status(const struct invocation *in, const struct wadi *w, const char *path, int r)
{
	const char *why = why_of(w, r);
	char shown[PATH_TEXT_MAX], safe[2048];

	fprintf(stderr, "wadi: %s %s: %s: %s\n", in->command->name, path_shown(w, path, shown),
		wadi_status_name(r), name_safe(why, strlen(why), safe, sizeof(safe)));
	return exit_code_of(r);
}
