/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: two connections of one net that are the ends of a pair hand frames over, and whoever
 * closes, gives up or waits in the middle of it leaves nothing behind. What holds for every
 * connection is in test_conn.c. Method: a client and a server on a pair that would take a byte
 * at a time, so what arrives within a few turns was handed over. Callbacks take notes.
 */
#include "notes.h"
#include "test.h"

#include <stdio.h>
#include <unistd.h>

#include "base/node.h"
#include "net/conn.h"

#define LONG_BYTES (1u << 20)

static struct loop *loop;
static struct net *net;
static struct conn *client, *server;

static enum { PLACE_NOW, PLACE_LATER, CLIENT_CLOSES, SERVER_CLOSES } placing;
static bool answers_later;
static struct request *kept[CONN_REQUESTS_MAX + 10];
static unsigned kept_count;
static uint8_t placed[LONG_BYTES], sample[LONG_BYTES];
static uint64_t until_ns;

static void put_place(struct request *r)
{
	if (placing == PLACE_LATER) {
		kept[kept_count++] = r;
		return;
	}
	if (placing == CLIENT_CLOSES)
		conn_close(client);
	if (placing == SERVER_CLOSES)
		conn_close(server);
	request_place(r, placed, r->payload_len);
}

static void answer_put(struct request *r)
{
	struct wcur w = request_answer(r);

	put_rep_put(&w, &(struct put_rep){ .version = 9 });
	request_reply(r, &w, NULL);
}

static void closed_while_kept(struct request *r)
{
	note("closed ");
}

static void put_serve(struct request *r)
{
	note("put:%u ", r->payload_len);
	r->closed = closed_while_kept;
	if (answers_later)
		kept[kept_count++] = r;
	else
		answer_put(r);
}

static void put_drop(struct request *r)
{
	note("drop ");
}

static struct payload reply_payload = { .ptr = sample, .len = LONG_BYTES };

static void get_serve(struct request *r)
{
	struct wcur w = request_answer(r);

	get_rep_put(&w, &(struct get_rep){ .hold = 5 });
	r->until_ns = &until_ns;
	request_reply(r, &w, &reply_payload);
}

static void hello_serve(struct request *r)
{
	request_fail(r, -EACCES, NULL);
}

static void client_closed(struct conn *c)
{
	note("client:%s ", conn_why_closed(c));
	client = NULL;
}

static void server_closed(struct conn *c)
{
	note("server:%s ", conn_why_closed(c));
	server = NULL;
}

static const struct service CLIENT = { .closed = client_closed };
static const struct service SERVICE = {
	.server = SERVER_PROXY,
	.handlers = {
		[MESSAGE_HELLO] = { .serve = hello_serve },
		[MESSAGE_PUT] = { .serve = put_serve, .place = put_place, .drop = put_drop },
		[MESSAGE_GET] = { .serve = get_serve },
	},
	.closed = server_closed,
};

static void turn(unsigned n)
{
	while (n-- > 0)
		assert_int_equal(loop_turn(loop, 0), 0);
}

static void open_server(struct stream *s)
{
	server = conn_open(net, s, &SERVICE, NULL);
	server->access = node_alloc(sizeof(*server->access));
	server->access->role = ROLE_JOB;
}

static int setup(void **state)
{
	struct stream *ends[2];

	notes[0] = '\0';
	placing = PLACE_NOW;
	answers_later = false;
	kept_count = 0;
	until_ns = UINT64_MAX;
	memset(placed, 0, sizeof(placed));
	for (size_t i = 0; i < sizeof(sample); i++)
		sample[i] = (uint8_t)(i * 31 >> 3);
	assert_int_equal(loop_open_epoll(&loop), 0);
	assert_int_equal(net_open(loop, &net), 0);
	assert_int_equal(stream_pair(loop, 1, ends), 0);
	client = conn_open(net, ends[0], &CLIENT, NULL);
	open_server(ends[1]);
	turn(2);
	return 0;
}

