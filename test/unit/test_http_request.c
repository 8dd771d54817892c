/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The head of a request: what is one, and whether its connection goes on behind the answer.
 */
#include "proxy/http_request.h"

#include <errno.h>
#include <string.h>

#include "test.h"

static int parse(const char *head, struct http_request *ret)
{
	memset(ret, 0, sizeof(*ret));
	return http_request_parse(head, strlen(head), ret);
}

static void method_and_target_are_those_of_its_line(void **state)
{
	struct http_request q;

	assert_int_equal(parse("GET /metrics?a=b HTTP/1.1\r\nHost: x\r\n\r\n", &q), 0);
	assert_string_equal(q.method, "GET");
	assert_string_equal(q.target, "/metrics?a=b");
	assert_false(q.is_head);
	assert_int_equal(parse("HEAD / HTTP/1.1\r\n\r\n", &q), 0);
	assert_true(q.is_head);
}

static void what_is_none_is_refused(void **state)
{
	static const char *const HEADS[] = {
		"\r\n\r\n",
		"GET\r\n\r\n",
		"get / HTTP/1.1\r\n\r\n",
		"GET / HTTP/2\r\n\r\n",
		"GET / HTTP/1.x\r\n\r\n",
		"GET / HTTP/1.1 \r\n\r\n",
		"GET  / HTTP/1.1\r\n\r\n",
		"GETGETGETGETGETGET / HTTP/1.1\r\n\r\n",
	};
	struct http_request q;

	for (size_t i = 0; i < sizeof(HEADS) / sizeof(HEADS[0]); i++)
		if (parse(HEADS[i], &q) != -EBADMSG)
			fail_msg("taken: %s", HEADS[i]);
}

static void a_connection_goes_on_unless_it_is_told_not_to_or_a_body_follows(void **state)
{
	static const struct {
		const char *head;
		bool keeps;
	} CASES[] = {
		{ "GET / HTTP/1.1\r\n\r\n", true },
		{ "GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", true },
		{ "GET / HTTP/1.1\r\nX-Connection: close\r\n\r\n", true },
		{ "GET / HTTP/1.0\r\n\r\n", false },
		{ "GET / HTTP/1.1\r\nCONNECTION: Close\r\n\r\n", false },
		{ "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n", false },
		{ "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", false },
	};
	struct http_request q;

	for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++)
		if (parse(CASES[i].head, &q) != 0 || q.keeps != CASES[i].keeps)
			fail_msg("not as it should be: %s", CASES[i].head);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(method_and_target_are_those_of_its_line),
		cmocka_unit_test(what_is_none_is_refused),
		cmocka_unit_test(a_connection_goes_on_unless_it_is_told_not_to_or_a_body_follows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
