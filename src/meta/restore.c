/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore: a slot from the images of a snapshot. They come in the order in which
 * snapshot.c wrote them: what a thing refers to is there before it. What can be
 * counted is counted here. Nothing of it is believed: an image that does not fit what
 * came before is -EBADMSG, and the catalog is good for nothing then but
 * catalog_free().
 */
#include "base/cleanup.h"
#include "base/node.h"
#include "meta/catalog_priv.h"
#include "meta/restore.h"

struct restored {
	struct hlink by_number;
	struct session *session;
};

/* Lists are in the order of a number. Most images come in it, so we look from the end. */
static void insert(struct list *head, struct list *l, uint64_t (*number)(const struct list *l))
{
	struct list *at = head;

	while (at->prev != head && number(at->prev) > number(l))
		at = at->prev;
	list_insert(at, l);
}

#define NUMBER(name, type, link, field)                                          \
	static uint64_t name(const struct list *l)                               \
	{                                                                        \
		return container_of((struct list *)l, struct type, link)->field; \
	}
NUMBER(job_number, job, link, number)
NUMBER(over_number, session, link, over_number)
NUMBER(segment_of_job, segment, of_job, number)
NUMBER(segment_of_session, segment, of_session, number)
NUMBER(segment_fenced, segment, owed, fenced_ns)
NUMBER(hold_of_job, hold, of_job, id)
NUMBER(hold_of_session, hold, of_session, number)
NUMBER(open_of_job, open, of_job, id)
NUMBER(open_of_session, open, of_session, id)
NUMBER(open_dropped, open, debris, dropped_number)
NUMBER(body_number, body, debris, number)

static unsigned __int128 wide(uint64_t hi, uint64_t lo)
{
	return (unsigned __int128)hi << 64 | lo;
}

static int restore_slot(struct restore *r, const struct slot_image *m)
{
	struct catalog *c = r->catalog;

	if (r->has_begun || m->slot != c->slot)
		return -EBADMSG;
	r->has_begun = true;
	r->lsn = m->lsn;
	c->last_ns = m->last_ns;
	c->next_job = m->next_job;
	c->next_id = m->next_id;
	c->next_number = m->next_number;
	c->account = (struct account){ m->bytes, wide(m->moments_hi, m->moments_lo) };
	c->value_account =
		(struct account){ m->value_bytes, wide(m->value_moments_hi, m->value_moments_lo) };
	return 0;
}

static int restore_forgotten(struct restore *r, const struct forgotten_image *m)
{
	r->catalog->forgotten.moments = wide(m->moments_hi, m->moments_lo);
	r->catalog->has_lost = m->has_lost != 0;
	return 0;
}

static void job_by_state(struct catalog *c, struct job *j)
{
	switch (j->state) {
	case JOB_LIVING:
		list_insert(&c->living, &j->link);
		c->job_count++;
		break;
	case JOB_CLEARING:
		insert(&c->clearing, &j->link, job_number);
		break;
	case JOB_ENDED:
		insert(&c->ended, &j->link, job_number);
		c->ended_count++;
		break;
	}
	/* Who was not told of its end, nobody knows any more. */
	if (j->state != JOB_LIVING && c->last_ns - j->ended_ns < 2ull * SESSION_LIFE_MS * MS)
		list_insert(&c->untold, &j->untold);
}

static int restore_job(struct restore *r, const struct job_image *m)
{
	const struct job_made_effect made = { .job = m->id,
					      .attempt = m->attempt,
					      .lease_ms = m->lease_ms,
					      .functions = m->functions,
					      .quota_dram = m->quota,
					      .capacity = m->capacity,
					      .peak_mbps = m->peak_mbps,
					      .is_latency_sensitive = m->is_latency_sensitive,
					      .is_durable = m->is_durable,
					      .name = m->name };
	struct catalog *c = r->catalog;
	struct job *j;
	int err;

	if (m->state > JOB_ENDED || m->version > VERSION_LAST)
		return -EBADMSG;
	err = job_restore(c, &made, m->made_ns, m->state == JOB_LIVING, &j);
	if (err < 0)
		return err;
	j->state = (enum job_state)m->state;
	j->number = m->number;
	j->ended_ns = m->ended_ns;
	j->has_expired = m->has_expired;
	j->account = (struct account){ m->bytes, wide(m->moments_hi, m->moments_lo) };
	j->version = m->version;
	j->forgotten_count = m->forgotten;
	if (j->state == JOB_LIVING)
		heap_add(&c->leases, &j->lease, m->lease_due);
	job_by_state(c, j);
	if (m->block == NONE_32)
		return 0;
	return value_restore_block(c, j, m->block, m->block_used);
}

