/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a platform answers is hostile: whatever comes, there is a reply that is JSON, or a
 * failure, or nothing yet; an id is fit to be part of a URL, and what was said is one line.
 * The same bytes as a place: what is taken has no other bytes than names have.
 *
 * The input: the body of an answer.
 */
#include "fuzz.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>

#include "openwhisk.h"

static void has_only(const char *s, const char *more)
{
	for (; *s; s++)
		REQUIRE(isalnum((unsigned char)*s) || strchr(more, *s));
}

static void answer_is_sound(const char *body, size_t len)
{
	struct openwhisk_answer a;

	openwhisk_answer_parse(body, len, &a);
	has_only(a.id, "-");
	REQUIRE(strlen(a.said) < sizeof(a.said) && strlen(a.log) < sizeof(a.log));
	for (const char *c = a.said; *c; c++)
		REQUIRE((unsigned char)*c >= ' ');
	REQUIRE(a.r == 0 || a.r == -ETIMEDOUT || a.r == -ECHILD);
	if (a.output) {
		json_t *again = json_loads(a.output, JSON_DECODE_ANY, NULL);

		REQUIRE(a.r == 0 && again && !strchr(a.output, '\n'));
		json_decref(again);
	}
	openwhisk_answer_fini(&a);
}

static void place_is_sound(const char *url)
{
	struct problem problem = { 0 };
	struct openwhisk w;

	if (openwhisk_parse(url, &w, &problem) < 0) {
		REQUIRE(problem.text[0]);
		return;
	}
	has_only(w.base, ".-:[]_/");
	has_only(w.action, "._-/@");
	has_only(w.image, "._-/:@");
	REQUIRE(w.action[0] && w.image[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct openwhisk w = { .image = "i" };
	struct openwhisk_code code = { "PK", 2, 1000, 1 << 20 };
	char *text = text_of((struct slice){ data, len }), *parameters;

	answer_is_sound(text, len);
	place_is_sound(text);
	(void)openwhisk_action_is(text, len, &w, &code);
	parameters = openwhisk_parameters(text);
	REQUIRE(!parameters || parameters[0] == '{');
	free(parameters);
	free(text);
	return 0;
}

void fuzz_seeds(void)
{
	static const char RECORD[] =
		"{\"activationId\":\"44794bd6aab74415b4e42a308d880e5b\",\"response\":{\"status\":"
		"\"success\",\"result\":{\"count\":3}},\"annotations\":[{\"key\":\"initTime\","
		"\"value\":12}],\"logs\":[\"a\",\"b\"]}";
	static const char FAILED[] =
		"{\"response\":{\"status\":\"action developer error\",\"result\":{\"error\":"
		"\"The action exceeded its time limits of 60000 milliseconds.\"}}}";
	static const char REFUSED[] = "{\"error\":\"Too many\\nrequests\",\"code\":\"x\"}";
	static const char ACTION[] =
		"{\"annotations\":[{\"key\":\"wadi-sort-digest\",\"value\":\"0-1000-128\"}]}";
	static const char PLACE[] = "openwhisk+http://[::1]:3233/?image=host:5000/a/b:1";
	static const char LINE[] = "{\"value\":{\"op\":\"map\"}}\n";

	fuzz_seed("record", RECORD, sizeof(RECORD) - 1);
	fuzz_seed("failed", FAILED, sizeof(FAILED) - 1);
	fuzz_seed("refused", REFUSED, sizeof(REFUSED) - 1);
	fuzz_seed("action", ACTION, sizeof(ACTION) - 1);
	fuzz_seed("place", PLACE, sizeof(PLACE) - 1);
	fuzz_seed("line", LINE, sizeof(LINE) - 1);
}
