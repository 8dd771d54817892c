/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what seeds of the simulation found stays found: each scenario is what was left
 * of a run when everything that does not matter had been left out.
 *
 * Method: a cluster in simulated time, one client, a few steps. Fibers take notes, and
 * the test reads them.
 */
#include "../unit/test.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "base/node.h"
#include "cluster.h"
#include "look.h"
#include "simulation.h"

#define MS 1000000ull

static struct cluster cluster;
static struct wadi_op op;
static uint8_t bytes[1u << 20], got[1u << 20];
static int64_t results[8];

static void cluster_begin_as(uint64_t seed, const struct shape *s)
{
	log_set_level(LOG_ERROR);
	cluster_open(&cluster, seed, s);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 31 + i / 251);
	memset(got, 0, sizeof(got));
	memset(results, 0xff, sizeof(results));
}

static void cluster_begin(uint64_t seed, uint64_t delay_ns_max)
{
	static const struct shape shape = { .shards = 2,
					    .pool_bytes = 64ull << 20,
					    .snapshot_bytes = 1u << 20 };
	struct shape s = shape;

	s.delay_ns_max = delay_ns_max;
	cluster_begin_as(seed, &s);
}

static void starts_on(struct process *p, struct wadi_op *o, int64_t (*run)(struct wadi_op *op))
{
	node_current = sim_node_of(p->node);
	op_init(o, p->w, "scenario", NULL, 0, run);
	assert_int_equal(op_start(o), 0);
	node_current = NULL;
}

static void client_starts(int64_t (*run)(struct wadi_op *op))
{
	starts_on(cluster.clients[0], &op, run);
}

static void run_for(uint64_t ns)
{
	sim_run(cluster.sim, sim_now_ns(cluster.sim) + ns);
}

/* A fiber of the first client, to its end. */
static void client_runs(int64_t (*run)(struct wadi_op *op))
{
	client_starts(run);
	run_for(60000 * MS);
	assert_true(op.has_ended);
}

static struct slice slice_of(const char *text)
{
	return (struct slice){ (const uint8_t *)text, strlen(text) };
}

static int open_upload(struct wadi_op *o, struct upload *u, const char *path, uint64_t len_hint)
{
	struct put_how how;

	put_how_init(o->w, &how, NULL);
	how.path = slice_of(path);
	op_progress(o);
	return upload_open(o, u, &how, len_hint);
}

/* Parts of equal length, a piece of each in turn. */
static int upload(struct wadi_op *o, const char *path, unsigned part_count, uint32_t part_len,
		  uint32_t piece_len, uint64_t len_hint)
{
	struct upload *u = node_alloc(sizeof(*u));
	int r = open_upload(o, u, path, len_hint);

	for (uint32_t at = 0; at < part_len && r == 0; at += piece_len) {
		uint32_t n = part_len - at < piece_len ? part_len - at : piece_len;

		for (unsigned part = 0; part < part_count && r == 0; part++) {
			struct lane *lane = upload_lane(o, u);

			r = lane ? upload_send(o, u, lane, part, at,
					       bytes + (size_t)part * part_len + at, n)
				 : u->result;
		}
	}
	if (r == 0)
		r = upload_commit(o, u, NULL);
	upload_drop(o->w, u);
	node_free(u);
	return r;
}

static int64_t get(struct wadi_op *o, const char *path)
{
	struct get_how how;

	get_how_init(o->w, &how, NULL);
	how.path = slice_of(path);
	op_progress(o);
	return get_object(o, &how, got, sizeof(got), NULL);
}

static int put(struct wadi_op *o, const char *path, size_t len)
{
	struct put_how how;

	put_how_init(o->w, &how, NULL);
	how.path = slice_of(path);
	op_progress(o);
	return (int)put_object(o, &how, bytes, len, NULL);
}

static int64_t end_of(struct wadi_op *o, const char *job)
{
	struct question q;
	struct wcur w = question_begin(o, &q, MSG_JOB_END);
	int r;

	job_end_req_put(&w, &(struct job_end_req){ .name = slice_of(job) });
	op_progress(o);
	r = question_ask(&q, &w, NULL);
	question_end(&q);
	return r;
}

static int64_t end_job(struct wadi_op *o)
{
	return end_of(o, "default");
}

/* A new job, and its token for all that follows. */
static int join(struct wadi_op *o, const char *job, uint64_t quota)
{
	struct job_create_rep rep;
	struct question q;
	struct rcur body;
	struct conn *c;
	struct wcur w;
	int r;

	op_progress(o);
	r = handle_conn(o, &c);
	if (r < 0)
		return r;
	w = question_begin(o, &q, MSG_JOB_CREATE);
	job_create_req_put(&w,
			   &(struct job_create_req){ .quota_dram = quota, .name = slice_of(job) });
	r = question_ask(&q, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0 && job_create_rep_get(&body, &rep) == 0)
		memcpy(o->w->token, rep.token.ptr, rep.token.len);
	question_end(&q);
	conn_close(c);
	o->w->conn = NULL;
	return r;
}

/* All jobs have ended: the bills are what the stores have counted. */
static void bills_agree_of(bool has_stored)
{
	unsigned __int128 jobs = 0, values = 0, stores = 0;

	for (unsigned i = 0; i < cluster.shape.shards; i++) {
		node_current = sim_node_of(cluster.meta->node);
		shard_bills(cluster.meta->shards[i], &jobs, &values);
	}
	for (unsigned i = 0; i < SHAPE_STORES; i++) {
		node_current = sim_node_of(cluster.stores[i]->node);
		stores += store_bill(cluster.stores[i]->store);
	}
	node_current = NULL;
	assert_true(stores > 0 || !has_stored);
	assert_true(jobs == stores + values);
}

static void bills_agree(void)
{
	bills_agree_of(true);
}

static int64_t small_parts(struct wadi_op *o)
{
	results[0] = upload(o, "parts", 3, 1000, 1000, 0);
	results[1] = get(o, "parts");
	return 0;
}

/* Each part is an extent of its own, and one answer carries one of them. */
static void an_object_of_small_parts_is_read_whole(void **state)
{
	cluster_begin(7, 500000);
	client_runs(small_parts);
	cluster_close(&cluster);
	assert_int_equal(results[0], 0);
	assert_int_equal(results[1], 3000);
	assert_memory_equal(got, bytes, 3000);
}

static int64_t value_in_pieces(struct wadi_op *o)
{
	struct put_how put;
	struct get_how how;
	struct got g = { 0 };

	put_how_init(o->w, &put, NULL);
	put.path = slice_of("value");
	op_progress(o);
	results[0] = put_object(o, &put, bytes, 2000, NULL);
	get_how_init(o->w, &how, NULL);
	how.path = slice_of("value");
	results[1] = get_begin(o, &how, got, 10, &g);
	results[2] = g.len;
	results[3] = get_range(o, &g, 10, got + 10, 1990);
	get_forget(o->w, &g);
	return 0;
}

static void a_small_value_is_read_in_pieces(void **state)
{
	cluster_begin(7, 500000);
	client_runs(value_in_pieces);
	cluster_close(&cluster);
	assert_int_equal(results[0], 0);
	assert_int_equal(results[1], 0);
	assert_int_equal(results[2], 10);
	assert_int_equal(results[3], 0);
	assert_memory_equal(got, bytes, 2000);
}

static int64_t odd_pieces(struct wadi_op *o)
{
	/* What is leased for the length that was said is just enough, without the pages that odd
	 * pieces waste. */
	results[0] = upload(o, "few", 4, 54000, 13500, 216000);
	results[1] = get(o, "few");
	results[2] = memcmp(got, bytes, 216000);
	results[3] = upload(o, "many", 4, 65000, 1300, 260000);
	results[4] = get(o, "many");
	results[5] = memcmp(got, bytes, 260000);
	return 0;
}

static int64_t odd_pieces_alone(struct wadi_op *o)
{
	struct upload *u = node_alloc(sizeof(*u));
	int r = open_upload(o, u, "b", 400000);

	for (unsigned i = 0; i < SHAPE_PROXIES; i++)
		sim_cut(cluster.sim, cluster.meta->id, cluster.proxies[i]->id, true);
	for (uint32_t at = 0; at < 200000 && r == 0; at += 1000) {
		for (unsigned part = 0; part < 2 && r == 0; part++) {
			struct lane *lane = upload_lane(o, u);

			r = lane ? upload_send(o, u, lane, part, at, bytes + at, 1000) : u->result;
		}
	}
	/* And what was on its way behind that? */
	results[0] = 0;
	for (unsigned i = 0; i < LANES; i++) {
		if (!u->lanes[i].is_busy)
			continue;
		call_wait(&u->lanes[i].call);
		results[0] += u->lanes[i].call.result == -EINVAL;
		results[1]++;
	}
	upload_drop(o->w, u);
	node_free(u);
	return r;
}

/*
 * Frames of an upload are on their way behind one whose bytes cannot have a place: they do not go
 * on where it would have ended, and that is not their sender's fault.
 */
static void frames_behind_one_that_has_no_place_are_told_why(void **state)
{
	for (uint64_t seed = 1; seed <= 10; seed++) {
		cluster_begin(seed, 500000);
		client_runs(odd_pieces_alone);
		assert_int_equal(op.result, -EHOSTUNREACH);
		assert_true(results[1] >= 1);
		assert_int_equal(results[0], 0);
		cluster_close(&cluster);
	}
}