static int teardown(void **state)
{
	conn_close(client);
	conn_close(server);
	turn(3);
	assert_int_equal(net_counters(net)->conn_count, 0);
	net_close(net);
	loop_close(loop);
	return 0;
}

static void done(struct call *c)
{
	note("done:%d ", c->result);
}

static void ask_put(struct call *c, struct payload *p, const void *bytes, size_t len)
{
	struct wcur w;

	*c = (struct call){ .done = done };
	*p = (struct payload){ .ptr = bytes, .len = len };
	w = call_body(net, c);
	put_req_put(&w, &(struct put_req){ .tier = 1 });
	call_send(client, c, MSG_PUT, 0, &w, len ? p : NULL, node_now_ns() + 60000000000);
}

static void ask_get(struct call *c)
{
	struct wcur w;

	*c = (struct call){ .done = done, .room = placed, .room_cap = LONG_BYTES };
	w = call_body(net, c);
	get_req_put(&w, &(struct get_req){ .len = LONG_BYTES });
	call_send(client, c, MSG_GET, 0, &w, NULL, node_now_ns() + 60000000000);
}

static void a_long_payload_is_there_in_a_turn(void **state)
{
	struct call a, b;
	struct payload p;

	ask_put(&a, &p, sample, LONG_BYTES);
	assert_string_equal(notes, ""); /* never inside call_send() */
	turn(2);
	assert_string_equal(notes, "put:1048576 done:0 ");
	assert_memory_equal(placed, sample, LONG_BYTES);
	memset(placed, 0, sizeof(placed));
	ask_get(&b);
	turn(2);
	assert_int_equal(b.result, 0);
	assert_int_equal(b.room_len, LONG_BYTES);
	assert_memory_equal(placed, sample, LONG_BYTES);
	/* Header, body, payload, of each of the four. */
	assert_true(net_counters(net)->sent_bytes > 2 * LONG_BYTES + 4 * 36);
	assert_int_equal(net_counters(net)->received_bytes, net_counters(net)->sent_bytes);
	assert_int_equal(conn_unsent(client), 0);
	assert_int_equal(conn_unsent(server), 0);
	call_end(&a);
	call_end(&b);
}

static void so_many_requests_are_taken_and_no_more(void **state)
{
	enum { COUNT = CONN_REQUESTS_MAX + 10 };
	struct call *calls = node_alloc(COUNT * sizeof(*calls));
	struct payload p;

	answers_later = true;
	for (int i = 0; i < COUNT; i++)
		ask_put(&calls[i], &p, NULL, 0);
	turn(200);
	assert_int_equal(kept_count, 1024);
	assert_true(conn_unsent(client) > 0);
	for (int i = 0; i < COUNT; i++) {
		answer_put(kept[i]);
		turn(2);
		assert_int_equal(kept_count, i < 10 ? 1025 + i : 1034);
		assert_false(calls[i].is_pending);
		call_end(&calls[i]);
	}
	node_free(calls);
}

/* The queue of answers is full, so no request is taken until some of it is. */
static void who_has_answered_much_goes_on_when_it_is_taken(void **state)
{
	struct call calls[20];

	for (int i = 0; i < 20; i++)
		ask_get(&calls[i]);
	turn(60);
	for (int i = 0; i < 20; i++) {
		assert_false(calls[i].is_pending);
		assert_int_equal(calls[i].result, 0);
		call_end(&calls[i]);
	}
}

static void what_is_canceled_at_once_is_never_seen(void **state)
{
	struct call a, b;
	struct payload p;

	ask_put(&a, &p, sample, 100);
	call_cancel(&a);
	call_end(&a);
	ask_put(&b, &p, NULL, 0);
	turn(3);
	assert_string_equal(notes, "put:0 done:0 ");
	call_end(&b);
}

