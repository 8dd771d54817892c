/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "base/cleanup.h"
#include "base/node.h"
#include "meta/catalog_priv.h"

#define BITS 64

struct segment *catalog_segment_find(const struct catalog *c, uint64_t id, uint32_t generation)
{
	for (struct hlink *l = htable_first(&c->segments, id_hash(c, id)); l; l = htable_next(l)) {
		struct segment *s = container_of(l, struct segment, by_id);

		if (s->id == id && s->generation == generation)
			return s;
	}
	return NULL;
}

/* Ranges of bytes that were committed. */

static uint32_t rounded(uint32_t len)
{
	return (len + SEGMENT_ALIGN - 1) & ~(uint32_t)(SEGMENT_ALIGN - 1);
}

/* The bits of word `w` that belong to [from, to). */
static uint64_t mask(uint32_t w, uint32_t from, uint32_t to)
{
	uint64_t m = ~0ull;

	if (from > w * BITS)
		m &= ~0ull << (from - w * BITS);
	if (to < (w + 1) * BITS)
		m &= ~0ull >> ((w + 1) * BITS - to);
	return m;
}

static bool is_claimed(const struct segment *s, uint32_t offset, uint32_t len)
{
	uint32_t from = offset / SEGMENT_ALIGN, to = from + rounded(len) / SEGMENT_ALIGN;

	for (uint32_t w = from / BITS; w * BITS < to; w++)
		if (s->claimed[w] & mask(w, from, to))
			return true;
	return false;
}

bool catalog_segment_is_claimed(const struct segment *s, uint32_t front, uint32_t back)
{
	uint32_t from = rounded(front);

	return from < back && is_claimed(s, from, (back - from) & ~(uint32_t)(SEGMENT_ALIGN - 1));
}

/* By words, which are pages: less cannot be given back anyway. */
_Static_assert(BITS *SEGMENT_ALIGN == SEGMENT_PAGE, "a word is a page");
void catalog_segment_gap(const struct segment *s, uint32_t *ret_front, uint32_t *ret_back)
{
	uint32_t words = s->size / SEGMENT_PAGE, run = 0, most = 0;

	*ret_front = *ret_back = s->size;
	for (uint32_t w = 0; w < words; w++) {
		run = s->claimed[w] ? 0 : run + 1;
		if (run <= most)
			continue;
		most = run;
		*ret_front = (w + 1 - run) * SEGMENT_PAGE;
		*ret_back = (w + 1) * SEGMENT_PAGE;
	}
}

/* The bytes are claimed and live from now on. */
static void place_take(struct catalog *c, struct place *p, struct segment *s, uint32_t offset,
		       uint32_t len)
{
	uint32_t from = offset / SEGMENT_ALIGN, to = from + rounded(len) / SEGMENT_ALIGN;

	SNAPSHOT(segment, s);
	for (uint32_t w = from / BITS; w * BITS < to; w++)
		s->claimed[w] |= mask(w, from, to);
	s->live += rounded(len);
	s->placed += rounded(len);
	p->segment = s;
	p->offset = offset;
	p->len = len;
	list_init(&p->of_segment);
	list_insert(&s->places, &p->of_segment);
}

int range_check(struct range_check *k, uint64_t id, uint32_t generation, uint32_t offset,
		uint32_t len)
{
	const struct segment *s = catalog_segment_find(k->c, id, generation);
	struct range r = { s, offset, offset + rounded(len) };

	if (!s || s->state > SEGMENT_FENCED)
		return refuse(k->out, -ESTALE, "segment %llx.%u is not being written",
			      (unsigned long long)id, generation);
	if (s->job != k->job || (k->session && s->owner != *k->session))
		return refuse(k->out, -ESTALE, "segment %llx.%u is somebody else's",
			      (unsigned long long)id, generation);
	if (len == 0 || offset % SEGMENT_ALIGN != 0 || offset > s->size || len > s->size - offset)
		return refuse(k->out, -EINVAL, "no bytes %u+%u in segment %llx of %u bytes", offset,
			      len, (unsigned long long)id, s->size);
	if (is_claimed(s, offset, len))
		return refuse(k->out, -EINVAL, "bytes %u+%u of segment %llx belong to an object",
			      offset, len, (unsigned long long)id);
	for (unsigned i = 0; i < k->count; i++)
		if (k->ranges[i].segment == s && r.from < k->ranges[i].to &&
		    k->ranges[i].from < r.to)
			return refuse(k->out, -EINVAL, "two extents share bytes");
	k->ranges[k->count++] = r;
	return 0;
}

