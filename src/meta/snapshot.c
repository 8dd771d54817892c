/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot: images of all things of a slot, as they were at one moment, taken in small
 * steps while requests go on.
 *
 * Everything has a mark, the round of the snapshot that has seen it. A step looks at
 * the next few things and writes those that were not seen in this round. Who is about
 * to change a thing, or to free it, first calls snapshot_x() for it, which writes it as
 * it still is; what is made meanwhile is born with the mark. So each thing is written
 * once, as it was at the beginning, and what it refers to is written before it.
 *
 *	jobs --> for each job: entries with their holds, attempts, opens, ghosts
 *	     --> debris, dropped --> stores, segments --> SLOT_END
 *
 * A list is walked with one finger, `at`: snapshot_leave() moves it off what leaves.
 */
#include "base/node.h"
#include "meta/catalog_priv.h"

/* Of a CLAIMS image: 64 KiB of segment per 128 bytes. */
#define CLAIM_WORDS 256

static void put(struct catalog *c, const struct image *im)
{
	c->snapshot.put(c->snapshot.owner, im);
}

/* True once for each thing and round. */
static bool must_write(const struct catalog *c, uint8_t *seen)
{
	if (*seen == c->snapshot.round)
		return false;
	*seen = c->snapshot.round;
	return true;
}

void snapshot_job_now(struct catalog *c, struct job *j)
{
	const struct value_block *b = NULL;
	struct image im = { .kind = IMAGE_JOB };

	if (!must_write(c, &j->seen))
		return;
	if (j->block != NONE_32)
		b = &c->values[j->block / VALUE_BLOCKS]->blocks[j->block % VALUE_BLOCKS];
	im.u.job = (struct job_image){
		.id = j->id,
		.number = j->number,
		.attempt = j->attempt,
		.state = (uint16_t)j->state,
		.has_expired = j->has_expired,
		.made_ns = j->made_ns,
		.ended_ns = j->ended_ns,
		.lease_due = heap_has(&j->lease) ? j->lease.due : 0,
		.lease_ms = j->lease_ms,
		.functions = j->functions,
		.peak_mbps = j->peak_mbps,
		.is_latency_sensitive = j->is_latency_sensitive,
		.is_durable = j->is_durable,
		.quota = j->quota,
		.capacity = j->capacity,
		.bytes = j->account.bytes,
		.moments_hi = (uint64_t)(j->account.moments >> 64),
		.moments_lo = (uint64_t)j->account.moments,
		.version = j->version,
		.forgotten = j->forgotten_count,
		.block = j->block,
		.block_used = b ? b->used : 0,
		.name = job_name(j),
	};
	put(c, &im);
}

void snapshot_session_now(struct catalog *c, struct session *s)
{
	struct image im = { .kind = IMAGE_SESSION };

	if (!must_write(c, &s->seen))
		return;
	im.u.session = (struct session_image){ .number = s->number,
					       .id = s->id,
					       .over_number = s->over_number,
					       .is_gone = s->is_gone };
	put(c, &im);
}

static void put_claims(struct catalog *c, const struct segment *s)
{
	uint32_t words = s->size / SEGMENT_ALIGN / 64;
	uint8_t bits[CLAIM_WORDS * 8];

	for (uint32_t from = 0; from < words; from += CLAIM_WORDS) {
		uint32_t n = words - from < CLAIM_WORDS ? words - from : CLAIM_WORDS;
		struct wcur w = wcur_make(bits, sizeof(bits));
		struct image im = { .kind = IMAGE_CLAIMS };
		uint64_t any = 0;

		for (uint32_t i = from; i < from + n; i++) {
			put_u64(&w, s->claimed[i]);
			any |= s->claimed[i];
		}
		im.u.claims = (struct claims_image){ .segment = s->id,
						     .generation = s->generation,
						     .from = from,
						     .bits = { bits, n * 8 } };
		if (any)
			put(c, &im);
	}
}

