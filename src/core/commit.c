/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "base/container.h"
#include "base/hash.h"
#include "base/cleanup.h"
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
		.since = how->since,
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
		*ret = (struct committed){ .object = rep.object,
					   .version = rep.version,
					   .changes = rep.changes };
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
			     .seed = number_next(c),
			     .payload = { .ptr = value, .len = len } };

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

void open_object_drop(struct open_object *o)
{
	uint8_t buf[64];
	struct wcur w = wcur_make(buf, sizeof(buf));

	if (!o->id)
		return;
	drop_req_put(&w, &(struct drop_req){ .job = o->job, .open = o->id });
	o->id = 0;
	errand_start(TAKE_PTR(o->drop), MSG_DROP, &w, NULL);
}

/* It was opened, for nobody. If that stays unsaid, it is asked again which it was. */
static int open_object_undo(struct core *c, uint64_t job, struct ask *a)
{
	struct rcur body = ask_reply(a);
	struct open_rep rep;
	struct ask drop;
	struct wcur w;
	int r;

	if (open_rep_get(&body, &rep) < 0)
		return 0;
	w = ask_begin(c, &drop, MSG_DROP, slot_of_id(job));
	drop_req_put(&w, &(struct drop_req){ .job = job, .open = rep.open });
	r = ask_wait(&drop, &w, NULL, c->loop->now_ns + TIMEOUT_MS_DEFAULT * 1000000ull);
	ask_end(&drop);
	return r;
}

int open_object_begin(struct open_object *o, uint64_t due_ns, char *why, size_t why_cap)
{
	struct open_rep rep;
	struct rcur body;
	struct ask a;
	struct wcur w;
	int r = errand_new(o->core, o->job, &o->drop, why, why_cap);

	if (r < 0)
		return r;
	w = ask_begin(o->core, &a, MSG_OPEN, slot_of_id(o->job));
	open_req_put(&w, &(struct open_req){ .job = o->job, .request = number_next(o->core) });
	r = ask_wait(&a, &w, NULL, due_ns);
	body = ask_reply(&a);
	if (r == 0)
		r = open_rep_get(&body, &rep);
	if (r == 0)
		o->id = rep.open;
	else if (is_answer(r))
		errand_free(TAKE_PTR(o->drop));
	else
		errand_start(TAKE_PTR(o->drop), MSG_OPEN, &w, open_object_undo);
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
	int r = commit(o->core, o->job, how, &what, due_ns, ret, why, why_cap);

	if (r == 0) {
		o->id = 0;
		errand_free(TAKE_PTR(o->drop));
	}
	return r;
}
