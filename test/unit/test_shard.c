/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a shard serves its slots to proxies, stores and functions: everything is checked,
 * everybody is answered once, nothing that is owed is forgotten. Method: a shard on the
 * simulated loop; clients, and stores and proxies that take notes and answer when they
 * are told to, at the other ends of pairs. Time is the simulator's.
 */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/container.h"
#include "base/hash.h"
#include "base/log.h"
#include "meta/shard_priv.h"
#include "wire/token.h"
#include "world.h"

#define STORE_ID 0x77
#define PAIR     65536
#define STRAYS   70 /* more than are freed at a time */
#define HAS_MAX  300

static const uint8_t KEY[] = "a key of the roles, long enough for anybody";
static const uint8_t TOKEN_KEY[] = "a key for tokens, also as long as it must be";
static struct net *net;
static struct shard *shard;
static struct shard_config config;
static uint64_t store_gone_ms; /* of shards from now on */
static struct slice JOB = { (const uint8_t *)"job", 3 };

static struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

/* One end of a connection to the shard, and the call that it made last. */
struct client {
	struct conn *conn;
	struct call call;
	uint64_t session, epoch, since;
	uint64_t near; /* the store that it says is in its process */
	uint8_t room[LIST_BYTES];
	char detail[200];

	/* What it is asked, as a store or a proxy. */
	unsigned segments_asked, withdrawn, seals, revokes, frees, overs, lists, forgets;
	char forgotten[40];
	uint64_t last_request, last_job, last_stamp, last_need, last_age;
	uint32_t last_size;
	uint16_t last_is_now;
	uint32_t last_generation;
	struct request *kept, *withdrawal;
	bool is_store;
	bool keeps;       /* requests are kept, not answered */
	bool had_granted; /* before it hears that nobody wants it any more */
	bool keeps_withdrawal;
	unsigned places; /* for asks that wait; 0: they are answered */
	int refuses;     /* with this */
	struct grant grants[8];
	unsigned grant_count;
	struct segment_entry has[HAS_MAX];
	unsigned has_count, page_count;
	bool is_slow; /* FREEs wait */
	struct request *waiting[STRAYS];
	unsigned waiting_count;
};

static struct client *all[8];
static struct client a, b, c, store;

static struct client *client_of(struct request *r)
{
	return r->conn->owner;
}

/* True: it is not answered now. */
static bool is_held_up(struct request *r)
{
	struct client *k = client_of(r);

	if (k->keeps) {
		if (k->kept)
			request_fail(k->kept, -ECANCELED, NULL); /* nobody waits for that one */
		k->kept = r;
		return true;
	}
	if (k->refuses)
		request_fail(r, k->refuses, "not now");
	return k->refuses != 0;
}

/* What waits at a store with places, and whom it had none for. */
static struct request *asks[16];
static unsigned ask_count, turned_away;

static void find_place(struct request *r)
{
	if (ask_count < client_of(r)->places) {
		asks[ask_count++] = r;
	} else {
		turned_away++;
		request_fail(r, -EAGAIN, NULL);
	}
}

static struct payload grants_payload;
static uint8_t grant_bytes[GRANTS_BYTES];

static void answer_grants(struct request *r, uint64_t stamp_ns, unsigned count)
{
	struct client *k = client_of(r);
	struct wcur w = wcur_make(grant_bytes, sizeof(grant_bytes));

	for (unsigned i = 0; i < count; i++)
		grant_put(&w, &k->grants[i]);
	grants_payload = (struct payload){ .ptr = grant_bytes, .len = (size_t)(w.p - grant_bytes) };
	w = request_answer(r);
	segment_rep_put(&w, &(struct segment_rep){ stamp_ns, (uint16_t)count });
	request_reply(r, &w, &grants_payload);
}

static void answer_segment(struct request *r, uint64_t stamp_ns)
{
	answer_grants(r, stamp_ns, client_of(r)->grant_count);
}

static void segment_serve(struct request *r)
{
	struct client *k = client_of(r);
	struct rcur body = request_body(r);
	struct segment_req req;

	segment_req_get(&body, &req);
	if (req.is_over) {
		assert_true(k->places > 0 || req.request == k->last_request);
		k->withdrawn++;
		if (k->keeps_withdrawal)
			k->withdrawal = r;
		else
			answer_grants(r, req.stamp_ns, k->had_granted ? k->grant_count : 0);
		return;
	}
	k->segments_asked++;
	k->last_request = req.request;
	k->last_job = req.job;
	k->last_stamp = req.stamp_ns;
	k->last_need = req.need;
	k->last_size = req.size;
	k->last_age = req.age_ms;
	k->last_is_now = req.is_now;
	if (k->places > 0)
		find_place(r);
	else if (!is_held_up(r))
		answer_segment(r, req.stamp_ns);
}

static void empty_reply(struct request *r)
{
	struct wcur w = request_answer(r);

	request_reply(r, &w, NULL);
}

static void seal_serve(struct request *r)
{
	client_of(r)->seals++;
	if (!is_held_up(r))
		empty_reply(r);
}

static void revoke_serve(struct request *r)
{
	client_of(r)->revokes++;
	if (!is_held_up(r))
		empty_reply(r);
}

static void free_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct free_req req;

	free_req_get(&body, &req);
	client_of(r)->frees++;
	client_of(r)->last_generation = req.generation;
	if (client_of(r)->is_slow)
		client_of(r)->waiting[client_of(r)->waiting_count++] = r;
	else if (!is_held_up(r))
		empty_reply(r);
}

static void job_over_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct job_over_req req;

	job_over_req_get(&body, &req);
	client_of(r)->overs++;
	client_of(r)->last_job = req.job;
	if (!is_held_up(r))
		empty_reply(r);
}

static void forget_serve(struct request *r)
{
	struct client *k = client_of(r);
	struct rcur body = request_body(r);
	struct forget_req req;

	forget_req_get(&body, &req);
	k->forgets++;
	k->last_job = req.job;
	snprintf(k->forgotten, sizeof(k->forgotten), "%.*s %.*s", (int)req.path.len,
		 (const char *)req.path.ptr, (int)req.other.len, (const char *)req.other.ptr);
	if (!is_held_up(r))
		empty_reply(r);
}

static struct payload list_payload;
static uint8_t list_bytes[HAS_MAX * 32];

static void segments_serve(struct request *r)
{
	struct client *k = client_of(r);
	struct rcur body = request_body(r);
	struct wcur w = wcur_make(list_bytes, sizeof(list_bytes));
	struct segments_req req;
	uint32_t count = 0, from = 0;

	segments_req_get(&body, &req);
	k->lists++;
	while (from < k->has_count && k->has[from].segment <= req.after)
		from++;
	for (; count < k->page_count && from + count < k->has_count; count++)
		segment_entry_put(&w, &k->has[from + count]);
	list_payload = (struct payload){ .ptr = list_bytes, .len = (size_t)(w.p - list_bytes) };
	w = request_answer(r);
	segments_rep_put(&w, &(struct segments_rep){ count, from + count < k->has_count });
	request_reply(r, &w, &list_payload);
}

static void client_closed(struct conn *conn)
{
	struct client *k = conn->owner;

	if (k)
		k->conn = NULL;
}

static const struct service STORE_PEER = {
	.server = SERVER_STORE,
	.handlers = {
		[MESSAGE_SEGMENT] = { .serve = segment_serve },
		[MESSAGE_SEAL] = { .serve = seal_serve },
		[MESSAGE_REVOKE] = { .serve = revoke_serve },
		[MESSAGE_FREE] = { .serve = free_serve },
		[MESSAGE_JOB_OVER] = { .serve = job_over_serve },
		[MESSAGE_SEGMENTS] = { .serve = segments_serve },
	},
	.closed = client_closed,
};

static const struct service PROXY_PEER = {
	.server = SERVER_PROXY,
	.handlers = {
		[MESSAGE_JOB_OVER] = { .serve = job_over_serve },
		[MESSAGE_FORGET] = { .serve = forget_serve },
	},
	.closed = client_closed,
};

static void connect_to(struct client *k)
{
	struct stream *ends[2];

	assert_int_equal(stream_pair(loop, PAIR, ends), 0);
	k->conn = conn_open(net, ends[0], k->is_store ? &STORE_PEER : &PROXY_PEER, k);
	assert_non_null(k->conn);
	k->conn->access = node_alloc(sizeof(struct access));
	k->conn->access->role = ROLE_META;
	shard_accept(shard, ends[1]);
}

/* Sends, and does not wait. */
static void send_it(struct client *k, uint16_t msg, uint16_t slot, const struct wcur *w,
		    const struct payload *payload, uint64_t timeout_ms)
{
	k->call.room = k->room;
	k->call.room_cap = sizeof(k->room);
	call_send(k->conn, &k->call, msg, slot, w, payload, loop->now_ns + timeout_ms * MS);
}

static int wait_for(struct client *k)
{
	WAIT_FOR(!k->call.is_pending);
	call_detail(&k->call, k->detail, sizeof(k->detail));
	return k->call.result;
}

