/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_object: what the headers of objects say that a store over Redis has read. They
 * never change, so each is read once. Pure.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct redis_object {
	char *path;
	uint64_t writer;
	size_t count;    /* of parts */
	uint64_t *parts; /* their lengths */
	uint64_t len;    /* of all */
};

struct redis_objects {
	struct redis_object *list; /* owned, with all that is in it */
	size_t count, cap;
	size_t hit; /* where the last one was found: the next is often it, or beside it */
};

void redis_objects_fini(struct redis_objects *t);

/* A header is numbers of 64 bits: the writer, then the length of each part. -EBADMSG, -ENOMEM. */
int redis_objects_add(struct redis_objects *t, const char *path, const void *header, size_t len);

/* NULL: has not been read. Valid until the next addition. */
const struct redis_object *redis_objects_find(struct redis_objects *t, const char *path);

/* Bytes [from, from + len) of one part. */
struct redis_range {
	size_t part;
	uint64_t from, len;
};

/* The beginning of the object's bytes [offset, offset + len), as far as it is in one part. */
struct redis_range redis_object_range(const struct redis_object *o, uint64_t offset, uint64_t len);
