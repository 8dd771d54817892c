/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: peers that stop in the middle, and peers that are too many, cost a bounded time
 * and a bounded number of connections, and are told where that is possible. Method: a
 * server in simulated time, and the bare other ends of pairs.
 */
#include "test.h"

#include <errno.h>
#include <stdio.h>

#include "net/conn.h"
#include "world.h"

static struct net *net;
static unsigned closed_count;
static char why[100];

static void hello_serve(struct request *r)
{
	struct wcur w = request_answer(r);

	r->conn->access = node_alloc(sizeof(*r->conn->access));
	r->conn->access->role = ROLE_JOB;
	hello_rep_put(&w, &(struct hello_rep){ .version = PROTOCOL_VERSION });
	request_reply(r, &w, NULL);
}

static struct payload long_answer;
static uint8_t long_bytes[200000];
static size_t answer_len;
static unsigned served_count, parked_count;
static struct parked *parked; /* if there are any, requests wait there */

static void get_serve(struct request *r)
{
	struct wcur w;

	if (parked) {
		request_park(r, &parked[parked_count++]);
		return;
	}
	w = request_answer(r);
	get_rep_put(&w, &(struct get_rep){ 0 });
	long_answer = (struct payload){ .ptr = long_bytes, .len = answer_len };
	request_reply(r, &w, answer_len > 0 ? &long_answer : NULL);
	served_count++;
}

static void conn_over(struct conn *c)
{
	closed_count++;
	snprintf(why, sizeof(why), "%s", conn_why_closed(c));
}

static const struct service SERVICE = {
	.server = SERVER_PROXY,
	.handlers = { [MESSAGE_HELLO] = { .serve = hello_serve },
		      [MESSAGE_GET] = { .serve = get_serve } },
	.closed = conn_over,
};

static void ignore(struct stream *s)
{
}

static struct stream *connect_by(size_t cap, struct conn **ret)
{
	struct stream *ends[2];

	assert_int_equal(stream_pair(loop, cap, ends), 0);
	ends[0]->ready = ignore;
	*ret = conn_open(net, ends[1], &SERVICE, NULL);
	return ends[0];
}

/* The bare end of a connection; NULL in *ret if the server would not have it. */
static struct stream *connect_bare(struct conn **ret)
{
	return connect_by(65536, ret);
}

static void send_bytes(struct stream *s, const void *bytes, size_t len)
{
	struct iovec iov = { (void *)bytes, len };

	assert_int_equal(stream_send(s, &iov, 1), len);
}

static size_t make_request(uint8_t *buf, size_t cap, uint16_t msg)
{
	uint8_t body[200];
	struct wcur w = wcur_make(body, sizeof(body)), f = wcur_make(buf, cap);

	if (msg == MSG_HELLO)
		hello_req_put(&w, &(struct hello_req){ .version = PROTOCOL_VERSION });
	else
		get_req_put(&w, &(struct get_req){ 0 });
	frame_put(&f, &(struct frame){ .msg = msg, .call = 1, .body_len = (uint32_t)(w.p - body) });
	put_bytes(&f, body, (size_t)(w.p - body));
	assert_true(wcur_finish(&f) > 0);
	return (size_t)wcur_finish(&f);
}

static void say_hello(struct stream *s)
{
	uint8_t frame[300], answer[300];
	size_t len = make_request(frame, sizeof(frame), MSG_HELLO);

	send_bytes(s, frame, len);
	turn_for(MS);
	assert_true(stream_recv(s, answer, sizeof(answer)) > 0);
}

static int setup(void **state)
{
	closed_count = served_count = parked_count = 0;
	answer_len = sizeof(long_bytes);
	why[0] = '\0';
	world_open(true);
	assert_int_equal(net_open(loop, &net), 0);
	return 0;
}

static int teardown(void **state)
{
	turn_for(MS);
	assert_int_equal(net_counters(net)->conn_count, 0);
	net_close(net);
	world_close();
	return 0;
}

static void half_a_frame_is_waited_for_a_while(void **state)
{
	uint8_t frame[300];
	struct conn *c;
	struct stream *s = connect_bare(&c);
	size_t len;

	say_hello(s);
	/* Between frames there is no hurry. */
	turn_for(3600 * SECOND);
	len = make_request(frame, sizeof(frame), MSG_HELLO);
	assert_true(len > 40);
	send_bytes(s, frame, 20);
	turn_for(59 * SECOND);
	send_bytes(s, frame + 20, 18);
	turn_for(59 * SECOND);
	assert_int_equal(closed_count, 0);
	turn_for(2 * SECOND);
	assert_int_equal(closed_count, 1);
	assert_string_equal(why, "it stopped in the middle of a frame");
	stream_close(s);
}

