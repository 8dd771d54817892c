/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a merge looks at its runs where they lie, if it may and the store can show them, and reads
 * them otherwise; what was taken away meanwhile is no output. Method: the memory of this process as
 * the store, whose answers are changed in one place each.
 */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "pass.h"
#include "store_ops.h"

#define MAPS    3
#define RECORDS 5 /* of each mapper */
#define ROOM    ((size_t)1 << 20)

struct fixture {
	struct problem problem;
	struct store_ops ops; /* those of the memory, changed */
	struct store *store;
	struct request req;
	struct function f;
	struct run_list runs;
};

/* What the store was asked since the fixture was made. */
static unsigned read_count, view_count, end_count;
static unsigned shown_max; /* from then on it shows nothing */
static int end_result;

static int counting_read(struct store *s, const struct store_read *reads, size_t count)
{
	read_count += (unsigned)count;
	return STORE_MEMORY.read(s, reads, count);
}

static int counting_view(struct store *s, const char *path, struct store_view *ret)
{
	if (view_count == shown_max)
		return 0;
	view_count++;
	return STORE_MEMORY.view(s, path, ret);
}

static int counting_end(struct store *s, struct store_view *v)
{
	end_count++;
	(void)STORE_MEMORY.view_end(s, v);
	return end_result < 0 ? problem_set(s->problem, end_result, "taken away") : 0;
}

/* Keys "a" to "e" of mapper 0, "b" to "f" of 1 and so on; behind it who put it. */
static void object_put(struct fixture *f, uint32_t map)
{
	uint8_t record[RECORD_SIZE] = { 0 }, buf[4 * RECORD_SIZE];
	struct piece piece = { .ptr = buf, .cap = sizeof(buf) };
	char path[STORE_PATH_MAX];
	struct runs_writer w;

	runs_path("shuffle/00000", map, path);
	runs_writer_init(&w, f->store, &f->problem, path);
	assert_int_equal(runs_begin(&w, &piece, NULL, 0), 0);
	for (uint8_t i = 0; i < RECORDS; i++) {
		record[0] = (uint8_t)('a' + map + i);
		record[RECORD_SIZE - 1] = (uint8_t)map;
		assert_int_equal(runs_put(&w, &piece, record, RECORD_SIZE), 0);
	}
	assert_int_equal(runs_end(&w, &piece), 0);
	assert_int_equal(runs_commit(&w, &piece), 0);
	runs_writer_fini(&w);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct store_config config = { .url = "memory:", .job = "job", .timeout_ms = 1000 };
	const struct runs_place place = { "shuffle/00000", "runs/00000", MAPS };

	assert_int_equal(store_open(&config, &f->problem, &f->store), 0);
	for (uint32_t i = 0; i < MAPS; i++)
		object_put(f, i);
	f->req = (struct request){ .format = FORMAT_RECORDS,
				   .maps = MAPS,
				   .function_memory = 64u << 20,
				   .timeout_ms = 1000 };
	f->f = (struct function){ .req = &f->req, .problem = &f->problem, .store = f->store };
	assert_int_equal(runs_find(f->store, &place, &f->problem, &f->runs), 0);
	f->ops = STORE_MEMORY;
	f->ops.read = counting_read;
	f->ops.view = counting_view;
	f->ops.view_end = counting_end;
	f->store->ops = &f->ops;
	read_count = view_count = end_count = 0;
	shown_max = UINT32_MAX;
	end_result = 0;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(store_job_end(f->store, "job"), 0);
	run_list_fini(&f->runs);
	json_decref(f->f.more);
	store_close(f->store);
	free(f);
	return 0;
}

/* The first bytes of all records, as they come, and what the end says. */
static int merged(struct fixture *f, size_t room, bool may_view, char ret[MAPS * RECORDS + 1])
{
	const uint8_t *item;
	struct pass p;
	size_t size, n = 0;
	int r;

	assert_int_equal(pass_init(&p, &f->f, f->runs.runs, f->runs.count, room, may_view), 0);
	while ((r = merge_next(&p.merge, &item, &size)) > 0) {
		assert_int_equal(size, RECORD_SIZE);
		assert_true(n < MAPS * RECORDS);
		ret[n++] = (char)item[0];
	}
	ret[n] = '\0';
	assert_int_equal(r, 0);
	r = pass_end(&p);
	pass_fini(&p);
	return r;
}

