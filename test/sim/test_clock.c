/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: when wall clocks jump, by an hour or by years, forward or back, on one machine or
 * on all, nothing lives longer or shorter for it: ttls, leases, sessions, and bills. Method:
 * a cluster in simulated time, whose clocks jump in the middle of each of these.
 */
#include "../unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/node.h"
#include "cluster.h"

#define SECOND_NS 1000000000ll
#define HOUR_S    3600
#define YEAR_S    (365 * 24 * HOUR_S)

static const struct shape SHAPE = { .shards = 2, .pool_bytes = 64 << 20, .delay_ns_max = 500000 };
static struct cluster cluster;

static struct wadi *client(void)
{
	struct process *p = cluster.clients[OPERATOR];

	node_current = sim_node_of(p->node);
	return p->w;
}

static void run_for(int64_t seconds)
{
	node_current = NULL;
	sim_run(cluster.sim, sim_now_ns(cluster.sim) + (uint64_t)(seconds * SECOND_NS));
}

static void jump(struct sim_node *n, int64_t seconds)
{
	struct node *node = sim_node_of(n);

	sim_node_set_wall(n, node->wall_ns(node) + (uint64_t)(seconds * SECOND_NS));
}

static void jump_all(int64_t seconds)
{
	for (unsigned i = 0; i < cluster.count; i++)
		jump(cluster.processes[i].node, seconds);
}

static void put_for(const char *path, const char *bytes, uint32_t ttl_s)
{
	struct wadi_put_options o = WADI_PUT_OPTIONS;

	o.ttl_ms = ttl_s * 1000;
	assert_int_equal(wadi_put(client(), path, bytes, strlen(bytes), &o, NULL), 0);
}

static void assert_left(const char *path, uint64_t seconds)
{
	struct wadi_stat st;

	assert_int_equal(wadi_stat(client(), path, &st), 0);
	assert_in_range(st.ttl_left_ms, seconds * 1000 - 500, seconds * 1000);
}

static void assert_gone(const char *path)
{
	struct wadi_stat st;
	int r = wadi_stat(client(), path, &st);

	assert_true(r == -ETIME || r == -ENOENT); /* its tombstone may be gone, too */
}

static void show(const char *job, struct wadi_job_info *ret)
{
	assert_int_equal(wadi_job_show(client(), job, ret), 0);
}

/* Billed for `seconds` with what the job has had all the while. */
static void assert_billed(const struct wadi_job_info *before, const struct wadi_job_info *after,
			  uint64_t seconds)
{
	uint64_t billed = after->dram_byte_ms_lo - before->dram_byte_ms_lo;

	assert_int_equal(after->dram_byte_ms_hi, 0);
	assert_true(before->dram_bytes > 0);
	assert_int_equal(after->dram_bytes, before->dram_bytes);
	assert_in_range(billed, before->dram_bytes * (seconds * 1000 - 500),
			before->dram_bytes * (seconds * 1000 + 500));
}

/* All that is measured in time, with a jump of `node`, or of all, half-way. */
static void live_through(void (*jump_now)(int64_t seconds), int64_t seconds)
{
	struct wadi_job_options options = WADI_JOB_OPTIONS;
	char token[WADI_TOKEN_MAX + 1];
	struct wadi_job_info first, second;
	uint64_t session_count;
	struct wadi_store_info info;

	cluster_open(&cluster, 1, &SHAPE);
	put_for("long", "lives for two hours", 2 * HOUR_S);
	put_for("short", "lives for a minute", 60);
	options.lease_ms = 60000;
	assert_int_equal(wadi_job_create(client(), "leased", &options, token), 0);
	assert_int_equal(wadi_store_info(client(), &info), 0);
	session_count = info.session_count;
	run_for(10);
	show("default", &first);
	jump_now(seconds);
	run_for(40);
	assert_left("short", 10);
	show("leased", &second);
	assert_false(second.has_ended);
	assert_in_range(second.lease_left_ms, 9500, 10000);
	show("default", &second);
	assert_billed(&first, &second, 40);

	/* What began before the jump ends when it should, and what begins behind it, too. */
	put_for("later", "lives for a minute from here on", 60);
	run_for(20);
	assert_gone("short");
	assert_left("long", 2 * HOUR_S - 70);
	assert_left("later", 40);
	assert_int_equal(wadi_job_renew(client(), "leased", 60000), -EIDRM);
	run_for(41);
	assert_gone("later");
	assert_int_equal(wadi_store_info(client(), &info), 0);
	assert_int_equal(info.session_count, session_count);
	run_for(2 * HOUR_S - 112);
	assert_left("long", 1);
	run_for(2);
	assert_gone("long");
	node_current = NULL;
	cluster_close(&cluster);
}

static void jump_meta(int64_t seconds)
{
	jump(cluster.meta->node, seconds);
}

static void jump_all_but_meta(int64_t seconds)
{
	jump_all(seconds);
	jump(cluster.meta->node, -seconds);
}

static void jump_and_restart_meta(int64_t seconds)
{
	jump(cluster.meta->node, seconds);
	process_kill(cluster.meta);
	process_start(cluster.meta);
}

static void every_clock_jumps(void **state)
{
	live_through(jump_all, -HOUR_S);
	live_through(jump_all, HOUR_S);
	live_through(jump_all, -10 * YEAR_S);
	live_through(jump_all, 10 * YEAR_S);
}

static void the_clock_of_metadata_jumps(void **state)
{
	live_through(jump_meta, -HOUR_S);
	live_through(jump_meta, HOUR_S);
}

static void every_other_clock_jumps(void **state)
{
	live_through(jump_all_but_meta, -HOUR_S);
	live_through(jump_all_but_meta, HOUR_S);
}

/* The successor finds out by the machine's own clock how long nobody was there. */
static void the_clock_of_metadata_jumps_and_it_is_killed(void **state)
{
	live_through(jump_and_restart_meta, -HOUR_S);
	live_through(jump_and_restart_meta, HOUR_S);
	live_through(jump_and_restart_meta, 10 * YEAR_S);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_clock_jumps),
		cmocka_unit_test(the_clock_of_metadata_jumps),
		cmocka_unit_test(every_other_clock_jumps),
		cmocka_unit_test(the_clock_of_metadata_jumps_and_it_is_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
