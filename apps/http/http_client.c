/* SPDX-License-Identifier: Apache-2.0 */
#include "http_client.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "clock.h"

/* How long one look takes: a wait without an end comes round so often. */
#define LOOK_MS 60000

int http_client_init(struct http_client *c, const char *address, size_t body_max)
{
	const char *colon = strrchr(address, ':');
	size_t len = colon ? (size_t)(colon - address) : 0;

	memset(c, 0, sizeof(*c));
	c->fd = -1;
	c->in.kind = HTTP_RESPONSE;
	c->in.body_max = body_max;
	if (len == 0 || len >= sizeof(c->host) || strlen(colon + 1) >= sizeof(c->port) || !colon[1])
		return -EINVAL;
	if (address[0] == '[' && colon[-1] == ']') {
		address++;
		len -= 2;
	}
	snprintf(c->host, sizeof(c->host), "%.*s", (int)len, address);
	snprintf(c->port, sizeof(c->port), "%s", colon + 1);
	return 0;
}

static void disconnect(struct http_client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

void http_client_fini(struct http_client *c)
{
	disconnect(c);
	http_intake_fini(&c->in);
}

/* 0: ready, or something that read or write will tell. */
static int ready_wait(int fd, short events, uint64_t due_ns)
{
	struct pollfd p = { .fd = fd, .events = events };

	for (;;) {
		int n = poll(&p, 1, clock_left_ms(due_ns, LOOK_MS));

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (clock_ns() >= due_ns)
			return -ETIMEDOUT;
	}
}

static int address_connect(const struct addrinfo *a, uint64_t due_ns, int *ret_fd)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, error = 0, r = 0;
	socklen_t len = sizeof(error);

	if (fd < 0)
		return -errno;
	if (connect(fd, a->ai_addr, a->ai_addrlen) < 0)
		r = errno == EINPROGRESS ? ready_wait(fd, POLLOUT, due_ns) : -errno;
	if (r == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0)
		r = -error;
	if (r < 0) {
		close(fd);
		return r;
	}
	/* Without an answer for minutes, only the kernel can tell that nobody is there. */
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	*ret_fd = fd;
	return 0;
}

static int server_connect(struct http_client *c, uint64_t due_ns)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
	int r = -EHOSTUNREACH;

	if (getaddrinfo(c->host, c->port, &hints, &list) != 0)
		return -EHOSTUNREACH;
	for (const struct addrinfo *a = list; a && c->fd < 0; a = a->ai_next)
		r = address_connect(a, due_ns, &c->fd);
	freeaddrinfo(list);
	c->was_used = false;
	return r == 0 || r == -ETIMEDOUT ? r : -EHOSTUNREACH;
}

static int all_send(int fd, const char *bytes, size_t len, uint64_t due_ns)
{
	while (len > 0) {
		ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
		int r = 0;

		if (n < 0 && errno == EAGAIN)
			r = ready_wait(fd, POLLOUT, due_ns);
		else if (n < 0 && errno != EINTR)
			r = -EPIPE;
		if (r < 0)
			return r;
		bytes += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* One write for what is short, so that it is one packet. */
static int request_send(struct http_client *c, const struct http_call *call)
{
	bool has_body = strcmp(call->method, "GET") != 0;
	char length[64] = "", *text;
	int len, r;

	if (has_body)
		snprintf(length, sizeof(length), "Content-Length: %zu\r\n", call->body_len);
	len = asprintf(&text, "%s %s HTTP/1.1\r\nHost: %s:%s\r\n%s%s\r\n%.*s", call->method,
		       call->target, c->host, c->port, call->headers, length,
		       has_body ? (int)call->body_len : 0, has_body ? call->body : "");
	if (len < 0)
		return -ENOMEM;
	r = all_send(c->fd, text, (size_t)len, call->due_ns);
	free(text);
	return r;
}

static int answer_read(struct http_client *c, uint64_t due_ns)
{
	while (!http_intake_is_whole(&c->in)) {
		char buf[16384];
		ssize_t n = recv(c->fd, buf, sizeof(buf), 0);
		int64_t taken;

		if (n < 0 && errno == EAGAIN) {
			int r = ready_wait(c->fd, POLLIN, due_ns);

			if (r < 0)
				return r;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return http_intake_close(&c->in);
		taken = http_intake_take(&c->in, buf, (size_t)n);
		if (taken < 0)
			return (int)taken;
		/* What nobody asked for. */
		if (taken < n)
			return -EBADMSG;
	}
	return 0;
}

static int call_once(struct http_client *c, const struct http_call *call)
{
	int r = c->fd >= 0 ? 0 : server_connect(c, call->due_ns);

	http_intake_next(&c->in);
	if (r == 0)
		r = request_send(c, call);
	if (r == 0)
		r = answer_read(c, call->due_ns);
	return r;
}

int http_client_call(struct http_client *c, const struct http_call *call)
{
	bool was_used = c->fd >= 0 && c->was_used;
	int r = call_once(c, call);

	if (r == -EPIPE && was_used && http_intake_is_idle(&c->in)) {
		disconnect(c);
		r = call_once(c, call);
	}
	if (r < 0 || !c->in.head.keeps)
		disconnect(c);
	c->was_used = true;
	return r;
}
