/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a mapping has a number in one index at most, and none of an index that is no more. Method:
 * mappings without memory, and two viewers.
 */
#include "test.h"

#include "attach/near.h"
#include "shm/view.h"

#define COUNT 4

static struct near near;
static struct viewer viewers[2];
static struct mapping mappings[COUNT], *numbered[2][COUNT];
static _Atomic uint32_t pins[2][COUNT];

static int setup(void **state)
{
	memset(mappings, 0, sizeof(mappings));
	memset(numbered, 0, sizeof(numbered));
	memset(pins, 0, sizeof(pins));
	list_init(&near.mappings);
	for (unsigned i = 0; i < COUNT; i++)
		list_insert(&near.mappings, &mappings[i].link);
	for (unsigned i = 0; i < 2; i++)
		viewers[i] = (struct viewer){ .pins = pins_of(pins[i], sizeof(pins[i])),
					      .mappings = numbered[i],
					      .mapping_count = COUNT };
	return 0;
}

static void of_a_viewer_that_is_no_more_nothing_is_left(void **state)
{
	assert_true(mapping_bind(&mappings[0], &viewers[0], 2, 1));
	assert_true(mapping_bind(&mappings[1], &viewers[1], 2, 1));
	assert_true(mapping_bind(&mappings[3], &viewers[0], 0, 1));
	assert_ptr_equal(numbered[0][0], &mappings[3]);
	mappings_unbind(&near, &viewers[0]);
	assert_null(mappings[0].viewer);
	assert_null(mappings[3].viewer);
	assert_null(numbered[0][0]);
	assert_null(numbered[0][2]);
	assert_ptr_equal(mappings[1].viewer, &viewers[1]);
	assert_ptr_equal(numbered[1][2], &mappings[1]);
}

static void what_is_viewed_keeps_its_number(void **state)
{
	assert_true(mapping_bind(&mappings[0], &viewers[0], 2, 1));
	pins_take(&viewers[0].pins, 2);
	assert_false(mapping_bind(&mappings[0], &viewers[1], 3, 1));
	assert_ptr_equal(numbered[0][2], &mappings[0]);
	pins_give(&viewers[0].pins, 2);
	assert_true(mapping_bind(&mappings[0], &viewers[1], 3, 1));
	assert_null(numbered[0][2]);
	assert_ptr_equal(numbered[1][3], &mappings[0]);
}

/* What had it before was revoked, or the number would not be given again. */
static void a_number_that_is_given_again_is_of_the_last_one(void **state)
{
	assert_true(mapping_bind(&mappings[0], &viewers[0], 2, 1));
	assert_true(mapping_bind(&mappings[1], &viewers[0], 2, 2));
	assert_null(mappings[0].viewer);
	assert_ptr_equal(numbered[0][2], &mappings[1]);
}

#define T(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(of_a_viewer_that_is_no_more_nothing_is_left),
		T(what_is_viewed_keeps_its_number),
		T(a_number_that_is_given_again_is_of_the_last_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
