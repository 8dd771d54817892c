/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A listener over a socket. What it takes in one turn is bounded; `again` goes on
 * with the rest in the next turn, or a little later if we are out of descriptors.
 *
 * A Unix path is the name of a listener only as long as its socket lives; a process
 * that was killed leaves the path behind. So a path that refuses connections is
 * taken over in one step, and at the end only the path that is still ours is removed.
 */
#include "loop/epoll_priv.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/container.h"
#include "base/limits.h"
#include "base/log.h"

#define MODE_DEFAULT 0600

struct acceptor {
	struct source source;
	struct listener *listener; /* not touched any more once source.fd is -1 */
	struct loop *loop;
	struct timer again;
	struct closing closing;
	struct stat path; /* of a Unix path: to know it again */
};

/* An IPv4 peer of an IPv6 socket is shown as what it is. */
static void unmap(struct address *a)
{
	struct sockaddr_in6 in6 = a->u.in6;
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = in6.sin6_port };

	if (a->kind != ADDRESS_TCP || in6.sin6_family != AF_INET6 ||
	    !IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr))
		return;
	memcpy(&in.sin_addr, in6.sin6_addr.s6_addr + 12, sizeof(in.sin_addr));
	a->u.in = in;
	a->len = sizeof(in);
}

static void take_in(struct acceptor *a, int fd, struct address *from)
{
	struct stream *s;
	int r;

	from->kind = a->listener->address.kind;
	unmap(from);
	if (a->listener->taken) {
		a->listener->taken(a->listener, fd, from);
		return;
	}
	r = stream_adopt(a->loop, fd, from, &s);
	if (r < 0)
		log_warning("A connection was dropped for want of memory error=\"%s\"",
			    strerror(-r));
	else
		a->listener->accepted(a->listener, s);
}

