/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fill: pieces come in order, each into the segment at hand; pieces that follow each
 * other in a part and in a segment are one extent. Nothing of it is known to the
 * catalog before the commit, so until then every segment stays reserved.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/node.h"
#include "core/core_priv.h"

/* What odd pieces waste: a page each, of those that a writer has in flight. */
#define WASTE_BYTES (64u << 10)

/* Room beyond what has come: what a writer has in flight; at least one piece of it. */
#define AHEAD_BYTES     (CONN_CREDIT + WASTE_BYTES)
#define AHEAD_BYTES_MIN (TRANSFER_PIECE + WASTE_BYTES)

/* The first lease of an object of unknown length. */
#define FIRST_BYTES (2u << 20)

/* So little of that is of use, where the quota has no more: some room beside what is wasted. */
#define LEAST_BYTES (WASTE_BYTES + SEGMENT_BYTES_MIN)

/* So often a segment may be fenced under us before we give up. */
#define FENCED_TRIES 3

struct fill_extent {
	uint32_t part;
	uint64_t offset; /* in its part */
	struct extent extent;
	uint8_t *table; /* of its sums, if it has one; written at the commit */
	bool is_written;
};

struct fill_part {
	uint32_t number;
	uint64_t len;
};

struct fill {
	struct core *core;
	uint64_t job, author, len_hint, taken;
	bool is_spoiled;

	struct segment **segments; /* all reserved; [now] is being filled */
	unsigned segment_count, segment_cap, now;
	struct segment **tables; /* where tables of sums are, reserved; no bytes come after them */
	unsigned table_count;

	struct fill_extent *extents; /* the last one may grow */
	unsigned extent_count, extent_cap;
	struct fill_part *parts;
	unsigned part_count, part_cap;
	struct open_object open; /* of many extents, from the first try to commit it on */
	unsigned extended;       /* extents that it has */
	uint8_t sums[SEGMENT_BYTES_MAX / CHECK_PIECE * 4]; /* of the last extent */
};

static int grow(void **array, unsigned count, unsigned *cap, size_t size)
{
	unsigned more = *cap ? 2 * *cap : 8;
	void *p;

	if (count < *cap)
		return 0;
	p = node_resize(*array, more * size);
	if (!p)
		return -ENOMEM;
	*array = p;
	*cap = more;
	return 0;
}

static uint64_t free_bytes(const struct fill *f)
{
	uint64_t n = 0;

	for (unsigned i = f->now; i < f->segment_count; i++)
		if (f->segments[i]->state == SEGMENT_OPEN)
			n += f->segments[i]->size - f->segments[i]->front;
	return n;
}

/* What is still to come, as far as that is known. */
static uint64_t expected(const struct fill *f)
{
	return f->len_hint > f->taken ? f->len_hint - f->taken : 0;
}

/* What the sums of so many bytes take, each table for itself. */
static uint64_t tables_len(uint64_t len)
{
	return (len / CHECK_PIECE + 1) * 4 + (len / SEGMENT_BYTES_MIN + 1) * SEGMENT_ALIGN;
}

bool fill_is_ahead(const struct fill *f)
{
	uint64_t have = free_bytes(f), want = expected(f);

	return want > 0 ? have >= want || have >= AHEAD_BYTES : have >= AHEAD_BYTES_MIN;
}

uint64_t fill_room(const struct fill *f)
{
	uint64_t have = free_bytes(f);

	/* If it is as long as it was said to be, nothing is wasted; else each odd piece wastes a
	 * page. */
	if (f->part_count <= 1 && expected(f) > 0 && have >= expected(f))
		return f->taken + have;
	return f->taken + (have > WASTE_BYTES ? have - WASTE_BYTES : 0);
}

void fill_needs(struct fill *f, uint64_t len)
{
	if (f->part_count > 1 || expected(f) < len)
		f->len_hint = 0;
}

static struct want want_more(const struct fill *f, uint64_t age_ms)
{
	uint64_t have = free_bytes(f), need = expected(f), least = 0;

