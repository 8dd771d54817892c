/* SPDX-License-Identifier: Apache-2.0 */
#include "store/janitor.h"

#include "base/container.h"

/* A look that was cut short, so that others have their turn, goes on after so long. */
#define LOOK_ON_NS 10000000ull

/* Nobody is granted what a successor could not find. */
static int make(const struct media *media, struct keep *keep, struct step *s)
{
	int r = s->from == 0 ? keep_make(keep, media, s->size, &s->memory) : 0;

	if (r == 0)
		r = media->fill(&s->memory, s->from, s->to);
	if (r == 0 && s->to == s->size)
		r = keep_put(keep, segment_name(s->index), &s->memory);
	return r;
}

/* Its last piece. What functions touch from now on is nobody's. */
static void end(const struct media *media, struct keep *keep, struct retired *retired,
		struct step *s)
{
	keep_drop(keep, segment_name(s->index));
	if (s->is_exported)
		retired_add(retired, media, &s->memory);
	else
		media->free(&s->memory);
}

void janitor_step(const struct media *media, struct keep *keep, struct retired *retired,
		  struct step *s)
{
	s->result = 0;
	switch (s->kind) {
	case STEP_MAKE:
		s->result = make(media, keep, s);
		break;
	case STEP_REFILL:
		s->result = media->fill(&s->memory, s->from, s->to);
		break;
	case STEP_SCRUB:
		media->scrub(&s->memory, s->from, s->to);
		break;
	case STEP_PUNCH:
		s->result = media->punch(&s->memory, s->from, s->to);
		break;
	case STEP_LOOK:
		s->there = memory_there(&s->memory);
		break;
	case STEP_UNMAKE:
		/* Whoever else maps it has nothing left of it; if that fails, its end takes them.
		 */
		if (s->memory.ptr)
			(void)media->punch(&s->memory, s->from, s->to);
		if (s->to == s->size)
			end(media, keep, retired, s);
		break;
	}
}

static void run(struct work *w)
{
	struct batch *b = container_of(w, struct batch, work);

	for (unsigned i = 0; i < b->count; i++)
		janitor_step(b->janitor->media, b->janitor->keep, b->janitor->retired,
			     &b->steps[i]);
	b->retired = b->janitor->retired->tally;
}

/* How it was when the helper had done something; while there are any, it is to look again. */
static void tell(struct janitor *j, const struct retired_tally *t, uint64_t again_ns)
{
	struct pool_counters *c = &j->pool->counters;

	c->retired_count = t->count;
	/* Beside what the pool counts, of segments in use. */
	c->lingering_bytes += t->lingering_bytes - j->told.lingering_bytes;
	c->punched_again_bytes += t->punched_bytes - j->told.punched_bytes;
	c->let_go_count = t->let_go_count;
	j->told = *t;
	if (t->count > 0 && !j->look.is_away && !timer_is_running(&j->again))
		timer_start(j->loop, &j->again, j->loop->now_ns + again_ns);
}

static void look(struct work *w)
{
	struct look *k = container_of(w, struct look, work);

	k->is_over = retired_look(k->janitor->retired, BATCH_BYTES);
	k->retired = k->janitor->retired->tally;
}

static void looked(struct work *w)
{
	struct look *k = container_of(w, struct look, work);

	k->is_away = false;
	tell(k->janitor, &k->retired, k->is_over ? RETIRED_LOOK_MS * 1000000ull : LOOK_ON_NS);
}

static void look_again(struct timer *t)
{
	struct janitor *j = container_of(t, struct janitor, again);

	j->look.is_away = true;
	helper_do(j->helper, &j->look.work);
}

static void done(struct work *w)
{
	struct batch *b = container_of(w, struct batch, work);
	struct janitor *j = b->janitor;

	pool_done(j->pool, b->steps, b->count, j->loop->now_ns);
	b->count = 0;
	tell(j, &b->retired, RETIRED_LOOK_MS * 1000000ull);
	j->reported(j);
}

int janitor_open(struct janitor *j, struct loop *l, struct pool *p, const struct media *media,
		 struct keep *keep, struct retired *retired, void (*reported)(struct janitor *j))
{
	int r;

	*j = (struct janitor){ .loop = l,
			       .pool = p,
			       .media = media,
			       .keep = keep,
			       .retired = retired,
			       .reported = reported };
	for (unsigned i = 0; i < JANITOR_BATCHES; i++)
		j->batches[i] =
			(struct batch){ .janitor = j, .work = { .run = run, .done = done } };
	j->look = (struct look){ .janitor = j, .work = { .run = look, .done = looked } };
	j->again.fire = look_again;
	r = helper_open(l, "janitor", &j->helper);
	if (r == 0)
		tell(j, &retired->tally, 0); /* what a predecessor gave back */
	return r;
}

void janitor_turn(struct janitor *j)
{
	for (unsigned i = 0; i < JANITOR_BATCHES; i++) {
		struct batch *b = &j->batches[i];

		if (b->count > 0)
			continue;
		b->count = pool_plan(j->pool, b->steps, BATCH_STEPS, BATCH_BYTES, j->loop->now_ns);
		if (b->count == 0)
			return;
		helper_do(j->helper, &b->work);
	}
}

void janitor_close(struct janitor *j)
{
	if (!j->helper)
		return;
	helper_close(j->helper); /* and what it had done is told */
	j->helper = NULL;
	timer_stop(j->loop, &j->again);
}
