/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: wherever an allocation fails, the operation at hand is answered as if it had
 * been done or as if there were no memory, in time; nothing leaks, nothing half done
 * stays behind, and the same operation works as soon as there is memory again.
 *
 * Method: metadata, a store, a proxy and a client, each a node of a simulated world. For
 * each node, each step of a table, and each n, the n-th allocation that the node makes
 * in that step fails, or all from the n-th on, until the step runs to its end without
 * reaching n. Each time the world is made anew and taken down in order: then all nodes
 * must have given back all that they had. In a second kind of world the store is in the
 * proxy's process, whose host is the client's, and metadata has a log.
 */
#include "../unit/test.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "attach/handle.h"
#include "base/container.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/node.h"
#include "core/core.h"
#include "look.h"
#include "loop/sim.h"
#include "meta/meta.h"
#include "net/conn_priv.h"
#include "proxy/proxy.h"
#include "shm/memory.h"
#include "store/store.h"

#define SECOND_NS  1000000000ull
#define POOL_BYTES (16ull << 20) /* so the largest segment has 256 KiB */
#define SMALL_LEN  1000u
#define MEDIUM_LEN 100000u
#define LARGE_LEN  700000u
#define TIMEOUT_MS 20000u

enum { META, STORE, PROXY, CLIENT, NODES };
static const char *const NODE_NAMES[NODES] = { "meta", "store", "proxy", "client" };

static struct world {
	struct sim *sim;
	struct sim_node *nodes[NODES];
	struct loop *loops[NODES];
	struct net *nets[NODES - 1];
	struct shard *shard;
	struct store *store;
	struct core *core;
	struct mover *mover;
	struct proxy *proxy;
	struct listener listeners[NODES - 1], metrics;
	struct wadi *w;
} world;

static bool is_near; /* the worlds to come */

static uint8_t *sample, *back;

/* Of the node at fault: how many allocations it has made, and which of them fails first. */
static struct {
	void *(*alloc)(struct node *n, size_t size);
	void *(*resize)(struct node *n, void *p, size_t size);
	uint64_t seen, first;
	bool is_storm; /* and all that follow */
} fault;

static bool must_fail(void)
{
	fault.seen++;
	return fault.is_storm ? fault.seen >= fault.first : fault.seen == fault.first;
}

static void *faulty_alloc(struct node *n, size_t size)
{
	return must_fail() ? NULL : fault.alloc(n, size);
}

static void *faulty_resize(struct node *n, void *p, size_t size)
{
	return must_fail() ? NULL : fault.resize(n, p, size);
}

static void fault_start(unsigned node, uint64_t first, bool is_storm)
{
	struct node *n = sim_node_of(world.nodes[node]);

	fault.alloc = n->alloc;
	fault.resize = n->resize;
	fault.seen = 0;
	fault.first = first;
	fault.is_storm = is_storm;
	n->alloc = faulty_alloc;
	n->resize = faulty_resize;
}

/* True if the fault was met. */
static bool fault_stop(unsigned node)
{
	struct node *n = sim_node_of(world.nodes[node]);

	n->alloc = fault.alloc;
	n->resize = fault.resize;
	return fault.seen >= fault.first;
}

/* The world. */

static struct address at(unsigned node)
{
	struct address a = { .kind = ADDRESS_SIM };

	a.u.sim.node = node + 1;
	a.u.sim.port = 1;
	return a;
}

static void be(unsigned node)
{
	node_current = sim_node_of(world.nodes[node]);
}

static void be_nobody(void)
{
	node_current = NULL;
}

static void accept_shard(struct listener *lr, struct stream *s)
{
	shard_accept(world.shard, s);
}

static void accept_store(struct listener *lr, struct stream *s)
{
	(void)store_accept(world.store, s);
}

static void accept_proxy(struct listener *lr, struct stream *s)
{
	proxy_accept(world.proxy, s);
}

static void accept_metrics(struct listener *lr, struct stream *s)
{
	proxy_accept_http(world.proxy, s);
}

/* Opens what a node is made of; the first error. Fine if part of it is open. */
static int open_meta(void)
{
	struct shard_config config = { .count = 1,
				       .is_open_loopback = true,
				       .media = is_near ? &media_heap : NULL,
				       .log_bytes = LOG_BYTES_MIN,
				       .snapshot_bytes = 1 };
	struct address a = at(META);
	int r = net_open(world.loops[META], &world.nets[META]);

	config.addresses[0] = "sim://1:1";
	if (r == 0)
		r = shard_open(&config, world.loops[META], world.nets[META], &world.shard);
	world.listeners[META] = (struct listener){ .accepted = accept_shard };
	if (r == 0)
		r = listener_open(world.loops[META], &a, &world.listeners[META]);
	return r;
}

