/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the top of a heap is always the soonest. Method: thousands of random steps
 * on a heap and on a plain array, which is searched from end to end.
 */
#include "test.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/heap.h"

#define COUNT 500

static struct heap heap;
static struct heap_link links[COUNT];

static uint64_t soonest(void)
{
	uint64_t due = UINT64_MAX;

	for (int i = 0; i < COUNT; i++)
		if (heap_has(&links[i]) && links[i].due < due)
			due = links[i].due;
	return due;
}

static int setup(void **state)
{
	heap = (struct heap){ 0 };
	memset(links, 0, sizeof(links));
	return 0;
}

static void an_empty_heap_has_no_top(void **state)
{
	assert_null(heap_top(&heap));
	heap_remove(&heap, &links[0]);
	assert_null(heap_top(&heap));
	heap_add(&heap, &links[0], 7);
	assert_ptr_equal(heap_top(&heap), &links[0]);
	assert_true(heap_has(&links[0]));
	heap_remove(&heap, &links[0]);
	assert_null(heap_top(&heap));
	assert_false(heap_has(&links[0]));
}

/* Few different due times, so that there are many equal ones, too. */
static void the_top_is_the_soonest_whatever_was_added_and_removed(void **state)
{
	unsigned seed = 20240607;

	for (int step = 0; step < 50000; step++) {
		/* Growing and shrinking in turns, so that it is full at times and empty at others.
		 */
		int add_percent = step / 5000 % 2 ? 30 : 70;
		struct heap_link *l = &links[rand_r(&seed) % COUNT];
		struct heap_link *top;

		if (rand_r(&seed) % 100 >= add_percent)
			heap_remove(&heap,
				    rand_r(&seed) % 2 && heap_top(&heap) ? heap_top(&heap) : l);
		else if (!heap_has(l))
			heap_add(&heap, l, (uint64_t)(rand_r(&seed) % 1000));

		top = heap_top(&heap);
		assert_int_equal(top ? top->due : UINT64_MAX, soonest());
	}
}

static void all_come_out_in_order(void **state)
{
	uint64_t last = 0;
	unsigned seed = 1;
	int count = 0;

	for (int i = 0; i < COUNT; i++)
		heap_add(&heap, &links[i], (uint64_t)(rand_r(&seed) % 100));
	for (struct heap_link *l; (l = heap_top(&heap)); count++) {
		assert_true(l->due >= last);
		last = l->due;
		heap_remove(&heap, l);
		assert_false(heap_has(l));
	}
	assert_int_equal(count, COUNT);
}

static void the_same_steps_give_the_same_order(void **state)
{
	int order[2][COUNT];

	for (int run = 0; run < 2; run++) {
		setup(NULL);
		for (int i = 0; i < COUNT; i++)
			heap_add(&heap, &links[i], (uint64_t)(i % 3));
		for (int i = 0; i < COUNT; i++) {
			order[run][i] = (int)(heap_top(&heap) - links);
			heap_remove(&heap, heap_top(&heap));
		}
	}
	assert_memory_equal(order[0], order[1], sizeof(order[0]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(an_empty_heap_has_no_top, setup),
		cmocka_unit_test_setup(the_top_is_the_soonest_whatever_was_added_and_removed,
				       setup),
		cmocka_unit_test_setup(all_come_out_in_order, setup),
		cmocka_unit_test_setup(the_same_steps_give_the_same_order, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
