/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: bytes that are on their way into an upload land there or nowhere, whatever is said of it
 * meanwhile by the other ways that a function has, and no order of messages, nor an index that
 * lacks memory anywhere, ends the proxy. Method: a shard, a store and a proxy in one loop, a
 * function at the end of a Unix socket and a ring, and memory of the test's own where segments are
 * written; it breaks a message off in the middle.
 */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/container.h"
#include "core/core.h"
#include "meta/meta.h"
#include "net/conn_priv.h"
#include "proxy/index.h"
#include "proxy/upload.h"
#include "shm/memory.h"
#include "store/store.h"
#include "world.h"

#define POOL_BYTES (64ull << 20)
#define PIECE_LEN  65536u
#define HALF       25000u
#define UNTOUCHED  0xee

static struct net *net, *net_of_function;
static struct shard *shard;
static struct store *store;
static struct core *core;
static struct proxy *proxy;
static struct listener proxy_listener, store_listener;
static struct conn *function;
static struct memory mapped; /* the ring, as the function has it */
static struct reach *reach;
static const struct reach_ops *reach_ops;
static struct reach_ops own_ops;
static char directory[] = "/tmp/wadi-test.XXXXXX", store_address[64];
static uint8_t sample[PIECE_LEN], window[1u << 20];
static unsigned pins;

static int pin_window(struct reach *r, uint64_t job, uint64_t segment, uint32_t generation,
		      uint64_t key, uint32_t offset, uint32_t len, uint8_t **ret)
{
	int x = reach_ops->pin_to_write(r, job, segment, generation, key, offset, len, ret);

	assert_true(len <= sizeof(window));
	*ret = window;
	pins += x == 0;
	return x;
}

static void unpin_window(struct reach *r, uint64_t segment, bool was_to_write)
{
	reach_ops->unpin(r, segment, was_to_write);
	pins--;
	memset(window, UNTOUCHED, sizeof(window));
}

static int to_shard(void *owner, uint16_t index, struct stream **ret)
{
	struct stream *ends[2];
	int r = stream_pair(loop, 256 << 10, ends);

	if (r < 0)
		return r;
	shard_accept(shard, ends[1]);
	*ret = ends[0];
	return 0;
}

static void job_over(void *owner, uint64_t job)
{
	proxy_job_over(proxy, job);
}

static void accept_function(struct listener *lr, struct stream *s)
{
	proxy_accept(proxy, s);
}

static void accept_core(struct listener *lr, struct stream *s)
{
	(void)store_accept(store, s);
}

static void listen_at(struct listener *lr, const char *name, char *text, size_t cap)
{
	snprintf(text, cap, "unix://%s/%s", directory, name);
	assert_int_equal(address_parse(text, &lr->address), 0);
	assert_int_equal(listener_open(loop, &lr->address, lr), 0);
}

/* Its calls. */

static struct wcur begin(struct call *c)
{
	*c = (struct call){ 0 };
	return call_body(net_of_function, c);
}

static void ask(struct call *c, uint16_t msg, const struct wcur *w)
{
	call_send(function, c, msg, 0, w, NULL, loop->now_ns + 5 * SECOND);
}

static int end(struct call *c)
{
	WAIT_FOR(!c->is_pending);
	call_end(c);
	return c->result;
}

static void say_hello(void)
{
	struct call c;
	struct wcur w = begin(&c);

	hello_req_put(&w, &(struct hello_req){ .version = PROTOCOL_VERSION, .role = ROLE_JOB });
	ask(&c, MSG_HELLO, &w);
	assert_int_equal(end(&c), 0);
}

/* The descriptor at which its ring's server hears. */
static int map_ring(void)
{
	struct call c;
	struct wcur w = begin(&c);
	int fds[2] = { -1, -1 };

	ring_req_put(&w, &(struct ring_req){});
	ask(&c, MSG_RING, &w);
	assert_int_equal(end(&c), 0);
	assert_int_equal(conn_take_fds(function, fds, 2), 2);
	assert_int_equal(memory_join(fds[0], sizeof(struct ring_memory), &mapped), 0);
	close(fds[0]);
	return fds[1];
}

