/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a bill is the sum of its stages, in whatever order they end. Method: reports made by
 * hand, printed as JSON into memory and read again.
 */
#include "test.h"

#include <stdlib.h>

#include "report.h"

static json_t *printed(struct report *r)
{
	char *text;
	size_t len;
	FILE *to = open_memstream(&text, &len);
	json_t *root;

	report_print_json(r, to);
	fclose(to);
	root = json_loads(text, 0, NULL);
	free(text);
	assert_true(json_is_object(root));
	return root;
}

static void stage_set(struct report *r, enum stage_id stage, uint64_t gb_s)
{
	r->stages[stage].functions = 1;
	r->stages[stage].usage.is_known = true;
	r->stages[stage].usage.dram_byte_ms = (u128)gb_s * 1000000000000;
}

static double stage_gb_s(const json_t *root, size_t index)
{
	return json_real_value(
		json_object_get(json_array_get(json_object_get(root, "stages"), index), "gb_s"));
}

static void a_mapper_that_ends_behind_the_reducers_takes_nothing_from_them(void **state)
{
	struct report *r = calloc(1, sizeof(*r));
	json_t *root;

	r->platform = "process";
	r->platform_len = 7;
	r->store = "wadi";
	r->total_ns = 1000000000;
	stage_set(r, STAGE_SAMPLE, 1);
	stage_set(r, STAGE_MAP, 7);
	stage_set(r, STAGE_REDUCE, 4);
	stage_set(r, STAGE_VALIDATE, 9);
	root = printed(r);
	assert_true(stage_gb_s(root, 0) == 1);
	assert_true(stage_gb_s(root, 1) == 6);
	assert_true(stage_gb_s(root, 2) == 0);
	assert_true(stage_gb_s(root, 3) == 2);
	json_decref(root);

	stage_set(r, STAGE_REDUCE, 8);
	root = printed(r);
	assert_true(stage_gb_s(root, 2) == 1);
	assert_true(stage_gb_s(root, 3) == 1);
	json_decref(root);
	free(r);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mapper_that_ends_behind_the_reducers_takes_nothing_from_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