static int open_pool(unsigned home, uint32_t port)
{
	struct store_config config = { .limit_bytes = POOL_BYTES,
				       .tier = TIER_DRAM,
				       .name = "dram",
				       .address = home == STORE ? "sim://2:1" : "sim://3:3",
				       .media = is_near ? &media_memfd : &media_heap };
	struct address a = at(home), meta = at(META);
	int r = store_open(&config, world.loops[home], world.nets[home], &world.store);

	a.u.sim.port = port;
	world.listeners[STORE] = (struct listener){ .accepted = accept_store };
	if (r == 0)
		r = listener_open(world.loops[home], &a, &world.listeners[STORE]);
	if (r == 0)
		r = store_join_at(world.store, &meta);
	return r;
}

static int open_store(void)
{
	int r = net_open(world.loops[STORE], &world.nets[STORE]);

	return r == 0 && !is_near ? open_pool(STORE, 1) : r;
}

static void emptied(void *owner, uint64_t segment, uint32_t generation, int result)
{
	store_emptied(world.store, segment, generation, result);
}

static int open_core(void)
{
	struct address meta = at(META);
	struct core_config config = { .metas = &meta, .meta_count = 1 };
	int r;

	if (is_near) {
		store_reach(world.store, &config.reach, &config.reach_ops);
		config.reach_store = store_incarnation(world.store);
	}
	r = core_open(world.nets[PROXY], &config, &world.core);
	if (r < 0 || !is_near)
		return r;
	r = mover_open(world.core, emptied, NULL, &world.mover);
	if (r == 0)
		store_set_mover(world.store, world.mover, mover_empty);
	return r;
}

static int open_proxy(void)
{
	struct address a = at(PROXY);
	struct proxy_config config = { .is_open_loopback = true, .trusts_local = is_near };
	int r = net_open(world.loops[PROXY], &world.nets[PROXY]);

	if (r == 0 && is_near)
		r = open_pool(PROXY, 3);
	if (r == 0)
		r = open_core();
	config.core = world.core;
	if (r == 0)
		r = proxy_open(world.nets[PROXY], &config, &world.proxy);
	world.listeners[PROXY] = (struct listener){ .accepted = accept_proxy };
	if (r == 0)
		r = listener_open(world.loops[PROXY], &a, &world.listeners[PROXY]);
	world.metrics = (struct listener){ .accepted = accept_metrics };
	a.u.sim.port = 2;
	if (r == 0)
		r = listener_open(world.loops[PROXY], &a, &world.metrics);
	return r;
}

static int open_client(void)
{
	world.w = node_alloc(sizeof(*world.w));
	if (!world.w)
		return -ENOMEM;
	world.w->address = at(PROXY);
	world.w->timeout_ms = TIMEOUT_MS;
	snprintf(world.w->endpoint, sizeof(world.w->endpoint), "sim");
	return handle_init(world.w, world.loops[CLIENT]);
}

static int (*const OPEN[NODES])(void) = { open_meta, open_store, open_proxy, open_client };

static void run_for(uint64_t ns)
{
	struct node *before = node_current;

	be_nobody();
	sim_run(world.sim, sim_now_ns(world.sim) + ns);
	node_current = before;
}

static void close_node(unsigned i)
{
	be(i);
	if (i < CLIENT && !(i == STORE && is_near))
		listener_close(&world.listeners[i]);
	if (i == PROXY && is_near)
		listener_close(&world.listeners[STORE]);
	if (i == PROXY)
		listener_close(&world.metrics);
	if (i == PROXY)
		mover_stop(world.mover);
	if (i == PROXY && world.proxy)
		proxy_stop(world.proxy);
	if (i == PROXY && world.core)
		core_stop(world.core);
	if (i == PROXY)
		run_for(3 * SECOND_NS);
	if (i == PROXY && world.proxy) {
		assert_true(proxy_has_stopped(world.proxy));
		proxy_close(world.proxy);
	}
	if (i == PROXY && world.core) {
		assert_true(core_has_stopped(world.core));
		mover_close(world.mover);
		core_close(world.core);
	}
	if (i == (is_near ? PROXY : STORE))
		store_close(world.store);
	if (i == META)
		shard_close(world.shard);
	if (i == CLIENT && world.w) {
		conn_close(world.w->conn);
		conn_close(world.w->opening);
	}
	run_for(SECOND_NS);
	(void)loop_turn(world.loops[i], 0); /* frees what was closed, if nothing else was due */
	if (i == CLIENT && world.w && world.w->net)
		net_close(world.w->net);
	if (i == CLIENT)
		handle_free(world.w);
	else if (world.nets[i])
		net_close(world.nets[i]);
	loop_close(world.loops[i]);
	be_nobody();
}