/* BEGIN: encodes the request and sends it. ASK: waits for the answer, too. GET: its body. */
#define SEND(k, NAME, name, slot, payload, ms, ...)                       \
	do {                                                              \
		struct wcur w_;                                           \
		call_end(&(k)->call);                                     \
		(k)->call = (struct call){ .net = net };                  \
		w_ = call_body(net, &(k)->call);                          \
		name##_req_put(&w_, &(struct name##_req){ __VA_ARGS__ }); \
		send_it(k, MSG_##NAME, slot, &w_, payload, ms);           \
	} while (0)
#define ASK(k, NAME, name, slot, ...)                                \
	({                                                           \
		SEND(k, NAME, name, slot, NULL, 10000, __VA_ARGS__); \
		wait_for(k);                                         \
	})
#define GET(k, name)                                             \
	({                                                       \
		struct rcur c_ = call_reply(&(k)->call);         \
		struct name##_rep rep_;                          \
		assert_int_equal(name##_rep_get(&c_, &rep_), 0); \
		rep_;                                            \
	})

static int hello_as(struct client *k, uint16_t role, struct slice secret)
{
	int r;

	if (!k->conn)
		connect_to(k);
	r = ASK(k, HELLO, hello, 0, .version = PROTOCOL_VERSION, .role = role, .secret = secret,
		.session = k->session, .epoch = k->epoch,
		.incarnation = role == ROLE_STORE ? STORE_ID : k->near, .limit_bytes = 1u << 30,
		.address = text("tcp://store:1"));
	if (r == 0) {
		k->session = GET(k, hello).session;
		k->epoch = GET(k, hello).epoch;
		k->since = GET(k, hello).since;
	}
	return r;
}

static int proxy_hello(struct client *k)
{
	return hello_as(k, ROLE_PROXY, (struct slice){ KEY, sizeof(KEY) });
}

static void store_hello(struct client *k)
{
	assert_int_equal(hello_as(k, ROLE_STORE, (struct slice){ KEY, sizeof(KEY) }), 0);
}

static void disconnect(struct client *k)
{
	conn_close(k->conn);
	WAIT_FOR(!k->conn);
	turn_for(MS);
}

static uint64_t job_create(struct client *k, const char *name)
{
	assert_int_equal(ASK(k, JOB_CREATE, job_create, slot_of_name(text(name)), .lease_ms = 60000,
			     .name = text(name)),
			 0);
	return GET(k, job_create).job;
}

static int put(struct client *k, uint64_t job, const char *path, const char *value)
{
	struct payload p = { .ptr = value, .len = strlen(value) };

	SEND(k, COMMIT, commit, slot_of_id(job), &p, 10000, .job = job, .session = k->session,
	     .epoch = k->epoch, .len = p.len, .seed = 1,
	     .crc = crc_more(crc_begin(1), value, p.len), .path = text(path));
	return wait_for(k);
}

static int look(struct client *k, uint64_t job, const char *path)
{
	return ASK(k, LOOKUP, lookup, slot_of_id(job), .job = job, .session = k->session,
		   .epoch = k->epoch, .take = 1000, .path = text(path));
}

static void open_shard(uint16_t count, bool is_open)
{
	config = (struct shard_config){ .count = count,
					.is_open_loopback = is_open,
					.store_gone_ms = store_gone_ms,
					.key = { KEY, sizeof(KEY) },
					.token_key = { TOKEN_KEY, sizeof(TOKEN_KEY) } };
	for (uint16_t i = 0; i < count; i++)
		config.addresses[i] = i % 2 ? "tcp://odd:1" : "tcp://even:1";
	assert_int_equal(shard_open(&config, loop, net, &shard), 0);
}

static int setup(void **state)
{
	log_set_level(LOG_ERROR);
	world_open(true);
	assert_int_equal(net_open(loop, &net), 0);
	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	memset(&c, 0, sizeof(c));
	memset(&store, 0, sizeof(store));
	all[0] = &a;
	all[1] = &b;
	all[2] = &c;
	all[3] = &store;
	store.is_store = true;
	store.page_count = 2;
	store_gone_ms = 0;
	open_shard(1, false);
	assert_int_equal(proxy_hello(&a), 0);
	return 0;
}

static int teardown(void **state)
{
	for (int i = 0; i < 4; i++) {
		if (all[i]->kept)
			request_fail(all[i]->kept, -ECANCELED, NULL);
		if (all[i]->withdrawal)
			request_fail(all[i]->withdrawal, -ECANCELED, NULL);
		if (all[i]->conn)
			conn_close(all[i]->conn);
		call_cancel(&all[i]->call);
		if (all[i]->call.net)
			call_end(&all[i]->call);
	}
	shard_close(shard);
	turn_for(10 * MS);
	assert_int_equal(net_counters(net)->conn_count, 0);
	net_close(net);
	world_close();
	return 0;
}

/* Another shard instead of the one that setup() made. */
static void open_again(uint16_t count, bool is_open)
{
	disconnect(&a);
	shard_close(shard);
	turn_for(MS);
	a.session = 0;
	open_shard(count, is_open);
}

static int beat(struct client *k, uint64_t session, uint64_t epoch)
{
	return ASK(k, HEARTBEAT, heartbeat, 0, .session = session, .epoch = epoch);
}

static void a_put_and_a_get_of_a_small_value(void **state)
{
	uint64_t job = job_create(&a, "job");

	assert_int_equal(put(&a, job, "dir/a", "hello"), 0);
	assert_int_equal(GET(&a, commit).version, 1);
	assert_int_equal(look(&a, job, "dir/a"), 0);
	assert_int_equal(a.call.room_len, 5);
	assert_memory_equal(a.room, "hello", 5);
	assert_int_equal(ASK(&a, STAT, stat, slot_of_id(job), .job = job, .path = text("dir")), 0);
	assert_int_equal(GET(&a, stat).is_directory, 1);
	assert_int_equal(ASK(&a, LIST, list, slot_of_id(job), .job = job), 0);
	assert_int_equal(GET(&a, list).count, 1);
	assert_int_equal(ASK(&a, RENAME, rename, slot_of_id(job), .job = job, .from = text("dir/a"),
			     .to = text("b")),
			 0);
	assert_int_equal(ASK(&a, REMOVE, remove, slot_of_id(job), .job = job, .path = text("b")),
			 0);
	assert_int_equal(GET(&a, remove).version, 2);
	assert_int_equal(look(&a, job, "b"), -ENOENT);
	assert_non_null(strstr(a.detail, "b"));
	assert_int_equal(ASK(&a, REMOVE_TREE, remove_tree, slot_of_id(job), .job = job), 0);
	assert_int_equal(ASK(&a, PING, ping, 0), 0);
	assert_int_equal(ASK(&a, GET, get, 0), -EOPNOTSUPP);
}

/* Memory for one kind of answer is not taken for one that needs more. */
static void memory_of_answers_is_used_again_for_its_own_kind(void **state)
{
	struct reply_bytes *small = reply_bytes_take(shard, EXTENTS_BYTES), *large;

	reply_bytes_give(&small->payload);
	large = reply_bytes_take(shard, LIST_BYTES);
	assert_ptr_not_equal(large, small);
	assert_ptr_equal(reply_bytes_take(shard, EXTENTS_BYTES), small);
	reply_bytes_give(&large->payload);
	assert_ptr_equal(reply_bytes_take(shard, LIST_BYTES), large);
	reply_bytes_give(&small->payload);
	reply_bytes_give(&large->payload);
}

static void nothing_is_served_before_hello(void **state)
{
	connect_to(&b);
	assert_int_equal(ASK(&b, STAT, stat, 0), -EACCES);
	assert_int_equal(hello_as(&b, ROLE_PROXY, text("a wrong key")), -EACCES);
	assert_int_equal(hello_as(&b, ROLE_STORE, text("")), -EACCES);
	assert_int_equal(hello_as(&b, 17, text("")), -EINVAL);
	assert_int_equal(ASK(&b, HELLO, hello, 0, .version = 99, .role = ROLE_PROXY),
			 -EPROTONOSUPPORT);
	assert_int_equal(hello_as(&b, ROLE_JOB, text("")), -EKEYREJECTED);
	assert_int_equal(proxy_hello(&b), 0);
	assert_int_equal(proxy_hello(&b), -EINVAL);
}

static void a_job_lies_in_the_slot_of_its_name(void **state)
{
	uint64_t job = job_create(&a, "job");
	uint16_t slot = slot_of_name(JOB);

	assert_int_equal(slot_of_id(job), slot);
	assert_int_equal(ASK(&a, JOB_SHOW, job_show, slot + 1, .name = JOB), -EINVAL);
	assert_int_equal(ASK(&a, STAT, stat, slot + 1, .job = job), -EINVAL);
	assert_int_equal(ASK(&a, STAT, stat, SLOT_COUNT, .job = (uint64_t)SLOT_COUNT << 54),
			 -EINVAL);
}

static void a_slot_of_another_shard_is_routed(void **state)
{
	uint16_t slot = slot_of_name(JOB);

	open_again(4, false);
	assert_int_equal(proxy_hello(&a), 0);
	if (slot % 4 == 0) {
		JOB = text("another");
		slot = slot_of_name(JOB);
	}
	assert_true(slot % 4 != 0);
	assert_int_equal(ASK(&a, JOB_CREATE, job_create, slot, .name = JOB), -EREMCHG);
	assert_string_equal(a.detail, slot % 2 ? "tcp://odd:1" : "tcp://even:1");
	assert_int_equal(ASK(&a, MAP, map, 0), 0);
	assert_int_equal(GET(&a, map).shard_count, 4);
	JOB = text("job");
}

static struct grant grant_of(unsigned i)
{
	return (struct grant){ .segment = (uint64_t)STORE_ID << 20 | i,
			       .generation = 1,
			       .size = SEGMENT_BYTES_MIN,
			       .key = 7,
			       .store = STORE_ID };
}

static int lease(struct client *k, uint64_t job, uint64_t request, uint64_t timeout_ms)
{
	SEND(k, LEASE, lease, slot_of_id(job), NULL, timeout_ms, .job = job, .session = k->session,
	     .epoch = k->epoch, .request = request, .need = 1, .size = SEGMENT_BYTES_MIN,
	     .age_ms = 5);
	return timeout_ms > 1 ? wait_for(k) : 0;
}

static int put_extent(struct client *k, uint64_t job, const char *path, const struct grant *g,
		      uint32_t offset)
{
	uint8_t bytes[EXTENT_SIZE];
	struct wcur w = wcur_make(bytes, sizeof(bytes));
	struct payload p = { .ptr = bytes, .len = sizeof(bytes) };

	extent_put(&w, &(struct extent){ .segment = g->segment,
					 .generation = g->generation,
					 .offset = offset,
					 .len = 100 });
	SEND(k, COMMIT, commit, slot_of_id(job), &p, 10000, .job = job, .session = k->session,
	     .epoch = k->epoch, .len = 100, .extent_count = 1, .path = text(path));
	return wait_for(k);
}

static int settle(struct client *k, uint64_t job, const struct grant *g, uint32_t front)
{
	return ASK(k, SETTLE, settle, slot_of_id(job), .job = job, .session = k->session,
		   .epoch = k->epoch, .segment = g->segment, .generation = g->generation,
		   .front = front, .back = g->size);
}

static void a_lease_becomes_a_segment_and_the_segment_is_given_back(void **state)
{
	uint64_t job = job_create(&a, "job");
	struct grant g = grant_of(1);

	store.grants[0] = g;
	store.grant_count = 1;
	store_hello(&store);
	assert_int_equal(lease(&a, job, 1, 10000), 0);
	assert_int_equal(GET(&a, lease).count, 1);
	assert_memory_equal(&store.last_job, &job, sizeof(job));
	assert_int_equal(store.segments_asked, 1);
	assert_int_equal(store.last_need, 1);
	assert_int_equal(store.last_size, SEGMENT_BYTES_MIN);
	assert_int_equal(store.last_age, 5);
	assert_int_equal(put_extent(&a, job, "a", &g, 0), 0);
	assert_int_equal(settle(&a, job, &g, 4096), 0);
	WAIT_FOR(store.seals == 1);
	assert_int_equal(look(&a, job, "a"), 0);
	assert_int_equal(GET(&a, lookup).found, 1);
	assert_int_equal(ASK(&a, REMOVE, remove, slot_of_id(job), .job = job, .path = text("a")),
			 0);
	WAIT_FOR(store.frees == 1);
	assert_int_equal(store.last_generation, 1);
	turn_for(3 * SECOND);
	assert_int_equal(store.seals + store.frees, 2);
	assert_int_equal(ASK(&a, INFO, info, 0), 0);
	assert_int_equal(GET(&a, info).segment_count, 0);
}

static void a_duty_is_sent_until_it_is_answered(void **state)
{
	uint64_t job = job_create(&a, "job");
	struct grant g = grant_of(1);

	store.grants[0] = g;
	store.grant_count = 1;
	store_hello(&store);
	assert_int_equal(lease(&a, job, 1, 10000), 0);
	store.keeps = true;
	assert_int_equal(settle(&a, job, &g, 0), 0);
	WAIT_FOR(store.frees == 1);
	/* Not answered: again, after a while. */
	request_fail(TAKE_PTR(store.kept), -EUSERS, NULL);
	turn_for(DUTY_AGAIN_MS * MS / 2);
	assert_int_equal(store.frees, 1);
	WAIT_FOR(store.frees == 2);
	/* Lost with the connection: again, when the store is back. */
	request_fail(TAKE_PTR(store.kept), -ECANCELED, NULL);
	disconnect(&store);
	turn_for(3 * SECOND);
	store.keeps = false;
	store.has[0] = (struct segment_entry){
		.segment = g.segment, .generation = 1, .job = job, .size = g.size
	};
	store.has_count = 1;
	store_hello(&store);
	WAIT_FOR(store.frees == 3);
	turn_for(3 * SECOND);
	assert_int_equal(store.frees, 3);
}

static void a_lease_waits_for_a_store_and_says_when_none_came(void **state)
{
	uint64_t job = job_create(&a, "job");

	assert_int_equal(lease(&a, job, 1, 500), -ENOSPC);
	assert_non_null(strstr(a.detail, "dram"));
	assert_non_null(strstr(a.detail, "0 bytes"));
	store.grants[0] = grant_of(1);
	store.grant_count = 1;
	SEND(&a, LEASE, lease, slot_of_id(job), NULL, 5000, .job = job, .session = a.session,
	     .epoch = a.epoch, .request = 2, .need = 1, .size = SEGMENT_BYTES_MIN);
	turn_for(SECOND);
	assert_true(a.call.is_pending);
	store_hello(&store);
	assert_int_equal(wait_for(&a), 0);
}

static void a_store_that_says_no_is_passed_on_with_the_jobs_own_use(void **state)
{
	uint64_t job = job_create(&a, "job");

	store_hello(&store);
	store.refuses = -ENOSPC;
	assert_int_equal(put(&a, job, "a", "x"), 0);
	assert_int_equal(lease(&a, job, 1, 5000), -ENOSPC);
	assert_string_equal(a.detail, "not now; this job has 4096 bytes");
	store.refuses = -EUSERS;
	assert_int_equal(lease(&a, job, 2, 5000), -EUSERS);
}

static void an_ask_is_sent_again_with_the_same_request(void **state)
{
	uint64_t job = job_create(&a, "job"), request;

	store.keeps = true;
	store_hello(&store);
	SEND(&a, LEASE, lease, slot_of_id(job), NULL, 20000, .job = job, .session = a.session,
	     .epoch = a.epoch, .request = 1, .need = 1, .size = SEGMENT_BYTES_MIN);
	WAIT_FOR(store.segments_asked == 1);
	request = store.last_request;
	request_fail(TAKE_PTR(store.kept), -ECANCELED, NULL);
	disconnect(&store);
	store.keeps = false;
	store.grants[0] = grant_of(1);
	store.grant_count = 1;
	store_hello(&store);
	assert_int_equal(wait_for(&a), 0);
	assert_int_equal(store.segments_asked, 2);
	assert_true(store.last_request == request);
}

static void a_repeated_lease_joins_the_ask_in_progress(void **state)
{
	uint64_t job = job_create(&a, "job");

	store.keeps = true;
	store_hello(&store);
	SEND(&a, LEASE, lease, slot_of_id(job), NULL, 20000, .job = job, .session = a.session,
	     .epoch = a.epoch, .request = 1, .need = 1, .size = SEGMENT_BYTES_MIN);
	WAIT_FOR(store.segments_asked == 1);
	disconnect(&a);
	assert_int_equal(proxy_hello(&a), 0);
	assert_int_equal(a.epoch, 2);
	SEND(&a, LEASE, lease, slot_of_id(job), NULL, 20000, .job = job, .session = a.session,
	     .epoch = a.epoch, .request = 1, .need = 1, .size = SEGMENT_BYTES_MIN);
	turn_for(5 * SECOND);
	assert_int_equal(store.segments_asked, 1);
	assert_int_equal(store.withdrawn, 0);
	store.grants[0] = grant_of(1);
	store.grant_count = 1;
	answer_segment(TAKE_PTR(store.kept), store.last_stamp);
	assert_int_equal(wait_for(&a), 0);
	assert_int_equal(GET(&a, lease).count, 1);
	/* And what was granted is found again. */
	assert_int_equal(lease(&a, job, 1, 5000), 0);
	assert_int_equal(GET(&a, lease).count, 1);
	assert_int_equal(store.segments_asked, 1);
}

static void a_grant_that_nobody_waits_for_goes_back(void **state)
{
	uint64_t job = job_create(&a, "job");

	store.keeps = true;
	store.grants[0] = grant_of(1);
	store.grant_count = 1;
	store_hello(&store);
	SEND(&a, LEASE, lease, slot_of_id(job), NULL, 20000, .job = job, .session = a.session,
	     .epoch = a.epoch, .request = 1, .need = 1, .size = SEGMENT_BYTES_MIN);
	WAIT_FOR(store.segments_asked == 1);
	disconnect(&a);
	answer_segment(TAKE_PTR(store.kept), store.last_stamp);
	store.keeps = false;
	WAIT_FOR(store.frees == 1);
}

static void an_ask_that_was_late_is_settled_all_the_same(void **state)
{
	uint64_t job = job_create(&a, "job");

	store.keeps = true;
	store.grants[0] = grant_of(1);
	store.grant_count = 1;
	store.had_granted = true;
	store_hello(&store);
	SEND(&a, LEASE, lease, slot_of_id(job), NULL, 500, .job = job, .session = a.session,
	     .epoch = a.epoch, .request = 1, .need = 1, .size = SEGMENT_BYTES_MIN);
	WAIT_FOR(store.kept);
	store.keeps = false;
	assert_int_equal(wait_for(&a), -ENOSPC);
	/* It is asked once, however late it is: of two asks each could be granted. */
	WAIT_FOR(store.frees == 1);
	turn_for(5 * SECOND);
	assert_int_equal(store.segments_asked, 1);
	assert_int_equal(store.withdrawn, 1);
	assert_int_equal(shard->asking_count, 0);
}

/* How much he had been granted. */
static uint32_t gives_up(struct client *k, uint64_t job, uint64_t request)
{
	if (k->call.is_pending)
		call_cancel(&k->call);
	assert_int_equal(ASK(k, LEASE, lease, slot_of_id(job), .job = job, .session = k->session,
			     .epoch = k->epoch, .request = request, .need = 1,
			     .size = SEGMENT_BYTES_MIN, .is_over = 1),
			 0);
	return GET(k, lease).count;
}

/* For an hour. */
static void waits(struct client *k, uint64_t job, uint64_t request)
{
	SEND(k, LEASE, lease, slot_of_id(job), NULL, 3600 * 1000, .job = job, .session = k->session,
	     .epoch = k->epoch, .request = request, .need = 1, .size = SEGMENT_BYTES_MIN);
}

static void waits_at_store(struct client *k, uint64_t job, uint64_t request)
{
	waits(k, job, request);
	WAIT_FOR(store.kept);
}

static void an_ask_whose_last_asker_is_gone_is_withdrawn(void **state)
{
	uint64_t job = job_create(&a, "job");

	store.keeps = true;
	store_hello(&store);
	assert_int_equal(proxy_hello(&b), 0);
	waits_at_store(&a, job, 1);
	b.session = a.session;
	b.epoch = a.epoch;
	waits_at_store(&b, job, 1);
	turn_for(10 * MS);
	disconnect(&a);
	turn_for(2 * FUNCTION_GONE_MS * MS);
	assert_int_equal(store.withdrawn, 0);
	disconnect(&b);
	turn_for(FUNCTION_GONE_MS * MS / 2);
	assert_int_equal(store.withdrawn, 0);
	turn_for(FUNCTION_GONE_MS * MS);
	assert_int_equal(store.withdrawn, 1);
	assert_int_equal(shard->asking_count, 0);
	turn_for(10 * SECOND);
	assert_int_equal(store.withdrawn + store.segments_asked, 2);
}

static void an_ask_that_is_given_up_is_withdrawn_at_once(void **state)
{
	uint64_t job = job_create(&a, "job"), begun_ns;

	store.keeps = true;
	store_hello(&store);
	assert_int_equal(proxy_hello(&b), 0);
	waits_at_store(&a, job, 1);
	begun_ns = loop->now_ns;
	assert_int_equal(gives_up(&a, job, 1), 0);
	request_fail(TAKE_PTR(store.kept), -ECANCELED, NULL);
	/* What was granted meanwhile is told. */
	store.grants[0] = grant_of(1);
	store.grant_count = 1;
	store.had_granted = true;
	waits_at_store(&a, job, 2);
	assert_int_equal(gives_up(&a, job, 2), 1);
	assert_true(loop->now_ns - begun_ns < 50 * MS);
	assert_int_equal(store.withdrawn, 2);
	assert_int_equal(shard->asking_count, 0);
}

static void who_comes_back_while_his_ask_is_withdrawn_is_asked_for_anew(void **state)
{
	uint64_t job = job_create(&a, "job");

	store.keeps = true;
	store_hello(&store);
	waits_at_store(&a, job, 1);
	store.keeps_withdrawal = true;
	disconnect(&a);
	WAIT_FOR(store.withdrawal);
	request_fail(TAKE_PTR(store.kept), -ECANCELED, NULL);
	assert_int_equal(proxy_hello(&a), 0);
	waits(&a, job, 1);
	turn_for(5 * SECOND);
	assert_int_equal(store.segments_asked, 1);
	answer_grants(TAKE_PTR(store.withdrawal), 0, 0);
	WAIT_FOR(store.kept);
	assert_int_equal(store.segments_asked, 2);
	store.grants[0] = grant_of(1);
	store.grant_count = 1;
	answer_segment(TAKE_PTR(store.kept), store.last_stamp);
	assert_int_equal(wait_for(&a), 0);
	assert_int_equal(GET(&a, lease).count, 1);
}

/* Whoever is stopped keeps his connection, and says nothing. */
static void an_ask_of_a_session_that_is_over_is_withdrawn(void **state)
{
	uint64_t job = job_create(&a, "job");

	store.keeps = true;
	store_hello(&store);
	waits_at_store(&a, job, 1);
	turn_for(SESSION_LIFE_MS * MS / 2);
	assert_int_equal(store.withdrawn, 0);
	turn_for(2 * SESSION_LIFE_MS * MS);
	assert_int_equal(store.withdrawn, 1);
	assert_int_equal(wait_for(&a), -ENOLINK);
	assert_int_equal(shard->asking_count, 0);
}

static void an_ask_that_nobody_wants_ends_with_its_stores_connection(void **state)
{
	uint64_t job = job_create(&a, "job");

	store.keeps = true;
	store_hello(&store);
	waits_at_store(&a, job, 1);
	disconnect(&a);
	request_fail(TAKE_PTR(store.kept), -ECANCELED, NULL);
	disconnect(&store);
	turn_for(2 * FUNCTION_GONE_MS * MS);
	assert_int_equal(shard->asking_count, 0);
	assert_int_equal(store.withdrawn, 0);
}

static void a_lease_that_is_repeated_on_its_connection_is_answered_once(void **state)
{
	uint64_t job = job_create(&a, "job");
	struct call first = { .net = net };
	struct wcur w = call_body(net, &first);

	store.keeps = true;
	store_hello(&store);
	lease_req_put(&w, &(struct lease_req){ .job = job,
					       .session = a.session,
					       .epoch = a.epoch,
					       .request = 1,
					       .need = 1,
					       .size = SEGMENT_BYTES_MIN });
	call_send(a.conn, &first, MSG_LEASE, slot_of_id(job), &w, NULL, loop->now_ns + SECOND);
	WAIT_FOR(store.segments_asked == 1);
	SEND(&a, LEASE, lease, slot_of_id(job), NULL, 20000, .job = job, .session = a.session,
	     .epoch = a.epoch, .request = 1, .need = 1, .size = SEGMENT_BYTES_MIN);
	turn_for(2 * SECOND);
	assert_false(first.is_pending);
	assert_int_equal(first.result, -ETIMEDOUT);
	call_end(&first);
	store.grants[0] = grant_of(1);
	store.grant_count = 1;
	WAIT_FOR(store.kept != NULL);
	answer_segment(TAKE_PTR(store.kept), store.last_stamp);
	assert_int_equal(wait_for(&a), 0);
}

/* Each with a request of its own, for an hour. */
static void ask_for(struct call *call, uint64_t job, uint64_t request)
{
	struct wcur w;

	*call = (struct call){ .room = a.room, .room_cap = sizeof(a.room) };
	w = call_body(net, call);
	lease_req_put(&w, &(struct lease_req){ .job = job,
					       .session = a.session,
					       .epoch = a.epoch,
					       .request = request,
					       .need = 1,
					       .size = SEGMENT_BYTES_MIN });
	call_send(a.conn, call, MSG_LEASE, slot_of_id(job), &w, NULL, loop->now_ns + 3600 * SECOND);
}

static void who_finds_no_place_at_a_store_is_sent_again_when_there_is_one(void **state)
{
	static struct call calls[8];
	uint64_t job = job_create(&a, "job");

	ask_count = turned_away = 0;
	store.places = 4;
	store_hello(&store);
	assert_int_equal(proxy_hello(&b), 0);
	for (unsigned i = 0; i < 8; i++)
		ask_for(&calls[i], job, 1 + i);
	turn_for(5 * SECOND);
	assert_int_equal(store.segments_asked, 8);
	assert_int_equal(turned_away, 4);
	/* Who gives up there needs no place. */
	assert_int_equal(gives_up(&a, job, 5), 0);
	turn_for(SECOND);
	assert_int_equal(store.segments_asked + store.withdrawn, 8);
	/* The first of the others has the next one. */
	request_fail(asks[--ask_count], -EUSERS, NULL);
	WAIT_FOR(ask_count == 4);
	turn_for(5 * SECOND);
	assert_int_equal(store.segments_asked, 9);
	request_fail(asks[--ask_count], -EUSERS, NULL);
	WAIT_FOR(!calls[5].is_pending && ask_count == 4);
	/* For a move nobody has to be answered before. */
	turned_away = 0;
	SEND(&b, LEASE, lease, slot_of_id(job), NULL, 1000, .job = job, .session = b.session,
	     .epoch = b.epoch, .request = 1, .need = 1, .size = SEGMENT_BYTES_MIN, .is_move = 1);
	assert_int_equal(wait_for(&b), -ENOSPC);
	assert_true(turned_away > 5);
	turned_away = 0;
	/* All of them, when the store is back. */
	while (ask_count > 0)
		request_fail(asks[--ask_count], -ECANCELED, NULL);
	disconnect(&store);
	store_hello(&store);
	turn_for(5 * SECOND);
	assert_int_equal(ask_count, 4);
	assert_int_equal(turned_away, 1);
	for (int i = 0; i < 5; i++) {
		WAIT_FOR(ask_count > 0);
		request_fail(asks[--ask_count], -EUSERS, NULL);
		turn_for(MS);
	}
	for (unsigned i = 0; i < 8; i++) {
		assert_true(calls[i].is_pending == (i == 4));
		call_cancel(&calls[i]);
		call_end(&calls[i]);
	}
	assert_int_equal(shard->asking_count, 0);
}

/* Without a store, which makes no difference. */
static void those_who_ask_for_room_count_among_those_who_wait(void **state)
{
	uint64_t job = job_create(&a, "job");
	struct job_waits *of;

	assert_int_equal(proxy_hello(&b), 0);
	assert_int_equal(proxy_hello(&c), 0);
	waits(&b, job, 1);
	turn_for(MS);
	of = container_of(htable_first(&shard->job_waits, job), struct job_waits, by_job);
	assert_int_equal(of->count, 1);
	of->count = PARKED_PER_JOB;
	assert_int_equal(lease(&a, job, 1, 5000), -EUSERS);
	assert_string_equal(a.detail, "262144 requests of the job wait, which is the limit");
	assert_int_equal(ASK(&a, WAIT, wait, slot_of_id(job), .job = job, .path = text("x")),
			 -EUSERS);
	/* Who comes back has his place; and a move makes room for others. */
	call_cancel(&b.call);
	waits(&b, job, 1);
	SEND(&c, LEASE, lease, slot_of_id(job), NULL, 3600 * 1000, .job = job, .session = c.session,
	     .epoch = c.epoch, .request = 1, .need = 1, .size = SEGMENT_BYTES_MIN, .is_move = 1);
	turn_for(MS);
	assert_true(b.call.is_pending && c.call.is_pending);
	assert_int_equal(of->count, PARKED_PER_JOB + 1);
	of->count = 2;
	shard->waiter_count = PARKED_PER_SHARD - 2;
	assert_int_equal(lease(&a, job, 1, 5000), -EUSERS);
	assert_string_equal(a.detail, "1048576 requests wait here, which is the limit");
	assert_int_equal(ASK(&a, WAIT, wait, slot_of_id(job), .job = job, .path = text("x")),
			 -EUSERS);
	shard->waiter_count = 0;
	disconnect(&b);
	disconnect(&c);
	turn_for(2 * FUNCTION_GONE_MS * MS);
	assert_int_equal(shard->asking_count, 0);
	assert_null(htable_first(&shard->job_waits, job));
}

static uint64_t job_of_quota(const char *name, uint64_t quota)
{
	assert_int_equal(ASK(&a, JOB_CREATE, job_create, slot_of_name(text(name)),
			     .lease_ms = 60000, .quota_dram = quota, .name = text(name)),
			 0);
	return GET(&a, job_create).job;
}

/* Segment i, by a. */
static struct grant granted(uint64_t job, unsigned i)
{
	store.grants[0] = grant_of(i);
	store.grant_count = 1;
	assert_int_equal(lease(&a, job, i, 5000), 0);
	return grant_of(i);
}

static void wants(struct client *k, uint64_t job, uint64_t need, uint64_t age_ms,
		  uint64_t timeout_ms)
{
	SEND(k, LEASE, lease, slot_of_id(job), NULL, timeout_ms, .job = job, .session = k->session,
	     .epoch = k->epoch, .request = 100, .need = need, .size = SEGMENT_BYTES_MIN,
	     .age_ms = age_ms);
	turn_for(10 * MS);
}

static void who_waits_for_a_quota_is_served_by_the_age_of_his_put(void **state)
{
	uint64_t job = job_of_quota("job", 2 * SEGMENT_BYTES_MIN), other = job_create(&a, "other");
	struct grant first, second;

	store_hello(&store);
	assert_int_equal(proxy_hello(&b), 0);
	assert_int_equal(proxy_hello(&c), 0);
	first = granted(job, 1);
	second = granted(job, 2);
	wants(&b, job, 1, 50, 20000);
	wants(&c, job, 1, 5000, 20000);
	wants(&a, job, 1, 0, 1000);
	/* His deadline, with the quota's words, and a little before it. */
	assert_int_equal(wait_for(&a), -EDQUOT);
	assert_non_null(strstr(a.detail, "131072 of its quota of 131072 bytes"));
	/* Another job has another quota. */
	granted(other, 3);
	assert_int_equal(store.segments_asked, 3);
	assert_true(b.call.is_pending && c.call.is_pending);
	store.grants[0] = grant_of(4);
	assert_int_equal(settle(&a, job, &first, 0), 0);
	assert_int_equal(wait_for(&c), 0);
	turn_for(200 * MS);
	assert_true(b.call.is_pending);
	assert_int_equal(store.segments_asked, 4);
	store.grants[0] = grant_of(5);
	assert_int_equal(settle(&a, job, &second, 0), 0);
	assert_int_equal(wait_for(&b), 0);
}

static void who_cannot_wait_for_a_quota_is_told_so(void **state)
{
	struct node *node = sim_node_of(sim_node);
	unsigned refused = 0, segment = 0;
	uint64_t n = 0;
	bool is_met;

	store_hello(&store);
	assert_int_equal(proxy_hello(&b), 0);
	do {
		struct grant g;
		char name[16];
		uint64_t job;

		snprintf(name, sizeof(name), "job-%u", (unsigned)n);
		job = job_of_quota(name, SEGMENT_BYTES_MIN);
		g = granted(job, ++segment);
		node->fail_countdown = ++n;
		wants(&b, job, 1, 50, 20000);
		is_met = node->fail_countdown == 0;
		node->fail_countdown = 0;
		if (!b.call.is_pending) {
			assert_true(is_met);
			assert_int_equal(wait_for(&b), -ENOMEM);
			refused++;
			wants(&b, job, 1, 50, 20000);
		}
		assert_true(b.call.is_pending);
		store.grants[0] = grant_of(++segment);
		assert_int_equal(settle(&a, job, &g, 0), 0);
		assert_int_equal(wait_for(&b), 0);
	} while (is_met);
	assert_true(refused > 1);
}

/* Though there is room for him; but nobody waits behind one who has gone, or who needs too much. */
static void nobody_passes_who_waits_for_a_quota(void **state)
{
	uint64_t job = job_of_quota("job", 3 * SEGMENT_BYTES_MIN), begun_ns;

	store_hello(&store);
	assert_int_equal(proxy_hello(&b), 0);
	assert_int_equal(proxy_hello(&c), 0);
	granted(job, 1);
	granted(job, 2);
	wants(&b, job, 2 * SEGMENT_BYTES_MIN, 50, 20000);
	wants(&c, job, 3 * SEGMENT_BYTES_MIN + 1, 50, 20000);
	assert_int_equal(wait_for(&c), -EDQUOT);
	store.grants[0] = grant_of(3);
	wants(&c, job, 1, 20, 500);
	assert_int_equal(wait_for(&c), -EDQUOT);
	assert_non_null(strstr(c.detail, "others of the job have waited for longer"));
	assert_int_equal(store.segments_asked, 2);
	wants(&c, job, 1, 20, 20000);
	assert_true(c.call.is_pending);
	disconnect(&b);
	begun_ns = loop->now_ns;
	assert_int_equal(wait_for(&c), 0);
	assert_true(loop->now_ns - begun_ns < SECOND);
	assert_int_equal(store.segments_asked, 3);
}

static void who_gives_up_waiting_for_a_quota_leaves_the_line(void **state)
{
	uint64_t job = job_of_quota("job", 2 * SEGMENT_BYTES_MIN), begun_ns;
	struct call first = { .net = net };
	struct wcur w = call_body(net, &first);
	struct lease_req req = { .job = job,
				 .session = a.session,
				 .epoch = a.epoch,
				 .request = 9,
				 .need = 2 * SEGMENT_BYTES_MIN,
				 .size = SEGMENT_BYTES_MIN };

	store_hello(&store);
	assert_int_equal(proxy_hello(&b), 0);
	assert_int_equal(proxy_hello(&c), 0);
	granted(job, 1);
	lease_req_put(&w, &req);
	call_send(a.conn, &first, MSG_LEASE, slot_of_id(job), &w, NULL, loop->now_ns + 20 * SECOND);
	turn_for(10 * MS);
	store.grants[0] = grant_of(2);
	wants(&b, job, 1, 0, 20000);
	assert_true(b.call.is_pending);
	/* Wherever he stands in it. */
	wants(&c, job, 1, 0, 20000);
	begun_ns = loop->now_ns;
	assert_int_equal(gives_up(&c, job, 100), 0);
	assert_true(loop->now_ns - begun_ns < 50 * MS);
	assert_true(b.call.is_pending);
	assert_int_equal(gives_up(&a, job, 9), 0);
	assert_int_equal(wait_for(&b), 0);
	assert_true(loop->now_ns - begun_ns < SECOND);
	call_cancel(&first);
	call_end(&first);
	/* What was granted is still found by who has given it up. */
	assert_int_equal(gives_up(&b, job, 100), 1);
	/* And nothing is begun for one that never came. */
	assert_int_equal(gives_up(&b, job, 101), 0);
	turn_for(200 * MS);
	assert_int_equal(store.segments_asked, 2);
}

/* A store that was asked in the last moment is not what was lacking. */
static void what_is_said_in_the_end_is_what_was_waited_for(void **state)
{
	uint64_t job = job_of_quota("job", SEGMENT_BYTES_MIN);
	struct grant first;

	store_hello(&store);
	assert_int_equal(proxy_hello(&b), 0);
	first = granted(job, 1);
	wants(&b, job, 1, 0, 2000);
	turn_for(1500 * MS);
	store.keeps = true;
	assert_int_equal(settle(&a, job, &first, 0), 0);
	assert_int_equal(wait_for(&b), -EDQUOT);
	assert_non_null(strstr(b.detail, "quota had no room for 15"));
	assert_non_null(strstr(b.detail, "no store of dram answered in time"));
}

static void a_store_that_had_time_to_answer_is_what_was_lacking(void **state)
{
	uint64_t job = job_of_quota("job", SEGMENT_BYTES_MIN);
	struct grant first;

	store_hello(&store);
	assert_int_equal(proxy_hello(&b), 0);
	first = granted(job, 1);
	wants(&b, job, 1, 0, 700);
	turn_for(100 * MS);
	store.keeps = true;
	assert_int_equal(settle(&a, job, &first, 0), 0);
	assert_int_equal(wait_for(&b), -ENOSPC);
}

/* Another store, which grants segments of that size from there on. */
static void other_hello(struct client *k, uint64_t limit_bytes)
{
	k->is_store = true;
	connect_to(k);
	assert_int_equal(ASK(k, HELLO, hello, 0, .version = PROTOCOL_VERSION, .role = ROLE_STORE,
			     .secret = { KEY, sizeof(KEY) }, .incarnation = STORE_ID + 1,
			     .limit_bytes = limit_bytes, .address = text("tcp://store:2")),
			 0);
}

static void other_grants(struct client *k, unsigned first, unsigned count, uint32_t size)
{
	for (unsigned i = 0; i < count; i++)
		k->grants[i] =
			(struct grant){ .segment = (uint64_t)(STORE_ID + 1) << 20 | (first + i),
					.generation = 1,
					.size = size,
					.store = STORE_ID + 1 };
	k->grant_count = count;
}

static void the_store_with_most_room_is_asked(void **state)
{
	uint64_t job = job_create(&a, "job");

	store_hello(&store);
	other_hello(&b, (1u << 30) + SEGMENT_BYTES_MIN / 2);
	other_grants(&b, 0, 1, SEGMENT_BYTES_MIN);
	store.grants[0] = grant_of(1);
	store.grant_count = 1;
	assert_int_equal(lease(&a, job, 1, 5000), 0);
	assert_int_equal(b.segments_asked, 1);
	assert_int_equal(lease(&a, job, 2, 5000), 0);
	assert_int_equal(store.segments_asked, 1);
	assert_int_equal(ASK(&a, INFO, info, 0), 0);
	assert_int_equal(GET(&a, info).segment_count, 2);
	/* One that is away is not asked. */
	disconnect(&b);
	store.grants[0] = grant_of(2);
	assert_int_equal(lease(&a, job, 3, 5000), 0);
	assert_int_equal(store.segments_asked, 2);
}

/* `a` is in one process with `b`, which has less room than `store`. */
static uint64_t near_begin(uint16_t shards, uint64_t limit_bytes)
{
	a.near = STORE_ID + 1;
	open_again(shards, false);
	assert_int_equal(proxy_hello(&a), 0);
	store_hello(&store);
	other_hello(&b, limit_bytes);
	other_grants(&b, 0, 1, SEGMENT_BYTES_MIN);
	store.grants[0] = grant_of(1);
	store.grant_count = 1;
	for (unsigned i = 0;; i++) {
		char name[] = { 'j', (char)('a' + i), 0 };

		if (slot_of_name(text(name)) % shards == 0)
			return job_create(&a, name);
	}
}

static void the_store_in_the_askers_process_is_asked(void **state)
{
	uint64_t job = near_begin(1, 900u << 20);

	assert_int_equal(lease(&a, job, 1, 5000), 0);
	assert_int_equal(b.segments_asked, 1);
	assert_int_equal(b.last_is_now, 1);
	/* By who is elsewhere, the one with most room. */
	assert_int_equal(proxy_hello(&c), 0);
	assert_int_equal(lease(&c, job, 1, 5000), 0);
	assert_int_equal(store.segments_asked, 1);
	assert_int_equal(store.last_is_now, 0);
	assert_int_equal(b.segments_asked, 1);
	/* One that is away is not waited for, and one that is alone is asked to wait. */
	disconnect(&b);
	store.grants[0] = grant_of(2);
	assert_int_equal(lease(&a, job, 2, 5000), 0);
	assert_int_equal(store.segments_asked, 2);
	assert_int_equal(store.last_is_now, 0);
}

static void a_function_is_in_no_stores_process(void **state)
{
	uint64_t job = near_begin(1, 900u << 20);
	char words[TOKEN_BYTES_MAX + 1];

	snprintf(words, sizeof(words), "%.*s", (int)GET(&a, job_create).token.len,
		 GET(&a, job_create).token.ptr);
	c.near = STORE_ID + 1;
	assert_int_equal(hello_as(&c, ROLE_JOB, text(words)), 0);
	assert_int_equal(lease(&c, job, 1, 5000), 0);
	assert_int_equal(store.segments_asked, 1);
	assert_int_equal(b.segments_asked, 0);
}

static void a_near_store_without_room_is_not_waited_for(void **state)
{
	uint64_t job = near_begin(1, 900u << 20);

	b.refuses = -ENOSPC;
	assert_int_equal(lease(&a, job, 1, 5000), 0);
	assert_int_equal(b.segments_asked, 1);
	assert_int_equal(store.segments_asked, 1);
	assert_int_equal(store.last_is_now, 0);
	/* What the other says then is the answer. */
	store.refuses = -ENOSPC;
	assert_int_equal(lease(&a, job, 2, 300), -ENOSPC);
	assert_int_equal(b.segments_asked, 2);
	assert_int_equal(store.segments_asked, 2);
	/* Where nobody else answers, it waits there after all. */
	disconnect(&store);
	assert_int_equal(lease(&a, job, 3, 300), -ENOSPC);
	assert_int_equal(b.segments_asked, 4);
	assert_int_equal(b.last_is_now, 0);
	store.refuses = 0;
	store.keeps = store.keeps_withdrawal = true;
	store_hello(&store);
	assert_int_equal(proxy_hello(&c), 0);
	lease(&c, job, 1, 1);
	WAIT_FOR(store.segments_asked == 3);
	turn_for(1100 * MS);
	assert_int_equal(lease(&a, job, 4, 300), -ENOSPC);
	assert_int_equal(b.segments_asked, 6);
	assert_int_equal(store.segments_asked, 3);
}

static void what_a_near_store_says_of_its_room_is_believed(void **state)
{
	uint64_t job = near_begin(1, 2u << 30);

	b.refuses = -ENOSPC;
	assert_int_equal(lease(&a, job, 1, 5000), 0);
	assert_int_equal(b.segments_asked, 1);
	assert_int_equal(store.segments_asked, 1);
}

static void a_near_store_that_is_the_only_one_is_asked_to_wait(void **state)
{
	uint64_t job;

	a.near = STORE_ID;
	open_again(1, false);
	assert_int_equal(proxy_hello(&a), 0);
	store_hello(&store);
	store.refuses = -ENOSPC;
	job = job_create(&a, "job");
	assert_int_equal(lease(&a, job, 1, 300), -ENOSPC);
	assert_int_equal(store.segments_asked, 1);
	assert_int_equal(store.last_is_now, 0);
}

static void a_near_store_that_does_not_answer_is_not_asked_any_more(void **state)
{
	uint64_t job = near_begin(1, 900u << 20);

	c.near = STORE_ID + 1;
	assert_int_equal(proxy_hello(&c), 0);
	b.keeps = b.keeps_withdrawal = true;
	lease(&c, job, 1, 1);
	WAIT_FOR(b.segments_asked == 1);
	turn_for(1100 * MS);
	assert_int_equal(lease(&a, job, 1, 5000), 0);
	assert_int_equal(b.segments_asked, 1);
	assert_int_equal(store.segments_asked, 1);
}

/* One without its keeper cannot make room, and looks as if it had most. */
static void who_waits_for_a_second_is_given_what_another_store_has(void **state)
{
	uint64_t job = near_begin(1, 900u << 20), begun_ns = loop->now_ns;

	b.keeps = true;
	assert_int_equal(lease(&a, job, 1, 5000), 0);
	assert_in_range(loop->now_ns - begun_ns, ASK_QUIET_MS * MS, (ASK_QUIET_MS + 200) * MS);
	assert_int_equal(b.segments_asked, 1);
	assert_int_equal(b.withdrawn, 1);
	assert_int_equal(store.segments_asked, 1);
	assert_int_equal(store.last_is_now, 1);
}

/* And only once: it waits then, wherever that is. */
static void who_finds_nothing_there_waits_on(void **state)
{
	uint64_t job = near_begin(1, 900u << 20);

	b.keeps = true;
	store.refuses = -ENOSPC;
	waits(&a, job, 1);
	WAIT_FOR(store.segments_asked == 1);
	assert_int_equal(store.last_is_now, 1);
	store.refuses = 0;
	store.keeps = true;
	WAIT_FOR(store.segments_asked == 2);
	assert_int_equal(store.last_is_now, 0);
	turn_for(3 * SECOND);
	assert_int_equal(b.segments_asked, 1);
	assert_int_equal(b.withdrawn, 1);
	assert_int_equal(store.segments_asked, 2);
}

static void what_a_store_has_granted_before_it_is_left_is_taken(void **state)
{
	uint64_t job = near_begin(1, 900u << 20);

	b.keeps = b.had_granted = true;
	assert_int_equal(lease(&a, job, 1, 5000), 0);
	assert_int_equal(b.withdrawn, 1);
	assert_int_equal(store.segments_asked, 0);
	assert_int_equal(shard->asking_count, 0);
}

static void a_near_store_leads_by_half_of_its_pool(void **state)
{
	uint64_t job = near_begin(1, 960u << 20);

	other_grants(&b, 0, 7, 64u << 20);
	assert_int_equal(lease(&a, job, 1, 5000), 0);
	other_grants(&b, 7, 1, 64u << 20);
	assert_int_equal(lease(&a, job, 2, 5000), 0);
	assert_int_equal(b.segments_asked, 2); /* 448 MiB were in use */
	store.grants[0].size = 64u << 20;
	assert_int_equal(lease(&a, job, 3, 5000), 0);
	assert_int_equal(b.segments_asked, 2); /* 512 MiB were */
	assert_int_equal(store.segments_asked, 1);
	/* The other one has caught up. */
	other_grants(&b, 8, 1, SEGMENT_BYTES_MIN);
	assert_int_equal(lease(&a, job, 4, 5000), 0);
	assert_int_equal(b.segments_asked, 3);
}

static void each_of_four_shards_lets_a_near_store_lead_by_an_eighth(void **state)
{
	uint64_t job = near_begin(4, 960u << 20);

	other_grants(&b, 0, 1, 64u << 20);
	assert_int_equal(lease(&a, job, 1, 5000), 0);
	other_grants(&b, 1, 1, 64u << 20);
	assert_int_equal(lease(&a, job, 2, 5000), 0);
	assert_int_equal(b.segments_asked, 2);
	assert_int_equal(lease(&a, job, 3, 5000), 0);
	assert_int_equal(b.segments_asked, 2);
	assert_int_equal(store.segments_asked, 1);
}

static void move_begin(struct client *k, uint64_t job, uint64_t request)
{
	SEND(k, LEASE, lease, slot_of_id(job), NULL, 5000, .job = job, .session = k->session,
	     .epoch = k->epoch, .request = request, .need = 1, .size = SEGMENT_BYTES_MIN,
	     .is_move = 1);
}

static void what_a_store_moves_stays_in_it(void **state)
{
	uint64_t job = near_begin(1, 512u << 20);

	other_grants(&b, 0, 6, 64u << 20);
	assert_int_equal(lease(&a, job, 1, 5000), 0);
	other_grants(&b, 6, 1, SEGMENT_BYTES_MIN);
	move_begin(&a, job, 2);
	assert_int_equal(wait_for(&a), 0);
	assert_int_equal(b.segments_asked, 2);
	assert_int_equal(b.last_is_now, 0);
	/* However long it is away. */
	disconnect(&b);
	move_begin(&a, job, 3);
	turn_for(SECOND);
	disconnect(&store);
	store_hello(&store);
	turn_for(SECOND);
	assert_true(a.call.is_pending);
	other_grants(&b, 7, 1, SEGMENT_BYTES_MIN);
	other_hello(&b, 512u << 20);
	assert_int_equal(wait_for(&a), 0);
	assert_int_equal(b.segments_asked, 3);
	assert_int_equal(store.segments_asked, 0);
}

static void lists_are_compared_when_a_store_says_hello(void **state)
{
	uint64_t job = job_create(&a, "job");
	struct grant known = grant_of(2), lost = grant_of(3);

	store.grants[0] = known;
	store.grants[1] = lost;
	store.grant_count = 2;
	store_hello(&store);
	assert_int_equal(lease(&a, job, 1, 10000), 0);
	assert_int_equal(put_extent(&a, job, "known", &known, 0), 0);
	assert_int_equal(put_extent(&a, job, "lost", &lost, 0), 0);
	disconnect(&store);
	/* It comes back with five, one of which we know, and without one. */
	for (unsigned i = 0; i < 5; i++)
		store.has[i] =
			(struct segment_entry){ .segment = grant_of(i < 3 ? i : i + 1).segment,
						.job = job,
						.generation = 1,
						.size = SEGMENT_BYTES_MIN };
	store.has_count = 5;
	store.lists = 0;
	store_hello(&store);
	WAIT_FOR(store.frees == 4);
	turn_for(SECOND);
	assert_int_equal(store.lists, 3);
	assert_int_equal(store.frees, 4);
	assert_int_equal(look(&a, job, "known"), 0);
	assert_int_equal(look(&a, job, "lost"), -EREMOTEIO);
}

/* It has so many that nobody knows, and not the one that there should be. */
static uint64_t come_back_with_strays(unsigned count)
{
	uint64_t job = job_create(&a, "job");
	struct grant lost = grant_of(STRAYS);

	store.grants[0] = lost;
	store.grant_count = 1;
	store_hello(&store);
	assert_int_equal(lease(&a, job, 1, 10000), 0);
	assert_int_equal(put_extent(&a, job, "lost", &lost, 0), 0);
	disconnect(&store);
	for (unsigned i = 0; i < count; i++)
		store.has[i] = (struct segment_entry){ .segment = grant_of(i).segment,
						       .job = job,
						       .generation = 1,
						       .size = SEGMENT_BYTES_MIN };
	store.has_count = count;
	return job;
}

static void lists_are_compared_to_their_end_though_a_store_is_slow(void **state)
{
	uint64_t job = come_back_with_strays(STRAYS);

	store.is_slow = true;
	store_hello(&store);
	turn_for(DUTY_AGAIN_MS * MS / 2);
	assert_true(store.frees < STRAYS);
	assert_int_equal(look(&a, job, "lost"), 0);
	store.is_slow = false;
	for (unsigned i = 0; i < store.waiting_count; i++)
		empty_reply(store.waiting[i]);
	turn_for(DUTY_AGAIN_MS * MS / 2);
	assert_int_equal(store.frees, STRAYS);
	assert_int_equal(look(&a, job, "lost"), -EREMOTEIO);
}

/* They are more than are looked at in a turn. All but the first are there. */
static void lists_are_compared_to_their_end_though_a_page_is_long(void **state)
{
	uint64_t job = job_create(&a, "job");
	struct grant lost = grant_of(0);

	store_hello(&store);
	store.grant_count = 8;
	for (unsigned n = 0; n < 272; n += 8) {
		for (unsigned i = 0; i < 8; i++)
			store.grants[i] = grant_of(n + i);
		assert_int_equal(lease(&a, job, n + 1, 10000), 0);
	}
	assert_int_equal(put_extent(&a, job, "lost", &lost, 0), 0);
	disconnect(&store);
	for (unsigned i = 0; i < 271; i++)
		store.has[i] = (struct segment_entry){ .segment = grant_of(i + 1).segment,
						       .job = job,
						       .generation = 1,
						       .size = SEGMENT_BYTES_MIN };
	store.has_count = store.page_count = 271;
	store_hello(&store);
	turn_for(SECOND);
	assert_int_equal(look(&a, job, "lost"), -EREMOTEIO);
	assert_int_equal(store.frees, 0);
}

/* A store that takes no FREE for now is left alone for a while, in the middle of its list. */
static void lists_are_compared_to_their_end_when_a_store_takes_nothing_for_a_while(void **state)
{
	uint64_t job = come_back_with_strays(5);

	store.refuses = -ENOMEM;
	store_hello(&store);
	WAIT_FOR(store.frees > 0);
	turn_for(DUTY_AGAIN_MS * MS / 2);
	assert_true(store.frees < 5);
	assert_int_equal(look(&a, job, "lost"), 0);
	store.refuses = 0;
	turn_for(2 * DUTY_AGAIN_MS * MS);
	assert_int_equal(store.frees, 5);
	assert_int_equal(look(&a, job, "lost"), -EREMOTEIO);
}

static int note_address(void *owner, uint64_t id, const char *address)
{
	snprintf(owner, ADDRESS_TEXT_MAX, "%s", address);
	return 0;
}

/* Where the log has it. */
static const char *noted_address(uint64_t job)
{
	static char address[ADDRESS_TEXT_MAX];
	struct slot *slot;

	assert_int_equal(shard_slot(shard, slot_of_id(job), &slot), 0);
	assert_int_equal(catalog_stores(slot->catalog, note_address, address), 0);
	return address;
}

/* Nothing can be logged, not even the shard's own work. */
static void set_log_full(bool is_full)
{
	shard->log.config.media = is_full ? &media_heap : NULL;
}

/* Or a successor of ours would not know whose place another store has taken. */
static void an_address_that_finds_no_room_in_the_log_is_noted_when_there_is_some(void **state)
{
	uint64_t job = job_create(&a, "job");
	struct grant g = grant_of(1);

	store.grants[0] = g;
	store.grant_count = 1;
	store_hello(&store);
	assert_int_equal(lease(&a, job, 1, 10000), 0);
	store.has[0] = (struct segment_entry){
		.segment = g.segment, .job = job, .generation = 1, .size = g.size
	};
	store.has_count = 1;
	assert_string_equal(noted_address(job), "tcp://store:1");
	disconnect(&store);
	connect_to(&store);
	set_log_full(true);
	assert_int_equal(ASK(&store, HELLO, hello, 0, .version = PROTOCOL_VERSION,
			     .role = ROLE_STORE, .secret = { KEY, sizeof(KEY) },
			     .incarnation = STORE_ID, .limit_bytes = 1u << 30,
			     .address = text("tcp://store:2")),
			 0);
	assert_string_equal(noted_address(job), "tcp://store:1");
	set_log_full(false);
	turn_for(3 * SECOND);
	assert_string_equal(noted_address(job), "tcp://store:2");
}

/* The store has granted it, and is asked again until that is noted. */
static void a_grant_that_finds_no_room_in_the_log_is_not_forgotten(void **state)
{
	uint64_t job = job_create(&a, "job");

	store.keeps = store.had_granted = true;
	store.grants[0] = grant_of(1);
	store.grant_count = 1;
	store_hello(&store);
	waits_at_store(&a, job, 1);
	store.keeps = false;
	set_log_full(true);
	answer_segment(TAKE_PTR(store.kept), store.last_stamp);
	assert_int_equal(wait_for(&a), -ENOBUFS);
	turn_for(5 * SECOND);
	set_log_full(false);
	WAIT_FOR(store.frees == 1);
	assert_int_equal(shard->asking_count, 0);
	/* Whoever asks for it again has it. */
	store.keeps = true;
	store.grants[0] = grant_of(2);
	waits_at_store(&a, job, 2);
	store.keeps = false;
	set_log_full(true);
	answer_segment(TAKE_PTR(store.kept), store.last_stamp);
	assert_int_equal(wait_for(&a), -ENOBUFS);
	set_log_full(false);
	assert_int_equal(lease(&a, job, 2, 10000), 0);
	assert_int_equal(GET(&a, lease).count, 1);
	turn_for(5 * SECOND);
	assert_int_equal(store.frees, 1);
	assert_int_equal(shard->asking_count, 0);
}

/* Its writer may come back, and what it wrote is there. */
static void a_fenced_segment_is_given_up_when_somebody_has_waited_for_room(void **state)
{
	uint64_t job = job_create(&a, "job");

	store.grants[0] = grant_of(1);
	store.grant_count = 1;
	store_hello(&store);
	assert_int_equal(lease(&a, job, 1, 10000), 0);
	disconnect(&a);
	turn_for((SESSION_LIFE_MS + 5000) * MS);
	assert_int_equal(store.revokes, 1);
	assert_int_equal(store.frees, 0);
	/* A look comes soon after the asking, and the next one a second later. */
	store.keeps = true;
	assert_int_equal(proxy_hello(&b), 0);
	while (loop->now_ns < shard->looked_ns + 800 * MS)
		turn_for(10 * MS);
	SEND(&b, LEASE, lease, slot_of_id(job), NULL, 10000, .job = job, .session = b.session,
	     .epoch = b.epoch, .request = 1, .need = 1, .size = SEGMENT_BYTES_MIN);
	turn_for(400 * MS);
	assert_int_equal(store.segments_asked, 2);
	assert_int_equal(store.frees, 0);
	turn_for(SECOND);
	assert_int_equal(store.frees, 1);
}

static void another_store_at_the_same_address_means_that_all_is_lost(void **state)
{
	uint64_t job = job_create(&a, "job");
	struct grant g = grant_of(2);

	store.grants[0] = g;
	store.grant_count = 1;
	store_hello(&store);
	assert_int_equal(lease(&a, job, 1, 10000), 0);
	assert_int_equal(put_extent(&a, job, "a", &g, 0), 0);
	disconnect(&store);
	connect_to(&store);
	assert_int_equal(look(&a, job, "a"), 0);
	assert_int_equal(ASK(&store, HELLO, hello, 0, .version = PROTOCOL_VERSION,
			     .role = ROLE_STORE, .secret = { KEY, sizeof(KEY) },
			     .incarnation = STORE_ID + 1, .limit_bytes = 1u << 30,
			     .address = text("tcp://store:1")),
			 0);
	assert_int_equal(look(&a, job, "a"), -EREMOTEIO);
	turn_for(MS);
	assert_int_equal(ASK(&a, MAP, map, 0), 0);
	assert_int_equal(GET(&a, map).store_count, 1);
}

/* An object in a segment of the store, for which a new shard waits so long. */
static uint64_t put_there(struct client *k, const struct grant *g, uint64_t gone_ms)
{
	uint64_t job;

	store_gone_ms = gone_ms;
	open_again(1, false);
	assert_int_equal(proxy_hello(k), 0);
	job = job_create(k, "job");
	store.grants[0] = *g;
	store.grant_count = 1;
	store_hello(&store);
	assert_int_equal(lease(k, job, 1, 10000), 0);
	assert_int_equal(put_extent(k, job, "a", g, 0), 0);
	store.has[0] = (struct segment_entry){
		.segment = g->segment, .job = job, .generation = 1, .size = g->size
	};
	store.has_count = 1;
	disconnect(&store);
	return job;
}

static void a_store_that_stays_away_has_lost_its_bytes(void **state)
{
	struct grant g = grant_of(2);
	uint64_t job = put_there(&a, &g, 20000);

	turn_for(18 * SECOND);
	assert_int_equal(look(&a, job, "a"), 0);
	store_hello(&store);
	turn_for(5 * SECOND);
	disconnect(&store);
	turn_for(18 * SECOND);
	assert_int_equal(look(&a, job, "a"), 0);
	assert_int_equal(store.frees, 0);
	turn_for(4 * SECOND);
	assert_int_equal(look(&a, job, "a"), -EREMOTEIO);
	assert_int_equal(ASK(&a, MAP, map, 0), 0);
	assert_int_equal(GET(&a, map).store_count, 0);
	assert_int_equal(ASK(&a, JOB_SHOW, job_show, slot_of_name(JOB), .name = JOB), 0);
	assert_int_equal(GET(&a, job_show).dram_bytes, 0);
	/* It was only out of reach. What it has of then it frees, and then it is one like any. */
	store_hello(&store);
	WAIT_FOR(store.frees == 1);
	assert_int_equal(look(&a, job, "a"), -EREMOTEIO);
	store.grants[0] = grant_of(3);
	assert_int_equal(lease(&a, job, 2, 10000), 0);
	assert_int_equal(put_extent(&a, job, "b", &store.grants[0], 0), 0);
	assert_int_equal(look(&a, job, "b"), 0);
}

static void a_store_without_a_period_may_stay_away(void **state)
{
	struct grant g = grant_of(2);
	uint64_t job = put_there(&a, &g, 0);

	for (int i = 0; i < 50; i++) {
		turn_for(20 * SECOND);
		assert_int_equal(ASK(&a, JOB_RENEW, job_renew, slot_of_name(JOB), .name = JOB), 0);
		assert_int_equal(look(&a, job, "a"), 0);
	}
}

static void a_shard_that_was_stopped_gives_stores_a_new_period(void **state)
{
	struct grant g = grant_of(2);
	uint64_t job = put_there(&a, &g, 20000);

	sim_node_pause(sim_node, true);
	node_current = NULL;
	sim_run(sim, sim_now_ns(sim) + 100 * SECOND);
	sim_node_pause(sim_node, false);
	node_current = sim_node_of(sim_node);
	turn_for(MS); /* it notices */
	turn_for(18 * SECOND);
	assert_int_equal(look(&a, job, "a"), 0);
	turn_for(4 * SECOND);
	assert_int_equal(look(&a, job, "a"), -EREMOTEIO);
}

/* Sessions. */

static void who_comes_back_has_the_next_epoch(void **state)
{
	uint64_t session = a.session, job = job_create(&a, "job");

	assert_int_equal(a.epoch, 1);
	assert_int_equal(beat(&a, session, 1), 0);
	disconnect(&a);
	assert_int_equal(proxy_hello(&a), 0);
	assert_true(a.session == session);
	assert_int_equal(a.epoch, 2);
	assert_int_equal(a.since, 1);
	assert_int_equal(beat(&a, session, 1), -ENOLINK);
	assert_int_equal(beat(&a, session + 1, 2), -ENOLINK);
	assert_int_equal(beat(&a, 0, 0), -ENOLINK);
	a.epoch = 1;
	assert_int_equal(put(&a, job, "a", "x"), -ENOLINK);
	a.epoch = 2;
	assert_int_equal(put(&a, job, "a", "x"), 0);
	assert_int_equal(proxy_hello(&b), 0);
	assert_true(b.session != session);
}

/* The successor of a proxy that was killed says so: nobody waits for that one any more. */
static void a_session_whose_process_is_gone_is_over_at_once(void **state)
{
	uint64_t session = a.session, job = job_create(&a, "job");
	struct grant g = grant_of(1);

	store.grants[0] = g;
	store.grant_count = 1;
	store_hello(&store);
	assert_int_equal(lease(&a, job, 1, 10000), 0);
	assert_int_equal(proxy_hello(&b), 0);
	disconnect(&a);
	a.epoch = 0;
	assert_int_equal(proxy_hello(&a), 0);
	assert_true(a.session != session && a.session != b.session);
	assert_int_equal(a.epoch, 1);
	WAIT_FOR(store.revokes == 1);
	assert_int_equal(beat(&a, session, 1), -ENOLINK);
	assert_int_equal(beat(&b, b.session, b.epoch), 0);
	assert_int_equal(put_extent(&a, job, "a", &g, 0), -ESTALE);
	/* Who is not known any more is just a new one. */
	disconnect(&a);
	a.session = session;
	a.epoch = 0;
	assert_int_equal(proxy_hello(&a), 0);
	assert_true(a.session != session);
	assert_int_equal(store.revokes, 1);
}

/* Where a proxy has fewer loops than the one that was killed, the sessions of the others are ended.
 */
static void a_session_without_a_successor_is_over_and_none_begins(void **state)
{
	uint64_t session = a.session, job = job_create(&a, "job");
	struct grant g = grant_of(1);

	store.grants[0] = g;
	store.grant_count = 1;
	store_hello(&store);
	assert_int_equal(lease(&a, job, 1, 10000), 0);
	b.session = session;
	b.epoch = 1; /* as one that goes on */
	assert_int_equal(hello_as(&b, ROLE_META, (struct slice){ KEY, sizeof(KEY) }), 0);
	assert_true(b.session == 0 && b.epoch == 0);
	assert_int_equal(beat(&a, session, 1), 0);
	disconnect(&b);
	b.session = session;
	assert_int_equal(hello_as(&b, ROLE_META, (struct slice){ KEY, sizeof(KEY) }), 0);
	assert_true(b.session == 0 && b.epoch == 0);
	WAIT_FOR(store.revokes == 1);
	assert_int_equal(beat(&a, session, 1), -ENOLINK);
	disconnect(&b);
	b.session = session; /* it is not known any more */
	assert_int_equal(hello_as(&b, ROLE_META, (struct slice){ KEY, sizeof(KEY) }), 0);
	assert_int_equal(store.revokes, 1);
}

static void a_session_lives_by_being_heard(void **state)
{
	uint64_t job = job_create(&a, "job"), session = a.session;
	struct grant g = grant_of(1);

	store.grants[0] = g;
	store.grant_count = 1;
	store_hello(&store);
	assert_int_equal(lease(&a, job, 1, 10000), 0);
	for (int i = 0; i < 20; i++) {
		turn_for(SESSION_HEARTBEAT_MS * MS);
		assert_int_equal(beat(&a, a.session, a.epoch), 0);
		assert_int_equal(ASK(&a, JOB_RENEW, job_renew, slot_of_name(JOB), .name = JOB), 0);
	}
	assert_int_equal(store.revokes, 0);
	turn_for((SESSION_LIFE_MS + 2000) * MS);
	WAIT_FOR(store.revokes == 1);
	assert_int_equal(beat(&a, a.session, a.epoch), -ENOLINK);
	/* It hears so, takes its next epoch, and commits what was complete. */
	disconnect(&a);
	assert_int_equal(proxy_hello(&a), 0);
	assert_true(a.session == session);
	assert_int_equal(a.epoch, 2);
	assert_int_equal(a.since, 2);
	/* As one that has not heard this answer. */
	disconnect(&a);
	a.epoch = 1;
	assert_int_equal(proxy_hello(&a), 0);
	assert_int_equal(a.epoch, 3);
	assert_int_equal(a.since, 2);
	assert_int_equal(ASK(&a, JOB_SHOW, job_show, slot_of_name(JOB), .name = JOB), 0);
}

static void a_shard_that_was_stopped_ends_nobody(void **state)
{
	uint64_t job = job_create(&a, "job");
	struct grant g = grant_of(1);

	store.grants[0] = g;
	store.grant_count = 1;
	store_hello(&store);
	assert_int_equal(lease(&a, job, 1, 10000), 0);
	/* Longer than sessions live, and than the job's lease is. */
	sim_node_pause(sim_node, true);
	node_current = NULL;
	sim_run(sim, sim_now_ns(sim) + 100 * SECOND);
	sim_node_pause(sim_node, false);
	node_current = sim_node_of(sim_node);
	turn_for(2 * SECOND);
	assert_int_equal(store.revokes, 0);
	assert_int_equal(beat(&a, a.session, a.epoch), 0);
	assert_int_equal(put_extent(&a, job, "a", &g, 0), 0);
	/* The new period is not for ever. */
	turn_for(61 * SECOND);
	assert_int_equal(look(&a, job, "a"), -ENOLINK);
	assert_int_equal(proxy_hello(&b), 0);
	assert_int_equal(look(&b, job, "a"), -EIDRM);
}

/* Waiting. */

static void who_waits_hears_of_path_and_count(void **state)
{
	uint64_t job = job_create(&a, "job");

	assert_int_equal(proxy_hello(&b), 0);
	assert_int_equal(proxy_hello(&c), 0);
	SEND(&b, WAIT, wait, slot_of_id(job), NULL, 60000, .job = job, .path = text("d/a"));
	SEND(&c, WAIT_COUNT, wait_count, slot_of_id(job), NULL, 60000, .job = job, .count = 2,
	     .directory = text("d"));
	turn_for(10 * MS);
	assert_int_equal(ASK(&a, INFO, info, 0), 0);
	assert_int_equal(GET(&a, info).parked_count, 2);
	assert_int_equal(put(&a, job, "d/b", "x"), 0);
	turn_for(10 * MS);
	assert_true(b.call.is_pending && c.call.is_pending);
	assert_int_equal(put(&a, job, "d/a", "value"), 0);
	assert_int_equal(wait_for(&b), 0);
	assert_int_equal(GET(&b, wait).len, 5);
	assert_int_equal(wait_for(&c), 0);
	assert_int_equal(GET(&c, wait_count).count, 2);
	/* What is there is not waited for. */
	assert_int_equal(ASK(&b, WAIT, wait, slot_of_id(job), .job = job, .path = text("d/a")), 0);
	assert_int_equal(ASK(&a, INFO, info, 0), 0);
	assert_int_equal(GET(&a, info).parked_count, 0);
}

static void waiting_ends_with_its_time_its_connection_or_its_job(void **state)
{
	uint64_t job = job_create(&a, "job");

	assert_int_equal(proxy_hello(&b), 0);
	assert_int_equal(proxy_hello(&c), 0);
	/* Its own deadline is a little later than the shard's: the answer is heard. */
	SEND(&b, WAIT, wait, slot_of_id(job), NULL, 1000, .job = job, .path = text("a"));
	assert_int_equal(wait_for(&b), -ETIMEDOUT);
	SEND(&b, WAIT, wait, slot_of_id(job), NULL, 60000, .job = job, .path = text("a"));
	SEND(&c, WAIT_COUNT, wait_count, slot_of_id(job), NULL, 60000, .job = job, .count = 7);
	turn_for(10 * MS);
	disconnect(&b);
	assert_int_equal(ASK(&a, INFO, info, 0), 0);
	assert_int_equal(GET(&a, info).parked_count, 1);
	assert_int_equal(ASK(&a, JOB_END, job_end, slot_of_name(JOB), .name = JOB), 0);
	assert_int_equal(wait_for(&c), -EIDRM);
	assert_int_equal(ASK(&a, INFO, info, 0), 0);
	assert_int_equal(GET(&a, info).parked_count, 0);
}

struct many {
	struct call call;
};

static void a_crowd_is_woken_in_turns(void **state)
{
	enum { CROWD = 900 };
	struct many *crowd = node_alloc(CROWD * sizeof(*crowd));
	uint64_t job = job_create(&a, "job");
	unsigned left = CROWD;

	assert_int_equal(proxy_hello(&b), 0);
	for (int i = 0; i < CROWD; i++) {
		struct wcur w = call_body(net, &crowd[i].call);

		wait_req_put(&w, &(struct wait_req){ .job = job, .path = text("a") });
		call_send(b.conn, &crowd[i].call, MSG_WAIT, slot_of_id(job), &w, NULL,
			  loop->now_ns + 60 * SECOND);
	}
	turn_for(10 * MS);
	assert_int_equal(put(&a, job, "a", "x"), 0);
	while (left > 0) {
		left = 0;
		assert_int_equal(loop_turn(loop, loop->now_ns + SECOND), 0);
		for (int i = 0; i < CROWD; i++)
			left += crowd[i].call.is_pending;
	}
	for (int i = 0; i < CROWD; i++) {
		assert_int_equal(crowd[i].call.result, 0);
		call_end(&crowd[i].call);
	}
	node_free(crowd);
}

static void of_many_readers_as_many_as_there_are_reads_get_it(void **state)
{
	struct payload p = { .ptr = "value", .len = 5 };
	uint64_t job = job_create(&a, "job"), hold;

	SEND(&a, COMMIT, commit, slot_of_id(job), &p, 10000, .job = job, .len = 5, .seed = 1,
	     .crc = crc_more(crc_begin(1), "value", 5), .reads = 1, .path = text("r"));
	assert_int_equal(wait_for(&a), 0);
	assert_int_equal(proxy_hello(&b), 0);
	assert_int_equal(proxy_hello(&c), 0);
	assert_int_equal(look(&a, job, "r"), 0);
	hold = GET(&a, lookup).hold;
	SEND(&b, LOOKUP, lookup, slot_of_id(job), NULL, 60000, .job = job, .session = b.session,
	     .epoch = b.epoch, .read_lo = 2, .take = 10, .path = text("r"));
	SEND(&c, LOOKUP, lookup, slot_of_id(job), NULL, 60000, .job = job, .session = c.session,
	     .epoch = c.epoch, .read_lo = 3, .take = 10, .path = text("r"));
	turn_for(100 * MS);
	assert_true(b.call.is_pending && c.call.is_pending);
	/* Given back: one of them gets it; used up by that one: the other hears so. */
	assert_int_equal(ASK(&a, RELEASE, release, slot_of_id(job), .job = job,
			     .session = a.session, .epoch = a.epoch, .hold = hold, .nth_try = 1),
			 0);
	WAIT_FOR(!b.call.is_pending || !c.call.is_pending);
	turn_for(100 * MS);
	{
		struct client *first = b.call.is_pending ? &c : &b;
		struct client *second = first == &b ? &c : &b;

		assert_true(second->call.is_pending);
		assert_int_equal(wait_for(first), 0);
		assert_memory_equal(first->room, "value", 5);
		hold = GET(first, lookup).hold;
		assert_int_equal(ASK(first, RELEASE, release, slot_of_id(job), .job = job,
				     .session = first->session, .epoch = first->epoch, .hold = hold,
				     .nth_try = 1, .is_confirmed = 1),
				 0);
		assert_int_equal(wait_for(second), -ENODATA);
	}
}

/* What it is given later would be nobody's. */
static void a_lookup_that_waits_is_given_up_by_its_number(void **state)
{
	struct payload p = { .ptr = "value", .len = 5 };
	uint64_t job = job_create(&a, "job"), hold;

	SEND(&a, COMMIT, commit, slot_of_id(job), &p, 10000, .job = job, .len = 5, .seed = 1,
	     .crc = crc_more(crc_begin(1), "value", 5), .reads = 1, .path = text("r"));
	assert_int_equal(wait_for(&a), 0);
	assert_int_equal(look(&a, job, "r"), 0);
	hold = GET(&a, lookup).hold;
	assert_int_equal(proxy_hello(&b), 0);
	SEND(&b, LOOKUP, lookup, slot_of_id(job), NULL, 60000, .job = job, .session = b.session,
	     .epoch = b.epoch, .request = 7, .read_lo = 2, .take = 10, .path = text("r"));
	turn_for(100 * MS);
	assert_true(b.call.is_pending);
	/* It is of that session, so nobody else does it. */
	assert_int_equal(ASK(&a, RELEASE, release, slot_of_id(job), .job = job,
			     .session = a.session, .epoch = a.epoch, .request = 7),
			 0);
	turn_for(100 * MS);
	assert_true(b.call.is_pending);
	call_cancel(&b.call);
	assert_int_equal(ASK(&b, RELEASE, release, slot_of_id(job), .job = job,
			     .session = b.session, .epoch = b.epoch, .request = 7),
			 0);
	assert_int_equal(ASK(&a, RELEASE, release, slot_of_id(job), .job = job,
			     .session = a.session, .epoch = a.epoch, .hold = hold, .nth_try = 1),
			 0);
	turn_for(100 * MS);
	assert_int_equal(ASK(&a, STAT, stat, slot_of_id(job), .job = job, .path = text("r")), 0);
	assert_int_equal(GET(&a, stat).reads_left, 1);
}

/* Jobs. */

static void a_jobs_end_is_acknowledged_when_all_have_heard(void **state)
{
	uint64_t job = job_create(&a, "job"), began_ns;

	assert_int_equal(proxy_hello(&b), 0);
	store_hello(&store);
	b.keeps = true;
	SEND(&a, JOB_END, job_end, slot_of_name(JOB), NULL, 60000, .name = JOB);
	WAIT_FOR(b.overs == 1 && store.overs == 1 && a.overs == 1);
	assert_true(b.last_job == job && store.last_job == job);
	turn_for(100 * MS);
	assert_true(a.call.is_pending);
	request_fail(TAKE_PTR(b.kept), -ECANCELED, NULL);
	b.keeps = false;
	began_ns = loop->now_ns;
	assert_int_equal(wait_for(&a), 0);
	assert_true(loop->now_ns - began_ns < 100 * MS);
	assert_int_equal(ASK(&a, JOB_END, job_end, slot_of_name(JOB), .name = JOB), 0);
	assert_int_equal(look(&a, job, "a"), -EIDRM);
}

/* Who does not answer was stopped, and does not serve it any more after his lease. */
static void a_jobs_end_waits_no_longer_than_anybody_may_serve_it(void **state)
{
	uint64_t began_ns;

	job_create(&a, "job");
	assert_int_equal(proxy_hello(&b), 0);
	b.keeps = true;
	began_ns = loop->now_ns;
	SEND(&a, JOB_END, job_end, slot_of_name(JOB), NULL, 60000, .name = JOB);
	assert_int_equal(wait_for(&a), 0);
	assert_true(loop->now_ns - began_ns >= 500 * MS);
	assert_true(loop->now_ns - began_ns < 700 * MS);
	/* It is told all the same, until it answers. */
	WAIT_FOR(b.overs == 2);
	request_fail(TAKE_PTR(b.kept), -ECANCELED, NULL);
	b.keeps = false;
	assert_int_equal(ASK(&a, JOB_END, job_end, slot_of_name(JOB), .name = JOB), 0);
	turn_for(3 * SECOND);
	assert_int_equal(b.overs, 2);
}

static uint64_t end_ms(void)
{
	uint64_t began_ns = loop->now_ns;

	assert_int_equal(ASK(&a, JOB_END, job_end, slot_of_name(JOB), .name = JOB), 0);
	return (loop->now_ns - began_ns) / MS;
}

/* It may live, cut off, and serves until its lease is over. */
static void a_jobs_end_waits_for_a_proxy_that_was_lost_before(void **state)
{
	job_create(&a, "job");
	assert_int_equal(proxy_hello(&b), 0);
	disconnect(&b);
	turn_for(100 * MS);
	assert_in_range(end_ms(), 350, 450);
	assert_in_range(end_ms(), 0, 100);
}

static void a_jobs_end_waits_for_a_proxy_that_is_lost_before_it_has_heard(void **state)
{
	uint64_t began_ns = loop->now_ns;

	job_create(&a, "job");
	assert_int_equal(proxy_hello(&b), 0);
	b.keeps = true;
	SEND(&a, JOB_END, job_end, slot_of_name(JOB), NULL, 60000, .name = JOB);
	WAIT_FOR(b.overs == 1 && a.overs == 1);
	request_fail(TAKE_PTR(b.kept), -ECANCELED, NULL); /* behind which it is lost */
	conn_close(b.conn);
	assert_int_equal(wait_for(&a), 0);
	assert_in_range((loop->now_ns - began_ns) / MS, 500, 650);
}

static void a_jobs_end_does_not_wait_for_who_was_lost_long_ago(void **state)
{
	job_create(&a, "job");
	assert_int_equal(proxy_hello(&b), 0);
	store_hello(&store);
	disconnect(&b);
	turn_for(600 * MS);
	disconnect(&store); /* what it has goes nowhere but to proxies */
	assert_in_range(end_ms(), 0, 100);
}

static void what_is_meant_for_a_job_does_nothing_to_the_next_of_its_name(void **state)
{
	const uint16_t slot = slot_of_name(JOB);
	uint64_t job = job_create(&a, "job"), next;

	assert_int_equal(ASK(&a, JOB_RENEW, job_renew, slot, .job = job, .name = JOB), 0);
	assert_int_equal(ASK(&a, JOB_END, job_end, slot, .job = job, .name = JOB), 0);
	assert_int_equal(ASK(&a, JOB_END, job_end, slot, .job = job, .name = JOB), 0); /* again */
	assert_int_equal(ASK(&a, JOB_SHOW, job_show, slot, .job = job, .name = JOB), 0);
	assert_int_equal(GET(&a, job_show).has_ended, 1);
	next = job_create(&a, "job");
	assert_int_equal(ASK(&a, JOB_RENEW, job_renew, slot, .job = job, .name = JOB), -EIDRM);
	assert_int_equal(ASK(&a, JOB_END, job_end, slot, .job = job, .name = JOB), -EIDRM);
	assert_int_equal(ASK(&a, JOB_SHOW, job_show, slot, .job = job, .name = JOB), -EIDRM);
	assert_int_equal(ASK(&a, JOB_SHOW, job_show, slot, .name = JOB), 0);
	assert_true(GET(&a, job_show).job == next && !GET(&a, job_show).has_ended);
}

static void a_jobs_end_waits_no_longer_than_its_caller(void **state)
{
	job_create(&a, "job");
	assert_int_equal(proxy_hello(&b), 0);
	b.keeps = true;
	SEND(&a, JOB_END, job_end, slot_of_name(JOB), NULL, 200, .name = JOB);
	assert_int_equal(wait_for(&a), -ETIMEDOUT);
	/* It has ended all the same. */
	assert_int_equal(ASK(&a, JOB_SHOW, job_show, slot_of_name(JOB), .name = JOB), 0);
	assert_int_equal(GET(&a, job_show).has_ended, 1);
	request_fail(TAKE_PTR(b.kept), -ECANCELED, NULL);
	disconnect(&b);
	assert_int_equal(ASK(&a, JOB_END, job_end, slot_of_name(JOB), .name = JOB), 0);
}

static void who_comes_back_hears_of_the_jobs_that_ended(void **state)
{
	uint64_t job = job_create(&a, "job");

	assert_int_equal(proxy_hello(&b), 0);
	disconnect(&b);
	assert_int_equal(ASK(&a, JOB_END, job_end, slot_of_name(JOB), .name = JOB), 0);
	assert_int_equal(proxy_hello(&b), 0);
	WAIT_FOR(b.overs == 1);
	assert_true(b.last_job == job);
	/* Not for ever. */
	disconnect(&b);
	for (int i = 0; i < 13; i++) {
		turn_for(SESSION_HEARTBEAT_MS * MS);
		assert_int_equal(beat(&a, a.session, a.epoch), 0);
	}
	assert_int_equal(proxy_hello(&b), 0);
	turn_for(SECOND);
	assert_int_equal(b.overs, 1);
}

/* What proxies tell on. */

static int look_to_tell(struct client *k, uint64_t job, const char *path)
{
	return ASK(k, LOOKUP, lookup, slot_of_id(job), .job = job, .session = k->session,
		   .epoch = k->epoch, .take = 1000, .is_told_on = 1, .path = text(path));
}

static int remove_it(struct client *k, uint64_t job, const char *path)
{
	return ASK(k, REMOVE, remove, slot_of_id(job), .job = job, .path = text(path));
}

static void what_was_told_on_is_forgotten_before_a_change_is_acknowledged(void **state)
{
	uint64_t job = job_create(&a, "job"), began_ns;

	assert_int_equal(proxy_hello(&b), 0);
	assert_int_equal(put(&a, job, "x", "old"), 0);
	assert_int_equal(put(&a, job, "y", "other"), 0);
	assert_int_equal(look_to_tell(&b, job, "x"), 0);
	assert_int_equal(look(&b, job, "y"), 0);
	/* Only what was told on, and to whom. */
	assert_int_equal(put(&a, job, "y", "new"), 0);
	assert_int_equal(put(&a, job, "z", "new"), 0);
	assert_int_equal(b.forgets, 0);
	b.keeps = true;
	SEND(&a, REMOVE, remove, slot_of_id(job), NULL, 60000, .job = job, .path = text("x"));
	WAIT_FOR(b.forgets == 1);
	assert_string_equal(b.forgotten, "x ");
	assert_true(b.last_job == job);
	turn_for(100 * MS);
	assert_true(a.call.is_pending);
	began_ns = loop->now_ns;
	empty_reply(TAKE_PTR(b.kept));
	b.keeps = false;
	assert_int_equal(wait_for(&a), 0);
	assert_true(loop->now_ns - began_ns < 100 * MS);
	assert_int_equal(a.forgets, 0);
	/* It is told on no more. */
	assert_int_equal(put(&a, job, "x", "again"), 0);
	assert_int_equal(put(&a, job, "x", "and again"), 0);
	assert_int_equal(b.forgets, 1);
}

static void every_kind_of_change_is_told(void **state)
{
	uint64_t job = job_create(&a, "job");

	assert_int_equal(put(&a, job, "d/x", "old"), 0);
	assert_int_equal(look_to_tell(&a, job, "d/x"), 0);
	assert_int_equal(put(&a, job, "d/x", "new"), 0);
	assert_string_equal(a.forgotten, "d/x ");
	assert_int_equal(look_to_tell(&a, job, "d/x"), 0);
	assert_int_equal(ASK(&a, RENAME, rename, slot_of_id(job), .job = job, .from = text("d/x"),
			     .to = text("d/y")),
			 0);
	assert_string_equal(a.forgotten, "d/x d/y");
	assert_int_equal(put(&a, job, "d/x", "one more"), 0);
	assert_int_equal(look_to_tell(&a, job, "d/y"), 0);
	assert_int_equal(ASK(&a, RENAME, rename, slot_of_id(job), .job = job, .from = text("d/x"),
			     .to = text("d/y")),
			 0);
	assert_int_equal(a.forgets, 3);
	assert_int_equal(look_to_tell(&a, job, "d/y"), 0);
	assert_int_equal(ASK(&a, REMOVE_TREE, remove_tree, slot_of_id(job), .job = job,
			     .up_to = UINT64_MAX, .directory = text("d")),
			 0);
	assert_string_equal(a.forgotten, " ");
	assert_int_equal(a.forgets, 4);
}

static uint64_t job_that_b_tells_of(void)
{
	uint64_t job = job_create(&a, "job");

	assert_int_equal(proxy_hello(&b), 0);
	assert_int_equal(put(&a, job, "x", "old"), 0);
	assert_int_equal(put(&a, job, "y", "old"), 0);
	assert_int_equal(look_to_tell(&b, job, "x"), 0);
	assert_int_equal(look_to_tell(&b, job, "y"), 0);
	return job;
}

/* Who does not answer has no lease after 500 ms, and nobody waits for him again. */
static void a_change_waits_no_longer_than_anybody_may_tell_on(void **state)
{
	uint64_t job = job_that_b_tells_of(), began_ns;

	b.keeps = true;
	began_ns = loop->now_ns;
	assert_int_equal(remove_it(&a, job, "x"), 0);
	assert_true(loop->now_ns - began_ns >= 500 * MS);
	assert_true(loop->now_ns - began_ns < 700 * MS);
	request_fail(TAKE_PTR(b.kept), -ECANCELED, NULL);
	WAIT_FOR(!b.conn);
	turn_for(600 * MS);
	began_ns = loop->now_ns;
	assert_int_equal(remove_it(&a, job, "y"), 0);
	assert_true(loop->now_ns - began_ns < 100 * MS);
	assert_int_equal(b.forgets, 1);
}

/* It may have told on, and not hear of it. */
static void whose_connection_is_lost_is_waited_for(void **state)
{
	uint64_t job = job_that_b_tells_of(), began_ns;

	began_ns = loop->now_ns;
	disconnect(&b);
	assert_int_equal(put(&a, job, "z", "new"), 0);
	assert_true(loop->now_ns - began_ns < 100 * MS);
	assert_int_equal(remove_it(&a, job, "x"), 0);
	assert_true(loop->now_ns - began_ns >= 499 * MS);
	assert_int_equal(proxy_hello(&b), 0);
	b.keeps = true;
	assert_int_equal(look_to_tell(&b, job, "y"), 0);
	began_ns = loop->now_ns;
	SEND(&a, REMOVE, remove, slot_of_id(job), NULL, 60000, .job = job, .path = text("y"));
	WAIT_FOR(b.forgets == 1);
	request_fail(TAKE_PTR(b.kept), -ECANCELED, NULL);
	disconnect(&b);
	assert_int_equal(wait_for(&a), 0);
	assert_true(loop->now_ns - began_ns >= 500 * MS);
}

/* Also while the shard still has something to answer it, which goes nowhere. */
static void who_is_lost_in_the_middle_of_a_change_is_waited_for(void **state)
{
	uint64_t job = job_that_b_tells_of(), began_ns;

	assert_int_equal(proxy_hello(&c), 0);
	assert_int_equal(put(&a, job, "z", "old"), 0);
	assert_int_equal(look_to_tell(&c, job, "z"), 0);
	b.keeps = true;
	SEND(&c, REMOVE, remove, slot_of_id(job), NULL, 60000, .job = job, .path = text("x"));
	WAIT_FOR(b.forgets == 1);
	disconnect(&c);
	b.keeps = false;
	began_ns = loop->now_ns;
	SEND(&a, REMOVE, remove, slot_of_id(job), NULL, 60000, .job = job, .path = text("z"));
	WAIT_FOR(b.forgets == 2);
	empty_reply(TAKE_PTR(b.kept));
	assert_int_equal(wait_for(&a), 0);
	assert_true(loop->now_ns - began_ns >= 490 * MS);
}

/* The first answer was lost: the second one is no earlier. */
static void a_repeated_change_is_acknowledged_no_earlier(void **state)
{
	uint64_t job = job_create(&a, "job");

	assert_int_equal(proxy_hello(&b), 0);
	assert_int_equal(proxy_hello(&c), 0);
	assert_int_equal(put(&a, job, "x", "old"), 0);
	assert_int_equal(look_to_tell(&b, job, "x"), 0);
	b.keeps = true;
	SEND(&a, REMOVE, remove, slot_of_id(job), NULL, 60000, .job = job, .attempt_lo = 7,
	     .path = text("x"));
	WAIT_FOR(b.forgets == 1);
	SEND(&c, REMOVE, remove, slot_of_id(job), NULL, 60000, .job = job, .attempt_lo = 7,
	     .path = text("x"));
	turn_for(100 * MS);
	assert_true(a.call.is_pending && c.call.is_pending);
	empty_reply(TAKE_PTR(b.kept));
	assert_int_equal(wait_for(&c), 0);
	assert_int_equal(a.call.result, 0);
	assert_false(a.call.is_pending);
	assert_int_equal(b.forgets, 1);
}

static void counted_reads_are_not_told_on(void **state)
{
	uint64_t job = job_create(&a, "job");
	struct payload p = { .ptr = "v", .len = 1 };

	SEND(&a, COMMIT, commit, slot_of_id(job), &p, 10000, .job = job, .session = a.session,
	     .epoch = a.epoch, .len = 1, .seed = 1, .crc = crc_more(crc_begin(1), "v", 1),
	     .reads = 1, .path = text("x"));
	assert_int_equal(wait_for(&a), 0);
	assert_int_equal(look_to_tell(&a, job, "x"), -EOPNOTSUPP);
	assert_int_equal(look(&a, job, "x"), 0);
}

static void a_lease_runs_out_though_nobody_asks_for_anything(void **state)
{
	job_create(&a, "job");
	turn_for(59 * SECOND);
	assert_int_equal(a.overs, 0);
	turn_for(2 * SECOND);
	assert_int_equal(a.overs, 1);
}

static void a_lease_runs_out(void **state)
{
	uint64_t job = job_create(&a, "job");

	assert_int_equal(put(&a, job, "a", "x"), 0);
	for (int i = 0; i < 8; i++) {
		turn_for(10 * SECOND);
		assert_int_equal(beat(&a, a.session, a.epoch), 0);
		if (i < 2)
			assert_int_equal(
				ASK(&a, JOB_RENEW, job_renew, slot_of_name(JOB), .name = JOB), 0);
		if (i < 7)
			assert_int_equal(look(&a, job, "a"), 0);
	}
	turn_for(2 * SECOND);
	assert_int_equal(look(&a, job, "a"), -EIDRM);
	WAIT_FOR(a.overs == 1);
	assert_int_equal(ASK(&a, JOB_SHOW, job_show, slot_of_name(JOB), .name = JOB), 0);
	assert_int_equal(GET(&a, job_show).dram_bytes, 0);
}

static void jobs_of_all_slots_are_listed(void **state)
{
	char name[16];
	uint16_t from = 0;
	uint8_t after[16] = "";
	size_t after_len = 0;
	unsigned count = 0, pages = 0;

	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "j%d", i);
		job_create(&a, name);
	}
	for (;; pages++) {
		struct job_list_rep rep;
		struct job_entry e = { 0 };
		struct rcur r;

		assert_int_equal(ASK(&a, JOB_LIST, job_list, 0, .from_slot = from,
				     .after = { after, after_len }),
				 0);
		rep = GET(&a, job_list);
		r = rcur_make(a.room, a.call.room_len);
		for (uint32_t i = 0; i < rep.count; i++)
			job_entry_get(&r, &e);
		assert_int_equal(rcur_finish(&r), 0);
		count += rep.count;
		if (!rep.has_more)
			break;
		from = rep.next_slot;
		after_len = rep.has_more == 2 ? 0 : e.name.len;
		memcpy(after, e.name.ptr, after_len);
	}
	assert_int_equal(count, 3000);
	assert_true(pages > 1);
}