int extents_check(const struct catalog *c, const struct job *j, const uint64_t *session,
		  struct slice extents, uint64_t *ret_len, struct outcome *out)
{
	struct range_check k = { .c = c, .job = j, .session = session, .out = out };
	struct rcur at = rcur_make(extents.ptr, extents.len);
	int r = 0;

	*ret_len = 0;
	if (extents.len == 0 || extents.len % EXTENT_SIZE != 0 || extents.len > EXTENTS_BYTES)
		return refuse(out, -EINVAL, "from 1 to %u extents", EXTENTS_MAX);
	while (r == 0 && at.p < at.end) {
		struct extent x;
		uint32_t sums;

		extent_get(&at, &x);
		sums = extent_table_count(x.len) * 4;
		*ret_len += x.len;
		r = range_check(&k, x.segment, x.generation, x.offset, x.len);
		if (r == 0 && sums > 0)
			r = range_check(&k, x.table_segment, x.table_generation, x.table_offset,
					sums);
	}
	return r;
}

void pieces_make(struct catalog *c, struct slice extents, struct piece *pieces)
{
	struct rcur at = rcur_make(extents.ptr, extents.len);

	for (; at.p < at.end; pieces++) {
		struct extent x;

		extent_get(&at, &x);
		*pieces = (struct piece){ .seed = x.seed, .crc = x.crc };
		place_take(c, &pieces->bytes, catalog_segment_find(c, x.segment, x.generation),
			   x.offset, x.len);
		if (extent_table_count(x.len) > 0)
			place_take(c, &pieces->table,
				   catalog_segment_find(c, x.table_segment, x.table_generation),
				   x.table_offset, extent_table_count(x.len) * 4);
	}
}

static void place_relocate(struct place *to)
{
	list_init(&to->of_segment);
	list_insert(&to->segment->places, &to->of_segment);
}

int place_restore(struct place *p, struct segment *s, uint32_t offset, uint32_t len)
{
	if (!s || len == 0 || offset % SEGMENT_ALIGN != 0 || offset > s->size ||
	    len > s->size - offset)
		return -EBADMSG;
	*p = (struct place){ .segment = s, .offset = offset, .len = len };
	place_relocate(p);
	s->live += rounded(len);
	return 0;
}

void piece_relocate(const struct piece *from, struct piece *to)
{
	struct piece *old = (struct piece *)from;

	list_remove(&old->bytes.of_segment);
	if (old->table.segment)
		list_remove(&old->table.of_segment);
	*to = *from;
	place_relocate(&to->bytes);
	if (to->table.segment)
		place_relocate(&to->table);
}

static bool is_lost(const struct place *p)
{
	return p->segment && p->segment->state == SEGMENT_LOST;
}

bool piece_is_lost(const struct piece *p)
{
	return is_lost(&p->bytes) || is_lost(&p->table);
}

/* States. */

static void leave_lists(struct catalog *c, struct segment *s)
{
	struct session *session;

	SNAPSHOT(segment, s);
	session = TAKE_PTR(s->session);
	list_remove(&s->of_session);
	list_remove(&s->owed);
	if (s->request) {
		htable_remove(&c->requests, &s->by_request);
		s->request = 0;
	}
	s->claimed = node_free(s->claimed);
	if (session)
		session_rest(c, session);
}

/* What the store has for it changes; while it is billed, so does the bill. */
static void hold_bytes(struct catalog *c, struct segment *s, uint32_t held, bool is_billed,
		       uint64_t stamp_ns)
{
	int64_t delta = (int64_t)held - s->held;

	SNAPSHOT(segment, s);
	if (s->job) {
		s->job->held_bytes += (uint64_t)delta;
		if (is_billed)
			job_book(c, s->job, delta, stamp_ns);
	}
	s->pool->bytes += (uint64_t)delta;
	s->held = held;
}

