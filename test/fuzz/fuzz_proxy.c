/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A proxy, and behind it a shard and a store, as `wadi dev` has them; peers that say
 * they are functions or servers. An odd first byte: the metrics port.
 */
#include "regions.h"
#include "server.h"

#include "core/core.h"
#include "meta/meta.h"
#include "proxy/proxy.h"
#include "shm/memory.h"
#include "store/store.h"

static const enum role ROLES[PEERS] = { ROLE_JOB, ROLE_JOB, ROLE_JOB };
static const uint8_t TOKEN_KEY[32] = { 1, 2, 3 };
static struct shard *shard;
static struct store *store;
static struct core *core;
static struct proxy *proxy;
static struct net *net;

/* Descriptors, which go nowhere; nobody has one of this number, should it be closed. */
#define DESCRIPTOR (1 << 20)

int __wrap_memory_export(const struct memory *m);
int __wrap_memory_export_to_write(const struct memory *m);
int __wrap_conn_pass_fds(struct conn *c, const int *fds, unsigned count);

int __wrap_memory_export(const struct memory *m)
{
	REQUIRE(m->ptr && m->size > 0);
	return DESCRIPTOR;
}

int __wrap_memory_export_to_write(const struct memory *m)
{
	return __wrap_memory_export(m);
}

int __wrap_conn_pass_fds(struct conn *c, const int *fds, unsigned count)
{
	REQUIRE(!c->is_closed && count > 0);
	for (unsigned i = 0; i < count; i++)
		REQUIRE(fds[i] == DESCRIPTOR);
	return 0;
}

static int to_shard(void *owner, uint16_t index, struct stream **ret)
{
	struct stream *ends[2];

	(void)owner, (void)index;
	REQUIRE(stream_pair(loop, PAIR, ends) == 0);
	shard_accept(shard, ends[1]);
	*ret = ends[0];
	return 0;
}

static void job_over(void *owner, uint64_t job)
{
	(void)owner;
	proxy_job_over(proxy, job);
}

static void open_all(void)
{
	struct shard_config meta = { .count = 1,
				     .is_open_loopback = true,
				     .token_key = { TOKEN_KEY, sizeof(TOKEN_KEY) },
				     .addresses = { "tcp://shard:1" } };
	struct store_config pool = { .limit_bytes = 8u << 20,
				     .tier = TIER_DRAM,
				     .name = "fuzz",
				     .address = "",
				     .media = &media_heap };
	struct core_config middle = { .shard_count = 1,
				      .to_shard = to_shard,
				      .job_over = job_over };
	struct proxy_config doors = { .token_key = TOKEN_KEY,
				      .token_key_len = sizeof(TOKEN_KEY),
				      .is_open_loopback = true,
				      .trusts_local = true,
				      .indexes_max = 1,
				      .index_bytes_max = 1u << 20 };
	struct stream *join;

	REQUIRE(net_open(loop, &net) == 0);
	REQUIRE(shard_open(&meta, loop, net, &shard) == 0);
	REQUIRE(store_open(&pool, loop, net, &store) == 0);
	REQUIRE(to_shard(NULL, 0, &join) == 0 && store_join(store, join) == 0);
	store_reach(store, &middle.reach, &middle.reach_ops);
	middle.reach_store = store_incarnation(store);
	REQUIRE(core_open(net, &middle, &core) == 0);
	doors.core = core;
	REQUIRE(proxy_open(net, &doors, &proxy) == 0);
	for (int i = 0; i < 100 && !core_is_ready(core); i++)
		turn_for(MS);
	REQUIRE(core_is_ready(core));
}

static void close_all(void)
{
	proxy_stop(proxy);
	for (int i = 0; i < 100 && !proxy_has_stopped(proxy); i++)
		turn_for(SECOND);
	REQUIRE(proxy_has_stopped(proxy));
	proxy_close(proxy);
	core_stop(core);
	for (int i = 0; i < 100 && !core_has_stopped(core); i++)
		turn_for(SECOND);
	REQUIRE(core_has_stopped(core));
	core_close(core);
	turn_for(MS);
	store_close(store);
	shard_close(shard);
	turn_for(10 * MS);
	REQUIRE(net_counters(net)->conn_count == 0);
	net_close(net);
}

/* From this host: they write in place, and have an index. A ring, which is fuzz_ring.c's, needs an
 * eventfd, so none is made. */
