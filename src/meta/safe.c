/* SPDX-License-Identifier: Apache-2.0 */
/*
 * safe: answers that wait until what they say is as safe as the job asked for. A durable
 * job's are sent when the log is synced up to the youngest record there was: those of
 * many requests by one sync. If the disk takes nothing, they say so.
 */
#include "base/node.h"
#include "meta/shard_priv.h"

struct held_reply {
	struct list link;
	struct request *request; /* with its connection, even if that is closed; or NULL, and */
	struct parked parked;    /* conn NULL: its connection is over */
	struct wcur body;
	struct payload *payload;
	uint64_t lsn;
};

/* What a read has seen may be safe, whatever came later. */
bool said_is_safe(const struct slot *slot, const struct said *said)
{
	const struct oplog *l = &slot->shard->log;

	return !l->config.archive || l->synced_lsn >= l->lsn || said->seen_ns < l->unsynced_ns ||
	       !catalog_job_is_durable(slot->catalog, said->job);
}

static void give_payload(struct payload *payload)
{
	if (payload && payload->sent)
		payload->sent(payload);
}

/* The body of a parked call's answer is a buffer from the pool. */
static void give_body(struct shard *s, const struct wcur *body)
{
	if (body->start)
		body_give(s->net, container_of(body->start, struct body, u.bytes[0]));
}

static struct held_reply *held_new(const struct shard *s, const struct wcur *body,
				   struct payload *payload)
{
	struct held_reply *h = node_alloc(sizeof(*h));

	if (!h)
		return NULL;
	*h = (struct held_reply){ .body = *body, .payload = payload, .lsn = s->log.lsn };
	list_init(&h->link);
	return h;
}

static void hold_back(struct shard *s, struct held_reply *h)
{
	list_insert(&s->held, &h->link);
	oplog_sync(&s->log, h->lsn);
}

#define NO_MEMORY "perhaps done: no memory to wait until it is synced"

void reply_when_safe(struct request *r, struct slot *slot, const struct said *said,
		     const struct wcur *body, struct payload *payload)
{
	struct held_reply *h;

	if (said_is_safe(slot, said)) {
		request_reply(r, body, payload);
		return;
	}
	h = held_new(slot->shard, body, payload);
	if (h) {
		h->request = r;
		hold_back(slot->shard, h);
		return;
	}
	give_payload(payload);
	request_fail(r, -ENOMEM, NO_MEMORY);
}

void parked_reply_when_safe(struct parked *p, struct slot *slot, const struct said *said,
			    const struct wcur *body, struct payload *payload)
{
	struct held_reply *h;

	if (said_is_safe(slot, said)) {
		parked_reply_with(p, body, payload);
		return;
	}
	h = held_new(slot->shard, body, payload);
	if (h) {
		parked_move(p, &h->parked);
		slot->shard->held_parked_count++;
		hold_back(slot->shard, h);
		return;
	}
	give_payload(payload);
	give_body(slot->shard, body);
	parked_fail(p, -ENOMEM, NO_MEMORY);
}

bool parked_was_held(struct parked *p)
{
	/* Who waits for something to happen has a due time; who waits here has had his answer. */
	if (heap_has(&p->due))
		return false;
	parked_drop(p);
	return true;
}

static void fail(struct shard *s, struct held_reply *h)
{
	const char *where = s->log.config.archive->ops->where(s->log.config.archive);
	const char *format = "perhaps done, and not safe: the disk of the log at %s takes nothing";

	if (h->request)
		request_fail(h->request, -ENOBUFS, format, where);
	else
		parked_fail(&h->parked, -ENOBUFS, format, where);
}

static void release(struct shard *s, struct held_reply *h, bool is_safe)
{
	bool is_heard = h->request || h->parked.conn;

	list_remove(&h->link);
	s->held_parked_count -= !h->request;
	if (!is_safe || !is_heard) {
		give_payload(h->payload);
		if (!h->request)
			give_body(s, &h->body);
	}
	if (is_heard && !is_safe)
		fail(s, h);
	else if (h->request)
		request_reply(h->request, &h->body, h->payload);
	else if (is_heard)
		parked_reply_with(&h->parked, &h->body, h->payload);
	node_free(h);
}

void replies_safe(struct shard *s)
{
	const struct oplog *l = &s->log;

	while (!list_is_empty(&s->held)) {
		struct held_reply *h = container_of(s->held.next, struct held_reply, link);
		bool is_safe = h->lsn <= l->synced_lsn;

		if (!is_safe && !l->disk_error)
			return;
		release(s, h, is_safe);
	}
}

void replies_forget(struct shard *s)
{
	while (s->held.next && !list_is_empty(&s->held))
		release(s, container_of(s->held.next, struct held_reply, link), false);
}
