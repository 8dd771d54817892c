/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what the store promised holds, whatever fails: a cluster of metadata shards,
 * stores, proxies and clients, under faults, and a model that knows what was
 * acknowledged; in the end everything is accounted for. And a seed repeats.
 *
 * Method: some seeds in simulated time, from WADI_SEED on, which is printed; SEEDS says
 * how many. tools/sim runs many more, and shrinks those that fail.
 */
#include "../unit/test.h"

#include <stdlib.h>

#include "simulation.h"

static uint64_t seed_of_run(void)
{
	const char *given = getenv("WADI_SEED");

	return given ? strtoull(given, NULL, 0) : 1;
}

static unsigned seeds_of_run(void)
{
	const char *given = getenv("SEEDS");

	return given ? (unsigned)strtoul(given, NULL, 0) : 100;
}

static void whatever_fails_what_was_promised_holds(void **state)
{
	static struct outcome_of o;
	uint64_t gets = 0, puts = 0;

	print_message("WADI_SEED=%llu, %u seeds\n", (unsigned long long)seed_of_run(),
		      seeds_of_run());
	for (uint64_t seed = seed_of_run(); seed < seed_of_run() + seeds_of_run(); seed++) {
		simulate(seed, NULL, &o);
		if (o.failure[0])
			print_message("tools/sim --shrink %llu: %s\n  %s\n",
				      (unsigned long long)seed, o.failure, o.faults);
		assert_string_equal(o.failure, "");
		gets += o.gets;
		puts += o.puts;
	}
	/* A workload that does nothing would find nothing. */
	assert_true(puts > 20 * seeds_of_run());
	assert_true(gets > 10 * seeds_of_run());
}

static void a_seed_repeats(void **state)
{
	static struct outcome_of first, second, other;

	simulate(seed_of_run(), NULL, &first);
	simulate(seed_of_run(), first.faults, &second);
	simulate(seed_of_run() + 1, NULL, &other);
	assert_int_equal(first.fingerprint, second.fingerprint);
	assert_int_not_equal(first.fingerprint, other.fingerprint);
}

static void a_list_of_faults_is_read_as_it_is_written(void **state)
{
	static const char LIST[] =
		"kill:store0@1500+3000,cut:meta-proxy0@2000+5000,break:client2-proxy0@2100,"
		"wall:meta@3000=-3600000,slow:@3100+4000=80,pause:proxy1@4000#17+20";
	struct faults f;
	char text[400];

	assert_true(faults_parse(&f, LIST));
	assert_int_equal(f.count, 6);
	assert_int_equal(f.list[0].kind, FAULT_KILL);
	assert_int_equal(f.list[1].for_ms, 5000);
	assert_int_equal(f.list[3].amount, -3600000);
	assert_int_equal(f.list[5].nth, 17);
	faults_format(&f, text, sizeof(text));
	assert_string_equal(text, LIST);
	assert_true(faults_parse(&f, ""));
	assert_int_equal(f.count, 0);
	assert_false(faults_parse(&f, "kill"));
	assert_false(faults_parse(&f, "break:client2@1,eat:meta@1"));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_list_of_faults_is_read_as_it_is_written),
		cmocka_unit_test(a_seed_repeats),
		cmocka_unit_test(whatever_fails_what_was_promised_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
