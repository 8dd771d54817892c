/* SPDX-License-Identifier: Apache-2.0 */
#include "http_intake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Room for `len` bytes more and a NUL behind them. */
static int body_grow(struct http_intake *in, size_t len)
{
	size_t cap = in->cap ? in->cap : 1024;
	char *more;

	if (len > in->body_max - in->body_len)
		return -EMSGSIZE;
	while (cap < in->body_len + len + 1)
		cap *= 2;
	if (cap == in->cap)
		return 0;
	more = realloc(in->body, cap);
	if (!more)
		return -ENOMEM;
	in->body = more;
	in->cap = cap;
	return 0;
}

static int body_add(struct http_intake *in, const char *bytes, size_t len)
{
	int r = body_grow(in, len);

	if (r < 0)
		return r;
	memcpy(in->body + in->body_len, bytes, len);
	in->body_len += len;
	in->body[in->body_len] = '\0';
	return 0;
}

static int body_begin(struct http_intake *in)
{
	if (in->head.body == HTTP_BODY_LENGTH && in->head.body_len > in->body_max)
		return -EMSGSIZE;
	in->left = in->head.body == HTTP_BODY_REST ? UINT64_MAX : in->head.body_len;
	if (in->head.body == HTTP_BODY_CHUNKED)
		in->state = HTTP_AT_CHUNK_SIZE;
	else
		in->state = in->left ? HTTP_AT_BODY : HTTP_AT_END;
	return body_add(in, "", 0);
}

/* Up to the empty line. A line before the first one is skipped, as old clients send one. */
static int64_t head_take(struct http_intake *in, const char *bytes, size_t len)
{
	static const char END[] = "\r\n\r\n";
	size_t before = in->text_len, room = sizeof(in->text) - before, from;
	const char *end;
	int r;

	if (before == 0 && (*bytes == '\r' || *bytes == '\n'))
		return 1;
	memcpy(in->text + before, bytes, len < room ? len : room);
	in->text_len += len < room ? len : room;
	from = before < 3 ? 0 : before - 3;
	end = memmem(in->text + from, in->text_len - from, END, 4);
	if (!end)
		return in->text_len < sizeof(in->text) ? (int64_t)(in->text_len - before) : -E2BIG;
	in->text_len = (size_t)(end + 4 - in->text);
	r = http_head_parse(in->kind, in->text, in->text_len, &in->head);
	if (r == 0)
		r = body_begin(in);
	return r < 0 ? r : (int64_t)(in->text_len - before);
}

static int64_t body_take(struct http_intake *in, const char *bytes, size_t len)
{
	size_t n = len < in->left ? len : (size_t)in->left;
	int r = body_add(in, bytes, n);

	if (r < 0)
		return r;
	in->left -= n;
	if (in->left == 0)
		in->state = HTTP_AT_END;
	return (int64_t)n;
}

/* A line of the chunks, without its end: 1: it is whole, in in->line; 0: more is to come. */
static int line_take(struct http_intake *in, char c)
{
	if (c == '\n') {
		if (in->line_len == 0 || in->line[in->line_len - 1] != '\r')
			return -EBADMSG;
		in->line[in->line_len - 1] = '\0';
		in->line_len = 0;
		return 1;
	}
	if (!c || in->line_len + 1 == sizeof(in->line))
		return -EBADMSG;
	in->line[in->line_len++] = c;
	return 0;
}

static int size_parse(const char *s, uint64_t *ret)
{
	static const char DIGITS[] = "0123456789abcdef";
	uint64_t v = 0;
	int count = 0;

	for (; *s && *s != ';' && *s != ' ' && *s != '\t'; s++, count++) {
		const char *digit = strchr(DIGITS, *s >= 'A' && *s <= 'F' ? *s - 'A' + 'a' : *s);

		if (!digit || count == 15)
			return -EBADMSG;
		v = v << 4 | (uint64_t)(digit - DIGITS);
	}
	*ret = v;
	return count ? 0 : -EBADMSG;
}

static int64_t chunk_size_take(struct http_intake *in, char c)
{
	int r = line_take(in, c);

	if (r <= 0)
		return r < 0 ? r : 1;
	r = size_parse(in->line, &in->left);
	if (r < 0)
		return r;
	if (in->left > in->body_max - in->body_len)
		return -EMSGSIZE;
	in->state = in->left ? HTTP_AT_CHUNK : HTTP_AT_TRAILER;
	in->left += in->left ? 2 : 0;
	return 1;
}

/* The last two bytes of `left` are the end of its line. */
static int64_t chunk_take(struct http_intake *in, const char *bytes, size_t len)
{
	size_t n = len;
	int r = 0;

	if (in->left <= 2) {
		if (*bytes != "\n\r"[in->left - 1])
			return -EBADMSG;
		n = 1;
	} else {
		if (n > in->left - 2)
			n = (size_t)in->left - 2;
		r = body_add(in, bytes, n);
	}
	in->left -= n;
	if (in->left == 0)
		in->state = HTTP_AT_CHUNK_SIZE;
	return r < 0 ? r : (int64_t)n;
}

/* Nothing of ours is in there. */
static int64_t trailer_take(struct http_intake *in, char c)
{
	int r = line_take(in, c);

	if (++in->trailer_len > HTTP_HEAD_MAX)
		return -E2BIG;
	if (r == 1 && !in->line[0])
		in->state = HTTP_AT_END;
	return r < 0 ? r : 1;
}

int64_t http_intake_take(struct http_intake *in, const char *bytes, size_t len)
{
	size_t taken = 0;

	while (taken < len && in->state != HTTP_AT_END) {
		int64_t n = 0;

		switch (in->state) {
		case HTTP_AT_HEAD:
			n = head_take(in, bytes + taken, len - taken);
			break;
		case HTTP_AT_BODY:
			n = body_take(in, bytes + taken, len - taken);
			break;
		case HTTP_AT_CHUNK_SIZE:
			n = chunk_size_take(in, bytes[taken]);
			break;
		case HTTP_AT_CHUNK:
			n = chunk_take(in, bytes + taken, len - taken);
			break;
		case HTTP_AT_TRAILER:
			n = trailer_take(in, bytes[taken]);
			break;
		case HTTP_AT_END:
			break;
		}
		if (n < 0)
			return n;
		taken += (size_t)n;
	}
	return (int64_t)taken;
}

int http_intake_close(struct http_intake *in)
{
	if (in->state == HTTP_AT_BODY && in->head.body == HTTP_BODY_REST)
		in->state = HTTP_AT_END;
	return in->state == HTTP_AT_END ? 0 : -EPIPE;
}

void http_intake_next(struct http_intake *in)
{
	free(in->body);
	in->body = NULL;
	in->state = HTTP_AT_HEAD;
	in->body_len = in->text_len = in->line_len = in->trailer_len = in->cap = 0;
}

void http_intake_fini(struct http_intake *in)
{
	http_intake_next(in);
}
