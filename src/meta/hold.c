/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hold: keeps the bytes of one version for a reader, even when it is replaced or
 * removed. A read of an object with reads left is a hold, too: granted, it hides one
 * read from others; confirmed, it uses it up; ended otherwise, it gives it back.
 */
#include "base/cleanup.h"
#include "base/node.h"
#include "base/plant.h"
#include "meta/catalog_priv.h"

static uint64_t read_hash(const struct catalog *c, uint64_t object, uint64_t hi, uint64_t lo)
{
	uint64_t key[3] = { object, hi, lo };

	return hash_64(key, sizeof(key), c->seed);
}

struct hold *catalog_hold_find(const struct catalog *c, uint64_t id)
{
	for (struct hlink *l = htable_first(&c->holds, id_hash(c, id)); l; l = htable_next(l)) {
		struct hold *h = container_of(l, struct hold, by_id);

		if (h->id == id)
			return h;
	}
	return NULL;
}

struct hold *read_find(const struct catalog *c, const struct entry *e, uint64_t hi, uint64_t lo)
{
	struct hlink *l = htable_first(&c->reads, read_hash(c, e->object, hi, lo));

	for (; l; l = htable_next(l)) {
		struct hold *h = container_of(l, struct hold, by_read);

		if (h->entry == e && h->read_hi == hi && h->read_lo == lo)
			return h;
	}
	return NULL;
}

struct hold *hold_find_request(const struct catalog *c, uint64_t session, uint64_t request)
{
	uint64_t hash = catalog_request_hash(c, session, request);
	struct hlink *l = request ? htable_first(&c->hold_requests, hash) : NULL;

	for (; l; l = htable_next(l)) {
		struct hold *h = container_of(l, struct hold, by_request);

		if (h->session->id == session && h->request == request &&
		    h->session->over_number == 0)
			return h;
	}
	return NULL;
}

static void request_add(struct catalog *c, struct hold *h)
{
	if (h->request)
		htable_add(&c->hold_requests, &h->by_request,
			   catalog_request_hash(c, h->session->id, h->request));
}

static void request_remove(struct catalog *c, struct hold *h)
{
	if (h->request)
		htable_remove(&c->hold_requests, &h->by_request);
}

static struct hold *of_entry(const struct hlink *l, const struct entry *e)
{
	for (; l; l = htable_next(l)) {
		struct hold *h = container_of((struct hlink *)l, struct hold, by_entry);

		if (h->entry == e)
			return h;
	}
	return NULL;
}

struct hold *hold_first(const struct catalog *c, const struct entry *e)
{
	return e->is_held ? of_entry(htable_first(&c->held, id_hash(c, e->object)), e) : NULL;
}

struct hold *hold_next(const struct hold *h)
{
	return of_entry(htable_next(&h->by_entry), h->entry);
}

void hold_hang(struct catalog *c, struct hold *h, struct entry *e)
{
	h->entry = e;
	e->is_held = true;
	htable_add(&c->held, &h->by_entry, id_hash(c, e->object));
}

void hold_unhang(struct catalog *c, struct hold *h)
{
	htable_remove(&c->held, &h->by_entry);
	h->entry->is_held = hold_first(c, h->entry) != NULL;
}

/* It can be found, and is of its entry; a read is granted. */
void hold_add(struct catalog *c, struct hold *h)
{
	htable_add(&c->holds, &h->by_id, id_hash(c, h->id));
	request_add(c, h);
	if (!h->is_read)
		return;
	htable_add(&c->reads, &h->by_read, read_hash(c, h->entry->object, h->read_hi, h->read_lo));
	heap_add(&c->read_dues, &h->due, h->touched_ns + HOLD_MS_MAX * MS);
	entry_life(h->entry)->granted++;
}

/* HOLD_MADE */

