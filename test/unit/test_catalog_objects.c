/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: versions of paths come, are seen, and go, as their puts said. Method: calls with
 * chosen times; after each test all invariants, and a replay that ends in the same state.
 */
#include "catalog_test.h"

static int put(const char *path, const char *value)
{
	return slot_put(&t, (struct commit_req){ .job = job }, path, value);
}

static int look(const char *path)
{
	return slot_look(&t, (struct lookup_req){ .job = job, .take = 100 }, path);
}

static int stat_of(const char *path)
{
	return catalog_stat(t.c, job, text(path), t.now, &t.out);
}

static int remove_it(const char *path)
{
	struct remove_req req = { .job = job, .path = text(path) };

	return catalog_remove(t.c, &req, t.now, &t.out);
}

static int move(const char *from, const char *to, uint16_t flags)
{
	struct rename_req req = { .job = job, .flags = flags, .from = text(from), .to = text(to) };

	return catalog_rename(t.c, &req, t.now, &t.out);
}

static void got(const char *value)
{
	assert_int_equal(t.out.rep.lookup.len, strlen(value));
	assert_int_equal(slot_got(&t).len, strlen(value));
	assert_memory_equal(t.payload, value, strlen(value));
	assert_int_equal(crc_more(crc_begin(t.out.rep.lookup.seed), t.payload, strlen(value)),
			 t.out.rep.lookup.crc);
}

static void a_small_value_comes_back(void **state)
{
	assert_int_equal(put("a/b", "hello"), 0);
	assert_int_equal(t.out.rep.commit.version, 1);
	assert_int_equal(slot_of_id(t.out.rep.commit.object), SLOT);
	t.now += 3 * SECOND;
	assert_int_equal(look("a/b"), 0);
	got("hello");
	assert_int_equal(t.out.rep.lookup.version, 1);
	assert_int_equal(t.out.rep.lookup.age_ms, 3000);
	assert_true(t.out.rep.lookup.ttl_left_ms == NONE_64);
	assert_int_equal(t.out.rep.lookup.reads_left, NONE_32);
	assert_int_equal(t.out.rep.lookup.extent_count, 0);
	assert_int_equal(t.out.rep.lookup.hold, 0);
	assert_int_equal(t.out.rep.lookup.tier, TIER_DRAM);
	assert_int_equal(look("a/c"), -ENOENT);
}

/* What was said last is of another request. */
static void who_asks_after_an_object_hears_of_that_alone(void **state)
{
	assert_int_equal(put("a", "hello"), 0);
	assert_int_equal(t.out.wake_count, 2);
	assert_int_equal(stat_of("a"), 0);
	assert_int_equal(t.out.wake_count, 0);
	assert_int_equal(stat_of("b"), -ENOENT);
	assert_int_equal(stat_of("a"), 0);
	assert_string_equal(t.out.detail, "");
}

static void an_object_may_be_empty(void **state)
{
	assert_int_equal(put("empty", ""), 0);
	assert_int_equal(look("empty"), 0);
	got("");
}

static void values_up_to_the_limit_fit_and_longer_ones_do_not(void **state)
{
	char value[INLINE_BYTES_MAX + 2] = "";

	memset(value, 'x', INLINE_BYTES_MAX);
	assert_int_equal(put("a", value), 0);
	assert_int_equal(look("a"), 0);
	got(value);
	value[INLINE_BYTES_MAX] = 'y';
	assert_int_equal(put("b", value), -EMSGSIZE);
	assert_int_equal(look("b"), -ENOENT);
}

static void a_put_replaces_and_versions_grow(void **state)
{
	uint64_t first;

	assert_int_equal(put("a", "one"), 0);
	first = t.out.rep.commit.object;
	assert_int_equal(put("b", "other"), 0);
	assert_int_equal(put("a", "two"), 0);
	assert_int_equal(t.out.rep.commit.version, 3);
	assert_true(t.out.rep.commit.object != first);
	assert_int_equal(look("a"), 0);
	got("two");
}

static void put_if_absent_finds_what_is_there(void **state)
{
	struct commit_req req = { .job = job, .flags = PUT_CREATE };

	assert_int_equal(slot_put(&t, req, "a", "one"), 0);
	assert_int_equal(slot_put(&t, req, "a", "two"), -EEXIST);
	assert_non_null(strstr(t.out.detail, "version 1"));
	assert_int_equal(look("a"), 0);
	got("one");
	assert_int_equal(remove_it("a"), 0);
	assert_int_equal(slot_put(&t, req, "a", "two"), 0);
}

