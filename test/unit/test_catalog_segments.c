/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: segments go from store to writer to objects and back; no byte is handed out twice,
 * none is lost, and slot and store book the same. Method: a store that books as the real
 * one does, and its integral against the slot's.
 */
#include "catalog_test.h"

static struct grant lease(uint64_t session, uint64_t request)
{
	struct grant g[LEASE_SEGMENTS_MAX];

	assert_int_equal(slot_lease(&t, job, session, request, 1, SEGMENT_BYTES_MIN, g), 0);
	assert_int_equal(t.out.rep.lease.count, 1);
	return g[0];
}

static int put_one(uint64_t session, const char *path, struct extent x)
{
	return slot_put_extents(&t, (struct commit_req){ .job = job, .session = session }, path, &x,
				1);
}

static int settle(uint64_t session, const struct grant *g, uint32_t front, uint32_t back)
{
	struct settle_req req = { .job = job,
				  .session = session,
				  .segment = g->segment,
				  .generation = g->generation,
				  .front = front,
				  .back = back };

	return catalog_settle(t.c, &req, t.now, &t.out);
}

static int remove_it(const char *path)
{
	struct remove_req req = { .job = job, .path = text(path) };

	return catalog_remove(t.c, &req, t.now, &t.out);
}

static void integrals_agree(void)
{
	struct catalog_sums sums;

	slot_duties(&t);
	t.now += 12345;
	catalog_sums(t.c, t.now, &sums);
	assert_true(sums.byte_ns > 0);
	assert_true(sums.byte_ns == account_integral(&t.account, t.now) + sums.value_byte_ns);
	assert_true(slot_job_integral(&t, "job") == sums.byte_ns);
}

static void a_segment_is_freed_when_it_is_sealed_and_empty(void **state)
{
	struct grant g = lease(5, 1);
	struct duty d;

	assert_int_equal(put_one(5, "a", extent_at(&g, g.size - 4096, 4000)), 0);
	assert_int_equal(catalog_job_bytes(t.c, job), 65536);
	t.now += SECOND;
	assert_int_equal(settle(5, &g, 0, g.size - 4096), 0);
	assert_int_equal(catalog_job_bytes(t.c, job), 4096);
	assert_true(catalog_duty(t.c, STORE, &d));
	assert_int_equal(d.kind, DUTY_SEAL);
	assert_int_equal(d.front, 0);
	assert_int_equal(d.back, g.size - 4096);
	assert_true(d.stamp_ns == t.now);
	assert_false(catalog_duty(t.c, STORE, &d));
	d.kind = DUTY_SEAL;
	d.segment = g.segment;
	d.generation = g.generation;
	assert_int_equal(stored_take(&t, &(struct duty){ .kind = DUTY_SEAL,
							 .segment = g.segment,
							 .generation = g.generation,
							 .front = 0,
							 .back = g.size - 4096,
							 .stamp_ns = t.now }),
			 0);
	assert_int_equal(catalog_duty_done(t.c, &d, 0, t.now, &t.out), 0);
	assert_false(catalog_has_duty(t.c, STORE));
	t.now += SECOND;
	assert_int_equal(remove_it("a"), 0);
	assert_true(catalog_duty(t.c, STORE, &d));
	assert_int_equal(d.kind, DUTY_FREE);
	assert_true(d.stamp_ns == t.now);
	/* Until the store has answered, the job has it, but does not pay. */
	assert_int_equal(catalog_job_bytes(t.c, job), 4096);
	assert_int_equal(stored_take(&t, &d), 0);
	assert_int_equal(catalog_duty_done(t.c, &d, 0, t.now, &t.out), 0);
	assert_int_equal(catalog_job_bytes(t.c, job), 0);
	assert_null(catalog_segment_find(t.c, g.segment, g.generation));
	assert_true(slot_job_integral(&t, "job") ==
		    65536 * (unsigned __int128)SECOND + 4096 * (unsigned __int128)SECOND);
	integrals_agree();
}

static void an_empty_segment_goes_back_at_once(void **state)
{
	struct grant g = lease(5, 1);
	struct duty d;

	t.now += SECOND;
	assert_int_equal(settle(5, &g, 0, g.size), 0);
	assert_true(catalog_duty(t.c, STORE, &d));
	assert_int_equal(d.kind, DUTY_FREE);
	assert_int_equal(stored_take(&t, &d), 0);
	assert_int_equal(catalog_duty_done(t.c, &d, 0, t.now, &t.out), 0);
	assert_int_equal(settle(5, &g, 0, g.size), 0);
	integrals_agree();
}

static void a_duty_is_owed_until_it_is_answered(void **state)
{
	struct grant g = lease(5, 1);
	struct duty d;

	assert_int_equal(settle(5, &g, 0, g.size), 0);
	for (int i = 0; i < 3; i++) {
		assert_true(catalog_has_duty(t.c, STORE));
		assert_true(catalog_duty(t.c, STORE, &d));
		assert_false(catalog_has_duty(t.c, STORE));
		assert_int_equal(catalog_duty_done(t.c, &d, -ETIMEDOUT, t.now, &t.out), 0);
	}
	/* Answered twice: the second time for nobody. */
	assert_true(catalog_duty(t.c, STORE, &d));
	assert_int_equal(stored_take(&t, &d), 0);
	assert_int_equal(catalog_duty_done(t.c, &d, 0, t.now, &t.out), 0);
	assert_int_equal(catalog_duty_done(t.c, &d, 0, t.now, &t.out), 0);
	assert_false(catalog_has_duty(t.c, STORE));
}

