/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a function finds what the proxy has put, as it was put, and nothing that was
 * dropped, has expired, or is of a table or a lease that is over. Method: one of each in one
 * process, over the same pages; then many operations beside a naive array.
 */
#include "shm_index.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/node.h"

static void what_is_put_is_found_as_it_was_put(void **state)
{
	struct indexed x;
	struct index_item item = { .mapping = 5,
				   .offset = 4096,
				   .len = 1ull << 40,
				   .version = 3,
				   .object = 0x1122334455667788,
				   .committed_ns = (uint64_t)-5,
				   .seed = 0x99aabbccddeeff00,
				   .crc = 0x12345678,
				   .extent_count = 65536,
				   .tier = 2 };
	struct index_look look;

	indexed_open(&x, 4096);
	index_writer_end_life(&x.writer, 5);
	assert_int_equal(index_writer_put(&x.writer, hash_of("a/b"), &item), 0);
	assert_int_equal(index_reader_find(&x.viewer.index, hash_of("a/b"), &look), 0);
	assert_int_equal(index_reader_check(&x.viewer.index, &look, 999), 0);
	assert_int_equal(look.item.mapping, 5);
	assert_int_equal(look.item.life, 1);
	assert_int_equal(look.item.offset, 4096);
	assert_int_equal(look.item.len, 1ull << 40);
	assert_int_equal(look.item.version, 3);
	assert_int_equal(look.item.expiry_ns, 0);
	assert_int_equal(look.item.object, 0x1122334455667788);
	assert_int_equal(look.item.committed_ns, (uint64_t)-5);
	assert_int_equal(look.item.seed, 0x99aabbccddeeff00);
	assert_int_equal(look.item.crc, 0x12345678);
	assert_int_equal(look.item.extent_count, 65536);
	assert_int_equal(look.item.tier, 2);
	assert_int_equal(found(&x, "a/c", 0), 0);
	indexed_close(&x);
}

static void what_was_dropped_or_replaced_is_not_found(void **state)
{
	struct indexed x;
	struct index_look look;

	indexed_open(&x, 4096);
	assert_false(index_writer_drop(&x.writer, hash_of("a")));
	assert_int_equal(put(&x, "a", 1, 7), 0);
	assert_int_equal(found(&x, "a", 0), 7);
	assert_int_equal(index_reader_find(&x.viewer.index, hash_of("a"), &look), 0);
	assert_int_equal(put(&x, "a", 2, 8), 0);
	assert_int_equal(index_reader_check(&x.viewer.index, &look, 0), -ENOENT);
	assert_int_equal(found(&x, "a", 0), 8);

	assert_int_equal(index_reader_find(&x.viewer.index, hash_of("a"), &look), 0);
	assert_true(index_writer_drop(&x.writer, hash_of("a")));
	assert_false(index_writer_drop(&x.writer, hash_of("a")));
	assert_int_equal(found(&x, "a", 0), 0);
	/* The same again is not what was found. */
	assert_int_equal(put(&x, "a", 2, 8), 0);
	assert_int_equal(index_reader_check(&x.viewer.index, &look, 0), -ENOENT);
	assert_int_equal(found(&x, "a", 0), 8);
	assert_int_equal(x.writer.now.live, 1);
	indexed_close(&x);
}

static void an_older_version_takes_nobodys_place(void **state)
{
	struct indexed x;

	indexed_open(&x, 4096);
	assert_int_equal(put(&x, "a", 1, 7), 0);
	assert_int_equal(put(&x, "a", 2, 6), 0);
	assert_int_equal(found(&x, "a", 0), 7);
	/* Nor is it in the list of that mapping. */
	assert_true(index_writer_drop_mapping(&x.writer, 2));
	assert_int_equal(found(&x, "a", 0), 7);
	assert_true(index_writer_drop_mapping(&x.writer, 1));
	assert_int_equal(found(&x, "a", 0), 0);
	indexed_close(&x);
}

