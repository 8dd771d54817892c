/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/raw.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/plain.h"

#define EVENTS 256
/* The largest message: what --sizes may have. Untouched, it costs nothing. */
#define BUFFER_BYTES (1ull << 30)

struct raw_conn {
	int fd;
	struct raw_head head;
	size_t have; /* of the head, and then of what follows it */
};

/* What follows a head has a place of its own, so that it is written to memory as in a store. */
static uint8_t *buffer;

/* A part of the message. 1: it is whole; 0: not yet; negative: the end. */
static int read_some(struct raw_conn *c, int flags)
{
	uint8_t *at = (uint8_t *)&c->head + c->have;
	size_t want = sizeof(c->head) - c->have;
	ssize_t n;

	if (c->have >= sizeof(c->head)) {
		at = buffer + (c->have - sizeof(c->head));
		want = sizeof(c->head) + c->head.len - c->have;
	}
	n = recv(c->fd, at, want, flags);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return -ECONNRESET;
	c->have += (size_t)n;
	if (c->have < sizeof(c->head))
		return 0;
	if (c->head.len > BUFFER_BYTES || c->head.reply_len > BUFFER_BYTES)
		return -EMSGSIZE;
	return c->have == sizeof(c->head) + c->head.len;
}

static int answer(struct raw_conn *c)
{
	struct raw_head head = { .len = c->head.reply_len };
	struct iovec v[2] = { { &head, sizeof(head) }, { buffer, head.len } };

	c->have = 0;
	return plain_send_all(c->fd, v, head.len ? 2 : 1);
}

/* All that is there. */
static int serve_some(struct raw_conn *c, int flags)
{
	int r;

	do {
		r = read_some(c, flags);
		if (r == 1)
			r = answer(c) < 0 ? -ECONNRESET : 1;
	} while (r == 1 && flags);
	return r;
}

static bool take(const struct raw_server *s, int epoll_fd)
{
	struct raw_conn *c = calloc(1, sizeof(*c));
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
	int on = 1;

	if (!c)
		_exit(1);
	c->fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (c->fd < 0) {
		free(c);
		return false;
	}
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
	return true;
}

/* False: it is gone. */
static bool serve_conn(const struct raw_server *s, struct raw_conn *c)
{
	int r = serve_some(c, MSG_DONTWAIT);

	/* Nobody else is asked for until this one is closed. */
	while (r >= 0 && c->head.is_only)
		r = serve_some(c, s->is_polling ? MSG_DONTWAIT : 0);
	if (r >= 0)
		return true;
	close(c->fd);
	free(c);
	return false;
}

void raw_serve(const struct raw_server *s)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = NULL }, events[EVENTS];
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	unsigned conn_count = 0;

	buffer = mmap(NULL, BUFFER_BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (epoll_fd < 0 || buffer == MAP_FAILED)
		_exit(1);
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, s->listen_fd, &e);
	for (;;) {
		int n = epoll_wait(epoll_fd, events, EVENTS, s->is_polling && conn_count ? 0 : -1);

		for (int i = 0; i < n; i++) {
			struct raw_conn *c = events[i].data.ptr;

			if (!c)
				conn_count += take(s, epoll_fd);
			else if (!serve_conn(s, c))
				conn_count--;
		}
	}
}
