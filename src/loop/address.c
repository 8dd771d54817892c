/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#define HOST_BYTES_MAX 255 /* of a name in the DNS */

/* What follows `prefix`; NULL if `text` does not begin with it. */
static const char *after(const char *text, const char *prefix)
{
	size_t len = strlen(prefix);

	return strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

/* All of `text`, and nothing but digits: strtoul() would take signs and blanks. */
static bool parse_number(const char *text, uint64_t max, uint64_t *ret)
{
	uint64_t n = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		n = 10 * n + (uint64_t)(*text - '0');
		if (n > max)
			return false;
	}
	*ret = n;
	return true;
}

/* "host:port" or "[host]:port". */
static int split(const char *text, char host[HOST_BYTES_MAX + 1], bool *ret_is_v6,
		 uint64_t *ret_port)
{
	bool is_v6 = *text == '[';
	const char *begin = text + is_v6, *end = is_v6 ? strchr(begin, ']') : strrchr(begin, ':');
	const char *colon = end && is_v6 ? end + 1 : end;
	size_t len;

	if (!end || *colon != ':' || !parse_number(colon + 1, UINT16_MAX, ret_port))
		return -EINVAL;
	len = (size_t)(end - begin);
	if (len == 0 || len > HOST_BYTES_MAX)
		return -EINVAL;
	memcpy(host, begin, len);
	host[len] = '\0';
	/* An IPv6 address without brackets: which colon is the port's? */
	if (!is_v6 && strchr(host, ':'))
		return -EINVAL;
	*ret_is_v6 = is_v6;
	return 0;
}

static void set_in(struct address *a, struct in_addr host, uint64_t port)
{
	*a = (struct address){ .kind = ADDRESS_TCP, .len = sizeof(a->u.in) };
	a->u.in.sin_family = AF_INET;
	a->u.in.sin_addr = host;
	a->u.in.sin_port = htons((uint16_t)port);
}

static void set_in6(struct address *a, struct in6_addr host, uint64_t port)
{
	*a = (struct address){ .kind = ADDRESS_TCP, .len = sizeof(a->u.in6) };
	a->u.in6.sin6_family = AF_INET6;
	a->u.in6.sin6_addr = host;
	a->u.in6.sin6_port = htons((uint16_t)port);
}

static int resolve(const char *host, uint64_t port, struct address *ret)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
	int r = getaddrinfo(host, NULL, &hints, &found);

	if (r != 0)
		return r == EAI_MEMORY ? -ENOMEM : -EHOSTUNREACH;
	if (found->ai_family == AF_INET)
		set_in(ret, ((struct sockaddr_in *)found->ai_addr)->sin_addr, port);
	else
		set_in6(ret, ((struct sockaddr_in6 *)found->ai_addr)->sin6_addr, port);
	freeaddrinfo(found);
	return 0;
}

static int parse_tcp(const char *text, bool may_ask, struct address *ret)
{
	char host[HOST_BYTES_MAX + 1];
	struct in6_addr in6;
	struct in_addr in;
	uint64_t port;
	bool is_v6;
	int r = split(text, host, &is_v6, &port);

	if (r < 0)
		return r;
	if (is_v6) {
		if (inet_pton(AF_INET6, host, &in6) != 1)
			return -EINVAL;
		set_in6(ret, in6, port);
		return 0;
	}
	if (strcmp(host, "localhost") == 0)
		strcpy(host, "127.0.0.1");
	if (inet_pton(AF_INET, host, &in) != 1)
		return may_ask ? resolve(host, port, ret) : -EINVAL;
	set_in(ret, in, port);
	return 0;
}

static int parse_unix(const char *path, struct address *ret)
{
	size_t len = strlen(path);

	if (len == 0 || len >= sizeof(ret->u.un.sun_path))
		return -EINVAL;
	*ret = (struct address){ .kind = ADDRESS_UNIX, .len = sizeof(ret->u.un) };
	ret->u.un.sun_family = AF_UNIX;
	memcpy(ret->u.un.sun_path, path, len);
	return 0;
}

static int parse_sim(const char *text, struct address *ret)
{
	char node[16];
	const char *colon = strchr(text, ':');
	uint64_t id, port;

	if (!colon || (size_t)(colon - text) >= sizeof(node))
		return -EINVAL;
	memcpy(node, text, (size_t)(colon - text));
	node[colon - text] = '\0';
	if (!parse_number(node, UINT32_MAX, &id) || !parse_number(colon + 1, UINT32_MAX, &port))
		return -EINVAL;
	*ret = (struct address){ .kind = ADDRESS_SIM, .len = sizeof(ret->u.sim) };
	ret->u.sim.node = (uint32_t)id;
	ret->u.sim.port = (uint32_t)port;
	return 0;
}

static int parse(const char *text, bool may_ask, struct address *ret)
{
	const char *rest;

	if ((rest = after(text, "unix://")))
		return parse_unix(rest, ret);
	if ((rest = after(text, "sim://")))
		return parse_sim(rest, ret);
	if ((rest = after(text, "tcp://")))
		return parse_tcp(rest, may_ask, ret);
	return parse_tcp(text, may_ask, ret);
}

int address_parse(const char *text, struct address *ret)
{
	return parse(text, false, ret);
}

int address_resolve(const char *text, struct address *ret)
{
	return parse(text, true, ret);
}

static void format_tcp(const struct address *a, char *buf, size_t cap)
{
	char host[INET6_ADDRSTRLEN];

	if (a->u.any.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &a->u.in6.sin6_addr, host, sizeof(host));
		snprintf(buf, cap, "tcp://[%s]:%u", host, ntohs(a->u.in6.sin6_port));
	} else {
		inet_ntop(AF_INET, &a->u.in.sin_addr, host, sizeof(host));
		snprintf(buf, cap, "tcp://%s:%u", host, ntohs(a->u.in.sin_port));
	}
}

void address_format(const struct address *a, char *buf, size_t cap)
{
	switch (a->kind) {
	case ADDRESS_NONE:
		snprintf(buf, cap, "none");
		return;
	case ADDRESS_TCP:
		format_tcp(a, buf, cap);
		return;
	case ADDRESS_UNIX:
		snprintf(buf, cap, "unix://%.*s", (int)sizeof(a->u.un.sun_path), a->u.un.sun_path);
		return;
	case ADDRESS_SIM:
		snprintf(buf, cap, "sim://%u:%u", a->u.sim.node, a->u.sim.port);
		return;
	}
}

static in_port_t *port_of(struct address *a)
{
	return a->u.any.sa_family == AF_INET6 ? &a->u.in6.sin6_port : &a->u.in.sin_port;
}

void address_fill(struct address *a, const struct address *host)
{
	bool is_any = a->u.any.sa_family == AF_INET6 ? IN6_IS_ADDR_UNSPECIFIED(&a->u.in6.sin6_addr)
						     : a->u.in.sin_addr.s_addr == htonl(INADDR_ANY);
	in_port_t port = *port_of(a);

	if (a->kind != ADDRESS_TCP || host->kind != ADDRESS_TCP || !is_any)
		return;
	*a = *host;
	*port_of(a) = port;
}

bool address_is_loopback(const struct address *a)
{
	const struct in6_addr *in6 = &a->u.in6.sin6_addr;

	if (a->kind != ADDRESS_TCP)
		return a->kind != ADDRESS_NONE;
	if (a->u.any.sa_family == AF_INET)
		return ntohl(a->u.in.sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
}
