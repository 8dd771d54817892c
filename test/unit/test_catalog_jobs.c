/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a job begins, lives by its lease, pays for what it has to the last byte and
 * nanosecond, and ends at one moment, for everything that it had. Method: chosen times,
 * and sums worked out by hand.
 */
#include "catalog_test.h"

static int create(const char *name, uint32_t lease_ms)
{
	struct job_create_req req = { .lease_ms = lease_ms, .name = text(name) };

	return catalog_job_create(t.c, &req, t.now, &t.out);
}

static int end_job(const char *name)
{
	struct job_end_req req = { .name = text(name) };
	uint64_t id;

	return catalog_job_end(t.c, &req, t.now, &t.out, &id);
}

static int show(const char *name)
{
	struct job_show_req req = { .name = text(name) };

	return catalog_job_show(t.c, &req, t.now, &t.out);
}

static int put(uint64_t in, const char *path, const char *value)
{
	return slot_put(&t, (struct commit_req){ .job = in }, path, value);
}

static void ids_are_never_used_again(void **state)
{
	uint64_t first;

	assert_int_equal(create("a", 0), 0);
	first = t.out.rep.job_create.job;
	assert_int_equal(slot_of_id(first), SLOT);
	assert_int_equal(create("a", 0), -EEXIST);
	assert_int_equal(end_job("a"), 0);
	assert_int_equal(create("a", 0), 0);
	assert_true(t.out.rep.job_create.job > first);
	assert_int_equal(put(first, "p", "x"), -EIDRM);
	assert_int_equal(put(t.out.rep.job_create.job, "p", "x"), -EIDRM + EIDRM);
	assert_int_equal(put(first + 100, "p", "x"), -ENXIO);
	assert_int_equal(put(0, "p", "x"), -ENXIO);
}

static int create_by(uint64_t attempt, const char *name)
{
	struct job_create_req req = { .attempt_hi = 1, .attempt_lo = attempt, .name = text(name) };

	return catalog_job_create(t.c, &req, t.now, &t.out);
}

/* Whose first answer was lost is told what it was, and not that somebody was faster. */
static void a_repeat_of_the_attempt_that_made_a_job_is_answered_the_same(void **state)
{
	uint64_t first;

	assert_int_equal(create_by(7, "a"), 0);
	first = t.out.rep.job_create.job;
	assert_int_equal(create_by(7, "a"), 0);
	assert_int_equal(t.out.rep.job_create.job, first);
	assert_int_equal(create_by(8, "a"), -EEXIST);
	assert_int_equal(create("a", 0), -EEXIST);
	assert_int_equal(create("b", 0), 0);
	assert_int_equal(create("b", 0), -EEXIST);
	slot_snapshot_begin(&t);
	while (catalog_snapshot_step(t.c, 10))
		;
	assert_null(slot_restore(&t));
	assert_int_equal(end_job("a"), 0);
	assert_int_equal(create_by(7, "a"), 0);
	assert_true(t.out.rep.job_create.job > first);
}

static void names_and_leases_have_rules(void **state)
{
	assert_int_equal(create("", 0), -EINVAL);
	assert_int_equal(create("a/b", 0), -EINVAL);
	assert_int_equal(create(".a", 0), -EINVAL);
	assert_int_equal(create("a", JOB_LEASE_MS_MIN - 1), -EINVAL);
	assert_int_equal(create("a", JOB_LEASE_MS_MAX + 1), -EINVAL);
	assert_int_equal(create("a", 0), 0);
	assert_int_equal(show("a"), 0);
	assert_int_equal(t.out.rep.job_show.lease_left_ms, JOB_LEASE_MS_DEFAULT);
	assert_int_equal(show("nobody"), -ENXIO);
	assert_int_equal(end_job("nobody"), -ENXIO);
}