static struct session *session_of(const struct restore *r, uint64_t number)
{
	struct hlink *l = htable_first(&r->sessions, id_hash(r->catalog, number));

	for (; l; l = htable_next(l)) {
		struct restored *k = container_of(l, struct restored, by_number);

		if (k->session->number == number)
			return k->session;
	}
	return NULL;
}

static int restore_session(struct restore *r, const struct session_image *m)
{
	struct catalog *c = r->catalog;
	struct restored *k;
	struct session *s;

	if (m->number == 0 || m->id == 0 || session_of(r, m->number) ||
	    (m->over_number == 0 && catalog_session_find(c, m->id)))
		return -EBADMSG;
	k = node_alloc(sizeof(*k));
	s = node_alloc(sizeof(*s));
	if (!k || !s) {
		node_free(k);
		node_free(s);
		return -ENOMEM;
	}
	k->session = s;
	htable_add(&r->sessions, &k->by_number, id_hash(c, m->number));
	*s = (struct session){ .id = m->id,
			       .number = m->number,
			       .over_number = m->over_number,
			       .is_gone = m->is_gone != 0 };
	list_init(&s->link);
	list_init(&s->segments);
	list_init(&s->holds);
	list_init(&s->opens);
	if (s->over_number)
		insert(&c->over_sessions, &s->link, over_number);
	else
		htable_add(&c->sessions, &s->by_id, id_hash(c, s->id));
	return 0;
}

static bool segment_is_right(const struct segment_image *m, const struct job *j,
			     const struct session *s)
{
	bool is_written = m->state <= SEGMENT_FENCED;

	return m->size >= SEGMENT_BYTES_MIN && m->size <= SEGMENT_BYTES_MAX &&
	       !(m->size & (m->size - 1)) && m->state <= SEGMENT_GONE && m->front <= m->back &&
	       m->back <= m->size && m->held <= m->size && (j != NULL) == (m->job != 0) &&
	       (s != NULL) == (m->session != 0) && (!s || m->state == SEGMENT_OPEN) &&
	       (j || !is_written);
}

static int restore_segment(struct restore *r, const struct segment_image *m)
{
	struct catalog *c = r->catalog;
	struct job *j = m->job ? catalog_job_find(c, m->job) : NULL;
	struct session *session = m->session ? session_of(r, m->session) : NULL;
	struct segment *s;

	if (!segment_is_right(m, j, session) || catalog_segment_find(c, m->id, m->generation))
		return -EBADMSG;
	if (catalog_pool_reserve(c, m->store) < 0)
		return -ENOMEM;
	s = node_alloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct segment){ .id = m->id,
			       .generation = m->generation,
			       .number = m->number,
			       .job = j,
			       .session = session,
			       .owner = m->owner,
			       .key = m->key,
			       .pool = catalog_pool_find(c, m->store),
			       .size = m->size,
			       .front = m->front,
			       .back = m->back,
			       .held = m->held,
			       .state = (enum segment_state)m->state,
			       .placed = m->placed,
			       .opened_ns = m->opened_ns,
			       .fenced_ns = m->fenced_ns,
			       .sealed_ns = m->sealed_ns,
			       .freed_ns = m->freed_ns };
	if (s->state <= SEGMENT_FENCED) {
		s->claimed = node_alloc(s->size / SEGMENT_ALIGN / 8);
		if (!s->claimed) {
			node_free(s);
			return -ENOMEM;
		}
	}
	list_init(&s->of_job);
	list_init(&s->of_session);
	list_init(&s->of_pool);
	list_init(&s->owed);
	list_init(&s->of_dying);
	list_init(&s->places);
	htable_add(&c->segments, &s->by_id, id_hash(c, s->id));
	c->segment_count++;
	list_insert(&s->pool->segments, &s->of_pool);
	s->pool->bytes += s->held;
	if (j) {
		j->segment_count++;
		j->held_bytes += s->held;
		if (s->state < SEGMENT_FREEING)
			insert(&j->segments, &s->of_job, segment_of_job);
	}
	if (session) {
		insert(&session->segments, &s->of_session, segment_of_session);
		s->request = m->request;
		if (s->request)
			htable_add(&c->requests, &s->by_request,
				   catalog_request_hash(c, s->owner, s->request));
	}
	if (s->state == SEGMENT_FENCED)
		insert(&c->fenced, &s->owed, segment_fenced);
	else
		catalog_segment_owe(s);
	return 0;
}

