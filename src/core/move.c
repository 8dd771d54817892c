/* SPDX-License-Identifier: Apache-2.0 */
/*
 * move: a segment that is to be emptied is asked what is live in it; that is copied to
 * an open segment of the same job, and the slot is told where it is now, a few places at
 * a time. What dies in between is not moved, and nobody who reads waits: the old bytes are
 * there until the slot frees them, and what is pinned until the pin is gone.
 *
 * One segment of a job is filled with what comes from several, so it is kept for a while.
 */
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/container.h"
#include "base/node.h"
#include "core/core_priv.h"

/* Told to the slot at once. */
#define MOVE_BYTES (4u << 20)

/* Segments that are being emptied at once: one for each shard that asks. */
#define MOVES_MAX SHARDS_MAX

/* What a move waits for space, or for an answer. */
#define MOVE_MS 5000

#define TIDY_MS 250

/* Where the live bytes of a job go. It is reserved, so it stays until it is dropped. */
struct target {
	struct list link;
	uint64_t job, used_ns, moved;
	struct segment *segment;
	bool is_busy;
};

struct mover {
	struct core *core;
	void (*emptied)(void *owner, uint64_t segment, uint32_t generation, int result);
	void *owner; /* not ours */
	struct list targets, moves;
	unsigned move_count;
	struct timer tidy;
	struct mover_counters counters;
};

/* One segment that is being emptied. */
struct move {
	struct fiber fiber;
	struct list link;
	struct mover *mover;
	struct target *target;
	uint64_t job, segment;
	uint32_t generation;
	int result;

	uint32_t piece_left;   /* may be copied before others run */
	uint32_t count, bytes; /* copied, and the slot not told yet */
	struct move_entry entries[EXTENTS_MAX];
};

static uint64_t due_of(const struct move *v)
{
	return v->mover->core->loop->now_ns + MOVE_MS * 1000000ull;
}

/* Targets. */

static void target_drop(struct target *t)
{
	struct segment *s = TAKE_PTR(t->segment);

	if (!s)
		return;
	segment_seal(s);
	segment_unreserved(s);
}

static void target_free(struct target *t)
{
	target_drop(t);
	list_remove(&t->link);
	node_free(t);
}

static struct target *target_of(struct mover *m, uint64_t job)
{
	struct target *t;

	for (struct list *l = m->targets.next; l != &m->targets; l = l->next) {
		t = container_of(l, struct target, link);
		if (t->job == job)
			return t;
	}
	t = node_alloc(sizeof(*t));
	if (!t)
		return NULL;
	t->job = job;
	list_init(&t->link);
	list_insert(&m->targets, &t->link);
	return t;
}

/* What nothing was moved into for a while is sealed, as a writer's is. */
static void tidy(struct timer *timer)
{
	struct mover *m = container_of(timer, struct mover, tidy);
	uint64_t now_ns = m->core->loop->now_ns;

	timer_start(m->core->loop, timer, now_ns + TIDY_MS * 1000000ull);
	for (struct list *l = m->targets.next, *next; l != &m->targets; l = next) {
		struct target *t = container_of(l, struct target, link);

		next = l->next;
		if (!t->is_busy && now_ns - t->used_ns > SEGMENT_IDLE_MS * 1000000ull)
			target_free(t);
	}
}

static int target_lease(struct move *v, uint32_t len, uint64_t live)
{
	struct target *t = v->target;
	const struct want want = { .job = v->job,
				   .need = len,
				   .size = segment_size_after(live > len ? live : len, t->moved),
				   .is_move = true };
	char why[8];
	int r;

	target_drop(t);
	r = segments_lease(v->mover->core, &want, due_of(v), &t->segment, 1, why, sizeof(why));
	if (r < 0) {
		t->segment = NULL;
		return r;
	}
	segment_reserved(t->segment);
	return t->segment->size < len ? -ENOSPC : 0;
}

/* The slot. */

