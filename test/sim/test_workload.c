/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: puts, gets and removes of many clients through two proxies, a store and two
 * shards of metadata are what they say: a get sees the newest acknowledged version or
 * a newer one, whole; when the job has ended, nothing is left in the store. And a seed
 * repeats: the same events in the same order.
 *
 * Method: a cluster in simulated time. Every client writes names of its own and reads
 * everybody's; the bytes of an object follow from who wrote it and when, so a reader
 * can tell. WADI_SEED chooses the seed; it is printed.
 */
#include "../unit/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/container.h"
#include "base/node.h"
#include "cluster.h"

#define NAMES      6
#define OPS        60
#define BYTES_MAX  (6u << 20)
#define POOL_BYTES (256ull << 20)
#define SECOND_NS  1000000000ull

/* What a client has put: grows with each acknowledged put, 0 when it is removed. */
struct name {
	uint64_t acked, begun; /* the newest acknowledged, the newest that was sent */
	bool is_removed, is_busy;
};

struct script {
	struct wadi_op op;
	unsigned client;
	uint64_t random;
	uint8_t *buf;
	unsigned done;
};

static struct cluster cluster;
static struct name names[CLUSTER_CLIENTS][NAMES];
static struct script scripts[CLUSTER_CLIENTS];
static char failure[400];
static unsigned running;

