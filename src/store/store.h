/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: the storage server: a pool of segments in memory, a janitor, and the
 * messages of slots (duties) and of those who read and write segments. It sees no
 * names. Which segment is whose the slots decide; it checks every access against that.
 *
 * One loop owns all of it; only the janitor's helper runs beside. The store has no
 * listener: whoever puts the roles of a process together accepts and connects.
 */
#pragma once

#include "net/conn.h"
#include "net/reach.h"

struct keep;
struct media;
struct pool_counters;

struct store_config {
	uint64_t limit_bytes;   /* of the pool: what its segments may hold together */
	enum tier tier;         /* TIER_DRAM: there is no other yet */
	const char *name;       /* for log lines */
	struct slice key;       /* the roles' shared key; empty: whoever is on this host */
	struct slice token_key; /* signs the jobs\' tokens; empty: no direct clients */
	const char *address;    /* where it is reached, told to metadata servers; "" for nowhere */
	const struct media *media; /* NULL: media_memfd */
	struct keep *keep;         /* where a predecessor's segments are; NULL: nothing is kept */
	/*
	 * A segment is to be freed, and those who reach it in this process still have it
	 * pinned: they let go of what nobody takes. May be NULL.
	 */
	void (*wanted)(void *owner, uint64_t job, uint64_t segment, bool is_short);
	void *owner; /* not ours */
};

struct store;

int store_open(const struct store_config *config, struct loop *l, struct net *n,
	       struct store **ret);
/*
 * Closes its connections and gives all memory back. Nothing is pinned any more by way
 * of store_reach(); the net goes no earlier than a turn later. NULL is fine.
 */
void store_close(struct store *s);

/* A client's connection; takes the stream. */
int store_accept(struct store *s, struct stream *stream);

/* Offers the pool to a metadata shard at the other end of a stream, which is taken. */
int store_join(struct store *s, struct stream *stream);
/* The same at an address, and again whenever the connection ends. */
int store_join_at(struct store *s, const struct address *meta);

/*
 * Who moves what is live in a segment elsewhere, when a slot wants it emptied: `empty`
 * begins, and store_emptied() ends, some turns later. Without one, none is emptied.
 */
struct mover;
void store_set_mover(struct store *s, struct mover *m,
		     int (*empty)(struct mover *m, uint64_t job, uint64_t segment,
				  uint32_t generation));
void store_emptied(struct store *s, uint64_t segment, uint32_t generation, int result);

/* For a core on the same loop. */
void store_reach(struct store *s, struct reach **ret, const struct reach_ops **ret_ops);

/* How many segments it may have; each is a descriptor, and a mapping. */
unsigned store_segments_max(const struct store *s);

/* What extents and grants call it: the number of its pool. */
uint64_t store_incarnation(const struct store *s);
/* How many metadata shards know it. */
unsigned store_joined_count(const struct store *s);

/* What its pool holds in memory, without what is lent. */
uint64_t store_memory_bytes(const struct store *s);
/* Does anybody wait for space? */
bool store_is_waited_for(const struct store *s);
/* Memory of the pool's limit for metadata and buffers of this process; see pool_lend(). */
uint64_t store_lend(struct store *s, uint64_t bytes);

void store_info(const struct store *s, struct info_rep *ret);
const struct pool_counters *store_counters(const struct store *s); /* store/counters.def */
