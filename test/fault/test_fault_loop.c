/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever the kernel answers to a call of the loop, its streams, fibers, bells and
 * helpers, the bytes arrive whole or the operation says why not; nothing leaks; and the
 * next time all is well. Method: a scenario of everything, over TCP and over a Unix
 * socket, in which each fault of faults.def happens at the first call, the second ...
 */
#include "../unit/test.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/container.h"
#include "base/node.h"
#include "faults.h"
#include "loop/bell.h"
#include "loop/loop.h"
#include "loop/stream.h"

#define BYTES     60000
#define BUFFER    4096
#define FIRST_MAX 40 /* calls at which a fault begins, one after the other */
#define LATE_NS   10000000000ull

static struct loop *loop;
static char path[64];
static uint8_t sample[BYTES];

/* One end of a connection: the client sends all, the server sends back what comes. */
struct end {
	struct stream *stream;
	uint8_t buf[BUFFER];
	size_t have, sent_of_buf, sent, received;
	bool is_wrong, is_over;
	int error;
};

static struct end client, server;
static struct listener listener;

static void end_fail(struct end *e, ssize_t r)
{
	e->error = (int)r;
	e->is_over = true;
}

/* The client in two pieces, which is another call. */
static ssize_t send_bytes(struct end *e, const uint8_t *bytes, size_t len)
{
	size_t first = e == &client ? len / 2 : len;
	struct iovec iov[] = { { .iov_base = (void *)bytes, .iov_len = first },
			       { .iov_base = (void *)(bytes + first), .iov_len = len - first } };

	return stream_send(e->stream, iov, e == &client ? 2 : 1);
}

static void client_ready(struct stream *s)
{
	struct end *e = s->owner;
	ssize_t r = 1;

	while (!e->is_over && e->sent < BYTES && r > 0) {
		r = send_bytes(e, sample + e->sent, BYTES - e->sent);
		if (r > 0)
			e->sent += (size_t)r;
		else if (r != -EAGAIN)
			end_fail(e, r);
	}
	while (!e->is_over && e->received < BYTES) {
		r = stream_recv(s, e->buf, BUFFER);
		if (r == -EAGAIN)
			return;
		if (r <= 0) {
			end_fail(e, r);
			return;
		}
		e->is_wrong |= e->received + (size_t)r > BYTES ||
			       memcmp(e->buf, sample + e->received, (size_t)r) != 0;
		e->received += (size_t)r;
	}
}

static void server_ready(struct stream *s)
{
	struct end *e = s->owner;

	while (!e->is_over) {
		ssize_t r;

		if (e->sent_of_buf == e->have) {
			r = stream_recv(s, e->buf, BUFFER);
			if (r == -EAGAIN)
				return;
			if (r <= 0) {
				end_fail(e, r);
				break;
			}
			e->have = (size_t)r;
			e->sent_of_buf = 0;
		}
		r = send_bytes(e, e->buf + e->sent_of_buf, e->have - e->sent_of_buf);
		if (r == -EAGAIN)
			return;
		if (r < 0) {
			end_fail(e, r);
			break;
		}
		e->sent_of_buf += (size_t)r;
	}
	/* What it can do for a client that goes on waiting. */
	stream_close(s);
	e->stream = NULL;
}

static void accepted(struct listener *lr, struct stream *s)
{
	if (server.stream) {
		stream_close(s);
		return;
	}
	server.stream = s;
	(void)stream_pass(s, (int[]){ STDERR_FILENO }, 1); /* of TCP it is not wanted */
	s->owner = &server;
	s->ready = server_ready;
}

/* The parts of the scenario: 0, or what an operation said. */

static int open_listener(bool is_unix)
{
	char text[80];
	struct address a;

	snprintf(text, sizeof(text), is_unix ? "unix://%s" : "tcp://127.0.0.1:0", path);
	assert_int_equal(address_parse(text, &a), 0);
	listener = (struct listener){ .accepted = accepted };
	return listener_open(loop, &a, &listener);
}

