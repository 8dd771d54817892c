/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the instrument says about numbers that are known: percentiles within half a
 * percent, extremes exactly, and the interval of a median against a table of order
 * statistics.
 */
#include "bench/histogram.h"

#include <math.h>

#include "bench/interval.h"
#include "test.h"

static void every_value_is_reported_within_half_a_percent(void **state)
{
	static struct histogram h;

	/* From 1 to 2^63, 37 values to each doubling. */
	for (double v = 1; v < 9e18; v *= pow(2, 1.0 / 37)) {
		uint64_t value = (uint64_t)v, got;

		memset(&h, 0, sizeof(h));
		/* Not the last one, which is known exactly. */
		histogram_add(&h, value);
		histogram_add(&h, UINT64_MAX);
		h.min = 0;
		got = histogram_at(&h, 0.5);
		assert_true(fabs((double)got - (double)value) <= 0.004 * (double)value);
	}
}

static void percentiles_are_those_of_the_sorted_list(void **state)
{
	static struct histogram h;

	memset(&h, 0, sizeof(h));
	for (uint64_t i = 1; i <= 1000; i++)
		histogram_add(&h, i <= 990 ? 100 : i <= 999 ? 1000000 : 77777777);
	assert_int_equal(h.count, 1000);
	assert_int_equal(histogram_at(&h, 0.5), 100);
	assert_int_equal(histogram_at(&h, 0.99), 100);
	assert_in_range(histogram_at(&h, 0.999), 996000, 1004000);
	assert_int_equal(histogram_at(&h, 1), 77777777);
	assert_int_equal(h.min, 100);
	assert_int_equal(h.max, 77777777);
	assert_int_equal(h.sum, 990ull * 100 + 9ull * 1000000 + 77777777);
}

static void of_nothing_all_is_zero(void **state)
{
	static struct histogram h;

	assert_int_equal(histogram_at(&h, 0.5), 0);
	assert_int_equal(h.max, 0);
}

static void two_merged_are_as_one(void **state)
{
	static struct histogram a, b, both;

	for (uint64_t i = 0; i < 5000; i++) {
		histogram_add(i % 3 ? &a : &b, i * i);
		histogram_add(&both, i * i);
	}
	histogram_merge(&a, &b);
	assert_memory_equal(&a, &both, sizeof(a));
	memset(&b, 0, sizeof(b));
	histogram_merge(&a, &b);
	assert_memory_equal(&a, &both, sizeof(a));
	histogram_merge(&b, &a);
	assert_memory_equal(&b, &both, sizeof(a));
}

/* The ranks are those of any table of confidence intervals for the median. */
static void the_interval_leaves_out_as_many_as_the_table_says(void **state)
{
	static const struct {
		unsigned count, low, high; /* ranks from 1 */
	} table[] = { { 1, 1, 1 },   { 5, 1, 5 },   { 6, 1, 6 },   { 9, 2, 8 },
		      { 15, 4, 12 }, { 20, 6, 15 }, { 30, 10, 21 } };

	for (size_t t = 0; t < sizeof(table) / sizeof(table[0]); t++) {
		unsigned n = table[t].count;
		double values[32];
		struct interval i;

		for (unsigned k = 0; k < n; k++)
			values[k] = (k * 7) % n + 1;
		if (n % 7 == 0)
			fail();
		i = interval_of(values, n);
		assert_int_equal(i.low, table[t].low);
		assert_int_equal(i.high, table[t].high);
		assert_true(fabs(i.median - (n + 1) / 2.0) < 1e-9);
	}
	assert_true(interval_of(NULL, 0).median == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_value_is_reported_within_half_a_percent),
		cmocka_unit_test(percentiles_are_those_of_the_sorted_list),
		cmocka_unit_test(of_nothing_all_is_zero),
		cmocka_unit_test(two_merged_are_as_one),
		cmocka_unit_test(the_interval_leaves_out_as_many_as_the_table_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
