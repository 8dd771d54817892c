/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: however files are cut into shares, each line is in exactly one of them, whole,
 * and ends with a newline. Method: small texts with all that is unusual about lines,
 * cut at every byte, read with rooms of every size, and compared with a literal.
 */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "input.h"
#include "plan.h"

struct file {
	char path[64];
	size_t len;
};

static struct file file_make(const char *text, size_t len)
{
	struct file f = { .path = "/tmp/wadi-test-input-XXXXXX", .len = len };
	int fd = mkstemp(f.path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	close(fd);
	return f;
}

/* All bytes of a share, read `cap` at a time, appended to buf. */
static size_t share_read(enum format format, const struct segment *segments, size_t count,
			 size_t cap, uint8_t *buf)
{
	struct problem problem = { 0 };
	struct input in;
	uint8_t *room = malloc(cap);
	size_t len = 0;
	int64_t n;

	input_init(&in, format, segments, count, 1 << 20, &problem);
	while ((n = input_read(&in, room, cap)) > 0) {
		memcpy(buf + len, room, (size_t)n);
		len += (size_t)n;
	}
	assert_int_equal(n, 0);
	input_fini(&in);
	free(room);
	return len;
}

static void each_line_is_in_one_share_however_it_is_cut(void **state)
{
	static const struct {
		const char *text, *want;
	} texts[] = {
		{ "one\ntwo\nthree\n", "one\ntwo\nthree\n" },
		{ "no newline\nat the end", "no newline\nat the end\n" },
		{ "\n\n\nempty\n\n\n", "\n\n\nempty\n\n\n" },
		{ "one line without an end", "one line without an end\n" },
		{ "\n", "\n" },
		{ "x", "x\n" },
		{ "", "" },
	};

	for (size_t t = 0; t < sizeof(texts) / sizeof(texts[0]); t++) {
		struct file f = file_make(texts[t].text, strlen(texts[t].text));

		for (size_t a = 0; a <= f.len; a++) {
			for (size_t b = a; b <= f.len; b++) {
				const struct segment cuts[] = { { f.path, 0, a },
								{ f.path, a, b - a },
								{ f.path, b, f.len - b } };

				for (size_t cap = 1; cap < 8; cap++) {
					uint8_t got[64];
					size_t len = 0;

					for (size_t i = 0; i < 3; i++)
						len += share_read(FORMAT_LINES, &cuts[i], 1, cap,
								  got + len);
					assert_int_equal(len, strlen(texts[t].want));
					assert_memory_equal(got, texts[t].want, len);
				}
			}
		}
		unlink(f.path);
	}
}

static void a_file_that_lacks_a_newline_is_not_joined_with_the_next(void **state)
{
	struct file a = file_make("a", 1), none = file_make("", 0), b = file_make("b\nc", 3);
	const struct segment share[] = { { a.path, 0, 1 }, { none.path, 0, 0 }, { b.path, 0, 3 } };
	uint8_t got[16];

	assert_int_equal(share_read(FORMAT_LINES, share, 3, 16, got), 6);
	assert_memory_equal(got, "a\nb\nc\n", 6);
	unlink(a.path);
	unlink(b.path);
	unlink(none.path);
}

static void records_are_read_as_they_are(void **state)
{
	char text[300];
	struct file f;
	struct segment share;
	uint8_t got[300];

	for (size_t i = 0; i < 300; i++)
		text[i] = (char)(i % 10 ? 'r' : '\n');
	f = file_make(text, 300);
	share = (struct segment){ f.path, 100, 200 };
	assert_int_equal(share_read(FORMAT_RECORDS, &share, 1, 7, got), 200);
	assert_memory_equal(got, text + 100, 200);
	unlink(f.path);
}

/* The error of reading a whole file with this limit for lines. */
static int64_t limit_error(const struct file *f, size_t line_max, size_t cap,
			   struct problem *problem)
{
	struct segment share = { f->path, 0, f->len };
	struct input in;
	uint8_t buf[64];
	int64_t n;

	input_init(&in, FORMAT_LINES, &share, 1, line_max, problem);
	do {
		n = input_read(&in, buf, cap);
	} while (n > 0);
	input_fini(&in);
	return n;
}

static void a_line_that_is_too_long_is_named_with_its_place(void **state)
{
	struct file f = file_make("12345\n1234567\n", 14);

	for (size_t cap = 1; cap <= 64; cap++) {
		struct problem problem = { 0 };
		char want[128];

		assert_int_equal(limit_error(&f, 7, cap, &problem), 0);
		assert_int_equal(limit_error(&f, 6, cap, &problem), -EMSGSIZE);
		assert_true(problem.is_final);
		snprintf(want, sizeof(want), "%s: the line at offset 6 is longer than 6 bytes",
			 f.path);
		assert_memory_equal(problem.text, want, strlen(want));
	}
	unlink(f.path);
}

static void a_file_that_has_shrunk_is_an_error(void **state)
{
	struct file f = file_make("short\n", 6);
	struct problem problem = { 0 };

	f.len = 9;
	assert_int_equal(limit_error(&f, 100, 64, &problem), -EIO);
	assert_non_null(strstr(problem.text, "ends at 6, and was longer before"));
	unlink(f.path);
}

static void shares_of_a_plan_have_every_byte_once_and_cut_no_record(void **state)
{
	struct plan p = { .format = FORMAT_RECORDS };
	uint64_t all = 0, next = 0;
	size_t file = 0;

	assert_int_equal(plan_add(&p, "a", 700), 0);
	assert_int_equal(plan_add(&p, "b", 0), 0);
	assert_int_equal(plan_add(&p, "c", 1300), 0);
	for (uint32_t i = 0; i < 3; i++) {
		json_t *share = plan_share(&p, i, 3);

		for (size_t k = 0; k < json_array_size(share); k++) {
			const json_t *s = json_array_get(share, k);
			const char *path = json_string_value(json_array_get(s, 0));
			uint64_t offset = (uint64_t)json_integer_value(json_array_get(s, 1));
			uint64_t len = (uint64_t)json_integer_value(json_array_get(s, 2));

			if (strcmp(path, "c") == 0 && file == 0) {
				file = 1;
				assert_int_equal(next, 700);
				next = 0;
			}
			assert_int_equal(offset, next);
			assert_int_equal(len % 100, 0);
			next += len;
			all += len;
		}
		json_decref(share);
	}
	assert_int_equal(all, 2000);
	assert_int_equal(next, 1300);
	plan_fini(&p);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_line_is_in_one_share_however_it_is_cut),
		cmocka_unit_test(a_file_that_lacks_a_newline_is_not_joined_with_the_next),
		cmocka_unit_test(records_are_read_as_they_are),
		cmocka_unit_test(a_line_that_is_too_long_is_named_with_its_place),
		cmocka_unit_test(a_file_that_has_shrunk_is_an_error),
		cmocka_unit_test(shares_of_a_plan_have_every_byte_once_and_cut_no_record),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
