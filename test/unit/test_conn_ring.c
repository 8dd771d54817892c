/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what goes through a ring is served and answered as what goes through the stream,
 * whatever does not fit there goes on through the stream, and a peer that writes anything
 * into the memory costs its own connection. Method: a client and a server on the two ends
 * of a Unix socket, in one loop, with a mapping each; then on two threads, which sleep.
 */
#include "notes.h"
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/container.h"
#include "base/node.h"
#include "loop/bell.h"
#include "net/conn_priv.h"
#include "shm/memory.h"
#include "shm/ring.h"
#include "world.h"

static struct net *net;
static struct conn *client, *server;
static struct listener lr;
static struct memory theirs, ours; /* the server's mapping, and the client's */
static struct ring_memory *ring;   /* the latter */
static char directory[] = "/tmp/wadi-test.XXXXXX", why_closed[100];
static uint8_t sample[100000], placed[100000];
static int event; /* at which the client rings, once more */

static enum { PLACE_NOW, PLACE_IN_TWO, PLACE_LATER, SINK, SINK_LATER } placing;
static bool answers_later;
static struct request *kept[64];
static unsigned kept_count;

static void closed_while_kept(struct request *r)
{
	note("closed ");
}

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
	case SINK_LATER:
		r->closed = closed_while_kept;
		kept[kept_count++] = r;
		break;
	case SINK:
		request_sink(r, -EAGAIN, "no room for %u", r->payload_len);
		break;
	}
}

