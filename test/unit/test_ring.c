/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: messages come over whole, in order and once, there is always room for an answer,
 * nobody sleeps over one, and nothing that the other end writes does harm.
 * Method: one thread that is both ends, beside a plain model; each field of the memory set
 * to what it must not be; then two threads that sleep whenever they may (run under
 * ThreadSanitizer too).
 */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <time.h>

#include "shm/ring.h"

static struct ring_memory memory;
static struct ring_caller caller;
static struct ring_server server;

static int setup(void **state)
{
	memset(&memory, 0, sizeof(memory));
	ring_caller_init(&caller, &memory);
	ring_server_init(&server, &memory);
	return 0;
}

static unsigned submit(const char *text)
{
	uint8_t *place;
	int slot = ring_take(&caller, &place);

	assert_true(slot >= 0);
	memcpy(place, text, strlen(text));
	ring_submit(&caller, (unsigned)slot, (uint32_t)strlen(text));
	return (unsigned)slot;
}

static unsigned next(const char *text)
{
	char got[64] = "";
	unsigned slot = 99;
	uint32_t len = 0;

	assert_int_equal(ring_next(&server, &slot, &len), 1);
	assert_int_equal(len, strlen(text));
	ring_read(&server, slot, 0, got, len);
	assert_string_equal(got, text);
	return slot;
}

static void complete(unsigned slot, const char *text)
{
	memcpy(ring_place(&server, slot), text, strlen(text));
	ring_complete(&server, slot, (uint32_t)strlen(text));
}

static void reap(unsigned slot, const char *text)
{
	unsigned got = 99;
	uint32_t len = 0;

	assert_int_equal(ring_reap(&caller, &got, &len), 1);
	assert_int_equal(got, slot);
	assert_int_equal(len, strlen(text));
	assert_memory_equal(ring_answer(&caller, got), text, len);
	ring_give(&caller, got);
}

static void nothing_is_there(void)
{
	unsigned slot;
	uint32_t len;

	assert_int_equal(ring_next(&server, &slot, &len), 0);
	assert_int_equal(ring_reap(&caller, &slot, &len), 0);
}

static void a_new_ring_has_nothing_in_it(void **state)
{
	nothing_is_there();
}

static void it_is_as_large_as_the_documents_say(void **state)
{
	assert_int_equal(RING_SLOTS, 32);
	assert_int_equal(sizeof(struct ring_memory), 4096 + 32 * 4096);
}

static void a_message_goes_there_and_its_answer_comes_back(void **state)
{
	unsigned slot = submit("get /a");

	assert_int_equal(next("get /a"), slot);
	complete(slot, "nothing here");
	reap(slot, "nothing here");
	nothing_is_there();
}

static void answers_come_in_the_order_in_which_they_were_given(void **state)
{
	unsigned a = submit("a"), b = submit("b"), c = submit("c");

	next("a");
	next("b");
	next("c");
	complete(b, "to b");
	complete(c, "to c");
	reap(b, "to b");
	complete(a, "to a");
	reap(c, "to c");
	reap(a, "to a");
	nothing_is_there();
}

static void a_part_of_a_message_can_be_read(void **state)
{
	unsigned slot = submit("header and body");
	char got[5] = "";

	next("header and body");
	ring_read(&server, slot, 7, got, 3);
	assert_string_equal(got, "and");
}

static void when_all_slots_are_in_use_the_next_one_is_told(void **state)
{
	uint8_t *place;
	unsigned first = 0;

	for (int i = 0; i < 32; i++)
		first = i == 0 ? submit("x") : (submit("x"), first);
	assert_int_equal(ring_take(&caller, &place), -EAGAIN);
	next("x");
	complete(first, "y");
	assert_int_equal(ring_take(&caller, &place), -EAGAIN); /* not reaped yet */
	reap(first, "y");
	assert_int_equal(ring_take(&caller, &place), (int)first);
}