static int restore_store(struct restore *r, const struct store_image *m)
{
	return catalog_pool_restore(r->catalog, m->store, m->address);
}

static int restore_claims(struct restore *r, const struct claims_image *m)
{
	struct segment *s = catalog_segment_find(r->catalog, m->segment, m->generation);
	uint32_t words = s ? s->size / SEGMENT_ALIGN / 64 : 0;
	struct rcur bits = rcur_make(m->bits.ptr, m->bits.len);

	if (!s || !s->claimed || m->bits.len % 8 != 0 || m->from > words ||
	    m->bits.len / 8 > words - m->from)
		return -EBADMSG;
	for (uint32_t i = m->from; bits.p < bits.end; i++)
		s->claimed[i] = get_u64(&bits);
	return 0;
}

/* Objects. */

static int get_pieces(const struct catalog *c, struct slice extents, struct piece *pieces)
{
	struct rcur at = rcur_make(extents.ptr, extents.len);
	int err = 0;

	for (; at.p < at.end && err == 0; pieces++) {
		struct extent x;

		extent_get(&at, &x);
		*pieces = (struct piece){ .seed = x.seed, .crc = x.crc };
		err = place_restore(&pieces->bytes,
				    catalog_segment_find(c, x.segment, x.generation), x.offset,
				    x.len);
		if (err == 0 && extent_table_count(x.len) > 0)
			err = place_restore(
				&pieces->table,
				catalog_segment_find(c, x.table_segment, x.table_generation),
				x.table_offset, extent_table_count(x.len) * 4);
	}
	return err;
}

static int restore_value(struct catalog *c, const struct entry_image *m, const struct entry *e)
{
	int r = value_reserve(c, m->value, (uint32_t)m->len);

	if (r == 0 && c->is_blank && m->bytes.len == m->len)
		value_write(c, m->value, m->bytes);
	return r < 0 ? r : value_restore(c, e->job, m->value, (uint32_t)m->len);
}

static int entry_content(struct catalog *c, const struct entry_image *m, struct entry *e)
{
	switch ((enum content)e->content) {
	case CONTENT_EMPTY:
		return m->len == 0 ? 0 : -EBADMSG;
	case CONTENT_VALUE:
		*entry_value(e) = (struct value){ .at = m->value, .seed = m->seed, .crc = m->crc };
		return restore_value(c, m, e);
	case CONTENT_PIECE:
		if (m->extents.len != EXTENT_SIZE || get_pieces(c, m->extents, entry_piece(e)) < 0)
			return -EBADMSG;
		return entry_piece(e)->bytes.len == m->len ? 0 : -EBADMSG;
	case CONTENT_BODY:
		break;
	}
	return 0;
}

static struct body *body_new(struct job *j, uint32_t chunk_count)
{
	struct body *b = node_alloc(sizeof(*b) + chunk_count * sizeof(struct chunk *));

	if (!b)
		return NULL;
	list_init(&b->debris);
	b->job = j;
	return b;
}

