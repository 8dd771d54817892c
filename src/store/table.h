/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table: what a pool must not forget when its process is killed: a row for each segment,
 * and what has been booked. It lies in a region of memory that a keeper holds, too.
 *
 * A kill cuts the writing after any instruction. So each thing is there twice, each time
 * with a sequence number and a sum of all of it. Written is the older one; read is the
 * newer one whose sum is right. What is half written is as if it had not begun, and no
 * order of stores matters.
 *
 * Of the book, a row has what its segment adds to it, by its stamps. When a segment is
 * free, that moves to `closed`, together with the segment's name: if the kill falls between
 * this and the row, the row is known to be in there already.
 *
 * The region is written by whoever has its pool, and by nobody else; a successor takes what
 * it finds there for bytes of a stranger.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shm/memory.h"
#include "store/book.h"

enum row_flags {
	ROW_USED = 1u << 0, /* granted, and not free yet */
	ROW_SEALED = 1u << 1,
	ROW_FREED = 1u << 2, /* booked as free; somebody may have it pinned still */
	ROW_REVOKED = 1u << 3,
	ROW_EXPORTED = 1u << 5, /* functions may map its memory, used or not */
	ROW_OVER = 1u << 4,     /* its job is; one row of a job says it for all of them */
	ROW_AUTHORED = 1u << 6, /* and one of those functions may write to it */
};

struct row {
	uint64_t job, request, key;
	uint64_t stamp_ns, sealed_ns, freed_ns; /* the slot's time of each */
	uint32_t generation, size, front, back;
	uint64_t flags; /* enum row_flags */
};

struct closed {
	unsigned __int128 moments;  /* of what is free */
	uint32_t index, generation; /* of the last one that came to it */
};

struct table {
	struct memory memory; /* `ptr` NULL: there is none, and nothing is written */
	unsigned row_count;
};

/* Bytes of a table of so many rows, in whole pages. */
size_t table_size(unsigned row_count);
/* Empty, of pool `number`. The memory is zeros, of table_size(), and taken. */
void table_init(struct table *t, struct memory memory, unsigned row_count, uint64_t number);
/* Found: -EBADMSG: no table, or one of another version. The memory is not taken then. */
int table_open(struct table *t, struct memory memory, uint64_t *ret_number);

/* -ENOENT: it was never used. -EBADMSG: none is whole, which no kill leaves. */
int table_row(const struct table *t, unsigned index, struct row *ret);
void table_set_row(struct table *t, unsigned index, const struct row *row);
int table_closed(const struct table *t, struct closed *ret);
void table_set_closed(struct table *t, const struct closed *closed);

/* Nothing in it is beyond what can be, so it may be reckoned with. */
bool row_is_possible(const struct row *row);
/* What a row adds to the book. */
struct book row_book(const struct row *row);