static void accept_native(struct stream *s)
{
	s->peer.address.kind = ADDRESS_UNIX;
	proxy_accept(proxy, s);
}

/* Text in pieces, and time between them. */
static void monitor(struct bytes in)
{
	struct peer_end *p = &peers[0];
	struct stream *ends[2];
	char answer[512];

	REQUIRE(stream_pair(loop, PAIR, ends) == 0);
	p->stream = ends[0];
	p->stream->ready = peer_is_ready;
	proxy_accept_http(proxy, ends[1]);
	for (int i = 0; i < STEPS_MAX && bytes_left(&in) > 0; i++) {
		struct slice s = take_slice(&in, 1 + take(&in, 1) % 64);
		ssize_t n = 1;

		peer_send(p, s.ptr, s.len);
		turn_for(s.len % 8 == 7 ? SECOND : MS / 10);
		while (p->stream && n > 0) {
			n = stream_recv(p->stream, answer, sizeof(answer));
			if (n == 0)
				peer_close(p);
		}
	}
	peer_close(p);
	turn_for(MS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct bytes in = bytes_of(data, len);

	world_open();
	open_all();
	if (take(&in, 1) % 2)
		monitor(in);
	else
		converse(in, SERVER_PROXY, ROLES, accept_native);
	close_all();
	world_close();
	return 0;
}

/*
 * Seeds that are understood: a byte for each number and each string, as fields.h takes them, and 0
 * for what is as it mostly is.
 */
struct script {
	uint8_t bytes[600];
	size_t len;
};

#define ONE(type, field) +1
#define HELLO_BYTES      ((0 HELLO_REQ(ONE)) + 5)
#define PAGES(n)         (uint8_t)(0x40 + (n)) /* 32 of them and more, below 64 */

static void request(struct script *s, int message, const uint8_t *fields, size_t count,
		    uint8_t payload)
{
	static const uint8_t WAIT[] = { 0xd8, 0 };

	s->bytes[s->len + 1] = (uint8_t)message;
	memcpy(s->bytes + s->len + 3, fields, count);
	s->bytes[s->len + 3 + count] = payload;
	s->len += 3 + count + 4;
	memcpy(s->bytes + s->len, WAIT, sizeof(WAIT));
	s->len += sizeof(WAIT);
}

#define REQUEST(s, NAME, payload, ...)                                                             \
	request(s, MESSAGE_##NAME, (uint8_t[0 NAME##_REQ(ONE)]){ __VA_ARGS__ }, 0 NAME##_REQ(ONE), \
		payload)

/* Room for an object, which is given back or put with the sums of what is there. */
static void seed_reserved(const char *name, uint8_t len, uint8_t sums)
{
	struct script s = { .len = 1 + PEERS * HELLO_BYTES };

	REQUEST(&s, RESERVE, 0, len);
	REQUEST(&s, RESERVE, 0, len);
	REQUEST(&s, RESERVE_MAP, 0, 0);
	REQUEST(&s, PUT_DROP, 0, 0);
	REQUEST(&s, RESERVE_MAP, 0, 1);
	REQUEST(&s, RESERVE_PUT, sums, [0] = 1, [10] = 1);
	REQUEST(&s, GET, 0, [2] = 20, [8] = 1);
	fuzz_seed(name, s.bytes, s.len);
}

/* An upload in two pieces. */
static void seed_room(void)
{
	struct script s = { .len = 1 + PEERS * HELLO_BYTES };

	REQUEST(&s, PUT_OPEN, 0, [11] = 1, [13] = 1);
	REQUEST(&s, PUT_ROOM, 0, [4] = PAGES(32));
	REQUEST(&s, RESERVE_MAP, 0, 0);
	REQUEST(&s, PUT_ROOM, 2, [1] = PAGES(32), [3] = PAGES(32), [4] = PAGES(33));
	REQUEST(&s, PUT_ROOM, 1, [3] = 20);
	REQUEST(&s, PUT_COMMIT, 0, 0);
	fuzz_seed("room", s.bytes, s.len);
}

void fuzz_seeds(void)
{
	static const char TEXT[] = "\1\77GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";

	server_seeds();
	seed_reserved("reserved", 20, 1);
	seed_reserved("reserved-with-two-sums", PAGES(32), 2);
	seed_room();
	fuzz_seed("monitor", TEXT, sizeof(TEXT) - 1);
}
