/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hello: who is at the other end, and who was heard of lately.
 *
 * A session is (id, epoch), independent of connections: who comes back with its id has
 * the next epoch, and still has what the earlier one had. What it has, the slots know;
 * here is only when it was last heard. An epoch that is not the last one is refused.
 */
#include <stdio.h>

#include "base/log.h"
#include "base/node.h"
#include "meta/shard_priv.h"
#include "wire/token.h"

/* Sessions. */

struct presence *presence_find(const struct shard *s, uint64_t id)
{
	for (struct hlink *l = htable_first(&s->presences, id); l; l = htable_next(l)) {
		struct presence *p = container_of(l, struct presence, by_id);

		if (p->id == id)
			return p;
	}
	return NULL;
}

static void heard(struct shard *s, struct presence *p)
{
	p->heard_ns = s->loop->now_ns;
	list_remove(&p->link);
	list_insert(&s->presence_order, &p->link);
}

static void presence_free(struct shard *s, struct presence *p)
{
	list_remove(&p->link);
	htable_remove(&s->presences, &p->by_id);
	node_free(p);
}

/* is_gone: nobody comes back for what it had. Functions never do. */
static void presence_over(struct shard *s, struct presence *p, bool is_gone, const char *why)
{
	log_info("a session is over: %s session=%016llx epoch=%llu", why, (unsigned long long)p->id,
		 (unsigned long long)p->epoch);
	for (struct slot *slot = slot_from(s, 0); slot; slot = slot_from(s, slot->number + 1)) {
		int r;

		if (!catalog_session_has(slot->catalog, p->id))
			continue;
		r = is_gone || p->job
			    ? catalog_session_gone(slot->catalog, p->id, shard_now(s), &s->out)
			    : catalog_session_over(slot->catalog, p->id, shard_now(s), &s->out);
		if (r < 0)
			return; /* no memory: at the next look */
		shard_after(slot, &s->out);
	}
	presence_free(s, p);
}

/* A function goes on with what is there, and is its own job's. */
static bool is_of_job(struct shard *s, const struct presence *p, uint64_t job)
{
	struct slot *slot;

	if (!p || !p->is_recovered)
		return p && p->job == job;
	return shard_slot(s, slot_of_id(job), &slot) == 0 &&
	       catalog_session_is_of(slot->catalog, p->id, job);
}

/*
 * A new one, or the next epoch of one that may have been over. Servers are believed what
 * they were called; a function only as far as is_of_job() says. Without an epoch it
 * is the session of who was killed, said by its successor: it is over, and a new one begins.
 */
static int presence_begin(struct shard *s, const struct hello_req *req, const struct access *a,
			  struct presence **ret)
{
	uint64_t id = req->session;
	struct presence *p = id ? presence_find(s, id) : NULL;

	if (a->role == ROLE_JOB && !is_of_job(s, p, a->job)) {
		p = NULL;
		id = 0;
	}
	if (id && req->epoch == 0) {
		if (p)
			presence_over(s, p, true, "its process is gone");
		p = NULL;
		id = 0;
	}
	if (!p) {
		if (s->presences.count >= SESSIONS_PER_SLOT)
			return -EUSERS;
		p = node_alloc(sizeof(*p));
		if (!p)
			return -ENOMEM;
		p->id = id ? id : node_random_u64() | 1;
		p->since = id ? 1 + req->epoch : 1;
		list_init(&p->link);
		htable_add(&s->presences, &p->by_id, p->id);
	}
	p->job = a->job;
	p->near = a->role == ROLE_PROXY ? req->incarnation : 0;
	p->is_recovered = false;
	p->epoch = 1 + (id && req->epoch > p->epoch ? req->epoch : p->epoch);
	heard(s, p);
	*ret = p;
	return 0;
}

/* Of who was killed and has no successor: nothing begins in its place. */
static void presence_end(struct shard *s, const struct hello_req *req)
{
	struct presence *p = req->epoch == 0 ? presence_find(s, req->session) : NULL;

	if (p)
		presence_over(s, p, true, "its process is gone, and has no successor");
}

