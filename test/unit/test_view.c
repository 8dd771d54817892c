/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a view is of what the entry says, inside of what the function has mapped, and keeps its
 * mapping; and whatever the other side has written, nobody leaves his memory or believes too much.
 * Method: both sides in one process; then random bytes in each word that the other one
 * reads; then threads that read while the proxy replaces, reuses and revokes.
 */
#include "shm_index.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "base/limits.h"

static uint8_t bytes[4096];

static void map(struct indexed *x, uint32_t mapping, uint64_t len)
{
	x->mappings[mapping] = (struct mapping){ .ptr = bytes,
						 .len = len,
						 .life = index_writer_life(&x->writer, mapping) };
	x->viewer.mappings[mapping] = &x->mappings[mapping];
}

static uint32_t pins_in(const struct indexed *x, uint32_t mapping)
{
	return atomic_load(&x->viewer.pins.counts[mapping]);
}

static int view_of(const struct indexed *x, const char *path, struct view *ret)
{
	return view_get(&x->viewer, hash_of(path), 0, ret);
}

static void a_view_pins_its_mapping_until_its_release(void **state)
{
	struct indexed x;
	struct view first, second;

	indexed_open(&x, 4096);
	map(&x, 3, 4096);
	assert_int_equal(view_of(&x, "a", &first), -ENOENT);
	assert_int_equal(put(&x, "a", 3, 7), 0);
	assert_int_equal(view_of(&x, "a", &first), 0);
	assert_ptr_equal(first.ptr, bytes + 64);
	assert_int_equal(first.item.len, 100);
	assert_int_equal(first.item.version, 7);
	assert_int_equal(pins_in(&x, 3), 1);
	assert_int_equal(view_of(&x, "a", &second), 0);
	assert_int_equal(pins_in(&x, 3), 2);

	assert_false(pins_reclaim(&x.writer, 3, &x.viewer.pins, 1));
	assert_int_equal(view_of(&x, "a", &second), -ENOENT);
	assert_int_equal(pins_in(&x, 3), 2);
	assert_int_equal(view_release(&x.viewer, &second), 0);
	assert_false(pins_reclaim(&x.writer, 3, &x.viewer.pins, 1));
	assert_int_equal(view_release(&x.viewer, &first), 0);
	assert_int_equal(pins_in(&x, 3), 0);
	assert_true(pins_reclaim(&x.writer, 3, &x.viewer.pins, 1));
	indexed_close(&x);
}

static void what_fails_leaves_no_pin(void **state)
{
	struct indexed x;
	struct view view;

	indexed_open(&x, 4096);
	map(&x, 3, 4096);
	assert_int_equal(put(&x, "a", 3, 7), 0);
	assert_int_equal(view_get(&x.viewer, hash_of("a"), 1000, &view), -ENOENT);
	assert_int_equal(view_get(&x.viewer, hash_of("a"), 999, &view), 0);
	assert_int_equal(view_release(&x.viewer, &view), 0);
	index_writer_close(&x.writer);
	assert_int_equal(view_of(&x, "a", &view), -ESTALE);
	assert_int_equal(pins_in(&x, 3), 0);
	indexed_close(&x);
}

/* To map it would not help, however often. */
static void what_is_not_mapped_is_looked_for_in_the_new_table(void **state)
{
	struct indexed x;
	struct view view;

	indexed_open(&x, 4096);
	assert_int_equal(put(&x, "a", 3, 7), 0);
	assert_int_equal(view_get(&x.viewer, hash_of("a"), 1000, &view), -ENOENT);
	assert_int_equal(view_get(&x.viewer, hash_of("a"), 999, &view), -ENXIO);
	index_writer_close(&x.writer);
	assert_int_equal(view_of(&x, "a", &view), -ESTALE);
	assert_int_equal(pins_in(&x, 3), 0);
	indexed_close(&x);
}

/* Else who gets nothing that was there before would never hear of it. */
static void what_was_never_there_is_looked_for_in_the_new_table(void **state)
{
	struct indexed x;
	struct view view;

	indexed_open(&x, 4096);
	assert_int_equal(view_of(&x, "a", &view), -ENOENT);
	index_writer_close(&x.writer);
	assert_int_equal(view_of(&x, "a", &view), -ESTALE);
	indexed_close(&x);
}

