/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: requests are answered once, calls end once, payloads land where they were told
 * to, and nothing is left over, whoever closes, is late, or gives up. Method: a client
 * and a server on the two ends of a pair, in one loop. In nets of their own they go through the
 * stream, with small buffers, so that every frame is cut; in one net, frames are handed over.
 * Callbacks take notes.
 */
#include "notes.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/container.h"
#include "base/node.h"
#include "net/conn.h"

#define LONG_BYTES (1u << 20)

static struct loop *loop;
static struct net *net, *client_net; /* the server's; one for both if is_handed_over */
static bool is_handed_over;
static struct conn *client, *server;

/* What the server does with a payload. */
static enum { PLACE_NOW, PLACE_IN_TWO, PLACE_LATER, SINK } placing;
static bool answers_later;
static struct request *kept, *unanswered[CONN_REQUESTS_MAX + 10];
static unsigned unanswered_count;
static uint8_t placed[LONG_BYTES];
static uint8_t sample[LONG_BYTES];

static void put_place(struct request *r)
{
	uint32_t half = r->payload_len / 2;

	switch (placing) {
	case PLACE_NOW:
		request_place(r, placed, r->payload_len);
		break;
	case PLACE_IN_TWO:
		if (request_payload_left(r) == r->payload_len)
			request_place(r, placed, half);
		else
			request_place(r, placed + half, r->payload_len - half);
		break;
	case PLACE_LATER:
		kept = r;
		break;
	case SINK:
		request_sink(r, -EAGAIN, "no room for %u", r->payload_len);
		break;
	}
}

static void closed_while_kept(struct request *r)
{
	note("closed ");
	kept = r;
}

static void put_serve(struct request *r)
{
	struct wcur w;

	note("put:%u ", r->payload_len);
	if (answers_later) {
		kept = r;
		unanswered[unanswered_count++] = r;
		r->closed = closed_while_kept;
		return;
	}
	w = request_answer(r);
	put_rep_put(&w, &(struct put_rep){ .object = 1, .version = r->payload_len });
	request_reply(r, &w, NULL);
}

static void put_drop(struct request *r)
{
	note("drop ");
}

static struct payload reply_payload;
static uint64_t until_ns;
static void reply_sent(struct payload *p)
{
	note("sent:%zu ", p->len);
}

static void get_serve(struct request *r)
{
	struct wcur w = request_answer(r);
	struct rcur body = request_body(r);
	struct get_req req;

	assert_int_equal(get_req_get(&body, &req), 0);
	get_rep_put(&w, &(struct get_rep){ .hold = 5 });
	reply_payload = (struct payload){ .ptr = sample, .len = req.len, .sent = reply_sent };
	r->until_ns = &until_ns;
	request_reply(r, &w, &reply_payload);
}

static struct parked parked;
static void wait_serve(struct request *r)
{
	request_park(r, &parked);
}

static void remove_serve(struct request *r)
{
	request_fail(r, -ENOENT, "no %s", "such");
}

static void client_closed(struct conn *c)
{
	client = NULL;
}

/* What came for nobody. */
static unsigned late_count;
static uint64_t late_version, late_hold;

static void client_late(struct conn *c, const struct frame *f, struct rcur *body)
{
	struct put_rep put;
	struct get_rep get;

	late_count++;
	if (f->msg == MSG_PUT && put_rep_get(body, &put) == 0)
		late_version = put.version;
	if (f->msg == MSG_GET && get_rep_get(body, &get) == 0)
		late_hold = get.hold;
}

static const struct service CLIENT = { .closed = client_closed, .late = client_late };

static void server_closed(struct conn *c)
{
	note("end ");
	if (conn_next_parked(c))
		parked_drop(conn_next_parked(c));
	server = NULL;
}

