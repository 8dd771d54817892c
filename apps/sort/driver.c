/* SPDX-License-Identifier: Apache-2.0 */
/*
 *	generate   makes the input, if it is to be made
 *	sample     keys of each share --> the driver chooses splitters
 *	map        a share --> a sorted object for each bucket
 *	reduce     the objects of a bucket --> a part of the output
 *	validate   a part --> is it in order, and what is its sum
 *
 * Map and reduce are one list for the crew: reducers start as soon as places are free,
 * and wait for the last mappers in the store.
 */
#include "driver.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "crew.h"
#include "job.h"
#include "keys.h"
#include "options.h"
#include "plan.h"
#include "progress.h"
#include "report.h"
#include "runs.h"
#include "verify.h"

#define TICK_NS (100 * NS_PER_MS)

/* Per bucket: its size then varies by 6 %, and the largest of hundreds stays below 1.3 x the mean.
 */
#define SAMPLES_PER_BUCKET 256
#define SAMPLES_MIN        4096

struct sort {
	struct options options;
	struct problem problem;
	struct plan plan;
	struct job job;
	struct platform *platform;
	struct progress progress;
	struct report report;
	struct tally in;
	uint32_t maps, reduces, parallel;
};

static volatile sig_atomic_t stop_signal; /* the one variable that a handler may touch */

static void on_signal(int number)
{
	stop_signal = number;
}

/* Blocked but for the platform's waits, so that none is missed between two of them. */
static void signals_init(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

static int no_memory(struct sort *s)
{
	return problem_set(&s->problem, -ENOMEM, "no memory");
}

/* What every request has. */
static json_t *request_make(const struct sort *s, const char *op, uint32_t index)
{
	const struct store_config *store = &s->job.function_store;
	char format[16];
	json_t *o = json_pack("{ss sI ss sI sI s{ss ss ss*}}", "op", op, "index", (json_int_t)index,
			      "format",
			      word_of(WORDS_FORMAT, s->options.format, format, sizeof(format)),
			      "function_memory", (json_int_t)s->options.function_memory,
			      "timeout_ms", (json_int_t)s->options.timeout_ms, "store", "url",
			      store->url, "job", store->job, "token", store->token);

	return o;
}

/* Adds what only this kind has; takes both. */
static json_t *request_add(json_t *o, json_t *more)
{
	json_object_update(o, more);
	json_decref(more);
	return o;
}

static int look_round(struct sort *s)
{
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

static size_t running_of(const struct task *tasks, size_t count, size_t stage)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		n += tasks[i].stage == stage && tasks[i].has_started && !tasks[i].reply;
	return n;
}

/* The first stage that has not ended. */
static void progress_show(struct sort *s, const struct task *tasks, size_t count)
{
	static const char *const NAMES[] = { "generate", "sample", "map", "reduce", "validate" };
	size_t stage = 0, ended = 0, all = 0;

	for (size_t i = 0; i < count; i++) {
		if (!tasks[i].reply && all == 0)
			stage = tasks[i].stage;
		if (!tasks[i].reply)
			all++;
	}
	all = 0;
	for (size_t i = 0; i < count; i++) {
		all += tasks[i].stage == stage;
		ended += tasks[i].stage == stage && tasks[i].reply;
	}
	s->progress.name = NAMES[stage];
	progress_draw(&s->progress, ended, running_of(tasks, count, stage), all);
}

static int tasks_run(struct sort *s, struct task *tasks, size_t count)
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

	progress_begin(&s->progress, "");
	for (;;) {
		struct task *t;

		r = crew_next(&crew, clock_ns() + TICK_NS, &t);
		if (r == 1)
			r = stage_note(s, t);
		if (r == 0)
			r = look_round(s);
		if (r < 0)
			break;
		progress_show(s, tasks, count);
	}
	crew_fini(&crew);
	progress_end(&s->progress);
	return r == -ENOENT ? 0 : r;
}

static struct task *tasks_new(struct sort *s, size_t count)
{
	struct task *tasks = calloc(count, sizeof(*tasks));

	if (!tasks)
		no_memory(s);
	return tasks;
}

