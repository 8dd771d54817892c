/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: every kind of stream and listener does what stream.h says, the same.
 * Method: one set of tests, run with each transport: sockets, pairs, the
 * simulator's network. What an end sends is a pattern of the position, so a byte
 * that is lost, doubled or in the wrong place does not match.
 */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "loop/stream.h"
#include "world.h"

struct transport {
	const char *name;
	const char *address; /* NULL: a pair */
	bool is_simulated;
	int refused; /* what a connect says if nobody listens */
};

static const struct transport *transport;
static char directory[] = "/tmp/wadi-test.XXXXXX";

/* One end: sends `to_send` bytes of its pattern, and checks what it gets. */
struct talker {
	struct stream *stream;
	size_t to_send, sent, got;
	uint8_t pattern, expected;
	unsigned ready_count, wrong_count;
	bool is_deaf, has_ended, ends_when_sent;
	int recv_error, send_error;
	struct stream **to_close; /* when it is told ready */
};

static struct talker near, far;

static uint8_t byte_at(size_t offset, uint8_t pattern)
{
	return (uint8_t)(offset * 31 + (offset >> 8) + (offset >> 16) + pattern);
}

static void hear(struct talker *t)
{
	uint8_t buf[5000];
	ssize_t r;

	while ((r = stream_recv(t->stream, buf, 1 + t->got * 7 % sizeof(buf))) > 0)
		for (ssize_t i = 0; i < r; i++)
			t->wrong_count += buf[i] != byte_at(t->got++, t->expected);
	t->has_ended = r == 0;
	t->recv_error = r == -EAGAIN ? 0 : (int)r;
}

static void say(struct talker *t)
{
	uint8_t buf[6000];

	while (t->sent < t->to_send) {
		size_t len = 1 + t->sent * 5 % sizeof(buf);
		struct iovec iov[2];
		ssize_t r;

		len = len < t->to_send - t->sent ? len : t->to_send - t->sent;
		for (size_t i = 0; i < len; i++)
			buf[i] = byte_at(t->sent + i, t->pattern);
		iov[0] = (struct iovec){ buf, len / 3 };
		iov[1] = (struct iovec){ buf + len / 3, len - len / 3 };
		r = stream_send(t->stream, iov, 2);
		if (r < 0) {
			t->send_error = r == -EAGAIN ? 0 : (int)r;
			return;
		}
		t->sent += (size_t)r;
	}
}

static void talk(struct stream *s)
{
	struct talker *t = s->owner;

	t->ready_count++;
	if (t->to_close && *t->to_close) {
		stream_close(TAKE_PTR(*t->to_close));
		return;
	}
	if (!t->is_deaf && !t->has_ended)
		hear(t);
	if (!t->recv_error)
		say(t);
	if (t->ends_when_sent && t->sent == t->to_send)
		stream_close(TAKE_PTR(t->stream));
}

static void own(struct talker *t, struct stream *s)
{
	t->stream = s;
	s->owner = t;
	s->ready = talk;
}

static void accepted(struct listener *lr, struct stream *s)
{
	own(lr->owner, s);
}

static struct address transport_address(void)
{
	char text[ADDRESS_TEXT_MAX];
	struct address a;

	snprintf(text, sizeof(text), transport->address, directory);
	assert_int_equal(address_parse(text, &a), 0);
	return a;
}

static void listen_at(struct listener *lr, void (*accept)(struct listener *lr, struct stream *s))
{
	struct address a = transport_address();

	*lr = (struct listener){ .accepted = accept, .owner = &far };
	assert_int_equal(listener_open(loop, &a, lr), 0);
}

/* Both ends are there, and were told so. */
static void join(void)
{
	struct stream *ends[2];

	near = (struct talker){ .pattern = 1, .expected = 2 };
	far = (struct talker){ .pattern = 2, .expected = 1 };
	if (!transport->address) {
		assert_int_equal(stream_pair(loop, 4096, ends), 0);
		own(&near, ends[0]);
		own(&far, ends[1]);
	} else {
		struct listener lr;

		listen_at(&lr, accepted);
		assert_int_equal(stream_connect(loop, &lr.address, &ends[0]), 0);
		own(&near, ends[0]);
		WAIT_FOR(far.stream);
		listener_close(&lr);
	}
	WAIT_FOR(near.ready_count && far.ready_count);
	turn_for(5 * MS);
	assert_int_equal(near.recv_error, 0);
	assert_false(near.has_ended);
}

