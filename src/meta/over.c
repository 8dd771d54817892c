/* SPDX-License-Identifier: Apache-2.0 */
/*
 * over: a job has ended, and stores and proxies must hear of it. Each is told until it
 * has answered or its connection is gone; who comes back is told of those that ended
 * lately. Functions are not told: their connections are cut, since a frozen one never
 * answers, and it is refused when it comes back.
 *
 * JOB_END is answered when all that are connected have answered, or SERVE_MS after the
 * end: who was stopped does not serve it any more then. (What a store sends goes to
 * proxies.) The same goes for proxies whose connection is lost, since they may live, and for
 * what a predecessor of the shard had allowed. (From when on is the clock's word, as in forget.c.)
 * It is on the disk before anybody is told, or the job would live again after a power cut. While
 * the disk fails, one that is not durable ends all the same, as long as that lasts: its bytes are
 * wanted back.
 */
#include "base/log.h"
#include "base/node.h"
#include "meta/shard_priv.h"

/* Ended jobs that are told to who comes back: for longer than a session lives. */
#define OVER_MS (2 * SESSION_LIFE_MS)

struct over {
	struct list link;
	struct shard *shard;
	uint64_t job, since_ns;
	uint64_t lost_ns; /* a proxy was lost then, or since, that has not heard of it; 0: none */
	uint64_t lsn;     /* nobody is told before that is synced; 0: all are */
	struct list tellings, enders;
	unsigned telling_count;
	struct timer served; /* by then nobody serves it who has not heard */
};

/* One connection is told of one job. */
struct telling {
	struct list of_over, of_conn;
	struct over *over;
	struct conn *conn;
	struct call call;
};

/* A JOB_END that waits. */
struct ender {
	struct parked parked;
	struct list link;
	struct timer due;
	struct over *over;
};

static struct over *over_find(const struct shard *s, uint64_t job)
{
	for (struct list *l = s->overs.prev; l != &s->overs; l = l->prev) {
		struct over *o = container_of(l, struct over, link);

		if (o->job == job)
			return o;
	}
	return NULL;
}

static void ender_free(struct ender *e)
{
	timer_stop(e->over->shard->loop, &e->due);
	list_remove(&e->link);
	node_free(e);
}

static struct slot *slot_of(const struct over *o)
{
	return o->shard->slots[slot_of_id(o->job)];
}

static void all_told(struct over *o)
{
	const struct said said = { o->job, UINT64_MAX };

	while (!list_is_empty(&o->enders)) {
		struct ender *e = container_of(o->enders.next, struct ender, link);

		if (e->parked.conn) {
			struct wcur w = parked_answer(&e->parked);

			parked_reply_when_safe(&e->parked, slot_of(o), &said, &w, NULL);
		}
		ender_free(e);
	}
}

/* When nobody serves it any more who has not heard of its end. */
static uint64_t served_ns(const struct over *o)
{
	uint64_t from_ns = o->telling_count > 0 ? o->since_ns : o->lost_ns;

	/* Those who were allowed to before we came may not have come to us yet. */
	if (from_ns < o->shard->succeeded_ns)
		from_ns = o->shard->succeeded_ns;
	return from_ns ? from_ns + SERVE_MS * MS : 0;
}

static bool is_told(const struct over *o)
{
	return o->lsn == 0 && o->shard->loop->now_ns >= served_ns(o);
}

static void answer_or_wait(struct over *o)
{
	if (is_told(o))
		all_told(o);
	else if (o->lsn == 0 && !list_is_empty(&o->enders))
		timer_start(o->shard->loop, &o->served, served_ns(o));
}

static void served(struct timer *t)
{
	answer_or_wait(container_of(t, struct over, served));
}

/* It serves for SERVE_MS after the end at most: what it asked later, it was told of that first. */
static void is_lost(struct over *o, const struct conn *c)
{
	if (c->access && c->access->role == ROLE_PROXY)
		o->lost_ns = o->since_ns;
}

static void telling_free(struct telling *t)
{
	struct over *o = t->over;

	if (t->call.is_pending)
		call_cancel(&t->call);
	if (t->call.result < 0 && t->conn->is_closed)
		is_lost(o, t->conn);
	call_end(&t->call);
	list_remove(&t->of_over);
	list_remove(&t->of_conn);
	node_free(t);
	o->telling_count--;
	answer_or_wait(o);
}

static void telling_send(struct telling *t);

static void telling_done(struct call *call)
{
	struct telling *t = call->owner;

	if (call->result == -ETIMEDOUT && !t->conn->is_closed) {
		call_end(call);
		telling_send(t);
		return;
	}
	telling_free(t);
}

static void telling_send(struct telling *t)
{
	struct shard *s = t->over->shard;
	struct wcur w;

	t->call = (struct call){ .done = telling_done, .owner = t };
	w = call_body(s->net, &t->call);
	job_over_req_put(&w, &(struct job_over_req){ t->over->job });
	call_send(t->conn, &t->call, MSG_JOB_OVER, slot_of_id(t->over->job), &w, NULL,
		  s->loop->now_ns + DUTY_AGAIN_MS * MS);
}

