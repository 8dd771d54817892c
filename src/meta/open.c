/* SPDX-License-Identifier: Apache-2.0 */
/*
 * open: an object that comes in pieces: numbered parts, each extended in order. It
 * becomes visible with the commit that names it, and goes with its session.
 */
#include "base/cleanup.h"
#include "base/node.h"
#include "meta/catalog_priv.h"

static uint64_t part_hash(uint32_t number)
{
	/* No secret is needed: there are at most PARTS_MAX, in the order of a bad hash. */
	return hash_64(&number, sizeof(number), 0x7061727473);
}

static struct slice part_key(const struct index_link *l)
{
	const struct part *p = container_of((struct index_link *)l, struct part, in_open);

	return (struct slice){ p->key, sizeof(p->key) };
}

static uint64_t part_priority(const struct index_link *l)
{
	return part_hash(container_of((struct index_link *)l, struct part, in_open)->number);
}

static const struct index_ops PART_OPS = { part_key, part_priority };

static void make_key(uint32_t number, uint8_t key[4])
{
	for (int i = 0; i < 4; i++)
		key[i] = (uint8_t)(number >> (24 - 8 * i));
}

struct part *open_find_part(const struct open *o, uint32_t number)
{
	uint8_t key[4];
	struct index_link *l;
	struct part *p;

	make_key(number, key);
	l = index_seek(&o->parts, (struct slice){ key, sizeof(key) }, false);
	p = l ? container_of(l, struct part, in_open) : NULL;
	return p && p->number == number ? p : NULL;
}

struct open *catalog_open_find(const struct catalog *c, uint64_t id)
{
	for (struct hlink *l = htable_first(&c->opens, id_hash(c, id)); l; l = htable_next(l)) {
		struct open *o = container_of(l, struct open, by_id);

		if (o->id == id)
			return o;
	}
	return NULL;
}

void open_init(struct open *o)
{
	*o = (struct open){ .parts = { .ops = &PART_OPS } };
	list_init(&o->of_session);
	list_init(&o->of_job);
	list_init(&o->debris);
}

/* OPEN_MADE */

int open_made_reserve(struct catalog *c, struct effect *e)
{
	const struct open_made_effect *m = &e->u.open_made;
	int r;

	e->at.job = catalog_job_find(c, m->job);
	if (!e->at.job || e->at.job->state != JOB_LIVING || catalog_open_find(c, m->open))
		return -EBADMSG;
	r = session_reserve(c, m->session, &e->made.session);
	if (r == 0)
		r = share_reserve(c, catalog_session_find(c, m->session), e->at.job,
				  &e->made.share);
	if (r < 0)
		return r;
	e->made.open = node_alloc(sizeof(struct open));
	return e->made.open ? 0 : -ENOMEM;
}

void open_made_apply(struct catalog *c, struct effect *e)
{
	const struct open_made_effect *m = &e->u.open_made;
	struct session *s = session_get(c, m->session, &e->made.session);
	struct open *o = TAKE_PTR(e->made.open);

	open_init(o);
	o->job = e->at.job;
	o->session = s;
	o->id = m->open;
	o->seen = c->snapshot.round;
	o->request = m->request;
	list_insert(&s->opens, &o->of_session);
	list_insert(&o->job->opens, &o->of_job);
	share_change(c, s, o->job, 0, 1, &e->made.share);
	htable_add(&c->opens, &o->by_id, id_hash(c, o->id));
	htable_add(&c->open_requests, &o->by_request, catalog_request_hash(c, s->id, o->request));
	catalog_id_used(c, o->id);
}

static struct open *find_request(const struct catalog *c, const struct open_req *req)
{
	uint64_t hash = catalog_request_hash(c, req->session, req->request);

	for (struct hlink *l = htable_first(&c->open_requests, hash); l; l = htable_next(l)) {
		struct open *o = container_of(l, struct open, by_request);

		if (o->session->id == req->session && o->request == req->request &&
		    o->job->id == req->job && o->session->over_number == 0)
			return o;
	}
	return NULL;
}

