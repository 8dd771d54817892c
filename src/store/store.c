/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_priv.h"

#include <errno.h>

#include "base/container.h"
#include "base/log.h"
#include "base/node.h"
#include "store/restore.h"
#include "wire/token.h"

/* Between two tries to reach a metadata server, and up to as long again: less than puts wait. */
#define AGAIN_MS_MIN 50
#define AGAIN_MS_MAX 1000

/* What is due already is tried again after so long: the janitor is at it. */
#define TURN_NS_MIN 1000000ull

struct reach {
	struct store *store;
};

void store_changed(struct store *s)
{
	loop_defer(s->loop, &s->turn);
}

uint64_t store_time_ns(const struct store *s)
{
	return s->opened_wall_ns + (s->loop->now_ns - s->opened_ns); /* may wrap, and back */
}

static void warn_of_failures(struct store *s)
{
	const struct pool *p = &s->pool;

	/* Without a keeper, whoever starts keepers has told. */
	if (p->counters.failed_count == s->failed_logged || p->failure == -EHOSTDOWN)
		return;
	s->failed_logged = p->counters.failed_count;
	log_warning("The machine has less memory, or descriptors, than the store may use. "
		    "Puts wait; lower --memory, or raise the cgroup's limit or `ulimit -n` "
		    "store=%s limit=%llu reserved=%llu",
		    s->name, (unsigned long long)p->limit, (unsigned long long)p->reserved);
}

static void turn(struct task *t)
{
	struct store *s = container_of(t, struct store, turn);
	uint64_t now_ns = s->loop->now_ns, due_ns, clean_ns;

	store_asks_serve(s);
	janitor_turn(&s->janitor);
	warn_of_failures(s);
	due_ns = pool_due_ns(&s->pool, now_ns);
	clean_ns = store_clean(s);
	if (clean_ns < due_ns)
		due_ns = clean_ns;
	if (due_ns == UINT64_MAX)
		timer_stop(s->loop, &s->due);
	else
		timer_start(s->loop, &s->due,
			    due_ns < now_ns + TURN_NS_MIN ? now_ns + TURN_NS_MIN : due_ns);
}

static void turn_is_due(struct timer *t)
{
	store_changed(container_of(t, struct store, due));
}

static void janitor_reported(struct janitor *j)
{
	store_changed(container_of(j, struct store, janitor));
}

static char *copy_of(const void *from, size_t len)
{
	char *p = node_alloc(len + 1);

	if (p && len)
		memcpy(p, from, len);
	return p;
}

static void tell_restored(const struct store *s, const struct restored *r)
{
	if (!r->is_again)
		return;
	log_info("the store goes on with what its predecessor left store=%s segments=%u bytes=%llu",
		 s->name, r->count, (unsigned long long)s->pool.used);
	if (r->lost > 0)
		log_error("Segments are lost: the keeper did not have them, or their rows are "
			  "damaged store=%s segments=%u",
			  s->name, r->lost);
	if (r->limit > 0)
		log_warning("More than --memory allows is in use; the store keeps the limit that "
			    "it needs store=%s wanted=%llu limit=%llu",
			    s->name, (unsigned long long)r->limit,
			    (unsigned long long)s->pool.limit);
}

static int init(struct store *s, const struct store_config *config)
{
	struct restored restored;
	int r;

	s->name = copy_of(config->name, strlen(config->name));
	s->key = copy_of(config->key.ptr, config->key.len);
	s->key_len = config->key.len;
	s->token_key = (uint8_t *)copy_of(config->token_key.ptr, config->token_key.len);
	s->token_key_len = config->token_key.len;
	s->address = copy_of(config->address, strlen(config->address));
	s->reach = node_alloc(sizeof(*s->reach));
	if (!s->name || !s->key || !s->token_key || !s->address || !s->reach)
		return -ENOMEM;
	s->reach->store = s;
	retired_init(&s->retired, config->keep);
	r = pool_open(&s->pool, config->keep, s->media, &s->retired, config->limit_bytes,
		      s->opened_wall_ns, &restored);
	if (r < 0)
		return r;
	tell_restored(s, &restored);
	return janitor_open(&s->janitor, s->loop, &s->pool, s->media, config->keep, &s->retired,
			    janitor_reported);
}

static void end_views(struct store *s)
{
	struct segment *segment;
	unsigned at = 0;

	while ((segment = pool_view_over(&s->pool, &at)) != NULL) {
		pool_unpin(&s->pool, segment, false, s->loop->now_ns);
		store_unpinned(s, segment);
	}
}

