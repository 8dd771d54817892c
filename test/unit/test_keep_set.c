/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a keeper's list holds as many regions as KEEP_REGIONS_MAX says and no more, each is found
 * under its name, and what a predecessor left is gone through in its order. Method: entries without
 * descriptors, of which a process would have fewer.
 */
#include "test.h"

#include <errno.h>

#include "base/limits.h"
#include "base/node.h"
#include "shm/keep_set.h"

static struct keep_set set;

static int teardown(void **state)
{
	keep_set_fini(&set);
	return 0;
}

/* Each once, and not in order: 40503 is odd. */
static struct keep_name name_of(unsigned i)
{
	unsigned n = i * 40503u % KEEP_REGIONS_MAX;

	return (struct keep_name){ .kind = (uint16_t)(1 + n % 2),
				   .owner = (uint16_t)(n / 2 % 3),
				   .number = n };
}

static void add(struct keep_name name, bool is_found)
{
	keep_set_add(&set, &(struct kept){ .name = name, .fd = -1, .is_found = is_found });
}

static void there_are_so_many_and_each_is_found(void **state)
{
	for (unsigned i = 0; i < KEEP_REGIONS_MAX; i++) {
		assert_int_equal(keep_set_reserve(&set), 0);
		assert_null(keep_set_get(&set, name_of(i)));
		add(name_of(i), false);
	}
	assert_int_equal(keep_set_reserve(&set), -ENOSPC);
	for (unsigned i = 1; i < KEEP_REGIONS_MAX; i++)
		assert_true(keep_name_compare(set.list[i - 1].name, set.list[i].name) < 0);
	for (unsigned i = 0; i < KEEP_REGIONS_MAX; i++) {
		struct kept *k = keep_set_get(&set, name_of(i));

		assert_non_null(k);
		assert_int_equal(keep_name_compare(k->name, name_of(i)), 0);
	}
	keep_set_remove(&set, keep_set_get(&set, name_of(7)));
	assert_null(keep_set_get(&set, name_of(7)));
	assert_non_null(keep_set_get(&set, name_of(8)));
	assert_int_equal(keep_set_reserve(&set), 0);
}

static void without_memory_it_has_what_it_had(void **state)
{
	struct node node = { 0 };
	unsigned count;
	int r;

	do {
		r = keep_set_reserve(&set);
		assert_int_equal(r, 0);
		add(name_of(set.count), false);
	} while (set.count < set.cap);
	count = set.count;
	node_current = &node;
	node.fail_countdown = 1;
	r = keep_set_reserve(&set);
	node_current = NULL;
	assert_int_equal(r, -ENOMEM);
	assert_int_equal(set.count, count);
	for (unsigned i = 0; i < count; i++)
		assert_non_null(keep_set_get(&set, name_of(i)));
	assert_int_equal(keep_set_reserve(&set), 0);
}

static void what_was_found_is_gone_through_by_kind_and_owner(void **state)
{
	static const struct {
		struct keep_name name;
		bool is_found;
	} all[] = {
		{ { .kind = 1, .owner = 5, .number = 9 }, true },
		{ { .kind = 1, .owner = 5, .number = 2 }, true },
		{ { .kind = 1, .owner = 5, .number = 4 }, false },
		{ { .kind = 1, .owner = 6, .number = 1 }, true },
		{ { .kind = 2, .owner = 5, .number = 3 }, true },
	};
	struct keep_name from = { .kind = 1, .owner = 5 }, name;

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		assert_int_equal(keep_set_reserve(&set), 0);
		add(all[i].name, all[i].is_found);
	}
	assert_true(keep_set_find(&set, from, &name));
	assert_int_equal(name.number, 2);
	from.number = 3; /* the next is behind one that somebody has taken */
	assert_true(keep_set_find(&set, from, &name));
	assert_int_equal(name.number, 9);
	from.number = 10;
	assert_false(keep_set_find(&set, from, &name));
	from = (struct keep_name){ .kind = 2, .owner = 6 };
	assert_false(keep_set_find(&set, from, &name));
	assert_int_equal(keep_set_from(&set, from), 5);
}

#define T(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(there_are_so_many_and_each_is_found),
		T(without_memory_it_has_what_it_had),
		T(what_was_found_is_gone_through_by_kind_and_owner),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
