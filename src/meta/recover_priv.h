/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover: while it reads; of recover.c and damage.c.
 */
#pragma once

#include "meta/oplog.h"

struct found {
	struct oplog *log;
	const struct recovery *to;
	struct recovered *ret;
	uint8_t *buf;          /* LEAF_BYTES, for files */
	struct list snapshots; /* leaves of snapshots, in order of number and index */
	bool has_begun;
	struct leaf *unbegun; /* the last file, if no record is in it; NULL */
	struct leaf *torn;    /* what has an end that is to be cut off; NULL */
	uint32_t torn_at;
	unsigned torn_records;
	/* Of the last snapshot that was not whole: where that is seen, and how. NULL: none was. */
	struct leaf *broken;
	uint32_t broken_at;
	const char *broken_how;
};

/* Returns `err`; what is said is for people. */
int found_fail(struct found *f, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* A leaf's bytes: its memory, or its file in f->buf. */
int found_bytes(struct found *f, struct leaf *leaf, const uint8_t **ret, uint32_t *ret_len,
		char name[ARCHIVE_NAME_MAX]);
const char *found_where(const struct found *f, const struct leaf *leaf);
/* The header is that of the file with this name. */
bool found_is_named(const struct found *f, const struct leaf_header *h,
		    const struct leaf_header *named);

/* damage.c */

/*
 * -EUCLEAN: from `at` on the leaf is not to be believed, `how` says why, behind its name. What a
 * repair does about it is found out, and said.
 */
int damaged(struct found *f, struct leaf *leaf, uint32_t at, const char *how, ...)
	__attribute__((format(printf, 4, 5)));