void snapshot_segment_now(struct catalog *c, struct segment *s)
{
	struct image im = { .kind = IMAGE_SEGMENT };

	if (!must_write(c, &s->seen))
		return;
	if (s->job)
		snapshot_job_now(c, s->job);
	if (s->session)
		snapshot_session_now(c, s->session);
	im.u.segment = (struct segment_image){
		.id = s->id,
		.generation = s->generation,
		.number = s->number,
		.job = s->job ? s->job->id : 0,
		.session = s->session ? s->session->number : 0,
		.owner = s->owner,
		.request = s->request,
		.key = s->key,
		.store = s->pool->store,
		.size = s->size,
		.front = s->front,
		.back = s->back,
		.held = s->held,
		.state = (uint16_t)s->state,
		.placed = s->placed,
		.opened_ns = s->opened_ns,
		.fenced_ns = s->fenced_ns,
		.sealed_ns = s->sealed_ns,
		.freed_ns = s->freed_ns,
	};
	put(c, &im);
	if (s->claimed)
		put_claims(c, s);
}

void snapshot_pool_now(struct catalog *c, struct pool *p)
{
	struct image im = { .kind = IMAGE_STORE };

	if (!must_write(c, &p->seen) || p->address[0] == '\0')
		return;
	im.u.store = (struct store_image){
		.store = p->store,
		.address = { (const uint8_t *)p->address, strlen(p->address) },
	};
	put(c, &im);
}

/* What pieces refer to. */
static void see_piece(struct catalog *c, const struct piece *p)
{
	snapshot_segment_now(c, p->bytes.segment);
	if (p->table.segment)
		snapshot_segment_now(c, p->table.segment);
}

static void see_chunk(struct catalog *c, const struct chunk *k)
{
	for (uint32_t i = 0; i < k->count; i++)
		see_piece(c, &k->pieces[i]);
}

static void put_chunk(struct catalog *c, const struct chunk *k)
{
	uint8_t extents[EXTENTS_BYTES];
	struct wcur w = wcur_make(extents, sizeof(extents));
	struct image im = { .kind = IMAGE_CHUNK };

	for (uint32_t i = 0; i < k->count; i++) {
		struct extent x;

		extent_of_piece(&k->pieces[i], &x);
		extent_put(&w, &x);
	}
	im.u.chunk = (struct chunk_image){ .first = k->first,
					   .extents = { extents, (size_t)(w.p - extents) } };
	put(c, &im);
}

static void see_content(struct catalog *c, const struct entry *e)
{
	const struct body *b = body_of(e);

	snapshot_job_now(c, e->job);
	for (const struct hold *h = hold_first(c, e); h; h = hold_next(h))
		snapshot_session_now(c, h->session);
	if (e->content == CONTENT_PIECE)
		see_piece(c, entry_piece(e));
	for (uint32_t i = 0; b && i < b->chunk_count; i++)
		see_chunk(c, b->chunks[i]);
}

static void put_hold(struct catalog *c, const struct hold *h)
{
	struct image im = { .kind = IMAGE_HOLD };

	im.u.hold = (struct hold_image){ .id = h->id,
					 .number = h->number,
					 .session = h->session->number,
					 .request = h->request,
					 .read_hi = h->read_hi,
					 .read_lo = h->read_lo,
					 .nth_try = h->nth_try,
					 .is_read = h->is_read };
	put(c, &im);
}

static void put_entry(struct catalog *c, const struct entry *e)
{
	const struct life *life = entry_life(e);
	const struct body *b = body_of(e);
	uint8_t extent[EXTENT_SIZE];
	struct image im = { .kind = IMAGE_ENTRY };
	struct entry_image *m = &im.u.entry;
	struct wcur w = wcur_make(extent, sizeof(extent));
	struct extent x;

	*m = (struct entry_image){ .job = e->job->id,
				   .object = e->object - e->version,
				   .version = e->version,
				   .len = e->len,
				   .made_ns = e->made_ns,
				   .attempt = e->attempt - e->version,
				   .tier = e->tier,
				   .content = e->content,
				   .is_ghost = e->is_ghost,
				   .has_life = e->has_life,
				   .reads = life ? life->reads : 0,
				   .expiry = life && heap_has(&life->expiry) ? life->expiry.due : 0,
				   .chunk_count = b ? b->chunk_count : 0,
				   .path = entry_path(e),
				   .attributes = entry_attributes(e) };
	if (e->content == CONTENT_VALUE) {
		m->value = entry_value(e)->at;
		m->seed = entry_value(e)->seed;
		m->crc = entry_value(e)->crc;
		if (e->job->is_durable)
			m->bytes = (struct slice){ value_bytes(c, m->value), e->len };
	} else if (e->content == CONTENT_PIECE) {
		extent_of_piece(entry_piece(e), &x);
		extent_put(&w, &x);
		m->extents = (struct slice){ extent, sizeof(extent) };
	}
	put(c, &im);
	for (uint32_t i = 0; b && i < b->chunk_count; i++)
		put_chunk(c, b->chunks[i]);
	for (const struct hold *h = hold_first(c, e); h; h = hold_next(h))
		put_hold(c, h);
}