static void tell(struct over *o, struct conn *c)
{
	struct peer_state *state = c->state;
	struct telling *t;

	if (!c->access || (c->access->role != ROLE_PROXY && c->access->role != ROLE_STORE))
		return;
	t = c->is_closed ? NULL : node_alloc(sizeof(*t));
	if (!t) {
		is_lost(o, c);
		conn_close(c); /* it hears of it when it comes back */
		return;
	}
	t->over = o;
	t->conn = c;
	list_init(&t->of_over);
	list_init(&t->of_conn);
	list_insert(&o->tellings, &t->of_over);
	list_insert(&state->tellings, &t->of_conn);
	o->telling_count++;
	telling_send(t);
}

/* Whoever asked for the end is to hear the answer. */
static void cut(const struct over *o, struct conn *c)
{
	struct peer_state *state = c->state;

	if (c->access && c->access->role == ROLE_JOB && c->access->job == o->job &&
	    !state->is_ending)
		conn_close(c);
}

static void over_free(struct over *o)
{
	while (!list_is_empty(&o->tellings))
		telling_free(container_of(o->tellings.next, struct telling, of_over));
	all_told(o);
	timer_stop(o->shard->loop, &o->served);
	list_remove(&o->link);
	o->shard->over_count--;
	node_free(o);
}

static void tell_all(struct over *o)
{
	struct shard *s = o->shard;

	o->lsn = 0;
	o->since_ns = node_now_ns();
	o->lost_ns = s->proxy_lost_ns;
	for (struct list *l = s->conns.next, *next; l != &s->conns; l = next) {
		next = l->next;
		tell(o, container_of(l, struct conn, link));
		cut(o, container_of(l, struct conn, link));
	}
	answer_or_wait(o);
}

static bool may_tell(const struct over *o)
{
	const struct oplog *l = &o->shard->log;

	return !l->config.archive || l->synced_lsn >= o->lsn ||
	       (l->disk_error && !catalog_job_is_durable(slot_of(o)->catalog, o->job));
}

void overs_safe(struct shard *s)
{
	for (struct list *l = s->overs.next; l != &s->overs; l = l->next) {
		struct over *o = container_of(l, struct over, link);

		if (o->lsn > 0 && may_tell(o))
			tell_all(o);
		else if (o->lsn > 0 && s->log.disk_error)
			all_told(o); /* that it is not safe */
	}
}

static struct over *over_new(struct shard *s, uint64_t job)
{
	struct over *o = node_alloc(sizeof(*o));

	if (!o)
		return NULL;
	*o = (struct over){ .shard = s,
			    .job = job,
			    .since_ns = node_now_ns(),
			    .lsn = s->log.lsn,
			    .served = { .fire = served } };
	list_init(&o->link);
	list_init(&o->tellings);
	list_init(&o->enders);
	list_insert(&s->overs, &o->link);
	s->over_count++;
	if (may_tell(o))
		tell_all(o);
	else
		oplog_sync(&s->log, o->lsn);
	return o;
}

void jobs_over_tell(struct slot *slot)
{
	uint64_t job;

	while ((job = catalog_job_over(slot->catalog)) != 0) {
		if (!over_new(slot->shard, job)) {
			catalog_job_over_again(slot->catalog, job);
			return;
		}
	}
}

static void ender_late(struct timer *t)
{
	struct ender *e = container_of(t, struct ender, due);

	if (e->parked.conn)
		parked_fail(&e->parked, -ETIMEDOUT,
			    "the job has ended, and %u servers have not confirmed that yet",
			    e->over->telling_count);
	ender_free(e);
}

void job_over_wait(struct request *r, uint64_t job)
{
	struct shard *s = ((struct peer_state *)r->conn->state)->shard;
	const struct said said = { job, UINT64_MAX };
	struct over *o = over_find(s, job);
	struct ender *e;
	struct wcur w;

	/* Forgotten by now, or ended by a predecessor: told once more. */
	if (!o)
		o = over_new(s, job);
	if (o && is_told(o)) {
		w = request_answer(r);
		reply_when_safe(r, slot_of(o), &said, &w, NULL);
		return;
	}
	e = o ? node_alloc(sizeof(*e)) : NULL;
	if (!e) {
		request_fail(r, -ENOMEM,
			     "the job has ended; no memory to wait for all to hear of it");
		return;
	}
	e->over = o;
	e->due.fire = ender_late;
	list_init(&e->link);
	list_insert(&o->enders, &e->link);
	timer_start(s->loop, &e->due, r->due_ns);
	request_park(r, &e->parked);
	answer_or_wait(o);
}

void overs_tell_conn(struct conn *c)
{
	struct shard *s = ((struct peer_state *)c->state)->shard;

	for (struct list *l = s->overs.next; l != &s->overs; l = l->next)
		if (container_of(l, struct over, link)->lsn == 0)
			tell(container_of(l, struct over, link), c);
}

void overs_of_conn_over(struct conn *c)
{
	struct peer_state *state = c->state;

	if (c->access && c->access->role == ROLE_PROXY)
		state->shard->proxy_lost_ns = node_now_ns();
	while (!list_is_empty(&state->tellings))
		telling_free(container_of(state->tellings.next, struct telling, of_conn));
}

void overs_look(struct shard *s)
{
	while (!list_is_empty(&s->overs)) {
		struct over *o = container_of(s->overs.next, struct over, link);
		bool is_old = s->loop->now_ns > o->since_ns + OVER_MS * MS;

		if (o->lsn > 0 || o->telling_count > 0 || (!is_old && s->over_count <= OVERS_MAX))
			return;
		over_free(o);
	}
}

void overs_fini(struct shard *s)
{
	while (!list_is_empty(&s->overs))
		over_free(container_of(s->overs.next, struct over, link));
}
