/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: an object of runs says what is in it, and a damaged one is found out. Method:
 * objects of one and of many runs, put at once and as streams, in a directory as the
 * store; literals for the layout; every cut and every flipped byte of an index.
 */
#include "test.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "runs.h"

struct fixture {
	char path[64];
	struct problem problem;
	struct store *store;
	uint8_t buf[64];
	struct piece piece;
};

static int entry_remove(const char *path, const struct stat *st, int type, struct FTW *at)
{
	return remove(path);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char url[128], token[STORE_TOKEN_MAX];
	struct store_config config = { .url = url, .job = "job", .timeout_ms = 1000 };

	strcpy(f->path, "/tmp/wadi-test-runs-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	snprintf(url, sizeof(url), "dir:%s", f->path);
	assert_int_equal(store_open(&config, &f->problem, &f->store), 0);
	assert_int_equal(store_job_begin(f->store, "job", 0, token), 0);
	f->piece = (struct piece){ .ptr = f->buf, .cap = sizeof(f->buf) };
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	store_close(f->store);
	nftw(f->path, entry_remove, 8, FTW_DEPTH | FTW_PHYS);
	free(f);
	return 0;
}

static void put(struct fixture *f, struct runs_writer *w, const char *line)
{
	assert_int_equal(runs_put(w, &f->piece, (const uint8_t *)line, strlen(line)), 0);
}

static void a_small_object_has_the_layout_of_the_picture(void **state)
{
	static const char WANT[] = "b\nlonger\nc\n"
				   "\xff\xff\xff\xff\0\0\0\0\x9\0\0\0\0\0\0\0\x7\0\0\0\0\0\0\0"
				   "\xff\xff\xff\xff\0\0\0\0\2\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0"
				   "\2\0\0\0RUNS";
	struct fixture *f = *state;
	struct runs_writer w;
	uint8_t got[sizeof(WANT)];
	struct store_read read = { "d/00000", 0, got, sizeof(WANT) - 1 };

	runs_writer_init(&w, f->store, &f->problem, "d/00000");
	assert_int_equal(runs_begin(&w, &f->piece, NULL, 0), 0);
	put(f, &w, "b\n");
	put(f, &w, "longer\n");
	assert_int_equal(runs_end(&w, &f->piece), 0);
	assert_int_equal(runs_begin(&w, &f->piece, NULL, 0), 0);
	assert_int_equal(runs_end(&w, &f->piece), 0); /* nothing in it: no run */
	put(f, &w, "c\n");
	assert_int_equal(runs_end(&w, &f->piece), 0);
	assert_int_equal(runs_commit(&w, &f->piece), 0);
	runs_writer_fini(&w);
	assert_int_equal(store_read(f->store, &read, 1), 0);
	assert_memory_equal(got, WANT, sizeof(WANT) - 1);
}

static void runs_of_several_objects_are_found_in_order(void **state)
{
	enum { OBJECTS = 3, RUNS = 50 }; /* more than the first read of an index brings */
	struct fixture *f = *state;
	struct runs_writer writers[OBJECTS];
	struct run_list list = { 0 };
	char line[32];

	for (size_t i = 0; i < OBJECTS; i++) {
		snprintf(line, sizeof(line), "d/%05zu", i);
		runs_writer_init(&writers[i], f->store, &f->problem, line);
	}
	for (size_t k = 0; k < RUNS; k++) {
		for (size_t i = 0; i < OBJECTS; i++) {
			snprintf(line, sizeof(line), "%zu of %zu\n", k, i);
			assert_int_equal(runs_begin(&writers[i], &f->piece, NULL, 0), 0);
			put(f, &writers[i], line);
			assert_int_equal(runs_end(&writers[i], &f->piece), 0);
		}
	}
	for (size_t i = 0; i < OBJECTS; i++) {
		assert_int_equal(runs_commit(&writers[i], &f->piece), 0);
		runs_writer_fini(&writers[i]);
	}
	assert_int_equal(
		runs_find(f->store, &(struct runs_place){ "d", "a", OBJECTS }, &f->problem, &list),
		0);
	assert_int_equal(list.count, OBJECTS * RUNS);
	for (size_t n = 0; n < list.count; n++) {
		const struct run *run = &list.runs[n];
		char path[STORE_PATH_MAX], got[32] = { 0 };
		struct store_read read = { path, run->offset, got, run->len };

		runs_path(run->directory, run->object, path);
		assert_int_equal(store_read(f->store, &read, 1), 0);
		snprintf(line, sizeof(line), "%zu of %zu\n", n % RUNS, n / RUNS);
		assert_string_equal(got, line);
		assert_int_equal(run->longest, strlen(line));
	}
	run_list_fini(&list);
}

static void runs_apart_are_objects_of_their_own_and_need_no_stream(void **state)
{
	struct fixture *f = *state;
	struct run_list list = { 0 };
	struct store_list objects;
	struct runs_writer w;
	char got[80] = { 0 };
	struct store_read read = { "a/70000", 0, got, 2 }, longer = { "a/70001", 0, got, 72 };

	runs_writer_init(&w, f->store, &f->problem, "d/00000");
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(runs_begin(&w, &f->piece, "a", 70000 + i), 0);
		for (size_t k = 0; k < (i ? 36 : 1); k++)
			put(f, &w, "x\n");
		assert_int_equal(runs_end(&w, &f->piece), 0);
		assert_null(w.inside.stream);
		assert_null(w.apart.stream);
	}
	assert_int_equal(store_list(f->store, "d", &objects), 0);
	assert_int_equal(objects.count, 0);
	assert_int_equal(runs_commit(&w, &f->piece), 0);
	runs_writer_fini(&w);

	assert_int_equal(
		runs_find(f->store, &(struct runs_place){ "d", "a", 1 }, &f->problem, &list), 0);
	assert_int_equal(list.count, 2);
	assert_string_equal(list.runs[1].directory, "a");
	assert_int_equal(list.runs[1].object, 70001);
	assert_int_equal(list.runs[1].offset, 0);
	assert_int_equal(list.runs[1].len, 72);
	assert_int_equal(list.runs[1].longest, 2);
	run_list_fini(&list);
	assert_int_equal(store_read(f->store, &read, 1), 0);
	assert_string_equal(got, "x\n");
	assert_int_equal(store_read(f->store, &longer, 1), 0);
	assert_int_equal(strlen(got), 72);
}