static void world_make(void)
{
	struct sim_config config = {
		.seed = 1, .delay_ns_min = 10000, .delay_ns_max = 50000, .cut_permille = 100
	};

	world = (struct world){ 0 };
	assert_int_equal(sim_open(&config, &world.sim), 0);
	for (unsigned i = 0; i < NODES; i++) {
		assert_int_equal(sim_node_add(world.sim, i + 1, &world.nodes[i]), 0);
		assert_int_equal(sim_loop_open(world.nodes[i], &world.loops[i]), 0);
	}
	if (is_near) {
		sim_node_set_host(world.nodes[PROXY], 1);
		sim_node_set_host(world.nodes[CLIENT], 1);
	}
}

static void world_open(void)
{
	world_make();
	for (unsigned i = 0; i < NODES; i++) {
		be(i);
		assert_int_equal(OPEN[i](), 0);
		be_nobody();
	}
	be(CLIENT);
}

static void world_close(void)
{
	for (unsigned i = NODES; i-- > 0;)
		close_node(i);
	for (unsigned i = 0; i < NODES; i++)
		if (sim_node_bytes(world.nodes[i]) != 0)
			fail_msg("%s has not given back %zu bytes", NODE_NAMES[i],
				 sim_node_bytes(world.nodes[i]));
	sim_close(world.sim);
}

/* The steps. Each can be done twice; the second time it must succeed. */

static int put(const char *path, uint32_t len)
{
	return wadi_put(world.w, path, sample, len, NULL, NULL);
}

/* 0 if the object is there and whole. */
static int get(const char *path, uint64_t offset, uint32_t len)
{
	struct wadi_get_options o = WADI_GET_OPTIONS;
	int64_t r;

	o.offset = offset;
	o.len = len;
	r = wadi_get(world.w, path, back, LARGE_LEN, &o, NULL);
	if (r >= 0 && (r != len || memcmp(back, sample + offset, len) != 0))
		fail_msg("%s: %lld bytes, not the %u that were put", path, (long long)r, len);
	return r < 0 ? (int)r : 0;
}

static int prepare(void)
{
	int r = put("small", SMALL_LEN);

	if (r == 0)
		r = put("medium", MEDIUM_LEN);
	if (r == 0)
		r = put("large", LARGE_LEN);
	for (int i = 0; i < 20 && r == 0; i++) {
		char path[32];

		snprintf(path, sizeof(path), "d/%02d", i);
		r = put(path, 10);
	}
	return r;
}

static int put_small(void)
{
	return put("new/small", SMALL_LEN);
}

static int put_medium(void)
{
	return put("new/medium", MEDIUM_LEN);
}

static int put_large(void)
{
	return put("new/large", LARGE_LEN);
}

static int get_small(void)
{
	return get("small", 0, SMALL_LEN);
}

static int get_large(void)
{
	return get("large", 0, LARGE_LEN);
}

static int get_middle(void)
{
	return get("large", 234567, 400000);
}

/* A writer of unknown length, `count` parts in reverse order. */
static int write_in(const char *path, uint32_t len, uint32_t count)
{
	struct wadi_writer *wr = NULL;
	int r = wadi_writer_open(world.w, path, 0, NULL, &wr);

	for (uint32_t part = count; part-- > 0 && r == 0;) {
		r = wadi_writer_part(wr, part);
		if (r == 0)
			r = wadi_writer_write(wr, sample + part * (len / count), len / count);
	}
	if (r < 0) {
		if (wr)
			wadi_writer_abandon(&wr);
		return r;
	}
	return wadi_writer_commit(&wr, NULL);
}

static int write_parts(void)
{
	return write_in("new/parts", LARGE_LEN, 4);
}

/* More than one COMMIT has room for, so the catalog is told piece by piece. */
static int write_many_parts(void)
{
	return write_in("new/many", MEDIUM_LEN, 100);
}