static void if_version_means_that_version(void **state)
{
	struct commit_req req = { .job = job, .if_version = 1 };

	assert_int_equal(slot_put(&t, req, "a", "x"), -EBADE);
	assert_int_equal(put("a", "one"), 0);
	assert_int_equal(slot_put(&t, req, "a", "two"), 0);
	assert_int_equal(slot_put(&t, req, "a", "three"), -EBADE);
	assert_int_equal(look("a"), 0);
	got("two");
}

static void a_wrong_checksum_is_damage(void **state)
{
	struct commit_req req = { .job = job, .path = text("a"), .len = 3, .crc = 1 };

	assert_int_equal(catalog_commit(t.c, &req, text("abc"), t.now, &t.out), -EIO);
	req.len = 4;
	assert_int_equal(catalog_commit(t.c, &req, text("abc"), t.now, &t.out), -EINVAL);
	assert_int_equal(look("a"), -ENOENT);
}

static void paths_have_rules(void **state)
{
	char path[PATH_BYTES_MAX + 2] = "";

	assert_int_equal(put("", "x"), -EINVAL);
	assert_int_equal(put("a/", "x"), -EISDIR);
	assert_int_equal(put("\xff", "x"), -EINVAL);
	memset(path, 'p', PATH_BYTES_MAX);
	assert_int_equal(put(path, "x"), 0);
	assert_int_equal(look(path), 0);
	path[PATH_BYTES_MAX] = 'p';
	assert_int_equal(put(path, "x"), -EMSGSIZE);
}

static void what_is_not_there_is_refused_by_its_name(void **state)
{
	struct commit_req req = { .job = job, .flags = PUT_DURABLE };

	assert_int_equal(slot_put(&t, req, "a", "x"), -EOPNOTSUPP);
	req = (struct commit_req){ .job = job, .tier = TIER_BLOCK };
	assert_int_equal(slot_put(&t, req, "a", "x"), -EOPNOTSUPP);
	req = (struct commit_req){ .job = job, .copies = 2 };
	assert_int_equal(slot_put(&t, req, "a", "x"), -EOPNOTSUPP);
	req = (struct commit_req){ .job = job, .flags = 1u << 9 };
	assert_int_equal(slot_put(&t, req, "a", "x"), -EINVAL);
}

static void attributes_come_along_also_through_a_rename(void **state)
{
	char attributes[ATTRIBUTES_BYTES_MAX + 2] = "";
	struct commit_req req = { .job = job };

	memset(attributes, 'q', ATTRIBUTES_BYTES_MAX);
	req.attributes = text(attributes);
	assert_int_equal(slot_put(&t, req, "a", "x"), 0);
	assert_int_equal(move("a", "b", 0), 0);
	assert_int_equal(stat_of("b"), 0);
	assert_int_equal(t.out.rep.stat.attributes.len, ATTRIBUTES_BYTES_MAX);
	assert_memory_equal(t.out.rep.stat.attributes.ptr, attributes, ATTRIBUTES_BYTES_MAX);
	attributes[ATTRIBUTES_BYTES_MAX] = 'q';
	req.attributes = text(attributes);
	assert_int_equal(slot_put(&t, req, "a", "x"), -EMSGSIZE);
}

static void an_expired_object_is_not_seen_even_before_the_tick(void **state)
{
	struct commit_req req = { .job = job, .ttl_ms = 1500 };
	struct list_req list = { .job = job };

	assert_int_equal(slot_put(&t, req, "d/a", "x"), 0);
	assert_int_equal(stat_of("d/a"), 0);
	assert_int_equal(t.out.rep.stat.ttl_left_ms, 1500);
	t.now += 1500 * MS - 1;
	assert_int_equal(look("d/a"), 0);
	assert_true(catalog_due(t.c) == t.now + 1);
	t.now += 1;
	assert_int_equal(look("d/a"), -ETIME);
	assert_int_equal(remove_it("d/a"), -ETIME);
	assert_int_equal(move("d/a", "b", 0), -ETIME);
	assert_int_equal(catalog_list(t.c, &list, t.now, slot_payload(&t), &t.out), 0);
	assert_int_equal(t.out.rep.list.count, 0);
	assert_int_equal(catalog_wait(t.c, job, text("d/a"), t.now, &t.out), 0);
	assert_true(t.out.must_wait);
	/* Counting removes it; and it is still known to have expired. */
	assert_int_equal(stat_of("d"), -ENOENT);
	assert_int_equal(look("d/a"), -ETIME);
	req.flags = PUT_CREATE;
	assert_int_equal(slot_put(&t, req, "d/a", "y"), 0);
	assert_int_equal(look("d/a"), 0);
}

