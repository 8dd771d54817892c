/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog alone, called as the server's handlers call it: no frames, no sockets, its
 * log thrown away. And the log alone: the effect of a commit, appended again and again as
 * the shard does it, to memory that a keeper could hold.
 */
#include <errno.h>
#include <malloc.h>
#include <math.h>
#include <string.h>

#include "base/container.h"
#include "base/node.h"
#include "bench/alone.h"
#include "bench/cell.h"
#include "meta/catalog.h"
#include "meta/oplog.h"

#define SLOT       1
#define SEED       42
#define PATH_BYTES 24
#define NEXT_NS    1000 /* of the catalog's time, for each commit */
#define LOG_BYTES  (64u << 20)
#define WAIT_NS    100000
/* One name of so many is created while it is measured, all over the others, which are there. */
#define CREATE_EVERY 16

struct catalog_bench {
	struct alone alone;
	struct catalog *catalog;
	struct outcome out;
	uint64_t job, now_ns, changes; /* changes: that the job had, as the last answer says */
	struct slice value;
	uint32_t crc;
	uint8_t payload[4096];

	/* The log. */
	char path[PATH_BYTES]; /* what the effect points at */
	struct effect effect;  /* the last one */
	struct loop *loop;
	struct oplog log;
};

/* Kept to be appended; the catalog itself has nobody to log for. */
static void take_effect(struct catalog *c, const struct effect *e)
{
	struct catalog_bench *t = catalog_owner(c);

	t->effect = *e;
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
	.log = take_effect,
	.value_map = value_map,
	.value_unmap = value_unmap,
};

/* "part/0000012345": as long as paths of jobs are. */
static struct slice path_of_number(uint64_t n, char *buf)
{
	char *at = stpcpy(buf, "part/0000000000");

	for (char *digit = at; n; n /= 10)
		*--digit = (char)('0' + n % 10);
	return (struct slice){ (const uint8_t *)buf, (size_t)(at - buf) };
}

static int commit(struct alone *a, uint64_t n)
{
	struct catalog_bench *t = container_of(a, struct catalog_bench, alone);
	struct commit_req req = { .job = t->job, .len = t->value.len, .seed = SEED, .crc = t->crc };
	int r;

	t->now_ns += NEXT_NS;
	req.since = t->changes;
	req.attempt_hi = 1;
	req.attempt_lo = t->now_ns;
	req.path = path_of_number(n, t->path);
	r = catalog_commit(t->catalog, &req, t->value, t->now_ns, &t->out);
	t->changes = t->out.rep.commit.changes;
	return r;
}

static int create(struct alone *a, uint64_t n)
{
	return commit(a, n * CREATE_EVERY);
}

static int lookup(struct alone *a, uint64_t n)
{
	struct catalog_bench *t = container_of(a, struct catalog_bench, alone);
	struct lookup_req req = { .job = t->job, .take = INLINE_BYTES_MAX };
	struct wcur payload = wcur_make(t->payload, sizeof(t->payload));

	req.path = path_of_number(n, t->path);
	return catalog_lookup(t->catalog, &req, t->now_ns, &payload, &t->out);
}

/* What is in memory for good is given up, as if a snapshot had it; the helper makes more. */
static int append(struct alone *a, uint64_t n)
{
	struct catalog_bench *t = container_of(a, struct catalog_bench, alone);

	(void)n;
	while (!oplog_has_room(&t->log, true)) {
		int r = loop_turn(t->loop, node_now_ns() + WAIT_NS);

		if (r < 0)
			return r;
		oplog_covered(&t->log, t->log.lsn);
	}
	oplog_append(&t->log, SLOT, &t->effect);
	return 0;
}