static void a_connection_too_many_is_told_and_closed(void **state)
{
	uint8_t frame[300], answer[300];
	struct stream *s[3];
	struct conn *c[3];
	size_t len = make_request(frame, sizeof(frame), MSG_HELLO);
	struct rcur cur;
	struct frame f;
	struct error_rep error;
	ssize_t n;

	net_limit_conns(net, 2);
	for (int i = 0; i < 3; i++) {
		s[i] = connect_bare(&c[i]);
		assert_non_null(c[i]);
	}
	send_bytes(s[2], frame, len);
	turn_for(MS);
	n = stream_recv(s[2], answer, sizeof(answer));
	assert_true(n > FRAME_HEADER_SIZE);
	cur = rcur_make(answer, FRAME_HEADER_SIZE);
	assert_int_equal(frame_get(&cur, &f), 0);
	assert_int_equal(f.status, STATUS_LIMIT);
	cur = rcur_make(answer + FRAME_HEADER_SIZE, (size_t)n - FRAME_HEADER_SIZE);
	assert_int_equal(error_rep_get(&cur, &error), 0);
	assert_int_equal(error.detail.len,
			 strlen("this process has 2 connections, which is its limit"));
	assert_memory_equal(error.detail.ptr, "this process has 2 connections, which is its limit",
			    error.detail.len);
	assert_int_equal(stream_recv(s[2], answer, sizeof(answer)), 0);
	assert_int_equal(closed_count, 1);
	/* The others are served. */
	say_hello(s[0]);
	/* When one of them is gone, there is room again. */
	stream_close(s[1]);
	stream_close(s[2]);
	turn_for(MS);
	s[1] = connect_bare(&c[1]);
	say_hello(s[1]);
	stream_close(s[0]);
	stream_close(s[1]);
	turn_for(MS);
}

static void far_too_many_are_only_closed(void **state)
{
	static struct stream *s[CONNS_TURNED_MAX + 2];
	uint8_t byte;
	struct conn *c;

	net_limit_conns(net, 1);
	for (unsigned i = 0; i <= CONNS_TURNED_MAX; i++) {
		s[i] = connect_bare(&c);
		assert_non_null(c);
	}
	s[CONNS_TURNED_MAX + 1] = connect_bare(&c);
	assert_null(c);
	turn_for(MS);
	assert_int_equal(stream_recv(s[CONNS_TURNED_MAX + 1], &byte, 1), 0);
	for (unsigned i = 0; i < CONNS_TURNED_MAX + 2; i++)
		stream_close(s[i]);
	turn_for(MS);
}

static void a_peer_that_takes_nothing_is_known(void **state)
{
	static uint8_t bytes[250000];
	uint8_t frame[300];
	struct conn *c;
	struct stream *s = connect_bare(&c);
	size_t len;

	say_hello(s);
	assert_true(conn_stuck_ns(c) == 0);
	len = make_request(frame, sizeof(frame), MSG_GET);
	send_bytes(s, frame, len);
	turn_for(10 * SECOND);
	assert_true(conn_stuck_ns(c) >= 9 * SECOND && conn_stuck_ns(c) <= 10 * SECOND + MS);
	assert_true(stream_recv(s, bytes, 1000) > 0);
	turn_for(MS);
	assert_true(conn_stuck_ns(c) <= 2 * MS);
	while (stream_recv(s, bytes, sizeof(bytes)) > 0)
		turn_for(MS);
	turn_for(SECOND);
	assert_true(conn_stuck_ns(c) == 0);
	stream_close(s);
	turn_for(MS);
}

#define REQUEST_BYTES 128 /* so that many of them are what is received at once */

static void make_requests(uint8_t *buf, unsigned count)
{
	static const uint8_t path[REQUEST_BYTES];
	uint8_t body[REQUEST_BYTES];
	struct wcur w = wcur_make(body, sizeof(body)), all;

	get_req_put(&w, &(struct get_req){ .path = { path, 44 } });
	all = wcur_make(buf, (size_t)count * REQUEST_BYTES);
	for (unsigned i = 0; i < count; i++) {
		frame_put(&all, &(struct frame){ .msg = MSG_GET,
						 .call = i + 1,
						 .body_len = (uint32_t)(w.p - body) });
		put_bytes(&all, body, (size_t)(w.p - body));
	}
	assert_int_equal(wcur_finish(&all), count * REQUEST_BYTES);
}

#define FLOOD 20000

