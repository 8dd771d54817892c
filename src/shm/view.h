/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view: an object of the index in place, in a function: from its hash to a pointer without
 * asking anybody, and back. pins.h says why it is right.
 *
 * Whatever lies in the index, a view is inside of a mapping that the function has.
 */
#pragma once

#include "base/list.h"
#include "shm/index.h"
#include "shm/memory.h"
#include "shm/pins.h"

struct viewer;

/* What a function has mapped as one range of addresses: a segment, or pieces of some. */
struct mapping {
	const uint8_t *ptr;
	uint64_t len;
	uint32_t life; /* for which it has its number in an index */

	/* Its owner's. */
	struct list link;
	struct memory memory;
	struct viewer *viewer; /* that has it under this number; NULL: none */
	uint32_t number;
	uint64_t segment; /* 0: pieces */
	uint32_t generation;
	bool is_to_write;                /* our own, since that generation */
	uint32_t joined;                 /* so many of them are there */
	size_t touched_from, touched_to; /* likewise: these pages are mapped, if they are there */
	unsigned user_count;
	uint64_t used_ns;
};

/* What a function is attached with. Only the thread that gets changes it. */
struct viewer {
	struct index_reader index;
	struct pins pins;
	struct mapping **mappings; /* by their number; NULL: not mapped. Not ours */
	uint32_t mapping_count;
};

struct view {
	const uint8_t *ptr;
	struct index_item item;
};

/*
 * `now_ns` is of CLOCK_BOOTTIME, and was read after the get began: at that moment the index
 * answered for what it had. 0: pinned until view_release().
 *
 *	-ENOENT  not in the index, or no longer: the proxy knows
 *	-ENXIO   it is there, but this function has to map ret->item.mapping first, for its
 *	         life; by then the proxy may know of no such thing
 *	-ESTALE  there is another table: ask for it. Until then the proxy knows
 */
int view_get(const struct viewer *v, struct hash_128 hash, uint64_t now_ns, struct view *ret);

/* On any thread. -ESTALE: the bytes were taken away, and what was read may be anything. */
int view_release(const struct viewer *v, const struct view *view);
