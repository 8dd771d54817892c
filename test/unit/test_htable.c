/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a table finds what was added and not removed, at every moment of its growth,
 * and does without memory to grow. Method: random steps beside a plain array of
 * flags; allocations fail on request.
 */
#include "test.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/container.h"
#include "base/hash.h"
#include "base/htable.h"
#include "base/node.h"

#define COUNT 3000

struct item {
	struct hlink link;
	bool is_in;
	unsigned seen_count;
};

static struct htable table;
static struct item items[COUNT];

/* Some items share a hash, so that chains are told apart by more than the hash. */
static uint64_t hash_of(const struct item *i)
{
	uint64_t key = (uint64_t)(i - items) / 3;

	return hash_64(&key, sizeof(key), 42);
}

static bool is_found(const struct item *i)
{
	for (struct hlink *l = htable_first(&table, hash_of(i)); l; l = htable_next(l))
		if (l == &i->link)
			return true;
	return false;
}

static void add(struct item *i)
{
	htable_add(&table, &i->link, hash_of(i));
	i->is_in = true;
}

static void take(struct item *i)
{
	htable_remove(&table, &i->link);
	i->is_in = false;
}

/* Finding, counting and walking agree with the flags. */
static void check_all(void)
{
	struct hlink *l = NULL;
	size_t at = 0, count = 0;

	for (int i = 0; i < COUNT; i++)
		items[i].seen_count = 0;
	while ((l = htable_walk(&table, &at, l)))
		container_of(l, struct item, link)->seen_count++;
	for (int i = 0; i < COUNT; i++) {
		assert_int_equal(items[i].seen_count, items[i].is_in);
		assert_int_equal(is_found(&items[i]), items[i].is_in);
		count += items[i].is_in;
	}
	assert_int_equal(table.count, count);
}

static int setup(void **state)
{
	table = (struct htable){ 0 };
	memset(items, 0, sizeof(items));
	return 0;
}

static int teardown(void **state)
{
	node_current = NULL;
	htable_fini(&table);
	return 0;
}

static void an_empty_table_has_nothing(void **state)
{
	size_t at = 0;

	assert_null(htable_first(&table, 1));
	assert_null(htable_walk(&table, &at, NULL));
	assert_int_equal(htable_reserve(&table), 0);
	assert_int_equal(htable_reserve(&table), 0);
	assert_null(htable_first(&table, 1));
	check_all();
}

static void all_are_found_at_every_moment_of_growth(void **state)
{
	bool has_been_between = false;

	assert_int_equal(htable_reserve(&table), 0);
	for (int i = 0; i < COUNT; i++) {
		add(&items[i]);
		has_been_between |= table.old != NULL;
		if (i < 300 || i % 100 == 0)
			check_all();
	}
	check_all();
	assert_true(has_been_between);
	assert_true(table.mask + 1 >= COUNT / 2);
	for (int i = 0; i < COUNT; i++)
		take(&items[i]);
	check_all();
}

static void what_is_removed_while_it_grows_is_gone(void **state)
{
	unsigned seed = 99;

	assert_int_equal(htable_reserve(&table), 0);
	for (int step = 0; step < 60000; step++) {
		struct item *i = &items[rand_r(&seed) % COUNT];

		if (i->is_in && rand_r(&seed) % 3 == 0)
			take(i);
		else if (!i->is_in)
			add(i);
		if (step < 2000 ? table.old != NULL : step % 2000 == 0)
			check_all();
	}
	check_all();
}

/* One pass finds each of them, whatever stage of growth it is in. */
static void a_table_is_emptied_in_one_pass(void **state)
{
	assert_int_equal(htable_reserve(&table), 0);
	for (size_t count = 0; count <= COUNT; count = 2 * count + 1) {
		size_t at = 0, found = 0;
		struct hlink *l;

		for (size_t i = 0; i < count; i++)
			add(&items[i]);
		while ((l = htable_any(&table, &at)) != NULL) {
			htable_remove(&table, l);
			found++;
		}
		assert_int_equal(found, count);
		assert_int_equal(table.count, 0);
	}
}

static void no_memory_to_begin_is_an_error_and_no_memory_to_grow_is_none(void **state)
{
	struct node failing = { .fail_countdown = 1 };

	node_current = &failing;
	assert_int_equal(htable_reserve(&table), -ENOMEM);
	assert_int_equal(htable_reserve(&table), 0);
	for (int i = 0; i < COUNT; i++) {
		failing.fail_countdown = 1;
		add(&items[i]);
	}
	assert_int_equal(table.mask, 15);
	check_all();
	failing.fail_countdown = 0;
	take(&items[0]);
	add(&items[0]);
	assert_true(table.mask > 15);
	check_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_empty_table_has_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(all_are_found_at_every_moment_of_growth, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_table_is_emptied_in_one_pass, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_removed_while_it_grows_is_gone, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			no_memory_to_begin_is_an_error_and_no_memory_to_grow_is_none, setup,
			teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
