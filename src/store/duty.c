/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a slot asks of a store. Each may come twice, late, or after a reconnection, and
 * is answered the same.
 */
#include "store/store_priv.h"

#include <errno.h>

#include "base/container.h"
#include "base/node.h"
#include "base/plant.h"

/* Entries of one SEGMENTS, put together from as many as fit our stack. */
#define SEGMENT_ENTRY_SIZE 32
#define SEGMENTS_MAX       (LIST_BYTES / SEGMENT_ENTRY_SIZE)
#define SEGMENTS_STEP      64

/* A FREE or REVOKE that waits for pins. */
struct pin_wait {
	struct parked parked;
	struct segment *segment;
	struct list link;
	uint64_t since_ns;
};
_Static_assert(sizeof(struct pin_wait) <= 96, "a parked call has at most 96 bytes");

static void list_sent(struct payload *p)
{
	node_free(container_of(p, struct list_payload, payload));
}

struct list_payload *list_payload_new(size_t cap)
{
	struct list_payload *l = node_alloc(sizeof(*l) + cap);

	if (l)
		l->payload = (struct payload){ .ptr = l->bytes,
					       .sent = list_sent,
					       .kept = sizeof(*l) + cap };
	return l;
}

/* Duties are of those who decide. */
bool store_is_from_meta(struct request *r)
{
	if (r->conn->access->role == ROLE_META)
		return true;
	request_fail(r, -EACCES, "only for metadata servers");
	return false;
}

/* Statuses: STALE, INVALID, DENIED. */
void store_seal_serve(struct request *r)
{
	struct store *s = r->conn->owner;
	struct rcur body = request_body(r);
	struct seal_req q;
	struct wcur w;
	int e = seal_req_get(&body, &q);

	if (e == 0 && !store_is_from_meta(r))
		return;
	if (e == 0)
		e = pool_seal(&s->pool, q.segment, q.generation, q.front, q.back, q.stamp_ns,
			      s->loop->now_ns);
	if (e < 0) {
		request_fail(r, e,
			     e == -ESTALE ? "the segment is not here, or not any more"
					  : "not a SEAL, or not within the segment");
		return;
	}
	store_changed(s);
	w = request_answer(r);
	seal_rep_put(&w, &(struct seal_rep){});
	request_reply(r, &w, NULL);
}

static void *take_waiter(void **waiter)
{
	struct pin_wait *w = *waiter;

	*waiter = NULL;
	if (w)
		list_remove(&w->link);
	return w;
}

static void waiter_reply(struct pin_wait *w)
{
	struct wcur body = parked_answer(&w->parked);

	/* Neither answer has a field. */
	parked_reply(&w->parked, &body);
	node_free(w);
}

static void patience_restart(struct store *s)
{
	if (list_is_empty(&s->waits))
		timer_stop(s->loop, &s->patience);
	else
		timer_start(s->loop, &s->patience,
			    container_of(s->waits.next, struct pin_wait, link)->since_ns +
				    TRANSFER_PATIENCE_NS);
}

void store_unpin(struct store *s, struct segment *segment, bool is_to_write)
{
	if (pool_unpin(&s->pool, segment, is_to_write, s->loop->now_ns))
		store_changed(s);
	if (segment->free_waiter && segment->state != SEGMENT_FREEING)
		waiter_reply(take_waiter(&segment->free_waiter));
	if (segment->revoke_waiter && segment->writer_count == 0)
		waiter_reply(take_waiter(&segment->revoke_waiter));
}

/* Of the same duty there is one: who asked before asks no more, or was not heard. */
static void wait_for_pins(struct request *r, struct segment *segment, void **waiter)
{
	struct store *s = r->conn->owner;
	struct pin_wait *w = node_alloc(sizeof(*w)), *before;

	if (!w) {
		request_fail(r, -ENOMEM, "no memory to wait with");
		return;
	}
	before = *waiter;
	w->segment = segment;
	w->since_ns = before ? before->since_ns : s->loop->now_ns;
	list_init(&w->link);
	list_insert(before ? &before->link : &s->waits, &w->link);
	*waiter = w;
	if (before) {
		list_remove(&before->link);
		parked_drop(&before->parked);
		node_free(before);
	}
	request_park(r, &w->parked);
	if (!timer_is_running(&s->patience))
		patience_restart(s);
}

void store_waits_forget(struct conn *c)
{
	struct parked *p;

	while ((p = conn_next_parked(c)) != NULL) {
		struct pin_wait *w = container_of(p, struct pin_wait, parked);

		if (p->msg == MSG_EMPTY) {
			store_empty_forget(p);
			continue;
		}
		if (w->segment->free_waiter == w)
			w->segment->free_waiter = NULL;
		else
			w->segment->revoke_waiter = NULL;
		list_remove(&w->link);
		parked_drop(p);
		node_free(w);
	}
}

/*
 * A peer that stopped in the middle of a transfer holds up a segment that is to be
 * freed, or fenced. Without its connection it cannot go on where it was.
 */
static void cut_transfers(struct store *s, struct segment *segment)
{
	while (!list_is_empty(&segment->transfers)) {
		struct list *first = segment->transfers.next;

		conn_close(container_of(first, struct transfer, link)->conn);
		s->pool.counters.cut_count++;
		if (segment->transfers.next == first)
			return;
	}
}