static const struct service SERVICE = {
	.server = SERVER_PROXY,
	.handlers = {
		[MESSAGE_PUT] = { .serve = put_serve, .place = put_place, .drop = put_drop },
		[MESSAGE_GET] = { .serve = get_serve },
		[MESSAGE_WAIT] = { .serve = wait_serve },
		[MESSAGE_REMOVE] = { .serve = remove_serve },
	},
	.closed = server_closed,
};

static void turn(unsigned n)
{
	while (n-- > 0)
		assert_int_equal(loop_turn(loop, 0), 0);
}

static int setup(void **state)
{
	struct stream *ends[2];

	notes[0] = '\0';
	late_count = 0;
	late_version = late_hold = 0;
	placing = PLACE_NOW;
	answers_later = false;
	kept = NULL;
	unanswered_count = 0;
	until_ns = UINT64_MAX;
	memset(placed, 0, sizeof(placed));
	for (size_t i = 0; i < sizeof(sample); i++)
		sample[i] = (uint8_t)(i * 31 >> 3);
	assert_int_equal(loop_open_epoll(&loop), 0);
	assert_int_equal(net_open(loop, &net), 0);
	assert_int_equal(stream_pair(loop, 1000, ends), 0);
	client_net = net;
	if (!is_handed_over)
		assert_int_equal(net_open(loop, &client_net), 0);
	client = conn_open(client_net, ends[0], &CLIENT, NULL);
	server = conn_open(net, ends[1], &SERVICE, NULL);
	server->access = node_alloc(sizeof(*server->access));
	server->access->role = ROLE_JOB;
	return 0;
}

static int teardown(void **state)
{
	conn_close(client);
	conn_close(server);
	turn(3);
	assert_int_equal(net_counters(net)->conn_count, 0);
	assert_int_equal(net_counters(client_net)->conn_count, 0);
	if (client_net != net)
		net_close(client_net);
	net_close(net);
	loop_close(loop);
	return 0;
}

static int setup_stream(void **state)
{
	is_handed_over = false;
	return setup(state);
}

static int setup_handed_over(void **state)
{
	is_handed_over = true;
	return setup(state);
}

static void done(struct call *c)
{
	note("done:%d ", c->result);
}

static void ask_put(struct call *c, struct payload *p, size_t len, uint64_t timeout_ms)
{
	struct wcur w;

	*c = (struct call){ .done = done };
	*p = (struct payload){ .ptr = sample, .len = len };
	w = call_body(client_net, c);
	put_req_put(&w, &(struct put_req){ .tier = 1 });
	call_send(client, c, MSG_PUT, 0, &w, len ? p : NULL, node_now_ns() + timeout_ms * 1000000);
}

static void ask_get(struct call *c, void *room, size_t cap, uint64_t len)
{
	struct wcur w;

	*c = (struct call){ .done = done, .room = room, .room_cap = cap };
	w = call_body(client_net, c);
	get_req_put(&w, &(struct get_req){ .len = len });
	call_send(client, c, MSG_GET, 0, &w, NULL, node_now_ns() + 10000000000);
}

static void wait_for(const struct call *c)
{
	for (int i = 0; i < 100000 && c->is_pending; i++)
		turn(1);
	assert_false(c->is_pending);
}

static void a_put_is_placed_served_and_answered(void **state)
{
	static const size_t lens[] = { 0, 1, 999, 65536, 65537, LONG_BYTES };

	for (int way = PLACE_NOW; way <= PLACE_IN_TWO; way++) {
		for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
			struct call c;
			struct payload p;
			struct put_rep rep;
			struct rcur body;

			if (way == PLACE_IN_TWO && lens[i] < 2)
				continue;
			notes[0] = '\0';
			placing = way;
			memset(placed, 0, sizeof(placed));
			ask_put(&c, &p, lens[i], 10000);
			assert_string_equal(notes, ""); /* never inside call_send() */
			wait_for(&c);
			body = call_reply(&c);
			assert_int_equal(c.result, 0);
			assert_int_equal(put_rep_get(&body, &rep), 0);
			assert_int_equal(rep.version, lens[i]);
			assert_memory_equal(placed, sample, lens[i]);
			call_end(&c);
		}
	}
}