void catalog_segment_dying(struct segment *s)
{
	uint64_t dead = s->state == SEGMENT_SEALED ? s->placed - s->live : 0;
	uint8_t class = 0;

	if (dead > 0 && !s->is_emptied)
		class = (uint8_t)(dead * DYING_CLASSES / s->placed);
	s->pool->dead += dead - s->dead;
	s->dead = dead;
	if (class == s->dying)
		return;
	list_remove(&s->of_dying);
	if (class > 0)
		list_insert(&s->pool->dying[class], &s->of_dying);
	s->dying = class;
}

static void segment_free(struct catalog *c, struct segment *s)
{
	struct job *j = s->job;

	leave_lists(c, s);
	list_remove(&s->of_job);
	SNAPSHOT(leave, &s->of_pool);
	list_remove(&s->of_pool);
	htable_remove(&c->segments, &s->by_id);
	c->segment_count--;
	node_free(s);
	if (j) {
		j->segment_count--;
		job_rest(c, j);
	}
}

bool catalog_segment_duty(const struct segment *s, struct duty *ret)
{
	bool must_seal = s->sealed_ns != 0 && !s->is_sealed_told;

	*ret = (struct duty){
		.segment = s->id, .generation = s->generation, .front = s->front, .back = s->back
	};
	switch (s->state) {
	case SEGMENT_FENCING:
		ret->kind = DUTY_REVOKE;
		return true;
	case SEGMENT_SEALED:
		ret->kind = DUTY_SEAL;
		ret->stamp_ns = s->sealed_ns;
		return must_seal;
	case SEGMENT_FREEING:
		/* Both sides book what was used between its sealing and its end. */
		ret->kind = must_seal && s->sealed_ns != s->freed_ns ? DUTY_SEAL : DUTY_FREE;
		ret->stamp_ns = ret->kind == DUTY_SEAL ? s->sealed_ns : s->freed_ns;
		return true;
	case SEGMENT_OPEN:
	case SEGMENT_FENCED:
	case SEGMENT_LOST:
	case SEGMENT_GONE:
		break;
	}
	return false;
}

void catalog_segment_owe(struct segment *s)
{
	struct duty d;

	if (s->is_sent || !catalog_segment_duty(s, &d))
		return;
	list_remove(&s->owed);
	list_insert(&s->pool->owed, &s->owed);
}

/*
 * The bill of a segment ends here. What its store has for it is still counted, until it
 * has answered.
 */
void catalog_segment_give_back(struct catalog *c, struct segment *s, uint64_t at_ns)
{
	if (s->job && s->job->state != JOB_LIVING)
		at_ns = s->job->ended_ns; /* as the bill of the job did */
	if (s->job)
		job_book(c, s->job, -(int64_t)s->held, at_ns);
	leave_lists(c, s);
	list_remove(&s->of_job);
	s->state = SEGMENT_FREEING;
	s->freed_ns = at_ns;
	catalog_segment_dying(s);
	catalog_segment_owe(s);
}

void catalog_segment_seal(struct catalog *c, struct segment *s, uint32_t front, uint32_t back,
			  uint64_t at_ns)
{
	leave_lists(c, s);
	s->front = front;
	s->back = back;
	s->sealed_ns = at_ns;
	s->state = SEGMENT_SEALED;
	hold_bytes(c, s, segment_booked(s->size, front, back), true, at_ns);
	if (s->live == 0) {
		catalog_segment_give_back(c, s, at_ns);
		return;
	}
	catalog_segment_dying(s);
	catalog_segment_owe(s);
}

static void place_leave(struct catalog *c, struct place *p, uint64_t at_ns)
{
	struct segment *s = p->segment;

	assert(s->live >= rounded(p->len));
	s->live -= rounded(p->len);
	list_remove(&p->of_segment);
	if (s->live > 0)
		catalog_segment_dying(s);
	else if (s->state == SEGMENT_SEALED)
		catalog_segment_give_back(c, s, at_ns);
	else if (s->state == SEGMENT_LOST || s->state == SEGMENT_GONE)
		segment_free(c, s);
}