static void put_serve(struct request *r)
{
	struct wcur w;

	note("put:%u ", r->payload_len);
	if (answers_later) {
		r->closed = closed_while_kept;
		kept[kept_count++] = r;
		return;
	}
	w = request_answer(r);
	put_rep_put(&w, &(struct put_rep){ .object = 1, .version = 7 });
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
	struct rcur body = request_body(r);
	struct wcur w = request_answer(r);
	struct get_req req = { 0 };

	(void)get_req_get(&body, &req);
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

/* Longer than a slot. */
static void list_serve(struct request *r)
{
	static struct payload long_list = { .ptr = sample, .len = 8000 };
	struct wcur w = request_answer(r);

	list_rep_put(&w, &(struct list_rep){ 0 });
	request_reply(r, &w, &long_list);
}

static void hello_serve(struct request *r)
{
	request_fail(r, -EINVAL, "HELLO was said before");
}

static void stat_serve(struct request *r)
{
	note("stat:%u ", r->payload_len);
	remove_serve(r);
}

static void server_closed(struct conn *c)
{
	snprintf(why_closed, sizeof(why_closed), "%s", conn_why_closed(c));
	server = NULL;
}

static const struct service SERVICE = {
	.server = SERVER_PROXY,
	.handlers = {
		[MESSAGE_PUT] = { .serve = put_serve, .place = put_place, .drop = put_drop },
		[MESSAGE_PUT_DATA] = { .serve = put_serve, .place = put_place, .drop = put_drop },
		[MESSAGE_GET] = { .serve = get_serve },
		[MESSAGE_WAIT] = { .serve = wait_serve },
		[MESSAGE_REMOVE] = { .serve = remove_serve },
		[MESSAGE_STAT] = { .serve = stat_serve },
		[MESSAGE_LIST] = { .serve = list_serve },
		[MESSAGE_HELLO] = { .serve = hello_serve },
	},
	.closed = server_closed,
};

static void client_closed(struct conn *c)
{
	client = NULL;
}

static unsigned late_count;
static void client_late(struct conn *c, const struct frame *f, struct rcur *body)
{
	struct put_rep rep;

	late_count += f->msg == MSG_PUT && put_rep_get(body, &rep) == 0 && rep.version == 7;
}

static const struct service CLIENT = { .closed = client_closed, .late = client_late };

static void accepted(struct listener *l, struct stream *s)
{
	server = conn_open(net, s, &SERVICE, NULL);
	server->access = node_alloc(sizeof(*server->access));
	server->access->role = ROLE_JOB;
}

static void connect_both(void)
{
	struct stream *s;

	lr = (struct listener){ .accepted = accepted };
	snprintf(notes, sizeof(notes), "unix://%s/s", directory);
	assert_int_equal(address_parse(notes, &lr.address), 0);
	assert_int_equal(listener_open(loop, &lr.address, &lr), 0);
	assert_int_equal(stream_connect(loop, &lr.address, &s), 0);
	client = conn_open(net, s, &CLIENT, NULL);
	WAIT_FOR(server);
}

static void make_memory(void)
{
	assert_int_equal(media_memfd.make(sizeof(*ring), &theirs), 0);
	assert_int_equal(media_memfd.fill(&theirs, 0, sizeof(*ring)), 0);
}

/* Both descriptors, behind something that has been said. */
static void join(struct conn *c, uint64_t end_ns)
{
	struct call call = { 0 };
	int fds[2] = { -1, -1 };
	struct wcur w;

	w = call_body(net, &call);
	call_send(c, &call, MSG_PING, 0, &w, NULL, end_ns);
	WAIT_FOR(!call.is_pending);
	assert_int_equal(call.result, -EOPNOTSUPP);
	call_end(&call);
	assert_int_equal(conn_take_fds(c, fds, 2), 2);
	assert_int_equal(memory_join(fds[0], sizeof(*ring), &ours), 0);
	ring = (struct ring_memory *)ours.ptr;
	close(fds[0]);
	event = dup(fds[1]);
	assert_int_equal(conn_call_ring(c, ring, fds[1]), 0);
}

static int setup(void **state)
{
	placing = PLACE_NOW;
	answers_later = false;
	kept_count = late_count = 0;
	until_ns = UINT64_MAX;
	memset(placed, 0, sizeof(placed));
	for (size_t i = 0; i < sizeof(sample); i++)
		sample[i] = (uint8_t)(i * 31 >> 3);
	world_open(false);
	assert_int_equal(net_open(loop, &net), 0);
	connect_both();
	assert_int_equal(conn_take_fds(client, NULL, 0), 0);
	make_memory();
	assert_int_equal(conn_serve_ring(server, (struct ring_memory *)theirs.ptr, theirs.fd), 0);
	join(client, loop->now_ns + SECOND);
	notes[0] = why_closed[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	conn_close(client);
	conn_close(server);
	listener_close(&lr);
	turn_for(0);
	turn_for(0);
	assert_int_equal(net_counters(net)->conn_count, 0);
	net_close(net);
	media_memfd.free(&theirs);
	media_memfd.free(&ours);
	close(event);
	world_close();
	return 0;
}

static void done(struct call *c)
{
	note("done:%d ", c->result);
}

static void ask(struct call *c, uint16_t msg, const struct payload *payload)
{
	struct wcur w;

	*c = (struct call){ .done = done };
	w = call_body(net, c);
	if (msg == MSG_PUT)
		put_req_put(&w, &(struct put_req){ .tier = 1 });
	if (msg == MSG_PUT_DATA)
		put_data_req_put(&w, &(struct put_data_req){ .put = 1 });
	call_send(client, c, msg, 0, &w, payload, loop->now_ns + 20 * SECOND);
}

static void ask_put(struct call *c, size_t len)
{
	ask(c, MSG_PUT, len ? &(struct payload){ .ptr = sample, .len = len } : NULL);
}

static void ask_get(struct call *c, void *room, size_t cap, uint64_t len)
{
	struct wcur w;

	*c = (struct call){ .done = done, .room = room, .room_cap = cap };
	w = call_body(net, c);
	get_req_put(&w, &(struct get_req){ .len = len });
	call_send(client, c, MSG_GET, 0, &w, NULL, loop->now_ns + 20 * SECOND);
}

static void end(struct call *c, int result)
{
	WAIT_FOR(!c->is_pending);
	assert_int_equal(c->result, result);
	call_end(c);
}

/* Nothing but what is on its way since `mark` has gone through the socket. */
static uint64_t through_socket(void)
{
	return net_counters(net)->received_bytes;
}

static void what_fits_goes_through_the_memory_alone(void **state)
{
	static const size_t lens[] = { 0, 1, 64, 2048, 3900 };
	struct call c;
	uint64_t before = through_socket();

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		memset(placed, 0, sizeof(placed));
		ask_put(&c, lens[i]);
		end(&c, 0);
		assert_memory_equal(placed, sample, lens[i]);
		memset(placed, 0, sizeof(placed));
		ask_get(&c, placed, sizeof(placed), lens[i]);
		end(&c, 0);
		assert_int_equal(c.room_len, lens[i]);
		assert_memory_equal(placed, sample, lens[i]);
	}
	turn_for(5 * MS);
	assert_true(through_socket() <= before + 10 * 36); /* a bell, where somebody slept */
}

static void what_does_not_fit_goes_through_the_stream(void **state)
{
	struct call c;

	ask_put(&c, 4096);
	assert_false(c.is_in_ring);
	end(&c, 0);
	assert_memory_equal(placed, sample, 4096);
	ask_put(&c, 100);
	assert_true(c.is_in_ring);
	end(&c, 0);
}

static void an_answer_that_does_not_fit_comes_through_the_stream(void **state)
{
	struct call a, b;

	ask_get(&a, placed, sizeof(placed), 50000);
	assert_true(a.is_in_ring);
	ask_get(&b, NULL, 0, 0);
	end(&a, 0);
	assert_int_equal(a.room_len, 50000);
	assert_memory_equal(placed, sample, 50000);
	end(&b, 0);
}

static void a_payload_without_room_for_it_is_told(void **state)
{
	struct call c;

	ask_get(&c, placed, 10, 11);
	end(&c, -EMSGSIZE);
}

static void pieces_whose_order_counts_do_not_go_two_ways(void **state)
{
	struct call a, b;

	ask(&a, MSG_PUT_DATA, &(struct payload){ .ptr = sample, .len = 50000 });
	ask(&b, MSG_PUT_DATA, &(struct payload){ .ptr = sample, .len = 10 });
	assert_false(b.is_in_ring);
	end(&a, 0);
	end(&b, 0);
	assert_string_equal(notes, "put:50000 put:10 done:0 done:0 ");
}

static void a_place_may_come_in_pieces_or_later(void **state)
{
	struct call a, b;

	placing = PLACE_IN_TWO;
	ask_put(&a, 999);
	end(&a, 0);
	assert_memory_equal(placed, sample, 999);
	memset(placed, 0, sizeof(placed));
	placing = PLACE_LATER;
	ask_put(&a, 1000);
	WAIT_FOR(kept_count == 1);
	placing = PLACE_NOW;
	ask_put(&b, 5);
	end(&b, 0);
	assert_int_equal(request_payload_left(kept[0]), 1000);
	notes[0] = '\0';
	request_place(kept[0], placed, 1000);
	assert_string_equal(notes, ""); /* nothing comes back in from below */
	end(&a, 0);
	assert_memory_equal(placed, sample, 1000);
}

static void what_has_no_room_is_refused_now_or_later(void **state)
{
	struct call a;
	char why[64];

	placing = SINK;
	ask_put(&a, 1000);
	WAIT_FOR(!a.is_pending);
	assert_string_equal(call_detail(&a, why, sizeof(why)), "no room for 1000");
	end(&a, -EAGAIN);
	placing = SINK_LATER;
	ask_put(&a, 1000);
	WAIT_FOR(kept_count == 1);
	request_sink(kept[0], -ENOSPC, "none");
	end(&a, -ENOSPC);
	assert_string_equal(notes, "done:-11 done:-28 ");
}

static void errors_come_with_their_words(void **state)
{
	struct call c;
	char why[64];

	ask(&c, MSG_REMOVE, NULL);
	WAIT_FOR(!c.is_pending);
	assert_true(c.is_in_ring);
	assert_string_equal(call_detail(&c, why, sizeof(why)), "no such");
	end(&c, -ENOENT);
	ask(&c, MSG_RENAME, NULL);
	end(&c, -EOPNOTSUPP);
}

static void when_no_slot_is_free_the_next_ones_go_through_the_stream(void **state)
{
	struct call calls[40];
	unsigned in_ring = 0;

	answers_later = true;
	for (int i = 0; i < 40; i++) {
		ask_put(&calls[i], 1);
		in_ring += calls[i].is_in_ring;
	}
	assert_int_equal(in_ring, 32);
	WAIT_FOR(kept_count == 40);
	while (kept_count > 0) {
		struct request *r = kept[--kept_count];
		struct wcur w = request_answer(r);

		put_rep_put(&w, &(struct put_rep){ .version = 7 });
		request_reply(r, &w, NULL);
	}
	for (int i = 0; i < 40; i++)
		end(&calls[i], 0);
	ask_put(&calls[0], 1);
	assert_true(calls[0].is_in_ring);
	WAIT_FOR(kept_count == 1);
	request_fail(kept[0], -ENOENT, NULL);
	end(&calls[0], -ENOENT);
}

static void a_late_answer_is_heard_of_and_its_slot_is_free_again(void **state)
{
	struct call calls[32], c;

	answers_later = true;
	for (int i = 0; i < 32; i++)
		ask_put(&calls[i], 1);
	WAIT_FOR(kept_count == 32);
	for (int i = 0; i < 32; i++) {
		call_cancel(&calls[i]);
		call_end(&calls[i]);
	}
	ask_put(&c, 1);
	assert_false(c.is_in_ring);
	WAIT_FOR(kept_count == 33);
	while (kept_count > 0) {
		struct request *r = kept[--kept_count];
		struct wcur w = request_answer(r);

		put_rep_put(&w, &(struct put_rep){ .version = 7 });
		request_reply(r, &w, NULL);
	}
	end(&c, 0);
	WAIT_FOR(late_count == 32);
	answers_later = false;
	ask_put(&c, 1);
	assert_true(c.is_in_ring);
	end(&c, 0);
}

static void who_waits_for_long_is_answered_through_the_stream(void **state)
{
	struct call c;
	struct wcur w;

	ask(&c, MSG_WAIT, NULL);
	assert_true(c.is_in_ring);
	WAIT_FOR(!c.is_in_ring); /* its slot is free */
	w = parked_answer(&parked);
	parked_reply(&parked, &w);
	end(&c, 0);
}

static void a_connection_that_closes_ends_what_is_on_its_way(void **state)
{
	struct call a, b;

	answers_later = true;
	ask_put(&a, 1);
	WAIT_FOR(kept_count == 1);
	placing = PLACE_LATER;
	ask_put(&b, 1);
	WAIT_FOR(kept_count == 2);
	conn_close(server);
	end(&a, -ECONNRESET);
	end(&b, -ECONNRESET);
	notes[0] = '\0';
	request_fail(kept[0], -ENOENT, NULL); /* goes nowhere */
	request_place(kept[1], placed, 1);
	turn_for(0);
	assert_null(server);
	assert_string_equal(notes, "drop ");
}

/* They go on in the next turn, and their handler has nothing to do with them any more. */
static void what_has_its_place_or_was_refused_ends_with_the_connection(void **state)
{
	struct call a, b;

	placing = PLACE_LATER;
	ask_put(&a, 1000);
	WAIT_FOR(kept_count == 1);
	placing = SINK_LATER;
	ask_put(&b, 1000);
	WAIT_FOR(kept_count == 2);
	request_place(kept[0], placed, 1000);
	request_sink(kept[1], -ENOSPC, "none");
	conn_close(server);
	assert_string_equal(notes, "drop ");
	end(&a, -ECONNRESET);
	end(&b, -ECONNRESET);
	assert_null(server);
}

static void bytes_that_may_no_longer_be_served_are_not(void **state)
{
	struct call c;

	until_ns = 1;
	ask_get(&c, placed, sizeof(placed), 100);
	end(&c, -ECONNRESET);
	WAIT_FOR(!server);
	assert_string_equal(why_closed, "what was being sent may no longer be served");
	assert_int_equal(placed[50], 0);
}

#define LISTS 3000

static void who_does_not_read_the_stream_is_not_served_through_the_ring(void **state)
{
	static struct call calls[LISTS];
	uint64_t before = net_counters(net)->request_count;

	client->priv->is_held = true; /* so nothing of its socket is read */
	for (int i = 0; i < LISTS; i++) {
		ask(&calls[i], MSG_LIST, NULL);
		turn_for(0);
	}
	assert_true(conn_unsent(server) < CONN_SEND_QUEUE_BYTES + 40 * 8100);
	assert_true(net_counters(net)->request_count - before < LISTS / 2);
	client->priv->is_held = false;
	conn_resume(client);
	for (int i = 0; i < LISTS; i++)
		end(&calls[i], -EMSGSIZE); /* there is no room for it, but it came */
	assert_int_equal(net_counters(net)->request_count - before, LISTS);
	ask_put(&calls[0], 1);
	assert_true(calls[0].is_in_ring);
	end(&calls[0], 0);
}

static void there_is_one_ring_to_a_connection(void **state)
{
	assert_int_equal(conn_serve_ring(server, (struct ring_memory *)theirs.ptr, theirs.fd),
			 -EEXIST);
	assert_int_equal(conn_call_ring(client, ring, dup(0)), -EEXIST);
}

/* A client that writes anything. */

static size_t message(uint8_t *to, const struct frame *f)
{
	struct wcur w = wcur_make(to, RING_SLOT_BYTES);

	frame_put(&w, f);
	return FRAME_HEADER_SIZE + (size_t)f->body_len + f->payload_len;
}

static void submit(uint32_t nth, uint32_t slot, size_t len)
{
	atomic_store(&ring->submitted[nth - 1], (uint64_t)nth << 32 | slot << 16 | len);
	bell_ring_event(event);
}

static void a_message_that_is_none_costs_the_connection(void **state)
{
	static const struct {
		struct frame f;
		int more; /* bytes that the entry has beside those of the frame */
	} CASES[] = {
		{ { .msg = MSG_PUT }, 1 },
		{ { .msg = MSG_PUT, .body_len = 10 }, -1 },
		{ { .msg = MSG_PUT }, -1 },
		{ { .msg = MSG_PUT, .flags = FRAME_REPLY }, 0 },
		{ { .msg = MSG_PUT, .flags = FRAME_MORE }, 0 },
		{ { .msg = MSG_PUT, .flags = FRAME_ABORT }, 0 },
		{ { .msg = MSG_PUT, .body_len = 4096 }, 0 },
		{ { .msg = MSG_PUT, .payload_len = 5000 }, -1000 },
		{ { .msg = MSG_STAT, .payload_len = 1 }, 0 }, /* takes none */
	};

	for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
		if (i > 0)
			setup(NULL);
		submit(1, 0, message(ring->slots[0], &CASES[i].f) + CASES[i].more);
		WAIT_FOR(!server);
		assert_memory_equal(why_closed, "not our protocol", 16);
		assert_string_equal(notes, "");
		if (i + 1 < sizeof(CASES) / sizeof(CASES[0]))
			teardown(NULL);
	}
}