static void what_was_sealed_and_freed_unheard_is_told_in_order(void **state)
{
	struct grant g = lease(5, 1);

	assert_int_equal(put_one(5, "a", extent_at(&g, 0, 100)), 0);
	t.now += SECOND;
	assert_int_equal(settle(5, &g, 4096, g.size), 0);
	t.now += SECOND;
	assert_int_equal(remove_it("a"), 0);
	assert_int_equal(slot_duties(&t), 2);
	integrals_agree();
}

static void a_repeated_lease_has_the_same_grants(void **state)
{
	struct grant g[LEASE_SEGMENTS_MAX], again[LEASE_SEGMENTS_MAX];

	assert_int_equal(slot_lease(&t, job, 5, 1, 150000, SEGMENT_BYTES_MIN, g), 0);
	assert_int_equal(t.out.rep.lease.count, 3);
	assert_int_equal(slot_lease(&t, job, 5, 1, 150000, SEGMENT_BYTES_MIN, again), 0);
	assert_int_equal(t.out.rep.lease.count, 3);
	for (int i = 0; i < 3; i++) {
		bool is_there = false;

		for (int n = 0; n < 3; n++)
			is_there |= memcmp(&g[i], &again[n], sizeof(g[i])) == 0;
		assert_true(is_there);
	}
	assert_int_equal(catalog_job_bytes(t.c, job), 3 * 65536);
	assert_int_equal(slot_lease(&t, job, 6, 1, 1, SEGMENT_BYTES_MIN, again), 0);
	assert_true(again[0].segment != g[0].segment);
}

static void no_byte_is_handed_out_twice(void **state)
{
	struct grant g = lease(5, 1);
	struct extent x[2] = { extent_at(&g, 0, 64), extent_at(&g, 63 * 64, 2 * 64) };
	struct commit_req req = { .job = job, .session = 5 };

	assert_int_equal(put_one(5, "a", extent_at(&g, 64 * 64, 1)), 0);
	assert_int_equal(slot_put_extents(&t, req, "b", x, 2), -EINVAL);
	x[1].offset = 62 * 64;
	assert_int_equal(slot_put_extents(&t, req, "b", x, 2), 0);
	assert_int_equal(put_one(5, "c", extent_at(&g, 62 * 64, 1)), -EINVAL);
	assert_int_equal(put_one(5, "c", extent_at(&g, 61 * 64, 65)), -EINVAL);
	assert_int_equal(put_one(5, "c", extent_at(&g, 61 * 64, 64)), 0);
	/* Nor within one request. */
	x[0] = extent_at(&g, 8192, 100);
	x[1] = extent_at(&g, 8192 + 64, 100);
	assert_int_equal(slot_put_extents(&t, req, "d", x, 2), -EINVAL);
	x[1].offset += 64;
	assert_int_equal(slot_put_extents(&t, req, "d", x, 2), 0);
}

static void extents_lie_within_their_writers_segment(void **state)
{
	struct grant g = lease(5, 1);
	uint64_t other = slot_job(&t, "other", 0);
	struct extent x = extent_at(&g, 0, 100);

	assert_int_equal(put_one(6, "a", x), -ESTALE);
	assert_int_equal(
		slot_put_extents(&t, (struct commit_req){ .job = other, .session = 5 }, "a", &x, 1),
		-ESTALE);
	x.generation++;
	assert_int_equal(put_one(5, "a", x), -ESTALE);
	x = extent_at(&g, g.size - 64, 65);
	assert_int_equal(put_one(5, "a", x), -EINVAL);
	x = extent_at(&g, 32, 64);
	assert_int_equal(put_one(5, "a", x), -EINVAL);
	x = extent_at(&g, 0, 0);
	assert_int_equal(put_one(5, "a", x), -EINVAL);
	x = extent_at(&g, UINT32_MAX - 63, 64);
	assert_int_equal(put_one(5, "a", x), -EINVAL);
	assert_int_equal(put_one(5, "a", extent_at(&g, g.size - 64, 64)), 0);
	/* Whoever says that he is done is. */
	assert_int_equal(settle(5, &g, 0, g.size - 64), 0);
	assert_int_equal(put_one(5, "b", extent_at(&g, 0, 64)), -ESTALE);
}

