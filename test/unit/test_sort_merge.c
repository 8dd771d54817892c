/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: merging sorted runs is sorting them together, whatever the windows, and equal
 * items come in the order of their runs. Method: runs of lines with few letters, sorted
 * by qsort, in windows from the smallest possible to the whole run; damage is an error.
 */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "merge.h"

#define RUNS_MAX 9
#define LINES    60

/* Runs in memory. */
struct memory {
	struct merge merge;
	struct window windows[RUNS_MAX];
	uint8_t *runs[RUNS_MAX];
	size_t lens[RUNS_MAX];
};

static int fill(struct merge *m, struct window *w, size_t n)
{
	struct memory *mem = (struct memory *)m;
	size_t index = (size_t)(w - mem->windows);

	assert_true(n <= w->left && w->end + n <= w->cap);
	memcpy(w->buf + w->end, mem->runs[index] + mem->lens[index] - w->left, n);
	return 0;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static uint64_t seed = 11;

static size_t random_below(size_t n)
{
	seed = seed * 6364136223846793005 + 1442695040888963407;
	return (size_t)((seed >> 33) % n);
}

/* A sorted run of lines; the lines are appended to `all` as well. */
static void run_make(struct memory *mem, size_t index, size_t lines, char **all, size_t *count)
{
	char *list[LINES];
	size_t len = 0;

	for (size_t i = 0; i < lines; i++) {
		list[i] = calloc(1, 24);
		for (size_t n = random_below(20), k = 0; k < n; k++)
			list[i][k] = "ab"[random_below(2)];
		len += strlen(list[i]) + 1;
	}
	qsort(list, lines, sizeof(*list), compare);
	mem->runs[index] = malloc(len + 8);
	mem->lens[index] = len;
	len = 0;
	for (size_t i = 0; i < lines; i++) {
		len += (size_t)sprintf((char *)mem->runs[index] + len, "%s\n", list[i]);
		all[(*count)++] = list[i];
	}
}

static void windows_make(struct memory *mem, size_t count, size_t cap)
{
	for (size_t i = 0; i < count; i++)
		mem->windows[i] = (struct window){
			.buf = malloc(cap + 8),
			.cap = cap,
			.left = mem->lens[i],
		};
	mem->merge = (struct merge){
		.format = FORMAT_LINES,
		.windows = mem->windows,
		.count = count,
		.fill = fill,
	};
}

static void memory_fini(struct memory *mem, size_t count)
{
	merge_fini(&mem->merge);
	for (size_t i = 0; i < count; i++) {
		free(mem->windows[i].buf);
		free(mem->runs[i]);
	}
}

static void check_merge(size_t runs, size_t cap)
{
	char *all[RUNS_MAX * LINES];
	struct memory mem = { 0 };
	const uint8_t *item;
	size_t count = 0, size, at = 0;
	int r;

	for (size_t i = 0; i < runs; i++)
		run_make(&mem, i, random_below(4) ? random_below(LINES) : 0, all, &count);
	qsort(all, count, sizeof(*all), compare);
	windows_make(&mem, runs, cap);
	assert_int_equal(merge_init(&mem.merge), 0);
	while ((r = merge_next(&mem.merge, &item, &size)) > 0) {
		assert_true(at < count);
		assert_int_equal(size, strlen(all[at]) + 1);
		assert_memory_equal(item, all[at], size - 1);
		assert_int_equal(item[size - 1], '\n');
		at++;
	}
	assert_int_equal(r, 0);
	assert_int_equal(at, count);
	assert_int_equal(merge_next(&mem.merge, &item, &size), 0);
	memory_fini(&mem, runs);
	for (size_t i = 0; i < count; i++)
		free(all[i]);
}

static void runs_merge_into_the_sorted_whole(void **state)
{
	for (size_t runs = 0; runs <= RUNS_MAX; runs++)
		for (size_t cap = 20; cap < 1400; cap = cap < 40 ? cap + 1 : cap * 2)
			check_merge(runs, cap);
}

static void equal_keys_come_in_the_order_of_their_runs(void **state)
{
	struct memory mem = { 0 };
	const uint8_t *item;
	size_t size;

	for (size_t i = 0; i < 5; i++) {
		mem.lens[i] = 3 * RECORD_SIZE;
		mem.runs[i] = calloc(1, mem.lens[i] + 8);
		for (size_t k = 0; k < 3; k++)
			mem.runs[i][k * RECORD_SIZE + 50] = (uint8_t)(10 * i + k);
	}
	windows_make(&mem, 5, 130);
	mem.merge.format = FORMAT_RECORDS;
	assert_int_equal(merge_init(&mem.merge), 0);
	for (size_t i = 0; i < 15; i++) {
		assert_int_equal(merge_next(&mem.merge, &item, &size), 1);
		assert_int_equal(size, RECORD_SIZE);
		assert_int_equal(item[50], 10 * (i / 3) + i % 3);
	}
	assert_int_equal(merge_next(&mem.merge, &item, &size), 0);
	memory_fini(&mem, 5);
}

static void keys_of_the_highest_bytes_are_not_taken_for_the_end_of_a_run(void **state)
{
	struct memory mem = { 0 };
	const uint8_t *item;
	size_t size;

	for (size_t i = 0; i < 2; i++) {
		mem.lens[i] = i * RECORD_SIZE;
		mem.runs[i] = malloc(RECORD_SIZE + 8);
		memset(mem.runs[i], 0xff, RECORD_SIZE);
	}
	windows_make(&mem, 2, 100);
	mem.merge.format = FORMAT_RECORDS;
	assert_int_equal(merge_init(&mem.merge), 0);
	assert_int_equal(merge_next(&mem.merge, &item, &size), 1);
	assert_int_equal(merge_next(&mem.merge, &item, &size), 0);
	memory_fini(&mem, 2);
}

/* What a merge of one run of this text ends with. */
static int result_of(const char *text, size_t cap)
{
	struct memory mem = { 0 };
	const uint8_t *item;
	size_t size;
	int r;

	mem.lens[0] = strlen(text);
	mem.runs[0] = (uint8_t *)strdup(text);
	windows_make(&mem, 1, cap);
	r = merge_init(&mem.merge);
	while (r == 0 && (r = merge_next(&mem.merge, &item, &size)) > 0)
		r = 0;
	memory_fini(&mem, 1);
	return r;
}

static void a_run_that_is_cut_or_longer_than_it_said_is_damaged(void **state)
{
	assert_int_equal(result_of("a\nb\nc", 64), -EBADMSG);
	assert_int_equal(result_of("abcdefgh\n", 8), -EBADMSG);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_merge_into_the_sorted_whole),
		cmocka_unit_test(equal_keys_come_in_the_order_of_their_runs),
		cmocka_unit_test(keys_of_the_highest_bytes_are_not_taken_for_the_end_of_a_run),
		cmocka_unit_test(a_run_that_is_cut_or_longer_than_it_said_is_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
