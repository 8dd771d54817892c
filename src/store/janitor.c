/* SPDX-License-Identifier: Apache-2.0 */
#include "store/janitor.h"

#include "base/container.h"

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

void janitor_step(const struct media *media, struct keep *keep, struct step *s)
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
	case STEP_UNMAKE:
		/* Whoever else maps it has nothing left of it; if that fails, its end takes them.
		 */
		if (s->memory.ptr)
			(void)media->punch(&s->memory, s->from, s->to);
		if (s->to == s->size) {
			keep_drop(keep, segment_name(s->index));
			media->free(&s->memory);
		}
		break;
	}
}

static void run(struct work *w)
{
	struct batch *b = container_of(w, struct batch, work);

	for (unsigned i = 0; i < b->count; i++)
		janitor_step(b->janitor->media, b->janitor->keep, &b->steps[i]);
}

static void done(struct work *w)
{
	struct batch *b = container_of(w, struct batch, work);
	struct janitor *j = b->janitor;

	pool_done(j->pool, b->steps, b->count, j->loop->now_ns);
	b->count = 0;
	j->reported(j);
}

int janitor_open(struct janitor *j, struct loop *l, struct pool *p, const struct media *media,
		 struct keep *keep, void (*reported)(struct janitor *j))
{
	*j = (struct janitor){
		.loop = l, .pool = p, .media = media, .keep = keep, .reported = reported
	};
	for (unsigned i = 0; i < JANITOR_BATCHES; i++)
		j->batches[i] =
			(struct batch){ .janitor = j, .work = { .run = run, .done = done } };
	return helper_open(l, "janitor", &j->helper);
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
	if (j->helper)
		helper_close(j->helper);
	j->helper = NULL;
}
