/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: an object with n reads is read whole exactly n times, whoever repeats, gives up,
 * or dies; and a hold keeps the bytes of a version. Method: the calls in every order
 * that matters; the wake-ups that tell those who wait.
 */
#include "catalog_test.h"

static int put_reads(const char *path, uint32_t reads)
{
	return slot_put(&t, (struct commit_req){ .job = job, .reads = reads }, path, "value");
}

static int read_as(uint64_t session, uint64_t id, const char *path)
{
	struct lookup_req req = { .job = job, .session = session, .read_lo = id, .take = 100 };

	return slot_look(&t, req, path);
}

static int release(uint64_t session, uint64_t hold, uint32_t nth_try, bool is_confirmed)
{
	struct release_req req = { .job = job,
				   .session = session,
				   .hold = hold,
				   .nth_try = nth_try,
				   .is_confirmed = is_confirmed };

	return catalog_release(t.c, &req, t.now, &t.out);
}

static uint32_t reads_left(const char *path)
{
	assert_int_equal(catalog_stat(t.c, job, text(path), t.now, &t.out), 0);
	return t.out.rep.stat.reads_left;
}

static bool is_woken(struct wake_key key)
{
	for (unsigned i = 0; i < t.out.wake_count; i++)
		if (memcmp(&t.out.wakes[i].hash, &key.hash, sizeof(key.hash)) == 0)
			return true;
	return false;
}

static void the_last_confirmed_read_consumes(void **state)
{
	uint64_t holds[2];

	assert_int_equal(put_reads("a", 2), 0);
	assert_int_equal(reads_left("a"), 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(read_as(5, 1 + i, "a"), 0);
		assert_int_equal(slot_got(&t).len, 5);
		assert_int_equal(t.out.rep.lookup.nth_try, 1);
		assert_int_equal(t.out.rep.lookup.reads_left, 1 - i);
		holds[i] = t.out.rep.lookup.hold;
	}
	assert_true(holds[0] != holds[1]);
	assert_int_equal(release(5, holds[1], 1, true), 0);
	assert_int_equal(catalog_stat(t.c, job, text("a"), t.now, &t.out), 0);
	assert_int_equal(release(5, holds[0], 1, true), 0);
	assert_int_equal(read_as(5, 9, "a"), -ENODATA);
	assert_int_equal(catalog_stat(t.c, job, text("a"), t.now, &t.out), -ENODATA);
	assert_int_equal(release(5, holds[0], 1, true), -ESTALE); /* who asks knows whether again */
	assert_int_equal(put_reads("a", 1), 0);
	assert_int_equal(read_as(5, 9, "a"), 0);
}

static void a_session_that_reads_is_of_the_job_that_it_reads_of(void **state)
{
	assert_int_equal(put_reads("a", 1), 0);
	assert_int_equal(read_as(7, 1, "a"), 0);
	assert_true(catalog_session_is_of(t.c, 7, job));
	assert_false(catalog_session_is_of(t.c, 7, job + 1));
}

static void readers_beyond_the_grants_wait_until_it_is_decided(void **state)
{
	struct wake_key key;
	uint64_t hold;

	assert_int_equal(put_reads("a", 1), 0);
	assert_int_equal(read_as(5, 1, "a"), 0);
	hold = t.out.rep.lookup.hold;
	assert_int_equal(read_as(6, 2, "a"), 0);
	assert_true(t.out.must_wait);
	key = t.out.key;
	/* Given back: the one who waits gets it. */
	assert_int_equal(release(5, hold, 1, false), 0);
	assert_true(is_woken(key));
	assert_int_equal(read_as(6, 2, "a"), 0);
	assert_false(t.out.must_wait);
	hold = t.out.rep.lookup.hold;
	/* Used up: then there is nothing to wait for any more. */
	assert_int_equal(read_as(5, 3, "a"), 0);
	assert_true(t.out.must_wait);
	assert_int_equal(release(6, hold, 1, true), 0);
	assert_true(is_woken(key));
	assert_int_equal(read_as(5, 3, "a"), -ENODATA);
}

