/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clean: segments in which much is dead. Who copies their live bytes elsewhere, and when,
 * is not known here: a mover asks what is live, copies it, and says where it is now. What
 * has died meanwhile is left out; the rest is swapped in one effect. Nobody else notices:
 * a reader whose segment is gone looks up once more, under its hold if it has one.
 */
#include "base/cleanup.h"
#include "base/node.h"
#include "meta/catalog_priv.h"

/* A segment of which less than this part is dead costs more to empty than it gives. */
#define DYING_CLASS_MIN 1

uint64_t catalog_dead_bytes(const struct catalog *c, uint64_t store)
{
	const struct pool *p = catalog_pool_find(c, store);

	return p ? p->dead : 0;
}

bool catalog_must_clean(const struct catalog *c, uint64_t store)
{
	const struct pool *p = catalog_pool_find(c, store);

	return p && p->dead > p->bytes / DEAD_SHARE;
}

bool catalog_dying(struct catalog *c, uint64_t store, struct dying *ret)
{
	struct pool *p = catalog_pool_find(c, store);

	for (int i = DYING_CLASSES - 1; p && i >= DYING_CLASS_MIN; i--) {
		struct segment *s;

		if (list_is_empty(&p->dying[i]))
			continue;
		s = container_of(p->dying[i].next, struct segment, of_dying);
		*ret = (struct dying){ .job = s->job->id,
				       .segment = s->id,
				       .dead = s->dead,
				       .generation = s->generation };
		s->is_emptied = true;
		catalog_segment_dying(s);
		return true;
	}
	return false;
}

bool catalog_dying_over(struct catalog *c, const struct dying *d)
{
	struct segment *s = catalog_segment_find(c, d->segment, d->generation);

	if (!s)
		return true;
	s->is_emptied = false;
	catalog_segment_dying(s);
	return s->state != SEGMENT_SEALED;
}

int catalog_places(struct catalog *c, const struct places_req *req, struct wcur *payload,
		   struct outcome *ret)
{
	const struct segment *s = catalog_segment_find(c, req->segment, req->generation);
	struct job *j;
	int r;

	outcome_begin(c, ret);
	r = catalog_job_living(c, req->job, ret, &j);
	if (r < 0)
		return r;
	ret->rep.places = (struct places_rep){ 0 };
	if (!s || s->job != j || s->state != SEGMENT_SEALED)
		return 0; /* on its way out, or not to be emptied */
	ret->rep.places.live = s->live;
	for (struct list *l = s->places.next; l != &s->places; l = l->next) {
		const struct place *p = container_of(l, struct place, of_segment);

		if (ret->rep.places.count == EXTENTS_MAX)
			break;
		place_entry_put(payload,
				&(struct place_entry){ .offset = p->offset, .len = p->len });
		ret->rep.places.count++;
	}
	return 0;
}

/*
 * The place of a segment that begins there, among the first `count`. Places only go from
 * a sealed segment, so what catalog_places() told is still in front.
 */
static struct place *place_find(const struct segment *s, uint32_t offset, uint64_t count)
{
	for (struct list *l = s->places.next; l != &s->places && count > 0; l = l->next, count--) {
		struct place *p = container_of(l, struct place, of_segment);

		if (p->offset == offset)
			return p;
	}
	return NULL;
}

/* PIECES_MOVED */

/* Each a live place of the segment, and to where nothing is yet. */
static int check_moves(struct catalog *c, const struct segment *s, const uint64_t *session,
		       struct slice moves, struct outcome *out)
{
	struct range_check k = { .c = c, .job = s->job, .session = session, .out = out };
	struct rcur at = rcur_make(moves.ptr, moves.len);
	uint32_t seen[EXTENTS_MAX];
	unsigned count = 0;
	int r = 0;

	if (moves.len == 0 || moves.len % MOVE_SIZE != 0 || moves.len > MOVES_BYTES)
		return -EBADMSG;
	while (r == 0 && at.p < at.end) {
		struct move_entry e;
		const struct place *p;

		move_entry_get(&at, &e);
		p = place_find(s, e.offset, UINT64_MAX);
		if (!p || p->len != e.len)
			return -EBADMSG;
		for (unsigned i = 0; i < count; i++)
			if (seen[i] == e.offset)
				return refuse(out, -EINVAL, "bytes are moved twice");
		seen[count++] = e.offset;
		r = range_check(&k, e.to_segment, e.to_generation, e.to_offset, e.len);
	}
	return r;
}

int pieces_moved_reserve(struct catalog *c, struct effect *e)
{
	const struct pieces_moved_effect *m = &e->u.pieces_moved;
	struct segment *s = catalog_segment_find(c, m->segment, m->generation);

	e->at.segment = s;
	if (!s || s->state != SEGMENT_SEALED || check_moves(c, s, NULL, m->moves, NULL) < 0)
		return -EBADMSG;
	return 0;
}

void pieces_moved_apply(struct catalog *c, struct effect *e)
{
	const struct pieces_moved_effect *m = &e->u.pieces_moved;
	struct rcur at = rcur_make(m->moves.ptr, m->moves.len);

	while (at.p < at.end) {
		struct move_entry one;

		move_entry_get(&at, &one);
		place_move(c, place_find(e->at.segment, one.offset, UINT64_MAX),
			   catalog_segment_find(c, one.to_segment, one.to_generation),
			   one.to_offset, e->at_ns);
	}
}

int catalog_move(struct catalog *c, const struct move_req *req, struct slice payload,
		 uint64_t now_ns, struct outcome *ret)
{
	struct effect e = { .kind = EFFECT_PIECES_MOVED, .at_ns = now_ns };
	const struct segment *s = catalog_segment_find(c, req->segment, req->generation);
	struct rcur at = rcur_make(payload.ptr, payload.len);
	uint8_t buf[MOVES_BYTES];
	struct wcur moves = wcur_make(buf, sizeof(buf));
	struct job *j;
	int r;

	outcome_begin(c, ret);
	r = catalog_job_living(c, req->job, ret, &j);
	if (r < 0)
		return r;
	if (req->count == 0 || req->count > EXTENTS_MAX ||
	    payload.len != req->count * (size_t)MOVE_SIZE)
		return refuse(ret, -EINVAL, "from 1 to %u moves, as many as announced",
			      EXTENTS_MAX);
	ret->rep.move.moved = 0;
	/* It has the pieces as they were when it began, and whose they are nobody knows here. */
	if (c->snapshot.is_running)
		return refuse(ret, -EAGAIN, "a snapshot is being taken");
	if (!s || s->job != j || s->state != SEGMENT_SEALED)
		return 0; /* nothing in it is live any more */
	while (at.p < at.end) {
		struct move_entry one;
		const struct place *p;

		move_entry_get(&at, &one);
		p = place_find(s, one.offset, 2 * EXTENTS_MAX);
		if (!p || p->len != one.len)
			continue; /* dead by now */
		move_entry_put(&moves, &one);
		ret->rep.move.moved += one.len;
	}
	if (ret->rep.move.moved == 0)
		return 0;
	e.u.pieces_moved =
		(struct pieces_moved_effect){ .segment = req->segment,
					      .generation = req->generation,
					      .moves = { buf, (size_t)(moves.p - moves.start) } };
	r = check_moves(c, s, &req->session, e.u.pieces_moved.moves, ret);
	return r < 0 ? r : effect_do(c, &e);
}
