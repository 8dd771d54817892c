/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a repeat of a change is answered as the change was, whatever has happened to the
 * object since; and who asks too late is told so. Method: repeats after each fate.
 */
#include "catalog_test.h"

static int put_as(uint64_t attempt, const char *path, const char *value)
{
	const struct job *j = catalog_job_find(t.c, job);
	struct commit_req req = {
		.job = job, .attempt_hi = 7, .attempt_lo = attempt, .since = j ? job_changes(j) : 0
	};

	return slot_put(&t, req, path, value);
}

static int remove_as(uint64_t attempt, const char *path)
{
	struct remove_req req = {
		.job = job, .attempt_hi = 7, .attempt_lo = attempt, .path = text(path)
	};

	return catalog_remove(t.c, &req, t.now, &t.out);
}

static int move_as(uint64_t attempt, const char *from, const char *to)
{
	struct rename_req req = { .job = job,
				  .attempt_hi = 7,
				  .attempt_lo = attempt,
				  .from = text(from),
				  .to = text(to) };

	return catalog_rename(t.c, &req, t.now, &t.out);
}

static int look(const char *path)
{
	return slot_look(&t, (struct lookup_req){ .job = job, .take = 100 }, path);
}

static void the_first_commit_of_an_attempt_wins(void **state)
{
	uint64_t object;

	assert_int_equal(put_as(1, "a", "one"), 0);
	object = t.out.rep.commit.object;
	assert_int_equal(put_as(1, "a", "two"), 0);
	assert_int_equal(t.out.rep.commit.version, 1);
	assert_true(t.out.rep.commit.object == object);
	assert_int_equal(look("a"), 0);
	assert_memory_equal(t.payload, "one", 3);
}

static void an_attempt_is_of_one_path(void **state)
{
	assert_int_equal(put_as(1, "a", "x"), 0);
	assert_int_equal(put_as(1, "b", "x"), 0);
	assert_int_equal(t.out.rep.commit.version, 2);
}

static void without_an_attempt_there_are_no_repeats(void **state)
{
	assert_int_equal(slot_put(&t, (struct commit_req){ .job = job }, "a", "x"), 0);
	assert_int_equal(slot_put(&t, (struct commit_req){ .job = job }, "a", "x"), 0);
	assert_int_equal(t.out.rep.commit.version, 2);
}

static void a_repeat_beats_create_and_if_version(void **state)
{
	struct commit_req req = { .job = job, .attempt_lo = 1, .flags = PUT_CREATE };

	assert_int_equal(slot_put(&t, req, "a", "x"), 0);
	assert_int_equal(slot_put(&t, req, "a", "x"), 0);
	assert_int_equal(t.out.rep.commit.version, 1);
	req = (struct commit_req){ .job = job, .attempt_lo = 2, .if_version = 1 };
	assert_int_equal(slot_put(&t, req, "a", "y"), 0);
	assert_int_equal(slot_put(&t, req, "a", "y"), 0);
	assert_int_equal(t.out.rep.commit.version, 2);
}

static void a_replaced_version_still_answers_its_attempt(void **state)
{
	assert_int_equal(put_as(1, "a", "one"), 0);
	assert_int_equal(put_as(2, "a", "two"), 0);
	assert_int_equal(put_as(1, "a", "one"), 0);
	assert_int_equal(t.out.rep.commit.version, 1);
	assert_int_equal(look("a"), 0);
	assert_memory_equal(t.payload, "two", 3);
}

static void a_removed_version_still_answers_both_attempts(void **state)
{
	assert_int_equal(put_as(1, "a", "one"), 0);
	assert_int_equal(remove_as(2, "a"), 0);
	assert_int_equal(remove_as(2, "a"), 0);
	assert_int_equal(t.out.rep.remove.version, 1);
	assert_int_equal(remove_as(3, "a"), -ENOENT);
	assert_int_equal(put_as(1, "a", "one"), 0);
	assert_int_equal(t.out.rep.commit.version, 1);
	assert_int_equal(look("a"), -ENOENT);
	/* Not even when there is another object by now. */
	assert_int_equal(put_as(4, "a", "two"), 0);
	assert_int_equal(remove_as(2, "a"), 0);
	assert_int_equal(t.out.rep.remove.version, 1);
	assert_int_equal(look("a"), 0);
}

