/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: names come in byte order, whatever was added and removed in between, and a seek
 * finds its place. Method: a sorted array beside it.
 */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/container.h"
#include "base/hash.h"
#include "meta/index.h"

#define COUNT 2000

struct thing {
	struct index_link link;
	char name[24];
	bool is_in;
};

static struct slice key(const struct index_link *l)
{
	const struct thing *t = container_of((struct index_link *)l, struct thing, link);

	return (struct slice){ (const uint8_t *)t->name, strlen(t->name) };
}

static uint64_t priority(const struct index_link *l)
{
	struct slice k = key(l);

	return hash_64(k.ptr, k.len, 1);
}

static const struct index_ops OPS = { key, priority };

static const char *name_of(const struct index_link *l)
{
	return l ? container_of((struct index_link *)l, struct thing, link)->name : NULL;
}

static struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

static void a_name_comes_before_those_that_it_begins(void **state)
{
	assert_true(slice_compare(text("a"), text("ab")) < 0);
	assert_true(slice_compare(text("ab"), text("a")) > 0);
	assert_true(slice_compare(text("a/b"), text("a-b")) > 0);
	assert_true(slice_compare(text("\xc3"), text("z")) > 0);
	assert_int_equal(slice_compare(text(""), text("")), 0);
	assert_true(slice_begins_with(text("a/b"), text("a/")));
	assert_false(slice_begins_with(text("a"), text("a/")));
	assert_true(slice_begins_with(text("a"), text("")));
}

static void a_seek_finds_the_first_that_is_not_below(void **state)
{
	struct thing things[3] = { { .name = "b" }, { .name = "d" }, { .name = "f" } };
	struct index x = { .ops = &OPS };

	assert_null(index_first(&x));
	for (int i = 0; i < 3; i++)
		index_add(&x, &things[(i + 1) % 3].link);
	assert_string_equal(name_of(index_first(&x)), "b");
	assert_string_equal(name_of(index_seek(&x, text("c"), false)), "d");
	assert_string_equal(name_of(index_seek(&x, text("d"), false)), "d");
	assert_string_equal(name_of(index_seek(&x, text("d"), true)), "f");
	assert_null(index_seek(&x, text("f"), true));
	assert_null(index_seek(&x, text("g"), false));
}

static void one_takes_the_place_of_another(void **state)
{
	struct thing things[3] = { { .name = "b" }, { .name = "d" }, { .name = "f" } };
	struct thing other = { .name = "d" };
	struct index x = { .ops = &OPS };

	for (int i = 0; i < 3; i++)
		index_add(&x, &things[i].link);
	index_replace(&x, &things[1].link, &other.link);
	assert_ptr_equal(index_seek(&x, text("d"), false), &other.link);
	assert_ptr_equal(index_next(&things[0].link), &other.link);
	assert_ptr_equal(index_next(&other.link), &things[2].link);
	index_remove(&x, &other.link);
	assert_ptr_equal(index_next(&things[0].link), &things[2].link);
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct thing *const *)a)->name, (*(struct thing *const *)b)->name);
}

static void compare_all(const struct index *x, struct thing **sorted)
{
	const struct index_link *l = index_first(x);
	unsigned n = 0;

	for (int i = 0; i < COUNT; i++) {
		if (!sorted[i]->is_in)
			continue;
		n++;
		assert_ptr_equal(l, &sorted[i]->link);
		l = index_next(l);
	}
	assert_null(l);
	assert_true(n > 0);
}

static unsigned depth_of(const struct index_link *l)
{
	unsigned n = 0;

	for (; l; l = l->parent)
		n++;
	return n;
}

static void what_is_added_and_removed_at_random_stays_in_order(void **state)
{
	struct thing *things = calloc(COUNT, sizeof(*things)), **sorted;
	struct index x = { .ops = &OPS };
	unsigned deepest = 0;

	sorted = calloc(COUNT, sizeof(*sorted));
	srand(7);
	for (int i = 0; i < COUNT; i++) {
		snprintf(things[i].name, sizeof(things[i].name), "%d/%d", i % 50, i);
		sorted[i] = &things[i];
	}
	qsort(sorted, COUNT, sizeof(*sorted), by_name);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < COUNT; i++) {
			struct thing *t = &things[rand() % COUNT];

			if (t->is_in)
				index_remove(&x, &t->link);
			else
				index_add(&x, &t->link);
			t->is_in = !t->is_in;
		}
		compare_all(&x, sorted);
	}
	for (int i = 0; i < COUNT; i++)
		if (things[i].is_in && depth_of(&things[i].link) > deepest)
			deepest = depth_of(&things[i].link);
	assert_true(deepest < 40);
	free(things);
	free(sorted);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_comes_before_those_that_it_begins),
		cmocka_unit_test(a_seek_finds_the_first_that_is_not_below),
		cmocka_unit_test(one_takes_the_place_of_another),
		cmocka_unit_test(what_is_added_and_removed_at_random_stays_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
