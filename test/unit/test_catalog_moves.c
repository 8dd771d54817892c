/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what is live in a segment can be moved to another, under readers, writers and
 * renames, and only that; the segment is freed then. Method: a mover that knows what the
 * slot tells it, and objects that are looked up afterwards. Each test ends with a replay.
 */
#include "catalog_test.h"

#define PIECE (64u << 10) /* a segment of the smallest size */

static struct grant lease(uint64_t session, uint64_t request, uint32_t size)
{
	struct grant g[LEASE_SEGMENTS_MAX];

	assert_int_equal(slot_lease(&t, job, session, request, 1, size, g), 0);
	assert_int_equal(t.out.rep.lease.count, 1);
	return g[0];
}

static void put(const char *path, struct extent x)
{
	assert_int_equal(
		slot_put_extents(&t, (struct commit_req){ .job = job, .session = 1 }, path, &x, 1),
		0);
}

static void settle(const struct grant *g)
{
	struct settle_req req = { .job = job,
				  .session = 1,
				  .segment = g->segment,
				  .generation = g->generation,
				  .front = g->size,
				  .back = g->size };

	assert_int_equal(catalog_settle(t.c, &req, t.now, &t.out), 0);
}

static void remove_it(const char *path)
{
	struct remove_req req = { .job = job, .path = text(path) };

	assert_int_equal(catalog_remove(t.c, &req, t.now, &t.out), 0);
}

static uint32_t places_of(const struct grant *g, struct place_entry ret[EXTENTS_MAX])
{
	struct places_req req = { .job = job, .segment = g->segment, .generation = g->generation };
	struct rcur c;

	assert_int_equal(catalog_places(t.c, &req, slot_payload(&t), &t.out), 0);
	c = rcur_make(t.payload, slot_got(&t).len);
	for (uint32_t i = 0; i < t.out.rep.places.count; i++)
		place_entry_get(&c, &ret[i]);
	assert_int_equal(rcur_finish(&c), 0);
	return t.out.rep.places.count;
}

static int move(const struct grant *from, const struct move_entry *moves, uint32_t count,
		uint64_t session)
{
	uint8_t bytes[MOVES_BYTES];
	struct wcur w = wcur_make(bytes, sizeof(bytes));
	struct move_req req = { .job = job,
				.session = session,
				.segment = from->segment,
				.generation = from->generation,
				.count = count };

	for (uint32_t i = 0; i < count; i++)
		move_entry_put(&w, &moves[i]);
	return catalog_move(t.c, &req, (struct slice){ bytes, (size_t)(w.p - bytes) }, t.now,
			    &t.out);
}

static struct move_entry to(const struct grant *g, uint32_t offset, uint32_t len, uint32_t at)
{
	return (struct move_entry){ .offset = offset,
				    .len = len,
				    .to_segment = g->segment,
				    .to_generation = g->generation,
				    .to_offset = at };
}

/* Where the only extent of an object is. */
static struct extent look(const char *path)
{
	struct rcur c;
	struct extent x;

	assert_int_equal(slot_look(&t, (struct lookup_req){ .job = job, .take = NONE_32 }, path),
			 0);
	assert_int_equal(t.out.rep.lookup.found, 1);
	c = rcur_make(t.payload, slot_got(&t).len);
	extent_get(&c, &x);
	return x;
}

static void is_at(const char *path, const struct grant *g, uint32_t offset)
{
	struct extent x = look(path);

	assert_int_equal(x.segment, g->segment);
	assert_int_equal(x.generation, g->generation);
	assert_int_equal(x.offset, offset);
}

static bool is_freed(const struct grant *g)
{
	slot_duties(&t);
	return !catalog_segment_find(t.c, g->segment, g->generation);
}

/* Three objects of 16 KiB in a segment, of which one is removed. */
static struct grant make_dying(void)
{
	struct grant g = lease(1, 100, PIECE);

