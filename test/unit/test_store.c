/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The storage server from outside: a client at the other end of a pair says what
 * slots and proxies say, and looks at the answers. Both backends of the loop.
 */
#include "test.h"

#include <errno.h>

#include "base/container.h"
#include "net/conn.h"
#include "store/store.h"
#include "store/store_priv.h"
#include "world.h"

#define LIMIT (64u << 20)
#define JOB   ((7ull << ID_SLOT_SHIFT) | 1)
#define JOB_2 ((9ull << ID_SLOT_SHIFT) | 2)

static struct net *net;
static struct store *store;
static struct conn *meta, *proxy;
static const struct service NOBODY = { .server = SERVER_META };
static struct service as_meta;
static struct hello_req heard;

static void meta_hello(struct request *r)
{
	struct rcur body = request_body(r);
	struct wcur w = request_answer(r);

	assert_int_equal(hello_req_get(&body, &heard), 0);
	r->conn->access = node_alloc(sizeof(*r->conn->access));
	r->conn->access->role = ROLE_STORE;
	hello_rep_put(&w, &(struct hello_rep){ .version = PROTOCOL_VERSION });
	request_reply(r, &w, NULL);
}

static struct conn *connect_as(enum role role, const char *key, int *ret_result);

static void open_store(bool is_simulated, const struct media *media)
{
	struct store_config config = { .limit_bytes = LIMIT,
				       .tier = TIER_DRAM,
				       .name = "test",
				       .key = { (const uint8_t *)"secret", 6 },
				       .address = "sim://1:1",
				       .media = media };
	struct stream *pair[2];
	int r;

	world_open(is_simulated);
	assert_int_equal(net_open(loop, &net), 0);
	assert_int_equal(store_open(&config, loop, net, &store), 0);
	as_meta = NOBODY;
	as_meta.handlers[MESSAGE_HELLO].serve = meta_hello;
	assert_int_equal(stream_pair(loop, 256 << 10, pair), 0);
	meta = conn_open(net, pair[0], &as_meta, NULL);
	assert_non_null(meta);
	assert_int_equal(store_join(store, pair[1]), 0);
	WAIT_FOR(store_joined_count(store) == 1);
	proxy = connect_as(ROLE_PROXY, "secret", &r);
	assert_int_equal(r, 0);
}

static void close_store(void)
{
	conn_close(meta);
	conn_close(proxy);
	store_close(store);
	turn_for(MS);
	net_close(net);
	world_close();
}

/* A call that is over. */
static uint8_t room[FRAME_PAYLOAD_MAX];
static char detail[200];

static int finish(struct call *c, struct rcur *ret_body)
{
	WAIT_FOR(!c->is_pending);
	call_detail(c, detail, sizeof(detail));
	*ret_body = call_reply(c);
	return c->result;
}

#define CALL(conn_, NAME, name, payload_, ...)                                                     \
	({                                                                                         \
		struct call call_ = { .room = room, .room_cap = sizeof(room) };                    \
		struct wcur w_ = call_body(net, &call_);                                           \
		struct rcur body_;                                                                 \
		struct name##_rep rep_ = {};                                                       \
		int r_;                                                                            \
                                                                                                   \
		name##_req_put(&w_, &(struct name##_req){ __VA_ARGS__ });                          \
		call_send(conn_, &call_, MSG_##NAME, 0, &w_, payload_, loop->now_ns + 5 * SECOND); \
		r_ = finish(&call_, &body_);                                                       \
		if (r_ == 0)                                                                       \
			assert_int_equal(name##_rep_get(&body_, &rep_), 0);                        \
		result = r_;                                                                       \
		room_len = call_.room_len;                                                         \
		call_end(&call_);                                                                  \
		rep_;                                                                              \
	})

static int result;
static size_t room_len;

static struct conn *connect_as(enum role role, const char *key, int *ret_result)
{
	struct stream *pair[2];
	struct conn *c;

	assert_int_equal(stream_pair(loop, 256 << 10, pair), 0);
	c = conn_open(net, pair[0], NULL, NULL);
	assert_non_null(c);
	assert_int_equal(store_accept(store, pair[1]), 0);
	(void)CALL(c, HELLO, hello, NULL, .version = PROTOCOL_VERSION, .role = role,
		   .secret = { (const uint8_t *)key, strlen(key) });
	*ret_result = result;
	return c;
}

static struct grant grant_one(uint64_t job, uint64_t request, uint32_t size)
{
	struct segment_rep rep = CALL(meta, SEGMENT, segment, NULL, .job = job, .request = request,
				      .stamp_ns = 1000, .need = size, .size = size);
	struct rcur list = rcur_make(room, room_len);
	struct grant g;

	assert_int_equal(result, 0);
	assert_int_equal(rep.count, 1);
	grant_get(&list, &g);
	assert_int_equal(rcur_finish(&list), 0);
	return g;
}

static int put_bytes(const struct grant *g, uint64_t job, uint32_t offset, const void *p,
		     size_t len)
{
	struct payload payload = { .ptr = p, .len = len };

	(void)CALL(proxy, WRITE, write, &payload, .job = job, .segment = g->segment, .key = g->key,
		   .generation = g->generation, .offset = offset);
	return result;
}

static int get_bytes(const struct grant *g, uint64_t job, uint32_t offset, uint32_t len)
{
	(void)CALL(proxy, READ, read, NULL, .job = job, .segment = g->segment,
		   .generation = g->generation, .offset = offset, .len = len);
	return result;
}

static bool is_simulated_of(void **state)
{
	return *(bool *)*state;
}

static void bytes_are_written_in_place_and_read_back(void **state)
{
	static uint8_t bytes[300000];
	struct grant g;

	open_store(is_simulated_of(state), is_simulated_of(state) ? &media_heap : NULL);
	assert_int_equal(heard.role, ROLE_STORE);
	assert_int_equal(heard.limit_bytes, LIMIT);
	assert_int_equal(heard.incarnation, store_incarnation(store));
	g = grant_one(JOB, 1, 1 << 20);
	assert_int_equal(g.size, 1 << 20);
	assert_int_equal(g.store, store_incarnation(store));
	assert_int_equal(pool_of_segment(g.segment), g.store);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + 1);
	assert_int_equal(put_bytes(&g, JOB, 4096, bytes, sizeof(bytes)), 0);
	assert_int_equal(get_bytes(&g, JOB, 4096, sizeof(bytes)), 0);
	assert_int_equal(room_len, sizeof(bytes));
	assert_memory_equal(room, bytes, sizeof(bytes));
	(void)CALL(meta, SEAL, seal, NULL, .segment = g.segment, .generation = g.generation,
		   .front = 4096 + sizeof(bytes), .back = 1 << 20, .stamp_ns = 2000);
	assert_int_equal(result, 0);
	assert_int_equal(get_bytes(&g, JOB, 4096, sizeof(bytes)), 0);
	assert_memory_equal(room, bytes, sizeof(bytes));
	(void)CALL(meta, FREE, free, NULL, .segment = g.segment, .generation = g.generation,
		   .stamp_ns = 3000);
	assert_int_equal(result, 0);
	assert_int_equal(get_bytes(&g, JOB, 4096, 1), -ESTALE);
	close_store();
}

static bool no = false, yes = true;

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(bytes_are_written_in_place_and_read_back, &no),
		cmocka_unit_test_prestate(bytes_are_written_in_place_and_read_back, &yes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
