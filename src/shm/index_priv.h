/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index_priv: how an index lies in memory. All that changes while somebody reads it is
 * atomic; the first lines of head and table do not change.
 */
#pragma once

#include <stdalign.h>
#include <stdatomic.h>

#include "base/limits.h"
#include "shm/index.h"

#define INDEX_HEAD_MAGIC  0x3164616568646977ull /* "widhead1" */
#define INDEX_TABLE_MAGIC 0x31656c6261746977ull /* "witable1" */

/* An entry is in one of so many places from the one that its hash names. */
#ifndef INDEX_WINDOW
#define INDEX_WINDOW 8
#endif

struct index_head {
	uint64_t magic;
	_Atomic uint64_t lease_ns; /* 0: nothing is answered */
	_Atomic uint64_t table;    /* the number of the one that holds */
	_Atomic uint64_t issued;   /* the last number that any table was given */
	uint64_t unused[4];
	_Atomic uint32_t lives[]; /* of mappings */
};

struct index_table {
	uint64_t magic, number, seed;
	uint64_t unused[13];
};

enum index_word {
	WORD_PLACE, /* mapping, life */
	WORD_VERSION,
	WORD_OFFSET,
	WORD_LEN,
	WORD_EXPIRY,
	WORD_OBJECT,
	WORD_COMMITTED,
	WORD_SEED,
	WORD_KIND, /* crc, 24 bits of extent_count, tier */
	WORD_COUNT
};

/* To the checker all words are alike, and two are enough to see one without the other. */
#ifndef INDEX_WORDS
#define INDEX_WORDS WORD_COUNT
#endif

struct index_entry {
	alignas(128) _Atomic uint64_t sequence;
	_Atomic uint64_t hash_lo, hash_hi;
	_Atomic uint64_t words[WORD_COUNT];
	uint64_t unused[4];
};

_Static_assert(sizeof(struct index_head) == 64 && sizeof(struct index_table) == 128 &&
		       sizeof(struct index_entry) == 128,
	       "two processes agree on it");

_Static_assert((INDEX_WINDOW + 1) * sizeof(struct index_entry) <= INDEX_TABLE_BYTES_MIN,
	       "a table has a whole window");

/* The place of a hash among `count`, and those after it. */
static inline uint32_t index_place(uint64_t hash_lo, uint32_t count, uint32_t i)
{
	uint64_t at = (((hash_lo >> 32) * count) >> 32) + i;

	return (uint32_t)(at < count ? at : at - count);
}

static inline uint32_t index_mapping_count(size_t head_size)
{
	return (uint32_t)((head_size - sizeof(struct index_head)) / sizeof(uint32_t));
}

static inline uint32_t index_entry_count(size_t table_size)
{
	return (uint32_t)(table_size / sizeof(struct index_entry)) - 1;
}
