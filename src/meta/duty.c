/* SPDX-License-Identifier: Apache-2.0 */
/*
 * duty: what the slot owes to stores, and whether both mean the same segments.
 */
#include "base/node.h"
#include "meta/catalog_priv.h"

bool catalog_duty(struct catalog *c, uint64_t store, struct duty *ret)
{
	struct pool *p = catalog_pool_find(c, store);

	while (p && !list_is_empty(&p->owed)) {
		struct segment *s = container_of(p->owed.next, struct segment, owed);

		list_remove(&s->owed);
		if (!catalog_segment_duty(s, ret))
			continue;
		s->is_sent = true;
		return true;
	}
	return false;
}

bool catalog_has_duty(const struct catalog *c, uint64_t store)
{
	const struct pool *p = catalog_pool_find(c, store);

	return p && !list_is_empty(&p->owed);
}

static int change(struct catalog *c, const struct segment *s, enum effect_kind kind,
		  uint64_t now_ns)
{
	struct effect e = { .kind = kind, .at_ns = now_ns };

	/* The three have the same fields. */
	e.u.segment_gone =
		(struct segment_gone_effect){ .segment = s->id, .generation = s->generation };
	return effect_do(c, &e);
}

int catalog_duty_done(struct catalog *c, const struct duty *d, int result, uint64_t now_ns,
		      struct outcome *ret)
{
	struct segment *s = catalog_segment_find(c, d->segment, d->generation);
	int r = 0;

	outcome_begin(c, ret);
	if (!s)
		return 0;
	s->is_sent = false;
	if (result == 0 || result == -ESTALE) {
		bool is_unknown = result == -ESTALE;

		if (d->kind == DUTY_FREE && s->state == SEGMENT_FREEING)
			return change(c, s, EFFECT_SEGMENT_GONE, now_ns);
		if (is_unknown && s->state == SEGMENT_FREEING)
			return change(c, s, EFFECT_SEGMENT_GONE, now_ns);
		if (is_unknown && s->state < SEGMENT_FREEING)
			return change(c, s, EFFECT_SEGMENT_LOST, now_ns);
		if (d->kind == DUTY_SEAL)
			s->is_sealed_told = true;
		if (d->kind == DUTY_REVOKE && s->state == SEGMENT_FENCING)
			r = s->owner ? change(c, s, EFFECT_SEGMENT_FENCED, now_ns)
				     : segment_give_up(c, s, now_ns);
	}
	catalog_segment_owe(s);
	return r;
}

void catalog_compare_begin(struct catalog *c, uint64_t store)
{
	struct pool *p = catalog_pool_find(c, store);

	if (p)
		p->round += 2; /* odd ones mark those that compare_end() has seen */
}

bool catalog_compare(struct catalog *c, const struct segment_entry *e)
{
	struct segment *s = catalog_segment_find(c, e->segment, e->generation);

	/* One that was given up is not wanted any more, though its store has come back with it. */
	if (!s || s->state == SEGMENT_LOST || s->state == SEGMENT_GONE)
		return false;
	s->compared = s->pool->round;
	return true;
}

/*
 * Looks at a bounded number from the front; what is in order goes to the back of the line. A
 * snapshot that walks the same line would pass by what is moved under its finger, so that is
 * written first.
 */
bool catalog_compare_end(struct catalog *c, uint64_t store, uint64_t now_ns, struct outcome *ret)
{
	struct pool *p = catalog_pool_find(c, store);

	outcome_begin(c, ret);
	for (int i = 0; p && i < TICK_STEP && !list_is_empty(&p->segments); i++) {
		struct segment *s = container_of(p->segments.next, struct segment, of_pool);

		if (s->compared == p->round + 1)
			return false; /* once round */
		if (s->compared == p->round || s->state >= SEGMENT_LOST) {
			s->compared = p->round + 1;
			SNAPSHOT(segment, s);
			SNAPSHOT(leave, &s->of_pool);
			list_remove(&s->of_pool);
			list_insert(&p->segments, &s->of_pool);
		} else if (s->state == SEGMENT_FREEING) {
			if (change(c, s, EFFECT_SEGMENT_GONE, now_ns) < 0)
				return false;
		} else if (change(c, s, EFFECT_SEGMENT_LOST, now_ns) < 0) {
			return false;
		}
	}
	return p && !list_is_empty(&p->segments);
}
