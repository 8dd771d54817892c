/* SPDX-License-Identifier: Apache-2.0 */
#include "core/core.h"

#include <errno.h>

#include "base/node.h"
#include "core/core_priv.h"

int core_open(struct net *n, const struct core_config *config, struct core **ret)
{
	struct core *c = node_alloc(sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->net = n;
	c->loop = net_loop(n);
	c->config = *config;
	c->number = node_random_u64();
	list_init(&c->stores);
	list_init(&c->segments);
	list_init(&c->errands);
	list_init(&c->takings);
	waitq_init(&c->sleeping, &c->loop->fibers);
	buffers_open(c);
	leases_open(c);
	r = shards_open(c);
	if (r < 0) {
		core_close(c);
		return r;
	}
	*ret = c;
	return 0;
}

void core_stop(struct core *c)
{
	c->is_closing = true;
	leases_stop(c);
	errands_stop(c);
}

bool core_has_stopped(const struct core *c)
{
	return list_is_empty(&c->errands) && !leases_are_settling(c);
}

void core_rest(struct core *c)
{
	leases_rest(c);
}

bool core_has_rested(const struct core *c)
{
	return list_is_empty(&c->segments) && list_is_empty(&c->errands);
}

void core_go_on(struct core *c)
{
	for (unsigned i = 0; i < SHARDS_MAX; i++)
		if (c->links[i] && !c->links[i]->is_ready)
			c->links[i]->was_ready = false;
}

void core_close(struct core *c)
{
	if (!c)
		return;
	core_stop(c);
	buffers_close(c);
	leases_close(c);
	stores_close(c);
	shards_close(c);
	errands_close(c);
	node_free(c);
}

struct net *core_net(const struct core *c)
{
	return c->net;
}

struct loop *core_loop(const struct core *c)
{
	return c->loop;
}

unsigned core_waiting_count(const struct core *c)
{
	return c->waiting_count;
}

uint16_t core_shard_count(const struct core *c)
{
	return c->shard_count;
}

uint16_t core_shard_of(const struct core *c, uint64_t job)
{
	return slot_of_id(job) % c->shard_count;
}

int core_sleep(struct core *c, uint64_t until_ns)
{
	int r = waitq_wait(&c->sleeping, until_ns);

	return r == -ETIMEDOUT ? 0 : r;
}

int core_pause(struct core *c, uint64_t *pause_ns, uint64_t due_ns)
{
	uint64_t until_ns = c->loop->now_ns + *pause_ns, longest_ns = 100 * CORE_PAUSE_NS;

	*pause_ns = 2 * *pause_ns < longest_ns ? 2 * *pause_ns : longest_ns;
	return core_sleep(c, until_ns < due_ns ? until_ns : due_ns);
}