static void part(void)
{
	stream_close(near.stream);
	stream_close(far.stream);
	turn_for(5 * MS); /* the simulated network has both ends' last words */
}

static void both_ends_get_what_the_other_sent(void **state)
{
	join();
	near.to_send = 3000000;
	far.to_send = 2000000;
	talk(near.stream);
	WAIT_FOR(near.got == 2000000 && far.got == 3000000);
	assert_int_equal(near.wrong_count + far.wrong_count, 0);
	assert_int_equal(near.sent, 3000000);
	assert_false(near.has_ended || far.has_ended);
	part();
}

static void the_end_comes_behind_the_last_byte(void **state)
{
	join();
	near.to_send = 500000;
	near.ends_when_sent = true;
	talk(near.stream);
	WAIT_FOR(far.has_ended);
	assert_int_equal(far.got, 500000);
	assert_int_equal(far.wrong_count, 0);
	assert_int_equal(far.recv_error, 0);
	assert_null(near.stream);
	part();
}

static void who_found_no_room_is_told_of_it(void **state)
{
	size_t sent;

	join();
	far.is_deaf = true;
	near.to_send = 64u << 20;
	talk(near.stream);
	turn_for(20 * MS);
	sent = near.sent;
	assert_true(sent > 0 && sent < near.to_send);
	assert_int_equal(near.send_error, 0);
	turn_for(5 * MS);
	assert_int_equal(near.sent, sent);

	far.is_deaf = false;
	near.to_send = sent + 100000;
	talk(far.stream);
	WAIT_FOR(far.got == sent + 100000);
	assert_int_equal(far.wrong_count, 0);
	part();
}

static void ready_is_told_in_a_later_turn(void **state)
{
	unsigned before;

	join();
	before = far.ready_count;
	near.to_send = 10;
	say(&near);
	assert_int_equal(far.ready_count, before);
	WAIT_FOR(far.got == 10);
	before = far.ready_count;
	turn_for(5 * MS);
	assert_int_equal(far.ready_count, before); /* and not without a reason */
	part();
}

static void who_closes_itself_when_ready_is_left_alone(void **state)
{
	join();
	far.ready_count = 0;
	far.to_close = &far.stream;
	near.to_send = 100000;
	talk(near.stream);
	WAIT_FOR(!far.stream);
	turn_for(5 * MS);
	assert_int_equal(far.ready_count, 1);
	WAIT_FOR(near.has_ended || near.recv_error || near.send_error);
	part();
}

static void who_is_closed_before_its_turn_is_left_alone(void **state)
{
	join();
	near.to_send = far.to_send = 10;
	say(&near);
	say(&far);
	near.ready_count = far.ready_count = 0;
	near.to_close = &far.stream;
	far.to_close = &near.stream;
	WAIT_FOR(!near.stream || !far.stream);
	near.to_close = far.to_close = NULL;
	turn_for(5 * MS);
	assert_int_equal(near.stream ? far.ready_count : near.ready_count, 0);
	part();
}

static void sending_to_who_has_gone_fails(void **state)
{
	join();
	stream_close(TAKE_PTR(far.stream));
	for (int i = 0; i < 100 && !near.send_error; i++) {
		near.to_send += 1000;
		say(&near);
		turn_for(MS);
	}
	assert_true(near.send_error == -EPIPE || near.send_error == -ECONNRESET);
	part();
}

static void any_number_of_pieces_may_be_sent_at_once(void **state)
{
	static uint8_t bytes[3000];
	static struct iovec iov[3000];
	int at = 0;

	join();
	for (int i = 0; i < 3000; i++) {
		bytes[i] = byte_at((size_t)i, near.pattern);
		iov[i] = (struct iovec){ &bytes[i], 1 };
	}
	while (at < 3000) {
		ssize_t r = stream_send(near.stream, iov + at, 3000 - at);

		assert_true(r > 0);
		at += (int)r;
	}
	WAIT_FOR(far.got == 3000);
	assert_int_equal(far.wrong_count, 0);
	part();
}