static void an_expired_object_may_be_created_anew_before_the_tick(void **state)
{
	struct commit_req req = { .job = job, .ttl_ms = 10, .flags = PUT_CREATE };

	assert_int_equal(slot_put(&t, req, "a", "old"), 0);
	t.now += SECOND;
	assert_int_equal(slot_put(&t, req, "a", "new"), 0);
	assert_int_equal(look("a"), 0);
	got("new");
	slot_tick(&t);
	assert_int_equal(look("a"), 0);
	/* That the first one expired says nothing about the second. */
	assert_int_equal(remove_it("a"), 0);
	assert_int_equal(look("a"), -ENOENT);
}

static void the_tick_removes_what_has_expired_in_steps(void **state)
{
	const struct moment at = { .now_ns = t.now + 2 * SECOND };
	struct catalog_sums sums;
	char path[16];

	for (int i = 0; i < 3 * TICK_STEP; i++) {
		snprintf(path, sizeof(path), "p%d", i);
		assert_int_equal(
			slot_put(&t, (struct commit_req){ .job = job, .ttl_ms = 1000 }, path, "x"),
			0);
	}
	assert_int_equal(catalog_tick(t.c, &at, &t.out), 0);
	catalog_sums(t.c, at.now_ns, &sums);
	assert_in_range(sums.object_count, 2 * TICK_STEP, 3 * TICK_STEP - 1);
	t.now = at.now_ns;
	slot_tick(&t);
	catalog_sums(t.c, at.now_ns, &sums);
	assert_int_equal(sums.object_count, 0);
	assert_int_equal(sums.value_bytes, 0);
}

static void a_removed_object_is_gone(void **state)
{
	assert_int_equal(put("a", "x"), 0);
	assert_int_equal(remove_it("a"), 0);
	assert_int_equal(t.out.rep.remove.version, 1);
	assert_int_equal(look("a"), -ENOENT);
	assert_int_equal(remove_it("a"), -ENOENT);
	assert_int_equal(remove_it("a/"), -EISDIR);
}

static void a_rename_replaces_unless_told_to_create(void **state)
{
	assert_int_equal(put("a", "one"), 0);
	assert_int_equal(put("b", "two"), 0);
	assert_int_equal(move("a", "b", PUT_CREATE), -EEXIST);
	assert_int_equal(move("a", "b", 0), 0);
	assert_int_equal(t.out.rep.rename.version, 3);
	assert_int_equal(look("a"), -ENOENT);
	assert_int_equal(look("b"), 0);
	got("one");
	assert_int_equal(t.out.rep.lookup.object & 0xff, 1);
	assert_int_equal(move("b", "c", PUT_CREATE), 0);
	assert_int_equal(move("nothing", "c", 0), -ENOENT);
	assert_int_equal(move("c", "c", 0), 0);
	assert_int_equal(t.out.rep.rename.version, 4);
}

static void a_renamed_object_keeps_its_time_to_live(void **state)
{
	struct commit_req req = { .job = job, .ttl_ms = 5000 };

	assert_int_equal(slot_put(&t, req, "a", "x"), 0);
	t.now += SECOND;
	assert_int_equal(move("a", "b", 0), 0);
	assert_int_equal(stat_of("b"), 0);
	assert_int_equal(t.out.rep.stat.ttl_left_ms, 4000);
	assert_int_equal(t.out.rep.stat.age_ms, 1000);
	t.now += 4 * SECOND;
	slot_tick(&t);
	assert_int_equal(look("b"), -ETIME);
	assert_int_equal(look("a"), -ENOENT);
}

