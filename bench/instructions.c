/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many instructions a hot path takes: the noise-free record beside the timings.
 *
 *	valgrind --tool=callgrind --toggle-collect=measured build/bench/instructions PATH
 *
 * runs one path RUNS times inside measured(), and prints how often that was.
 *bench/instruction-counts does it for each of them and compares with bench/instructions.txt.
 *
 * All of it is one process and one loop, as in `wadi dev`: metadata, store and proxy talk
 * through pairs, and the client is libwadi over a Unix socket. Instructions of the kernel do
 * not count.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attach/handle.h"
#include "base/node.h"
#include "core/core.h"
#include "meta/catalog.h"
#include "meta/meta.h"
#include "proxy/proxy.h"
#include "shm/memory.h"
#include "shm/view.h"
#include "store/store.h"
#include "wire/extent.h"
#include "wire/token.h"

#ifdef __clang__
#define COMPILER "clang"
#else
#define COMPILER "gcc"
#endif
#ifdef __x86_64__
#define MACHINE "x86_64"
#else
#define MACHINE "aarch64"
#endif

#define RUNS       1000
#define POOL_BYTES (256ull << 20)
#define KEYS       64
#define LOG_BYTES  (64ull << 20)

static struct loop *loop;
static struct net *net;
static struct shard *shard;
static struct store *store;
static struct core *core;
static struct proxy *proxy;
static struct listener listener;
static struct wadi client;
static uint8_t bytes[1 << 20];

static void must(int64_t r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "instructions: %s: %s: %s\n", what, strerror((int)-r),
		wadi_strerror(&client));
	listener_close(&listener);
	exit(1);
}

/* The program. */

static int to_shard(void *owner, uint16_t index, struct stream **ret)
{
	struct stream *ends[2];
	int r = stream_pair(loop, 256 << 10, ends);

	(void)owner, (void)index;
	if (r < 0)
		return r;
	shard_accept(shard, ends[1]);
	*ret = ends[0];
	return 0;
}

static void accepted(struct listener *l, struct stream *s)
{
	(void)l;
	proxy_accept(proxy, s);
}

static void open_servers(void)
{
	static const uint8_t key[TOKEN_KEY_BYTES] = { 1 };
	struct shard_config meta = { .count = 1,
				     .is_open_loopback = true,
				     .token_key = { key, sizeof(key) },
				     .media = &media_memfd,
				     .log_bytes = LOG_BYTES,
				     .snapshot_bytes = LOG_BYTES / 2,
				     .addresses = { "tcp://127.0.0.1:1" } };
	struct store_config pool = {
		.limit_bytes = POOL_BYTES, .tier = TIER_DRAM, .name = "dram", .address = ""
	};
	struct core_config core_config = { .shard_count = 1, .to_shard = to_shard };
	struct proxy_config doors = { .is_open_loopback = true };
	struct stream *s;

	must(loop_open_epoll(&loop), "loop");
	must(net_open(loop, &net), "net");
	must(shard_open(&meta, loop, net, &shard), "shard");
	must(store_open(&pool, loop, net, &store), "store");
	must(to_shard(NULL, 0, &s), "pair");
	must(store_join(store, s), "join");
	store_reach(store, &core_config.reach, &core_config.reach_ops);
	core_config.reach_store = store_incarnation(store);
	must(core_open(net, &core_config, &core), "core");
	doors.core = core;
	must(proxy_open(net, &doors, &proxy), "proxy");
}

static void open_client(void)
{
	char path[64];

	snprintf(path, sizeof(path), "unix:///tmp/wadi-instructions-%d", (int)getpid());
	must(address_parse(path, &client.address), "address");
	listener.accepted = accepted;
	must(listener_open(loop, &client.address, &listener), "listen");
	client.timeout_ms = 60000;
	must(handle_init(&client, loop), "client");
}

/* The paths. */

static char keys[KEYS][8];

static const char *key_of(unsigned i)
{
	return keys[i % KEYS];
}

static void put(unsigned i, size_t len)
{
	must(wadi_put(&client, key_of(i), bytes, len, NULL, NULL), "put");
}

