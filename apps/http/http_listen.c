/* SPDX-License-Identifier: Apache-2.0 */
#include "http_listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 64

static int address_listen(const struct addrinfo *a)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, off = 0, r;

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (a->ai_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

int http_listen(const char *address)
{
	static const int FAMILIES[] = { AF_INET6, AF_INET }; /* where there is no IPv6, the other */
	const char *colon = strrchr(address, ':');
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list;
	size_t len = colon ? (size_t)(colon - address) : 0;
	char host[256];
	int fd = -EADDRNOTAVAIL;

	if (!colon || len >= sizeof(host))
		return -EINVAL;
	if (len > 2 && address[0] == '[' && colon[-1] == ']') {
		address++;
		len -= 2;
	}
	snprintf(host, sizeof(host), "%.*s", (int)len, address);
	for (size_t i = 0; i < 2 && fd < 0; i++) {
		hints.ai_family = FAMILIES[i];
		if (getaddrinfo(*host ? host : NULL, colon + 1, &hints, &list) != 0)
			continue;
		for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
			fd = address_listen(a);
		freeaddrinfo(list);
	}
	return fd;
}

int http_listen_port(int fd)
{
	struct sockaddr_storage at;
	socklen_t len = sizeof(at);

	if (getsockname(fd, (struct sockaddr *)&at, &len) < 0)
		return 0;
	return ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
					      : ((struct sockaddr_in *)&at)->sin_port);
}