static void views_are_over(struct timer *t)
{
	end_views(container_of(t, struct store, views));
}

int store_open(const struct store_config *config, struct loop *l, struct net *n, struct store **ret)
{
	struct store *s;
	int r;

	if (config->tier != TIER_DRAM)
		return -EOPNOTSUPP;
	if (config->limit_bytes < SEGMENT_BYTES_MIN)
		return -EINVAL;
	s = node_alloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->loop = l;
	s->net = n;
	s->media = config->media ? config->media : &media_memfd;
	s->wanted = config->wanted;
	s->wanted_owner = config->owner;
	s->opened_ns = node_now_ns(); /* of the same moment, not of the turn's beginning */
	s->opened_wall_ns = node_wall_ns();
	s->turn.run = turn;
	s->due.fire = turn_is_due;
	s->patience.fire = store_patience_over;
	s->views.fire = views_are_over;
	list_init(&s->turn.link);
	list_init(&s->links);
	list_init(&s->conns);
	list_init(&s->waits);
	list_init(&s->empties);
	list_init(&s->spare_transfers);
	r = init(s, config);
	if (r < 0) {
		store_close(s);
		return r;
	}
	timer_start(l, &s->views, s->opened_ns + SERVE_MS * 1000000ull);
	store_changed(s); /* the first segments are made before anybody asks */
	*ret = s;
	return 0;
}

static bool is_key(const struct store *s, struct slice given)
{
	unsigned difference = given.len != s->key_len;

	/* In a time that does not tell how much of it was right. */
	for (size_t i = 0; i < given.len && s->key_len > 0; i++)
		difference |= given.ptr[i] ^ (uint8_t)s->key[i % s->key_len];
	return difference == 0;
}

static int check_server(const struct store *s, const struct conn *c, const struct hello_req *q,
			const char **ret_why)
{
	*ret_why = "no such role";
	if (q->role != ROLE_PROXY && q->role != ROLE_META && q->role != ROLE_STORE)
		return -EINVAL;
	*ret_why = "not the key of this store's servers";
	if (!is_key(s, q->secret))
		return -EKEYREJECTED;
	*ret_why = "without a shared key, only for servers on this host";
	if (s->key_len == 0 && !c->peer.is_loopback)
		return -EACCES;
	return 0;
}

/* A direct client: it reads and writes segments of its job, and asks the slot for the rest. */
static int check_job(const struct store *s, const struct hello_req *q, struct access *ret,
		     const char **ret_why)
{
	struct token t;
	int r;

	*ret_why = "this storage server knows no tokens: start it with --token-key, for direct://";
	if (s->token_key_len == 0)
		return -EOPNOTSUPP;
	*ret_why = "not a token of this store, or its time is over";
	r = token_verify(q->secret, s->token_key, s->token_key_len, node_wall_ns(), &t);
	if (r < 0)
		return r;
	*ret_why = "only for a token of the whole job";
	if (t.prefix.len > 0)
		return -EACCES;
	ret->job = t.job;
	ret->rights = t.rights;
	ret->valid_until_ns = t.valid_until_ns;
	return 0;
}

static int check_hello(const struct store *s, const struct conn *c, const struct hello_req *q,
		       struct access *ret, const char **ret_why)
{
	*ret_why = "a connection says HELLO once";
	if (c->access)
		return -EINVAL;
	*ret_why = "this store speaks version 1 of the protocol";
	if (q->version != PROTOCOL_VERSION)
		return -EPROTONOSUPPORT;
	ret->role = q->role;
	return q->role == ROLE_JOB ? check_job(s, q, ret, ret_why) : check_server(s, c, q, ret_why);
}

/* So that the connections of a job are found when it is over. */
static int client_add(struct store *s, struct client *k)
{
	int r = htable_reserve(&s->jobs);

	if (r < 0)
		return r;
	htable_add(&s->jobs, &k->of_job, k->conn->access->job);
	k->is_of_job = true;
	return 0;
}

static int access_set(struct conn *c, const struct access *access)
{
	c->access = node_alloc(sizeof(*c->access));
	if (!c->access)
		return -ENOMEM;
	*c->access = *access;
	return 0;
}

