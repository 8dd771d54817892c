/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world: a loop of either backend, for tests that hold for both. In the simulated
 * one the test itself is the node's code, so node_current is set all the while, and
 * in the end nothing that was allocated is left.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <sys/epoll.h>

#include "base/node.h"
#include "loop/loop.h"
#include "loop/sim.h"

#define MS     1000000ull
#define SECOND (1000 * MS)

static struct loop *loop;
static struct sim *sim;
static struct sim_node *sim_node;

static inline void world_open(bool is_simulated)
{
	struct sim_config config = {
		.seed = 1, .delay_ns_min = MS / 20, .delay_ns_max = MS / 2, .cut_permille = 300
	};

	sim = NULL;
	if (!is_simulated) {
		assert_int_equal(loop_open_epoll(&loop), 0);
		return;
	}
	assert_int_equal(sim_open(&config, &sim), 0);
	assert_int_equal(sim_node_add(sim, 1, &sim_node), 0);
	assert_int_equal(sim_loop_open(sim_node, &loop), 0);
	node_current = sim_node_of(sim_node);
}

static inline void world_close(void)
{
	/* So that a test that failed half-way shows its own message, not an assertion's. */
	if (heap_top(&loop->timers) || !list_is_empty(&loop->tasks) || loop->fibers.alive_count) {
		node_current = NULL;
		fail_msg("timers, tasks or fibers are left");
	}
	loop_close(loop);
	if (!sim)
		return;
	node_current = NULL;
	assert_int_equal(sim_node_bytes(sim_node), 0);
	sim_close(sim);
}

/* With whole milliseconds, as of an old or an emulated kernel, no wait is short. */
static inline bool has_short_waits(struct loop *l)
{
	struct epoll_event event;

	return epoll_pwait2(loop_fd(l), &event, 1, &(struct timespec){ 0 }, NULL) >= 0 ||
	       errno != ENOSYS;
}

static inline void turn_for(uint64_t ns)
{
	uint64_t end_ns = loop->now_ns + ns;

	do
		assert_int_equal(loop_turn(loop, end_ns), 0);
	while (loop->now_ns < end_ns);
	/* On a busy machine the last poll may have ended long after what was due in it. */
	assert_int_equal(loop_turn(loop, end_ns), 0);
}

#define WAIT_FOR(condition)                                            \
	do {                                                           \
		uint64_t end_ns_ = loop->now_ns + 20 * SECOND;         \
		while (!(condition) && loop->now_ns < end_ns_)         \
			assert_int_equal(loop_turn(loop, end_ns_), 0); \
		assert_true(condition);                                \
	} while (0)