static void those_who_wait_hear_of_a_removal(void **state)
{
	struct wake_key key;

	assert_int_equal(put_reads("a", 1), 0);
	assert_int_equal(read_as(5, 1, "a"), 0);
	assert_int_equal(read_as(6, 2, "a"), 0);
	assert_true(t.out.must_wait);
	key = t.out.key;
	assert_int_equal(catalog_remove(t.c, &(struct remove_req){ .job = job, .path = text("a") },
					t.now, &t.out),
			 0);
	assert_true(is_woken(key));
}

static void the_same_read_is_the_same_grant(void **state)
{
	uint64_t hold;

	assert_int_equal(put_reads("a", 1), 0);
	assert_int_equal(read_as(5, 1, "a"), 0);
	hold = t.out.rep.lookup.hold;
	assert_int_equal(read_as(6, 1, "a"), 0);
	assert_false(t.out.must_wait);
	assert_true(t.out.rep.lookup.hold == hold);
	assert_int_equal(t.out.rep.lookup.nth_try, 2);
	/* The first try gives up; the second one reads on. */
	assert_int_equal(release(5, hold, 1, false), 0);
	assert_int_equal(reads_left("a"), 0);
	/* The first session ends; the grant is the second one's. */
	assert_int_equal(catalog_session_over(t.c, 5, t.now, &t.out), 0);
	slot_tick(&t);
	assert_int_equal(reads_left("a"), 0);
	/* The last try gives up. */
	assert_int_equal(release(6, hold, 2, false), 0);
	assert_int_equal(reads_left("a"), 1);
}

static void whichever_try_has_the_last_byte_uses_it_up(void **state)
{
	uint64_t hold;

	assert_int_equal(put_reads("a", 1), 0);
	assert_int_equal(read_as(5, 1, "a"), 0);
	hold = t.out.rep.lookup.hold;
	assert_int_equal(read_as(5, 1, "a"), 0);
	assert_int_equal(release(5, hold, 1, true), 0);
	assert_int_equal(read_as(5, 2, "a"), -ENODATA);
}

/* Whoever did not hear that it was counted asks again. */
static void a_read_is_counted_once_however_often_it_is_asked_for(void **state)
{
	slot_snapshot_begin(&t);
	while (catalog_snapshot_step(t.c, 4))
		;
	assert_int_equal(put_reads("a", 2), 0);
	assert_int_equal(read_as(5, 1, "a"), 0);
	assert_int_equal(release(5, t.out.rep.lookup.hold, 1, true), 0);
	assert_int_equal(reads_left("a"), 1);
	/* The bytes again, by another session too, and nothing to be confirmed. */
	assert_int_equal(read_as(6, 1, "a"), 0);
	assert_int_equal(slot_got(&t).len, 5);
	assert_int_equal(t.out.rep.lookup.hold, 0);
	assert_int_equal(reads_left("a"), 1);
	assert_int_equal(read_as(5, 2, "a"), 0);
	assert_int_equal(release(5, t.out.rep.lookup.hold, 1, true), 0);
	/* Nothing is left: who has read it is told so, and who has not. */
	assert_int_equal(read_as(5, 1, "a"), -EALREADY);
	assert_string_equal(t.out.detail, "all reads of a were taken, one of them by this");
	assert_int_equal(read_as(5, 2, "a"), -EALREADY);
	assert_int_equal(read_as(5, 3, "a"), -ENODATA);
	assert_null(slot_restore(&t));
	assert_int_equal(read_as(5, 2, "a"), -EALREADY);
	/* The next version is another one. */
	assert_int_equal(put_reads("a", 1), 0);
	assert_int_equal(read_as(5, 2, "a"), 0);
	assert_int_equal(release(5, t.out.rep.lookup.hold, 1, true), 0);
	assert_int_equal(read_as(5, 1, "a"), -ENODATA);
	assert_int_equal(read_as(5, 2, "a"), -EALREADY);
}

/* A read without an id cannot be told from another. */
static void a_read_without_an_id_is_not_remembered(void **state)
{
	assert_int_equal(put_reads("a", 1), 0);
	assert_int_equal(read_as(5, 0, "a"), 0);
	assert_int_equal(release(5, t.out.rep.lookup.hold, 1, true), 0);
	assert_int_equal(read_as(5, 0, "a"), -ENODATA);
}

