/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: who has a session at a metadata shard notices that nobody is there any more, though no
 * connection ends; and who has no memory to find the shards says so, and finds them later. Method:
 * simulated time, a core, and a shard that says HELLO and then nothing, or where it is.
 */
#include "test.h"

#include <errno.h>

#include "core/core.h"
#include "net/conn.h"
#include "world.h"

static struct net *net;
static struct core *core;
static unsigned hello_count, beat_count;
static bool is_silent;

static void hello_serve(struct request *r)
{
	struct wcur w = request_answer(r);
	uint64_t countdown = node_current->fail_countdown;

	node_current->fail_countdown = 0; /* it is the core that lacks memory */
	r->conn->access = node_alloc(sizeof(*r->conn->access));
	node_current->fail_countdown = countdown;
	r->conn->access->role = ROLE_PROXY;
	hello_rep_put(&w,
		      &(struct hello_rep){
			      .version = PROTOCOL_VERSION, .session = 1, .epoch = 1, .job = 7 });
	request_reply(r, &w, NULL);
	hello_count++;
}

static void goes_nowhere(struct request *r)
{
	request_fail(r, -ECANCELED, NULL);
}

static void beat_serve(struct request *r)
{
	struct wcur w;

	beat_count++;
	if (is_silent) {
		r->closed = goes_nowhere;
		return;
	}
	w = request_answer(r);
	heartbeat_rep_put(&w, &(struct heartbeat_rep){ .session = 1, .epoch = 1 });
	request_reply(r, &w, NULL);
}

static struct payload map;
static uint8_t map_bytes[100];

/* It is the only one. */
static void map_serve(struct request *r)
{
	struct wcur w = wcur_make(map_bytes, sizeof(map_bytes));

	address_entry_put(&w, &(struct address_entry){ .incarnation = 1 });
	map = (struct payload){ .ptr = map_bytes, .len = (size_t)wcur_finish(&w) };
	w = request_answer(r);
	map_rep_put(&w, &(struct map_rep){ .shard_count = 1 });
	request_reply(r, &w, &map);
}

static const struct service SHARD = {
	.server = SERVER_META,
	.handlers = { [MESSAGE_HELLO] = { .serve = hello_serve },
		      [MESSAGE_HEARTBEAT] = { .serve = beat_serve },
		      [MESSAGE_MAP] = { .serve = map_serve } },
};

static int to_shard(void *owner, uint16_t index, struct stream **ret)
{
	struct stream *ends[2];
	int r = stream_pair(loop, 65536, ends);

	if (r < 0)
		return r;
	(void)conn_open(net, ends[1], &SHARD, NULL);
	*ret = ends[0];
	return 0;
}

static int setup(void **state)
{
	const struct core_config config = { .shard_count = 1, .to_shard = to_shard };

	hello_count = beat_count = 0;
	is_silent = false;
	world_open(true);
	assert_int_equal(net_open(loop, &net), 0);
	assert_int_equal(core_open(net, &config, &core), 0);
	return 0;
}

static int teardown(void **state)
{
	core_stop(core);
	core_close(core);
	turn_for(MS);
	net_close(net);
	world_close();
	return 0;
}

static void a_shard_that_is_silent_for_a_session_is_left(void **state)
{
	turn_for(120 * SECOND);
	assert_int_equal(hello_count, 1);
	assert_in_range(beat_count, 23, 24);
	is_silent = true;
	turn_for(25 * SECOND);
	assert_int_equal(hello_count, 1); /* it may be stopped, and go on */
	turn_for(20 * SECOND);
	assert_int_equal(hello_count, 2);
	is_silent = false;
	turn_for(120 * SECOND);
	assert_int_equal(hello_count, 2);
}

/* A client that finds by itself who metadata is. */

static int setup_direct(void **state)
{
	static const struct address anywhere;
	const struct core_config config = {
		.metas = &anywhere, .meta_count = 1, .is_direct = true, .to_shard = to_shard
	};

	world_open(true);
	assert_int_equal(net_open(loop, &net), 0);
	assert_int_equal(core_open(net, &config, &core), 0);
	return 0;
}

static struct {
	struct fiber fiber;
	int result;
	bool has_ended;
} asker;

static void ask_run(struct fiber *self)
{
	const struct identity *who;
	char why[200];

	asker.result = core_identify(core, loop->now_ns + 5 * SECOND, &who, why, sizeof(why));
}

static void ask_ended(struct fiber *self)
{
	asker.has_ended = true;
}

static int identify(void)
{
	asker.has_ended = false;
	assert_int_equal(fiber_start(&loop->fibers, &asker.fiber, ask_run, ask_ended), 0);
	WAIT_FOR(asker.has_ended);
	return asker.result;
}

static void who_has_no_memory_for_the_map_asks_again(void **state)
{
	struct node *node = sim_node_of(sim_node);
	uint64_t n = 0;
	bool is_met;
	int r;

	do {
		node->fail_countdown = ++n;
		r = identify();
		is_met = node->fail_countdown == 0;
		node->fail_countdown = 0;
		assert_true(r == 0 || (is_met && (r == -ENOMEM || r == -EHOSTUNREACH)));
		assert_int_equal(identify(), 0);
		(void)teardown(state);
		(void)setup_direct(state);
		node = sim_node_of(sim_node);
	} while (is_met);
	assert_true(n > 5);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_shard_that_is_silent_for_a_session_is_left, setup,
						teardown),
		cmocka_unit_test_setup_teardown(who_has_no_memory_for_the_map_asks_again,
						setup_direct, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