static void a_lease_that_is_not_renewed_ends_the_job(void **state)
{
	struct job_renew_req renew = { .name = text("a") };

	assert_int_equal(create("a", 2000), 0);
	t.now += 1999 * MS;
	slot_tick(&t);
	assert_int_equal(catalog_job_renew(t.c, &renew, t.now, &t.out), 0);
	assert_int_equal(t.out.rep.job_renew.lease_left_ms, 2000);
	t.now += 1999 * MS;
	slot_tick(&t);
	assert_int_equal(show("a"), 0);
	assert_int_equal(t.out.rep.job_show.lease_left_ms, 1);
	assert_int_equal(t.out.rep.job_show.has_ended, 0);
	t.now += MS;
	slot_tick(&t);
	assert_int_equal(show("a"), 0);
	assert_int_equal(t.out.rep.job_show.has_ended, 1);
	assert_int_equal(t.out.rep.job_show.has_expired, 1);
	assert_int_equal(catalog_job_renew(t.c, &renew, t.now, &t.out), -EIDRM);
	renew.name = text("job");
	renew.lease_ms = 10;
	assert_int_equal(catalog_job_renew(t.c, &renew, t.now, &t.out), -EINVAL);
}

static void no_lease_ends_before_what_had_come_was_read(void **state)
{
	struct moment at;

	assert_int_equal(create("a", 2000), 0);
	t.now += 10 * SECOND;
	at = (struct moment){ .now_ns = t.now, .read_ns = t.now - 9 * SECOND };
	assert_int_equal(catalog_tick(t.c, &at, &t.out), 0);
	assert_int_equal(show("a"), 0);
	assert_int_equal(t.out.rep.job_show.has_ended, 0);
	at.read_ns = t.now;
	assert_int_equal(catalog_tick(t.c, &at, &t.out), 0);
	assert_int_equal(show("a"), 0);
	assert_int_equal(t.out.rep.job_show.has_ended, 1);
}

static void a_lease_that_fell_due_while_we_were_stopped_gets_a_new_period(void **state)
{
	struct moment at;

	assert_int_equal(create("a", 2000), 0);
	t.now += 40 * SECOND;
	at = (struct moment){ .now_ns = t.now, .read_ns = t.now, .awake_ns = t.now };
	assert_int_equal(catalog_tick(t.c, &at, &t.out), 0);
	assert_int_equal(show("a"), 0);
	assert_int_equal(t.out.rep.job_show.has_ended, 0);
	assert_int_equal(t.out.rep.job_show.lease_left_ms, 2000);
	t.now += 2 * SECOND;
	slot_tick(&t);
	assert_int_equal(show("a"), 0);
	assert_int_equal(t.out.rep.job_show.has_ended, 1);
}

