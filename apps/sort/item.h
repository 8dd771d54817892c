/* SPDX-License-Identifier: Apache-2.0 */
/*
 * item: a record or a line in memory, as the sort sees it: where it is, how long
 * its key is, and eight bytes of the key, so that most comparisons touch nothing
 * else. One sorter for both formats, because a record is a line of 100 bytes of
 * which the first 10 count.
 *
 * Keys compare as unsigned bytes, and a key that is the beginning of another comes
 * first, which is `LC_ALL=C sort`. The sort is stable, so that a function that runs
 * twice writes the same bytes twice.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "record.h"

enum format {
	FORMAT_RECORDS, /* of 100 bytes */
	FORMAT_LINES,   /* ended by a newline, which is no part of the key */
};

struct item {
	uint64_t chunk;  /* eight bytes of the key from some depth on, the first one highest */
	uint32_t offset; /* into the arena */
	uint32_t key_len;
};

/* Bytes of the key behind `depth`, at most eight, zeros after its end. Reads up to REGION_SLACK
 * further. */
static inline uint64_t chunk_load(const uint8_t *key, size_t key_len, size_t depth)
{
	size_t left = key_len > depth ? key_len - depth : 0;
	uint64_t v;

	if (left == 0)
		return 0;
	memcpy(&v, key + depth, sizeof(v));
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	return left >= 8 ? v : v & ~(UINT64_MAX >> (8 * left));
}

static inline struct item item_make(const uint8_t *arena, size_t offset, size_t key_len)
{
	return (struct item){
		.chunk = chunk_load(arena + offset, key_len, 0),
		.offset = (uint32_t)offset,
		.key_len = (uint32_t)key_len,
	};
}

/* With what is not key: the rest of the record, the newline. */
static inline size_t item_size(enum format format, size_t key_len)
{
	return format == FORMAT_RECORDS ? RECORD_SIZE : key_len + 1;
}

static inline int key_compare(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
	int r = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return r ? r : (a_len > b_len) - (a_len < b_len);
}

/*
 * Appends the items of arena[from, to), which ends with a whole one, until there
 * are `cap`; returns how many, and where the next one begins.
 */
size_t items_find(enum format format, const uint8_t *arena, size_t from, size_t to,
		  struct item *ret, size_t cap, size_t *ret_next);

/* What items_sort() remembers while it works: about 100 KB, whatever it sorts. */
struct sorter;
struct sorter *sorter_new(void);
struct sorter *sorter_free(struct sorter *s);

/* Sorts made items, whose chunks are of depth 0 before and of any depth after it. */
void items_sort(struct sorter *s, struct item *items, struct item *scratch, size_t count,
		const uint8_t *arena);
