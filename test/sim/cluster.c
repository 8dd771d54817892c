/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster.h"

#include <assert.h>
#include <stdio.h>

#include "base/node.h"

static struct address at(uint32_t node, uint32_t port)
{
	struct address a = { .kind = ADDRESS_SIM };

	a.u.sim.node = node;
	a.u.sim.port = port;
	return a;
}

static void must(int r)
{
	assert(r == 0);
	(void)r;
}

static void accept_shard(struct listener *lr, struct stream *s)
{
	shard_accept(lr->owner, s);
}

static void accept_store(struct listener *lr, struct stream *s)
{
	(void)store_accept(lr->owner, s);
}

static void accept_proxy(struct listener *lr, struct stream *s)
{
	proxy_accept(lr->owner, s);
}

static void listen_at(struct loop *l, struct listener *lr, struct address a,
		      void (*accepted)(struct listener *lr, struct stream *s), void *owner)
{
	*lr = (struct listener){ .accepted = accepted, .owner = owner };
	must(listener_open(l, &a, lr));
}

static void open_meta(struct cluster *c)
{
	struct meta_node *m = &c->meta;

	must(sim_node_add(c->sim, NODE_META, &m->node));
	node_current = sim_node_of(m->node);
	must(sim_loop_open(m->node, &m->loop));
	must(net_open(m->loop, &m->net));
	for (uint16_t i = 0; i < CLUSTER_SHARDS; i++) {
		struct shard_config config = { .index = i,
					       .count = CLUSTER_SHARDS,
					       .is_open_loopback = true };

		for (unsigned k = 0; k < CLUSTER_SHARDS; k++)
			config.addresses[k] = k == 0 ? "sim://1:1" : "sim://1:2";
		must(shard_open(&config, m->loop, m->net, &m->shards[i]));
		listen_at(m->loop, &m->listeners[i], at(NODE_META, 1u + i), accept_shard,
			  m->shards[i]);
	}
	node_current = NULL;
}

static void open_store(struct cluster *c, uint64_t pool_bytes)
{
	struct store_node *s = &c->store;
	struct store_config config = { .limit_bytes = pool_bytes,
				       .tier = TIER_DRAM,
				       .name = "dram",
				       .address = "sim://2:1",
				       .media = &media_heap };

	must(sim_node_add(c->sim, NODE_STORE, &s->node));
	node_current = sim_node_of(s->node);
	must(sim_loop_open(s->node, &s->loop));
	must(net_open(s->loop, &s->net));
	must(store_open(&config, s->loop, s->net, &s->store));
	listen_at(s->loop, &s->listener, at(NODE_STORE, 1), accept_store, s->store);
	for (unsigned i = 0; i < CLUSTER_SHARDS; i++) {
		struct address a = at(NODE_META, 1u + i);

		must(store_join_at(s->store, &a));
	}
	node_current = NULL;
}

static void open_proxy(struct cluster *c, unsigned i)
{
	struct proxy_node *p = &c->proxies[i];
	struct address metas[CLUSTER_SHARDS];
	struct core_config core = { .metas = metas, .meta_count = CLUSTER_SHARDS };
	struct proxy_config config = { .is_open_loopback = true };

	for (unsigned k = 0; k < CLUSTER_SHARDS; k++)
		metas[k] = at(NODE_META, 1u + k);
	must(sim_node_add(c->sim, NODE_PROXY + i, &p->node));
	node_current = sim_node_of(p->node);
	must(sim_loop_open(p->node, &p->loop));
	must(net_open(p->loop, &p->net));
	must(core_open(p->net, &core, &p->core));
	config.core = p->core;
	must(proxy_open(p->net, &config, &p->proxy));
	listen_at(p->loop, &p->listener, at(NODE_PROXY + i, 1), accept_proxy, p->proxy);
	node_current = NULL;
}

static void open_client(struct cluster *c, unsigned i)
{
	struct client_node *n = &c->clients[i];

	must(sim_node_add(c->sim, NODE_CLIENT + i, &n->node));
	node_current = sim_node_of(n->node);
	must(sim_loop_open(n->node, &n->loop));
	n->w = node_alloc(sizeof(*n->w));
	n->w->address = at(NODE_PROXY + i % CLUSTER_PROXIES, 1);
	n->w->timeout_ms = 20000;
	snprintf(n->w->endpoint, sizeof(n->w->endpoint), "sim");
	must(handle_init(n->w, n->loop));
	node_current = NULL;
}

void cluster_open(struct cluster *c, uint64_t seed, uint64_t pool_bytes)
{
	struct sim_config config = {
		.seed = seed, .delay_ns_min = 10000, .delay_ns_max = 500000, .cut_permille = 100
	};

	*c = (struct cluster){ 0 };
	must(sim_open(&config, &c->sim));
	open_meta(c);
	open_store(c, pool_bytes);
	for (unsigned i = 0; i < CLUSTER_PROXIES; i++)
		open_proxy(c, i);
	for (unsigned i = 0; i < CLUSTER_CLIENTS; i++)
		open_client(c, i);
}

/* Every node ends as kill -9 ends it: nothing of it is left. */
void cluster_close(struct cluster *c)
{
	for (unsigned i = 0; i < CLUSTER_CLIENTS; i++)
		sim_node_kill(c->clients[i].node);
	for (unsigned i = 0; i < CLUSTER_PROXIES; i++)
		sim_node_kill(c->proxies[i].node);
	sim_node_kill(c->store.node);
	sim_node_kill(c->meta.node);
	sim_close(c->sim);
}
