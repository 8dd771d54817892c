/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what OpenWhisk says becomes a reply, a refusal or a failure, whatever it says, and
 * what is said to it is what it takes. Method: places, bodies and actions as literals.
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "openwhisk.h"

static void a_place_has_a_scheme_a_host_and_perhaps_an_action(void **state)
{
	static const struct {
		const char *url, *base, *action, *image;
		bool is_ours;
	} cases[] = {
		{ "openwhisk://127.0.0.1:3233", "http://127.0.0.1:3233/api/v1/namespaces/_",
		  "wadi-sort", "openwhisk/actionloop-base", true },
		{ "openwhisk://[::1]:1/", "http://[::1]:1/api/v1/namespaces/_", "wadi-sort",
		  "openwhisk/actionloop-base", true },
		{ "openwhisk://whisk.example", "https://whisk.example/api/v1/namespaces/_",
		  "wadi-sort", "openwhisk/actionloop-base", true },
		{ "openwhisk+https://127.0.0.1:1", "https://127.0.0.1:1/api/v1/namespaces/_",
		  "wadi-sort", "openwhisk/actionloop-base", true },
		{ "openwhisk+http://whisk:80/mine", "http://whisk:80/api/v1/namespaces/_", "mine",
		  "openwhisk/actionloop-base", false },
		{ "openwhisk://localhost/package/mine", "http://localhost/api/v1/namespaces/_",
		  "package/mine", "openwhisk/actionloop-base", false },
		{ "openwhisk://localhost?image=host:5000/a/b:1",
		  "http://localhost/api/v1/namespaces/_", "wadi-sort", "host:5000/a/b:1", true },
	};
	static const char *const bad[] = {
		"openwhisk",
		"openwhisk://",
		"openwhisk:///a",
		"openwhisk://a b",
		"openwhisk://u:p@host",
		"openwhisk://host/a b",
		"openwhisk://host?x",
		"openwhisk://host?image=",
		"openwhisk://host/a?image=b",
		"openwhisk://host/?#",
		"openwhisk://host/a#b",
	};
	struct problem problem;
	struct openwhisk w;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		problem = (struct problem){ 0 };
		assert_int_equal(openwhisk_parse(cases[i].url, &w, &problem), 0);
		assert_string_equal(w.base, cases[i].base);
		assert_string_equal(w.action, cases[i].action);
		assert_string_equal(w.image, cases[i].image);
		assert_int_equal(w.is_ours, cases[i].is_ours);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		problem = (struct problem){ 0 };
		assert_int_equal(openwhisk_parse(bad[i], &w, &problem), -EINVAL);
		assert_non_null(strstr(problem.text, "is no place of OpenWhisk's"));
	}
}

