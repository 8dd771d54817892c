/* SPDX-License-Identifier: Apache-2.0 */
/*
 * merge: sorted runs into one, through a window on each.
 *
 * A window is a buffer that slides over its run. When the next item is not whole in
 * it, what is left moves to the front and `fill` brings more. A window has room for
 * the longest item of its run at least; the larger it is, the fewer reads. A run that
 * fits is read once.
 *
 * Items that compare equal come out in the order of their windows.
 */
#pragma once

#include "item.h"
#include "piece.h"

struct window {
	uint8_t *
		buf; /* not ours; written while `left`. Whole words may be loaded at a line's end */
	size_t cap;
	size_t at, end; /* of what is in the buffer and not yet merged */
	uint64_t left;  /* bytes of the run that are still to be read */

	/* merge.c's own: the item at `at`. */
	uint64_t chunk;
	size_t key_len, size; /* size 0: the run is at its end */
};

struct merge {
	enum format format;
	struct window *windows; /* not ours */
	size_t count;

	/* Reads `n` bytes, of those that are left, to the window's buf + end. */
	int (*fill)(struct merge *m, struct window *w, size_t n);

	/* merge.c's own: a tree of the losers, by index; the winner is at 0. */
	uint32_t *losers;
	bool is_taken; /* the winner's item was returned */
};

/* `fill` is called for windows that are not full yet, so they may be filled before. */
int merge_init(struct merge *m);
void merge_fini(struct merge *m);

/* The next item, valid until the next call: 1, or 0 at the end; -EBADMSG: not such a run. */
int merge_next(struct merge *m, const uint8_t **ret_item, size_t *ret_size);