static void nothing_is_answered_from_the_end_of_the_lease_on(void **state)
{
	struct indexed x;

	indexed_open(&x, 4096);
	assert_int_equal(put(&x, "a", 1, 7), 0);
	assert_int_equal(found(&x, "a", 999), 7);
	assert_int_equal(found(&x, "a", 1000), 0);
	assert_int_equal(index_reader_lease(&x.viewer.index), 1000);
	index_writer_lease(&x.writer, 1001);
	assert_int_equal(index_reader_lease(&x.viewer.index), 1001);
	assert_int_equal(found(&x, "a", 1000), 7);
	indexed_close(&x);
}

static void an_entry_expires(void **state)
{
	struct indexed x;
	struct index_item item = { .mapping = 1, .version = 9, .expiry_ns = 500 };

	indexed_open(&x, 4096);
	assert_int_equal(index_writer_put(&x.writer, hash_of("a"), &item), 0);
	assert_int_equal(found(&x, "a", 499), 9);
	assert_int_equal(found(&x, "a", 500), 0);
	indexed_close(&x);
}

static const char *name(unsigned i)
{
	static char buf[16];

	snprintf(buf, sizeof(buf), "o%u", i);
	return buf;
}

static unsigned found_of(const struct indexed *x, unsigned count)
{
	unsigned n = 0;

	for (unsigned i = 0; i < count; i++)
		n += found(x, name(i), 0) == i + 1;
	return n;
}

static void a_full_index_forgets_one_for_each_new_one(void **state)
{
	struct indexed x;

	indexed_open(&x, 4096); /* 31 entries */
	for (unsigned i = 0; i < 23; i++)
		assert_int_equal(put(&x, name(i), i % MAPPINGS, i + 1), 0);
	assert_false(index_writer_is_full(&x.writer));
	for (unsigned i = 23; i < 1000; i++) {
		assert_int_equal(put(&x, name(i), i % MAPPINGS, i + 1), 0);
		assert_int_equal(found(&x, name(i), 0), i + 1);
	}
	assert_true(index_writer_is_full(&x.writer));
	assert_int_equal(x.writer.now.live, 31);
	assert_int_equal(found_of(&x, 1000), 31);
	for (unsigned i = 0; i < MAPPINGS; i++)
		assert_true(index_writer_drop_mapping(&x.writer, i));
	assert_int_equal(x.writer.now.live, 0);
	assert_int_equal(found_of(&x, 1000), 0);
	indexed_close(&x);
}

static void all_entries_of_a_mapping_are_dropped_in_steps(void **state)
{
	struct indexed x;

	indexed_open(&x, 512u << 10); /* 4,095 entries */
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(put(&x, name(i), i % 2, i + 1), 0);
	assert_int_equal(found_of(&x, 1000), 1000);
	assert_false(index_writer_drop_mapping(&x.writer, 0));
	assert_int_equal(found_of(&x, 1000), 1000 - 256); /* INDEX_STEP */
	assert_true(index_writer_drop_mapping(&x.writer, 0));
	assert_int_equal(found_of(&x, 1000), 500);
	for (unsigned i = 1; i < 1000; i += 2)
		assert_int_equal(found(&x, name(i), 0), i + 1);
	assert_true(index_writer_drop_mapping(&x.writer, 0));
	assert_true(index_writer_drop_mapping(&x.writer, 12345));
	indexed_close(&x);
}

