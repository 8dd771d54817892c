/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever envelope a platform puts around a request, the function gets its line, and
 * the answer is in the envelope that the platform reads. Method: requests as the platforms'
 * documents have them; answers compared with literals.
 */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>

#include "event.h"

#define LINE "{\"value\":{\"op\":\"map\"}}"
#define GOOD "{\"count\":1}"
#define BAD  "{\"error\":\"broken\",\"is_final\":false}"

static struct http_head head_of(const char *type)
{
	struct http_head h = { 0 };

	if (type)
		h.headers[h.header_count++] = (struct http_header){ "Content-Type", type };
	return h;
}

static void add(struct http_head *h, const char *name, const char *value)
{
	h->headers[h->header_count++] = (struct http_header){ name, value };
}

/* What the function is given for it, and what its reply becomes: status, headers and body. */
static void check(const struct http_head *h, bool is_azure, const char *body, const char *line,
		  const char *reply, const char *want)
{
	struct event e;
	struct event_answer a;
	const char *why = "";
	char got[1024];

	assert_int_equal(event_read(h, body, is_azure, &e, &why), 0);
	assert_string_equal(e.line, line);
	assert_int_equal(event_answer(&e, reply, &a), 0);
	snprintf(got, sizeof(got), "%d %s\n%s%s", a.status, a.type, a.headers, a.body);
	assert_string_equal(got, want);
	free(a.body);
	event_fini(&e);
}

static void a_plain_request_is_its_line(void **state)
{
	struct http_head none = head_of(NULL), json = head_of("application/json; charset=utf-8");

	check(&none, false, LINE, LINE, GOOD, "200 application/json\n" GOOD);
	check(&json, false, LINE, LINE, GOOD, "200 application/json\n" GOOD);
	check(&json, false, LINE, LINE, BAD, "500 application/json\n" BAD);
	check(&json, false, LINE, LINE, "{\"error\":\"no\",\"is_final\":true}",
	      "422 application/json\n{\"error\":\"no\",\"is_final\":true}");
	/* No custom handler, no envelope. */
	check(&json, false, "{\"Data\":{\"a\":{}},\"Metadata\":{}}",
	      "{\"Data\":{\"a\":{}},\"Metadata\":{}}", GOOD, "200 application/json\n" GOOD);
}

static void an_event_in_headers_is_answered_by_one(void **state)
{
	struct http_head h = head_of("application/json");

	add(&h, "Ce-SpecVersion", "1.0");
	add(&h, "ce-id", "A234");
	add(&h, "ce-source", "/driver");
	add(&h, "ce-type", "any.thing");
	check(&h, false, LINE, LINE, GOOD,
	      "200 application/json\n"
	      "ce-specversion: 1.0\r\nce-id: A234\r\nce-source: /wadi/functions\r\n"
	      "ce-type: wadi.function.replied\r\n" GOOD);
	check(&h, false, LINE, LINE, BAD, "500 application/json\n" BAD);
}

static void an_event_of_json_is_answered_by_one(void **state)
{
	struct http_head h = head_of("application/cloudevents+json");

	check(&h, false,
	      "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"s\",\"type\":\"t\",\"data\":" LINE
	      "}",
	      LINE, GOOD,
	      "200 application/cloudevents+json\n"
	      "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/wadi/functions\","
	      "\"type\":\"wadi.function.replied\",\"datacontenttype\":\"application/json\","
	      "\"data\":" GOOD "}");
}