static void the_end_of_a_session_gives_its_reads_back(void **state)
{
	struct wake_key key;

	assert_int_equal(put_reads("a", 1), 0);
	assert_int_equal(read_as(5, 1, "a"), 0);
	assert_int_equal(read_as(6, 2, "a"), 0);
	key = t.out.key;
	assert_int_equal(catalog_session_over(t.c, 5, t.now, &t.out), 0);
	assert_int_equal(reads_left("a"), 0);
	assert_int_equal(catalog_due(t.c), 0);
	assert_int_equal(catalog_tick(t.c, &(struct moment){ t.now, t.now, 0 }, &t.out), 0);
	assert_true(is_woken(key));
	assert_int_equal(reads_left("a"), 1);
}

static void a_read_that_nobody_confirms_is_given_back(void **state)
{
	uint64_t hold;

	assert_int_equal(put_reads("a", 1), 0);
	assert_int_equal(read_as(5, 1, "a"), 0);
	hold = t.out.rep.lookup.hold;
	/* The job's own lease is no longer than that. */
	assert_int_equal(catalog_job_renew(t.c,
					   &(struct job_renew_req){ .lease_ms = 10000000,
								    .name = text("job") },
					   t.now, &t.out),
			 0);
	t.now += HOLD_MS_MAX * MS - 1;
	slot_tick(&t);
	assert_int_equal(reads_left("a"), 0);
	t.now += 1;
	slot_tick(&t);
	assert_int_equal(reads_left("a"), 1);
	/* Who confirms it now is told so, for it is another's. */
	assert_int_equal(release(5, hold, 1, true), -ESTALE);
	assert_int_equal(release(5, hold, 1, false), 0);
	assert_int_equal(reads_left("a"), 1);
}

static void a_read_that_is_tried_again_has_its_time_anew(void **state)
{
	assert_int_equal(catalog_job_renew(t.c,
					   &(struct job_renew_req){ .lease_ms = 10000000,
								    .name = text("job") },
					   t.now, &t.out),
			 0);
	assert_int_equal(put_reads("a", 1), 0);
	assert_int_equal(read_as(5, 1, "a"), 0);
	t.now += HOLD_MS_MAX / 2 * MS;
	assert_int_equal(read_as(5, 1, "a"), 0);
	t.now += HOLD_MS_MAX / 2 * MS;
	slot_tick(&t);
	assert_int_equal(reads_left("a"), 0);
	t.now += HOLD_MS_MAX / 2 * MS;
	slot_tick(&t);
	assert_int_equal(reads_left("a"), 1);
}

static void a_session_with_many_holds_ends_in_steps(void **state)
{
	const struct moment at = { .now_ns = t.now };
	unsigned ticks = 0;

	assert_int_equal(put_reads("a", 2000), 0);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(read_as(5, 1 + i, "a"), 0);
	assert_int_equal(catalog_session_over(t.c, 5, t.now, &t.out), 0);
	for (; catalog_due(t.c) == 0; ticks++) {
		uint32_t before = reads_left("a");

		assert_int_equal(catalog_tick(t.c, &at, &t.out), 0);
		assert_true(reads_left("a") - before <= TICK_STEP);
	}
	assert_true(ticks >= 4);
	assert_int_equal(reads_left("a"), 2000);
}

static void a_reader_who_asks_on_keeps_his_read(void **state)
{
	struct commit_req req = { .job = job, .session = 5, .reads = 1 };
	struct find_req find = { .job = job, .session = 5 };
	struct grant g;
	struct extent x;

	assert_int_equal(catalog_job_renew(t.c,
					   &(struct job_renew_req){ .lease_ms = 10000000,
								    .name = text("job") },
					   t.now, &t.out),
			 0);
	assert_int_equal(slot_lease(&t, job, 5, 1, 1, SEGMENT_BYTES_MIN, &g), 0);
	x = extent_at(&g, 0, 100);
	assert_int_equal(slot_put_extents(&t, req, "a", &x, 1), 0);
	assert_int_equal(read_as(5, 1, "a"), 0);
	find.hold = t.out.rep.lookup.hold;
	t.now += HOLD_MS_MAX / 2 * MS;
	assert_int_equal(catalog_find(t.c, &find, t.now, slot_payload(&t), &t.out), 0);
	t.now += HOLD_MS_MAX / 2 * MS;
	slot_tick(&t);
	assert_int_equal(reads_left("a"), 0);
	t.now += HOLD_MS_MAX / 2 * MS;
	slot_tick(&t);
	assert_int_equal(reads_left("a"), 1);
}