static void a_refusal_leaves_no_record_and_its_repeat_is_decided_anew(void **state)
{
	struct commit_req create = {
		.job = job, .attempt_hi = 7, .attempt_lo = 1, .since = 0, .flags = PUT_CREATE
	};

	assert_int_equal(put_as(9, "a", "there"), 0);
	assert_int_equal(slot_put(&t, create, "a", "x"), -EEXIST);
	assert_int_equal(slot_put(&t, create, "a", "x"), -EEXIST);
	assert_int_equal(remove_as(2, "b"), -ENOENT);
	assert_int_equal(job_changes(catalog_job_find(t.c, job)), 0);
	assert_int_equal(remove_as(3, "a"), 0);
	assert_int_equal(slot_put(&t, create, "a", "x"), 0);
	assert_int_equal(t.out.rep.commit.version, 2);
	/* Now that it was made, it is made once. */
	assert_int_equal(remove_as(4, "a"), 0);
	assert_int_equal(slot_put(&t, create, "a", "x"), 0);
	assert_int_equal(t.out.rep.commit.version, 2);
	assert_int_equal(look("a"), -ENOENT);
	assert_int_equal(put_as(10, "b", "y"), 0);
	assert_int_equal(remove_as(2, "b"), 0);
}

static void what_rm_r_removed_still_answers(void **state)
{
	struct remove_tree_req req = { .job = job, .up_to = UINT64_MAX, .directory = text("d") };

	assert_int_equal(put_as(1, "d/a", "x"), 0);
	assert_int_equal(put_as(2, "d/b", "x"), 0);
	assert_int_equal(catalog_remove_tree(t.c, &req, t.now, &t.out), 0);
	assert_int_equal(put_as(2, "d/b", "x"), 0);
	assert_int_equal(t.out.rep.commit.version, 2);
	assert_int_equal(look("d/b"), -ENOENT);
}

static void a_renamed_version_answers_under_its_old_path(void **state)
{
	assert_int_equal(put_as(1, "a", "x"), 0);
	assert_int_equal(move_as(2, "a", "b"), 0);
	assert_int_equal(move_as(2, "a", "b"), 0);
	assert_int_equal(t.out.rep.rename.version, 2);
	assert_int_equal(put_as(1, "a", "x"), 0);
	assert_int_equal(t.out.rep.commit.version, 1);
	assert_int_equal(look("a"), -ENOENT);
	assert_int_equal(put_as(3, "b", "y"), 0);
	assert_int_equal(move_as(2, "a", "b"), 0);
	assert_int_equal(t.out.rep.rename.version, 2);
	assert_int_equal(look("b"), 0);
	assert_memory_equal(t.payload, "y", 1);
}

static void an_expired_version_answers_and_is_not_made_again(void **state)
{
	struct commit_req req = { .job = job, .attempt_lo = 1, .ttl_ms = 10 };

	assert_int_equal(slot_put(&t, req, "a", "x"), 0);
	t.now += SECOND;
	assert_int_equal(slot_put(&t, req, "a", "x"), 0);
	slot_tick(&t);
	assert_int_equal(slot_put(&t, req, "a", "x"), 0);
	assert_int_equal(t.out.rep.commit.version, 1);
	assert_int_equal(look("a"), -ETIME);
}

static void a_held_version_that_is_removed_is_remembered_too(void **state)
{
	struct grant g;
	struct extent x[2];
	struct lookup_req req = { .job = job, .session = 5, .take = 1, .is_held = 1 };
	struct remove_tree_req tree = { .job = job, .up_to = UINT64_MAX };
	struct commit_req put = { .job = job, .session = 5, .attempt_lo = 1 };

	assert_int_equal(slot_lease(&t, job, 5, 1, 1, SEGMENT_BYTES_MIN, &g), 0);
	x[0] = extent_at(&g, 0, 5000);
	x[1] = extent_at(&g, 8192, 5000);
	assert_int_equal(slot_put_extents(&t, put, "a", x, 2), 0);
	assert_int_equal(slot_look(&t, req, "a"), 0);
	assert_true(t.out.rep.lookup.hold != 0);
	assert_int_equal(catalog_remove_tree(t.c, &tree, t.now, &t.out), 0);
	assert_int_equal(slot_put_extents(&t, put, "a", x, 2), 0);
	assert_int_equal(t.out.rep.commit.version, 1);
	assert_int_equal(look("a"), -ENOENT);
}

static int late_put(uint64_t attempt, uint64_t since)
{
	struct commit_req req = {
		.job = job, .attempt_hi = 7, .attempt_lo = attempt, .since = since
	};

	return slot_put(&t, req, "a", "x");
}

static int late_remove(uint64_t attempt, uint64_t since)
{
	struct remove_req req = { .job = job, .attempt_lo = attempt, .since = since };

	req.path = text("a");
	return catalog_remove(t.c, &req, t.now, &t.out);
}

static int late_rename(uint64_t attempt, uint64_t since)
{
	struct rename_req req = { .job = job, .attempt_lo = attempt, .since = since };

	req.from = text("a");
	req.to = text("b");
	return catalog_rename(t.c, &req, t.now, &t.out);
}