static void join_ring(void)
{
	int event = map_ring();

	assert_int_equal(conn_call_ring(function, (struct ring_memory *)mapped.ptr, event), 0);
}

static void function_closed(struct conn *c)
{
	if (function == c)
		function = NULL;
}

static const struct service FUNCTION = { .closed = function_closed };

static void open_function(void)
{
	struct stream *s;

	assert_int_equal(stream_connect(loop, &proxy_listener.address, &s), 0);
	function = conn_open(net_of_function, s, &FUNCTION, NULL);
	assert_int_equal(conn_take_fds(function, NULL, 0), 0); /* from here on some may come */
	say_hello();
}

static uint64_t open_upload_of(uint64_t len_hint)
{
	struct put_open_rep rep;
	struct rcur body;
	struct call c;
	struct wcur w = begin(&c);

	put_open_req_put(&w, &(struct put_open_req){ .len_hint = len_hint,
						     .attempt_lo = 1,
						     .path = { (const uint8_t *)"x", 1 } });
	ask(&c, MSG_PUT_OPEN, &w);
	WAIT_FOR(!c.is_pending);
	assert_int_equal(c.result, 0);
	body = call_reply(&c);
	assert_int_equal(put_open_rep_get(&body, &rep), 0);
	call_end(&c);
	return rep.put;
}

static uint64_t open_upload(void)
{
	return open_upload_of(10 * PIECE_LEN);
}

/* Bytes of a message that nothing of is said to the connection: the whole of it is `buf`. */
static size_t message_of(uint8_t *buf, size_t cap, uint16_t msg, const struct wcur *body,
			 uint32_t len)
{
	struct wcur w = wcur_make(buf, cap);
	struct frame f = { .msg = msg,
			   .call = 1000000,
			   .timeout_ms = 5000,
			   .body_len = (uint32_t)wcur_finish(body),
			   .payload_len = len };

	frame_put(&w, &f);
	w.p += f.body_len;
	put_bytes(&w, sample, len);
	return (size_t)wcur_finish(&w);
}

static size_t data_of(uint8_t *buf, size_t cap, uint64_t put, uint64_t offset, uint32_t len)
{
	struct wcur body = wcur_make(buf + FRAME_HEADER_SIZE, cap - FRAME_HEADER_SIZE);

	put_data_req_put(&body, &(struct put_data_req){ .put = put, .offset = offset });
	return message_of(buf, cap, MSG_PUT_DATA, &body, len);
}

static size_t put_of(uint8_t *buf, size_t cap)
{
	struct wcur body = wcur_make(buf + FRAME_HEADER_SIZE, cap - FRAME_HEADER_SIZE);

	put_req_put(&body,
		    &(struct put_req){ .attempt_lo = 1, .path = { (const uint8_t *)"x", 1 } });
	return message_of(buf, cap, MSG_PUT, &body, PIECE_LEN);
}

static void send_bytes(const uint8_t *bytes, size_t len)
{
	struct iovec iov = { (void *)bytes, len };

	while (iov.iov_len > 0) {
		ssize_t n = stream_send(function->priv->stream, &iov, 1);

		assert_true(n > 0 || n == -EAGAIN);
		iov.iov_base = (uint8_t *)iov.iov_base + (n > 0 ? n : 0);
		iov.iov_len -= n > 0 ? (size_t)n : 0;
		turn_for(MS);
	}
	turn_for(5 * MS);
}

/* Half of a piece has come. The other half: *ret. put 0: of an object that comes at once. */
static size_t send_half(uint64_t put, const uint8_t **ret)
{
	static uint8_t message[PIECE_LEN + 200];
	size_t len = put ? data_of(message, sizeof(message), put, 0, PIECE_LEN)
			 : put_of(message, sizeof(message));

	send_bytes(message, len - HALF);
	WAIT_FOR(pins == 1);
	assert_int_equal(window[100], sample[100]);
	*ret = message + len - HALF;
	return HALF;
}

