/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a function answers every line with one line of JSON, whatever came in. Method:
 * lines that are no request, and why; requests that work, whose replies are compared
 * field by field.
 */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "function.h"

/* The reply to a line, checked to be one line of JSON with an object in it. */
static json_t *reply_to(const char *line, size_t len)
{
	struct instance instance = { 0 };
	char *text = function_run(&instance, line, len);
	json_t *reply;

	assert_non_null(text);
	assert_null(strchr(text, '\n'));
	reply = json_loads(text, 0, NULL);
	assert_true(json_is_object(reply));
	free(text);
	instance_fini(&instance);
	return reply;
}

static void a_bad_line_is_answered_with_an_error_that_will_not_go_away(void **state)
{
	static const struct {
		const char *line, *want;
	} cases[] = {
		{ "", "not a line of JSON" },
		{ "\n", "not a line of JSON" },
		{ "{", "not a line of JSON" },
		{ "\xff\xfe", "not a line of JSON" },
		{ "{} {}", "not a line of JSON" },
		{ "[]", "no object \"value\"" },
		{ "{}", "no object \"value\"" },
		{ "{\"value\":3}", "no object \"value\"" },
		{ "{\"value\":{}}", "\"op\" must be a string" },
		{ "{\"value\":{\"op\":7}}", "\"op\" must be a string" },
		{ "{\"value\":{\"op\":\"map\"}}", "\"function_memory\" must be 32 MiB or more" },
		{ "{\"value\":{\"op\":\"fly\",\"function_memory\":33554432}}",
		  "no function \"fly\"" },
		{ "{\"value\":{\"op\":\"map\",\"function_memory\":33554432,\"maps\":-1}}",
		  "\"maps\" must be a number within its limits" },
		{ "{\"value\":{\"op\":\"map\",\"function_memory\":33554432,\"maps\":1001}}",
		  "\"maps\" must be a number within its limits" },
		{ "{\"value\":{\"op\":\"map\",\"function_memory\":33554432,\"format\":\"xml\"}}",
		  "\"format\" must be a word that this program knows" },
		{ "{\"value\":{\"op\":\"map\",\"function_memory\":33554432,\"input\":[[1]]}}",
		  "\"input\" must be a list of [path, offset, length]" },
		{ "{\"value\":{\"op\":\"map\",\"function_memory\":33554432,\"input\":[[\"a\",-1,0]]"
		  "}}",
		  "\"input\" must be a list of [path, offset, length]" },
		{ "{\"value\":{\"op\":\"map\",\"function_memory\":33554432}}",
		  "names no store and job" },
		{ "{\"value\":{\"op\":\"map\",\"function_memory\":33554432,"
		  "\"store\":{\"url\":\"ftp://x\",\"job\":\"j\"}}}",
		  "no such store: 'ftp://x'" },
		{ "{\"value\":{\"op\":\"generate\",\"function_memory\":33554432,\"first\":\"G\"}}",
		  "\"first\" must be hexadecimal" },
	};

	unsetenv("WADI_ENDPOINT");
	unsetenv("__OW_WADI_ENDPOINT");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *reply = reply_to(cases[i].line, strlen(cases[i].line));
		const char *error = json_string_value(json_object_get(reply, "error"));

		assert_non_null(error);
		if (!strstr(error, cases[i].want))
			assert_string_equal(error, cases[i].want);
		assert_true(json_is_true(json_object_get(reply, "is_final")));
		json_decref(reply);
	}
}

static void a_line_of_megabytes_is_read_whole(void **state)
{
	size_t len = 3 << 20;
	char *line = malloc(len + 64);
	json_t *reply;

	memset(line, ' ', len);
	strcpy(line + len, "{\"value\":{\"op\":\"fly\",\"function_memory\":33554432}}");
	reply = reply_to(line, strlen(line));
	assert_string_equal(json_string_value(json_object_get(reply, "error")),
			    "no function \"fly\"");
	json_decref(reply);
	free(line);
}

/* The sentence that quotes them is cut in the middle of a letter. */
static void an_error_of_letters_that_were_cut_is_told(void **state)
{
	for (size_t before = 1; before <= 2; before++) {
		char line[3100] = "{\"value\":{\"op\":\"xx";
		char *at = line + strlen(line) - 2 + before;
		json_t *reply;

		for (int i = 0; i < 1500; i++)
			at = stpcpy(at, "\xc3\xa9");
		strcpy(at, "\",\"function_memory\":33554432}}");
		reply = reply_to(line, strlen(line));
		assert_non_null(strstr(json_string_value(json_object_get(reply, "error")),
				       "no function \"x"));
		assert_true(json_is_true(json_object_get(reply, "is_final")));
		json_decref(reply);
	}
}