	put("a", extent_at(&g, 0, 16384));
	put("b", extent_at(&g, 16384, 16384));
	put("c", extent_at(&g, 32768, 16000));
	settle(&g);
	remove_it("b");
	return g;
}

static void what_is_live_goes_elsewhere_and_the_segment_is_freed(void **state)
{
	struct grant from = make_dying(), g = lease(1, 101, PIECE);
	struct place_entry places[EXTENTS_MAX];
	struct extent c;

	assert_int_equal(places_of(&from, places), 2);
	assert_int_equal(t.out.rep.places.live, 16384 + 16000);
	assert_int_equal(places[0].offset, 0);
	assert_int_equal(places[0].len, 16384);
	assert_int_equal(places[1].offset, 32768);
	assert_int_equal(places[1].len, 16000);
	assert_int_equal(
		move(&from,
		     (struct move_entry[]){ to(&g, 0, 16384, 0), to(&g, 32768, 16000, 20480) }, 2,
		     1),
		0);
	assert_int_equal(t.out.rep.move.moved, 16384 + 16000);
	is_at("a", &g, 0);
	is_at("c", &g, 20480);
	c = look("c");
	assert_int_equal(c.len, 16000);
	assert_int_equal(c.seed, 32768 + 1); /* as whoever wrote it chose it */
	assert_true(is_freed(&from));
	/* The other is a segment like any. */
	settle(&g);
	remove_it("a");
	remove_it("c");
	assert_true(is_freed(&g));
	assert_int_equal(t.account.bytes, 0);
}

static void what_died_meanwhile_is_left_out_and_a_repeat_moves_nothing(void **state)
{
	struct grant from = make_dying(), g = lease(1, 101, PIECE);
	struct move_entry both[] = { to(&g, 0, 16384, 0), to(&g, 32768, 16000, 20480) };

	remove_it("a");
	assert_int_equal(move(&from, both, 2, 1), 0);
	assert_int_equal(t.out.rep.move.moved, 16000);
	is_at("c", &g, 20480);
	assert_int_equal(move(&from, both, 2, 1), 0);
	assert_int_equal(t.out.rep.move.moved, 0);
	assert_true(is_freed(&from));
	assert_int_equal(move(&from, both, 2, 1), 0);
	assert_int_equal(t.out.rep.move.moved, 0);
}

static void nothing_is_moved_to_where_it_must_not_be(void **state)
{
	struct grant from = make_dying(), g = lease(1, 101, PIECE), foreign = lease(2, 102, PIECE);
	struct move_entry one = to(&g, 0, 16384, 0), same[2] = { one, one };

	/* Another session's, a range outside, one of an object, twice, one over the other. */
	one = to(&foreign, 0, 16384, 0);
	assert_int_equal(move(&from, &one, 1, 1), -ESTALE);
	one = to(&g, 0, 16384, PIECE - 8192);
	assert_int_equal(move(&from, &one, 1, 1), -EINVAL);
	put("d", extent_at(&g, 4096, 100));
	one = to(&g, 0, 16384, 0);
	assert_int_equal(move(&from, &one, 1, 1), -EINVAL);
	same[0].to_offset = 8192;
	same[1].to_offset = 32768;
	assert_int_equal(move(&from, same, 2, 1), -EINVAL);
	same[0] = to(&g, 0, 16384, 8192);
	same[1] = to(&g, 32768, 16000, 12288);
	assert_int_equal(move(&from, same, 2, 1), -EINVAL);
	assert_int_equal(move(&from, same, 0, 1), -EINVAL);
	/* Back into itself, which is sealed; and to one that is. */
	one = to(&from, 0, 16384, 16384);
	assert_int_equal(move(&from, &one, 1, 1), -ESTALE);
	settle(&g);
	one = to(&g, 0, 16384, 8192);
	assert_int_equal(move(&from, &one, 1, 1), -ESTALE);
	is_at("a", &from, 0);
	is_at("c", &from, 32768);
}