static void a_mapping_has_to_be_made_first_and_again_for_its_next_life(void **state)
{
	struct indexed x;
	struct view view;

	indexed_open(&x, 4096);
	assert_int_equal(put(&x, "a", 3, 7), 0);
	assert_int_equal(view_of(&x, "a", &view), -ENXIO);
	assert_int_equal(view.item.mapping, 3);
	assert_int_equal(view.item.life, 0);
	map(&x, 3, 4096);
	assert_int_equal(view_of(&x, "a", &view), 0);
	assert_int_equal(view_release(&x.viewer, &view), 0);

	assert_true(pins_reclaim(&x.writer, 3, &x.viewer.pins, 1));
	index_writer_end_life(&x.writer, 3);
	assert_int_equal(put(&x, "b", 3, 8), 0);
	assert_int_equal(view_of(&x, "b", &view), -ENXIO);
	assert_int_equal(view.item.life, 1);
	assert_int_equal(put(&x, "c", MAPPINGS, 8), 0); /* a larger table of mappings is needed */
	assert_int_equal(view_of(&x, "c", &view), -ENXIO);
	assert_int_equal(pins_in(&x, 3), 0);
	indexed_close(&x);
}

static void a_revoked_view_says_so_at_its_release(void **state)
{
	struct indexed x;
	struct view view;

	indexed_open(&x, 4096);
	map(&x, 3, 4096);
	assert_int_equal(put(&x, "a", 3, 7), 0);
	assert_int_equal(view_of(&x, "a", &view), 0);
	assert_true(index_writer_drop_mapping(&x.writer, 3));
	index_writer_end_life(&x.writer, 3);
	assert_int_equal(view_release(&x.viewer, &view), -ESTALE);
	assert_int_equal(pins_in(&x, 3), 0);
	indexed_close(&x);
}

static void a_view_is_inside_of_its_mapping(void **state)
{
	static const struct {
		uint64_t offset, len;
		int result;
	} CASES[] = {
		{ 0, 4096, 0 },
		{ 4096, 0, 0 },
		{ 0, 4097, -ENOENT },
		{ 4097, 0, -ENOENT },
		{ 1, 4096, -ENOENT },
		{ UINT64_MAX, 1, -ENOENT },
		{ 1, UINT64_MAX, -ENOENT },
		{ UINT64_MAX - 4095, 4096, -ENOENT },
	};
	struct indexed x;
	struct view view;

	indexed_open(&x, 4096);
	map(&x, 3, 4096);
	for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
		struct index_item item = { .mapping = 3,
					   .offset = CASES[i].offset,
					   .len = CASES[i].len,
					   .version = i + 1 };

		assert_int_equal(index_writer_put(&x.writer, hash_of("a"), &item), 0);
		assert_int_equal(view_of(&x, "a", &view), CASES[i].result);
		if (CASES[i].result < 0)
			continue;
		assert_ptr_equal(view.ptr, bytes + CASES[i].offset);
		assert_int_equal(view_release(&x.viewer, &view), 0);
	}
	assert_int_equal(pins_in(&x, 3), 0);
	indexed_close(&x);
}

static void any_of_the_functions_keeps_a_mapping(void **state)
{
	static _Atomic uint32_t counts[3][4];
	const struct pins functions[] = { { counts[0], 4 }, { counts[1], 4 }, { counts[2], 3 } };
	struct indexed x;

	indexed_open(&x, 4096);
	atomic_store(&counts[2][3], 1); /* behind its end */
	assert_true(pins_reclaim(&x.writer, 3, functions, 3));
	pins_take(&functions[1], 3);
	assert_false(pins_reclaim(&x.writer, 3, functions, 3));
	assert_true(pins_reclaim(&x.writer, 2, functions, 3));
	assert_true(pins_reclaim(&x.writer, 3, functions, 1));
	/* It has no place for this one, so it was never given it. */
	assert_true(pins_reclaim(&x.writer, 3, functions + 2, 1));
	pins_give(&functions[1], 3);
	assert_true(pins_reclaim(&x.writer, 3, functions, 3));
	indexed_close(&x);
}

