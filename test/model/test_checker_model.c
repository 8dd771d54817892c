/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the checker allows what C11 allows, and no more: a checker that forbids too much finds
 * nothing. Method: the usual small programs, with what they may and may not end in.
 */
#include "../unit/test.h"

#include <stdio.h>

#include "checker.h"
#include "shm/shared.h"

static _Atomic uint64_t x, y;
static uint64_t bytes;
static _Atomic uint64_t told[2]; /* what the threads have read, for a third one */

static void nothing(void)
{
}

static const char *explore(void (*a)(unsigned), void (*b)(unsigned), void (*c)(unsigned),
			   void (*d)(unsigned))
{
	struct scenario s = { .name = "litmus", .setup = nothing, .restore = nothing };
	void (*const runs[CHECKED_THREADS])(unsigned) = { a, b, c, d };
	static const char *const NAMES[] = { "a", "b", "c", "d" };
	struct verdict v;

	for (unsigned i = 0; i < CHECKED_THREADS && runs[i]; i++)
		s.threads[i] = (struct checked_thread){ NAMES[i], runs[i], 1 };
	checker_explore(&s, &v);
	return v.why;
}

/* Store buffering: each writes one and reads the other. */

static void sb(unsigned self, void (*between)(void))
{
	uint64_t read;

	if (self == 0)
		shared_store(&x, 1, release);
	else
		shared_store(&y, 1, release);
	between();
	read = self == 0 ? shared_load(&y, acquire) : shared_load(&x, acquire);
	shared_store(&told[self], 1 + read, relaxed);
}

static void acq_rel_fence(void)
{
	shared_fence(acq_rel);
}

static void full_fence(void)
{
	shared_fence(seq_cst);
}

static void sb_plain(unsigned self)
{
	sb(self, nothing);
}

static void sb_acq_rel(unsigned self)
{
	sb(self, acq_rel_fence);
}

static void sb_full(unsigned self)
{
	sb(self, full_fence);
}

static void sb_half(unsigned self)
{
	sb(self, self == 0 ? full_fence : acq_rel_fence);
}

static void both_missed(unsigned self)
{
	if (shared_load(&told[0], relaxed) == 1 && shared_load(&told[1], relaxed) == 1)
		checked_fail("each has missed the other");
}

static void stores_may_wait_unless_both_have_full_fences(void **state)
{
	assert_non_null(explore(sb_plain, sb_plain, both_missed, NULL));
	assert_non_null(explore(sb_acq_rel, sb_acq_rel, both_missed, NULL));
	assert_non_null(explore(sb_half, sb_half, both_missed, NULL));
	assert_null(explore(sb_full, sb_full, both_missed, NULL));
}

/* Message passing: a word, and a word that says that it is there. */

static void send_relaxed(unsigned self)
{
	shared_store(&x, 1, relaxed);
	shared_store(&y, 1, relaxed);
}

static void send_release(unsigned self)
{
	shared_store(&x, 1, relaxed);
	shared_store(&y, 1, release);
}

static void send_fenced(unsigned self)
{
	shared_store(&x, 1, relaxed);
	shared_fence(release);
	shared_store(&y, 1, relaxed);
}

static void get_relaxed(unsigned self)
{
	if (shared_load(&y, relaxed) == 1 && shared_load(&x, relaxed) == 0)
		checked_fail("it was said to be there");
}

static void get_acquire(unsigned self)
{
	if (shared_load(&y, acquire) == 1 && shared_load(&x, relaxed) == 0)
		checked_fail("it was said to be there");
}

static void get_fenced(unsigned self)
{
	uint64_t said = shared_load(&y, relaxed);

	shared_fence(acquire);
	if (said == 1 && shared_load(&x, relaxed) == 0)
		checked_fail("it was said to be there");
}

static void a_message_needs_a_release_and_an_acquire(void **state)
{
	void (*const sends[])(unsigned) = { send_relaxed, send_release, send_fenced };
	void (*const gets[])(unsigned) = { get_relaxed, get_acquire, get_fenced };

	for (unsigned i = 0; i < 3; i++)
		for (unsigned k = 0; k < 3; k++) {
			const char *why = explore(sends[i], gets[k], NULL, NULL);

			if (i == 0 || k == 0)
				assert_non_null(why);
			else
				assert_null(why);
		}
}