static void answers_may_come_in_any_order(void **state)
{
	struct call a, b;
	struct payload p;
	struct wcur w;

	answers_later = true;
	ask_put(&a, &p, 0, 10000);
	turn(5);
	assert_string_equal(notes, "put:0 ");
	ask_get(&b, placed, sizeof(placed), 10);
	wait_for(&b);
	assert_int_equal(b.room_len, 10);
	assert_true(a.is_pending);
	w = request_answer(kept);
	put_rep_put(&w, &(struct put_rep){ .version = 9 });
	request_reply(kept, &w, NULL);
	wait_for(&a);
	assert_string_equal(notes, is_handed_over ? "put:0 done:0 sent:10 done:0 "
						  : "put:0 sent:10 done:0 done:0 ");
	call_end(&a);
	call_end(&b);
}

/* One that is answered lets the next one be read, though nothing comes that would tell of it. */
static void so_many_requests_are_read_and_no_more(void **state)
{
	enum { COUNT = CONN_REQUESTS_MAX + 10 };
	struct call *calls = node_alloc(COUNT * sizeof(*calls));
	struct payload p;

	answers_later = true;
	for (int i = 0; i < COUNT; i++)
		ask_put(&calls[i], &p, 0, 60000);
	turn(200);
	assert_int_equal(unanswered_count, 1023); /* the last one's body waits, too */
	for (int i = 0; i < COUNT; i++) {
		struct wcur w = request_answer(unanswered[i]);

		put_rep_put(&w, &(struct put_rep){ .version = 9 });
		request_reply(unanswered[i], &w, NULL);
		turn(5);
		assert_int_equal(unanswered_count, i < 10 ? 1024 + i : 1034);
	}
	for (int i = 0; i < COUNT; i++) {
		wait_for(&calls[i]);
		assert_int_equal(calls[i].result, 0);
		call_end(&calls[i]);
	}
	node_free(calls);
}

static void a_place_that_comes_later_holds_only_what_is_behind_it(void **state)
{
	struct call a, b;
	struct payload p;

	placing = PLACE_LATER;
	ask_put(&a, &p, 5000, 10000);
	ask_get(&b, NULL, 0, 0);
	turn(20);
	assert_string_equal(notes, "");
	assert_non_null(kept);
	request_place(kept, placed, 5000);
	wait_for(&a);
	wait_for(&b);
	assert_string_equal(notes, is_handed_over ? "put:5000 done:0 done:0 sent:0 "
						  : "put:5000 done:0 sent:0 done:0 ");
	assert_memory_equal(placed, sample, 5000);
	call_end(&a);
	call_end(&b);
}

static void what_has_no_room_is_read_dropped_and_refused(void **state)
{
	struct call a, b;
	struct payload p;
	char why[64];

	placing = SINK;
	ask_put(&a, &p, LONG_BYTES, 10000);
	ask_get(&b, placed, sizeof(placed), 3);
	wait_for(&a);
	wait_for(&b);
	assert_int_equal(a.result, -EAGAIN);
	assert_string_equal(call_detail(&a, why, sizeof(why)), "no room for 1048576");
	assert_int_equal(b.result, 0);
	assert_memory_equal(placed, sample, 3);
	call_end(&a);
	call_end(&b);
}

static void errors_cross_with_their_words(void **state)
{
	struct call c = { .done = done };
	struct wcur w = call_body(client_net, &c);
	char why[64];

	remove_req_put(&w, &(struct remove_req){ 0 });
	call_send(client, &c, MSG_REMOVE, 0, &w, NULL, node_now_ns() + 1000000000);
	wait_for(&c);
	assert_int_equal(c.result, -ENOENT);
	assert_string_equal(call_detail(&c, why, sizeof(why)), "no such");
	call_end(&c);
}