static void get(unsigned i, size_t len)
{
	int64_t n = wadi_get(&client, key_of(i), bytes, len, NULL, NULL);

	must(n, "get");
	assert(n == (int64_t)len);
}

static void put_64(unsigned i)
{
	put(i, 64);
}

static void put_100k(unsigned i)
{
	put(i, 100000);
}

static void get_64(unsigned i)
{
	get(i, 64);
}

static void get_100k(unsigned i)
{
	get(i, 100000);
}

static void stat_64(unsigned i)
{
	struct wadi_stat stat;

	must(wadi_stat(&client, key_of(i), &stat), "stat");
}

static void remove_64(unsigned i)
{
	must(wadi_remove(&client, key_of(i), 0), "remove");
}

static void put_then(unsigned count, size_t len)
{
	for (unsigned i = 0; i < count; i++)
		put(i, len);
}

/* Encoding and decoding of a LOOKUP and its answer. */
static void frame_lookup(unsigned i)
{
	uint8_t buf[BODY_BYTES];
	struct lookup_req req = { .job = i, .take = INLINE_BYTES_MAX };
	struct lookup_rep rep = { .hold = i, .len = 64 };
	struct wcur w = wcur_make(buf, sizeof(buf));
	struct rcur r;

	req.path = (struct slice){ (const uint8_t *)"part/00012345", 13 };
	lookup_req_put(&w, &req);
	r = rcur_make(buf, (size_t)wcur_finish(&w));
	assert(lookup_req_get(&r, &req) == 0 && req.job == i);
	w = wcur_make(buf, sizeof(buf));
	lookup_rep_put(&w, &rep);
	r = rcur_make(buf, (size_t)wcur_finish(&w));
	assert(lookup_rep_get(&r, &rep) == 0 && rep.hold == i);
}

/* The catalog alone: what a slot decides for a get and for a put, its log thrown away. */

static struct catalog *catalog;
static struct outcome outcome;
static uint64_t catalog_job;

static void drop_effect(struct catalog *c, const struct effect *e)
{
	(void)c, (void)e;
}

static void *value_map(struct catalog *c, uint32_t index)
{
	(void)c, (void)index;
	return node_alloc(VALUE_SEGMENT_BYTES);
}

static void value_unmap(struct catalog *c, uint32_t index, void *value)
{
	(void)c, (void)index;
	node_free(value);
}

static const struct catalog_ops CATALOG_OPS = { .log = drop_effect,
						.value_map = value_map,
						.value_unmap = value_unmap };

static struct slice slice_of(const char *text)
{
	return (struct slice){ (const uint8_t *)text, strlen(text) };
}

static void catalog_commit_64(unsigned i)
{
	static uint64_t now_ns = 1000000000;
	struct commit_req req = { .job = catalog_job, .len = 64, .seed = 1, .attempt_hi = 1 };

	now_ns += 1000;
	req.attempt_lo = now_ns;
	req.path = slice_of(key_of(i));
	req.crc = crc_more(crc_begin(req.seed), bytes, 64);
	must(catalog_commit(catalog, &req, (struct slice){ bytes, 64 }, now_ns, &outcome),
	     "commit");
}

static void catalog_lookup_64(unsigned i)
{
	struct lookup_req req = { .job = catalog_job, .take = INLINE_BYTES_MAX };
	struct wcur payload = wcur_make(bytes, EXTENTS_BYTES);

	req.path = slice_of(key_of(i));
	must(catalog_lookup(catalog, &req, 2000000000, &payload, &outcome), "lookup");
}

static void open_catalog(void)
{
	struct job_create_req job = { .lease_ms = JOB_LEASE_MS_MAX, .name = slice_of("bench") };

	catalog = catalog_new(1, 1, &CATALOG_OPS, NULL);
	must(catalog ? catalog_job_create(catalog, &job, 1000000000, &outcome) : -ENOMEM, "job");
	catalog_job = outcome.rep.job_create.job;
	for (unsigned i = 0; i < KEYS; i++)
		catalog_commit_64(i);
}

/* The index of the host attach: from a name to a pointer and back, asking nobody. */