static void a_larger_table_has_all_that_the_old_one_had(void **state)
{
	struct indexed x;
	struct region old, larger = region_make(128u << 10);

	indexed_open(&x, 64u << 10); /* 511 entries */
	for (unsigned i = 0; i < 130; i++)
		assert_int_equal(put(&x, name(i), i % MAPPINGS, i + 1), 0);
	assert_int_equal(index_writer_grow(&x.writer, larger.memory.ptr, 64u << 10), -EINVAL);
	assert_int_equal(index_writer_grow(&x.writer, larger.memory.ptr, 128u << 10), 0);
	assert_int_equal(index_writer_grow(&x.writer, larger.memory.ptr, 128u << 10), -EBUSY);
	assert_false(index_writer_copy(&x.writer)); /* 256 of 511 */
	/* Meanwhile: the old one answers, and what changes does so in both. */
	assert_int_equal(put(&x, name(130), 3, 131), 0);
	assert_true(index_writer_drop(&x.writer, hash_of(name(0))));
	assert_true(index_writer_drop(&x.writer, hash_of(name(129))));
	assert_true(index_writer_drop_mapping(&x.writer, 17)); /* 17 and 81 */
	assert_int_equal(found_of(&x, 131), 127);
	assert_true(index_writer_copy(&x.writer));
	assert_int_equal(found_of(&x, 131), 0);

	struct index_look look;
	assert_int_equal(index_reader_find(&x.viewer.index, hash_of(name(1)), &look), 0);
	assert_int_equal(index_reader_check(&x.viewer.index, &look, 0), -ESTALE);
	assert_int_equal(index_reader_table(&x.viewer.index, larger.read_only, 128u << 10), 0);
	assert_int_equal(found_of(&x, 131), 127);
	assert_int_equal(x.writer.now.live, 127);
	old = x.table;
	x.table = larger;
	region_free(&old);
	assert_true(index_writer_copy(&x.writer)); /* there is nothing to do */
	indexed_close(&x);
}

static void a_new_proxy_begins_with_an_empty_table_and_no_lease(void **state)
{
	struct indexed x;
	struct region old;
	struct index_look look;

	indexed_open(&x, 4096);
	index_writer_end_life(&x.writer, 3);
	assert_int_equal(put(&x, "a", 3, 7), 0);
	assert_int_equal(index_reader_find(&x.viewer.index, hash_of("a"), &look), 0);

	/* Killed: nobody closes it. */
	node_free(x.writer.now.links);
	node_free(x.writer.now.first);
	old = x.table;
	x.table = region_make(4096);
	assert_int_equal(
		index_writer_open(&x.writer, x.head.memory.ptr, 4096, x.table.memory.ptr, 4096, 78),
		0);
	assert_int_equal(index_reader_check(&x.viewer.index, &look, 0), -ESTALE);
	assert_int_equal(index_reader_table(&x.viewer.index, x.table.read_only, 4096), 0);
	assert_int_equal(x.viewer.index.seed, 78);
	/* Mappings live on. */
	assert_int_equal(index_writer_life(&x.writer, 3), 1);
	assert_int_equal(put(&x, "a", 3, 8), 0);
	assert_int_equal(found(&x, "a", 0), 0);
	index_writer_lease(&x.writer, 1);
	assert_int_equal(found(&x, "a", 0), 8);
	region_free(&old);
	indexed_close(&x);
}

/* It was handed out too early, and its proxy killed. */
static void a_table_that_was_never_finished_is_never_believed(void **state)
{
	struct region unfinished = region_make(8192), next = region_make(4096);
	struct index_writer successor;
	struct indexed x;
	struct index_look look;

	indexed_open(&x, 4096);
	assert_int_equal(index_writer_grow(&x.writer, unfinished.memory.ptr, 8192), 0);
	assert_int_equal(put(&x, "a", 3, 7), 0);
	assert_int_equal(
		index_writer_open(&successor, x.head.memory.ptr, 4096, next.memory.ptr, 4096, 77),
		0);
	index_writer_lease(&successor, 1000);
	assert_int_equal(index_reader_table(&x.viewer.index, unfinished.read_only, 8192), 0);
	assert_int_equal(index_reader_find(&x.viewer.index, hash_of("a"), &look), 0);
	assert_int_equal(index_reader_check(&x.viewer.index, &look, 0), -ESTALE);
	index_writer_close(&successor);
	region_free(&next);
	indexed_close(&x);
	region_free(&unfinished);
}

static void a_closed_index_answers_nothing(void **state)
{
	struct indexed x;
	struct index_look look;

	indexed_open(&x, 4096);
	assert_int_equal(put(&x, "a", 3, 7), 0);
	assert_int_equal(index_reader_find(&x.viewer.index, hash_of("a"), &look), 0);
	index_writer_close(&x.writer);
	assert_int_equal(index_reader_check(&x.viewer.index, &look, 0), -ESTALE);
	index_writer_close(&x.writer);
	indexed_close(&x);
}

