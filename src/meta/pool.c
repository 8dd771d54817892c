/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool: what a slot has of one store, and where that is. That is remembered until the store is
 * given up, whether the slot has anything of it or not: its count is to be missed.
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

/* STORE_KNOWN */

static bool is_address(struct slice text)
{
	return text.len > 0 && text.len < ADDRESS_TEXT_MAX && !memchr(text.ptr, '\0', text.len);
}

static bool is_at(const struct pool *p, struct slice text)
{
	return strlen(p->address) == text.len && memcmp(p->address, text.ptr, text.len) == 0;
}

static void set_address(struct pool *p, struct slice text)
{
	memcpy(p->address, text.ptr, text.len);
	p->address[text.len] = '\0';
}

/* Was there ever anything of it? */
static bool is_of_use(const struct pool *p)
{
	return p && (p->address[0] != '\0' || !list_is_empty(&p->segments));
}

int store_known_reserve(struct catalog *c, struct effect *e)
{
	const struct store_known_effect *m = &e->u.store_known;

	e->at.pool = catalog_pool_find(c, m->store);
	return is_of_use(e->at.pool) && is_address(m->address) ? 0 : -EBADMSG;
}

void store_known_apply(struct catalog *c, struct effect *e)
{
	SNAPSHOT(pool, e->at.pool);
	set_address(e->at.pool, e->u.store_known.address);
}

int catalog_store_known(struct catalog *c, uint64_t store, struct slice address, uint64_t now_ns,
			struct outcome *ret)
{
	struct effect e = { .kind = EFFECT_STORE_KNOWN, .at_ns = now_ns };
	const struct pool *p = catalog_pool_find(c, store);

	outcome_begin(c, ret);
	if (!is_of_use(p) || !is_address(address) || is_at(p, address))
		return 0;
	e.u.store_known = (struct store_known_effect){ .store = store, .address = address };
	return effect_do(c, &e);
}

int catalog_pool_restore(struct catalog *c, uint64_t store, struct slice address)
{
	struct pool *p;

	if (!is_address(address))
		return -EBADMSG;
	if (catalog_pool_reserve(c, store) < 0)
		return -ENOMEM;
	p = catalog_pool_find(c, store);
	if (p->address[0] != '\0')
		return -EBADMSG;
	set_address(p, address);
	return 0;
}

static bool has_any(const struct pool *p)
{
	for (const struct list *l = p->segments.next; l != &p->segments; l = l->next) {
		const struct segment *s = container_of((struct list *)l, struct segment, of_pool);

		if (s->state != SEGMENT_LOST && s->state != SEGMENT_GONE)
			return true;
	}
	return false;
}

bool catalog_store_has(const struct catalog *c, uint64_t store)
{
	const struct pool *p = catalog_pool_find(c, store);

	return p && has_any(p);
}

/* STORE_GONE */

int store_gone_reserve(struct catalog *c, struct effect *e)
{
	struct pool *p = catalog_pool_find(c, e->u.store_gone.store);

	e->at.pool = p;
	return is_of_use(p) && !has_any(p) ? 0 : -EBADMSG;
}

void store_gone_apply(struct catalog *c, struct effect *e)
{
	SNAPSHOT(pool, e->at.pool);
	e->at.pool->address[0] = '\0';
	c->has_lost = true;
}

int catalog_store_gone(struct catalog *c, uint64_t store, uint64_t now_ns, struct outcome *ret)
{
	struct effect e = { .kind = EFFECT_STORE_GONE, .at_ns = now_ns };
	const struct pool *p = catalog_pool_find(c, store);

	outcome_begin(c, ret);
	if (!p || p->address[0] == '\0')
		return 0;
	e.u.store_gone.store = store;
	return effect_do(c, &e);
}

int catalog_stores(const struct catalog *c,
		   int (*each)(void *owner, uint64_t store, const char *address), void *owner)
{
	int r = 0;

	for (struct list *l = c->pools.next; l != &c->pools && r == 0; l = l->next) {
		const struct pool *p = container_of(l, struct pool, link);

		if (p->address[0] != '\0' || has_any(p))
			r = each(owner, p->store, p->address);
	}
	return r;
}
