/* SPDX-License-Identifier: Apache-2.0 */
/*
 * safe: answers that wait until what they say is as safe as the job asked for. A durable
 * job's are sent when the log is synced up to the youngest record there was: those of
 * many requests by one sync. If the disk takes nothing, they say so.
 *
 * A refusal may say just as much: who repeats a request learns from one that the first has worked.
 */
#include <stdio.h>

#include "base/node.h"
#include "meta/shard_priv.h"

struct held_reply {
	struct list link;
	struct request *request; /* with its connection, even if that is closed; or NULL, and */
	struct parked parked;    /* conn NULL: its connection is over */
	struct wcur body;
	struct payload *payload;
	uint64_t lsn;
	int refusal; /* that is the answer, and `why`; or 0 */
	char why[];
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

static struct held_reply *held_new(const struct shard *s, const char *why)
{
	size_t size = strlen(why) + 1;
	struct held_reply *h = node_alloc(sizeof(*h) + size);

	if (!h)
		return NULL;
	*h = (struct held_reply){ .lsn = s->log.lsn };
	memcpy(h->why, why, size);
	list_init(&h->link);
	return h;
}

static struct held_reply *held_answer(const struct shard *s, const struct wcur *body,
				      struct payload *payload)
{
	struct held_reply *h = held_new(s, "");

	if (h) {
		h->body = *body;
		h->payload = payload;
	}
	return h;
}

static struct held_reply *held_refusal(const struct shard *s, int err, const char *why)
{
	struct held_reply *h = held_new(s, why);

	if (h)
		h->refusal = err;
	return h;
}

static void hold_back(struct shard *s, struct held_reply *h)
{
	list_insert(&s->held, &h->link);
	oplog_sync(&s->log, h->lsn);
}

#define NO_MEMORY "perhaps done: no memory to wait until it is synced"

/* False: there was no memory for it, and the request has failed. */
static bool hold_request(struct shard *s, struct held_reply *h, struct request *r)
{
	if (!h) {
		request_fail(r, -ENOMEM, NO_MEMORY);
		return false;
	}
	h->request = r;
	hold_back(s, h);
	return true;
}

/* Likewise. */
static bool hold_parked(struct shard *s, struct held_reply *h, struct parked *p)
{
	if (!h) {
		parked_fail(p, -ENOMEM, NO_MEMORY);
		return false;
	}
	parked_move(p, &h->parked);
	s->held_parked_count++;
	hold_back(s, h);
	return true;
}

void reply_when_safe(struct request *r, struct slot *slot, const struct said *said,
		     const struct wcur *body, struct payload *payload)
{
	struct shard *s = slot->shard;

	if (said_is_safe(slot, said))
		request_reply(r, body, payload);
	else if (!hold_request(s, held_answer(s, body, payload), r))
		give_payload(payload);
}

void parked_reply_when_safe(struct parked *p, struct slot *slot, const struct said *said,
			    const struct wcur *body, struct payload *payload)
{
	struct shard *s = slot->shard;

	if (said_is_safe(slot, said)) {
		parked_reply_with(p, body, payload);
	} else if (!hold_parked(s, held_answer(s, body, payload), p)) {
		give_payload(payload);
		give_body(s, body);
	}
}

/* Does it follow from something that was logged, perhaps just now? */
static bool tells_of_a_change(int err)
{
	switch (err) {
	case -ENOENT:
	case -ENODATA:
	case -EALREADY:
	case -ETIME:
	case -EISDIR:
	case -EEXIST:
	case -EBADE:
	case -ESTALE:
	case -EIDRM:
		return true;
	default:
		return false;
	}
}

/* It has seen no more than what there is of the slot. */
static bool refusal_is_safe(const struct slot *slot, uint64_t job, int err)
{
	const struct said said = { job, catalog_last_ns(slot->catalog) };

	return !tells_of_a_change(err) || said_is_safe(slot, &said);
}

void refuse_when_safe(struct request *r, struct slot *slot, uint64_t job, int err, const char *why)
{
	struct shard *s = slot->shard;

	if (refusal_is_safe(slot, job, err))
		request_fail(r, err, "%s", why);
	else
		(void)hold_request(s, held_refusal(s, err, why), r);
}

void parked_refuse_when_safe(struct parked *p, struct slot *slot, uint64_t job, int err,
			     const char *why)
{
	struct shard *s = slot->shard;

	if (refusal_is_safe(slot, job, err))
		parked_fail(p, err, "%s", why);
	else
		(void)hold_parked(s, held_refusal(s, err, why), p);
}

bool parked_was_held(struct parked *p)
{
	/* Who waits for something to happen has a due time; who waits here has had his answer. */
	if (heap_has(&p->due))
		return false;
	parked_drop(p);
	return true;
}

static void fail(struct held_reply *h, int err, const char *why)
{
	if (h->request)
		request_fail(h->request, err, "%s", why);
	else
		parked_fail(&h->parked, err, "%s", why);
}

static void fail_unsafe(struct shard *s, struct held_reply *h)
{
	char why[200];

	snprintf(why, sizeof(why), "%s, and not safe: the disk of the log at %s takes nothing",
		 h->refusal ? "known" : "perhaps done",
		 s->log.config.archive->ops->where(s->log.config.archive));
	fail(h, -ENOBUFS, why);
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
		fail_unsafe(s, h);
	else if (is_heard && h->refusal)
		fail(h, h->refusal, h->why);
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
