/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index: where the objects of a job lie in memory that its functions map, so that they
 * find them without asking. One proxy writes it; functions read it through read-only
 * mappings. What is not in it is asked for through the ring, so nothing here is an error
 * that a user sees: a full index forgets an entry for each new one.
 *
 * Two kinds of regions, both of the caller's:
 * - the *head*: one for the life of a job, of whatever proxy: the end of the serving lease,
 *   the number of the table that holds, and the life of each mapping.
 * - the *table*: the entries. A larger one, or that of a proxy that was started again, takes its
 *   place: the head names another number, and from then on the old one answers nothing.
 *
 * A *mapping* is what a function maps as one range of addresses: a segment, or the range of
 * an object of several. Its number is the same in all functions of a job. When it ends, by
 * being free or by being taken away, its *life* grows: whoever mapped it for an earlier life
 * maps it anew, and a view of an earlier life was revoked.
 *
 * An entry's *sequence* is even while it holds, and never the same again; it is odd while it
 * is written, and while there is nothing. So to drop an entry is one store, and a proxy that
 * was killed in the middle of one leaves nothing that looks like one. How readers and the
 * end of a mapping keep clear of each other is told in pins.h.
 *
 * Paths are known by their hash of 128 bits under the seed of the table. It is no secret of the
 * job's own functions: who makes two paths collide spoils a job that could spoil itself.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"

/* What a reader learns. The writer's business is that it is true. */
struct index_item {
	uint32_t mapping, life;
	uint64_t offset, len; /* in the mapping */
	uint64_t version;
	uint64_t expiry_ns;    /* of CLOCK_BOOTTIME; 0: never */
	uint64_t object;       /* id */
	uint64_t committed_ns; /* of CLOCK_BOOTTIME; before it began, modulo 2^64 */
	uint64_t seed;         /* of the extent, if it is one */
	uint32_t crc;
	uint32_t extent_count; /* below 2^24; 0: a small value */
	uint8_t tier;
};

struct index_head;
struct index_entry;
struct index_link;

struct hash_128 index_hash(const void *path, size_t len, uint64_t seed);

/* Bytes of the head, from its beginning on, that must have pages before a mapping `number - 1` is
 * used. */
size_t index_head_bytes(uint32_t number);

/* The proxy's. One thread's; nothing here waits, and every call is bounded. */

struct index_side {
	struct index_entry *entries; /* in the region; NULL: there is no such table */
	uint32_t count, live;
	uint64_t number;
	struct index_link *links; /* of each entry, in the list of its mapping: our own memory */
	uint32_t *first;          /* of each mapping */
	uint32_t first_count;
};

struct index_writer {
	struct index_head *head;
	uint32_t mapping_count;
	uint64_t seed;
	struct index_side now, next; /* `next` is filled, while `now` still answers */
	uint32_t copied;             /* entries of `now` that were looked at for `next` */
	uint32_t turn;               /* whose turn it is to be forgotten */
};

/*
 * Takes over a head, or begins one that is all zeros, with an empty table: all zeros, of
 * INDEX_TABLE_BYTES_MIN at least. From here on no older table answers, and no lease holds.
 * -EINVAL: sizes; -ENOMEM.
 */
int index_writer_open(struct index_writer *x, void *head, size_t head_size, void *table,
		      size_t table_size, uint64_t seed);
/* Nothing answers any more. The regions are the caller's to free. */
void index_writer_close(struct index_writer *x);

/*
 * The index answers until then, of CLOCK_BOOTTIME. All that was heard of before the lease was
 * renewed is put and dropped first; who cannot know that opens anew.
 */
void index_writer_lease(struct index_writer *x, uint64_t until_ns);

/* `item->life` is filled in. An older version never takes the place of a newer one. -ENOMEM. */
int index_writer_put(struct index_writer *x, struct hash_128 hash, struct index_item *item);
/* False if it was not there. */
bool index_writer_drop(struct index_writer *x, struct hash_128 hash);
/* Drops INDEX_STEP entries into a mapping. True: there are none. */
bool index_writer_drop_mapping(struct index_writer *x, uint32_t mapping);

uint32_t index_writer_life(const struct index_writer *x, uint32_t mapping);
/*
 * All its entries were dropped. Views that are left are revoked, and say so at their release;
 * the number is for another mapping once no pin is left in it.
 */
void index_writer_end_life(struct index_writer *x, uint32_t mapping);

/* There are so many entries that new ones push out others: a table of twice the size is due. */
bool index_writer_is_full(const struct index_writer *x);
/* Begins to fill a larger table. -EINVAL, -ENOMEM: nothing has changed; -EBUSY: it is being done.
 */
int index_writer_grow(struct index_writer *x, void *table, size_t size);
/* Copies INDEX_STEP entries. True: the old table is nobody's any more. */
bool index_writer_copy(struct index_writer *x);

/* A function's. */

struct index_reader {
	const struct index_head *head;
	const struct index_entry *entries;
	uint64_t seed, number;
	uint32_t count, mapping_count;
};

/* An entry that was found, to be looked at a second time. */
struct index_look {
	const struct index_entry *entry;
	uint64_t sequence;
	struct index_item item;
};

/* Sizes are the kernel's word. -EBADMSG: that is no index. */
int index_reader_open(struct index_reader *r, const void *head, size_t head_size);
/* The table that holds, at the beginning and after each -ESTALE. */
int index_reader_table(struct index_reader *r, const void *table, size_t table_size);
/* -ENOENT. What is found may be about to go: it counts once index_reader_check() has said so. */
int index_reader_find(const struct index_reader *r, struct hash_128 hash, struct index_look *ret);
/*
 * Whether it still holds; asked once the mapping is pinned. `now_ns` was read after the get
 * began. -ENOENT: it does not, or the lease is over. -ESTALE: there is another table.
 */
int index_reader_check(const struct index_reader *r, const struct index_look *look,
		       uint64_t now_ns);
/* There is another table: what is not found may be in that one. */
bool index_reader_is_old(const struct index_reader *r);
/* The second look itself, which index_reader_check() takes. */
bool index_look_holds(const struct index_look *look);
/* The life that a mapping has now. What was read before is of this life, or of one before. */
uint32_t index_reader_life(const struct index_reader *r, uint32_t mapping);
/* Until when it answers; whoever writes it was there so shortly before. */
uint64_t index_reader_lease(const struct index_reader *r);