static int read_stream(void)
{
	struct wadi_reader *rd = NULL;
	int64_t r = wadi_reader_open(world.w, "large", NULL, &rd), at = 0;

	if (r < 0)
		return (int)r;
	while ((r = wadi_reader_read(rd, back, 200000)) > 0) {
		if (memcmp(back, sample + at, (size_t)r) != 0)
			fail_msg("foreign bytes behind %lld", (long long)at);
		at += r;
	}
	wadi_reader_close(&rd);
	if (r == 0 && at != LARGE_LEN)
		fail_msg("a reader ended at %lld", (long long)at);
	return (int)r;
}

static int view_medium(void)
{
	struct wadi_view *v = NULL;
	int r = wadi_view(world.w, "medium", NULL, &v);

	if (r < 0)
		return r;
	if (wadi_view_len(v) != MEDIUM_LEN || memcmp(wadi_view_data(v), sample, MEDIUM_LEN) != 0)
		fail_msg("a view of foreign bytes");
	return wadi_release(&v);
}

static int reserve_and_commit(void)
{
	struct wadi_reservation *s = NULL;
	int r = wadi_reserve(world.w, "new/reserved", MEDIUM_LEN, NULL, &s);

	if (r < 0)
		return r;
	memcpy(wadi_reservation_data(s), sample, MEDIUM_LEN);
	return wadi_commit(&s, NULL);
}

static int list_all(void)
{
	struct wadi_list_options o = WADI_LIST_OPTIONS;
	struct wadi_list *l = NULL;
	struct wadi_list_entry e;
	int r = wadi_list_open(world.w, "", &o, &l), count = 0;

	if (r < 0)
		return r;
	while ((r = wadi_list_next(l, &e)) > 0)
		count++;
	wadi_list_close(&l);
	if (r == 0 && count < 4)
		fail_msg("%d names are listed", count);
	return r;
}

static int stat_one(void)
{
	struct wadi_stat st;

	return wadi_stat(world.w, "medium", &st);
}

/* What a repeat finds done is done. */
static int remove_one(void)
{
	int r = wadi_remove(world.w, "medium", 0);

	return r == -ENOENT ? 0 : r;
}

static int remove_tree(void)
{
	uint64_t count;

	return wadi_remove_tree(world.w, "d", &count);
}

static int rename_one(void)
{
	int r = wadi_rename(world.w, "large", "renamed/large", 0, NULL);

	return r == -ENOENT ? get("renamed/large", 0, LARGE_LEN) : r;
}

/* Waits for what another operation of the same client puts meanwhile. */
static int wait_for_one(void)
{
	struct wadi_op *op = NULL;
	struct wadi_stat st;
	int r = wadi_start_wait(world.w, "new/awaited", 5000, &st, &op), p;
	int64_t waited;

	if (r < 0)
		return r;
	p = put("new/awaited", SMALL_LEN);
	if (p < 0)
		wadi_op_cancel(op);
	waited = wadi_op_end(&op);
	if (p < 0)
		return p;
	return waited < 0 ? (int)waited : 0;
}

static int wait_for_count(void)
{
	uint64_t count;

	return wadi_wait_count(world.w, "d", 20, 1000, &count);
}

static int consume(void)
{
	struct wadi_put_options o = WADI_PUT_OPTIONS;
	int r;

	o.reads = 1;
	r = wadi_put(world.w, "new/once", sample, LARGE_LEN, &o, NULL);
	if (r == 0)
		r = get("new/once", 0, LARGE_LEN);
	return r;
}

static int job_life(void)
{
	static unsigned number;
	char token[WADI_TOKEN_MAX + 1], name[32];
	struct wadi_job_options o = WADI_JOB_OPTIONS;
	struct wadi_job_info info[4];
	int r;

	snprintf(name, sizeof(name), "job-%u", ++number);
	r = wadi_job_create(world.w, name, &o, token);
	if (r == 0)
		r = wadi_job_renew(world.w, name, 60000);
	if (r == 0)
		r = wadi_job_show(world.w, name, &info[0]);
	if (r == 0)
		r = wadi_job_list(world.w, info, 4);
	return r < 0 ? r : wadi_job_end(world.w, name);
}

static int ask_totals(void)
{
	struct wadi_store_info info;

	return wadi_store_info(world.w, &info);
}

/* The turn ends, and that is all. */
static void ready(struct stream *s)
{
}

