/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: splitters divide keys as keys.h says, and what is no list of keys is refused.
 * Method: literals; every prefix of an encoded list; bucket sizes of a skewed sample.
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include "keys.h"

static void keys_survive_their_encoding(void **state)
{
	uint8_t longer[KEYS_CUT + 44];
	struct keys k = { 0 };

	memset(longer, 'l', sizeof(longer));
	assert_int_equal(keys_add(&k, (const uint8_t *)"pear", 4), 0);
	assert_int_equal(keys_add(&k, (const uint8_t *)"", 0), 0);
	assert_int_equal(keys_add(&k, longer, sizeof(longer)), 0);
	assert_int_equal(k.len, 4 + 4 + 4 + 4 + KEYS_CUT);
	assert_memory_equal(k.bytes, "\4\0\0\0pear\0\0\0\0\0\1\0\0l", 17);
	assert_int_equal(keys_index(&k), 0);
	assert_int_equal(k.count, 3);
	assert_memory_equal(k.keys[0].ptr, "pear", 4);
	assert_int_equal(k.keys[1].len, 0);
	assert_int_equal(k.keys[2].len, KEYS_CUT);
	keys_fini(&k);
}

static void a_list_that_is_cut_is_refused(void **state)
{
	struct keys k = { 0 };
	size_t whole;

	keys_add(&k, (const uint8_t *)"a", 1);
	keys_add(&k, (const uint8_t *)"bc", 2);
	whole = k.len;
	for (k.len = 0; k.len <= whole; k.len++)
		assert_int_equal(keys_index(&k),
				 k.len == 0 || k.len == 5 || k.len == whole ? 0 : -EBADMSG);
	k.len = whole;
	k.bytes[1] = 2; /* 513 bytes: longer than a key is */
	assert_int_equal(keys_index(&k), -EBADMSG);
	keys_fini(&k);
}

static void keys_sort_as_bytes_and_shorter_ones_first(void **state)
{
	static const char *const in[] = { "b", "", "a\xff", "a", "ab", "a" };
	static const char *const want[] = { "", "a", "a", "ab", "a\xff", "b" };
	struct keys k = { 0 };

	for (size_t i = 0; i < 6; i++)
		keys_add(&k, (const uint8_t *)in[i], strlen(in[i]));
	assert_int_equal(keys_index(&k), 0);
	keys_sort(&k);
	for (size_t i = 0; i < 6; i++) {
		assert_int_equal(k.keys[i].len, strlen(want[i]));
		assert_memory_equal(k.keys[i].ptr, want[i], k.keys[i].len);
	}
	keys_fini(&k);
}

static void a_bucket_begins_with_its_splitter(void **state)
{
	static const struct {
		const char *splitter;
		size_t want;
	} cases[] = { { "", 0 },   { "a", 0 }, { "aa", 1 }, { "b", 1 },
		      { "bb", 3 }, { "d", 4 }, { "dd", 5 } };
	uint8_t arena[32] = "a\nb\nb\nc\nd\n";
	struct item items[5];
	size_t next;

	assert_int_equal(items_find(FORMAT_LINES, arena, 0, 10, items, 5, &next), 5);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct key s = { (const uint8_t *)cases[i].splitter, strlen(cases[i].splitter) };

		assert_int_equal(splitter_find(&s, items, 5, arena), cases[i].want);
	}
}

static void splitters_are_quantiles_of_the_samples(void **state)
{
	struct keys samples = { 0 }, splitters = { 0 };

	for (uint8_t i = 0; i < 100; i++)
		keys_add(&samples, &i, 1);
	keys_index(&samples);
	assert_int_equal(splitters_choose(&samples, 4, &splitters), 0);
	assert_int_equal(splitters.count, 3);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(splitters.keys[i].ptr[0], 25 * (i + 1));
	keys_fini(&samples);
	keys_fini(&splitters);
}

static void without_samples_there_is_one_bucket(void **state)
{
	struct keys samples = { 0 }, splitters = { 0 };

	assert_int_equal(keys_index(&samples), 0);
	assert_int_equal(splitters_choose(&samples, 8, &splitters), 0);
	assert_int_equal(splitters.count, 0);
	keys_fini(&samples);
	keys_fini(&splitters);
}

static int compare_keys(const void *a, const void *b)
{
	return memcmp(a, b, RECORD_KEY_SIZE);
}

/* The largest of 16 buckets, in percent of the mean, with the samples that a sort of this size
 * takes. */
static size_t largest_bucket(enum skew skew)
{
	enum { N = 200000, BUCKETS = 16, SAMPLES = 4096 };
	uint8_t *records = malloc(N * RECORD_SIZE);
	uint8_t(*sorted)[RECORD_KEY_SIZE] = malloc(N * RECORD_KEY_SIZE);
	struct keys samples = { 0 }, splitters = { 0 };
	size_t largest = 0, before = 0;
	struct generator g;

	generator_init(&g, skew, 77);
	generator_make(&g, records, N);
	for (size_t i = 0; i < N; i++)
		memcpy(sorted[i], records + i * RECORD_SIZE, RECORD_KEY_SIZE);
	for (size_t i = 0; i < SAMPLES; i++)
		keys_add(&samples, sorted[i * N / SAMPLES], RECORD_KEY_SIZE);
	keys_index(&samples);
	keys_sort(&samples);
	splitters_choose(&samples, BUCKETS, &splitters);
	qsort(sorted, N, RECORD_KEY_SIZE, compare_keys);
	for (size_t b = 0; b < BUCKETS; b++) {
		size_t at = b < splitters.count ? 0 : N;

		while (at < N && memcmp(sorted[at], splitters.keys[b].ptr, RECORD_KEY_SIZE) < 0)
			at++;
		if (at - before > largest)
			largest = at - before;
		before = at;
	}
	keys_fini(&samples);
	keys_fini(&splitters);
	free(records);
	free(sorted);
	return largest * 100 * BUCKETS / N;
}

static void the_largest_bucket_is_at_most_half_above_the_mean_also_when_skewed(void **state)
{
	assert_in_range(largest_bucket(SKEW_UNIFORM), 100, 150);
	assert_in_range(largest_bucket(SKEW_ZIPF), 100, 150);
	assert_int_equal(largest_bucket(SKEW_EQUAL), 1600);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_survive_their_encoding),
		cmocka_unit_test(a_list_that_is_cut_is_refused),
		cmocka_unit_test(keys_sort_as_bytes_and_shorter_ones_first),
		cmocka_unit_test(a_bucket_begins_with_its_splitter),
		cmocka_unit_test(splitters_are_quantiles_of_the_samples),
		cmocka_unit_test(without_samples_there_is_one_bucket),
		cmocka_unit_test(
			the_largest_bucket_is_at_most_half_above_the_mean_also_when_skewed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