static void an_upload_of_known_length_may_come_in_odd_pieces(void **state)
{
	static const int64_t expected[] = { 0, 216000, 0, 0, 260000, 0 };

	cluster_begin(7, 500000);
	client_runs(odd_pieces);
	cluster_close(&cluster);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(results[i], expected[i]);
}

static int64_t quota_run(struct wadi_op *o)
{
	struct put_how how;

	results[0] = 0;
	results[1] = join(o, "small", 1u << 20);
	put_how_init(o->w, &how, NULL);
	for (results[2] = 0; results[2] < 20; results[2]++) {
		char name[2] = { (char)('a' + results[2]), '\0' };

		how.path = slice_of(name);
		how.options.attempt.lo++;
		op_progress(o);
		results[3] = put_object(o, &how, bytes, 200000, NULL);
		if (results[3] < 0)
			break;
	}
	return 0;
}

/* Also where a message takes a while. */
static void that_the_quota_is_used_up_is_heard_before_the_deadline(void **state)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		cluster_begin(seed, 20 * MS);
		client_runs(quota_run);
		cluster_close(&cluster);
		assert_int_equal(results[0], 0);
		assert_int_equal(results[1], 0);
		assert_in_range(results[2], 1, 5);
		assert_int_equal(results[3], -EDQUOT);
	}
}

/*
 * What needs more chance than a few steps give, in whole seeds. Without faults, so nothing may
 * fail.
 *
 * 200007351: a piece of a stream waits for a lease that was asked for just before it came. QUOTA,
 * asked for once more when that was refused, came too late, so it was TIMEOUT.
 * 777002317: a put had room in its quota in the moment of its deadline, and heard NOSPACE.
 * 300065495: a stream waited for most of its time, had a part of what it needs, and began another
 * wait, whose end it did not hear: TIMEOUT.
 * 880001295: the same of a store that is nearly full, and it was told that its job has no quota
 * left, which has none at all.
 */
static void what_is_said_at_a_deadline_is_heard_and_true(void **state)
{
	static const uint64_t seeds[] = { 200007351, 777002317, 3995390913, 300065495, 880001295 };
	static struct outcome_of o;

	for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]); i++) {
		simulate(seeds[i], "", &o);
		assert_string_equal(o.failure, "");
	}
}

/*
 * The end of a durable job was read at a restart, before the log could be written, and nothing came
 * after it: nobody made it safe, so nobody was told, and JOB_END was never answered.
 */
static void an_end_that_was_read_at_a_restart_is_made_safe(void **state)
{
	static struct outcome_of o;

	simulate(80005934, "power:meta@4197+35761=601", &o);
	assert_string_equal(o.failure, "");
}

/*
 * A successor wrote the log's file anew, from its beginning, and the power was cut before that was
 * synced: what its predecessor had made safe there was gone.
 */
static void what_is_safe_is_not_written_over_and_left_so(void **state)
{
	static struct outcome_of o;

	simulate(81008627,
		 "stall:client4-host1@1626+1,pause:meta@4988+22488,kill:meta@19752#7+3850,"
		 "power:meta@24673#34+1=693,power:meta@27729+1=91",
		 &o);
	assert_string_equal(o.failure, "");
}

/*
 * The last byte of a counted read was on its way when the power was cut, and RELEASE was sent
 * again: that its hold was gone was taken for a sign that the first had used the read up.
 */
static void a_read_that_the_power_took_back_is_not_taken_for_used(void **state)
{
	static struct outcome_of o;

	simulate(900053687, "power:meta@849#15+888=485", &o);
	assert_string_equal(o.failure, "");
}

/* The same, and it was the session of a direct client that was over: 2 s after its connection. */
static void nor_is_a_read_of_a_session_that_was_over(void **state)
{
	static struct outcome_of o;

	simulate(1000018823, "slow:@3470+509=3,alone:direct1@8007#30+4170,slow:@8924+3315=176", &o);
	assert_string_equal(o.failure, "");
}

/*
 * A direct client was stopped until its put was late, and its connection to metadata had gone
 * meanwhile: it was told that its own, to the proxy in its process, was lost, and its bytes with
 * it.
 */
static void that_metadata_was_not_reached_is_not_said_of_the_proxy(void **state)
{
	static struct outcome_of o;

	simulate(4400608,
		 "pause:direct3@1278#4+3864,kill:store0@5153+8236,"
		 "stall:client0-proxy0@6019#25+2291,pause:direct2@6848#28+8634",
		 &o);
	assert_string_equal(o.failure, "");
}

/* A store without its keeper, and another with room. */
static void a_store_that_can_make_no_room_is_not_waited_for_to_the_last(void **state)
{
	static struct outcome_of o;

	simulate(6000168, "keeper:store1@8847+6489", &o);
	assert_string_equal(o.failure, "");
}

/* A job's end was told at HELLO when it was safe, and by then MAP behind it had been DENIED. */
static void that_a_job_has_ended_is_heard_though_it_is_told_late(void **state)
{
	static struct outcome_of o;

	simulate(1000200084,
		 "cut:client0-host0@1274+1,alone:client0@2746+2227,host:host0@5491#20+12502,"
		 "slow:@7828+314=104,slow:@8259+1=67,kill:direct3@9554+1",
		 &o);
	assert_string_equal(o.failure, "");
}

/* Versions that the power took back were given again, to other objects. */
static void no_version_is_given_twice_when_the_power_was_cut(void **state)
{
	static struct outcome_of o;

	simulate(770001235, "power:meta@5943#9+1=369", &o);
	assert_string_equal(o.failure, "");
}

/* The end of a job had been acknowledged, and it lived again; its stores had given up its bytes. */
static void a_job_that_has_ended_stays_so_when_the_power_is_cut(void **state)
{
	static struct outcome_of o;

	simulate(880000041, "power:meta@9641+1=0", &o);
	assert_string_equal(o.failure, "");
}

static uint64_t quota; /* of job `small` */

static int64_t join_small(struct wadi_op *o)
{
	results[0] = join(o, "small", quota);
	return 0;
}

static int64_t fill_the_quota(struct wadi_op *o)
{
	results[1] = upload(o, "a", 1, (uint32_t)quota, 65536, 524288);
	snprintf((char *)got, sizeof(got), "%s", o->why);
	return 0;
}

/* All of it is used by the bytes, and the table of their sums has no place: which says so. */
static void a_table_of_sums_without_a_place_says_why(void **state)
{
	quota = 1u << 20;
	cluster_begin(1, 20 * MS);
	client_runs(join_small);
	client_runs(fill_the_quota);
	cluster_close(&cluster);
	assert_int_equal(results[1], -EDQUOT);
	assert_non_null(strstr((char *)got, "quota of 1048576"));
}

static uint64_t hesitates_ms;

/* Has a segment of the quota for a while. */
static int64_t hesitate(struct wadi_op *o)
{
	struct upload *u = node_alloc(sizeof(*u));
	struct waitq nobody;

	memcpy(o->w->token, cluster.clients[0]->w->token, sizeof(o->w->token));
	results[1] = open_upload(o, u, "other", 60000);
	waitq_init(&nobody, &o->w->loop->fibers);
	(void)waitq_wait(&nobody, o->w->loop->now_ns + hesitates_ms * MS);
	upload_drop(o->w, u);
	node_free(u);
	return 0;
}

/* Each part in one piece, and all at once: 261,675 bytes. */
static int64_t put_parts(struct wadi_op *o, const uint32_t *lens, unsigned count)
{
	struct upload *u = node_alloc(sizeof(*u));
	uint64_t begun_ns = o->w->loop->now_ns;
	size_t at = 0;

	results[2] = open_upload(o, u, "parts", 261675);
	for (unsigned i = 0; i < count; i++) {
		(void)upload_send(o, u, upload_lane(o, u), i, 0, bytes + at, lens[i]);
		at += lens[i];
	}
	results[3] = upload_commit(o, u, NULL);
	results[6] = (int64_t)((o->w->loop->now_ns - begun_ns) / MS);
	upload_drop(o->w, u);
	node_free(u);
	results[4] = get(o, "parts");
	results[5] = memcmp(got, bytes, 261675);
	return 0;
}

/* When the last one lacks room, the one before has waited for some, too. */
static int64_t parts_at_once(struct wadi_op *o)
{
	return put_parts(o, (const uint32_t[]){ 94360, 78124, 35181, 54010 }, 4);
}

/* Nobody lacks room before the last one does. */
static int64_t two_parts_at_once(struct wadi_op *o)
{
	return put_parts(o, (const uint32_t[]){ 100001, 161674 }, 2);
}

/* In pieces of which none fits into what another gives back. */
static int64_t stream_in_pieces(struct wadi_op *o)
{
	results[2] = upload(o, "a", 1, 1u << 20, 262144, 0);
	snprintf((char *)got, sizeof(got), "%s", o->why);
	return 0;
}