/* Its bytes came with the read. */
static void of_a_value_there_is_nothing_to_find(void **state)
{
	struct find_req find = { .job = job, .session = 5 };

	assert_int_equal(put_reads("a", 1), 0);
	assert_int_equal(read_as(5, 1, "a"), 0);
	find.hold = t.out.rep.lookup.hold;
	assert_int_equal(catalog_find(t.c, &find, t.now, slot_payload(&t), &t.out), 0);
	assert_int_equal(t.out.rep.find.found, 0);
	assert_int_equal(slot_got(&t).len, 0);
}

static void a_read_belongs_to_a_session(void **state)
{
	assert_int_equal(put_reads("a", 1), 0);
	assert_int_equal(read_as(0, 1, "a"), -ENOLINK);
}

static void a_replaced_object_is_read_to_its_end(void **state)
{
	uint64_t hold;

	assert_int_equal(put_reads("a", 1), 0);
	assert_int_equal(read_as(5, 1, "a"), 0);
	hold = t.out.rep.lookup.hold;
	assert_int_equal(put_reads("a", 3), 0);
	assert_int_equal(reads_left("a"), 3);
	assert_int_equal(release(5, hold, 1, true), 0);
	assert_int_equal(reads_left("a"), 3);
}

static void a_renamed_object_keeps_its_reads_and_grants(void **state)
{
	uint64_t hold;

	assert_int_equal(put_reads("a", 2), 0);
	assert_int_equal(read_as(5, 1, "a"), 0);
	hold = t.out.rep.lookup.hold;
	assert_int_equal(
		catalog_rename(
			t.c, &(struct rename_req){ .job = job, .from = text("a"), .to = text("b") },
			t.now, &t.out),
		0);
	assert_int_equal(reads_left("b"), 1);
	assert_int_equal(release(5, hold, 1, true), 0);
	assert_int_equal(read_as(5, 2, "b"), 0);
	assert_int_equal(release(5, t.out.rep.lookup.hold, 1, true), 0);
	assert_int_equal(read_as(5, 3, "b"), -ENODATA);
}

/* Holds of objects that may be read any number of times. */

static void put_large(const char *path, struct grant *g)
{
	struct commit_req req = { .job = job, .session = 5 };
	struct extent x[3];

	assert_int_equal(slot_lease(&t, job, 5, (uint64_t)path, 1, SEGMENT_BYTES_MIN, g), 0);
	for (uint32_t i = 0; i < 3; i++)
		x[i] = extent_at(g, i * 8192, 8000);
	assert_int_equal(slot_put_extents(&t, req, path, x, 3), 0);
}

static int look_named(const char *path)
{
	struct lookup_req req = { .job = job, .session = 5, .take = 1, .is_held = 1 };

	return slot_look(&t, req, path);
}

static int look_held(uint32_t take, uint16_t is_held)
{
	struct lookup_req req = { .job = job, .session = 5, .take = take, .is_held = is_held };

	return slot_look(&t, req, "a");
}

static int look_held_from(uint64_t offset, uint32_t take)
{
	struct lookup_req req = {
		.job = job, .session = 5, .offset = offset, .take = take, .is_held = 1
	};

	return slot_look(&t, req, "a");
}

static void a_hold_is_given_to_who_must_come_again(void **state)
{
	struct grant g;

	put_large("a", &g);
	assert_int_equal(look_held(24000, 0), 0);
	assert_int_equal(t.out.rep.lookup.hold, 0);
	assert_int_equal(t.out.rep.lookup.found, 3);
	/* All of it was asked for, and two extents of it are read by messages of their own. */
	assert_int_equal(look_held(24000, 1), 0);
	assert_true(t.out.rep.lookup.hold != 0);
	assert_int_equal(look_held_from(16000, 24000), 0);
	assert_int_equal(t.out.rep.lookup.found, 1);
	assert_int_equal(t.out.rep.lookup.hold, 0);
	assert_int_equal(look_held_from(15999, 24000), 0);
	assert_int_equal(t.out.rep.lookup.found, 2);
	assert_true(t.out.rep.lookup.hold != 0);
	assert_int_equal(look_held(23999, 0), 0);
	assert_int_equal(t.out.rep.lookup.hold, 0);
	assert_int_equal(look_held(23999, 1), 0);
	assert_true(t.out.rep.lookup.hold != 0);
	assert_int_equal(look_held(100, 1), 0);
	assert_int_equal(t.out.rep.lookup.found, 1);
	assert_int_equal(t.out.rep.lookup.extent_count, 3);
}