/* What a monitor does. */
static int ask_metrics(void)
{
	static const char ask[] = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
	struct iovec iov = { .iov_base = (void *)ask, .iov_len = sizeof(ask) - 1 };
	struct loop *l = world.loops[CLIENT];
	uint64_t late_ns = l->now_ns + 10 * SECOND_NS;
	struct address a = at(PROXY);
	struct stream *s;
	ssize_t have = 0, r;

	a.u.sim.port = 2;
	assert_int_equal(stream_connect(l, &a, &s), 0);
	s->ready = ready;
	do {
		if (iov.iov_len > 0 && (r = stream_send(s, &iov, 1)) > 0) {
			iov.iov_base = (char *)iov.iov_base + r;
			iov.iov_len -= (size_t)r;
		}
		r = iov.iov_len > 0 ? -EAGAIN
				    : stream_recv(s, back + have, LARGE_LEN - (size_t)have);
		have += r > 0 ? r : 0;
		if (r == -EAGAIN)
			assert_int_equal(loop_turn(l, late_ns), 0);
	} while ((r > 0 || r == -EAGAIN) && l->now_ns < late_ns);
	stream_close(s);
	if (r != 0)
		return r == -EAGAIN ? -ETIMEDOUT : (int)r;
	return have > 12 && memcmp(back, "HTTP/1.1 200", 12) == 0 ? 0 : -ENOMEM;
}

/* Connections are cut in the middle of a put, and come back. */
static int put_over_a_cut(void)
{
	struct wadi_op *op = NULL;
	int r = wadi_start_put(world.w, "new/cut", sample, LARGE_LEN, NULL, NULL, &op);

	if (r < 0)
		return r;
	run_for(SECOND_NS / 1000);
	for (unsigned i = 0; i < NODES; i++)
		for (unsigned k = 0; k < i; k++)
			sim_cut(world.sim, i + 1, k + 1, true);
	run_for(SECOND_NS / 10);
	for (unsigned i = 0; i < NODES; i++)
		for (unsigned k = 0; k < i; k++)
			sim_cut(world.sim, i + 1, k + 1, false);
	return (int)wadi_op_end(&op);
}

/* A pool that is full of what was removed, but for a little in each segment. */
static int fill_with_holes(void)
{
	struct wadi_put_options o = WADI_PUT_OPTIONS;
	uint64_t count;
	char path[32];
	int r = 0;

	o.timeout_ms = 500;
	for (int i = 0; r == 0; i++) {
		snprintf(path, sizeof(path), "kept/%d", i);
		r = wadi_put(world.w, path, sample, 5000, &o, NULL);
		snprintf(path, sizeof(path), "hole/%d", i);
		if (r == 0)
			r = wadi_put(world.w, path, sample, 60000, &o, NULL);
	}
	return r == -ENOSPC ? wadi_remove_tree(world.w, "hole", &count) : r;
}

static int end_default(void)
{
	int r = wadi_job_end(world.w, "default");

	return r == -EIDRM ? 0 : r;
}

/* Nobody asks for anything: sessions, heartbeats and the janitor go on by themselves. */
static int do_nothing(void)
{
	run_for(7 * SECOND_NS);
	return 0;
}

static const struct step {
	const char *name;
	int (*run)(void);
	const char *path; /* that is there afterwards, if the step has succeeded */
	uint32_t len;
	int (*before)(void); /* what is there, too; NULL: nothing */
	bool is_stream;      /* its bytes are not kept by the library: a lost connection ends it */
} STEPS[] = {
#define STEP(run, path, len)                      \
	{                                         \
#run, run, path, len, NULL, false \
	}
#define STREAM(run, path, len)                   \
	{                                        \
#run, run, path, len, NULL, true \
	}
	STEP(put_small, "new/small", SMALL_LEN),
	STEP(put_medium, "new/medium", MEDIUM_LEN),
	STEP(put_large, "new/large", LARGE_LEN),
	STEP(put_over_a_cut, "new/cut", LARGE_LEN),
	STREAM(write_many_parts, "new/many", MEDIUM_LEN),
	STREAM(write_parts, "new/parts", LARGE_LEN),
	STEP(reserve_and_commit, "new/reserved", MEDIUM_LEN),
	STEP(get_small, "small", SMALL_LEN),
	STEP(get_large, "large", LARGE_LEN),
	STEP(get_middle, "large", LARGE_LEN),
	STREAM(read_stream, "large", LARGE_LEN),
	STEP(view_medium, "medium", MEDIUM_LEN),
	STEP(consume, NULL, 0),
	STEP(list_all, NULL, 0),
	STEP(stat_one, "medium", MEDIUM_LEN),
	STEP(remove_one, NULL, 0),
	STEP(remove_tree, NULL, 0),
	STEP(rename_one, "renamed/large", LARGE_LEN),
	STEP(wait_for_one, "new/awaited", SMALL_LEN),
	STEP(wait_for_count, NULL, 0),
	STEP(job_life, NULL, 0),
	STEP(ask_totals, NULL, 0),
	STEP(ask_metrics, NULL, 0),
	STEP(do_nothing, NULL, 0),
	STEP(end_default, NULL, 0),
	{ "put_into_holes", put_large, "new/large", LARGE_LEN, fill_with_holes, false },
};
#define STEP_COUNT (sizeof(STEPS) / sizeof(STEPS[0]))