static void a_message_of_garbage_costs_the_connection(void **state)
{
	memset(ring->slots[3], 0xff, 4096);
	submit(1, 3, 4096);
	WAIT_FOR(!server);
	assert_string_equal(why_closed, "not our protocol: a message in its ring");
}

static void an_entry_of_garbage_costs_the_connection(void **state)
{
	submit(1, 99, 100);
	WAIT_FOR(!server);
	assert_string_equal(why_closed, "not our protocol: an entry of its ring");
}

static void a_body_of_garbage_is_refused_as_through_the_stream(void **state)
{
	uint32_t len;

	placing = PLACE_LATER;
	len = (uint32_t)message(
		ring->slots[0],
		&(struct frame){ .msg = MSG_PUT, .call = 9, .body_len = 7, .payload_len = 8 });
	submit(1, 0, len);
	WAIT_FOR(kept_count == 1);
	/* What it changes behind our back changes what is placed, and nothing else. */
	message(ring->slots[0],
		&(struct frame){ .msg = MSG_GET, .body_len = 0, .payload_len = 4000 });
	memset(ring->slots[0] + 36 + 7, 'z', 4000);
	request_place(kept[0], placed, 8);
	WAIT_FOR(notes[0]);
	assert_string_equal(notes, "put:8 ");
	assert_memory_equal(placed, "zzzzzzzz\0", 9);
}