static void runs_are_looked_at_where_they_lie(void **state)
{
	char got[MAPS * RECORDS + 1];

	assert_int_equal(merged(*state, ROOM, true, got), 0);
	assert_string_equal(got, "abbcccdddeeeffg");
	assert_int_equal(read_count, 0);
	assert_int_equal(view_count, 3);
	assert_int_equal(end_count, 3);
}

static void what_may_or_can_not_be_shown_is_read(void **state)
{
	struct fixture *f = *state;
	char got[MAPS * RECORDS + 1];

	assert_int_equal(merged(f, ROOM, false, got), 0);
	assert_string_equal(got, "abbcccdddeeeffg");
	assert_int_equal(view_count, 0);
	assert_int_equal(read_count, 3);
	/* There is room for all but a byte of it. */
	assert_int_equal(merged(f, MAPS * RECORDS * RECORD_SIZE - 1, true, got), 0);
	assert_int_equal(view_count, 0);
	assert_int_equal(merged(f, MAPS * RECORDS * RECORD_SIZE, true, got), 0);
	assert_int_equal(view_count, 3);
	/* What was shown is given back before the rest is read. */
	view_count = end_count = read_count = 0;
	shown_max = 2;
	assert_int_equal(merged(f, ROOM, true, got), 0);
	assert_string_equal(got, "abbcccdddeeeffg");
	assert_int_equal(view_count, 2);
	assert_int_equal(end_count, 2);
	assert_int_equal(read_count, 3);
}

static void lines_are_read(void **state)
{
	struct fixture *f = *state;
	struct pass p;

	f->req.format = FORMAT_LINES;
	assert_int_equal(pass_init(&p, &f->f, f->runs.runs, f->runs.count, ROOM, true), -EBADMSG);
	assert_int_equal(view_count, 0);
	assert_int_equal(read_count, 3);
}

/* Its last record is not whole, and the memory where it lies is not to be written. */
static void a_damaged_run_that_is_looked_at_is_found_out(void **state)
{
	struct fixture *f = *state;
	struct store_view v;
	const uint8_t *item;
	uint8_t first;
	struct pass p;
	size_t size;
	int r;

	f->runs.runs[1].len -= 1;
	assert_int_equal(STORE_MEMORY.view(f->store, "shuffle/00000/00001", &v), 1);
	first = v.ptr[0];
	assert_int_equal(pass_init(&p, &f->f, f->runs.runs, f->runs.count, ROOM, true), 0);
	while ((r = merge_next(&p.merge, &item, &size)) > 0)
		;
	assert_int_equal(r, -EBADMSG);
	pass_fini(&p);
	assert_int_equal(v.ptr[0], first);
	assert_int_equal(end_count, 3);
	(void)STORE_MEMORY.view_end(f->store, &v);

	f->runs.runs[1].len = 1 << 16;
	assert_int_equal(pass_init(&p, &f->f, f->runs.runs, f->runs.count, ROOM, true), -EIO);
	assert_string_equal(f->problem.text, "shuffle/00000/00001: shorter than expected");
	assert_int_equal(end_count, 5);
}

static void what_was_taken_away_is_no_output(void **state)
{
	struct fixture *f = *state;
	char directory[] = "/tmp/wadi-test-pass-XXXXXX", path[64];

	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/out", directory);
	f->req.output = path;
	end_result = -ESTALE;
	assert_int_equal(reduce_run(&f->f), -ESTALE);
	assert_string_equal(f->problem.text, "taken away");
	assert_int_equal(end_count, 3);
	assert_int_equal(access(path, F_OK), -1);
	end_result = 0;
	json_decref(f->f.more);
	assert_int_equal(reduce_run(&f->f), 0);
	assert_int_equal(f->f.written_bytes, MAPS * RECORDS * RECORD_SIZE);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(directory), 0);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(runs_are_looked_at_where_they_lie),
		T(what_may_or_can_not_be_shown_is_read),
		T(lines_are_read),
		T(a_damaged_run_that_is_looked_at_is_found_out),
		T(what_was_taken_away_is_no_output),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
