/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/doctor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wadi/wadi.h>

#include "base/quantity.h"
#include "base/words.h"
#include "cli/cli.h"
#include "cli/show.h"
#include "cli/terminal.h"

#define TEXT_COLUMN 18

void finding(struct doctor *d, enum finding_level level, const char *about, const char *what_to_do,
	     const char *format, ...)
{
	static const char *const LEVELS[] = { "ok", "warn", "bad" };
	char text[1024], safe[1024], todo[512];
	va_list args;

	d->counts[level]++;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (d->is_json) {
		struct json j = json_begin(stdout);

		json_word(&j, "about", about);
		json_word(&j, "level", LEVELS[level]);
		json_word(&j, "text", text);
		json_word(&j, "do", what_to_do);
		json_end(&j);
		return;
	}
	printf("%-5s %-*s", LEVELS[level], TEXT_COLUMN - 6, about);
	text_wrap(stdout, name_safe(text, strlen(text), safe, sizeof(safe)), TEXT_COLUMN,
		  TEXT_COLUMN, d->width);
	if (!what_to_do)
		return;
	snprintf(todo, sizeof(todo), "-> %s", what_to_do);
	printf("%*s", TEXT_COLUMN, "");
	/* What is to be typed stays in one piece. */
	puts(todo);
}

/* Variables that look like options and are none. */
static void look_at_environment(struct doctor *d)
{
	extern char **environ;
	/* Of the tests, and of functions. */
	static const char *const OTHERS[] = { "WADI_BUILD", "WADI_SEED", "WADI_FUNCTION_AUTH",
					      "WADI_SORT_FN" };
	static const size_t OTHER_COUNT = sizeof(OTHERS) / sizeof(OTHERS[0]);
	unsigned count = 0, unknown = 0;

	for (char **e = environ; *e; e++) {
		char name[64], todo[128] = "unset it";
		size_t len = strcspn(*e, "="), other = 0;
		struct nearest near;

		if (strncmp(*e, "WADI_", 5) != 0 || len >= sizeof(name))
			continue;
		memcpy(name, *e, len);
		name[len] = '\0';
		count++;
		while (other < OTHER_COUNT && strcmp(name, OTHERS[other]) != 0)
			other++;
		if (other < OTHER_COUNT)
			continue;
		for (char *p = name; *p; p++)
			if (*p >= 'A' && *p <= 'Z')
				*p = (char)(*p - 'A' + 'a');
		if (command_knows_option(name + 5))
			continue;
		unknown++;
		near = nearest_begin(name + 5);
		for (unsigned i = 0; i < COMMAND_COUNT; i++) {
			const struct option_table *t =
				COMMAND_LIST[i].table ? COMMAND_LIST[i].table() : NULL;

			for (unsigned j = 0; t && j < t->count; j++)
				nearest_try(&near, t->options[j].name);
		}
		if (nearest_end(&near))
			snprintf(todo, sizeof(todo),
				 "perhaps --%s is meant; `wadi config show` lists them",
				 nearest_end(&near));
		finding(d, FINDING_WARN, "environment", todo,
			"%.*s is set, and no option has this name", (int)len, *e);
	}
	if (!unknown)
		finding(d, FINDING_OK, "environment", NULL,
			"%u variables WADI_..., all of them options", count);
}