int hold_made_reserve(struct catalog *c, struct effect *e)
{
	const struct hold_made_effect *m = &e->u.hold_made;
	const struct life *life;
	int r;

	e->at.job = catalog_job_find(c, m->job);
	if (!e->at.job || e->at.job->state != JOB_LIVING || catalog_hold_find(c, m->hold))
		return -EBADMSG;
	e->at.entry = entry_find(c, e->at.job, m->path);
	if (!e->at.entry)
		return -EBADMSG;
	life = entry_life(e->at.entry);
	if (m->is_read && (!life || life->granted >= life->reads))
		return -EBADMSG;
	r = session_reserve(c, m->session, &e->made.session);
	if (r == 0)
		r = share_reserve(c, catalog_session_find(c, m->session), e->at.job,
				  &e->made.share);
	if (r < 0)
		return r;
	e->made.hold = node_alloc(sizeof(struct hold));
	return e->made.hold ? 0 : -ENOMEM;
}

void hold_made_apply(struct catalog *c, struct effect *e)
{
	const struct hold_made_effect *m = &e->u.hold_made;
	struct session *s = session_get(c, m->session, &e->made.session);
	struct hold *h = TAKE_PTR(e->made.hold);

	SNAPSHOT(entry, e->at.entry);
	*h = (struct hold){ .entry = e->at.entry,
			    .session = s,
			    .id = m->hold,
			    .number = c->next_number++,
			    .request = m->request,
			    .read_hi = m->read_hi,
			    .read_lo = m->read_lo,
			    .touched_ns = e->at_ns,
			    .nth_try = 1,
			    .is_read = m->is_read };
	list_init(&h->of_session);
	list_init(&h->of_job);
	list_insert(&s->holds, &h->of_session);
	list_insert(&e->at.job->holds, &h->of_job);
	share_change(c, s, e->at.job, 1, 0, &e->made.share);
	hold_hang(c, h, h->entry);
	hold_add(c, h);
	catalog_id_used(c, h->id);
}

/* HOLD_TRIED: the same read again, perhaps by another session. */

int hold_tried_reserve(struct catalog *c, struct effect *e)
{
	const struct hold_tried_effect *m = &e->u.hold_tried;

	int r;

	e->at.hold = catalog_hold_find(c, m->hold);
	if (!e->at.hold)
		return -EBADMSG;
	r = session_reserve(c, m->session, &e->made.session);
	if (r < 0)
		return r;
	return share_reserve(c, catalog_session_find(c, m->session), e->at.hold->entry->job,
			     &e->made.share);
}

void hold_tried_apply(struct catalog *c, struct effect *e)
{
	struct hold *h = e->at.hold;
	struct session *old = h->session,
		       *s = session_get(c, e->u.hold_tried.session, &e->made.session);

	SNAPSHOT(entry, h->entry);
	h->nth_try = e->u.hold_tried.nth_try;
	h->touched_ns = e->at_ns;
	request_remove(c, h);
	h->request = e->u.hold_tried.request;
	if (s != old) {
		h->number = c->next_number++;
		list_remove(&h->of_session);
		list_insert(&s->holds, &h->of_session);
		share_change(c, old, h->entry->job, -1, 0, NULL);
		share_change(c, s, h->entry->job, 1, 0, &e->made.share);
		h->session = s;
		session_rest(c, old);
	}
	request_add(c, h);
}

/* HOLD_ENDED */

int hold_ended_reserve(struct catalog *c, struct effect *e)
{
	e->at.hold = catalog_hold_find(c, e->u.hold_ended.hold);
	if (!e->at.hold)
		return -EBADMSG;
	if (!e->u.hold_ended.is_confirmed || !e->at.hold->is_read)
		return 0;
	/* Of the read; and of the version, if that was the last one and others still hold it. */
	e->made.spares = node_alloc(sizeof(struct attempt));
	if (!e->made.spares)
		return -ENOMEM;
	e->made.spares->link.next = NULL;
	e->made.attempt = node_alloc(sizeof(struct attempt));
	return e->made.attempt ? 0 : -ENOMEM;
}

