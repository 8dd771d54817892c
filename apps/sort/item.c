/* SPDX-License-Identifier: Apache-2.0 */
#include "item.h"

#include <assert.h>
#include <stdlib.h>

/* Up to here, insertion beats another distribution. */
#define FEW 24

/*
 * Of the parts of a distribution, all but the largest are at most half of it and are
 * finished first; so fewer than 256 wait per halving, and there are at most 32.
 */
#define PARTS_MAX (32 * 256)

/* Items whose keys agree before `depth`, and whose chunks begin there. */
struct part {
	uint32_t begin, count, depth;
};

struct sorter {
	uint32_t count;
	struct part parts[PARTS_MAX];
};

struct sorter *sorter_new(void)
{
	return malloc(sizeof(struct sorter));
}

struct sorter *sorter_free(struct sorter *s)
{
	free(s);
	return NULL;
}

size_t items_find(enum format format, const uint8_t *arena, size_t from, size_t to,
		  struct item *ret, size_t cap, size_t *ret_next)
{
	size_t count = 0;

	while (from < to && count < cap) {
		size_t key_len = RECORD_KEY_SIZE;

		if (format == FORMAT_LINES) {
			const uint8_t *end = memchr(arena + from, '\n', to - from);

			assert(end);
			key_len = (size_t)(end - (arena + from));
		}
		ret[count++] = item_make(arena, from, key_len);
		from += item_size(format, key_len);
	}
	*ret_next = from;
	return count;
}

static bool is_before(const struct item *a, const struct item *b, uint32_t depth,
		      const uint8_t *arena)
{
	size_t skip = depth + 8;

	if (a->chunk != b->chunk)
		return a->chunk < b->chunk;
	/* Zeros behind the end of a key look like bytes of a longer one. */
	if (a->key_len <= skip || b->key_len <= skip)
		return a->key_len < b->key_len;
	return key_compare(arena + a->offset + skip, a->key_len - skip, arena + b->offset + skip,
			   b->key_len - skip) < 0;
}

static void insertion_sort(struct item *items, size_t count, uint32_t depth, const uint8_t *arena)
{
	for (size_t i = 1; i < count; i++) {
		struct item moved = items[i];
		size_t at = i;

		for (; at > 0 && is_before(&moved, &items[at - 1], depth, arena); at--)
			items[at] = items[at - 1];
		items[at] = moved;
	}
}

/* Leaves out what is sorted already. */
static void push(struct sorter *s, uint32_t begin, uint32_t count, uint32_t depth)
{
	if (count < 2)
		return;
	assert(s->count < PARTS_MAX);
	s->parts[s->count++] = (struct part){ .begin = begin, .count = count, .depth = depth };
}

/* Turns counts into places, and returns the index of the largest. */
static size_t places_of(const uint32_t *counts, uint32_t *places, size_t n)
{
	size_t largest = 0;
	uint32_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		places[i] = sum;
		sum += counts[i];
		if (counts[i] > counts[largest])
			largest = i;
	}
	return largest;
}

/* Distributes by the first eight bits that do not all agree. */
static void part_split(struct sorter *s, struct part part, uint64_t differing, struct item *items,
		       struct item *scratch)
{
	unsigned top = 63 - (unsigned)__builtin_clzll(differing);
	unsigned shift = top < 7 ? 0 : top - 7;
	uint32_t counts[256] = { 0 }, places[256];
	uint32_t begin = part.begin;
	size_t largest;

	for (uint32_t i = 0; i < part.count; i++)
		counts[items[i].chunk >> shift & 255]++;
	largest = places_of(counts, places, 256);
	for (uint32_t i = 0; i < part.count; i++)
		scratch[places[items[i].chunk >> shift & 255]++] = items[i];
	memcpy(items, scratch, part.count * sizeof(*items));

	push(s, begin + places[largest] - counts[largest], counts[largest], part.depth);
	for (size_t i = 0; i < 256; i++) {
		if (i != largest)
			push(s, begin, counts[i], part.depth);
		begin += counts[i];
	}
}

/*
 * All chunks are equal: keys that end inside are in order of their length, 0 to 8
 * bytes of the chunk, and before those that go on, which get their next chunk.
 */
static void part_deepen(struct sorter *s, struct part part, struct item *items,
			struct item *scratch, const uint8_t *arena)
{
	enum { GOES_ON = 9, KINDS };
	uint32_t counts[KINDS] = { 0 }, places[KINDS];
	uint32_t depth = part.depth, next = depth + 8, begin;

#define KIND(item) ((item)->key_len > next ? GOES_ON : (item)->key_len - depth)
	for (uint32_t i = 0; i < part.count; i++)
		counts[KIND(&items[i])]++;
	places_of(counts, places, KINDS);
	begin = places[GOES_ON];
	for (uint32_t i = 0; i < part.count; i++)
		scratch[places[KIND(&items[i])]++] = items[i];
#undef KIND
	memcpy(items, scratch, part.count * sizeof(*items));

	for (uint32_t i = begin; i < part.count; i++)
		items[i].chunk = chunk_load(arena + items[i].offset, items[i].key_len, next);
	push(s, part.begin + begin, counts[GOES_ON], next);
}

static void part_sort(struct sorter *s, struct part part, struct item *items, struct item *scratch,
		      const uint8_t *arena)
{
	uint64_t differing = 0;

	if (part.count <= FEW) {
		insertion_sort(items, part.count, part.depth, arena);
		return;
	}
	for (uint32_t i = 1; i < part.count; i++)
		differing |= items[i].chunk ^ items[0].chunk;
	if (differing)
		part_split(s, part, differing, items, scratch);
	else
		part_deepen(s, part, items, scratch, arena);
}

void items_sort(struct sorter *s, struct item *items, struct item *scratch, size_t count,
		const uint8_t *arena)
{
	assert(count <= UINT32_MAX);
	s->count = 0;
	push(s, 0, (uint32_t)count, 0);
	while (s->count > 0) {
		struct part part = s->parts[--s->count];

		part_sort(s, part, items + part.begin, scratch, arena);
	}
}
