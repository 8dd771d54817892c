/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a slot remembers where each store is that it has segments of, for as long as it has
 * one, through log and snapshot; and what it has given up it does not take back. Method: a
 * slot with its log, whose second catalog must come to the same.
 */
#include "catalog_test.h"

static struct grant lease(uint64_t request)
{
	struct grant g[LEASE_SEGMENTS_MAX];

	assert_int_equal(slot_lease(&t, job, 5, request, 1, SEGMENT_BYTES_MIN, g), 0);
	return g[0];
}

static void put_in(const struct grant *g, const char *path)
{
	struct extent x = extent_at(g, 0, 100);

	assert_int_equal(
		slot_put_extents(&t, (struct commit_req){ .job = job, .session = 5 }, path, &x, 1),
		0);
}

static void give_back(const struct grant *g)
{
	struct settle_req req = { .job = job,
				  .session = 5,
				  .segment = g->segment,
				  .generation = g->generation,
				  .back = g->size };

	assert_int_equal(catalog_settle(t.c, &req, t.now, &t.out), 0);
}

static void is_at(const char *address)
{
	assert_int_equal(catalog_store_known(t.c, STORE, text(address), t.now, &t.out), 0);
}

static void lose_all(void)
{
	catalog_compare_begin(t.c, STORE);
	while (catalog_compare_end(t.c, STORE, t.now, &t.out))
		;
}

static int look(const char *path)
{
	return slot_look(&t, (struct lookup_req){ .job = job, .take = 100 }, path);
}

static char all_stores[200];

static int note(void *owner, uint64_t store, const char *address)
{
	size_t at = strlen(all_stores);

	snprintf(all_stores + at, sizeof(all_stores) - at, "%llx %s;", (unsigned long long)store,
		 address);
	return 0;
}

static const char *stores(void)
{
	all_stores[0] = '\0';
	assert_int_equal(catalog_stores(t.c, note, NULL), 0);
	return all_stores;
}

static bool is_in_the_dump(const char *line)
{
	char *dump = catalog_dump(t.c);
	bool is = strstr(dump, line) != NULL;

	node_free(dump);
	return is;
}

static void is_gone(void)
{
	assert_int_equal(catalog_store_gone(t.c, STORE, t.now, &t.out), 0);
}

static bool has_lost(void)
{
	struct catalog_sums sums;

	catalog_sums(t.c, t.now, &sums);
	return sums.has_lost;
}

static void a_store_is_known_from_its_first_segment_until_it_is_gone(void **state)
{
	struct grant a, b;
	uint64_t count = t.effect_count;

	is_at("tcp://store:1");
	assert_int_equal(t.effect_count, count); /* there is nothing to be known for */
	assert_string_equal(stores(), "");
	a = lease(1);
	assert_string_equal(stores(), "51 ;");
	count = t.effect_count;
	is_at("tcp://store:1");
	is_at("tcp://store:1");
	assert_int_equal(t.effect_count, count + 1);
	assert_string_equal(stores(), "51 tcp://store:1;");
	b = lease(2);
	is_at("tcp://store:22");
	is_at("tcp://store:3");
	assert_int_equal(t.effect_count, count + 4);
	assert_string_equal(stores(), "51 tcp://store:3;");
	assert_true(is_in_the_dump("store 51 address \"tcp://store:3\"\n"));
	give_back(&a);
	slot_duties(&t);
	assert_string_equal(stores(), "51 tcp://store:3;");
	give_back(&b);
	assert_string_equal(stores(), "51 tcp://store:3;"); /* it has not heard of that yet */
	slot_duties(&t);
	/* Whoever goes on from here has its count to wait for. */
	assert_false(catalog_store_has(t.c, STORE));
	assert_string_equal(stores(), "51 tcp://store:3;");
	is_at("tcp://store:4");
	assert_string_equal(stores(), "51 tcp://store:4;");
	assert_false(has_lost());
	count = t.effect_count;
	is_gone();
	is_gone();
	assert_int_equal(t.effect_count, count + 1);
	assert_string_equal(stores(), "");
	assert_false(is_in_the_dump("store 51"));
	assert_true(has_lost());
	assert_null(slot_replay(&t));
	(void)lease(3);
	assert_string_equal(stores(), "51 ;");
	is_at("tcp://store:3");
	assert_int_equal(catalog_store_gone(t.c, STORE, t.now, &t.out), -EBADMSG); /* it has one */
}

