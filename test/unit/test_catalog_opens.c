/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: an object comes in numbered parts, in any order, each piece told once or often,
 * and is there as a whole or not at all. Method: parts out of order, repeats, and ends.
 */
#include "catalog_test.h"

static struct grant g[LEASE_SEGMENTS_MAX];
static uint32_t used;

static uint64_t open_it(uint64_t session, uint64_t request)
{
	struct open_req req = { .job = job, .session = session, .request = request };

	used = 0;
	assert_int_equal(slot_lease(&t, job, session, request, 1u << 20, 1u << 20, g), 0);
	assert_int_equal(catalog_open(t.c, &req, t.now, &t.out), 0);
	return t.out.rep.open.open;
}

static int extend_by(uint64_t session, uint64_t open, uint32_t part, uint64_t offset,
		     uint32_t count, uint32_t len)
{
	struct extend_req req = { .job = job,
				  .session = session,
				  .open = open,
				  .part = part,
				  .offset = offset,
				  .extent_count = count };
	uint8_t bytes[EXTENTS_BYTES];
	struct wcur w = wcur_make(bytes, sizeof(bytes));

	for (uint32_t i = 0; i < count; i++) {
		struct extent x = extent_at(&g[0], used, len);

		extent_put(&w, &x);
		used += 4096;
	}
	return catalog_extend(t.c, &req, (struct slice){ bytes, (size_t)(w.p - bytes) }, t.now,
			      &t.out);
}

static int commit(uint64_t session, uint64_t open, const char *path, uint64_t len)
{
	struct commit_req req = {
		.job = job, .session = session, .open = open, .len = len, .path = text(path)
	};

	return catalog_commit(t.c, &req, (struct slice){ 0 }, t.now, &t.out);
}

static struct extent extent_found(unsigned i)
{
	struct rcur c = rcur_make(t.payload, slot_got(&t).len);
	struct extent x;

	for (unsigned n = 0; n <= i; n++)
		extent_get(&c, &x);
	assert_false(c.bad);
	return x;
}

static void parts_are_put_in_the_order_of_their_numbers(void **state)
{
	uint64_t open = open_it(5, 1);

	assert_int_equal(extend_by(5, open, 7, 0, 1, 700), 0);
	assert_int_equal(extend_by(5, open, 2, 0, 1, 200), 0);
	assert_int_equal(extend_by(5, open, 7, 700, 1, 70), 0);
	assert_int_equal(extend_by(5, open, 9999, 0, 1, 999), 0);
	assert_int_equal(slot_look(&t, (struct lookup_req){ .job = job }, "a"), -ENOENT);
	assert_int_equal(commit(5, open, "a", 200 + 770 + 999), 0);
	assert_int_equal(slot_look(&t, (struct lookup_req){ .job = job, .take = 9999 }, "a"), 0);
	assert_int_equal(t.out.rep.lookup.len, 1969);
	assert_int_equal(t.out.rep.lookup.found, 4);
	assert_int_equal(extent_found(0).len, 200);
	assert_int_equal(extent_found(1).len, 700);
	assert_int_equal(extent_found(2).len, 70);
	assert_int_equal(extent_found(3).len, 999);
	assert_int_equal(extent_found(1).offset, 0);
	/* A range in the middle. */
	assert_int_equal(
		slot_look(&t, (struct lookup_req){ .job = job, .take = 1, .offset = 905 }, "a"), 0);
	assert_int_equal(t.out.rep.lookup.first, 900);
	assert_int_equal(t.out.rep.lookup.found, 1);
	assert_int_equal(extent_found(0).len, 70);
	assert_int_equal(commit(5, open, "a", 0), -ESTALE);
}

static void a_session_with_an_open_object_is_of_its_job(void **state)
{
	struct open_req req = { .job = job, .session = 7, .request = 1 };

	assert_int_equal(catalog_open(t.c, &req, t.now, &t.out), 0);
	assert_true(catalog_session_is_of(t.c, 7, job));
	assert_false(catalog_session_is_of(t.c, 7, job + 1));
}

static void to_open_again_finds_the_same(void **state)
{
	uint64_t open = open_it(5, 1);
	struct open_req req = { .job = job, .session = 5, .request = 1 };

	assert_int_equal(catalog_open(t.c, &req, t.now, &t.out), 0);
	assert_true(t.out.rep.open.open == open);
	req.request = 2;
	assert_int_equal(catalog_open(t.c, &req, t.now, &t.out), 0);
	assert_true(t.out.rep.open.open != open);
	req.session = 6;
	req.request = 1;
	assert_int_equal(catalog_open(t.c, &req, t.now, &t.out), 0);
	assert_true(t.out.rep.open.open != open);
	req.session = 0;
	assert_int_equal(catalog_open(t.c, &req, t.now, &t.out), -ENOLINK);
}