/* Functions, with tokens. */

static char token[TOKEN_BYTES_MAX + 1];

static void a_token_opens_its_own_job_only(void **state)
{
	uint64_t job, other;

	assert_int_equal(ASK(&a, JOB_CREATE, job_create, slot_of_name(JOB), .name = JOB), 0);
	job = GET(&a, job_create).job;
	snprintf(token, sizeof(token), "%.*s", (int)GET(&a, job_create).token.len,
		 GET(&a, job_create).token.ptr);
	other = job_create(&a, "other");
	assert_int_equal(hello_as(&b, ROLE_JOB, text(token)), 0);
	assert_true(GET(&b, hello).job == job);
	assert_int_equal(GET(&b, hello).rights, RIGHTS_OF_JOB);
	assert_memory_equal(GET(&b, hello).job_name.ptr, "job", 3);
	assert_int_equal(put(&b, job, "a", "x"), 0);
	assert_int_equal(look(&b, job, "a"), 0);
	assert_int_equal(put(&b, other, "a", "x"), -EACCES);
	assert_int_equal(look(&b, other, "a"), -EACCES);
	assert_int_equal(ASK(&b, STAT, stat, slot_of_id(other), .job = other), -EACCES);
	assert_int_equal(ASK(&b, LIST, list, slot_of_id(other), .job = other), -EACCES);
	assert_int_equal(ASK(&b, RENAME, rename, slot_of_id(other), .job = other, .from = text("a"),
			     .to = text("b")),
			 -EACCES);
	assert_int_equal(
		ASK(&b, JOB_END, job_end, slot_of_name(text("other")), .name = text("other")),
		-EACCES);
	assert_int_equal(
		ASK(&b, JOB_SHOW, job_show, slot_of_name(text("other")), .name = text("other")),
		-EACCES);
	assert_int_equal(
		ASK(&b, JOB_CREATE, job_create, slot_of_name(text("x")), .name = text("x")),
		-EACCES);
	assert_int_equal(ASK(&b, JOB_LIST, job_list, 0), -EACCES);
	assert_int_equal(ASK(&b, JOB_RENEW, job_renew, slot_of_name(JOB), .name = JOB), 0);
	assert_int_equal(ASK(&b, JOB_SHOW, job_show, slot_of_name(JOB), .name = JOB), 0);
	/* Another's session is not his, neither to use nor to go on with. */
	b.session = a.session;
	b.epoch = a.epoch;
	assert_int_equal(put(&b, job, "a", "x"), -ENOLINK);
	disconnect(&b);
	assert_int_equal(hello_as(&b, ROLE_JOB, text(token)), 0);
	assert_true(b.session != a.session);
	assert_int_equal(beat(&a, a.session, a.epoch), 0);
	disconnect(&b);
	assert_int_equal(hello_as(&b, ROLE_JOB, text(token)), 0);
	assert_int_equal(ASK(&a, JOB_END, job_end, slot_of_name(JOB), .name = JOB), 0);
	b.session = 0;
	disconnect(&b);
	assert_int_equal(hello_as(&b, ROLE_JOB, text(token)), -EIDRM);
}