static void a_hold_keeps_the_bytes_of_its_version(void **state)
{
	struct find_req find = { .job = job, .session = 5, .offset = 16000 };
	struct settle_req settle = { .job = job, .session = 5 };
	struct grant g;
	struct extent x;
	struct rcur c;
	struct duty d;

	put_large("a", &g);
	assert_int_equal(look_held(1, 1), 0);
	find.hold = t.out.rep.lookup.hold;
	settle.segment = g.segment;
	settle.generation = g.generation;
	settle.front = settle.back = g.size;
	assert_int_equal(catalog_settle(t.c, &settle, t.now, &t.out), 0);
	slot_duties(&t);
	assert_int_equal(slot_put(&t, (struct commit_req){ .job = job }, "a", "new"), 0);
	assert_false(catalog_duty(t.c, STORE, &d));
	assert_int_equal(catalog_find(t.c, &find, t.now, slot_payload(&t), &t.out), 0);
	assert_int_equal(t.out.rep.find.first, 16000);
	assert_int_equal(t.out.rep.find.found, 1);
	c = rcur_make(t.payload, slot_got(&t).len);
	extent_get(&c, &x);
	assert_int_equal(x.offset, 16384);
	assert_int_equal(x.len, 8000);
	find.session = 6;
	assert_int_equal(catalog_find(t.c, &find, t.now, slot_payload(&t), &t.out), -ESTALE);
	assert_int_equal(release(5, find.hold, 1, false), 0);
	assert_true(catalog_duty(t.c, STORE, &d));
	assert_int_equal(d.kind, DUTY_FREE);
	assert_int_equal(catalog_find(t.c, &find, t.now, slot_payload(&t), &t.out), -ESTALE);
}

static int look_by(uint64_t session, uint64_t request)
{
	struct lookup_req req = {
		.job = job, .session = session, .request = request, .take = 1, .is_held = 1
	};

	return slot_look(&t, req, "a");
}

static int give_up(uint64_t session, uint64_t request)
{
	struct release_req req = { .job = job, .session = session, .request = request };

	return catalog_release(t.c, &req, t.now, &t.out);
}

static void a_repeated_request_gets_the_hold_that_it_was_given(void **state)
{
	char again[] = "a";
	struct grant g;
	uint64_t hold, version, effects;

	put_large("a", &g);
	assert_int_equal(look_by(5, 77), 0);
	hold = t.out.rep.lookup.hold;
	version = t.out.rep.lookup.version;
	assert_true(hold != 0);
	assert_int_equal(slot_put(&t, (struct commit_req){ .job = job }, "a", "new"), 0);
	effects = t.effect_count;
	assert_int_equal(look_by(5, 77), 0);
	assert_true(t.out.rep.lookup.hold == hold && t.out.rep.lookup.version == version);
	assert_int_equal(t.out.rep.lookup.len, 24000);
	assert_int_equal(t.out.rep.lookup.found, 1);
	assert_true(t.effect_count == effects);
	/* A number is its session's; without one each request is new. */
	put_large(again, &g);
	assert_int_equal(look_by(6, 77), 0);
	assert_true(t.out.rep.lookup.hold > hold && t.out.rep.lookup.version > version);
	assert_int_equal(look_by(5, 0), 0);
	hold = t.out.rep.lookup.hold;
	assert_int_equal(look_by(5, 0), 0);
	assert_true(t.out.rep.lookup.hold > hold);
	assert_int_equal(catalog_session_find(t.c, 5)->hold_count, 3);
	/* What goes with a session that is over is given to nobody. */
	assert_int_equal(look_by(5, 78), 0);
	hold = t.out.rep.lookup.hold;
	assert_int_equal(catalog_session_over(t.c, 5, t.now, &t.out), 0);
	assert_int_equal(look_by(5, 78), 0);
	assert_true(t.out.rep.lookup.hold > hold);
	slot_tick(&t);
	assert_int_equal(catalog_session_find(t.c, 5)->hold_count, 1);
	assert_int_equal(look_by(5, 78), 0);
	assert_int_equal(catalog_session_find(t.c, 5)->hold_count, 1);
}