/* Its bytes are gone, and address sanitizer watches. */
static void what_is_canceled_while_it_waits_for_a_place_is_taken_back(void **state)
{
	static const uint32_t lens[] = { 100, LONG_BYTES };

	for (int i = 0; i < 2; i++) {
		uint8_t *bytes = node_alloc(lens[i]);
		struct call a, b;
		struct payload p;

		notes[0] = '\0';
		kept_count = 0;
		placing = PLACE_LATER;
		ask_put(&a, &p, bytes, lens[i]);
		ask_put(&b, &p, NULL, 0);
		turn(3);
		assert_int_equal(kept_count, 1);
		call_cancel(&a);
		call_end(&a);
		node_free(bytes);
		turn(3);
		assert_string_equal(notes, "");
		request_place(kept[0], placed, lens[i]);
		turn(3);
		assert_string_equal(notes, "drop put:0 done:0 ");
		assert_int_equal(conn_unsent(client), 0);
		call_end(&b);
	}
}

static void a_payload_may_be_placed_piece_by_piece_later(void **state)
{
	struct call a;
	struct payload p;

	placing = PLACE_LATER;
	ask_put(&a, &p, sample, 3000);
	for (unsigned i = 0; i < 3; i++) {
		turn(3);
		assert_int_equal(kept_count, i + 1);
		assert_int_equal(request_payload_left(kept[0]), 3000 - 1000 * i);
		request_place(kept[0], placed + (size_t)i * 1000, 1000);
	}
	turn(3);
	assert_string_equal(notes, "put:3000 done:0 ");
	assert_memory_equal(placed, sample, 3000);
	call_end(&a);
}

static void what_may_no_longer_be_served_is_not(void **state)
{
	struct call a;

	until_ns = node_now_ns();
	ask_get(&a);
	turn(4);
	assert_string_equal(notes, "server:what was being sent may no longer be served "
				   "client:the peer closed it done:-104 ");
	assert_int_equal(placed[4000], 0);
	call_end(&a);
}

static void when_the_server_closes_all_calls_end(void **state)
{
	struct call a, b;
	struct payload p;

	answers_later = true;
	ask_put(&a, &p, NULL, 0);
	turn(2);
	ask_put(&b, &p, sample, 100);
	conn_close(server);
	turn(4);
	assert_string_equal(notes, "put:0 closed client:the peer closed it done:-104 done:-104 ");
	answer_put(kept[0]);
	turn(2);
	assert_non_null(strstr(notes, "server:we closed it "));
	call_end(&a);
	call_end(&b);
}

static void when_the_client_closes_a_place_is_of_no_use(void **state)
{
	struct call a;
	struct payload p;

	placing = PLACE_LATER;
	ask_put(&a, &p, sample, 5000);
	turn(3);
	conn_close(client);
	request_place(kept[0], placed, 5000); /* before the server has heard of it */
	turn(4);
	assert_non_null(strstr(notes, "drop "));
	assert_non_null(strstr(notes, "server:the peer closed it "));
	assert_null(strstr(notes, "put:"));
	call_end(&a);
}

static void either_may_close_inside_place(void **state)
{
	struct call a;
	struct payload p;

	for (placing = CLIENT_CLOSES; placing <= SERVER_CLOSES; placing++) {
		ask_put(&a, &p, sample, 5000);
		turn(4);
		assert_int_equal(a.result, -ECONNRESET);
		assert_non_null(strstr(notes, "drop "));
		assert_null(strstr(notes, "put:"));
		assert_null(server);
		assert_null(client);
		call_end(&a);
		if (placing == CLIENT_CLOSES) {
			teardown(NULL);
			setup(NULL);
			placing = CLIENT_CLOSES;
		}
	}
}

