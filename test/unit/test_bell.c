/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a loop sees what is written into memory, is rung when it sleeps, looks at nobody
 * who is silent, and forgets nothing else over it. Method: the memory is a count of
 * things that have come; who rings is this thread, or another one after a while.
 */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "base/container.h"
#include "base/limits.h"
#include "loop/bell.h"
#include "world.h"

struct one {
	struct bell bell;
	_Atomic unsigned come;
	_Atomic uint32_t word;
	unsigned seen, looked, peeked, slept, slept_on_word;
	struct bell *closes; /* when it is looked at */
	int fd;
};

static struct one a, b, c;

static struct one *one_of(struct bell *bell)
{
	return container_of(bell, struct one, bell);
}

static bool peek(struct bell *bell)
{
	one_of(bell)->peeked++;
	return one_of(bell)->come > one_of(bell)->seen;
}

static bool look(struct bell *bell)
{
	struct one *o = one_of(bell);

	o->seen++;
	o->looked++;
	if (o->closes)
		bell_close(o->closes);
	return true;
}

static bool go_to_sleep(struct bell *bell, bool is_on_word)
{
	struct one *o = one_of(bell);

	o->word = is_on_word ? 1 : 2;
	if (o->come > o->seen) {
		o->word = 0;
		return false;
	}
	o->slept++;
	o->slept_on_word += is_on_word;
	return true;
}

static void awake(struct bell *bell)
{
	one_of(bell)->word = 0;
}

static void one_open(struct one *o, bool has_event)
{
	*o = (struct one){ .bell = { .peek = peek,
				     .look = look,
				     .sleep = go_to_sleep,
				     .awake = awake,
				     .asleep = 1 } };
	assert_int_equal(bell_open(loop, &o->bell, has_event ? &o->fd : NULL), 0);
}

static int setup(void **state)
{
	world_open(false);
	return 0;
}

static int teardown(void **state)
{
	bell_close(&a.bell);
	bell_close(&b.bell);
	bell_close(&c.bell);
	turn_for(0);
	world_close();
	return 0;
}

static void what_has_come_is_served_in_the_next_turns(void **state)
{
	one_open(&a, true);
	a.come = 3;
	for (int i = 0; i < 3; i++)
		assert_int_equal(loop_turn(loop, loop->now_ns + 10 * SECOND), 0);
	assert_int_equal(a.seen, 3);
}

static void one_that_is_silent_is_not_looked_at(void **state)
{
	unsigned peeked;

	one_open(&a, true);
	turn_for(5 * MS);
	turn_for(5 * MS);
	assert_true(a.word == 2); /* who writes now has to ring */
	peeked = a.peeked;
	for (int i = 0; i < 20; i++)
		turn_for(0);
	assert_int_equal(a.peeked, peeked);
	a.come = 1;
	turn_for(0);
	assert_int_equal(a.seen, 0);
	bell_ring_event(a.fd);
	WAIT_FOR(a.seen == 1);
}

static void nobody_rests_over_what_has_come(void **state)
{
	one_open(&a, true);
	loop->now_ns += 5 * MS;
	nanosleep(&(struct timespec){ .tv_nsec = 5 * MS }, NULL);
	a.come = 1;
	turn_for(0);
	assert_int_equal(a.seen, 1);
}

static void who_talks_is_looked_at_without_ringing(void **state)
{
	one_open(&a, true);
	for (unsigned i = 1; i < 50; i++) {
		a.come = i;
		turn_for(0);
		assert_int_equal(a.seen, i);
		assert_int_equal(a.word, 0);
	}
}

static void a_loop_does_not_sleep_over_what_has_come(void **state)
{
	uint64_t begun_ns = node_now_ns();

	one_open(&a, false);
	bell_listen(&a.bell);
	a.come = 1;
	assert_int_equal(loop_turn(loop, begun_ns + 25 * SECOND), 0);
	assert_true(node_now_ns() < begun_ns + 20 * SECOND);
	assert_int_equal(a.seen, 1);
}

static void *ring_later(void *arg)
{
	struct one *o = arg;

	while (!atomic_load(&o->word)) /* it is not asleep yet */
		sched_yield();
	nanosleep(&(struct timespec){ .tv_nsec = 20 * MS }, NULL);
	o->come++;
	if (atomic_exchange(&o->word, 0) == 1)
		bell_ring_word(&o->word);
	else
		bell_ring_event(b.fd);
	return NULL;
}

static uint64_t sleep_and_be_rung(void)
{
	uint64_t begun_ns = node_now_ns();
	pthread_t thread;

	pthread_create(&thread, NULL, ring_later, &a);
	WAIT_FOR(a.seen == 1);
	pthread_join(thread, NULL);
	return node_now_ns() - begun_ns;
}

static void one_alone_is_slept_on_by_its_word(void **state)
{
	uint64_t took_ns;

	one_open(&a, false);
	a.bell.word = &a.word;
	bell_listen(&a.bell);
	took_ns = sleep_and_be_rung();
	assert_true(took_ns >= 20 * MS);
	assert_true(a.slept_on_word > 0 && a.slept_on_word < 10 + took_ns / BELL_WORD_NS);
	assert_int_equal(a.slept_on_word, a.slept);
}

static void beside_another_one_nobody_sleeps_on_a_word(void **state)
{
	one_open(&a, false);
	one_open(&b, true); /* which rests as soon as it was silent for a while */
	one_open(&c, false);
	a.bell.word = &a.word;
	bell_listen(&a.bell);
	bell_listen(&c.bell);
	(void)loop_turn(loop, loop->now_ns);
	assert_true(sleep_and_be_rung() >= 20 * MS);
	assert_int_equal(a.slept_on_word + b.slept_on_word + c.slept_on_word, 0);
}

