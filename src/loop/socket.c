/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream over a socket: TCP or Unix.
 *
 *	socket_connect() --> CONNECTING --> OPEN --> (closed)
 *	                       |   ^          ^
 *	            no room ---+   +-- again  +--- socket_adopt()
 *	                       |
 *	                       +--> FAILED: recv() and send() say why
 *
 * Whatever the peer makes fail is told by ready(), however fast it was, so callers
 * have one path for it. socket_connect() itself fails only for want of means.
 */
#include "loop/epoll_priv.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/container.h"
#include "base/limits.h"
#include "loop/fds.h"
#include "loop/unread.h"

#define EVENTS (EPOLLIN | EPOLLRDHUP)

/* What a request touches comes first. */
struct socket {
	struct source source;
	/*
	 * What we know without asking: less came than we had room for, or nothing, so nothing
	 * is left; unless the last event told of an end or an error, which is still to be
	 * received. Whatever comes from then on is an event. It saves every request the
	 * call whose answer is EAGAIN.
	 */
	bool is_drained, is_at_end;
	bool is_connecting, takes_fds;
	bool hears_of_room; /* not before it needs some: who has room polls ready all the time */
	int error;          /* why it could not connect; sticks */
	struct fds out, in; /* to the peer, and from it */
	struct stream stream;
	struct unread unread;
	struct timer again; /* tries once more to connect, or tells that it failed */
	struct closing closing;
};

/* The control part of a message, with room for as many as may go with it. */
union control {
	struct cmsghdr header; /* for its alignment */
	uint8_t bytes[CMSG_SPACE(STREAM_FDS_MAX * sizeof(int))];
};

static struct socket *socket_of(struct stream *s)
{
	return container_of(s, struct socket, stream);
}

static void tell(struct socket *k)
{
	assert(k->stream.ready);
	k->stream.ready(&k->stream);
}

/* Those of a message; more than we have room for, the kernel has closed. */
static void fds_from(struct fds *f, struct msghdr *m)
{
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		fds_close(f); /* nobody has taken the last ones */
		f->count = (unsigned)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(f->fd, CMSG_DATA(h), f->count * sizeof(int));
	}
}

static ssize_t recv_with_fds(struct socket *k, void *buf, size_t len)
{
	union control control;
	struct iovec iov = { buf, len };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = CMSG_LEN(STREAM_FDS_MAX * sizeof(int)) };
	ssize_t r = recvmsg(k->source.fd, &m, MSG_CMSG_CLOEXEC);

	if (r >= 0)
		fds_from(&k->in, &m);
	return r;
}

static ssize_t socket_recv(struct stream *s, void *buf, size_t len)
{
	struct socket *k = socket_of(s);
	ssize_t r;

	assert(len > 0);
	if (k->is_connecting || k->error)
		return k->is_connecting ? -EAGAIN : k->error;
	if (k->is_drained)
		return -EAGAIN;
	do
		r = k->takes_fds ? recv_with_fds(k, buf, len) : recv(k->source.fd, buf, len, 0);
	while (r < 0 && errno == EINTR);
	if (r < 0) {
		r = -errno;
		k->is_drained = r == -EAGAIN && !k->is_at_end;
		return r;
	}
	k->source.received += r > 0;
	/* The kernel cuts behind what descriptors came with. */
	k->is_drained = r > 0 && (size_t)r < len && !k->is_at_end && k->in.count == 0;
	return r;
}

static void fds_into(const struct fds *f, struct msghdr *m, union control *control)
{
	memset(control, 0, sizeof(*control));
	control->header = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
					    .cmsg_type = SCM_RIGHTS,
					    .cmsg_len = CMSG_LEN(f->count * sizeof(int)) };
	memcpy(CMSG_DATA(&control->header), f->fd, f->count * sizeof(int));
	m->msg_control = control;
	m->msg_controllen = CMSG_SPACE(f->count * sizeof(int));
}

/* From the first time on that there was none: whoever sends so much will want it again. */
static int want_room(struct socket *k)
{
	int r = k->hears_of_room ? 0 : source_change(k->stream.loop, &k->source, EVENTS | EPOLLOUT);

	k->hears_of_room = true;
	return r < 0 ? r : -EAGAIN;
}

static void out_is_sent(struct socket *k)
{
	fds_close(&k->out);
	k->unread.is_sent = true;
}

/*
 * Of our user's, in other processes of his, too, as many are on their way as may be: the bytes go
 * alone, as to a peer that has no room for a descriptor.
 */
static bool goes_without(struct socket *k, struct msghdr *m)
{
	if (errno != ETOOMANYREFS || k->out.count == 0)
		return false;
	out_is_sent(k);
	m->msg_control = NULL;
	m->msg_controllen = 0;
	return true;
}