static bool is_out_of_means(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void accept_some(struct acceptor *a)
{
	struct source *s = &a->source;

	/* accepted() may close the listener. */
	for (int n = 0; n < LOOP_ACCEPTS_PER_TURN && s->fd >= 0; n++) {
		struct address from = { .len = sizeof(from.u) };
		int fd = accept4(s->fd, &from.u.any, &from.len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			take_in(a, fd, &from);
		} else if (errno == EAGAIN) {
			return;
		} else if (is_out_of_means(errno)) {
			log_warning(
				"Connections wait until there are descriptors again error=\"%s\"",
				strerror(errno));
			timer_start(a->loop, &a->again,
				    a->loop->now_ns + SOCKET_AGAIN_MS * 1000000ull);
			return;
		}
		/* Else it is an error of that connection, which is gone: on to the next. */
	}
	if (s->fd >= 0)
		timer_start(a->loop, &a->again, 0);
}

static void accept_again(struct timer *t)
{
	accept_some(container_of(t, struct acceptor, again));
}

static void acceptor_event(struct source *s, uint32_t events)
{
	(void)events;
	accept_some(container_of(s, struct acceptor, source));
}

static int bind_tcp(int fd, const struct address *at)
{
	int on = 1, off = 0;

	/* A server that starts again finds its port still busy with connections that are over. */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (at->u.any.sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	return bind(fd, &at->u.any, at->len) < 0 ? -errno : 0;
}

/* 0: the path is a socket's, and nobody listens at it. */
static int check_abandoned(const struct address *at, struct stat *ret_seen)
{
	int fd, r;

	if (lstat(at->u.un.sun_path, ret_seen) < 0)
		return -errno;
	if (!S_ISSOCK(ret_seen->st_mode))
		return -EADDRINUSE;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	do
		r = connect(fd, &at->u.any, at->len) < 0 ? -errno : 0;
	while (r == -EINTR);
	close(fd);
	/* -EAGAIN: his queue is full. */
	if (r == 0 || r == -EAGAIN)
		return -EADDRINUSE;
	return r == -ECONNREFUSED ? 0 : r;
}

/* 0: the path is what it was. */
static int check_still(const struct address *at, const struct stat *seen)
{
	struct stat now;

	if (lstat(at->u.un.sun_path, &now) < 0)
		return -errno;
	return now.st_dev == seen->st_dev && now.st_ino == seen->st_ino ? 0 : -EADDRINUSE;
}

/* Its neighbour, whose name is as long and so fits as well. */
static struct address beside(const struct address *at)
{
	struct address a = *at;
	char *last = a.u.un.sun_path + strlen(a.u.un.sun_path) - 1;

	*last = *last == '~' ? '-' : '~';
	return a;
}

/*
 * The new path takes the abandoned one's place in one step: whoever connects meanwhile finds that
 * somebody was killed there and may come back, and never that nobody has ever been there.
 */
static int bind_instead(int fd, const struct address *at)
{
	struct address new = beside(at);
	struct stat seen, left;
	int r = check_abandoned(at, &seen);

	if (r < 0)
		return r == -ENOENT ? -EADDRINUSE : r; /* a moment ago it was */
	/* Of who was killed before its rename(). */
	r = check_abandoned(&new, &left);
	if (r == 0 && unlink(new.u.un.sun_path) < 0)
		r = -errno;
	if (r < 0 && r != -ENOENT)
		return r;
	if (bind(fd, &new.u.any, new.len) < 0)
		return -errno;
	/*
	 * Two that start at once may both come here, and the later one would take the earlier
	 * one's new path away; to look once more makes that window small. Where it must be closed,
	 * the directory has a lock.
	 */
	r = check_still(at, &seen);
	if (r == 0 && rename(new.u.un.sun_path, at->u.un.sun_path) < 0)
		r = -errno;
	if (r < 0)
		unlink(new.u.un.sun_path);
	return r;
}

static int bind_unix(int fd, const struct address *at, mode_t mode, struct stat *ret_path)
{
	int r;

	/* The path is born with the mode of its socket, less the umask: never wider than wanted. */
	if (fchmod(fd, mode) < 0)
		return -errno;
	r = bind(fd, &at->u.any, at->len) < 0 ? -errno : 0;
	if (r == -EADDRINUSE)
		r = bind_instead(fd, at);
	if (r < 0)
		return r;
	/* Before listen(), so nobody has been refused by too narrow a mode. */
	if (lstat(at->u.un.sun_path, ret_path) < 0 || chmod(at->u.un.sun_path, mode) < 0) {
		r = -errno;
		unlink(at->u.un.sun_path);
		return r;
	}
	return 0;
}

static int bind_and_listen(struct acceptor *a, const struct address *at, unsigned mode)
{
	bool is_unix = at->kind == ADDRESS_UNIX;
	int fd = socket(at->u.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return -errno;
	a->source.fd = fd;
	r = is_unix ? bind_unix(fd, at, mode ? mode : MODE_DEFAULT, &a->path) : bind_tcp(fd, at);
	if (r < 0)
		return r;
	if (listen(fd, LISTEN_BACKLOG) < 0)
		r = -errno;
	if (r == 0)
		r = source_open(a->loop, &a->source, EPOLLIN);
	if (r < 0 && is_unix)
		unlink(at->u.un.sun_path);
	return r;
}

/* With the port that the kernel chose. */
static int ask_address(int fd, const struct address *at, struct address *ret)
{
	*ret = *at;
	if (at->kind != ADDRESS_TCP)
		return 0;
	ret->len = sizeof(ret->u);
	return getsockname(fd, &ret->u.any, &ret->len) < 0 ? -errno : 0;
}

static void acceptor_free(struct closing *c)
{
	node_free(container_of(c, struct acceptor, closing));
}

int acceptor_open(struct loop *l, const struct address *at, struct listener *lr)
{
	struct acceptor *a;
	int r;

	if (at->kind != ADDRESS_TCP && at->kind != ADDRESS_UNIX)
		return -EAFNOSUPPORT;
	a = node_alloc(sizeof(*a));
	if (!a)
		return -ENOMEM;
	*a = (struct acceptor){ .source = { .event = acceptor_event, .fd = -1 },
				.listener = lr,
				.loop = l,
				.again = { .fire = accept_again },
				.closing = { .free = acceptor_free } };
	r = bind_and_listen(a, at, lr->mode);
	if (r == 0)
		r = ask_address(a->source.fd, at, &lr->address);
	if (r < 0) {
		source_close(l, &a->source);
		node_free(a);
		return r;
	}
	lr->acceptor = a;
	return 0;
}

void acceptor_close(struct listener *lr)
{
	struct acceptor *a = lr->acceptor;

	if (lr->address.kind == ADDRESS_UNIX && check_still(&lr->address, &a->path) == 0)
		unlink(lr->address.u.un.sun_path);
	timer_stop(a->loop, &a->again);
	source_close(a->loop, &a->source);
	loop_free_later(a->loop, &a->closing);
	lr->acceptor = NULL;
}
