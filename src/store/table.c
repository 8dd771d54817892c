/* SPDX-License-Identifier: Apache-2.0 */
#include "store/table.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/hash.h"
#include "base/limits.h"
#include "wire/extent.h"

#define MAGIC   0x656c626174647761ull /* "awdtable" */
#define VERSION 1

/* Twice each. `sum` is of all before it, seeded with the place. */
struct row_image {
	uint64_t sequence;
	struct row row;
	uint64_t sum;
};
_Static_assert(sizeof(struct row_image) == 88, "no padding");

struct closed_image {
	uint64_t sequence, moments_hi, moments_lo;
	uint32_t index, generation;
	uint64_t sum;
};
_Static_assert(sizeof(struct closed_image) == 40, "no padding");

struct head {
	uint64_t magic, number;
	uint32_t version, row_count;
	uint64_t sum;
	struct closed_image closed[2];
};

static struct head *head_of(const struct table *t)
{
	return (struct head *)t->memory.ptr;
}

static struct row_image *images_of(const struct table *t, unsigned index)
{
	return (struct row_image *)(t->memory.ptr + sizeof(struct head)) + 2 * (size_t)index;
}

static uint64_t row_sum(const struct row_image *i, unsigned index)
{
	return hash_64(i, offsetof(struct row_image, sum), 1 + (uint64_t)index);
}

static uint64_t closed_sum(const struct closed_image *i)
{
	return hash_64(i, offsetof(struct closed_image, sum), MAGIC);
}

static uint64_t head_sum(const struct head *h)
{
	return hash_64(h, offsetof(struct head, sum), VERSION);
}

size_t table_size(unsigned row_count)
{
	size_t n = sizeof(struct head) + 2 * sizeof(struct row_image) * (size_t)row_count;

	return (n + SEGMENT_PAGE - 1) & ~(size_t)(SEGMENT_PAGE - 1);
}

void table_init(struct table *t, struct memory memory, unsigned row_count, uint64_t number)
{
	struct head *h = (struct head *)memory.ptr;

	assert(memory.size >= table_size(row_count));
	*t = (struct table){ .memory = memory, .row_count = row_count };
	h->magic = MAGIC;
	h->version = VERSION;
	h->number = number;
	h->row_count = row_count;
	h->sum = head_sum(h);
	table_set_closed(t, &(struct closed){ 0 });
}

int table_open(struct table *t, struct memory memory, uint64_t *ret_number)
{
	const struct head *h = (const struct head *)memory.ptr;

	if (memory.size < sizeof(*h) || h->magic != MAGIC || h->version != VERSION ||
	    h->sum != head_sum(h) || h->row_count > POOL_SEGMENTS_MAX ||
	    memory.size < table_size(h->row_count) || h->number == 0 ||
	    h->number >> (64 - SEGMENT_POOL_SHIFT) != 0)
		return -EBADMSG;
	*t = (struct table){ .memory = memory, .row_count = h->row_count };
	*ret_number = h->number;
	return 0;
}

int table_row(const struct table *t, unsigned index, struct row *ret)
{
	const struct row_image *best = NULL, *images = images_of(t, index);

	for (int i = 0; i < 2; i++)
		if (images[i].sum == row_sum(&images[i], index) &&
		    (!best || images[i].sequence > best->sequence))
			best = &images[i];
	/* The first one may be half written. */
	if (!best)
		return images[0].sequence <= 1 && images[1].sequence <= 1 ? -ENOENT : -EBADMSG;
	*ret = best->row;
	return 0;
}

void table_set_row(struct table *t, unsigned index, const struct row *row)
{
	struct row_image *images, *to;

	if (!t->memory.ptr)
		return;
	assert(index < t->row_count);
	images = images_of(t, index);
	to = images[0].sequence < images[1].sequence ? &images[0] : &images[1];
	to->sequence += images[0].sequence == images[1].sequence ? 1 : 2;
	to->row = *row;
	to->sum = row_sum(to, index);
}

int table_closed(const struct table *t, struct closed *ret)
{
	const struct closed_image *best = NULL, *images = head_of(t)->closed;

	for (int i = 0; i < 2; i++)
		if (images[i].sum == closed_sum(&images[i]) &&
		    (!best || images[i].sequence > best->sequence))
			best = &images[i];
	if (!best)
		return -EBADMSG;
	*ret = (struct closed){
		.moments = (unsigned __int128)best->moments_hi << 64 | best->moments_lo,
		.index = best->index,
		.generation = best->generation,
	};
	return 0;
}

void table_set_closed(struct table *t, const struct closed *closed)
{
	struct closed_image *images, *to;

	if (!t->memory.ptr)
		return;
	images = head_of(t)->closed;
	to = images[0].sequence < images[1].sequence ? &images[0] : &images[1];
	to->sequence += images[0].sequence == images[1].sequence ? 1 : 2;
	to->moments_hi = (uint64_t)(closed->moments >> 64);
	to->moments_lo = (uint64_t)closed->moments;
	to->index = closed->index;
	to->generation = closed->generation;
	to->sum = closed_sum(to);
}

bool row_is_possible(const struct row *row)
{
	if (row->generation == 0)
		return false;
	return !(row->flags & ROW_USED) ||
	       (row->generation < UINT32_MAX && row->size >= SEGMENT_BYTES_MIN &&
		row->size <= SEGMENT_BYTES_MAX && !(row->size & (row->size - 1)) &&
		row->front <= row->back && row->back <= row->size &&
		slot_of_id(row->job) < SLOT_COUNT);
}

struct book row_book(const struct row *row)
{
	struct book b = { 0 };
	uint32_t sealed = segment_booked(row->size, row->front, row->back);

	if (!(row->flags & ROW_USED))
		return b;
	book_add(&b, row->size, row->stamp_ns);
	if (row->flags & ROW_SEALED)
		book_add(&b, (int64_t)sealed - row->size, row->sealed_ns);
	if (row->flags & ROW_FREED)
		book_add(&b, -(int64_t)(row->flags & ROW_SEALED ? sealed : row->size),
			 row->freed_ns);
	return b;
}
