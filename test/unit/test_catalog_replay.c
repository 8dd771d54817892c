/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a record that a catalog in this state could not have logged is refused, and
 * changes nothing. Method: a catalog with one of everything; lies about each of them,
 * one lie a record, beside the true record that it was made from.
 */
#include "test.h"

#include <unistd.h>

#include "slot.h"

static struct slot_test t;
static uint64_t job, counter;
static struct grant grants[LEASE_SEGMENTS_MAX];
static uint8_t bytes[EXTENTS_BYTES];

static int begin(void **state)
{
	struct open_req open = { .session = 5, .request = 7 };

	slot_open(&t);
	job = slot_job(&t, "job", 0);
	counter = 1ull << 40;
	open.job = job;
	assert_int_equal(slot_put(&t, (struct commit_req){ .job = job, .reads = 2 }, "reads", "v"),
			 0);
	assert_int_equal(slot_put(&t, (struct commit_req){ .job = job }, "plain", "value"), 0);
	assert_int_equal(slot_lease(&t, job, 5, 1, 1, 65536, grants), 0);
	assert_int_equal(slot_put_extents(&t, (struct commit_req){ .job = job, .session = 5 }, "x",
					  (struct extent[]){ extent_at(&grants[0], 0, 4096) }, 1),
			 0);
	assert_int_equal(catalog_open(t.c, &open, t.now, &t.out), 0);
	return 0;
}

static int end(void **state)
{
	const char *why = catalog_check(t.c);

	if (why)
		printf("%s\n", why);
	slot_close(&t);
	return why ? -1 : 0;
}

static int replay(const struct effect *e)
{
	uint8_t buf[EFFECT_BYTES_MAX];
	struct wcur w = wcur_make(buf, sizeof(buf));
	struct rcur c;

	effect_put(&w, e);
	assert_true(wcur_finish(&w) > 0);
	c = rcur_make(buf, (size_t)wcur_finish(&w));
	return catalog_replay(t.c, &c);
}

static void expect_lie(const struct effect *e)
{
	char *before = catalog_dump(t.c), *after;

	assert_int_equal(replay(e), -EBADMSG);
	after = catalog_dump(t.c);
	assert_string_equal(after, before);
	node_free(before);
	node_free(after);
}

/* An object of no bytes, with an id and a version that are due. */
static struct effect put(const char *path)
{
	struct effect e = { .kind = EFFECT_OBJECT_PUT, .at_ns = t.now };

	e.u.object_put = (struct object_put_effect){
		.job = job,
		.object = (uint64_t)SLOT << ID_SLOT_SHIFT | counter++,
		.version = catalog_job_find(t.c, job)->version + 1,
		.tier = TIER_DRAM,
		.copies = 1,
		.path = text(path),
	};
	return e;
}

static struct slice one_extent(uint32_t offset, uint32_t len)
{
	struct wcur w = wcur_make(bytes, sizeof(bytes));
	struct extent x = extent_at(&grants[0], offset, len);

	extent_put(&w, &x);
	return (struct slice){ bytes, EXTENT_SIZE };
}

static void a_job_has_a_name_and_an_id_of_its_slot(void **state)
{
	struct effect e = { .kind = EFFECT_JOB_MADE, .at_ns = t.now };
	struct job_made_effect *m = &e.u.job_made;

	*m = (struct job_made_effect){ .job = (uint64_t)SLOT << ID_SLOT_SHIFT | 9,
				       .name = text("a/b") };
	expect_lie(&e);
	m->name = text("other");
	m->job = (uint64_t)(SLOT + 1) << ID_SLOT_SHIFT | 9;
	expect_lie(&e);
	m->job = (uint64_t)SLOT << ID_SLOT_SHIFT;
	expect_lie(&e);
	m->job = (uint64_t)(SLOT + 1) << ID_SLOT_SHIFT;
	m->job--; /* the last one: there would be no next */
	expect_lie(&e);
	m->job = (uint64_t)SLOT << ID_SLOT_SHIFT | 9;
	assert_int_equal(replay(&e), 0);
}