/* Each answer has a buffer of some kilobytes for its hundred bytes. */
static void short_answers_that_nobody_reads_are_few(void **state)
{
	static uint8_t requests[FLOOD * REQUEST_BYTES], bytes[65536];
	struct iovec iov = { requests, sizeof(requests) };
	size_t before, most = 0, answers = 0;
	struct conn *c;
	struct stream *s = connect_bare(&c);
	ssize_t n;

	answer_len = 0;
	make_requests(requests, FLOOD);
	say_hello(s);
	before = sim_node_bytes(sim_node);
	for (int i = 0; i < 1000; i++) {
		n = stream_send(s, &iov, 1);
		iov.iov_base = (uint8_t *)iov.iov_base + (n > 0 ? n : 0);
		iov.iov_len -= n > 0 ? (size_t)n : 0;
		turn_for(MS);
		most = sim_node_bytes(sim_node) > most ? sim_node_bytes(sim_node) : most;
	}
	assert_true(iov.iov_len > 0 && served_count < FLOOD);
	assert_true(most - before < 2 * CONN_UNREAD_BYTES_MAX);
	/* Who reads them after all has all of them. */
	while (answers < FLOOD * 100ul) {
		n = stream_recv(s, bytes, sizeof(bytes));
		assert_true(n > 0 || n == -EAGAIN);
		answers += n > 0 ? (size_t)n : 0;
		n = iov.iov_len > 0 ? stream_send(s, &iov, 1) : 0;
		iov.iov_base = (uint8_t *)iov.iov_base + (n > 0 ? n : 0);
		iov.iov_len -= n > 0 ? (size_t)n : 0;
		turn_for(MS);
	}
	assert_int_equal(served_count, FLOOD);
	assert_int_equal(answers, FLOOD * 100); /* header and body */
	stream_close(s);
	turn_for(MS);
}

/*
 * What was received to the last byte has more to be sent than may be, and to send some of it makes
 * room: nothing will tell of what has come meanwhile.
 */
static void what_was_left_unread_for_want_of_room_is_read(void **state)
{
	static uint8_t requests[1024 * REQUEST_BYTES];
	struct conn *c;
	struct stream *s = connect_by(32u << 20, &c);

	answer_len = 16384 - 100; /* so 512 of them are 8 MiB */
	make_requests(requests, 1024);
	say_hello(s);
	send_bytes(s, requests, sizeof(requests));
	turn_for(SECOND);
	assert_int_equal(served_count, 1024);
	stream_close(s);
	turn_for(MS);
}

/* Metadata and a store ask each other; if each read nothing until the other did, both would rest.
 */
static void who_asks_much_reads_all_the_same(void **state)
{
	static struct call calls[2048];
	const size_t count = sizeof(calls) / sizeof(calls[0]);
	uint8_t request[REQUEST_BYTES];
	struct conn *c;
	struct stream *s = connect_by(4096, &c);

	answer_len = 0;
	make_requests(request, 1);
	say_hello(s);
	for (size_t i = 0; i < count; i++) {
		struct wcur w = call_body(net, &calls[i]);

		call_send(c, &calls[i], MSG_PING, 0, &w, NULL, loop->now_ns + 60 * SECOND);
	}
	turn_for(MS);
	assert_true(conn_unsent(c) > 0);
	send_bytes(s, request, sizeof(request));
	turn_for(MS);
	assert_int_equal(served_count, 1);
	for (size_t i = 0; i < count; i++) {
		call_cancel(&calls[i]);
		call_end(&calls[i]);
	}
	stream_close(s);
	turn_for(MS);
}

/* A client: what it still has to send, and how many bytes of answers it has read. */
struct flood {
	struct stream *s;
	struct conn *c;
	struct iovec left;
	size_t read_bytes;
};

static uint8_t flood_requests[FLOOD * REQUEST_BYTES];

static void flood_begin(struct flood *f)
{
	f->s = connect_by(4096, &f->c);
	say_hello(f->s);
	f->left = (struct iovec){ flood_requests, sizeof(flood_requests) };
	f->read_bytes = 0;
}

static void flood_send(struct flood *f)
{
	ssize_t n = f->left.iov_len > 0 ? stream_send(f->s, &f->left, 1) : 0;

	f->left.iov_base = (uint8_t *)f->left.iov_base + (n > 0 ? n : 0);
	f->left.iov_len -= n > 0 ? (size_t)n : 0;
}

static void flood_read(struct flood *f, size_t most)
{
	static uint8_t bytes[65536];
	ssize_t n = stream_recv(f->s, bytes, most);

	f->read_bytes += n > 0 ? (size_t)n : 0;
}