static int entry_begin(struct catalog *c, const struct entry_image *m, struct entry **ret)
{
	struct entry_plan plan = { .path_len = (uint16_t)m->path.len,
				   .attributes_len = (uint16_t)m->attributes.len,
				   .has_life = m->has_life != 0,
				   .content = (enum content)m->content };
	struct job *j = catalog_job_find(c, m->job);
	struct entry *e;
	const char *why;

	if (!j || m->version > j->version || m->content > CONTENT_BODY || m->tier >= TIER_COUNT ||
	    m->len > OBJECT_BYTES_LAST || m->made_ns > TIME_LAST || !path_is_valid(m->path, &why) ||
	    m->attributes.len > ATTRIBUTES_BYTES_MAX || m->chunk_count > OBJECT_EXTENTS_MAX ||
	    (m->content == CONTENT_VALUE && m->len - 1 >= INLINE_BYTES_MAX) ||
	    (!m->is_ghost && entry_find(c, j, m->path)))
		return -EBADMSG;
	e = entry_alloc(&plan);
	if (!e)
		return -ENOMEM;
	memcpy((uint8_t *)entry_path(e).ptr, m->path.ptr, m->path.len);
	if (m->attributes.len > 0)
		memcpy((uint8_t *)entry_attributes(e).ptr, m->attributes.ptr, m->attributes.len);
	e->job = j;
	entry_set(e, m->version, m->len, m->made_ns);
	e->object = m->version + m->object;
	e->attempt = m->version + m->attempt;
	e->tier = m->tier & 3u;
	e->is_ghost = m->is_ghost != 0;
	*ret = e;
	return 0;
}

/* It becomes part of the catalog only when its chunks and holds are there, so it is kept by us. */
static int restore_entry(struct restore *r, const struct entry_image *m)
{
	struct catalog *c = r->catalog;
	struct directory *d = NULL;
	struct entry *e;
	struct life *life;
	int err = entry_begin(c, m, &e);

	if (err < 0)
		return err;
	life = entry_life(e);
	if (life)
		life->reads = m->reads;
	if (e->content == CONTENT_BODY) {
		*entry_body(e) = body_new(e->job, m->chunk_count);
		err = *entry_body(e) ? 0 : -ENOMEM;
	} else {
		err = entry_content(c, m, e);
	}
	if (err == 0 && !e->is_ghost)
		err = directory_reserve(c, e->job, m->path, &d);
	if (err < 0) {
		if (e->content == CONTENT_BODY)
			node_free(*entry_body(e));
		node_free(e);
		return err;
	}
	if (e->is_ghost) {
		r->ghost = e;
	} else {
		if (life && m->expiry)
			heap_add(&c->expiries, &life->expiry, m->expiry);
		entry_add(c, e, path_hash(c, e->job->id, entry_path(e)), &d);
		if (e->job->state != JOB_LIVING)
			c->object_count--;
	}
	r->entry = e;
	r->body = body_of(e);
	r->chunks_left = m->chunk_count;
	r->chunks_len = 0;
	return m->chunk_count > 0 || !r->body || m->len == 0 ? 0 : -EBADMSG;
}

/* The chunks of an object follow each other, and have its length. */
static bool chunk_fits(struct restore *r, const struct chunk *k)
{
	if (!r->entry)
		return true;
	if (k->first != r->chunks_len)
		return false;
	for (uint32_t i = 0; i < k->count; i++)
		r->chunks_len += k->pieces[i].bytes.len;
	return r->chunks_left > 1 || r->chunks_len == r->entry->len;
}

static int restore_chunk(struct restore *r, const struct chunk_image *m)
{
	uint32_t count = (uint32_t)(m->extents.len / EXTENT_SIZE);
	struct chunk *k;
	int err;

	if (r->chunks_left == 0 || count == 0 || count > EXTENTS_MAX ||
	    m->extents.len % EXTENT_SIZE != 0 || (!r->body && !r->part))
		return -EBADMSG;
	k = node_alloc(sizeof(*k) + count * sizeof(struct piece));
	if (!k)
		return -ENOMEM;
	k->count = count;
	k->first = m->first;
	err = get_pieces(r->catalog, m->extents, k->pieces);
	if (err == 0 && !chunk_fits(r, k))
		err = -EBADMSG;
	if (err < 0) {
		node_free(k);
		return err;
	}
	r->chunks_left--;
	if (r->body) {
		r->body->chunks[r->body->chunk_count++] = k;
		r->body->piece_count += count;
		return 0;
	}
	if (r->part->last)
		r->part->last->next = k;
	else
		r->part->first = k;
	r->part->last = k;
	return 0;
}