/* It is remembered that this read was confirmed, if it can be told from others. */
static void record_read(struct catalog *c, const struct hold *h, struct effect *e)
{
	const struct entry *entry = h->entry;
	struct attempt *a;

	if ((h->read_hi | h->read_lo) == 0 || entry->is_ghost || entry->job->state != JOB_LIVING)
		return;
	a = attempt_new(entry->job);
	if (!a) {
		a = TAKE_PTR(e->made.spares);
		a->nth = 0;
	}
	*a = (struct attempt){ .nth = a->nth,
			       .end = attempt_of(h->read_hi, h->read_lo),
			       .version = entry->version,
			       .object = entry->object,
			       .at_ns = e->at_ns,
			       .what = GONE_READ,
			       .has_end = true };
	attempt_add(c, entry->job, a, entry->by_path.hash);
}

static void read_end(struct catalog *c, struct hold *h, struct attempt **spare, uint64_t at_ns)
{
	const struct end end = { .what = GONE_CONSUMED, .at_ns = at_ns };
	struct entry *e = h->entry;
	struct life *life = entry_life(e);

	htable_remove(&c->reads, &h->by_read);
	heap_remove(&c->read_dues, &h->due);
	life->granted--;
	if (spare)
		life->reads -= planted(READ_TWICE) && life->reads > life->granted + 1 ? 2 : 1;
	if (e->is_ghost)
		return;
	if (life->reads == 0) {
		catalog_wake(c, e->job, entry_path(e));
		entry_end(c, e, &end, spare);
	} else if (!spare) {
		catalog_wake(c, e->job, entry_path(e));
	}
}

void hold_end(struct catalog *c, struct hold *h, struct attempt **spare, uint64_t at_ns)
{
	struct session *s = h->session;
	struct entry *e = h->entry;
	struct job *j = e->job;

	SNAPSHOT(entry, e);
	SNAPSHOT(leave, &h->of_job);
	htable_remove(&c->holds, &h->by_id);
	request_remove(c, h);
	list_remove(&h->of_session);
	list_remove(&h->of_job);
	share_change(c, s, j, -1, 0, NULL);
	hold_unhang(c, h);
	if (!e->is_held && e->is_ghost) {
		if (h->is_read) {
			htable_remove(&c->reads, &h->by_read);
			heap_remove(&c->read_dues, &h->due);
		}
		entry_free(c, e, at_ns);
	} else if (h->is_read) {
		read_end(c, h, spare, at_ns);
	}
	node_free(h);
	session_rest(c, s);
	job_rest(c, j);
}

void hold_ended_apply(struct catalog *c, struct effect *e)
{
	const bool is_confirmed = e->u.hold_ended.is_confirmed;

	if (is_confirmed && e->at.hold->is_read)
		record_read(c, e->at.hold, e);
	hold_end(c, e->at.hold, is_confirmed ? &e->made.attempt : NULL, e->at_ns);
}

int catalog_release(struct catalog *c, const struct release_req *req, uint64_t now_ns,
		    struct outcome *ret)
{
	struct effect e = { .kind = EFFECT_HOLD_ENDED, .at_ns = now_ns };
	struct hold *h = req->hold ? catalog_hold_find(c, req->hold)
				   : hold_find_request(c, req->session, req->request);

	outcome_begin(c, ret);
	if (!h || h->entry->job->id != req->job) {
		/* It ended before: by a repeat, its session, its time; or there never was one. */
		if (req->is_confirmed)
			return refuse(ret, -ESTALE, "the read was given back, or used up before");
		return 0;
	}
	/*
	 * Only the last try gives a read back; whichever has the last byte uses it up. Who tells
	 * the request is the last: an earlier one's is not found.
	 */
	if (!req->is_confirmed && h->is_read && req->hold && req->nth_try != h->nth_try)
		return 0;
	e.u.hold_ended.hold = h->id;
	e.u.hold_ended.is_confirmed = req->is_confirmed != 0;
	return effect_do(c, &e);
}