static void one_too_many_is_told_so_and_closed(void **state)
{
	struct stream *ends[2];
	struct call a;
	struct payload p;
	char words[80];

	conn_close(client);
	conn_close(server);
	turn(3);
	notes[0] = '\0';
	net_limit_conns(net, 0);
	assert_int_equal(stream_pair(loop, 1, ends), 0);
	client = conn_open(net, ends[0], &CLIENT, NULL);
	open_server(ends[1]);
	turn(4);
	ask_put(&a, &p, sample, 100);
	turn(4);
	assert_int_equal(a.result, -EUSERS);
	assert_string_equal(call_detail(&a, words, sizeof(words)),
			    "this process has 0 connections, which is its limit");
	assert_string_equal(notes, "done:-87 server:there are too many connections "
				   "client:the peer closed it ");
	call_end(&a);
}

static void who_takes_nothing_is_stuck_until_it_does(void **state)
{
	struct call a, b;
	struct payload p;
	uint64_t placed_ns;

	placing = PLACE_LATER;
	ask_put(&a, &p, sample, 100);
	ask_put(&b, &p, sample, 100);
	turn(2);
	usleep(50000);
	turn(1);
	assert_true(conn_stuck_ns(client) >= 50000000);
	placed_ns = node_now_ns();
	request_place(kept[0], placed, 100);
	turn(2);
	assert_int_equal(kept_count, 2);
	assert_true(conn_stuck_ns(client) <= node_now_ns() - placed_ns);
	request_place(kept[1], placed, 100);
	turn(2);
	assert_int_equal(conn_stuck_ns(client), 0);
	assert_string_equal(notes, "put:100 done:0 put:100 done:0 ");
	call_end(&a);
	call_end(&b);
}

static void who_comes_when_the_other_has_closed_has_no_twin(void **state)
{
	struct stream *ends[2];

	conn_close(client);
	conn_close(server);
	turn(3);
	notes[0] = '\0';
	assert_int_equal(stream_pair(loop, 1, ends), 0);
	client = conn_open(net, ends[0], &CLIENT, NULL);
	conn_close(client);
	open_server(ends[1]);
	turn(3);
	assert_string_equal(notes, "client:we closed it server:the peer closed it ");
}

static void ignore(struct stream *s)
{
}

/* Bytes that were sent before there was a twin come first, and so all go as bytes. */
static void who_has_sent_bytes_goes_on_so(void **state)
{
	struct stream *ends[2];
	struct call a, b;
	struct payload p;

	conn_close(client);
	conn_close(server);
	turn(3);
	notes[0] = '\0';
	assert_int_equal(stream_pair(loop, 20, ends), 0);
	client = conn_open(net, ends[0], &CLIENT, NULL);
	ask_put(&a, &p, NULL, 0);
	ends[1]->ready = ignore;
	turn(3);
	open_server(ends[1]);
	ask_put(&b, &p, sample, 60000);
	turn(3);
	assert_string_equal(notes, "put:0 done:0 ");
	for (int i = 0; i < 10000 && b.is_pending; i++)
		turn(1);
	assert_string_equal(notes, "put:0 done:0 put:60000 done:0 ");
	assert_memory_equal(placed, sample, 60000);
	call_end(&a);
	call_end(&b);
}

#define TWIN_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TWIN_TEST(a_long_payload_is_there_in_a_turn),
		TWIN_TEST(so_many_requests_are_taken_and_no_more),
		TWIN_TEST(who_has_answered_much_goes_on_when_it_is_taken),
		TWIN_TEST(what_is_canceled_at_once_is_never_seen),
		TWIN_TEST(what_is_canceled_while_it_waits_for_a_place_is_taken_back),
		TWIN_TEST(a_payload_may_be_placed_piece_by_piece_later),
		TWIN_TEST(what_may_no_longer_be_served_is_not),
		TWIN_TEST(when_the_server_closes_all_calls_end),
		TWIN_TEST(when_the_client_closes_a_place_is_of_no_use),
		TWIN_TEST(either_may_close_inside_place),
		TWIN_TEST(one_too_many_is_told_so_and_closed),
		TWIN_TEST(who_takes_nothing_is_stuck_until_it_does),
		TWIN_TEST(who_comes_when_the_other_has_closed_has_no_twin),
		TWIN_TEST(who_has_sent_bytes_goes_on_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
