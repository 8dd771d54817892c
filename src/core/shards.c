/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/container.h"
#include "base/due.h"
#include "base/log.h"
#include "base/node.h"
#include "base/plant.h"
#include "core/core_priv.h"

#define PAUSE_MS_MIN 10
#define PAUSE_MS_MAX 1000

/* Where the session stands in the body of a message that has one. */
#define SESSION_AT 8
#define EPOCH_AT   16

static void link_connect(struct shard_link *l);

static void link_wake_all(struct shard_link *l)
{
	while (waitq_wake(&l->ready))
		;
}

static void link_refused(struct shard_link *l, int r)
{
	l->is_refused = true;
	l->refusal = r;
	l->refusal_count++;
	link_wake_all(l);
}

void link_refuse(struct shard_link *l, int r, const char *why)
{
	snprintf(l->why, sizeof(l->why), "%s", why);
	link_refused(l, r);
}

/*
 * A direct client connects for those who wait, and as long as nobody was ever there it tells
 * them at once, after it has tried each address.
 */
static bool is_over(struct shard_link *l, const char *why)
{
	struct core *c = l->core;
	char address[ADDRESS_TEXT_MAX];

	if (l->is_refused || l->waiting_count == 0)
		return true;
	address_format(&l->address, address, sizeof(address));
	snprintf(l->why, sizeof(l->why), "%s: %s", address, why);
	if (l->was_ready)
		return false;
	l->meta++;
	if (c->shard_count == 0 && l->meta < c->config.meta_count) {
		l->address = c->config.metas[l->meta];
		return false;
	}
	link_refused(l, -EHOSTUNREACH);
	return true;
}

/* Tries again a little later, each time later. */
static void link_retry(struct shard_link *l, const char *why)
{
	l->is_ready = false;
	timer_stop(l->core->loop, &l->beat_timer);
	if (l->core->is_closing || (l->core->config.is_direct && is_over(l, why)))
		return;
	l->pause_ms = l->pause_ms ? 2 * l->pause_ms : PAUSE_MS_MIN;
	if (l->pause_ms > PAUSE_MS_MAX)
		l->pause_ms = PAUSE_MS_MAX;
	if (planted(LINK_LATE))
		l->pause_ms = 20000;
	timer_start(l->core->loop, &l->again, l->core->loop->now_ns + l->pause_ms * 1000000ull);
}

static void link_lost(struct conn *conn)
{
	struct shard_link *l = conn->owner;

	if (!l || l->conn != conn)
		return; /* the core was closed before */
	l->conn = NULL;
	takings_spoil_shard(l->core, l->index);
	if (l->core->config.forget_shard)
		l->core->config.forget_shard(l->core->config.owner, l->index);
	if (l->is_ready && !l->core->is_closing && !l->core->config.is_direct)
		log_warning("lost a metadata shard, connecting again shard=%u why=\"%s\"", l->index,
			    conn_why_closed(conn));
	link_retry(l, conn_why_closed(conn));
}

/* What a shard asks of us. */
static void job_over_serve(struct request *r)
{
	struct shard_link *l = r->conn->owner;
	struct rcur body = request_body(r);
	struct job_over_req req;
	struct wcur w;

	if (!l) {
		request_fail(r, -ECANCELED, "closing");
		return;
	}
	if (job_over_req_get(&body, &req) < 0) {
		request_fail(r, -EBADMSG, "JOB_OVER");
		return;
	}
	segments_lose(l->core, req.job, NULL);
	if (l->core->config.job_over)
		l->core->config.job_over(l->core->config.owner, req.job);
	w = request_answer(r);
	request_reply(r, &w, NULL);
}

static void forget(struct core *c, uint64_t job, struct slice path)
{
	takings_spoil(c, job, path);
	if (c->config.forget)
		c->config.forget(c->config.owner, job, path);
}