static void what_nobody_serves_is_unsupported(void **state)
{
	static const uint16_t msgs[] = { MSG_STAT, MSG_LEASE, 0x7777 };

	for (int i = 0; i < 3; i++) {
		struct call c = { .done = done };
		struct wcur w = call_body(client_net, &c);

		call_send(client, &c, msgs[i], 0, &w, NULL, node_now_ns() + 1000000000);
		wait_for(&c);
		assert_int_equal(c.result, -EOPNOTSUPP);
		call_end(&c);
	}
}

static void before_hello_nothing_is_served(void **state)
{
	struct access *a = server->access;
	struct call c;
	struct payload p;

	server->access = NULL;
	ask_put(&c, &p, 100, 1000);
	wait_for(&c);
	assert_int_equal(c.result, -EACCES);
	call_end(&c);
	a->valid_until_ns = 1;
	server->access = a;
	ask_put(&c, &p, 100, 1000);
	wait_for(&c);
	assert_int_equal(c.result, -EKEYEXPIRED);
	call_end(&c);
	assert_string_equal(notes, "done:-13 done:-127 ");
}

static void a_late_answer_is_nobodys_but_is_heard_of(void **state)
{
	struct call a, b;
	struct payload p;
	struct wcur w;

	answers_later = true;
	ask_put(&a, &p, 0, 1);
	turn(5);
	for (int i = 0; i < 1000 && a.is_pending; i++)
		loop_turn(loop, node_now_ns() + 1000000);
	assert_int_equal(a.result, -ETIMEDOUT);
	call_end(&a);
	w = request_answer(kept);
	put_rep_put(&w, &(struct put_rep){ .version = 9 });
	request_reply(kept, &w, NULL);
	ask_get(&b, placed, sizeof(placed), 4);
	wait_for(&b);
	assert_int_equal(b.result, 0);
	assert_memory_equal(placed, sample, 4);
	call_end(&b);
	assert_int_equal(late_count, 1);
	assert_int_equal(late_version, 9);
}

static void a_late_error_is_not_heard_of(void **state)
{
	struct call a, b;
	struct payload p;

	answers_later = true;
	ask_put(&a, &p, 0, 10000);
	turn(5);
	call_cancel(&a);
	call_end(&a);
	request_fail(kept, -ENOSPC, "it opened nothing");
	ask_get(&b, placed, sizeof(placed), 4);
	wait_for(&b);
	call_end(&b);
	assert_int_equal(late_count, 0);
}

static void an_answer_that_lies_unread_is_not_late(void **state)
{
	struct call a;
	struct payload p;
	struct wcur w;

	answers_later = true;
	ask_put(&a, &p, 0, 1000);
	turn(5);
	assert_true(a.is_pending);
	w = request_answer(kept);
	put_rep_put(&w, &(struct put_rep){ .version = 9 });
	request_reply(kept, &w, NULL);
	usleep(1100000); /* the caller does something else */
	wait_for(&a);
	assert_int_equal(a.result, 0);
	call_end(&a);
}

/* In the middle of a long payload: the frame is filled up and taken back, the connection goes on.
 */
static void a_canceled_put_is_taken_back(void **state)
{
	for (unsigned turns = 0; turns < 40; turns += 3) {
		struct call a, b;
		struct payload p;

		notes[0] = '\0';
		ask_put(&a, &p, LONG_BYTES, 10000);
		turn(turns);
		call_cancel(&a);
		assert_int_equal(a.result, -ECANCELED);
		call_end(&a);
		ask_get(&b, placed, sizeof(placed), 100);
		wait_for(&b);
		assert_int_equal(b.result, 0);
		assert_memory_equal(placed, sample, 100);
		call_end(&b);
		assert_null(strstr(notes, "put:"));
		assert_true(turns < 6 || strstr(notes, "drop "));
	}
}