/* Late in its wait a stream has a part of what it needs: it is the quota that has no more. */
static void a_stream_that_has_too_little_of_a_quota_late_is_told_so(void **state)
{
	static struct wadi_op other;

	quota = 512u << 10;
	cluster_begin(1, MS);
	client_runs(join_small);
	hesitates_ms = 4700;
	starts_on(cluster.clients[1], &other, hesitate);
	run_for(300 * MS);
	client_runs(stream_in_pieces);
	cluster_close(&cluster);
	assert_int_equal(results[1], 0);
	assert_int_equal(results[2], -EDQUOT);
	assert_non_null(strstr((char *)got, "of the quota of its job there were"));
}

static void odd_parts(uint64_t seed, uint64_t quota_bytes, bool has_other)
{
	static const int64_t expected[] = { 0, 0, 0, 0, 261675, 0 };
	static struct wadi_op other;

	quota = quota_bytes;
	cluster_begin(seed, 20 * MS);
	client_runs(join_small);
	results[1] = 0;
	if (has_other) {
		hesitates_ms = 1000;
		starts_on(cluster.clients[1], &other, hesitate);
		run_for(300 * MS);
	}
	client_runs(parts_at_once);
	cluster_close(&cluster);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(results[i], expected[i]);
	assert_in_range(results[6], 0, has_other ? 1200 : 600);
}

/*
 * Pages that odd pieces waste are leased when one has no place, or come with the lease that an
 * answer waits for: one segment is enough for both, and neither waits on when it is there.
 */
static void odd_parts_take_no_more_than_they_need(void **state)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		odd_parts(seed, 320 << 10, false);
		odd_parts(seed, 320 << 10, true);
		odd_parts(seed, 8 << 20, false);
	}
}

static void put_without_a_keeper(unsigned store, int64_t (*run)(struct wadi_op *o))
{
	static const struct shape shape = { .shards = 1,
					    .keeps_stores = true,
					    .pool_bytes = 64ull << 20,
					    .snapshot_bytes = 1u << 20,
					    .delay_ns_max = 20 * MS };

	quota = 0;
	cluster_begin_as(1, &shape);
	process_keeper_down(cluster.stores[store], true);
	client_runs(join_small);
	client_runs(run);
	cluster_close(&cluster);
	for (unsigned i = 2; i < 6; i++)
		assert_int_equal(results[i], i == 4 ? 261675 : 0);
	assert_in_range(results[6], 1000, 4000);
}

/*
 * A store without its keeper makes no segments, and seems to have most room: the place that odd
 * pieces lack is of the other one.
 */
static void odd_parts_are_put_beside_a_store_without_its_keeper(void **state)
{
	for (unsigned i = 0; i < SHAPE_STORES; i++) {
		put_without_a_keeper(i, parts_at_once);
		put_without_a_keeper(i, two_parts_at_once);
	}
}

static int64_t two_parts_within_two_seconds(struct wadi_op *o)
{
	o->timeout_ms = 2000;
	return two_parts_at_once(o);
}

/* Who has less time than a place may take is told in it that there is none. */
static void that_an_odd_part_has_no_place_is_heard_in_time(void **state)
{
	quota = 256u << 10;
	cluster_begin(1, 20 * MS);
	client_runs(join_small);
	client_runs(two_parts_within_two_seconds);
	cluster_close(&cluster);
	assert_int_equal(results[2], 0);
	assert_int_equal(results[3], -EDQUOT);
}

static int64_t put_and_get(struct wadi_op *o)
{
	results[0] = put(o, "a", 200000);
	results[1] = get(o, "a");
	return 0;
}

/*
 * A store that comes back lists segments whose grant has not been heard of. While it is
 * still to be asked for them again they are no strays: what was written there would be
 * lost. The connection breaks at each moment of a put.
 */
static void a_grant_whose_answer_was_lost_is_no_stray(void **state)
{
	for (uint64_t at_ns = 0; at_ns < 12 * MS; at_ns += MS / 10) {
		cluster_begin(3, 500000);
		run_for(1000 * MS);
		client_starts(put_and_get);
		run_for(at_ns);
		for (unsigned i = 0; i < SHAPE_STORES; i++) {
			sim_cut(cluster.sim, cluster.meta->id, cluster.stores[i]->id, true);
			sim_cut(cluster.sim, cluster.meta->id, cluster.stores[i]->id, false);
		}
		run_for(20000 * MS);
		assert_true(op.has_ended);
		assert_int_equal(results[0], 0);
		assert_int_equal(results[1], 200000);
		assert_memory_equal(got, bytes, 200000);
		client_runs(end_job);
		bills_agree();
		cluster_close(&cluster);
	}
}

static int64_t put_large(struct wadi_op *o)
{
	results[0] = put(o, "a", sizeof(bytes));
	return 0;
}

/* A function is stopped in a put until that is late, and its proxy has been killed meanwhile. */
static void the_bytes_of_a_put_are_not_gone_with_a_connection(void **state)
{
	for (uint64_t at_ns = 0; at_ns < 600 * MS; at_ns += 10 * MS) {
		cluster_begin(5, 20 * MS);
		run_for(1000 * MS);
		client_starts(put_large);
		run_for(at_ns);
		sim_node_pause(cluster.clients[0]->node, true);
		process_kill(cluster.proxies[0]);
		process_start(cluster.proxies[0]);
		run_for(8000 * MS);
		sim_node_pause(cluster.clients[0]->node, false);
		run_for(20000 * MS);
		assert_true(op.has_ended);
		assert_true(results[0] == 0 || results[0] == -ETIMEDOUT ||
			    results[0] == -EHOSTUNREACH);
		cluster_close(&cluster);
	}
}

static int64_t put_some(struct wadi_op *o)
{
	results[0] = put(o, "a", 40000);
	return 0;
}

/* Likewise, and a power cut took what metadata knew of it: there is no time to put it anew. */
static void a_put_that_is_late_is_late_whatever_it_could_do_with_more_time(void **state)
{
	static const struct shape shape = { .shards = 2,
					    .pool_bytes = 64ull << 20,
					    .snapshot_bytes = 1u << 20,
					    .has_archive = true,
					    .delay_ns_max = 20 * MS };

	for (uint64_t at_ns = 0; at_ns < 300 * MS; at_ns += 5 * MS) {
		cluster_begin_as(6, &shape);
		run_for(3000 * MS);
		client_starts(put_some);
		run_for(at_ns);
		process_cut_power(cluster.meta, 1);
		run_for(1000 * MS);
		sim_node_pause(cluster.clients[0]->node, true);
		process_start(cluster.meta);
		run_for(40000 * MS);
		sim_node_pause(cluster.clients[0]->node, false);
		run_for(20000 * MS);
		assert_true(op.has_ended);
		assert_true(results[0] == 0 || results[0] == -ETIMEDOUT);
		cluster_close(&cluster);
	}
}

static int64_t put_two(struct wadi_op *o)
{
	/* One at each store: each goes where most room is. */
	results[0] = put(o, "a", 200000);
	results[1] = put(o, "b", 200000);
	return 0;
}

static int64_t get_two(struct wadi_op *o)
{
	results[2] = get(o, "a");
	results[3] = get(o, "b");
	return 0;
}

/*
 * A store that was killed is back at once, and its HELLO overtakes the end of its old
 * connection: what it had is lost all the same, and does not stay as if it were there.
 */
static void a_store_that_comes_back_fast_has_lost_its_bytes(void **state)
{
	unsigned lost = 0;

	for (uint64_t seed = 1; seed <= 10; seed++) {
		char why[200] = "";

		cluster_begin(seed, 500000);
		client_runs(put_two);
		sim_set_delay(cluster.sim, 200 * MS);
		for (unsigned i = 0; i < SHAPE_STORES; i++)
			process_kill(cluster.stores[i]);
		sim_set_delay(cluster.sim, 500000);
		for (unsigned i = 0; i < SHAPE_STORES; i++)
			process_start(cluster.stores[i]);
		run_for(5000 * MS);
		client_runs(get_two);
		lost += (results[2] == -EREMOTEIO) + (results[3] == -EREMOTEIO);
		client_runs(end_job);
		for (unsigned i = 0; i < cluster.shape.shards; i++)
			if (!shard_is_empty(cluster.meta->shards[i], why, sizeof(why)))
				break;
		cluster_close(&cluster);
		assert_string_equal(why, "");
	}
	assert_int_equal(lost, 20);
}

static void meta_starts_again(void)
{
	process_kill(cluster.meta);
	process_start(cluster.meta);
}

static void all_is_gone(void)
{
	char why[200] = "";

	client_runs(end_job);
	run_for(5000 * MS);
	for (unsigned i = 0; i < cluster.shape.shards && !why[0]; i++)
		(void)shard_is_empty(cluster.meta->shards[i], why, sizeof(why));
	for (unsigned i = 0; i < SHAPE_STORES && !why[0]; i++)
		if (cluster.stores[i]->is_up)
			(void)store_is_empty(cluster.stores[i]->store, why, sizeof(why));
	assert_string_equal(why, "");
}