/* The sequence of the only entry as a writer leaves it that is killed in between. */
static void an_entry_that_was_begun_is_none(void **state)
{
	struct indexed x;
	struct index_entry *e;
	struct index_look look;

	indexed_open(&x, 4096);
	assert_int_equal(put(&x, "a", 3, 7), 0);
	e = (struct index_entry *)x.table.memory.ptr + 1 + index_place(hash_of("a").lo, 31, 0);
	assert_int_equal(atomic_load(&e->sequence), 2);
	assert_int_equal(index_reader_find(&x.viewer.index, hash_of("a"), &look), 0);
	atomic_store(&e->sequence, 3);
	assert_int_equal(index_reader_check(&x.viewer.index, &look, 0), -ENOENT);
	assert_int_equal(found(&x, "a", 0), 0);
	assert_int_equal(put(&x, "a", 3, 7), 0);
	assert_int_equal(atomic_load(&e->sequence), 4);
	assert_int_equal(found(&x, "a", 0), 7);
	indexed_close(&x);
}

static void what_is_no_index_is_refused(void **state)
{
	struct indexed x;
	struct index_reader r;
	struct index_writer w;
	uint64_t *table;

	indexed_open(&x, 8192);
	table = (uint64_t *)x.table.memory.ptr;
	assert_int_equal(index_reader_open(&r, x.head.read_only, 63), -EBADMSG);
	assert_int_equal(index_reader_open(&r, x.table.read_only, 4096), -EBADMSG);
	assert_int_equal(index_reader_open(&r, x.head.read_only, 64), 0);
	assert_int_equal(r.mapping_count, 0);
	/* INDEX_TABLE_BYTES_MIN, INDEX_TABLE_BYTES_MAX */
	assert_int_equal(index_reader_table(&r, x.table.read_only, 4095), -EBADMSG);
	assert_int_equal(index_reader_table(&r, x.table.read_only, (64u << 20) + 128), -EBADMSG);
	assert_int_equal(index_reader_table(&r, x.head.read_only, 4096), -EBADMSG);
	assert_int_equal(index_reader_table(&r, x.table.read_only, 4096), 0);
	assert_int_equal(r.count, 31);
	table[0]++;
	assert_int_equal(index_reader_table(&r, x.table.read_only, 4096), -EBADMSG);
	assert_int_equal(index_writer_open(&w, x.head.memory.ptr, 63, table, 4096, 1), -EINVAL);
	assert_int_equal(index_writer_open(&w, x.head.memory.ptr, 64, table, 4095, 1), -EINVAL);
	assert_int_equal(index_writer_open(&w, x.head.memory.ptr, 64, table, (64u << 20) + 128, 1),
			 -EINVAL);
	index_writer_close(&w);
	indexed_close(&x);
}

static void *no_memory(struct node *n, size_t size)
{
	return NULL;
}

static void *no_more_memory(struct node *n, void *p, size_t size)
{
	return NULL;
}

static void without_memory_nothing_is_put_and_nothing_lost(void **state)
{
	static struct node empty = { .alloc = no_memory, .resize = no_more_memory };
	struct region larger = region_make(8192);
	struct index_writer w;
	struct indexed x;

	indexed_open(&x, 4096);
	assert_int_equal(put(&x, "a", 0, 7), 0);
	node_current = &empty;
	assert_int_equal(index_writer_open(&w, x.head.memory.ptr, 4096, larger.memory.ptr, 8192, 1),
			 -ENOMEM);
	assert_int_equal(index_writer_grow(&x.writer, larger.memory.ptr, 8192), -ENOMEM);
	assert_int_equal(put(&x, "b", 16, 7), -ENOMEM); /* the list of a 17th mapping */
	assert_int_equal(put(&x, "c", 15, 7), 0);
	node_current = NULL;
	assert_int_equal(found(&x, "a", 0), 7);
	assert_int_equal(found(&x, "b", 0), 0);
	assert_int_equal(found(&x, "c", 0), 7);

	/* In both tables or in none: the next one must not come with what is old by then. */
	assert_int_equal(index_writer_grow(&x.writer, larger.memory.ptr, 8192), 0);
	node_current = &empty;
	assert_int_equal(put(&x, "a", 1, 8), -ENOMEM);
	node_current = NULL;
	assert_int_equal(found(&x, "a", 0), 0);
	assert_true(index_writer_copy(&x.writer));
	assert_int_equal(index_reader_table(&x.viewer.index, larger.read_only, 8192), 0);
	assert_int_equal(found(&x, "a", 0), 0);
	assert_int_equal(found(&x, "c", 0), 7);
	region_free(&x.table);
	x.table = larger;
	indexed_close(&x);
}

