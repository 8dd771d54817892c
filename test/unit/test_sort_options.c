/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a command line becomes what was meant, or one sentence that says what to type.
 * Method: lines as arrays, all messages as literals.
 */
#include "test.h"

#include <errno.h>

#include "options.h"

#define ARGS(...) ((const char *[]){ "sort", __VA_ARGS__, NULL })

static int parse(const char *const *argv, struct options *o, struct problem *problem)
{
	int argc = 0;

	while (argv[argc])
		argc++;
	*problem = (struct problem){ 0 };
	return options_parse(argc, argv, o, problem);
}

static void values_come_beside_an_option_or_behind_an_equals_sign(void **state)
{
	struct problem problem;
	struct options o;

	assert_int_equal(parse(ARGS("--generate", "3M", "--maps=7", "--timeout", "2m", "--json",
				    "--function-memory=64M", "--skew=zipf"),
			       &o, &problem),
			 0);
	assert_int_equal(o.generate, 3 << 20);
	assert_int_equal(o.maps, 7);
	assert_int_equal(o.reduces, 0);
	assert_int_equal(o.timeout_ms, 120000);
	assert_int_equal(o.function_memory, 64 << 20);
	assert_int_equal(o.skew, SKEW_ZIPF);
	assert_true(o.is_json);
	assert_false(o.is_kept);
	options_fini(&o);
}

static void what_was_not_said_has_a_default(void **state)
{
	struct problem problem;
	struct options o;

	assert_int_equal(parse(ARGS("--input", "a", "--input=b"), &o, &problem), 0);
	assert_int_equal(o.input.count, 2);
	assert_string_equal(o.input.list[0], "a");
	assert_string_equal(o.input.list[1], "b");
	assert_int_equal(o.function_memory, 256 << 20);
	assert_int_equal(o.timeout_ms, 300000);
	assert_int_equal(o.format, FORMAT_RECORDS);
	assert_null(o.store);
	options_fini(&o);
}

static void a_wrong_word_is_answered_with_the_nearest_right_one(void **state)
{
	static const struct {
		const char *argv[6];
		const char *want;
	} cases[] = {
		{ { "sort", "--map", "3" }, "no option --map; the nearest is --maps" },
		{ { "sort", "--reducers=3" }, "no option --reducers; the nearest is --reduces" },
		{ { "sort", "--generate", "1M", "--skew=zip" },
		  "--skew has no 'zip'; the nearest is 'zipf' of uniform|zipf|equal" },
		{ { "sort", "--format", "line" },
		  "--format has no 'line'; the nearest is 'lines' of records|lines" },
		{ { "sort", "--generate", "1M", "--platform", "proces" },
		  "--platform has no 'proces'; the nearest is 'process' of "
		  "process|openwhisk|lambda|http|https" },
		{ { "sort", "--generate", "1M", "--platform", "openwhisk" },
		  "'openwhisk' is no place of OpenWhisk's; one is "
		  "openwhisk://HOST[:PORT][/ACTION][?image=IMAGE]" },
		{ { "sort", "--generate", "1M", "--platform", "lambda" },
		  "'lambda' is no function of Lambda's; one is lambda://FUNCTION[:QUALIFIER]" },
		{ { "sort", "--generate", "1M", "--platform", "http:///sort" },
		  "'http:///sort' is no function behind HTTP; one is http://HOST[:PORT][/PATH]" },
		{ { "sort", "--generate", "1M", "--platform", "process:7" },
		  "--platform process has no place, and 'process:7' has one" },
		{ { "sort", "--generate=1M", "--function-endpoint=tcp://a:1", "--store=dir:x" },
		  "--function-endpoint is where Wadi is, and --store is dir:x" },
		{ { "sort", "--generate=1M", "--auth=a:b", "--auth-file=f" },
		  "--auth and --auth-file: only one of them" },
		{ { "sort", "--generate=1M", "--platform=process", "--store=memory:" },
		  "--store memory: is for threads of this process, and no --platform reaches it" },
		{ { "sort", "file" }, "'file' is no option; a file to sort is --input file" },
		{ { "sort", "--maps" }, "--maps wants a value: N" },
		{ { "sort", "--json=yes" }, "--json takes no value" },
		{ { "sort", "--maps", "0" }, "--maps takes a number from 1 to 1000, not '0'" },
		{ { "sort", "--maps", "-1" }, "--maps takes a number from 1 to 1000, not '-1'" },
		{ { "sort", "--function-memory", "1M" },
		  "--function-memory takes a size as 64M from 32M to 4G, not '1M'" },
		{ { "sort", "--generate", "1X" },
		  "--generate takes a size as 64M from 100 to 64T, not '1X'" },
		{ { "sort", "--timeout", "soon" },
		  "--timeout takes a time as 30s from 100ms to 24h, not 'soon'" },
		{ { "sort" }, "nothing to sort: --generate SIZE or --input PATH" },
		{ { "sort", "--generate", "1M", "--input=x" },
		  "--generate and --input: only one of them" },
		{ { "sort", "--generate", "1M", "--format=lines" },
		  "--generate makes records, not lines" },
		{ { "sort", "--generate", "1M", "--attach=sidcar" },
		  "--attach has no 'sidcar'; the nearest is 'sidecar' of "
		  "host|proxy|direct|sidecar" },
		{ { "sort", "--generate", "1M", "--store=reddis://h:1" },
		  "--store has no 'reddis://h:1'; the nearest is 'redis://' of "
		  "wadi|redis://|dir:|memory:" },
		{ { "sort", "--generate", "1M", "--store=dir:x", "--attach=host" },
		  "--attach is how to reach Wadi, and --store is dir:x" },
		{ { "sort", "--generate", "1M", "--store=wady" },
		  "--store has no 'wady'; the nearest is 'wadi' of wadi|redis://|dir:|memory:" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct problem problem;
		struct options o;

		assert_int_equal(parse(cases[i].argv, &o, &problem), -EINVAL);
		assert_string_equal(problem.text, cases[i].want);
	}
}

static void stores_are_taken_by_how_they_begin(void **state)
{
	static const char *const stores[] = { "--store=wadi", "--store=redis://localhost:1",
					      "--store=redis:///tmp/s?part=1M",
					      "--store=dir:/tmp" };

	for (size_t i = 0; i < 4; i++) {
		struct problem problem;
		struct options o;

		assert_int_equal(parse(ARGS("--generate=1M", stores[i]), &o, &problem), 0);
		options_fini(&o);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_come_beside_an_option_or_behind_an_equals_sign),
		cmocka_unit_test(what_was_not_said_has_a_default),
		cmocka_unit_test(a_wrong_word_is_answered_with_the_nearest_right_one),
		cmocka_unit_test(stores_are_taken_by_how_they_begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