/* Both were away at once, and metadata knows from its log whose successors they are. */
static void a_stores_successor_is_known_to_metadatas_successor(void **state)
{
	for (unsigned order = 0; order < 2; order++) {
		cluster_begin(7, 500000);
		client_runs(put_two);
		process_kill(cluster.meta);
		for (unsigned i = 0; i < SHAPE_STORES; i++)
			process_kill(cluster.stores[i]);
		if (order == 0)
			process_start(cluster.meta);
		for (unsigned i = 0; i < SHAPE_STORES; i++)
			process_start(cluster.stores[i]);
		if (order == 1)
			process_start(cluster.meta);
		run_for(5000 * MS);
		client_starts(get_two);
		run_for(100 * MS);
		assert_true(op.has_ended); /* at once */
		assert_int_equal(results[2], -EREMOTEIO);
		assert_int_equal(results[3], -EREMOTEIO);
		all_is_gone();
		cluster_close(&cluster);
	}
}

/* Its host is lost, and nobody else has its address. */
static void a_store_that_is_gone_for_good_has_lost_its_bytes(void **state)
{
	for (unsigned restarts = 0; restarts < 3; restarts++) {
		cluster_begin(7, 500000);
		client_runs(put_two);
		process_kill(cluster.stores[0]);
		if (restarts > 0)
			meta_starts_again();
		run_for((STORE_GONE_MS - 100000) * MS);
		client_runs(get_two);
		assert_int_equal((results[2] == -EHOSTUNREACH) + (results[3] == -EHOSTUNREACH), 1);
		if (restarts > 1)
			meta_starts_again(); /* it waits as long as the one before it */
		run_for((restarts > 1 ? STORE_GONE_MS : 100000) * MS);
		client_starts(get_two);
		run_for(100 * MS);
		assert_true(op.has_ended);
		assert_int_equal((results[2] == -EREMOTEIO) + (results[3] == -EREMOTEIO), 1);
		assert_int_equal((results[2] == 200000) + (results[3] == 200000), 1);
		all_is_gone();
		cluster_close(&cluster);
	}
}

static void cut_from_meta(bool is_cut)
{
	sim_cut(cluster.sim, cluster.meta->id, cluster.stores[0]->id, is_cut);
}

/* No process of it was ever gone. */
static void a_store_that_was_out_of_reach_comes_back_with_its_bytes(void **state)
{
	for (unsigned restarts = 0; restarts < 2; restarts++) {
		cluster_begin(7, 500000);
		client_runs(put_two);
		cut_from_meta(true);
		run_for((STORE_GONE_MS - 10000) * MS);
		if (restarts)
			meta_starts_again();
		run_for((restarts ? STORE_GONE_MS - 10000 : 1000) * MS);
		cut_from_meta(false);
		run_for(10000 * MS);
		client_runs(get_two);
		assert_int_equal(results[2], 200000);
		assert_int_equal(results[3], 200000);
		client_runs(end_job);
		bills_agree();
		cluster_close(&cluster);
	}
}

/* What was given up stays so; what it still has is freed, and it takes part again. */
static void a_store_that_comes_back_too_late_frees_what_it_has(void **state)
{
	cluster_begin(7, 500000);
	client_runs(put_two);
	cut_from_meta(true);
	run_for((STORE_GONE_MS + 10000) * MS);
	meta_starts_again();
	cut_from_meta(false);
	run_for(10000 * MS);
	client_runs(get_two);
	assert_int_equal((results[2] == -EREMOTEIO) + (results[3] == -EREMOTEIO), 1);
	client_runs(put_two);
	client_runs(get_two);
	assert_int_equal(results[2], 200000);
	assert_int_equal(results[3], 200000);
	assert_memory_equal(got, bytes, 200000);
	all_is_gone();
	cluster_close(&cluster);
}

static int64_t put_one(struct wadi_op *o)
{
	results[0] = put(o, "a", 200000);
	return 0;
}

static int64_t get_one(struct wadi_op *o)
{
	results[1] = get(o, "a");
	return 0;
}

/* Metadata and a proxy are new; the stores come back to them two seconds later. */
static void a_store_that_has_not_come_back_yet_is_not_lost(void **state)
{
	cluster_begin(7, 500000);
	client_runs(put_one);
	process_kill(cluster.meta);
	process_kill(cluster.proxies[0]);
	for (unsigned i = 0; i < SHAPE_STORES; i++)
		sim_cut(cluster.sim, cluster.meta->id, cluster.stores[i]->id, true);
	process_start(cluster.meta);
	process_start(cluster.proxies[0]);
	client_starts(get_one);
	run_for(2000 * MS);
	for (unsigned i = 0; i < SHAPE_STORES; i++)
		sim_cut(cluster.sim, cluster.meta->id, cluster.stores[i]->id, false);
	run_for(10000 * MS);
	assert_true(op.has_ended);
	cluster_close(&cluster);
	assert_int_equal(results[0], 0);
	assert_int_equal(results[1], 200000);
	assert_memory_equal(got, bytes, 200000);
}

static int64_t put_ten(struct wadi_op *o)
{
	o->timeout_ms = 2000;
	results[1] = 0;
	for (unsigned i = 0; i < 10; i++) {
		char name[2] = { (char)('a' + i), '\0' };

		results[0] = put(o, name, 300000);
		results[1] += results[0] == 0;
	}
	return 0;
}

/* The store that is stopped has most room, since nothing can be put there. */
static void a_store_that_does_not_answer_is_not_asked_first(void **state)
{
	for (unsigned i = 0; i < SHAPE_STORES; i++) {
		cluster_begin(7 + i, 500000);
		run_for(1000 * MS);
		sim_node_pause(cluster.stores[i]->node, true);
		client_runs(put_ten);
		cluster_close(&cluster);
		assert_int_equal(results[0], 0);
		assert_true(results[1] >= 9); /* the first one had to find out */
	}
}

static int64_t puts_in_vain(struct wadi_op *o)
{
	o->timeout_ms = 500;
	for (unsigned i = 0; i < 30; i++) {
		char name[3] = { 'a', (char)('a' + i), '\0' };

		results[0] = put(o, name, 30000);
		if (results[0] == 0)
			break;
	}
	return 0;
}

/* Each ask is answered once, whoever has given up by then; and what it brought goes back. */
static void asks_of_a_store_that_was_stopped_leave_nothing(void **state)
{
	for (uint64_t seed = 1; seed <= 5; seed++) {
		char why[200] = "";

		cluster_begin(seed, 500000);
		run_for(1000 * MS);
		for (unsigned i = 0; i < SHAPE_STORES; i++)
			sim_node_pause(cluster.stores[i]->node, true);
		client_runs(puts_in_vain);
		for (unsigned i = 0; i < SHAPE_STORES; i++)
			sim_node_pause(cluster.stores[i]->node, false);
		run_for(10000 * MS);
		client_runs(end_job);
		bills_agree();
		for (unsigned i = 0; i < SHAPE_STORES; i++)
			if (!store_is_empty(cluster.stores[i]->store, why, sizeof(why)))
				break;
		cluster_close(&cluster);
		assert_true(results[0] < 0);
		assert_string_equal(why, "");
	}
}

/* In a job of its own. */
static int64_t put_long(struct wadi_op *o)
{
	results[1] = join(o, "mine", 0);
	results[0] = put(o, "long", sizeof(bytes));
	return 0;
}

static int64_t get_long(struct wadi_op *o)
{
	results[1] = get(o, "long");
	return 0;
}

static struct wadi_op ender;

static int64_t end_run(struct wadi_op *o)
{
	results[2] = end_of(o, "mine");
	return 0;
}

static uint64_t sent_by(const struct process *p)
{
	return net_counters(p->net)->sent_bytes;
}

/* A get is on its way when its proxy is stopped, its job ends, and the proxy goes on. */
static void stop_in_a_get(bool is_together, uint64_t wait_ns)
{
	static const struct shape shape = { .shards = 2,
					    .pool_bytes = 64ull << 20,
					    .delay_ns_max = 500000 };
	struct shape s = shape;
	struct process *proxy;
	uint64_t sent;

	s.is_together = is_together;
	log_set_level(LOG_ERROR);
	cluster_open(&cluster, 5, &s);
	proxy = cluster.proxies[0];
	client_runs(put_long);
	assert_int_equal(results[0], 0);
	sent = sent_by(proxy);
	results[1] = results[2] = 1;
	client_starts(get_long);
	while (sent_by(proxy) < sent + 300000)
		run_for(MS / 50);
	run_for(wait_ns);
	sim_node_pause(proxy->node, true);
	sent = sent_by(proxy);
	node_current = sim_node_of(cluster.clients[1]->node);
	op_init(&ender, cluster.clients[1]->w, "end", NULL, 0, end_run);
	assert_int_equal(op_start(&ender), 0);
	node_current = NULL;
	/* The job's end is acknowledged long before the proxy goes on; from then on its bytes are
	 * unreadable. */
	run_for(2000 * MS);
	assert_int_equal(results[2], 0);
	run_for(38000 * MS);
	sim_node_pause(proxy->node, false);
	run_for(60000 * MS);
	assert_true(op.has_ended);
	assert_true(results[1] < 0);
	assert_in_range(sent_by(proxy), sent, sent + 20000); /* it says HELLO again, and such */
	cluster_close(&cluster);
}

static void a_get_that_outlives_its_job_in_a_stopped_proxy_is_cut(void **state)
{
	for (uint64_t i = 0; i < 10; i++) {
		stop_in_a_get(false, i * MS / 10);
		stop_in_a_get(true, i * MS / 10);
	}
}

static int64_t join_mine(struct wadi_op *o)
{
	results[0] = join(o, "mine", 0);
	return 0;
}