static int exchange(void)
{
	uint64_t late_ns = loop->now_ns + LATE_NS;
	int r = stream_connect(loop, &listener.address, &client.stream);

	if (r < 0)
		return r;
	(void)stream_take(client.stream, NULL, 0);
	client.stream->owner = &client;
	client.stream->ready = client_ready;
	while (!client.is_over && client.received < BYTES && loop->now_ns < late_ns) {
		r = loop_turn(loop, late_ns);
		if (r < 0)
			return r;
	}
	assert_false(client.is_wrong);
	assert_true(loop->now_ns < late_ns); /* it said something */
	if (!client.is_over)
		return 0;
	/* The end of a connection is what the other side's error looks like from here. */
	return client.error && client.error != -ECONNRESET && client.error != -EPIPE ? client.error
	       : server.error                                                        ? server.error
										     : -ECONNRESET;
}

struct errand {
	struct work work;
	bool is_done;
};

static void errand_run(struct work *w)
{
}

static void errand_done(struct work *w)
{
	container_of(w, struct errand, work)->is_done = true;
}

static int use_helper(void)
{
	struct errand e = { .work = { .run = errand_run, .done = errand_done } };
	struct helper *h;
	int r = helper_open(loop, "test", &h);

	if (r < 0)
		return r;
	helper_do(h, &e.work);
	while (!e.is_done && r == 0)
		r = loop_turn(loop, loop->now_ns + LATE_NS);
	helper_close(h);
	return r;
}

struct runner {
	struct fiber fiber;
	bool has_ended;
};

static void runner_run(struct fiber *self)
{
	(void)fiber_yield(self->home);
}

static void runner_ended(struct fiber *self)
{
	container_of(self, struct runner, fiber)->has_ended = true;
}

static int use_fiber(void)
{
	struct runner run = { .has_ended = false };
	int r = fiber_start(&loop->fibers, &run.fiber, runner_run, runner_ended);

	if (r < 0)
		return r;
	while (!run.has_ended && r == 0)
		r = loop_turn(loop, loop->now_ns + LATE_NS);
	return r;
}

/* What comes is a count, and the loop sleeps on a word beside it. */
struct ringer {
	struct bell bell;
	struct work work;
	_Atomic unsigned come;
	_Atomic uint32_t word;
	unsigned seen;
	bool is_done;
};

static struct ringer *ringer_of(struct bell *b)
{
	return container_of(b, struct ringer, bell);
}

static bool ringer_peek(struct bell *b)
{
	return ringer_of(b)->come > ringer_of(b)->seen;
}

static bool ringer_look(struct bell *b)
{
	ringer_of(b)->seen++;
	return true;
}

static bool ringer_sleep(struct bell *b, bool is_on_word)
{
	ringer_of(b)->word = is_on_word;
	return !ringer_peek(b);
}

static void ringer_awake(struct bell *b)
{
	ringer_of(b)->word = 0;
}

/* From another thread, while the loop sleeps. */
static void ringer_run(struct work *w)
{
	struct ringer *o = container_of(w, struct ringer, work);

	nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
	o->come++;
	o->word = 0;
	bell_ring_word(&o->word);
}

static void ringer_done(struct work *w)
{
	container_of(w, struct ringer, work)->is_done = true;
}

static int be_rung(struct ringer *o, struct helper *h)
{
	uint64_t late_ns = loop->now_ns + LATE_NS;
	int r = loop_turn(loop, loop->now_ns + 100000); /* nobody rings */

	bell_listen(&o->bell);
	helper_do(h, &o->work);
	while (r == 0 && (o->seen == 0 || !o->is_done)) {
		r = loop_turn(loop, late_ns);
		assert_true(loop->now_ns < late_ns);
	}
	return r;
}

static int use_bell(void)
{
	struct ringer o = { .bell = { .peek = ringer_peek,
				      .look = ringer_look,
				      .sleep = ringer_sleep,
				      .awake = ringer_awake,
				      .word = &o.word,
				      .asleep = 1 },
			    .work = { .run = ringer_run, .done = ringer_done } };
	struct helper *h;
	int fd, r = helper_open(loop, "test", &h);

	if (r < 0)
		return r;
	r = bell_open(loop, &o.bell, NULL);
	if (r == 0) {
		bell_listen(&o.bell);
		r = be_rung(&o, h);
	}
	helper_close(h);
	bell_close(&o.bell);
	if (r < 0)
		return r;
	r = bell_open(loop, &o.bell, &fd);
	if (r < 0)
		return r;
	bell_ring_event(fd);
	bell_close(&o.bell);
	return 0;
}

