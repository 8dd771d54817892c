/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_job: jobs, the map of shards and stores, sums.
 */
#include <stdio.h>

#include "base/node.h"
#include "meta/shard_priv.h"
#include "net/access.h"
#include "wire/token.h"

static struct shard *shard_of(const struct request *r)
{
	return ((struct peer_state *)r->conn->state)->shard;
}

/*
 * The slot of a job's name; NULL: it has been refused. job: the one that must have the name; 0:
 * whichever. is_own: this is for a job's token, too.
 */
static struct slot *begin(struct request *r, int decoded, uint64_t job, struct slice name,
			  bool is_own)
{
	const struct access *a = r->conn->access;
	const char *why = "a body of another shape";
	struct slot *slot;
	int e = decoded;

	if (e == 0 && slot_of_name(name) != r->frame.slot) {
		e = -EINVAL;
		why = "the job's name lies in another slot";
	}
	if (e < 0) {
		request_fail(r, e, "%s", why);
		return NULL;
	}
	slot = request_slot(r);
	if (slot && job && catalog_job_named(slot->catalog, name) != job) {
		request_fail(r, -EIDRM, "%s", token_why(-EIDRM));
		return NULL;
	}
	if (!slot || a->role != ROLE_JOB || a->rights & RIGHT_ADMIN)
		return slot;
	if (is_own && a->rights & RIGHT_JOB && catalog_job_named(slot->catalog, name) == a->job)
		return slot;
	request_fail(r, -EACCES,
		     is_own ? "the token is not for this job's life"
			    : "only for who may administer the store");
	return NULL;
}

/* Statuses: EXISTS, INVALID, LIMIT, DENIED, NOMEMORY. */
void job_create_serve(struct request *r)
{
	struct shard *s = shard_of(r);
	struct outcome *out = &s->out;
	struct rcur body = request_body(r);
	struct job_create_req req = { 0 };
	int decoded = job_create_req_get(&body, &req);
	struct slot *slot = begin(r, decoded, 0, req.name, false);
	char token[TOKEN_BYTES_MAX + 1] = "";
	struct job_create_rep rep;
	struct wcur w;
	int e;

	if (!slot)
		return;
	e = catalog_job_create(slot->catalog, &req, shard_now(s), out);
	rep = out->rep.job_create;
	if (e == 0 && s->config.token_key.len >= TOKEN_KEY_BYTES)
		e = token_make(s->config.token_key.ptr, s->config.token_key.len, rep.job, req.name,
			       token);
	if (e < 0) {
		refuse_when_safe(r, slot, catalog_job_named(slot->catalog, req.name), e,
				 out->detail);
	} else {
		rep.token = (struct slice){ (const uint8_t *)token, strlen(token) };
		w = request_answer(r);
		job_create_rep_put(&w, &rep);
		reply_when_safe(r, slot, &(struct said){ rep.job, out->seen_ns }, &w, NULL);
	}
	shard_after(slot, out);
}

/* Statuses: NOJOB, JOBENDED, INVALID, DENIED. */
void job_renew_serve(struct request *r)
{
	struct shard *s = shard_of(r);
	struct outcome *out = &s->out;
	struct rcur body = request_body(r);
	struct job_renew_req req = { 0 };
	int decoded = job_renew_req_get(&body, &req);
	struct slot *slot = begin(r, decoded, req.job, req.name, true);
	struct said said = { .seen_ns = UINT64_MAX };
	struct wcur w;
	int e;

	if (!slot)
		return;
	e = catalog_job_renew(slot->catalog, &req, shard_now(s), out);
	said.job = catalog_job_named(slot->catalog, req.name);
	if (e < 0) {
		refuse_when_safe(r, slot, said.job, e, out->detail);
	} else {
		w = request_answer(r);
		job_renew_rep_put(&w, &out->rep.job_renew);
		reply_when_safe(r, slot, &said, &w, NULL);
	}
	shard_after(slot, out);
}

/* Statuses: NOJOB, JOBENDED, DENIED, TIMEOUT: it has ended, and somebody has not heard of it yet.
 */
void job_end_serve(struct request *r)
{
	struct shard *s = shard_of(r);
	struct rcur body = request_body(r);
	struct job_end_req req = { 0 };
	int decoded = job_end_req_get(&body, &req);
	struct slot *slot = begin(r, decoded, req.job, req.name, true);
	uint64_t job;
	int e;

	if (!slot)
		return;
	e = catalog_job_end(slot->catalog, &req, shard_now(s), &s->out, &job);
	if (e < 0) {
		request_fail(r, e, "%s", s->out.detail);
		return;
	}
	((struct peer_state *)r->conn->state)->is_ending = job == r->conn->access->job;
	shard_after(slot, &s->out);
	job_over_wait(r, job);
}

