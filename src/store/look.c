/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments in use that were punched and that functions map. Whoever touches the middle makes pages
 * of it again, a reader too, and they are there as long as the segment is: so the janitor looks
 * again and again, and what is more than is held is punched. Nothing of the middle is anybody's
 * until it is refilled, so that spoils no byte that was put.
 */
#include "store/pool_priv.h"

#include "base/container.h"
#include "base/limits.h"

#define LOOK_NS (RETIRED_LOOK_MS * 1000000ull)

/* One that is due so soon is looked at with the first; then they are due at the same time. */
#define TOGETHER_NS (LOOK_NS / 4)

static struct segment *first_of(const struct list *l)
{
	return list_is_empty(l) ? NULL : container_of(l->next, struct segment, link);
}

/* The middle of one that is only sealed is all there, and counted. */
void pool_watch(struct pool *p, struct segment *s, uint64_t now_ns)
{
	if (!segment_is_used(s) || !s->is_exported || s->held == s->size || s->is_away ||
	    !list_is_empty(&s->link))
		return;
	s->since_ns = now_ns;
	list_insert(&p->looks, &s->link);
}

uint64_t pool_look_due_ns(const struct pool *p)
{
	const struct segment *s = first_of(&p->looks);

	return s ? s->since_ns + LOOK_NS : UINT64_MAX;
}

struct segment *pool_next_look(const struct pool *p, uint64_t now_ns)
{
	struct segment *s = first_of(&p->looks);

	return s && s->since_ns + LOOK_NS <= now_ns + TOGETHER_NS ? s : NULL;
}

void pool_lingers(struct pool *p, struct segment *s, uint32_t bytes)
{
	p->counters.lingering_bytes += (uint64_t)bytes - s->lingering;
	s->lingering = bytes;
}

void pool_looked(struct pool *p, struct segment *s, uint64_t there)
{
	if (!segment_is_used(s))
		return; /* it was freed meanwhile */
	pool_lingers(p, s, there > s->held ? (uint32_t)(there - s->held) : 0);
	if (s->lingering > 0)
		list_insert(&p->touched, &s->link);
}

struct segment *pool_next_touched(const struct pool *p)
{
	return first_of(&p->touched);
}
