/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/node.h"
#include "look.h"
#include "meta/effect.h"
#include "shm/memory.h"

#define PAIR_BYTES (256u << 10)

enum { PORT_SHARD = 1, PORT_STORE = 11, PORT_PROXY = 12 };

enum { KEEPERS = 100 }; /* their nodes' ids, behind this one */

enum { HOSTS = 1 }; /* likewise, of those whose clients map what is there */

static const uint8_t TOKEN_KEY[] = "0123456789abcdef0123456789abcdef";
#define TOKEN_KEY_SLICE ((struct slice){ TOKEN_KEY, sizeof(TOKEN_KEY) - 1 })

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

/* Roles. */

static void open_loop(struct process *p, struct loop **loop, struct net **net)
{
	must(sim_loop_open(p->node, loop));
	must(net_open(*loop, net));
}

/* Slot s lies on shard s % count. */
static void sink(void *owner, uint16_t slot, const struct effect *e)
{
	struct cluster *c = owner;

	if (e->kind == EFFECT_SESSION_OVER && c->over_count < SESSIONS_OVER_MAX)
		c->over[c->over_count++] =
			(struct session_over){ .shard = slot % c->shape.shards,
					       .session = e->u.session_over.session };
}

static void open_shards(struct process *p)
{
	struct cluster *c = p->cluster;

	for (uint16_t i = 0; i < c->shape.shards; i++) {
		struct shard_config config = { .index = i,
					       .count = (uint16_t)c->shape.shards,
					       .is_open_loopback = true,
					       .token_key = TOKEN_KEY_SLICE,
					       .keep = keep_heap_keep(p->keeper),
					       .archive = p->archive,
					       .media = &media_heap,
					       .log_bytes = LOG_BYTES_MIN,
					       .snapshot_bytes = c->shape.snapshot_bytes,
					       .store_gone_ms = STORE_GONE_MS };

		for (unsigned k = 0; k < c->shape.shards; k++)
			config.addresses[k] = c->shard_texts[k];
		p->loops[i] = p->loop;
		p->nets[i] = p->net;
		if (i > 0)
			open_loop(p, &p->loops[i], &p->nets[i]);
		must(shard_open(&config, p->loops[i], p->nets[i], &p->shards[i]));
		shard_set_sink(p->shards[i], sink, c);
		listen_at(p->loops[i], &p->shard_listeners[i], at(p->id, PORT_SHARD + i),
			  accept_shard, p->shards[i]);
	}
}

/* As a process does it whose shard 0 is on the loop of the asker. */
static int to_shard(void *owner, uint16_t index, struct stream **ret)
{
	struct process *p = owner;
	struct stream *ends[2];
	int r;

	if (index > 0)
		return stream_connect(p->loop, &p->cluster->shards[index], ret);
	r = stream_pair(p->loop, PAIR_BYTES, ends);
	if (r == 0) {
		shard_accept(p->shards[0], ends[1]);
		*ret = ends[0];
	}
	return r;
}

static struct keep *keep_of(const struct process *p)
{
	if (p->host_keeper)
		return keep_host_keep(p->host_keeper);
	return p->keeper ? keep_heap_keep(p->keeper) : NULL;
}

static void open_store(struct process *p)
{
	struct cluster *c = p->cluster;
	struct store_config config = { .limit_bytes = c->shape.pool_bytes,
				       .tier = TIER_DRAM,
				       .name = "dram",
				       .address = c->store_texts[p->index],
				       .token_key = TOKEN_KEY_SLICE,
				       .media = c->shape.is_near ? &media_host : &media_heap,
				       .keep = keep_of(p) };
	struct stream *s;

	must(store_open(&config, p->loop, p->net, &p->store));
	listen_at(p->loop, &p->store_listener, at(p->id, PORT_STORE), accept_store, p->store);
	for (uint16_t i = 0; i < c->shape.shards; i++) {
		if (p->roles & RUNS_META && i == 0) {
			must(to_shard(p, i, &s));
			must(store_join(p->store, s));
		} else {
			must(store_join_at(p->store, &c->shards[i]));
		}
	}
}

static void job_over(void *owner, uint64_t job)
{
	struct process *p = owner;

	if (p->proxy)
		proxy_job_over(p->proxy, job);
}

static void emptied(void *owner, uint64_t segment, uint32_t generation, int result)
{
	struct process *p = owner;

	store_emptied(p->store, segment, generation, result);
}

static void session_begun(void *owner, uint16_t shard, uint64_t session)
{
	((struct process *)owner)->sessions[shard] = session;
}

