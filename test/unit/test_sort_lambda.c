/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what is sent to Lambda is what AWS's documentation says, and each of its answers is
 * understood: a reply, an error of the function, of the runtime, of the platform. Method:
 * literals, the answers as Lambda gives them.
 */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "lambda.h"

static void a_function_is_found_by_region_or_endpoint(void **state)
{
	static const struct {
		const char *url;
		struct lambda_environment env;
		const char *want_url, *want_sigv4;
	} CASES[] = {
		{ "lambda://sort",
		  { .region = "eu-central-1" },
		  "https://lambda.eu-central-1.amazonaws.com/2015-03-31/functions/sort/invocations",
		  "aws:amz:eu-central-1:lambda" },
		{ "lambda://sort_2:live",
		  { .region = "us-east-1", .endpoint = "http://127.0.0.1:9001/" },
		  "http://127.0.0.1:9001/2015-03-31/functions/sort_2/invocations?Qualifier=live",
		  "aws:amz:us-east-1:lambda" },
	};

	for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
		struct lambda_environment env = CASES[i].env;
		struct problem problem = { 0 };
		struct lambda l;

		env.access_key = "AKID";
		env.secret = "SECRET";
		env.token = i ? "TOKEN" : NULL;
		assert_int_equal(lambda_parse(CASES[i].url, &env, &l, &problem), 0);
		assert_string_equal(l.url, CASES[i].want_url);
		assert_string_equal(l.sigv4, CASES[i].want_sigv4);
		assert_string_equal(l.user, "AKID:SECRET");
		assert_string_equal(l.token, i ? "X-Amz-Security-Token: TOKEN" : "");
	}
}

static void what_is_missing_or_wrong_is_told(void **state)
{
	static const struct {
		const char *url;
		struct lambda_environment env;
		int r;
		const char *want;
	} CASES[] = {
		{ "lambda://", { 0 }, -EINVAL, "one is lambda://FUNCTION[:QUALIFIER]" },
		{ "lambda", { 0 }, -EINVAL, "one is lambda://FUNCTION[:QUALIFIER]" },
		{ "lambda://a/b", { 0 }, -EINVAL, "one is lambda://FUNCTION[:QUALIFIER]" },
		{ "lambda://a:", { 0 }, -EINVAL, "one is lambda://FUNCTION[:QUALIFIER]" },
		{ "lambda://a:b?c", { 0 }, -EINVAL, "one is lambda://FUNCTION[:QUALIFIER]" },
		{ "lambda://a", { .region = "r" }, -EACCES, "AWS_ACCESS_KEY_ID and" },
		{ "lambda://a",
		  { .region = "r", .access_key = "a", .secret = "b\nc" },
		  -EACCES,
		  "AWS_ACCESS_KEY_ID and" },
		{ "lambda://a", { .access_key = "a", .secret = "b" }, -EINVAL, "AWS_REGION" },
		{ "lambda://a",
		  { .access_key = "a", .secret = "b", .region = "a/b" },
		  -EINVAL,
		  "AWS_REGION" },
		{ "lambda://a",
		  { .access_key = "a", .secret = "b", .region = "r", .endpoint = "ftp://x" },
		  -EINVAL,
		  "'ftp://x' is no URL of Lambda's" },
		{ "lambda://a",
		  { .access_key = "a", .secret = "b", .region = "r", .token = "a b" },
		  -EINVAL,
		  "AWS_SESSION_TOKEN" },
	};

	for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
		struct problem problem = { 0 };
		struct lambda l;

		assert_int_equal(lambda_parse(CASES[i].url, &CASES[i].env, &l, &problem),
				 CASES[i].r);
		if (!strstr(problem.text, CASES[i].want))
			assert_string_equal(problem.text, CASES[i].want);
	}
}

static struct lambda_answer answer(long status, const char *function_error, const char *body)
{
	struct lambda_reply reply = { .status = status,
				      .body = body,
				      .len = body ? strlen(body) : 0,
				      .function_error = function_error };
	struct lambda_answer a;

	lambda_answer_parse(&reply, &a);
	return a;
}

static void a_reply_and_errors_of_the_function_are_outputs(void **state)
{
	static const struct {
		const char *error, *body, *want;
	} CASES[] = {
		{ NULL, "{\"count\":1}", "{\"count\":1}" },
		{ NULL, "garbage", "garbage" },
		{ "Unhandled", "{\"errorMessage\":\"no function\",\"errorType\":\"Sort.Final\"}",
		  "{\"error\":\"no function\",\"is_final\":true}" },
		{ "Unhandled",
		  "{\"errorMessage\":\"waited\",\"errorType\":\"Sort.Failed\",\"stackTrace\":[]}",
		  "{\"error\":\"waited\",\"is_final\":false}" },
		{ "Unhandled",
		  "{\"errorMessage\":\"WADI_ENDPOINT\",\"errorType\":\"Sort.NoEndpoint\"}",
		  "{\"error\":\"WADI_ENDPOINT\",\"is_final\":true}" },
	};

	for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
		struct lambda_answer a = answer(200, CASES[i].error, CASES[i].body);

		assert_string_equal(a.output, CASES[i].want);
		free(a.output);
	}
}