/* What an operation may say that found no memory, here or there. */
static bool is_clear(const struct step *step, int r)
{
	return r == 0 || (r == -ESTALE && step->is_stream) || r == -ENOMEM || r == -EAGAIN ||
	       r == -ENOSPC || r == -EUSERS || r == -EHOSTUNREACH || r == -ECONNRESET ||
	       r == -ETIMEDOUT;
}

static void check_shard(void)
{
	const char *why = look_at_shard(world.shard);

	if (why)
		fail_msg("%s", why);
}

static void check_pool_is_empty(void)
{
	struct info_rep info;

	be(is_near ? PROXY : STORE);
	store_info(world.store, &info);
	be_nobody();
	assert_int_equal(info.dram_used, 0);
}

/* What is removed is given back while its job lives on, and nothing else is kept. */
static void check_nothing_is_left(void)
{
	uint64_t count;
	int r;

	run_for(SECOND_NS); /* who gave up cannot know whether it is still to come */
	be(CLIENT);
	r = wadi_remove_tree(world.w, "", &count);
	assert_true(r == 0 || r == -ENOENT || r == -EIDRM);
	/* A read that was granted in an answer that got lost is given back after so long. */
	run_for((HOLD_MS_MAX / 1000 + 5) * SECOND_NS);
	check_pool_is_empty();
	be(CLIENT);
	assert_int_equal(end_default(), 0);
	run_for(SECOND_NS);
	check_pool_is_empty();
	check_shard();
}

/* True if the fault was met. */
static bool try_step(unsigned node, const struct step *step, uint64_t n, bool is_storm)
{
	uint64_t began_ns;
	bool is_met;
	int r;

	world_open();
	assert_int_equal(prepare(), 0);
	if (step->before)
		assert_int_equal(step->before(), 0);
	began_ns = sim_now_ns(world.sim);
	fault_start(node, n, is_storm);
	r = step->run();
	if (!is_clear(step, r))
		fail_msg("%s", wadi_strerror(world.w));
	is_met = fault_stop(node);
	assert_true(sim_now_ns(world.sim) - began_ns < 2 * TIMEOUT_MS * 1000000ull);
	check_shard();
	if (!is_met && r != 0)
		fail_msg("without a fault: %s", wadi_strerror(world.w));
	if (r == 0 && step->path)
		assert_int_equal(get(step->path, 0, step->len), 0);
	r = step->run();
	if (r != 0 && !(r == -EIDRM && step->run == end_default))
		fail_msg("with memory again: %s", wadi_strerror(world.w));
	if (step->path)
		assert_int_equal(get(step->path, 0, step->len), 0);
	check_nothing_is_left();
	world_close();
	return is_met;
}

static void try_all(bool is_storm)
{
	for (unsigned node = 0; node < NODES; node++) {
		uint64_t tries = 0;

		for (const struct step *s = STEPS; s < STEPS + STEP_COUNT; s++) {
			uint64_t n = 0;

			if (s->before == fill_with_holes && !is_near)
				continue; /* nobody moves what is beside them */
			do {
				if (getenv("WADI_FAULTS_TRACE"))
					print_message("%s: %s, allocation %llu\n", NODE_NAMES[node],
						      s->name, (unsigned long long)n + 1);
			} while (try_step(node, s, ++n, is_storm));
			tries += n - 1;
		}
		print_message("%s: %llu allocations have failed\n", NODE_NAMES[node],
			      (unsigned long long)tries);
		assert_true(tries > STEP_COUNT || (is_near && node == STORE));
	}
}

static void each_allocation_of_each_step_may_fail(void **state)
{
	try_all(false);
}

/*
 * True if it was met: from a node's opening on, while the others open and everything is done for
 * the first time.
 */