/* What it does not know yet: nobody but us does, and it may be copied again. */
static int flush(struct move *v)
{
	struct core *c = v->mover->core;
	uint8_t buf[MOVES_BYTES];
	struct wcur moves = wcur_make(buf, sizeof(buf));
	struct move_rep rep;
	struct rcur body;
	struct ask a;
	struct wcur w;
	int r;

	if (v->count == 0)
		return 0;
	for (uint32_t i = 0; i < v->count; i++)
		move_entry_put(&moves, &v->entries[i]);
	w = ask_begin(c, &a, MSG_MOVE, slot_of_id(v->job));
	move_req_put(&w, &(struct move_req){ .job = v->job,
					     .segment = v->segment,
					     .generation = v->generation,
					     .count = v->count });
	v->count = v->bytes = 0;
	r = ask_wait(&a, &w,
		     &(struct payload){ .ptr = buf, .len = (size_t)(moves.p - moves.start) },
		     due_of(v));
	body = ask_reply(&a);
	if (r == 0)
		r = move_rep_get(&body, &rep);
	if (r == 0)
		v->mover->counters.moved_bytes += rep.moved;
	ask_end(&a);
	return r;
}

static int places_get(struct move *v, struct place_entry *ret, uint32_t *ret_count,
		      uint64_t *ret_live)
{
	uint8_t room[PLACES_BYTES];
	struct places_rep rep;
	struct rcur body, list;
	struct ask a;
	struct wcur w = ask_begin(v->mover->core, &a, MSG_PLACES, slot_of_id(v->job));
	int r;

	a.call.room = room;
	a.call.room_cap = sizeof(room);
	places_req_put(&w, &(struct places_req){ .job = v->job,
						 .segment = v->segment,
						 .generation = v->generation });
	r = ask_wait(&a, &w, NULL, due_of(v));
	body = ask_reply(&a);
	if (r == 0)
		r = places_rep_get(&body, &rep);
	if (r == 0 && (rep.count > EXTENTS_MAX || a.call.room_len != rep.count * PLACE_SIZE))
		r = -EBADMSG;
	list = rcur_make(room, a.call.room_len);
	for (uint32_t i = 0; r == 0 && i < rep.count; i++)
		place_entry_get(&list, &ret[i]);
	if (r == 0) {
		*ret_count = rep.count;
		*ret_live = rep.live;
	}
	ask_end(&a);
	return r;
}

/* Bytes. */

/*
 * Others run whenever a piece has been copied, of one place or of many: a turn for each small
 * object would take longer than all else. Both ends are pinned meanwhile.
 */
static int copy(struct move *v, uint8_t *to, const uint8_t *from, uint32_t len)
{
	for (uint32_t at = 0, n; at < len; at += n) {
		n = len - at < v->piece_left ? len - at : v->piece_left;
		memcpy(to + at, from + at, n);
		v->piece_left -= n;
		if (v->piece_left > 0)
			continue;
		v->piece_left = LOOP_PIECE;
		if (fiber_yield(&v->mover->core->loop->fibers) < 0)
			return -ECANCELED;
	}
	return 0;
}

/* Room for it in the target; a piece of a large object stays on a page. */
static int place_room(struct move *v, const struct place_entry *p, uint64_t live,
		      uint32_t *ret_offset)
{
	bool is_paged = p->offset % SEGMENT_PAGE == 0 && p->len > CHECK_PIECE;
	struct target *t = v->target;
	int r = t->segment ? segment_take(t->segment, p->len, is_paged, ret_offset) : -EAGAIN;

	if (r < 0) {
		/* Before it is sealed the slot hears what is in it. */
		r = flush(v);
		if (r == 0)
			r = target_lease(v, p->len, live);
		if (r == 0)
			r = segment_take(t->segment, p->len, is_paged, ret_offset);
	}
	return r;
}

static int place_copy(struct move *v, const struct place_entry *p, uint64_t live)
{
	struct core *c = v->mover->core;
	const struct reach_ops *ops = c->config.reach_ops;
	struct segment *s;
	uint8_t *from, *to;
	uint32_t offset;
	int r = place_room(v, p, live, &offset);

	if (r < 0)
		return r;
	s = v->target->segment;
	v->target->used_ns = c->loop->now_ns;
	r = ops->pin(c->config.reach, v->job, v->segment, v->generation, p->offset, p->len, &from);
	if (r < 0)
		return r;
	r = ops->pin_to_write(c->config.reach, s->job, s->id, s->generation, s->key, offset, p->len,
			      &to);
	if (r == 0) {
		r = copy(v, to, from, p->len);
		ops->unpin(c->config.reach, s->id, true);
	}
	ops->unpin(c->config.reach, v->segment, false);
	if (r < 0)
		return r;
	v->entries[v->count++] = (struct move_entry){ .offset = p->offset,
						      .len = p->len,
						      .to_segment = s->id,
						      .to_generation = s->generation,
						      .to_offset = offset };
	v->bytes += p->len;
	v->target->moved += p->len;
	return 0;
}