static void a_canceled_short_put_needs_its_bytes_no_longer(void **state)
{
	struct call a, b;
	struct payload p;
	uint8_t *bytes = node_alloc(60000);

	memset(bytes, 'x', 60000);
	ask_put(&a, &p, 0, 10000);
	wait_for(&a);
	call_end(&a);
	notes[0] = '\0';
	a = (struct call){ .done = done };
	p = (struct payload){ .ptr = bytes, .len = 60000 };
	{
		struct wcur w = call_body(client_net, &a);

		put_req_put(&w, &(struct put_req){ .tier = 1 });
		call_send(client, &a, MSG_PUT, 0, &w, &p, node_now_ns() + 1000000000);
	}
	turn(1);
	call_cancel(&a);
	call_end(&a);
	node_free(bytes); /* address sanitizer watches */
	ask_get(&b, placed + 60000, 100, 100);
	wait_for(&b);
	assert_string_equal(notes, "put:60000 sent:100 done:0 ");
	assert_int_equal(placed[59999], 'x');
	call_end(&b);
}

static void a_canceled_get_leaves_its_room_alone(void **state)
{
	unsigned canceled = 0;

	for (unsigned turns = 2; turns < 3000; turns += turns < 60 ? 1 : 100) {
		struct call a, b;

		ask_get(&a, placed, sizeof(placed), LONG_BYTES);
		turn(turns);
		call_cancel(&a);
		canceled += a.result == -ECANCELED;
		call_end(&a);
		memset(placed, 0xee, sizeof(placed));
		late_hold = 0;
		ask_get(&b, placed, 10, 10);
		wait_for(&b);
		assert_int_equal(b.result, 0);
		call_end(&b);
		for (size_t i = 10; i < sizeof(placed); i++)
			assert_int_equal(placed[i], 0xee);
		/* Wherever its answer was cut off: all of what it says is heard. */
		assert_int_equal(late_count, canceled);
		assert_true(a.result == 0 || late_hold == 5);
	}
	assert_true(canceled > 20);
}

/* Not one more: also of one that has begun. */
static void bytes_that_may_no_longer_be_sent_are_not(void **state)
{
	uint64_t sent;
	struct call c;

	memset(placed, 0xee, sizeof(placed));
	ask_get(&c, placed, sizeof(placed), LONG_BYTES);
	turn(6);
	assert_true(c.is_pending);
	until_ns = node_now_ns() + 3600 * 1000000000ull;
	turn(6);
	assert_true(c.is_pending);
	until_ns = node_now_ns();
	sent = net_counters(net)->sent_bytes;
	assert_true(sent > 4000);
	wait_for(&c);
	assert_int_equal(c.result, -ECONNRESET);
	assert_int_equal(net_counters(net)->sent_bytes, sent);
	assert_string_equal(notes, "sent:1048576 end done:-104 ");
	call_end(&c);
	assert_null(client);
	assert_null(server);
}

static void a_reply_longer_than_its_room_is_an_error(void **state)
{
	struct call c;

	memset(placed, 0, sizeof(placed));
	ask_get(&c, placed, 99, 100);
	wait_for(&c);
	assert_int_equal(c.result, -EMSGSIZE);
	assert_int_equal(placed[0], 0);
	call_end(&c);
}

static void when_the_server_closes_all_calls_end(void **state)
{
	struct call a, b;
	struct payload p;
	struct wcur w;

	answers_later = true;
	ask_put(&a, &p, 0, 10000);
	turn(5);
	ask_get(&b, placed, sizeof(placed), LONG_BYTES);
	turn(3);
	conn_close(server);
	wait_for(&a);
	wait_for(&b);
	assert_int_equal(a.result, -ECONNRESET);
	assert_int_equal(b.result, -ECONNRESET);
	call_end(&a);
	call_end(&b);
	/* The answer is still owed; then it is over. */
	assert_non_null(strstr(notes, "closed "));
	assert_null(strstr(notes, "end "));
	assert_non_null(server);
	w = request_answer(kept);
	request_reply(kept, &w, NULL);
	turn(2);
	assert_non_null(strstr(notes, "end "));
	assert_null(server);
}

