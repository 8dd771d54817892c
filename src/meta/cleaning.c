/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleaning: which segment is emptied next, and who is asked to do it.
 *
 * One segment of a store at a time, the one with the largest dead share: of the slot that
 * has most dead bytes if the store lacks room, of a slot whose job is at its quota, or of
 * one that has grown to have too much dead. The store's process moves what is live (EMPTY);
 * each move is a request to the slot like any other, so nothing depends on the answer.
 */
#include "base/node.h"
#include "meta/shard_priv.h"

/* The largest segment is copied in a tenth of a second. */
#define EMPTY_MS 10000

struct emptying {
	struct store *store;
	struct slot *slot;
	struct dying dying;
	struct call call;
};

static void clean(struct store *st);

static uint64_t less(uint64_t bytes, uint64_t given)
{
	return bytes > given ? bytes - given : 0;
}

/* The slot with most dead bytes of the store. */
static struct slot *deadest(const struct store *st)
{
	struct slot *found = NULL;
	uint64_t most = 0;

	for (struct slot *slot = slot_from(st->shard, 0); slot;
	     slot = slot_from(st->shard, slot->number + 1)) {
		uint64_t dead = catalog_dead_bytes(slot->catalog, st->id);

		if (dead > most) {
			most = dead;
			found = slot;
		}
	}
	return found;
}

/* One that lacks room under a quota, or has too much dead. */
static struct slot *needy(const struct store *st)
{
	for (struct slot *slot = slot_from(st->shard, 0); slot;
	     slot = slot_from(st->shard, slot->number + 1))
		if (slot->lacking > 0 || catalog_must_clean(slot->catalog, st->id))
			return slot;
	return NULL;
}

static void clean_later(struct timer *t)
{
	clean(container_of(t, struct store, clean_again));
}

/* Nothing of it could be done: not at once again. Who still lacks room says so again. */
static void leave_alone(struct store *st)
{
	struct loop *l = st->shard->loop;

	st->lacking = 0;
	st->clean_again.fire = clean_later;
	timer_start(l, &st->clean_again, l->now_ns + DUTY_AGAIN_MS * MS);
}

static void emptied(struct call *call)
{
	struct emptying *e = call->owner;
	struct store *st = e->store;
	struct slot *slot = e->slot;
	struct dying dying = e->dying;
	bool is_done = catalog_dying_over(slot->catalog, &dying);

	call_end(call);
	st->emptying = node_free(e);
	if (!is_done) {
		slot->lacking = 0;
		leave_alone(st);
		return;
	}
	st->lacking = less(st->lacking, dying.dead);
	slot->lacking = less(slot->lacking, dying.dead);
	clean(st);
}

static void empty_send(struct emptying *e)
{
	struct shard *s = e->store->shard;
	struct wcur w;

	e->call = (struct call){ .done = emptied, .owner = e };
	w = call_body(s->net, &e->call);
	empty_req_put(&w, &(struct empty_req){ .job = e->dying.job,
					       .segment = e->dying.segment,
					       .generation = e->dying.generation });
	call_send(e->store->conn, &e->call, MSG_EMPTY, e->slot->number, &w, NULL,
		  s->loop->now_ns + EMPTY_MS * MS);
}

static void clean(struct store *st)
{
	struct slot *slot;
	struct emptying *e;

	if (st->emptying || !st->conn || timer_is_running(&st->clean_again))
		return;
	slot = st->lacking > 0 ? deadest(st) : needy(st);
	if (!slot)
		return;
	e = node_alloc(sizeof(*e));
	if (!e || !catalog_dying(slot->catalog, st->id, &e->dying)) {
		node_free(e);
		slot->lacking = 0;
		leave_alone(st);
		return;
	}
	e->store = st;
	e->slot = slot;
	st->emptying = e;
	empty_send(e);
}

void clean_before(struct store *st, struct slot *slot)
{
	if (catalog_must_clean(slot->catalog, st->id))
		clean(st);
}

void clean_quota(struct slot *slot, uint64_t bytes)
{
	struct shard *s = slot->shard;

	slot->lacking = bytes;
	for (struct list *l = s->stores.next; l != &s->stores; l = l->next)
		clean(container_of(l, struct store, link));
}

/* Statuses: DENIED. */
void clean_serve(struct request *r)
{
	struct peer_state *state = r->conn->state;
	struct rcur body = request_body(r);
	struct store *st = state->store;
	struct clean_rep rep = { 0 };
	struct clean_req req;
	struct wcur w;

	if (clean_req_get(&body, &req) < 0 || !st) {
		request_fail(r, st ? -EBADMSG : -EACCES, "only a storage server lacks space");
		return;
	}
	st->lacking = req.bytes;
	clean(st);
	for (struct slot *slot = slot_from(state->shard, 0); slot;
	     slot = slot_from(state->shard, slot->number + 1))
		rep.dead += catalog_dead_bytes(slot->catalog, st->id);
	w = request_answer(r);
	clean_rep_put(&w, &rep);
	request_reply(r, &w, NULL);
}

void cleaning_forget(struct store *st)
{
	struct emptying *e = st->emptying;

	timer_stop(st->shard->loop, &st->clean_again);
	if (!e)
		return;
	call_cancel(&e->call);
	call_end(&e->call);
	(void)catalog_dying_over(e->slot->catalog, &e->dying);
	st->emptying = node_free(e);
}
