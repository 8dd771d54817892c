/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the records are the benchmark's, wherever one begins to make them. Method: the
 * published sum, the first record as literals, ranges made in pieces of every kind, and
 * how the keys of a skew lie.
 */
#include "test.h"

#include <stdlib.h>

#include "record.h"

static void the_first_million_records_have_the_published_sum(void **state)
{
	static uint8_t buf[1000 * RECORD_SIZE];
	struct generator g;
	uint64_t sum = 0;

	generator_init(&g, SKEW_UNIFORM, 0);
	for (int i = 0; i < 1000; i++) {
		generator_make(&g, buf, 1000);
		for (size_t k = 0; k < 1000; k++)
			sum += record_sum(buf + k * RECORD_SIZE);
	}
	assert_int_equal(sum, 0x7a27e2d0d55de);
}

static void the_first_record_is_as_the_description_says(void **state)
{
	static const uint8_t key[] = { 0x4a, 0x69, 0x6d, 0x47, 0x72, 0x61, 0x79, 0x52, 0x49, 0x50 };
	uint8_t buf[RECORD_SIZE];
	struct generator g;

	generator_init(&g, SKEW_UNIFORM, 0);
	generator_make(&g, buf, 1);
	assert_memory_equal(buf, key, 10);
	assert_memory_equal(buf + 10, "\x00\x11", 2);
	assert_memory_equal(buf + 12, "00000000000000000000000000000000", 32);
	assert_memory_equal(buf + 44, "\x88\x99\xaa\xbb", 4);
	assert_memory_equal(buf + 48, "222200002222000022220000222200002222000000001111", 48);
	assert_memory_equal(buf + 96, "\xcc\xdd\xee\xff", 4);
}

static void any_range_can_be_made_by_itself(void **state)
{
	static const u128 starts[] = {
		0, 1, 2, 999, 12345678901, ~(u128)0 >> 1, ((u128)7 << 64) - 3
	};

	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		uint8_t whole[7 * RECORD_SIZE], single[RECORD_SIZE];
		struct generator g;

		for (enum skew skew = SKEW_UNIFORM; skew <= SKEW_EQUAL; skew++) {
			generator_init(&g, skew, starts[i]);
			generator_make(&g, whole, 7);
			for (unsigned n = 0; n < 7; n++) {
				generator_init(&g, skew, starts[i] + n);
				generator_make(&g, single, 1);
				assert_memory_equal(single, whole + n * RECORD_SIZE, RECORD_SIZE);
			}
		}
	}
}

static void the_number_of_a_record_has_128_bits(void **state)
{
	uint8_t buf[2 * RECORD_SIZE];
	struct generator g;

	generator_init(&g, SKEW_UNIFORM, ((u128)0x123456789abcdef0 << 64) + UINT64_MAX);
	generator_make(&g, buf, 2);
	assert_memory_equal(buf + 12, "123456789ABCDEF0FFFFFFFFFFFFFFFF", 32);
	assert_memory_equal(buf + RECORD_SIZE + 12, "123456789ABCDEF10000000000000000", 32);
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, RECORD_KEY_SIZE);
}

static void ninety_percent_of_skewed_keys_lie_in_one_narrow_range_and_differ(void **state)
{
	enum { N = 20000 };
	uint8_t *buf = malloc(N * RECORD_SIZE);
	size_t narrow = 0, equal = 0;
	struct generator g;

	generator_init(&g, SKEW_ZIPF, 0);
	generator_make(&g, buf, N);
	qsort(buf, N, RECORD_SIZE, compare);
	for (size_t i = 0; i < N; i++)
		narrow += buf[i * RECORD_SIZE] == 0x9e && buf[i * RECORD_SIZE + 1] == 0x37;
	for (size_t i = 1; i < N; i++)
		equal += compare(buf + i * RECORD_SIZE, buf + (i - 1) * RECORD_SIZE) == 0;
	assert_in_range(narrow, N * 89 / 100, N * 91 / 100);
	assert_int_equal(equal, 0);
	free(buf);
}

static void equal_keys_are_equal_and_their_records_are_not(void **state)
{
	uint8_t buf[2 * RECORD_SIZE];
	struct generator g;

	generator_init(&g, SKEW_EQUAL, 5);
	generator_make(&g, buf, 2);
	assert_memory_equal(buf, buf + RECORD_SIZE, RECORD_KEY_SIZE);
	assert_memory_not_equal(buf, buf + RECORD_SIZE, RECORD_SIZE);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_million_records_have_the_published_sum),
		cmocka_unit_test(the_first_record_is_as_the_description_says),
		cmocka_unit_test(any_range_can_be_made_by_itself),
		cmocka_unit_test(the_number_of_a_record_has_128_bits),
		cmocka_unit_test(ninety_percent_of_skewed_keys_lie_in_one_narrow_range_and_differ),
		cmocka_unit_test(equal_keys_are_equal_and_their_records_are_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