static void an_object_has_numbers_that_its_entry_has_room_for(void **state)
{
	struct effect e = put("new");
	const struct entry *entry;

	e.u.object_put.version = 1ull << 49;
	expect_lie(&e);
	e.u.object_put.version--;
	e.at_ns = 1ull << 62;
	expect_lie(&e);
	e.at_ns--;
	assert_int_equal(replay(&e), 0);
	entry = entry_find(t.c, catalog_job_find(t.c, job), text("new"));
	assert_true(entry->version == 0x1ffffffffffff && entry->made_ns == 0x3fffffffffffffff);
}

static void an_object_has_a_path_an_id_and_a_new_version(void **state)
{
	char longer[ATTRIBUTES_BYTES_MAX + 2] = { 0 };
	struct effect e = put("");

	expect_lie(&e);
	e = put("directory/");
	expect_lie(&e);
	e = put("\xff");
	expect_lie(&e);
	e = put("new");
	e.u.object_put.version--;
	expect_lie(&e);
	e = put("new");
	e.u.object_put.object = 5;
	expect_lie(&e);
	e = put("new");
	e.u.object_put.tier = TIER_COUNT;
	expect_lie(&e);
	e = put("new");
	memset(longer, 'a', ATTRIBUTES_BYTES_MAX + 1);
	e.u.object_put.attributes = text(longer);
	expect_lie(&e);
	e.u.object_put.attributes.len--;
	assert_int_equal(replay(&e), 0);
}

static void its_bytes_are_where_it_says(void **state)
{
	struct effect e = put("new");

	e.u.object_put.extents = one_extent(0, 4096); /* another object's */
	e.u.object_put.len = 4096;
	expect_lie(&e);
	e.u.object_put.extents = one_extent(61440, 8192); /* beyond the end */
	e.u.object_put.len = 8192;
	expect_lie(&e);
	e.u.object_put.extents = one_extent(8192, 4096);
	expect_lie(&e); /* another length */
	e.u.object_put.len = 4096;
	e.u.object_put.extents.len--;
	expect_lie(&e);
	e.u.object_put.extents.len++;
	assert_int_equal(replay(&e), 0);

	e = put("new");
	e.u.object_put.open = 5;
	expect_lie(&e);
	e.u.object_put.open = t.out.rep.open.open;
	e.u.object_put.job = slot_job(&t, "other", 0);
	e.u.object_put.version = 1;
	expect_lie(&e); /* another job's */
	e.u.object_put.job = job;
	e.u.object_put.version = 100;
	assert_int_equal(replay(&e), 0);
}

static void a_value_lies_behind_its_jobs_others(void **state)
{
	struct effect e = put("new");

	slot_job(&t, "other", 0);
	e.u.object_put.len = 5;
	e.u.object_put.value = 0; /* where the first value is */
	expect_lie(&e);
	e.u.object_put.value = (uint64_t)VALUE_SEGMENTS_MAX << VALUE_SEGMENT_SHIFT;
	expect_lie(&e);
	e.u.object_put.value = 16;
	e.u.object_put.len = (1ull << 32) + 5;
	expect_lie(&e);
	e.u.object_put.len = 5;
	e.u.object_put.job = t.out.rep.job_create.job; /* in the first job's block */
	e.u.object_put.version = 1;
	expect_lie(&e);
	e = put("new");
	e.u.object_put.len = 5;
	e.u.object_put.value = 16;
	assert_int_equal(replay(&e), 0);
}

static void a_rename_has_a_path_and_a_new_version(void **state)
{
	struct effect e = { .kind = EFFECT_OBJECT_RENAMED, .at_ns = t.now };

	e.u.object_renamed = (struct object_renamed_effect){
		.job = job, .version = 100, .from = text("plain"), .to = text("to/")
	};
	expect_lie(&e);
	e.u.object_renamed.to = text("to");
	e.u.object_renamed.version = 1;
	expect_lie(&e);
	e.u.object_renamed.version = 100;
	assert_int_equal(replay(&e), 0);
}