static struct index_writer index_of_job;
static struct viewer viewer;
static struct mapping whole_segment = { .ptr = bytes, .len = SEGMENT_BYTES_MAX }; /* never read */
static struct mapping *mapped[] = { &whole_segment };

static void put_index(size_t len)
{
	static _Alignas(128) uint8_t head[128], table[4096 * 8], pins[64];

	must(index_writer_open(&index_of_job, head, sizeof(head), table, sizeof(table), 7),
	     "index");
	index_writer_lease(&index_of_job, UINT64_MAX);
	must(index_reader_open(&viewer.index, head, sizeof(head)), "index");
	must(index_reader_table(&viewer.index, table, sizeof(table)), "table");
	viewer.pins = pins_of(pins, sizeof(pins));
	viewer.mappings = mapped;
	viewer.mapping_count = 1;
	for (unsigned i = 0; i < KEYS; i++) {
		struct index_item item = { .len = len, .version = 1 };
		struct hash_128 hash = index_hash(keys[i], strlen(keys[i]), 7);

		must(index_writer_put(&index_of_job, hash, &item), "put");
	}
}

static void view(unsigned i, size_t len)
{
	struct view view;
	struct hash_128 hash = index_hash(key_of(i), strlen(key_of(i)), viewer.index.seed);

	must(view_get(&viewer, hash, node_now_ns(), &view), "view");
	assert(view.item.len == len);
	must(view_release(&viewer, &view), "release");
}

static void view_64(unsigned i)
{
	view(i, 64);
}

static void view_64m(unsigned i)
{
	view(i, SEGMENT_BYTES_MAX);
}

static const struct {
	const char *name;
	void (*run)(unsigned i);
	size_t prepared; /* so many bytes in each object before; 0: none */
	unsigned runs;
} PATHS[] = {
	{ "frame_lookup", frame_lookup, 0, RUNS },
	{ "catalog_lookup_64", catalog_lookup_64, 0, RUNS },
	{ "catalog_commit_64", catalog_commit_64, 0, RUNS },
	{ "view_64", view_64, 0, RUNS },
	{ "view_64m", view_64m, 0, RUNS },
	{ "get_64", get_64, 64, RUNS },
	{ "put_64", put_64, 64, RUNS },
	{ "get_100k", get_100k, 100000, RUNS },
	{ "put_100k", put_100k, 100000, RUNS },
	{ "stat", stat_64, 64, RUNS },
	{ "remove", remove_64, 64, KEYS },
};
#define PATH_COUNT (sizeof(PATHS) / sizeof(PATHS[0]))

/* What callgrind counts. */
static __attribute__((noinline, noclone)) void measured(void (*run)(unsigned i), unsigned runs)
{
	for (unsigned i = 0; i < runs; i++)
		run(i);
}

int main(int argc, char **argv)
{
	size_t p = 0;

	if (argc == 2 && strcmp(argv[1], "--compiler") == 0) {
		printf("%s %s %s\n", COMPILER, __VERSION__, MACHINE);
		return 0;
	}
	while (argc == 2 && p < PATH_COUNT && strcmp(PATHS[p].name, argv[1]) != 0)
		p++;
	if (argc != 2 || p == PATH_COUNT) {
		for (p = 0; p < PATH_COUNT; p++)
			puts(PATHS[p].name);
		return argc == 2 ? 2 : 0;
	}
	for (unsigned i = 0; i < KEYS; i++)
		snprintf(keys[i], sizeof(keys[i]), "k%u", i);
	open_servers();
	open_client();
	open_catalog();
	put_index(PATHS[p].run == view_64m ? SEGMENT_BYTES_MAX : 64);
	if (PATHS[p].prepared) {
		put_then(KEYS, PATHS[p].prepared);
		for (unsigned i = 0; i < KEYS; i++)
			get(i, PATHS[p].prepared);
	}
	measured(PATHS[p].run, PATHS[p].runs);
	printf("%u\n", PATHS[p].runs);
	fflush(stdout);
	listener_close(&listener); /* its path in the file system */
	_exit(0);                  /* nothing of it is to be ended in order */
}