int catalog_open(struct catalog *c, const struct open_req *req, uint64_t now_ns,
		 struct outcome *ret)
{
	struct effect e = { .kind = EFFECT_OPEN_MADE, .at_ns = now_ns };
	const struct session *s = catalog_session_find(c, req->session);
	struct open *o;
	struct job *j;
	int r;

	outcome_begin(c, ret);
	r = catalog_job_living(c, req->job, ret, &j);
	if (r < 0)
		return r;
	if (req->session == 0)
		return refuse(ret, -ENOLINK, "an open object belongs to a session");
	o = find_request(c, req);
	if (o) {
		ret->rep.open.open = o->id;
		return 0;
	}
	if (s && s->open_count >= OPEN_PER_SESSION)
		return refuse(ret, -EUSERS, "a session has at most %u open objects",
			      OPEN_PER_SESSION);
	if (share_of(c, s, j).open_count >= OPEN_PER_JOB)
		return refuse(ret, -EUSERS, "a job has at most %u open objects in one session",
			      OPEN_PER_JOB);
	e.u.open_made = (struct open_made_effect){ .job = req->job,
						   .session = req->session,
						   .request = req->request,
						   .open = catalog_next_id(c) };
	ret->rep.open.open = e.u.open_made.open;
	return effect_do(c, &e);
}

/* OPEN_EXTENDED */

int open_extended_reserve(struct catalog *c, struct effect *e)
{
	const struct open_extended_effect *m = &e->u.open_extended;
	uint32_t count = (uint32_t)(m->extents.len / EXTENT_SIZE);
	struct open *o = catalog_open_find(c, m->open);
	uint64_t len;

	e->at.open = o;
	if (!o || extents_check(c, o->job, &o->session->id, m->extents, &len, c->out) < 0)
		return -EBADMSG;
	e->made.chunk = node_alloc(sizeof(struct chunk) + count * sizeof(struct piece));
	if (!e->made.chunk)
		return -ENOMEM;
	e->made.chunk->count = count;
	if (open_find_part(o, m->part))
		return 0;
	e->made.part = node_alloc(sizeof(struct part));
	return e->made.part ? 0 : -ENOMEM;
}

struct part *open_get_part(struct open *o, uint32_t number, struct part **spare)
{
	struct part *p = open_find_part(o, number);

	if (p)
		return p;
	p = TAKE_PTR(*spare);
	p->number = number;
	make_key(number, p->key);
	index_add(&o->parts, &p->in_open);
	o->part_count++;
	return p;
}

void open_extended_apply(struct catalog *c, struct effect *e)
{
	struct open *o = e->at.open;
	struct part *p;
	struct chunk *k = TAKE_PTR(e->made.chunk);

	SNAPSHOT(open, o);
	p = open_get_part(o, e->u.open_extended.part, &e->made.part);
	pieces_make(c, e->u.open_extended.extents, k->pieces);
	k->first = p->len;
	for (uint32_t i = 0; i < k->count; i++)
		p->len += k->pieces[i].bytes.len;
	o->len += p->len - k->first;
	o->piece_count += k->count;
	o->chunk_count++;
	if (p->last)
		p->last->next = k;
	else
		p->first = k;
	p->last = k;
}

static int find_own(struct catalog *c, uint64_t job, uint64_t session, uint64_t id,
		    struct outcome *ret, struct open **ret_open)
{
	struct job *j;
	int r = catalog_job_living(c, job, ret, &j);

	if (r < 0)
		return r;
	*ret_open = catalog_open_find(c, id);
	if (!*ret_open || (*ret_open)->job != j || (*ret_open)->session->id != session)
		return refuse(ret, -ESTALE, "there is no such open object");
	return 0;
}