static int resolve(void)
{
	struct address a;

	/* In any other spelling the name is looked up. */
	return address_resolve("tcp://LOCALHOST:1", &a);
}

/* Somebody else's loop waits for ours; not by poll(), which is wrapped. */
struct outside {
	struct timer timer;
	struct letter letter;
	bool has_fired, has_letter;
};

static void outside_fire(struct timer *t)
{
	container_of(t, struct outside, timer)->has_fired = true;
}

static void outside_read(struct letter *letter)
{
	container_of(letter, struct outside, letter)->has_letter = true;
}

static int wait_outside(int fd, const bool *what)
{
	struct pollfd one = { .fd = fd, .events = POLLIN };
	int r = 0;

	while (!*what && r == 0) {
		assert_int_equal(ppoll(&one, 1, &(struct timespec){ .tv_sec = 10 }, NULL), 1);
		r = loop_turn(loop, 0);
	}
	return r;
}

static int use_outside(void)
{
	struct outside o = { .timer.fire = outside_fire, .letter.run = outside_read };
	int fd = loop_fd(loop), r;

	if (fd < 0)
		return fd;
	loop_post(loop, &o.letter);
	r = wait_outside(fd, &o.has_letter);
	timer_start(loop, &o.timer, loop->now_ns + 1000000);
	if (r == 0)
		r = loop_turn(loop, 0);
	if (r == 0)
		r = wait_outside(fd, &o.has_fired);
	timer_stop(loop, &o.timer);
	return r;
}

static int scenario(bool is_unix)
{
	int r = loop_open_epoll(&loop);

	if (r < 0)
		return r;
	memset(&client, 0, sizeof(client));
	memset(&server, 0, sizeof(server));
	r = open_listener(is_unix);
	if (r == 0)
		r = exchange();
	if (r == 0)
		r = use_helper();
	if (r == 0)
		r = use_fiber();
	if (r == 0)
		r = use_bell();
	if (r == 0)
		r = resolve();
	if (r == 0)
		r = use_outside();
	stream_close(client.stream);
	stream_close(server.stream);
	listener_close(&listener);
	(void)loop_turn(loop, 0);
	loop_close(loop);
	return r;
}

/* What must not leak. */

static long live_blocks;
static unsigned allocations, fail_at; /* 0: none fails */

static void *count_alloc(struct node *n, size_t size)
{
	void *p = ++allocations == fail_at ? NULL : calloc(1, size);

	live_blocks += p != NULL;
	return p;
}

static void *count_resize(struct node *n, void *p, size_t size)
{
	void *q = ++allocations == fail_at ? NULL : realloc(p, size);

	live_blocks += !p && q;
	return q;
}

static void count_free(struct node *n, void *p)
{
	live_blocks--;
	free(p);
}

static unsigned open_files(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* What a fault, met at the `first` call, makes of the scenario; false if it was not met. */
static bool try_fault(const struct fault *f, unsigned first, bool is_unix)
{
	bool is_met;
	int r;

	fault_arm(f, first);
	r = scenario(is_unix);
	is_met = fault_disarm();
	if (!is_met || f->outcome == WORKS) {
		if (r != 0)
			fail_msg("%s: %s, at call %u over %s: %s", f->call_name, f->what, first,
				 is_unix ? "unix" : "tcp", strerror(-r));
	} else if (r != 0 && r != -f->error && r != -ECONNRESET) {
		fail_msg("%s: %s, at call %u over %s: %s, not %s", f->call_name, f->what, first,
			 is_unix ? "unix" : "tcp", strerror(-r), strerror(f->error));
	}
	return is_met;
}

/* A listener's path goes with it, unless the kernel did not let us. */
static void check_path(const struct fault *f)
{
	if (strcmp(f->call_name, "unlink") == 0 || strcmp(f->call_name, "lstat64") == 0)
		(void)unlink(path);
	else
		assert_int_not_equal(access(path, F_OK), 0);
}

static void try_all(bool is_unix)
{
	struct node node = { .alloc = count_alloc, .resize = count_resize, .free = count_free };
	unsigned files, met = 0;

	node_current = &node;
	assert_int_equal(scenario(is_unix), 0);
	files = open_files();
	for (unsigned i = 0; i < ALL_FAULTS_COUNT; i++) {
		unsigned first = 1;

		while (first <= FIRST_MAX && try_fault(&ALL_FAULTS[i], first, is_unix)) {
			assert_int_equal(live_blocks, 0);
			assert_int_equal(open_files(), files);
			check_path(&ALL_FAULTS[i]);
			first++;
			met++;
		}
		assert_int_equal(scenario(is_unix), 0);
	}
	node_current = NULL;
	print_message("%u faults\n", met);
	assert_true(met > 100);
}

/* Who was killed has left its path, and the one beside it that was to take its place. */
static void leave_paths(void)
{
	static const char *const ends[] = { "", "~" };

	for (unsigned i = 0; i < 2; i++) {
		struct sockaddr_un at = { .sun_family = AF_UNIX };
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);

		strcpy(at.sun_path, path);
		if (*ends[i])
			strcpy(at.sun_path + strlen(path) - 1, ends[i]);
		(void)unlink(at.sun_path);
		assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
		close(fd);
	}
}

