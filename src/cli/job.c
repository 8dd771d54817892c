/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job create, ls, show, renew, end, token.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wadi/wadi.h>

#include "base/quantity.h"
#include "base/words.h"
#include "cli/show.h"
#include "cli/terminal.h"

/* "dram=1G". */
static int parse_quota(const struct invocation *in, const char *text, uint64_t *ret)
{
	const char *equals = text ? strchr(text, '=') : NULL;

	if (!text)
		return EXIT_DONE;
	if (!equals || (size_t)(equals - text) != 4 || memcmp(text, "dram", 4) != 0 ||
	    bytes_parse(equals + 1, ret) < 0 || *ret == 0)
		return fail_usage(in,
				  "--quota: '%.100s' is not a tier and a size; type dram=SIZE, as "
				  "dram=1G (dram is the only tier in this build)",
				  text);
	return EXIT_DONE;
}

int command_job_create(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	CLEANUP(client_close) struct wadi *w = NULL;
	struct wadi_job_options options = WADI_JOB_OPTIONS;
	struct job_create_options o;
	char token[WADI_TOKEN_MAX];
	int code, r;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	options.lease_ms = (uint32_t)o.lease;
	options.functions = (uint32_t)o.functions;
	options.peak_mbps = (uint32_t)o.peak_mbps;
	options.capacity = o.capacity;
	options.is_latency_sensitive = o.latency_sensitive;
	options.is_durable = o.durable;
	code = parse_quota(&in, o.quota, &options.quota_dram);
	if (!code)
		code = client_open(&in, &w);
	if (code)
		return code;
	r = wadi_job_create(w, in.words[0], &options, token);
	if (r < 0)
		return fail_about(&in, w, in.words[0], r);
	if (o.json) {
		struct json j = json_begin(stdout);

		json_word(&j, "name", in.words[0]);
		json_word(&j, "token", token);
		json_end(&j);
	} else {
		puts(token);
	}
	return EXIT_DONE;
}

static const char *lease_shown(const struct wadi_job_info *job, char *buf)
{
	if (job->has_ended)
		return job->has_expired ? "expired" : "ended";
	return job->lease_left_ms == UINT64_MAX ? "no end"
						: duration_rough(job->lease_left_ms, buf);
}

int command_job_ls(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	CLEANUP(client_close) struct wadi *w = NULL;
	struct wadi_job_info *jobs;
	struct show_options o;
	size_t count;
	int code, r;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	code = client_open(&in, &w);
	if (code)
		return code;
	r = jobs_list(w, &jobs, &count);
	if (r < 0)
		return fail_about(&in, w, NULL, r);
	if (!o.json && terminal_is(stdout))
		printf("%-12s %9s %10s  %s\n", "LEASE LEFT", "OBJECTS", "HOLDS", "JOB");
	for (size_t i = 0; i < count; i++) {
		char lease[QUANTITY_TEXT_MAX], holds[QUANTITY_TEXT_MAX];

		if (o.json) {
			struct json j = json_begin(stdout);

			job_json(&j, &jobs[i]);
			json_end(&j);
			continue;
		}
		printf("%-12s %9llu %10s  ", lease_shown(&jobs[i], lease),
		       (unsigned long long)jobs[i].object_count,
		       bytes_rough(jobs[i].dram_bytes, holds));
		name_put(stdout, jobs[i].name, strlen(jobs[i].name));
		putchar('\n');
	}
	free(jobs);
	return EXIT_DONE;
}

int command_job_show(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	CLEANUP(client_close) struct wadi *w = NULL;
	struct wadi_job_info job;
	struct show_options o;
	char text[QUANTITY_TEXT_MAX];
	int code, r;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	code = client_open(&in, &w);
	if (code)
		return code;
	r = wadi_job_show(w, in.words[0], &job);
	if (r < 0)
		return fail_about(&in, w, in.words[0], r);
	if (o.json) {
		struct json j = json_begin(stdout);

		job_json(&j, &job);
		json_end(&j);
		return EXIT_DONE;
	}
	printf("job         %s\n", job.name);
	printf("id          %016llx\n", (unsigned long long)job.id);
	printf("lease left  %s\n", lease_shown(&job, text));
	printf("objects     %llu, of %s\n", (unsigned long long)job.object_count,
	       bytes_rough(job.object_bytes, text));
	printf("holds       %s of dram\n", bytes_rough(job.dram_bytes, text));
	printf("quota       %s\n", job.quota_dram ? bytes_rough(job.quota_dram, text) : "none");
	printf("used        %.6f GB s of dram\n",
	       gb_seconds(job.dram_byte_ms_hi, job.dram_byte_ms_lo));
	return EXIT_DONE;
}