static void a_read_is_of_an_object_with_reads_left(void **state)
{
	struct effect e = { .kind = EFFECT_HOLD_MADE, .at_ns = t.now };

	e.u.hold_made =
		(struct hold_made_effect){ .job = job,
					   .session = 5,
					   .hold = (uint64_t)SLOT << ID_SLOT_SHIFT | counter,
					   .is_read = 1,
					   .path = text("plain") };
	expect_lie(&e);
	e.u.hold_made.hold = 5;
	e.u.hold_made.path = text("reads");
	expect_lie(&e);
	e.u.hold_made.hold = (uint64_t)SLOT << ID_SLOT_SHIFT | counter;
	assert_int_equal(replay(&e), 0);
}

static void what_is_live_is_not_given_back(void **state)
{
	struct effect e = { .kind = EFFECT_SEGMENT_SEALED, .at_ns = t.now };

	e.u.segment_sealed = (struct segment_sealed_effect){
		.segment = grants[0].segment, .generation = 1, .front = 0, .back = 65536
	};
	expect_lie(&e);
	e.u.segment_sealed.front = 4096;
	assert_int_equal(replay(&e), 0);
}

static void an_open_object_has_an_id_and_numbered_parts(void **state)
{
	struct effect e = { .kind = EFFECT_OPEN_MADE, .at_ns = t.now };
	const uint64_t open = t.out.rep.open.open;

	e.u.open_made = (struct open_made_effect){ .job = job, .session = 5, .open = 5 };
	expect_lie(&e);
	e = (struct effect){ .kind = EFFECT_OPEN_EXTENDED, .at_ns = t.now };
	e.u.open_extended = (struct open_extended_effect){ .open = open,
							   .part = PARTS_MAX,
							   .extents = one_extent(8192, 4096) };
	expect_lie(&e);
	e.u.open_extended.part--;
	assert_int_equal(replay(&e), 0);
}

static void a_segment_is_granted_once(void **state)
{
	uint8_t twice[2 * GRANT_SIZE];
	struct effect e = { .kind = EFFECT_SEGMENTS_OPENED, .at_ns = t.now };
	struct grant g = stored_grant(&t, 65536);
	struct wcur w = wcur_make(twice, sizeof(twice));

	grant_put(&w, &g);
	grant_put(&w, &g);
	e.u.segments_opened = (struct segments_opened_effect){
		.job = job, .session = 5, .request = 9, .grants = { twice, sizeof(twice) }
	};
	expect_lie(&e);
	e.u.segments_opened.grants.len = GRANT_SIZE;
	assert_int_equal(replay(&e), 0);
}

/* 2^32 steps, of which one does something. */
static void a_record_that_clears_ends_when_nothing_is_left(void **state)
{
	struct effect e = { .kind = EFFECT_OPEN_DROPPED, .at_ns = t.now };

	e.u.open_dropped.open = t.out.rep.open.open;
	assert_int_equal(replay(&e), 0);
	e = (struct effect){ .kind = EFFECT_DEBRIS_CLEARED, .at_ns = t.now };
	e.u.debris_cleared.count = UINT32_MAX;
	alarm(10);
	assert_int_equal(replay(&e), 0);
	alarm(0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_job_has_a_name_and_an_id_of_its_slot),
		T(an_object_has_numbers_that_its_entry_has_room_for),
		T(an_object_has_a_path_an_id_and_a_new_version),
		T(its_bytes_are_where_it_says),
		T(a_value_lies_behind_its_jobs_others),
		T(a_rename_has_a_path_and_a_new_version),
		T(a_read_is_of_an_object_with_reads_left),
		T(what_is_live_is_not_given_back),
		T(an_open_object_has_an_id_and_numbered_parts),
		T(a_segment_is_granted_once),
		T(a_record_that_clears_ends_when_nothing_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