static void an_answer_of_garbage_ends_the_client_s_connection(void **state)
{
	struct call c;

	answers_later = true;
	ask_put(&c, 1);
	WAIT_FOR(kept_count == 1);
	memset(ring->slots[0], 0xff, 100);
	atomic_store(&ring->completed[0], 1ull << 32 | 100);
	end(&c, -ECONNRESET);
	conn_close(server);
	request_fail(kept[0], -ENOENT, NULL);
}

/* Two threads. */

#define ASKED 2000

static struct loop *server_loop;
static struct stream *server_stream;

static void keep_stream(struct listener *l, struct stream *s)
{
	server_stream = s;
}

static void ignore(struct stream *s)
{
	(void)s;
}

static void closed_of_thread(struct conn *c)
{
	loop_stop(server_loop);
}

static const struct service THREAD = {
	.server = SERVER_PROXY,
	.handlers = { [MESSAGE_PUT] = { .serve = put_serve, .place = put_place },
		      [MESSAGE_REMOVE] = { .serve = remove_serve } },
	.closed = closed_of_thread,
};

static pthread_barrier_t barrier;

static void *serve_all(void *arg)
{
	struct listener l = { .accepted = keep_stream };
	struct net *n;
	struct conn *c;

	(void)loop_open_epoll(&server_loop);
	(void)net_open(server_loop, &n);
	(void)listener_open(server_loop, arg, &l);
	pthread_barrier_wait(&barrier);
	while (!server_stream)
		(void)loop_turn(server_loop, server_loop->now_ns + SECOND);
	c = conn_open(n, server_stream, &THREAD, NULL);
	c->access = node_alloc(sizeof(*c->access));
	c->access->role = ROLE_JOB;
	(void)conn_serve_ring(c, (struct ring_memory *)theirs.ptr, theirs.fd);
	(void)loop_run(server_loop);
	listener_close(&l);
	(void)loop_turn(server_loop, 0);
	net_close(n);
	loop_close(server_loop);
	return NULL;
}

