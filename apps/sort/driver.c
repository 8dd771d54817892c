/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sort is besides its stages: options, signals, sizes, running the tasks of a
 * stage while the job is kept alive, and the report. The stages are in stages.c.
 */
#include "driver.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "runs.h"
#include "sort.h"

#define TICK_NS (100 * NS_PER_MS)

static volatile sig_atomic_t stop_signal; /* the one variable that a handler may touch */

static void on_signal(int number)
{
	stop_signal = number;
}

static sigset_t stop_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	return set;
}

/* Blocked but for the platform's waits, so that none is missed between two of them. */
static void signals_init(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigset_t set = stop_signals();

	signal(SIGPIPE, SIG_IGN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

static int look_round(struct sort *s)
{
	sigset_t set = stop_signals();
	int pending = sigtimedwait(&set, NULL, &(struct timespec){ 0 });

	/* A wait that has other things to tell does not let signals through. */
	if (pending > 0)
		stop_signal = pending;
	if (stop_signal)
		return problem_set(&s->problem, -EINTR, "stopped by %s", strsignal(stop_signal));
	return job_tick(&s->job);
}

/* A bucket that has been reduced. */
static int bucket_remove(struct sort *s, uint32_t bucket)
{
	static const char *const DIRECTORIES[] = { "shuffle", "runs" };

	for (size_t i = 0; i < sizeof(DIRECTORIES) / sizeof(DIRECTORIES[0]); i++) {
		char directory[STORE_PATH_MAX], below[STORE_PATH_MAX + 1];
		int r;

		runs_path(DIRECTORIES[i], bucket, directory);
		snprintf(below, sizeof(below), "%s/", directory);
		r = store_remove(s->job.store, below);
		if (r < 0)
			return r;
	}
	return 0;
}

/* What the store holds when a stage ends is part of the report. */
static int stage_note(struct sort *s, const struct task *t)
{
	struct stage *stage = &s->report.stages[t->stage];
	int r = 0;

	report_add(&s->report, t);
	if (t->stage == STAGE_REDUCE && !s->options.is_kept)
		r = bucket_remove(s,
				  (uint32_t)json_integer_value(json_object_get(t->reply, "index")));
	return r < 0 ? r : store_job_usage(s->job.admin, s->job.name, &stage->usage);
}

/* The first stage that has not ended. */
static void progress_show(struct sort *s, const struct task *tasks, size_t count)
{
	size_t ended = 0, running = 0, all = 0, stage = STAGE_COUNT;

	for (size_t i = 0; i < count; i++)
		if (!tasks[i].reply && tasks[i].stage < stage)
			stage = tasks[i].stage;
	for (size_t i = 0; i < count; i++) {
		if (tasks[i].stage != stage)
			continue;
		all++;
		ended += tasks[i].reply != NULL;
		running += tasks[i].has_started && !tasks[i].reply;
	}
	if (all > 0)
		progress_draw(&s->progress, stage_name(stage), ended, running, all);
}

int tasks_run(struct sort *s, struct task *tasks, size_t count)
{
	struct crew crew = {
		.platform = s->platform,
		.problem = &s->problem,
		.tasks = tasks,
		.count = count,
		.parallel = s->parallel,
		.timeout_ns = s->options.timeout_ms * NS_PER_MS,
		.kill_percent = (unsigned)s->options.kill_percent,
		.random = s->options.seed + tasks[0].stage,
	};
	int r;

	progress_begin(&s->progress);
	for (;;) {
		struct task *t;

		r = crew_next(&crew, clock_ns() + TICK_NS, &t);
		if (r == 1)
			r = stage_note(s, t);
		if (r >= 0)
			r = look_round(s);
		if (r < 0)
			break;
		progress_show(s, tasks, count);
	}
	crew_fini(&crew);
	progress_end(&s->progress);
	return r == -ENOENT ? 0 : r;
}

static uint32_t between(uint64_t v, uint64_t min, uint64_t max)
{
	return (uint32_t)(v < min ? min : v > max ? max : v);
}

/* As many functions as fill the machine, and more where a share would not fit its memory. */
static void sizes_choose(struct sort *s, uint64_t len)
{
	const struct options *o = &s->options;
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t fitting = len / (o->function_memory / 2) + 1;

	s->parallel = o->parallel ? (uint32_t)o->parallel : between((uint64_t)cores, 1, 256);
	s->maps = o->maps ? (uint32_t)o->maps : between(fitting, s->parallel, FUNCTIONS_MAX);
	s->reduces =
		o->reduces ? (uint32_t)o->reduces : between(fitting, s->parallel, FUNCTIONS_MAX);
}

static const char *platform_url(const struct sort *s)
{
	if (strcmp(s->job.function_store.url, "memory:") == 0)
		return "thread";
	return s->options.platform ? s->options.platform : "process";
}

static int platform_init(struct sort *s)
{
	struct platform_config config = {
		.url = platform_url(s),
		.program = s->job.function_program,
		.bundle = s->job.function_bundle,
		.function_memory = s->options.function_memory,
		.parallel = s->parallel,
		.timeout_ms = s->options.timeout_ms,
		.auth = s->options.auth,
		.auth_file = s->options.auth_file,
	};

	s->report.platform = platform_kind(config.url, &s->report.platform_len);
	return platform_open(&config, &s->problem, &s->platform);
}

static void announce(const struct sort *s, uint64_t len)
{
	uint64_t functions = s->parallel * s->options.function_memory;

	if (s->options.is_json)
		return;
	printf("%llu bytes to sort\n", (unsigned long long)len);
	printf("functions: %u maps, %u reduces; %u at once, %llu MiB each\n", s->maps, s->reduces,
	       s->parallel, (unsigned long long)s->options.function_memory >> 20);
	if (s->job.store_memory)
		printf("store: its own, %llu MiB; with functions %llu MiB at most\n",
		       (unsigned long long)s->job.store_memory >> 20,
		       (unsigned long long)(s->job.store_memory + functions + (32u << 20)) >> 20);
	else
		printf("store: %s\n", s->job.function_store.url);
	fflush(stdout);
}

static int sort_run(struct sort *s)
{
	uint64_t len = s->options.generate / RECORD_SIZE * RECORD_SIZE;
	struct job_size size;
	uint64_t start_ns;
	int r, end;

	s->plan.format = (enum format)s->options.format;
	if (!s->options.generate) {
		r = plan_input(&s->plan, &s->options.input, &s->problem);
		if (r < 0)
			return r;
		len = s->plan.len;
	}
	sizes_choose(s, len);
	size = (struct job_size){ len, (uint64_t)s->maps * s->reduces };
	r = job_begin(&s->job, &s->options, size, &s->problem);
	if (r == 0)
		r = platform_init(s);
	if (r == 0) {
		announce(s, len);
		start_ns = clock_ns();
		r = stages_run(s);
		s->report.total_ns = clock_ns() - start_ns;
	}
	if (s->platform)
		s->platform->ops->close(s->platform);
	if (r == 0)
		r = store_job_usage(s->job.admin, s->job.name, &s->report.usage);
	end = job_end(&s->job);
	s->report.bytes = len;
	return r < 0 ? r : end;
}

/* The exit status: who asked for a report and has none must know. */
static int report(struct sort *s)
{
	s->report.count = s->in.count;
	s->report.sum = s->in.sum;
	s->report.format = (enum format)s->options.format;
	s->report.store = store_kind(s->job.function_store.url);
	s->report.attach = s->job.attach[0] ? s->job.attach : NULL;
	if (s->options.is_json)
		report_print_json(&s->report, stdout);
	else
		report_print(&s->report, stdout);
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	problem_set(&s->problem, -EIO, "sorted and verified, but cannot write the report: %s",
		    strerror(errno));
	return 1;
}

static int exit_status(int r)
{
	switch (r) {
	case 0:
		return 0;
	case -EHOSTUNREACH:
		return 3;
	case -ETIMEDOUT:
		return 4;
	default:
		return 1;
	}
}

int sort_main(int argc, char **argv)
{
	struct sort *s = calloc(1, sizeof(*s));
	int r;

	if (!s) {
		fprintf(stderr, "wadi sort: no memory\n");
		return 1;
	}
	r = options_parse(argc, (const char *const *)argv, &s->options, &s->problem);
	if (r == 0) {
		signals_init();
		progress_init(&s->progress, !s->options.is_json);
		r = exit_status(sort_run(s));
		if (r == 0)
			r = report(s);
		plan_fini(&s->plan);
		options_fini(&s->options);
	} else {
		r = r < 0 ? 2 : 0;
	}
	if (r != 0)
		fprintf(stderr, "wadi sort: %s\n", s->problem.text);
	free(s);
	return r;
}