static void a_request_is_given_up_by_its_number(void **state)
{
	struct grant g;

	put_large("a", &g);
	assert_int_equal(look_by(5, 77), 0);
	assert_int_equal(look_by(5, 0), 0);
	assert_int_equal(look_by(6, 77), 0);
	assert_int_equal(give_up(5, 0), 0);
	assert_int_equal(give_up(5, 78), 0);
	assert_int_equal(catalog_session_find(t.c, 5)->hold_count, 2);
	assert_int_equal(give_up(5, 77), 0);
	assert_int_equal(give_up(5, 77), 0);
	assert_int_equal(catalog_session_find(t.c, 5)->hold_count, 1);
	assert_int_equal(catalog_session_find(t.c, 6)->hold_count, 1);
}

static int read_by(uint64_t session, uint64_t request)
{
	struct lookup_req req = {
		.job = job, .session = session, .request = request, .read_lo = 1, .take = 100
	};

	return slot_look(&t, req, "a");
}

static void a_read_is_given_up_by_its_latest_request_only(void **state)
{
	assert_int_equal(put_reads("a", 1), 0);
	assert_int_equal(read_by(5, 1), 0);
	assert_int_equal(read_by(5, 1), 0);
	assert_int_equal(t.out.rep.lookup.nth_try, 1);
	assert_int_equal(read_by(6, 2), 0);
	assert_int_equal(t.out.rep.lookup.nth_try, 2);
	assert_int_equal(give_up(5, 1), 0);
	assert_int_equal(reads_left("a"), 0);
	assert_int_equal(read_by(6, 2), 0);
	assert_int_equal(t.out.rep.lookup.nth_try, 2);
	assert_int_equal(slot_got(&t).len, 5);
	assert_int_equal(give_up(6, 2), 0);
	assert_int_equal(reads_left("a"), 1);
}

static void a_restored_slot_knows_the_requests_of_its_holds(void **state)
{
	struct grant g;

	put_large("a", &g);
	assert_int_equal(look_by(5, 77), 0);
	slot_snapshot_begin(&t);
	while (catalog_snapshot_step(t.c, 4))
		;
	assert_int_equal(look_by(5, 78), 0);
	assert_null(slot_restore(&t));
}

static void holds_of_a_session_are_limited(void **state)
{
	const char *const names[] = { "job", "b", "c", "d", "e" };
	char path[] = "a";
	struct grant g;

	/* Each job has a quarter, whatever the others do. */
	for (unsigned k = 0; k < 4; k++) {
		if (k > 0)
			job = slot_job(&t, names[k], 0);
		path[0] = (char)('a' + k); /* another request for a segment */
		put_large(path, &g);
		for (unsigned i = 0; i < HOLDS_PER_SESSION / 4; i++)
			assert_int_equal(look_named(path), 0);
		assert_int_equal(look_named(path), -EUSERS);
		assert_string_equal(t.out.detail,
				    k < 3 ? "a job has at most 16384 holds in one session"
					  : "a session has at most 65536 holds");
	}
	assert_int_equal(release(5, t.out.rep.lookup.hold, 1, false), 0);
	job = slot_job(&t, names[4], 0);
	put_large("e", &g);
	assert_int_equal(look_named("e"), -EUSERS);
	assert_string_equal(t.out.detail, "a session has at most 65536 holds");
	assert_int_equal(catalog_session_over(t.c, 5, t.now, &t.out), 0);
	slot_tick(&t);
	assert_int_equal(look_named("e"), 0);
}

static void a_read_that_moves_to_another_session_is_counted_there(void **state)
{
	struct lookup_req req = { .job = job, .session = 5, .take = 1, .is_held = 1 };
	struct grant g;

	put_large("a", &g);
	assert_int_equal(put_reads("r", 1), 0);
	assert_int_equal(read_as(6, 1, "r"), 0);
	for (unsigned i = 0; i < HOLDS_PER_JOB; i++)
		assert_int_equal(slot_look(&t, req, "a"), 0);
	assert_int_equal(read_as(5, 1, "r"), -EUSERS);
	assert_int_equal(read_as(7, 1, "r"), 0);
	assert_null(catalog_session_find(t.c, 6));
}

