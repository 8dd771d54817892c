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
#include "sort.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keys.h"
#include "runs.h"

/* Per bucket: its size varies by 6 %, and the largest of hundreds stays below 1.3 x the mean. */
#define SAMPLES_PER_BUCKET 256
#define SAMPLES_MIN        4096

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
			      s->job.function_url, "job", store->job, "token", store->token);

	return o;
}

/* Adds what only this kind has; takes both. */
static int task_init(struct sort *s, struct task *t, json_t *o, json_t *more)
{
	int r = o && more ? json_object_update(o, more) : -1;

	json_decref(more);
	t->request = o;
	return r < 0 ? no_memory(s) : 0;
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
		r = task_init(s, &tasks[i], request_make(s, "generate", i),
			      json_pack("{ss sI ss ss}", "first", first, "count",
					(json_int_t)(to - from), "skew",
					word_of(WORDS_SKEW, s->options.skew, skew, sizeof(skew)),
					"output", path));
		if (r == 0 && plan_add(&s->plan, path, (to - from) * RECORD_SIZE) < 0)
			r = no_memory(s);
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
	int r = 0;

	if (!tasks)
		return -ENOMEM;
	if (samples < SAMPLES_MIN)
		samples = SAMPLES_MIN;
	for (uint32_t i = 0; r == 0 && i < s->maps; i++) {
		tasks[i].stage = STAGE_SAMPLE;
		r = task_init(s, &tasks[i], request_make(s, "sample", i),
			      json_pack("{so sI}", "input", plan_share(&s->plan, i, s->maps),
					"samples", (json_int_t)(samples / s->maps + 1)));
	}
	if (r == 0)
		r = tasks_run(s, tasks, s->maps);
	tasks_fini(tasks, s->maps);
	return r < 0 ? r : splitters_write(s);
}

/*
 * Functions of a platform may be anybody's: what they say to have read is what there was. How many
 * lines that are nobody knows; of a line that two shares have, both read.
 */
static int input_check(struct sort *s, uint64_t read_bytes)
{
	bool is_lines = s->options.format == FORMAT_LINES;
	uint64_t all = is_lines ? s->plan.len : s->plan.len / RECORD_SIZE;
	uint64_t have = is_lines ? read_bytes : s->in.count;

	if (have == all || (is_lines && have > all))
		return 0;
	return problem_set(&s->problem, -EIO, "the mappers have read %llu of %llu %s",
			   (unsigned long long)have, (unsigned long long)all,
			   is_lines ? "bytes" : "records");
}

static int map_and_reduce(struct sort *s)
{
	size_t count = s->maps + s->reduces;
	struct task *tasks = tasks_new(s, count);
	uint64_t read_bytes = 0;
	int r = 0;

	if (!tasks)
		return -ENOMEM;
	for (uint32_t i = 0; r == 0 && i < s->maps; i++) {
		tasks[i].stage = STAGE_MAP;
		r = task_init(s, &tasks[i], request_make(s, "map", i),
			      json_pack("{so sI}", "input", plan_share(&s->plan, i, s->maps),
					"reduces", (json_int_t)s->reduces));
	}
	for (uint32_t i = 0; r == 0 && i < s->reduces; i++) {
		struct task *t = &tasks[s->maps + i];
		char *path = job_path(s->job.parts, "part", i);

		t->stage = STAGE_REDUCE;
		t->waits_for = s->maps;
		r = task_init(s, t, request_make(s, "reduce", i),
			      json_pack("{ss sI}", "output", path, "maps", (json_int_t)s->maps));
		free(path);
	}
	if (r == 0)
		r = tasks_run(s, tasks, count);
	for (uint32_t i = 0; r == 0 && i < s->maps; i++) {
		tally_add(&s->in, tasks[i].reply);
		read_bytes +=
			(uint64_t)json_integer_value(json_object_get(tasks[i].reply, "read_bytes"));
	}
	tasks_fini(tasks, count);
	return r == 0 ? input_check(s, read_bytes) : r;
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
		paths[i] = job_path(s->job.parts, "part", i);
		if (!paths[i]) {
			r = no_memory(s);
			break;
		}
		tasks[i].stage = STAGE_VALIDATE;
		r = task_init(s, &tasks[i], request_make(s, "validate", i),
			      json_pack("{s[[siI]]}", "input", paths[i], 0,
					(json_int_t)file_len(paths[i])));
	}
	if (r == 0)
		r = tasks_run(s, tasks, s->reduces);
	if (r == 0)
		r = parts_verify(s, tasks, paths);
	if (r == 0)
		r = job_publish(&s->job, s->reduces);
	for (uint32_t i = 0; paths && i < s->reduces; i++)
		free(paths[i]);
	free(paths);
	if (tasks)
		tasks_fini(tasks, s->reduces);
	return r;
}

int stages_run(struct sort *s)
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