static void a_missing_object_is_an_error(void **state)
{
	struct fixture *f = *state;
	struct run_list list = { 0 };
	struct runs_writer w;

	runs_writer_init(&w, f->store, &f->problem, "d/00001");
	assert_int_equal(runs_commit(&w, &f->piece), 0);
	runs_writer_fini(&w);
	assert_int_equal(
		runs_find(f->store, &(struct runs_place){ "d", "a", 2 }, &f->problem, &list),
		-ENOENT);
	assert_string_equal(f->problem.text, "d has 1 objects and should have 2");
	f->problem.text[0] = '\0';
	assert_int_equal(
		runs_find(f->store, &(struct runs_place){ "d", "a", 1 }, &f->problem, &list),
		-ENOENT);
	assert_string_equal(f->problem.text, "d/00000 is missing");
	run_list_fini(&list);
}

static void a_second_attempt_changes_nothing_and_is_no_error(void **state)
{
	struct fixture *f = *state;
	char got[2];
	struct store_read read = { "d/00000", 0, got, 2 };

	for (int attempt = 0; attempt < 2; attempt++) {
		struct runs_writer w;

		runs_writer_init(&w, f->store, &f->problem, "d/00000");
		assert_int_equal(runs_begin(&w, &f->piece, NULL, 0), 0);
		put(f, &w, attempt ? "2\n" : "1\n");
		assert_int_equal(runs_end(&w, &f->piece), 0);
		assert_int_equal(runs_commit(&w, &f->piece), 0);
		runs_writer_fini(&w);
	}
	assert_int_equal(store_read(f->store, &read, 1), 0);
	assert_memory_equal(got, "1\n", 2);
}

/* Two runs of 5 and 3 bytes behind 8 bytes of data. */
static const uint8_t OBJECT[] = "fivexsix"
				"\xff\xff\xff\xff\0\0\0\0\5\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0"
				"\xff\xff\xff\xff\0\0\0\0\3\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0"
				"\2\0\0\0RUNS";
#define OBJECT_LEN (sizeof(OBJECT) - 1)

static int decode(const uint8_t *tail, size_t tail_len, size_t *ret_need)
{
	struct run_list list = { 0 };
	int r = runs_decode(tail, tail_len, OBJECT_LEN, &(struct runs_place){ "d", "a", 9 }, 3,
			    &list, ret_need);

	if (r == 0) {
		assert_int_equal(list.count, 2);
		assert_int_equal(list.runs[1].object, 3);
		assert_int_equal(list.runs[1].offset, 5);
		assert_int_equal(list.runs[1].len, 3);
		assert_int_equal(list.runs[1].longest, 1);
	}
	run_list_fini(&list);
	return r;
}

static void a_tail_that_is_too_short_says_how_much_is_needed(void **state)
{
	for (size_t n = 0; n <= OBJECT_LEN; n++) {
		size_t need = 0;
		int r = decode(OBJECT + OBJECT_LEN - n, n, &need);

		assert_int_equal(r, n < 8 ? -EBADMSG : n < 56 ? -ENOBUFS : 0);
		assert_int_equal(need, n < 8 ? 0 : 56);
	}
}

static void a_flipped_bit_of_a_length_is_noticed(void **state)
{
	for (size_t at = 8; at < OBJECT_LEN; at++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			uint8_t copy[OBJECT_LEN];
			size_t field = at < 56 ? (at - 8) % 24 : 8, need;

			/* Filler; and a hint for windows, of which the merge finds out. */
			if ((field >= 4 && field < 8) || field >= 16)
				continue;
			memcpy(copy, OBJECT, OBJECT_LEN);
			copy[at] ^= (uint8_t)(1u << bit);
			assert_int_equal(decode(copy, OBJECT_LEN, &need), -EBADMSG);
		}
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_small_object_has_the_layout_of_the_picture, setup,
						teardown),
		cmocka_unit_test_setup_teardown(runs_of_several_objects_are_found_in_order, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			runs_apart_are_objects_of_their_own_and_need_no_stream, setup, teardown),
		cmocka_unit_test_setup_teardown(a_missing_object_is_an_error, setup, teardown),
		cmocka_unit_test_setup_teardown(a_second_attempt_changes_nothing_and_is_no_error,
						setup, teardown),
		cmocka_unit_test(a_tail_that_is_too_short_says_how_much_is_needed),
		cmocka_unit_test(a_flipped_bit_of_a_length_is_noticed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
