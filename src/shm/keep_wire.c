/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/keep_wire.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cursor.h"

#define MAGIC         0x6b646177u /* "wadk" */
#define HEAD_BYTES    12
#define NAME_BYTES    12
#define MESSAGE_BYTES (HEAD_BYTES + KEEP_BATCH * NAME_BYTES)

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(KEEP_BATCH * sizeof(int))];
};

static size_t encode(const struct keep_message *m, uint8_t bytes[MESSAGE_BYTES])
{
	struct wcur w = wcur_make(bytes, MESSAGE_BYTES);

	put_u32(&w, MAGIC);
	put_u16(&w, (uint16_t)m->kind);
	put_u16(&w, (uint16_t)m->count);
	put_u32(&w, (uint32_t)m->value);
	for (unsigned i = 0; i < m->count; i++) {
		put_u16(&w, m->names[i].kind);
		put_u16(&w, m->names[i].owner);
		put_u64(&w, m->names[i].number);
	}
	return (size_t)wcur_finish(&w);
}

static int decode(const uint8_t *bytes, size_t len, struct keep_message *ret)
{
	struct rcur c = rcur_make(bytes, len);
	uint32_t magic = get_u32(&c);

	ret->kind = (enum keep_message_kind)get_u16(&c);
	ret->count = get_u16(&c);
	ret->value = (int32_t)get_u32(&c);
	if (magic != MAGIC || ret->count > KEEP_BATCH)
		return -EBADMSG;
	for (unsigned i = 0; i < ret->count; i++) {
		ret->names[i].kind = get_u16(&c);
		ret->names[i].owner = get_u16(&c);
		ret->names[i].number = get_u64(&c);
	}
	return rcur_finish(&c);
}

int keep_send(int fd, const struct keep_message *m)
{
	uint8_t bytes[MESSAGE_BYTES];
	struct iovec iov = { .iov_base = bytes, .iov_len = encode(m, bytes) };
	union control control = { 0 };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (m->fd_count > 0) {
		struct cmsghdr *c;

		h.msg_control = control.bytes;
		h.msg_controllen = CMSG_SPACE(m->fd_count * sizeof(int));
		c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(m->fd_count * sizeof(int));
		memcpy(CMSG_DATA(c), m->fds, m->fd_count * sizeof(int));
	}
	while (sendmsg(fd, &h, MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return errno == ETOOMANYREFS ? -EMFILE : -errno;
	return 0;
}

static void take_fds(struct msghdr *h, struct keep_message *ret)
{
	ret->fd_count = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		size_t len = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		/* There is no room for more of them than this. */
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
		    len > KEEP_BATCH - ret->fd_count)
			continue;
		memcpy(ret->fds + ret->fd_count, CMSG_DATA(c), len * sizeof(int));
		ret->fd_count += (unsigned)len;
	}
}

int keep_receive(int fd, struct keep_message *ret)
{
	uint8_t bytes[MESSAGE_BYTES];
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	union control control;
	struct msghdr h = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };
	ssize_t n;
	int r;

	while ((n = recvmsg(fd, &h, MSG_CMSG_CLOEXEC)) < 0)
		if (errno != EINTR)
			return -errno;
	take_fds(&h, ret);
	r = n == 0 ? -ECONNRESET : decode(bytes, (size_t)n, ret);
	if (h.msg_flags & MSG_TRUNC)
		r = -EBADMSG;
	if (r == 0 && h.msg_flags & MSG_CTRUNC)
		r = -EMFILE;
	if (r < 0)
		keep_message_close(ret);
	return r;
}

void keep_message_close(struct keep_message *m)
{
	while (m->fd_count > 0)
		close(m->fds[--m->fd_count]);
}

int keep_set_patience(int fd, uint64_t ms)
{
	struct timeval t = { .tv_sec = (time_t)(ms / 1000),
			     .tv_usec = (suseconds_t)(ms % 1000 * 1000) };

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t)) < 0)
		return -errno;
	return 0;
}

bool keep_peer_is_ours(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == geteuid();
}