static json_int_t field(const json_t *reply, const char *name)
{
	assert_true(json_is_integer(json_object_get(reply, name)));
	return json_integer_value(json_object_get(reply, name));
}

static void generating_and_validating_agree(void **state)
{
	char path[] = "/tmp/wadi-test-function-XXXXXX", line[512];
	json_t *made, *valid;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	snprintf(line, sizeof(line),
		 "{\"value\":{\"op\":\"generate\",\"index\":4,\"attempt\":2,\"output\":\"%s\","
		 "\"count\":1000,\"first\":\"0\",\"skew\":\"equal\",\"function_memory\":33554432}}"
		 "\n",
		 path);
	made = reply_to(line, strlen(line));
	assert_string_equal(json_string_value(json_object_get(made, "op")), "generate");
	assert_int_equal(field(made, "index"), 4);
	assert_int_equal(field(made, "attempt"), 2);
	assert_int_equal(field(made, "count"), 1000);
	assert_int_equal(field(made, "written_bytes"), 100000);
	assert_int_equal(field(made, "io_ns"), 0);

	snprintf(line, sizeof(line),
		 "{\"value\":{\"op\":\"validate\",\"input\":[[\"%s\",0,100000]],"
		 "\"function_memory\":33554432}}",
		 path);
	valid = reply_to(line, strlen(line));
	assert_int_equal(field(valid, "count"), 1000);
	assert_int_equal(field(valid, "duplicates"), 999);
	assert_int_equal(field(valid, "last_offset"), 99900);
	assert_string_equal(json_string_value(json_object_get(made, "sum")),
			    json_string_value(json_object_get(valid, "sum")));
	json_decref(made);
	json_decref(valid);
	unlink(path);
}

static void lines_out_of_order_are_found_by_number_and_offset(void **state)
{
	char path[] = "/tmp/wadi-test-function-XXXXXX", line[512];
	int fd = mkstemp(path);
	json_t *reply;

	assert_int_equal(write(fd, "a\nb\nab\n", 7), 7);
	close(fd);
	snprintf(line, sizeof(line),
		 "{\"value\":{\"op\":\"validate\",\"format\":\"lines\",\"input\":[[\"%s\",0,7]],"
		 "\"function_memory\":33554432}}",
		 path);
	reply = reply_to(line, strlen(line));
	snprintf(line, sizeof(line), "%s: not in order: number 2, at 4", path);
	assert_string_equal(json_string_value(json_object_get(reply, "error")), line);
	json_decref(reply);
	unlink(path);
}

static void bytes_behind_the_last_record_are_found(void **state)
{
	char path[] = "/tmp/wadi-test-function-XXXXXX", line[512];
	int fd = mkstemp(path);
	json_t *reply;

	assert_int_equal(ftruncate(fd, 250), 0);
	close(fd);
	snprintf(line, sizeof(line),
		 "{\"value\":{\"op\":\"validate\",\"input\":[[\"%s\",0,250]],"
		 "\"function_memory\":33554432}}",
		 path);
	reply = reply_to(line, strlen(line));
	snprintf(line, sizeof(line), "%s: its last 50 bytes are no record", path);
	assert_string_equal(json_string_value(json_object_get(reply, "error")), line);
	json_decref(reply);
	unlink(path);
}

static void record_file(const char *path)
{
	static const char RECORD[100];
	FILE *file = fopen(path, "w");

	assert_int_equal(fwrite(RECORD, 1, 100, file), 100);
	fclose(file);
}

/* Of a sample's run; -1 if it failed. */
static json_int_t attach_ns(struct instance *i, const char *path, const char *job)
{
	char line[512], *text;
	json_int_t ns;
	json_t *reply;

	snprintf(line, sizeof(line),
		 "{\"value\":{\"op\":\"sample\",\"index\":%u,\"input\":[[\"%s/input\",0,100]],"
		 "\"store\":{\"url\":\"dir:%s\",\"job\":\"%s\"},\"samples\":1,"
		 "\"function_memory\":33554432}}",
		 i->runs, path, path, job);
	text = function_run(i, line, strlen(line));
	reply = json_loads(text, 0, NULL);
	ns = json_object_get(reply, "error") ? -1 : field(reply, "attach_ns");
	json_decref(reply);
	free(text);
	return ns;
}