int catalog_extend(struct catalog *c, const struct extend_req *req, struct slice payload,
		   uint64_t now_ns, struct outcome *ret)
{
	struct effect e = { .kind = EFFECT_OPEN_EXTENDED, .at_ns = now_ns };
	const struct part *p;
	uint64_t have, len;
	struct open *o;
	int r;

	outcome_begin(c, ret);
	r = find_own(c, req->job, req->session, req->open, ret, &o);
	if (r < 0)
		return r;
	p = open_find_part(o, req->part);
	have = p ? p->len : 0;
	if (req->offset < have)
		return 0; /* a repeat */
	if (req->offset > have)
		return refuse(ret, -EINVAL, "part %u has %llu bytes, and goes on at %llu",
			      req->part, (unsigned long long)have, (unsigned long long)req->offset);
	if (req->part >= PARTS_MAX)
		return refuse(ret, -EUSERS, "an object has at most %u parts", PARTS_MAX);
	if (payload.len != req->extent_count * (size_t)EXTENT_SIZE)
		return refuse(ret, -EINVAL, "not as many extents as announced");
	if (o->piece_count + req->extent_count > OBJECT_EXTENTS_MAX)
		return refuse(ret, -EUSERS, "an object has at most %u extents", OBJECT_EXTENTS_MAX);
	r = extents_check(c, o->job, &req->session, payload, &len, ret);
	if (r < 0)
		return r;
	e.u.open_extended = (struct open_extended_effect){ .open = req->open,
							   .part = req->part,
							   .extents = payload };
	return effect_do(c, &e);
}

/* OPEN_DROPPED */

void open_forget(struct catalog *c, struct open *o)
{
	struct session *s;

	SNAPSHOT(open, o);
	SNAPSHOT(leave, &o->of_job);
	s = TAKE_PTR(o->session);
	htable_remove(&c->opens, &o->by_id);
	htable_remove(&c->open_requests, &o->by_request);
	list_remove(&o->of_session);
	list_remove(&o->of_job);
	share_change(c, s, o->job, 0, -1, NULL);
	session_rest(c, s);
}

/* What it has is dead from now on, and taken apart in steps. */
void open_drop(struct catalog *c, struct open *o)
{
	open_forget(c, o);
	o->dropped_number = c->next_number++;
	list_insert(&c->dropped, &o->debris);
	o->job->debris_count++;
}

int open_dropped_reserve(struct catalog *c, struct effect *e)
{
	e->at.open = catalog_open_find(c, e->u.open_dropped.open);
	return e->at.open ? 0 : -EBADMSG;
}

void open_dropped_apply(struct catalog *c, struct effect *e)
{
	open_drop(c, e->at.open);
}

int open_give_up(struct catalog *c, const struct drop_req *req, uint64_t now_ns)
{
	struct effect e = { .kind = EFFECT_OPEN_DROPPED, .at_ns = now_ns };
	const struct open *o = catalog_open_find(c, req->open);

	if (!o || o->job->id != req->job || o->session->id != req->session)
		return 0; /* dropped before, committed, or somebody else's */
	e.u.open_dropped.open = req->open;
	return effect_do(c, &e);
}

int catalog_drop(struct catalog *c, const struct drop_req *req, uint64_t now_ns,
		 struct outcome *ret)
{
	outcome_begin(c, ret);
	return open_give_up(c, req, now_ns);
}

bool open_clear(struct catalog *c, struct open *o, uint64_t at_ns)
{
	struct index_link *l = o->parts.root;
	struct part *p = l ? container_of(l, struct part, in_open) : NULL;
	struct chunk *k = p ? p->first : NULL;

	SNAPSHOT(open, o);
	if (k) {
		p->first = k->next;
		chunk_free(c, k, at_ns);
	}
	if (p && !p->first) {
		index_remove(&o->parts, l);
		node_free(p);
	}
	if (o->parts.root)
		return true;
	SNAPSHOT(leave, &o->debris);
	list_remove(&o->debris);
	node_free(o);
	return false;
}

void open_to_body(struct catalog *c, struct open *o, struct body *b)
{
	struct index_link *l;
	uint64_t at = 0;

	SNAPSHOT(open, o);
	list_init(&b->debris);
	b->job = o->job;
	b->piece_count = o->piece_count;
	for (l = index_first(&o->parts); l; l = index_next(l)) {
		struct part *p = container_of(l, struct part, in_open);

		for (struct chunk *k = p->first; k; k = k->next) {
			k->first += at;
			b->chunks[b->chunk_count++] = k;
		}
		at += p->len;
	}
	while ((l = o->parts.root) != NULL) {
		index_remove(&o->parts, l);
		node_free(container_of(l, struct part, in_open));
	}
	open_forget(c, o);
	node_free(o);
}