int command_job_renew(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	CLEANUP(client_close) struct wadi *w = NULL;
	struct job_renew_options o;
	int code, r;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	code = client_open(&in, &w);
	if (code)
		return code;
	r = wadi_job_renew(w, in.words[0], (uint32_t)o.lease);
	return r < 0 ? fail_about(&in, w, in.words[0], r) : EXIT_DONE;
}

int command_job_end(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	CLEANUP(client_close) struct wadi *w = NULL;
	struct client_options o;
	int code, r;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	code = client_open(&in, &w);
	if (code)
		return code;
	r = wadi_job_end(w, in.words[0]);
	return r < 0 ? fail_about(&in, w, in.words[0], r) : EXIT_DONE;
}

/* Tokens. */

static const struct {
	const char *name;
	uint32_t right;
} RIGHTS[] = {
	{ "read", WADI_RIGHT_READ }, { "write", WADI_RIGHT_WRITE }, { "remove", WADI_RIGHT_REMOVE },
	{ "list", WADI_RIGHT_LIST }, { "job", WADI_RIGHT_JOB },
};
#define RIGHT_COUNT (sizeof(RIGHTS) / sizeof(RIGHTS[0]))

static int parse_right(const struct invocation *in, const char *word, uint32_t *rights)
{
	struct nearest near = nearest_begin(word);

	for (size_t i = 0; i < RIGHT_COUNT; i++) {
		if (strcmp(word, RIGHTS[i].name) == 0) {
			*rights |= RIGHTS[i].right;
			return EXIT_DONE;
		}
		nearest_try(&near, RIGHTS[i].name);
	}
	if (nearest_end(&near))
		return fail_usage(in, "--rights: there is no '%.60s'; did you mean %s?", word,
				  nearest_end(&near));
	return fail_usage(in, "--rights: there is no '%.60s'; there are read,write,remove,list,job",
			  word);
}

/* "read,list". */
static int parse_rights(const struct invocation *in, const char *text, uint32_t *ret)
{
	uint32_t rights = 0;
	int code = EXIT_DONE;

	while (!code) {
		size_t len = strcspn(text, ",");
		char word[64];

		snprintf(word, sizeof(word), "%.*s", (int)(len < 63 ? len : 63), text);
		code = parse_right(in, word, &rights);
		if (!text[len])
			break;
		text += len + 1;
	}
	*ret = rights;
	return code;
}

int command_job_token(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	struct job_token_options o;
	char token[WADI_TOKEN_MAX];
	uint32_t rights = WADI_RIGHT_ALL;
	int code, r;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	if (!o.token)
		return fail_usage(&in,
				  "there is no token to narrow; set WADI_TOKEN to what `wadi job "
				  "create` printed");
	if (!o.prefix && !o.rights && !o.valid)
		return fail_usage(&in, "narrower in what? Type --prefix, --rights or --valid");
	if (o.rights)
		code = parse_rights(&in, o.rights, &rights);
	if (code)
		return code;
	r = wadi_token_narrow(o.token, o.prefix, rights, (uint32_t)((o.valid + 999) / 1000), token);
	if (r < 0) {
		fprintf(stderr, "wadi: job token: %s: %s\n", wadi_status_name(r),
			r == -EMSGSIZE
				? "it would have more restrictions, or bytes, than a token may have"
			: r == -EKEYREJECTED ? "WADI_TOKEN or --token is not a token"
					     : strerror(-r));
		return EXIT_REFUSED;
	}
	puts(token);
	return EXIT_DONE;
}
