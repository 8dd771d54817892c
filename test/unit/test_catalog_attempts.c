/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a repeat of a change is answered as the change was, whatever has happened to the
 * object since; and who asks too late is told so. Method: repeats after each fate.
 */
#include "catalog_test.h"

static int put_as(uint64_t attempt, const char *path, const char *value)
{
	struct commit_req req = { .job = job, .attempt_hi = 7, .attempt_lo = attempt };

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

static void what_rm_r_removed_still_answers(void **state)
{
	struct remove_tree_req req = { .job = job, .directory = text("d") };

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
	struct remove_tree_req tree = { .job = job };
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

static void who_comes_after_his_record_was_dropped_is_stale(void **state)
{
	struct commit_req late = { .job = job, .attempt_hi = 7, .attempt_lo = 1 };

	assert_int_equal(put_as(1, "a", "x"), 0);
	t.now += SECOND;
	/* One replacement more than are remembered. */
	for (unsigned i = 0; i < ATTEMPTS_PER_JOB + 1; i++)
		assert_int_equal(put_as(1000 + i, "a", "x"), 0);
	assert_int_equal(catalog_job_find(t.c, job)->attempt_count, ATTEMPTS_PER_JOB);
	t.now += SECOND;
	late.age_ms = 2000;
	assert_int_equal(slot_put(&t, late, "a", "x"), -ESTALE);
	/* Who is younger than what was dropped would be remembered. */
	late.attempt_lo = 2;
	late.age_ms = 900;
	assert_int_equal(slot_put(&t, late, "a", "x"), 0);
	late.attempt_lo = 3;
	late.age_ms = 0;
	assert_int_equal(slot_put(&t, late, "a", "x"), 0);
	/* The oldest that is still there answers. */
	late.attempt_lo = 1000 + ATTEMPTS_PER_JOB / 2;
	late.age_ms = 1000000;
	assert_int_equal(slot_put(&t, late, "a", "x"), 0);
	assert_int_equal(t.out.rep.commit.version, 2 + ATTEMPTS_PER_JOB / 2);
	/* So it is for removes and renames. */
	late.attempt_lo = 5;
	assert_int_equal(catalog_remove(t.c,
					&(struct remove_req){ .job = job,
							      .attempt_lo = 5,
							      .age_ms = 2000,
							      .path = text("a") },
					t.now, &t.out),
			 -ESTALE);
	assert_int_equal(catalog_rename(t.c,
					&(struct rename_req){ .job = job,
							      .attempt_lo = 5,
							      .age_ms = 2000,
							      .from = text("a"),
							      .to = text("b") },
					t.now, &t.out),
			 -ESTALE);
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
	assert_true(a->put_lo == 1 && b->put_lo == 3);
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
