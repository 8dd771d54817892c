/* SPDX-License-Identifier: Apache-2.0 */
#include "faults.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "faults.def"

enum call {
#define C(name, ...) CALL_##name,
	CALLS(C) SPECIAL_CALLS(C)
#undef C
};

enum {
#define C(name, where, ...) WHERE_##name = where,
	CALLS(C) SPECIAL_CALLS(C)
#undef C
};

const struct fault ALL_FAULTS[] = {
#define F(call, error, times, outcome, what) \
	{ CALL_##call, #call, WHERE_##call, error, times, outcome, what },
	FAULTS(F)
#undef F
};
const unsigned ALL_FAULTS_COUNT = sizeof(ALL_FAULTS) / sizeof(ALL_FAULTS[0]);

static const struct fault *_Atomic armed;
static atomic_uint seen, first, met;

/* Which lines have ever happened: of this process and of those that it has forked. */
static atomic_bool *has_met;

void fault_arm(const struct fault *f, unsigned from)
{
	seen = met = 0;
	first = from;
	armed = f;
}

bool fault_disarm(void)
{
	armed = NULL;
	return met > 0;
}

const struct fault *fault_never_met(unsigned where)
{
	const struct fault *unmet = NULL;

	for (unsigned i = ALL_FAULTS_COUNT; i-- > 0; has_met[i] = false)
		if ((ALL_FAULTS[i].where & where) && !has_met[i])
			unmet = &ALL_FAULTS[i];
	return unmet;
}

/* The error of this call; 0: none. */
static int strike(enum call call)
{
	const struct fault *f = armed;
	unsigned n;

	if (!f || f->call != (int)call)
		return 0;
	n = atomic_fetch_add(&seen, 1) + 1;
	if (n < first || n - first >= f->times)
		return 0;
	met++;
	has_met[f - ALL_FAULTS] = true;
	return f->error;
}

/*
 * What is watched, by descriptor. Who is told a falsehood (EAGAIN, or less than there is)
 * is told of another edge, as the kernel would when there is more.
 */
#define WATCHED_MAX 1024
static struct {
	int ep;
	struct epoll_event event;
} watched[WATCHED_MAX];

#define C(name, where, result, parameters, arguments) \
	result __real_##name parameters;              \
	result __wrap_##name parameters;
CALLS(C)
SPECIAL_CALLS(C)
#undef C

#define C(name, where, result, parameters, arguments)   \
	result __wrap_##name parameters                 \
	{                                               \
		int error = strike(CALL_##name);        \
                                                        \
		if (error == 0)                         \
			return __real_##name arguments; \
		if (error == NOTHING)                   \
			return (result)0;               \
		errno = error;                          \
		return (result)-1;                      \
	}
CALLS(C)
#undef C

static void tell_again(int fd)
{
	if (fd < WATCHED_MAX && watched[fd].ep > 0)
		(void)__real_epoll_ctl(watched[fd].ep, EPOLL_CTL_MOD, fd, &watched[fd].event);
}

int __wrap_epoll_ctl(int ep, int op, int fd, struct epoll_event *e)
{
	int error = op == EPOLL_CTL_ADD ? strike(CALL_epoll_ctl) : 0;

	if (error) {
		errno = error;
		return -1;
	}
	if (fd < WATCHED_MAX) {
		watched[fd].ep = op == EPOLL_CTL_DEL ? 0 : ep;
		if (e)
			watched[fd].event = *e;
	}
	return __real_epoll_ctl(ep, op, fd, e);
}

/* After a signal it goes on in the background. */
int __wrap_connect(int fd, const struct sockaddr *a, socklen_t len)
{
	int error = strike(CALL_connect);

	if (error == 0)
		return __real_connect(fd, a, len);
	if (error == EINTR)
		(void)__real_connect(fd, a, len);
	errno = error;
	return -1;
}

int __wrap_accept4(int fd, struct sockaddr *a, socklen_t *len, int flags)
{
	int error = strike(CALL_accept4);

	if (error == 0)
		return __real_accept4(fd, a, len, flags);
	if (error == EAGAIN)
		tell_again(fd);
	errno = error;
	return -1;
}

ssize_t __wrap_recv(int fd, void *buf, size_t len, int flags)
{
	int error = strike(CALL_recv);
	ssize_t r = -1;

	if (error == 0)
		return __real_recv(fd, buf, len, flags);
	if (error == SHORT)
		r = __real_recv(fd, buf, 1, flags);
	else
		errno = error;
	if (error == EAGAIN || r == 1)
		tell_again(fd);
	return r;
}

/* Of a message without descriptors the kernel does not say so. */
static int strike_message(const struct msghdr *m)
{
	const struct fault *f = armed;

	return f && f->error == ETOOMANYREFS && m->msg_controllen == 0 ? 0 : strike(CALL_sendmsg);
}

/* A message is sent whole, or not at all. */
static bool is_stream(int fd)
{
	int type = 0;
	socklen_t len = sizeof(type);

	return __real_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags)
{
	int error = strike_message(m);
	struct iovec first_byte = { .iov_base = m->msg_iov->iov_base, .iov_len = 1 };
	struct msghdr shorter = { .msg_iov = &first_byte, .msg_iovlen = 1 };

	if (error == SHORT && m->msg_iov->iov_len > 0 && is_stream(fd))
		return __real_sendmsg(fd, &shorter, flags);
	if (error == 0 || error == SHORT)
		return __real_sendmsg(fd, m, flags);
	if (error == EAGAIN)
		tell_again(fd);
	errno = error;
	return -1;
}

ssize_t __wrap_send(int fd, const void *buf, size_t len, int flags)
{
	int error = strike(CALL_send);

	if (error == 0 || error == SHORT)
		return __real_send(fd, buf, error && len > 0 ? 1 : len, flags);
	if (error == EAGAIN)
		tell_again(fd);
	errno = error;
	return -1;
}

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*run)(void *), void *arg)
{
	int error = strike(CALL_pthread_create);

	return error ? error : __real_pthread_create(t, a, run, arg);
}

