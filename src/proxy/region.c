/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region: memory that functions of this host are given, for rings and indexes. To make it and to
 * be rid of it blocks, so a helper does.
 */
#include <errno.h>

#include "base/container.h"
#include "base/node.h"
#include "proxy/proxy_priv.h"

static void unmake(struct work *w)
{
	struct region *g = container_of(w, struct region, work);

	if (g->name.kind)
		keep_drop(g->proxy->config.keep, g->name);
	if (g->is_punched && g->memory.ptr)
		(void)media_memfd.punch(&g->memory, 0, g->memory.size);
	media_memfd.free(&g->memory);
}

static void unmade(struct work *w)
{
	struct region *g = container_of(w, struct region, work);

	g->proxy->region_count--;
	node_free(g);
}

void region_free(struct region *g)
{
	if (!g)
		return;
	g->work.run = unmake;
	g->work.done = unmade;
	helper_do(g->proxy->helper, &g->work);
}

static void forgotten(struct region *g)
{
	struct proxy *p = g->proxy;

	list_remove(&g->link);
	memory_export_end(g->fd);
	p->region_count--;
	g->gone(p);
	node_free(g);
}

static void look(struct work *w)
{
	struct region *g = container_of(w, struct region, work);

	g->is_alone = g->fd < 0 || memory_is_ours_alone(g->fd);
}

static void looked(struct work *w)
{
	struct region *g = container_of(w, struct region, work);
	struct loop *l = g->proxy->loop;

	if (g->is_alone || g->proxy->is_stopping)
		forgotten(g);
	else
		timer_start(l, &g->again, l->now_ns + RETIRED_LOOK_MS * 1000000ull);
}

static void look_again(struct timer *t)
{
	struct region *g = container_of(t, struct region, again);

	g->work.run = look;
	helper_do(g->proxy->helper, &g->work);
}

static void leave(struct work *w)
{
	struct region *g = container_of(w, struct region, work);

	g->fd = memory_export_to_write(&g->memory);
	media_memfd.free(&g->memory);
	look(w);
}

void region_leave(struct region *g, void (*gone)(struct proxy *p))
{
	g->gone = gone;
	g->again.fire = look_again;
	list_init(&g->link);
	list_insert(&g->proxy->left_regions, &g->link);
	g->work.run = leave;
	g->work.done = looked;
	helper_do(g->proxy->helper, &g->work);
}

void regions_stop(struct proxy *p)
{
	for (struct list *l = p->left_regions.next, *next; l != &p->left_regions; l = next) {
		struct region *g = container_of(l, struct region, link);

		next = l->next;
		if (!timer_is_running(&g->again))
			continue; /* it is being looked at */
		timer_stop(p->loop, &g->again);
		forgotten(g);
	}
}

/* With all its pages, so that no access ever waits for one. */
static void make(struct work *w)
{
	struct region *g = container_of(w, struct region, work);

	g->result = media_memfd.make(g->size, &g->memory);
	if (g->result == 0)
		g->result = media_memfd.fill(&g->memory, 0, g->size);
	/* Where it cannot be kept it serves as well, until we are killed. */
	if (g->result == 0 && g->name.kind &&
	    keep_put(g->proxy->config.keep, g->name, &g->memory) < 0)
		g->name.kind = 0;
}

static void made(struct work *w)
{
	struct region *g = container_of(w, struct region, work);

	g->is_made = true;
	if (g->is_unwanted)
		region_free(g);
	else
		waitq_wake(&g->made);
}

static int wait_until_made(struct region *g)
{
	while (!g->is_made) {
		int r = waitq_wait(&g->made, UINT64_MAX);

		if (r == 0)
			continue;
		/* It may have been made since the wait was over: then nobody else gives it back. */
		if (g->is_made)
			region_free(g);
		else
			g->is_unwanted = true;
		return r;
	}
	if (g->result < 0) {
		int r = g->result;

		region_free(g);
		return r;
	}
	return 0;
}

static struct region *new (struct proxy *p, size_t size, const struct keep_name *name)
{
	struct region *g;

	if (!p->helper && helper_open(p->loop, "regions", &p->helper) < 0)
		return NULL;
	g = node_alloc(sizeof(*g));
	if (!g)
		return NULL;
	*g = (struct region){ .work = { .run = make, .done = made }, .proxy = p, .size = size };
	if (name && p->config.keep)
		g->name = *name;
	waitq_init(&g->made, &p->loop->fibers);
	p->region_count++;
	return g;
}

int region_new(struct proxy *p, size_t size, const struct keep_name *name, struct region **ret)
{
	struct region *g = new (p, size, name);
	int r;

	if (!g)
		return -ENOMEM;
	helper_do(p->helper, &g->work);
	r = wait_until_made(g);
	if (r == 0)
		*ret = g;
	return r;
}

int region_take(struct proxy *p, size_t size, struct keep_name name, struct region **ret)
{
	struct region *g = new (p, size, name.kind ? &name : NULL);

	if (!g)
		return -ENOMEM;
	g->is_made = true;
	if (!name.kind)
		make(&g->work);
	else
		g->result = keep_take(p->config.keep, name, &g->memory);
	if (g->result == 0 && g->memory.size != size)
		g->result = -EBADF;
	if (g->result < 0) {
		int r = g->result;

		region_free(g);
		return r;
	}
	*ret = g;
	return 0;
}
