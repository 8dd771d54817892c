/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of the ActionLoop: every one is answered by one line of JSON, and none of them
 * is taken that its function could not run. No function runs here: they do I/O.
 *
 * The input: a line.
 */
#include "fuzz.h"

#include "function.h"

static void is_runnable(const struct request *r)
{
	REQUIRE(r->op);
	REQUIRE(r->index <= FUNCTIONS_MAX && r->maps <= FUNCTIONS_MAX &&
		r->reduces <= FUNCTIONS_MAX);
	REQUIRE(r->function_memory >= FUNCTION_MEMORY_MIN &&
		r->function_memory <= FUNCTION_MEMORY_MAX);
	REQUIRE(r->format == FORMAT_RECORDS || r->format == FORMAT_LINES);
	REQUIRE(r->skew <= SKEW_EQUAL && r->count <= INT64_MAX);
	for (size_t i = 0; i < r->input_count; i++)
		REQUIRE(r->input[i].path && r->input[i].offset <= INT64_MAX &&
			r->input[i].len <= INT64_MAX - r->input[i].offset);
}

/* True: a function would run. */
static bool parse(const char *line, size_t len)
{
	static const char *const OPS[] = { "generate", "sample", "map", "reduce", "validate" };
	struct problem problem = { 0 };
	json_t *root = json_loadb(line, len, 0, NULL);
	struct request req;
	bool runs = false;
	int r = root ? request_parse(json_object_get(root, "value"), &req, &problem) : -1;

	REQUIRE(!root || r == 0 || problem.text[0]);
	if (r == 0) {
		is_runnable(&req);
		for (size_t i = 0; i < sizeof(OPS) / sizeof(*OPS); i++)
			runs |= strcmp(req.op, OPS[i]) == 0;
		request_fini(&req);
	}
	json_decref(root);
	return runs;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *copy = text_of((struct slice){ data, len }), *text;
	struct instance instance = { 0 };
	json_t *reply;

	if (!parse(copy, len)) {
		text = function_run(&instance, copy, len);
		REQUIRE(text && !strchr(text, '\n'));
		reply = json_loads(text, 0, NULL);
		REQUIRE(json_string_length(json_object_get(reply, "error")) > 0);
		REQUIRE(json_is_boolean(json_object_get(reply, "is_final")));
		json_decref(reply);
		free(text);
	}
	free(copy);
	return 0;
}

void fuzz_seeds(void)
{
	static const char WHOLE[] =
		"{\"value\":{\"op\":\"none\",\"index\":1,\"attempt\":1,\"format\":\"lines\","
		"\"function_memory\":268435456,\"timeout_ms\":1000,\"store\":{\"url\":\"dir:x\","
		"\"token\":\"t\",\"job\":\"j\"},\"input\":[[\"a\",0,100]],\"output\":\"o\","
		"\"maps\":4,\"reduces\":4,\"samples\":10,\"skew\":\"zipf\",\"first\":\"1f\","
		"\"count\":7}}\n";
	static const char SMALL[] =
		"{\"value\":{\"op\":\"\xc3\xa4\",\"function_memory\":33554432}}";
	static const char BAD[] = "{\"value\":{\"op\":1}}";

	fuzz_seed("whole", WHOLE, sizeof(WHOLE) - 1);
	fuzz_seed("small", SMALL, sizeof(SMALL) - 1);
	fuzz_seed("bad", BAD, sizeof(BAD) - 1);
}