static void a_slot_that_was_taken_in_vain_can_be_given_back(void **state)
{
	uint8_t *place;

	for (int i = 0; i < 100; i++)
		ring_give(&caller, (unsigned)ring_take(&caller, &place));
	nothing_is_there();
}

static void the_longest_message_and_the_shortest_one_are_whole(void **state)
{
	static uint8_t got[RING_SLOT_BYTES];
	uint8_t *place;
	unsigned slot;
	uint32_t len;

	for (int i = 0; i < 2; i++) {
		uint32_t n = i == 0 ? 4096 : 1;

		slot = (unsigned)ring_take(&caller, &place);
		memset(place, 'a' + i, n);
		ring_submit(&caller, slot, n);
		assert_int_equal(ring_next(&server, &slot, &len), 1);
		assert_int_equal(len, n);
		ring_read(&server, slot, 0, got, len);
		assert_int_equal(got[0], 'a' + i);
		assert_int_equal(got[n - 1], 'a' + i);
		memset(ring_place(&server, slot), 'A' + i, n);
		ring_complete(&server, slot, n);
		assert_int_equal(ring_reap(&caller, &slot, &len), 1);
		assert_int_equal(len, n);
		assert_int_equal(ring_answer(&caller, slot)[n - 1], 'A' + i);
		ring_give(&caller, slot);
	}
}

/* Each has a number in it, and is answered in any order, and so on beyond the end of all counters.
 */
static void it_goes_on_past_the_end_of_its_counters_as_a_plain_model_does(void **state)
{
	enum { COUNT = 20000 };
	static uint32_t with_server[RING_SLOTS];
	uint32_t sent = 0, taken = 0, answered = 0, at[RING_SLOTS] = { 0 };
	uint64_t open = 0;
	unsigned seed = 4711, slot;
	uint8_t *place;

	caller.submitted = caller.reaped = server.taken = server.completed = UINT32_MAX - COUNT / 2;
	while (answered < COUNT) {
		int r = 0, what = rand_r(&seed) % 3;
		uint32_t len, got;

		if (what == 0 && sent < COUNT && (r = ring_take(&caller, &place)) >= 0) {
			memcpy(place, &sent, 4);
			at[r] = sent++;
			ring_submit(&caller, (unsigned)r, 4);
		} else if (what == 1 && ring_next(&server, &slot, &len) == 1) {
			assert_int_equal(len, 4);
			ring_read(&server, slot, 0, &got, 4);
			assert_int_equal(got, taken++);
			with_server[slot] = got;
			open |= 1ull << slot;
		} else if (what == 2 && open) {
			do
				slot = (unsigned)rand_r(&seed) % RING_SLOTS;
			while (!(open >> slot & 1));
			open &= ~(1ull << slot);
			got = ~with_server[slot];
			memcpy(ring_place(&server, slot), &got, 4);
			ring_complete(&server, slot, 4);
			if (rand_r(&seed) % 2)
				continue; /* reaped later */
		}
		while (rand_r(&seed) % 2 && (r = ring_reap(&caller, &slot, &len)) == 1) {
			memcpy(&got, ring_answer(&caller, slot), 4);
			assert_int_equal(got, ~at[slot]);
			ring_give(&caller, slot);
			answered++;
		}
		assert_true(r >= 0 || r == -EAGAIN);
	}
	assert_true(caller.submitted < COUNT);
	nothing_is_there();
}

/* Sleeping. */

static enum ring_sleep submit_and_wake(unsigned slot)
{
	ring_submit(&caller, slot, 1);
	return ring_wake_server(&caller);
}

static enum ring_sleep complete_and_wake(unsigned slot)
{
	ring_complete(&server, slot, 1);
	return ring_wake_caller(&server);
}

