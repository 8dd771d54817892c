/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a helper does its work in order and beside the loop, and what is done comes
 * back to the loop. Method: the same tests over threads and in the simulator; works
 * write down what they saw, and only the loop's thread asserts.
 */
#include "test.h"

#include <semaphore.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/container.h"
#include "world.h"

static bool is_simulated;
static struct helper *helper;

struct job {
	struct work work;
	int number;
	bool is_done_on_loop;
	pthread_t thread;
	uint64_t done_ns;
};

static int run_order[1000], done_order[1000];
static unsigned run_count, done_count;

static void run(struct work *w)
{
	struct job *j = container_of(w, struct job, work);

	j->thread = pthread_self();
	run_order[run_count++] = j->number;
}

static void done(struct work *w)
{
	struct job *j = container_of(w, struct job, work);

	j->is_done_on_loop = loop_is_mine(loop);
	j->done_ns = loop->now_ns;
	done_order[done_count++] = j->number;
}

static struct job job(int number)
{
	return (struct job){ .work = { .run = run, .done = done }, .number = number };
}

static int setup(void **state)
{
	run_count = done_count = 0;
	world_open(is_simulated);
	assert_int_equal(helper_open(loop, "test-helper", &helper), 0);
	return 0;
}

static int teardown(void **state)
{
	if (helper)
		helper_close(helper);
	world_close();
	return 0;
}

static void work_is_done_in_the_order_it_was_given(void **state)
{
	static struct job jobs[1000];

	for (int i = 0; i < 1000; i++) {
		jobs[i] = job(i);
		helper_do(helper, &jobs[i].work);
		if (i % 100 == 0)
			turn_for(MS);
	}
	WAIT_FOR(done_count == 1000);
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(run_order[i], i);
		assert_int_equal(done_order[i], i);
		assert_true(jobs[i].is_done_on_loop);
		assert_int_equal(pthread_equal(jobs[i].thread, pthread_self()), is_simulated);
	}
}

static void nothing_is_done_before_a_later_turn(void **state)
{
	struct job a = job(1);

	helper_do(helper, &a.work);
	usleep(is_simulated ? 0 : 20000);
	assert_int_equal(done_count, 0);
	WAIT_FOR(done_count == 1);
	assert_true(done_order[0] == 1);
}

static void do_again(struct work *w)
{
	done(w);
	if (done_count < 5)
		helper_do(helper, w);
}

static void a_work_may_be_given_again_when_it_is_done(void **state)
{
	struct job a = job(1);

	a.work.done = do_again;
	helper_do(helper, &a.work);
	WAIT_FOR(done_count == 5);
	assert_int_equal(run_count, 5);
}

static unsigned letter_count;

static void count_letter(struct letter *l)
{
	letter_count++;
}

/* The other helper's thread keeps no notes: they are not its. */
static void run_quietly(struct work *w)
{
}

static void closing_finishes_its_work_and_nobody_else_s(void **state)
{
	struct job jobs[20], other_job = job(99);
	struct letter letter = { .run = count_letter };
	struct helper *other;

	letter_count = 0;
	other_job.work.run = run_quietly;
	assert_int_equal(helper_open(loop, "other", &other), 0);
	helper_do(other, &other_job.work);
	loop_post(loop, &letter);
	for (int i = 0; i < 20; i++) {
		jobs[i] = job(i);
		helper_do(helper, &jobs[i].work);
	}
	usleep(is_simulated ? 0 : 20000);
	helper_close(helper);
	helper = NULL;
	assert_int_equal(done_count, 20);
	for (int i = 0; i < 20; i++)
		assert_int_equal(done_order[i], i);
	assert_int_equal(letter_count, 0);

	WAIT_FOR(done_count == 21 && letter_count == 1);
	assert_int_equal(done_order[20], 99);
	helper_close(other);
}

static void close_helper(struct letter *l)
{
	helper_close(helper);
	helper = NULL;
}

/* The letters that came with that one are in the loop's inbox already; what is done comes behind
 * them. */
static void closing_from_a_letter_loses_no_other(void **state)
{
	struct letter closing = { .run = close_helper }, first = { .run = count_letter },
		      second = { .run = count_letter };
	struct job a = job(1);

	letter_count = 0;
	loop_post(loop, &closing);
	loop_post(loop, &first);
	loop_post(loop, &second);
	helper_do(helper, &a.work);
	WAIT_FOR(!helper);
	assert_int_equal(done_count, 1);
	WAIT_FOR(letter_count == 2);
}

static void what_is_done_goes_to_the_loop_that_is_named(void **state)
{
	struct job a = job(1);
	struct loop *other;

	if (is_simulated)
		assert_int_equal(sim_loop_open(sim_node, &other), 0);
	else
		assert_int_equal(loop_open_epoll(&other), 0);
	a.work.home = other;
	helper_do(helper, &a.work);
	if (!is_simulated) {
		/* It would come to this one, if it came to it. */
		turn_for(20 * MS);
		assert_int_equal(done_count, 0);
		while (!done_count)
			assert_int_equal(loop_turn(other, other->now_ns + SECOND), 0);
	}
	WAIT_FOR(done_count == 1);
	helper_close(helper); /* before the loop that its thread posts to */
	helper = NULL;
	loop_close(other);
}

static void closing_an_idle_helper_is_nothing(void **state)
{
	helper_close(helper);
	helper = NULL;
	turn_for(MS);
	assert_int_equal(run_count, 0);
}

/* In simulated time, other things happen before it is done. */
static void simulated_work_takes_a_while(void **state)
{
	uint64_t least_ns = UINT64_MAX, most_ns = 0;

	for (int i = 0; i < 50; i++) {
		struct job j = job(i);
		uint64_t begin_ns = loop->now_ns, took_ns;

		helper_do(helper, &j.work);
		WAIT_FOR(done_count == (unsigned)i + 1);
		took_ns = j.done_ns - begin_ns;
		least_ns = took_ns < least_ns ? took_ns : least_ns;
		most_ns = took_ns > most_ns ? took_ns : most_ns;
	}
	assert_true(least_ns < MS / 4 && most_ns > MS / 2 && most_ns < 2 * MS);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest both[] = {
		T(work_is_done_in_the_order_it_was_given),
		T(nothing_is_done_before_a_later_turn),
		T(a_work_may_be_given_again_when_it_is_done),
		T(closing_finishes_its_work_and_nobody_else_s),
		T(closing_from_a_letter_loses_no_other),
		T(what_is_done_goes_to_the_loop_that_is_named),
		T(closing_an_idle_helper_is_nothing),
	};
	const struct CMUnitTest simulated[] = { T(simulated_work_takes_a_while) };
	int failed_count = cmocka_run_group_tests_name("epoll", both, NULL, NULL);

	is_simulated = true;
	return failed_count + cmocka_run_group_tests_name("sim", both, NULL, NULL) +
	       cmocka_run_group_tests_name("sim alone", simulated, NULL, NULL);
}