/* It has FUNCTION_GONE_MS left, and its place in the order. */
static void heard_long_ago(struct shard *s, struct presence *p)
{
	uint64_t ago_ns = (SESSION_LIFE_MS - FUNCTION_GONE_MS) * MS;
	struct list *l;

	if (s->loop->now_ns < ago_ns || p->heard_ns < s->loop->now_ns - ago_ns)
		return;
	p->heard_ns = s->loop->now_ns - ago_ns;
	list_remove(&p->link);
	for (l = s->presence_order.next; l != &s->presence_order; l = l->next)
		if (container_of(l, struct presence, link)->heard_ns >= p->heard_ns)
			break;
	list_insert(l, &p->link);
}

void presence_of_conn_over(struct conn *c)
{
	const struct peer_state *state = c->state;
	struct presence *p = state->session ? presence_find(state->shard, state->session) : NULL;
	struct slot *slot;

	if (!p || p->epoch != state->epoch || c->access->role != ROLE_JOB)
		return;
	if (p->job && shard_slot(state->shard, slot_of_id(p->job), &slot) == 0 &&
	    catalog_session_has(slot->catalog, p->id))
		heard_long_ago(state->shard, p);
	else
		presence_free(state->shard, p);
}

int presence_check(struct request *r, uint64_t session, uint64_t epoch)
{
	struct peer_state *state = r->conn->state;
	struct presence *p = presence_find(state->shard, session);

	if (session == 0)
		return 0;
	if (!p || p->epoch != epoch ||
	    (r->conn->access->role == ROLE_JOB && state->session != session)) {
		request_fail(r, -ENOLINK, "say HELLO again with this session");
		return -ENOLINK;
	}
	heard(state->shard, p);
	return 0;
}

void presences_expire(struct shard *s)
{
	for (int i = 0; i < TICK_STEP && !list_is_empty(&s->presence_order); i++) {
		struct presence *p = container_of(s->presence_order.next, struct presence, link);

		if (p->heard_ns + SESSION_LIFE_MS * MS > s->read_ns)
			break;
		presence_over(s, p, false, "nothing was heard of it");
	}
}

void presences_renew(struct shard *s)
{
	for (struct list *l = s->presence_order.next; l != &s->presence_order; l = l->next)
		container_of(l, struct presence, link)->heard_ns = s->loop->now_ns;
}

/* It comes back as the next epoch, or it is over like any that was not heard of. */
static int recover_one(void *owner, uint64_t session)
{
	struct shard *s = owner;
	struct presence *p;

	if (presence_find(s, session))
		return 0;
	p = node_alloc(sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->id = session;
	p->is_recovered = true;
	list_init(&p->link);
	htable_add(&s->presences, &p->by_id, session);
	heard(s, p);
	return 0;
}

int presences_recover(struct shard *s)
{
	int r = 0;

	for (struct slot *slot = slot_from(s, 0); slot && r == 0;
	     slot = slot_from(s, slot->number + 1))
		r = catalog_sessions(slot->catalog, recover_one, s);
	return r;
}

void presences_end(struct shard *s)
{
	for (struct list *l = s->presence_order.next, *next; l != &s->presence_order; l = next) {
		next = l->next;
		presence_over(s, container_of(l, struct presence, link), false,
			      "the memory that knew of it is gone");
	}
}

void presences_fini(struct shard *s)
{
	while (!list_is_empty(&s->presence_order))
		presence_free(s, container_of(s->presence_order.next, struct presence, link));
}

/* Statuses: NOSESSION. */
void heartbeat_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct heartbeat_req req;
	struct wcur w;

	if (heartbeat_req_get(&body, &req) < 0) {
		request_fail(r, -EBADMSG, "not a HEARTBEAT");
		return;
	}
	if (req.session == 0) {
		request_fail(r, -ENOLINK, "say HELLO");
		return;
	}
	if (presence_check(r, req.session, req.epoch) < 0)
		return;
	w = request_answer(r);
	heartbeat_rep_put(&w, &(struct heartbeat_rep){ req.session, req.epoch });
	request_reply(r, &w, NULL);
}