static void a_function_sees_no_totals_and_moves_nothing(void **state)
{
	uint64_t job;

	assert_int_equal(ASK(&a, JOB_CREATE, job_create, slot_of_name(JOB), .name = JOB), 0);
	job = GET(&a, job_create).job;
	snprintf(token, sizeof(token), "%.*s", (int)GET(&a, job_create).token.len,
		 GET(&a, job_create).token.ptr);
	assert_int_equal(hello_as(&b, ROLE_JOB, text(token)), 0);
	assert_int_equal(ASK(&b, INFO, info, 0), -EACCES);
	assert_int_equal(ASK(&a, INFO, info, 0), 0);
	/* No quota is in the way of what is moved. */
	assert_int_equal(ASK(&b, LEASE, lease, slot_of_id(job), .job = job, .session = b.session,
			     .epoch = b.epoch, .need = 1, .size = 65536, .is_move = 1),
			 -EACCES);
	assert_int_equal(ASK(&b, PLACES, places, slot_of_id(job), .job = job), -EACCES);
	assert_int_equal(ASK(&b, MOVE, move, slot_of_id(job), .job = job), -EACCES);
	/* Those who know the key are operators, by whatever role. */
	assert_int_equal(hello_as(&c, ROLE_JOB, (struct slice){ KEY, sizeof(KEY) }), 0);
	assert_int_equal(GET(&c, hello).rights, RIGHTS_OF_JOB | RIGHT_ADMIN);
	assert_memory_equal(GET(&c, hello).job_name.ptr, "default", 7);
	assert_int_equal(put(&c, GET(&c, hello).job, "a", "x"), 0);
	assert_int_equal(ASK(&c, INFO, info, 0), 0);
	assert_int_equal(look(&c, job, "a"), -EACCES);
}