static void forget_serve(struct request *r)
{
	struct shard_link *l = r->conn->owner;
	struct rcur body = request_body(r);
	struct forget_req req;
	struct wcur w;

	if (!l) {
		request_fail(r, -ECANCELED, "closing");
		return;
	}
	if (forget_req_get(&body, &req) < 0) {
		request_fail(r, -EBADMSG, "FORGET");
		return;
	}
	forget(l->core, req.job, req.path);
	if (req.other.len > 0)
		forget(l->core, req.job, req.other);
	w = request_answer(r);
	request_reply(r, &w, NULL);
}

static const struct service SHARD_SERVICE = {
	.server = SERVER_PROXY,
	.handlers = { [MESSAGE_JOB_OVER] = { .serve = job_over_serve },
		      [MESSAGE_FORGET] = { .serve = forget_serve } },
	.closed = link_lost,
};

static void beat(struct timer *t);

void link_session_over(struct shard_link *l)
{
	if (!l->conn)
		return;
	/* What it had open is fenced; its next epoch may still commit what was complete. */
	if (!l->core->config.is_direct) /* which sleeps between its calls */
		log_warning("our session is over, beginning its next epoch shard=%u", l->index);
	segments_fence(l->core, l);
	l->is_ready = false;
	conn_close(l->conn);
}

/*
 * A host that has gone without a word closes no connection, and the kernel goes on sending for a
 * quarter of an hour. After so long our session is over, wherever the shard is.
 */
static void look_for_silence(struct shard_link *l)
{
	if (!l->conn || !l->is_ready ||
	    l->core->loop->now_ns - l->beat_ns < SESSION_LIFE_MS * 1000000ull)
		return;
	if (!l->core->config.is_direct)
		log_warning("a metadata shard does not answer, connecting again shard=%u",
			    l->index);
	l->is_ready = false;
	conn_close(l->conn);
}

static void beat_done(struct call *call)
{
	struct shard_link *l = call->owner;
	int r = call->result;

	call_end(call);
	if (r == 0)
		l->beat_ns = l->core->loop->now_ns;
	else if (r == -ENOLINK)
		link_session_over(l);
	else if (r == -ETIMEDOUT)
		look_for_silence(l);
}

static void beat(struct timer *t)
{
	struct shard_link *l = container_of(t, struct shard_link, beat_timer);
	struct wcur w;

	timer_start(l->core->loop, t, l->core->loop->now_ns + SESSION_HEARTBEAT_MS * 1000000ull);
	if (l->beat.is_pending || !l->is_ready)
		return;
	l->beat = (struct call){ .done = beat_done, .owner = l };
	w = call_body(l->core->net, &l->beat);
	heartbeat_req_put(&w, &(struct heartbeat_req){ .session = l->session, .epoch = l->epoch });
	call_send(l->conn, &l->beat, MSG_HEARTBEAT, 0, &w, NULL,
		  l->core->loop->now_ns + SESSION_HEARTBEAT_MS * 1000000ull);
}

/* The next one, or ours, in another connection: one says HELLO once. */
static void left_is_over(struct shard_link *l)
{
	const struct core_config *config = &l->core->config;

	config->session_over(config->owner, l->index, l->left);
	l->pause_ms = 0;
	conn_close(l->conn);
}

/* The connection is given up, before it is heard that it has closed. */
static void link_leave(struct shard_link *l, const char *why)
{
	struct conn *conn = TAKE_PTR(l->conn);

	if (!conn)
		return;
	conn->owner = NULL;
	conn_close(conn);
	map_fini(l);
	link_retry(l, why);
}

/* A server goes on until it is taken; a function says what it was told. */
static void not_taken(struct shard_link *l, int r, const struct call *call)
{
	char detail[160];

	call_detail(call, detail, sizeof(detail));
	if (r == -EHOSTUNREACH || r == -ECONNRESET)
		return;
	if (l->core->config.is_direct && r == -ETIMEDOUT) {
		link_leave(l, "no answer");
		return;
	}
	if (l->core->config.is_direct)
		link_refuse(l, r, detail);
	else if (r == -ENOMEM || r == -ETIMEDOUT)
		log_warning("a metadata shard does not take us yet shard=%u status=%s", l->index,
			    status_name(status_of(r)));
	else
		log_error("a metadata shard does not take us shard=%u status=%s "
			  "detail=\"%s\"",
			  l->index, status_name(status_of(r)), detail);
}