static void a_jobs_end_is_one_moment_for_all_that_it_had(void **state)
{
	struct grant g;
	struct extent x[2];
	struct lookup_req look = { .job = job, .session = 5, .take = 1, .is_held = 1 };
	struct find_req find = { .job = job, .session = 5 };
	struct list_req list = { .job = job };
	struct wake_key key;

	assert_int_equal(put(job, "a", "x"), 0);
	assert_int_equal(slot_lease(&t, job, 5, 1, 1, SEGMENT_BYTES_MIN, &g), 0);
	x[0] = extent_at(&g, 0, 5000);
	x[1] = extent_at(&g, 8192, 5000);
	assert_int_equal(
		slot_put_extents(&t, (struct commit_req){ .job = job, .session = 5 }, "b", x, 2),
		0);
	assert_int_equal(slot_look(&t, look, "b"), 0);
	find.hold = t.out.rep.lookup.hold;
	assert_int_equal(catalog_wait(t.c, job, text("c"), t.now, &t.out), 0);
	key = t.out.key;
	t.now += SECOND;
	assert_int_equal(end_job("job"), 0);
	assert_true(t.out.wakes_all);
	assert_true(catalog_job_over(t.c) == job);
	assert_true(catalog_job_over(t.c) == 0);
	assert_int_equal(slot_look(&t, look, "a"), -EIDRM);
	assert_int_equal(slot_look(&t, look, "b"), -EIDRM);
	assert_int_equal(catalog_find(t.c, &find, t.now, slot_payload(&t), &t.out), -EIDRM);
	assert_int_equal(catalog_stat(t.c, job, text("a"), t.now, &t.out), -EIDRM);
	assert_int_equal(catalog_list(t.c, &list, t.now, slot_payload(&t), &t.out), -EIDRM);
	assert_int_equal(catalog_wait_key(t.c, &key, t.now, &t.out), -EIDRM);
	assert_int_equal(slot_lease(&t, job, 5, 2, 1, SEGMENT_BYTES_MIN, &g), -EIDRM);
	assert_int_equal(put(job, "c", "x"), -EIDRM);
	/* It still has the bytes, until its store has taken them back, but pays no more. */
	assert_int_equal(show("job"), 0);
	assert_int_equal(t.out.rep.job_show.has_ended, 1);
	assert_int_equal(t.out.rep.job_show.object_count, 0);
	assert_int_equal(t.out.rep.job_show.dram_bytes, 65536 + 4096);
	t.now += 100 * SECOND;
	assert_true(slot_job_integral(&t, "job") == (65536 + 4096) * (unsigned __int128)SECOND);
	slot_tick(&t);
	assert_int_equal(slot_duties(&t), 1);
	slot_tick(&t);
	assert_int_equal(show("job"), 0);
	assert_int_equal(t.out.rep.job_show.dram_bytes, 0);
	assert_int_equal(catalog_job_find(t.c, job)->state, JOB_ENDED);
	assert_true(slot_job_integral(&t, "job") == (65536 + 4096) * (unsigned __int128)SECOND);
	assert_true(account_integral(&t.account, t.now) == 65536 * (unsigned __int128)SECOND);
	assert_int_equal(end_job("job"), 0);
	assert_false(catalog_session_has(t.c, 5));
}

static void a_large_job_is_taken_apart_in_steps(void **state)
{
	struct catalog_sums sums;
	unsigned ticks = 0;
	char path[32];

	for (int i = 0; i < 10 * TICK_STEP; i++) {
		snprintf(path, sizeof(path), "d%d/%d", i % 10, i);
		assert_int_equal(slot_put(&t,
					  (struct commit_req){ .job = job,
							       .attempt_lo = 1 + i,
							       .ttl_ms = 1 + i },
					  path, "x"),
				 0);
	}
	assert_int_equal(end_job("job"), 0);
	catalog_sums(t.c, t.now, &sums);
	assert_int_equal(sums.object_count, 0);
	t.now += SECOND; /* some expire meanwhile */
	while (catalog_due(t.c) == 0) {
		const struct moment at = { .now_ns = t.now, .read_ns = t.now };

		assert_int_equal(catalog_tick(t.c, &at, &t.out), 0);
		assert_null(catalog_check(t.c));
		ticks++;
	}
	assert_true(ticks >= 5);
	catalog_sums(t.c, t.now, &sums);
	assert_int_equal(sums.value_bytes, 0);
	assert_int_equal(t.c->entries.count, 0);
	assert_int_equal(t.c->directories.count, 0);
	assert_int_equal(t.c->attempts.count, 0);
}

static void the_bill_is_exact(void **state)
{
	struct catalog_sums sums;
	struct grant g;

	/* One block of values for 7 s, one segment for 3 s, the last second a page of it. */
	t.now += 5;
	assert_int_equal(put(job, "a", "x"), 0);
	t.now += 4 * SECOND;
	assert_int_equal(slot_lease(&t, job, 5, 1, 1, SEGMENT_BYTES_MIN, &g), 0);
	t.now += 2 * SECOND;
	assert_int_equal(
		slot_put_extents(&t, (struct commit_req){ .job = job, .session = 5 }, "b",
				 &(struct extent){ g.segment, g.generation, 0, 10, 0, 0, 0, 0, 0 },
				 1),
		0);
	assert_int_equal(catalog_settle(t.c,
					&(struct settle_req){ .job = job,
							      .session = 5,
							      .segment = g.segment,
							      .generation = g.generation,
							      .front = 10,
							      .back = g.size },
					t.now, &t.out),
			 0);
	t.now += SECOND;
	assert_true(slot_job_integral(&t, "job") == 4096 * 7 * (unsigned __int128)SECOND +
							    65536 * 2 * (unsigned __int128)SECOND +
							    4096 * (unsigned __int128)SECOND);
	catalog_sums(t.c, t.now, &sums);
	assert_true(sums.value_byte_ns == 4096 * 7 * (unsigned __int128)SECOND);
	assert_true(sums.byte_ns == slot_job_integral(&t, "job"));
}