static void a_function_is_cut_when_its_job_ends(void **state)
{
	struct client *ends = &c;
	uint64_t began_ns, other;

	assert_int_equal(ASK(&a, JOB_CREATE, job_create, slot_of_name(JOB), .name = JOB), 0);
	snprintf(token, sizeof(token), "%.*s", (int)GET(&a, job_create).token.len,
		 GET(&a, job_create).token.ptr);
	other = job_create(&a, "other");
	assert_int_equal(hello_as(&b, ROLE_JOB, text(token)), 0);
	assert_int_equal(hello_as(ends, ROLE_JOB, text(token)), 0);
	b.keeps = true; /* as if it were frozen */
	began_ns = loop->now_ns;
	assert_int_equal(
		ASK(&a, JOB_END, job_end, slot_of_name(text("other")), .name = text("other")), 0);
	turn_for(10 * MS);
	assert_true(b.conn && other != 0);
	assert_int_equal(ASK(ends, JOB_END, job_end, slot_of_name(JOB), .name = JOB), 0);
	WAIT_FOR(!b.conn);
	assert_true(loop->now_ns - began_ns < 100 * MS);
	assert_int_equal(b.overs, 0);
	assert_non_null(ends->conn);
	assert_int_equal(hello_as(&b, ROLE_JOB, text(token)), -EIDRM);
}