static void an_address_that_is_none_is_not_noted(void **state)
{
	char longest[ADDRESS_TEXT_MAX + 1];
	uint64_t count;

	(void)lease(1);
	count = t.effect_count;
	is_at("");
	memset(longest, 'a', ADDRESS_TEXT_MAX);
	longest[ADDRESS_TEXT_MAX] = '\0';
	is_at(longest);
	assert_int_equal(t.effect_count, count);
	longest[ADDRESS_TEXT_MAX - 1] = '\0';
	is_at(longest);
	assert_int_equal(t.effect_count, count + 1);
	assert_string_equal(stores() + 3, strcat(longest, ";"));
}

static void a_store_that_is_lost_has_nothing_any_more(void **state)
{
	struct grant a = lease(1), b = lease(2);
	struct segment_entry e = {
		.segment = a.segment, .generation = a.generation, .job = job, .size = a.size
	};

	is_at("tcp://store:1");
	put_in(&a, "a");
	assert_true(catalog_store_has(t.c, STORE));
	give_back(&b);
	lose_all();
	assert_false(catalog_store_has(t.c, STORE));
	assert_string_equal(stores(), "51 tcp://store:1;");
	is_gone();
	assert_string_equal(stores(), "");
	assert_int_equal(look("a"), -EREMOTEIO);
	assert_int_equal(catalog_job_bytes(t.c, job), 0);
	/* It comes back all the same, and has it still: it is to free it. */
	catalog_compare_begin(t.c, STORE);
	assert_false(catalog_compare(t.c, &e));
	e.segment = b.segment;
	e.generation = b.generation;
	assert_false(catalog_compare(t.c, &e));
	while (catalog_compare_end(t.c, STORE, t.now, &t.out))
		;
	assert_int_equal(look("a"), -EREMOTEIO);
	/* What it grants from now on is as good as any. */
	b = lease(3);
	put_in(&b, "b");
	is_at("tcp://store:1");
	assert_string_equal(stores(), "51 tcp://store:1;");
	assert_int_equal(look("b"), 0);
}

/* What was found once is looked for again. */
static void each_comparison_finds_what_is_lost_since(void **state)
{
	struct grant a = lease(1), b = lease(2);
	struct segment_entry e = { .generation = 1, .job = job, .size = a.size };

	put_in(&a, "a");
	put_in(&b, "b");
	for (unsigned round = 0; round < 3; round++) {
		catalog_compare_begin(t.c, STORE);
		e.segment = a.segment;
		e.generation = a.generation;
		assert_true(catalog_compare(t.c, &e));
		e.segment = b.segment;
		e.generation = b.generation;
		assert_true(round == 2 || catalog_compare(t.c, &e));
		while (catalog_compare_end(t.c, STORE, t.now, &t.out))
			;
		assert_int_equal(look("a"), 0);
		assert_int_equal(look("b"), round == 2 ? -EREMOTEIO : 0);
	}
}

/* What a job had that has ended meanwhile is gone, too, and so the job is. */
static void a_job_that_has_ended_is_cleared_though_its_store_is_lost(void **state)
{
	struct job_end_req req = { .name = text("job") };
	struct grant g = lease(1);
	struct catalog_sums sums;
	uint64_t id;

	put_in(&g, "a");
	assert_int_equal(catalog_job_end(t.c, &req, t.now, &t.out, &id), 0);
	slot_tick(&t);
	assert_int_equal(catalog_job_bytes(t.c, job), 65536);
	lose_all();
	slot_tick(&t);
	assert_int_equal(catalog_job_bytes(t.c, job), 0);
	catalog_sums(t.c, t.now, &sums);
	assert_int_equal(sums.segment_count, 0);
}

static bool is_in_the_images(const char *address)
{
	return memmem(t.images, t.images_len, address, strlen(address)) != NULL;
}

static void steps(unsigned n)
{
	while (n-- > 0 && catalog_snapshot_is_running(t.c))
		catalog_snapshot_step(t.c, 1);
}

/* At each moment of a snapshot something becomes known, moves or is forgotten. */
static void a_snapshot_has_what_was_known_when_it_began(void **state)
{
	for (unsigned n = 0; n < 64; n++) {
		bool is_known = n & 1, is_forgotten = n & 2, comes_again = n & 4;
		struct grant g = lease(100 * n + 1);

		if (is_known)
			is_at("tcp://store:1");
		slot_snapshot_begin(&t);
		steps(n / 8);
		if (!is_forgotten)
			is_at("tcp://store:2");
		give_back(&g);
		slot_duties(&t);
		is_gone();
		if (comes_again) {
			g = lease(100 * n + 2);
			is_at("tcp://store:3");
		}
		steps(UINT32_MAX);
		assert_int_equal(is_in_the_images("tcp://store:1"), is_known);
		assert_false(is_in_the_images("tcp://store:2"));
		assert_false(is_in_the_images("tcp://store:3"));
		assert_null(slot_restore(&t));
		if (comes_again)
			give_back(&g);
		slot_duties(&t);
		is_gone();
	}
}

