/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll: the loop of real sockets. epoll.c waits and hands out; socket.c is the
 * stream, acceptor.c the listener.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/container.h"
#include "loop/loop.h"
#include "loop/stream.h"

/*
 * A descriptor that is told of edges. It lies in memory that is freed at the end of
 * a turn (loop_free_later()), since what epoll has already told us may still be
 * handed out in this one.
 */
struct source {
	void (*event)(struct source *s, uint32_t events);
	int fd;            /* -1 once closed: its events are dropped */
	unsigned received; /* counts up with what came */
};

struct epoll_loop {
	struct loop loop;
	int epoll_fd;
	bool has_only_ms; /* a kernel before 5.11 */
	unsigned unasked; /* turns since epoll was asked */
	uint64_t unasked_from_ns;
	unsigned short_waits;  /* the last ones that were over before a sleep would have paid */
	long core_count;       /* of this machine; 0: not known yet */
	uint64_t rest_ns;      /* until then no wait stays awake: others want the core */
	struct source alarm;   /* an eventfd: other threads' wake-ups */
	struct source clock;   /* a timerfd, for who waits on our descriptor; -1: nobody does */
	uint64_t clock_due_ns; /* when it rings; UINT64_MAX: never */
	/* The only one that the last events were of, and how many times in a row. */
	struct source *only;
	unsigned only_count;
	unsigned only_turns; /* in which that was asked, since epoll was */
	/* Of struct unread (unread.h), who is to be looked at next first; and all of theirs. */
	struct list unread;
	unsigned unread_count;
};

static inline struct epoll_loop *epoll_of(struct loop *l)
{
	return container_of(l, struct epoll_loop, loop);
}

/* `s->fd` and `s->event` are set. `events` without EPOLLET. */
int source_open(struct loop *l, struct source *s, uint32_t events);
/* Others from now on; what is there already is told of once more. */
int source_change(struct loop *l, struct source *s, uint32_t events);
void source_close(struct loop *l, struct source *s); /* closes fd; fine if it is -1 */

int socket_connect(struct loop *l, const struct address *to, struct stream **ret);
/* Takes `fd`, even if it fails. */
int socket_adopt(struct loop *l, int fd, const struct address *from, struct stream **ret);

/* Those that were closed with descriptors unread: no others are left. */
void sockets_end(struct epoll_loop *el);

int acceptor_open(struct loop *l, const struct address *at, struct listener *lr);
void acceptor_close(struct listener *lr);
