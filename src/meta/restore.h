/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore: a catalog from the images that catalog_snapshot_step() wrote.
 *
 *	restore_begin() -> restore_next() for each image -> restore_end()
 *
 * `is_whole` once the last image has been taken; then catalog_replay() may go on with the
 * effects after `lsn`. After an error the catalog is good for catalog_free() only.
 */
#pragma once

#include "base/htable.h"
#include "meta/catalog.h"

struct body;
struct entry;
struct open;
struct part;

struct restore {
	struct catalog *catalog; /* not ours; new */
	uint64_t lsn;
	bool has_begun, is_whole;

	/* restore.c's own: what came last, and what is still to come of it. */
	struct htable sessions; /* by number */
	struct entry *entry, *ghost;
	struct body *body;
	struct open *open;
	struct part *part;
	uint32_t chunks_left;
	uint64_t chunks_len;
};

int restore_begin(struct restore *r, struct catalog *c);
/* -EBADMSG: not an image, or not one that fits here; -ENOMEM. */
int restore_next(struct restore *r, struct rcur *image);
/* Fine at any moment after restore_begin(). */
void restore_end(struct restore *r);