/* The slot had something of the store before, and has not when the snapshot begins. */
static void a_store_that_is_new_is_not_in_a_snapshot(void **state)
{
	struct grant g = lease(1);

	give_back(&g);
	slot_duties(&t);
	is_gone();
	for (unsigned n = 0; n < 8; n++) {
		slot_snapshot_begin(&t);
		steps(n);
		g = lease(2 + n);
		is_at("tcp://store:1");
		steps(UINT32_MAX);
		assert_null(slot_restore(&t));
		give_back(&g);
		slot_duties(&t);
		is_gone();
	}
}

static int replay(const struct effect *e)
{
	uint8_t buf[EFFECT_BYTES_MAX];
	struct wcur w = wcur_make(buf, sizeof(buf));
	struct rcur c;

	effect_put(&w, e);
	c = rcur_make(buf, (size_t)wcur_finish(&w));
	return catalog_replay(t.replica, &c);
}

static void a_record_names_a_store_that_had_segments_and_an_address(void **state)
{
	struct effect e = { .kind = EFFECT_STORE_KNOWN, .at_ns = t.now };
	uint8_t bytes[ADDRESS_TEXT_MAX];

	memset(bytes, 'a', sizeof(bytes));
	e.u.store_known = (struct store_known_effect){ STORE, text("tcp://store:1") };
	assert_int_equal(replay(&e), -EBADMSG);
	(void)lease(1);
	assert_null(slot_replay(&t));
	e.u.store_known.store++;
	assert_int_equal(replay(&e), -EBADMSG);
	e.u.store_known = (struct store_known_effect){ STORE, { bytes, 0 } };
	assert_int_equal(replay(&e), -EBADMSG);
	e.u.store_known.address.len = ADDRESS_TEXT_MAX;
	assert_int_equal(replay(&e), -EBADMSG);
	bytes[7] = '\0';
	e.u.store_known.address.len = 8;
	assert_int_equal(replay(&e), -EBADMSG);
	e.u.store_known.address.len = 7;
	assert_int_equal(replay(&e), 0);
	is_at("aaaaaaa");
}

/* An image of a store in front of those of a snapshot, behind its first. */
static int restore_with(uint64_t store, struct slice address, unsigned copies, bool has_segments)
{
	struct catalog *c = catalog_new(SLOT, 0x5eed, &SLOT_OPS, &t);
	struct rcur images = rcur_make(t.images, t.images_len);
	struct image im = { .kind = IMAGE_STORE, .u.store = { store, address } };
	struct restore r;
	int result = restore_begin(&r, c);

	for (unsigned n = 0; images.p < images.end && result == 0; n++) {
		uint8_t buf[IMAGE_BYTES_MAX];
		struct wcur w = wcur_make(buf, sizeof(buf));
		struct rcur one;

		result = restore_next(&r, &images);
		image_put(&w, &im);
		for (unsigned i = 0; n == 0 && i < copies && result == 0; i++) {
			one = rcur_make(buf, (size_t)wcur_finish(&w));
			result = restore_next(&r, &one);
		}
	}
	restore_end(&r);
	if (result == 0)
		assert_int_equal(catalog_store_has(c, store), has_segments);
	catalog_free(c);
	return result;
}

static void an_image_names_a_store_once(void **state)
{
	uint8_t zero = 0;

	(void)lease(1);
	slot_snapshot_begin(&t);
	while (catalog_snapshot_step(t.c, 10))
		;
	assert_int_equal(restore_with(STORE, text("tcp://store:1"), 0, true), 0);
	assert_int_equal(restore_with(STORE, text("tcp://store:1"), 1, true), 0);
	assert_int_equal(restore_with(STORE, text("tcp://store:1"), 2, true), -EBADMSG);
	assert_int_equal(restore_with(STORE + 1, text("tcp://store:1"), 1, false), 0);
	assert_int_equal(restore_with(STORE, text(""), 1, true), -EBADMSG);
	assert_int_equal(restore_with(STORE, (struct slice){ &zero, 1 }, 1, true), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_store_is_known_from_its_first_segment_until_it_is_gone),
		T(an_address_that_is_none_is_not_noted),
		T(a_store_that_is_lost_has_nothing_any_more),
		T(each_comparison_finds_what_is_lost_since),
		T(a_job_that_has_ended_is_cleared_though_its_store_is_lost),
		T(a_snapshot_has_what_was_known_when_it_began),
		T(a_store_that_is_new_is_not_in_a_snapshot),
		T(a_record_names_a_store_that_had_segments_and_an_address),
		T(an_image_names_a_store_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
