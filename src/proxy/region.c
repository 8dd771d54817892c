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
	media_memfd.free(&container_of(w, struct region, work)->memory);
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

/* With all its pages, so that no access ever waits for one. */
static void make(struct work *w)
{
	struct region *g = container_of(w, struct region, work);

	g->result = media_memfd.make(g->size, &g->memory);
	if (g->result == 0)
		g->result = media_memfd.fill(&g->memory, 0, g->size);
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

		g->is_unwanted = r < 0;
		if (r < 0)
			return r;
	}
	if (g->result < 0) {
		int r = g->result;

		region_free(g);
		return r;
	}
	return 0;
}

int region_new(struct proxy *p, size_t size, struct region **ret)
{
	struct region *g;
	int r;

	if (!p->helper && helper_open(p->loop, "regions", &p->helper) < 0)
		return -ENOMEM;
	g = node_alloc(sizeof(*g));
	if (!g)
		return -ENOMEM;
	*g = (struct region){ .work = { .run = make, .done = made }, .proxy = p, .size = size };
	waitq_init(&g->made, &p->loop->fibers);
	p->region_count++;
	helper_do(p->helper, &g->work);
	r = wait_until_made(g);
	if (r == 0)
		*ret = g;
	return r;
}
