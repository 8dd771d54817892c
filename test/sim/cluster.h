/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster: metadata, stores, proxies and clients as nodes of one simulated world,
 * put together from the very code that runs in `wadi`, but for sockets and clocks.
 */
#pragma once

#include "attach/handle.h"
#include "core/core.h"
#include "loop/sim.h"
#include "meta/meta.h"
#include "proxy/proxy.h"
#include "shm/memory.h"
#include "store/store.h"

#define CLUSTER_SHARDS  2
#define CLUSTER_PROXIES 2
#define CLUSTER_CLIENTS 4

enum { NODE_META = 1, NODE_STORE = 2, NODE_PROXY = 10, NODE_CLIENT = 20 };

struct cluster;

struct meta_node {
	struct sim_node *node;
	struct loop *loop;
	struct net *net;
	struct shard *shards[CLUSTER_SHARDS];
	struct listener listeners[CLUSTER_SHARDS];
};

struct store_node {
	struct sim_node *node;
	struct loop *loop;
	struct net *net;
	struct store *store;
	struct listener listener;
};

struct proxy_node {
	struct sim_node *node;
	struct loop *loop;
	struct net *net;
	struct core *core;
	struct proxy *proxy;
	struct listener listener;
};

struct client_node {
	struct sim_node *node;
	struct loop *loop;
	struct wadi *w;
};

struct cluster {
	struct sim *sim;
	struct meta_node meta;
	struct store_node store;
	struct proxy_node proxies[CLUSTER_PROXIES];
	struct client_node clients[CLUSTER_CLIENTS];
};

/* Asserts that everything opens. */
void cluster_open(struct cluster *c, uint64_t seed, uint64_t pool_bytes);
void cluster_close(struct cluster *c);
