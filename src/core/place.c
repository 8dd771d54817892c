/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place: what a function writes itself. Its bytes lie in segments that only it may write, next to
 * others of its own; the sums of them, which it made, where it may not. So it can spoil what it
 * put, as whoever copies it will notice, and nothing of anybody else's.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "core/core_priv.h"

int place_let_write(struct core *c, uint64_t author, struct place *p)
{
	const struct segment *s = p->piece.segment;
	int r = c->config.reach_ops->let_write(c->config.reach, s->job, s->id, s->generation,
					       s->key, author, &p->since);

	piece_leave(c, &p->piece);
	p->seed = number_next(c);
	return r;
}

/* Where it cannot be mapped. That may be otherwise the next time. */
static int elsewhere(char *why, size_t why_cap)
{
	snprintf(why, why_cap, "this process's memory has no room for it");
	return -EUSERS;
}

/* Beside others of the author's. */
static int reserve_one(struct core *c, const struct want *want, uint64_t due_ns, struct place *ret,
		       char *why, size_t why_cap)
{
	int r = author_reserve(c, want->job, want->author, (uint32_t)want->need, want->age_ms,
			       due_ns, &ret->piece, why, why_cap);

	if (r < 0 || !ret->piece.is_buffer)
		return r < 0 ? r : 1;
	segment_seal(ret->piece.segment);
	return elsewhere(why, why_cap);
}

/* All of a segment, or what is left to be put. */
static void take_all(struct segment *s, uint64_t left, struct place *ret)
{
	s->front = left < s->size ? (uint32_t)left : s->size;
	segment_reserved(s);
	*ret = (struct place){ .piece = { .segment = s, .len = s->front }, .is_all_of_it = true };
}

/*
 * Segments of its own: all but the last are full, so that they can be mapped side by side. One, if
 * several would not be fewer bytes: each is to be asked for, and mapped, by all who read it, too.
 */
static int reserve_many(struct core *c, const struct want *want, uint64_t due_ns, struct place *ret,
			unsigned cap, char *why, size_t why_cap)
{
	struct segment *got[LEASE_SEGMENTS_MAX];
	struct want whole = *want;
	uint64_t left = want->need;
	bool is_near = true;
	int n;

	whole.is_whole = true;
	whole.size = segment_size_for(want->need - want->need / 3);
	n = segments_lease(c, &whole, due_ns, got,
			   cap < LEASE_SEGMENTS_MAX ? cap : LEASE_SEGMENTS_MAX, why, why_cap);
	for (int i = 0; i < n; i++) {
		got[i]->author = want->author;
		is_near = is_near && segment_is_near(got[i]);
		take_all(got[i], left, &ret[i]);
		left -= ret[i].piece.len;
	}
	if (n < 0)
		return n;
	return !is_near ? elsewhere(why, why_cap) : left > 0 ? -EMSGSIZE : n;
}

int places_reserve(struct core *c, const struct want *want, uint64_t due_ns, struct place *ret,
		   unsigned cap, char *why, size_t why_cap)
{
	int r;

	memset(ret, 0, cap * sizeof(*ret));
	if (!core_has_pool(c)) {
		snprintf(why, why_cap, "this process has no memory for objects");
		return -EOPNOTSUPP;
	}
	r = want->need <= PLACE_BYTES_MAX ? reserve_one(c, want, due_ns, ret, why, why_cap)
					  : reserve_many(c, want, due_ns, ret, cap, why, why_cap);
	for (int i = 0, n = r; i < n && r > 0; i++) {
		int x = place_let_write(c, want->author, &ret[i]);

		r = x < 0 ? x : r;
	}
	for (unsigned i = 0; i < cap && r < 0; i++)
		place_end(c, &ret[i]);
	return r;
}

void place_tell(const struct place *p, struct reserved_part *ret)
{
	*ret = (struct reserved_part){ .segment = p->piece.segment->id,
				       .since = p->since,
				       .offset = p->piece.offset,
				       .len = p->piece.len,
				       .seed = p->seed };
}

int place_export(struct core *c, const struct place *p, uint32_t *ret_size)
{
	const struct segment *s = p->piece.segment;

	return c->config.reach_ops->export_to_write(c->config.reach, s->job, s->id, s->generation,
						    s->author, ret_size);
}

size_t place_sums_len(const struct place *p)
{
	uint32_t count = extent_table_count(p->piece.len);

	return (count ? count : 1) * (size_t)4;
}

int place_fill(struct core *c, struct place *p, struct slice sums, uint64_t due_ns,
	       struct extent *ret, char *why, size_t why_cap)
{
	const struct segment *s = p->piece.segment;
	uint32_t count = extent_table_count(p->piece.len);
	struct rcur cur = rcur_make(sums.ptr, sums.len);

	if (s->state == SEGMENT_LOST)
		return -ESTALE;
	assert(sums.len == place_sums_len(p));
	*ret = (struct extent){ .segment = s->id,
				.generation = s->generation,
				.offset = p->piece.offset,
				.len = p->piece.len,
				.seed = p->seed };
	if (count > 0)
		return piece_table(c, &p->piece, sums.ptr, due_ns, ret, why, why_cap);
	ret->crc = get_u32(&cur);
	return 0;
}

void place_end(struct core *c, struct place *p)
{
	/* Before it is nobody's: sealed, it is settled then. */
	if (p->is_all_of_it && p->piece.segment)
		segment_seal(p->piece.segment);
	piece_end(c, &p->piece);
}

bool places_are_short(struct core *c)
{
	return c->config.reach_ops->is_short(c->config.reach);
}