static size_t memory_now(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

static int ended(struct catalog_bench *t, int r)
{
	return r < 0 ? bench_fail(t->alone.b, r, "the catalog says: %s %s", strerror(-r),
				  t->out.detail)
		     : 0;
}

static int run(struct catalog_bench *t, int (*call)(struct alone *a, uint64_t n), uint64_t names,
	       uint64_t count)
{
	t->alone.call = call;
	return ended(t, alone_run(&t->alone, names, count,
				  count == UINT64_MAX ? t->alone.b->row_ns : UINT64_MAX));
}

static int open_catalog(struct catalog_bench *t)
{
	struct job_create_req job = { .lease_ms = JOB_LEASE_MS_MAX,
				      .name = { (const uint8_t *)"bench", 5 } };
	int r;

	t->now_ns = 1000000000;
	t->crc = crc_more(crc_begin(SEED), t->value.ptr, t->value.len);
	t->catalog = catalog_new(SLOT, 0x5eed, &OPS, t);
	r = t->catalog ? catalog_job_create(t->catalog, &job, t->now_ns, &t->out) : -ENOMEM;
	if (r < 0)
		return bench_fail(t->alone.b, r, "the catalog has no room for a job");
	t->job = t->out.rep.job_create.job;
	return 0;
}

/*
 * In order, because that is three times as fast: with 50 million, each that comes anywhere in
 * between waits 5 us for memory.
 */
static int fill(struct catalog_bench *t, uint64_t names)
{
	int r = 0;

	for (uint64_t n = 0; n < names && r >= 0; n++) {
		if (n % CREATE_EVERY != 0)
			r = commit(&t->alone, n);
		if (bench_is_interrupted())
			r = -ECANCELED;
	}
	return ended(t, r);
}

static int measure_catalog(struct catalog_bench *t)
{
	const uint64_t step = CREATE_EVERY * ALONE_CALLS;
	uint64_t names = (t->alone.b->objects + step - 1) / step * step;
	size_t memory = memory_now();
	int r;

	if (names % ALONE_STEP == 0)
		names += step;
	r = fill(t, names);
	if (r == 0)
		r = run(t, create, names / CREATE_EVERY, names / CREATE_EVERY);
	if (r < 0)
		return r;
	alone_give(&t->alone, "create", (double)(memory_now() - memory) / (double)names);
	r = run(t, lookup, names, UINT64_MAX);
	if (r == 0)
		alone_give(&t->alone, "get", NAN);
	if (r == 0)
		r = run(t, commit, names, UINT64_MAX);
	if (r == 0)
		alone_give(&t->alone, "put", NAN);
	return r;
}

static int measure_log(struct catalog_bench *t)
{
	struct oplog_config config = { .media = &media_memfd,
				       .limit_bytes = LOG_BYTES,
				       .shard_count = 1 };
	int r = commit(&t->alone, 1); /* its effect */

	if (r == 0)
		r = loop_open_epoll(&t->loop);
	t->log.seed = SEED;
	t->log.incarnation = 1;
	if (r == 0)
		r = oplog_open(&t->log, &config, t->loop);
	if (r < 0)
		return bench_fail(t->alone.b, r, "the log cannot be opened: %s", strerror(-r));
	r = run(t, append, 1, UINT64_MAX);
	if (r == 0)
		alone_give(&t->alone, "append", NAN);
	oplog_close(&t->log, true);
	loop_close(t->loop);
	return r;
}

static int with_catalog(struct bench *b, enum bench_kind kind,
			int (*measure)(struct catalog_bench *t))
{
	static uint8_t value[INLINE_BYTES_MAX];
	struct catalog_bench *t = node_alloc(sizeof(*t));
	cpu_set_t cpus = cpus_of(CPUS_CLIENT, 1), before;
	int r;

	if (!t)
		return bench_fail(b, -ENOMEM, "no memory");
	t->alone.b = b;
	t->alone.kind = kind;
	t->value = (struct slice){ value, b->sizes.count ? b->sizes.values[0] : 0 };
	if (t->value.len > INLINE_BYTES_MAX)
		t->value.len = INLINE_BYTES_MAX;
	t->alone.size = t->alone.moved = t->value.len;
	before = cpus_pin(&cpus);
	r = open_catalog(t);
	if (r == 0)
		r = measure(t);
	cpus_pin(&before);
	catalog_free(t->catalog);
	node_free(t);
	return r;
}

int bench_catalog_run(struct bench *b, enum bench_kind kind)
{
	return with_catalog(b, kind, measure_catalog);
}

int bench_log_run(struct bench *b, enum bench_kind kind)
{
	return with_catalog(b, kind, measure_log);
}