static void a_function_that_is_gone_has_its_session_for_a_moment(void **state)
{
	uint64_t job, session;

	assert_int_equal(ASK(&a, JOB_CREATE, job_create, slot_of_name(JOB), .name = JOB), 0);
	job = GET(&a, job_create).job;
	snprintf(token, sizeof(token), "%.*s", (int)GET(&a, job_create).token.len,
		 GET(&a, job_create).token.ptr);
	assert_int_equal(proxy_hello(&c), 0);
	/* With nothing: over at once. */
	assert_int_equal(hello_as(&b, ROLE_JOB, text(token)), 0);
	session = b.session;
	disconnect(&b);
	assert_int_equal(hello_as(&b, ROLE_JOB, text(token)), 0);
	assert_true(b.session != session);
	assert_int_equal(GET(&b, hello).epoch, 1);
	/* With something: it goes on if it is back within two seconds. */
	session = b.session;
	assert_int_equal(ASK(&b, OPEN, open, slot_of_id(job), .job = job, .session = b.session,
			     .epoch = b.epoch, .request = 1),
			 0);
	disconnect(&b);
	turn_for(1500 * MS);
	assert_int_equal(hello_as(&b, ROLE_JOB, text(token)), 0);
	assert_true(b.session == session);
	assert_int_equal(b.epoch, 2);
	/* Others are heard of as before. */
	disconnect(&b);
	turn_for(4 * SECOND);
	assert_int_equal(hello_as(&b, ROLE_JOB, text(token)), 0);
	assert_true(b.session != session);
	assert_int_equal(beat(&a, a.session, a.epoch), 0);
	assert_int_equal(beat(&c, c.session, c.epoch), 0);
	turn_for(26 * SECOND);
	assert_int_equal(beat(&a, a.session, a.epoch), 0);
	turn_for(5 * SECOND);
	assert_int_equal(beat(&c, c.session, c.epoch), -ENOLINK);
}