static void a_commit_says_how_long_it_is(void **state)
{
	struct grant g = lease(5, 1);
	struct commit_req req = {
		.job = job, .session = 5, .path = text("a"), .len = 99, .extent_count = 1
	};
	uint8_t bytes[EXTENT_SIZE];
	struct wcur w = wcur_make(bytes, sizeof(bytes));
	struct extent x = extent_at(&g, 0, 100);

	extent_put(&w, &x);
	assert_int_equal(
		catalog_commit(t.c, &req, (struct slice){ bytes, sizeof(bytes) }, t.now, &t.out),
		-EINVAL);
	req.len = 100;
	req.extent_count = 2;
	assert_int_equal(
		catalog_commit(t.c, &req, (struct slice){ bytes, sizeof(bytes) }, t.now, &t.out),
		-EINVAL);
	req.extent_count = 1;
	assert_int_equal(
		catalog_commit(t.c, &req, (struct slice){ bytes, sizeof(bytes) }, t.now, &t.out),
		0);
}

static void a_long_extent_has_a_table_which_lives_as_long(void **state)
{
	struct grant g[2];
	struct extent x;

	assert_int_equal(slot_lease(&t, job, 5, 1, 1u << 20, 1u << 20, g), 0);
	assert_int_equal(slot_lease(&t, job, 5, 2, 1, SEGMENT_BYTES_MIN, g + 1), 0);
	x = extent_at(&g[0], 0, 100000);
	assert_int_equal(put_one(5, "a", x), -ESTALE);
	x.table_segment = g[1].segment;
	x.table_generation = g[1].generation;
	x.table_offset = 64;
	assert_int_equal(put_one(5, "a", x), 0);
	x.offset = 512 * 1024;
	assert_int_equal(put_one(5, "b", x), -EINVAL);
	assert_int_equal(settle(5, &g[1], 0, g[1].size), -EINVAL);
	assert_int_equal(settle(5, &g[1], 128, g[1].size), 0);
	slot_duties(&t);
	assert_non_null(catalog_segment_find(t.c, g[1].segment, g[1].generation));
	slot_snapshot_begin(&t);
	while (catalog_snapshot_step(t.c, 4))
		;
	assert_null(slot_restore(&t));
	assert_int_equal(remove_it("a"), 0);
	slot_duties(&t);
	assert_null(catalog_segment_find(t.c, g[1].segment, g[1].generation));
	integrals_agree();
}

static void only_the_untouched_middle_is_given_back(void **state)
{
	struct grant g = lease(5, 1);

	assert_int_equal(put_one(5, "a", extent_at(&g, 4096, 5000)), 0);
	assert_int_equal(put_one(5, "b", extent_at(&g, g.size - 128, 100)), 0);
	assert_int_equal(settle(5, &g, 9000, g.size - 128), -EINVAL);
	assert_int_equal(settle(5, &g, 9096, g.size - 64), -EINVAL);
	assert_int_equal(settle(5, &g, g.size, g.size - 128), -EINVAL);
	assert_int_equal(settle(5, &g, 9096, g.size + 1), -EINVAL);
	assert_int_equal(settle(6, &g, 9096, g.size - 128), -ESTALE);
	assert_int_equal(settle(5, &g, 9096, g.size - 128), 0);
	assert_int_equal(catalog_job_bytes(t.c, job), 3 * 4096 + 4096);
	assert_int_equal(settle(5, &g, 9096, g.size - 128), 0);
	integrals_agree();
}

static void a_sessions_end_fences_its_segments(void **state)
{
	struct grant g = lease(5, 1);
	struct duty d;

	assert_int_equal(put_one(5, "a", extent_at(&g, 0, 100)), 0);
	assert_int_equal(catalog_session_over(t.c, 5, t.now, &t.out), 0);
	slot_tick(&t);
	assert_true(catalog_duty(t.c, STORE, &d));
	assert_int_equal(d.kind, DUTY_REVOKE);
	/* Its next epoch commits what was complete. */
	assert_int_equal(put_one(5, "b", extent_at(&g, 128, 100)), 0);
	assert_int_equal(put_one(6, "c", extent_at(&g, 256, 100)), -ESTALE);
	assert_int_equal(catalog_duty_done(t.c, &d, 0, t.now, &t.out), 0);
	assert_int_equal(put_one(5, "c", extent_at(&g, 256, 100)), 0);
	assert_false(catalog_has_duty(t.c, STORE));
	assert_int_equal(settle(5, &g, 512, g.size), 0);
	assert_int_equal(slot_duties(&t), 1);
	assert_int_equal(catalog_job_bytes(t.c, job), 4096);
	integrals_agree();
}

static void a_fenced_segment_waits_until_somebody_needs_room(void **state)
{
	struct grant g = lease(5, 1), other = lease(5, 2);

	assert_int_equal(put_one(5, "a", extent_at(&g, 0, 100)), 0);
	t.now += SECOND;
	assert_int_equal(catalog_session_over(t.c, 5, t.now, &t.out), 0);
	slot_tick(&t);
	slot_duties(&t);
	assert_int_equal(catalog_job_bytes(t.c, job), 2 * 65536);
	assert_int_equal(catalog_reclaim(t.c, t.now, &t.out), 0);
	slot_duties(&t);
	/* Of the first one the page that has something in it is left; the second has nothing. */
	assert_int_equal(catalog_job_bytes(t.c, job), 4096);
	assert_int_equal(put_one(5, "b", extent_at(&g, 128, 100)), -ESTALE);
	assert_null(catalog_segment_find(t.c, other.segment, other.generation));
	assert_int_equal(remove_it("a"), 0);
	slot_duties(&t);
	assert_int_equal(catalog_job_bytes(t.c, job), 0);
	integrals_agree();
}