static void two_loops_that_sleep_hear_each_other(void **state)
{
	struct address at;
	struct stream *s;
	pthread_t thread;
	unsigned seed = 7, late = 0;

	world_open(false);
	assert_int_equal(net_open(loop, &net), 0);
	make_memory();
	snprintf(notes, sizeof(notes), "unix://%s/t", directory);
	assert_int_equal(address_parse(notes, &at), 0);
	pthread_barrier_init(&barrier, NULL, 2);
	pthread_create(&thread, NULL, serve_all, &at);
	pthread_barrier_wait(&barrier);
	assert_int_equal(stream_connect(loop, &at, &s), 0);
	s->ready = ignore;
	loop->may_stay_awake = true;
	client = conn_open(net, s, &CLIENT, NULL);
	(void)conn_take_fds(client, NULL, 0);
	join(client, loop->now_ns + 20 * SECOND);
	for (int i = 0; i < ASKED; i++) {
		uint64_t begun_ns = node_now_ns();
		struct call c;

		ask(&c, MSG_REMOVE, NULL);
		assert_true(c.is_in_ring);
		end(&c, -ENOENT);
		notes[0] = '\0';
		late += node_now_ns() - begun_ns > 40 * MS; /* found by looking, not by a bell */
		if (rand_r(&seed) % 8 == 0)
			nanosleep(&(struct timespec){ .tv_nsec = rand_r(&seed) % 2500000 }, NULL);
	}
	conn_close(client);
	turn_for(MS);
	pthread_join(thread, NULL);
	assert_true(late < ASKED / 20);
	net_close(net);
	media_memfd.free(&theirs);
	media_memfd.free(&ours);
	close(event);
	world_close();
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_fits_goes_through_the_memory_alone),
		T(what_does_not_fit_goes_through_the_stream),
		T(an_answer_that_does_not_fit_comes_through_the_stream),
		T(a_payload_without_room_for_it_is_told),
		T(pieces_whose_order_counts_do_not_go_two_ways),
		T(a_place_may_come_in_pieces_or_later),
		T(what_has_no_room_is_refused_now_or_later),
		T(errors_come_with_their_words),
		T(when_no_slot_is_free_the_next_ones_go_through_the_stream),
		T(a_late_answer_is_heard_of_and_its_slot_is_free_again),
		T(who_waits_for_long_is_answered_through_the_stream),
		T(a_connection_that_closes_ends_what_is_on_its_way),
		T(what_has_its_place_or_was_refused_ends_with_the_connection),
		T(bytes_that_may_no_longer_be_served_are_not),
		T(who_does_not_read_the_stream_is_not_served_through_the_ring),
		T(there_is_one_ring_to_a_connection),
		T(a_message_that_is_none_costs_the_connection),
		T(a_message_of_garbage_costs_the_connection),
		T(an_entry_of_garbage_costs_the_connection),
		T(a_body_of_garbage_is_refused_as_through_the_stream),
		T(an_answer_of_garbage_ends_the_client_s_connection),
		cmocka_unit_test(two_loops_that_sleep_hear_each_other),
	};
	int failed_count;
	char path[64];

	if (!mkdtemp(directory))
		return 1;
	failed_count = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(path, sizeof(path), "%s/t", directory);
	unlink(path);
	rmdir(directory);
	return failed_count;
}
