/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster: processes of one simulated world, put together from the very code that runs
 * in `wadi`, but for sockets, clocks and main(). A process is a node with some roles;
 * it can be killed, and started again at the same addresses.
 */
#pragma once

#include "attach/handle.h"
#include "core/core.h"
#include "host.h"
#include "loop/sim.h"
#include "meta/meta.h"
#include "proxy/proxy.h"
#include "shm/archive.h"
#include "shm/keep_heap.h"
#include "store/store.h"

#define SHAPE_SHARDS_MAX 4
#define SHAPE_STORES     2
#define SHAPE_PROXIES    2
#define SHAPE_CLIENTS    5 /* the last one is the operator */
#define OPERATOR         (SHAPE_CLIENTS - 1)
#define PROCESSES_MAX    (1 + SHAPE_STORES + SHAPE_PROXIES + SHAPE_CLIENTS)

/* A store that stays away for so long has lost its bytes: longer than any fault that ends. */
#define STORE_GONE_MS 200000

/* RUNS_DIRECT: a client that is its own proxy, and ends with the function whose process it is. */
enum { RUNS_META = 1, RUNS_STORE = 2, RUNS_PROXY = 4, RUNS_CLIENT = 8, RUNS_DIRECT = 16 };

/* Who runs where, and how much room there is: chosen by the seed. */
struct shape {
	unsigned shards;
	bool is_together;  /* store i and proxy i are one process, so that puts are made in place */
	bool is_dev;       /* metadata, store 0 and proxy 0 are one, as in `wadi dev` */
	bool names_left;   /* who is started again says whose sessions it has instead */
	bool keeps_stores; /* a store's segments outlive it */
	bool has_archive;  /* the log goes to files, too */
	bool is_durable;   /* so are all jobs: what was acknowledged survives the power */
	bool is_near;      /* together: clients map what their host's store has, and write there */
	bool is_crowded;   /* little room, and most of what fails is the way from a proxy to it */
	unsigned directs;  /* clients that are their own proxies, by the bit of their number */
	uint64_t pool_bytes, snapshot_bytes;
	uint64_t delay_ns_max;
};

struct cluster;

struct process {
	struct cluster *cluster;
	char name[12];
	unsigned roles;
	unsigned index; /* of its store, proxy or client */
	struct sim_node *node;
	uint32_t id;
	bool is_up, is_paused;
	bool is_gone;  /* for good: it is not started again */
	unsigned life; /* counts its starts */

	/* What outlives it. */
	struct sim_node *keeper_node; /* NULL: nothing does */
	struct keep_heap *keeper;
	struct keep_host *host_keeper; /* of memory that others map */
	struct archive *archive;
	bool is_keeper_down;
	uint64_t sessions[SHARDS_MAX];

	/* Of a life; dropped with the node. */
	struct loop *loop, *loops[SHAPE_SHARDS_MAX]; /* shard 0 lives on the first one */
	struct net *net, *nets[SHAPE_SHARDS_MAX];
	struct shard *shards[SHAPE_SHARDS_MAX];
	struct listener shard_listeners[SHAPE_SHARDS_MAX], store_listener, proxy_listener;
	struct store *store;
	struct core *core;
	struct mover *mover;
	struct proxy *proxy;
	struct wadi *w; /* of a direct client: nothing of it until it has a job */
	struct direct *direct;
};

/* A session that a shard has ended. */
struct session_over {
	unsigned shard;
	uint64_t session;
};
#define SESSIONS_OVER_MAX 256

struct cluster {
	struct sim *sim;
	struct session_over over[SESSIONS_OVER_MAX]; /* since whoever looks took them */
	unsigned over_count;
	struct shape shape;
	struct process processes[PROCESSES_MAX];
	unsigned count;
	struct process *meta, *stores[SHAPE_STORES], *proxies[SHAPE_PROXIES],
		*clients[SHAPE_CLIENTS];
	struct address shards[SHAPE_SHARDS_MAX];
	char shard_texts[SHAPE_SHARDS_MAX][32], store_texts[SHAPE_STORES][32];
};

/* Asserts that everything opens: with memory there is no reason why it should not. */
void cluster_open(struct cluster *c, uint64_t seed, const struct shape *shape);
void cluster_close(struct cluster *c);
struct process *cluster_find(struct cluster *c, const char *name); /* NULL */
struct address cluster_proxy(const struct cluster *c, unsigned i);

/* As kill -9: nothing of it is left but what others know. Not in a turn of its own. */
void process_kill(struct process *p);
/* With its keeper: what that held is gone, too. */
void process_kill_host(struct process *p);
/* The power of metadata's host is cut: of its files is left what was synced, and what `dice` says.
 */
void process_cut_power(struct process *p, uint64_t dice);
void process_start(struct process *p);
/* Something outlives it. */
static inline bool process_is_kept(const struct process *p)
{
	return p->keeper || p->host_keeper;
}
/* A direct client has a job: from now on it can ask. On its node, once in its life. */
void process_attach(struct process *p, const char *token);
/* Its keeper is gone, or there again. */
void process_keeper_down(struct process *p, bool is_down);