static void a_fenced_segment_does_not_wait_for_ever(void **state)
{
	assert_int_equal(catalog_job_renew(t.c,
					   &(struct job_renew_req){ .lease_ms = 10000000,
								    .name = text("job") },
					   t.now, &t.out),
			 0);
	lease(5, 1);
	assert_int_equal(catalog_session_over(t.c, 5, t.now, &t.out), 0);
	slot_tick(&t);
	slot_duties(&t);
	t.now += FENCED_MS_MAX * MS - 1;
	slot_tick(&t);
	assert_int_equal(slot_duties(&t), 0);
	t.now += 1;
	slot_tick(&t);
	assert_int_equal(slot_duties(&t), 1);
	assert_int_equal(catalog_job_bytes(t.c, job), 0);
}

static void a_fenced_segment_of_a_function_that_is_gone_does_not_wait(void **state)
{
	struct grant g = lease(5, 1), other = lease(6, 2);

	lease(5, 3);
	assert_int_equal(put_one(5, "a", extent_at(&g, 0, 100)), 0);
	assert_int_equal(catalog_session_over(t.c, 6, t.now, &t.out), 0);
	slot_tick(&t);
	slot_duties(&t);
	t.now += SECOND;
	assert_int_equal(catalog_session_gone(t.c, 5, t.now, &t.out), 0);
	assert_int_equal(catalog_session_gone(t.c, 77, t.now, &t.out), 0);
	slot_tick(&t);
	slot_duties(&t);
	slot_tick(&t);
	slot_duties(&t);
	/* What has something live stays; what was fenced before waits for its owner. */
	assert_int_equal(catalog_job_bytes(t.c, job), 4096 + 65536);
	assert_int_equal(catalog_segment_find(t.c, g.segment, g.generation)->state, SEGMENT_SEALED);
	assert_int_equal(catalog_segment_find(t.c, other.segment, other.generation)->state,
			 SEGMENT_FENCED);
	integrals_agree();
}

/* Its process is gone, so nobody settles them: no longer than until nobody can write there. */
static void a_process_that_is_gone_keeps_no_segments(void **state)
{
	struct grant g = lease(5, 1), other = lease(5, 2);
	struct duty d;

	assert_int_equal(put_one(5, "a", extent_at(&g, 0, 100)), 0);
	/* Of 16 pages the first and the eleventh. */
	assert_int_equal(put_one(5, "c", extent_at(&g, 40960, 4096)), 0);
	t.now += SECOND;
	assert_int_equal(catalog_session_gone(t.c, 5, t.now, &t.out), 0);
	slot_tick(&t);
	assert_int_equal(catalog_job_bytes(t.c, job), 2 * 65536);
	assert_int_equal(put_one(5, "b", extent_at(&g, 128, 100)), -ESTALE);
	assert_int_equal(settle(5, &g, 128, g.size), -ESTALE);
	/* The store has not answered: it is asked again. */
	assert_true(catalog_duty(t.c, STORE, &d));
	assert_int_equal(d.kind, DUTY_REVOKE);
	assert_int_equal(catalog_duty_done(t.c, &d, -ETIMEDOUT, t.now, &t.out), 0);
	assert_int_equal(catalog_segment_find(t.c, d.segment, d.generation)->state,
			 SEGMENT_FENCING);
	slot_duties(&t);
	assert_null(catalog_segment_find(t.c, other.segment, other.generation));
	assert_int_equal(catalog_segment_find(t.c, g.segment, g.generation)->state, SEGMENT_SEALED);
	assert_int_equal(catalog_job_bytes(t.c, job), 7 * 4096);
	assert_int_equal(remove_it("a"), 0);
	assert_int_equal(remove_it("c"), 0);
	slot_duties(&t);
	assert_int_equal(catalog_job_bytes(t.c, job), 0);
	integrals_agree();
}

/* Its writer had not heard of the end; what it cost ends with the job, whenever it is settled. */
static void a_segment_settled_after_the_end_of_its_job_is_given_back(void **state)
{
	struct grant g = lease(5, 1);
	struct job_end_req req = { .name = text("job") };
	uint64_t id;

	assert_int_equal(put_one(5, "a", extent_at(&g, 0, 100)), 0);
	t.now += SECOND;
	assert_int_equal(catalog_job_end(t.c, &req, t.now, &t.out, &id), 0);
	t.now += SECOND;
	assert_int_equal(settle(5, &g, 128, g.size), 0);
	assert_int_equal(catalog_segment_find(t.c, g.segment, g.generation)->state,
			 SEGMENT_FREEING);
	assert_int_equal(slot_duties(&t), 1);
	slot_tick(&t);
	assert_null(catalog_segment_find(t.c, g.segment, g.generation));
	integrals_agree();
}