void snapshot_entry_now(struct catalog *c, struct entry *e)
{
	uint8_t seen = e->seen;

	if (!must_write(c, &seen))
		return;
	e->seen = seen;
	see_content(c, e);
	put_entry(c, e);
}

void snapshot_open_now(struct catalog *c, struct open *o)
{
	struct image im = { .kind = IMAGE_OPEN };
	struct index_link *l;

	if (!must_write(c, &o->seen))
		return;
	snapshot_job_now(c, o->job);
	if (o->session)
		snapshot_session_now(c, o->session);
	for (l = index_first(&o->parts); l; l = index_next(l))
		for (const struct chunk *k = container_of(l, struct part, in_open)->first; k;
		     k = k->next)
			see_chunk(c, k);
	im.u.open = (struct open_image){ .id = o->id,
					 .job = o->job->id,
					 .session = o->session ? o->session->number : 0,
					 .request = o->request,
					 .dropped_number = o->dropped_number,
					 .len = o->len,
					 .piece_count = o->piece_count,
					 .chunk_count = o->chunk_count };
	put(c, &im);
	for (l = index_first(&o->parts); l; l = index_next(l)) {
		const struct part *p = container_of(l, struct part, in_open);

		im = (struct image){ .kind = IMAGE_PART,
				     .u.part = { .number = p->number, .len = p->len } };
		put(c, &im);
		for (const struct chunk *k = p->first; k; k = k->next)
			put_chunk(c, k);
	}
}

void snapshot_debris_now(struct catalog *c, struct body *b)
{
	struct image im = { .kind = IMAGE_DEBRIS };

	if (!must_write(c, &b->seen))
		return;
	snapshot_job_now(c, b->job);
	for (uint32_t i = 0; i < b->chunk_count; i++)
		see_chunk(c, b->chunks[i]);
	im.u.debris = (struct debris_image){ .job = b->job->id,
					     .number = b->number,
					     .chunk_count = b->chunk_count };
	put(c, &im);
	for (uint32_t i = 0; i < b->chunk_count; i++)
		put_chunk(c, b->chunks[i]);
}

static void put_attempt(struct catalog *c, const struct job *j, struct attempt *a)
{
	struct image im = { .kind = IMAGE_ATTEMPT };

	if (!must_write(c, &a->seen))
		return;
	im.u.attempt = (struct attempt_image){
		.job = j->id,
		.put_hash = a->by_put.hash,
		.end_hash = a->by_end.hash,
		.put = a->put,
		.end = a->end,
		.version = a->version,
		.object = a->object,
		.at_ns = a->at_ns,
		.what = a->what,
		.has_put = a->has_put,
		.has_end = a->has_end,
		.is_tombstone = a->is_tombstone || a->was_tombstone,
	};
	a->was_tombstone = false;
	put(c, &im);
}

void snapshot_attempt_now(struct catalog *c, struct job *j, struct attempt *a)
{
	snapshot_job_now(c, j);
	put_attempt(c, j, a);
}

void snapshot_tombstone_now(struct catalog *c, struct attempt *a)
{
	if (a->seen != c->snapshot.round)
		a->was_tombstone = true;
}

/* Steps. */

void snapshot_leave_now(struct catalog *c, struct list *l)
{
	if (c->snapshot.at == l)
		c->snapshot.at = l->next;
}

enum {
	PHASE_JOBS,
	PHASE_ENTRIES,
	PHASE_ATTEMPTS,
	PHASE_OPENS,
	PHASE_HOLDS,
	PHASE_DEBRIS,
	PHASE_DROPPED,
	PHASE_SEGMENTS,
	PHASE_END
};

