/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocking sockets: where they listen and connect, that all is sent however often it is
 * interrupted, and that nothing waits for ever.
 */
#include "bench/plain.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/node.h"
#include "bench/child.h"
#include "bench/cpus.h"
#include "test.h"

#define SECOND_NS 1000000000ull
#define BYTES     3000000

static int take(int listener)
{
	int fd = accept(listener, NULL, NULL);

	assert_true(fd >= 0);
	return fd;
}

/* Both ends, connected by an address. */
static void meet(const char *name, int fds[2])
{
	struct plain_address a;
	int listener = plain_listen(name, &a);

	assert_true(listener >= 0);
	fds[0] = plain_connect(&a);
	assert_true(fds[0] >= 0);
	fds[1] = take(listener);
	close(listener);
}

static void part(int fds[2])
{
	close(fds[0]);
	close(fds[1]);
}

static int64_t timeout_s(int fd, int option)
{
	struct timeval t = { 0 };
	socklen_t len = sizeof(t);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, option, &t, &len), 0);
	assert_int_equal(t.tv_usec, 0);
	return t.tv_sec;
}

static void tcp_is_on_a_port_of_the_loopback(void **state)
{
	struct plain_address a;
	struct sockaddr_in in;
	int listener = plain_listen(NULL, &a), fd, on = 0;
	socklen_t len = sizeof(on);

	assert_true(listener >= 0);
	memcpy(&in, &a.storage, sizeof(in));
	assert_int_equal(in.sin_family, AF_INET);
	assert_int_equal(ntohl(in.sin_addr.s_addr), 0x7f000001);
	assert_int_not_equal(in.sin_port, 0);
	fd = plain_connect(&a);
	assert_true(fd >= 0);
	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
	assert_int_not_equal(on, 0);
	/* Of whom nothing comes, or who takes nothing, hangs. */
	assert_int_equal(timeout_s(fd, SO_RCVTIMEO), 30);
	assert_int_equal(timeout_s(fd, SO_SNDTIMEO), 30);
	close(fd);
	close(listener);
	assert_int_equal(plain_connect(&a), -ECONNREFUSED);
}

static void a_name_is_of_this_host_and_no_file(void **state)
{
	struct plain_address a, other;
	char name[64];
	int listener, fd;

	snprintf(name, sizeof(name), "wadi-test-plain-%d", (int)getpid());
	listener = plain_listen(name, &a);
	assert_true(listener >= 0);
	assert_int_equal(plain_listen(name, &other), -EADDRINUSE);
	fd = plain_connect(&a);
	assert_true(fd >= 0);
	assert_int_equal(timeout_s(fd, SO_RCVTIMEO), 30);
	assert_int_equal(timeout_s(fd, SO_SNDTIMEO), 30);
	assert_int_not_equal(access(name, F_OK), 0);
	close(fd);
	close(listener);
}

static void a_path_is_one_of_a_file(void **state)
{
	struct plain_address a = plain_local("/tmp/some.sock");
	struct sockaddr_un un;

	memcpy(&un, &a.storage, sizeof(un));
	assert_int_equal(a.len, sizeof(un));
	assert_int_equal(un.sun_family, AF_UNIX);
	assert_string_equal(un.sun_path, "/tmp/some.sock");
	a = plain_local("/nonexistent/some.sock");
	assert_int_equal(plain_connect(&a), -ENOENT);
}

static void a_free_port_is_below_those_that_the_kernel_gives(void **state)
{
	for (int i = 0; i < 20; i++) {
		struct plain_address a = plain_loopback(plain_free_port());
		struct sockaddr_in in;
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		memcpy(&in, &a.storage, sizeof(in));
		assert_in_range(ntohs(in.sin_port), 10000, 32767);
		assert_int_equal(bind(fd, (struct sockaddr *)&a.storage, a.len), 0);
		close(fd);
	}
}

/* A reader that takes a little at a time, and interrupts the writer each time. */

struct reader {
	int fd;
	pthread_t writer;
	uint8_t *bytes;
	size_t len;
};

static void interrupted(int signal)
{
}

static void *read_slowly(void *arg)
{
	struct reader *r = arg;

	while (r->len < BYTES + 64) {
		ssize_t n = recv(r->fd, r->bytes + r->len, 50001, 0);

		if (n <= 0)
			break;
		r->len += (size_t)n;
		pthread_kill(r->writer, SIGUSR1);
		usleep(100); /* it sends more, and waits again */
	}
	return NULL;
}

