/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: small values lie in blocks of one job each; a block that comes to another job has
 * nothing of the first one left; empty memory goes back. Method: look at the memory.
 */
#include "catalog_test.h"

static int put(uint64_t in, const char *path, const char *value)
{
	return slot_put(&t, (struct commit_req){ .job = in }, path, value);
}

static void remove_it(uint64_t from, const char *path)
{
	struct remove_req req = { .job = from, .path = text(path) };

	assert_int_equal(catalog_remove(t.c, &req, t.now, &t.out), 0);
}

static uint64_t place_of(uint64_t in, const char *path)
{
	return entry_value(entry_find(t.c, catalog_job_find(t.c, in), text(path)))->at;
}

static void values_of_a_job_share_blocks_and_jobs_do_not(void **state)
{
	uint64_t other = slot_job(&t, "other", 0);

	assert_int_equal(put(job, "a", "one"), 0);
	assert_int_equal(put(other, "a", "two"), 0);
	assert_int_equal(put(job, "b", "three"), 0);
	assert_int_equal(place_of(job, "a"), 0);
	assert_int_equal(place_of(other, "a"), VALUE_BLOCK_BYTES);
	assert_int_equal(place_of(job, "b"), 8);
	assert_int_equal(catalog_job_bytes(t.c, job), VALUE_BLOCK_BYTES);
	assert_int_equal(catalog_job_bytes(t.c, other), VALUE_BLOCK_BYTES);
}

static void a_value_does_not_cross_a_block(void **state)
{
	char value[INLINE_BYTES_MAX + 1] = "";

	memset(value, 'v', INLINE_BYTES_MAX);
	assert_int_equal(put(job, "a", "x"), 0);
	assert_int_equal(put(job, "b", value), 0);
	assert_int_equal(put(job, "c", value), 0);
	assert_int_equal(put(job, "d", value), 0);
	assert_int_equal(place_of(job, "b"), 8);
	assert_int_equal(place_of(job, "c"), VALUE_BLOCK_BYTES);
	assert_int_equal(place_of(job, "d"), VALUE_BLOCK_BYTES + INLINE_BYTES_MAX);
}

static void a_block_that_changes_jobs_is_clean(void **state)
{
	uint64_t other = slot_job(&t, "other", 0);
	char value[INLINE_BYTES_MAX + 1] = "";
	const uint8_t *block;

	memset(value, 's', INLINE_BYTES_MAX);
	assert_int_equal(put(job, "a", value), 0);
	assert_int_equal(put(job, "b", value), 0);
	block = value_bytes(t.c, place_of(job, "a"));
	remove_it(job, "a");
	remove_it(job, "b");
	t.c->values[0]->hint = 0;
	assert_int_equal(put(other, "a", "mine"), 0);
	assert_ptr_equal(value_bytes(t.c, place_of(other, "a")), block);
	assert_memory_equal(block, "mine", 4);
	for (int i = 4; i < VALUE_BLOCK_BYTES; i++)
		assert_int_equal(block[i], 0);
}

static void a_block_is_kept_while_it_has_a_value(void **state)
{
	assert_int_equal(put(job, "a", "one"), 0);
	assert_int_equal(put(job, "b", "two"), 0);
	remove_it(job, "a");
	assert_int_equal(catalog_job_bytes(t.c, job), VALUE_BLOCK_BYTES);
	assert_int_equal(slot_look(&t, (struct lookup_req){ .job = job }, "b"), 0);
	assert_memory_equal(t.payload, "two", 3);
	remove_it(job, "b");
	assert_int_equal(catalog_job_bytes(t.c, job), 0);
}

static void without_memory_for_values_a_put_says_so(void **state)
{
	char value[INLINE_BYTES_MAX + 1] = "", path[16];
	int r = 0, i;

	memset(value, 'v', INLINE_BYTES_MAX);
	for (i = 0; r == 0 && i < 1000000; i++) {
		snprintf(path, sizeof(path), "%d", i);
		r = put(job, path, value);
	}
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(i, VALUE_MAPS * VALUE_BLOCKS * 2 + 1);
	assert_int_equal(put(job, "empty", ""), 0);
	remove_it(job, "0");
	remove_it(job, "1");
	assert_int_equal(put(job, "one more", value), 0);
}

static unsigned segment_count(void)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < t.c->value_cap; i++)
		n += t.c->values[i] != NULL;
	return n;
}

static void empty_value_segments_go_back_but_one(void **state)
{
	char value[INLINE_BYTES_MAX + 1] = "", path[16];
	struct remove_tree_req req = { .job = job, .up_to = UINT64_MAX };

	memset(value, 'v', INLINE_BYTES_MAX);
	for (unsigned i = 0; i < 5 * VALUE_BLOCKS; i++) {
		snprintf(path, sizeof(path), "%u", i);
		assert_int_equal(put(job, path, value), 0);
	}
	assert_int_equal(segment_count(), 3);
	do
		assert_int_equal(catalog_remove_tree(t.c, &req, t.now, &t.out), 0);
	while (t.out.rep.remove_tree.next.len > 0);
	assert_int_equal(segment_count(), 3);
	assert_true(catalog_due(t.c) == 0); /* at once, and not with what is due next */
	slot_tick(&t);
	assert_int_equal(segment_count(), 1);
	assert_true(catalog_due(t.c) > t.now);
	assert_int_equal(put(job, "a", "x"), 0);
	assert_int_equal(slot_look(&t, (struct lookup_req){ .job = job }, "a"), 0);
}

static void end_job(const char *name)
{
	struct job_end_req req = { .name = text(name) };
	uint64_t id;

	assert_int_equal(catalog_job_end(t.c, &req, t.now, &t.out, &id), 0);
	slot_tick(&t);
}

static void the_last_one_goes_with_the_last_job(void **state)
{
	(void)slot_job(&t, "other", 0);
	assert_int_equal(put(job, "a", "x"), 0);
	end_job("job");
	assert_int_equal(segment_count(), 1);
	assert_true(catalog_due(t.c) > t.now);
	end_job("other");
	assert_int_equal(segment_count(), 0);
}

static void a_new_version_does_not_touch_the_old_ones_bytes(void **state)
{
	const uint8_t *old;

	assert_int_equal(put(job, "a", "one"), 0);
	old = value_bytes(t.c, place_of(job, "a"));
	assert_int_equal(put(job, "b", "keeps the block"), 0);
	assert_int_equal(put(job, "a", "two"), 0);
	assert_memory_equal(old, "one", 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(values_of_a_job_share_blocks_and_jobs_do_not),
		T(a_value_does_not_cross_a_block),
		T(a_block_that_changes_jobs_is_clean),
		T(a_block_is_kept_while_it_has_a_value),
		T(without_memory_for_values_a_put_says_so),
		T(empty_value_segments_go_back_but_one),
		T(the_last_one_goes_with_the_last_job),
		T(a_new_version_does_not_touch_the_old_ones_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