static int move_some(struct move *v, bool *ret_is_empty)
{
	struct place_entry places[EXTENTS_MAX];
	uint32_t count = 0;
	uint64_t live = 0;
	int r = places_get(v, places, &count, &live);

	*ret_is_empty = count == 0;
	for (uint32_t i = 0; r == 0 && i < count; i++) {
		r = place_copy(v, &places[i], live);
		if (r == 0)
			live -= places[i].len < live ? places[i].len : live;
		if (r == 0 && v->bytes >= MOVE_BYTES)
			r = flush(v);
	}
	return r == 0 ? flush(v) : r;
}

static void move_run(struct fiber *self)
{
	struct move *v = container_of(self, struct move, fiber);
	bool is_empty = false;
	int r = 0;

	while (r == 0 && !is_empty)
		r = move_some(v, &is_empty);
	/* The target was fenced or is gone, and so is what was not told: another, next time. */
	if (r < 0)
		target_drop(v->target);
	v->result = r;
}

static void move_ended(struct fiber *self)
{
	struct move *v = container_of(self, struct move, fiber);
	struct mover *m = v->mover;

	v->target->is_busy = false;
	v->target->used_ns = m->core->loop->now_ns;
	list_remove(&v->link);
	m->move_count--;
	m->counters.emptied_count += v->result == 0;
	m->emptied(m->owner, v->segment, v->generation, v->result);
	node_free(v);
}

int mover_empty(struct mover *m, uint64_t job, uint64_t segment, uint32_t generation)
{
	struct target *t;
	struct move *v;

	if (m->move_count == MOVES_MAX || m->core->is_closing)
		return -EAGAIN;
	t = target_of(m, job);
	if (!t)
		return -ENOMEM;
	if (t->is_busy)
		return -EAGAIN;
	t->used_ns = m->core->loop->now_ns;
	v = node_alloc(sizeof(*v));
	if (!v)
		return -ENOMEM;
	v->mover = m;
	v->target = t;
	v->job = job;
	v->segment = segment;
	v->generation = generation;
	v->piece_left = LOOP_PIECE;
	if (fiber_start(&m->core->loop->fibers, &v->fiber, move_run, move_ended) < 0) {
		node_free(v);
		return -EAGAIN;
	}
	t->is_busy = true;
	list_init(&v->link);
	list_insert(&m->moves, &v->link);
	m->move_count++;
	return 0;
}

int mover_open(struct core *c,
	       void (*emptied)(void *owner, uint64_t segment, uint32_t generation, int result),
	       void *owner, struct mover **ret)
{
	struct mover *m;

	if (!c->config.reach)
		return -EOPNOTSUPP;
	m = node_alloc(sizeof(*m));
	if (!m)
		return -ENOMEM;
	*m = (struct mover){
		.core = c, .emptied = emptied, .owner = owner, .tidy = { .fire = tidy }
	};
	list_init(&m->targets);
	list_init(&m->moves);
	timer_start(c->loop, &m->tidy, c->loop->now_ns + TIDY_MS * 1000000ull);
	*ret = m;
	return 0;
}

const struct mover_counters *mover_counters(const struct mover *m)
{
	return &m->counters;
}

void mover_stop(struct mover *m)
{
	if (!m)
		return;
	timer_stop(m->core->loop, &m->tidy);
	for (struct list *l = m->moves.next; l != &m->moves; l = l->next)
		fiber_cancel(&container_of(l, struct move, link)->fiber);
}

void mover_close(struct mover *m)
{
	if (!m)
		return;
	timer_stop(m->core->loop, &m->tidy);
	while (!list_is_empty(&m->targets))
		target_free(container_of(m->targets.next, struct target, link));
	node_free(m);
}