static void fail_once(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void fail_once(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (!failure[0])
		vsnprintf(failure, sizeof(failure), format, args);
	va_end(args);
	sim_stop(cluster.sim);
}

static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static size_t choose_len(struct script *s)
{
	static const size_t edges[] = { 0,     1,     2047,  2048,    2049,
					65535, 65536, 65537, 1048576, 4194305 };
	uint64_t x = next(&s->random);

	if (x % 4 == 0)
		return edges[(x >> 8) % (sizeof(edges) / sizeof(edges[0]))];
	return (x >> 8) % (x % 16 == 1 ? BYTES_MAX : 200000);
}

/* The length stands in the bytes where they are long enough. */
static void fill(uint8_t *buf, size_t len, unsigned client, unsigned name, uint64_t nth)
{
	uint64_t state = (client + 1) * 1000003 + (name + 1) * 1009 + nth * 7919 + len;

	for (size_t i = 0; i < len; i += 8) {
		uint64_t x = next(&state);

		memcpy(buf + i, &x, len - i < 8 ? len - i : 8);
	}
}

static bool matches(const uint8_t *buf, size_t len, unsigned client, unsigned name, uint64_t nth)
{
	uint64_t state = (client + 1) * 1000003 + (name + 1) * 1009 + nth * 7919 + len;

	for (size_t i = 0; i < len; i += 8) {
		uint64_t x = next(&state);

		if (memcmp(buf + i, &x, len - i < 8 ? len - i : 8) != 0)
			return false;
	}
	return true;
}

static const char *path_name(unsigned client, unsigned name, char *buf)
{
	snprintf(buf, 32, "c%u/k%u", client, name);
	return buf;
}

static void do_put(struct script *s, unsigned k)
{
	struct name *n = &names[s->client][k];
	size_t len = choose_len(s);
	struct put_how how;
	char path[32];
	const char *why;
	int64_t r;

	put_how_init(s->op.w, &how, NULL);
	path_of(s->op.w, path_name(s->client, k, path), &how.path, &why);
	n->begun++;
	fill(s->buf, len, s->client, k, n->begun);
	op_progress(&s->op);
	r = put_object(&s->op, &how, s->buf, len, NULL);
	if (r < 0) {
		fail_once("put %s of %zu bytes: %s %s", path, len, wadi_status_name((int)r),
			  s->op.why);
		return;
	}
	n->acked = n->begun;
	n->is_removed = false;
}

static void do_get(struct script *s)
{
	unsigned client = (unsigned)(next(&s->random) % CLUSTER_CLIENTS);
	unsigned k = (unsigned)(next(&s->random) % NAMES);
	struct name *n = &names[client][k], before = *n;
	struct get_how how;
	char path[32];
	const char *why;
	int64_t r;

	get_how_init(s->op.w, &how, NULL);
	path_of(s->op.w, path_name(client, k, path), &how.path, &why);
	op_progress(&s->op);
	r = get_object(&s->op, &how, s->buf, BYTES_MAX, NULL);
	if (r == -ENOENT) {
		if (before.acked && !before.is_removed && !n->is_removed && !n->is_busy)
			fail_once("get %s: not there, but %llu was acknowledged", path,
				  (unsigned long long)before.acked);
		return;
	}
	if (r < 0) {
		fail_once("get %s: %s %s", path, wadi_status_name((int)r), s->op.why);
		return;
	}
	for (uint64_t nth = before.acked ? before.acked : 1; nth <= n->begun; nth++)
		if (matches(s->buf, (size_t)r, client, k, nth))
			return;
	fail_once("get %s: %lld bytes that are no version from %llu to %llu", path, (long long)r,
		  (unsigned long long)before.acked, (unsigned long long)n->begun);
}

static int ask_remove(struct wadi_op *op, const char *path)
{
	struct question q;
	struct wcur w = question_begin(op, &q, MSG_REMOVE);
	int r;

	remove_req_put(&w, &(struct remove_req){ .job = op->w->job,
						 .attempt_hi = node_random_u64(),
						 .attempt_lo = node_random_u64(),
						 .path = { (const uint8_t *)path, strlen(path) } });
	r = question_ask(&q, &w, NULL);
	question_end(&q);
	return r;
}

static void do_remove(struct script *s, unsigned k)
{
	struct name *n = &names[s->client][k];
	char path[32];
	int r;

	n->is_busy = true;
	op_progress(&s->op);
	r = ask_remove(&s->op, path_name(s->client, k, path));
	n->is_busy = false;
	if (r != 0 && r != -ENOENT)
		fail_once("remove %s: %s", path, wadi_status_name(r));
	if (r == -ENOENT && n->acked && !n->is_removed)
		fail_once("remove %s: not there, but it was put", path);
	n->is_removed = true;
}

static int64_t script_run(struct wadi_op *op)
{
	struct script *s = container_of(op, struct script, op);
	struct conn *c;

	op_progress(op);
	if (handle_conn(op, &c) < 0)
		fail_once("client %u: no connection: %s", s->client, op->why);
	for (s->done = 0; s->done < OPS && !failure[0]; s->done++) {
		uint64_t x = next(&s->random) % 10;
		unsigned k = (unsigned)(next(&s->random) % NAMES);

		if (x < 5)
			do_put(s, k);
		else if (x < 9)
			do_get(s);
		else
			do_remove(s, k);
	}
	if (--running == 0)
		sim_stop(cluster.sim);
	return 0;
}

static int64_t end_job_run(struct wadi_op *op)
{
	struct question q;
	struct wcur w = question_begin(op, &q, MSG_JOB_END);
	int r;

	job_end_req_put(&w, &(struct job_end_req){ .name = { (const uint8_t *)"default", 7 } });
	op_progress(op);
	r = question_ask(&q, &w, NULL);
	question_end(&q);
	if (r < 0)
		fail_once("end of the job: %s", wadi_status_name(r));
	sim_stop(cluster.sim);
	return r;
}

static void start(struct script *s, int64_t (*run)(struct wadi_op *op))
{
	struct client_node *n = &cluster.clients[s->client];

	node_current = sim_node_of(n->node);
	op_init(&s->op, n->w, "script", NULL, 0, run);
	assert_int_equal(op_start(&s->op), 0);
	node_current = NULL;
}

/* One seed from beginning to end; returns its fingerprint. */
static uint64_t run_seed(uint64_t seed)
{
	struct info_rep info;
	uint64_t print;

	failure[0] = '\0';
	memset(names, 0, sizeof(names));
	cluster_open(&cluster, seed, POOL_BYTES);
	running = CLUSTER_CLIENTS;
	for (unsigned i = 0; i < CLUSTER_CLIENTS; i++) {
		scripts[i] = (struct script){ .client = i,
					      .buf = malloc(BYTES_MAX),
					      .random = sim_random(cluster.sim) | 1 };
		start(&scripts[i], script_run);
	}
	sim_run(cluster.sim, 600 * SECOND_NS);
	if (!failure[0] && running > 0)
		fail_once("%u clients have not finished", running);
	if (!failure[0]) {
		start(&scripts[0], end_job_run);
		sim_run(cluster.sim, sim_now_ns(cluster.sim) + 30 * SECOND_NS);
		sim_run(cluster.sim, sim_now_ns(cluster.sim) + 10 * SECOND_NS);
		node_current = sim_node_of(cluster.store.node);
		store_info(cluster.store.store, &info);
		node_current = NULL;
		if (info.dram_used > 0)
			fail_once("%llu bytes are left of a job that has ended",
				  (unsigned long long)info.dram_used);
	}
	print = sim_fingerprint(cluster.sim);
	cluster_close(&cluster);
	for (unsigned i = 0; i < CLUSTER_CLIENTS; i++)
		free(scripts[i].buf);
	if (failure[0])
		print_message("seed %llu: %s\n", (unsigned long long)seed, failure);
	assert_string_equal(failure, "");
	return print;
}

static uint64_t seed_of_run(void)
{
	const char *given = getenv("WADI_SEED");

	return given ? strtoull(given, NULL, 0) : 1;
}

static unsigned seeds_of_run(void)
{
	const char *given = getenv("SEEDS");

	return given ? (unsigned)strtoul(given, NULL, 0) : 5;
}

static void what_is_acknowledged_is_seen_and_nothing_is_left(void **state)
{
	uint64_t seed = seed_of_run();

	print_message("WADI_SEED=%llu, %u seeds\n", (unsigned long long)seed, seeds_of_run());
	for (unsigned i = 0; i < seeds_of_run(); i++)
		run_seed(seed + i);
}

static void a_seed_repeats(void **state)
{
	uint64_t seed = seed_of_run();
	uint64_t first = run_seed(seed);

	assert_int_equal(run_seed(seed), first);
	assert_int_not_equal(run_seed(seed + 1), first);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_acknowledged_is_seen_and_nothing_is_left),
		cmocka_unit_test(a_seed_repeats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