static void an_open_segment_is_not_emptied(void **state)
{
	struct grant from = lease(1, 100, PIECE), g = lease(1, 101, PIECE);
	struct place_entry places[EXTENTS_MAX];
	struct move_entry one = to(&g, 0, 4096, 0);

	put("a", extent_at(&from, 0, 4096));
	assert_int_equal(places_of(&from, places), 0);
	assert_int_equal(move(&from, &one, 1, 1), 0);
	assert_int_equal(t.out.rep.move.moved, 0);
	is_at("a", &from, 0);
}

static void a_table_of_sums_goes_by_itself(void **state)
{
	struct grant large = lease(1, 100, 4 * PIECE), from = lease(1, 101, PIECE);
	struct grant g = lease(1, 102, PIECE);
	struct extent x = extent_at(&large, 0, 2 * PIECE);
	struct place_entry places[EXTENTS_MAX];
	struct move_entry one;

	x.table_segment = from.segment;
	x.table_generation = from.generation;
	x.table_offset = 640;
	put("large", x);
	put("small", extent_at(&from, 4096, 100));
	settle(&from);
	remove_it("small");
	assert_int_equal(places_of(&from, places), 1);
	assert_int_equal(places[0].offset, 640);
	assert_int_equal(places[0].len, 8);
	one = to(&g, 640, 8, 64);
	assert_int_equal(move(&from, &one, 1, 1), 0);
	assert_int_equal(t.out.rep.move.moved, 8);
	x = look("large");
	assert_int_equal(x.segment, large.segment);
	assert_int_equal(x.table_segment, g.segment);
	assert_int_equal(x.table_offset, 64);
	assert_true(is_freed(&from));
}

static void a_renamed_object_is_still_moved(void **state)
{
	struct grant from = make_dying(), g = lease(1, 101, PIECE);
	struct rename_req req = { .job = job, .from = text("a"), .to = text("new/name") };
	struct move_entry one = to(&g, 0, 16384, 0);

	assert_int_equal(catalog_rename(t.c, &req, t.now, &t.out), 0);
	remove_it("c");
	assert_int_equal(move(&from, &one, 1, 1), 0);
	assert_int_equal(t.out.rep.move.moved, 16384);
	is_at("new/name", &g, 0);
	assert_true(is_freed(&from));
}

/* A hold keeps the bytes, whatever becomes of the name, and wherever they are. */
static void a_reader_finds_under_its_hold_where_the_bytes_went(void **state)
{
	struct grant from = make_dying(), g = lease(1, 101, PIECE);
	struct lookup_req req = { .job = job, .session = 2, .take = 100, .is_held = 1 };
	struct find_req find = { .job = job, .session = 2 };
	struct move_entry one = to(&g, 0, 16384, 8192);
	struct extent x;
	struct rcur c;

	assert_int_equal(slot_look(&t, req, "a"), 0);
	find.hold = t.out.rep.lookup.hold;
	assert_true(find.hold != 0);
	remove_it("a");
	remove_it("c");
	assert_int_equal(move(&from, &one, 1, 1), 0);
	assert_int_equal(t.out.rep.move.moved, 16384);
	assert_true(is_freed(&from));
	assert_int_equal(catalog_find(t.c, &find, t.now, slot_payload(&t), &t.out), 0);
	c = rcur_make(t.payload, slot_got(&t).len);
	extent_get(&c, &x);
	assert_int_equal(x.segment, g.segment);
	assert_int_equal(x.offset, 8192);
	settle(&g);
	assert_false(is_freed(&g));
	assert_int_equal(
		catalog_release(
			t.c, &(struct release_req){ .job = job, .session = 2, .hold = find.hold },
			t.now, &t.out),
		0);
	assert_true(is_freed(&g));
}

