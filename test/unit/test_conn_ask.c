/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a fiber that asks the other end of a pair is served on its own stack, and nothing is
 * overtaken for it, there or back; whoever does not answer at once, or closes, is waited for
 * as ever. Method: fibers on a pair of one net, another fiber behind them that tells whether
 * they waited, and handlers that do what they are told. All take notes.
 */
#include "notes.h"
#include "test.h"

#include <stdio.h>

#include "base/container.h"
#include "base/node.h"
#include "net/conn.h"

static struct loop *loop;
static struct net *net;
static struct conn *client, *server;
static enum { ANSWER, ANSWER_ANOTHER_FIRST, KEEP, CLOSE_CLIENT, CLOSE_SERVER, KEEP_ALL } then;
static struct request *kept;
static uint64_t until_ns;
static uint8_t sample[BODY_BYTES + 1];

static struct payload reply_payload = { .ptr = sample, .len = 1000 };

static void answer(struct request *r)
{
	struct wcur w = request_answer(r);

	if (r->frame.msg == MSG_COMMIT)
		commit_rep_put(&w, &(struct commit_rep){ .version = 9 });
	else
		lookup_rep_put(&w, &(struct lookup_rep){ .hold = 7 });
	request_reply(r, &w, r->frame.msg == MSG_COMMIT ? NULL : &reply_payload);
}

static struct request *all[CONN_REQUESTS_MAX];
static unsigned all_count;

static void serve(struct request *r)
{
	if (then == KEEP_ALL) {
		all[all_count++] = r;
		return;
	}
	if (r->payload_len > 0)
		note("commit:%u ", r->payload[r->payload_len - 1]);
	else
		note("lookup ");
	if (then == ANSWER_ANOTHER_FIRST)
		answer(kept);
	if (then == CLOSE_CLIENT)
		conn_close(client);
	if (then == CLOSE_SERVER)
		conn_close(server);
	if (then == KEEP)
		kept = r;
	else
		answer(r);
}

static void find_serve(struct request *r)
{
	r->until_ns = &until_ns;
	answer(r);
}

static void client_closed(struct conn *c)
{
	(void)c;
	client = NULL;
}

static void server_closed(struct conn *c)
{
	(void)c;
	server = NULL;
}

static uint8_t place[64];

static void extend_serve(struct request *r)
{
	note("extend:%u ", r->payload_len ? place[r->payload_len - 1] : 0);
	request_fail(r, -ENOENT, "nothing there");
}

static void extend_place(struct request *r)
{
	request_place(r, place, r->payload_len);
}

static const struct service CLIENT = { .closed = client_closed };
static const struct service SERVICE = {
	.server = SERVER_META,
	.handlers = {
		[MESSAGE_LOOKUP] = { .serve = serve },
		[MESSAGE_COMMIT] = { .serve = serve },
		[MESSAGE_FIND] = { .serve = find_serve },
		[MESSAGE_EXTEND] = { .serve = extend_serve, .place = extend_place },
	},
	.closed = server_closed,
};

static void turn(unsigned n)
{
	while (n-- > 0)
		assert_int_equal(loop_turn(loop, 0), 0);
}

/* Asks so many times, one after the other. */
struct asker {
	struct fiber fiber;
	const char *name;
	uint16_t msg;
	unsigned times;
	const uint8_t *payload;
	size_t payload_len;
	uint64_t timeout_ms;
	uint8_t room[1000];
	bool is_over;
};

static uint64_t number_of(const struct call *c, uint16_t msg)
{
	struct rcur body = call_reply(c);
	struct commit_rep commit;
	struct lookup_rep lookup;

	if (msg == MSG_COMMIT && commit_rep_get(&body, &commit) == 0)
		return commit.version;
	return msg == MSG_LOOKUP && lookup_rep_get(&body, &lookup) == 0 ? lookup.hold : 0;
}

static void ask(struct asker *a)
{
	struct call c = { .room = a->room, .room_cap = sizeof(a->room) };
	struct payload p = { .ptr = a->payload, .len = a->payload_len };
	struct wcur w = call_body(net, &c);
	char words[80];
	int r;

	lookup_req_put(&w, &(struct lookup_req){ .job = 1 }); /* nobody looks into it */
	r = call_ask(client, &c, a->msg, 0, &w, a->payload_len ? &p : NULL,
		     loop->now_ns + a->timeout_ms * 1000000);
	note("%s:%d,%u,%zu%s ", a->name, r, (unsigned)(r == 0 ? number_of(&c, a->msg) : 0),
	     c.room_len, call_detail(&c, words, sizeof(words)));
	call_end(&c);
}