static void nothing_was_written(void)
{
	for (size_t i = 0; i < sizeof(window); i++)
		if (window[i] != UNTOUCHED)
			fail_msg("a byte was written at %zu", i);
}

static void is_served(void)
{
	struct call c;
	struct wcur w = begin(&c);

	ask(&c, MSG_PING, &w);
	assert_int_equal(end(&c), 0);
}

static int drop(uint64_t put)
{
	struct call c;
	struct wcur w = begin(&c);

	put_drop_req_put(&w, &(struct put_drop_req){ .put = put });
	ask(&c, MSG_PUT_DROP, &w);
	return end(&c);
}

static int commit(uint64_t put)
{
	struct call c;
	struct wcur w = begin(&c);

	put_commit_req_put(&w, &(struct put_commit_req){ .put = put });
	ask(&c, MSG_PUT_COMMIT, &w);
	return end(&c);
}

/* What was said first is still on its way through the socket when this comes through the ring. */
static void what_comes_for_an_upload_that_was_dropped_goes_nowhere(void **state)
{
	const uint8_t *rest;
	uint64_t put;
	size_t len;

	join_ring();
	put = open_upload();
	len = send_half(put, &rest);
	assert_int_equal(drop(put), 0);
	assert_int_equal(pins, 0);
	memset(window, UNTOUCHED, sizeof(window));
	send_bytes(rest, len);
	nothing_was_written();
	is_served();
}

static void what_is_half_there_is_not_committed(void **state)
{
	const uint8_t *rest;
	uint64_t put;
	size_t len;

	join_ring();
	put = open_upload();
	len = send_half(put, &rest);
	assert_int_equal(commit(put), -EINVAL);
	assert_int_equal(pins, 1);
	send_bytes(rest, len);
	assert_int_equal(pins, 0);
	assert_int_equal(commit(put), 0);
}

/* What it says by itself in its ring, first of all: the status. */
static int say_in_ring(int event, const uint8_t *message, size_t len)
{
	const uint64_t one = 1;
	struct ring_caller caller;
	struct frame f = { 0 };
	struct rcur r;
	unsigned slot;
	uint32_t got = 0;
	uint8_t *place;

	ring_caller_init(&caller, (struct ring_memory *)mapped.ptr);
	assert_int_equal(ring_take(&caller, &place), 0);
	memcpy(place, message, len);
	ring_submit(&caller, 0, (uint32_t)len);
	assert_int_equal(write(event, &one, sizeof(one)), sizeof(one));
	WAIT_FOR(ring_has_answer(&caller));
	assert_int_equal(ring_reap(&caller, &slot, &got), 1);
	r = rcur_make(ring_answer(&caller, slot), FRAME_HEADER_SIZE);
	assert_int_equal(frame_get(&r, &f), 0);
	return status_errno(f.status);
}

/* Half of a piece has come through the socket when this is said in the ring. */
static void say_beside_half(uint64_t offset, uint32_t len, int want)
{
	uint8_t message[1000];
	const uint8_t *rest;
	int event = map_ring();
	uint64_t put = open_upload();
	size_t half = send_half(put, &rest);

	assert_int_equal(
		say_in_ring(event, message, data_of(message, sizeof(message), put, offset, len)),
		want);
	assert_int_equal(pins, 1);
	send_bytes(rest, half);
	WAIT_FOR(pins == 0);
	assert_int_equal(commit(put), 0);
	close(event);
}

/* The next piece fits the ring, and so it is there before the one that it goes on from. */
static void what_is_half_there_is_not_put_away_for_another_piece(void **state)
{
	say_beside_half(PIECE_LEN, 100, -EINVAL);
}

