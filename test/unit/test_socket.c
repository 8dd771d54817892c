/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what is true of sockets alone: Unix paths, descriptors that run out, peers
 * that are not ours. Method: the far end is a plain blocking socket of this very
 * thread, which works because the kernel takes what we send meanwhile.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "loop/stream.h"
#include "world.h"

static char directory[] = "/tmp/wadi-test.XXXXXX", path[64];
static struct address at;
static struct listener lr;
static struct stream *ours;
static unsigned accepted_count, ready_count;

static void ready(struct stream *s)
{
	ready_count++;
}

static void accepted(struct listener *l, struct stream *s)
{
	s->ready = ready;
	ours = s;
	accepted_count++;
}

static int setup(void **state)
{
	world_open(false);
	snprintf(path, sizeof(path), "%s/socket", directory);
	at = (struct address){ .kind = ADDRESS_UNIX, .len = sizeof(at.u.un) };
	at.u.un.sun_family = AF_UNIX;
	strcpy(at.u.un.sun_path, path);
	lr = (struct listener){ .accepted = accepted };
	ours = NULL;
	accepted_count = ready_count = 0;
	return 0;
}

static int teardown(void **state)
{
	stream_close(ours);
	listener_close(&lr);
	world_close();
	unlink(path);
	return 0;
}

/* A plain socket that listens at the path, or is connected to `to`. */
static int plain_listener(int backlog)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, &at.u.any, at.len), 0);
	assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

static int plain_connect(const struct address *to)
{
	int fd = socket(to->u.any.sa_family, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, &to->u.any, to->len), 0);
	return fd;
}

static bool path_exists(void)
{
	return access(path, F_OK) == 0;
}

static void a_path_that_nobody_listens_at_any_more_is_used_again(void **state)
{
	close(plain_listener(1));
	assert_true(path_exists());
	assert_int_equal(listener_open(loop, &at, &lr), 0);
	close(plain_connect(&at));
	WAIT_FOR(accepted_count == 1);
	listener_close(&lr);
	assert_false(path_exists());
}

/* So whoever connects meanwhile does not hear that nobody has ever been there. */
static void an_abandoned_path_is_never_missing(void **state)
{
	char events[4096] __attribute__((aligned(8)));
	int fd = inotify_init1(IN_NONBLOCK), taken = 0;
	ssize_t len;

	close(plain_listener(1));
	/* What was killed before it had taken its place. */
	at.u.un.sun_path[strlen(path) - 1] = '~';
	close(plain_listener(1));
	strcpy(at.u.un.sun_path, path);
	assert_true(inotify_add_watch(fd, directory, IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO) >= 0);
	assert_int_equal(listener_open(loop, &at, &lr), 0);
	len = read(fd, events, sizeof(events));
	for (ssize_t i = 0; i < len;) {
		const struct inotify_event *e = (const void *)(events + i);

		if (strcmp(e->name, "socket") == 0) {
			assert_int_equal(e->mask, IN_MOVED_TO);
			taken++;
		}
		i += (ssize_t)(sizeof(*e) + e->len);
	}
	assert_int_equal(taken, 1);
	close(fd);
	listener_close(&lr);
	assert_int_equal(rmdir(directory), 0); /* nothing is left beside it */
	assert_int_equal(mkdir(directory, 0700), 0);
}

static void a_path_that_somebody_listens_at_is_left_alone(void **state)
{
	int fd = plain_listener(4), peer;

	assert_int_equal(listener_open(loop, &at, &lr), -EADDRINUSE);
	peer = plain_connect(&at);
	close(peer);
	close(fd);
}

static void a_file_is_not_taken_for_a_socket(void **state)
{
	int fd = open(path, O_CREAT | O_WRONLY, 0600);

	close(fd);
	assert_int_equal(listener_open(loop, &at, &lr), -EADDRINUSE);
	assert_true(path_exists());
}

static void a_path_that_became_another_s_is_not_removed(void **state)
{
	int fd;

	assert_int_equal(listener_open(loop, &at, &lr), 0);
	assert_int_equal(unlink(path), 0);
	fd = plain_listener(1);
	listener_close(&lr);
	assert_true(path_exists());
	close(fd);
}

static unsigned mode_of_path(void)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st.st_mode & 07777;
}

static void a_path_is_its_user_s_alone_unless_told_otherwise(void **state)
{
	mode_t before = umask(0);

	assert_int_equal(listener_open(loop, &at, &lr), 0);
	assert_int_equal(mode_of_path(), 0600);
	listener_close(&lr);
	umask(077);
	lr.mode = 0666;
	assert_int_equal(listener_open(loop, &at, &lr), 0);
	assert_int_equal(mode_of_path(), 0666);
	umask(before);
}