/* What a function may write there: it keeps its mapping, and nothing else becomes of it. */
static void a_pin_is_none_or_one_whatever_its_count(void **state)
{
	static const uint32_t LIES[] = { 1, 2, 0x7fffffff, 0x80000000, UINT32_MAX };
	struct indexed x;

	indexed_open(&x, 4096);
	assert_int_equal(put(&x, "a", 3, 7), 0);
	for (size_t i = 0; i < sizeof(LIES) / sizeof(LIES[0]); i++) {
		atomic_store(&x.viewer.pins.counts[3], LIES[i]);
		assert_false(pins_reclaim(&x.writer, 3, &x.viewer.pins, 1));
		assert_true(pins_reclaim(&x.writer, 2, &x.viewer.pins, 1));
		assert_true(pins_reclaim(&x.writer, 4, &x.viewer.pins, 1));
		assert_int_equal(pins_in(&x, 3), LIES[i]);
	}
	atomic_store(&x.viewer.pins.counts[3], 0);
	assert_true(pins_reclaim(&x.writer, 3, &x.viewer.pins, 1));
	indexed_close(&x);
}

static uint64_t dice = 1;

static uint64_t roll(void)
{
	dice = dice * 6364136223846793005ull + 1442695040888963407ull;
	return dice ^ dice >> 31;
}

static uint64_t a_word(void)
{
	static const uint64_t EDGES[] = { 0, 1, 64, 100, 4096, UINT64_MAX, 1ull << 63, 1ull << 32 };

	return roll() % 2 ? EDGES[roll() % 8] : roll() >> roll() % 64;
}

/* A view of memory that is no longer than it says, so that a sanitizer sees one byte more. */
static void whatever_an_index_has_a_view_is_inside_of_a_mapping(void **state)
{
	struct indexed x;
	struct view view;
	uint64_t *words;
	unsigned views = 0;

	indexed_open(&x, 4096);
	for (uint32_t i = 0; i < MAPPINGS; i++) {
		map(&x, i, roll() % 4097);
		x.mappings[i].life = (uint32_t)(roll() % 2);
	}
	assert_int_equal(put(&x, "a", 3, 7), 0);
	words = (uint64_t *)((struct index_entry *)x.table.memory.ptr + 1 +
			     index_place(hash_of("a").lo, 31, 0));
	for (unsigned i = 0; i < 200000; i++) {
		unsigned which = (unsigned)(roll() % (3 + WORD_COUNT));
		int r;

		words[which] = a_word();
		if (roll() % 4) { /* else nothing is ever found */
			words[0] = roll() & ~1ull;
			words[1] = hash_of("a").lo;
			words[2] = hash_of("a").hi;
		}
		if (roll() % 2)
			words[3 + WORD_PLACE] = roll() % (MAPPINGS + 8) | (roll() % 2) << 32;
		r = view_of(&x, "a", &view);
		if (r < 0) {
			assert_true(r == -ENOENT || r == -ENXIO);
			continue;
		}
		views++;
		assert_true(view.item.mapping < MAPPINGS);
		assert_true(view.ptr >= bytes &&
			    view.item.len <= x.mappings[view.item.mapping].len);
		assert_true(view.ptr + view.item.len <= bytes + x.mappings[view.item.mapping].len);
		view_release(&x.viewer, &view);
	}
	assert_true(views > 1000);
	for (uint32_t i = 0; i < MAPPINGS; i++)
		assert_int_equal(pins_in(&x, i), 0);
	indexed_close(&x);
}

/* A function that could write to its index, too, spoils it and nothing of the proxy's. */
static void whatever_a_table_has_the_proxy_goes_on(void **state)
{
	struct indexed x;
	char path[8];

	indexed_open(&x, 4096);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t *words = (uint64_t *)x.table.memory.ptr;

		words[16 + roll() % (4096 / 8 - 16)] = a_word();
		snprintf(path, sizeof(path), "o%u", (unsigned)(roll() % 40));
		if (roll() % 3)
			assert_int_equal(put(&x, path, roll() % MAPPINGS, i + 1), 0);
		else
			(void)index_writer_drop(&x.writer, hash_of(path));
		if (roll() % 8 == 0)
			(void)pins_reclaim(&x.writer, roll() % MAPPINGS, &x.viewer.pins, 1);
	}
	for (uint32_t i = 0; i < MAPPINGS; i++)
		assert_true(pins_reclaim(&x.writer, i, &x.viewer.pins, 1));
	assert_int_equal(x.writer.now.live, 0);
	indexed_close(&x);
}

/*
 * Threads. Objects are 64 bytes, each its version; the proxy writes them into segments that it
 * uses again as soon as nobody reads them, plainly, so that TSan sees who comes too early.
 */
#define SEGMENTS 4
#define SLOTS    64
#define READERS  2
#define ROUNDS   3000