static void a_range_is_found_in_the_middle_of_many_pieces(void **state)
{
	struct open_req open = { .job = job, .session = 5, .request = 1 };
	struct extend_req extend = { .job = job, .session = 5 };
	struct commit_req commit = { .job = job, .session = 5, .path = text("a") };
	struct find_req find = { .job = job, .session = 5 };
	uint8_t bytes[EXTENTS_BYTES];
	struct grant g[4];

	assert_int_equal(slot_lease(&t, job, 5, 7, 4u << 20, 1u << 20, g), 0);
	assert_int_equal(catalog_open(t.c, &open, t.now, &t.out), 0);
	extend.open = commit.open = t.out.rep.open.open;
	extend.extent_count = EXTENTS_MAX;
	for (unsigned i = 0; i < 4; i++) {
		struct wcur w = wcur_make(bytes, sizeof(bytes));

		for (uint32_t n = 0; n < EXTENTS_MAX; n++) {
			struct extent x = extent_at(&g[i], n * 4096, 1000);

			extent_put(&w, &x);
		}
		assert_int_equal(catalog_extend(t.c, &extend,
						(struct slice){ bytes, sizeof(bytes) }, t.now,
						&t.out),
				 0);
		extend.offset += EXTENTS_MAX * 1000;
	}
	assert_int_equal(catalog_commit(t.c, &commit, (struct slice){ 0 }, t.now, &t.out), 0);
	assert_int_equal(look_held(1, 1), 0);
	assert_int_equal(t.out.rep.lookup.len, 4 * EXTENTS_MAX * 1000);
	find.hold = t.out.rep.lookup.hold;
	for (uint64_t at = 0; at < 4 * EXTENTS_MAX * 1000; at += 777) {
		struct extent x;
		struct rcur c;

		find.offset = at;
		assert_int_equal(catalog_find(t.c, &find, t.now, slot_payload(&t), &t.out), 0);
		assert_true(t.out.rep.find.first == at / 1000 * 1000);
		assert_true(t.out.rep.find.found == (4 * EXTENTS_MAX - at / 1000 < EXTENTS_MAX
							     ? 4 * EXTENTS_MAX - at / 1000
							     : EXTENTS_MAX));
		c = rcur_make(t.payload, slot_got(&t).len);
		extent_get(&c, &x);
		assert_true(x.segment == g[at / 64000].segment);
		assert_int_equal(x.offset, at / 1000 % 64 * 4096);
	}
	find.offset = 4 * EXTENTS_MAX * 1000;
	assert_int_equal(catalog_find(t.c, &find, t.now, slot_payload(&t), &t.out), 0);
	assert_int_equal(t.out.rep.find.found, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_last_confirmed_read_consumes),
		T(readers_beyond_the_grants_wait_until_it_is_decided),
		T(a_session_that_reads_is_of_the_job_that_it_reads_of),
		T(those_who_wait_hear_of_a_removal),
		T(the_same_read_is_the_same_grant),
		T(whichever_try_has_the_last_byte_uses_it_up),
		T(a_read_is_counted_once_however_often_it_is_asked_for),
		T(a_read_without_an_id_is_not_remembered),
		T(the_end_of_a_session_gives_its_reads_back),
		T(a_read_that_nobody_confirms_is_given_back),
		T(a_read_that_is_tried_again_has_its_time_anew),
		T(a_session_with_many_holds_ends_in_steps),
		T(a_reader_who_asks_on_keeps_his_read),
		T(of_a_value_there_is_nothing_to_find),
		T(a_read_belongs_to_a_session),
		T(a_replaced_object_is_read_to_its_end),
		T(a_renamed_object_keeps_its_reads_and_grants),
		T(a_hold_is_given_to_who_must_come_again),
		T(a_hold_keeps_the_bytes_of_its_version),
		T(a_repeated_request_gets_the_hold_that_it_was_given),
		T(a_request_is_given_up_by_its_number),
		T(a_read_is_given_up_by_its_latest_request_only),
		T(a_restored_slot_knows_the_requests_of_its_holds),
		T(holds_of_a_session_are_limited),
		T(a_read_that_moves_to_another_session_is_counted_there),
		T(a_range_is_found_in_the_middle_of_many_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