static void what_was_told_before_is_not_added_again(void **state)
{
	uint64_t open = open_it(5, 1);

	assert_int_equal(extend_by(5, open, 0, 0, 2, 100), 0);
	assert_int_equal(extend_by(5, open, 0, 0, 2, 100), 0);
	assert_int_equal(extend_by(5, open, 0, 200, 1, 50), 0);
	assert_int_equal(extend_by(5, open, 0, 100, 1, 50), 0);
	assert_int_equal(extend_by(5, open, 0, 251, 1, 50), -EINVAL);
	assert_int_equal(extend_by(5, open, 1, 1, 1, 50), -EINVAL);
	assert_int_equal(commit(5, open, "a", 251), -EINVAL);
	assert_int_equal(commit(5, open, "a", 250), 0);
}

static void an_open_object_belongs_to_its_session(void **state)
{
	uint64_t open = open_it(5, 1);
	struct drop_req drop = { .job = job, .session = 6, .open = open };

	assert_int_equal(extend_by(6, open, 0, 0, 1, 100), -ESTALE);
	assert_int_equal(commit(6, open, "a", 0), -ESTALE);
	assert_int_equal(catalog_drop(t.c, &drop, t.now, &t.out), 0);
	assert_int_equal(extend_by(5, open, 0, 0, 1, 100), 0);
}

static void the_limits_are_named(void **state)
{
	uint64_t open = open_it(5, 1);

	assert_int_equal(extend_by(5, open, PARTS_MAX, 0, 1, 100), -EUSERS);
	assert_int_equal(extend_by(5, open, PARTS_MAX - 1, 0, 1, 100), 0);
	assert_int_equal(extend_by(5, open, 0, 0, 0, 100), -EINVAL);
}

/* The answer to a commit was lost, and the object was put once more, by the same attempt. */
static void what_came_twice_is_there_once(void **state)
{
	struct commit_req req = { .job = job,
				  .session = 5,
				  .path = text("a"),
				  .len = 200,
				  .attempt_hi = 7,
				  .attempt_lo = 8 };
	uint64_t version, other;

	req.open = open_it(5, 1);
	assert_int_equal(extend_by(5, req.open, 0, 0, 2, 100), 0);
	assert_int_equal(catalog_commit(t.c, &req, (struct slice){ 0 }, t.now, &t.out), 0);
	version = t.out.rep.commit.version;
	other = open_it(6, 1);
	req.open = open_it(5, 2);
	assert_int_equal(extend_by(5, req.open, 0, 0, 2, 100), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(catalog_commit(t.c, &req, (struct slice){ 0 }, t.now, &t.out), 0);
		assert_true(t.out.is_repeat && t.out.rep.commit.version == version);
		assert_null(catalog_check(t.c));
	}
	assert_int_equal(commit(5, req.open, "b", 200), -ESTALE);
	/* What is another session's stays its own. */
	req.open = other;
	assert_int_equal(catalog_commit(t.c, &req, (struct slice){ 0 }, t.now, &t.out), 0);
	assert_int_equal(commit(6, other, "b", 0), 0);
}

static void a_dropped_one_gives_its_bytes_back_in_steps(void **state)
{
	uint64_t open = open_it(5, 1), offset = 0;
	struct drop_req drop = { .job = job, .session = 5, .open = open };
	struct settle_req settle = { .job = job,
				     .session = 5,
				     .segment = g[0].segment,
				     .generation = g[0].generation,
				     .front = g[0].size,
				     .back = g[0].size };
	unsigned ticks = 0;

	for (uint32_t part = 0; part < 20; part++)
		for (unsigned i = 0; i < 10; i++, offset += 100)
			assert_int_equal(extend_by(5, open, part, i * 100, 1, 100), 0);
	assert_int_equal(catalog_settle(t.c, &settle, t.now, &t.out), 0);
	assert_int_equal(catalog_drop(t.c, &drop, t.now, &t.out), 0);
	assert_int_equal(catalog_drop(t.c, &drop, t.now, &t.out), 0);
	assert_int_equal(commit(5, open, "a", 0), -ESTALE);
	while (catalog_due(t.c) == 0) {
		const struct moment at = { .now_ns = t.now };

		assert_null(catalog_check(t.c));
		assert_int_equal(catalog_tick(t.c, &at, &t.out), 0);
		ticks++;
	}
	assert_true(ticks > 20);
	slot_duties(&t);
	assert_int_equal(catalog_job_bytes(t.c, job), 0);
}

static void a_large_object_is_taken_apart_in_steps(void **state)
{
	uint64_t open = open_it(5, 1);
	struct remove_req remove = { .job = job, .path = text("a") };

	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(extend_by(5, open, 0, i * 100, 1, 100), 0);
	assert_int_equal(commit(5, open, "a", 10000), 0);
	assert_int_equal(catalog_remove(t.c, &remove, t.now, &t.out), 0);
	assert_int_equal(catalog_due(t.c), 0);
	assert_null(catalog_check(t.c));
	slot_tick(&t);
	assert_int_equal(catalog_segment_find(t.c, g[0].segment, g[0].generation)->live, 0);
}