void link_begin(struct shard_link *l)
{
	l->is_ready = l->was_ready = true;
	l->pause_ms = 0;
	l->beat_ns = l->core->loop->now_ns;
	timer_start(l->core->loop, &l->beat_timer,
		    l->core->loop->now_ns + SESSION_HEARTBEAT_MS * 1000000ull);
	link_wake_all(l);
}

static void hello_done(struct call *call)
{
	struct shard_link *l = call->owner;
	struct core *c = l->core;
	struct rcur body = call_reply(call);
	struct hello_rep rep;
	int r = call->result;

	if (r == 0)
		r = hello_rep_get(&body, &rep);
	if (r == 0 && c->config.is_direct)
		r = identity_set(c, &rep);
	if (r < 0) {
		not_taken(l, r, call);
		call_end(call);
		if (l->conn)
			conn_close(l->conn);
		return;
	}
	if (l->left) {
		call_end(call);
		left_is_over(l);
		return;
	}
	if (l->session != rep.session && l->session != 0)
		segments_lose(c, 0, l);
	if (l->session != rep.session || rep.since > l->epoch)
		l->life++;
	if (l->session != rep.session && c->config.session_begun)
		c->config.session_begun(c->config.owner, l->index, rep.session);
	l->session = rep.session;
	l->epoch = rep.epoch;
	call_end(call);
	if (c->shard_count > 0)
		link_begin(l);
}

static int link_stream(struct shard_link *l, struct stream **ret)
{
	if (l->core->config.to_shard)
		return l->core->config.to_shard(l->core->config.owner, l->index, ret);
	return stream_connect(l->core->loop, &l->address, ret);
}

static void say_hello(struct shard_link *l)
{
	const struct core_config *config = &l->core->config;
	struct hello_req req = { .version = PROTOCOL_VERSION,
				 .role = config->is_direct ? ROLE_JOB : ROLE_PROXY,
				 .incarnation = config->reach_store,
				 .session = l->session,
				 .epoch = l->epoch,
				 .secret = config->key };
	struct wcur w;

	l->left = l->epoch == 0 && config->session_left
			  ? config->session_left(config->owner, l->index)
			  : 0;
	if (l->left) {
		req.role = ROLE_META;
		req.session = l->left;
	}
	l->hello = (struct call){ .done = hello_done, .owner = l };
	w = call_body(l->core->net, &l->hello);
	hello_req_put(&w, &req);
	call_send(l->conn, &l->hello, MSG_HELLO, 0, &w, NULL,
		  l->core->loop->now_ns +
			  (config->is_direct ? HELLO_MS_DIRECT : HELLO_MS_MAX) * 1000000ull);
}

static void link_connect(struct shard_link *l)
{
	struct stream *s;
	int r = link_stream(l, &s);

	l->is_refused = false;
	if (r < 0 || !(l->conn = conn_open(l->core->net, s, &SHARD_SERVICE, l))) {
		link_retry(l, r < 0 ? strerror(-r) : "no memory for a connection");
		return;
	}
	l->conn->access = node_alloc(sizeof(*l->conn->access));
	if (!l->conn->access) {
		conn_close(l->conn);
		return;
	}
	l->conn->access->role = ROLE_META;
	say_hello(l);
	if (l->core->shard_count == 0)
		map_ask(l);
}

static void link_again(struct timer *t)
{
	struct shard_link *l = container_of(t, struct shard_link, again);

	if (!l->core->config.is_direct || l->waiting_count > 0)
		link_connect(l);
}

struct shard_link *link_new(struct core *c, uint16_t index)
{
	struct shard_link *l = node_alloc(sizeof(*l));

	if (!l)
		return NULL;
	*l = (struct shard_link){ .core = c,
				  .index = index,
				  .session = c->config.sessions ? c->config.sessions[index] : 0,
				  .again = { .fire = link_again },
				  .beat_timer = { .fire = beat } };
	waitq_init(&l->ready, &c->loop->fibers);
	serve_init(l);
	return l;
}