/* What a message of each kind is answered with a token; 0 to be found out: not -EACCES. */
static int try_message(struct client *k, uint64_t job, int which)
{
	uint16_t slot = slot_of_id(job);

	switch (which) {
	case 0:
		return ASK(k, STAT, stat, slot, .job = job, .path = text("in/a"));
	case 1:
		return look(k, job, "in/a");
	case 2:
		return ASK(k, WAIT, wait, slot, .job = job, .path = text("in/a"));
	case 3:
		return ASK(k, FIND, find, slot, .job = job, .session = k->session,
			   .epoch = k->epoch);
	case 4:
		return put(k, job, "in/b", "x");
	case 5:
		return ASK(k, OPEN, open, slot, .job = job, .session = k->session,
			   .epoch = k->epoch);
	case 6:
		return ASK(k, EXTEND, extend, slot, .job = job, .session = k->session,
			   .epoch = k->epoch);
	case 7:
		return ASK(k, LEASE, lease, slot, .job = job, .session = k->session,
			   .epoch = k->epoch);
	case 8:
		return ASK(k, SETTLE, settle, slot, .job = job, .session = k->session,
			   .epoch = k->epoch);
	case 9:
		return ASK(k, REMOVE, remove, slot, .job = job, .path = text("in/c"));
	case 10:
		return ASK(k, REMOVE_TREE, remove_tree, slot, .job = job,
			   .directory = text("in/d"));
	case 11:
		return ASK(k, RENAME, rename, slot, .job = job, .from = text("in/e"),
			   .to = text("in/f"));
	case 12:
		return ASK(k, LIST, list, slot, .job = job, .directory = text("in/"));
	case 13:
		return ASK(k, WAIT_COUNT, wait_count, slot, .job = job, .directory = text("in/"));
	case 14:
		return ASK(k, JOB_RENEW, job_renew, slot, .name = JOB);
	case 15:
		return ASK(k, JOB_SHOW, job_show, slot, .name = JOB);
	case 16:
		return ASK(k, JOB_END, job_end, slot, .name = JOB);
	default:
		return 1;
	}
}

/* The rights that each of them needs. */
static const unsigned NEEDS[] = {
	RIGHT_READ,  RIGHT_READ,   RIGHT_READ,   RIGHT_READ,
	RIGHT_WRITE, RIGHT_WRITE,  RIGHT_WRITE,  RIGHT_WRITE,
	RIGHT_WRITE, RIGHT_REMOVE, RIGHT_REMOVE, RIGHT_REMOVE | RIGHT_WRITE,
	RIGHT_LIST,  RIGHT_LIST,   RIGHT_JOB,    RIGHT_JOB,
	RIGHT_JOB,
};
#define MESSAGES_TRIED (int)(sizeof(NEEDS) / sizeof(NEEDS[0]))

