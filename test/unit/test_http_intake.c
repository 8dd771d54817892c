/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: bytes become messages of HTTP/1.1, the same however they are cut, and what is none,
 * or more than fits, is refused for the right reason. Method: messages by hand, each taken
 * whole and byte by byte.
 */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "http_intake.h"

#define BODY_MAX 64

static int64_t take(struct http_intake *in, const char *bytes, size_t len, size_t step)
{
	size_t taken = 0;

	while (taken < len && !http_intake_is_whole(in)) {
		size_t n = len - taken < step ? len - taken : step;
		int64_t r = http_intake_take(in, bytes + taken, n);

		if (r < 0)
			return r;
		taken += (size_t)r;
	}
	return (int64_t)taken;
}

/* What came of it, in a line: method, target, body; or status, body; or the error. */
static void check(enum http_kind kind, const char *bytes, size_t len, const char *want)
{
	static const size_t STEPS[] = { SIZE_MAX, 1, 3 };

	for (size_t i = 0; i < sizeof(STEPS) / sizeof(STEPS[0]); i++) {
		struct http_intake *in = calloc(1, sizeof(*in));
		char got[256] = "";
		int64_t r;

		in->kind = kind;
		in->body_max = BODY_MAX;
		r = take(in, bytes, len, STEPS[i]);
		if (r < 0)
			snprintf(got, sizeof(got), "%s", strerrorname_np((int)-r));
		else if (!http_intake_is_whole(in))
			snprintf(got, sizeof(got), "more");
		else if (kind == HTTP_REQUEST)
			snprintf(got, sizeof(got), "%s %s [%s]%s left %d", in->head.method,
				 in->head.target, in->body, in->head.keeps ? "" : " close",
				 (int)((int64_t)len - r));
		else
			snprintf(got, sizeof(got), "%d [%s]%s left %d", in->head.status, in->body,
				 in->head.keeps ? "" : " close", (int)((int64_t)len - r));
		assert_string_equal(got, want);
		http_intake_fini(in);
		free(in);
	}
}

struct example {
	const char *bytes, *want;
};

static void check_all(enum http_kind kind, const struct example *examples, size_t count)
{
	for (size_t i = 0; i < count; i++)
		check(kind, examples[i].bytes, strlen(examples[i].bytes), examples[i].want);
}