static int generate(struct sort *s)
{
	uint64_t count = s->options.generate / RECORD_SIZE;
	struct task *tasks = tasks_new(s, s->maps);
	char skew[16];
	int r = tasks ? 0 : -ENOMEM;

	for (uint32_t i = 0; r == 0 && i < s->maps; i++) {
		uint64_t from = (uint64_t)((u128)count * i / s->maps);
		uint64_t to = (uint64_t)((u128)count * (i + 1) / s->maps);
		char first[U128_DIGITS], *path = job_path(s->job.work, "input", i);

		/* Another seed is a stretch of the standard's sequence that nobody reaches. */
		u128_format((u128)s->options.seed << 64 | from, first);
		tasks[i].stage = STAGE_GENERATE;
		tasks[i].request = request_add(
			request_make(s, "generate", i),
			json_pack("{ss sI ss ss}", "first", first, "count", (json_int_t)(to - from),
				  "skew", word_of(WORDS_SKEW, s->options.skew, skew, sizeof(skew)),
				  "output", path ? path : ""));
		r = path ? plan_add(&s->plan, path, (to - from) * RECORD_SIZE) : -ENOMEM;
		free(path);
	}
	if (r == 0)
		r = tasks_run(s, tasks, s->maps);
	if (tasks)
		tasks_fini(tasks, s->maps);
	return r;
}

static int samples_read(struct sort *s, struct keys *ret)
{
	struct store_list list;
	int r = store_list(s->job.store, "samples", &list);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < list.count; i++) {
		struct store_read read = { .len = list.entries[i].len };
		char path[STORE_PATH_MAX];

		snprintf(path, sizeof(path), "samples/%s", list.entries[i].name);
		read.path = path;
		if (read.len == 0)
			continue;
		read.buf = keys_room(ret, read.len);
		r = read.buf ? store_read(s->job.store, &read, 1) : no_memory(s);
	}
	store_list_fini(&list);
	return r == 0 ? keys_index(ret) : r;
}

static int splitters_write(struct sort *s)
{
	struct keys samples = { 0 }, splitters = { 0 };
	int r = samples_read(s, &samples);

	if (r == 0) {
		keys_sort(&samples);
		r = splitters_choose(&samples, s->reduces, &splitters);
	}
	if (r == 0)
		r = store_put(s->job.store, "splitters/00000", splitters.bytes, splitters.len);
	keys_fini(&samples);
	keys_fini(&splitters);
	return r < 0 ? problem_set(&s->problem, r, "cannot make splitters: %s", strerror(-r)) : 0;
}

static int sample(struct sort *s)
{
	struct task *tasks = tasks_new(s, s->maps);
	uint32_t samples = s->reduces * SAMPLES_PER_BUCKET;
	int r;

	if (!tasks)
		return -ENOMEM;
	if (samples < SAMPLES_MIN)
		samples = SAMPLES_MIN;
	for (uint32_t i = 0; i < s->maps; i++) {
		tasks[i].stage = STAGE_SAMPLE;
		tasks[i].request =
			request_add(request_make(s, "sample", i),
				    json_pack("{so sI}", "input", plan_share(&s->plan, i, s->maps),
					      "samples", (json_int_t)(samples / s->maps + 1)));
	}
	r = tasks_run(s, tasks, s->maps);
	tasks_fini(tasks, s->maps);
	return r < 0 ? r : splitters_write(s);
}

static int map_and_reduce(struct sort *s)
{
	size_t count = s->maps + s->reduces;
	struct task *tasks = tasks_new(s, count);
	int r;

	if (!tasks)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->maps; i++) {
		tasks[i].stage = STAGE_MAP;
		tasks[i].request =
			request_add(request_make(s, "map", i),
				    json_pack("{so sI}", "input", plan_share(&s->plan, i, s->maps),
					      "reduces", (json_int_t)s->reduces));
	}
	for (uint32_t i = 0; i < s->reduces; i++) {
		char *path = job_path(s->job.output, "part", i);

		tasks[s->maps + i].stage = STAGE_REDUCE;
		tasks[s->maps + i].request =
			request_add(request_make(s, "reduce", i),
				    json_pack("{ss sI}", "output", path ? path : "", "maps",
					      (json_int_t)s->maps));
		free(path);
	}
	r = tasks_run(s, tasks, count);
	for (uint32_t i = 0; r == 0 && i < s->maps; i++)
		tally_add(&s->in, tasks[i].reply);
	tasks_fini(tasks, count);
	return r;
}

