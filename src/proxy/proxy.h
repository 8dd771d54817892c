/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy: the doors. They translate what functions ask into what the store core does,
 * and decide nothing.
 *
 *	native.c   our own protocol, over TCP and Unix sockets: HELLO, and who may what
 *	put.c      an object in one frame
 *	upload.c   an object in many frames
 *	get.c      objects read, in one frame or by ranges; find.c: which, and what is noted of it
 *	ring.c     memory for the frames of a function on this host
 *	near.c     what of a job's segments a function may map; who.h says who may
 *	index.c    what it finds there without asking; reader.c: who does; mapped.c: when that is
 *	           over; copies.c: small values in it; kept.c: what a predecessor left of it
 *	region.c   memory that functions are given
 *	relay.c    what metadata answers by itself: passed on
 *	http.c     /healthz and /metrics
 *	redis.c    not in this build, and says so
 */
#pragma once

#include "core/core.h"
#include "loop/stream.h"

struct proxy;
struct pool_counters;

/* What is counted on one loop. */
struct loop_tally {
	struct net_counters net;
	uint64_t waiting_count; /* requests of the core that are about to be made again */
	uint64_t stall_ns_max;  /* the longest time between two looks at the sockets */
	uint64_t cpu_ns;        /* of its thread, if its owner knows */
	bool is_ready;          /* every metadata shard answers */
};

struct proxy_config {
	struct core *core;
	const uint8_t *token_key; /* of the jobs' tokens; NULL: none are taken */
	size_t token_key_len;
	/* Who has the roles' shared key is an operator: the job `default`, and may make jobs. */
	struct slice key;
	unsigned rings_max, indexes_max; /* for functions on this host; 0: none */
	uint64_t index_bytes_max;        /* of those, all together */
	struct keep *keep;               /* where a predecessor's indexes are; NULL: they are not */
	uint32_t own_uid;
	bool trusts_local, is_isolated;   /* see who.h */
	bool is_open_loopback;            /* from this host, no token is as good as that key */
	bool is_private;                  /* of a direct client, and whoever connects is that */
	const struct pool_counters *pool; /* of the pool in this process, not ours; NULL: none */
	/* Adds what this process knows of its pool; may be NULL. */
	void (*add_info)(void *owner, struct info_rep *info);
	/*
	 * Those of all loops of this process that have a proxy, on a fiber; good until it waits.
	 * NULL: not in time. May be NULL itself: there is this one.
	 */
	const struct loop_tally *(*tallies)(void *owner, uint64_t due_ns, unsigned *ret_count);
	/* One that proxy_accept() or another has taken is closed. May be NULL. */
	void (*gone)(void *owner);
	void *owner; /* not ours */
};

/* An error: nothing is open, and what the keeper has of a predecessor is still there. */
int proxy_open(struct net *n, const struct proxy_config *config, struct proxy **ret);
/* Closes the connections; a turn or a few later all its fibers have ended. */
void proxy_stop(struct proxy *p);
bool proxy_has_stopped(const struct proxy *p);
void proxy_close(struct proxy *p);

/* Of its loop; cpu_ns is left alone. */
void proxy_tally(const struct proxy *p, struct loop_tally *ret);

/* Each takes the stream. */
void proxy_accept(struct proxy *p, struct stream *s);
void proxy_accept_http(struct proxy *p, struct stream *s);
void proxy_accept_redis(struct proxy *p, struct stream *s);

/* Adds one integral of bytes over time to another. */
void info_add_integral(struct info_rep *sum, const struct info_rep *one);

/* The job is over: its connections are cut. */
void proxy_job_over(struct proxy *p, uint64_t job);
/*
 * The segment is to be freed: connections whose peer has taken nothing for PEER_STUCK_MS
 * of bytes that are sent out of it are cut, and nothing leads functions to it any more. is_short:
 * somebody waits for space, so views that are older than HOLD_MS_MAX are revoked.
 */
void proxy_segment_wanted(struct proxy *p, uint64_t job, uint64_t segment, bool is_short);
/* Of core_config: connections whose peer has taken nothing of bytes of other stores are cut. */
void proxy_buffers_wanted(struct proxy *p);
/* Of core_config: what was told on. */
void proxy_forget(struct proxy *p, uint64_t job, struct slice path);
void proxy_forget_shard(struct proxy *p, uint16_t shard);
