/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments that slots ask for, at once or when there is room.
 */
#include "store/store_priv.h"

#include <errno.h>

#include "base/container.h"
#include "base/due.h"
#include "base/node.h"

/* Of one connection, so that duties which give space are still read behind those that want it. */
#define ASKS_PER_CONN (CONN_REQUESTS_MAX / 2)

/* A SEGMENT that waits for space. */
struct segment_wait {
	struct ask ask;
	struct request *request;
};

static void grants_reply(struct request *r, const struct grants *g)
{
	struct list_payload *l = list_payload_new(g->count * GRANT_SIZE);
	struct wcur w, list;

	/* The grants stay known, so a repeat is answered with them. */
	if (!l) {
		request_fail(r, -ENOMEM, "no memory for an answer");
		return;
	}
	list = wcur_make(l->bytes, g->count * GRANT_SIZE);
	for (unsigned i = 0; i < g->count; i++)
		grant_put(&list, &g->list[i]);
	l->payload.len = g->count * GRANT_SIZE;
	w = request_answer(r);
	segment_rep_put(
		&w, &(struct segment_rep){ .stamp_ns = g->stamp_ns, .count = (uint16_t)g->count });
	request_reply(r, &w, &l->payload);
}

/* The pool has room for it, and could not be given the memory. */
static bool was_denied(const struct pool *p, const struct ask *a)
{
	return a->need <= p->limit - p->used && p->failed_ns > a->arrived_ns;
}

static void ask_refuse(struct store *s, struct request *r, const struct ask *a, int e)
{
	const struct pool *p = &s->pool;

	if (e == -ENOSPC && pool_is_out_of_segments(p) && a->need <= p->limit - p->used)
		request_fail(r, e,
			     "%s: all %u segments are in use, for more there are no descriptors; "
			     "remove objects, end jobs, or raise `ulimit -n`",
			     s->name, p->segment_max);
	else if (e == -ENOSPC && was_denied(p, a))
		request_fail(r, e,
			     "%s: %llu bytes needed, limit %llu, used %llu, but %s; "
			     "see the log of the store's server, and try again",
			     s->name, (unsigned long long)a->need,
			     (unsigned long long)(p->limit - p->moving),
			     (unsigned long long)p->used,
			     p->failure == -EHOSTDOWN ? "its keeper does not answer"
						      : "its machine gives no memory");
	else if (e == -ENOSPC)
		request_fail(r, e,
			     "%s: %llu bytes needed, limit %llu, used %llu, by this job %llu; "
			     "remove objects, end jobs, or raise --memory",
			     s->name, (unsigned long long)a->need,
			     (unsigned long long)(p->limit - p->moving),
			     (unsigned long long)p->used,
			     (unsigned long long)pool_job_bytes(p, a->job));
	else if (e == -EIDRM)
		request_fail(r, e, "the job is over");
	else if (e == -EUSERS)
		request_fail(r, e, "%u wait for space of store %s, which is its limit",
			     p->ask_count, s->name);
	else
		request_fail(r, e, NULL);
}

/* Before the answer: with that, the request is gone. */
static void wait_end(struct segment_wait *w)
{
	((struct client *)w->request->conn->state)->ask_count--;
}

static void asker_gone(struct request *r)
{
	struct segment_wait *w = r->owner;
	struct store *s = r->conn->owner;

	pool_forget(&s->pool, &w->ask);
	wait_end(w);
	node_free(w);
	request_fail(r, -ECONNRESET, NULL); /* goes nowhere */
	store_changed(s);
}

/* Nobody wants it any more: it is answered what it was granted, if anything, and waits no longer.
 */
static void ask_over(struct store *s, struct request *r, const struct segment_req *q)
{
	const struct ask ask = { .job = q->job, .request = q->request };
	struct grants g = { 0 };

	pool_withdraw(&s->pool, &ask, &g);
	store_asks_serve(s); /* there is a place for another when this is heard */
	store_changed(s);
	grants_reply(r, &g);
}

/* Statuses: NOSPACE, JOBENDED, CANCELED, LIMIT, AGAIN, NOMEMORY, DENIED. */
void store_segment_serve(struct request *r)
{
	struct store *s = r->conn->owner;
	struct client *k = r->conn->state;
	struct rcur body = request_body(r);
	struct segment_wait *w;
	struct segment_req q;
	struct grants g;
	int e = segment_req_get(&body, &q);

	if (e < 0) {
		request_fail(r, e, "not a SEGMENT");
		return;
	}
	if (!store_is_from_meta(r))
		return;
	if (q.is_over) {
		ask_over(s, r, &q);
		return;
	}
	w = node_alloc(sizeof(*w));
	if (!w) {
		request_fail(r, -ENOMEM, "no memory to wait with");
		return;
	}
	*w = (struct segment_wait){
		.request = r,
		.ask = { .job = q.job,
			 .request = q.request,
			 .stamp_ns = q.stamp_ns,
			 .age_ns =
				 q.age_ms < UINT64_MAX / 1000000 ? q.age_ms * 1000000 : UINT64_MAX,
			 .due_ns = due_early(s->loop->now_ns, r->due_ns),
			 .need = q.need,
			 .size = q.size,
			 .is_move = q.is_move != 0,
			 .is_whole = q.is_whole != 0,
			 .is_now = q.is_now != 0,
			 .author = q.author },
	};
	e = pool_ask(&s->pool, &w->ask, s->loop->now_ns, &g);
	store_changed(s);
	if (e == -EAGAIN && k->ask_count < ASKS_PER_CONN) {
		k->ask_count++;
		r->owner = w;
		r->closed = asker_gone;
		return;
	}
	if (e == -EAGAIN) {
		pool_forget(&s->pool, &w->ask);
		request_fail(r, e, "too many asks of one connection wait");
	} else if (e < 0) {
		ask_refuse(s, r, &w->ask, e);
	} else {
		grants_reply(r, &g);
	}
	node_free(w);
}

void store_asks_serve(struct store *s)
{
	struct grants g;
	struct ask *a;
	int e;

	while ((a = pool_next(&s->pool, s->loop->now_ns, &g, &e)) != NULL) {
		struct segment_wait *w = container_of(a, struct segment_wait, ask);
		struct request *r = w->request;

		wait_end(w);
		if (e < 0)
			ask_refuse(s, r, a, e);
		else
			grants_reply(r, &g);
		node_free(w);
	}
}
