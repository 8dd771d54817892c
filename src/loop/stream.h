/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream: bytes to and from a peer, in order: TCP, a Unix socket, a pair of
 * buffers between two roles of one loop, or the simulator's network.
 *
 * recv() and send() never wait: -EAGAIN means that ready() will be called when it
 * is worth another try. Readiness is told by edges: after ready() go on until
 * -EAGAIN, in either direction. A connecting stream is told ready when it is
 * connected or has failed; recv() and send() then say which.
 *
 * A stream belongs to whoever opened or accepted it, until stream_close(). After
 * that nothing of it is called any more.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "loop/loop.h"

/*
 * "tcp://host:port" with an IPv4 address, an IPv6 one in brackets, or a name that
 * was looked up; "unix:///path"; "sim://node:port" in the simulator.
 */
enum address_kind { ADDRESS_NONE, ADDRESS_TCP, ADDRESS_UNIX, ADDRESS_SIM };

struct address {
	enum address_kind kind;
	socklen_t len;
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
		struct {
			uint32_t node;
			uint32_t port;
		} sim;
	} u;
};

#define ADDRESS_TEXT_MAX 128

/* Without looking names up, but for "localhost". `scheme` may be missing: "host:port" is tcp.
 * -EINVAL. */
int address_parse(const char *text, struct address *ret);
/* The same, and asks the resolver, which blocks: for the command line, before loops run. */
int address_resolve(const char *text, struct address *ret);
void address_format(const struct address *a, char *buf, size_t cap);
/* One of no host in particular, as listeners have it, gets the host of another. */
void address_fill(struct address *a, const struct address *host);
bool address_is_loopback(const struct address *a); /* Unix sockets and the simulator's too */

/*
 * Descriptors may pass from there: through a Unix socket, and in the simulator, where it is to be
 * seen who is on one host.
 */
static inline bool address_may_pass(const struct address *a)
{
	return a->kind == ADDRESS_UNIX || a->kind == ADDRESS_SIM;
}

struct peer {
	struct address address;
	bool is_loopback; /* on this host for certain: loopback address, Unix socket, pair */
	uint32_t uid;     /* of a Unix socket's peer, by the kernel; else UINT32_MAX */
	int32_t pid;      /* likewise; else 0 */
};

struct stream_ops {
	ssize_t (*recv)(struct stream *s, void *buf, size_t len); /* count; 0: the peer has ended */
	ssize_t (*send)(struct stream *s, const struct iovec *iov, int count);
	void (*close)(struct stream *s);
	/* Within a host; NULL elsewhere. */
	int (*pass)(struct stream *s, const int *fds, unsigned count);
	unsigned (*take)(struct stream *s, int *fds, unsigned cap);
};

struct stream {
	const struct stream_ops *ops;
	struct loop *loop;
	/* The owner's, set before anything can happen: right after open or in accepted(). */
	void (*ready)(struct stream *s);
	void *owner;          /* not ours; what ready() is about */
	uint64_t share;       /* the owner's: with whom it shares what may be unread; its job */
	struct stream *other; /* of a pair: the other end, while both are open; else NULL */
	struct peer peer;
};

static inline ssize_t stream_recv(struct stream *s, void *buf, size_t len)
{
	return s->ops->recv(s, buf, len);
}

static inline ssize_t stream_send(struct stream *s, const struct iovec *iov, int count)
{
	return s->ops->send(s, iov, count);
}

/*
 * Descriptors go with the next bytes that are sent, so they are there when those are. They
 * stay the caller's; at most STREAM_FDS_MAX at a time. -EOPNOTSUPP: not by this stream;
 * -EMFILE; -EBUSY: others wait to be sent, or to be read: STREAM_FDS_UNREAD of this stream, or as
 * many of its share as are left of loop->fds_unread_max for all others. They may be lost
 * on their way, and then the bytes come without any.
 */
#define STREAM_FDS_MAX 3
int stream_pass(struct stream *s, const int *fds, unsigned count);
/*
 * Those that have come, the caller's from then on: how many. The first call is before any is
 * sent, and says that they are wanted; what a peer passes unasked is closed.
 */
unsigned stream_take(struct stream *s, int *fds, unsigned cap);

/* At once or in the background; ready() tells. A negative errno if it cannot even begin. */
int stream_connect(struct loop *l, const struct address *to, struct stream **ret);

/* Two ends in one loop, each with a buffer of `cap` bytes. Both are told ready in the next turn. */
int stream_pair(struct loop *l, size_t cap, struct stream *ret[2]);

void stream_close(struct stream *s); /* NULL is fine */

/* The owner embeds it, or has it as a member of its own. */
struct listener {
	struct loop *loop;
	struct address address; /* with the port that the kernel chose */
	/* Takes the stream. */
	void (*accepted)(struct listener *lr, struct stream *s);
	/* Instead, with real sockets: takes the socket, which may become a stream of any loop. */
	void (*taken)(struct listener *lr, int fd, const struct address *from);
	void *owner;      /* not ours */
	struct list link; /* the owner's */
	unsigned mode;    /* of a Unix path; 0 is 0600: nobody else may connect */

	/* the backend's own */
	struct acceptor *acceptor; /* NULL while not open */
};

/* A stream over a socket that a listener has taken. Takes `fd`, even if it fails. */
int stream_adopt(struct loop *l, int fd, const struct address *from, struct stream **ret);

/* `accepted` or `taken`, and `owner` are set before. A Unix path that nobody listens at any more is
 * replaced.
 */
int listener_open(struct loop *l, const struct address *at, struct listener *lr);
void listener_close(struct listener *lr); /* fine if not open; removes its Unix path */