static bool try_from_the_start(unsigned node, uint64_t n)
{
	bool is_met;
	int r;

	world_make();
	for (unsigned i = 0; i < NODES; i++) {
		be(i);
		assert_int_equal(OPEN[i](), 0);
		be_nobody();
		if (i == node)
			fault_start(node, n, false);
	}
	be(CLIENT);
	r = prepare();
	if (r == 0)
		r = get_large();
	assert_true(is_clear(&STEPS[0], r));
	is_met = fault_stop(node);
	assert_true(is_met || r == 0);
	check_shard();
	assert_int_equal(prepare(), 0);
	assert_int_equal(get_large(), 0);
	check_nothing_is_left();
	world_close();
	return is_met;
}

static void each_allocation_from_the_start_on_may_fail(void **state)
{
	for (unsigned node = 0; node < NODES; node++) {
		uint64_t n = 1;

		while (try_from_the_start(node, n))
			n++;
		print_message("%s: %llu allocations have failed\n", NODE_NAMES[node],
			      (unsigned long long)n - 1);
		assert_true(n > 10 || (is_near && node == STORE));
	}
}

static int setup_near(void **state)
{
	is_near = true;
	return 0;
}

static int teardown_near(void **state)
{
	is_near = false;
	return 0;
}

static void memory_may_run_out_at_each_allocation_of_each_step(void **state)
{
	try_all(true);
}

/* A put into a full store, given up after a while: by its own deadline, or canceled. */
static int give_up(const char *path, uint64_t after_ns)
{
	struct wadi_op *op = NULL;
	int r = wadi_start_put(world.w, path, sample, LARGE_LEN, NULL, NULL, &op);

	assert_int_equal(r, 0);
	run_for(after_ns);
	wadi_op_cancel(op);
	return (int)wadi_op_end(&op);
}

static void a_put_that_is_given_up_leaves_nothing(void **state)
{
	struct wadi_put_options o = WADI_PUT_OPTIONS;
	unsigned canceled = 0;
	char path[32];
	int r = 0;

	o.timeout_ms = 500;
	world_open();
	for (int i = 0; r == 0; i++) {
		snprintf(path, sizeof(path), "full/%d", i);
		r = wadi_put(world.w, path, sample, LARGE_LEN, &o, NULL);
	}
	assert_int_equal(r, -ENOSPC);
	/* Each time there is room for it, and the answer that says so is at another place. */
	for (unsigned i = 0; i < 60; i++) {
		snprintf(path, sizeof(path), "full/%u", i % 5);
		r = wadi_remove(world.w, path, 0);
		assert_true(r == 0 || r == -ENOENT);
		canceled += give_up(path, i * SECOND_NS / 50000) == -ECANCELED;
	}
	assert_true(canceled > 10);
	check_nothing_is_left();
	world_close();
}

/* A get of what may be read once, in its two halves. */

struct half_get {
	struct wadi_op op;
	struct get_how how;
	struct got got;
};

static int64_t begin_run(struct wadi_op *op)
{
	struct half_get *g = container_of(op, struct half_get, op);

	return get_begin(op, &g->how, back, LARGE_LEN, &g->got);
}

static int64_t end_run(struct wadi_op *op)
{
	return get_end(op, &container_of(op, struct half_get, op)->got, true);
}

static int run_half(struct half_get *g, int64_t (*run)(struct wadi_op *op))
{
	op_init(&g->op, world.w, "get", "once", 0, run);
	return (int)op_run(&g->op);
}

static void put_once(void)
{
	struct wadi_put_options o = WADI_PUT_OPTIONS;

	o.reads = 1;
	assert_int_equal(wadi_put(world.w, "once", sample, LARGE_LEN, &o, NULL), 0);
}

/* Begun; the proxy has no stack for who says that all of it has come. */
static void refuse_the_end(struct half_get *g)
{
	struct fibers *fs = &world.loops[PROXY]->fibers;
	unsigned most = fs->stack_count_max;
	struct stack *spare = fs->spare;
	const char *why = "";

	*g = (struct half_get){ 0 };
	assert_int_equal(get_how_init(world.w, &g->how, NULL), 0);
	assert_int_equal(path_of(world.w, "once", &g->how.path, &why), 0);
	assert_int_equal(run_half(g, begin_run), 0);
	fs->stack_count_max = fs->stack_count;
	fs->spare = NULL;
	assert_int_equal(run_half(g, end_run), -EUSERS);
	fs->stack_count_max = most;
	fs->spare = spare;
}