static void ask_run(struct fiber *self)
{
	struct asker *a = container_of(self, struct asker, fiber);

	for (unsigned i = 0; i < a->times; i++)
		ask(a);
	a->is_over = true;
}

static struct asker asker_of(const char *name, uint16_t msg)
{
	return (struct asker){
		.name = name, .msg = msg, .times = 1, .payload = sample, .timeout_ms = 60000
	};
}

static void begin(struct asker *a)
{
	assert_int_equal(fiber_start(&loop->fibers, &a->fiber, ask_run, NULL), 0);
}

static void witness_run(struct fiber *self)
{
	(void)self;
	note("witness ");
}

/* Who runs behind those that are ready: its note is before theirs if they wait. */
static void begin_witness(void)
{
	static struct fiber witness;

	assert_int_equal(fiber_start(&loop->fibers, &witness, witness_run, NULL), 0);
}

static void open_pair(void)
{
	struct asker first = asker_of("first", MSG_LOOKUP);
	struct stream *ends[2];

	assert_int_equal(stream_pair(loop, 1, ends), 0);
	client = conn_open(net, ends[0], &CLIENT, NULL);
	server = conn_open(net, ends[1], &SERVICE, NULL);
	server->access = node_alloc(sizeof(*server->access));
	server->access->role = ROLE_PROXY;
	begin(&first);
	turn(3);
	assert_true(conn_is_connected(client) && conn_is_connected(server));
	assert_string_equal(notes, "lookup first:0,7,1000 ");
	notes[0] = '\0';
}