	if (need > have) {
		need += (f->author ? 0 : tables_len(need)) - have;
	} else {
		need = f->taken > FIRST_BYTES ? f->taken : FIRST_BYTES;
		least = have > WASTE_BYTES ? SEGMENT_BYTES_MIN : LEAST_BYTES;
	}
	if (need > (uint64_t)LEASE_SEGMENTS_MAX * SEGMENT_BYTES_MAX)
		need = (uint64_t)LEASE_SEGMENTS_MAX * SEGMENT_BYTES_MAX;
	if (f->len_hint == 0 && need < AHEAD_BYTES && f->taken > 0)
		need = AHEAD_BYTES;
	return (struct want){ .job = f->job,
			      .author = f->author,
			      .need = need,
			      .least = least,
			      .age_ms = age_ms,
			      .size = segment_size_for(need),
			      .is_whole = f->len_hint > 0 && f->taken == 0 };
}

/* The object's from here on. Leases may end in any order, so none of them has a place before. */
static int segment_add(struct fill *f, struct segment *s)
{
	int r = grow((void **)&f->segments, f->segment_count, &f->segment_cap,
		     sizeof(*f->segments));

	if (r < 0) {
		segment_seal(s);
		return r;
	}
	segment_reserved(s);
	f->segments[f->segment_count++] = s;
	return 0;
}

/*
 * A known length is leased whole, as far as one LEASE goes, and its tables of sums with it: two
 * puts for which there is room one after the other must not each wait for what the other has.
 */
int fill_ahead(struct fill *f, uint64_t age_ms, uint64_t due_ns, char *why, size_t why_cap)
{
	enum fill_short shortage = FILL_NOT_SHORT;

	while (!fill_is_ahead(f) && shortage == FILL_NOT_SHORT) {
		struct segment *got[LEASE_SEGMENTS_MAX];
		struct want want = want_more(f, age_ms);
		uint64_t have = free_bytes(f);
		int n = segments_lease(f->core, &want, due_ns, got, LEASE_SEGMENTS_MAX, why,
				       why_cap);
		bool is_quota;

		if (n < 0)
			return n;
		is_quota = got[0]->is_last_of_quota;
		for (int i = 0; i < n; i++) {
			got[i]->author = f->author;
			(void)segment_add(f, got[i]); /* as if it had not been granted */
		}
		if (f->is_spoiled)
			return -ECANCELED;
		/* Who waits for room hears of what there is before more is waited for. */
		if (want.least > 0 && free_bytes(f) < have + want.need)
			shortage = is_quota ? FILL_SHORT_OF_QUOTA : FILL_SHORT_OF_ROOM;
	}
	return shortage;
}

