/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/keep_heap.h"

#include <assert.h>

#include "base/container.h"
#include "base/list.h"
#include "base/node.h"
#include "shm/keep_set.h"
#include "shm/memory_priv.h"

struct keep_heap {
	struct keep keep;
	struct node *home;
	struct keep_set set;
	struct list regions;
	unsigned region_count;
	bool is_down;
};

/* Before each region's bytes. It goes when it is neither mapped nor kept. */
struct region {
	struct plain plain;
	struct keep_heap *owner;
	struct list link;
	bool is_mapped;
	unsigned name_count;
};

/* Whoever calls, it is the keeper's memory. */
static struct node *enter(const struct keep_heap *h)
{
	struct node *before = node_current;

	node_current = h->home;
	return before;
}

static struct region *region_of(struct plain *p)
{
	return container_of(p, struct region, plain);
}

static void consider(struct region *g)
{
	struct keep_heap *h = g->owner;
	struct node *before;

	if (g->is_mapped || g->name_count > 0)
		return;
	list_remove(&g->link);
	h->region_count--;
	before = enter(h);
	node_free(g);
	node_current = before;
}

static void unmapped(struct plain *p)
{
	region_of(p)->is_mapped = false;
	consider(region_of(p));
}

static int heap_make(struct keep *k, size_t size, struct memory *ret)
{
	struct keep_heap *h = container_of(k, struct keep_heap, keep);
	struct node *before = enter(h);
	struct plain *p = plain_new(sizeof(struct region), size, unmapped);
	struct region *g;

	node_current = before;
	if (!p)
		return -ENOMEM;
	g = region_of(p);
	g->owner = h;
	g->is_mapped = true;
	list_init(&g->link);
	list_insert(&h->regions, &g->link);
	h->region_count++;
	*ret = plain_memory(p, sizeof(*g));
	return 0;
}

static void forget(struct keep_heap *h, struct kept *e)
{
	struct region *g = region_of(e->plain);

	keep_set_remove(&h->set, e);
	g->name_count--;
	consider(g);
}

static int heap_put(struct keep *k, struct keep_name name, const struct memory *m)
{
	struct keep_heap *h = container_of(k, struct keep_heap, keep);
	struct node *before = enter(h);
	struct kept *e = keep_set_get(&h->set, name);
	int r = h->is_down ? -EHOSTDOWN : e ? 0 : keep_set_reserve(&h->set);

	node_current = before;
	if (r < 0)
		return r;
	assert(m->base && m->base->free == unmapped);
	region_of(m->base)->name_count++;
	if (e)
		forget(h, e);
	keep_set_add(&h->set, &(struct kept){ .name = name, .fd = -1, .plain = m->base });
	return 0;
}

static void heap_drop(struct keep *k, struct keep_name name)
{
	struct keep_heap *h = container_of(k, struct keep_heap, keep);
	struct kept *e = keep_set_get(&h->set, name);

	if (e)
		forget(h, e);
}

static bool heap_find(struct keep *k, struct keep_name from, struct keep_name *ret)
{
	return keep_set_find(&container_of(k, struct keep_heap, keep)->set, from, ret);
}

static int heap_take(struct keep *k, struct keep_name name, struct memory *ret)
{
	struct keep_heap *h = container_of(k, struct keep_heap, keep);
	struct kept *e = keep_set_get(&h->set, name);

	if (!e || !e->is_found)
		return -ENOENT;
	e->is_found = false;
	region_of(e->plain)->is_mapped = true;
	*ret = plain_memory(e->plain, sizeof(struct region));
	return 0;
}

static void heap_drop_rest(struct keep *k)
{
	struct keep_heap *h = container_of(k, struct keep_heap, keep);

	for (unsigned i = h->set.count; i-- > 0;)
		if (h->set.list[i].is_found)
			forget(h, &h->set.list[i]);
}

static const struct keep_ops HEAP_OPS = {
	.make = heap_make,
	.put = heap_put,
	.drop = heap_drop,
	.find = heap_find,
	.take = heap_take,
	.drop_rest = heap_drop_rest,
};

int keep_heap_open(struct node *home, struct keep_heap **ret)
{
	struct node *before = node_current;
	struct keep_heap *h;

	node_current = home;
	h = node_alloc(sizeof(*h));
	node_current = before;
	if (!h)
		return -ENOMEM;
	h->keep.ops = &HEAP_OPS;
	h->home = home;
	list_init(&h->regions);
	*ret = h;
	return 0;
}

void keep_heap_owner_gone(struct keep_heap *h)
{
	for (struct list *l = h->regions.next, *next; l != &h->regions; l = next) {
		struct region *g = container_of(l, struct region, link);

		next = l->next;
		g->is_mapped = false;
		consider(g);
	}
	for (unsigned i = 0; i < h->set.count; i++)
		h->set.list[i].is_found = true;
}

void keep_heap_set_down(struct keep_heap *h, bool is_down)
{
	h->is_down = is_down;
}

void keep_heap_close(struct keep_heap *h)
{
	struct node *before;

	if (!h)
		return;
	while (h->set.count > 0)
		forget(h, &h->set.list[h->set.count - 1]);
	keep_heap_owner_gone(h);
	before = enter(h);
	keep_set_fini(&h->set);
	node_free(h);
	node_current = before;
}

struct keep *keep_heap_keep(struct keep_heap *h)
{
	return &h->keep;
}

unsigned keep_heap_count(const struct keep_heap *h)
{
	return h->region_count;
}
