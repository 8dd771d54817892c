/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view: an object of the index in place, in a function: from its hash to a pointer without
 * asking anybody, and back. pins.h says why it is right.
 *
 * Whatever lies in the index, a view is inside of a mapping that the function has.
 */
#pragma once

#include "shm/index.h"
#include "shm/pins.h"

/* ptr NULL: this function has not mapped it. */
struct mapping {
	const uint8_t *ptr;
	uint64_t len;
	uint32_t life;
};

/* What a function is attached with. Only the thread that gets changes it. */
struct viewer {
	struct index_reader index;
	struct pins pins;
	struct mapping *mappings; /* by their number; not ours */
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
 *	         life; both are not looked at again, so the proxy may know of no such thing
 *	-ESTALE  there is another table: ask for it. Until then the proxy knows
 */
int view_get(const struct viewer *v, struct hash_128 hash, uint64_t now_ns, struct view *ret);

/* On any thread. -ESTALE: the bytes were taken away, and what was read may be anything. */
int view_release(const struct viewer *v, const struct view *view);
