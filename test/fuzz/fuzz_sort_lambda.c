/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is said to be Lambda answers anything: there is a reply, or a failure, or a status that
 * tells; what was said is one line, and a log is text. The same bytes as a function's name: what
 * is taken makes a URL of no other bytes than URLs have.
 *
 * The input: a status, whether there are the headers of errors and logs, and the bytes of all.
 */
#include "fuzz.h"

#include <errno.h>
#include <jansson.h>

#include "lambda.h"

static void answer_is_sound(const struct lambda_reply *reply)
{
	struct lambda_answer a;

	lambda_answer_parse(reply, &a);
	REQUIRE(strlen(a.said) < sizeof(a.said) && strlen(a.log) < sizeof(a.log));
	for (const char *c = a.said; *c; c++)
		REQUIRE((unsigned char)*c >= ' ');
	REQUIRE(a.r == 0 || a.r == -ETIMEDOUT || a.r == -ECHILD || a.r == -E2BIG);
	REQUIRE(!a.output || (reply->status == 200 && a.r == 0));
	if (a.output && reply->function_error) {
		json_t *again = json_loads(a.output, 0, NULL);

		REQUIRE(json_is_string(json_object_get(again, "error")));
		json_decref(again);
	}
	free(a.output);
}

static void name_is_sound(const char *url)
{
	struct lambda_environment env = {
		.region = "r", .access_key = "a", .secret = "b", .endpoint = "http://h"
	};
	struct problem problem = { 0 };
	struct lambda l;

	if (lambda_parse(url, &env, &l, &problem) < 0) {
		REQUIRE(problem.text[0]);
		return;
	}
	REQUIRE(strncmp(l.url, "http://h/2015-03-31/functions/", 30) == 0);
	for (const char *c = l.url; *c; c++)
		REQUIRE(*c > ' ' && *c <= '~' && !strchr("\"#%<>\\^`{|}", *c));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *copy = text_of((struct slice){ data, len });
	uint8_t bits = len > 0 ? data[0] : 0;
	struct lambda_reply reply = {
		.status = bits & 1   ? 200
			  : bits & 2 ? 429
				     : 500,
		.body = bits & 4 ? NULL : copy + (len > 0),
		.function_error = bits & 8 ? "Unhandled" : NULL,
		.log_result = bits & 16 ? copy + (len > 0) : NULL,
	};

	reply.len = reply.body ? strlen(reply.body) : 0;
	answer_is_sound(&reply);
	name_is_sound(copy);
	free(copy);
	return 0;
}

void fuzz_seeds(void)
{
	static const struct {
		const char *name, *bytes;
	} SEEDS[] = {
		{ "reply", "!{\"op\":\"map\",\"index\":1,\"count\":1}" },
		{ "failed", ")\x7b\"errorMessage\":\"no\",\"errorType\":\"Sort.Failed\"}" },
		{ "late",
		  ")\x7b\"errorMessage\":\"Task timed out\",\"errorType\":\"Sandbox.Timedout\"}" },
		{ "refused", "\"{\"Reason\":\"x\",\"message\":\"Rate Exceeded.\"}" },
		{ "log", "1SW5pdCBEdXJhdGlvbjogMTIuNSBtcw==" },
		{ "name", "lambda://sort:live" },
	};

	for (size_t i = 0; i < sizeof(SEEDS) / sizeof(SEEDS[0]); i++)
		fuzz_seed(SEEDS[i].name, SEEDS[i].bytes, strlen(SEEDS[i].bytes));
}