#define FLOODS    100
#define UNREAD    (1u << 20)
#define OF_A_CONN 16384 /* its structs, a request, an answer, and what came behind it */

/* As long as there is room, nobody is cut, and whoever reads has all of it. */
static void all_that_is_not_read_together_is_bounded(void **state)
{
	static struct flood floods[FLOODS];
	struct flood slow, fast;
	size_t before, most = 0;

	answer_len = 0;
	make_requests(flood_requests, FLOOD);
	net_limit_unread(net, UNREAD);
	for (int i = 0; i < FLOODS; i++)
		flood_begin(&floods[i]);
	flood_begin(&slow);
	flood_begin(&fast);
	before = sim_node_bytes(sim_node);
	for (int i = 0; i < 900; i++) {
		for (int k = 0; k < FLOODS; k++)
			flood_send(&floods[k]);
		flood_send(&slow);
		flood_send(&fast);
		turn_for(MS);
		flood_read(&slow, i % 100 ? 1 : 100);
		flood_read(&fast, 4096);
		most = sim_node_bytes(sim_node) > most ? sim_node_bytes(sim_node) : most;
		assert_int_equal(closed_count, 0);
	}
	assert_in_range(most - before, UNREAD, 2 * UNREAD + FLOODS * OF_A_CONN);
	assert_true(fast.read_bytes > 900 * 500); /* it had its answers all the while */
	/* Others need what they keep: some are cut, and no more of them than that takes. */
	for (int i = 0; i < 3000; i++) {
		flood_send(&slow);
		flood_send(&fast);
		turn_for(MS);
		flood_read(&slow, 100);
		flood_read(&fast, 4096);
	}
	assert_in_range(closed_count, 1, FLOODS);
	assert_string_equal(why, "it reads nothing, and others need the memory for their answers");
	assert_true(!slow.c->is_closed && !fast.c->is_closed);
	while (fast.read_bytes < FLOOD * 100ul || slow.read_bytes < FLOOD * 100ul) {
		flood_send(&slow);
		flood_send(&fast);
		turn_for(MS);
		flood_read(&slow, 4096);
		flood_read(&fast, 4096);
	}
	for (int i = 0; i < FLOODS; i++)
		stream_close(floods[i].s);
	stream_close(slow.s);
	stream_close(fast.s);
	turn_for(SECOND);
	assert_int_equal(closed_count, FLOODS + 2);
}

#define PARKED_ANSWERS 10000

/* Who waits is answered whether he reads or not: it takes no more memory than to wait did. */
static void answers_that_were_waited_for_are_short_when_nobody_reads(void **state)
{
	size_t before;
	struct flood f;

	answer_len = 0;
	make_requests(flood_requests, FLOOD);
	flood_begin(&f);
	parked = node_alloc(FLOOD * sizeof(*parked));
	before = sim_node_bytes(sim_node);
	while (f.left.iov_len > 0) {
		flood_send(&f);
		turn_for(MS);
	}
	while (parked_count < FLOOD)
		turn_for(MS);
	for (unsigned i = 0; i < FLOOD; i++) {
		struct wcur w = parked_answer(&parked[i]);

		parked_reply(&parked[i], &w);
		if (i % 64 == 63)
			turn_for(MS / 10);
	}
	turn_for(MS);
	assert_true(sim_node_bytes(sim_node) - before < FLOOD * 500ul + 1000000);
	while (conn_unsent(f.c) > 0) {
		flood_read(&f, 4096);
		turn_for(MS);
	}
	parked = node_free(parked);
	stream_close(f.s);
	turn_for(MS);
}

static void buffers_of_a_flood_are_given_back(void **state)
{
	static struct body *bodies[5000];
	size_t before = sim_node_bytes(sim_node);

	for (int i = 0; i < 5000; i++)
		assert_non_null(bodies[i] = body_take(net));
	for (int i = 0; i < 5000; i++)
		assert_null(body_give(net, bodies[i]));
	assert_in_range(sim_node_bytes(sim_node) - before, SPARE_BODIES_MAX * sizeof(struct body),
			SPARE_BODIES_MAX * (sizeof(struct body) + 100));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(half_a_frame_is_waited_for_a_while),
		T(a_connection_too_many_is_told_and_closed),
		T(far_too_many_are_only_closed),
		T(a_peer_that_takes_nothing_is_known),
		T(short_answers_that_nobody_reads_are_few),
		T(what_was_left_unread_for_want_of_room_is_read),
		T(who_asks_much_reads_all_the_same),
		T(all_that_is_not_read_together_is_bounded),
		T(answers_that_were_waited_for_are_short_when_nobody_reads),
		T(buffers_of_a_flood_are_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