static void what_is_half_there_is_not_put_away_for_a_question_after_room(void **state)
{
	say_beside_half(0, 0, 0);
}

/* It ends its own job, and is to hear the answer; what it sends meanwhile is the job's no more. */
static void what_is_half_there_when_the_job_is_over_goes_nowhere(uint64_t put)
{
	const uint8_t *rest;
	struct call c;
	struct wcur w;
	size_t len = send_half(put, &rest);

	w = begin(&c);
	job_end_req_put(&w, &(struct job_end_req){ .name = { (const uint8_t *)"default", 7 } });
	ask(&c, MSG_JOB_END, &w);
	WAIT_FOR(pins == 0);
	memset(window, UNTOUCHED, sizeof(window));
	send_bytes(rest, len);
	nothing_was_written();
	assert_int_equal(end(&c), 0);
}

static void what_comes_when_the_job_is_over_goes_nowhere(void **state)
{
	join_ring();
	what_is_half_there_when_the_job_is_over_goes_nowhere(open_upload());
}

/* So that what comes next need not wait for a segment, which it does not for long. */
static void put_a_little(void)
{
	struct payload p = { .ptr = sample, .len = INLINE_BYTES_MAX + 1 };
	struct call c;
	int r;

	do {
		struct wcur w = begin(&c);

		put_req_put(&w, &(struct put_req){ .attempt_lo = 2,
						   .path = { (const uint8_t *)"y", 1 } });
		call_send(function, &c, MSG_PUT, 0, &w, &p, loop->now_ns + 5 * SECOND);
		r = end(&c);
	} while (r == -EAGAIN);
	assert_int_equal(r, 0);
}

static void an_object_that_comes_when_the_job_is_over_goes_nowhere(void **state)
{
	join_ring();
	put_a_little();
	what_is_half_there_when_the_job_is_over_goes_nowhere(0);
}

/* Its bytes are on their way to another process when somebody asks for room. */
static void who_asks_for_room_does_not_put_a_piece_away_twice(void **state)
{
	static uint8_t messages[PIECE_LEN + 400];
	uint64_t put = open_upload();
	size_t len = data_of(messages, sizeof(messages), put, 0, PIECE_LEN);

	len += data_of(messages + len, sizeof(messages) - len, put, 0, 0);
	send_bytes(messages, len);
	turn_for(50 * MS);
	is_served();
	assert_int_equal(commit(put), 0);
}

static void wait_run(struct fiber *self)
{
	struct waitq never;

	waitq_init(&never, self->home);
	(void)waitq_wait(&never, UINT64_MAX);
}

/* All stacks that there are, and no more are made. */
static unsigned take_stacks(struct fiber *fibers, unsigned cap, unsigned *ret_max)
{
	unsigned n = 0;

	*ret_max = loop->fibers.stack_count_max;
	loop->fibers.stack_count_max = loop->fibers.stack_count;
	while (fiber_start(&loop->fibers, &fibers[n], wait_run, NULL) == 0)
		assert_true(++n < cap);
	return n;
}

/* Its bytes have come, and there is no fiber to put them away. */
static void what_was_not_put_away_is_not_committed(void **state)
{
	static uint8_t messages[2][PIECE_LEN + 200];
	static struct fiber fibers[64];
	uint64_t put = open_upload();
	unsigned count, max;

	send_bytes(messages[0], data_of(messages[0], sizeof(messages[0]), put, 0, PIECE_LEN));
	turn_for(50 * MS);
	count = take_stacks(fibers, 64, &max);
	send_bytes(messages[1],
		   data_of(messages[1], sizeof(messages[1]), put, PIECE_LEN, PIECE_LEN));
	turn_for(50 * MS);
	loop->fibers.stack_count_max = max;
	while (count > 0)
		fiber_cancel(&fibers[--count]);
	turn_for(MS);
	assert_int_equal(commit(put), -EUSERS);
	is_served();
}