static ssize_t socket_send(struct stream *s, const struct iovec *iov, int count)
{
	struct socket *k = socket_of(s);
	struct msghdr m = { .msg_iov = (struct iovec *)iov,
			    .msg_iovlen = (size_t)(count < IOV_MAX ? count : IOV_MAX) };
	union control control;
	ssize_t r;

	if (k->is_connecting || k->error)
		return k->is_connecting ? -EAGAIN : k->error;
	if (k->out.count > 0)
		fds_into(&k->out, &m, &control);
	do
		/* For one piece the kernel has less to look at. */
		r = count == 1 && k->out.count == 0
			    ? send(k->source.fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL)
			    : sendmsg(k->source.fd, &m, MSG_NOSIGNAL);
	while (r < 0 && (errno == EINTR || goes_without(k, &m)));
	if (r < 0)
		return errno == EAGAIN ? want_room(k) : -errno;
	if (k->out.count > 0)
		out_is_sent(k);
	return r;
}

static int socket_pass(struct stream *s, const int *fds, unsigned count)
{
	struct socket *k = socket_of(s);
	int r;

	if (s->peer.address.kind != ADDRESS_UNIX)
		return -EOPNOTSUPP;
	if (k->out.count > 0)
		return -EBUSY;
	r = fds_copy(&k->out, fds, count);
	if (r < 0)
		return r;
	k->unread.fd = k->source.fd;
	r = unread_add(epoll_of(s->loop), &k->unread, count, s->share);
	if (r < 0)
		fds_close(&k->out);
	return r;
}

static unsigned socket_take(struct stream *s, int *fds, unsigned cap)
{
	struct socket *k = socket_of(s);

	k->takes_fds = s->peer.address.kind == ADDRESS_UNIX;
	return fds_take(&k->in, fds, cap);
}

static void socket_free(struct closing *c)
{
	node_free(container_of(c, struct socket, closing));
}

static void end(struct socket *k)
{
	struct loop *l = k->stream.loop;

	unread_drop(epoll_of(l), &k->unread);
	source_close(l, &k->source);
	loop_free_later(l, &k->closing);
}

/* The kernel tells when the peer reads, and when it is gone. */
static void left_event(struct source *s, uint32_t events)
{
	struct socket *k = container_of(s, struct socket, source);

	(void)events;
	if (!unread_is_left(epoll_of(k->stream.loop), &k->unread))
		end(k);
}

static void socket_close(struct stream *s)
{
	struct socket *k = socket_of(s);

	timer_stop(s->loop, &k->again);
	/* A child that was forked by whoever we are a library of may have a copy of the descriptor,
	 * and then close() alone tells the peer nothing. */
	(void)shutdown(k->source.fd, SHUT_RDWR);
	fds_close(&k->out);
	fds_close(&k->in);
	k->unread.is_sent = k->unread.is_closed = true;
	k->source.event = left_event;
	/* What is on its way stays so without us, and is to be counted as long as it does. */
	if (!unread_is_left(epoll_of(s->loop), &k->unread) ||
	    source_change(s->loop, &k->source, EVENTS | EPOLLOUT) < 0)
		end(k);
}

void sockets_end(struct epoll_loop *el)
{
	while (!list_is_empty(&el->unread)) {
		struct unread *u = container_of(el->unread.next, struct unread, link);
		struct socket *k = container_of(u, struct socket, unread);

		unread_drop(el, u);
		source_close(&el->loop, &k->source);
		node_free(k);
	}
}

static const struct stream_ops SOCKET_OPS = {
	.recv = socket_recv,
	.send = socket_send,
	.close = socket_close,
	.pass = socket_pass,
	.take = socket_take,
};