static void a_read_that_could_not_be_counted_is_not_said_to_be(void **state)
{
	struct half_get g;

	world_open();
	put_once();
	refuse_the_end(&g);
	assert_int_equal(run_half(&g, end_run), 0); /* he tries again */
	assert_int_equal(get("once", 0, LARGE_LEN), -ENODATA);
	put_once();
	refuse_the_end(&g);
	get_forget(world.w, &g.got); /* he does not */
	run_for(SECOND_NS);
	assert_int_equal(get("once", 0, LARGE_LEN), 0);
	check_nothing_is_left();
	world_close();
}

static bool is_impatient(void *arg)
{
	return true;
}

/* What is on its way to a proxy that stands still when somebody has had enough. */
static void a_write_that_failed_has_let_go_of_its_bytes(void **state)
{
	static uint8_t bytes[3u << 20];
	struct wadi_writer *wr = NULL;

	world_open();
	assert_int_equal(wadi_writer_open(world.w, "new/stream", 4u << 20, NULL, &wr), 0);
	assert_int_equal(wadi_writer_write(wr, bytes, TRANSFER_PIECE), 0);
	sim_node_pause(world.nodes[PROXY], true);
	world.w->is_interrupted = is_impatient;
	assert_int_equal(wadi_writer_write(wr, bytes, sizeof(bytes)), -ECANCELED);
	for (const struct list *l = world.w->conn->priv->queue.next;
	     l != &world.w->conn->priv->queue; l = l->next) {
		const struct sending *s = container_of((struct list *)l, struct sending, link);
		const uint8_t *p = s->is_filled ? NULL : s->payload;

		assert_false(p >= bytes && p < bytes + sizeof(bytes));
	}
	world.w->is_interrupted = NULL;
	sim_node_pause(world.nodes[PROXY], false);
	assert_int_equal(wadi_writer_write(wr, bytes, 1), -ECANCELED);
	wadi_writer_abandon(&wr);
	check_nothing_is_left();
	world_close();
}

/* Opens all nodes, one of which finds no memory at its n-th allocation. True if that was met. */
static bool try_to_open(unsigned node, uint64_t n)
{
	bool is_met = false, is_open = true;

	world_make();
	for (unsigned i = 0; i < NODES; i++) {
		int r;

		if (i == node)
			fault_start(node, n, false);
		be(i);
		r = OPEN[i]();
		if (i == node) {
			run_for(SECOND_NS / 100); /* the others' answers, too */
			is_met = fault_stop(node);
		}
		be_nobody();
		assert_true(r == 0 || (is_met && r == -ENOMEM));
		is_open = is_open && r == 0;
	}
	/* What is open has only lost a connection by it, and makes another. */
	if (is_open) {
		run_for(2 * SECOND_NS);
		be(CLIENT);
		assert_int_equal(put_medium(), 0);
		check_nothing_is_left();
	}
	world_close();
	return is_met;
}

static void a_server_that_finds_no_memory_does_not_open_and_leaves_nothing(void **state)
{
	for (unsigned node = 0; node < NODES; node++) {
		uint64_t n = 1;

		while (try_to_open(node, n))
			n++;
		assert_true(n > 1);
	}
}

static int setup(void **state)
{
	/* A thousand worlds after each other have the same pages. */
	mallopt(M_MMAP_THRESHOLD, 64 << 20);
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
	sample = malloc(LARGE_LEN);
	back = malloc(LARGE_LEN);
	for (uint32_t i = 0; i < LARGE_LEN; i++)
		sample[i] = (uint8_t)(i * 2654435761u >> 24);
	return 0;
}

static int teardown(void **state)
{
	free(sample);
	free(back);
	return 0;
}

#define NEAR(f) cmocka_unit_test_setup_teardown(f, setup_near, teardown_near)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_server_that_finds_no_memory_does_not_open_and_leaves_nothing),
		cmocka_unit_test(a_put_that_is_given_up_leaves_nothing),
		cmocka_unit_test(a_read_that_could_not_be_counted_is_not_said_to_be),
		cmocka_unit_test(a_write_that_failed_has_let_go_of_its_bytes),
		cmocka_unit_test(each_allocation_from_the_start_on_may_fail),
		cmocka_unit_test(each_allocation_of_each_step_may_fail),
		cmocka_unit_test(memory_may_run_out_at_each_allocation_of_each_step),
		NEAR(a_server_that_finds_no_memory_does_not_open_and_leaves_nothing),
		NEAR(each_allocation_from_the_start_on_may_fail),
		NEAR(each_allocation_of_each_step_may_fail),
	};

	log_set_level(LOG_ERROR); /* thousands of connections are lost here */
	return cmocka_run_group_tests(tests, setup, teardown);
}