static void a_connection_to_nobody_is_told_ready_and_says_why(void **state)
{
	char text[ADDRESS_TEXT_MAX];
	struct listener lr;
	struct iovec iov = { text, 1 };
	struct stream *s;

	listen_at(&lr, accepted);
	listener_close(&lr);
	near = (struct talker){ 0 };
	assert_int_equal(stream_connect(loop, &lr.address, &s), 0);
	own(&near, s);
	assert_int_equal(stream_recv(s, text, 1), -EAGAIN);
	assert_int_equal(stream_send(s, &iov, 1), -EAGAIN);
	assert_int_equal(near.ready_count, 0);
	WAIT_FOR(near.ready_count);
	assert_int_equal(near.recv_error, transport->refused);
	assert_int_equal(stream_recv(s, text, 1), transport->refused);
	assert_int_equal(stream_send(s, &iov, 1), transport->refused);
	stream_close(s);
	turn_for(5 * MS);
}

static void a_connection_may_be_given_up_at_any_time(void **state)
{
	struct listener lr;
	struct stream *s;

	listen_at(&lr, accepted);
	far = (struct talker){ 0 };
	near = (struct talker){ 0 };
	assert_int_equal(stream_connect(loop, &lr.address, &s), 0);
	own(&near, s);
	stream_close(s);
	turn_for(10 * MS);
	assert_int_equal(near.ready_count, 0);
	assert_true(!far.stream || far.has_ended || far.recv_error);
	stream_close(far.stream);
	listener_close(&lr);
	turn_for(5 * MS);
}

static void a_connection_to_nobody_may_be_given_up_too(void **state)
{
	struct listener lr;
	struct stream *s;

	listen_at(&lr, accepted);
	listener_close(&lr);
	near = (struct talker){ 0 };
	assert_int_equal(stream_connect(loop, &lr.address, &s), 0);
	own(&near, s);
	stream_close(s);
	turn_for(10 * MS);
	assert_int_equal(near.ready_count, 0);
}

static void a_listener_opens_again_where_it_was(void **state)
{
	struct listener lr;
	struct address at;
	struct stream *s;

	listen_at(&lr, accepted);
	at = lr.address;
	near = far = (struct talker){ 0 };
	assert_int_equal(stream_connect(loop, &at, &s), 0);
	own(&near, s);
	WAIT_FOR(far.stream);
	listener_close(&lr);
	listener_close(&lr);
	/* Closed by the listener's side first, so TCP remembers the connection for a while. */
	stream_close(TAKE_PTR(far.stream));
	turn_for(5 * MS);
	stream_close(s);

	assert_int_equal(listener_open(loop, &at, &lr), 0);
	near = (struct talker){ 0 };
	assert_int_equal(stream_connect(loop, &at, &s), 0);
	own(&near, s);
	WAIT_FOR(far.stream);
	listener_close(&lr);
	part();
}

#define CROWD 200 /* more than one turn accepts */

static struct stream *crowd[CROWD];
static unsigned crowd_count;

static void idle(struct stream *s)
{
}

static void accept_crowd(struct listener *lr, struct stream *s)
{
	s->ready = idle;
	crowd[crowd_count++] = s;
}

static void close_crowd(void)
{
	while (crowd_count > 0)
		stream_close(crowd[--crowd_count]);
}

static void an_address_has_one_listener(void **state)
{
	struct listener lr, second = { .accepted = accepted };
	struct stream *s;

	crowd_count = 0;
	listen_at(&lr, accept_crowd);
	assert_int_equal(listener_open(loop, &lr.address, &second), -EADDRINUSE);
	listener_close(&second);
	/* To see whether a Unix path is in use is a connection that ends at once. */
	turn_for(5 * MS);
	close_crowd();

	near = (struct talker){ 0 };
	assert_int_equal(stream_connect(loop, &lr.address, &s), 0);
	own(&near, s);
	WAIT_FOR(crowd_count == 1 && near.ready_count);
	assert_int_equal(near.recv_error, 0);
	stream_close(s);
	close_crowd();
	listener_close(&lr);
	turn_for(5 * MS);
}

static void all_who_come_at_once_are_accepted(void **state)
{
	static struct talker talkers[CROWD];
	struct listener lr;

	crowd_count = 0;
	memset(talkers, 0, sizeof(talkers));
	listen_at(&lr, accept_crowd);
	for (int i = 0; i < CROWD; i++) {
		struct stream *s;

		assert_int_equal(stream_connect(loop, &lr.address, &s), 0);
		own(&talkers[i], s);
	}
	WAIT_FOR(crowd_count == CROWD);
	for (int i = 0; i < CROWD; i++) {
		WAIT_FOR(talkers[i].ready_count);
		assert_int_equal(talkers[i].recv_error, 0);
		stream_close(talkers[i].stream);
		stream_close(crowd[i]);
	}
	listener_close(&lr);
	turn_for(5 * MS);
}