static void hello_serve(struct request *r)
{
	struct store *s = r->conn->owner;
	struct rcur body = request_body(r);
	struct access access = { .role = ROLE_COUNT };
	struct hello_req q;
	const char *why = NULL;
	struct wcur w;
	int e = hello_req_get(&body, &q);

	if (e == 0)
		e = check_hello(s, r->conn, &q, &access, &why);
	if (e == 0)
		e = access_set(r->conn, &access);
	if (e == 0 && access.role == ROLE_JOB)
		e = client_add(s, r->conn->state);
	if (e < 0) {
		request_fail(r, e, "%s", why ? why : "not a HELLO");
		return;
	}
	w = request_answer(r);
	hello_rep_put(&w, &(struct hello_rep){ .version = PROTOCOL_VERSION,
					       .incarnation = s->pool.number,
					       .credit = CONN_CREDIT,
					       .inline_max = INLINE_BYTES_MAX,
					       .job = access.job,
					       .rights = access.rights,
					       .slot = slot_of_id(access.job) });
	request_reply(r, &w, NULL);
}

static void ping_serve(struct request *r)
{
	struct wcur w = request_answer(r);

	ping_rep_put(&w, &(struct ping_rep){});
	request_reply(r, &w, NULL);
}

/* Statuses: DENIED. */
static void info_serve(struct request *r)
{
	const struct store *s = r->conn->owner;
	struct info_rep info;
	struct wcur w;

	if (r->conn->access->role == ROLE_JOB) {
		request_fail(r, -EACCES, "a job's token shows its own job only");
		return;
	}
	w = request_answer(r);
	store_info(s, &info);
	info_rep_put(&w, &info);
	request_reply(r, &w, NULL);
}

static void link_try(struct link *l);

static void link_try_later(struct link *l)
{
	unsigned n = l->failure_count < 7 ? l->failure_count : 7;
	uint64_t ms = (uint64_t)AGAIN_MS_MIN << n;

	l->is_joined = false;
	if (!l->has_address) {
		list_remove(&l->link);
		node_free(l);
		return;
	}
	l->failure_count++;
	if (ms > AGAIN_MS_MAX)
		ms = AGAIN_MS_MAX;
	/* Not all stores at one moment, when a metadata server comes back. */
	ms += node_random_u64() % ms;
	timer_start(l->store->loop, &l->again, l->store->loop->now_ns + ms * 1000000);
}

/* Once until it is well again. */
static void tell(struct link *l, const char *status, const char *detail)
{
	char address[ADDRESS_TEXT_MAX] = "in this process";

	if (l->has_address)
		address_format(&l->address, address, sizeof(address));
	if (!l->is_told)
		log_warning("A metadata server does not have the store; trying on "
			    "store=%s meta=%s status=%s detail=\"%s\"",
			    l->store->name, address, status, detail);
	l->is_told = true;
}

/* What we keep of a connection goes; the connection itself is net's. */
static void conn_forget(struct store *s, struct conn *c)
{
	struct client *k = c->state;
	struct link *l = k->to;

	store_waits_forget(c);
	if (k->is_of_job)
		htable_remove(&s->jobs, &k->of_job);
	list_remove(&c->link);
	c->state = node_free(k);
	c->owner = NULL;
	if (!l)
		return;
	call_cancel(&l->hello);
	call_end(&l->hello);
	store_clean_forget(l);
	if (l->has_address)
		tell(l, "CLOSED", conn_why_closed(c));
	s->joined_count -= l->is_joined;
	l->conn = NULL;
	link_try_later(l);
}

static void conn_closed(struct conn *c)
{
	if (c->owner)
		conn_forget(c->owner, c);
}

/* clang-format off */
static const struct service STORE_SERVICE = {
	.server = SERVER_STORE,
	.closed = conn_closed,
	.handlers = {
		[MESSAGE_HELLO]    = { .serve = hello_serve },
		[MESSAGE_PING]     = { .serve = ping_serve },
		[MESSAGE_INFO]     = { .serve = info_serve },
		[MESSAGE_SEGMENT]  = { .serve = store_segment_serve },
		[MESSAGE_SEAL]     = { .serve = store_seal_serve },
		[MESSAGE_REVOKE]   = { .serve = store_revoke_serve },
		[MESSAGE_FREE]     = { .serve = store_free_serve },
		[MESSAGE_JOB_OVER] = { .serve = store_job_over_serve },
		[MESSAGE_SEGMENTS] = { .serve = store_segments_serve },
		[MESSAGE_EMPTY]    = { .serve = store_empty_serve },
		[MESSAGE_WRITE]    = { .serve = store_write_serve, .place = store_write_place, .drop = store_write_drop },
		[MESSAGE_READ]     = { .serve = store_read_serve },
	},
};
/* clang-format on */