static void all_is_sent_however_often_that_is_interrupted(void **state)
{
	struct sigaction sa = { .sa_handler = interrupted }; /* and no SA_RESTART */
	struct reader r = { .writer = pthread_self(), .bytes = calloc(1, BYTES + 64) };
	uint8_t *bytes = malloc(BYTES + 64);
	struct iovec v[2] = { { bytes, 64 }, { bytes + 64, BYTES } };
	pthread_t thread;
	char name[64];
	int fds[2], small = 16384;

	for (size_t i = 0; i < BYTES + 64; i++)
		bytes[i] = (uint8_t)(i * 2654435761u >> 13);
	sigaction(SIGUSR1, &sa, NULL);
	snprintf(name, sizeof(name), "wadi-test-all-%d", (int)getpid());
	meet(name, fds);
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	r.fd = fds[1];
	assert_int_equal(pthread_create(&thread, NULL, read_slowly, &r), 0);
	assert_int_equal(plain_send_all(fds[0], v, 2), 0);
	shutdown(fds[0], SHUT_WR);
	pthread_join(thread, NULL);
	assert_int_equal(r.len, BYTES + 64);
	assert_true(memcmp(r.bytes, bytes, BYTES + 64) == 0);
	part(fds);
	free(r.bytes);
	free(bytes);
}

static void who_takes_nothing_is_late(void **state)
{
	static uint8_t bytes[BYTES];
	struct timeval short_time = { .tv_usec = 20000 };
	struct iovec v[1];
	char name[64];
	int fds[2], r = 0;

	snprintf(name, sizeof(name), "wadi-test-late-%d", (int)getpid());
	meet(name, fds);
	setsockopt(fds[0], SOL_SOCKET, SO_SNDTIMEO, &short_time, sizeof(short_time));
	for (int i = 0; i < 100 && r == 0; i++) {
		v[0] = (struct iovec){ bytes, sizeof(bytes) };
		r = plain_send_all(fds[0], v, 1);
	}
	assert_int_equal(r, -ETIMEDOUT);
	/* Who has gone is not: and that is no signal. */
	close(fds[1]);
	v[0] = (struct iovec){ bytes, sizeof(bytes) };
	assert_int_equal(plain_send_all(fds[0], v, 1), -EPIPE);
	close(fds[0]);
}

static void to_wait_has_an_end(void **state)
{
	uint64_t begun_ns = node_now_ns();
	int fds[2];

	meet(NULL, fds);
	assert_false(plain_wait(fds[0], 0));
	assert_false(plain_wait(fds[0], begun_ns + SECOND_NS / 20));
	assert_in_range(node_now_ns() - begun_ns, SECOND_NS / 20, 30 * SECOND_NS);
	assert_int_equal(send(fds[1], "x", 1, 0), 1);
	assert_true(plain_wait(fds[0], node_now_ns() + 30 * SECOND_NS));
	assert_true(plain_wait(fds[0], 0));
	part(fds);
	/* Whoever says no time leaves that to recv(), whatever there is. */
	assert_true(plain_wait(-1, UINT64_MAX));
}

static void a_server_is_awaited_until_it_listens_or_ends(void **state)
{
	static const char *const SLEEP[] = { "sleep", "60", NULL }, *const END[] = { "true", NULL };
	cpu_set_t cpus = cpus_of(CPUS_SERVER, 1);
	struct plain_address a = plain_loopback(1), there;
	int listener = plain_listen(NULL, &there);
	struct child c;

	assert_true(listener >= 0);
	assert_int_equal(child_start(&c, SLEEP, &cpus, false), 0);
	assert_int_equal(plain_await(&there, &c, node_now_ns() + 30 * SECOND_NS), 0);
	assert_int_equal(plain_await(&a, &c, node_now_ns() + SECOND_NS / 20), -ETIMEDOUT);
	child_stop(&c);
	assert_int_equal(child_start(&c, END, &cpus, false), 0);
	assert_int_equal(plain_await(&a, &c, node_now_ns() + 10 * SECOND_NS), -ECHILD);
	child_stop(&c);
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tcp_is_on_a_port_of_the_loopback),
		cmocka_unit_test(a_name_is_of_this_host_and_no_file),
		cmocka_unit_test(a_path_is_one_of_a_file),
		cmocka_unit_test(a_free_port_is_below_those_that_the_kernel_gives),
		cmocka_unit_test(all_is_sent_however_often_that_is_interrupted),
		cmocka_unit_test(who_takes_nothing_is_late),
		cmocka_unit_test(to_wait_has_an_end),
		cmocka_unit_test(a_server_is_awaited_until_it_listens_or_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