int fill_open(struct core *c, uint64_t job, uint64_t author, uint64_t len_hint, uint64_t age_ms,
	      uint64_t due_ns, struct fill **ret, char *why, size_t why_cap)
{
	struct fill *f = node_alloc(sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->core = f->open.core = c;
	f->job = f->open.job = job;
	f->author = author;
	f->len_hint = len_hint;
	r = fill_ahead(f, age_ms, due_ns, why, why_cap);
	if (r < 0) {
		fill_close(f);
		return r;
	}
	*ret = f;
	return 0;
}

static struct fill_part *part_of(struct fill *f, uint32_t number)
{
	/* From the last one: most writers fill one part after the other. */
	for (unsigned i = f->part_count; i > 0; i--)
		if (f->parts[i - 1].number == number)
			return &f->parts[i - 1];
	if (f->part_count == PARTS_MAX ||
	    grow((void **)&f->parts, f->part_count, &f->part_cap, sizeof(*f->parts)) < 0)
		return NULL;
	f->parts[f->part_count] = (struct fill_part){ .number = number };
	return &f->parts[f->part_count++];
}

static struct fill_extent *last(struct fill *f)
{
	return f->extent_count > 0 ? &f->extents[f->extent_count - 1] : NULL;
}

/* The sums so far go with the extent that they are of. */
static int end_extent(struct fill *f)
{
	struct fill_extent *x = last(f);
	uint32_t count;

	if (!x || x->table)
		return 0;
	count = extent_table_count(x->extent.len);
	if (count == 0)
		return 0;
	x->table = node_alloc((size_t)count * 4);
	if (!x->table)
		return -ENOMEM;
	memcpy(x->table, f->sums, (size_t)count * 4);
	return 0;
}

/* Do these bytes go on where the last extent ends? */
static bool goes_on(const struct fill_extent *x, const struct segment *s, uint32_t part,
		    uint64_t offset)
{
	return x && x->part == part && x->extent.segment == s->id &&
	       x->offset + x->extent.len == offset && x->extent.len % CHECK_PIECE == 0 &&
	       x->extent.offset + x->extent.len == s->front;
}

static int begin_extent(struct fill *f, struct segment *s, uint32_t part, uint64_t offset)
{
	int r = end_extent(f);

	if (r == 0 && f->extent_count == OBJECT_EXTENTS_MAX)
		return -EUSERS;
	if (r == 0)
		r = grow((void **)&f->extents, f->extent_count, &f->extent_cap,
			 sizeof(*f->extents));
	if (r < 0)
		return r;
	f->extents[f->extent_count++] = (struct fill_extent){
		.part = part,
		.offset = offset,
		.extent = { .segment = s->id,
			    .generation = s->generation,
			    .offset = s->front,
			    .seed = number_next(f->core) },
	};
	return 0;
}

/* -ESTALE: nothing goes into this segment any more. */
static int take_in(struct fill *f, struct segment *s, uint32_t part, uint64_t offset, uint32_t len,
		   struct piece *ret)
{
	bool is_new = !goes_on(last(f), s, part, offset);
	int r;

	if (is_new)
		s->front = (s->front + SEGMENT_PAGE - 1) & ~(uint32_t)(SEGMENT_PAGE - 1);
	if (s->state != SEGMENT_OPEN || s->front >= s->size)
		return -ESTALE;
	if (len > s->size - s->front)
		len = s->size - s->front;
	r = piece_at(f->core, s, s->front, len, ret);
	if (r < 0)
		return r;
	r = is_new ? begin_extent(f, s, part, offset) : 0;
	if (r < 0)
		piece_end(f->core, ret);
	return r;
}

int fill_take(struct fill *f, uint32_t part, uint64_t offset, uint32_t len, struct piece *ret)
{
	struct fill_part *p = part < PARTS_MAX ? part_of(f, part) : NULL;
	struct segment *s;
	int r;

	*ret = (struct piece){ 0 };
	if (f->is_spoiled)
		return -ECANCELED;
	if (f->tables)
		return -EINVAL;
	if (!p || offset != p->len)
		return p || part >= PARTS_MAX ? -EINVAL : -ENOMEM;
	/* What was fenced meanwhile keeps the bytes that it has, and takes no more. */
	for (r = -ESTALE; r == -ESTALE; f->now += r == -ESTALE) {
		if (f->now == f->segment_count)
			return -ENOBUFS;
		s = f->segments[f->now];
		r = take_in(f, s, part, offset, len, ret);
	}
	if (r < 0)
		return r;
	s->front += ret->len;
	p->len += ret->len;
	f->taken += ret->len;
	return 0;
}

/* Where the sums of what is added to an extent go. */
static struct wcur sums_at(struct fill *f, const struct fill_extent *x, const struct piece *p)
{
	size_t at = (size_t)(x->extent.len / CHECK_PIECE) * 4;

	assert(x->extent.segment == p->segment->id &&
	       x->extent.offset + x->extent.len == p->offset);
	return wcur_make(f->sums + at, sizeof(f->sums) - at);
}

static void extent_grew(struct fill *f, struct fill_extent *x, uint32_t len)
{
	x->extent.len += len;
	if (x->extent.len <= CHECK_PIECE) {
		struct rcur c = rcur_make(f->sums, 4);

		x->extent.crc = get_u32(&c);
	}
}

static void sum_piece(struct fill *f, struct fill_extent *x, const struct piece *p)
{
	struct wcur w = sums_at(f, x, p);

	for (uint32_t at = 0, n; at < p->len; at += n) {
		n = p->len - at < CHECK_PIECE ? p->len - at : CHECK_PIECE;
		put_u32(&w, crc_more(crc_begin(x->extent.seed), p->ptr + at, n));
	}
	extent_grew(f, x, p->len);
}

/* One more segment, of which nothing is used. */
static int add_segment(struct fill *f, uint32_t need, uint64_t due_ns, struct segment **ret)
{
	const struct want want = {
		.job = f->job, .need = need, .age_ms = HOLDER_AGE_MS, .size = segment_size_for(need)
	};
	struct segment *s;
	char why[8];
	int r = segments_lease(f->core, &want, due_ns, &s, 1, why, sizeof(why));

	r = r < 0 ? r : segment_add(f, s);
	if (r < 0)
		return r;
	*ret = s;
	return s->size >= need ? 0 : -ENOSPC;
}

/*
 * Its segment, elsewhere, was fenced before the bytes were there. What the extent had keeps;
 * they begin another one.
 */
static int go_elsewhere(struct fill *f, struct piece *p, uint64_t due_ns)
{
	struct fill_extent x = *last(f);
	struct segment *s;
	int r = add_segment(f, p->len, due_ns, &s);

	if (r < 0)
		return r;
	x.extent.len -= p->len;
	last(f)->extent.len = x.extent.len;
	if (x.extent.len == 0)
		f->extent_count--;
	r = begin_extent(f, s, x.part, x.offset + x.extent.len);
	if (r < 0)
		return r;
	segment_reserved(s);
	segment_unreserved(p->segment);
	p->segment = s;
	p->offset = s->front;
	s->front += p->len;
	sum_piece(f, last(f), p);
	return 0;
}

int fill_add(struct fill *f, struct piece *p, uint64_t due_ns)
{
	int r;

	sum_piece(f, last(f), p);
	r = piece_send(f->core, p, due_ns);
	for (int i = 0; r == -ESTALE && i < FENCED_TRIES; i++) {
		r = go_elsewhere(f, p, due_ns);
		if (r == 0)
			r = piece_send(f->core, p, due_ns);
	}
	if (r < 0)
		f->is_spoiled = true;
	piece_end(f->core, p);
	return r;
}

void fill_spoil(struct fill *f, struct piece *p)
{
	f->is_spoiled = true;
	piece_end(f->core, p);
}

/* What was taken last is not used, but for the first `used` bytes of it. */
static void take_less(struct fill *f, const struct piece *p, uint32_t used)
{
	struct fill_extent *x = last(f);

	p->segment->front -= p->len - used;
	part_of(f, x->part)->len -= p->len - used;
	f->taken -= p->len - used;
	if (x->extent.len + used > 0)
		return;
	/* The one before may go on after all. Its sums are still at hand. */
	f->extent_count--;
	if (last(f))
		last(f)->table = node_free(last(f)->table);
}

int fill_give(struct fill *f, uint32_t part, uint64_t offset, uint32_t len, struct place *ret)
{
	int r;

	*ret = (struct place){ 0 };
	r = fill_take(f, part, offset, len, &ret->piece);
	if (r < 0)
		return r;
	r = segment_is_near(ret->piece.segment) ? place_let_write(f->core, f->author, ret)
						: -EOPNOTSUPP;
	ret->seed = last(f)->extent.seed;
	if (r < 0) {
		take_less(f, &ret->piece, 0);
		piece_end(f->core, &ret->piece);
	}
	return r;
}

int fill_given(struct fill *f, struct place *p, uint32_t used, struct slice sums)
{
	struct wcur w;

	if (used > p->piece.len || sums.len != (size_t)(used + CHECK_PIECE - 1) / CHECK_PIECE * 4) {
		fill_spoil(f, &p->piece);
		return -EINVAL;
	}
	take_less(f, &p->piece, used);
	if (used > 0) {
		w = sums_at(f, last(f), &p->piece);
		put_bytes(&w, sums.ptr, sums.len);
		extent_grew(f, last(f), used);
	}
	piece_end(f->core, &p->piece);
	return 0;
}

/*
 * Room in what was leased for the object: no lease is waited for while it holds all of that. None
 * where an author could write.
 */
static int table_take(struct fill *f, uint32_t len, struct piece *ret)
{
	for (unsigned i = f->author ? 0 : f->segment_count; i-- > 0;) {
		struct segment *s = f->segments[i];
		uint32_t offset;
		int r;

		if (segment_take(s, len, false, &offset) < 0)
			continue;
		r = piece_at(f->core, s, offset, len, ret);
		if (r != -ESTALE)
			return r;
		segment_seal(s);
	}
	return -EAGAIN;
}

/* Tables of sums go behind the bytes; if there is no room, where short objects of the job go. */
static int write_table(struct fill *f, struct fill_extent *x, uint64_t due_ns, char *why,
		       size_t why_cap)
{
	uint32_t len = extent_table_count(x->extent.len) * 4;
	struct piece piece;
	int r = -ESTALE;

	for (int i = 0; r == -ESTALE && i < FENCED_TRIES; i++) {
		r = table_take(f, len, &piece);
		if (r == -EAGAIN)
			r = table_reserve(f->core, f->job, len, due_ns, &piece, why, why_cap);
		if (r < 0)
			return r;
		memcpy(piece.ptr, x->table, len);
		r = piece_send(f->core, &piece, due_ns);
		if (r < 0)
			piece_end(f->core, &piece);
	}
	if (r < 0)
		return r;
	x->extent.crc = crc_more(crc_begin(x->extent.seed), x->table, len);
	x->extent.table_segment = piece.segment->id;
	x->extent.table_generation = piece.segment->generation;
	x->extent.table_offset = piece.offset;
	piece_leave(f->core, &piece);
	f->tables[f->table_count++] = piece.segment;
	x->is_written = true;
	return 0;
}

/* Those that an earlier commit has written are there. */
static int write_tables(struct fill *f, uint64_t due_ns, char *why, size_t why_cap)
{
	int r = end_extent(f);

	if (r < 0 || f->extent_count == 0)
		return r;
	if (!f->tables)
		f->tables = node_alloc(f->extent_count * sizeof(*f->tables));
	if (!f->tables)
		return -ENOMEM;
	for (unsigned i = 0; i < f->extent_count && r == 0; i++)
		if (f->extents[i].table && !f->extents[i].is_written)
			r = write_table(f, &f->extents[i], due_ns, why, why_cap);
	return r;
}

static int by_part(const void *a, const void *b)
{
	const struct fill_extent *x = a, *y = b;

	if (x->part != y->part)
		return x->part < y->part ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* The next ones, of one part. */
static int extend(struct fill *f, uint64_t due_ns)
{
	const struct fill_extent *first = &f->extents[f->extended];
	struct extent extents[EXTENTS_MAX / 4];
	unsigned n = 0, left = f->extent_count - f->extended;
	int r;

	for (; n < left && n < EXTENTS_MAX / 4 && first[n].part == first->part; n++)
		extents[n] = first[n].extent;
	r = open_object_extend(&f->open, first->part, first->offset, extents, n, due_ns);
	if (r == 0)
		f->extended += n;
	return r;
}

/*
 * Where nobody knows what became of it, it goes on from there when it is committed again: another
 * open object could not have the same bytes, which are this one's, or those of what it has become.
 */
static int commit_open(struct fill *f, const struct how *how, uint64_t due_ns,
		       struct committed *ret, char *why, size_t why_cap)
{
	int r = 0;

	if (!f->open.id) {
		f->extended = 0;
		r = open_object_begin(&f->open, due_ns, why, why_cap);
	}
	while (r == 0 && f->extended < f->extent_count)
		r = extend(f, due_ns);
	if (r == 0)
		r = open_object_commit(&f->open, how, due_ns, ret, why, why_cap);
	if (r < 0 && is_answer(r))
		open_object_drop(&f->open);
	return r;
}

int fill_commit(struct fill *f, const struct how *how, uint64_t due_ns, struct committed *ret,
		char *why, size_t why_cap)
{
	struct extent extents[EXTENTS_MAX / 4];
	unsigned n = 0;
	int r;

	if (f->is_spoiled) {
		snprintf(why, why_cap, "a part of it did not arrive");
		return -ECANCELED;
	}
	r = write_tables(f, due_ns, why, why_cap);
	if (r < 0)
		return r;
	if (f->extent_count > 1)
		qsort(f->extents, f->extent_count, sizeof(*f->extents), by_part);
	if (f->extent_count == 0)
		return object_commit_value(f->core, f->job, how, "", 0, due_ns, ret, why, why_cap);
	if (f->extent_count > EXTENTS_MAX / 4)
		return commit_open(f, how, due_ns, ret, why, why_cap);
	for (; n < f->extent_count; n++)
		extents[n] = f->extents[n].extent;
	return object_commit(f->core, f->job, how, extents, n, due_ns, ret, why, why_cap);
}

void fill_close(struct fill *f)
{
	if (!f)
		return;
	open_object_drop(&f->open);
	for (unsigned i = 0; i < f->segment_count; i++) {
		struct segment *s = f->segments[i];

		segment_seal(s);
		segment_unreserved(s);
	}
	for (unsigned i = 0; i < f->table_count; i++)
		segment_unreserved(f->tables[i]);
	for (unsigned i = 0; i < f->extent_count; i++)
		node_free(f->extents[i].table);
	node_free(f->segments);
	node_free(f->tables);
	node_free(f->extents);
	node_free(f->parts);
	node_free(f);
}