/* How many of both there are. */
static unsigned paths_left(void)
{
	char beside[sizeof(path)];

	strcpy(beside, path);
	beside[strlen(path) - 1] = '~';
	return (access(path, F_OK) == 0) + (access(beside, F_OK) == 0);
}

/* Listens at the abandoned path, and with `f`, at its call `first`; false if it was not met. */
static bool try_instead(const struct fault *f, unsigned first)
{
	bool is_met;
	int r;

	leave_paths();
	fault_arm(f, first);
	r = open_listener(true);
	listener_close(&listener);
	is_met = fault_disarm();
	if (r != 0 && (!is_met || (r != -f->error && r != -EADDRINUSE)))
		fail_msg("%s: %s, at call %u: %s", f->call_name, f->what, first, strerror(-r));
	if (strcmp(f->call_name, "rename") == 0 && is_met)
		assert_int_equal(paths_left(), 1); /* what it had made beside it is gone */
	return is_met;
}

static void a_path_that_was_not_taken_over_is_the_next_time(void **state)
{
	struct node node = { .alloc = count_alloc, .resize = count_resize, .free = count_free };
	unsigned files, met = 0;

	node_current = &node;
	assert_int_equal(loop_open_epoll(&loop), 0);
	files = open_files();
	for (unsigned i = 0; i < ALL_FAULTS_COUNT; i++) {
		for (unsigned first = 1; try_instead(&ALL_FAULTS[i], first); first++) {
			assert_int_equal(open_files(), files);
			met++;
			assert_int_equal(open_listener(true), 0);
			listener_close(&listener);
			assert_int_equal(paths_left(), 0);
		}
		(void)loop_turn(loop, 0);
	}
	loop_close(loop);
	assert_int_equal(live_blocks, 0);
	node_current = NULL;
	print_message("%u faults\n", met);
	assert_true(met > 20);
}

static void each_allocation_may_fail(void **state)
{
	struct node node = { .alloc = count_alloc, .resize = count_resize, .free = count_free };
	unsigned files;

	node_current = &node;
	assert_int_equal(scenario(true), 0);
	files = open_files();
	fail_at = 0;
	do {
		int r;

		allocations = 0;
		fail_at++;
		r = scenario(true);
		assert_true(allocations < fail_at ? r == 0 : r == -ENOMEM || r == -ECONNRESET);
		assert_int_equal(live_blocks, 0);
		assert_int_equal(open_files(), files);
		assert_int_not_equal(access(path, F_OK), 0);
	} while (allocations >= fail_at);
	assert_true(fail_at > 4);
	fail_at = 0;
	node_current = NULL;
}

static void over_tcp(void **state)
{
	try_all(false);
}

static void over_a_unix_socket(void **state)
{
	try_all(true);
}

static void each_line_has_been_met(void **state)
{
	const struct fault *f = fault_never_met(LOOP);

	if (f)
		fail_msg("%s: %s: it has never happened", f->call_name, f->what);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_allocation_may_fail),
		cmocka_unit_test(over_tcp),
		cmocka_unit_test(over_a_unix_socket),
		cmocka_unit_test(a_path_that_was_not_taken_over_is_the_next_time),
		cmocka_unit_test(each_line_has_been_met),
	};

	for (size_t i = 0; i < BYTES; i++)
		sample[i] = (uint8_t)(i * 2654435761u >> 24);
	snprintf(path, sizeof(path), "/tmp/wadi-fault-%d", (int)getpid());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