static void the_deadest_segment_is_told_first_and_not_twice(void **state)
{
	struct grant mild = lease(1, 100, PIECE), bad = lease(1, 101, PIECE);
	struct dying d, again;

	put("m/1", extent_at(&mild, 0, 40960));
	put("m/2", extent_at(&mild, 40960, 8192));
	put("b/1", extent_at(&bad, 0, 8192));
	put("b/2", extent_at(&bad, 8192, 40960));
	remove_it("m/2");
	remove_it("b/2");
	/* Nothing dead counts before they are sealed, and what was never live not at all. */
	assert_int_equal(catalog_dead_bytes(t.c, STORE), 0);
	assert_false(catalog_dying(t.c, STORE, &d));
	settle(&mild);
	assert_int_equal(catalog_dead_bytes(t.c, STORE), 8192);
	assert_false(catalog_must_clean(t.c, STORE)); /* of 128 KiB */
	settle(&bad);
	assert_int_equal(catalog_dead_bytes(t.c, STORE), 8192 + 40960);
	assert_true(catalog_must_clean(t.c, STORE));
	assert_false(catalog_must_clean(t.c, STORE + 1));
	assert_true(catalog_dying(t.c, STORE, &d));
	assert_int_equal(d.segment, bad.segment);
	assert_int_equal(d.job, job);
	assert_int_equal(d.dead, 40960);
	assert_true(catalog_dying(t.c, STORE, &again));
	assert_int_equal(again.segment, mild.segment);
	assert_false(catalog_dying(t.c, STORE, &again));
	/* It could not be emptied. */
	assert_false(catalog_dying_over(t.c, &d));
	assert_true(catalog_dying(t.c, STORE, &again));
	assert_int_equal(again.segment, bad.segment);
	remove_it("b/1");
	assert_true(catalog_dying_over(t.c, &again));
	assert_int_equal(catalog_dead_bytes(t.c, STORE), 8192);
}

static void bytes_of_an_ended_job_are_not_moved(void **state)
{
	struct grant from = make_dying(), g = lease(1, 101, PIECE);
	struct move_entry one = to(&g, 0, 16384, 0);
	struct job_end_req req = { .name = text("job") };
	struct places_req places = { .job = job,
				     .segment = from.segment,
				     .generation = from.generation };
	struct dying d;
	uint64_t id;

	assert_int_equal(catalog_job_end(t.c, &req, t.now, &t.out, &id), 0);
	assert_int_equal(move(&from, &one, 1, 1), -EIDRM);
	assert_int_equal(catalog_places(t.c, &places, slot_payload(&t), &t.out), -EIDRM);
	slot_tick(&t);
	assert_false(catalog_dying(t.c, STORE, &d));
	slot_duties(&t);
	assert_int_equal(t.account.bytes, 0);
}

static void a_move_needs_no_room_in_the_quota(void **state)
{
	struct lease_req req = { .session = 1, .request = 1, .need = PIECE, .size = PIECE };

	req.job = slot_job(&t, "small", PIECE);
	assert_int_equal(catalog_lease(t.c, &req, PIECE, t.now, slot_payload(&t), &t.out), 0);
	req.request = 2;
	assert_int_equal(catalog_lease(t.c, &req, PIECE, t.now, slot_payload(&t), &t.out), -EDQUOT);
	req.is_move = 1;
	assert_int_equal(catalog_lease(t.c, &req, PIECE, t.now, slot_payload(&t), &t.out), 0);
	assert_true(t.out.ask.is_needed);
	catalog_ask_over(t.c, req.job, 2 * PIECE);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(what_is_live_goes_elsewhere_and_the_segment_is_freed),
		T(what_died_meanwhile_is_left_out_and_a_repeat_moves_nothing),
		T(nothing_is_moved_to_where_it_must_not_be),
		T(an_open_segment_is_not_emptied),
		T(a_table_of_sums_goes_by_itself),
		T(a_renamed_object_is_still_moved),
		T(a_reader_finds_under_its_hold_where_the_bytes_went),
		T(the_deadest_segment_is_told_first_and_not_twice),
		T(bytes_of_an_ended_job_are_not_moved),
		T(a_move_needs_no_room_in_the_quota),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