/* Who comes back after metadata was restarted is believed no more than that. */
static void a_session_with_segments_is_of_their_job(void **state)
{
	assert_false(catalog_session_is_of(t.c, 5, job));
	lease(5, 1);
	assert_true(catalog_session_is_of(t.c, 5, job));
	assert_false(catalog_session_is_of(t.c, 5, job + 1));
	assert_false(catalog_session_is_of(t.c, 6, job));
}

/* Every page has something. */
static void a_full_segment_of_a_process_that_is_gone_stays_whole(void **state)
{
	struct grant g = lease(5, 1);

	assert_int_equal(put_one(5, "a", extent_at(&g, 0, 65536)), 0);
	t.now += SECOND;
	assert_int_equal(catalog_session_gone(t.c, 5, t.now, &t.out), 0);
	slot_tick(&t);
	slot_duties(&t);
	assert_int_equal(catalog_segment_find(t.c, g.segment, g.generation)->state, SEGMENT_SEALED);
	assert_int_equal(catalog_job_bytes(t.c, job), 65536);
	integrals_agree();
}

static void a_session_that_comes_back_has_new_segments(void **state)
{
	struct grant g = lease(5, 1), again;

	assert_int_equal(catalog_session_over(t.c, 5, t.now, &t.out), 0);
	again = lease(5, 2);
	slot_tick(&t);
	/* What the next epoch got before the end was worked off stays its own. */
	assert_int_equal(put_one(5, "a", extent_at(&again, 0, 100)), 0);
	assert_int_equal(catalog_segment_find(t.c, again.segment, again.generation)->state,
			 SEGMENT_OPEN);
	assert_int_equal(catalog_segment_find(t.c, g.segment, g.generation)->state,
			 SEGMENT_FENCING);
}

static void the_quota_counts_what_was_asked_for(void **state)
{
	struct grant g[LEASE_SEGMENTS_MAX];
	uint64_t small = slot_job(&t, "small", 200000);
	struct lease_req req = {
		.job = small, .session = 5, .request = 9, .need = 65536, .size = SEGMENT_BYTES_MIN
	};

	/* 131072 fit, but not in one segment together with another. */
	assert_int_equal(
		catalog_lease(t.c, &req, SEGMENT_BYTES_MAX, t.now, slot_payload(&t), &t.out), 0);
	assert_true(t.out.ask.is_needed);
	assert_int_equal(t.out.ask.bytes, 65536);
	assert_int_equal(slot_lease(&t, small, 5, 1, 150000, 262144, g), -EDQUOT);
	assert_true(t.out.may_fit);
	assert_non_null(strstr(t.out.detail, "65536"));
	assert_non_null(strstr(t.out.detail, "200000"));
	assert_int_equal(slot_lease(&t, small, 5, 1, 200001, SEGMENT_BYTES_MIN, g), -EDQUOT);
	assert_false(t.out.may_fit);
	/* Asked for 256 KiB, got what the quota still has. */
	assert_int_equal(slot_lease(&t, small, 5, 2, 65536, 262144, g), 0);
	assert_int_equal(g[0].size, 131072);
	assert_int_equal(slot_lease(&t, small, 5, 3, 1, SEGMENT_BYTES_MIN, g), -EDQUOT);
	/* An ask that ends without a grant counts no more. */
	catalog_ask_over(t.c, small, 65536);
	assert_int_equal(slot_lease(&t, small, 5, 4, 1, SEGMENT_BYTES_MIN, g), 0);
	assert_int_equal(catalog_job_bytes(t.c, small), 196608);
	/* Neither does what was removed. */
	assert_int_equal(catalog_settle(t.c,
					&(struct settle_req){ .job = small,
							      .session = 5,
							      .segment = g[0].segment,
							      .generation = g[0].generation,
							      .back = 65536 },
					t.now, &t.out),
			 0);
	assert_int_equal(slot_lease(&t, small, 5, 5, 1, SEGMENT_BYTES_MIN, g), 0);
}

static int lease_some(uint64_t of, uint64_t request, uint64_t need, uint64_t least)
{
	struct lease_req req = { .job = of,
				 .session = 5,
				 .request = request,
				 .need = need,
				 .least = least,
				 .size = segment_size_for(need) };

	return catalog_lease(t.c, &req, SEGMENT_BYTES_MAX, t.now, slot_payload(&t), &t.out);
}