int __wrap_pthread_setname_np(pthread_t t, const char *name)
{
	int error = strike(CALL_pthread_setname_np);

	return error ? error : __real_pthread_setname_np(t, name);
}

/* A full counter is one that has been written to. */
int __wrap_eventfd_write(int fd, eventfd_t n)
{
	int error = strike(CALL_eventfd_write);
	int r = __real_eventfd_write(fd, n);

	if (error == 0)
		return r;
	errno = error;
	return -1;
}

int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
		       struct addrinfo **ret)
{
	int error = strike(CALL_getaddrinfo);

	if (error == 0)
		return __real_getaddrinfo(host, service, hints, ret);
	return error == ENOMEM ? EAI_MEMORY : EAI_AGAIN;
}

ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t from)
{
	int error = strike(CALL_pwrite64);

	if (error == 0 || error == SHORT)
		return __real_pwrite64(fd, buf, error && len > 0 ? 1 : len, from);
	errno = error;
	return -1;
}

ssize_t __wrap_pread64(int fd, void *buf, size_t len, off_t from)
{
	int error = strike(CALL_pread64);

	if (error == 0 || error == SHORT)
		return __real_pread64(fd, buf, error && len > 0 ? 1 : len, from);
	errno = error;
	return -1;
}

/* Whatever it says, the descriptor is gone. */
int __wrap_close(int fd)
{
	int error = strike(CALL_close);
	int r = __real_close(fd);

	if (error == 0)
		return r;
	errno = error;
	return -1;
}

DIR *__wrap_opendir(const char *path)
{
	int error = strike(CALL_opendir);

	if (error == 0)
		return __real_opendir(path);
	errno = error;
	return NULL;
}

DIR *__wrap_fdopendir(int fd)
{
	int error = strike(CALL_fdopendir);

	if (error == 0)
		return __real_fdopendir(fd);
	errno = error;
	return NULL;
}

struct dirent *__wrap_readdir64(DIR *d)
{
	int error = strike(CALL_readdir64);

	if (error == 0)
		return __real_readdir64(d);
	errno = error;
	return NULL;
}

__attribute__((constructor)) static void make_room_for_what_is_met(void)
{
	has_met = __real_mmap64(NULL, ALL_FAULTS_COUNT * sizeof(*has_met), PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (has_met == MAP_FAILED)
		abort();
}