static void an_answer_is_a_reply_or_what_became_of_it(void **state)
{
	static const struct {
		const char *body, *id, *output, *said, *log;
		int r;
		uint64_t init_ns;
	} cases[] = {
		{ "{\"activationId\":\"0a1b\",\"response\":{\"status\":\"success\",\"result\":{"
		  "\"count\":3}},\"annotations\":[{\"key\":\"waitTime\",\"value\":9},{\"key\":"
		  "\"initTime\",\"value\":12}],\"logs\":[\"a\",7,\"b\"]}",
		  "0a1b", "{\"count\":3}", "success", "a\nb", 0, 12000000 },
		{ "{\"activationId\":\"0a1b\",\"response\":{\"status\":\"application error\","
		  "\"result\":{\"error\":\"no\",\"is_final\":true}}}",
		  "0a1b", "{\"error\":\"no\",\"is_final\":true}", "application error: no", "", 0,
		  0 },
		{ "{\"response\":{\"status\":\"action developer error\",\"result\":{\"error\":"
		  "\"The action exceeded its time limits of 60000 milliseconds.\"}}}",
		  "", NULL,
		  "action developer error: The action exceeded its time limits of 60000 "
		  "milliseconds.",
		  "", -ETIMEDOUT, 0 },
		{ "{\"response\":{\"status\":\"whisk internal "
		  "error\",\"result\":{\"error\":\"x\"}}}",
		  "", NULL, "whisk internal error: x", "", -ECHILD, 0 },
		{ "{\"response\":{}}", "", NULL, "", "", -ECHILD, 0 },
		{ "{\"response\":{\"status\":\"success\"}}", "", NULL, "success", "", -ECHILD, 0 },
		{ "{\"activationId\":\"44794bd6\"}", "44794bd6", NULL, "", "", 0, 0 },
		{ "{\"activationId\":\"../x\"}", "", NULL, "", "", 0, 0 },
		{ "{\"activationId\":7,\"logs\":{},\"annotations\":3}", "", NULL, "", "", 0, 0 },
		{ "{\"error\":\"Too many\\nrequests\",\"code\":\"x\"}", "", NULL,
		  "Too many requests", "", 0, 0 },
		{ "<html>502 Bad Gateway</html>", "", NULL, "", "", 0, 0 },
		{ "[]", "", NULL, "", "", 0, 0 },
		{ "", "", NULL, "", "", 0, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct openwhisk_answer a;

		openwhisk_answer_parse(cases[i].body, strlen(cases[i].body), &a);
		assert_string_equal(a.id, cases[i].id);
		assert_string_equal(a.said, cases[i].said);
		assert_string_equal(a.log, cases[i].log);
		assert_int_equal(a.r, cases[i].r);
		assert_int_equal(a.init_ns, cases[i].init_ns);
		if (cases[i].output)
			assert_string_equal(a.output, cases[i].output);
		else
			assert_null(a.output);
		openwhisk_answer_fini(&a);
	}
}

static void the_end_of_a_long_log_is_kept(void **state)
{
	json_t *lines = json_array(), *root = json_pack("{so}", "logs", lines);
	struct openwhisk_answer a;
	char line[64], *body;

	for (int i = 0; i < 1000; i++) {
		snprintf(line, sizeof(line), "line %04d", i);
		json_array_append_new(lines, json_string(line));
	}
	body = json_dumps(root, 0);
	openwhisk_answer_parse(body, strlen(body), &a);
	assert_int_equal(strlen(a.log), 204 * 10 - 1); /* of 2,048 with the NUL */
	assert_memory_equal(a.log, "line 0796\n", 10);
	assert_string_equal(a.log + 203 * 10, "line 0999");
	free(body);
	json_decref(root);
}

static void the_parameters_are_the_value_of_the_line(void **state)
{
	char *text = openwhisk_parameters("{\"value\":{\"op\":\"map\",\"index\":3}}\n");

	assert_string_equal(text, "{\"op\":\"map\",\"index\":3}");
	free(text);
	assert_null(openwhisk_parameters("{\"value\":3}\n"));
	assert_null(openwhisk_parameters("\n"));
}

static void an_action_is_made_again_when_it_is_made_of_something_else(void **state)
{
	struct openwhisk w = { .image = "an/image" };
	struct openwhisk_code code = { "PK\x03\x04\xff", 5, 7200000, 256 << 20 };
	const char *want;
	char *body = openwhisk_action_make(&w, &code);
	json_t *root = json_loads(body, 0, NULL), *exec = json_object_get(root, "exec");
	json_t *limits = json_object_get(root, "limits");

	assert_string_equal(json_string_value(json_object_get(exec, "kind")), "blackbox");
	assert_string_equal(json_string_value(json_object_get(exec, "image")), "an/image");
	assert_string_equal(json_string_value(json_object_get(exec, "code")), "UEsDBP8=");
	assert_true(json_is_true(json_object_get(exec, "binary")));
	assert_int_equal(json_integer_value(json_object_get(limits, "timeout")), 300000);
	assert_int_equal(json_integer_value(json_object_get(limits, "memory")), 288);

	assert_true(openwhisk_action_is(body, strlen(body), &w, &code));
	assert_false(openwhisk_action_is("{}", 2, &w, &code));
	code.timeout_ms = 60000;
	assert_false(openwhisk_action_is(body, strlen(body), &w, &code));
	code.timeout_ms = 300000;
	assert_true(openwhisk_action_is(body, strlen(body), &w, &code));
	code.memory = 32 << 20;
	assert_false(openwhisk_action_is(body, strlen(body), &w, &code));
	code.memory = 256 << 20;
	code.zip = "PK\x03\x04\xfe";
	assert_false(openwhisk_action_is(body, strlen(body), &w, &code));
	free(body);
	json_decref(root);

	code.memory = 32 << 20;
	for (size_t len = 3; len < 5; len++) {
		code.len = len;
		body = openwhisk_action_make(&w, &code);
		want = len == 3 ? "\"UEsD\"" : "\"UEsDBA==\"";
		assert_non_null(strstr(body, want));
		assert_non_null(strstr(body, "\"memory\":128"));
		free(body);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_place_has_a_scheme_a_host_and_perhaps_an_action),
		cmocka_unit_test(an_answer_is_a_reply_or_what_became_of_it),
		cmocka_unit_test(the_end_of_a_long_log_is_kept),
		cmocka_unit_test(the_parameters_are_the_value_of_the_line),
		cmocka_unit_test(an_action_is_made_again_when_it_is_made_of_something_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
