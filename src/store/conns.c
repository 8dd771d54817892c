/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections: those that came to us, and those that we keep to metadata servers, which are tried
 * again and again.
 */
#include "store/store_priv.h"

#include <errno.h>

#include "base/container.h"
#include "base/log.h"
#include "base/node.h"

/* Between two tries to reach a metadata server, and up to as long again: less than puts wait. */
#define AGAIN_MS_MIN 50
#define AGAIN_MS_MAX 1000

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
		[MESSAGE_HELLO]    = { .serve = store_hello_serve },
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
	r = store_access_set(l->conn, &(struct access){ .role = ROLE_META });
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

void store_conns_close(struct store *s)
{
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
}