static void a_directory_that_is_not_there_is_an_error(void **state)
{
	assert_int_equal(address_parse("unix:///no/such/directory/socket", &at), 0);
	assert_int_equal(listener_open(loop, &at, &lr), -ENOENT);
	assert_null(lr.acceptor);
}

static void who_has_ended_can_still_be_sent_to(void **state)
{
	struct iovec iov = { (void *)"answer", 6 };
	char buf[16];
	int fd;

	assert_int_equal(listener_open(loop, &at, &lr), 0);
	fd = plain_connect(&at);
	assert_int_equal(write(fd, "ask", 3), 3);
	shutdown(fd, SHUT_WR);
	WAIT_FOR(ready_count);
	assert_int_equal(stream_recv(ours, buf, sizeof(buf)), 3);
	assert_int_equal(stream_recv(ours, buf, sizeof(buf)), 0);
	assert_int_equal(stream_send(ours, &iov, 1), 6);
	assert_int_equal(read(fd, buf, sizeof(buf)), 6);
	assert_memory_equal(buf, "answer", 6);
	close(fd);
}

static void a_peer_that_broke_off_is_an_error_and_no_signal(void **state)
{
	struct linger broken = { .l_onoff = 1 };
	struct iovec iov = { path, 1 };
	char c;
	int fd;

	assert_int_equal(address_parse("tcp://127.0.0.1:0", &at), 0);
	assert_int_equal(listener_open(loop, &at, &lr), 0);
	fd = plain_connect(&lr.address);
	WAIT_FOR(accepted_count);
	turn_for(5 * MS);
	ready_count = 0;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &broken, sizeof(broken));
	close(fd);
	WAIT_FOR(ready_count);
	assert_int_equal(stream_recv(ours, &c, 1), -ECONNRESET);
	assert_int_equal(stream_send(ours, &iov, 1), -EPIPE);
}

static void ipv4_on_an_ipv6_socket_is_shown_as_ipv4(void **state)
{
	char text[ADDRESS_TEXT_MAX];
	struct address to;
	int fd;

	assert_int_equal(address_parse("tcp://[::]:0", &at), 0);
	assert_int_equal(listener_open(loop, &at, &lr), 0);
	assert_int_equal(address_parse("tcp://127.0.0.1:1", &to), 0);
	to.u.in.sin_port = lr.address.u.in6.sin6_port;
	fd = plain_connect(&to);
	WAIT_FOR(ours);
	address_format(&ours->peer.address, text, sizeof(text));
	assert_memory_equal(text, "tcp://127.0.0.1:", 16);
	assert_int_equal(ours->peer.address.len, sizeof(struct sockaddr_in));
	assert_true(ours->peer.is_loopback);
	close(fd);
}

static void who_comes_while_descriptors_are_short_waits(void **state)
{
	uint64_t end_ns = loop->now_ns + 50 * MS;
	struct rlimit before, none;
	int fd, turn_count = 0;

	assert_int_equal(listener_open(loop, &at, &lr), 0);
	fd = plain_connect(&at);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = (rlim_t)fd + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	log_set_level(LOG_ERROR);
	for (; loop->now_ns < end_ns; turn_count++)
		loop_turn(loop, end_ns);
	assert_int_equal(accepted_count, 0);
	assert_true(turn_count < 40); /* it does not try all the time */
	log_set_level(LOG_INFO);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	WAIT_FOR(accepted_count == 1);
	close(fd);
}

static void a_listener_that_waits_for_descriptors_may_be_closed(void **state)
{
	struct rlimit before, none;
	int fd;

	assert_int_equal(listener_open(loop, &at, &lr), 0);
	fd = plain_connect(&at);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = (rlim_t)fd + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	log_set_level(LOG_ERROR);
	turn_for(5 * MS);
	log_set_level(LOG_INFO);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	listener_close(&lr);
	turn_for(30 * MS);
	assert_int_equal(accepted_count, 0);
	close(fd);
}