static int setup(void **state)
{
	notes[0] = '\0';
	then = ANSWER;
	kept = NULL;
	until_ns = UINT64_MAX;
	for (size_t i = 0; i < sizeof(sample); i++)
		sample[i] = (uint8_t)(i * 31 >> 3);
	assert_int_equal(loop_open_epoll(&loop), 0);
	assert_int_equal(net_open(loop, &net), 0);
	open_pair();
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

static void a_fiber_is_served_without_a_wait(void **state)
{
	struct asker a = asker_of("a", MSG_LOOKUP), b = asker_of("b", MSG_COMMIT);

	b.payload_len = 100;
	begin(&a);
	begin(&b);
	begin_witness();
	turn(1);
	/* 99 * 31 / 8. */
	assert_string_equal(notes, "lookup a:0,7,1000 commit:127 b:0,9,0 witness ");
	assert_memory_equal(a.room, sample, 1000);
	assert_int_equal(net_counters(net)->call_count, 3);
	assert_int_equal(net_counters(net)->request_count, 3);
	/* The headers of six frames, their bodies, and the payloads. */
	assert_int_equal(net_counters(net)->sent_bytes, net_counters(net)->received_bytes);
	assert_int_equal(net_counters(net)->sent_bytes, 6 * 36 + 402 + 2100);
	assert_int_equal(conn_unsent(client) + conn_unsent(server), 0);
}

static void who_asks_again_and_again_lets_others_run(void **state)
{
	struct asker a = asker_of("a", MSG_LOOKUP);

	a.times = 3;
	begin(&a);
	begin_witness();
	turn(4);
	assert_string_equal(notes,
			    "lookup a:0,7,1000 witness lookup a:0,7,1000 lookup a:0,7,1000 ");
}

static void what_was_sent_before_is_served_before(void **state)
{
	struct asker a = asker_of("a", MSG_LOOKUP);
	struct call c = { 0 };
	struct payload p = { .ptr = sample, .len = 50 };
	struct wcur w = call_body(net, &c);

	lookup_req_put(&w, &(struct lookup_req){ .job = 1 });
	call_send(client, &c, MSG_EXTEND, 0, &w, &p, node_now_ns() + 60000000000);
	begin(&a);
	turn(4);
	assert_string_equal(notes, "extend:189 lookup a:0,7,1000 ");
	assert_int_equal(c.result, -ENOENT);
	call_end(&c);
}

static void what_was_answered_before_comes_before(void **state)
{
	struct asker a = asker_of("a", MSG_LOOKUP), b = asker_of("b", MSG_LOOKUP);

	then = KEEP;
	begin(&a);
	turn(2);
	assert_string_equal(notes, "lookup ");
	then = ANSWER_ANOTHER_FIRST;
	begin(&b);
	turn(4);
	assert_string_equal(notes, "lookup lookup a:0,7,1000 b:0,7,1000 ");
}

static void who_owes_as_much_as_it_may_is_not_asked(void **state)
{
	struct call *calls = node_alloc(CONN_REQUESTS_MAX * sizeof(*calls));
	struct asker a = asker_of("a", MSG_LOOKUP);

	then = KEEP_ALL;
	all_count = 0;
	for (unsigned i = 0; i < CONN_REQUESTS_MAX; i++) {
		struct wcur w = call_body(net, &calls[i]);

		lookup_req_put(&w, &(struct lookup_req){ .job = 1 });
		call_send(client, &calls[i], MSG_LOOKUP, 0, &w, NULL, UINT64_MAX);
	}
	turn(200);
	assert_int_equal(all_count, 1024);
	then = ANSWER;
	begin(&a);
	turn(3);
	assert_string_equal(notes, "");
	answer(all[0]);
	turn(3);
	assert_string_equal(notes, "lookup a:0,7,1000 ");
	for (unsigned i = 0; i < CONN_REQUESTS_MAX; i++) {
		if (i > 0)
			answer(all[i]);
		turn(1);
		call_end(&calls[i]);
	}
	node_free(calls);
}

static void a_payload_that_has_a_place_of_its_own_goes_as_ever(void **state)
{
	struct asker a = asker_of("a", MSG_EXTEND), b = asker_of("b", MSG_EXTEND),
		     c = asker_of("c", MSG_COMMIT);

	c.payload_len = 100;
	begin(&c);
	turn(1);
	assert_string_equal(notes, "commit:127 c:0,9,0 ");
	notes[0] = '\0';
	a.payload = sample + 1;
	a.payload_len = 60;
	begin(&a);
	begin(&b);
	begin_witness();
	turn(4);
	/* The second one has nothing to place, and is behind the first. */
	assert_string_equal(notes, "witness extend:232 extend:0 a:-2,0,0nothing there "
				   "b:-2,0,0nothing there ");
	notes[0] = '\0';
	c.payload_len = BODY_BYTES + 1;
	begin(&c);
	turn(4);
	assert_string_equal(notes, "c:-90,0,0this message takes a payload of 4096 bytes ");
}

static void what_is_kept_is_answered_later_or_too_late(void **state)
{
	struct asker a = asker_of("a", MSG_LOOKUP), b = asker_of("b", MSG_LOOKUP);

	then = KEEP;
	begin(&a);
	turn(2);
	answer(kept);
	turn(3);
	assert_string_equal(notes, "lookup a:0,7,1000 ");
	notes[0] = '\0';
	b.timeout_ms = 1;
	begin(&b);
	while (!b.is_over)
		assert_int_equal(loop_turn(loop, node_now_ns() + 50000000), 0);
	assert_string_equal(notes, "lookup b:-110,0,0 ");
	answer(kept);
	turn(3);
	assert_string_equal(notes, "lookup b:-110,0,0 ");
}

static void either_may_close_while_it_serves(void **state)
{
	for (then = CLOSE_CLIENT; then <= CLOSE_SERVER; then++) {
		struct asker a = asker_of("a", MSG_LOOKUP);
		int closing = (int)then;

		begin(&a);
		turn(4);
		assert_string_equal(notes, "lookup a:-104,0,0 ");
		assert_null(client);
		assert_null(server);
		notes[0] = '\0';
		then = ANSWER;
		open_pair();
		then = closing;
	}
}

static void what_may_no_longer_be_served_is_not(void **state)
{
	struct asker a = asker_of("a", MSG_FIND);

	until_ns = node_now_ns();
	begin(&a);
	turn(4);
	assert_string_equal(notes, "a:-104,0,0 ");
	assert_null(server);
}

static void what_is_not_served_is_refused(void **state)
{
	struct asker a = asker_of("a", MSG_DROP);

	begin(&a);
	begin_witness();
	turn(1);
	assert_string_equal(notes, "a:-95,0,0this server does not know the message witness ");
}

#define ASK_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		ASK_TEST(a_fiber_is_served_without_a_wait),
		ASK_TEST(who_asks_again_and_again_lets_others_run),
		ASK_TEST(what_was_sent_before_is_served_before),
		ASK_TEST(what_was_answered_before_comes_before),
		ASK_TEST(who_owes_as_much_as_it_may_is_not_asked),
		ASK_TEST(a_payload_that_has_a_place_of_its_own_goes_as_ever),
		ASK_TEST(what_is_kept_is_answered_later_or_too_late),
		ASK_TEST(either_may_close_while_it_serves),
		ASK_TEST(what_may_no_longer_be_served_is_not),
		ASK_TEST(what_is_not_served_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
