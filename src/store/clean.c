/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Space that is taken by dead bytes: slots know where they are, so they are told what
 * the oldest of those who wait lacks; and they know who may move what is still live
 * beside them, so they ask for that. The moving is not done here.
 */
#include "store/store_priv.h"

#include <errno.h>

#include "base/container.h"
#include "base/node.h"

/* Slots are asked again after so long: what they gave back is here by then. */
#define CLEAN_AGAIN_NS 20000000ull

/* What slots told of their dead bytes is true for so long. */
#define DEAD_NS 1000000000ull

/* An EMPTY whose segment is being emptied. */
struct empty_wait {
	struct parked parked;
	struct list link;
	uint64_t segment;
	uint32_t generation;
};

void store_set_mover(struct store *s, struct mover *m,
		     int (*empty)(struct mover *m, uint64_t job, uint64_t segment,
				  uint32_t generation))
{
	s->mover = m;
	s->empty = empty;
}

static void wait_free(struct empty_wait *w)
{
	list_remove(&w->link);
	node_free(w);
}

void store_empty_forget(struct parked *p)
{
	struct empty_wait *w = container_of(p, struct empty_wait, parked);

	parked_drop(p);
	wait_free(w);
}

void store_emptied(struct store *s, uint64_t segment, uint32_t generation, int result)
{
	for (struct list *l = s->empties.next, *next; l != &s->empties; l = next) {
		struct empty_wait *w = container_of(l, struct empty_wait, link);
		struct wcur body;

		next = l->next;
		if (w->segment != segment || w->generation != generation)
			continue;
		if (result < 0) {
			parked_fail(&w->parked, result, "the segment could not be emptied");
		} else {
			body = parked_answer(&w->parked);
			parked_reply(&w->parked, &body);
		}
		wait_free(w);
	}
}

/* Statuses: STALE, AGAIN, LIMIT, UNSUPPORTED, NOMEMORY, DENIED. */
void store_empty_serve(struct request *r)
{
	struct store *s = r->conn->owner;
	struct rcur body = request_body(r);
	struct empty_wait *w;
	struct segment *segment;
	struct empty_req q;
	int e = empty_req_get(&body, &q);

	if (e < 0) {
		request_fail(r, e, "not an EMPTY");
		return;
	}
	if (!store_is_from_meta(r))
		return;
	e = pool_find(&s->pool, q.segment, q.generation, &segment);
	w = e == 0 ? node_alloc(sizeof(*w)) : NULL;
	if (w) {
		e = s->empty ? s->empty(s->mover, q.job, q.segment, q.generation) : -EOPNOTSUPP;
	} else if (e == 0) {
		e = -ENOMEM;
	}
	if (e < 0) {
		node_free(w);
		request_fail(r, e, NULL);
		return;
	}
	*w = (struct empty_wait){ .segment = q.segment, .generation = q.generation };
	list_init(&w->link);
	list_insert(&s->empties, &w->link);
	request_park(r, &w->parked);
}

static void cleaned(struct call *call)
{
	struct link *l = container_of(call, struct link, clean);
	struct rcur body = call_reply(call);
	struct clean_rep rep = { 0 };

	/* Who does not answer has nothing to give, until he is asked again. */
	if (call->result < 0 || clean_rep_get(&body, &rep) < 0)
		rep.dead = 0;
	call_end(call);
	l->dead = rep.dead;
}

static void clean_send(struct link *l, uint64_t lacking)
{
	struct store *s = l->store;
	struct wcur w;

	l->clean = (struct call){ .done = cleaned };
	s->cleaned_ns = l->cleaned_ns = s->loop->now_ns;
	w = call_body(s->net, &l->clean);
	clean_req_put(&w, &(struct clean_req){ .bytes = lacking });
	call_send(l->conn, &l->clean, MSG_CLEAN, 0, &w, NULL,
		  s->loop->now_ns + TRANSFER_PATIENCE_NS);
}

uint64_t store_clean(struct store *s)
{
	uint64_t lacking = pool_lacking(&s->pool), now_ns = s->loop->now_ns;
	struct link *best = NULL;

	if (lacking == 0)
		return UINT64_MAX;
	if (s->cleaned_ns + CLEAN_AGAIN_NS > now_ns)
		return s->cleaned_ns + CLEAN_AGAIN_NS;
	for (struct list *i = s->links.next; i != &s->links; i = i->next) {
		struct link *l = container_of(i, struct link, link);

		if (!l->is_joined || l->clean.is_pending)
			continue;
		/* Who was not asked for a while may have more than it told. */
		if (l->cleaned_ns + DEAD_NS < now_ns)
			l->dead = UINT64_MAX;
		if (!best || l->dead > best->dead)
			best = l;
	}
	if (best)
		clean_send(best, lacking);
	return now_ns + CLEAN_AGAIN_NS;
}

void store_clean_forget(struct link *l)
{
	if (l->clean.is_pending) {
		call_cancel(&l->clean);
		call_end(&l->clean);
	}
}