static void requests_are_read_to_their_end_and_no_further(void **state)
{
	static const struct example CASES[] = {
		{ "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / [] left 0" },
		{ "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", "GET / [] left 3" },
		{ "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / [] left 0" },
		{ "GET /a?b HTTP/1.0\r\n\r\n", "GET /a?b [] close left 0" },
		{ "GET / HTTP/1.1\r\nHost: a\r\nConnection: Foo, Close\r\n\r\n",
		  "GET / [] close left 0" },
		{ "POST /f HTTP/1.1\r\nHost:a\r\ncontent-length: 3\r\n\r\nabcd",
		  "POST /f [abc] left 1" },
		{ "POST /f HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "POST /f [] left 0" },
		{ "POST /f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
		  "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\nrest",
		  "POST /f [abc0123456789] left 4" },
		{ "POST /f HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab", "more" },
		{ "GET / HTTP/1.1\r\nHost: a\r\n", "more" },
	};

	check_all(HTTP_REQUEST, CASES, sizeof(CASES) / sizeof(CASES[0]));
}

static void what_two_readers_could_understand_differently_is_refused(void **state)
{
	static const struct example CASES[] = {
		{ "GET /\r\n\r\n", "EBADMSG" },
		{ "GET / HTTP/2.0\r\nHost: a\r\n\r\n", "EBADMSG" },
		{ "GET / HTTP/1.1\r\n\r\n", "EBADMSG" },
		{ "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "EBADMSG" },
		{ "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "EBADMSG" },
		{ "G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n", "EBADMSG" },
		{ "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "EBADMSG" },
		{ "GET / HTTP/1.1\r\nHost : a\r\n\r\n", "EBADMSG" },
		{ "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", "EBADMSG" },
		{ "GET / HTTP/1.1\r\nHost: a\r\nX: b\x07\r\n\r\n", "EBADMSG" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
		  "EBADMSG" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
		  "Transfer-Encoding: chunked\r\n\r\n",
		  "EBADMSG" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n", "EBADMSG" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\n", "EBADMSG" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", "EBADMSG" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "EOPNOTSUPP" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
		  "EBADMSG" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc",
		  "EBADMSG" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd",
		  "EBADMSG" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
		  "EBADMSG" },
	};

	check_all(HTTP_REQUEST, CASES, sizeof(CASES) / sizeof(CASES[0]));
	check(HTTP_REQUEST, "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 29, "EBADMSG");
}

static void what_is_too_long_is_refused_before_it_came(void **state)
{
	static const struct example CASES[] = {
		{ "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65\r\n\r\n", "EMSGSIZE" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999999999\r\n\r\n",
		  "EMSGSIZE" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n41\r\n",
		  "EMSGSIZE" },
		{ "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
		  "7fffffffffffffff\r\n",
		  "EBADMSG" },
	};
	size_t len = HTTP_HEAD_MAX + 1;
	char *bytes = malloc(len + 1);
	size_t used = (size_t)sprintf(bytes, "GET / HTTP/1.1\r\nHost: a\r\nX: ");

	check_all(HTTP_REQUEST, CASES, sizeof(CASES) / sizeof(CASES[0]));
	memset(bytes + used, 'x', len - used);
	check(HTTP_REQUEST, bytes, len, "E2BIG");
	used = (size_t)sprintf(bytes, "GET / HTTP/1.1\r\nHost: a\r\n");
	for (int i = 0; i < HTTP_HEAD_LINES_MAX; i++)
		used += (size_t)sprintf(bytes + used, "X: %d\r\n", i);
	used += (size_t)sprintf(bytes + used, "\r\n");
	check(HTTP_REQUEST, bytes, used, "E2BIG");
	free(bytes);
}

static void responses_have_a_body_as_their_status_and_headers_say(void **state)
{
	static const struct example CASES[] = {
		{ "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "200 [hi] left 0" },
		{ "HTTP/1.1 202 \r\nContent-Length: 2\r\n\r\nhi", "202 [hi] left 0" },
		{ "HTTP/1.1 204\r\n\r\n", "204 [] left 0" },
		{ "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "304 [] left 0" },
		{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200", "100 [] left 12" },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
		  "200 [x] left 0" },
		{ "HTTP/1.1 200 OK\r\n\r\nall of it", "more" },
		{ "HTTP/1.1 2x0 OK\r\n\r\n", "EBADMSG" },
		{ "HTTP/1.1 2000 OK\r\n\r\n", "EBADMSG" },
		{ "ICY 200 OK\r\n\r\n", "EBADMSG" },
	};

	check_all(HTTP_RESPONSE, CASES, sizeof(CASES) / sizeof(CASES[0]));
}

static void a_body_without_a_length_ends_with_its_connection(void **state)
{
	static const char BYTES[] = "HTTP/1.1 200 OK\r\n\r\nall of it";
	struct http_intake *in = calloc(1, sizeof(*in));

	in->kind = HTTP_RESPONSE;
	in->body_max = BODY_MAX;
	assert_int_equal(http_intake_take(in, BYTES, 25), 25);
	assert_int_equal(http_intake_close(in), 0);
	assert_string_equal(in->body, "all of");
	http_intake_next(in);
	assert_int_equal(http_intake_take(in, BYTES, 10), 10);
	assert_int_equal(http_intake_close(in), -EPIPE);
	http_intake_fini(in);
	free(in);
}

static void headers_are_found_in_any_case_and_without_blanks(void **state)
{
	static const char BYTES[] = "GET / HTTP/1.1\r\nHost: a\r\nX-One:  \t1 2 \r\nx-one: 3\r\n"
				    "Empty:\r\nExpect: 100-Continue\r\n\r\n";
	struct http_intake *in = calloc(1, sizeof(*in));

	in->body_max = BODY_MAX;
	assert_int_equal(http_intake_take(in, BYTES, strlen(BYTES)), strlen(BYTES));
	assert_string_equal(http_head_value(&in->head, "X-ONE"), "1 2");
	assert_string_equal(http_head_value(&in->head, "empty"), "");
	assert_null(http_head_value(&in->head, "x"));
	assert_true(in->head.expects_continue);
	assert_int_equal(in->head.header_count, 5);
	http_intake_fini(in);
	free(in);
}

int main(void)
{
	static const struct CMUnitTest TESTS[] = {
		cmocka_unit_test(requests_are_read_to_their_end_and_no_further),
		cmocka_unit_test(what_two_readers_could_understand_differently_is_refused),
		cmocka_unit_test(what_is_too_long_is_refused_before_it_came),
		cmocka_unit_test(responses_have_a_body_as_their_status_and_headers_say),
		cmocka_unit_test(a_body_without_a_length_ends_with_its_connection),
		cmocka_unit_test(headers_are_found_in_any_case_and_without_blanks),
	};

	return cmocka_run_group_tests(TESTS, NULL, NULL);
}