static void a_custom_handler_reads_and_writes_envelopes(void **state)
{
	struct http_head h = head_of("application/json");

	check(&h, true,
	      "{\"Data\":{\"req\":{\"Url\":\"x\",\"Method\":\"POST\","
	      "\"Body\":\"{\\\"value\\\":{\\\"op\\\":\\\"map\\\"}}\"}},\"Metadata\":{}}",
	      LINE, BAD,
	      "200 application/json\n"
	      "{\"Outputs\":{\"res\":{\"statusCode\":500,\"headers\":{\"Content-Type\":"
	      "\"application/json\"},\"body\":\"{\\\"error\\\":\\\"broken\\\",\\\"is_final\\\":"
	      "false}\"}},\"Logs\":[],\"ReturnValue\":\"{\\\"error\\\":\\\"broken\\\","
	      "\\\"is_final\\\":false}\"}");
	check(&h, true, "{\"Data\":{\"item\":" LINE "},\"Metadata\":{}}", LINE, GOOD,
	      "200 application/json\n"
	      "{\"Outputs\":{},\"Logs\":[],\"ReturnValue\":\"{\\\"count\\\":1}\"}");
	/* A queue's message failed: the host is to deliver it again. */
	check(&h, true, "{\"Data\":{\"item\":" LINE "},\"Metadata\":{}}", LINE, BAD,
	      "500 application/json\n"
	      "{\"Outputs\":{},\"Logs\":[],\"ReturnValue\":\"{\\\"error\\\":\\\"broken\\\","
	      "\\\"is_final\\\":false}\"}");
	/* enableProxyingHttpRequest: as it came. */
	check(&h, true, LINE, LINE, GOOD, "200 application/json\n" GOOD);
}

static void refused(const struct http_head *h, const char *body, int status, const char *want)
{
	struct event e;
	const char *why = "";

	assert_int_equal(event_read(h, body, true, &e, &why), status);
	assert_non_null(strstr(why, want));
	assert_null(e.line);
}

static void what_is_no_event_is_refused(void **state)
{
	struct http_head structured = head_of("application/cloudevents+json"), h;

	h = head_of("text/plain");
	refused(&h, LINE, 415, "application/json");
	h = head_of("application/cloudevents-batch+json");
	refused(&h, "[]", 415, "application/json");
	h = head_of("application/json");
	add(&h, "ce-specversion", "0.3");
	refused(&h, LINE, 400, "specversion is not 1.0");
	h = head_of("application/json");
	add(&h, "ce-specversion", "1.0");
	refused(&h, LINE, 400, "id, source and type");
	refused(&structured, "[]", 400, "not an object");
	refused(&structured, "{", 400, "not an object");
	refused(&structured, "{}", 400, "specversion");
	refused(&structured, "{\"specversion\":\"1.0\",\"id\":3}", 400, "id, source and type");
	refused(&structured,
		"{\"specversion\":\"1.0\",\"id\":\"3\",\"source\":\"s\",\"type\":\"t\"}", 400,
		"no data");
	refused(&structured,
		"{\"specversion\":\"1.0\",\"id\":\"3\",\"source\":\"s\",\"type\":\"t\","
		"\"data_base64\":\"e30=\"}",
		415, "data_base64");
}

static void an_id_has_room_or_is_refused(void **state)
{
	char id[EVENT_ID_MAX + 1] = "";
	struct http_head h = head_of("application/json");
	struct event e;
	const char *why = "";

	add(&h, "ce-specversion", "1.0");
	add(&h, "ce-source", "s");
	add(&h, "ce-type", "t");
	add(&h, "ce-id", id);
	memset(id, 'x', EVENT_ID_MAX - 1);
	assert_int_equal(event_read(&h, LINE, false, &e, &why), 0);
	event_fini(&e);
	id[EVENT_ID_MAX - 1] = 'x';
	assert_int_equal(event_read(&h, LINE, false, &e, &why), 400);
}

int main(void)
{
	static const struct CMUnitTest TESTS[] = {
		cmocka_unit_test(a_plain_request_is_its_line),
		cmocka_unit_test(an_event_in_headers_is_answered_by_one),
		cmocka_unit_test(an_event_of_json_is_answered_by_one),
		cmocka_unit_test(a_custom_handler_reads_and_writes_envelopes),
		cmocka_unit_test(what_is_no_event_is_refused),
		cmocka_unit_test(an_id_has_room_or_is_refused),
	};

	return cmocka_run_group_tests(TESTS, NULL, NULL);
}