void catalog_live_sub(struct catalog *c, struct piece *p, uint64_t at_ns)
{
	place_leave(c, &p->bytes, at_ns);
	if (p->table.segment)
		place_leave(c, &p->table, at_ns);
}

void place_move(struct catalog *c, struct place *p, struct segment *to, uint32_t offset,
		uint64_t at_ns)
{
	uint32_t len = p->len;

	place_leave(c, p, at_ns);
	place_take(c, p, to, offset, len);
}

void catalog_segment_fence(struct catalog *c, struct segment *s, bool is_gone)
{
	struct session *session;

	SNAPSHOT(segment, s);
	session = TAKE_PTR(s->session);
	list_remove(&s->of_session);
	if (s->request) {
		htable_remove(&c->requests, &s->by_request);
		s->request = 0;
	}
	s->state = SEGMENT_FENCING;
	if (is_gone)
		s->owner = 0;
	catalog_segment_owe(s);
	if (session)
		session_rest(c, session);
}

/* SEGMENTS_OPENED */

uint64_t catalog_request_hash(const struct catalog *c, uint64_t session, uint64_t request)
{
	uint64_t key[2] = { session, request };

	return hash_64(key, sizeof(key), c->seed);
}

/* A store that says so is broken; but it must not break us. */
static bool is_granted_twice(struct slice before, const struct grant *g)
{
	struct rcur at = rcur_make(before.ptr, before.len);
	struct grant other;

	while (at.p < at.end) {
		grant_get(&at, &other);
		if (other.segment == g->segment && other.generation == g->generation)
			return true;
	}
	return false;
}

int segments_opened_reserve(struct catalog *c, struct effect *e)
{
	const struct segments_opened_effect *m = &e->u.segments_opened;
	struct rcur at = rcur_make(m->grants.ptr, m->grants.len);
	struct segment **last = &e->made.segments;

	e->at.job = catalog_job_find(c, m->job);
	if (e->at.job && e->at.job->state != JOB_LIVING)
		e->at.job = NULL;
	if (m->grants.len == 0 || m->grants.len % GRANT_SIZE != 0 || m->grants.len > GRANTS_BYTES)
		return -EBADMSG;
	while (at.p < at.end) {
		struct slice before = { m->grants.ptr, (size_t)(at.p - m->grants.ptr) };
		struct grant g;
		struct segment *s;

		grant_get(&at, &g);
		if (is_granted_twice(before, &g) || g.size < SEGMENT_BYTES_MIN ||
		    g.size > SEGMENT_BYTES_MAX || (g.size & (g.size - 1)) ||
		    catalog_segment_find(c, g.segment, g.generation))
			return -EBADMSG;
		s = node_alloc(sizeof(*s));
		if (!s)
			return -ENOMEM;
		*last = s;
		last = &s->next_new;
		s->claimed = node_alloc(g.size / SEGMENT_ALIGN / 8);
		if (!s->claimed || catalog_pool_reserve(c, g.store) < 0)
			return -ENOMEM;
	}
	return m->session && e->at.job ? session_reserve(c, m->session, &e->made.session) : 0;
}

static void segment_open(struct catalog *c, struct effect *e, struct segment *s,
			 const struct grant *g)
{
	const struct segments_opened_effect *m = &e->u.segments_opened;
	uint64_t *claimed = s->claimed;

	*s = (struct segment){ .job = e->at.job,
			       .pool = catalog_pool_find(c, g->store),
			       .seen = c->snapshot.round,
			       .number = c->next_number++,
			       .id = g->segment,
			       .owner = m->session,
			       .key = g->key,
			       .generation = g->generation,
			       .size = g->size,
			       .back = g->size,
			       .opened_ns = m->stamp_ns,
			       .claimed = claimed };
	s->compared = s->pool->round;
	list_init(&s->of_job);
	list_init(&s->of_session);
	list_init(&s->of_pool);
	list_init(&s->owed);
	list_init(&s->of_dying);
	list_init(&s->places);
	htable_add(&c->segments, &s->by_id, id_hash(c, s->id));
	list_insert(&s->pool->segments, &s->of_pool);
	c->segment_count++;
	hold_bytes(c, s, s->size, true, m->stamp_ns);
	if (!s->job) {
		catalog_segment_give_back(c, s, m->stamp_ns);
		return;
	}
	s->job->segment_count++;
	list_insert(&s->job->segments, &s->of_job);
	if (!m->session)
		return;
	s->session = session_get(c, m->session, &e->made.session);
	list_insert(&s->session->segments, &s->of_session);
	s->request = m->request;
	if (s->request)
		htable_add(&c->requests, &s->by_request,
			   catalog_request_hash(c, s->owner, s->request));
}

