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
#include "wire/token.h"
#include "world.h"

#define LIMIT    (64u << 20)
#define FOR_JOBS (62u << 20) /* the rest is for moves */
#define JOB      ((7ull << ID_SLOT_SHIFT) | 1)
#define JOB_2    ((9ull << ID_SLOT_SHIFT) | 2)

static const uint8_t TOKEN_KEY[TOKEN_KEY_BYTES] = { 1, 2, 3 };

static struct net *net;
static struct store *store;
static struct conn *meta, *proxy;
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

/* Metadata servers that come and go, at an address. */
static struct conn *accepted;

static void meta_closed(struct conn *c)
{
	if (meta == c)
		meta = NULL;
	if (accepted == c)
		accepted = NULL;
}

/* What was closed by the other end is no longer there. */
static void client_closed(struct conn *c)
{
	if (proxy == c)
		proxy = NULL;
}

static const struct service CLIENT = { .server = SERVER_PROXY, .closed = client_closed };

static void init_meta(void)
{
	as_meta = (struct service){ .server = SERVER_META, .closed = meta_closed };
	as_meta.handlers[MESSAGE_HELLO].serve = meta_hello;
}

static struct conn *connect_as(enum role role, const char *key, int *ret_result);

static void open_store(bool is_simulated, const struct media *media)
{
	struct store_config config = { .limit_bytes = LIMIT,
				       .tier = TIER_DRAM,
				       .name = "test",
				       .key = { (const uint8_t *)"secret", 6 },
				       .token_key = { TOKEN_KEY, TOKEN_KEY_BYTES },
				       .address = "sim://1:1",
				       .media = media };
	struct stream *pair[2];
	int r;

	world_open(is_simulated);
	assert_int_equal(net_open(loop, &net), 0);
	assert_int_equal(store_open(&config, loop, net, &store), 0);
	init_meta();
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
static bool is_far; /* connections come from another host */

/* Before HELLO. */
static struct conn *connect_to_store(void)
{
	struct stream *pair[2];
	struct conn *c;

	assert_int_equal(stream_pair(loop, 256 << 10, pair), 0);
	c = conn_open(net, pair[0], &CLIENT, NULL);
	assert_non_null(c);
	c->access = node_alloc(sizeof(*c->access));
	c->access->role = ROLE_STORE;
	pair[1]->peer.is_loopback = !is_far;
	assert_int_equal(store_accept(store, pair[1]), 0);
	return c;
}

static struct conn *connect_as(enum role role, const char *key, int *ret_result)
{
	struct conn *c = connect_to_store();

	(void)CALL(c, HELLO, hello, NULL, .version = PROTOCOL_VERSION, .role = (uint16_t)role,
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

static int put_at(const struct grant *g, uint64_t job, uint32_t offset, const void *p, size_t len)
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
	assert_int_equal(put_at(&g, JOB, 4096, bytes, sizeof(bytes)), 0);
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

static int free_call(const struct grant *g, uint64_t stamp_ns)
{
	(void)CALL(meta, FREE, free, NULL, .segment = g->segment, .generation = g->generation,
		   .stamp_ns = stamp_ns);
	return result;
}

/* A call of which the answer is looked at later. */
#define SEND(call_, conn_, NAME, name, due_ns, ...)                                           \
	do {                                                                                  \
		struct wcur w_;                                                               \
                                                                                              \
		*(call_) = (struct call){ .room = late_room, .room_cap = sizeof(late_room) }; \
		w_ = call_body(net, call_);                                                   \
		name##_req_put(&w_, &(struct name##_req){ __VA_ARGS__ });                     \
		call_send(conn_, call_, MSG_##NAME, 0, &w_, NULL, due_ns);                    \
	} while (0)

static uint8_t late_room[GRANTS_BYTES];

static int end_call(struct call *c)
{
	struct rcur body;
	int r = finish(c, &body);

	call_end(c);
	return r;
}

static void only_who_knows_the_key_is_served(void **state)
{
	struct stream *pair[2];
	struct conn *c;
	int r;

	open_store(is_simulated_of(state), &media_heap);
	conn_close(connect_as(ROLE_PROXY, "secreT", &r));
	assert_int_equal(r, -EKEYREJECTED);
	conn_close(connect_as(ROLE_PROXY, "", &r));
	assert_int_equal(r, -EKEYREJECTED);
	conn_close(connect_as(ROLE_PROXY, "secretsecret", &r));
	assert_int_equal(r, -EKEYREJECTED);
	conn_close(connect_as(ROLE_JOB, "secret", &r));
	assert_int_equal(r, -EKEYREJECTED);
	conn_close(connect_as(17, "secret", &r));
	assert_int_equal(r, -EINVAL);

	assert_int_equal(stream_pair(loop, 1 << 16, pair), 0);
	c = conn_open(net, pair[0], NULL, NULL);
	assert_int_equal(store_accept(store, pair[1]), 0);
	(void)CALL(c, INFO, info, NULL);
	assert_int_equal(result, -EACCES);
	(void)CALL(c, HELLO, hello, NULL, .version = 99, .role = ROLE_PROXY,
		   .secret = { (const uint8_t *)"secret", 6 });
	assert_int_equal(result, -EPROTONOSUPPORT);
	(void)CALL(c, HELLO, hello, NULL, .version = PROTOCOL_VERSION, .role = ROLE_PROXY,
		   .secret = { (const uint8_t *)"secret", 6 });
	assert_int_equal(result, 0);
	(void)CALL(c, PING, ping, NULL);
	assert_int_equal(result, 0);
	/* And nobody becomes somebody else. */
	(void)CALL(c, HELLO, hello, NULL, .version = PROTOCOL_VERSION, .role = ROLE_META,
		   .secret = { (const uint8_t *)"secret", 6 });
	assert_int_equal(result, -EINVAL);
	conn_close(c);
	close_store();
}

static void without_a_key_only_this_host_is_served(void **state)
{
	struct store_config config = { .limit_bytes = LIMIT,
				       .tier = TIER_DRAM,
				       .name = "test",
				       .address = "",
				       .media = &media_heap };
	struct store *keyed, *open;
	int r;

	open_store(is_simulated_of(state), &media_heap);
	keyed = store;
	assert_int_equal(store_open(&config, loop, net, &open), 0);
	store = open;
	conn_close(connect_as(ROLE_PROXY, "", &r));
	assert_int_equal(r, 0);
	is_far = true;
	conn_close(connect_as(ROLE_PROXY, "", &r));
	assert_int_equal(r, -EACCES);
	is_far = false;
	store_close(open);
	store = keyed;
	close_store();
}

static void duties_are_of_metadata_servers_only(void **state)
{
	struct grant g;

	open_store(is_simulated_of(state), &media_heap);
	g = grant_one(JOB, 1, 64 << 10);
	(void)CALL(proxy, SEGMENT, segment, NULL, .job = JOB, .request = 2, .need = 1,
		   .size = 65536);
	assert_int_equal(result, -EACCES);
	(void)CALL(proxy, SEAL, seal, NULL, .segment = g.segment, .generation = 1);
	assert_int_equal(result, -EACCES);
	(void)CALL(proxy, REVOKE, revoke, NULL, .segment = g.segment, .generation = 1);
	assert_int_equal(result, -EACCES);
	(void)CALL(proxy, FREE, free, NULL, .segment = g.segment, .generation = 1);
	assert_int_equal(result, -EACCES);
	(void)CALL(proxy, JOB_OVER, job_over, NULL, .job = JOB);
	assert_int_equal(result, -EACCES);
	(void)CALL(proxy, SEGMENTS, segments, NULL, .of_slot = UINT16_MAX);
	assert_int_equal(result, -EACCES);
	assert_int_equal(put_at(&g, JOB, 0, "x", 1), 0);
	close_store();
}

static void a_write_or_read_that_is_not_allowed_moves_no_byte(void **state)
{
	static uint8_t bytes[200000];
	struct grant g, other;

	open_store(is_simulated_of(state), &media_heap);
	g = grant_one(JOB, 1, 256 << 10);
	memset(bytes, 0xee, sizeof(bytes));
	other = g;
	other.key++;
	assert_int_equal(put_at(&other, JOB, 0, bytes, sizeof(bytes)), -EACCES);
	assert_string_equal(detail, "not the key of the segment, or no longer");
	other = g;
	other.generation++;
	assert_int_equal(put_at(&other, JOB, 0, bytes, sizeof(bytes)), -ESTALE);
	assert_int_equal(put_at(&g, JOB_2, 0, bytes, sizeof(bytes)), -ESTALE);
	assert_int_equal(put_at(&g, JOB, 100000, bytes, sizeof(bytes)), -EINVAL);
	assert_int_equal(put_at(&g, JOB, UINT32_MAX, bytes, 2), -EINVAL);
	assert_int_equal(put_at(&g, JOB, 256 << 10, bytes, 0), 0);
	assert_int_equal(get_bytes(&g, JOB_2, 0, 10), -ESTALE);
	assert_int_equal(get_bytes(&g, JOB, 200000, 100000), -EINVAL);
	assert_int_equal(get_bytes(&g, JOB, 0, FRAME_PAYLOAD_MAX + 1), -EMSGSIZE);
	assert_int_equal(get_bytes(&g, JOB, 0, 256 << 10), 0);
	assert_int_equal(room_len, 256 << 10);
	for (size_t i = 0; i < room_len; i++)
		assert_int_equal(room[i], 0);
	assert_int_equal(get_bytes(&g, JOB, 5, 0), 0);
	assert_int_equal(room_len, 0);
	/* Nothing is left pinned. */
	assert_int_equal(free_call(&g, 5), 0);
	close_store();
}

static void a_duty_that_comes_twice_is_answered_the_same(void **state)
{
	struct grant g, again;

	open_store(is_simulated_of(state), &media_heap);
	g = grant_one(JOB, 1, 1 << 20);
	again = grant_one(JOB, 1, 1 << 20);
	assert_memory_equal(&g, &again, sizeof(g));
	for (unsigned i = 0; i < 2; i++) {
		(void)CALL(meta, SEAL, seal, NULL, .segment = g.segment, .generation = g.generation,
			   .front = 5000, .back = 1 << 20, .stamp_ns = 2000);
		assert_int_equal(result, 0);
	}
	assert_int_equal(store->pool.book.bytes, 8192);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(free_call(&g, 3000 + i), 0);
	assert_int_equal(store->pool.book.bytes, 0);
	(void)CALL(meta, SEAL, seal, NULL, .segment = g.segment, .generation = g.generation,
		   .front = 5000, .back = 1 << 20);
	assert_int_equal(result, -ESTALE);
	(void)CALL(meta, REVOKE, revoke, NULL, .segment = g.segment, .generation = g.generation);
	assert_int_equal(result, 0);
	(void)CALL(meta, JOB_OVER, job_over, NULL, .job = JOB);
	assert_int_equal(result, 0);
	(void)CALL(meta, JOB_OVER, job_over, NULL, .job = JOB);
	assert_int_equal(result, 0);
	close_store();
}

/* Fills the pool with segments of 1 MiB; the last of them in *ret. */
static void fill_pool(struct grant *ret)
{
	for (unsigned i = 0; i < FOR_JOBS >> 20; i++)
		*ret = grant_one(JOB, 1000 + i, 1 << 20);
	assert_int_equal(store->pool.used, FOR_JOBS);
}

static void a_full_store_says_so_before_the_deadline_and_what_its_limit_is(void **state)
{
	struct grant g;
	uint64_t from_ns;
	struct call c;

	open_store(is_simulated_of(state), &media_heap);
	fill_pool(&g);
	from_ns = loop->now_ns;
	SEND(&c, meta, SEGMENT, segment, loop->now_ns + 300 * MS, .job = JOB_2, .request = 1,
	     .need = 1 << 20, .size = 1 << 20);
	assert_int_equal(end_call(&c), -ENOSPC);
	assert_true(loop->now_ns - from_ns >= 250 * MS);
	assert_string_equal(detail,
			    "test: 1048576 bytes needed, limit 65011712, used 65011712, by this "
			    "job 0; remove objects, end jobs, or raise --memory");
	from_ns = loop->now_ns;
	(void)CALL(meta, SEGMENT, segment, NULL, .job = JOB_2, .request = 1, .need = FOR_JOBS + 1,
		   .size = 1 << 20);
	assert_int_equal(result, -ENOSPC);
	assert_true(loop->now_ns - from_ns < 100 * MS);
	close_store();
}

static void who_waits_gets_what_is_freed(void **state)
{
	struct grant g;
	struct call c;

	open_store(is_simulated_of(state), &media_heap);
	fill_pool(&g);
	memset(room, 1, 1 << 20);
	assert_int_equal(put_at(&g, JOB, 0, room, 1 << 20), 0);
	SEND(&c, meta, SEGMENT, segment, loop->now_ns + 5 * SECOND, .job = JOB_2, .request = 1,
	     .need = 1 << 20, .size = 1 << 20);
	turn_for(200 * MS);
	assert_true(c.is_pending);
	assert_int_equal(store->pool.ask_count, 1);
	assert_int_equal(free_call(&g, 5), 0);
	assert_int_equal(end_call(&c), 0);
	{
		struct rcur list = rcur_make(late_room, GRANT_SIZE);
		struct grant h;

		grant_get(&list, &h);
		assert_int_equal(get_bytes(&h, JOB_2, 0, 1 << 20), 0);
		for (size_t i = 0; i < 1 << 20; i++)
			assert_int_equal(room[i], 0);
	}
	close_store();
}

static void who_waits_and_goes_away_is_forgotten(void **state)
{
	struct grant g;
	struct call c;
	struct conn *other;
	int r;

	open_store(is_simulated_of(state), &media_heap);
	fill_pool(&g);
	other = connect_as(ROLE_META, "secret", &r);
	assert_int_equal(r, 0);
	SEND(&c, other, SEGMENT, segment, loop->now_ns + 600 * SECOND, .job = JOB_2, .request = 1,
	     .need = 1 << 20, .size = 1 << 20);
	WAIT_FOR(store->pool.ask_count == 1);
	conn_close(other);
	WAIT_FOR(store->pool.ask_count == 0);
	assert_int_equal(end_call(&c), -ECONNRESET);
	assert_int_equal(free_call(&g, 5), 0);
	turn_for(10 * MS);
	assert_int_equal(store->pool.used, FOR_JOBS - (1 << 20));
	close_store();
}

static void who_is_given_up_waits_no_more_and_keeps_what_it_has(void **state)
{
	struct segment_rep rep;
	struct grant g, had;
	struct rcur list;
	struct call c;

	open_store(is_simulated_of(state), &media_heap);
	fill_pool(&g);
	SEND(&c, meta, SEGMENT, segment, loop->now_ns + 3600 * SECOND, .job = JOB_2, .request = 1,
	     .need = 1 << 20, .size = 1 << 20);
	WAIT_FOR(store->pool.ask_count == 1);
	/* As often as it is said. */
	for (int i = 0; i < 2; i++) {
		rep = CALL(meta, SEGMENT, segment, NULL, .job = JOB_2, .request = 1, .is_over = 1);
		assert_int_equal(result, 0);
		assert_int_equal(rep.count + room_len, 0);
		assert_false(c.is_pending); /* its place is free by then */
	}
	assert_int_equal(end_call(&c), -ECANCELED);
	assert_int_equal(store->pool.ask_count, 0);
	rep = CALL(meta, SEGMENT, segment, NULL, .job = JOB, .request = 1000, .is_over = 1);
	assert_int_equal(rep.count, 1);
	list = rcur_make(room, room_len);
	grant_get(&list, &had);
	assert_int_equal(had.store, store->pool.number);
	assert_int_equal(put_at(&had, JOB, 0, "x", 1), 0);
	close_store();
}

static void those_who_wait_on_one_connection_leave_room_for_its_other_duties(void **state)
{
	static struct call calls[600];
	unsigned again = 0;
	struct grant g;

	open_store(is_simulated_of(state), &media_heap);
	fill_pool(&g);
	for (unsigned i = 0; i < 600; i++)
		SEND(&calls[i], meta, SEGMENT, segment, loop->now_ns + 10 * SECOND, .job = JOB_2,
		     .request = i, .need = 1 << 20, .size = 1 << 20);
	WAIT_FOR(!calls[599].is_pending);
	assert_int_equal(store->pool.ask_count, 512);
	assert_int_equal(free_call(&g, 5), 0);
	(void)CALL(meta, JOB_OVER, job_over, NULL, .job = JOB_2);
	assert_int_equal(result, 0);
	for (unsigned i = 0; i < 600; i++) {
		int r = end_call(&calls[i]);

		again += r == -EAGAIN;
		assert_true(r == 0 || r == -EAGAIN || r == -EIDRM);
	}
	assert_int_equal(again, 88);
	assert_int_equal(store->pool.ask_count, 0);
	close_store();
}

static void when_a_job_is_over_its_bytes_are_served_to_nobody(void **state)
{
	struct grant g;

	open_store(is_simulated_of(state), &media_heap);
	g = grant_one(JOB, 1, 1 << 20);
	assert_int_equal(put_at(&g, JOB, 0, "abc", 3), 0);
	(void)CALL(meta, JOB_OVER, job_over, NULL, .job = JOB);
	assert_int_equal(result, 0);
	assert_int_equal(get_bytes(&g, JOB, 0, 3), -EIDRM);
	assert_int_equal(put_at(&g, JOB, 0, "abc", 3), -EIDRM);
	assert_int_equal(free_call(&g, 7), 0);
	assert_int_equal(get_bytes(&g, JOB, 0, 3), -ESTALE);
	close_store();
}

static void a_function_reaches_segments_of_its_own_job_until_that_is_over(void **state)
{
	static const struct slice name = { (const uint8_t *)"job", 3 };
	char whole[TOKEN_BYTES_MAX + 1], narrow[TOKEN_BYTES_MAX + 1];
	struct slice text = { (uint8_t *)whole, 0 };
	struct conn *before;
	struct grant g, other;
	int r;

	open_store(is_simulated_of(state), &media_heap);
	g = grant_one(JOB, 1, 64 << 10);
	other = grant_one(JOB_2, 2, 64 << 10);
	assert_int_equal(token_make(TOKEN_KEY, TOKEN_KEY_BYTES, JOB, name, whole), 0);
	text.len = strlen(whole);
	/* A segment has bytes of the whole job, so a part of it is not enough. */
	assert_int_equal(token_narrow(text, name, RIGHTS_OF_JOB, 0, narrow), 0);
	conn_close(connect_as(ROLE_JOB, narrow, &r));
	assert_int_equal(r, -EACCES);

	before = proxy;
	assert_int_equal(token_narrow(text, (struct slice){ 0 }, RIGHT_READ, 0, narrow), 0);
	proxy = connect_as(ROLE_JOB, narrow, &r);
	assert_int_equal(r, 0);
	assert_int_equal(get_bytes(&g, JOB, 0, 5), 0);
	assert_int_equal(put_at(&g, JOB, 0, "x", 1), -EACCES);
	conn_close(proxy);

	proxy = connect_as(ROLE_JOB, whole, &r);
	assert_int_equal(r, 0);
	assert_int_equal(put_at(&g, JOB, 0, "hello", 5), 0);
	assert_int_equal(get_bytes(&g, JOB, 0, 5), 0);
	assert_memory_equal(room, "hello", 5);
	assert_int_equal(get_bytes(&other, JOB_2, 0, 5), -EACCES);
	assert_int_equal(put_at(&other, JOB_2, 0, "x", 1), -EACCES);
	assert_int_equal(get_bytes(&other, JOB, 0, 5), -ESTALE);
	(void)CALL(proxy, FREE, free, NULL, .segment = g.segment, .generation = g.generation);
	assert_int_equal(result, -EACCES);
	(void)CALL(proxy, INFO, info, NULL);
	assert_int_equal(result, -EACCES);

	(void)CALL(meta, JOB_OVER, job_over, NULL, .job = JOB_2);
	assert_int_equal(get_bytes(&g, JOB, 0, 5), 0);
	(void)CALL(meta, JOB_OVER, job_over, NULL, .job = JOB);
	WAIT_FOR(!proxy); /* cut, not told */
	proxy = before;
	assert_int_equal(get_bytes(&g, JOB, 0, 5), -EIDRM);
	close_store();
}

/* A peer that says what it likes, byte by byte, and reads nothing. */
static struct stream *open_raw(void)
{
	struct stream *pair[2];

	assert_int_equal(stream_pair(loop, 256 << 10, pair), 0);
	pair[0]->ready = NULL;
	assert_int_equal(store_accept(store, pair[1]), 0);
	return pair[0];
}

static void not_interested(struct stream *s)
{
}

static void send_raw(struct stream *s, uint16_t msg, const struct wcur *body, uint32_t payload_len,
		     const void *bytes, size_t len)
{
	uint8_t header[FRAME_HEADER_SIZE];
	struct wcur w = wcur_make(header, sizeof(header));
	struct iovec iov[3] = { { header, sizeof(header) },
				{ body->start, (size_t)wcur_finish(body) },
				{ (void *)bytes, len } };

	s->ready = not_interested;
	frame_put(&w, &(struct frame){ .msg = msg,
				       .call = 1,
				       .timeout_ms = 60000,
				       .flags = payload_len > FRAME_FREE_PAYLOAD ? FRAME_MORE : 0,
				       .body_len = (uint32_t)iov[1].iov_len,
				       .payload_len = payload_len });
	assert_int_equal(stream_send(s, iov, 3), iov[0].iov_len + iov[1].iov_len + len);
}

static struct stream *hello_raw(void)
{
	struct stream *s = open_raw();
	uint8_t buf[200];
	struct wcur w = wcur_make(buf, sizeof(buf));

	hello_req_put(&w, &(struct hello_req){ .version = PROTOCOL_VERSION,
					       .role = ROLE_PROXY,
					       .secret = { (const uint8_t *)"secret", 6 } });
	send_raw(s, MSG_HELLO, &w, 0, NULL, 0);
	return s;
}

static struct stream *stall_write(const struct grant *g)
{
	static const uint8_t bytes[1000] = { 1 };
	struct stream *s = hello_raw();
	uint8_t buf[200];
	struct wcur w = wcur_make(buf, sizeof(buf));

	write_req_put(&w, &(struct write_req){ .job = JOB,
					       .segment = g->segment,
					       .key = g->key,
					       .generation = g->generation });
	send_raw(s, MSG_WRITE, &w, 100000, bytes, sizeof(bytes));
	turn_for(5 * MS);
	assert_int_equal(pool_pinned(&store->pool, g->segment)->writer_count, 1);
	return s;
}

static void a_writer_that_stands_still_is_cut_so_that_its_segment_can_be_fenced(void **state)
{
	const struct reach_ops *ops;
	struct stream *stalled;
	struct reach *reach;
	uint64_t from_ns;
	uint8_t *bytes;
	struct grant g;
	struct call c;

	open_store(is_simulated_of(state), &media_heap);
	g = grant_one(JOB, 1, 1 << 20);
	stalled = stall_write(&g);
	/* Who reads holds up nothing. */
	store_reach(store, &reach, &ops);
	assert_int_equal(ops->pin(reach, JOB, g.segment, g.generation, 0, 1, &bytes), 0);
	from_ns = loop->now_ns;
	SEND(&c, meta, REVOKE, revoke, loop->now_ns + 10 * SECOND, .segment = g.segment,
	     .generation = g.generation);
	assert_int_equal(end_call(&c), 0);
	assert_in_range(loop->now_ns - from_ns, 1000 * MS, 1500 * MS);
	assert_int_equal(store_counters(store)->cut_count, 1);
	/* It cannot go on where it was, and others still read. */
	assert_int_equal(put_at(&g, JOB, 0, "x", 1), -EACCES);
	assert_int_equal(get_bytes(&g, JOB, 0, 1), 0);
	ops->unpin(reach, g.segment, false);
	stream_close(stalled);
	close_store();
}

static struct stream *stall_read(const struct grant *g, uint32_t len)
{
	struct stream *s = hello_raw();
	uint8_t buf[200];
	struct wcur w = wcur_make(buf, sizeof(buf));

	read_req_put(&w, &(struct read_req){ .job = JOB,
					     .segment = g->segment,
					     .generation = g->generation,
					     .len = len });
	send_raw(s, MSG_READ, &w, 0, NULL, 0);
	turn_for(5 * MS);
	assert_int_equal(pool_pinned(&store->pool, g->segment)->pin_count, 1);
	return s;
}

static void a_reader_that_reads_nothing_is_cut_so_that_its_segment_can_be_freed(void **state)
{
	struct stream *stalled;
	uint64_t from_ns;
	struct grant g;
	struct call first, c;

	open_store(is_simulated_of(state), &media_heap);
	g = grant_one(JOB, 1, 1 << 20);
	stalled = stall_read(&g, 1 << 20);
	from_ns = loop->now_ns;
	SEND(&first, meta, FREE, free, loop->now_ns + 600 * MS, .segment = g.segment,
	     .generation = g.generation);
	assert_int_equal(end_call(&first), -ETIMEDOUT);
	/* The duty is sent again, and its patience is not renewed. */
	SEND(&c, meta, FREE, free, loop->now_ns + 10 * SECOND, .segment = g.segment,
	     .generation = g.generation);
	assert_int_equal(end_call(&c), 0);
	assert_in_range(loop->now_ns - from_ns, 1000 * MS, 1500 * MS);
	assert_int_equal(store->pool.used, 0);
	stream_close(stalled);
	close_store();
}

static unsigned wanted_count;

static void note_wanted(void *owner, uint64_t job, uint64_t segment, bool is_short)
{
	wanted_count += job == JOB;
}

/* Too little is left of it to be kept for its job, so it is nobody's from the last pin on. */
static void nobody_is_asked_to_let_go_of_what_the_last_reader_was_cut_from(void **state)
{
	struct stream *stalled;
	struct grant g;
	struct call c;

	open_store(is_simulated_of(state), &media_heap);
	store->wanted = note_wanted;
	wanted_count = 0;
	g = grant_one(JOB, 1, 1 << 20);
	(void)CALL(meta, SEAL, seal, NULL, .segment = g.segment, .generation = g.generation,
		   .front = 400 << 10, .back = 1 << 20, .stamp_ns = 2000);
	WAIT_FOR(store_counters(store)->punched_bytes > 0);
	stalled = stall_read(&g, 400 << 10);
	SEND(&c, meta, FREE, free, loop->now_ns + 10 * SECOND, .segment = g.segment,
	     .generation = g.generation);
	assert_int_equal(end_call(&c), 0);
	assert_int_equal(store_counters(store)->cut_count, 1);
	assert_int_equal(wanted_count, 1);
	stream_close(stalled);
	close_store();
}

/* It may be of any of its bytes, and those of the middle would be back, and counted by nobody. */
static void what_is_read_of_an_open_segment_is_there_until_it_was_sent(void **state)
{
	struct stream *stalled;
	struct grant g;

	open_store(is_simulated_of(state), &media_heap);
	g = grant_one(JOB, 1, 1 << 20);
	stalled = stall_read(&g, 1 << 20);
	(void)CALL(meta, SEAL, seal, NULL, .segment = g.segment, .generation = g.generation,
		   .front = 4096, .back = 1 << 20, .stamp_ns = 2000);
	assert_int_equal(result, 0);
	turn_for(1500 * MS);
	assert_int_equal(store_counters(store)->punched_bytes, 0);
	stream_close(stalled);
	WAIT_FOR(store_counters(store)->punched_bytes == (1 << 20) - 4096);
	/* What begins later is of what is used, and holds up nothing. */
	assert_int_equal(get_bytes(&g, JOB, 4096, 1), -EINVAL);
	assert_int_equal(free_call(&g, 5), 0);
	close_store();
}

/* Nothing else happens that would have the janitor look. */
static void what_the_last_pin_held_up_is_done_when_it_is_gone(void **state)
{
	const struct reach_ops *ops;
	struct reach *reach;
	uint8_t *bytes;
	struct grant g;

	open_store(is_simulated_of(state), &media_heap);
	store_reach(store, &reach, &ops);
	g = grant_one(JOB, 1, 1 << 20);
	assert_int_equal(
		ops->pin_to_write(reach, JOB, g.segment, g.generation, g.key, 0, 1, &bytes), 0);
	(void)CALL(meta, SEAL, seal, NULL, .segment = g.segment, .generation = g.generation,
		   .front = 4096, .back = 1 << 20, .stamp_ns = 2000);
	turn_for(60 * SECOND);
	assert_int_equal(store_counters(store)->punched_bytes, 0);
	ops->unpin(reach, g.segment, true);
	turn_for(2 * SECOND);
	assert_int_equal(store_counters(store)->punched_bytes, (1 << 20) - 4096);
	close_store();
}

static void a_write_that_is_dropped_half_way_pins_nothing(void **state)
{
	struct grant g;

	open_store(is_simulated_of(state), &media_heap);
	g = grant_one(JOB, 1, 1 << 20);
	stream_close(stall_write(&g));
	turn_for(5 * MS);
	assert_int_equal(free_call(&g, 1), 0);
	assert_int_equal(store_counters(store)->cut_count, 0);
	close_store();
}

static void the_core_of_the_same_process_reaches_segments_without_a_message(void **state)
{
	const struct reach_ops *ops;
	struct reach *reach;
	uint8_t *in, *out;
	struct grant g;
	struct call c;

	open_store(is_simulated_of(state), &media_heap);
	store_reach(store, &reach, &ops);
	g = grant_one(JOB, 1, 64 << 10);
	assert_int_equal(ops->pin_to_write(reach, JOB, g.segment, g.generation, g.key, 64, 5, &in),
			 0);
	memcpy(in, "hello", 5);
	ops->unpin(reach, g.segment, true);
	assert_int_equal(get_bytes(&g, JOB, 64, 5), 0);
	assert_memory_equal(room, "hello", 5);
	assert_int_equal(ops->pin(reach, JOB, g.segment, g.generation, 64, 5, &out), 0);
	assert_ptr_equal(in, out);
	assert_int_equal(ops->pin(reach, JOB, g.segment, g.generation, 0, 5, &in), 0);
	/* All that is not right is stale, so that the core asks the slot. */
	assert_int_equal(ops->pin(reach, JOB_2, g.segment, g.generation, 64, 5, &in), -ESTALE);
	assert_int_equal(
		ops->pin_to_write(reach, JOB, g.segment, g.generation, g.key + 1, 64, 5, &in),
		-ESTALE);
	assert_int_equal(ops->pin(reach, JOB, g.segment, g.generation, 64 << 10, 1, &in), -ERANGE);
	SEND(&c, meta, FREE, free, loop->now_ns + 10 * SECOND, .segment = g.segment,
	     .generation = g.generation);
	turn_for(1500 * MS);
	assert_true(c.is_pending);
	assert_int_equal(ops->pin(reach, JOB, g.segment, g.generation, 64, 5, &in), -ESTALE);
	assert_memory_equal(out, "hello", 5);
	ops->unpin(reach, g.segment, false);
	turn_for(50 * MS);
	assert_true(c.is_pending);
	ops->unpin(reach, g.segment, false);
	assert_int_equal(end_call(&c), 0);

	g = grant_one(JOB, 2, 64 << 10);
	(void)CALL(meta, JOB_OVER, job_over, NULL, .job = JOB);
	assert_int_equal(ops->pin(reach, JOB, g.segment, g.generation, 64, 5, &in), -ESTALE);
	close_store();
}

/* What functions map of it is pinned for as long as they do. */
static void a_core_that_only_reads_holds_up_no_fence(void **state)
{
	const struct reach_ops *ops;
	struct reach *reach;
	uint8_t *bytes;
	struct grant g;

	open_store(is_simulated_of(state), &media_heap);
	store_reach(store, &reach, &ops);
	g = grant_one(JOB, 1, 64 << 10);
	assert_int_equal(ops->pin(reach, JOB, g.segment, g.generation, 0, 5, &bytes), 0);
	assert_int_equal(
		ops->pin_to_write(reach, JOB, g.segment, g.generation, g.key, 64, 5, &bytes), 0);
	ops->unpin(reach, g.segment, true);
	(void)CALL(meta, REVOKE, revoke, NULL, .segment = g.segment, .generation = g.generation);
	assert_int_equal(result, 0);
	ops->unpin(reach, g.segment, false);
	close_store();
}

static void info_says_what_is_used_and_for_how_long_it_was(void **state)
{
	struct info_rep info;
	struct grant g;
	unsigned __int128 integral;
	uint64_t wall_ns;

	open_store(is_simulated_of(state), &media_heap);
	wall_ns = node_wall_ns();
	g = grant_one(JOB, 1, 1 << 20);
	assert_int_equal(g.size, 1 << 20);
	info = CALL(proxy, INFO, info, NULL);
	assert_int_equal(result, 0);
	assert_int_equal(info.dram_limit, LIMIT);
	assert_int_equal(info.dram_used, 1 << 20);
	assert_int_equal(info.segment_count, 1);
	assert_in_range(info.moment_ns, wall_ns - 100 * MS, wall_ns + 10 * SECOND);
	/* Its stamp was 1000, and as long as it waited. */
	integral = (unsigned __int128)info.byte_ns_hi << 64 | info.byte_ns_lo;
	assert_true(integral <= ((unsigned __int128)info.moment_ns - 1000) << 20);
	assert_true(integral > ((unsigned __int128)info.moment_ns - 1000 - 10 * SECOND) << 20);
	close_store();
}

static void the_segments_in_use_are_listed_to_those_who_compare(void **state)
{
	uint64_t after = 0;
	unsigned seen = 0;
	bool is_first = true;

	open_store(is_simulated_of(state), &media_heap);
	for (unsigned i = 0; i < 200; i++)
		(void)grant_one(i % 4 ? JOB : JOB_2, i, 64 << 10);
	for (;;) {
		struct segments_rep rep =
			CALL(meta, SEGMENTS, segments, NULL, .of_slot = 7, .after = after);
		struct rcur list = rcur_make(room, room_len);

		assert_int_equal(result, 0);
		for (unsigned i = 0; i < rep.count; i++) {
			struct segment_entry e;

			segment_entry_get(&list, &e);
			assert_true(e.segment > after || is_first);
			assert_int_equal(e.job, JOB);
			assert_true(e.request < 200 && e.request % 4 != 0);
			assert_int_equal(e.size, 64 << 10);
			after = e.segment;
			is_first = false;
		}
		assert_int_equal(rcur_finish(&list), 0);
		assert_int_equal(rep.count, 150); /* there is room for all in one */
		seen += rep.count;
		if (!rep.has_more)
			break;
	}
	assert_int_equal(seen, 150);
	close_store();
}

static struct listener listener;
static unsigned accept_count;

static void accept_store(struct listener *lr, struct stream *s)
{
	accept_count++;
	accepted = conn_open(net, s, &as_meta, NULL);
}

static void a_metadata_server_that_comes_back_finds_the_store_again(void **state)
{
	struct address at;
	struct grant g;

	open_store(is_simulated_of(state), &media_heap);
	assert_int_equal(
		address_parse(is_simulated_of(state) ? "sim://1:77" : "tcp://127.0.0.1:0", &at), 0);
	listener = (struct listener){ .accepted = accept_store };
	accept_count = 0;
	assert_int_equal(listener_open(loop, &at, &listener), 0);
	at = listener.address;
	listener_close(&listener);
	turn_for(MS);
	assert_int_equal(store_join_at(store, &at), 0);
	turn_for(100 * MS);
	assert_int_equal(store_joined_count(store), 1);

	listener = (struct listener){ .accepted = accept_store };
	assert_int_equal(listener_open(loop, &at, &listener), 0);
	WAIT_FOR(store_joined_count(store) == 2);
	assert_int_equal(heard.incarnation, store_incarnation(store));
	assert_int_equal(heard.address.len, strlen("sim://1:1"));
	for (unsigned i = 0; i < 3; i++) {
		conn_close(accepted);
		WAIT_FOR(store_joined_count(store) == 1);
		WAIT_FOR(store_joined_count(store) == 2);
	}
	assert_true(accept_count >= 4);
	/* It is as good as the other one. */
	{
		struct conn *before = meta;

		meta = accepted;
		g = grant_one(JOB, 5, 64 << 10);
		assert_int_equal(put_at(&g, JOB, 0, "x", 1), 0);
		meta = before;
	}
	listener_close(&listener);
	close_store();
}

static void a_store_closes_in_the_middle_of_everything(void **state)
{
	struct stream *writer, *other;
	struct address at;
	struct grant g, h;
	struct call waits, frees, revokes;

	open_store(is_simulated_of(state), &media_heap);
	assert_int_equal(
		address_parse(is_simulated_of(state) ? "sim://1:78" : "tcp://127.0.0.1:9", &at), 0);
	assert_int_equal(store_join_at(store, &at), 0);
	g = grant_one(JOB, 1, 1 << 20);
	h = grant_one(JOB, 2, 1 << 20);
	writer = stall_write(&g);
	other = stall_write(&h);
	SEND(&frees, meta, FREE, free, loop->now_ns + 10 * SECOND, .segment = g.segment,
	     .generation = g.generation);
	SEND(&revokes, meta, REVOKE, revoke, loop->now_ns + 10 * SECOND, .segment = h.segment,
	     .generation = h.generation);
	SEND(&waits, meta, SEGMENT, segment, loop->now_ns + 10 * SECOND, .job = JOB, .request = 3,
	     .need = FOR_JOBS, .size = 1 << 20);
	turn_for(2 * MS);
	store_close(store);
	store = NULL;
	assert_int_equal(end_call(&frees), -ECONNRESET);
	assert_int_equal(end_call(&revokes), -ECONNRESET);
	WAIT_FOR(!waits.is_pending);
	call_end(&waits);
	stream_close(writer);
	stream_close(other);
	turn_for(10 * MS);
	close_store();
}

/* And it waits when it is told again. */
static void a_duty_that_finds_no_memory_to_wait_with_says_so(void **state)
{
	struct node n = { .fail_countdown = 0 };
	const struct reach_ops *ops;
	unsigned refused = 0;
	struct reach *reach;
	uint8_t *bytes;
	struct grant g;
	uint64_t k = 0;
	struct call c;
	bool is_met;

	node_current = &n;
	open_store(false, &media_heap);
	store_reach(store, &reach, &ops);
	do {
		g = grant_one(JOB, ++k, 64 << 10);
		assert_int_equal(ops->pin(reach, JOB, g.segment, g.generation, 0, 5, &bytes), 0);
		n.fail_countdown = k;
		SEND(&c, meta, FREE, free, loop->now_ns + 10 * SECOND, .segment = g.segment,
		     .generation = g.generation);
		turn_for(5 * MS);
		is_met = n.fail_countdown == 0;
		n.fail_countdown = 0;
		if (!c.is_pending) {
			assert_true(is_met);
			assert_int_equal(end_call(&c), -ENOMEM);
			refused++;
			SEND(&c, meta, FREE, free, loop->now_ns + 10 * SECOND, .segment = g.segment,
			     .generation = g.generation);
			turn_for(5 * MS);
		}
		assert_true(c.is_pending);
		ops->unpin(reach, g.segment, false);
		assert_int_equal(end_call(&c), 0);
	} while (is_met);
	assert_in_range(refused, 1, k);
	close_store();
	node_current = NULL;
}

/* Of whom the store could not take down, it would not hear when the job is over. */
static void who_was_refused_for_want_of_memory_is_not_let_in(void **state)
{
	static const struct slice name = { (const uint8_t *)"job", 3 };
	struct node n = { .fail_countdown = 0 };
	char token[TOKEN_BYTES_MAX + 1];
	struct conn *before;
	struct grant g;
	uint64_t k = 0;
	bool is_met;
	int r;

	node_current = &n;
	open_store(false, &media_heap);
	before = proxy;
	g = grant_one(JOB, 1, 64 << 10);
	assert_int_equal(token_make(TOKEN_KEY, TOKEN_KEY_BYTES, JOB, name, token), 0);
	do {
		proxy = connect_to_store();
		n.fail_countdown = ++k;
		(void)CALL(proxy, HELLO, hello, NULL, .version = PROTOCOL_VERSION, .role = ROLE_JOB,
			   .secret = { (const uint8_t *)token, strlen(token) });
		r = result;
		is_met = n.fail_countdown == 0;
		n.fail_countdown = 0;
		assert_true(r == 0 || r == -ENOMEM || r == -ECONNRESET);
		if (proxy)
			assert_int_equal(get_bytes(&g, JOB, 0, 5), r == 0 ? 0 : -EACCES);
		conn_close(proxy);
	} while (is_met);
	assert_int_equal(k, 4);
	proxy = before;
	close_store();
	node_current = NULL;
}

/* Whatever allocation fails: no crash, no leak, and what was answered well is true. */
static bool live_a_life(struct node *n, uint64_t countdown)
{
	struct store_config config = { .limit_bytes = LIMIT,
				       .tier = TIER_DRAM,
				       .name = "test",
				       .address = "",
				       .media = &media_heap };
	struct stream *pair[2];
	bool is_good = false;
	int r;

	assert_int_equal(stream_pair(loop, 256 << 10, pair), 0);
	n->fail_countdown = countdown;
	r = store_open(&config, loop, net, &store);
	if (r < 0) {
		assert_int_equal(r, -ENOMEM);
		stream_close(pair[0]);
		stream_close(pair[1]);
		return false;
	}
	meta = conn_open(net, pair[0], &as_meta, NULL);
	if (!meta)
		stream_close(pair[1]);
	else if (store_join(store, pair[1]) == 0)
		turn_for(20 * MS);
	if (meta && !meta->is_closed && store_joined_count(store) == 1) {
		struct call c;

		SEND(&c, meta, SEGMENT, segment, loop->now_ns + SECOND, .job = JOB, .request = 1,
		     .need = 100, .size = 65536);
		is_good = end_call(&c) == 0;
	}
	n->fail_countdown = 0;
	if (is_good)
		assert_int_equal(store->pool.book.bytes, 65536);
	conn_close(meta);
	store_close(store);
	turn_for(MS);
	return is_good;
}

static void an_allocation_that_fails_is_survived(void **state)
{
	struct node n = { .fail_countdown = 0 };
	unsigned good = 0, bad = 0;
	uint64_t k = 0;

	world_open(false);
	assert_int_equal(net_open(loop, &net), 0);
	init_meta();
	node_current = &n;
	while (good < 3 && k < 300) {
		k++;
		if (live_a_life(&n, k))
			good++;
		else
			bad++;
	}
	assert_true(bad > 10);
	assert_true(good >= 3);
	net_close(net);
	node_current = NULL;
	world_close();
}

static bool no = false, yes = true;

#define BOTH(name) cmocka_unit_test_prestate(name, &no), cmocka_unit_test_prestate(name, &yes)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(bytes_are_written_in_place_and_read_back),
		BOTH(only_who_knows_the_key_is_served),
		BOTH(without_a_key_only_this_host_is_served),
		BOTH(duties_are_of_metadata_servers_only),
		BOTH(a_write_or_read_that_is_not_allowed_moves_no_byte),
		BOTH(a_duty_that_comes_twice_is_answered_the_same),
		BOTH(a_full_store_says_so_before_the_deadline_and_what_its_limit_is),
		BOTH(who_waits_gets_what_is_freed),
		BOTH(who_waits_and_goes_away_is_forgotten),
		BOTH(who_is_given_up_waits_no_more_and_keeps_what_it_has),
		BOTH(those_who_wait_on_one_connection_leave_room_for_its_other_duties),
		BOTH(a_function_reaches_segments_of_its_own_job_until_that_is_over),
		BOTH(when_a_job_is_over_its_bytes_are_served_to_nobody),
		BOTH(a_writer_that_stands_still_is_cut_so_that_its_segment_can_be_fenced),
		BOTH(a_reader_that_reads_nothing_is_cut_so_that_its_segment_can_be_freed),
		BOTH(nobody_is_asked_to_let_go_of_what_the_last_reader_was_cut_from),
		BOTH(what_is_read_of_an_open_segment_is_there_until_it_was_sent),
		cmocka_unit_test_prestate(what_the_last_pin_held_up_is_done_when_it_is_gone, &yes),
		BOTH(a_write_that_is_dropped_half_way_pins_nothing),
		BOTH(the_core_of_the_same_process_reaches_segments_without_a_message),
		BOTH(a_core_that_only_reads_holds_up_no_fence),
		BOTH(info_says_what_is_used_and_for_how_long_it_was),
		BOTH(the_segments_in_use_are_listed_to_those_who_compare),
		BOTH(a_metadata_server_that_comes_back_finds_the_store_again),
		BOTH(a_store_closes_in_the_middle_of_everything),
		cmocka_unit_test(a_duty_that_finds_no_memory_to_wait_with_says_so),
		cmocka_unit_test(who_was_refused_for_want_of_memory_is_not_let_in),
		cmocka_unit_test(an_allocation_that_fails_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