static void look_at_token(struct doctor *d, const char *token)
{
	char ret[WADI_TOKEN_MAX];
	int r = token ? wadi_token_narrow(token, NULL, WADI_RIGHT_ALL, 3600, ret) : 0;

	if (!token)
		finding(d, FINDING_OK, "token", NULL,
			"none; the job `default` of a store on this host needs none");
	else if (r == -EKEYREJECTED)
		finding(d, FINDING_BAD, "token", "set WADI_TOKEN to what `wadi job create` printed",
			"what is set is not a token");
	else
		finding(d, FINDING_OK, "token", NULL, "has the form of one");
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* The fastest of some questions and answers, in microseconds. */
static int round_trip(struct wadi *w, uint64_t *ret_us)
{
	struct wadi_store_info info;

	*ret_us = UINT64_MAX;
	for (int i = 0; i < 20; i++) {
		uint64_t begun = now_us(), us;
		int r = wadi_store_info(w, &info);

		if (r < 0)
			return r;
		us = now_us() - begun;
		*ret_us = us < *ret_us ? us : *ret_us;
	}
	return 0;
}

/*
 * Everything that the store's integral counts is on some job's bill, a listed or a forgotten
 * one. All go on while we ask, and a job may be forgotten then. With what was forgotten at
 * first, no bill is in the sum twice; with what is in the end, none is left out. Of a store
 * that is lost the count is lost, too: then there may be more on the bills, but never less.
 */
static void look_at_bills(struct doctor *d, struct wadi *w)
{
	unsigned __int128 sum = 0, least, most, before, after, slack;
	struct wadi_store_info first, last;
	struct wadi_job_info *jobs = NULL;
	size_t count = 0;
	int r = wadi_store_info(w, &first);

	if (r == 0)
		r = jobs_list(w, &jobs, &count);
	if (r == 0)
		r = wadi_store_info(w, &last);
	if (r < 0) {
		free(jobs);
		finding(d, FINDING_WARN, "bills", "ask with a token that may list the jobs",
			"cannot be compared: %s", wadi_strerror(w));
		return;
	}
	for (size_t i = 0; i < count; i++)
		sum += byte_ms(jobs[i].dram_byte_ms_hi, jobs[i].dram_byte_ms_lo);
	free(jobs);
	least = sum + byte_ms(first.forgotten_byte_ms_hi, first.forgotten_byte_ms_lo);
	most = sum + byte_ms(last.forgotten_byte_ms_hi, last.forgotten_byte_ms_lo);
	before = byte_ms(first.dram_byte_ms_hi, first.dram_byte_ms_lo);
	after = byte_ms(last.dram_byte_ms_hi, last.dram_byte_ms_lo);
	slack = count + 2; /* each figure is rounded down to a byte and a millisecond */
	if (most + slack >= before && least > after + slack && last.is_partial)
		finding(d, FINDING_OK, "bills", NULL,
			"the bills of %zu jobs come to %.6f GB s, the stores count %.6f: one that "
			"is away, or was lost, has counted the rest",
			count, gb_seconds((uint64_t)(sum >> 64), (uint64_t)sum),
			gb_seconds(last.dram_byte_ms_hi, last.dram_byte_ms_lo));
	else if (most + slack < before || least > after + slack)
		finding(d, FINDING_BAD, "bills", "please report it, with `wadi top --json`",
			"the bills of %zu jobs come to %.6f GB s, the store counted %.6f to %.6f",
			count, gb_seconds((uint64_t)(most >> 64), (uint64_t)most),
			gb_seconds(first.dram_byte_ms_hi, first.dram_byte_ms_lo),
			gb_seconds(last.dram_byte_ms_hi, last.dram_byte_ms_lo));
	else
		finding(d, FINDING_OK, "bills", NULL,
			"the bills of %zu jobs and the store's own count agree: %.6f GB s", count,
			gb_seconds((uint64_t)(sum >> 64), (uint64_t)sum));
}

/* Each time it is punched, so there is as much as they touch in a second. */
static void look_at_touched(struct doctor *d, struct wadi *w)
{
	char bytes[QUANTITY_TEXT_MAX];
	struct wadi_store_info info;

	if (wadi_store_info(w, &info) == 0 && info.lingering_bytes > 0)
		finding(d, FINDING_WARN, "memory",
			"if it stays so, end the functions that map memory and write there",
			"functions touched %s that was given back",
			bytes_rough(info.lingering_bytes, bytes));
}

static void look_at_store(struct doctor *d, const struct wadi_options *options)
{
	const char *endpoint = options->endpoint ? options->endpoint : "tcp://127.0.0.1:4870";
	struct wadi *w;
	uint64_t us = 0;
	int r = wadi_open(options, &w);

	if (r == 0)
		r = round_trip(w, &us);
	if (r == -EHOSTUNREACH || r == -ETIMEDOUT) {
		d->is_unreachable = true;
		finding(d, FINDING_BAD, "store", "start one with `wadi dev`, or set WADI_ENDPOINT",
			"%s", w ? wadi_strerror(w) : endpoint);
	} else if (r < 0) {
		finding(d, FINDING_BAD, "store", "see the reason", "%s: %s", endpoint,
			w ? wadi_strerror(w) : strerror(-r));
	} else {
		finding(d, FINDING_OK, "store", NULL, "%s answers within %llu us, job %s", endpoint,
			(unsigned long long)us, wadi_job_name(w));
		look_at_bills(d, w);
		look_at_touched(d, w);
	}
	wadi_close(w);
}

int command_doctor(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	struct wadi_options options = WADI_OPTIONS;
	struct doctor d = { .width = terminal_width(stdout) };
	struct doctor_options o;
	int code;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	if (o.repair && !o.data)
		return fail_usage(&in, "--repair is for the log in a server's --data DIR");
	code = client_check(&in);
	if (code)
		return code;
	d.is_json = o.json;
	d.width = d.width < 100 ? d.width : 100;
	finding(&d, FINDING_OK, "version", NULL, "wadi %s", wadi_version());
	if (o.data) {
		/* Its server does not run, so there is nobody to ask. */
		doctor_log(&d, o.data, o.repair);
		return d.counts[FINDING_BAD] ? EXIT_REFUSED : EXIT_DONE;
	}
	doctor_machine(&d, o.memory);
	look_at_environment(&d);
	look_at_token(&d, o.token);
	options.endpoint = o.endpoint;
	options.token = o.token;
	options.timeout_ms = (uint32_t)o.timeout;
	look_at_store(&d, &options);
	if (!o.json && d.counts[FINDING_BAD] + d.counts[FINDING_WARN] == 0)
		puts("all is well");
	return d.is_unreachable        ? EXIT_UNREACHABLE
	       : d.counts[FINDING_BAD] ? EXIT_REFUSED
				       : EXIT_DONE;
}