/* Nobody has been answered when the second one comes. */
static void who_says_hello_twice_is_bound_once(void **state)
{
	struct conn *first = function;
	struct stream *s;
	struct call calls[2];

	assert_int_equal(stream_connect(loop, &proxy_listener.address, &s), 0);
	function = conn_open(net_of_function, s, &FUNCTION, NULL);
	for (unsigned i = 0; i < 2; i++) {
		struct wcur w = begin(&calls[i]);

		hello_req_put(&w,
			      &(struct hello_req){ .version = PROTOCOL_VERSION, .role = ROLE_JOB });
		ask(&calls[i], MSG_HELLO, &w);
	}
	assert_int_equal(end(&calls[0]) + end(&calls[1]), -EINVAL);
	is_served();
	conn_close(first);
}

static struct native *the_native(void)
{
	return container_of(proxy->conns.next, struct conn, link)->state;
}

/* Memory for more is being made. */
static void who_waits_for_room_may_leave(void **state)
{
	uint64_t put = open_upload_of(PIECE_LEN);
	struct upload *u = container_of(the_native()->uploads.next, struct upload, link);
	struct call c;
	struct wcur w = begin(&c);

	put_data_req_put(&w, &(struct put_data_req){ .put = put, .need = 1u << 20 });
	ask(&c, MSG_PUT_DATA, &w);
	WAIT_FOR(!list_is_empty(&u->waiting));
	conn_close(function);
	WAIT_FOR(!c.is_pending);
	call_end(&c);
	turn_for(5 * MS);
	open_function();
	is_served();
}

/* Each waits for memory that a helper makes, and there is one reader at most. */
static void readers_are_no_more_than_may_be_though_they_wait_together(void **state)
{
	struct conn *first = function;
	struct call calls[2];
	int fds[3];

	open_function();
	for (unsigned i = 0; i < 2; i++) {
		struct wcur w = begin(&calls[i]);

		index_req_put(&w, &(struct index_req){});
		call_send(i == 0 ? first : function, &calls[i], MSG_INDEX, 0, &w, NULL,
			  loop->now_ns + 5 * SECOND);
	}
	WAIT_FOR(!calls[0].is_pending && !calls[1].is_pending);
	for (unsigned i = 0; i < 2; i++) {
		struct conn *c = i == 0 ? first : function;

		assert_int_equal(calls[i].result, calls[1 - i].result ? 0 : -EUSERS);
		assert_int_equal(conn_take_fds(c, fds, 3), calls[i].result ? 0 : 3);
		for (unsigned k = 0; k < 3 && calls[i].result == 0; k++)
			close(fds[k]);
	}
	call_end(&calls[0]);
	call_end(&calls[1]);
	conn_close(first);
}

/* Without memory: what is asked of an index, one thing after the other. */

static struct node failing;
static bool has_index; /* this connection */

static int ask_index(void)
{
	struct call c;
	struct wcur w = begin(&c);
	int fds[3], r;

	index_req_put(&w, &(struct index_req){});
	ask(&c, MSG_INDEX, &w);
	r = end(&c);
	for (int i = 0, n = function ? conn_take_fds(function, fds, 3) : 0; i < n; i++)
		close(fds[i]);
	return r;
}

static int put_object(const char *path, uint32_t len)
{
	struct payload p = { .ptr = sample, .len = len };
	struct call c;
	struct wcur w = begin(&c);

	put_req_put(&w, &(struct put_req){ .attempt_lo = 1,
					   .path = { (const uint8_t *)path, strlen(path) } });
	call_send(function, &c, MSG_PUT, 0, &w, &p, loop->now_ns + 5 * SECOND);
	return end(&c);
}

