/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: items are sorted as `LC_ALL=C sort -s` does. Method: texts that are hard on a
 * radix sort (few letters, long common beginnings, zeros, one line a thousand times),
 * sorted once more by insertion of whole keys and compared item by item, so that
 * stability is seen as well. The seed is printed.
 */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>

#include "item.h"
#include "region.h"

static uint64_t seed = 1;

static uint64_t random_below(uint64_t n)
{
	seed = seed * 6364136223846793005 + 1442695040888963407;
	return (seed >> 33) % n;
}

/* A line of some kind to `to`; its length with the newline. */
static size_t line_make(unsigned kind, uint8_t *to)
{
	size_t len = 0;

	switch (kind) {
	case 0: /* two letters, any length: all depths, many equal */
		len = random_below(20);
		for (size_t i = 0; i < len; i++)
			to[i] = (uint8_t)("ab"[random_below(2)]);
		break;
	case 1: /* a beginning that all share, longer than several chunks */
		len = 37 + random_below(4);
		memset(to, 'x', len);
		to[len - 1] = (uint8_t)('0' + random_below(3));
		break;
	case 2: /* zeros: what an ended key looks like */
		len = random_below(18);
		memset(to, 0, len);
		if (len > 0 && random_below(2))
			to[random_below(len)] = 1;
		break;
	case 3: /* any bytes but the newline */
		len = random_below(30);
		for (size_t i = 0; i < len; i++)
			to[i] = (uint8_t)(random_below(245) + 11);
		break;
	default: /* the same one */
		len = 26;
		memcpy(to, "the same line over and over", len);
	}
	to[len] = '\n';
	return len + 1;
}

static int reference(const void *a, const void *b, void *arena)
{
	const struct item *x = a, *y = b;
	const uint8_t *base = arena;
	size_t n = x->key_len < y->key_len ? x->key_len : y->key_len;
	int r = memcmp(base + x->offset, base + y->offset, n);

	if (r == 0 && x->key_len != y->key_len)
		return x->key_len < y->key_len ? -1 : 1;
	/* In order of the input, which is that of the offsets. */
	return r ? r : (x->offset > y->offset) - (x->offset < y->offset);
}

static void check_sorted(enum format format, const uint8_t *arena, size_t len)
{
	size_t cap = len + 1, next, count;
	struct item *items = calloc(cap, sizeof(*items)), *scratch = calloc(cap, sizeof(*items));
	struct item *want = calloc(cap, sizeof(*items));
	struct sorter *sorter = sorter_new();

	count = items_find(format, arena, 0, len, items, cap, &next);
	assert_int_equal(next, len);
	memcpy(want, items, count * sizeof(*items));
	qsort_r(want, count, sizeof(*want), reference, (void *)(uintptr_t)arena);
	items_sort(sorter, items, scratch, count, arena);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(items[i].offset, want[i].offset);
		assert_int_equal(items[i].key_len, want[i].key_len);
	}
	sorter_free(sorter);
	free(items);
	free(scratch);
	free(want);
}

static void lines_of_every_kind_come_out_in_order(void **state)
{
	static const size_t counts[] = { 0, 1, 2, 23, 24, 25, 26, 300, 5000 };

	for (unsigned kind = 0; kind < 6; kind++) {
		for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
			struct region arena;
			size_t len = 0;

			assert_int_equal(region_init(&arena, 64 * counts[c] + 1), 0);
			for (size_t i = 0; i < counts[c]; i++)
				len += line_make(kind == 5 ? (unsigned)random_below(5) : kind,
						 arena.ptr + len);
			check_sorted(FORMAT_LINES, arena.ptr, len);
			region_fini(&arena);
		}
	}
}

static void records_of_every_skew_come_out_in_order(void **state)
{
	enum { N = 20000 };

	for (enum skew skew = SKEW_UNIFORM; skew <= SKEW_EQUAL; skew++) {
		struct region arena;
		struct generator g;

		assert_int_equal(region_init(&arena, N * RECORD_SIZE), 0);
		generator_init(&g, skew, 0);
		generator_make(&g, arena.ptr, N);
		check_sorted(FORMAT_RECORDS, arena.ptr, N * RECORD_SIZE);
		region_fini(&arena);
	}
}

static void keys_that_differ_in_the_ninth_byte_only_are_told_apart(void **state)
{
	struct region arena;

	assert_int_equal(region_init(&arena, 100 * RECORD_SIZE), 0);
	for (size_t i = 0; i < 100; i++) {
		memset(arena.ptr + i * RECORD_SIZE, 'k', RECORD_SIZE);
		arena.ptr[i * RECORD_SIZE + 8] = (uint8_t)(i * 77 % 100);
	}
	check_sorted(FORMAT_RECORDS, arena.ptr, 100 * RECORD_SIZE);
	region_fini(&arena);
}

static void what_is_behind_the_key_of_a_record_does_not_count(void **state)
{
	struct region arena;
	struct item items[2], scratch[2];
	struct sorter *sorter = sorter_new();
	size_t next;

	assert_int_equal(region_init(&arena, 2 * RECORD_SIZE), 0);
	memset(arena.ptr, 'k', 2 * RECORD_SIZE);
	arena.ptr[10] = 'z';
	assert_int_equal(items_find(FORMAT_RECORDS, arena.ptr, 0, 200, items, 2, &next), 2);
	items_sort(sorter, items, scratch, 2, arena.ptr);
	assert_int_equal(items[0].offset, 0);
	sorter_free(sorter);
	region_fini(&arena);
}

static void finding_goes_on_where_the_room_ended(void **state)
{
	static const uint8_t text[] = "b\n\naa\nc\n........";
	struct item items[2];
	size_t next;

	assert_int_equal(items_find(FORMAT_LINES, text, 0, 8, items, 2, &next), 2);
	assert_int_equal(next, 3);
	assert_int_equal(items[1].key_len, 0);
	assert_int_equal(items_find(FORMAT_LINES, text, next, 8, items, 2, &next), 2);
	assert_int_equal(next, 8);
	assert_int_equal(items[0].offset, 3);
	assert_int_equal(items[0].key_len, 2);
	assert_int_equal(items[0].chunk, 0x6161000000000000);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_of_every_kind_come_out_in_order),
		cmocka_unit_test(records_of_every_skew_come_out_in_order),
		cmocka_unit_test(keys_that_differ_in_the_ninth_byte_only_are_told_apart),
		cmocka_unit_test(what_is_behind_the_key_of_a_record_does_not_count),
		cmocka_unit_test(finding_goes_on_where_the_room_ended),
	};

	if (getenv("WADI_SEED"))
		seed = strtoull(getenv("WADI_SEED"), NULL, 0);
	printf("WADI_SEED=%llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