/* Who does not know how much will come takes what the quota has, down to what is of use. */
static void a_quota_is_used_up_by_who_needs_no_certain_size(void **state)
{
	uint64_t small = slot_job(&t, "small", 1000000);
	uint64_t large = slot_job(&t, "large", 255 * 65536);

	/* Not 64 segments of 128 KiB. */
	assert_int_equal(lease_some(large, 1, 16 << 20, 65536), 0);
	assert_int_equal(t.out.ask.need, 15 << 20);
	assert_int_equal(t.out.ask.bytes, 15 << 20);
	assert_int_equal(t.out.ask.size, 2 << 20);
	catalog_ask_over(t.c, large, 15 << 20);
	assert_int_equal(lease_some(small, 1, 2 << 20, 2000000), -EDQUOT);
	assert_false(t.out.may_fit);
	assert_int_equal(lease_some(small, 1, 2 << 20, (2 << 20) + 1), -EINVAL);
	assert_int_equal(lease_some(small, 1, 2 << 20, 65536), 0);
	assert_true(t.out.ask.is_needed);
	assert_int_equal(t.out.ask.need, 15 * 65536);
	assert_int_equal(t.out.ask.bytes, 15 * 65536);
	assert_int_equal(t.out.ask.size, 131072);
	/* 16,960 are left, which is less than a segment. */
	assert_int_equal(lease_some(small, 2, 2 << 20, 65536), -EDQUOT);
	assert_true(t.out.may_fit);
	catalog_ask_over(t.c, small, 15 * 65536);
	/* What there is room for is not cut. */
	assert_int_equal(lease_some(small, 3, 200000, 65536), 0);
	assert_int_equal(t.out.ask.need, 200000);
	assert_int_equal(t.out.ask.bytes, 262144);
	assert_int_equal(lease_some(small, 4, 800000, 800000), -EDQUOT);
	catalog_ask_over(t.c, small, 262144);
}

static bool is_short_of_quota(uint64_t of, uint64_t request, uint64_t need, uint32_t granted)
{
	struct lease_req req = { .job = of, .session = 5, .request = request, .need = need };
	uint8_t bytes[GRANT_SIZE];
	struct wcur w = wcur_make(bytes, sizeof(bytes));
	struct grant g = stored_grant(&t, granted);

	grant_put(&w, &g);
	assert_int_equal(catalog_grant(t.c, &req, t.now, (struct slice){ bytes, sizeof(bytes) },
				       t.now, &t.out),
			 0);
	assert_int_equal(t.out.rep.lease.count, 1);
	return t.out.rep.lease.is_short_of_quota;
}

/* Who is granted less than he needs hears whether more would be, had the store had it. */
static void what_the_quota_has_no_room_for_is_told_apart_from_what_the_store_has_not(void **state)
{
	uint64_t small = slot_job(&t, "small", 1000000);

	assert_false(is_short_of_quota(job, 1, 2 << 20, 262144));
	assert_false(is_short_of_quota(small, 2, 1000000, 262144));
	assert_true(is_short_of_quota(small, 3, 1000000, 262144));
	assert_false(is_short_of_quota(small, 4, 262144, 262144));
	/* 213,568 are left. Asked again, it is the same. */
	assert_int_equal(lease_some(small, 3, 262144 + 213568, 65536), 0);
	assert_false(t.out.rep.lease.is_short_of_quota);
	assert_int_equal(lease_some(small, 3, 262144 + 213569, 65536), 0);
	assert_true(t.out.rep.lease.is_short_of_quota);
	assert_int_equal(t.out.rep.lease.count, 1);
}

/* The parts that it is used in do not grow for ever: that was a shard that stood still. */
static void of_a_vast_quota_that_does_not_suffice_there_is_a_part(void **state)
{
	uint64_t vast = slot_job(&t, "vast", UINT64_MAX);
	struct grant g[1];

	assert_int_equal(slot_lease(&t, vast, 5, 2, 1, SEGMENT_BYTES_MIN, g), 0);
	assert_int_equal(lease_some(vast, 3, UINT64_MAX, 65536), 0);
	assert_int_equal(t.out.ask.need, 15ull << 60);
	catalog_ask_over(t.c, vast, t.out.ask.bytes);
}

static void the_size_is_a_power_of_two_within_the_pools(void **state)
{
	struct lease_req req = {
		.job = job, .session = 5, .request = 9, .need = 1000000, .size = 100000
	};

	assert_int_equal(catalog_lease(t.c, &req, 262144, t.now, slot_payload(&t), &t.out), 0);
	assert_int_equal(t.out.ask.size, 131072);
	assert_int_equal(t.out.ask.need, 1000000);
	assert_int_equal(t.out.ask.bytes, 7 * 131072 + 131072);
	req.size = 64u << 20;
	req.request++;
	assert_int_equal(catalog_lease(t.c, &req, 262144, t.now, slot_payload(&t), &t.out), 0);
	assert_int_equal(t.out.ask.size, 262144);
	req.size = SEGMENT_BYTES_MIN - 1;
	assert_int_equal(catalog_lease(t.c, &req, 262144, t.now, slot_payload(&t), &t.out),
			 -EINVAL);
	req.size = SEGMENT_BYTES_MIN;
	req.tier = TIER_BLOCK;
	assert_int_equal(catalog_lease(t.c, &req, 262144, t.now, slot_payload(&t), &t.out),
			 -EOPNOTSUPP);
	req.tier = TIER_ANY;
	req.session = 0;
	assert_int_equal(catalog_lease(t.c, &req, 262144, t.now, slot_payload(&t), &t.out),
			 -ENOLINK);
}

