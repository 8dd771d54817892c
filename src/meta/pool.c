/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool: what a slot has of one store.
 */
#include "base/node.h"
#include "meta/catalog_priv.h"

struct pool *catalog_pool_find(const struct catalog *c, uint64_t store)
{
	for (struct list *l = c->pools.next; l != &c->pools; l = l->next) {
		struct pool *p = container_of(l, struct pool, link);

		if (p->store == store)
			return p;
	}
	return NULL;
}

/* An empty one more or less changes nothing, so this needs no effect. */
int catalog_pool_reserve(struct catalog *c, uint64_t store)
{
	struct pool *p;

	if (catalog_pool_find(c, store))
		return 0;
	p = node_alloc(sizeof(*p));
	if (!p)
		return -ENOMEM;
	*p = (struct pool){ .store = store };
	list_init(&p->link);
	list_init(&p->segments);
	list_init(&p->owed);
	for (int i = 0; i < DYING_CLASSES; i++)
		list_init(&p->dying[i]);
	list_insert(&c->pools, &p->link);
	return 0;
}

uint64_t catalog_store_bytes(const struct catalog *c, uint64_t store)
{
	const struct pool *p = catalog_pool_find(c, store);

	return p ? p->bytes : 0;
}