static void slot_image(const struct catalog *c, struct slot_image *ret)
{
	*ret = (struct slot_image){
		.slot = c->slot,
		.lsn = c->snapshot.lsn,
		.last_ns = c->last_ns,
		.next_job = c->next_job,
		.next_id = c->next_id,
		.next_number = c->next_number,
		.bytes = c->account.bytes,
		.moments_hi = (uint64_t)(c->account.moments >> 64),
		.moments_lo = (uint64_t)c->account.moments,
		.value_bytes = c->value_account.bytes,
		.value_moments_hi = (uint64_t)(c->value_account.moments >> 64),
		.value_moments_lo = (uint64_t)c->value_account.moments,
	};
}

void catalog_snapshot_begin(struct catalog *c, uint64_t lsn,
			    void (*put_image)(void *owner, const struct image *im), void *owner)
{
	struct snapshot *s = &c->snapshot;
	struct image im = { .kind = IMAGE_SLOT };

	s->is_running = true;
	if (++s->round == 0)
		s->round = 1; /* 0 is what was never seen */
	s->phase = PHASE_JOBS;
	s->job_len = s->path_len = 0;
	s->at = NULL;
	s->lsn = lsn;
	s->put = put_image;
	s->owner = owner;
	s->end = (struct slot_end_image){ .object_count = c->object_count,
					  .segment_count = c->segment_count,
					  .job_count = c->job_count };
	slot_image(c, &im.u.slot);
	put(c, &im);
	if (c->forgotten.moments == 0 && !c->has_lost)
		return;
	im = (struct image){ .kind = IMAGE_FORGOTTEN };
	im.u.forgotten = (struct forgotten_image){
		.moments_hi = (uint64_t)(c->forgotten.moments >> 64),
		.moments_lo = (uint64_t)c->forgotten.moments,
		.has_lost = c->has_lost,
	};
	put(c, &im);
}

void catalog_snapshot_stop(struct catalog *c)
{
	c->snapshot.is_running = false;
	c->snapshot.at = NULL;
}

bool catalog_snapshot_is_running(const struct catalog *c)
{
	return c->snapshot.is_running;
}

/* The job that is walked, or the next one if that is gone; NULL behind the last. */
static struct job *walked_job(struct catalog *c)
{
	struct snapshot *s = &c->snapshot;
	struct index_link *l =
		index_seek(&c->job_order, (struct slice){ s->job, s->job_len }, false);
	struct job *j = l ? container_of(l, struct job, in_order) : NULL;

	if (j &&
	    (s->job_len != j->name_len + 1u + 8u || memcmp(s->job, j->name, s->job_len) != 0)) {
		s->job_len = j->name_len + 1u + 8u;
		memcpy(s->job, j->name, s->job_len);
		s->path_len = 0;
		s->at = NULL;
		s->phase = PHASE_ENTRIES;
	}
	return j;
}

static void next_job(struct catalog *c)
{
	/* The least key above this one: keys of jobs have no byte below it at their end. */
	c->snapshot.job[c->snapshot.job_len++] = 0;
	c->snapshot.path_len = 0;
	c->snapshot.at = NULL;
	c->snapshot.phase = PHASE_ENTRIES;
}

static bool step_jobs(struct catalog *c, unsigned n)
{
	struct snapshot *s = &c->snapshot;
	struct index_link *l =
		index_seek(&c->job_order, (struct slice){ s->job, s->job_len }, s->job_len > 0);

	for (; l && n > 0; l = index_next(l), n--) {
		struct job *j = container_of(l, struct job, in_order);

		snapshot_job_now(c, j);
		s->job_len = j->name_len + 1u + 8u;
		memcpy(s->job, j->name, s->job_len);
	}
	return l != NULL;
}

static bool step_entries(struct catalog *c, struct job *j, unsigned n)
{
	struct snapshot *s = &c->snapshot;
	struct index_link *l =
		index_seek(&j->index, (struct slice){ s->path, s->path_len }, s->path_len > 0);

	for (; l && n > 0; l = index_next(l), n--) {
		struct slice path = entry_path(entry_of(l));

		snapshot_entry_now(c, entry_of(l));
		memcpy(s->path, path.ptr, path.len);
		s->path_len = path.len;
	}
	return l != NULL;
}