static int grant_these(uint64_t to_job, uint64_t session, const struct grant *g, unsigned count,
		       uint64_t stamp_ns)
{
	struct lease_req req = { .job = to_job,
				 .session = session,
				 .request = 1,
				 .need = 1,
				 .size = SEGMENT_BYTES_MIN };
	uint8_t bytes[GRANTS_BYTES];
	struct wcur w = wcur_make(bytes, sizeof(bytes));

	for (unsigned i = 0; i < count; i++)
		grant_put(&w, &g[i]);
	return catalog_grant(t.c, &req, stamp_ns, (struct slice){ bytes, (size_t)(w.p - bytes) },
			     t.now, &t.out);
}

static int grant_to(uint64_t to_job, uint64_t session)
{
	struct grant g = stored_grant(&t, SEGMENT_BYTES_MIN);

	t.now += SECOND;
	return grant_these(to_job, session, &g, 1, t.now - SECOND);
}

static void a_grant_whose_asker_is_gone_goes_back(void **state)
{
	assert_int_equal(grant_to(job, 0), 0);
	assert_int_equal(slot_duties(&t), 1);
	assert_int_equal(t.account.bytes, 0);
	/* It was the job's for a second. */
	assert_true(slot_job_integral(&t, "job") == 65536 * (unsigned __int128)SECOND);
	integrals_agree();
}

/* The store is asked once more, and names the same ones, or those that it still has. */
static void a_grant_for_nobody_goes_back_though_the_log_is_full_in_the_middle(void **state)
{
	for (unsigned room = 0; room < 4; room++) {
		struct grant g[] = { stored_grant(&t, SEGMENT_BYTES_MIN),
				     stored_grant(&t, SEGMENT_BYTES_MIN) };
		uint64_t stamp_ns = t.now;
		bool is_gone = room == 2;

		t.effects_max = t.effect_count + room;
		assert_int_equal(grant_these(job, 0, g, 2, stamp_ns), room < 3 ? -ENOBUFS : 0);
		t.effects_max = 0;
		t.now += SECOND;
		assert_int_equal(slot_duties(&t), room < 2 ? 0 : room - 1);
		if (room < 3)
			assert_int_equal(grant_these(job, 0, g + is_gone, 2 - is_gone, stamp_ns),
					 0);
		assert_int_equal(slot_duties(&t), room < 2 ? 2 : 3 - room);
		assert_int_equal(t.account.bytes, 0);
	}
	integrals_agree();
}

/* He asks anew, as if nothing had been granted. */
static void who_comes_back_for_what_was_opened_for_nobody_hears_of_none(void **state)
{
	struct grant g = stored_grant(&t, SEGMENT_BYTES_MIN);

	t.effects_max = t.effect_count + 1;
	assert_int_equal(grant_these(job, 0, &g, 1, t.now), -ENOBUFS);
	t.effects_max = 0;
	assert_int_equal(grant_these(job, 5, &g, 1, t.now), -EAGAIN);
	assert_int_equal(slot_duties(&t), 1);
	assert_int_equal(t.account.bytes, 0);
}

/* What somebody has is not given away a second time, nor back. */
static void a_grant_of_what_is_in_use_is_refused(void **state)
{
	struct grant g = lease(5, 1);

	assert_int_equal(grant_these(job, 0, &g, 1, t.now), -EBADMSG);
	assert_int_equal(grant_these(job, 5, &g, 1, t.now), -EBADMSG);
	assert_int_equal(slot_duties(&t), 0);
}

static void a_grant_for_a_job_that_has_ended_goes_back_unpaid(void **state)
{
	struct job_end_req end_req = { .name = text("job") };
	struct catalog_sums sums;
	uint64_t id;

	assert_int_equal(catalog_job_end(t.c, &end_req, t.now, &t.out, &id), 0);
	assert_int_equal(grant_to(job, 5), -EIDRM);
	slot_tick(&t);
	assert_int_equal(slot_duties(&t), 1);
	assert_int_equal(t.account.bytes, 0);
	assert_true(account_integral(&t.account, t.now) == 0);
	catalog_sums(t.c, t.now, &sums);
	assert_true(sums.byte_ns == 0);
}

static struct segment_entry entry_of_grant(const struct grant *g)
{
	return (struct segment_entry){
		.segment = g->segment, .generation = g->generation, .job = job, .size = g->size
	};
}