static void open_core(struct process *p)
{
	struct cluster *c = p->cluster;
	struct core_config config = { .metas = c->shards,
				      .meta_count = c->shape.shards,
				      .owner = p,
				      .sessions = c->shape.names_left ? p->sessions : NULL,
				      .session_begun = session_begun,
				      .job_over = job_over };

	if (p->roles & RUNS_META) {
		config.shard_count = (uint16_t)c->shape.shards;
		config.to_shard = to_shard;
	}
	if (p->store) {
		store_reach(p->store, &config.reach, &config.reach_ops);
		config.reach_store = store_incarnation(p->store);
	}
	must(core_open(p->net, &config, &p->core));
	if (!p->store)
		return;
	must(mover_open(p->core, emptied, p, &p->mover));
	store_set_mover(p->store, p->mover, mover_empty);
}

static void open_proxy(struct process *p)
{
	struct proxy_config config = { .core = p->core,
				       .is_open_loopback = true,
				       .trusts_local = p->cluster->shape.is_near,
				       .token_key = TOKEN_KEY,
				       .token_key_len = sizeof(TOKEN_KEY) - 1 };

	must(proxy_open(p->net, &config, &p->proxy));
	listen_at(p->loop, &p->proxy_listener, at(p->id, PORT_PROXY), accept_proxy, p->proxy);
}

static void open_client(struct process *p)
{
	p->w = node_alloc(sizeof(*p->w));
	assert(p->w);
	p->w->timeout_ms = 5000;
	snprintf(p->w->endpoint, sizeof(p->w->endpoint), "sim");
	p->w->loop = p->loop;
	if (p->roles & RUNS_DIRECT)
		return;
	p->w->address = cluster_proxy(p->cluster, p->index % SHAPE_PROXIES);
	must(handle_init(p->w, p->loop));
}

void process_attach(struct process *p, const char *token)
{
	char endpoint[sizeof("direct://") + SHAPE_SHARDS_MAX * sizeof(p->cluster->shard_texts[0])];
	unsigned first = p->life % p->cluster->shape.shards;

	/* One of the shards is enough. */
	snprintf(endpoint, sizeof(endpoint), "direct://%s", p->cluster->shard_texts[first]);
	snprintf(p->w->token, sizeof(p->w->token), "%s", token);
	must(direct_open_on(p->loop, endpoint, token, &p->direct));
	p->w->direct = p->direct;
	p->core = direct_core(p->direct);
	must(handle_init(p->w, p->loop));
}

void process_start(struct process *p)
{
	assert(!p->is_up && !p->is_gone);
	p->is_up = true;
	p->life++;
	node_current = sim_node_of(p->node);
	if (p->roles & RUNS_CLIENT)
		must(sim_loop_open(p->node, &p->loop));
	else
		open_loop(p, &p->loop, &p->net);
	if (p->roles & RUNS_META)
		open_shards(p);
	if (p->roles & RUNS_STORE)
		open_store(p);
	if (p->roles & (RUNS_STORE | RUNS_PROXY))
		open_core(p);
	if (p->roles & RUNS_PROXY)
		open_proxy(p);
	if (p->roles & RUNS_CLIENT)
		open_client(p);
	node_current = NULL;
}

/* What the kernel gives back of a process, and the simulator does not. */
static void unmap_all(struct process *p)
{
	node_current = sim_node_of(p->node);
	if (p->w)
		near_fini(&p->w->near);
	if (p->store)
		store_unmap(p->store);
	host_unmap_all(node_current);
	node_current = NULL;
}

void process_kill(struct process *p)
{
	assert(p->is_up);
	unmap_all(p);
	sim_node_kill(p->node);
	if (p->keeper)
		keep_heap_owner_gone(p->keeper);
	if (p->host_keeper)
		keep_host_owner_gone(p->host_keeper);
	p->is_up = p->is_paused = false;
	p->loop = NULL;
	p->net = NULL;
	memset(p->shards, 0, sizeof(p->shards));
	memset(p->loops, 0, sizeof(p->loops));
	p->store = NULL;
	p->core = NULL;
	p->mover = NULL;
	p->proxy = NULL;
	p->direct = NULL;
	p->w = NULL;
}

void process_keeper_down(struct process *p, bool is_down)
{
	if (p->keeper)
		keep_heap_set_down(p->keeper, is_down);
	if (p->host_keeper)
		keep_host_set_down(p->host_keeper, is_down);
	p->is_keeper_down = is_down;
}

static void open_keeper(struct process *p)
{
	node_current = sim_node_of(p->keeper_node);
	must(keep_heap_open(node_current, &p->keeper));
	node_current = NULL;
}

/* A keeper is a node of its own, so its memory is there when its owner's is gone. */
static void add_keeper(struct process *p)
{
	must(sim_node_add(p->cluster->sim, KEEPERS + p->id, &p->keeper_node));
	open_keeper(p);
	if (!p->cluster->shape.has_archive || !(p->roles & RUNS_META))
		return;
	node_current = sim_node_of(p->keeper_node);
	must(archive_new(&p->archive));
	node_current = NULL;
}