static void whoever_is_waited_for_outside_does_not_sleep_on_a_word(void **state)
{
	one_open(&a, false);
	a.bell.word = &a.word;
	bell_listen(&a.bell);
	assert_true(loop_fd(loop) >= 0);
	assert_int_equal(a.word, 2); /* rings from now on, though no turn is running */
	turn_for(5 * MS);
	assert_int_equal(a.word, 2);
	assert_int_equal(a.slept_on_word, 0);
	a.come = 1;
	assert_true(loop_due(loop) <= loop->now_ns);
	turn_for(0);
	assert_int_equal(a.seen, 1);
}

static unsigned fired;
static void fire(struct timer *t)
{
	fired++;
}

static void a_timer_and_an_event_are_not_forgotten_over_a_word(void **state)
{
	struct timer t = { .fire = fire };
	uint64_t begun_ns = node_now_ns();

	fired = 0;
	one_open(&a, false);
	one_open(&b, true);
	bell_rest(&b.bell);
	a.bell.word = &a.word;
	bell_listen(&a.bell);
	timer_start(loop, &t, loop->now_ns + 10 * MS);
	WAIT_FOR(fired);
	assert_true(node_now_ns() - begun_ns < 15 * SECOND);
	/* An event, as that of a socket that closes, is seen a little later. */
	b.come = 1;
	bell_ring_event(b.fd);
	WAIT_FOR(b.seen == 1);
	assert_true(a.slept_on_word > 0);
}

#define CROWD 256

/* How often the first of `count` is looked at in the third of three short waits; the most of 50
 * tries.
 */
static unsigned peeks_in_a_conversation(unsigned count)
{
	static struct one crowd[CROWD];
	struct timer t = { .fire = fire };
	unsigned most = 0;

	for (unsigned i = 0; i < count; i++) {
		one_open(&crowd[i], false);
		bell_listen(&crowd[i].bell);
	}
	for (int n = 0; n < 150; n++) {
		unsigned before = crowd[0].peeked;

		fired = 0;
		timer_start(loop, &t, loop->now_ns + (n % 3 == 2 ? MS / 10 : MS / 1000));
		WAIT_FOR(fired);
		if (crowd[0].peeked - before > most)
			most = crowd[0].peeked - before;
	}
	for (unsigned i = 0; i < count; i++)
		bell_close(&crowd[i].bell);
	return most;
}

static void a_loop_stays_awake_for_fewer_than_there_are_cores(void **state)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned peeks = 0;

	if (!has_short_waits(loop))
		skip();
	if (cores > 1 && cores <= CROWD) {
		/* Who has to share his core sleeps at once, and that may go on for a while. */
		for (int i = 0; i < 100 && peeks <= 30; i++)
			peeks = peeks_in_a_conversation(1);
		assert_true(peeks > 30);
		assert_true(peeks_in_a_conversation((unsigned)cores) < 30);
	}
}

static void one_may_close_itself_and_others(void **state)
{
	one_open(&a, true);
	one_open(&b, true);
	a.come = b.come = 1;
	a.closes = &b.bell;
	turn_for(MS);
	assert_int_equal(a.seen, 1);
	assert_int_equal(b.seen, 0);
	a.closes = &a.bell;
	a.come = 2;
	bell_ring_event(a.fd);
	WAIT_FOR(a.seen == 2);
	a.come = 3;
	turn_for(MS);
	assert_int_equal(a.seen, 2);
}

static void one_that_was_rung_and_closed_is_left_alone(void **state)
{
	one_open(&a, true);
	turn_for(5 * MS);
	a.come = 1;
	bell_ring_event(a.fd);
	bell_close(&a.bell);
	turn_for(5 * MS);
	assert_int_equal(a.seen, 0);
}

static void the_simulator_has_none(void **state)
{
	struct bell none = { 0 };
	int fd;

	world_close();
	world_open(true);
	assert_int_equal(bell_open(loop, &none, &fd), -EOPNOTSUPP);
	bell_close(&none);
	a = b = (struct one){ 0 };
}

/* As if it had never been asked for, and then it is there. */
static void without_memory_there_is_none(void **state)
{
	struct node failing = { .fail_countdown = 1 };
	int fd = -1;

	a = (struct one){ .bell = { .peek = peek,
				    .look = look,
				    .sleep = go_to_sleep,
				    .awake = awake,
				    .asleep = 1 } };
	node_current = &failing;
	assert_int_equal(bell_open(loop, &a.bell, &fd), -ENOMEM);
	node_current = NULL;
	assert_int_equal(fd, -1);
	bell_close(&a.bell);
	assert_int_equal(loop_turn(loop, loop->now_ns + MS), 0);
	assert_int_equal(a.looked + a.peeked + a.slept, 0);
	one_open(&a, true);
	a.come = 1;
	assert_int_equal(loop_turn(loop, loop->now_ns + 10 * SECOND), 0);
	assert_int_equal(a.seen, 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_has_come_is_served_in_the_next_turns),
		T(one_that_is_silent_is_not_looked_at),
		T(nobody_rests_over_what_has_come),
		T(who_talks_is_looked_at_without_ringing),
		T(a_loop_does_not_sleep_over_what_has_come),
		T(one_alone_is_slept_on_by_its_word),
		T(beside_another_one_nobody_sleeps_on_a_word),
		T(whoever_is_waited_for_outside_does_not_sleep_on_a_word),
		T(a_timer_and_an_event_are_not_forgotten_over_a_word),
		T(a_loop_stays_awake_for_fewer_than_there_are_cores),
		T(one_may_close_itself_and_others),
		T(one_that_was_rung_and_closed_is_left_alone),
		T(without_memory_there_is_none),
		T(the_simulator_has_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