/* 1: it is in the index. */
static int get_object(const char *path, uint32_t len, bool is_view)
{
	static uint8_t room[PIECE_LEN];
	struct get_rep rep = { 0 };
	struct rcur body;
	struct call c;
	struct wcur w = begin(&c);
	int r;

	c.room = room;
	c.room_cap = sizeof(room);
	get_req_put(&w, &(struct get_req){ .take = sizeof(room),
					   .is_view = is_view,
					   .path = { (const uint8_t *)path, strlen(path) } });
	ask(&c, MSG_GET, &w);
	WAIT_FOR(!c.is_pending);
	r = c.result;
	body = call_reply(&c);
	if (r == 0)
		assert_int_equal(get_rep_get(&body, &rep), 0);
	if (r == 0 && !rep.is_in_index) {
		assert_int_equal(c.room_len, len);
		assert_memory_equal(room, sample, len);
	}
	call_end(&c);
	return r == 0 ? rep.is_in_index : r;
}

static int ask_mapping(uint32_t number)
{
	static uint8_t room[MAPPING_BYTES];
	struct call c;
	struct wcur w = begin(&c);

	c.room = room;
	c.room_cap = sizeof(room);
	mapping_req_put(&w, &(struct mapping_req){ .number = number });
	ask(&c, MSG_MAPPING, &w);
	return end(&c);
}

static int end_job(void)
{
	struct call c;
	struct wcur w = begin(&c);

	job_end_req_put(&w, &(struct job_end_req){ .name = { (const uint8_t *)"default", 7 } });
	ask(&c, MSG_JOB_END, &w);
	return end(&c);
}

/* Each is tried once, whatever became of those before. */
static void use_index(bool must_succeed)
{
	int results[6] = { 0 };

	if (!has_index)
		results[0] = ask_index();
	has_index |= results[0] == 0;
	results[1] = function ? put_object("value", 100) : 0;
	for (int i = 0; i < 3 && function; i++)
		results[2] = get_object("value", 100, false);
	turn_for(5 * MS); /* memory for copies of values is made beside all that */
	results[3] = function ? put_object("object", 5000) : 0;
	for (int i = 0; i < 2 && function; i++)
		results[4] = get_object("object", 5000, true);
	/* Which of them has ended meanwhile, with what was replaced, is all the same. */
	for (uint32_t i = 0; i < 3 && function && (i == 0 || results[5] == -ENOENT); i++)
		results[5] = ask_mapping(i);
	for (int i = 0; i < 6; i++) {
		int r = results[i];

		if (must_succeed ? r < 0
				 : r < 0 && r != -ENOMEM && r != -EUSERS && r != -EAGAIN &&
					   r != -ECONNRESET && r != -ENOENT)
			fail_msg("request %d: %d", i, r);
	}
	if (must_succeed)
		assert_int_equal(results[4], 1);
}

static bool use_index_without_memory(uint64_t n)
{
	bool is_met;

	loop->node = node_current = &failing;
	failing.fail_countdown = n;
	use_index(false);
	is_met = failing.fail_countdown == 0;
	failing.fail_countdown = 0;
	loop->node = node_current = NULL;
	if (!function) {
		has_index = false;
		open_function();
	}
	use_index(true);
	assert_int_equal(end_job(), 0);
	conn_close(function);
	WAIT_FOR(!function);
	has_index = false;
	open_function();
	return is_met;
}

static void an_index_may_lack_memory_anywhere(void **state)
{
	uint64_t n = 0;

	while (use_index_without_memory(++n))
		;
	assert_true(n > 20);
}

static bool send_without_memory(uint64_t n)
{
	struct payload p = { .ptr = sample, .len = PIECE_LEN };
	uint64_t put = open_upload();
	bool is_met;
	struct call c;
	struct wcur w;
	int r;

	spares_fini(&proxy->spare_ops, sizeof(struct op)); /* so there is an allocation for each */
	loop->node = node_current = &failing;
	failing.fail_countdown = n;
	w = begin(&c);
	put_data_req_put(&w, &(struct put_data_req){ .put = put });
	call_send(function, &c, MSG_PUT_DATA, 0, &w, &p, loop->now_ns + 5 * SECOND);
	r = end(&c);
	turn_for(5 * MS);
	is_met = failing.fail_countdown == 0;
	failing.fail_countdown = 0;
	loop->node = node_current = NULL;
	if (r != 0 && r != -ENOMEM && r != -EUSERS && r != -ECONNRESET)
		fail_msg("allocation %d: %d", (int)n, r);
	if (!function)
		open_function();
	else if (r == 0)
		assert_int_equal(commit(put), 0);
	else
		(void)drop(put);
	return is_met;
}