void segments_opened_apply(struct catalog *c, struct effect *e)
{
	const struct segments_opened_effect *m = &e->u.segments_opened;
	struct rcur at = rcur_make(m->grants.ptr, m->grants.len);

	while (e->made.segments) {
		struct segment *s = e->made.segments;
		struct grant g;

		grant_get(&at, &g);
		e->made.segments = s->next_new;
		segment_open(c, e, s, &g);
	}
}

/* SEGMENT_SEALED, FENCED, GONE, LOST */

int segment_sealed_reserve(struct catalog *c, struct effect *e)
{
	const struct segment_sealed_effect *m = &e->u.segment_sealed;
	struct segment *s = catalog_segment_find(c, m->segment, m->generation);

	e->at.segment = s;
	if (!s || s->state > SEGMENT_FENCED || m->front > m->back || m->back > s->size)
		return -EBADMSG;
	return 0;
}

void segment_sealed_apply(struct catalog *c, struct effect *e)
{
	if (e->at.segment->job->state != JOB_LIVING) {
		/* Both sides book it as it was at the job's end. */
		catalog_segment_give_back(c, e->at.segment, e->at_ns);
		return;
	}
	catalog_segment_seal(c, e->at.segment, e->u.segment_sealed.front, e->u.segment_sealed.back,
			     e->at_ns);
}

int segment_fenced_reserve(struct catalog *c, struct effect *e)
{
	const struct segment_fenced_effect *m = &e->u.segment_fenced;

	e->at.segment = catalog_segment_find(c, m->segment, m->generation);
	return e->at.segment && e->at.segment->state == SEGMENT_FENCING ? 0 : -EBADMSG;
}

void segment_fenced_apply(struct catalog *c, struct effect *e)
{
	struct segment *s = e->at.segment;

	SNAPSHOT(segment, s);
	s->state = SEGMENT_FENCED;
	s->fenced_ns = e->at_ns;
	list_remove(&s->owed);
	list_insert(&c->fenced, &s->owed);
}

int segment_gone_reserve(struct catalog *c, struct effect *e)
{
	const struct segment_gone_effect *m = &e->u.segment_gone;

	e->at.segment = catalog_segment_find(c, m->segment, m->generation);
	return e->at.segment && e->at.segment->state == SEGMENT_FREEING ? 0 : -EBADMSG;
}

void segment_gone_apply(struct catalog *c, struct effect *e)
{
	struct segment *s = e->at.segment;

	SNAPSHOT(segment, s);
	list_remove(&s->owed);
	s->state = SEGMENT_GONE;
	hold_bytes(c, s, 0, false, e->at_ns);
	if (s->live == 0)
		segment_free(c, s);
}

int segment_lost_reserve(struct catalog *c, struct effect *e)
{
	const struct segment_lost_effect *m = &e->u.segment_lost;

	e->at.segment = catalog_segment_find(c, m->segment, m->generation);
	return e->at.segment && e->at.segment->state < SEGMENT_FREEING ? 0 : -EBADMSG;
}

void segment_lost_apply(struct catalog *c, struct effect *e)
{
	struct segment *s = e->at.segment;

	hold_bytes(c, s, 0, true, e->at_ns);
	leave_lists(c, s);
	list_remove(&s->of_job);
	s->state = SEGMENT_LOST;
	c->has_lost = true;
	catalog_segment_dying(s);
	if (s->live == 0)
		segment_free(c, s);
}
