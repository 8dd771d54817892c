/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: who has a session at a metadata shard notices that nobody is there any more, though no
 * connection ends. Method: simulated time, a core, and a shard that says HELLO and then nothing.
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

	r->conn->access = node_alloc(sizeof(*r->conn->access));
	r->conn->access->role = ROLE_PROXY;
	hello_rep_put(&w,
		      &(struct hello_rep){ .version = PROTOCOL_VERSION, .session = 1, .epoch = 1 });
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

static const struct service SHARD = {
	.server = SERVER_META,
	.handlers = { [MESSAGE_HELLO] = { .serve = hello_serve },
		      [MESSAGE_HEARTBEAT] = { .serve = beat_serve } },
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

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_shard_that_is_silent_for_a_session_is_left, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