static void a_directory_is_what_is_in_it(void **state)
{
	assert_int_equal(put("a/b/c", "x"), 0);
	assert_int_equal(put("a/b/d", "x"), 0);
	assert_int_equal(put("a/e", "x"), 0);
	assert_int_equal(stat_of("a/b"), 0);
	assert_int_equal(t.out.rep.stat.is_directory, 1);
	assert_int_equal(t.out.rep.stat.len, 2);
	assert_int_equal(stat_of("a/"), 0);
	assert_int_equal(t.out.rep.stat.len, 1);
	assert_int_equal(stat_of(""), 0);
	assert_int_equal(t.out.rep.stat.len, 0);
	assert_int_equal(look("a/b"), -EISDIR);
	/* An object may have the name of a directory: it is what a plain name means. */
	assert_int_equal(put("a/b", "object"), 0);
	assert_int_equal(stat_of("a/b"), 0);
	assert_int_equal(t.out.rep.stat.is_directory, 0);
	assert_int_equal(stat_of("a/b/"), 0);
	assert_int_equal(t.out.rep.stat.is_directory, 1);
	assert_int_equal(remove_it("a/b/c"), 0);
	assert_int_equal(remove_it("a/b/d"), 0);
	assert_int_equal(stat_of("a/b/"), -ENOENT);
}

static void who_waits_is_told_of_path_and_count(void **state)
{
	struct wake_key path, directory;

	assert_int_equal(catalog_wait(t.c, job, text("d/a"), t.now, &t.out), 0);
	assert_true(t.out.must_wait);
	path = t.out.key;
	assert_int_equal(catalog_wait_count(t.c, job, text("d"), 2, t.now, &t.out), 0);
	assert_true(t.out.must_wait);
	directory = t.out.key;
	assert_int_equal(put("d/b", "x"), 0);
	assert_int_equal(catalog_wait_count_key(t.c, &directory, 2, t.now, &t.out), 0);
	assert_true(t.out.must_wait);
	assert_int_equal(put("d/a", "xy"), 0);
	assert_int_equal(t.out.wake_count, 2);
	assert_memory_equal(&t.out.wakes[0].hash, &directory.hash, 16);
	assert_memory_equal(&t.out.wakes[1].hash, &path.hash, 16);
	assert_int_equal(catalog_wait_key(t.c, &path, t.now, &t.out), 0);
	assert_false(t.out.must_wait);
	assert_int_equal(t.out.rep.stat.len, 2);
	assert_int_equal(catalog_wait_count_key(t.c, &directory, 2, t.now, &t.out), 0);
	assert_false(t.out.must_wait);
	assert_int_equal(t.out.rep.wait_count.count, 2);
	assert_int_equal(catalog_wait(t.c, job, text("d/"), t.now, &t.out), -EISDIR);
	assert_int_equal(catalog_wait(t.c, job, text(""), t.now, &t.out), -EINVAL);
}

static void time_never_goes_back(void **state)
{
	assert_int_equal(put("a", "x"), 0);
	t.now -= 500 * SECOND;
	assert_int_equal(put("b", "x"), 0);
	t.now += 500 * SECOND;
	assert_int_equal(stat_of("b"), 0);
	assert_int_equal(t.out.rep.stat.age_ms, 0);
}

static void a_small_object_costs_no_more_than_was_promised(void **state)
{
	/* Its entry, with malloc's own word; its place in the table of paths, just doubled. */
	assert_int_equal(sizeof(struct entry) + sizeof(struct value) + 8 + 16, 128);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_small_value_comes_back),
		T(who_asks_after_an_object_hears_of_that_alone),
		T(an_object_may_be_empty),
		T(values_up_to_the_limit_fit_and_longer_ones_do_not),
		T(a_put_replaces_and_versions_grow),
		T(put_if_absent_finds_what_is_there),
		T(if_version_means_that_version),
		T(a_wrong_checksum_is_damage),
		T(paths_have_rules),
		T(what_is_not_there_is_refused_by_its_name),
		T(attributes_come_along_also_through_a_rename),
		T(an_expired_object_is_not_seen_even_before_the_tick),
		T(an_expired_object_may_be_created_anew_before_the_tick),
		T(the_tick_removes_what_has_expired_in_steps),
		T(a_removed_object_is_gone),
		T(a_rename_replaces_unless_told_to_create),
		T(a_renamed_object_keeps_its_time_to_live),
		T(a_directory_is_what_is_in_it),
		T(who_waits_is_told_of_path_and_count),
		T(time_never_goes_back),
		T(a_small_object_costs_no_more_than_was_promised),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
