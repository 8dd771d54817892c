/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: memory of requests is used again, warmest first, and no more is kept than is said.
 * Method: a node whose allocator counts.
 */
#include "test.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/spares.h"

static unsigned alive;
static bool is_empty;

static void *count_alloc(struct node *n, size_t size)
{
	if (is_empty)
		return NULL;
	alive++;
	return calloc(1, size);
}

static void count_free(struct node *n, void *p)
{
	alive--;
	free(p);
}

static struct node node = { .alloc = count_alloc, .free = count_free };

static int setup(void **state)
{
	node_current = &node;
	alive = 0;
	is_empty = false;
	return 0;
}

static int teardown(void **state)
{
	node_current = NULL;
	return 0;
}

static void what_was_given_last_is_taken_first(void **state)
{
	struct spares s = { 0 };
	char *a = spares_take(&s, 100), *b = spares_take(&s, 100);

	assert_int_equal(alive, 2);
	spares_give(&s, a, 100);
	spares_give(&s, b, 100);
	spares_give(&s, NULL, 100);
	is_empty = true;
	assert_ptr_equal(spares_take(&s, 100), b);
	assert_ptr_equal(spares_take(&s, 100), a);
	assert_null(spares_take(&s, 100));
	spares_give(&s, a, 100);
	spares_give(&s, b, 100);
	spares_fini(&s, 100);
	assert_int_equal(alive, 0);
}

static void no_more_is_kept_than_is_said(void **state)
{
	struct spares s = { 0 };
	void *all[300];

	for (int i = 0; i < 300; i++)
		all[i] = spares_take(&s, 16);
	assert_int_equal(alive, 300);
	for (int i = 0; i < 300; i++)
		spares_give(&s, all[i], 16);
	assert_int_equal(alive, 128); /* SPARES_MAX */
	spares_fini(&s, 16);
	assert_int_equal(alive, 0);
	assert_null(s.first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_was_given_last_is_taken_first, setup,
						teardown),
		cmocka_unit_test_setup_teardown(no_more_is_kept_than_is_said, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