static void who_comes_after_his_record_was_dropped_is_stale(void **state)
{
	uint64_t since;

	assert_int_equal(put_as(50, "b", "x"), 0);
	assert_int_equal(put_as(51, "b", "x"), 0);
	since = t.out.rep.commit.changes;
	assert_int_equal(since, 1);
	assert_int_equal(late_put(1, since), 0);
	assert_int_equal(t.out.rep.commit.version, 3);
	/* Replaced, and so often that its record is the oldest of those that are remembered. */
	for (unsigned i = 0; i < ATTEMPTS_PER_JOB; i++)
		assert_int_equal(put_as(1000 + i, "a", "x"), 0);
	assert_int_equal(t.out.rep.commit.changes, ATTEMPTS_PER_JOB + 1);
	assert_int_equal(late_put(1, since), 0);
	assert_int_equal(t.out.rep.commit.version, 3);
	/* One more. Not a moment has passed: the message was on its way for no time at all. */
	assert_int_equal(put_as(999, "a", "x"), 0);
	assert_int_equal(catalog_job_find(t.c, job)->attempt_count, ATTEMPTS_PER_JOB);
	assert_int_equal(late_put(1, since), -ESTALE);
	assert_string_equal(t.out.detail,
			    "the attempt may be older than the last 65536 changes, which are all "
			    "that the job remembers");
	/* Nor does it help to wait; and what cannot have been forgotten is made. */
	t.now += 3600 * SECOND;
	assert_int_equal(late_put(1, since), -ESTALE);
	assert_int_equal(late_put(2, since), -ESTALE);
	assert_int_equal(late_put(2, since + 1), 0);
	assert_int_equal(late_put(3, 0), -ESTALE);
	/* The oldest that is still there answers, whatever it says. */
	assert_int_equal(put_as(1000 + ATTEMPTS_PER_JOB / 2, "a", "x"), 0);
	assert_int_equal(t.out.rep.commit.version, 4 + ATTEMPTS_PER_JOB / 2);
	/* So it is for removes and renames. */
	assert_int_equal(late_remove(5, since), -ESTALE);
	assert_int_equal(late_rename(5, since), -ESTALE);
	assert_int_equal(late_rename(5, since + 2), 0);
	assert_int_equal(t.out.rep.rename.changes, ATTEMPTS_PER_JOB + 5);
	assert_int_equal(late_put(6, ATTEMPTS_PER_JOB + 5), 0);
	assert_int_equal(late_remove(7, ATTEMPTS_PER_JOB + 5), 0);
	assert_int_equal(t.out.rep.remove.changes, ATTEMPTS_PER_JOB + 6);
	/* Without an attempt there is nothing to be remembered. */
	assert_int_equal(slot_put(&t, (struct commit_req){ .job = job }, "a", "x"), 0);
}

static void records_lie_side_by_side(void **state)
{
	struct job_end_req req = { .name = text("job") };
	struct job *j = catalog_job_find(t.c, job);
	const struct attempt *a, *b;

	assert_int_equal(put_as(1, "a", "x"), 0);
	assert_int_equal(put_as(2, "b", "x"), 0);
	assert_int_equal(put_as(3, "c", "x"), 0);
	assert_int_equal(put_as(4, "a", "y"), 0); /* replaces */
	assert_int_equal(remove_as(5, "c"), 0);
	a = container_of(j->attempts.next, struct attempt, link);
	b = container_of(a->link.next, struct attempt, link);
	assert_true(a->put == attempt_of(7, 1) && b->put == attempt_of(7, 3));
	assert_ptr_equal(a + 1, b);
	assert_int_equal(j->attempt_block->live, 2);
	assert_int_equal(catalog_job_end(t.c, &req, t.now, &t.out, &job), 0);
	slot_tick(&t);
	assert_null(j->attempt_block);
}

static void to_remove_needs_no_memory(void **state)
{
	struct node node = { .fail_countdown = 0 };
	char path[PATH_BYTES_MAX + 1] = "";
	struct remove_req req = { .job = job, .attempt_lo = 9 };

	memset(path, 'p', PATH_BYTES_MAX);
	assert_int_equal(put_as(1, path, "x"), 0);
	/* No room for a record is to be had: it lies over the entry. */
	req.path = text(path);
	node.fail_countdown = 1;
	node_current = &node;
	assert_int_equal(catalog_remove(t.c, &req, t.now, &t.out), 0);
	node_current = NULL;
	assert_int_equal(put_as(1, path, "x"), 0);
	assert_int_equal(t.out.rep.commit.version, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_first_commit_of_an_attempt_wins),
		T(an_attempt_is_of_one_path),
		T(without_an_attempt_there_are_no_repeats),
		T(a_repeat_beats_create_and_if_version),
		T(a_replaced_version_still_answers_its_attempt),
		T(a_removed_version_still_answers_both_attempts),
		T(a_refusal_leaves_no_record_and_its_repeat_is_decided_anew),
		T(what_rm_r_removed_still_answers),
		T(a_renamed_version_answers_under_its_old_path),
		T(an_expired_version_answers_and_is_not_made_again),
		T(a_held_version_that_is_removed_is_remembered_too),
		T(who_comes_after_his_record_was_dropped_is_stale),
		T(records_lie_side_by_side),
		T(to_remove_needs_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
