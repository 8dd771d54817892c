/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: who reads no descriptors takes none from others. Method: streams of several shares whose
 * peers are plain sockets, which read when the test says so.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop/stream.h"
#include "world.h"

#define MOST 16

static char directory[] = "/tmp/wadi-test.XXXXXX", path[64];
static struct address at;
static struct listener lr;
static struct stream *accepted_last;
static int ends[2];

struct one {
	struct stream *stream;
	int fd; /* the peer */
};

static struct one a, b, c;

static void ready(struct stream *s)
{
}

static void accepted(struct listener *l, struct stream *s)
{
	s->ready = ready;
	accepted_last = s;
}

static struct one one_of(uint64_t share)
{
	struct one o = { .fd = socket(AF_UNIX, SOCK_STREAM, 0) };

	accepted_last = NULL;
	assert_int_equal(connect(o.fd, &at.u.any, at.len), 0);
	WAIT_FOR(accepted_last);
	o.stream = accepted_last;
	o.stream->share = share;
	return o;
}

static int setup(void **state)
{
	world_open(false);
	loop->fds_unread_max = MOST;
	snprintf(path, sizeof(path), "%s/socket", directory);
	at = (struct address){ .kind = ADDRESS_UNIX, .len = sizeof(at.u.un) };
	at.u.un.sun_family = AF_UNIX;
	strcpy(at.u.un.sun_path, path);
	lr = (struct listener){ .accepted = accepted };
	assert_int_equal(listener_open(loop, &at, &lr), 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	a = one_of(1);
	b = one_of(1);
	c = one_of(2);
	return 0;
}

static int teardown(void **state)
{
	stream_close(a.stream);
	stream_close(b.stream);
	stream_close(c.stream);
	listener_close(&lr);
	world_close();
	close(a.fd);
	close(b.fd);
	close(c.fd);
	close(ends[0]);
	close(ends[1]);
	return 0;
}

static void send_byte(const struct one *o)
{
	struct iovec iov = { (char[]){ "x" }, 1 };

	assert_int_equal(stream_send(o->stream, &iov, 1), 1);
}

/* Two at a time, until there is no room: how many. */
static unsigned pass(const struct one *o)
{
	unsigned count = 0;
	int r;

	while ((r = stream_pass(o->stream, ends, 2)) == 0) {
		send_byte(o);
		count += 2;
	}
	assert_int_equal(r, -EBUSY);
	return count;
}

static void read_all(const struct one *o)
{
	char bytes[8];

	while (recv(o->fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	turn_for(MS);
}

static void who_reads_nothing_has_as_many_as_are_left_for_others(void **state)
{
	assert_int_equal(pass(&a), MOST / 2);
	assert_int_equal(pass(&b), 0);
	assert_int_equal(pass(&c), MOST / 4);
	for (int i = 0; i < 10; i++) {
		read_all(&c);
		assert_int_equal(pass(&c), MOST / 4);
	}
	read_all(&a);
	assert_true(pass(&b) > 0);
}

static void what_is_still_to_be_sent_nobody_has_read(void **state)
{
	assert_int_equal(stream_pass(a.stream, ends, 2), 0);
	assert_int_equal(pass(&b), MOST / 2 - 2);
	assert_int_equal(pass(&b), 0);
	send_byte(&a);
	assert_int_equal(pass(&a), 0);
	read_all(&a);
	assert_int_equal(pass(&a), 2);
}

/* The kernel keeps them for as long as the peer lives, and we are told when it reads or ends. */
static void who_is_closed_with_some_unread_has_them_still(void **state)
{
	for (int reads = 0; reads < 2; reads++) {
		assert_int_equal(pass(&a), MOST / 2);
		stream_close(a.stream);
		turn_for(MS);
		assert_int_equal(pass(&b), 0);
		if (reads)
			read_all(&a);
		close(a.fd);
		turn_for(MS);
		assert_int_equal(pass(&b), MOST / 2);
		read_all(&b);
		a = one_of(1);
	}
}

static void a_loop_is_closed_while_some_are_unread(void **state)
{
	assert_int_equal(pass(&a), MOST / 2);
	stream_close(a.stream);
	turn_for(MS);
	a.stream = NULL;
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(who_reads_nothing_has_as_many_as_are_left_for_others),
		T(what_is_still_to_be_sent_nobody_has_read),
		T(who_is_closed_with_some_unread_has_them_still),
		T(a_loop_is_closed_while_some_are_unread),
	};
	int failed_count;

	if (!mkdtemp(directory))
		return 1;
	failed_count = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(directory);
	return failed_count;
}