static void accept_one(struct listener *lr, struct stream *s)
{
	accept_crowd(lr, s);
	listener_close(lr);
}

static void a_listener_closed_in_accepted_accepts_nobody_else(void **state)
{
	struct talker talkers[3] = { 0 };
	unsigned disappointed_count = 0;
	struct listener lr;

	crowd_count = 0;
	listen_at(&lr, accept_one);
	for (int i = 0; i < 3; i++) {
		struct stream *s;

		assert_int_equal(stream_connect(loop, &lr.address, &s), 0);
		own(&talkers[i], s);
	}
	WAIT_FOR(crowd_count == 1);
	turn_for(5 * MS);
	assert_int_equal(crowd_count, 1);
	for (int i = 0; i < 3; i++) {
		disappointed_count += talkers[i].recv_error || talkers[i].has_ended;
		stream_close(talkers[i].stream);
	}
	assert_int_equal(disappointed_count, 2);
	stream_close(crowd[0]);
	turn_for(5 * MS);
}

static void both_know_who_the_other_is(void **state)
{
	struct stream *ends[2];
	bool is_unix = transport->address && strncmp(transport->address, "unix", 4) == 0;

	join();
	ends[0] = near.stream;
	ends[1] = far.stream;
	for (int i = 0; i < 2; i++) {
		const struct peer *p = &ends[i]->peer;

		assert_ptr_equal(ends[i]->loop, loop);
		assert_true(p->is_loopback);
		assert_int_equal(p->uid, is_unix ? getuid() : UINT32_MAX);
		assert_int_equal(p->pid, is_unix ? getpid() : 0);
		assert_true(address_is_loopback(&p->address) == (transport->address != NULL));
	}
	part();
}

static int setup(void **state)
{
	world_open(transport->is_simulated);
	return 0;
}

static int teardown(void **state)
{
	world_close();
	return 0;
}

static const struct transport TRANSPORTS[] = {
	{ "tcp over IPv4", "tcp://127.0.0.1:0", .refused = -ECONNREFUSED },
	{ "tcp over IPv6", "tcp://[::1]:0", .refused = -ECONNREFUSED },
	{ "unix", "unix://%s/socket", .refused = -ENOENT },
	{ "sim", "sim://1:0", .is_simulated = true, .refused = -ECONNREFUSED },
	{ .name = "pair" },
	{ .name = "pair in sim", .is_simulated = true },
};

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest STREAM_TESTS[] = {
	T(both_ends_get_what_the_other_sent),
	T(the_end_comes_behind_the_last_byte),
	T(who_found_no_room_is_told_of_it),
	T(ready_is_told_in_a_later_turn),
	T(who_closes_itself_when_ready_is_left_alone),
	T(who_is_closed_before_its_turn_is_left_alone),
	T(sending_to_who_has_gone_fails),
	T(any_number_of_pieces_may_be_sent_at_once),
	T(both_know_who_the_other_is),
};

static const struct CMUnitTest LISTENER_TESTS[] = {
	T(a_connection_to_nobody_is_told_ready_and_says_why),
	T(a_connection_may_be_given_up_at_any_time),
	T(a_connection_to_nobody_may_be_given_up_too),
	T(a_listener_opens_again_where_it_was),
	T(an_address_has_one_listener),
	T(all_who_come_at_once_are_accepted),
	T(a_listener_closed_in_accepted_accepts_nobody_else),
};

int main(void)
{
	int failed_count = 0;

	if (!mkdtemp(directory))
		return 1;
	for (size_t i = 0; i < sizeof(TRANSPORTS) / sizeof(*TRANSPORTS); i++) {
		transport = &TRANSPORTS[i];
		failed_count +=
			cmocka_run_group_tests_name(transport->name, STREAM_TESTS, NULL, NULL);
		if (transport->address)
			failed_count += cmocka_run_group_tests_name(transport->name, LISTENER_TESTS,
								    NULL, NULL);
	}
	rmdir(directory);
	return failed_count;
}
