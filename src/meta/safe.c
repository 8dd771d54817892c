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
	struct request *request; /* with its connection, even if that is closed */
	struct wcur body;
	struct payload *payload;
	uint64_t lsn;
};

/* What a read has seen may be safe, whatever came later. */
static bool must_wait(const struct shard *s, const struct slot *slot, uint64_t job,
		      uint64_t seen_ns)
{
	return s->log.config.archive && s->log.synced_lsn < s->log.lsn &&
	       seen_ns >= s->log.unsynced_ns && catalog_job_is_durable(slot->catalog, job);
}

void reply_when_safe(struct request *r, struct slot *slot, const struct said *said,
		     const struct wcur *body, struct payload *payload)
{
	struct shard *s = slot->shard;
	struct held_reply *h;

	if (!must_wait(s, slot, said->job, said->seen_ns)) {
		request_reply(r, body, payload);
		return;
	}
	h = node_alloc(sizeof(*h));
	if (!h) {
		if (payload && payload->sent)
			payload->sent(payload);
		request_fail(r, -ENOMEM, "perhaps done: no memory to wait until it is synced");
		return;
	}
	*h = (struct held_reply){
		.request = r, .body = *body, .payload = payload, .lsn = s->log.lsn
	};
	list_init(&h->link);
	list_insert(&s->held, &h->link);
	oplog_sync(&s->log, h->lsn);
}

static void release(struct shard *s, struct held_reply *h, bool is_safe)
{
	list_remove(&h->link);
	if (is_safe) {
		request_reply(h->request, &h->body, h->payload);
	} else {
		if (h->payload && h->payload->sent)
			h->payload->sent(h->payload);
		request_fail(h->request, -ENOBUFS,
			     "perhaps done, and not safe: the disk of the log at %s takes nothing",
			     s->log.config.archive->ops->where(s->log.config.archive));
	}
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