/* Everything that a slot tells a store or a proxy: SEGMENT, SEAL, FREE, JOB_OVER. */
static int64_t all_duties(struct wadi_op *o)
{
	results[1] = put(o, "a", 200000);
	results[2] = put(o, "a", 300000);
	results[3] = put(o, "b", 3000);
	results[4] = upload(o, "c", 2, 100000, 50000, 0);
	results[5] = get(o, "a");
	return 0;
}

static int64_t end_mine(struct wadi_op *o)
{
	/* Of another job, or its own connection would be cut before the answer. */
	o->w->token[0] = '\0';
	if (o->w->conn)
		conn_close(o->w->conn);
	o->w->conn = NULL;
	results[6] = end_of(o, "mine");
	return 0;
}

static int64_t put_as_a_function(struct wadi_op *o)
{
	process_attach(cluster.clients[1], cluster.clients[0]->w->token);
	results[1] = put(o, "a", 300000);
	return 0;
}

static int64_t get_a(struct wadi_op *o)
{
	results[2] = get(o, "a");
	return 0;
}

/* That slots have of the store. */
static unsigned segments_owned(void)
{
	struct owned list[16];
	unsigned n = 0;

	for (unsigned i = 0; i < cluster.shape.shards; i++)
		n += shard_segments(cluster.meta->shards[i], list, 16);
	return n;
}

static int64_t get_of_mine(struct wadi_op *o)
{
	memcpy(o->w->token, cluster.clients[0]->w->token, sizeof(o->w->token));
	results[3] = get(o, "a");
	return 0;
}

/*
 * Metadata has said that the job lives, and then that it has ended, and both come to the proxy at
 * once: nobody is bound to it any more.
 */
static void no_function_is_bound_to_a_job_that_has_ended(void **state)
{
	unsigned bound = 0;

	for (unsigned nth = 1; nth <= 8; nth++) {
		struct sim_watch w = { .left = nth };
		static struct wadi_op other;
		unsigned left;

		cluster_begin(nth, 500000);
		client_runs(join_mine);
		w.a = cluster.meta->id;
		w.b = cluster.proxies[0]->id;
		list_init(&w.link);
		sim_watch(cluster.sim, &w);
		starts_on(cluster.clients[2], &other, get_of_mine);
		run_for(1000 * MS);
		sim_unwatch(&w);
		bound += proxy_functions(cluster.proxies[0]->proxy, slice_of("mine"));
		sim_stall(cluster.sim, w.a, w.b, true);
		starts_on(cluster.clients[1], &op, end_mine);
		run_for(2000 * MS);
		assert_true(op.has_ended);
		assert_int_equal(results[6], 0);
		sim_stall(cluster.sim, w.a, w.b, false);
		run_for(100 * MS);
		left = proxy_functions(cluster.proxies[0]->proxy, slice_of("mine"));
		cluster_close(&cluster);
		assert_true(other.has_ended);
		assert_int_equal(results[3], -EIDRM);
		assert_int_equal(left, 0);
	}
	assert_in_range(bound, 1, 7); /* some had been before it ended */
}

static int64_t put_a_large_one(struct wadi_op *o)
{
	results[2] = put(o, "a", 200000);
	return 0;
}

static int64_t get_the_large_one(struct wadi_op *o)
{
	results[3] = get(o, "a");
	return 0;
}

/* Stores have begun anew, and metadata does not hear of it for a while. */
static void what_a_store_does_not_have_is_not_asked_for_all_the_time(void **state)
{
	struct sim_watch w = { .left = 1000000 };
	unsigned asked;

	cluster_begin(1, 100000);
	client_runs(join_mine);
	client_runs(put_a_large_one);
	assert_int_equal(results[2], 0);
	for (unsigned i = 0; i < SHAPE_STORES; i++) {
		sim_stall(cluster.sim, cluster.meta->id, cluster.stores[i]->id, true);
		process_kill(cluster.stores[i]);
		process_start(cluster.stores[i]);
	}
	w.a = cluster.meta->id;
	w.b = cluster.proxies[0]->id;
	list_init(&w.link);
	client_starts(get_the_large_one);
	sim_watch(cluster.sim, &w);
	run_for(4000 * MS);
	sim_unwatch(&w);
	asked = 1000000 - w.left;
	assert_false(op.has_ended);
	for (unsigned i = 0; i < SHAPE_STORES; i++)
		sim_stall(cluster.sim, cluster.meta->id, cluster.stores[i]->id, false);
	run_for(1000 * MS);
	assert_true(op.has_ended);
	assert_int_equal(results[3], -EREMOTEIO);
	cluster_close(&cluster);
	assert_in_range(asked, 40, 400); /* heartbeats and renewals among them */
}

static int64_t put_until_refused(struct wadi_op *o)
{
	char name[8];

	results[1] = 0;
	for (unsigned i = 0; i < 30 && results[1] == 0; i++) {
		snprintf(name, sizeof(name), "%u", i);
		results[1] = put(o, name, sizeof(bytes));
	}
	snprintf((char *)got, sizeof(got), "%s", o->why);
	return 0;
}

/* There is room, and nobody to hold it: to remove objects would not help. */
static void a_store_without_its_keeper_says_so(void **state)
{
	static const struct shape shape = { .shards = 1,
					    .keeps_stores = true,
					    .pool_bytes = 64ull << 20,
					    .snapshot_bytes = 1u << 20,
					    .delay_ns_max = 100000 };

	cluster_begin_as(1, &shape);
	client_runs(join_mine);
	for (unsigned i = 0; i < SHAPE_STORES; i++)
		process_keeper_down(cluster.stores[i], true);
	client_runs(put_until_refused);
	cluster_close(&cluster);
	assert_int_equal(results[1], -ENOSPC);
	assert_non_null(strstr((char *)got, "its keeper does not answer"));
	assert_null(strstr((char *)got, "remove objects"));
}

/* It has a proxy of its own, which nobody comes after. */
static void what_a_killed_function_had_open_is_given_back(void **state)
{
	static const struct shape shape = { .shards = 2,
					    .directs = 1 << 1,
					    .pool_bytes = 64ull << 20,
					    .snapshot_bytes = 1u << 20,
					    .delay_ns_max = 500000 };
	unsigned none = 0, whole = 0;

	for (unsigned nth = 1; nth <= 40; nth++) {
		struct sim_watch w = { .left = nth };
		struct wadi_op other;

		cluster_begin_as(nth, &shape);
		client_runs(join_mine);
		w.a = cluster.clients[1]->id;
		list_init(&w.link);
		sim_watch(cluster.sim, &w);
		starts_on(cluster.clients[1], &other, put_as_a_function);
		run_for(5000 * MS);
		sim_unwatch(&w);
		process_kill(cluster.clients[1]);
		run_for((FUNCTION_GONE_MS + 2000) * MS);
		client_starts(get_a);
		run_for(1000 * MS);
		assert_true(op.has_ended);
		assert_true(results[2] == -ENOENT || results[2] == 300000);
		if (results[2] == -ENOENT)
			assert_int_equal(segments_owned(), 0);
		else
			assert_memory_equal(got, bytes, 300000);
		none += results[2] == -ENOENT;
		whole += results[2] == 300000;
		client_runs(end_mine);
		assert_int_equal(results[6], 0);
		all_is_gone();
		cluster_close(&cluster);
	}
	assert_in_range(none, 10, 39);
	assert_in_range(whole, 1, 30);
}

/* Clients on the host of their proxy, which is the store of that host. */
static const struct shape NEAR = { .shards = 2,
				   .is_together = true,
				   .is_near = true,
				   .keeps_stores = true,
				   .pool_bytes = 64ull << 20,
				   .snapshot_bytes = 1u << 20,
				   .delay_ns_max = 500000 };

static struct reserved reserved;

static int64_t reserve_a(struct wadi_op *o)
{
	results[1] = reserved_begin(o, 300000, o->w->loop->now_ns, &reserved);
	if (results[1] == 0)
		results[1] = reserved_map(o, &reserved);
	return 0;
}

static int64_t put_reserved(struct wadi_op *o)
{
	struct put_how how;

	put_how_init(o->w, &how, NULL);
	how.path = slice_of("a");
	op_progress(o);
	results[2] = reserved_put(o, &reserved, &how, NULL, op_since(o), NULL);
	reserved_end(o->w, &reserved);
	return 0;
}

static int64_t get_as_another(struct wadi_op *o)
{
	memcpy(o->w->token, cluster.clients[0]->w->token, sizeof(o->w->token));
	results[3] = get(o, "a");
	return 0;
}

/* The function has written; then it is told to go on, whatever has happened since. */
static void write_in_place(uint64_t seed)
{
	cluster_begin_as(seed, &NEAR);
	process_kill(cluster.stores[1]); /* or it could lie there */
	run_for(1000 * MS);
	client_runs(join_mine);
	assert_int_equal(results[0], 0);
	client_runs(reserve_a);
	assert_int_equal(results[1], 0);
	memcpy(reserved.data, bytes, 300000);
}