static void ask_who_it_is(struct socket *k)
{
	struct peer *p = &k->stream.peer;
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (p->address.kind != ADDRESS_UNIX ||
	    getsockopt(k->source.fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return;
	p->uid = cred.uid;
	p->pid = cred.pid;
}

/*
 * Nobody listened, so the kernel gave us that very port as our own and connected us
 * to ourselves. It happens to who tries a port of the ephemeral range again and again.
 */
static bool is_connected_to_itself(const struct socket *k)
{
	struct sockaddr_storage us = { 0 }, them = { 0 };
	socklen_t us_len = sizeof(us), them_len = sizeof(them);

	return k->stream.peer.address.kind == ADDRESS_TCP &&
	       getsockname(k->source.fd, (struct sockaddr *)&us, &us_len) == 0 &&
	       getpeername(k->source.fd, (struct sockaddr *)&them, &them_len) == 0 &&
	       us_len == them_len && memcmp(&us, &them, us_len) == 0;
}

static void finish_connecting(struct socket *k)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(k->source.fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (!error && is_connected_to_itself(k))
		error = ECONNREFUSED;
	if (!error)
		error = -source_change(k->stream.loop, &k->source, EVENTS);
	k->is_connecting = false;
	k->error = -error;
	if (!error)
		ask_who_it_is(k);
}

static void socket_event(struct source *s, uint32_t events)
{
	struct socket *k = container_of(s, struct socket, source);

	k->is_drained = false;
	/* For good: who looks by himself (epoll.c) knows nothing of it, and it is told only once.
	 */
	k->is_at_end |= (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
	if (k->is_connecting)
		finish_connecting(k);
	tell(k);
}

static int try_connect(struct socket *k)
{
	struct address *to = &k->stream.peer.address;
	struct loop *l = k->stream.loop;
	int r = connect(k->source.fd, &to->u.any, to->len) < 0 ? -errno : 0;

	if (r == -EAGAIN) {
		/* A Unix listener's queue is full, and no event will say when there is room. */
		timer_start(l, &k->again, l->now_ns + SOCKET_AGAIN_MS * 1000000ull);
		return 0;
	}
	/* Only now: a socket that is not even connecting tells of a hang-up. */
	if (r == 0 || r == -EINPROGRESS || r == -EINTR)
		return source_open(l, &k->source, EVENTS | EPOLLOUT);
	k->error = r;
	timer_start(l, &k->again, 0);
	return 0;
}

static void connect_again(struct timer *t)
{
	struct socket *k = container_of(t, struct socket, again);
	int r = k->error ? k->error : try_connect(k);

	if (r == 0)
		return;
	k->is_connecting = false;
	k->error = r;
	tell(k);
}

static struct socket *socket_new(struct loop *l, const struct address *peer)
{
	struct socket *k = node_alloc(sizeof(*k));

	if (!k)
		return NULL;
	k->stream.ops = &SOCKET_OPS;
	k->stream.loop = l;
	k->stream.peer.address = *peer;
	k->stream.peer.is_loopback = address_is_loopback(peer);
	k->stream.peer.uid = UINT32_MAX;
	k->source.event = socket_event;
	k->source.fd = -1;
	k->again.fire = connect_again;
	k->closing.free = socket_free;
	return k;
}

static void set_option(struct socket *k, int level, int option, int value)
{
	setsockopt(k->source.fd, level, option, &value, sizeof(value));
}

static void set_options(struct socket *k)
{
	if (k->stream.peer.address.kind != ADDRESS_TCP)
		return;
	/* We send whole frames, so waiting for more bytes before sending these only adds latency.
	 */
	set_option(k, IPPROTO_TCP, TCP_NODELAY, 1);
	set_option(k, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(k, IPPROTO_TCP, TCP_KEEPIDLE, HOST_QUIET_S);
	set_option(k, IPPROTO_TCP, TCP_KEEPINTVL, HOST_ASK_S);
	set_option(k, IPPROTO_TCP, TCP_KEEPCNT, (HOST_GONE_S - HOST_QUIET_S) / HOST_ASK_S);
}

int socket_connect(struct loop *l, const struct address *to, struct stream **ret)
{
	struct socket *k;
	int r;

	if (to->kind != ADDRESS_TCP && to->kind != ADDRESS_UNIX)
		return -EAFNOSUPPORT;
	k = socket_new(l, to);
	if (!k)
		return -ENOMEM;
	k->is_connecting = true;
	k->source.fd = socket(to->u.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	r = k->source.fd < 0 ? -errno : 0;
	if (r == 0) {
		set_options(k);
		if (to->kind == ADDRESS_TCP)
			set_option(k, IPPROTO_TCP, TCP_USER_TIMEOUT, HOST_GONE_S * 1000);
		r = try_connect(k);
	}
	if (r < 0) {
		socket_close(&k->stream);
		return r;
	}
	*ret = &k->stream;
	return 0;
}

int socket_adopt(struct loop *l, int fd, const struct address *from, struct stream **ret)
{
	struct socket *k = socket_new(l, from);
	int r;

	if (!k) {
		close(fd);
		return -ENOMEM;
	}
	k->source.fd = fd;
	set_options(k);
	ask_who_it_is(k);
	k->hears_of_room = true; /* it has some, and so is told ready at once */
	r = source_open(l, &k->source, EVENTS | EPOLLOUT);
	if (r < 0) {
		socket_close(&k->stream);
		return r;
	}
	*ret = &k->stream;
	return 0;
}
