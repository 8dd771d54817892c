/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a token says what it was made for, can be narrowed by anybody and widened by
 * nobody. Method: round trips, and every single character of a token changed.
 */
#include "test.h"

#include "net/access.h"
#include "wire/extent.h"
#include "wire/token.h"

static const uint8_t KEY[TOKEN_KEY_BYTES] = "a key of thirty-two bytes......";
#define NOW_NS (1000ull * 1000000000)

static struct slice str(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

static int verify(const char *text, struct token *t)
{
	return token_verify(str(text), KEY, sizeof(KEY), NOW_NS, t);
}

static void a_token_names_its_job_and_gives_its_rights(void **state)
{
	char text[TOKEN_BYTES_MAX + 1];
	struct token t;

	assert_int_equal(token_make(KEY, sizeof(KEY), 42, str("sort"), text), 0);
	assert_int_equal(verify(text, &t), 0);
	assert_int_equal(t.job, 42);
	assert_int_equal(t.job_name.len, 4);
	assert_memory_equal(t.job_name.ptr, "sort", 4);
	assert_int_equal(t.rights, RIGHTS_OF_JOB);
	assert_int_equal(t.prefix.len, 0);
	assert_int_equal(t.valid_until_ns, 0);
	assert_int_equal(token_verify(str(text), KEY + 1, sizeof(KEY) - 1, NOW_NS, &t),
			 -EKEYREJECTED);
}

static void narrowing_adds_up(void **state)
{
	char a[TOKEN_BYTES_MAX + 1], b[TOKEN_BYTES_MAX + 1];
	struct token t;

	token_make(KEY, sizeof(KEY), 42, str("sort"), a);
	assert_int_equal(token_narrow(str(a), str("map/"), RIGHT_READ | RIGHT_LIST, 2000, b), 0);
	assert_int_equal(token_narrow(str(b), str("map/3/"), RIGHT_READ | RIGHT_WRITE, 3000, a), 0);
	assert_int_equal(verify(a, &t), 0);
	assert_int_equal(t.rights, RIGHT_READ);
	assert_int_equal(t.prefix.len, 6);
	assert_memory_equal(t.prefix.ptr, "map/3/", 6);
	assert_int_equal(t.valid_until_ns, 2000ull * 1000000000);

	/* A shorter prefix gives nothing back; another one leaves nothing. */
	assert_int_equal(token_narrow(str(a), str("m"), RIGHTS_OF_JOB, 0, b), 0);
	assert_int_equal(verify(b, &t), 0);
	assert_int_equal(t.prefix.len, 6);
	assert_int_equal(token_narrow(str(a), str("reduce/"), RIGHTS_OF_JOB, 0, b), 0);
	assert_int_equal(verify(b, &t), -EKEYREJECTED);
}

static void its_time_ends(void **state)
{
	char a[TOKEN_BYTES_MAX + 1], b[TOKEN_BYTES_MAX + 1];
	struct token t;

	token_make(KEY, sizeof(KEY), 42, str("sort"), a);
	token_narrow(str(a), str(""), RIGHTS_OF_JOB, 1000, b);
	assert_int_equal(verify(b, &t), -EKEYEXPIRED);
	token_narrow(str(a), str(""), RIGHTS_OF_JOB, 1001, b);
	assert_int_equal(verify(b, &t), 0);
}

static void any_other_character_spoils_it(void **state)
{
	char a[TOKEN_BYTES_MAX + 1], b[TOKEN_BYTES_MAX + 1];
	struct token t;

	token_make(KEY, sizeof(KEY), 42, str("sort"), a);
	token_narrow(str(a), str("map/"), RIGHT_READ, 2000, b);
	for (size_t i = 0; b[i]; i++) {
		char was = b[i];

		for (const char *c = "Aa0-_=.~"; *c; c++) {
			b[i] = *c;
			if (*c != was)
				assert_int_equal(verify(b, &t), -EKEYREJECTED);
		}
		b[i] = was;
	}
	for (size_t n = strlen(b); n-- > 0;)
		assert_int_equal(token_verify((struct slice){ (uint8_t *)b, n }, KEY, sizeof(KEY),
					      NOW_NS, &t),
				 -EKEYREJECTED);
	assert_int_equal(verify(b, &t), 0);
}

static void restrictions_have_a_limit(void **state)
{
	char a[TOKEN_BYTES_MAX + 1], b[TOKEN_BYTES_MAX + 1];
	struct token t;

	token_make(KEY, sizeof(KEY), 42, str("sort"), a);
	for (int i = 0; i < TOKEN_RESTRICTIONS_MAX; i++) {
		assert_int_equal(token_narrow(str(a), str("x"), RIGHTS_OF_JOB, 0, b), 0);
		strcpy(a, b);
		assert_int_equal(verify(a, &t), 0);
	}
	assert_int_equal(token_narrow(str(a), str("x"), RIGHTS_OF_JOB, 0, b), -EMSGSIZE);
	assert_int_equal(token_narrow(str(a), str(""), RIGHT_READ, 0, b), -EMSGSIZE);
	assert_int_equal(token_narrow(str(a), str(""), RIGHTS_OF_JOB, 1, b), -EMSGSIZE);
	assert_int_equal(token_narrow(str(a), str(""), RIGHTS_OF_JOB, 0, b), 0);
}

static void access_is_what_the_token_says_and_no_more(void **state)
{
	struct access a = { .role = ROLE_JOB,
			    .job = 7,
			    .rights = RIGHT_READ | RIGHT_LIST,
			    .prefix_len = 4,
			    .prefix = "map/" };
	const char *why;

	assert_int_equal(access_check(&a, RIGHT_READ, 7, str("map/x"), &why), 0);
	assert_int_equal(access_check(&a, RIGHT_READ, 7, str("map/"), &why), 0);
	assert_int_equal(access_check(&a, RIGHT_READ, 7, str("map"), &why), -EACCES);
	assert_int_equal(access_check(&a, RIGHT_READ, 7, str("mapx"), &why), -EACCES);
	assert_int_equal(access_check(&a, RIGHT_WRITE, 7, str("map/x"), &why), -EACCES);
	assert_int_equal(access_check(&a, RIGHT_READ, 8, str("map/x"), &why), -EACCES);
	assert_int_equal(access_check(NULL, RIGHT_READ, 7, str("map/x"), &why), -EACCES);
	a.role = ROLE_PROXY;
	assert_int_equal(access_check(&a, RIGHT_WRITE, 8, str("x"), &why), 0);
	a.role = ROLE_COUNT;
	assert_int_equal(access_check(&a, RIGHT_READ, 7, str("map/x"), &why), -EACCES);
}

static void names_are_utf8_of_bounded_length(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		bool is_valid;
	} names[] = {
		{ "a", 1, true },
		{ "", 0, false },
		{ "a b//c/", 7, true },
		{ "\xc3\xa4", 2, true },
		{ "\xc3", 1, false },
		{ "\xc0\x80", 2, false },
		{ "\xed\xa0\x80", 3, false },
		{ "\xf0\x9f\x98\x80", 4, true },
		{ "\xf4\x90\x80\x80", 4, false },
		{ "\xe0\x80\x80", 3, false },
		{ "a\0b", 3, false },
		{ "\x80", 1, false },
		{ "a\nb", 3, true },
		{ "\xff", 1, false },
	};
	char longest[PATH_BYTES_MAX + 1];
	const char *why;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_int_equal(
			path_is_valid((struct slice){ (uint8_t *)names[i].bytes, names[i].len },
				      &why),
			names[i].is_valid);
	memset(longest, 'x', sizeof(longest));
	assert_true(path_is_valid((struct slice){ (uint8_t *)longest, PATH_BYTES_MAX }, &why));
	assert_false(path_is_valid((struct slice){ (uint8_t *)longest, PATH_BYTES_MAX + 1 }, &why));
	assert_true(job_name_is_valid(str("a-B_9.x"), &why));
	assert_false(job_name_is_valid(str(".a"), &why));
	assert_false(job_name_is_valid(str("a/b"), &why));
	assert_false(job_name_is_valid(str(""), &why));
}

static void sealed_segments_are_booked_in_pages(void **state)
{
	assert_int_equal(segment_booked(65536, 0, 65536), 0);
	assert_int_equal(segment_booked(65536, 1, 65536), 4096);
	assert_int_equal(segment_booked(65536, 0, 65535), 4096);
	assert_int_equal(segment_booked(65536, 4096, 61440), 8192);
	assert_int_equal(segment_booked(65536, 30000, 30000), 65536);
	assert_int_equal(segment_size_for(0), 65536);
	assert_int_equal(segment_size_for(65537), 131072);
	assert_int_equal(segment_size_for(1ull << 40), SEGMENT_BYTES_MAX);
	assert_int_equal(extent_table_count(65536), 0);
	assert_int_equal(extent_table_count(65537), 2);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_token_names_its_job_and_gives_its_rights),
		cmocka_unit_test(narrowing_adds_up),
		cmocka_unit_test(its_time_ends),
		cmocka_unit_test(any_other_character_spoils_it),
		cmocka_unit_test(restrictions_have_a_limit),
		cmocka_unit_test(access_is_what_the_token_says_and_no_more),
		cmocka_unit_test(names_are_utf8_of_bounded_length),
		cmocka_unit_test(sealed_segments_are_booked_in_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
