/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta: the metadata server, as those see it who put a process together.
 *
 * Its slots lie on shards: slot s on shard s % count. A shard lives on one loop and
 * shares nothing with the others; there is no state above them.
 *
 *	shard.c   slots, time, ticks, connections
 *	hello.c   who is there: HELLO, sessions, heartbeats
 *	serve.c   objects and segments: decode, check access, ask the catalog, answer
 *	serve_job.c  jobs, the map of shards, sums
 *	waiter.c  requests that wait for a path, a count or a read
 *	stores.c  storage servers; place.c segments asked of them
 *	duties.c  what slots owe to stores; over.c what they tell of ended jobs
 *	oplog.c   effects, taken down; leaf.c what they are written on
 *	snapshots.c  images of all slots; restart.c, recover.c how a successor goes on
 *	regions.c where small values are
 *	catalog.h what a slot is: all decisions
 */
#pragma once

#include <stdatomic.h>

#include "net/conn.h"
#include "wire/extent.h"

struct shard;

struct shard_config {
	uint16_t index, count;
	bool is_open_loopback;  /* from this host, no token is the job `default`, with all rights */
	struct slice key;       /* the roles' shared key; empty: roles come from this host only */
	struct slice token_key; /* signs the jobs' tokens; TOKEN_KEY_BYTES at least */
	struct keep *keep;      /* what outlives the process; NULL: nothing does */
	struct archive *archive;    /* files for log and snapshots; NULL: they stay in memory */
	const struct media *media;  /* of log and values; NULL: there is no log */
	const atomic_bool *is_full; /* no memory for anything new; NULL: there always is */
	uint64_t parked_bytes;      /* of memory for those who wait; 0: what they take */
	uint64_t log_bytes;         /* of memory for the log; LOG_BYTES_MIN at least */
	uint64_t snapshot_bytes;    /* logged between two snapshots */
	uint64_t store_gone_ms; /* a store that is away for so long has lost its bytes; 0: never */
	const char *addresses[SHARDS_MAX]; /* of all shards; not ours, and may be filled in later */
	const char *store_here; /* where the one that says STORE_HERE is reached; NULL: nowhere */
};

/*
 * The address of the store of the same process, wherever that is: another one there is its
 * successor, as at any address.
 */
#define STORE_HERE "here"

/*
 * What config points at stays as long as the shard does. If keeper or archive have what a
 * predecessor left, it goes on from there. -EUCLEAN: that is damaged; -EINVAL: it is of
 * another metadata server; it has been logged then what, where, and what to do.
 */
int shard_open(const struct shard_config *config, struct loop *l, struct net *n,
	       struct shard **ret);
/*
 * Closes its connections; it is freed when the last of them is, at the end of a turn.
 * NULL is fine.
 */
void shard_close(struct shard *s);
/* Whether there was anything of a predecessor to go on from. */
bool shard_went_on(const struct shard *s);
/* Before shard_close(): what the keeper has of it stays there, for a successor. */
void shard_leave(struct shard *s);

/* Takes the stream. */
void shard_accept(struct shard *s, struct stream *stream);

/* For tests and metrics. */
struct effect;
void shard_set_sink(struct shard *s,
		    void (*sink)(void *owner, uint16_t slot, const struct effect *e), void *owner);
void shard_info(const struct shard *s, struct info_rep *ret);
