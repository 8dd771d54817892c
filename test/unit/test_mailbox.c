/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no letter is lost, doubled or overtaken, and no owner sleeps over one.
 * Method: random steps of one thread beside a plain queue; then real threads, with
 * an owner that sleeps whenever it may (run under ThreadSanitizer too). A lost
 * wake-up is an owner that sleeps until the test gives up.
 */
#include "test.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <time.h>

#include "base/container.h"
#include "loop/mailbox.h"

struct note {
	struct letter letter;
	unsigned sender, number;
};

static struct mailbox box;

static int setup(void **state)
{
	atomic_store(&box.newest, NULL);
	atomic_store(&box.is_asleep, false);
	return 0;
}

static void an_empty_box_gives_nothing(void **state)
{
	assert_true(mailbox_is_empty(&box));
	assert_null(mailbox_take(&box));
}

static void letters_come_out_as_a_plain_queue_has_them(void **state)
{
	enum { COUNT = 20000 };
	static struct note notes[COUNT];
	unsigned seed = 4711;
	int posted = 0, taken = 0;

	while (taken < COUNT) {
		if (posted < COUNT && rand_r(&seed) % 4) {
			assert_false(mailbox_post(&box, &notes[posted++].letter));
			assert_false(mailbox_is_empty(&box));
			continue;
		}
		for (struct letter *l = mailbox_take(&box); l; l = l->next)
			assert_ptr_equal(l, &notes[taken++].letter);
		assert_int_equal(taken, posted);
		assert_true(mailbox_is_empty(&box));
	}
}

static void only_the_first_post_wakes_and_only_who_sleeps(void **state)
{
	struct note a, b, c, d;

	assert_false(mailbox_post(&box, &a.letter));
	assert_false(mailbox_sleep(&box)); /* there is mail */
	assert_false(mailbox_post(&box, &b.letter));
	mailbox_take(&box);
	assert_true(mailbox_sleep(&box));
	assert_true(mailbox_post(&box, &c.letter));
	assert_false(mailbox_post(&box, &d.letter));
	mailbox_take(&box);
	assert_true(mailbox_sleep(&box));
	mailbox_awake(&box);
	assert_false(mailbox_post(&box, &a.letter));
}

#define SENDERS 3
#define NOTES   20000

static sem_t bell;
static struct note notes[SENDERS][NOTES];

static void *send(void *arg)
{
	unsigned sender = (unsigned)(uintptr_t)arg, seed = sender;

	for (unsigned i = 0; i < NOTES; i++) {
		notes[sender][i].sender = sender;
		notes[sender][i].number = i;
		if (mailbox_post(&box, &notes[sender][i].letter))
			sem_post(&bell);
		/* Pauses of any length, so that the owner is met at each of its steps, asleep too.
		 */
		if (i % 200 == 0)
			nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
		for (volatile int n = rand_r(&seed) % 300; n > 0; n--)
			;
	}
	return NULL;
}

static int sleep_until_rung(void)
{
	struct timespec limit;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 20;
	return sem_timedwait(&bell, &limit);
}

static void no_letter_of_any_thread_is_lost_or_slept_over(void **state)
{
	unsigned next[SENDERS] = { 0 }, total = 0, slept_count = 0;
	pthread_t threads[SENDERS];

	sem_init(&bell, 0, 0);
	for (uintptr_t i = 0; i < SENDERS; i++)
		pthread_create(&threads[i], NULL, send, (void *)i);
	while (total < SENDERS * NOTES) {
		struct letter *l = mailbox_take(&box), *following;

		if (!l && mailbox_sleep(&box)) {
			slept_count++;
			assert_int_equal(sleep_until_rung(), 0);
			mailbox_awake(&box);
		}
		for (; l; l = following, total++) {
			struct note *n = container_of(l, struct note, letter);

			following = l->next;
			assert_int_equal(n->number, next[n->sender]++);
		}
	}
	for (int i = 0; i < SENDERS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(next[i], NOTES);
	}
	assert_true(mailbox_is_empty(&box));
	assert_true(slept_count > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(an_empty_box_gives_nothing, setup),
		cmocka_unit_test_setup(letters_come_out_as_a_plain_queue_has_them, setup),
		cmocka_unit_test_setup(only_the_first_post_wakes_and_only_who_sleeps, setup),
		cmocka_unit_test_setup(no_letter_of_any_thread_is_lost_or_slept_over, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