static void what_is_written_in_place_is_put(void **state)
{
	struct wadi_op other;

	write_in_place(3);
	client_runs(put_reserved);
	assert_int_equal(results[2], 0);
	starts_on(cluster.clients[2], &other, get_as_another);
	run_for(1000 * MS);
	assert_int_equal(results[3], 300000);
	assert_memory_equal(got, bytes, 300000);
	client_runs(end_mine);
	all_is_gone();
	cluster_close(&cluster);
}

/* Its proxy was killed, or its job has ended: the bytes are no object's, and nobody's. */
static void what_was_taken_from_its_writer_is_stale(void **state)
{
	for (unsigned what = 0; what < 2; what++) {
		write_in_place(4 + what);
		if (what == 0) {
			process_kill(cluster.proxies[0]);
			process_start(cluster.proxies[0]);
			run_for(1000 * MS);
		} else {
			struct wadi_op other;

			starts_on(cluster.clients[2], &other, end_mine);
			run_for(5000 * MS);
			assert_int_equal(results[6], 0);
		}
		memset(reserved.data, 0xee, 300000); /* it knows of nothing */
		client_runs(put_reserved);
		assert_int_equal(results[2], -ESTALE);
		if (what == 0) {
			client_runs(get_a);
			assert_int_equal(results[2], -ENOENT);
			client_runs(end_mine);
		}
		all_is_gone();
		cluster_close(&cluster);
	}
}

/* Puts and gets, again and again, while the one before may write to what it had. */
static int64_t others_put(struct wadi_op *o)
{
	memcpy(o->w->token, cluster.clients[0]->w->token, sizeof(o->w->token));
	for (unsigned i = 0; i < 20; i++) {
		char name[8];

		snprintf(name, sizeof(name), "o%u", i);
		results[3] = put(o, name, 300000);
		memset(reserved.data, 0xee, 300000);
		if (results[3] == 0)
			results[3] =
				get(o, name) == 300000 && memcmp(got, bytes, 300000) == 0 ? 0 : -1;
		if (results[3] < 0)
			break;
	}
	return 0;
}

/* It has hung up, and keeps what it has mapped: nobody can take that away. */
static void where_a_function_may_still_write_nobody_else_puts(void **state)
{
	struct wadi_op other;

	write_in_place(6);
	node_current = sim_node_of(cluster.clients[0]->node);
	conn_close(cluster.clients[0]->w->conn);
	cluster.clients[0]->w->conn = NULL;
	node_current = NULL;
	run_for(1000 * MS);
	starts_on(cluster.clients[2], &other, others_put);
	run_for(60000 * MS);
	assert_int_equal(results[3], 0);
	cluster_close(&cluster);
}

static struct upload *stream;

/* With the first segment of it the near store has a lead of more than a quarter of its pool. */
static int64_t write_some(struct wadi_op *o)
{
	for (unsigned i = 0; i < 16; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%u", i);
		results[5] = put(o, name, sizeof(bytes));
	}
	stream = node_alloc(sizeof(*stream));
	results[1] = open_upload(o, stream, "a", 100000);
	results[2] = room_write(o, stream, 0, 0, bytes, 50000);
	return 0;
}

/* What there is no room for goes in a frame. */
static int64_t write_more(struct wadi_op *o)
{
	int64_t n = room_write(o, stream, 0, 50000, bytes + 50000, 150000);
	struct lane *lane;
	int r = n < 0 ? (int)n : 0;

	results[3] = n;
	if (r == 0 && n < 150000) {
		lane = upload_lane(o, stream);
		r = upload_send(o, stream, lane, 0, 50000 + (uint64_t)n, bytes + 50000 + n,
				150000 - (uint32_t)n);
	}
	results[4] = r == 0 ? upload_commit(o, stream, NULL) : r;
	return 0;
}

/*
 * It waits for room for nearly as long as it may, and is told that the rest is to be sent, since
 * room is at the other store only: then it has all of its time to send it.
 */
static void what_waited_for_room_has_time_to_be_sent(void **state)
{
	unsigned told = 0;

	for (uint64_t late_ms = 4700; late_ms < 4990; late_ms += 10) {
		cluster_begin_as(6, &NEAR);
		client_runs(join_mine);
		client_starts(write_some);
		while (results[2] < 0)
			run_for(MS / 4);
		/* The first segment is at hand, and the next one is being asked for. */
		assert_int_equal(results[2], 50000);
		assert_int_equal(results[5], 0);
		sim_stall(cluster.sim, cluster.meta->id, cluster.proxies[0]->id, true);
		sim_set_delay(cluster.sim, 20 * MS);
		client_starts(write_more);
		run_for(late_ms * MS);
		sim_stall(cluster.sim, cluster.meta->id, cluster.proxies[0]->id, false);
		run_for(20000 * MS);
		assert_true(op.has_ended);
		assert_true(results[3] == -ETIMEDOUT || results[3] == 131072 - 50000);
		if (results[3] > 0)
			assert_int_equal(results[4], 0);
		told += results[3] > 0;
		cluster_close(&cluster);
	}
	assert_in_range(told, 5, 30);
}

enum cut { LOST, LATE };

/* Between two nodes: what is on its way, and what would come for a while, is lost, or late. */
static void trouble_begin(enum cut what, uint32_t a, uint32_t b, bool is_on)
{
	if (what == LATE)
		sim_stall(cluster.sim, a, b, is_on);
	else
		sim_cut(cluster.sim, a, b, is_on);
}

/* So late that it was sent again, and both arrive; so late that a session was over. */
static void go_through(enum cut what, bool is_of_proxy, uint64_t at_ns, uint64_t for_ns)
{
	uint32_t peers[SHAPE_STORES];
	char why[200] = "";
	int64_t ended;

	/* Of these seeds some found a store that came back later than a put waits. */
	cluster_begin(at_ns + 1000003, 500000);
	for (unsigned i = 0; i < SHAPE_STORES; i++)
		peers[i] = is_of_proxy ? cluster.proxies[i]->id : cluster.stores[i]->id;
	client_runs(join_mine);
	assert_int_equal(results[0], 0);
	client_starts(all_duties);
	run_for(at_ns);
	for (unsigned i = 0; i < SHAPE_STORES; i++)
		trouble_begin(what, cluster.meta->id, peers[i], true);
	run_for(for_ns);
	for (unsigned i = 0; i < SHAPE_STORES; i++)
		trouble_begin(what, cluster.meta->id, peers[i], false);
	run_for(60000 * MS);
	assert_true(op.has_ended);
	client_starts(end_mine);
	run_for(at_ns % (5 * MS));
	for (unsigned i = 0; i < SHAPE_STORES; i++)
		trouble_begin(what, cluster.meta->id, peers[i], true);
	run_for(for_ns);
	for (unsigned i = 0; i < SHAPE_STORES; i++)
		trouble_begin(what, cluster.meta->id, peers[i], false);
	run_for(60000 * MS);
	assert_true(op.has_ended);
	ended = results[6];
	if (ended < 0)
		client_runs(end_mine);
	run_for(10000 * MS);
	bills_agree_of(results[1] == 0);
	for (unsigned i = 0; i < cluster.shape.shards; i++)
		if (!shard_is_empty(cluster.meta->shards[i], why, sizeof(why)))
			break;
	for (unsigned i = 0; i < SHAPE_STORES && !why[0]; i++)
		if (!store_is_empty(cluster.stores[i]->store, why, sizeof(why)))
			break;
	cluster_close(&cluster);
	assert_string_equal(why, "");
	/* The trouble was shorter than anybody's deadline, or it was said. */
	if (for_ns < 9000 * MS) {
		for (unsigned i = 1; i < 5; i++)
			assert_int_equal(results[i], 0);
		assert_int_equal(results[5], 300000);
		assert_memory_equal(got, bytes, 300000);
		assert_int_equal(ended, 0);
	}
}

static void what_a_slot_tells_others_may_be_lost_or_late_or_come_twice(void **state)
{
	static const uint64_t durations[] = { MS / 10, 2500 * MS, 40000 * MS };

	for (unsigned i = 0; i < 3; i++)
		for (uint64_t at_ns = 0; at_ns < 30 * MS; at_ns += 3 * MS / 2)
			for (unsigned k = 0; k < 4; k++)
				go_through(k & 1 ? LATE : LOST, k & 2, at_ns + k * MS / 3,
					   durations[i]);
}

static uint64_t holds(void)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < cluster.shape.shards; i++)
		n += shard_holds(cluster.meta->shards[i]);
	return n;
}

static int64_t put_for_readers(struct wadi_op *o)
{
	struct put_how how;

	put_how_init(o->w, &how, NULL);
	how.path = slice_of("often");
	op_progress(o);
	results[0] = put_object(o, &how, bytes, 300000, NULL);
	how.path = slice_of("twice");
	how.options.attempt.lo++;
	how.options.reads = 2;
	results[1] = put_object(o, &how, bytes, 1000, NULL);
	return 0;
}

/* Begun, and given up: with `reads`, the read is left to others. */
static int64_t begin_to_read(struct wadi_op *o)
{
	struct got g = { 0 };
	struct get_how how;

	get_how_init(o->w, &how, NULL);
	how.path = slice_of(results[2] ? "twice" : "often");
	o->timeout_ms = 10000;
	op_progress(o);
	results[3] = get_begin(o, &how, got, 10, &g);
	results[4] = (int64_t)holds();
	get_forget(o->w, &g);
	return 0;
}

static struct got got_slowly;