static int restore_hold(struct restore *r, const struct hold_image *m)
{
	struct catalog *c = r->catalog;
	struct session *s = session_of(r, m->session);
	struct life *life = r->entry ? entry_life(r->entry) : NULL;
	struct share *spare = NULL;
	struct hold *h;

	if (!r->entry || !s || catalog_hold_find(c, m->id) ||
	    (m->is_read && (!life || life->granted >= life->reads)))
		return -EBADMSG;
	if (share_reserve(c, s, r->entry->job, &spare) < 0)
		return -ENOMEM;
	h = node_alloc(sizeof(*h));
	if (!h) {
		node_free(spare);
		return -ENOMEM;
	}
	*h = (struct hold){ .session = s,
			    .id = m->id,
			    .number = m->number,
			    .request = m->request,
			    .read_hi = m->read_hi,
			    .read_lo = m->read_lo,
			    .touched_ns = c->last_ns,
			    .nth_try = m->nth_try,
			    .is_read = m->is_read != 0 };
	list_init(&h->of_session);
	list_init(&h->of_job);
	hold_hang(c, h, r->entry);
	r->ghost = NULL; /* somebody has it now */
	insert(&s->holds, &h->of_session, hold_of_session);
	insert(&r->entry->job->holds, &h->of_job, hold_of_job);
	share_change(c, s, r->entry->job, 1, 0, &spare);
	hold_add(c, h);
	return 0;
}

static int restore_open(struct restore *r, const struct open_image *m)
{
	struct catalog *c = r->catalog;
	struct session *s = session_of(r, m->session);
	struct job *j = catalog_job_find(c, m->job);
	struct share *spare = NULL;
	struct open *o;

	if (!j || (s == NULL) != (m->dropped_number != 0) || catalog_open_find(c, m->id) ||
	    m->chunk_count > OBJECT_EXTENTS_MAX)
		return -EBADMSG;
	if (s && share_reserve(c, s, j, &spare) < 0)
		return -ENOMEM;
	o = node_alloc(sizeof(*o));
	if (!o) {
		node_free(spare);
		return -ENOMEM;
	}
	open_init(o);
	o->id = m->id;
	o->job = j;
	o->session = s;
	o->request = m->request;
	o->dropped_number = m->dropped_number;
	o->len = m->len;
	o->piece_count = m->piece_count;
	o->chunk_count = m->chunk_count;
	r->open = o;
	r->chunks_left = m->chunk_count;
	if (!s) {
		insert(&c->dropped, &o->debris, open_dropped);
		j->debris_count++;
		return 0;
	}
	share_change(c, s, j, 0, 1, &spare);
	insert(&s->opens, &o->of_session, open_of_session);
	insert(&j->opens, &o->of_job, open_of_job);
	htable_add(&c->opens, &o->by_id, id_hash(c, o->id));
	htable_add(&c->open_requests, &o->by_request, catalog_request_hash(c, s->id, o->request));
	return 0;
}

static int restore_part(struct restore *r, const struct part_image *m)
{
	struct part *spare;

	if (!r->open || m->number >= PARTS_MAX || open_find_part(r->open, m->number))
		return -EBADMSG;
	spare = node_alloc(sizeof(*spare));
	if (!spare)
		return -ENOMEM;
	r->part = open_get_part(r->open, m->number, &spare);
	r->part->len = m->len;
	return 0;
}

static int restore_debris(struct restore *r, const struct debris_image *m)
{
	struct job *j = catalog_job_find(r->catalog, m->job);
	struct body *b;

	if (!j || m->chunk_count > OBJECT_EXTENTS_MAX || m->chunk_count == 0)
		return -EBADMSG;
	b = body_new(j, m->chunk_count);
	if (!b)
		return -ENOMEM;
	b->number = m->number;
	insert(&r->catalog->debris, &b->debris, body_number);
	j->debris_count++;
	r->body = b;
	r->chunks_left = m->chunk_count;
	return 0;
}