/* Who may. */

static const struct slice DEFAULT_NAME = { (const uint8_t *)DEFAULT_JOB, sizeof(DEFAULT_JOB) - 1 };

/* On its shard, the job that needs no token lives for ever: renewed long before its lease is over.
 */
bool default_job_make(struct shard *s)
{
	struct slot *slot;
	struct job_show_req show = { .name = DEFAULT_NAME };
	int r = shard_slot(s, slot_of_name(DEFAULT_NAME), &slot);

	if (r == -EREMCHG)
		return true;
	if (r == 0)
		r = catalog_job_show(slot->catalog, &show, shard_now(s), &s->out);
	if (r == 0 && !s->out.rep.job_show.has_ended &&
	    s->out.rep.job_show.lease_left_ms > JOB_LEASE_MS_MAX / 2)
		return true;
	if (r == 0 && !s->out.rep.job_show.has_ended) {
		r = catalog_job_renew(slot->catalog,
				      &(struct job_renew_req){ .lease_ms = JOB_LEASE_MS_MAX,
							       .name = DEFAULT_NAME },
				      shard_now(s), &s->out);
	} else if (r == -ENXIO || r == 0) {
		r = catalog_job_create(slot->catalog,
				       &(struct job_create_req){ .lease_ms = JOB_LEASE_MS_MAX,
								 .name = DEFAULT_NAME },
				       shard_now(s), &s->out);
	}
	if (r == 0)
		shard_after(slot, &s->out);
	return r == 0;
}

struct greeting {
	const struct hello_req *req;
	struct access *access;
	struct token token;
	char why[120];
};

/* Who may make jobs is himself in one; where that lies elsewhere, he has nothing here but jobs. */
static int admit_operator(struct shard *s, struct greeting *g)
{
	struct slot *slot;
	int e = shard_slot(s, slot_of_name(DEFAULT_NAME), &slot);

	if (e < 0 && e != -EREMCHG)
		return e;
	if (e == 0 && !default_job_make(s))
		return -ENOMEM;
	g->access->job = e == 0 ? catalog_job_named(slot->catalog, DEFAULT_NAME) : 0;
	g->access->rights = RIGHTS_OF_JOB | RIGHT_ADMIN;
	g->token.job_name = DEFAULT_NAME;
	return 0;
}

static int admit_token(struct shard *s, struct greeting *g)
{
	struct token *t = &g->token;
	struct access *a = g->access;
	struct slot *slot;
	int e = -EKEYREJECTED;

	if (g->req->secret.len == 0) {
		snprintf(g->why, sizeof(g->why), "this store wants a token: WADI_TOKEN");
		return e;
	}
	if (s->config.token_key.len >= TOKEN_KEY_BYTES)
		e = token_verify(g->req->secret, s->config.token_key.ptr, s->config.token_key.len,
				 node_wall_ns(), t);
	if (e == 0 && shard_slot(s, slot_of_id(t->job), &slot) == 0)
		e = catalog_job_lives(slot->catalog, t->job);
	if (e < 0) {
		snprintf(g->why, sizeof(g->why), "%s", token_why(e));
		return e;
	}
	a->job = t->job;
	a->rights = t->rights & RIGHTS_OF_JOB;
	a->valid_until_ns = t->valid_until_ns;
	a->prefix_len = (uint16_t)t->prefix.len;
	if (t->prefix.len > 0)
		memcpy(a->prefix, t->prefix.ptr, t->prefix.len);
	return e;
}

