/* SPDX-License-Identifier: Apache-2.0 */
/*
 * duties: SEAL, REVOKE and FREE on their way to stores. They follow from the state of
 * the slots, and are sent again until they are answered.
 *
 * They do not wait for the disk: a power cut may take the record of what a FREE follows from, and
 * the slot would then have a segment whose bytes are gone. Nothing of a durable job lies in one:
 * check_durable() in object.c refuses extents. Where it does not any more (a tier of flash), FREE
 * of a durable job's has to wait until its record is synced, as JOB_OVER does (over.c).
 */
#include "base/node.h"
#include "meta/shard_priv.h"

/* On their way to one store: enough to keep it busy, few enough not to fill its requests. */
#define DUTIES_IN_FLIGHT 64

struct duty_call {
	struct list link;
	struct store *store;
	struct slot *slot; /* NULL: of a segment that no slot knows */
	struct duty duty;
	struct call call;
};

static void put_duty(struct wcur *w, const struct duty *d, uint16_t *ret_msg)
{
	switch (d->kind) {
	case DUTY_SEAL:
		*ret_msg = MSG_SEAL;
		seal_req_put(w, &(struct seal_req){ .segment = d->segment,
						    .stamp_ns = d->stamp_ns,
						    .generation = d->generation,
						    .front = d->front,
						    .back = d->back });
		break;
	case DUTY_REVOKE:
		*ret_msg = MSG_REVOKE;
		revoke_req_put(w, &(struct revoke_req){ .segment = d->segment,
							.generation = d->generation });
		break;
	case DUTY_FREE:
		*ret_msg = MSG_FREE;
		free_req_put(w, &(struct free_req){ .segment = d->segment,
						    .stamp_ns = d->stamp_ns,
						    .generation = d->generation });
		break;
	}
}

static void duty_free(struct duty_call *k)
{
	k->store->duty_count--;
	list_remove(&k->link);
	node_free(k);
}

static void again(struct timer *t)
{
	struct store *st = container_of(t, struct store, again);

	duties_send_all(st);
	compare_go_on(st);
}

/* It is connected and does not take what we send: not at once again. */
static void leave_alone(struct store *st)
{
	st->again.fire = again;
	if (st->conn && !timer_is_running(&st->again))
		timer_start(st->shard->loop, &st->again,
			    st->shard->loop->now_ns + DUTY_AGAIN_MS * MS);
}

static void duty_done(struct call *call)
{
	struct duty_call *k = call->owner;
	struct store *st = k->store;
	struct shard *s = st->shard;
	struct slot *slot = k->slot;
	struct duty duty = k->duty;
	int r = call->result;

	call_end(call);
	duty_free(k);
	if (r < 0 && r != -ESTALE && r != -ETIMEDOUT)
		leave_alone(st);
	if (slot) {
		if (catalog_duty_done(slot->catalog, &duty, r, shard_now(s), &s->wake_out) < 0)
			leave_alone(st);
		shard_after(slot, &s->wake_out);
	}
	if (st->has_more)
		duties_send_all(st);
	compare_go_on(st);
}

static bool may_send(const struct store *st)
{
	return st->conn && !st->conn->is_closed && !timer_is_running(&st->again) &&
	       st->duty_count < DUTIES_IN_FLIGHT;
}

static struct duty_call *duty_call_new(struct store *st)
{
	struct duty_call *k = node_alloc(sizeof(*k));

	if (!k)
		return NULL;
	k->store = st;
	list_init(&k->link);
	list_insert(&st->duties, &k->link);
	st->duty_count++;
	return k;
}

/* NULL: not now. It is tried again when an answer comes, or else after a while. */
static struct duty_call *duty_begin(struct store *st)
{
	struct duty_call *k = may_send(st) ? duty_call_new(st) : NULL;

	if (!k && st->duty_count == 0)
		leave_alone(st);
	return k;
}

static void duty_send(struct duty_call *k)
{
	struct shard *s = k->store->shard;
	uint16_t msg = 0;
	struct wcur w;

	k->call = (struct call){ .done = duty_done, .owner = k };
	w = call_body(s->net, &k->call);
	put_duty(&w, &k->duty, &msg);
	call_send(k->store->conn, &k->call, msg, k->slot ? k->slot->number : 0, &w, NULL,
		  s->loop->now_ns + DUTY_AGAIN_MS * MS);
}

void duties_send(struct store *st, struct slot *slot)
{
	while (catalog_has_duty(slot->catalog, st->id)) {
		struct duty_call *k = duty_begin(st);

		if (!k) {
			st->has_more = true;
			return;
		}
		k->slot = slot;
		if (catalog_duty(slot->catalog, st->id, &k->duty)) {
			duty_send(k);
		} else {
			duty_free(k);
			return;
		}
	}
}

void duties_send_all(struct store *st)
{
	struct shard *s = st->shard;

	st->has_more = false;
	for (struct slot *slot = slot_from(s, 0); slot && !st->has_more;
	     slot = slot_from(s, slot->number + 1))
		duties_send(st, slot);
}

bool stray_free(struct store *st, const struct segment_entry *e)
{
	struct duty_call *k = duty_begin(st);

	if (!k)
		return false;
	/* Nobody was ever billed for it, so it is booked as if it had not been granted. */
	k->duty = (struct duty){
		.kind = DUTY_FREE, .segment = e->segment, .generation = e->generation, .stamp_ns = 0
	};
	duty_send(k);
	return true;
}

/* What they were about is asked again when the store is back, or with the next comparison. */
void duties_forget(struct store *st)
{
	while (!list_is_empty(&st->duties)) {
		struct duty_call *k = container_of(st->duties.next, struct duty_call, link);

		call_cancel(&k->call);
		call_end(&k->call);
		duty_free(k);
	}
}