static void no_descriptor_for_a_stream_is_an_error_at_once(void **state)
{
	struct rlimit before, none;
	struct stream *s = NULL;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(stream_connect(loop, &at, &s), -EMFILE);
	assert_int_equal(listener_open(loop, &at, &lr), -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_null(s);
	turn_for(MS);
}

static void a_full_queue_is_tried_again(void **state)
{
	int fd = plain_listener(0), peers[4];
	struct stream *streams[4];

	for (int i = 0; i < 4; i++) {
		assert_int_equal(stream_connect(loop, &at, &streams[i]), 0);
		streams[i]->ready = ready;
	}
	turn_for(30 * MS);
	assert_true(ready_count > 0 && ready_count < 4); /* a queue of 0 takes one */
	for (int i = 0; i < 4; i++) {
		peers[i] = accept(fd, NULL, NULL);
		assert_true(peers[i] >= 0);
		turn_for(30 * MS);
	}
	assert_int_equal(ready_count, 4);
	for (int i = 0; i < 4; i++) {
		char c;

		assert_int_equal(stream_recv(streams[i], &c, 1), -EAGAIN);
	}
	for (int i = 0; i < 4; i++) {
		stream_close(streams[i]);
		close(peers[i]);
	}
	close(fd);
}

/* Descriptors: both ends of a pipe. */

static struct stream *theirs;
static int ends[2];

/* `theirs` is the other end of `ours`; it wants descriptors, or not. */
static void connect_both(bool is_wanted)
{
	assert_int_equal(listener_open(loop, &at, &lr), 0);
	assert_int_equal(stream_connect(loop, &at, &theirs), 0);
	theirs->ready = ready;
	WAIT_FOR(accepted_count && ready_count);
	if (is_wanted)
		assert_int_equal(stream_take(theirs, NULL, 0), 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
}

static void pass(const char *text)
{
	struct iovec iov = { (void *)text, strlen(text) };

	assert_int_equal(stream_pass(ours, ends, 2), 0);
	assert_int_equal(stream_send(ours, &iov, 1), strlen(text));
}

static void receive(const char *text)
{
	char buf[64];
	ssize_t n = -EAGAIN;

	for (int i = 0; i < 1000 && n == -EAGAIN; i++) {
		turn_for(MS);
		n = stream_recv(theirs, buf, sizeof(buf));
	}
	assert_int_equal(n, strlen(text));
	assert_memory_equal(buf, text, strlen(text));
}

/* Nobody has the writing end of the pipe any more. */
static bool is_forgotten(void)
{
	char c;

	close(ends[1]);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	return read(ends[0], &c, 1) == 0;
}

static void disconnect_both(void)
{
	stream_close(theirs);
	close(ends[0]);
	turn_for(MS);
}

static void descriptors_come_with_the_bytes_that_are_sent_next(void **state)
{
	int got[2];
	char c = 0;

	connect_both(true);
	pass("here they are");
	receive("here they are");
	assert_int_equal(stream_take(theirs, got, 2), 2);
	assert_int_equal(stream_take(theirs, got, 2), 0);
	assert_true(fcntl(got[0], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(got[1], "x", 1), 1);
	assert_int_equal(read(got[0], &c, 1), 1);
	assert_int_equal(c, 'x');
	assert_int_equal(write(ends[1], "y", 1), 1); /* the sender's are still his */
	assert_int_equal(read(got[0], &c, 1), 1);
	close(got[0]);
	close(got[1]);
	assert_true(is_forgotten());
	disconnect_both();
}

static void who_reads_nothing_gets_no_more_descriptors(void **state)
{
	char buf[512];
	int got[2];

	connect_both(true);
	for (int i = 0; i < 128 / 2; i++) /* STREAM_FDS_UNREAD */
		pass("x");
	assert_int_equal(stream_pass(ours, ends, 1), -EBUSY);
	for (int i = 0; i < 128 / 2; i++) {
		turn_for(0);
		assert_int_equal(stream_recv(theirs, buf, 1), 1);
		assert_int_equal(stream_take(theirs, got, 2), 2);
		close(got[0]);
		close(got[1]);
	}
	pass("y");
	assert_int_equal(stream_recv(theirs, buf, 1), 1);
	assert_int_equal(stream_take(theirs, got, 2), 2);
	close(got[0]);
	close(got[1]);
	close(ends[1]);
	disconnect_both();
}

static void what_comes_behind_descriptors_is_not_forgotten(void **state)
{
	struct iovec iov = { (void *)"more", 4 };

	connect_both(true);
	pass("first");
	assert_int_equal(stream_send(ours, &iov, 1), 4);
	turn_for(5 * MS); /* all of it has come, and no event will tell of more */
	receive("first");
	receive("more");
	stream_close(theirs);
	theirs = NULL;
	assert_true(is_forgotten());
	disconnect_both();
}

static void descriptors_that_nobody_wants_or_takes_are_closed(void **state)
{
	for (int is_wanted = 0; is_wanted < 2; is_wanted++) {
		connect_both(is_wanted);
		pass("for nobody");
		receive("for nobody");
		stream_close(theirs);
		assert_true(is_forgotten());
		theirs = NULL;
		disconnect_both();
		teardown(NULL);
		setup(NULL);
	}
}

static void descriptors_that_were_not_sent_are_closed(void **state)
{
	connect_both(true);
	assert_int_equal(stream_pass(ours, ends, 2), 0);
	assert_int_equal(stream_pass(ours, ends, 1), -EBUSY);
	stream_close(ours);
	ours = NULL;
	assert_true(is_forgotten());
	disconnect_both();
}

static void a_stream_of_another_kind_passes_none(void **state)
{
	int fd;

	assert_int_equal(address_parse("tcp://127.0.0.1:0", &at), 0);
	assert_int_equal(listener_open(loop, &at, &lr), 0);
	fd = plain_connect(&lr.address);
	WAIT_FOR(ours);
	assert_int_equal(stream_pass(ours, &fd, 1), -EOPNOTSUPP);
	assert_int_equal(stream_take(ours, &fd, 1), 0);
	close(fd);
}

static int taken_fd;
static struct address taken_from;

static void taken(struct listener *l, int fd, const struct address *from)
{
	assert_ptr_equal(l, &lr);
	taken_fd = fd;
	taken_from = *from;
}

static void what_a_listener_takes_becomes_a_stream_of_another_loop(void **state)
{
	struct loop *other;
	struct stream *s;
	char c = 0;
	int fd;

	assert_int_equal(loop_open_epoll(&other), 0);
	assert_int_equal(address_parse("tcp://127.0.0.1:0", &at), 0);
	lr = (struct listener){ .taken = taken };
	taken_fd = -1;
	assert_int_equal(listener_open(loop, &at, &lr), 0);
	fd = plain_connect(&lr.address);
	WAIT_FOR(taken_fd >= 0);

	assert_int_equal(stream_adopt(other, taken_fd, &taken_from, &s), 0);
	s->ready = ready;
	assert_ptr_equal(s->loop, other);
	assert_true(s->peer.is_loopback);
	assert_int_equal(write(fd, "x", 1), 1);
	turn_for(5 * MS);
	assert_int_equal(ready_count, 0);
	while (ready_count == 0 || stream_recv(s, &c, 1) != 1)
		assert_int_equal(loop_turn(other, other->now_ns + SECOND), 0);
	assert_int_equal(c, 'x');
	stream_close(s);
	loop_close(other);
	assert_int_equal(read(fd, &c, 1), 0);
	close(fd);
}

/* Who waits for the loop's descriptor is told of the end once, and looks often. */
static void the_end_is_seen_by_who_looks_himself(void **state)
{
	char bytes[8];
	int fd;

	assert_int_equal(listener_open(loop, &at, &lr), 0);
	fd = plain_connect(&at);
	WAIT_FOR(ours);
	assert_true(loop_fd(loop) >= 0);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(write(fd, "x", 1), 1);
		assert_int_equal(loop_turn(loop, loop->now_ns + SECOND), 0);
		assert_int_equal(stream_recv(ours, bytes, 8), 1);
	}
	assert_int_equal(write(fd, "xy", 2), 2);
	close(fd);
	assert_int_equal(loop_turn(loop, loop->now_ns + SECOND), 0);
	assert_int_equal(stream_recv(ours, bytes, 1), 1); /* as much as a turn has time for */
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(stream_recv(ours, bytes, 8), 1);
	assert_int_equal(stream_recv(ours, bytes, 8), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_path_that_nobody_listens_at_any_more_is_used_again),
		T(an_abandoned_path_is_never_missing),
		T(a_path_that_somebody_listens_at_is_left_alone),
		T(a_file_is_not_taken_for_a_socket),
		T(a_path_that_became_another_s_is_not_removed),
		T(a_path_is_its_user_s_alone_unless_told_otherwise),
		T(a_directory_that_is_not_there_is_an_error),
		T(who_has_ended_can_still_be_sent_to),
		T(a_peer_that_broke_off_is_an_error_and_no_signal),
		T(ipv4_on_an_ipv6_socket_is_shown_as_ipv4),
		T(who_comes_while_descriptors_are_short_waits),
		T(a_listener_that_waits_for_descriptors_may_be_closed),
		T(no_descriptor_for_a_stream_is_an_error_at_once),
		T(a_full_queue_is_tried_again),
		T(descriptors_come_with_the_bytes_that_are_sent_next),
		T(who_reads_nothing_gets_no_more_descriptors),
		T(what_comes_behind_descriptors_is_not_forgotten),
		T(descriptors_that_nobody_wants_or_takes_are_closed),
		T(descriptors_that_were_not_sent_are_closed),
		T(a_stream_of_another_kind_passes_none),
		T(what_a_listener_takes_becomes_a_stream_of_another_loop),
		T(the_end_is_seen_by_who_looks_himself),
	};
	int failed_count;

	if (!mkdtemp(directory))
		return 1;
	failed_count = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(directory);
	return failed_count;
}