/* One word never goes back, in whatever order it is asked for. */
static void counts_up(unsigned self)
{
	shared_store(&x, 1, relaxed);
	shared_store(&x, 2, relaxed);
}

static void never_goes_back(unsigned self)
{
	uint64_t first = shared_load(&x, relaxed);

	if (shared_load(&x, relaxed) < first)
		checked_fail("it went back");
}

static void one_word_never_goes_back(void **state)
{
	assert_null(explore(counts_up, never_goes_back, never_goes_back, NULL));
}

/* Two writers, two readers who see them in different orders. */

static void writes_x(unsigned self)
{
	shared_store(&x, 1, release);
}

static void writes_y(unsigned self)
{
	shared_store(&y, 1, release);
}

static void iriw(unsigned self, void (*between)(void))
{
	uint64_t first, second;

	first = self == 2 ? shared_load(&x, acquire) : shared_load(&y, acquire);
	between();
	second = self == 2 ? shared_load(&y, acquire) : shared_load(&x, acquire);
	shared_store(&told[self - 2], first * 2 + second, relaxed);
	if (self == 3 && first == 1 && second == 0) {
		shared_fence(seq_cst);
		if (shared_load(&told[0], relaxed) == 2)
			checked_fail("they disagree on what came first");
	}
}

static void iriw_plain(unsigned self)
{
	iriw(self, nothing);
}

static void iriw_full(unsigned self)
{
	iriw(self, full_fence);
}

static void readers_may_disagree_unless_they_have_full_fences(void **state)
{
	assert_non_null(explore(writes_x, writes_y, iriw_plain, iriw_plain));
	assert_null(explore(writes_x, writes_y, iriw_full, iriw_full));
}

/* What is added by one goes on with what came before, whatever its own order is. */

static void adds_release(unsigned self)
{
	shared_store(&x, 1, relaxed);
	shared_add(&y, 1, release);
}

static void adds_relaxed(unsigned self)
{
	shared_add(&y, 1, relaxed);
}

static void sees_both(unsigned self)
{
	if (shared_load(&y, acquire) == 2 && shared_load(&x, relaxed) == 0)
		checked_fail("the first one released it");
}

static void an_addition_continues_the_release_before_it(void **state)
{
	assert_null(explore(adds_release, adds_relaxed, sees_both, NULL));
	assert_non_null(explore(send_relaxed, adds_relaxed, sees_both, NULL));
}

/* Plain bytes. */

static void fills(unsigned self)
{
	checked_bytes_write(&bytes, 1);
	shared_store(&y, 1, release);
}

static void reads_at_once(unsigned self)
{
	checked_bytes_read(&bytes);
}

static void reads_when_told(unsigned self)
{
	if (shared_load(&y, acquire) == 1)
		checked_bytes_read(&bytes);
}

static void reads_when_hinted(unsigned self)
{
	if (shared_load(&y, relaxed) == 1)
		checked_bytes_read(&bytes);
}

static void reads_and_tells(unsigned self)
{
	checked_bytes_read(&bytes);
	shared_add(&x, 1, release);
}

static void reads_and_hints(unsigned self)
{
	checked_bytes_read(&bytes);
	shared_add(&x, 1, relaxed);
}

static void writes_when_told(unsigned self)
{
	if (shared_load(&x, acquire) == 1)
		checked_bytes_write(&bytes, 2);
}

static void plain_bytes_need_an_order(void **state)
{
	assert_non_null(explore(fills, reads_at_once, NULL, NULL));
	assert_non_null(explore(fills, reads_when_hinted, NULL, NULL));
	assert_null(explore(fills, reads_when_told, NULL, NULL));
	assert_non_null(explore(reads_and_hints, writes_when_told, NULL, NULL));
	assert_null(explore(reads_and_tells, writes_when_told, NULL, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stores_may_wait_unless_both_have_full_fences),
		cmocka_unit_test(a_message_needs_a_release_and_an_acquire),
		cmocka_unit_test(one_word_never_goes_back),
		cmocka_unit_test(readers_may_disagree_unless_they_have_full_fences),
		cmocka_unit_test(an_addition_continues_the_release_before_it),
		cmocka_unit_test(plain_bytes_need_an_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