void link_free(struct shard_link *l)
{
	timer_stop(l->core->loop, &l->again);
	timer_stop(l->core->loop, &l->beat_timer);
	serve_fini(l);
	map_fini(l);
	if (l->hello.is_pending) {
		call_cancel(&l->hello);
		call_end(&l->hello);
	}
	if (l->beat.is_pending) {
		call_cancel(&l->beat);
		call_end(&l->beat);
	}
	if (l->conn) {
		l->conn->owner = NULL;
		conn_close(l->conn);
	}
	node_free(l);
}

int shards_open(struct core *c)
{
	/* Where metadata is elsewhere, the first of the given addresses is shard 0 of
	 * `shard_count`. */
	uint16_t count =
		c->config.shard_count ? c->config.shard_count : (uint16_t)c->config.meta_count;

	if (count == 0 || count > SHARDS_MAX)
		return -EINVAL;
	if (c->config.is_direct)
		count = 1;
	for (uint16_t i = 0; i < count; i++) {
		c->links[i] = link_new(c, i);
		if (!c->links[i])
			return -ENOMEM;
		if (!c->config.to_shard)
			c->links[i]->address = c->config.metas[i];
	}
	if (c->config.is_direct)
		return 0;
	c->shard_count = count;
	for (uint16_t i = 0; i < count; i++)
		link_connect(c->links[i]);
	return 0;
}

void shards_close(struct core *c)
{
	for (uint16_t i = 0; i < SHARDS_MAX; i++)
		if (c->links[i])
			link_free(TAKE_PTR(c->links[i]));
}

struct shard_link *shard_of(struct core *c, uint16_t slot)
{
	/* A direct client asks the first that it reaches, until it knows how many there are. */
	return c->links[c->shard_count ? slot % c->shard_count : 0];
}

bool core_is_ready(const struct core *c)
{
	for (uint16_t i = 0; i < c->shard_count; i++)
		if (!c->links[i]->is_ready)
			return false;
	return c->shard_count > 0;
}

int link_wait(struct shard_link *l, uint64_t due_ns)
{
	unsigned before = l->refusal_count;
	int r = 0;

	l->waiting_count++;
	while (!l->is_ready && r == 0) {
		if (l->core->config.is_direct && !l->conn && !timer_is_running(&l->again))
			link_connect(l);
		r = l->refusal_count != before ? l->refusal : waitq_wait(&l->ready, due_ns);
	}
	l->waiting_count--;
	return r == -ETIMEDOUT ? -EHOSTUNREACH : r;
}

int core_wait_ready(struct core *c, uint64_t due_ns)
{
	for (uint16_t i = 0; i < c->shard_count; i++) {
		int r = link_wait(c->links[i], due_ns);

		if (r < 0)
			return r;
	}
	return 0;
}

struct wcur ask_begin(struct core *c, struct ask *a, uint16_t msg, uint16_t slot)
{
	*a = (struct ask){ .core = c,
			   .msg = msg,
			   .slot = slot,
			   .kept = body_take(c->net),
			   .call = { .net = c->net } };
	return a->kept ? wcur_make(a->kept->u.bytes, BODY_BYTES) : (struct wcur){ .bad = true };
}

static bool has_session(uint16_t msg)
{
	return msg >= MSG_LEASE && msg <= MSG_MOVE;
}

/* The messages of a session begin with job, session and epoch; those are the link's of now. */
static void put_session(struct wcur *w, uint16_t msg, const struct shard_link *l)
{
	struct wcur at = wcur_make(w->start + SESSION_AT, 16);

	_Static_assert(EPOCH_AT == SESSION_AT + 8, "they follow each other");
	if (!has_session(msg))
		return;
	put_u64(&at, l->session);
	put_u64(&at, l->epoch);
}

bool core_is_reached(struct core *c, uint16_t slot)
{
	return !c->config.is_direct || shard_of(c, slot)->is_ready;
}

int core_reach(struct core *c, uint16_t slot, uint64_t due_ns, char *why, size_t why_cap)
{
	struct shard_link *l;
	int r;

	do {
		l = shard_of(c, slot);
		r = link_wait(l, due_ns);
	} while (r == 0 && l != shard_of(c, slot)); /* the first has told where that is */
	if (r < 0)
		snprintf(why, why_cap, "%s", l->why);
	return r;
}