static void a_share_that_ends_inside_of_a_record_is_refused(void **state)
{
	char path[] = "/tmp/wadi-test-function-XXXXXX", name[64], input[64], line[512];
	struct store_config config = { .url = name, .job = "a", .timeout_ms = 1000 };
	char token[STORE_TOKEN_MAX];
	struct problem problem = { 0 };
	struct store *store;
	json_t *reply;

	assert_non_null(mkdtemp(path));
	snprintf(name, sizeof(name), "dir:%s", path);
	snprintf(input, sizeof(input), "%s/input", path);
	record_file(input);
	assert_int_equal(truncate(input, 250), 0);
	assert_int_equal(store_open(&config, &problem, &store), 0);
	assert_int_equal(store_job_begin(store, "a", 1000, token), 0);
	assert_int_equal(store_put(store, "splitters/00000", "", 0), 0);
	snprintf(line, sizeof(line),
		 "{\"value\":{\"op\":\"map\",\"input\":[[\"%s\",0,250]],\"reduces\":1,"
		 "\"store\":{\"url\":\"%s\",\"job\":\"a\"},\"function_memory\":33554432}}",
		 input, name);
	reply = reply_to(line, strlen(line));
	assert_string_equal(json_string_value(json_object_get(reply, "error")),
			    "the share's last 50 bytes are no record");
	json_decref(reply);
	unlink(input);
	assert_int_equal(store_job_end(store, "a"), 0);
	store_close(store);
	assert_int_equal(rmdir(path), 0);
}

static void an_instance_keeps_its_way_to_the_store_of_a_job(void **state)
{
	char path[] = "/tmp/wadi-test-function-XXXXXX", name[64];
	struct store_config config = { .url = name, .timeout_ms = 1000 };
	char token[STORE_TOKEN_MAX], input[64];
	struct problem problem = { 0 };
	struct instance i = { 0 };
	struct store *admin;

	assert_non_null(mkdtemp(path));
	snprintf(name, sizeof(name), "dir:%s", path);
	snprintf(input, sizeof(input), "%s/input", path);
	record_file(input);
	assert_int_equal(store_open(&config, &problem, &admin), 0);
	assert_int_equal(store_job_begin(admin, "a", 1000, token), 0);
	assert_int_equal(store_job_begin(admin, "b", 1000, token), 0);

	assert_true(attach_ns(&i, path, "a") > 0);
	assert_int_equal(attach_ns(&i, path, "a"), 0);
	assert_true(attach_ns(&i, path, "b") > 0);
	assert_int_equal(attach_ns(&i, path, "b"), 0);
	unlink(input);
	assert_int_equal(attach_ns(&i, path, "b"), -1); /* and what fails is not kept */
	record_file(input);
	assert_true(attach_ns(&i, path, "b") > 0);
	assert_int_equal(i.runs, 6);

	instance_fini(&i);
	unlink(input);
	assert_int_equal(store_job_end(admin, "a"), 0);
	assert_int_equal(store_job_end(admin, "b"), 0);
	store_close(admin);
	assert_int_equal(rmdir(path), 0);
}

static void numbers_of_128_bits_survive_their_digits(void **state)
{
	static const struct {
		u128 v;
		const char *text;
	} cases[] = {
		{ 0, "0" },
		{ 0x7a27e2d0d55de, "7a27e2d0d55de" },
		{ (u128)1 << 64, "10000000000000000" },
		{ ~(u128)0, "ffffffffffffffffffffffffffffffff" },
	};
	u128 got;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[U128_DIGITS];

		u128_format(cases[i].v, text);
		assert_string_equal(text, cases[i].text);
		assert_int_equal(u128_parse(text, &got), 0);
		assert_true(got == cases[i].v);
	}
	assert_true(u128_parse("", &got) < 0);
	assert_true(u128_parse("0x1", &got) < 0);
	assert_true(u128_parse("100000000000000000000000000000000", &got) < 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_bad_line_is_answered_with_an_error_that_will_not_go_away),
		cmocka_unit_test(a_line_of_megabytes_is_read_whole),
		cmocka_unit_test(an_error_of_letters_that_were_cut_is_told),
		cmocka_unit_test(generating_and_validating_agree),
		cmocka_unit_test(lines_out_of_order_are_found_by_number_and_offset),
		cmocka_unit_test(bytes_behind_the_last_record_are_found),
		cmocka_unit_test(a_share_that_ends_inside_of_a_record_is_refused),
		cmocka_unit_test(an_instance_keeps_its_way_to_the_store_of_a_job),
		cmocka_unit_test(numbers_of_128_bits_survive_their_digits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