static void when_the_client_closes_what_was_placed_is_dropped(void **state)
{
	struct call a;
	struct payload p;

	ask_put(&a, &p, LONG_BYTES, 10000);
	turn(20);
	conn_close(client);
	turn(20);
	assert_string_equal(notes, "done:-104 drop end ");
	call_end(&a);
}

static void who_waits_for_a_place_when_the_connection_closes_hears_of_it(void **state)
{
	struct call a;
	struct payload p;

	placing = PLACE_LATER;
	ask_put(&a, &p, 5000, 10000);
	turn(10);
	conn_close(client);
	turn(10);
	assert_string_equal(notes, "done:-104 ");
	request_place(kept, placed, 5000);
	turn(3);
	assert_string_equal(notes, "done:-104 drop end ");
	call_end(&a);
}

static void a_parked_call_is_answered_later(void **state)
{
	struct call c = { .done = done };
	struct wcur w = call_body(client_net, &c);
	struct wait_rep rep;
	struct rcur body;

	wait_req_put(&w, &(struct wait_req){ .job = 1 });
	call_send(client, &c, MSG_WAIT, 3, &w, NULL, node_now_ns() + 10000000000);
	turn(10);
	assert_ptr_equal(conn_next_parked(server), &parked);
	w = parked_answer(&parked);
	wait_rep_put(&w, &(struct wait_rep){ .version = 77 });
	parked_reply(&parked, &w);
	wait_for(&c);
	body = call_reply(&c);
	assert_int_equal(wait_rep_get(&body, &rep), 0);
	assert_int_equal(rep.version, 77);
	assert_null(conn_next_parked(server));
	call_end(&c);
	assert_true(sizeof(struct parked) <= 96);
}

static void a_parked_call_may_fail_and_say_why(void **state)
{
	struct call c = { .done = done };
	struct wcur w = call_body(client_net, &c);
	char words[64];

	wait_req_put(&w, &(struct wait_req){ .job = 1 });
	call_send(client, &c, MSG_WAIT, 3, &w, NULL, node_now_ns() + 10000000000);
	turn(10);
	parked_fail(&parked, -ENOSPC, "%u of %u", 3, 4);
	wait_for(&c);
	assert_int_equal(c.result, -ENOSPC);
	assert_string_equal(call_detail(&c, words, sizeof(words)), "3 of 4");
	call_end(&c);
}

static void ignore(struct stream *s)
{
}

static void bytes_that_are_no_frame_close_it(void **state)
{
	struct stream *ends[2];
	char http[] = "GET / HTTP/1.1\r\nHost: nobody at all\r\n\r\n";
	struct iovec iov = { http, sizeof(http) - 1 };

	conn_close(server);
	turn(3);
	notes[0] = '\0';
	assert_int_equal(stream_pair(loop, 1000, ends), 0);
	ends[1]->ready = ignore;
	server = conn_open(net, ends[0], &SERVICE, NULL);
	assert_int_equal(stream_send(ends[1], &iov, 1), sizeof(http) - 1);
	turn(1);
	turn(1);
	turn(1);
	assert_string_equal(notes, "end ");
	stream_close(ends[1]);
}

static void closed_noted(struct conn *c)
{
	note("%s %d ", conn_why_closed(c), conn_was_left(c));
	client = NULL;
}

static const struct service NOTES_ITS_END = { .closed = closed_noted };

/* In the kernel's queue of a listener that is killed, and then where nobody listens. */
static void connect_to_the_killed(struct address *at)
{
	int fd = socket(at->u.any.sa_family, SOCK_STREAM, 0);

	at->len = at->kind == ADDRESS_TCP ? sizeof(at->u.in) : sizeof(at->u.un);
	assert_int_equal(bind(fd, &at->u.any, at->len), 0);
	assert_int_equal(getsockname(fd, &at->u.any, &at->len), 0);
	assert_int_equal(listen(fd, 4), 0);
	conn_close(client);
	turn(3);
	notes[0] = '\0';
	for (unsigned i = 0; i < 2; i++) {
		struct stream *s;
		struct payload p;
		struct call c;

		assert_int_equal(stream_connect(loop, at, &s), 0);
		client = conn_open(client_net, s, &NOTES_ITS_END, NULL);
		if (i == 0)
			close(fd);
		ask_put(&c, &p, 1, 10000);
		wait_for(&c);
		call_end(&c);
		assert_null(client);
	}
}