static struct storm {
	struct index_writer writer;
	struct viewer viewers[READERS];
	struct mapping mappings[SEGMENTS], *all[SEGMENTS];
	uint64_t segments[SEGMENTS][SLOTS][8];
	atomic_bool is_over;
	atomic_uint seen, wrong, reclaimed;
} * storm;

static void look_at(const struct viewer *v, const struct view *view)
{
	const uint64_t *words = (const uint64_t *)view->ptr;

	for (unsigned i = 0; i < 8; i++)
		if (words[i] != view->item.version)
			atomic_fetch_add(&storm->wrong, 1);
	atomic_fetch_add(&storm->seen, 1);
	if (view_release(v, view) != 0)
		atomic_fetch_add(&storm->wrong, 1);
}

static void *reads(void *arg)
{
	const struct viewer *v = arg;
	struct view view;
	char path[8];

	for (unsigned i = 0; !atomic_load(&storm->is_over); i++) {
		snprintf(path, sizeof(path), "o%u", i % SLOTS);
		if (view_get(v, hash_of(path), 0, &view) == 0)
			look_at(v, &view);
	}
	return NULL;
}

static void fill(uint32_t segment, uint64_t *version)
{
	char path[8];

	for (unsigned i = 0; i < SLOTS; i++) {
		struct index_item item = {
			.mapping = segment, .offset = i * 64, .len = 64, .version = ++*version
		};

		for (unsigned k = 0; k < 8; k++)
			storm->segments[segment][i][k] = *version;
		snprintf(path, sizeof(path), "o%u", i);
		assert_int_equal(index_writer_put(&storm->writer, hash_of(path), &item), 0);
	}
}

static void nobody_reads_bytes_that_are_used_again(void **state)
{
	static _Alignas(128) uint8_t head[128], table[16384], counts[READERS][4096];
	struct pins functions[READERS];
	pthread_t threads[READERS];
	uint64_t version = 0;

	storm = calloc(1, sizeof(*storm));
	assert_non_null(storm);
	assert_int_equal(index_writer_open(&storm->writer, head, 128, table, 16384, 77), 0);
	index_writer_lease(&storm->writer, 1);
	for (unsigned i = 0; i < SEGMENTS; i++) {
		storm->mappings[i] = (struct mapping){ .ptr = (uint8_t *)storm->segments[i],
						       .len = sizeof(storm->segments[i]) };
		storm->all[i] = &storm->mappings[i];
	}
	for (unsigned i = 0; i < READERS; i++) {
		struct viewer *v = &storm->viewers[i];

		functions[i] = pins_of(counts[i], sizeof(counts[i]));
		*v = (struct viewer){ .pins = functions[i],
				      .mappings = storm->all,
				      .mapping_count = SEGMENTS };
		assert_int_equal(index_reader_open(&v->index, head, 128), 0);
		assert_int_equal(index_reader_table(&v->index, table, 16384), 0);
		assert_int_equal(pthread_create(&threads[i], NULL, reads, v), 0);
	}
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint32_t segment = round % SEGMENTS;

		while (!pins_reclaim(&storm->writer, segment, functions, READERS))
			;
		atomic_fetch_add(&storm->reclaimed, 1);
		fill(segment, &version);
	}
	atomic_store(&storm->is_over, true);
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&storm->wrong), 0);
	assert_true(atomic_load(&storm->seen) > 0);
	assert_int_equal(atomic_load(&storm->reclaimed), ROUNDS);
	index_writer_close(&storm->writer);
	free(storm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_view_pins_its_mapping_until_its_release),
		cmocka_unit_test(what_fails_leaves_no_pin),
		cmocka_unit_test(what_is_not_mapped_is_looked_for_in_the_new_table),
		cmocka_unit_test(what_was_never_there_is_looked_for_in_the_new_table),
		cmocka_unit_test(a_mapping_has_to_be_made_first_and_again_for_its_next_life),
		cmocka_unit_test(a_revoked_view_says_so_at_its_release),
		cmocka_unit_test(a_view_is_inside_of_its_mapping),
		cmocka_unit_test(any_of_the_functions_keeps_a_mapping),
		cmocka_unit_test(a_pin_is_none_or_one_whatever_its_count),
		cmocka_unit_test(whatever_an_index_has_a_view_is_inside_of_a_mapping),
		cmocka_unit_test(whatever_a_table_has_the_proxy_goes_on),
		cmocka_unit_test(nobody_reads_bytes_that_are_used_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