static uint64_t file_len(const char *path)
{
	struct plan p = { .format = FORMAT_LINES };
	struct problem ignored = { 0 };
	const char *list[] = { path };
	uint64_t len;

	(void)plan_input(&p, &(struct paths){ list, 1 }, &ignored); /* then the validator tells */
	len = p.len;
	plan_fini(&p);
	return len;
}

static int parts_verify(struct sort *s, const struct task *tasks, char *const *paths)
{
	struct part *parts = calloc(s->reduces, sizeof(*parts));
	int r = -ENOMEM;

	for (uint32_t i = 0; parts && i < s->reduces; i++)
		parts[i] = (struct part){ .path = paths[i], .reply = tasks[i].reply };
	if (parts)
		r = verify_parts(parts, s->reduces, s->in, &s->report.duplicates, &s->problem);
	s->report.is_verified = r == 0;
	free(parts);
	return r;
}

static int validate(struct sort *s)
{
	struct task *tasks = tasks_new(s, s->reduces);
	char **paths = calloc(s->reduces, sizeof(*paths));
	int r = tasks && paths ? 0 : no_memory(s);

	for (uint32_t i = 0; r == 0 && i < s->reduces; i++) {
		paths[i] = job_path(s->job.output, "part", i);
		if (!paths[i]) {
			r = no_memory(s);
			break;
		}
		tasks[i].stage = STAGE_VALIDATE;
		tasks[i].request = request_add(request_make(s, "validate", i),
					       json_pack("{s[[siI]]}", "input", paths[i], 0,
							 (json_int_t)file_len(paths[i])));
	}
	if (r == 0)
		r = tasks_run(s, tasks, s->reduces);
	if (r == 0)
		r = parts_verify(s, tasks, paths);
	for (uint32_t i = 0; paths && i < s->reduces; i++)
		free(paths[i]);
	free(paths);
	if (tasks)
		tasks_fini(tasks, s->reduces);
	return r;
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

static int platform_init(struct sort *s)
{
	struct platform_config config = {
		.program = s->job.function_program,
		.function_memory = s->options.function_memory,
		.parallel = s->parallel,
	};

	return platform_process_open(&config, &s->problem, &s->platform);
}

static void announce(const struct sort *s, uint64_t len)
{
	uint64_t functions = s->parallel * s->options.function_memory;

	if (s->options.is_json)
		return;
	printf("%llu bytes, %u maps, %u reduces, %u at once with %llu MiB each\n",
	       (unsigned long long)len, s->maps, s->reduces, s->parallel,
	       (unsigned long long)s->options.function_memory >> 20);
	if (s->job.store_memory)
		printf("store: its own, %llu MiB; all processes together: at most %llu MiB\n",
		       (unsigned long long)s->job.store_memory >> 20,
		       (unsigned long long)(s->job.store_memory + functions + (32u << 20)) >> 20);
	else
		printf("store: %s\n", s->job.function_store.url);
	fflush(stdout);
}

static int stages_run(struct sort *s)
{
	int r = s->options.generate ? generate(s) : 0;

	if (r == 0)
		r = sample(s);
	if (r == 0)
		r = map_and_reduce(s);
	if (r == 0)
		r = validate(s);
	return r;
}

static int sort_run(struct sort *s)
{
	uint64_t len = s->options.generate / RECORD_SIZE * RECORD_SIZE;
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
	r = job_begin(&s->job, &s->options, len, &s->problem);
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

static const char *store_name(const struct options *o)
{
	if (o->store && strncmp(o->store, "redis:", 6) == 0)
		return "redis";
	return o->store && strncmp(o->store, "dir:", 4) == 0 ? "dir" : "wadi";
}

static void report(struct sort *s)
{
	s->report.count = s->in.count;
	s->report.sum = s->in.sum;
	s->report.format = (enum format)s->options.format;
	s->report.store = store_name(&s->options);
	if (s->options.is_json)
		report_print_json(&s->report, stdout);
	else
		report_print(&s->report, stdout);
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
			report(s);
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