static int64_t read_slowly(struct wadi_op *o)
{
	struct get_how how;

	get_how_init(o->w, &how, NULL);
	how.path = slice_of("twice");
	op_progress(o);
	results[2] = get_begin(o, &how, got, sizeof(got), &got_slowly);
	return 0;
}

static int64_t end_reading(struct wadi_op *o)
{
	op_progress(o);
	results[3] = get_end(o, &got_slowly, true);
	return 0;
}

/* Whoever says so later than a read is kept for has not read: others may have it by then. */
static void a_read_that_is_confirmed_too_late_is_none(void **state)
{
	for (unsigned is_late = 0; is_late < 2; is_late++) {
		cluster_begin(1, 500000);
		client_runs(put_for_readers);
		client_starts(read_slowly);
		run_for((is_late ? 65000 : 55000) * MS);
		client_runs(end_reading);
		cluster_close(&cluster);
		assert_int_equal(results[1], 0);
		assert_int_equal(results[2], 0);
		assert_int_equal(results[3], is_late ? -ESTALE : 0);
	}
}

/* What happens to the way between metadata and the proxies when the nth message is on it. */
static void at_message(unsigned nth, unsigned what)
{
	struct sim_watch w = { .a = cluster.meta->id, .left = nth };

	list_init(&w.link);
	sim_watch(cluster.sim, &w);
	run_for(500 * MS);
	sim_unwatch(&w);
	if (what == 2) {
		process_kill(cluster.meta);
		process_start(cluster.meta);
		return;
	}
	for (unsigned i = 0; i < SHAPE_PROXIES; i++)
		trouble_begin(what & 1 ? LATE : LOST, cluster.meta->id, cluster.proxies[i]->id,
			      true);
	if (what > 2)
		run_for(12000 * MS);
	for (unsigned i = 0; i < SHAPE_PROXIES; i++)
		trouble_begin(what & 1 ? LATE : LOST, cluster.meta->id, cluster.proxies[i]->id,
			      false);
}

/*
 * The proxy never hears of the hold: its answer is lost or late, for a moment, with
 * metadata itself, or for longer than anybody waits. Neither the session ends nor the
 * job, nor is it as long as a hold is kept.
 */
static void a_hold_that_nobody_was_told_of_is_given_back(void **state)
{
	for (unsigned what = 0; what < 5; what++)
		for (unsigned nth = 1; nth <= 6; nth++)
			for (unsigned reads = 0; reads < 2; reads++) {
				uint64_t left, during;

				cluster_begin(nth, 500000);
				client_runs(put_for_readers);
				results[2] = reads;
				client_starts(begin_to_read);
				at_message(nth, what);
				run_for(15000 * MS);
				left = holds();
				during = (uint64_t)results[4];
				cluster_close(&cluster);
				assert_true(op.has_ended);
				assert_int_equal(results[0], 0);
				assert_int_equal(results[1], 0);
				if (what <= 2)
					assert_int_equal(results[3], 0);
				if (results[3] == 0)
					assert_int_equal(during, 1);
				assert_int_equal(left, 0);
			}
}

static void stall_proxies(struct process *const *others, unsigned count, bool is_stalled)
{
	for (unsigned i = 0; i < SHAPE_PROXIES; i++)
		for (unsigned k = 0; k < count; k++)
			sim_stall(cluster.sim, others[k]->id, cluster.proxies[i]->id, is_stalled);
}

/*
 * The store was slow, and when the bytes had come metadata did not say in time that they may still
 * be served.
 */
static void a_hold_of_a_read_that_was_not_served_is_given_back(void **state)
{
	uint64_t during, left;

	cluster_begin(7, 500000);
	client_runs(put_for_readers);
	results[2] = 0;
	stall_proxies(cluster.stores, SHAPE_STORES, true);
	client_starts(begin_to_read);
	run_for(1000 * MS);
	during = holds();
	stall_proxies(&cluster.meta, 1, true);
	stall_proxies(cluster.stores, SHAPE_STORES, false);
	run_for(12000 * MS);
	stall_proxies(&cluster.meta, 1, false);
	run_for(2000 * MS);
	left = holds();
	cluster_close(&cluster);
	assert_true(op.has_ended);
	assert_int_equal(results[0], 0);
	assert_in_range(-results[3], 1, 200);
	assert_int_equal(during, 1);
	assert_int_equal(left, 0);
}

/* Jobs have changed so often that all attempts that are over are forgotten. */
static void forget_attempts(void)
{
	node_current = sim_node_of(cluster.meta->node);
	for (unsigned i = 0; i < cluster.shape.shards; i++)
		shard_forget(cluster.meta->shards[i]);
	node_current = NULL;
}

static int put_as(struct wadi_op *o, uint64_t attempt, size_t from)
{
	struct put_how how;

	put_how_init(o->w, &how, NULL);
	how.path = slice_of("a");
	how.options.attempt.hi = 7;
	how.options.attempt.lo = attempt;
	op_progress(o);
	return (int)put_object(o, &how, bytes + from, 1000, NULL);
}

static int64_t put_first(struct wadi_op *o)
{
	results[0] = put(o, "first", 10);
	return 0;
}

static int64_t put_late(struct wadi_op *o)
{
	o->timeout_ms = 2000;
	results[1] = put_as(o, 1, 0);
	return 0;
}

static int64_t put_it_elsewhere(struct wadi_op *o)
{
	results[2] = put_as(o, 1, 0);
	results[3] = put_as(o, 2, 1);
	return 0;
}

static int64_t get_what_is_there(struct wadi_op *o)
{
	results[4] = get(o, "a");
	return 0;
}

/*
 * A put was on its way for long, and says that it is new. It was repeated meanwhile, and what
 * it did was replaced, and so many changes came after that that nobody remembers it.
 */
static void a_late_put_that_was_forgotten_is_not_made_again(void **state)
{
	static struct wadi_op first, late;
	struct process *p;

	cluster_begin(7, 500000);
	p = cluster.clients[1];
	starts_on(p, &first, put_first);
	run_for(1000 * MS);
	for (unsigned i = 0; i < SHAPE_PROXIES; i++)
		sim_stall(cluster.sim, p->id, cluster.proxies[i]->id, true);
	starts_on(p, &late, put_late);
	run_for(3000 * MS);
	assert_true(late.has_ended);
	client_runs(put_it_elsewhere);
	forget_attempts();
	for (unsigned i = 0; i < SHAPE_PROXIES; i++)
		sim_stall(cluster.sim, p->id, cluster.proxies[i]->id, false);
	run_for(5000 * MS);
	client_runs(get_what_is_there);
	cluster_close(&cluster);
	assert_int_equal(results[0], 0);
	assert_int_equal(results[1], -ETIMEDOUT);
	assert_int_equal(results[2], 0);
	assert_int_equal(results[3], 0);
	assert_int_equal(results[4], 1000);
	assert_memory_equal(got, bytes + 1, 1000);
}

static int64_t put_own(struct wadi_op *o)
{
	results[1] = put(o, "a", 1000);
	return 0;
}

static int64_t replace_it(struct wadi_op *o)
{
	results[2] = put_as(o, 2, 1);
	return 0;
}

/* The connection is lost at each message of a put; when it is repeated, nobody remembers it. */
static void a_put_whose_answer_was_lost_is_made_once_or_said_to_be_stale(void **state)
{
	unsigned stale = 0;

	for (unsigned nth = 1; nth <= 5; nth++) {
		static struct wadi_op lost;
		struct sim_watch w;
		struct wadi_stat stat;
		struct process *p;

		cluster_begin(nth, 500000);
		p = cluster.clients[1];
		starts_on(p, &lost, put_own);
		w = (struct sim_watch){ .a = p->id, .left = 2 + nth };
		list_init(&w.link);
		sim_watch(cluster.sim, &w);
		run_for(500 * MS);
		sim_unwatch(&w);
		run_for(300000);
		for (unsigned i = 0; i < SHAPE_PROXIES; i++)
			sim_cut(cluster.sim, p->id, cluster.proxies[i]->id, true);
		starts_on(cluster.clients[0], &op, replace_it);
		run_for(1000 * MS);
		forget_attempts();
		for (unsigned i = 0; i < SHAPE_PROXIES; i++)
			sim_cut(cluster.sim, p->id, cluster.proxies[i]->id, false);
		run_for(5000 * MS);
		assert_true(lost.has_ended && op.has_ended);
		node_current = sim_node_of(cluster.clients[0]->node);
		assert_int_equal(wadi_stat(cluster.clients[0]->w, "a", &stat), 0);
		node_current = NULL;
		cluster_close(&cluster);
		assert_int_equal(results[2], 0);
		assert_true(results[1] == 0 || results[1] == -ESTALE);
		assert_in_range(stat.version, 1, 2);
		stale += results[1] == -ESTALE;
	}
	assert_true(stale > 0);
}

static int64_t replace_often(struct wadi_op *o)
{
	for (unsigned i = 0; i < 5; i++)
		results[0] = put(o, "often", 10);
	return 0;
}

static int64_t put_once(struct wadi_op *o)
{
	results[1] = put(o, "mine", 100);
	return 0;
}

static int64_t put_large_once(struct wadi_op *o)
{
	results[2] = upload(o, "large", 2, 100000, 50000, 0);
	return 0;
}