/* The next of a list; NULL at its end. */
static struct list *step_list(struct catalog *c, struct list *head)
{
	struct list *l = c->snapshot.at ? c->snapshot.at : head->next;

	c->snapshot.at = l == head ? NULL : l->next;
	return l == head ? NULL : l;
}

static bool step_attempts(struct catalog *c, struct job *j, unsigned n)
{
	struct list *l = NULL;

	while (n-- > 0 && (l = step_list(c, &j->attempts)) != NULL)
		put_attempt(c, j, container_of(l, struct attempt, link));
	return l != NULL;
}

static bool step_opens(struct catalog *c, struct job *j, unsigned n)
{
	struct list *l = NULL;

	while (n-- > 0 && (l = step_list(c, &j->opens)) != NULL)
		snapshot_open_now(c, container_of(l, struct open, of_job));
	return l != NULL;
}

static bool step_holds(struct catalog *c, struct job *j, unsigned n)
{
	struct list *l = NULL;

	while (n-- > 0 && (l = step_list(c, &j->holds)) != NULL)
		snapshot_entry_now(c, container_of(l, struct hold, of_job)->entry);
	return l != NULL;
}

static bool step_debris(struct catalog *c, unsigned n)
{
	struct list *l = NULL;

	while (n-- > 0 && (l = step_list(c, &c->debris)) != NULL)
		snapshot_debris_now(c, container_of(l, struct body, debris));
	return l != NULL;
}

static bool step_dropped(struct catalog *c, unsigned n)
{
	struct list *l = NULL;

	while (n-- > 0 && (l = step_list(c, &c->dropped)) != NULL)
		snapshot_open_now(c, container_of(l, struct open, debris));
	return l != NULL;
}

/* Pools stay where they are; `pool` counts those that are done. */
static bool step_segments(struct catalog *c, unsigned n)
{
	struct list *l = c->pools.next, *at = NULL;
	struct pool *p;

	for (unsigned i = 0; i < c->snapshot.pool && l != &c->pools; i++)
		l = l->next;
	if (l == &c->pools)
		return false;
	p = container_of(l, struct pool, link);
	snapshot_pool_now(c, p);
	while (n-- > 0 && (at = step_list(c, &p->segments)) != NULL)
		snapshot_segment_now(c, container_of(at, struct segment, of_pool));
	if (!at)
		c->snapshot.pool++;
	return true;
}

static void of_one_job(struct catalog *c, unsigned n)
{
	struct snapshot *s = &c->snapshot;
	struct job *j = walked_job(c);

	if (!j) {
		s->phase = PHASE_DEBRIS;
		s->at = NULL;
	} else if (s->phase == PHASE_ENTRIES) {
		s->phase += !step_entries(c, j, n);
	} else if (s->phase == PHASE_ATTEMPTS) {
		s->phase += !step_attempts(c, j, n);
	} else if (s->phase == PHASE_OPENS) {
		s->phase += !step_opens(c, j, n);
	} else if (!step_holds(c, j, n)) {
		next_job(c);
	}
}

bool catalog_snapshot_step(struct catalog *c, unsigned n)
{
	struct snapshot *s = &c->snapshot;
	struct image im = { .kind = IMAGE_SLOT_END, .u.slot_end = s->end };

	switch (s->phase) {
	case PHASE_JOBS:
		if (!step_jobs(c, n)) {
			s->phase = PHASE_ENTRIES;
			s->job_len = 0;
		}
		return true;
	case PHASE_ENTRIES:
	case PHASE_ATTEMPTS:
	case PHASE_OPENS:
	case PHASE_HOLDS:
		of_one_job(c, n);
		return true;
	case PHASE_DEBRIS:
		s->phase += !step_debris(c, n);
		return true;
	case PHASE_DROPPED:
		s->phase += !step_dropped(c, n);
		s->pool = 0;
		return true;
	case PHASE_SEGMENTS:
		s->phase += !step_segments(c, n);
		return true;
	default:
		put(c, &im);
		catalog_snapshot_stop(c);
		return false;
	}
}
