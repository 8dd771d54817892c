/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog alone, called as the server's handlers call it: no frames, no sockets, its
 * log thrown away. What is timed is 64 calls at a time, since one is little longer than a
 * look at the clock.
 */
#include <errno.h>
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/node.h"
#include "bench/cell.h"
#include "meta/catalog.h"

#define CALLS       64
#define SLOT        1
#define SEED        42
#define PATH_BYTES  24
#define NEXT_NS     1000 /* of the catalog's time, for each commit */
#define NAMES_APART 7919 /* a prime, so that neighbors in time are none in the catalog */

struct catalog_bench {
	struct bench *b;
	struct catalog *catalog;
	struct outcome out;
	uint64_t job, now_ns, count;
	struct slice value;
	uint32_t crc;
	uint8_t payload[4096];
	struct histogram latency;
	uint64_t calls, busy_ns, cpu_ns;
};

static void drop_effect(struct catalog *c, const struct effect *e)
{
	(void)c, (void)e;
}

static void *value_map(struct catalog *c, uint32_t index)
{
	(void)c, (void)index;
	return node_alloc(VALUE_SEGMENT_BYTES);
}

static void value_unmap(struct catalog *c, uint32_t index, void *bytes)
{
	(void)c, (void)index;
	node_free(bytes);
}

static const struct catalog_ops OPS = {
	.log = drop_effect,
	.value_map = value_map,
	.value_unmap = value_unmap,
};

/* "part/00012345/7": as long as paths of jobs are. */
static struct slice path_of_number(uint64_t n, char *buf)
{
	char *at = stpcpy(buf, "part/0000000000");

	for (char *digit = at; n; n /= 10)
		*--digit = (char)('0' + n % 10);
	return (struct slice){ (const uint8_t *)buf, (size_t)(at - buf) };
}

static int commit(struct catalog_bench *t, uint64_t n)
{
	char path[PATH_BYTES];
	struct commit_req req = { .job = t->job, .len = t->value.len, .seed = SEED, .crc = t->crc };

	t->now_ns += NEXT_NS;
	req.attempt_hi = 1;
	req.attempt_lo = t->now_ns;
	req.path = path_of_number(n, path);
	return catalog_commit(t->catalog, &req, t->value, t->now_ns, &t->out);
}

static int lookup(struct catalog_bench *t, uint64_t n)
{
	char path[PATH_BYTES];
	struct lookup_req req = { .job = t->job, .take = INLINE_BYTES_MAX };
	struct wcur payload = wcur_make(t->payload, sizeof(t->payload));

	req.path = path_of_number(n, path);
	return catalog_lookup(t->catalog, &req, t->now_ns, &payload, &t->out);
}

static uint64_t cpu_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Calls with numbers all over the catalog, until `count` are done or the time is over. */
static int many(struct catalog_bench *t, int (*call)(struct catalog_bench *, uint64_t),
		uint64_t count, uint64_t ns)
{
	uint64_t begun_ns = node_now_ns(), at_ns = begun_ns, cpu_ns = cpu_now_ns(), n = 0;
	int r = 0;

	memset(&t->latency, 0, sizeof(t->latency));
	t->calls = 0;
	while (r >= 0 && t->calls < count && at_ns - begun_ns < ns) {
		uint64_t next_ns;

		for (unsigned i = 0; i < CALLS && r >= 0; i++) {
			n = (n + NAMES_APART) % t->count;
			r = call(t, n);
		}
		next_ns = node_now_ns();
		histogram_add(&t->latency, (next_ns - at_ns) / CALLS);
		t->calls += CALLS;
		at_ns = next_ns;
	}
	t->busy_ns = at_ns - begun_ns;
	t->cpu_ns = cpu_now_ns() - cpu_ns;
	if (r < 0)
		return bench_fail(t->b, r, "the catalog says: %s %s", strerror(-r), t->out.detail);
	return 0;
}

static void give(struct catalog_bench *t, const char *op, double object_bytes)
{
	struct bench_row row = {
		.bench = bench_kind_name(BENCH_KIND_CATALOG),
		.op = op,
		.system = "wadi",
		.attach = "none",
		.mode = t->b->is_awake ? "awake" : "quiet",
		.size = t->value.len,
		.clients = 1,
		.depth = 1,
		.p50_us = (double)histogram_at(&t->latency, 0.5) / 1e3,
		.p99_us = (double)histogram_at(&t->latency, 0.99) / 1e3,
		.p999_us = (double)histogram_at(&t->latency, 0.999) / 1e3,
		.max_us = (double)t->latency.max / 1e3,
		.ops_per_s = (double)t->calls * 1e9 / (double)t->busy_ns,
		.mb_per_s = (double)t->calls * (double)t->value.len * 1e3 / (double)t->busy_ns,
		.server_cpu_us = (double)t->cpu_ns / 1e3 / (double)t->calls,
		.client_cpu_us = NAN,
		.least_share = NAN,
		.object_bytes = object_bytes,
	};

	t->b->sink->row(t->b->sink, &row);
}

static size_t memory_now(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

static int measure(struct catalog_bench *t)
{
	struct job_create_req job = { .lease_ms = JOB_LEASE_MS_MAX,
				      .name = { (const uint8_t *)"bench", 5 } };
	size_t memory = memory_now();
	int r = catalog_job_create(t->catalog, &job, t->now_ns, &t->out);
	double object_bytes;

	if (r < 0)
		return bench_fail(t->b, r, "the catalog has no room for a job");
	t->job = t->out.rep.job_create.job;
	r = many(t, commit, t->count, UINT64_MAX);
	if (r < 0)
		return r;
	object_bytes = (double)(memory_now() - memory) / (double)t->count;
	give(t, "create", object_bytes);
	r = many(t, lookup, UINT64_MAX, t->b->row_ns);
	if (r == 0)
		give(t, "get", NAN);
	if (r == 0)
		r = many(t, commit, UINT64_MAX, t->b->row_ns);
	if (r == 0)
		give(t, "put", NAN);
	return r;
}

int bench_catalog_run(struct bench *b, enum bench_kind kind)
{
	static uint8_t value[INLINE_BYTES_MAX];
	struct catalog_bench *t = node_alloc(sizeof(*t));
	cpu_set_t cpus = cpus_of(CPUS_CLIENT, 1);
	int r;

	(void)kind;
	if (!t)
		return bench_fail(b, -ENOMEM, "no memory");
	t->b = b;
	t->now_ns = 1000000000;
	/* As many as calls are counted in; the step through the names meets all of them. */
	t->count = (b->objects + CALLS - 1) / CALLS * CALLS;
	if (t->count % NAMES_APART == 0)
		t->count += CALLS;
	t->value = (struct slice){ value, b->sizes.count ? b->sizes.values[0] : 0 };
	if (t->value.len > INLINE_BYTES_MAX)
		t->value.len = INLINE_BYTES_MAX;
	t->crc = crc_more(crc_begin(SEED), value, t->value.len);
	t->catalog = catalog_new(SLOT, 0x5eed, &OPS, t);
	cpus_pin(&cpus);
	r = t->catalog ? measure(t) : bench_fail(b, -ENOMEM, "no memory");
	catalog_free(t->catalog);
	node_free(t);
	return r;
}