/* Who has not heard of the job for long is told so once, and hears; nobody else notices. */
static void a_job_may_change_ever_so_often_between_two_puts(void **state)
{
	static struct wadi_op other;
	struct wadi *w;

	cluster_begin(7, 500000);
	w = cluster.clients[0]->w;
	client_runs(put_once);
	for (unsigned i = 0; i < 4; i++) {
		starts_on(cluster.clients[1], &other, replace_often);
		run_for(1000 * MS);
		forget_attempts();
		if (i == 0)
			client_runs(put_once);
		if (i == 1)
			client_runs(put_large_once);
		node_current = sim_node_of(cluster.clients[0]->node);
		if (i == 2)
			results[3] = wadi_rename(w, "mine", "yours", 0, NULL);
		if (i == 3)
			results[4] = wadi_remove(w, "yours", 0);
		node_current = NULL;
	}
	cluster_close(&cluster);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(results[i], 0);
}

static void stop_proxies(bool is_stopped)
{
	for (unsigned i = 0; i < SHAPE_PROXIES; i++)
		sim_node_pause(cluster.proxies[i]->node, is_stopped);
}

/* Proxies are stopped, and get more than there is room for on the way. */
static int fill_the_way(struct wadi_op *o)
{
	struct upload *u = node_alloc(sizeof(*u));
	int r = open_upload(o, u, "left", sizeof(bytes));

	stop_proxies(true);
	for (uint32_t at = 0; at < sizeof(bytes) && r == 0; at += 65536) {
		struct lane *lane = upload_lane(o, u);

		r = lane ? upload_send(o, u, lane, 0, at, bytes + at, 65536) : u->result;
	}
	upload_drop(o->w, u);
	node_free(u);
	return conn_unsent(o->w->conn) > 0 ? r : -EINVAL;
}

/* What is to be sent to them is late by then. */
static void let_proxies_go_on(struct wadi_op *o)
{
	op_progress(o);
	(void)op_sleep(o, 10000 * MS);
	stop_proxies(false);
	(void)op_sleep(o, 10000 * MS);
}

static int64_t leave_to_a_stopped_proxy(struct wadi_op *o)
{
	unsigned connection = o->w->connection;
	struct got g = { 0 };
	struct get_how how;

	get_how_init(o->w, &how, NULL);
	how.path = slice_of("long");
	op_progress(o);
	results[1] = get_begin(o, &how, got, 10, &g);
	results[2] = fill_the_way(o);
	get_forget(o->w, &g);
	let_proxies_go_on(o);
	results[3] = o->w->connection - connection;
	return 0;
}

static void a_stopped_proxy_hears_of_all_that_was_left_there(void **state)
{
	unsigned segments;
	uint64_t left;

	cluster_begin(5, 500000);
	client_runs(put_long);
	run_for(10000 * MS); /* until what was not used of segments has gone back */
	segments = segments_owned();
	client_runs(leave_to_a_stopped_proxy);
	left = holds();
	segments = segments_owned() - segments;
	cluster_close(&cluster);
	assert_int_equal(results[1], 0);
	assert_int_equal(results[2], -ETIMEDOUT);
	assert_int_equal(results[3], 0);
	assert_int_equal(left, 0);
	assert_int_equal(segments, 0);
}

/* What it would have heard was taken back unsent. */
static int64_t read_from_a_stopped_proxy(struct wadi_op *o)
{
	op_progress(o);
	results[4] = fill_the_way(o);
	op_progress(o);
	results[5] = get_end(o, &got_slowly, true);
	get_forget(o->w, &got_slowly);
	let_proxies_go_on(o);
	results[6] = (int64_t)holds(); /* long before the catalog ends them */
	return 0;
}

static void a_read_that_a_stopped_proxy_has_not_heard_of_is_given_back(void **state)
{
	cluster_begin(5, 500000);
	client_runs(put_for_readers);
	client_starts(read_slowly);
	run_for(1000 * MS);
	client_runs(read_from_a_stopped_proxy);
	cluster_close(&cluster);
	assert_int_equal(results[1], 0);
	assert_int_equal(results[2], 0);
	assert_int_equal(results[4], -ETIMEDOUT);
	assert_int_equal(results[5], -ETIMEDOUT);
	assert_int_equal(results[6], 0);
}

static int64_t put_at_a_stopped_proxy(struct wadi_op *o)
{
	op_progress(o);
	results[4] = fill_the_way(o);
	put_reserved(o);
	let_proxies_go_on(o);
	return 0;
}

static void room_that_a_stopped_proxy_has_not_heard_of_is_given_back(void **state)
{
	unsigned left;

	write_in_place(5);
	client_runs(put_at_a_stopped_proxy);
	left = segments_owned();
	cluster_close(&cluster);
	assert_int_equal(results[4], -ETIMEDOUT);
	assert_int_equal(results[2], -ETIMEDOUT);
	assert_int_equal(left, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_object_of_small_parts_is_read_whole),
		cmocka_unit_test(a_small_value_is_read_in_pieces),
		cmocka_unit_test(an_upload_of_known_length_may_come_in_odd_pieces),
		cmocka_unit_test(frames_behind_one_that_has_no_place_are_told_why),
		cmocka_unit_test(that_the_quota_is_used_up_is_heard_before_the_deadline),
		cmocka_unit_test(what_is_said_at_a_deadline_is_heard_and_true),
		cmocka_unit_test(an_end_that_was_read_at_a_restart_is_made_safe),
		cmocka_unit_test(what_is_safe_is_not_written_over_and_left_so),
		cmocka_unit_test(a_read_that_the_power_took_back_is_not_taken_for_used),
		cmocka_unit_test(nor_is_a_read_of_a_session_that_was_over),
		cmocka_unit_test(that_a_job_has_ended_is_heard_though_it_is_told_late),
		cmocka_unit_test(no_function_is_bound_to_a_job_that_has_ended),
		cmocka_unit_test(a_store_without_its_keeper_says_so),
		cmocka_unit_test(a_table_of_sums_without_a_place_says_why),
		cmocka_unit_test(what_a_store_does_not_have_is_not_asked_for_all_the_time),
		cmocka_unit_test(that_metadata_was_not_reached_is_not_said_of_the_proxy),
		cmocka_unit_test(a_store_that_can_make_no_room_is_not_waited_for_to_the_last),
		cmocka_unit_test(no_version_is_given_twice_when_the_power_was_cut),
		cmocka_unit_test(a_job_that_has_ended_stays_so_when_the_power_is_cut),
		cmocka_unit_test(odd_parts_take_no_more_than_they_need),
		cmocka_unit_test(odd_parts_are_put_beside_a_store_without_its_keeper),
		cmocka_unit_test(that_an_odd_part_has_no_place_is_heard_in_time),
		cmocka_unit_test(a_stream_that_has_too_little_of_a_quota_late_is_told_so),
		cmocka_unit_test(the_bytes_of_a_put_are_not_gone_with_a_connection),
		cmocka_unit_test(a_put_that_is_late_is_late_whatever_it_could_do_with_more_time),
		cmocka_unit_test(a_grant_whose_answer_was_lost_is_no_stray),
		cmocka_unit_test(a_store_that_comes_back_fast_has_lost_its_bytes),
		cmocka_unit_test(a_stores_successor_is_known_to_metadatas_successor),
		cmocka_unit_test(a_store_that_is_gone_for_good_has_lost_its_bytes),
		cmocka_unit_test(a_store_that_was_out_of_reach_comes_back_with_its_bytes),
		cmocka_unit_test(a_store_that_comes_back_too_late_frees_what_it_has),
		cmocka_unit_test(a_store_that_has_not_come_back_yet_is_not_lost),
		cmocka_unit_test(a_store_that_does_not_answer_is_not_asked_first),
		cmocka_unit_test(asks_of_a_store_that_was_stopped_leave_nothing),
		cmocka_unit_test(a_get_that_outlives_its_job_in_a_stopped_proxy_is_cut),
		cmocka_unit_test(a_read_that_is_confirmed_too_late_is_none),
		cmocka_unit_test(a_hold_that_nobody_was_told_of_is_given_back),
		cmocka_unit_test(a_hold_of_a_read_that_was_not_served_is_given_back),
		cmocka_unit_test(a_late_put_that_was_forgotten_is_not_made_again),
		cmocka_unit_test(a_put_whose_answer_was_lost_is_made_once_or_said_to_be_stale),
		cmocka_unit_test(a_job_may_change_ever_so_often_between_two_puts),
		cmocka_unit_test(what_a_killed_function_had_open_is_given_back),
		cmocka_unit_test(what_is_written_in_place_is_put),
		cmocka_unit_test(what_was_taken_from_its_writer_is_stale),
		cmocka_unit_test(where_a_function_may_still_write_nobody_else_puts),
		cmocka_unit_test(what_waited_for_room_has_time_to_be_sent),
		cmocka_unit_test(what_a_slot_tells_others_may_be_lost_or_late_or_come_twice),
		cmocka_unit_test(a_stopped_proxy_hears_of_all_that_was_left_there),
		cmocka_unit_test(a_read_that_a_stopped_proxy_has_not_heard_of_is_given_back),
		cmocka_unit_test(room_that_a_stopped_proxy_has_not_heard_of_is_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