static void an_integral_has_128_bits(void **state)
{
	struct account a = { 0 };
	uint64_t begin_ns = 1790000000ull * SECOND;

	account_book(&a, 1ll << 43, begin_ns);
	assert_true(account_integral(&a, begin_ns - 1) == 0);
	account_book(&a, -(1ll << 42), begin_ns + 365ull * 86400 * SECOND);
	assert_true(account_integral(&a, begin_ns + 2 * 365ull * 86400 * SECOND) ==
		    ((unsigned __int128)3 << 42) * (365ull * 86400 * SECOND));
}

static void the_quota_covers_small_values(void **state)
{
	uint64_t small = slot_job(&t, "small", 8192);
	char value[1100] = "";

	memset(value, 'v', 1099);
	for (int i = 0; i < 6; i++)
		assert_int_equal(put(small, (char[]){ (char)('a' + i), 0 }, value), 0);
	assert_int_equal(put(small, "z", value), -EDQUOT);
	assert_non_null(strstr(t.out.detail, "8192"));
	assert_int_equal(put(small, "empty", ""), 0);
	assert_int_equal(put(small, "tiny", "x"), 0);
	assert_int_equal(show("small"), 0);
	assert_int_equal(t.out.rep.job_show.dram_bytes, 8192);
	assert_int_equal(t.out.rep.job_show.object_count, 8);
	assert_int_equal(t.out.rep.job_show.object_bytes, 6 * 1099 + 1);
	assert_int_equal(t.out.rep.job_show.quota_dram, 8192);
}

static void jobs_are_listed_by_name_ended_ones_too(void **state)
{
	const char *const expected[] = { "a", "aa", "b", "b", "job" };
	struct wcur w;
	struct rcur c;
	uint32_t count = 0;

	assert_int_equal(create("b", 0), 0);
	assert_int_equal(end_job("b"), 0);
	assert_int_equal(create("b", 0), 0);
	assert_int_equal(create("aa", 0), 0);
	assert_int_equal(create("a", 0), 0);
	w = wcur_make(t.payload, sizeof(t.payload));
	assert_true(catalog_job_list(t.c, text(""), t.now, &w, &count));
	assert_int_equal(count, 5);
	c = rcur_make(t.payload, (size_t)(w.p - t.payload));
	for (int i = 0; i < 5; i++) {
		struct job_entry e;

		job_entry_get(&c, &e);
		assert_int_equal(e.name.len, strlen(expected[i]));
		assert_memory_equal(e.name.ptr, expected[i], e.name.len);
		assert_int_equal(e.has_ended, i == 2);
	}
	assert_int_equal(rcur_finish(&c), 0);
	w = wcur_make(t.payload, sizeof(t.payload));
	count = 0;
	assert_true(catalog_job_list(t.c, text("aa"), t.now, &w, &count));
	assert_int_equal(count, 3);
}

static void a_list_of_many_jobs_has_pages(void **state)
{
	uint32_t total = 0;
	char after[80] = "", name[80];
	bool is_whole;
	int pages = 0;

	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "job-%060d", i);
		assert_int_equal(create(name, 0), 0);
	}
	do {
		struct wcur w = wcur_make(t.payload, sizeof(t.payload));
		struct job_entry e;
		struct rcur c;
		uint32_t count = 0;

		is_whole = catalog_job_list(t.c, text(after), t.now, &w, &count);
		assert_false(w.bad);
		c = rcur_make(t.payload, (size_t)(w.p - t.payload));
		for (uint32_t i = 0; i < count; i++)
			job_entry_get(&c, &e);
		snprintf(after, sizeof(after), "%.*s", (int)e.name.len, e.name.ptr);
		total += count;
		pages++;
	} while (!is_whole);
	assert_int_equal(total, 3001);
	assert_true(pages > 3);
}