static int ask_once(struct ask *a, size_t len, const struct payload *payload, uint64_t due_ns)
{
	int r = core_reach(a->core, a->slot, due_ns, a->detail, sizeof(a->detail));
	struct shard_link *l;
	uint64_t epoch;
	struct wcur w;

	a->is_unheard = r < 0;
	if (r < 0)
		return r;
	l = shard_of(a->core, a->slot);
	if (a->sent_ns)
		request_grow_old(a->msg, a->kept->u.bytes, len,
				 (a->core->loop->now_ns - a->sent_ns) / 1000000 + 1);
	a->sent_ns = a->core->loop->now_ns;
	a->sent_count++;
	a->life = l->life;
	a->call.body = body_give(a->core->net, a->call.body);
	w = call_body(a->core->net, &a->call);
	put_bytes(&w, a->kept->u.bytes, len);
	if (!w.bad)
		put_session(&w, a->msg, l);
	epoch = l->epoch;
	r = call_ask(l->conn, &a->call, a->msg, a->slot, &w, payload, due_ns);
	if (r == 0 && has_session(a->msg))
		serve_heard(l, a->sent_ns);
	if (r == -ENOLINK && l->is_ready && l->epoch == epoch)
		link_session_over(l);
	return r;
}

/* Full, until something is given back. A LEASE has waited for that at the shard already. */
static bool is_full(const struct ask *a, int r)
{
	return r == -EAGAIN || (r == -ENOSPC && a->msg != MSG_LEASE);
}

/* The connection, or the session, that it was asked in has ended. */
static bool is_cut_off(int r)
{
	return r == -ECONNRESET || r == -ENOLINK;
}

/* A log that is full for a moment only writes what it has; one that stays so has no disk. */
static bool is_worth_repeating(const struct ask *a, int r, uint64_t begun_ns)
{
	if (r == -ENOBUFS)
		return a->core->loop->now_ns - begun_ns < LOGFULL_MS * 1000000ull;
	return is_cut_off(r) || r == -EHOSTUNREACH || is_full(a, r);
}

int ask_wait(struct ask *a, const struct wcur *body, const struct payload *payload, uint64_t due_ns)
{
	ptrdiff_t len = wcur_finish(body);
	uint64_t pause_ns = CORE_PAUSE_NS, begun_ns = a->core->loop->now_ns;
	uint64_t early_ns = due_early(begun_ns, due_ns);
	int r, sleep;

	if (len < 0)
		return -ENOMEM;
	for (;;) {
		r = ask_once(a, (size_t)len, payload, due_ns);
		if (a->is_unheard || !is_worth_repeating(a, r, begun_ns) || a->core->is_closing)
			break;
		if (is_full(a, r) && a->core->loop->now_ns + pause_ns >= early_ns)
			break;
		a->core->waiting_count++;
		sleep = core_pause(a->core, &pause_ns, due_ns);
		a->core->waiting_count--;
		if (sleep < 0)
			return sleep;
		if (a->core->loop->now_ns >= due_ns)
			break;
	}
	/* What the catalog says of a quota that is used up only for now. */
	if (r == -EAGAIN)
		r = -EDQUOT;
	if (r < 0 && !a->is_unheard)
		call_detail(&a->call, a->detail, sizeof(a->detail));
	if (!is_cut_off(r))
		return r;
	/* Passed on it would be taken for the end of another connection, or for a refusal. */
	snprintf(a->detail, sizeof(a->detail), "the connection to metadata was lost");
	return -EHOSTUNREACH;
}

void ask_end(struct ask *a)
{
	a->kept = body_give(a->core->net, a->kept);
	call_end(&a->call);
}

void core_send(struct core *c, struct call *call, uint16_t msg, uint16_t slot,
	       const struct wcur *body, uint64_t due_ns)
{
	struct shard_link *l = shard_of(c, slot);

	call_send(l->is_ready ? l->conn : NULL, call, msg, slot, body, NULL, due_ns);
}
