/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "base/container.h"
#include "base/hash.h"
#include "base/node.h"
#include "core/core_priv.h"

/* What is being committed, besides how. */
struct what {
	uint64_t open, len, seed;
	uint32_t crc, extent_count;
	struct payload payload;
};

static int commit(struct core *c, uint64_t job, const struct how *how, const struct what *what,
		  uint64_t due_ns, struct committed *ret, char *why, size_t why_cap)
{
	struct commit_req req = {
		.job = job,
		.open = what->open,
		.len = what->len,
		.seed = what->seed,
		.crc = what->crc,
		.extent_count = what->extent_count,
		.attempt_hi = how->attempt_hi,
		.attempt_lo = how->attempt_lo,
		.age_ms = (c->loop->now_ns - how->begun_ns) / 1000000,
		.if_version = how->if_version,
		.ttl_ms = how->ttl_ms,
		.reads = how->reads,
		.flags = how->flags,
		.tier = how->tier,
		.copies = how->copies,
		.path = how->path,
		.attributes = how->attributes,
	};
	struct commit_rep rep;
	struct rcur body;
	struct ask a;
	struct wcur w = ask_begin(c, &a, MSG_COMMIT, slot_of_id(job));
	int r;

	commit_req_put(&w, &req);
	r = ask_wait(&a, &w, what->payload.len ? &what->payload : NULL, due_ns);
	body = ask_reply(&a);
	if (r == 0)
		r = commit_rep_get(&body, &rep);
	if (r == 0)
		*ret = (struct committed){ .object = rep.object, .version = rep.version };
	else
		snprintf(why, why_cap, "%s", a.detail);
	ask_end(&a);
	return r;
}

int object_commit_value(struct core *c, uint64_t job, const struct how *how, const void *value,
			uint32_t len, uint64_t due_ns, struct committed *ret, char *why,
			size_t why_cap)
{
	struct what what = { .len = len,
			     .seed = node_random_u64(),
			     .payload = { value, len, NULL } };

	what.crc = crc_more(crc_begin(what.seed), value, len);
	return commit(c, job, how, &what, due_ns, ret, why, why_cap);
}

static size_t put_extents(uint8_t *buf, const struct extent *extents, uint32_t count)
{
	struct wcur w = wcur_make(buf, (size_t)count * EXTENT_SIZE);

	for (uint32_t i = 0; i < count; i++)
		extent_put(&w, &extents[i]);
	return (size_t)wcur_finish(&w);
}

int object_commit(struct core *c, uint64_t job, const struct how *how, const struct extent *extents,
		  uint32_t count, uint64_t due_ns, struct committed *ret, char *why, size_t why_cap)
{
	struct body *buf = body_take(c->net);
	struct what what = { .extent_count = count };
	int r;

	if (!buf)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++)
		what.len += extents[i].len;
	what.payload.ptr = buf->u.bytes;
	what.payload.len = put_extents(buf->u.bytes, extents, count);
	r = commit(c, job, how, &what, due_ns, ret, why, why_cap);
	body_give(c->net, buf);
	return r;
}

int open_object_begin(struct open_object *o, uint64_t due_ns)
{
	struct open_rep rep;
	struct rcur body;
	struct ask a;
	struct wcur w = ask_begin(o->core, &a, MSG_OPEN, slot_of_id(o->job));
	int r;

	open_req_put(&w, &(struct open_req){ .job = o->job, .request = node_random_u64() });
	r = ask_wait(&a, &w, NULL, due_ns);
	body = ask_reply(&a);
	if (r == 0)
		r = open_rep_get(&body, &rep);
	if (r == 0)
		o->id = rep.open;
	ask_end(&a);
	return r;
}

int open_object_extend(struct open_object *o, uint32_t part, uint64_t offset,
		       const struct extent *extents, uint32_t count, uint64_t due_ns)
{
	struct body *buf = body_take(o->core->net);
	struct payload payload = { 0 };
	struct ask a;
	struct wcur w;
	int r;

	if (!buf)
		return -ENOMEM;
	payload.ptr = buf->u.bytes;
	payload.len = put_extents(buf->u.bytes, extents, count);
	w = ask_begin(o->core, &a, MSG_EXTEND, slot_of_id(o->job));
	extend_req_put(&w, &(struct extend_req){ .job = o->job,
						 .open = o->id,
						 .part = part,
						 .extent_count = count,
						 .offset = offset });
	r = ask_wait(&a, &w, &payload, due_ns);
	ask_end(&a);
	body_give(o->core->net, buf);
	return r;
}

int open_object_commit(struct open_object *o, const struct how *how, uint64_t due_ns,
		       struct committed *ret, char *why, size_t why_cap)
{
	struct what what = { .open = o->id };

	return commit(o->core, o->job, how, &what, due_ns, ret, why, why_cap);
}

void open_object_drop(struct open_object *o)
{
	uint8_t buf[64];
	struct wcur w = wcur_make(buf, sizeof(buf));

	if (!o->id)
		return;
	drop_req_put(&w, &(struct drop_req){ .job = o->job, .open = o->id });
	ask_and_forget(o->core, MSG_DROP, slot_of_id(o->job), &w);
}

/* A request that runs by itself. */
struct errand {
	struct fiber fiber;
	struct list link;
	struct core *core;
	uint16_t msg, slot;
	uint16_t len;
	uint8_t bytes[64];
};

static void errand_run(struct fiber *self)
{
	struct errand *e = container_of(self, struct errand, fiber);
	struct ask a;
	struct wcur w = ask_begin(e->core, &a, e->msg, e->slot);

	put_bytes(&w, e->bytes, e->len);
	/* Nobody waits for the answer: what is not answered in time ends with the session. */
	(void)ask_wait(&a, &w, NULL, e->core->loop->now_ns + TIMEOUT_MS_DEFAULT * 1000000ull);
	ask_end(&a);
}

static void errand_ended(struct fiber *self)
{
	struct errand *e = container_of(self, struct errand, fiber);

	list_remove(&e->link);
	node_free(e);
}

void errands_stop(struct core *c)
{
	for (struct list *l = c->errands.next; l != &c->errands; l = l->next)
		fiber_cancel(&container_of(l, struct errand, link)->fiber);
}

void ask_and_forget(struct core *c, uint16_t msg, uint16_t slot, const struct wcur *body)
{
	ptrdiff_t len = wcur_finish(body);
	struct errand *e = len < 0 || c->is_closing ? NULL : node_alloc(sizeof(*e));

	if (!e)
		return;
	e->core = c;
	e->msg = msg;
	e->slot = slot;
	e->len = (uint16_t)len;
	memcpy(e->bytes, body->start, (size_t)len);
	list_init(&e->link);
	if (fiber_start(&c->loop->fibers, &e->fiber, errand_run, errand_ended) < 0)
		node_free(e);
	else
		list_insert(&c->errands, &e->link);
}