static void bytes_of_an_upload_may_lack_memory_anywhere(void **state)
{
	uint64_t n = 0;

	while (send_without_memory(++n))
		;
	assert_true(n > 4);
}

static struct job_index *the_index(void)
{
	return container_of(proxy->indexes.next, struct job_index, link);
}

/*
 * Puts so many more, and gets each until it is in the index. An error, if there was one. Copies of
 * all of them have room in one region.
 */
static int enter_more(unsigned from, unsigned count)
{
	char path[16];
	int first = 0;

	for (unsigned i = from; i < from + count && function; i++) {
		int r;

		snprintf(path, sizeof(path), "%u", i);
		r = put_object(path, 10);
		for (int k = 0; k < 2 && r == 0 && function; k++)
			r = get_object(path, 10, false);
		first = first < 0 ? first : r;
	}
	return first;
}

/* A few more entries make its table full. How many there are. */
static unsigned fill_index(void)
{
	const struct index_writer *x = &the_index()->writer;
	unsigned n = 0;

	for (; x->now.live < x->now.count / 4 * 3 - 5; n++)
		assert_int_equal(enter_more(n, 1), 0);
	return n;
}

/* The same numbers each time, so that each index is full at the same place. */
static void roll(struct node *node, void *buf, size_t len)
{
	uint8_t dice = 0;

	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = (uint8_t)(++dice * 151);
}

/* True if it has grown. */
static bool grow_without_memory(uint64_t n, bool *ret_is_met)
{
	struct node same = { .random = roll };
	unsigned count;
	bool has_grown;
	int r;

	loop->node = &same;
	assert_int_equal(ask_index(), 0);
	loop->node = NULL;
	assert_int_equal(enter_more(5000, 1), 0); /* copies of values wait for memory to be made */
	turn_for(10 * MS);
	count = fill_index();
	loop->node = node_current = &failing;
	failing.fail_countdown = n;
	r = enter_more(count, 30);
	turn_for(10 * MS);
	*ret_is_met = failing.fail_countdown == 0;
	failing.fail_countdown = 0;
	loop->node = node_current = NULL;
	assert_true(r == 0 || (*ret_is_met && (r == -ENOMEM || r == -ECONNRESET)));
	if (!function)
		open_function();
	assert_int_equal(enter_more(0, count + 30), 0);
	has_grown = the_index()->table->size > INDEX_TABLE_BYTES_FIRST;
	assert_int_equal(end_job(), 0);
	conn_close(function);
	WAIT_FOR(!function);
	open_function();
	return has_grown;
}

static void an_index_that_cannot_grow_serves_as_it_is(void **state)
{
	unsigned grown = 0;
	uint64_t n = 0;
	bool is_met;

	do
		grown += grow_without_memory(++n, &is_met);
	while (is_met);
	assert_true(n > 2);
	assert_in_range(grown, 1, n);
}