void process_kill_host(struct process *p)
{
	process_kill(p);
	if (!process_is_kept(p))
		return;
	p->is_keeper_down = false;
	if (p->host_keeper) {
		keep_host_free(p->host_keeper);
		p->host_keeper = keep_host_new();
	} else {
		keep_heap_close(p->keeper);
		open_keeper(p);
	}
}

void process_cut_power(struct process *p, uint64_t dice)
{
	process_kill_host(p);
	archive_lose(p->archive, dice);
}

/* All of them. */

static struct process *add(struct cluster *c, unsigned roles, uint32_t id, unsigned index,
			   const char *format)
{
	struct process *p = &c->processes[c->count++];

	*p = (struct process){ .cluster = c, .roles = roles, .id = id, .index = index };
	snprintf(p->name, sizeof(p->name), format, index);
	must(sim_node_add(c->sim, id, &p->node));
	return p;
}

static void add_all(struct cluster *c)
{
	const struct shape *s = &c->shape;

	c->meta = add(c, s->is_dev ? RUNS_META | RUNS_STORE | RUNS_PROXY : RUNS_META, 1, 0,
		      s->is_dev ? "dev" : "meta");
	for (unsigned i = 0; i < SHAPE_STORES; i++) {
		if (i == 0 && s->is_dev)
			c->stores[i] = c->meta;
		else if (s->is_together)
			c->stores[i] = add(c, RUNS_STORE | RUNS_PROXY, 2 + i, i, "host%u");
		else
			c->stores[i] = add(c, RUNS_STORE, 2 + i, i, "store%u");
	}
	for (unsigned i = 0; i < SHAPE_PROXIES; i++) {
		if (c->stores[i]->roles & RUNS_PROXY)
			c->proxies[i] = c->stores[i];
		else
			c->proxies[i] = add(c, RUNS_PROXY, 10 + i, i, "proxy%u");
	}
	for (unsigned i = 0; i < SHAPE_CLIENTS; i++)
		c->clients[i] = add(c, RUNS_CLIENT | (s->directs >> i & 1 ? RUNS_DIRECT : 0),
				    20 + i, i, s->directs >> i & 1 ? "direct%u" : "client%u");
}

/* Each proxy's clients are on its host; direct ones are anywhere. */
static void add_hosts(struct cluster *c)
{
	for (unsigned i = 0; i < SHAPE_PROXIES; i++)
		sim_node_set_host(c->proxies[i]->node, HOSTS + i);
	for (unsigned i = 0; i < SHAPE_CLIENTS; i++)
		sim_node_set_host(c->clients[i]->node, HOSTS + i % SHAPE_PROXIES);
}

struct address cluster_proxy(const struct cluster *c, unsigned i)
{
	return at(c->proxies[i]->id, PORT_PROXY);
}

struct process *cluster_find(struct cluster *c, const char *name)
{
	for (unsigned i = 0; i < c->count; i++)
		if (strcmp(c->processes[i].name, name) == 0)
			return &c->processes[i];
	return NULL;
}

void cluster_open(struct cluster *c, uint64_t seed, const struct shape *shape)
{
	struct sim_config config = { .seed = seed,
				     .delay_ns_min = 10000,
				     .delay_ns_max = shape->delay_ns_max,
				     .cut_permille = 50 };

	*c = (struct cluster){ .shape = *shape };
	must(sim_open(&config, &c->sim));
	add_all(c);
	if (shape->is_near)
		add_hosts(c);
	for (unsigned i = 0; i < shape->shards; i++) {
		c->shards[i] = at(c->meta->id, PORT_SHARD + i);
		snprintf(c->shard_texts[i], sizeof(c->shard_texts[i]), "sim://%u:%u", c->meta->id,
			 PORT_SHARD + i);
	}
	for (unsigned i = 0; i < SHAPE_STORES; i++)
		snprintf(c->store_texts[i], sizeof(c->store_texts[i]), "sim://%u:%u",
			 c->stores[i]->id, PORT_STORE);
	add_keeper(c->meta);
	for (unsigned i = 0; i < SHAPE_STORES && shape->keeps_stores; i++)
		if (shape->is_near)
			c->stores[i]->host_keeper = keep_host_new();
		else if (c->stores[i] != c->meta)
			add_keeper(c->stores[i]);
	for (unsigned i = 0; i < c->count; i++)
		process_start(&c->processes[i]);
}

void cluster_close(struct cluster *c)
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->processes[i].is_up)
			process_kill(&c->processes[i]);
	for (unsigned i = 0; i < c->count; i++)
		keep_host_free(c->processes[i].host_keeper);
	sim_close(c->sim);
}