static void who_was_taken_in_and_then_lost_knows_that_somebody_was_there(void **state)
{
	struct address in = { .kind = ADDRESS_TCP }, un = { .kind = ADDRESS_UNIX };
	char directory[] = "/tmp/wadi-test.XXXXXX";

	in.u.in.sin_family = AF_INET;
	in.u.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	connect_to_the_killed(&in);
	assert_string_equal(notes,
			    "the connection broke 1 done:-104 nobody listens there 0 done:-113 ");
	assert_non_null(mkdtemp(directory));
	un.u.un.sun_family = AF_UNIX;
	snprintf(un.u.un.sun_path, sizeof(un.u.un.sun_path), "%s/socket", directory);
	connect_to_the_killed(&un);
	assert_string_equal(notes,
			    "the connection broke 1 done:-104 nobody listens there 0 done:-113 ");
	unlink(un.u.un.sun_path);
	rmdir(directory);
}

/* Every allocation on the way fails once; nothing is lost but the connection. */
static void without_memory_it_ends_and_nothing_leaks(void **state)
{
	struct node node = { 0 };

	for (unsigned n = 1; n < 25; n++) {
		struct call a;
		struct payload p;

		if (!server || !client) {
			teardown(NULL);
			setup(NULL);
		}
		node_current = &node;
		node.fail_countdown = n;
		ask_put(&a, &p, 70000, 10000);
		node_current = &node;
		wait_for(&a);
		call_end(&a);
		node.fail_countdown = 0;
		node_current = NULL;
		turn(5);
	}
}

/* The second row: frames are handed over. What is cut in the middle is the stream's only. */
#define STREAM_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup_stream, teardown)
#define CONN_TEST(fn)                                                       \
	STREAM_TEST(fn),                                                    \
	{                                                                   \
#fn " (handed over)", fn, setup_handed_over, teardown, NULL \
	}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		CONN_TEST(a_put_is_placed_served_and_answered),
		CONN_TEST(answers_may_come_in_any_order),
		STREAM_TEST(so_many_requests_are_read_and_no_more),
		CONN_TEST(a_place_that_comes_later_holds_only_what_is_behind_it),
		CONN_TEST(what_has_no_room_is_read_dropped_and_refused),
		CONN_TEST(errors_cross_with_their_words),
		CONN_TEST(what_nobody_serves_is_unsupported),
		CONN_TEST(before_hello_nothing_is_served),
		CONN_TEST(a_late_answer_is_nobodys_but_is_heard_of),
		CONN_TEST(a_late_error_is_not_heard_of),
		CONN_TEST(an_answer_that_lies_unread_is_not_late),
		STREAM_TEST(a_canceled_put_is_taken_back),
		STREAM_TEST(a_canceled_short_put_needs_its_bytes_no_longer),
		STREAM_TEST(a_canceled_get_leaves_its_room_alone),
		STREAM_TEST(bytes_that_may_no_longer_be_sent_are_not),
		CONN_TEST(a_reply_longer_than_its_room_is_an_error),
		STREAM_TEST(when_the_server_closes_all_calls_end),
		STREAM_TEST(when_the_client_closes_what_was_placed_is_dropped),
		CONN_TEST(who_waits_for_a_place_when_the_connection_closes_hears_of_it),
		CONN_TEST(a_parked_call_is_answered_later),
		CONN_TEST(a_parked_call_may_fail_and_say_why),
		STREAM_TEST(bytes_that_are_no_frame_close_it),
		STREAM_TEST(who_was_taken_in_and_then_lost_knows_that_somebody_was_there),
		CONN_TEST(without_memory_it_ends_and_nothing_leaks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