static void only_who_sleeps_is_woken_and_once(void **state)
{
	uint8_t *place;
	unsigned a = (unsigned)ring_take(&caller, &place), b = (unsigned)ring_take(&caller, &place);
	uint32_t len;

	assert_true(ring_server_sleep(&server));
	assert_int_equal(submit_and_wake(a), RING_ON_EVENT);
	assert_int_equal(submit_and_wake(b), RING_AWAKE);
	assert_int_equal(ring_next(&server, &a, &len), 1);
	assert_int_equal(ring_next(&server, &b, &len), 1);
	assert_true(ring_caller_sleep(&caller, RING_ON_FUTEX));
	assert_int_equal(complete_and_wake(b), RING_ON_FUTEX);
	assert_int_equal(complete_and_wake(a), RING_AWAKE);
}

static void nobody_goes_to_sleep_over_what_is_there(void **state)
{
	unsigned slot = submit("a");

	assert_false(ring_server_sleep(&server));
	assert_int_equal(memory.server, RING_AWAKE); /* so the next one wakes nobody */
	submit("b");
	next("a");
	next("b");
	assert_true(ring_server_sleep(&server));
	complete(slot, "c");
	assert_false(ring_caller_sleep(&caller, RING_ON_EVENT));
	reap(slot, "c");
	assert_true(ring_caller_sleep(&caller, RING_ON_EVENT));
	ring_caller_awake(&caller);
	ring_server_awake(&server);
	assert_int_equal(memory.caller, RING_AWAKE);
	assert_int_equal(memory.server, RING_AWAKE);
}

static void a_word_that_is_no_way_to_sleep_is_taken_for_one(void **state)
{
	unsigned slot = submit("a");

	next("a");
	memory.caller = 0xdeadbeef;
	assert_int_equal(complete_and_wake(slot), RING_ON_EVENT);
	assert_int_equal(memory.caller, RING_AWAKE);
}

/* A peer that writes anything: (which one, slot, length). */

static uint64_t entry(uint32_t nth, uint64_t slot, uint64_t len)
{
	return (uint64_t)nth << 32 | slot << 16 | len;
}

static void a_message_that_cannot_be_right_is_told(void **state)
{
	static const struct {
		uint32_t slot, len;
		int result;
	} CASES[] = {
		{ 0, 0, -EPROTO },  { 0, 4097, -EPROTO },  { 0, 65535, -EPROTO },
		{ 32, 1, -EPROTO }, { 65535, 1, -EPROTO }, { 64, 1, -EPROTO },
		{ 31, 4096, 1 },    { 0, 1, 1 },
	};
	unsigned slot;
	uint32_t len;

	for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
		setup(NULL);
		memory.submitted[0] = entry(1, CASES[i].slot, CASES[i].len);
		assert_int_equal(ring_next(&server, &slot, &len), CASES[i].result);
	}
}

static void a_slot_that_is_with_the_server_does_not_come_again(void **state)
{
	unsigned slot;
	uint32_t len;

	memory.submitted[0] = entry(1, 5, 10);
	memory.submitted[1] = entry(2, 5, 10);
	assert_int_equal(ring_next(&server, &slot, &len), 1);
	assert_int_equal(slot, 5);
	assert_int_equal(ring_next(&server, &slot, &len), -EPROTO);
	ring_complete(&server, 5, 1);
	assert_int_equal(ring_next(&server, &slot, &len), 1);
}

static void an_entry_of_another_time_is_none(void **state)
{
	static const uint32_t NTH[] = { 0, 2, 33, UINT32_MAX, 0x80000001 };
	unsigned slot;
	uint32_t len;

	for (size_t i = 0; i < sizeof(NTH) / sizeof(NTH[0]); i++) {
		memory.submitted[0] = entry(NTH[i], 1, 1);
		memory.completed[0] = entry(NTH[i], 1, 1);
		assert_int_equal(ring_next(&server, &slot, &len), 0);
		assert_int_equal(ring_reap(&caller, &slot, &len), 0);
	}
}