static int restore_attempt(struct restore *r, const struct attempt_image *m)
{
	struct job *j = catalog_job_find(r->catalog, m->job);
	struct attempt *a;

	if (!j || m->what > GONE_READ || j->attempt_count >= ATTEMPTS_PER_JOB)
		return -EBADMSG;
	a = attempt_new(j);
	if (!a)
		return -ENOMEM;
	*a = (struct attempt){ .nth = a->nth,
			       .put = m->put,
			       .end = m->end,
			       .version = m->version,
			       .object = m->object,
			       .at_ns = m->at_ns,
			       .what = (uint8_t)m->what,
			       .has_put = m->has_put != 0,
			       .has_end = m->has_end != 0,
			       .is_tombstone = m->is_tombstone != 0 };
	attempt_restore(r->catalog, j, a, m->put_hash, m->end_hash);
	return 0;
}

/* A job pays for what it has, and the jobs together for what the slot has. */
static bool accounts_are_right(const struct catalog *c)
{
	uint64_t all = 0;

	for (struct index_link *l = index_first(&c->job_order); l; l = index_next(l)) {
		const struct job *j = container_of(l, struct job, in_order);
		uint64_t bytes = j->block_count * (uint64_t)VALUE_BLOCK_BYTES;

		for (struct list *i = j->segments.next; i != &j->segments; i = i->next)
			bytes += container_of(i, struct segment, of_job)->held;
		if (j->account.bytes != (j->state == JOB_LIVING ? bytes : 0))
			return false;
		all += j->account.bytes;
	}
	return all == c->account.bytes;
}

static int restore_slot_end(struct restore *r, const struct slot_end_image *m)
{
	const struct catalog *c = r->catalog;
	struct hlink *l = NULL;
	size_t at = 0;

	r->is_whole = true;
	while ((l = htable_walk(&c->segments, &at, l)) != NULL) {
		struct segment *s = container_of(l, struct segment, by_id);

		/* One that is sealed, and of which nothing is live, was given back. */
		if (s->live > s->placed || s->placed > s->size ||
		    (s->state == SEGMENT_SEALED && s->live == 0))
			return -EBADMSG;
		catalog_segment_dying(s);
	}
	if (m->object_count != c->object_count || m->segment_count != c->segment_count ||
	    m->job_count != c->job_count || !accounts_are_right(c))
		return -EBADMSG;
	return 0;
}

/* Who may follow whom: chunks, holds and parts belong to what came before them. */
static int begin(struct restore *r, enum image_kind kind)
{
	if (r->is_whole || (!r->has_begun && kind != IMAGE_SLOT))
		return -EBADMSG;
	if (kind == IMAGE_CHUNK)
		return 0;
	if (kind == IMAGE_PART) {
		r->part = NULL;
		return 0;
	}
	if (r->chunks_left > 0 && !r->open)
		return -EBADMSG;
	if (kind == IMAGE_HOLD)
		return 0;
	if (r->ghost)
		return -EBADMSG; /* nobody holds it */
	r->chunks_left = 0;
	r->entry = NULL;
	r->body = NULL;
	r->open = NULL;
	r->part = NULL;
	return 0;
}

int restore_begin(struct restore *r, struct catalog *c)
{
	*r = (struct restore){ .catalog = c };
	return htable_reserve(&r->sessions);
}

int restore_next(struct restore *r, struct rcur *image)
{
	struct image im;
	int err = image_get(image, &im);

	r->catalog->out = NULL;
	if (err == 0)
		err = begin(r, im.kind);
	if (err < 0)
		return err;
	switch (im.kind) {
#define I(id, NAME, name)  \
	case IMAGE_##NAME: \
		return restore_##name(r, &im.u.name);
		IMAGES(I)
#undef I
	case IMAGE_KINDS:
		break;
	}
	return -EBADMSG;
}

void restore_end(struct restore *r)
{
	struct hlink *l;
	size_t at = 0;

	while ((l = htable_any(&r->sessions, &at)) != NULL) {
		htable_remove(&r->sessions, l);
		node_free(container_of(l, struct restored, by_number));
	}
	htable_fini(&r->sessions);
	if (r->ghost)
		entry_free_now(r->ghost);
	r->ghost = NULL;
}