static void the_last_ended_jobs_are_remembered(void **state)
{
	uint64_t first = 0;
	char name[16];

	for (int i = 0; i < ENDED_JOBS_MAX + 5; i++) {
		snprintf(name, sizeof(name), "j%d", i);
		assert_int_equal(create(name, 0), 0);
		first = first ? first : t.out.rep.job_create.job;
		assert_int_equal(end_job(name), 0);
		slot_tick(&t);
	}
	assert_int_equal(show("j4"), -ENXIO);
	assert_int_equal(show("j5"), 0);
	assert_int_equal(put(first, "a", "x"), -EIDRM);
	assert_int_equal(t.c->ended_count, ENDED_JOBS_MAX);
}

/* A block of values for `ns`. */
static void bill_of(const char *name, uint64_t ns)
{
	assert_int_equal(create(name, 0), 0);
	assert_int_equal(put(t.out.rep.job_create.job, "a", "x"), 0);
	t.now += ns;
	assert_int_equal(end_job(name), 0);
	slot_tick(&t);
}

static void the_bills_of_forgotten_jobs_are_in_a_sum(void **state)
{
	struct catalog_sums sums;
	char name[16];

	for (int i = 1; i <= 256 + 3; i++) {
		snprintf(name, sizeof(name), "j%d", i);
		bill_of(name, 1000 + (uint64_t)i);
	}
	assert_int_equal(show("j3"), -ENXIO);
	assert_true(slot_job_integral(&t, "j4") == 4096 * 1004);
	catalog_sums(t.c, t.now, &sums);
	assert_true(sums.forgotten_byte_ns == 4096 * 3006);
	assert_true(sums.byte_ns == 4096 * (259 * 1000 + 259 * 260 / 2));
	/* They do not grow, and a snapshot has those of its beginning. */
	slot_snapshot_begin(&t);
	bill_of("j260", 1);
	catalog_sums(t.c, t.now + SECOND, &sums);
	assert_true(sums.forgotten_byte_ns == 4096 * 4010);
	while (catalog_snapshot_step(t.c, 10))
		;
	assert_null(slot_restore(&t));
}

static void jobs_of_a_slot_are_limited(void **state)
{
	char name[16];

	for (int i = 1; i < JOBS_PER_SLOT; i++) {
		snprintf(name, sizeof(name), "j%d", i);
		assert_int_equal(create(name, 0), 0);
	}
	assert_int_equal(create("one-more", 0), -EUSERS);
	assert_int_equal(end_job("j1"), 0);
	assert_int_equal(create("one-more", 0), -EUSERS); /* what j1 had is still there */
	slot_tick(&t);
	assert_int_equal(create("one-more", 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(ids_are_never_used_again),
		T(a_repeat_of_the_attempt_that_made_a_job_is_answered_the_same),
		T(names_and_leases_have_rules),
		T(a_lease_that_is_not_renewed_ends_the_job),
		T(no_lease_ends_before_what_had_come_was_read),
		T(a_lease_that_fell_due_while_we_were_stopped_gets_a_new_period),
		T(a_jobs_end_is_one_moment_for_all_that_it_had),
		T(a_large_job_is_taken_apart_in_steps),
		T(the_bill_is_exact),
		T(an_integral_has_128_bits),
		T(the_quota_covers_small_values),
		T(jobs_are_listed_by_name_ended_ones_too),
		T(a_list_of_many_jobs_has_pages),
		T(the_last_ended_jobs_are_remembered),
		T(the_bills_of_forgotten_jobs_are_in_a_sum),
		T(jobs_of_a_slot_are_limited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