static void an_answer_that_was_not_asked_for_is_told(void **state)
{
	static const struct {
		uint32_t slot, len;
	} CASES[] = { { 1, 1 }, { 32, 1 }, { 65535, 1 }, { 0, 0 }, { 0, 4097 } };
	unsigned slot = submit("a");
	uint32_t len;

	assert_int_equal(slot, 0);
	for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
		memory.completed[0] = entry(1, CASES[i].slot, CASES[i].len);
		assert_int_equal(ring_reap(&caller, &slot, &len), -EPROTO);
	}
	memory.completed[0] = entry(1, 0, 4096);
	assert_int_equal(ring_reap(&caller, &slot, &len), 1);
	memory.completed[1] = entry(2, 0, 1);
	assert_int_equal(ring_reap(&caller, &slot, &len), -EPROTO); /* a second time */
}

/* Two threads. Each message is its number, many times; so is its answer, turned round. */

#define COUNT 30000

static sem_t server_bell, caller_bell;
static unsigned slept[2];
static const char *why_not; /* the server's, once it has ended */

static void ring_at(enum ring_sleep how, sem_t *bell)
{
	if (how != RING_AWAKE)
		sem_post(bell);
}

static int sleep_until_rung(sem_t *bell)
{
	struct timespec limit;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 30;
	return sem_timedwait(bell, &limit);
}

/* Pauses of any length, so that the other end is met at each of its steps, asleep too. */
static void dawdle(unsigned *seed)
{
	if (rand_r(seed) % 200 == 0)
		nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	for (volatile int n = rand_r(seed) % 300; n > 0; n--)
		;
}

static void *serve(void *arg)
{
	unsigned seed = 1, slot, late[4], late_count = 0;
	uint32_t number[16], len, numbers[4];

	for (uint32_t n = 0; n < COUNT;) {
		int r = ring_next(&server, &slot, &len);

		if (r < 0)
			return (void)(why_not = "an entry is wrong"), NULL;
		if (r == 1) {
			ring_read(&server, slot, 0, number, sizeof(number));
			for (int i = 0; i < 16; i++)
				if (number[i] != n || len != sizeof(number))
					return (void)(why_not = "a message is not whole"), NULL;
			late[late_count] = slot;
			numbers[late_count++] = n++;
		}
		/* Some of them at once, the last one first. */
		while (late_count > 0 && (r == 0 || late_count == 4 || n == COUNT)) {
			late_count--;
			for (int i = 0; i < 16; i++)
				number[i] = ~numbers[late_count];
			memcpy(ring_place(&server, late[late_count]), number, sizeof(number));
			ring_complete(&server, late[late_count], sizeof(number));
			ring_at(ring_wake_caller(&server), &caller_bell);
		}
		if (r == 0 && ring_server_sleep(&server)) {
			slept[0]++;
			if (sleep_until_rung(&server_bell) < 0)
				return (void)(why_not = "the server slept over a message"), NULL;
			ring_server_awake(&server);
		}
		dawdle(&seed);
	}
	return NULL;
}

static void call_all(void)
{
	uint32_t sent_in[RING_SLOTS], sent = 0, answered = 0, number[16], len;
	unsigned seed = 2, slot;
	uint8_t *place;

	while (answered < COUNT) {
		int r = sent < COUNT ? ring_take(&caller, &place) : -EAGAIN;

		if (r >= 0) {
			for (int i = 0; i < 16; i++)
				number[i] = sent;
			memcpy(place, number, sizeof(number));
			sent_in[r] = sent++;
			ring_submit(&caller, (unsigned)r, sizeof(number));
			ring_at(ring_wake_server(&caller), &server_bell);
		}
		dawdle(&seed);
		if (r >= 0 && rand_r(&seed) % 3)
			continue;
		while ((r = ring_reap(&caller, &slot, &len)) == 1) {
			memcpy(number, ring_answer(&caller, slot), sizeof(number));
			for (int i = 0; i < 16; i++)
				assert_int_equal(number[i], ~sent_in[slot]);
			ring_give(&caller, slot);
			answered++;
		}
		assert_int_equal(r, 0);
		if (answered < sent && ring_caller_sleep(&caller, RING_ON_FUTEX)) {
			slept[1]++;
			assert_int_equal(sleep_until_rung(&caller_bell), 0);
			ring_caller_awake(&caller);
		}
	}
}