static int admit(struct request *r, struct shard *s, struct greeting *g)
{
	const struct hello_req *req = g->req;
	bool is_here = r->conn->peer.is_loopback;

	if (req->version != PROTOCOL_VERSION) {
		snprintf(g->why, sizeof(g->why), "we speak version %d", PROTOCOL_VERSION);
		return -EPROTONOSUPPORT;
	}
	g->access->role = (enum role)req->role;
	if (req->role == ROLE_JOB &&
	    (secret_is(req->secret, s->config.key) ||
	     (req->secret.len == 0 && s->config.is_open_loopback && is_here)))
		return admit_operator(s, g);
	if (req->role == ROLE_JOB)
		return admit_token(s, g);
	if (req->role >= ROLE_COUNT)
		return -EINVAL;
	if (s->config.key.len > 0 ? secret_is(req->secret, s->config.key) : is_here)
		return 0;
	snprintf(g->why, sizeof(g->why), "not the key of this store's servers");
	return -EACCES;
}

/* How often the job of a function has changed. */
static uint64_t changes_of(struct shard *s, const struct greeting *g)
{
	struct slot *slot;

	if (!g->access->job || shard_slot(s, slot_of_id(g->access->job), &slot) < 0 ||
	    catalog_job_show(slot->catalog, &(struct job_show_req){ .name = g->token.job_name },
			     shard_now(s), &s->out) < 0)
		return 0;
	return s->out.rep.job_show.changes;
}

static void greet(struct request *r, struct shard *s, struct greeting *g)
{
	struct conn *conn = r->conn;
	struct peer_state *state = conn->state;
	struct presence *p = NULL;
	struct wcur w;
	int e = 0;

	if (g->req->role == ROLE_STORE)
		e = store_attach(r, g->req);
	else if (g->req->role == ROLE_META)
		presence_end(s, g->req);
	else
		e = presence_begin(s, g->req, g->access, &p);
	if (e < 0) {
		node_free(g->access);
		request_fail(r, e, e == -EUSERS ? "a shard has at most %u sessions" : NULL,
			     SESSIONS_PER_SLOT);
		return;
	}
	state->session = p ? p->id : 0;
	state->epoch = p ? p->epoch : 0;
	conn->access = g->access;
	w = request_answer(r);
	hello_rep_put(
		&w, &(struct hello_rep){ .version = PROTOCOL_VERSION,
					 .session = p ? p->id : 0,
					 .epoch = p ? p->epoch : 0,
					 .since = p ? p->since : 0,
					 .credit = CONN_CREDIT,
					 .inline_max = INLINE_BYTES_MAX,
					 .job = g->access->job,
					 .changes = changes_of(s, g),
					 .rights = g->access->rights,
					 .slot = slot_of_id(g->access->job),
					 .job_name = g->token.job_name,
					 .prefix = { g->access->prefix, g->access->prefix_len } });
	request_reply(r, &w, NULL);
	if (state->store) {
		compare_start(state->store);
		askings_of_store(state->store);
		duties_send_all(state->store);
	}
	if (g->access->role != ROLE_JOB)
		overs_tell_conn(conn);
}

/* Statuses: BADTOKEN, OLDTOKEN, DENIED, JOBENDED, NOJOB, OLDVERSION, ROUTE, INVALID, LIMIT. */
void hello_serve(struct request *r)
{
	struct shard *s = ((struct peer_state *)r->conn->state)->shard;
	struct rcur body = request_body(r);
	struct hello_req req;
	struct greeting g = { .req = &req };
	struct slot *slot;
	int e = hello_req_get(&body, &req);

	if (e == 0 && r->conn->access)
		e = -EINVAL;
	if (e == 0) {
		g.access = node_alloc(sizeof(*g.access));
		e = g.access ? admit(r, s, &g) : -ENOMEM;
	}
	if (e < 0)
		node_free(g.access);
	if (e == -EIDRM && shard_slot(s, slot_of_id(g.token.job), &slot) == 0)
		refuse_when_safe(r, slot, g.token.job, e, g.why);
	else if (e < 0)
		request_fail(r, e, "%s", g.why);
	else
		greet(r, s, &g);
}