static void what_the_store_no_longer_has_is_lost(void **state)
{
	struct grant a = lease(5, 1), b = lease(5, 2), c = lease(5, 3), freed = lease(5, 4);
	struct segment_entry e = entry_of_grant(&a);

	assert_int_equal(put_one(5, "a", extent_at(&a, 0, 100)), 0);
	assert_int_equal(put_one(5, "b", extent_at(&b, 0, 100)), 0);
	assert_int_equal(settle(5, &freed, 0, freed.size), 0);
	catalog_compare_begin(t.c, STORE);
	assert_true(catalog_compare(t.c, &e));
	e.generation++;
	assert_false(catalog_compare(t.c, &e));
	while (catalog_compare_end(t.c, STORE, t.now, &t.out))
		;
	assert_int_equal(slot_look(&t, (struct lookup_req){ .job = job, .take = 100 }, "a"), 0);
	assert_int_equal(slot_look(&t, (struct lookup_req){ .job = job, .take = 100 }, "b"),
			 -EREMOTEIO);
	assert_null(catalog_segment_find(t.c, c.segment, c.generation));
	assert_null(catalog_segment_find(t.c, freed.segment, freed.generation));
	assert_int_equal(catalog_job_bytes(t.c, job), 65536);
	assert_int_equal(remove_it("b"), 0);
	assert_null(catalog_segment_find(t.c, b.segment, b.generation));
	/* The next round finds the first one again, and those that came meanwhile. */
	for (int round = 0; round < 3; round++) {
		struct grant more;

		e = entry_of_grant(&a);
		catalog_compare_begin(t.c, STORE);
		more = lease(5, 10 + round);
		assert_true(catalog_compare(t.c, &e));
		while (catalog_compare_end(t.c, STORE, t.now, &t.out))
			;
		assert_non_null(catalog_segment_find(t.c, a.segment, a.generation));
		assert_non_null(catalog_segment_find(t.c, more.segment, more.generation));
		assert_int_equal(settle(5, &more, 0, more.size), 0);
		slot_duties(&t);
	}
	catalog_compare_begin(t.c, STORE);
	while (catalog_compare_end(t.c, STORE, t.now, &t.out))
		;
	assert_int_equal(slot_look(&t, (struct lookup_req){ .job = job, .take = 100 }, "a"),
			 -EREMOTEIO);
}

/* A comparison turns the list of a store's segments, some of them at a time. */
static void what_is_compared_beside_a_snapshot_is_in_it(void **state)
{
	static struct grant g[TICK_STEP + 44];
	const unsigned count = sizeof(g) / sizeof(*g);

	for (unsigned i = 0; i < count; i++)
		g[i] = lease(5, 1 + i);
	for (unsigned before = 0; before < 12; before++) {
		slot_snapshot_begin(&t);
		for (unsigned n = 0; n < before; n++)
			assert_true(catalog_snapshot_step(t.c, 32));
		catalog_compare_begin(t.c, STORE);
		for (unsigned i = 0; i < count; i++) {
			struct segment_entry e = entry_of_grant(&g[i]);

			assert_true(catalog_compare(t.c, &e));
		}
		assert_true(catalog_compare_end(t.c, STORE, t.now, &t.out));
		while (catalog_snapshot_step(t.c, 32))
			;
		while (catalog_compare_end(t.c, STORE, t.now, &t.out))
			;
		assert_null(slot_restore(&t));
	}
}

static void a_store_that_does_not_know_a_segment_has_lost_it(void **state)
{
	struct grant g = lease(5, 1);
	struct duty d;

	assert_int_equal(put_one(5, "a", extent_at(&g, 0, 100)), 0);
	assert_int_equal(settle(5, &g, 4096, g.size), 0);
	assert_true(catalog_duty(t.c, STORE, &d));
	assert_int_equal(catalog_duty_done(t.c, &d, -ESTALE, t.now, &t.out), 0);
	assert_int_equal(slot_look(&t, (struct lookup_req){ .job = job, .take = 100 }, "a"),
			 -EREMOTEIO);
	assert_int_equal(catalog_job_bytes(t.c, job), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_segment_is_freed_when_it_is_sealed_and_empty),
		T(an_empty_segment_goes_back_at_once),
		T(a_duty_is_owed_until_it_is_answered),
		T(what_was_sealed_and_freed_unheard_is_told_in_order),
		T(a_repeated_lease_has_the_same_grants),
		T(no_byte_is_handed_out_twice),
		T(extents_lie_within_their_writers_segment),
		T(a_commit_says_how_long_it_is),
		T(a_long_extent_has_a_table_which_lives_as_long),
		T(only_the_untouched_middle_is_given_back),
		T(a_sessions_end_fences_its_segments),
		T(a_fenced_segment_waits_until_somebody_needs_room),
		T(a_fenced_segment_does_not_wait_for_ever),
		T(a_fenced_segment_of_a_function_that_is_gone_does_not_wait),
		T(a_process_that_is_gone_keeps_no_segments),
		T(a_segment_settled_after_the_end_of_its_job_is_given_back),
		T(a_full_segment_of_a_process_that_is_gone_stays_whole),
		T(a_session_with_segments_is_of_their_job),
		T(a_session_that_comes_back_has_new_segments),
		T(the_quota_counts_what_was_asked_for),
		T(a_quota_is_used_up_by_who_needs_no_certain_size),
		T(what_the_quota_has_no_room_for_is_told_apart_from_what_the_store_has_not),
		T(of_a_vast_quota_that_does_not_suffice_there_is_a_part),
		T(the_size_is_a_power_of_two_within_the_pools),
		T(a_grant_whose_asker_is_gone_goes_back),
		T(a_grant_for_nobody_goes_back_though_the_log_is_full_in_the_middle),
		T(who_comes_back_for_what_was_opened_for_nobody_hears_of_none),
		T(a_grant_of_what_is_in_use_is_refused),
		T(a_grant_for_a_job_that_has_ended_goes_back_unpaid),
		T(what_the_store_no_longer_has_is_lost),
		T(what_is_compared_beside_a_snapshot_is_in_it),
		T(a_store_that_does_not_know_a_segment_has_lost_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