/* is_window: what is written there lies in memory of the test. */
static int setup_with(bool is_near, bool is_window)
{
	struct shard_config meta = { .count = 1,
				     .is_open_loopback = true,
				     .addresses = { "tcp://shard:1" } };
	struct store_config pool = { .limit_bytes = POOL_BYTES, .tier = TIER_DRAM, .name = "dram" };
	struct core_config c = { .shard_count = 1, .to_shard = to_shard, .job_over = job_over };
	struct proxy_config doors = { .is_open_loopback = true,
				      .rings_max = 1,
				      .indexes_max = 2,
				      .index_bytes_max = 1u << 20,
				      .own_uid = getuid(),
				      .trusts_local = true };
	char text[64];
	struct stream *s = NULL;

	pins = 0;
	world_open(false);
	assert_int_equal(net_open(loop, &net), 0);
	assert_int_equal(net_open(loop, &net_of_function), 0);
	proxy_listener = (struct listener){ .accepted = accept_function };
	store_listener = (struct listener){ .accepted = accept_core };
	listen_at(&store_listener, "store", store_address, sizeof(store_address));
	pool.address = store_address;
	assert_int_equal(shard_open(&meta, loop, net, &shard), 0);
	assert_int_equal(store_open(&pool, loop, net, &store), 0);
	assert_int_equal(to_shard(NULL, 0, &s), 0);
	assert_int_equal(store_join(store, s), 0);
	store_reach(store, &reach, &reach_ops);
	own_ops = *reach_ops;
	own_ops.pin_to_write = pin_window;
	own_ops.unpin = unpin_window;
	if (is_near) {
		c.reach = reach;
		c.reach_ops = is_window ? &own_ops : reach_ops;
		c.reach_store = store_incarnation(store);
	}
	assert_int_equal(core_open(net, &c, &core), 0);
	doors.core = core;
	assert_int_equal(proxy_open(net, &doors, &proxy), 0);
	listen_at(&proxy_listener, "proxy", text, sizeof(text));
	WAIT_FOR(core_is_ready(core) && store_joined_count(store) > 0);
	open_function();
	return 0;
}

static int setup(void **state)
{
	return setup_with(true, true);
}

static int setup_far(void **state)
{
	return setup_with(false, false);
}

static int setup_real(void **state)
{
	return setup_with(true, false);
}

static int teardown(void **state)
{
	conn_close(function);
	proxy_stop(proxy);
	listener_close(&proxy_listener);
	listener_close(&store_listener);
	WAIT_FOR(proxy_has_stopped(proxy));
	core_stop(core);
	WAIT_FOR(core_has_stopped(core));
	proxy_close(proxy);
	core_close(core);
	store_close(store);
	shard_close(shard);
	turn_for(MS);
	assert_int_equal(net_counters(net)->conn_count, 0);
	net_close(net);
	net_close(net_of_function);
	if (mapped.ptr)
		media_memfd.free(&mapped);
	mapped = (struct memory){ .fd = -1 };
	world_close();
	return 0;
}

#define T(f)    cmocka_unit_test_setup_teardown(f, setup, teardown)
#define FAR(f)  cmocka_unit_test_setup_teardown(f, setup_far, teardown)
#define REAL(f) cmocka_unit_test_setup_teardown(f, setup_real, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(what_comes_for_an_upload_that_was_dropped_goes_nowhere),
		T(what_is_half_there_is_not_committed),
		T(what_is_half_there_is_not_put_away_for_another_piece),
		T(what_is_half_there_is_not_put_away_for_a_question_after_room),
		T(what_comes_when_the_job_is_over_goes_nowhere),
		T(an_object_that_comes_when_the_job_is_over_goes_nowhere),
		FAR(who_asks_for_room_does_not_put_a_piece_away_twice),
		FAR(what_was_not_put_away_is_not_committed),
		T(readers_are_no_more_than_may_be_though_they_wait_together),
		T(who_says_hello_twice_is_bound_once),
		REAL(who_waits_for_room_may_leave),
		FAR(bytes_of_an_upload_may_lack_memory_anywhere),
		REAL(an_index_may_lack_memory_anywhere),
		REAL(an_index_that_cannot_grow_serves_as_it_is),
	};
	int r;

	for (size_t i = 0; i < sizeof(sample); i++)
		sample[i] = (uint8_t)(i * 31 >> 3);
	assert_non_null(mkdtemp(directory));
	r = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(directory);
	return r;
}
