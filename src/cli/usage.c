/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wadi/wadi.h>

#include "base/quantity.h"
#include "cli/show.h"
#include "cli/terminal.h"

static void put_row(const struct wadi_job_info *job)
{
	char holds[QUANTITY_TEXT_MAX], quota[QUANTITY_TEXT_MAX];

	printf("%-5s %10s %10s %12.6f  ", job->has_ended ? "ended" : "alive",
	       bytes_rough(job->dram_bytes, holds),
	       job->quota_dram ? bytes_rough(job->quota_dram, quota) : "-",
	       gb_seconds(job->dram_byte_ms_hi, job->dram_byte_ms_lo));
	name_put(stdout, job->name, strlen(job->name));
	putchar('\n');
}

static void put_jobs(const struct wadi_job_info *jobs, size_t count, bool is_json)
{
	if (!is_json && terminal_is(stdout))
		printf("%-5s %10s %10s %12s  %s\n", "STATE", "DRAM NOW", "QUOTA", "DRAM GB s",
		       "JOB");
	for (size_t i = 0; i < count; i++) {
		if (is_json) {
			struct json j = json_begin(stdout);

			job_json(&j, &jobs[i]);
			json_end(&j);
		} else {
			put_row(&jobs[i]);
		}
	}
}

int command_usage(int argc, char **argv)
{
	CLEANUP(invocation_end) struct invocation in = { 0 };
	CLEANUP(client_close) struct wadi *w = NULL;
	struct wadi_job_info one, *jobs = NULL;
	struct show_options o;
	size_t count;
	int code, r;

	if (!invocation_begin(&in, argc, argv, &o, &code))
		return code;
	code = client_open(&in, &w);
	if (code)
		return code;
	if (in.word_count)
		r = wadi_job_show(w, in.words[0], &one);
	else
		r = jobs_list(w, &jobs, &count);
	if (r < 0)
		return fail_about(&in, w, in.word_count ? in.words[0] : NULL, r);
	if (in.word_count)
		put_jobs(&one, 1, o.json);
	else
		put_jobs(jobs, count, o.json);
	free(jobs);
	return EXIT_DONE;
}
