/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/plain.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/node.h"
#include "bench/child.h"

/* A recv() that takes so long is a system that hangs. */
#define STUCK_S 30

struct plain_address plain_loopback(uint16_t port)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct plain_address a = { .len = sizeof(in) };

	memcpy(&a.storage, &in, sizeof(in));
	return a;
}

struct plain_address plain_local(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct plain_address a = { .len = sizeof(un) };

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	memcpy(&a.storage, &un, sizeof(un));
	return a;
}

/* A name without a file: a NUL before it. */
static struct plain_address plain_abstract(const char *name)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct plain_address a;

	snprintf(un.sun_path + 1, sizeof(un.sun_path) - 1, "%s", name);
	a.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(un.sun_path + 1));
	memcpy(&a.storage, &un, sizeof(un));
	return a;
}

int plain_listen(const char *local_name, struct plain_address *ret)
{
	struct plain_address a = local_name ? plain_abstract(local_name) : plain_loopback(0);
	int fd = socket(a.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&a.storage, a.len) < 0 || listen(fd, 4096) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	if (!local_name)
		getsockname(fd, (struct sockaddr *)&a.storage, &a.len);
	*ret = a;
	return fd;
}

/* Those above may be given by the kernel to whoever connects, before they are used. */
#define PORT_MIN 10000
#define PORT_END 32768

uint16_t plain_free_port(void)
{
	for (unsigned i = 0; i < PORT_END - PORT_MIN; i++) {
		uint16_t port = (uint16_t)(PORT_MIN + node_random_u64() % (PORT_END - PORT_MIN));
		struct plain_address a = plain_loopback(port);
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		bool is_free = fd >= 0 && bind(fd, (struct sockaddr *)&a.storage, a.len) == 0;

		if (fd >= 0)
			close(fd);
		if (is_free)
			return port;
	}
	return 0;
}

int plain_connect(const struct plain_address *to)
{
	int fd = socket(to->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	struct timeval stuck = { .tv_sec = STUCK_S };

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&to->storage, to->len) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	if (to->storage.ss_family == AF_INET)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &stuck, sizeof(stuck));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &stuck, sizeof(stuck));
	return fd;
}

int plain_await(const struct plain_address *at, struct child *server, uint64_t due_ns)
{
	while (node_now_ns() < due_ns) {
		int fd = plain_connect(at);

		if (fd >= 0) {
			close(fd);
			return 0;
		}
		if (!child_is_running(server))
			return -ECHILD;
		usleep(2000);
	}
	return -ETIMEDOUT;
}

int plain_send_all(int fd, struct iovec *v, unsigned count)
{
	while (count) {
		struct msghdr m = { .msg_iov = v, .msg_iovlen = count };
		ssize_t n = sendmsg(fd, &m, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		while (count && (size_t)n >= v->iov_len) {
			n -= (ssize_t)v->iov_len;
			v++;
			count--;
		}
		if (count) {
			v->iov_base = (char *)v->iov_base + n;
			v->iov_len -= (size_t)n;
		}
	}
	return 0;
}

bool plain_wait(int fd, uint64_t due_ns)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t now_ns;
	struct timespec rest;

	if (due_ns == UINT64_MAX)
		return true;
	now_ns = node_now_ns();
	rest.tv_sec = due_ns > now_ns ? (time_t)((due_ns - now_ns) / 1000000000) : 0;
	rest.tv_nsec = due_ns > now_ns ? (long)((due_ns - now_ns) % 1000000000) : 0;
	return ppoll(&p, 1, &rest, NULL) > 0;
}