static void what_ended_without_a_reply_is_told_apart(void **state)
{
	static const struct {
		long status;
		const char *error, *body;
		int r;
		const char *said;
	} CASES[] = {
		{ 200, "Unhandled",
		  "{\"errorType\":\"Sandbox.Timedout\",\"errorMessage\":\"2026-01-01T00:00:00Z 7 "
		  "Task timed out after 3.00 seconds\"}",
		  -ETIMEDOUT,
		  "Sandbox.Timedout: 2026-01-01T00:00:00Z 7 Task timed out after 3.00 seconds" },
		{ 200, "Unhandled",
		  "{\"errorMessage\":\"exit status 1\",\"errorType\":\"Runtime.ExitError\"}",
		  -ECHILD, "Runtime.ExitError: exit status 1" },
		{ 200, "Unhandled",
		  "{\"errorMessage\":\"too large\",\"errorType\":"
		  "\"Function.ResponseSizeTooLarge\"}",
		  -E2BIG, "Function.ResponseSizeTooLarge: too large" },
		{ 200, "Unhandled", "garbage", -ECHILD, "" },
		{ 200, "Unhandled", NULL, -ECHILD, "" },
		{ 429, NULL, "{\"Reason\":\"x\",\"Type\":\"User\",\"message\":\"Rate Exceeded.\"}",
		  0, "Rate Exceeded." },
		{ 404, NULL, "{\"Message\":\"Function not found: f\",\"Type\":\"User\"}", 0,
		  "Function not found: f" },
		{ 502, NULL, "<html>bad\ngateway", 0, "" },
		{ 500, NULL, NULL, 0, "" },
		{ 500, NULL, "{\"message\":\"two\\nlines\"}", 0, "two lines" },
	};

	for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
		struct lambda_answer a = answer(CASES[i].status, CASES[i].error, CASES[i].body);

		assert_null(a.output);
		assert_int_equal(a.r, CASES[i].r);
		assert_string_equal(a.said, CASES[i].said);
	}
}

static void the_end_of_the_log_tells_a_cold_start(void **state)
{
	static const struct {
		const char *base64, *log;
		uint64_t init_ns;
	} CASES[] = {
		/* As `base64` has them. */
		{ "aGVsbG8K", "hello", 0 },
		{ "U1RBUlQgUmVxdWVzdElkOiAxCm9uZQp0d28KUkVQT1JUIFJlcXVlc3RJZDogMQlJbml0IER1cmF0aW9u"
		  "O"
		  "iAyLjUgbXMK",
		  "one\ntwo", 2500000 },
		{ "SW5pdCBEdXJhdGlvbjogMTIuNSBtcw==", "Init Duration: 12.5 ms", 12500000 },
		{ "SW5pdCBEdXJhdGlvbjogLTEgbXM=", "Init Duration: -1 ms", 0 },
		{ "YQBi", "a b", 0 },
		{ "%%%", "", 0 },
	};

	for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
		struct lambda_reply reply = {
			.status = 200, .body = "{}", .len = 2, .log_result = CASES[i].base64
		};
		struct lambda_answer a;

		lambda_answer_parse(&reply, &a);
		assert_string_equal(a.log, CASES[i].log);
		assert_int_equal(a.init_ns, CASES[i].init_ns);
		free(a.output);
	}
}

static void a_log_that_is_too_long_is_told_from_its_end(void **state)
{
	struct lambda_reply reply = { .status = 200, .body = "{}", .len = 2 };
	struct lambda_answer a;
	char *base64 = malloc(12001);

	/* "abc" and so on, and "xyz" as the last of what a log may be. */
	for (size_t i = 0; i < 12000; i += 4)
		memcpy(base64 + i, i == 5456 ? "eHl6" : "YWJj", 4);
	base64[12000] = '\0';
	reply.log_result = base64;
	lambda_answer_parse(&reply, &a);
	assert_int_equal(strlen(a.log), sizeof(a.log) - 1);
	free(a.output);
	base64[5460] = '\0';
	lambda_answer_parse(&reply, &a);
	assert_int_equal(strlen(a.log), sizeof(a.log) - 1);
	assert_string_equal(a.log + sizeof(a.log) - 1 - 6, "abcxyz");
	free(a.output);
	free(base64);
}

int main(void)
{
	static const struct CMUnitTest TESTS[] = {
		cmocka_unit_test(a_function_is_found_by_region_or_endpoint),
		cmocka_unit_test(what_is_missing_or_wrong_is_told),
		cmocka_unit_test(a_reply_and_errors_of_the_function_are_outputs),
		cmocka_unit_test(what_ended_without_a_reply_is_told_apart),
		cmocka_unit_test(the_end_of_the_log_tells_a_cold_start),
		cmocka_unit_test(a_log_that_is_too_long_is_told_from_its_end),
	};

	return cmocka_run_group_tests(TESTS, NULL, NULL);
}
