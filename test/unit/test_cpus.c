/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who runs where, on as many cores as this machine lets us have: servers on the first, clients
 * on the next, and on the last ones if there are not enough. And cores that are kept awake.
 */
#include "bench/cpus.h"

#include "test.h"

/* Those that we may use, in order. */
static unsigned cpus[CPU_SETSIZE], count;

static int begin(void **state)
{
	cpu_set_t all;

	CPU_ZERO(&all);
	if (sched_getaffinity(0, sizeof(all), &all) < 0)
		return -1;
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all))
			cpus[count++] = cpu;
	return 0;
}

/* From the first that we may use, [from, to). */
static void expect(cpu_set_t got, unsigned from, unsigned to)
{
	assert_int_equal(CPU_COUNT(&got), to - from);
	for (unsigned i = from; i < to; i++)
		assert_true(CPU_ISSET(cpus[i], &got));
}

static void servers_have_the_first_and_clients_the_next(void **state)
{
	for (unsigned threads = 1; 2 * threads <= count; threads++) {
		expect(cpus_of(CPUS_SERVER, threads), 0, threads);
		expect(cpus_of(CPUS_CLIENT, threads), threads, 2 * threads);
	}
}

static void who_has_not_enough_shares_the_last(void **state)
{
	expect(cpus_of(CPUS_SERVER, count), 0, count);
	expect(cpus_of(CPUS_CLIENT, count), 0, count);
	expect(cpus_of(CPUS_SERVER, count + 5), 0, count);
	expect(cpus_of(CPUS_CLIENT, count + 5), 0, count);
	if (count > 1)
		expect(cpus_of(CPUS_CLIENT, count - 1), 1, count);
}

static void a_thread_is_pinned_and_has_its_own_back(void **state)
{
	cpu_set_t one, before, now;

	CPU_ZERO(&one);
	CPU_SET(cpus[count - 1], &one);
	before = cpus_pin(&one);
	expect(before, 0, count);
	CPU_ZERO(&now);
	assert_int_equal(sched_getaffinity(0, sizeof(now), &now), 0);
	expect(now, count - 1, count);
	before = cpus_pin(&before);
	expect(before, count - 1, count);
	assert_int_equal(sched_getaffinity(0, sizeof(now), &now), 0);
	expect(now, 0, count);
}

static void *leave(void *arg)
{
	cpus_leave_to_others();
	*(int *)arg = sched_getscheduler(0);
	return NULL;
}

static void who_leaves_his_core_to_others_is_alone_in_that(void **state)
{
	pthread_t thread;
	int policy = -1, own = sched_getscheduler(0);

	assert_int_equal(pthread_create(&thread, NULL, leave, &policy), 0);
	pthread_join(thread, NULL);
	assert_int_equal(policy, SCHED_IDLE);
	assert_int_equal(sched_getscheduler(0), own);
}

static void each_core_is_kept_awake_until_that_is_over(void **state)
{
	static struct awake awake;

	assert_int_equal(awake_start(&awake), 0);
	assert_int_equal(awake.count, count < AWAKE_MAX ? count : AWAKE_MAX);
	for (unsigned i = 0; i < awake.count; i++) {
		cpu_set_t one;

		assert_int_equal(pthread_getaffinity_np(awake.threads[i], sizeof(one), &one), 0);
		expect(one, i, i + 1);
	}
	awake_stop(&awake);
	assert_int_equal(awake.count, 0);
	awake_stop(&awake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(servers_have_the_first_and_clients_the_next),
		cmocka_unit_test(who_has_not_enough_shares_the_last),
		cmocka_unit_test(a_thread_is_pinned_and_has_its_own_back),
		cmocka_unit_test(who_leaves_his_core_to_others_is_alone_in_that),
		cmocka_unit_test(each_core_is_kept_awake_until_that_is_over),
	};

	return cmocka_run_group_tests(tests, begin, NULL);
}