/* Takes the stream. */
static int adopt(struct store *s, struct stream *stream, struct link *l, struct conn **ret)
{
	struct client *k = node_alloc(sizeof(*k));
	struct conn *c;

	if (!k) {
		stream_close(stream);
		return -ENOMEM;
	}
	c = conn_open(s->net, stream, &STORE_SERVICE, s);
	if (!c) {
		node_free(k);
		return -ENOMEM;
	}
	k->conn = c;
	k->to = l;
	c->state = k;
	list_insert(&s->conns, &c->link);
	*ret = c;
	return 0;
}

int store_accept(struct store *s, struct stream *stream)
{
	struct conn *c;

	return adopt(s, stream, NULL, &c);
}

static void hello_done(struct call *call)
{
	struct link *l = container_of(call, struct link, hello);
	struct store *s = l->store;
	char detail[160];

	if (call->result < 0) {
		tell(l, status_name((uint16_t)status_of(call->result)),
		     call_detail(call, detail, sizeof(detail)));
		conn_close(l->conn);
		return;
	}
	l->is_joined = true;
	l->is_told = false;
	l->failure_count = 0;
	s->joined_count++;
}

static int link_begin(struct link *l, struct stream *stream)
{
	struct store *s = l->store;
	struct wcur w;
	int r = adopt(s, stream, l, &l->conn);

	if (r < 0)
		return r;
	/* We called, so we know whom; its duties may come right behind its answer. */
	r = access_set(l->conn, &(struct access){ .role = ROLE_META });
	if (r < 0) {
		conn_close(l->conn);
		return 0;
	}
	l->hello = (struct call){ .done = hello_done };
	w = call_body(s->net, &l->hello);
	hello_req_put(&w, &(struct hello_req){
				  .version = PROTOCOL_VERSION,
				  .role = ROLE_STORE,
				  .incarnation = s->pool.number,
				  .limit_bytes = s->pool.limit,
				  .secret = { (const uint8_t *)s->key, s->key_len },
				  .address = { (const uint8_t *)s->address, strlen(s->address) },
			  });
	call_send(l->conn, &l->hello, MSG_HELLO, 0, &w, NULL,
		  s->loop->now_ns + HELLO_MS_MAX * 1000000ull);
	return 0;
}

static void link_try(struct link *l)
{
	struct stream *stream;

	if (stream_connect(l->store->loop, &l->address, &stream) < 0 || link_begin(l, stream) < 0)
		link_try_later(l);
}

static void link_again(struct timer *t)
{
	link_try(container_of(t, struct link, again));
}

static struct link *link_new(struct store *s)
{
	struct link *l = node_alloc(sizeof(*l));

	if (!l)
		return NULL;
	l->store = s;
	l->again.fire = link_again;
	list_insert(&s->links, &l->link);
	return l;
}

int store_join(struct store *s, struct stream *stream)
{
	struct link *l = link_new(s);
	int r;

	if (!l) {
		stream_close(stream);
		return -ENOMEM;
	}
	r = link_begin(l, stream);
	if (r < 0)
		link_try_later(l);
	return r;
}

int store_join_at(struct store *s, const struct address *meta)
{
	struct link *l = link_new(s);

	if (!l)
		return -ENOMEM;
	l->address = *meta;
	l->has_address = true;
	link_try(l);
	return 0;
}

static int near_pin(struct reach *r, uint64_t job, uint64_t segment, uint32_t generation,
		    uint32_t offset, uint32_t len, uint8_t **ret)
{
	struct segment *s;
	int e = pool_pin(&r->store->pool, job, segment, generation, offset, len, &s, ret);

	return e < 0 && e != -ERANGE ? -ESTALE : e;
}

static int near_pin_to_write(struct reach *r, uint64_t job, uint64_t segment, uint32_t generation,
			     uint64_t key, uint32_t offset, uint32_t len, uint8_t **ret)
{
	struct segment *s;
	int e = pool_pin_to_write(&r->store->pool, job, segment, generation, key, offset, len, &s,
				  ret);

	return e < 0 && e != -ERANGE ? -ESTALE : e;
}

static void near_unpin(struct reach *r, uint64_t id)
{
	struct store *s = r->store;
	struct segment *segment = pool_pinned(&s->pool, id);

	pool_unpin(&s->pool, segment, false, s->loop->now_ns);
	store_unpinned(s, segment);
}

static int near_export(struct reach *r, uint64_t job, uint64_t segment, uint32_t generation,
		       uint32_t *ret_size)
{
	struct segment *s;

	if (pool_export(&r->store->pool, job, segment, generation, &s) < 0)
		return -ESTALE;
	*ret_size = s->size;
	return memory_export(&s->memory);
}

