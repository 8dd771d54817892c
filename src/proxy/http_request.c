/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/http_request.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

/* The characters from `low` to `high` up to a blank, which is skipped. False: others, none, too
 * many. */
static bool take_word(const char **at, const char *end, char low, char high, char *ret, size_t cap)
{
	size_t n = 0;

	for (; *at < end && **at >= low && **at <= high && n + 1 < cap; (*at)++)
		ret[n++] = **at;
	ret[n] = '\0';
	return n > 0 && *at < end && *(*at)++ == ' ';
}

/* Does the head name this header with this value? Both as literals in lower case. */
static bool has_header(const char *head, size_t len, const char *name, const char *value)
{
	size_t name_len = strlen(name);

	for (const char *p = head, *end; p < head + len; p = end + 2) {
		end = memmem(p, (size_t)(head + len - p), "\r\n", 2);
		if (!end)
			return false;
		if ((size_t)(end - p) > name_len && strncasecmp(p, name, name_len) == 0 &&
		    p[name_len] == ':') {
			const char *v = p + name_len + 1;

			while (v < end && (*v == ' ' || *v == '\t'))
				v++;
			/* There may be another line of the same name. */
			if (!value || ((size_t)(end - v) >= strlen(value) &&
				       strncasecmp(v, value, strlen(value)) == 0))
				return true;
		}
	}
	return false;
}

int http_request_parse(const char *head, size_t len, struct http_request *ret)
{
	static const char VERSION[] = "HTTP/1.";
	const size_t version_len = sizeof(VERSION) - 1;
	const char *at = head, *end = head + len;

	if (!take_word(&at, end, 'A', 'Z', ret->method, sizeof(ret->method)) ||
	    !take_word(&at, end, '!', '~', ret->target, sizeof(ret->target)))
		return -EBADMSG;
	/* Behind the version stand a digit and the end of the line. */
	if ((size_t)(end - at) < version_len + 3 || memcmp(at, VERSION, version_len) != 0)
		return -EBADMSG;
	at += version_len;
	if (at[0] < '0' || at[0] > '9' || at[1] != '\r' || at[2] != '\n')
		return -EBADMSG;
	ret->is_head = strcmp(ret->method, "HEAD") == 0;
	ret->keeps = at[0] != '0' && !has_header(head, len, "connection", "close");
	/* What would be a body is not read, so nothing can be behind it. */
	if (has_header(head, len, "content-length", NULL) ||
	    has_header(head, len, "transfer-encoding", NULL))
		ret->keeps = false;
	return 0;
}
