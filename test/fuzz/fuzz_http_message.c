/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of HTTP as functions get them from platforms: how the bytes were cut changes
 * nothing, no more is held than may be, and what a whole one says of itself is in order.
 *
 * The input: which kind, a step, and the bytes.
 */
#include "fuzz.h"

#include <errno.h>

#include "event.h"
#include "http_intake.h"

#define BODY_MAX 512

struct taken {
	struct http_intake in;
	int64_t r; /* bytes, or what was wrong */
};

static struct taken *taken_new(enum http_kind kind, struct slice s, size_t step)
{
	struct taken *t = calloc(1, sizeof(*t));
	size_t len = 0;

	t->in.kind = kind;
	t->in.body_max = BODY_MAX;
	while (t->r >= 0 && len < s.len && !http_intake_is_whole(&t->in)) {
		size_t n = s.len - len < step ? s.len - len : step;
		char *exact = malloc(n);

		memcpy(exact, (const char *)s.ptr + len, n);
		t->r = http_intake_take(&t->in, exact, n);
		free(exact);
		REQUIRE(t->r <= (int64_t)n);
		len += t->r > 0 ? (size_t)t->r : 0;
	}
	if (t->r >= 0)
		t->r = (int64_t)len;
	REQUIRE(t->in.body_len <= BODY_MAX);
	return t;
}

static void taken_free(struct taken *t)
{
	http_intake_fini(&t->in);
	free(t);
}

static void head_check(const struct http_head *h, enum http_kind kind)
{
	REQUIRE(h->header_count <= HTTP_HEAD_LINES_MAX);
	for (size_t i = 0; i < h->header_count; i++) {
		REQUIRE(h->headers[i].name[0] && !strpbrk(h->headers[i].name, " \t:\r\n"));
		REQUIRE(!strpbrk(h->headers[i].value, "\r\n"));
		REQUIRE(http_head_value(h, h->headers[i].name));
	}
	if (kind == HTTP_REQUEST)
		REQUIRE(h->method[0] && h->target[0]);
	else
		REQUIRE(h->status >= 100 && h->status <= 999);
}

/* A function would be given a line, or its caller a reason. */
static void event_check(const struct http_intake *in)
{
	struct event e;
	const char *why = NULL;
	int status = event_read(&in->head, in->body, true, &e, &why);

	REQUIRE(status == 0 ? e.line != NULL : status >= 400 && why);
	if (status == 0)
		event_fini(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	enum http_kind kind = len > 0 && data[0] & 1 ? HTTP_RESPONSE : HTTP_REQUEST;
	size_t step = len > 1 ? 1u + data[1] % 16 : 1;
	struct slice s = { data + (len > 1 ? 2 : len), len > 1 ? len - 2 : 0 };
	struct taken *whole = taken_new(kind, s, s.len + 1), *cut = taken_new(kind, s, step);

	REQUIRE(whole->r == cut->r && whole->in.state == cut->in.state);
	if (whole->r >= 0 && whole->in.state != HTTP_AT_HEAD) {
		head_check(&whole->in.head, kind);
		REQUIRE(whole->in.body_len == cut->in.body_len);
		REQUIRE(strcmp(whole->in.body, cut->in.body) == 0);
		REQUIRE(whole->in.body[whole->in.body_len] == '\0');
	}
	if (http_intake_is_whole(&whole->in) && kind == HTTP_REQUEST)
		event_check(&whole->in);
	taken_free(whole);
	taken_free(cut);
	return 0;
}

void fuzz_seeds(void)
{
	static const struct {
		const char *name, *bytes;
	} SEEDS[] = {
		{ "length", "07POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
			    "Content-Length: 12\r\n\r\n{\"value\":{}}" },
		{ "chunks", "03POST /f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
			    "Expect: 100-continue\r\n\r\n3\r\n{\"a\r\n3;x=y\r\n\":1\r\n1\r\n}\r\n"
			    "0\r\nX: y\r\n\r\n" },
		{ "event", "05POST / HTTP/1.1\r\nHost: a\r\nce-id: 1\r\nce-source: s\r\n"
			   "ce-type: t\r\nce-specversion: 1.0\r\nContent-Length: 2\r\n\r\n{}" },
		{ "structured",
		  "02POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/cloudevents+json\r\n"
		  "Content-Length: "
		  "67\r\n\r\n{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"s\","
		  "\"type\":\"t\",\"data\":{\"a\":1}}" },
		{ "azure", "01POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 43\r\n\r\n"
			   "{\"Data\":{\"req\":{\"Body\":\"{}\"}},\"Metadata\":{}}" },
		{ "answer",
		  "12HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok" },
		{ "rest", "11HTTP/1.0 200 OK\r\n\r\nall" },
	};

	for (size_t i = 0; i < sizeof(SEEDS) / sizeof(SEEDS[0]); i++)
		fuzz_seed(SEEDS[i].name, SEEDS[i].bytes, strlen(SEEDS[i].bytes));
}