static int near_let_write(struct reach *r, uint64_t job, uint64_t segment, uint32_t generation,
			  uint64_t key, uint64_t author, uint32_t *ret_since)
{
	struct segment *s;

	if (pool_export_to_write(&r->store->pool, job, segment, generation, key, author, &s) < 0)
		return -ESTALE;
	*ret_since = s->authored;
	return 0;
}

static int near_export_to_write(struct reach *r, uint64_t job, uint64_t segment,
				uint32_t generation, uint64_t author, uint32_t *ret_size)
{
	struct segment *s;

	if (pool_export(&r->store->pool, job, segment, generation, &s) < 0 || s->author != author)
		return -ESTALE;
	*ret_size = s->size;
	return memory_export_to_write(&s->memory);
}

static void near_author_over(struct reach *r, uint64_t job, uint64_t author)
{
	pool_author_over(&r->store->pool, job, author);
	store_changed(r->store);
}

static bool near_is_short(struct reach *r)
{
	return pool_lacking(&r->store->pool) > 0;
}

static void near_hold_views(struct reach *r, uint64_t job, bool is_held)
{
	struct store *s = r->store;

	pool_hold_views(&s->pool, job, is_held);
	if (!timer_is_running(&s->views))
		end_views(s);
}

static const struct reach_ops REACH_OPS = {
	.pin = near_pin,
	.pin_to_write = near_pin_to_write,
	.unpin = near_unpin,
	.export = near_export,
	.let_write = near_let_write,
	.export_to_write = near_export_to_write,
	.author_over = near_author_over,
	.is_short = near_is_short,
	.hold_views = near_hold_views,
};

unsigned store_segments_max(const struct store *s)
{
	return s->pool.segment_max;
}

void store_reach(struct store *s, struct reach **ret, const struct reach_ops **ret_ops)
{
	*ret = s->reach;
	*ret_ops = &REACH_OPS;
}

uint64_t store_incarnation(const struct store *s)
{
	return s->pool.number;
}

unsigned store_joined_count(const struct store *s)
{
	return s->joined_count;
}

const struct pool_counters *store_counters(const struct store *s)
{
	return &s->pool.counters;
}

uint64_t store_memory_bytes(const struct store *s)
{
	return s->pool.reserved - s->pool.lent;
}

bool store_is_waited_for(const struct store *s)
{
	return s->pool.ask_count > 0;
}

uint64_t store_lend(struct store *s, uint64_t bytes)
{
	uint64_t lent = pool_lend(&s->pool, bytes);

	if (lent != bytes)
		store_changed(s);
	return lent;
}

void store_info(const struct store *s, struct info_rep *ret)
{
	uint64_t moment_ns = store_time_ns(s);
	unsigned __int128 integral = book_integral(&s->pool.book, moment_ns);

	*ret = (struct info_rep){
		.dram_limit = s->pool.limit,
		.dram_used = s->pool.book.bytes,
		.dram_clean = pool_clean_bytes(&s->pool),
		.byte_ns_hi = (uint64_t)(integral >> 64),
		.byte_ns_lo = (uint64_t)integral,
		.segment_count = s->pool.used_count,
		.parked_count = s->pool.ask_count,
		.uptime_ms = (s->loop->now_ns - s->opened_ns) / 1000000,
		.moment_ns = moment_ns,
		.lingering_bytes = s->pool.counters.lingering_bytes,
	};
}

void store_close(struct store *s)
{
	if (!s)
		return;
	for (struct list *l = s->links.next; l != &s->links; l = l->next)
		container_of(l, struct link, link)->has_address = false;
	while (!list_is_empty(&s->conns)) {
		struct conn *c = container_of(s->conns.next, struct conn, link);

		conn_close(c); /* ends its requests and transfers */
		conn_forget(s, c);
	}
	while (!list_is_empty(&s->links)) {
		struct link *l = container_of(s->links.next, struct link, link);

		timer_stop(s->loop, &l->again);
		list_remove(&l->link);
		node_free(l);
	}
	end_views(s);
	janitor_close(&s->janitor);
	retired_fini(&s->retired);
	task_stop(&s->turn);
	timer_stop(s->loop, &s->due);
	timer_stop(s->loop, &s->patience);
	timer_stop(s->loop, &s->views);
	store_transfers_fini(s);
	htable_fini(&s->jobs);
	pool_fini(&s->pool, s->media);
	s->name = node_free(s->name);
	s->key = node_free(s->key);
	s->token_key = node_free(s->token_key);
	s->address = node_free(s->address);
	node_free(s->reach);
	node_free(s);
}
