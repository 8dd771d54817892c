/* SPDX-License-Identifier: Apache-2.0 */
#include "host.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/container.h"
#include "base/node.h"
#include "shm/keep_set.h"

/* More than this process has descriptors for would fail by chance. */
#define REGIONS_PER_STORE 256

struct owned_region {
	const struct node *owner;
	struct memory memory;
};

/* Of all nodes; one simulation runs at a time. */
static struct {
	struct owned_region *list;
	unsigned count, cap;
} regions;

static void own(const struct memory *m)
{
	if (regions.count == regions.cap) {
		regions.cap = regions.cap ? 2 * regions.cap : 64;
		regions.list = realloc(regions.list, regions.cap * sizeof(regions.list[0]));
		assert(regions.list);
	}
	regions.list[regions.count++] = (struct owned_region){ node_current, *m };
}

static void disown(const struct memory *m)
{
	for (unsigned i = 0; i < regions.count; i++)
		if (regions.list[i].memory.ptr == m->ptr) {
			regions.list[i] = regions.list[--regions.count];
			return;
		}
	assert(!m->ptr);
}

void host_unmap_all(const struct node *n)
{
	for (unsigned i = regions.count; i-- > 0;)
		if (regions.list[i].owner == n) {
			media_memfd.free(&regions.list[i].memory);
			regions.list[i] = regions.list[--regions.count];
		}
}

static int host_make(size_t size, struct memory *ret)
{
	int r = media_memfd.make(size, ret);

	if (r == 0)
		own(ret);
	return r;
}

static int host_fill(struct memory *m, size_t from, size_t to)
{
	return media_memfd.fill(m, from, to);
}

static void host_scrub(struct memory *m, size_t from, size_t to)
{
	media_memfd.scrub(m, from, to);
}

static int host_punch(struct memory *m, size_t from, size_t to)
{
	return media_memfd.punch(m, from, to);
}

static void host_free(struct memory *m)
{
	disown(m);
	media_memfd.free(m);
}

static unsigned host_count_max(void)
{
	return REGIONS_PER_STORE;
}

const struct media media_host = {
	.make = host_make,
	.fill = host_fill,
	.scrub = host_scrub,
	.punch = host_punch,
	.free = host_free,
	.count_max = host_count_max,
};

/* The keeper. */

struct keep_host {
	struct keep keep;
	struct keep_set set;
	bool is_down;
};

static struct keep_set *set_of(struct keep *k)
{
	return &container_of(k, struct keep_host, keep)->set;
}

static void forget(struct keep_set *set, struct kept *e)
{
	close(e->fd);
	keep_set_remove(set, e);
}

static int keeper_make(struct keep *k, size_t size, struct memory *ret)
{
	return host_make(size, ret);
}

/* It is a process of its own: what it allocates no node has. */
static int reserve(struct keep_set *set)
{
	struct node *before = node_current;
	int r;

	node_current = NULL;
	r = keep_set_reserve(set);
	node_current = before;
	return r;
}

static int keeper_put(struct keep *k, struct keep_name name, const struct memory *m)
{
	struct keep_host *h = container_of(k, struct keep_host, keep);
	struct kept *e = keep_set_get(&h->set, name);
	int r = h->is_down ? -EHOSTDOWN : e ? 0 : reserve(&h->set);
	int fd = r < 0 ? r : fcntl(m->fd, F_DUPFD_CLOEXEC, 0);

	if (r < 0)
		return r;
	assert(fd >= 0);
	if (e)
		forget(&h->set, e);
	keep_set_add(&h->set, &(struct kept){ .name = name, .fd = fd });
	return 0;
}

static void keeper_drop(struct keep *k, struct keep_name name)
{
	struct kept *e = keep_set_get(set_of(k), name);

	if (e)
		forget(set_of(k), e);
}

static bool keeper_find(struct keep *k, struct keep_name from, struct keep_name *ret)
{
	return keep_set_find(set_of(k), from, ret);
}

static int keeper_take(struct keep *k, struct keep_name name, struct memory *ret)
{
	struct kept *e = keep_set_get(set_of(k), name);
	int fd, r;

	if (!e || !e->is_found)
		return -ENOENT;
	e->is_found = false;
	fd = fcntl(e->fd, F_DUPFD_CLOEXEC, 0);
	assert(fd >= 0);
	r = memory_adopt(fd, ret);
	/* retired.c has the descriptor alone. */
	if (r == 0 && name.kind != KEEP_RETIRED)
		own(ret);
	if (r < 0)
		close(fd);
	return r;
}

static void keeper_drop_rest(struct keep *k)
{
	struct keep_set *set = set_of(k);

	for (unsigned i = set->count; i-- > 0;)
		if (set->list[i].is_found)
			forget(set, &set->list[i]);
}

static const struct keep_ops KEEPER_OPS = {
	.make = keeper_make,
	.put = keeper_put,
	.drop = keeper_drop,
	.find = keeper_find,
	.take = keeper_take,
	.drop_rest = keeper_drop_rest,
};

struct keep_host *keep_host_new(void)
{
	struct keep_host *h = calloc(1, sizeof(*h));

	assert(h);
	h->keep.ops = &KEEPER_OPS;
	return h;
}

void keep_host_free(struct keep_host *h)
{
	struct node *before = node_current;

	if (!h)
		return;
	while (h->set.count > 0)
		forget(&h->set, &h->set.list[h->set.count - 1]);
	node_current = NULL;
	keep_set_fini(&h->set);
	node_current = before;
	free(h);
}

struct keep *keep_host_keep(struct keep_host *h)
{
	return &h->keep;
}

void keep_host_owner_gone(struct keep_host *h)
{
	for (unsigned i = 0; i < h->set.count; i++)
		h->set.list[i].is_found = true;
}

void keep_host_set_down(struct keep_host *h, bool is_down)
{
	h->is_down = is_down;
}
