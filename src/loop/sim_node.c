/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/sim_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/container.h"

#define SECOND_NS 1000000000ull

/* Ports below are for those who ask for one by its number. */
#define PORT_FIRST 10000

/* What a simulation begins at by the wall clocks, which differ by less than a second. */
#define WALL_NS (1750000000 * SECOND_NS)

/* Before each allocation of a node. */
struct block {
	_Alignas(16) struct list link;
	struct sim_node *owner;
	size_t size;
};

static struct sim_node *sim_node(struct node *n)
{
	return container_of(n, struct sim_node, node);
}

static void block_add(struct sim_node *n, struct block *b, size_t size)
{
	b->owner = n;
	b->size = size;
	list_insert(&n->blocks, &b->link);
	n->bytes += size;
}

/* What one node allocated, another one must not even free: in a cluster it could not. */
static struct block *block_remove(struct sim_node *n, void *p)
{
	struct block *b = (struct block *)p - 1;

	assert(b->owner == n);
	list_remove(&b->link);
	n->bytes -= b->size;
	return b;
}

static void *sim_alloc(struct node *node, size_t size)
{
	struct block *b = calloc(1, sizeof(*b) + size);

	if (!b)
		return NULL;
	block_add(sim_node(node), b, size);
	return b + 1;
}

static void *sim_resize(struct node *node, void *p, size_t size)
{
	struct block *before, *b;
	size_t size_before;

	if (!p)
		return sim_alloc(node, size);
	before = block_remove(sim_node(node), p);
	size_before = before->size;
	b = realloc(before, sizeof(*b) + size);
	block_add(sim_node(node), b ? b : before, b ? size : size_before);
	return b ? b + 1 : NULL;
}

static void sim_free(struct node *node, void *p)
{
	free(block_remove(sim_node(node), p));
}

static uint64_t sim_clock(struct node *node)
{
	struct sim_node *n = sim_node(node);

	return n->sim->now_ns + n->boot_ns;
}

static uint64_t sim_wall(struct node *node)
{
	struct sim_node *n = sim_node(node);

	return n->sim->now_ns + n->wall_ns;
}

static void sim_dice(struct node *node, void *buf, size_t len)
{
	struct sim_node *n = sim_node(node);
	size_t at = 0;

	while (at < len) {
		uint64_t v = dice_roll(&n->dice);
		size_t part = len - at < sizeof(v) ? len - at : sizeof(v);

		memcpy((char *)buf + at, &v, part);
		at += part;
	}
}

static const struct node SIM_NODE = {
	.alloc = sim_alloc,
	.resize = sim_resize,
	.free = sim_free,
	.now_ns = sim_clock,
	.wall_ns = sim_wall,
	.random = sim_dice,
};

struct sim_node *sim_node_find(struct sim *s, uint32_t id)
{
	for (struct list *i = s->nodes.next; i != &s->nodes; i = i->next) {
		struct sim_node *n = container_of(i, struct sim_node, link);

		if (n->id == id)
			return n;
	}
	return NULL;
}

int sim_node_add(struct sim *s, uint32_t id, struct sim_node **ret)
{
	struct sim_node *n;

	if (id == 0 || sim_node_find(s, id))
		return -EINVAL;
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->node = SIM_NODE;
	n->sim = s;
	n->id = id;
	n->port_last = PORT_FIRST - 1;
	n->dice.state = s->config.seed ^ ((uint64_t)id << 32);
	/* No two machines were switched on together, and no two wall clocks agree. */
	n->boot_ns = SECOND_NS + dice_below(&n->dice, 1000000 * SECOND_NS);
	n->wall_ns = WALL_NS + dice_below(&n->dice, SECOND_NS);
	list_init(&n->loops);
	list_init(&n->blocks);
	list_insert(&s->nodes, &n->link);
	*ret = n;
	return 0;
}

struct node *sim_node_of(struct sim_node *n)
{
	return &n->node;
}

/* Its loops cannot be closed, for what they hold was never given back: they are dropped. */
static void drop_loops(struct sim_node *n)
{
	while (!list_is_empty(&n->loops)) {
		struct sim_loop *sl = container_of(n->loops.next, struct sim_loop, link);

		fibers_drop(&sl->loop.fibers);
		fibers_fini(&sl->loop.fibers);
		list_remove(&sl->link);
		free(sl);
	}
}

void sim_node_kill(struct sim_node *n)
{
	assert(!n->sim->turning || n->sim->turning->node != n);
	sim_note(n->sim, n->id, n->bytes);
	sim_net_kill(n);
	drop_loops(n);
	while (!list_is_empty(&n->blocks))
		sim_free(&n->node, container_of(n->blocks.next, struct block, link) + 1);
	n->is_paused = false;
	n->node.fail_countdown = 0;
}

void sim_node_pause(struct sim_node *n, bool is_paused)
{
	n->is_paused = is_paused;
}

void sim_node_set_host(struct sim_node *n, uint32_t host)
{
	n->host = host;
}

void sim_node_set_wall(struct sim_node *n, uint64_t wall_ns)
{
	n->wall_ns = wall_ns - n->sim->now_ns;
}

size_t sim_node_bytes(const struct sim_node *n)
{
	return n->bytes;
}
