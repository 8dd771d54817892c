/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: memory, clocks and dice come from the current node, or from the machine if
 * there is none; the allocation that is to fail fails, and only that. Method: a node
 * of the test's own that writes down what it is asked.
 */
#include "test.h"

#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "base/node.h"

static size_t asked_size;
static void *asked_ptr;
static unsigned alloc_count, resize_count, free_count;

static void *note_alloc(struct node *n, size_t size)
{
	alloc_count++;
	asked_size = size;
	return calloc(1, size);
}

static void *note_resize(struct node *n, void *p, size_t size)
{
	resize_count++;
	asked_size = size;
	asked_ptr = p;
	return realloc(p, size);
}

static void note_free(struct node *n, void *p)
{
	free_count++;
	asked_ptr = p;
	free(p);
}

static uint64_t fixed_now(struct node *n)
{
	return 5;
}

static uint64_t fixed_wall(struct node *n)
{
	return 7;
}

static void fixed_random(struct node *n, void *buf, size_t len)
{
	memset(buf, 0xab, len);
}

static const struct node NOTING = {
	.alloc = note_alloc,
	.resize = note_resize,
	.free = note_free,
	.now_ns = fixed_now,
	.wall_ns = fixed_wall,
	.random = fixed_random,
};

static int setup(void **state)
{
	alloc_count = resize_count = free_count = 0;
	return 0;
}

static int teardown(void **state)
{
	node_current = NULL;
	return 0;
}

static void everything_is_asked_of_the_current_node(void **state)
{
	struct node n = NOTING;
	uint8_t bytes[3];
	void *p;

	node_current = &n;
	p = node_alloc(100);
	assert_int_equal(asked_size, 100);
	p = node_resize(p, 200);
	assert_int_equal(asked_size, 200);
	assert_null(node_free(p));
	assert_ptr_equal(asked_ptr, p);
	assert_int_equal(alloc_count + resize_count + free_count, 3);
	assert_null(node_free(NULL));
	assert_int_equal(free_count, 1);
	assert_int_equal(node_now_ns(), 5);
	assert_int_equal(node_wall_ns(), 7);
	node_random(bytes, sizeof(bytes));
	assert_memory_equal(bytes, "\xab\xab\xab", 3);
	assert_true(node_random_u64() == 0xababababababababu);
}

static void no_node_is_the_machine_itself(void **state)
{
	uint8_t *p = node_alloc(1000), zeroes[1000] = { 0 };
	uint64_t now_ns = node_now_ns(), first = node_random_u64();

	assert_memory_equal(p, zeroes, 1000);
	p[999] = 1;
	p = node_resize(p, 2000);
	assert_int_equal(p[999], 1);
	assert_null(node_free(p));
	assert_null(node_free(NULL));
	assert_true(node_now_ns() >= now_ns && now_ns > 0);
	assert_true(node_wall_ns() / 1000000000 - (uint64_t)time(NULL) + 1 <= 2);
	assert_true(first != node_random_u64());
}

static void no_bytes_are_still_an_allocation(void **state)
{
	struct node n = NOTING;
	void *p = node_alloc(0);

	assert_non_null(p);
	p = node_resize(p, 0);
	assert_non_null(p);
	node_free(p);
	node_current = &n;
	p = node_alloc(0);
	assert_non_null(p);
	assert_int_equal(asked_size, 1);
	node_free(p);
}

static void the_nth_allocation_fails_and_no_other(void **state)
{
	for (uint64_t n = 1; n <= 6; n++) {
		struct node failing = { .fail_countdown = n };
		void *all[6];

		node_current = &failing;
		for (uint64_t i = 1; i <= 6; i++) {
			/* Every other one by resizing, which counts the same and loses nothing. */
			void *p = i % 2 ? NULL : malloc(8);
			void *more = i % 2 ? node_alloc(8) : node_resize(p, 16);

			assert_int_equal(more == NULL, i == n);
			all[i - 1] = more ? more : p;
		}
		for (int i = 0; i < 6; i++)
			node_free(all[i]);
		assert_int_equal(failing.fail_countdown, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(everything_is_asked_of_the_current_node, setup,
						teardown),
		cmocka_unit_test_setup_teardown(no_node_is_the_machine_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(no_bytes_are_still_an_allocation, setup, teardown),
		cmocka_unit_test_setup_teardown(the_nth_allocation_fails_and_no_other, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
