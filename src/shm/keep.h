/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keep: memory that outlives its process. A region is handed to a keeper under a name
 * and found there by the successor, however the process ended.
 *
 *	make --> fill, write ... --> put ... --> drop --> media->free
 *	                              | kill -9
 *	            find, take <------+      what nobody takes: drop_rest
 *
 * A keeper holds descriptors and knows nothing of what is in them: whatever is taken may
 * be half written, and who takes it checks it as if it came from a stranger. It is not a
 * copy: both see the same pages, so a store is "there" once it is made, and what is put
 * once need not be put again when it changes.
 *
 * - put() returns when the keeper has it. A second put() of a name replaces the region,
 *   at once: a successor finds one or the other.
 * - The region stays the caller's, mapped and kept. Before it is freed its name is
 *   dropped (or put again with another region).
 * - If the keeper dies, the owner of the keep starts another and hands over all that was
 *   put, by itself; only a put() meanwhile fails, with -EHOSTDOWN (at a start it waits for
 *   the next one first): try again later, and promise nothing on it until then. drop() and
 *   take() do not fail for that. The first name is handed over last: a keeper that has it
 *   has all.
 * - Calls may come from any thread, and lock for their time. All but find() block, for a
 *   message there and back, so they are for helpers and for the start, never for a loop.
 * - `k` may be NULL: nothing is kept. Then regions come from `media`, put() says 0.
 *
 * Implementations: keep_client.h (a `wadi keep`, memfds), keep_heap.h (the simulator's:
 * plain memory of the keeper's own node, which a killed node leaves behind).
 */
#pragma once

#include <errno.h>

#include "shm/memory.h"

/* What it is; the order in which a successor may want them. */
enum keep_kind {
	KEEP_ABOUT = 1, /* of the process: ports, keys, times; a keeper without it lacks more */
	KEEP_TABLE,     /* of a pool: whose its segments are */
	KEEP_SEGMENT,   /* number: its index in the pool */
	KEEP_LOG,       /* owner: the shard, here and below */
	KEEP_SNAPSHOT,
	KEEP_VALUE,
	KEEP_INDEX,   /* owner: its place among those of the proxy; number: its job */
	KEEP_PINS,    /* owner: that of their index; number: the reader */
	KEEP_UIDS,    /* of a proxy: users, and the job whose memory theirs may have */
	KEEP_RETIRED, /* number: the owner's to choose; a segment that is nobody's any more */
	KEEP_KINDS,
};

/* Ordered by kind, owner, number. */
struct keep_name {
	uint16_t kind;   /* enum keep_kind */
	uint16_t owner;  /* a shard's index, or 0 */
	uint64_t number; /* the owner's to choose; below UINT64_MAX */
};

struct keep;

struct keep_ops {
	int (*make)(struct keep *k, size_t size, struct memory *ret);
	int (*put)(struct keep *k, struct keep_name name, const struct memory *m);
	void (*drop)(struct keep *k, struct keep_name name);
	bool (*find)(struct keep *k, struct keep_name from, struct keep_name *ret);
	int (*take)(struct keep *k, struct keep_name name, struct memory *ret);
	void (*drop_rest)(struct keep *k);
};

struct keep {
	const struct keep_ops *ops;
};

/* A region that may be put. `media` fills, scrubs, punches and frees it, kept or not. */
static inline int keep_make(struct keep *k, const struct media *media, size_t size,
			    struct memory *ret)
{
	return k ? k->ops->make(k, size, ret) : media->make(size, ret);
}

/*
 * -EHOSTDOWN: there is no keeper right now. -EMFILE, -ENFILE, -ENOMEM, -ENOSPC (more than
 * KEEP_REGIONS_MAX): it cannot have more. The region is then not kept under this name.
 */
static inline int keep_put(struct keep *k, struct keep_name name, const struct memory *m)
{
	return k ? k->ops->put(k, name, m) : 0;
}

/* Fine if there is none of that name, or no keeper. */
static inline void keep_drop(struct keep *k, struct keep_name name)
{
	if (k)
		k->ops->drop(k, name);
}

/*
 * Of what the predecessor left and nobody has taken or dropped: the first of this kind
 * and owner with at least this number. False: there is none.
 */
static inline bool keep_find(struct keep *k, struct keep_name from, struct keep_name *ret)
{
	return k && k->ops->find(k, from, ret);
}

/*
 * The predecessor's region, mapped, still kept, and the caller's as if he had put it. That
 * it is memory of our user which nobody can resize has been checked, and no more: whether
 * its size is the right one, and what is in it, the caller checks.
 * -ENOENT: there is none, or it was taken. -EBADF: it is no such region; -ENOMEM.
 */
static inline int keep_take(struct keep *k, struct keep_name name, struct memory *ret)
{
	return k ? k->ops->take(k, name, ret) : -ENOENT;
}

/* Everybody has taken what is his: the rest goes. */
static inline void keep_drop_rest(struct keep *k)
{
	if (k)
		k->ops->drop_rest(k);
}