/* Whoever in this process pins the segment is asked to let go of it. */
static void want(struct store *s, const struct segment *segment)
{
	if (s->wanted)
		s->wanted(s->wanted_owner, segment->job->id, segment->id, s->pool.ask_count > 0);
}

void store_patience_over(struct timer *t)
{
	struct store *s = container_of(t, struct store, patience);
	uint64_t now_ns = s->loop->now_ns;

	while (!list_is_empty(&s->waits)) {
		struct pin_wait *w = container_of(s->waits.next, struct pin_wait, link);
		struct segment *segment = w->segment; /* `w` goes with the last pin */

		if (w->since_ns + TRANSFER_PATIENCE_NS > now_ns)
			break;
		/* If only the core's own pins are left, and in use, they are waited for on. */
		w->since_ns = now_ns;
		list_remove(&w->link);
		list_insert(&s->waits, &w->link);
		cut_transfers(s, segment);
		/* That may have been all: then it is free, and nobody's. */
		if (segment->pin_count > 0)
			want(s, segment);
	}
	patience_restart(s);
}

static void empty_reply(struct request *r)
{
	struct wcur w = request_answer(r);

	request_reply(r, &w, NULL);
}

void store_revoke_serve(struct request *r)
{
	struct store *s = r->conn->owner;
	struct rcur body = request_body(r);
	struct segment *segment;
	struct revoke_req q;
	int e = revoke_req_get(&body, &q);

	if (e < 0) {
		request_fail(r, e, "not a REVOKE");
		return;
	}
	if (!store_is_from_meta(r))
		return;
	if (pool_revoke(&s->pool, q.segment, q.generation, &segment) == 0)
		empty_reply(r);
	else
		wait_for_pins(r, segment, &segment->revoke_waiter);
}

void store_free_serve(struct request *r)
{
	struct store *s = r->conn->owner;
	struct rcur body = request_body(r);
	struct segment *segment;
	struct free_req q;
	int e = free_req_get(&body, &q);

	if (e < 0) {
		request_fail(r, e, "not a FREE");
		return;
	}
	if (!store_is_from_meta(r))
		return;
	if (planted(FREE_LOST) && q.segment % 4 == 1) {
		empty_reply(r);
		return;
	}
	e = pool_free(&s->pool, q.segment, q.generation, q.stamp_ns, s->loop->now_ns, &segment);
	if (e == 0) {
		store_changed(s);
		empty_reply(r);
	} else {
		wait_for_pins(r, segment, &segment->free_waiter);
		want(s, segment);
	}
}

static void cut_connections(struct store *s, uint64_t job)
{
	struct hlink *l = htable_first(&s->jobs, job);

	/* The hash is the job itself. They leave the table when they are freed, which is later. */
	for (; l; l = htable_next(l))
		conn_close(container_of(l, struct client, of_job)->conn);
}

void store_job_over_serve(struct request *r)
{
	struct store *s = r->conn->owner;
	struct rcur body = request_body(r);
	struct job_over_req q;
	int e = job_over_req_get(&body, &q);

	if (e < 0) {
		request_fail(r, e, "not a JOB_OVER");
		return;
	}
	if (!store_is_from_meta(r))
		return;
	pool_job_over(&s->pool, q.job);
	cut_connections(s, q.job);
	store_changed(s);
	empty_reply(r);
}

/* Entries after `after` until `list` is full. */
static unsigned put_entries(const struct pool *p, const struct segments_req *q, struct wcur *list,
			    bool *ret_has_more)
{
	struct segment_entry entries[SEGMENTS_STEP];
	uint64_t after = q->after;
	unsigned count = 0, n;

	do {
		n = pool_list(p, q->of_slot, after, entries, SEGMENTS_STEP, ret_has_more);
		for (unsigned i = 0; i < n; i++)
			segment_entry_put(list, &entries[i]);
		if (n > 0)
			after = entries[n - 1].segment;
		count += n;
	} while (*ret_has_more && count + SEGMENTS_STEP <= SEGMENTS_MAX);
	return count;
}

void store_segments_serve(struct request *r)
{
	struct store *s = r->conn->owner;
	struct rcur body = request_body(r);
	struct segments_rep rep;
	struct segments_req q;
	struct list_payload *l;
	struct wcur w, list;
	bool has_more;
	size_t cap;

	if (segments_req_get(&body, &q) < 0) {
		request_fail(r, -EBADMSG, "not a SEGMENTS");
		return;
	}
	if (!store_is_from_meta(r))
		return;
	cap = s->pool.used_count * (size_t)SEGMENT_ENTRY_SIZE;
	cap = cap < LIST_BYTES ? cap : LIST_BYTES;
	l = list_payload_new(cap);
	if (!l) {
		request_fail(r, -ENOMEM, "no memory for an answer");
		return;
	}
	list = wcur_make(l->bytes, cap);
	rep.count = put_entries(&s->pool, &q, &list, &has_more);
	rep.has_more = has_more;
	l->payload.len = (size_t)wcur_finish(&list);
	w = request_answer(r);
	segments_rep_put(&w, &rep);
	request_reply(r, &w, &l->payload);
}
