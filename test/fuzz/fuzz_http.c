/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of the metrics port: what is taken is a request line of RFC 9112 as a regular
 * expression has it; who asks for the end of the connection gets it.
 *
 * The input: what a monitor sends; from its first empty line on it is left out.
 */
#include "fuzz.h"

#include <errno.h>

#include "proxy/http_request.h"

/* ^[A-Z]{1,15} [!-~]{1,255} HTTP/1\.[0-9]\r\n */
static bool is_request(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");

	if (n < 1 || n > 15 || s[n] != ' ')
		return false;
	s += n + 1;
	for (n = 0; s[n] > ' ' && s[n] < 127;)
		n++;
	if (n < 1 || n > 255 || s[n] != ' ' || strncmp(s + n + 1, "HTTP/1.", 7) != 0)
		return false;
	s += n + 8;
	return s[0] >= '0' && s[0] <= '9' && s[1] == '\r' && s[2] == '\n';
}

static int parse(const char *head, const char *more, struct http_request *ret)
{
	size_t len = strlen(head) + strlen(more);
	char *whole = malloc(len + 1), *exact = malloc(len);
	int r;

	sprintf(whole, "%s%s", head, more);
	memcpy(exact, whole, len);
	r = http_request_parse(exact, len, ret);
	free(exact);
	free(whole);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *copy = text_of((struct slice){ data, len }), *head = malloc(len + 3), *end;
	struct http_request request, other;
	size_t method, target;
	int r;

	/* Lines, and none of them empty. */
	sprintf(head, "%s\r\n", copy);
	end = strstr(head, "\r\n\r\n");
	if (end)
		end[2] = '\0';
	r = parse(head, "\r\n", &request);
	REQUIRE(r == 0 || r == -EBADMSG);
	REQUIRE((r == 0) == is_request(head));
	if (r == 0) {
		method = strlen(request.method);
		target = strlen(request.target);
		REQUIRE(method < sizeof(request.method) && target < sizeof(request.target));
		REQUIRE(strncmp(head, request.method, method) == 0);
		REQUIRE(strncmp(head + method + 1, request.target, target) == 0);
		REQUIRE(request.is_head == (strcmp(request.method, "HEAD") == 0));
		REQUIRE(parse(head, "x: y\r\n\r\n", &other) == 0);
		REQUIRE(other.keeps == request.keeps);
		REQUIRE(parse(head, "CONNECTION: close\r\n\r\n", &other) == 0);
		REQUIRE(!other.keeps);
		REQUIRE(parse(head, "content-length: 5\r\n\r\n", &other) == 0);
		REQUIRE(!other.keeps);
	}
	free(head);
	free(copy);
	return 0;
}

void fuzz_seeds(void)
{
	static const char GET[] = "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
	static const char HEAD[] = "HEAD /healthz HTTP/1.0\r\nConnection: close\r\n\r\n";
	static const char POST[] = "POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";

	fuzz_seed("get", GET, sizeof(GET) - 1);
	fuzz_seed("head", HEAD, sizeof(HEAD) - 1);
	fuzz_seed("post", POST, sizeof(POST) - 1);
}