/* Statuses: NOJOB, JOBENDED, DENIED. */
void job_show_serve(struct request *r)
{
	struct shard *s = shard_of(r);
	struct rcur body = request_body(r);
	struct job_show_req req = { 0 };
	int decoded = job_show_req_get(&body, &req);
	struct slot *slot = begin(r, decoded, req.job, req.name, true);
	const struct job_show_rep *rep = &s->out.rep.job_show;
	struct said said;
	struct wcur w;
	int e;

	if (!slot)
		return;
	e = catalog_job_show(slot->catalog, &req, shard_now(s), &s->out);
	if (e < 0) {
		request_fail(r, e, "%s", s->out.detail);
		return;
	}
	said = (struct said){ rep->job, catalog_last_ns(slot->catalog) };
	w = request_answer(r);
	job_show_rep_put(&w, rep);
	/* While the disk fails, who reads what is safe must be let in. */
	if (rep->has_ended)
		reply_when_safe(r, slot, &said, &w, NULL);
	else
		request_reply(r, &w, NULL);
}

static bool may_see_all(struct request *r)
{
	const struct access *a = r->conn->access;

	if (a->role != ROLE_JOB || a->rights & RIGHT_ADMIN)
		return true;
	request_fail(r, -EACCES, "only for who may administer the store");
	return false;
}

/* Of this shard's slots, from one on. */
static void list_jobs(struct shard *s, const struct job_list_req *req, struct wcur *payload,
		      struct job_list_rep *rep)
{
	for (struct slot *slot = slot_from(s, req->from_slot); slot;
	     slot = slot_from(s, slot->number + 1)) {
		bool is_first = slot->number == req->from_slot;
		uint32_t before = rep->count;

		rep->next_slot = slot->number;
		if (payload->end - payload->p < LIST_BYTES / 2 ||
		    !catalog_job_list(slot->catalog, is_first ? req->after : (struct slice){ 0 },
				      shard_now(s), payload, &rep->count)) {
			/* The last name is of another slot if there was room for none of this one.
			 */
			rep->has_more = is_first || rep->count > before ? 1 : 2;
			return;
		}
	}
}

/* Statuses: DENIED, NOMEMORY. */
void job_list_serve(struct request *r)
{
	struct shard *s = shard_of(r);
	struct rcur body = request_body(r);
	struct job_list_rep rep = { 0 };
	struct job_list_req req;
	struct reply_bytes *b;
	struct wcur payload, w;

	if (job_list_req_get(&body, &req) < 0) {
		request_fail(r, -EBADMSG, "a body of another shape");
		return;
	}
	if (!may_see_all(r))
		return;
	b = reply_bytes_take(s, LIST_BYTES);
	if (!b) {
		request_fail(r, -ENOMEM, "no memory for an answer");
		return;
	}
	payload = wcur_make(b->bytes, LIST_BYTES);
	list_jobs(s, &req, &payload, &rep);
	reply_bytes_made(b, (size_t)(payload.p - payload.start));
	w = request_answer(r);
	job_list_rep_put(&w, &rep);
	request_reply(r, &w, &b->payload);
}

static void put_address(struct wcur *w, uint64_t incarnation, const char *address)
{
	struct address_entry e = { .incarnation = incarnation };

	address = address ? address : "";
	e.address = (struct slice){ (const uint8_t *)address, strlen(address) };
	address_entry_put(w, &e);
}

/* Statuses: NOMEMORY. */
void map_serve(struct request *r)
{
	struct shard *s = shard_of(r);
	struct map_rep rep = { .shard_count = s->config.count };
	struct reply_bytes *b = reply_bytes_take(s, LIST_BYTES);
	struct wcur payload, w;

	if (!b) {
		request_fail(r, -ENOMEM, "no memory for an answer");
		return;
	}
	payload = wcur_make(b->bytes, LIST_BYTES);
	for (unsigned i = 0; i < s->config.count; i++)
		put_address(&payload, i == s->config.index ? s->incarnation : 0,
			    s->config.addresses[i]);
	for (struct list *l = s->stores.next; l != &s->stores && !payload.bad; l = l->next) {
		const struct store *st = container_of(l, struct store, link);

		put_address(&payload, st->id,
			    strcmp(st->address, STORE_HERE) == 0 ? s->config.store_here
								 : st->address);
		rep.store_count++;
	}
	reply_bytes_made(b, (size_t)(payload.p - payload.start));
	w = request_answer(r);
	map_rep_put(&w, &rep);
	request_reply(r, &w, &b->payload);
}

/* Statuses: DENIED. */
void shard_info_serve(struct request *r)
{
	struct info_rep rep;
	struct wcur w;

	if (!may_see_all(r))
		return;
	w = request_answer(r);
	shard_info(shard_of(r), &rep);
	info_rep_put(&w, &rep);
	request_reply(r, &w, NULL);
}
