/* SPDX-License-Identifier: Apache-2.0 */
#include "http_head.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

static bool is_token_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* What may stand in a value: no control characters, which is where lines are forged. */
static bool is_text(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ' && *s != '\t')
			return false;
	return true;
}

/* The line at `*at`, cut at its CRLF; NULL: a NUL, or a line feed alone, is in it. */
static char *line_take(char **at, char *end)
{
	char *line = *at, *newline = memchr(line, '\n', (size_t)(end - line));

	if (!newline || newline == line || newline[-1] != '\r' ||
	    memchr(line, '\0', (size_t)(newline - line)))
		return NULL;
	newline[-1] = '\0';
	*at = newline + 1;
	return line;
}

static bool version_parse(const char *s, bool *ret_is_old)
{
	*ret_is_old = strcmp(s, "HTTP/1.0") == 0;
	return *ret_is_old || strcmp(s, "HTTP/1.1") == 0;
}

/* METHOD TARGET HTTP/1.1 */
static int request_line(char *line, struct http_head *h, bool *ret_is_old)
{
	char *target = strchr(line, ' '), *version = target ? strchr(target + 1, ' ') : NULL;

	if (!version)
		return -EBADMSG;
	*target++ = *version++ = '\0';
	for (const char *c = line; *c; c++)
		if (!is_token_char(*c))
			return -EBADMSG;
	for (const char *c = target; *c; c++)
		if (*c < '!' || *c > '~')
			return -EBADMSG;
	h->method = line;
	h->target = target;
	return *line && *target && version_parse(version, ret_is_old) ? 0 : -EBADMSG;
}

/* HTTP/1.1 200 and what it means */
static int status_line(char *line, struct http_head *h, bool *ret_is_old)
{
	char *digits = strchr(line, ' ');

	if (!digits)
		return -EBADMSG;
	*digits++ = '\0';
	for (int i = 0; i < 3; i++) {
		if (digits[i] < '0' || digits[i] > '9')
			return -EBADMSG;
		h->status = 10 * h->status + digits[i] - '0';
	}
	if (h->status < 100 || (digits[3] && digits[3] != ' '))
		return -EBADMSG;
	return version_parse(line, ret_is_old) ? 0 : -EBADMSG;
}

static int header_line(char *line, struct http_head *h)
{
	char *colon = strchr(line, ':'), *value, *end;

	if (!colon || colon == line)
		return -EBADMSG;
	*colon = '\0';
	for (const char *c = line; *c; c++)
		if (!is_token_char(*c))
			return -EBADMSG;
	for (value = colon + 1; is_blank(*value); value++)
		;
	for (end = value + strlen(value); end > value && is_blank(end[-1]); end--)
		;
	*end = '\0';
	if (!is_text(value))
		return -EBADMSG;
	if (h->header_count == HTTP_HEAD_LINES_MAX)
		return -E2BIG;
	h->headers[h->header_count++] = (struct http_header){ line, value };
	return 0;
}

static size_t header_count(const struct http_head *h, const char *name)
{
	size_t count = 0;

	for (size_t i = 0; i < h->header_count; i++)
		count += strcasecmp(h->headers[i].name, name) == 0;
	return count;
}

const char *http_head_value(const struct http_head *h, const char *name)
{
	for (size_t i = 0; i < h->header_count; i++)
		if (strcasecmp(h->headers[i].name, name) == 0)
			return h->headers[i].value;
	return NULL;
}

static int length_parse(const char *s, uint64_t *ret)
{
	uint64_t v = 0;

	if (!*s || strlen(s) > 18)
		return -EBADMSG;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -EBADMSG;
		v = 10 * v + (uint64_t)(*s - '0');
	}
	*ret = v;
	return 0;
}

static int body_find(enum http_kind kind, struct http_head *h)
{
	const char *length = http_head_value(h, "content-length");
	const char *encoding = http_head_value(h, "transfer-encoding");

	if (header_count(h, "content-length") > 1 || header_count(h, "transfer-encoding") > 1 ||
	    (length && encoding))
		return -EBADMSG;
	if (kind == HTTP_RESPONSE && (h->status < 200 || h->status == 204 || h->status == 304))
		return 0;
	if (encoding) {
		h->body = HTTP_BODY_CHUNKED;
		return strcasecmp(encoding, "chunked") == 0 ? 0 : -EOPNOTSUPP;
	}
	if (length) {
		h->body = HTTP_BODY_LENGTH;
		return length_parse(length, &h->body_len);
	}
	if (kind == HTTP_RESPONSE) {
		h->body = HTTP_BODY_REST;
		h->keeps = false;
	}
	return 0;
}

/* Whether a list of words between commas has this one. */
static bool has_word(const char *list, const char *word)
{
	while (list && *list) {
		size_t len;

		list += strspn(list, ", \t");
		len = strcspn(list, ", \t");
		if (len == strlen(word) && strncasecmp(list, word, len) == 0)
			return true;
		list += len;
	}
	return false;
}

int http_head_parse(enum http_kind kind, char *buf, size_t len, struct http_head *ret)
{
	char *at = buf, *end = buf + len, *line = line_take(&at, end);
	bool is_old = false;
	int r;

	*ret = (struct http_head){ 0 };
	if (!line)
		return -EBADMSG;
	r = kind == HTTP_REQUEST ? request_line(line, ret, &is_old)
				 : status_line(line, ret, &is_old);
	while (r == 0) {
		line = line_take(&at, end);
		if (!line)
			return -EBADMSG;
		if (!*line)
			break;
		r = header_line(line, ret);
	}
	if (r < 0)
		return r;
	/* A request names its host once; older ones, of health checks, need not. */
	if (kind == HTTP_REQUEST && header_count(ret, "host") != 1 &&
	    !(is_old && header_count(ret, "host") == 0))
		return -EBADMSG;
	ret->keeps = !is_old && !has_word(http_head_value(ret, "connection"), "close");
	ret->expects_continue = has_word(http_head_value(ret, "expect"), "100-continue");
	return body_find(kind, ret);
}