static void it_goes_with_its_session(void **state)
{
	uint64_t open = open_it(5, 1);

	assert_int_equal(extend_by(5, open, 0, 0, 1, 100), 0);
	assert_int_equal(catalog_session_over(t.c, 5, t.now, &t.out), 0);
	slot_tick(&t);
	assert_int_equal(commit(5, open, "a", 0), -ESTALE);
	assert_int_equal(catalog_segment_find(t.c, g[0].segment, g[0].generation)->live, 0);
	assert_false(catalog_session_has(t.c, 5));
}

static bool is_in_the_dump(const char *words)
{
	char *dump = catalog_dump(t.c);
	bool is = strstr(dump, words) != NULL;

	node_free(dump);
	return is;
}

/* What a dump leaves out would not be compared. */
static void a_dump_has_each_piece_and_sessions_that_are_over(void **state)
{
	uint64_t open = open_it(5, 1);
	char *dump, *at;

	assert_int_equal(extend_by(5, open, 0, 0, 3, 100), 0);
	dump = catalog_dump(t.c);
	at = strstr(dump, "chunk of open ");
	for (int i = 0; i < 3; i++) {
		assert_non_null(at);
		at = strchr(at + 1, '[');
	}
	assert_non_null(at);
	assert_true(at < strstr(strstr(dump, "chunk of open "), " bytes=300\n"));
	node_free(dump);
	assert_true(is_in_the_dump("session 5 over=0 gone=0 holds=0 opens=1 segments=1\n"));
	assert_int_equal(catalog_session_over(t.c, 5, t.now, &t.out), 0);
	assert_true(is_in_the_dump("session 5 over=1 gone=0 holds=0 opens=1 segments=1\n"));
}

/* It waits to be cleared, and a repeat of its OPEN is of the next epoch. */
static void a_repeat_after_the_session_is_over_is_another_one(void **state)
{
	struct open_req req = { .job = job, .session = 5, .request = 1 };
	uint64_t open = open_it(5, 1), again;

	assert_int_equal(catalog_session_over(t.c, 5, t.now, &t.out), 0);
	assert_int_equal(catalog_open(t.c, &req, t.now, &t.out), 0);
	again = t.out.rep.open.open;
	assert_int_not_equal(again, open);
	slot_tick(&t);
	assert_int_equal(commit(5, again, "a", 0), 0);
}

static void one_that_is_empty_is_an_empty_object(void **state)
{
	uint64_t open = open_it(5, 1);

	assert_int_equal(commit(5, open, "a", 0), 0);
	assert_int_equal(
		slot_look(&t, (struct lookup_req){ .job = job, .take = 9, .is_held = 1 }, "a"), 0);
	assert_int_equal(t.out.rep.lookup.len, 0);
	assert_int_equal(t.out.rep.lookup.extent_count, 0);
	assert_int_equal(slot_got(&t).len, 0);
	assert_int_equal(catalog_remove(t.c, &(struct remove_req){ .job = job, .path = text("a") },
					t.now, &t.out),
			 0);
}

static void open_objects_of_a_session_are_limited(void **state)
{
	const char *const names[] = { "job", "b", "c", "d" };
	struct open_req req = { .job = job, .session = 5 };

	/* Each job has a quarter, whatever the others do. */
	for (unsigned k = 0; k < 4; k++) {
		if (k > 0)
			req.job = slot_job(&t, names[k], 0);
		for (unsigned i = 0; i < OPEN_PER_SESSION / 4; i++) {
			req.request++;
			assert_int_equal(catalog_open(t.c, &req, t.now, &t.out), 0);
		}
		req.request = OPEN_PER_SESSION + 1;
		assert_int_equal(catalog_open(t.c, &req, t.now, &t.out), -EUSERS);
		assert_string_equal(t.out.detail,
				    k < 3 ? "a job has at most 16384 open objects in one session"
					  : "a session has at most 65536 open objects");
		req.request = (k + 1) * (OPEN_PER_SESSION / 4);
		assert_int_equal(catalog_open(t.c, &req, t.now, &t.out), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(parts_are_put_in_the_order_of_their_numbers),
		T(a_session_with_an_open_object_is_of_its_job),
		T(to_open_again_finds_the_same),
		T(what_was_told_before_is_not_added_again),
		T(what_came_twice_is_there_once),
		T(an_open_object_belongs_to_its_session),
		T(the_limits_are_named),
		T(a_dropped_one_gives_its_bytes_back_in_steps),
		T(a_large_object_is_taken_apart_in_steps),
		T(it_goes_with_its_session),
		T(a_dump_has_each_piece_and_sessions_that_are_over),
		T(a_repeat_after_the_session_is_over_is_another_one),
		T(one_that_is_empty_is_an_empty_object),
		T(open_objects_of_a_session_are_limited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
