/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leaf: what log and snapshots are written on: a megabyte that begins with what it is,
 * and has records behind each other. In memory and in a file it has the same bytes.
 *
 *	header (LEAF_HEADER bytes), record, record, ... , zeros
 *	record: len u32, crc u32, lsn u64, slot u16, kind u16, synced u32; `len` bytes; up to a
 *	        multiple of 8
 *
 * The crc is of all of the record but itself, begun with seed and number of the leaf, so
 * that bytes of another life are none. `synced` says how many bytes of the leaf were on the
 * disk already when the record was written. In memory a snapshot's records are packed as a whole.
 * Pure: nothing here waits, allocates or keeps.
 */
#pragma once

#include "base/cursor.h"

#define LEAF_BYTES  (1u << 20)
#define LEAF_HEADER 96

enum leaf_kind { LEAF_LOG = 1, LEAF_SNAPSHOT };

enum record_kind {
	RECORD_EFFECT = 1,
	RECORD_IMAGE,
	RECORD_LAST, /* of a snapshot: nothing comes behind it */
};

/* What there is to say of a leaf. */
struct leaf_header {
	uint16_t kind; /* enum leaf_kind */
	uint16_t shard, shard_count;
	uint64_t seed, incarnation; /* the shard's */
	uint64_t number;            /* of the leaf; of the snapshot */
	uint32_t index;             /* in the snapshot */
	uint32_t packed;            /* bytes that are behind the header instead of the records; 0 */
	uint64_t lsn;               /* before its first record; when the snapshot began */
	uint64_t base_ns; /* of a log: what the clock of the slots is ahead of node_now_ns() */
	uint64_t memory;  /* of a log: who begins from files alone has another one */
	/*
	 * When that was begun, node_now_ns() of then; 0: sessions of before are still to be ended.
	 * Not in the crc.
	 */
	uint64_t memory_ns;
};

void leaf_header_put(uint8_t *leaf, const struct leaf_header *h);
/*
 * -ENODATA: zeros, so it was never begun; -ENOTSUP: of another version of the format; -EBADMSG:
 * not a leaf.
 */
int leaf_header_get(const uint8_t *leaf, size_t len, struct leaf_header *ret);

/* The memory of one, in whole pages. */
static inline uint32_t leaf_size(const struct leaf_header *h)
{
	return h->packed ? (LEAF_HEADER + h->packed + 4095) & ~4095u : LEAF_BYTES;
}

/* Nothing was ever written there. */
bool leaf_is_zero(const uint8_t *p, size_t len);

/* How far a leaf in memory is written: set when a record is whole. Not in the crc. */
void leaf_set_used(uint8_t *leaf, uint32_t used);
uint32_t leaf_used(const uint8_t *leaf);
/* After the records that it speaks of. */
void leaf_set_memory_ns(uint8_t *leaf, uint64_t ns);

struct record {
	uint64_t lsn;
	uint32_t synced; /* bytes of the leaf, from its beginning; 0: none, or there is no file */
	uint16_t slot, kind;
	struct slice bytes;
};

/* The bytes that a record takes. */
static inline uint32_t record_size(size_t len)
{
	return (uint32_t)(24 + ((len + 7) & ~(size_t)7));
}

/*
 * The record's bytes, record->bytes.len of them, are at `at` + 24 already: makes it a record.
 * Returns record_size().
 */
uint32_t record_seal(uint8_t *at, const struct leaf_header *h, const struct record *record);

/*
 * The record at *at; *at goes behind it. -ENODATA: zeros, or no byte is left; -EBADMSG: it is
 * none.
 */
int record_get(const uint8_t *leaf, uint32_t len, const struct leaf_header *h, uint32_t *at,
	       struct record *ret);
/* The records that can be found from `at` on, behind one that is none. */
struct records_behind {
	unsigned count;
	uint32_t synced; /* the most that any of them says */
};
struct records_behind records_behind(const uint8_t *leaf, uint32_t len, const struct leaf_header *h,
				     uint32_t at);
