/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: cold and warm starts are told apart, and what is counted of them is what a run took
 * beyond its function. Method: tasks with replies made by hand, all results as literals.
 */
#include "test.h"

#include <stdlib.h>

#include "starts.h"

static uint64_t add(struct starts_all *s, int run, int wall_ns, int took_ns, int attach_ns)
{
	struct task t = { .start_ns = 1000, .init_ns = run == 1 ? 30 : 0 };
	uint64_t r;

	t.end_ns = t.start_ns + (uint64_t)took_ns;
	t.refused_count = 1;
	t.reply = json_pack("{si si}", "run", run, "wall_ns", wall_ns);
	if (attach_ns >= 0)
		json_object_set_new(t.reply, "attach_ns", json_integer(attach_ns));
	r = starts_add(s, &t);
	json_decref(t.reply);
	return r;
}

static void the_first_run_of_an_instance_is_cold(void **state)
{
	struct starts_all *s = calloc(1, sizeof(*s));

	assert_int_equal(add(s, 1, 60, 100, 10), 40);
	assert_int_equal(add(s, 1, 80, 200, 30), 120);
	assert_int_equal(add(s, 1, 99, 100, -1), 1);
	assert_int_equal(add(s, 2, 60, 64, 0), 0);
	assert_int_equal(add(s, 7, 60, 62, 5), 0);
	assert_int_equal(add(s, 8, 60, 50, -1), 0); /* clocks differ */

	assert_int_equal(s->cold.beyond.count, 3);
	assert_int_equal(times_median_ns(&s->cold.beyond), 40);
	assert_int_equal(times_median_ns(&s->cold.init), 30);
	assert_int_equal(s->warm.beyond.count, 3);
	assert_int_equal(times_median_ns(&s->warm.beyond), 2);
	assert_int_equal(s->warm.init.count, 0);
	assert_int_equal(times_median_ns(&s->warm.init), 0);
	assert_int_equal(s->refused_count, 6);
	free(s);
}

static void who_attached_is_told_from_who_kept_the_way(void **state)
{
	struct starts_all *s = calloc(1, sizeof(*s));

	add(s, 1, 60, 100, 10);
	add(s, 2, 60, 300, 30);
	add(s, 3, 60, 200, 20);
	add(s, 4, 60, 70, 0);
	add(s, 5, 60, 90, -1); /* has no store */
	assert_int_equal(s->attach.count, 3);
	assert_int_equal(times_median_ns(&s->attach), 20);
	assert_int_equal(s->attached_ns, 60);
	assert_int_equal(s->fresh_ns, 600);
	assert_int_equal(s->store_ns, 670);
	assert_int_equal(s->kept_count, 1);
	free(s);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_run_of_an_instance_is_cold),
		cmocka_unit_test(who_attached_is_told_from_who_kept_the_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