static uint64_t job_with_token(void)
{
	assert_int_equal(ASK(&a, JOB_CREATE, job_create, slot_of_name(JOB), .name = JOB), 0);
	snprintf(token, sizeof(token), "%.*s", (int)GET(&a, job_create).token.len,
		 GET(&a, job_create).token.ptr);
	return GET(&a, job_create).job;
}

static void a_narrowed_token_is_held_to_its_rights(void **state)
{
	char narrow[TOKEN_BYTES_MAX + 1];
	uint64_t job = job_with_token();

	assert_int_equal(put(&a, job, "in/a", "x"), 0);
	for (unsigned rights = 1; rights < RIGHTS_OF_JOB; rights = 2 * rights + (rights == 1)) {
		assert_int_equal(token_narrow(text(token), text(""), rights, 0, narrow), 0);
		assert_int_equal(hello_as(&b, ROLE_JOB, text(narrow)), 0);
		assert_int_equal(GET(&b, hello).rights, rights);
		for (int i = 0; i < MESSAGES_TRIED; i++) {
			if ((rights & NEEDS[i]) == NEEDS[i] && i == 16)
				continue; /* the job is needed on */
			if ((rights & NEEDS[i]) == NEEDS[i])
				assert_int_not_equal(try_message(&b, job, i), -EACCES);
			else
				assert_int_equal(try_message(&b, job, i), -EACCES);
		}
		disconnect(&b);
		b.session = 0;
	}
}

static void a_narrowed_token_is_held_to_its_prefix_and_its_time(void **state)
{
	char narrow[TOKEN_BYTES_MAX + 1];
	uint64_t job = job_with_token(), wall_s = node_wall_ns() / SECOND;

	assert_int_equal(put(&a, job, "in/a", "x"), 0);
	assert_int_equal(put(&a, job, "out/a", "x"), 0);
	assert_int_equal(
		token_narrow(text(token), text("in/"), RIGHTS_OF_JOB, wall_s + 100, narrow), 0);
	assert_int_equal(hello_as(&b, ROLE_JOB, text(narrow)), 0);
	assert_memory_equal(GET(&b, hello).prefix.ptr, "in/", 3);
	assert_int_equal(look(&b, job, "in/a"), 0);
	assert_int_equal(look(&b, job, "out/a"), -EACCES);
	assert_int_equal(look(&b, job, "in"), -EACCES);
	assert_int_equal(put(&b, job, "in/b", "x"), 0);
	assert_int_equal(put(&b, job, "out/b", "x"), -EACCES);
	assert_int_equal(ASK(&b, RENAME, rename, slot_of_id(job), .job = job, .from = text("in/b"),
			     .to = text("out/b")),
			 -EACCES);
	assert_int_equal(ASK(&b, RENAME, rename, slot_of_id(job), .job = job, .from = text("out/a"),
			     .to = text("in/c")),
			 -EACCES);
	assert_int_equal(ASK(&b, LIST, list, slot_of_id(job), .job = job), -EACCES);
	assert_int_equal(ASK(&b, LIST, list, slot_of_id(job), .job = job, .directory = text("in/")),
			 0);
	sim_node_set_wall(sim_node, (wall_s + 101) * SECOND);
	assert_int_equal(look(&b, job, "in/a"), -EKEYEXPIRED);
	disconnect(&b);
	b.session = 0;
	assert_int_equal(hello_as(&b, ROLE_JOB, text(narrow)), -EKEYEXPIRED);
	narrow[20] ^= 1;
	assert_int_equal(hello_as(&b, ROLE_JOB, text(narrow)), -EKEYREJECTED);
}

static void on_an_open_loopback_the_default_job_needs_no_token(void **state)
{
	uint64_t job;

	open_again(1, true);
	assert_int_equal(hello_as(&b, ROLE_JOB, text("")), 0);
	job = GET(&b, hello).job;
	assert_memory_equal(GET(&b, hello).job_name.ptr, "default", 7);
	assert_int_equal(GET(&b, hello).rights, RIGHTS_OF_JOB | RIGHT_ADMIN);
	assert_int_equal(put(&b, job, "a", "x"), 0);
	job_create(&b, "another");
	assert_int_equal(ASK(&b, JOB_LIST, job_list, 0), 0);
	assert_int_equal(GET(&b, job_list).count, 2);
	assert_int_equal(
		ASK(&b, JOB_END, job_end, slot_of_name(text("another")), .name = text("another")),
		0);
	/* It is there again soon after its end. */
	assert_int_equal(
		ASK(&b, JOB_END, job_end, slot_of_name(text("default")), .name = text("default")),
		0);
	turn_for(2 * SECOND);
	assert_int_equal(hello_as(&c, ROLE_JOB, text("")), 0);
	assert_true(GET(&c, hello).job != job);
}

static void the_default_job_is_renewed_for_ever(void **state)
{
	uint64_t job;

	open_again(1, true);
	assert_int_equal(hello_as(&b, ROLE_JOB, text("")), 0);
	job = GET(&b, hello).job;
	for (int days = 0; days < 9; days++) {
		turn_for(86400 * SECOND);
		if (!b.conn)
			b.session = 0;
	}
	if (b.conn)
		disconnect(&b);
	assert_int_equal(hello_as(&b, ROLE_JOB, text("")), 0);
	assert_true(GET(&b, hello).job == job);
	assert_int_equal(
		ASK(&b, JOB_SHOW, job_show, slot_of_name(text("default")), .name = text("default")),
		0);
	assert_true(GET(&b, job_show).lease_left_ms > JOB_LEASE_MS_MAX / 2);
}

static void the_clock_of_the_wall_may_jump(void **state)
{
	uint64_t job = job_create(&a, "job");

	sim_node_set_wall(sim_node, node_wall_ns() - 3600 * SECOND);
	for (int i = 0; i < 5; i++) {
		turn_for(10 * SECOND);
		assert_int_equal(beat(&a, a.session, a.epoch), 0);
	}
	assert_int_equal(put(&a, job, "a", "x"), 0);
	sim_node_set_wall(sim_node, node_wall_ns() + 7200 * SECOND);
	turn_for(8 * SECOND);
	assert_int_equal(look(&a, job, "a"), 0);
	turn_for(5 * SECOND);
	assert_int_equal(look(&a, job, "a"), -EIDRM);
}

static unsigned effect_count;

static void count_effect(void *owner, uint16_t slot, const struct effect *e)
{
	effect_count++;
	assert_int_equal(slot, slot_of_name(JOB));
}

static void every_change_is_taken_down(void **state)
{
	uint64_t job;

	effect_count = 0;
	shard_set_sink(shard, count_effect, NULL);
	job = job_create(&a, "job");
	assert_int_equal(effect_count, 1);
	assert_int_equal(put(&a, job, "a", "x"), 0);
	assert_int_equal(effect_count, 2);
	assert_int_equal(look(&a, job, "a"), 0);
	assert_int_equal(effect_count, 2);
	assert_int_equal(ASK(&a, JOB_END, job_end, slot_of_name(JOB), .name = JOB), 0);
	turn_for(SECOND);
	assert_int_equal(effect_count, 4);
	shard_set_sink(shard, NULL, NULL);
}

/* Without memory it may hang up, or say so, but goes on. */
static void the_nth_allocation_may_fail_for_every_n(void **state)
{
	struct node *node = sim_node_of(sim_node);
	uint64_t n = 0, left;

	store.grants[0] = grant_of(1);
	store.grant_count = 1;
	do {
		uint64_t job, deadline;

		if (!a.conn)
			assert_int_equal(proxy_hello(&a), 0);
		job = job_create(&a, "job");
		store.has_count = 0;
		if (!store.conn)
			store_hello(&store);
		store.grants[0].generation++;
		node->fail_countdown = ++n;
		(void)put(&a, job, "a", "x");
		if (a.conn)
			SEND(&a, LEASE, lease, slot_of_id(job), NULL, 2000, .job = job,
			     .session = a.session, .epoch = a.epoch, .request = n, .need = 1,
			     .size = SEGMENT_BYTES_MIN);
		if (a.conn)
			(void)wait_for(&a);
		if (a.conn)
			(void)ASK(&a, LIST, list, slot_of_id(job), .job = job);
		if (a.conn)
			SEND(&a, WAIT, wait, slot_of_id(job), NULL, 100, .job = job,
			     .path = text("never"));
		if (a.conn)
			(void)wait_for(&a);
		if (a.conn)
			(void)ASK(&a, JOB_END, job_end, slot_of_name(JOB), .name = JOB);
		left = node->fail_countdown;
		node->fail_countdown = 0;
		turn_for(100 * MS);
		if (!a.conn)
			assert_int_equal(proxy_hello(&a), 0);
		deadline = loop->now_ns + 100 * SECOND;
		assert_int_equal(ASK(&a, JOB_END, job_end, slot_of_name(JOB), .name = JOB), 0);
		do {
			turn_for(SECOND);
			assert_int_equal(beat(&a, a.session, a.epoch), 0);
			if (!store.conn)
				store_hello(&store);
			assert_int_equal(
				ASK(&a, JOB_SHOW, job_show, slot_of_name(JOB), .name = JOB), 0);
		} while (GET(&a, job_show).dram_bytes > 0 && loop->now_ns < deadline);
		assert_int_equal(GET(&a, job_show).dram_bytes, 0);
	} while (left == 0);
	assert_true(n > 8);
}

static void the_slots_that_are_there_are_found_in_order(void **state)
{
	static const uint16_t NUMBERS[] = { 0, 1, 63, 64, 128, 191, 1022, 1023 };
	static const struct {
		unsigned from;
		int found;
	} CASES[] = { { 0, 0 },    { 1, 1 },     { 2, 63 },     { 63, 63 },     { 64, 64 },
		      { 65, 128 }, { 129, 191 }, { 192, 1022 }, { 1023, 1023 }, { 1024, -1 } };
	struct slot *slot;

	for (size_t i = 0; i < sizeof(NUMBERS) / sizeof(*NUMBERS); i++)
		assert_int_equal(shard_slot(shard, NUMBERS[i], &slot), 0);
	for (size_t i = 0; i < sizeof(CASES) / sizeof(*CASES); i++) {
		slot = slot_from(shard, CASES[i].from);
		assert_int_equal(slot ? slot->number : -1, CASES[i].found);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_put_and_a_get_of_a_small_value),
		T(memory_of_answers_is_used_again_for_its_own_kind),
		T(nothing_is_served_before_hello),
		T(a_job_lies_in_the_slot_of_its_name),
		T(the_slots_that_are_there_are_found_in_order),
		T(a_slot_of_another_shard_is_routed),
		T(a_lease_becomes_a_segment_and_the_segment_is_given_back),
		T(a_duty_is_sent_until_it_is_answered),
		T(a_lease_waits_for_a_store_and_says_when_none_came),
		T(a_store_that_says_no_is_passed_on_with_the_jobs_own_use),
		T(an_ask_is_sent_again_with_the_same_request),
		T(a_repeated_lease_joins_the_ask_in_progress),
		T(a_grant_that_nobody_waits_for_goes_back),
		T(an_ask_that_was_late_is_settled_all_the_same),
		T(an_ask_whose_last_asker_is_gone_is_withdrawn),
		T(an_ask_that_is_given_up_is_withdrawn_at_once),
		T(a_grant_that_finds_no_room_in_the_log_is_not_forgotten),
		T(who_comes_back_while_his_ask_is_withdrawn_is_asked_for_anew),
		T(an_ask_of_a_session_that_is_over_is_withdrawn),
		T(an_ask_that_nobody_wants_ends_with_its_stores_connection),
		T(who_finds_no_place_at_a_store_is_sent_again_when_there_is_one),
		T(those_who_ask_for_room_count_among_those_who_wait),
		T(a_lease_that_is_repeated_on_its_connection_is_answered_once),
		T(who_waits_for_a_quota_is_served_by_the_age_of_his_put),
		T(who_cannot_wait_for_a_quota_is_told_so),
		T(nobody_passes_who_waits_for_a_quota),
		T(who_gives_up_waiting_for_a_quota_leaves_the_line),
		T(what_is_said_in_the_end_is_what_was_waited_for),
		T(a_store_that_had_time_to_answer_is_what_was_lacking),
		T(the_store_with_most_room_is_asked),
		T(the_store_in_the_askers_process_is_asked),
		T(a_function_is_in_no_stores_process),
		T(a_near_store_without_room_is_not_waited_for),
		T(what_a_near_store_says_of_its_room_is_believed),
		T(a_near_store_that_is_the_only_one_is_asked_to_wait),
		T(a_near_store_that_does_not_answer_is_not_asked_any_more),
		T(who_waits_for_a_second_is_given_what_another_store_has),
		T(who_finds_nothing_there_waits_on),
		T(what_a_store_has_granted_before_it_is_left_is_taken),
		T(a_near_store_leads_by_half_of_its_pool),
		T(each_of_four_shards_lets_a_near_store_lead_by_an_eighth),
		T(what_a_store_moves_stays_in_it),
		T(lists_are_compared_when_a_store_says_hello),
		T(lists_are_compared_to_their_end_though_a_store_is_slow),
		T(lists_are_compared_to_their_end_though_a_page_is_long),
		T(lists_are_compared_to_their_end_when_a_store_takes_nothing_for_a_while),
		T(an_address_that_finds_no_room_in_the_log_is_noted_when_there_is_some),
		T(a_fenced_segment_is_given_up_when_somebody_has_waited_for_room),
		T(another_store_at_the_same_address_means_that_all_is_lost),
		T(a_store_that_stays_away_has_lost_its_bytes),
		T(a_store_without_a_period_may_stay_away),
		T(a_shard_that_was_stopped_gives_stores_a_new_period),
		T(who_comes_back_has_the_next_epoch),
		T(a_session_whose_process_is_gone_is_over_at_once),
		T(a_session_without_a_successor_is_over_and_none_begins),
		T(a_session_lives_by_being_heard),
		T(a_shard_that_was_stopped_ends_nobody),
		T(who_waits_hears_of_path_and_count),
		T(waiting_ends_with_its_time_its_connection_or_its_job),
		T(a_crowd_is_woken_in_turns),
		T(of_many_readers_as_many_as_there_are_reads_get_it),
		T(a_lookup_that_waits_is_given_up_by_its_number),
		T(a_jobs_end_is_acknowledged_when_all_have_heard),
		T(a_jobs_end_waits_no_longer_than_anybody_may_serve_it),
		T(a_jobs_end_waits_for_a_proxy_that_was_lost_before),
		T(a_jobs_end_waits_for_a_proxy_that_is_lost_before_it_has_heard),
		T(a_jobs_end_does_not_wait_for_who_was_lost_long_ago),
		T(what_is_meant_for_a_job_does_nothing_to_the_next_of_its_name),
		T(a_jobs_end_waits_no_longer_than_its_caller),
		T(who_comes_back_hears_of_the_jobs_that_ended),
		T(what_was_told_on_is_forgotten_before_a_change_is_acknowledged),
		T(who_is_lost_in_the_middle_of_a_change_is_waited_for),
		T(every_kind_of_change_is_told),
		T(a_change_waits_no_longer_than_anybody_may_tell_on),
		T(whose_connection_is_lost_is_waited_for),
		T(a_repeated_change_is_acknowledged_no_earlier),
		T(counted_reads_are_not_told_on),
		T(a_lease_runs_out_though_nobody_asks_for_anything),
		T(a_lease_runs_out),
		T(jobs_of_all_slots_are_listed),
		T(a_token_opens_its_own_job_only),
		T(a_function_sees_no_totals_and_moves_nothing),
		T(a_function_is_cut_when_its_job_ends),
		T(a_function_that_is_gone_has_its_session_for_a_moment),
		T(a_narrowed_token_is_held_to_its_rights),
		T(a_narrowed_token_is_held_to_its_prefix_and_its_time),
		T(on_an_open_loopback_the_default_job_needs_no_token),
		T(the_default_job_is_renewed_for_ever),
		T(the_clock_of_the_wall_may_jump),
		T(every_change_is_taken_down),
		T(the_nth_allocation_may_fail_for_every_n),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