/* Beside an array: what is found is the latest version, and lies where it was put. */
#define PATHS 400

struct naive {
	uint64_t version;
	uint32_t mapping;
};

static uint64_t dice = 1;

static unsigned roll(unsigned below)
{
	dice = dice * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(dice >> 33) % below;
}

static void change(struct indexed *x, struct naive naive[PATHS], uint64_t version)
{
	unsigned i = roll(PATHS), mapping = roll(MAPPINGS);

	switch (roll(20)) {
	case 0:
		while (!index_writer_drop_mapping(&x->writer, mapping))
			;
		for (i = 0; i < PATHS; i++)
			if (naive[i].mapping == mapping)
				naive[i].version = 0;
		break;
	case 1:
	case 2:
		index_writer_drop(&x->writer, hash_of(name(i)));
		naive[i].version = 0;
		break;
	default:
		assert_int_equal(put(x, name(i), mapping, version), 0);
		naive[i] = (struct naive){ version, mapping };
	}
}

static unsigned compare(const struct indexed *x, const struct naive naive[PATHS])
{
	struct index_look look;
	unsigned count = 0;

	for (unsigned i = 0; i < PATHS; i++) {
		if (index_reader_find(&x->viewer.index, hash_of(name(i)), &look) < 0)
			continue;
		assert_int_equal(look.item.version, naive[i].version);
		assert_int_equal(look.item.mapping, naive[i].mapping);
		count++;
	}
	return count;
}

static void many_operations_are_as_an_array_has_them(void **state)
{
	static struct naive naive[PATHS];
	struct indexed x;

	indexed_open(&x, 16u << 10); /* 127 entries */
	for (unsigned n = 1; n <= 30000; n++) {
		change(&x, naive, n);
		if (n % 97 == 0)
			assert_int_equal(compare(&x, naive), x.writer.now.live);
		if (n % 5000 == 0 && n <= 15000) {
			struct region larger = region_make(x.table.memory.size * 2);

			assert_int_equal(
				index_writer_grow(&x.writer, larger.memory.ptr, larger.memory.size),
				0);
			while (!index_writer_copy(&x.writer))
				change(&x, naive, ++n);
			region_free(&x.table);
			x.table = larger;
			assert_int_equal(index_reader_table(&x.viewer.index, larger.read_only,
							    larger.memory.size),
					 0);
			assert_int_equal(compare(&x, naive), x.writer.now.live);
		}
	}
	assert_int_equal(x.writer.now.count, 1023);
	assert_true(x.writer.now.live > PATHS / 2);
	indexed_close(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_is_found_as_it_was_put),
		cmocka_unit_test(what_was_dropped_or_replaced_is_not_found),
		cmocka_unit_test(an_older_version_takes_nobodys_place),
		cmocka_unit_test(nothing_is_answered_from_the_end_of_the_lease_on),
		cmocka_unit_test(an_entry_expires),
		cmocka_unit_test(a_full_index_forgets_one_for_each_new_one),
		cmocka_unit_test(all_entries_of_a_mapping_are_dropped_in_steps),
		cmocka_unit_test(a_larger_table_has_all_that_the_old_one_had),
		cmocka_unit_test(a_new_proxy_begins_with_an_empty_table_and_no_lease),
		cmocka_unit_test(a_table_that_was_never_finished_is_never_believed),
		cmocka_unit_test(a_closed_index_answers_nothing),
		cmocka_unit_test(an_entry_that_was_begun_is_none),
		cmocka_unit_test(what_is_no_index_is_refused),
		cmocka_unit_test(without_memory_nothing_is_put_and_nothing_lost),
		cmocka_unit_test(many_operations_are_as_an_array_has_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
