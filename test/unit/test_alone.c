/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of the server by themselves: which names are asked for, when that ends, and what the
 * row says of calls whose time is known, on a clock that they move.
 */
#include "bench/alone.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/container.h"
#include "base/node.h"
#include "test.h"

#define US 1000ull
#define MS 1000000ull

static uint64_t clock_ns;

static uint64_t fake_now(struct node *n)
{
	return clock_ns;
}

static struct node fake_node = { .now_ns = fake_now };

/* A call takes `ns`, and the one of number `fails` fails. */
struct target {
	struct alone alone;
	uint64_t ns, slow_ns, count, fails;
	uint64_t seen[1000];
};

static int call(struct alone *a, uint64_t n)
{
	struct target *t = container_of(a, struct target, alone);

	t->seen[n]++;
	clock_ns += t->count < ALONE_CALLS ? t->slow_ns : t->ns;
	return t->count++ == t->fails ? -EIO : 0;
}

static struct bench_row row;

static void take_row(struct bench_sink *s, const struct bench_row *given)
{
	row = *given;
}

static struct bench_sink sink = { .row = take_row };
static struct bench bench = { .sink = &sink };

static struct target *target_new(void)
{
	struct target *t = calloc(1, sizeof(*t));

	t->alone =
		(struct alone){ .b = &bench, .kind = BENCH_KIND_INDEX, .size = 77, .call = call };
	t->ns = t->slow_ns = 10 * US;
	t->fails = UINT64_MAX;
	return t;
}

static int run(struct target *t, uint64_t names, uint64_t count, uint64_t ns)
{
	int r;

	node_current = &fake_node;
	r = alone_run(&t->alone, names, count, ns);
	node_current = NULL;
	return r;
}

static void all_names_are_asked_for(void **state)
{
	struct target *t = target_new();

	assert_int_equal(run(t, 1000, 64000, UINT64_MAX), 0);
	assert_int_equal(t->count, 64000);
	assert_int_equal(t->alone.calls, 64000);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(t->seen[i], 64);
	free(t);
}

/* Neighbors in time are none in the names. */
static void the_next_one_is_far_away(void **state)
{
	struct target *t = target_new();

	assert_int_equal(run(t, 1000, 1, UINT64_MAX), 0);
	assert_int_equal(t->count, 64);
	assert_int_equal(t->seen[919], 1);
	assert_int_equal(t->seen[838], 1);
	assert_int_equal(t->seen[757], 1);
	assert_int_equal(t->seen[0], 0);
	free(t);
}

static void it_ends_by_time_or_by_number(void **state)
{
	struct target *t = target_new();

	/* In batches of 64, of 640 us each: the last begins before the end. */
	assert_int_equal(run(t, 1000, UINT64_MAX, 1280 * US), 0);
	assert_int_equal(t->alone.calls, 128);
	assert_int_equal(run(t, 1000, UINT64_MAX, 1281 * US), 0);
	assert_int_equal(t->alone.calls, 192);
	assert_int_equal(t->alone.busy_ns, 1920 * US);
	assert_int_equal(run(t, 1000, 128, UINT64_MAX), 0);
	assert_int_equal(t->alone.calls, 128);
	assert_int_equal(run(t, 1000, 129, UINT64_MAX), 0);
	assert_int_equal(t->alone.calls, 192);
	assert_int_equal(t->alone.latency.count, 3);
	free(t);
}

static void the_first_failure_ends_it(void **state)
{
	struct target *t = target_new();

	t->fails = 70;
	assert_int_equal(run(t, 1000, UINT64_MAX, 1000 * MS), -EIO);
	assert_int_equal(t->count, 71);
	free(t);
}

static void a_row_is_of_one_call_each(void **state)
{
	struct target *t = target_new();

	t->slow_ns = 40 * US; /* the first batch */
	t->alone.moved = 1000;
	assert_int_equal(run(t, 1000, 64 * 5, UINT64_MAX), 0);
	t->alone.cpu_ns = 320 * 5 * US;
	alone_give(&t->alone, "get", 12.5);
	assert_string_equal(row.bench, "index");
	assert_string_equal(row.op, "get");
	assert_string_equal(row.system, "wadi");
	assert_string_equal(row.attach, "none");
	assert_string_equal(row.mode, "quiet");
	assert_int_equal(row.size, 77);
	assert_int_equal(row.clients, 1);
	assert_int_equal(row.depth, 1);
	assert_int_equal(row.pairs, 0);
	assert_float_equal(row.p50_us, 10, 0.1);
	assert_float_equal(row.p99_us, 40, 0.1);
	assert_float_equal(row.p999_us, 40, 0.1);
	assert_float_equal(row.max_us, 40, 0.001);
	/* 64 of 40 us, and 256 of 10. */
	assert_float_equal(row.ops_per_s, 62500, 0.1);
	assert_float_equal(row.mb_per_s, 62.5, 0.001);
	assert_float_equal(row.server_cpu_us, 5, 0.001);
	assert_float_equal(row.object_bytes, 12.5, 0.001);
	assert_true(isnan(row.client_cpu_us) && isnan(row.least_share));
	assert_true(isnan(row.beside_mb_per_s) && isnan(row.behind_cpu_us));
	bench.is_awake = true;
	alone_give(&t->alone, "put", NAN);
	assert_string_equal(row.op, "put");
	assert_string_equal(row.mode, "awake");
	assert_true(isnan(row.object_bytes));
	bench.is_awake = false;
	free(t);
}

/* For this process, so it is the last. */
static void who_is_interrupted_says_so(void **state)
{
	struct target *t = target_new();

	bench_interrupt();
	assert_true(bench_is_interrupted());
	assert_int_equal(run(t, 1000, UINT64_MAX, 1000 * MS), -ECANCELED);
	assert_int_equal(t->count, 64);
	free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_names_are_asked_for),
		cmocka_unit_test(the_next_one_is_far_away),
		cmocka_unit_test(it_ends_by_time_or_by_number),
		cmocka_unit_test(the_first_failure_ends_it),
		cmocka_unit_test(a_row_is_of_one_call_each),
		cmocka_unit_test(who_is_interrupted_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