static void no_message_is_lost_or_slept_over_between_two_threads(void **state)
{
	pthread_t thread;

	sem_init(&server_bell, 0, 0);
	sem_init(&caller_bell, 0, 0);
	pthread_create(&thread, NULL, serve, NULL);
	call_all();
	pthread_join(thread, NULL);
	assert_null(why_not);
	assert_true(slept[0] > 0 && slept[1] > 0);
	nothing_is_there();
}

/*
 * A message that is submitted at the very moment at which the server goes to sleep: one of
 * the two has seen the other. A processor that lets a read pass a write before it is found
 * in some of so many rounds.
 */
#define ROUNDS 100000

static _Atomic unsigned round_of[2];
static bool has_slept;

static void meet(int end, unsigned round)
{
	atomic_store(&round_of[end], round);
	for (int i = 0; atomic_load(&round_of[!end]) < round; i++)
		if (i % 1000 == 999)
			sched_yield();
}

static void *go_to_sleep(void *arg)
{
	for (unsigned n = 1; n <= ROUNDS; n++) {
		meet(1, 2 * n);
		has_slept = ring_server_sleep(&server);
		meet(1, 2 * n + 1);
	}
	return NULL;
}

static void who_submits_sees_who_goes_to_sleep_or_is_seen(void **state)
{
	unsigned missed = 0, slot;
	pthread_t thread;
	uint8_t *place;
	uint32_t len;

	pthread_create(&thread, NULL, go_to_sleep, NULL);
	for (unsigned n = 1; n <= ROUNDS; n++) {
		enum ring_sleep woken;

		slot = (unsigned)ring_take(&caller, &place);
		meet(0, 2 * n);
		woken = submit_and_wake(slot);
		meet(0, 2 * n + 1);
		missed += has_slept && woken == RING_AWAKE;
		ring_server_awake(&server);
		ring_next(&server, &slot, &len);
		ring_complete(&server, slot, 1);
		ring_reap(&caller, &slot, &len);
		ring_give(&caller, slot);
	}
	pthread_join(thread, NULL);
	assert_int_equal(missed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_new_ring_has_nothing_in_it, setup),
		cmocka_unit_test_setup(it_is_as_large_as_the_documents_say, setup),
		cmocka_unit_test_setup(a_message_goes_there_and_its_answer_comes_back, setup),
		cmocka_unit_test_setup(answers_come_in_the_order_in_which_they_were_given, setup),
		cmocka_unit_test_setup(a_part_of_a_message_can_be_read, setup),
		cmocka_unit_test_setup(when_all_slots_are_in_use_the_next_one_is_told, setup),
		cmocka_unit_test_setup(a_slot_that_was_taken_in_vain_can_be_given_back, setup),
		cmocka_unit_test_setup(the_longest_message_and_the_shortest_one_are_whole, setup),
		cmocka_unit_test_setup(
			it_goes_on_past_the_end_of_its_counters_as_a_plain_model_does, setup),
		cmocka_unit_test_setup(only_who_sleeps_is_woken_and_once, setup),
		cmocka_unit_test_setup(nobody_goes_to_sleep_over_what_is_there, setup),
		cmocka_unit_test_setup(a_word_that_is_no_way_to_sleep_is_taken_for_one, setup),
		cmocka_unit_test_setup(a_message_that_cannot_be_right_is_told, setup),
		cmocka_unit_test_setup(a_slot_that_is_with_the_server_does_not_come_again, setup),
		cmocka_unit_test_setup(an_entry_of_another_time_is_none, setup),
		cmocka_unit_test_setup(an_answer_that_was_not_asked_for_is_told, setup),
		cmocka_unit_test_setup(no_message_is_lost_or_slept_over_between_two_threads, setup),
		cmocka_unit_test_setup(who_submits_sees_who_goes_to_sleep_or_is_seen, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
