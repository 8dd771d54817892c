/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stores: storage servers, connected or away.
 */
#include <stdio.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/node.h"
#include "meta/shard_priv.h"

static struct store *store_find_id(const struct shard *s, uint64_t id)
{
	for (struct list *l = s->stores.next; l != &s->stores; l = l->next) {
		struct store *st = container_of(l, struct store, link);

		if (st->id == id)
			return st;
	}
	return NULL;
}

static void replace_others(struct shard *s, const struct store *st)
{
	for (struct list *l = s->stores.next, *next; l != &s->stores; l = next) {
		struct store *old = container_of(l, struct store, link);

		next = l->next;
		if (old == st || old->conn || st->address[0] == '\0' ||
		    strcmp(old->address, st->address) != 0)
			continue;
		log_warning("a store came back without its bytes: they are lost address=\"%s\"",
			    st->address);
		store_lose(s, old->id);
		store_forget(old);
	}
}

/* The end of a store's connection may be heard of after its successor's HELLO. */
void stores_replaced(struct shard *s)
{
	for (struct list *l = s->stores.next; l != &s->stores; l = l->next) {
		struct store *st = container_of(l, struct store, link);

		if (st->conn)
			replace_others(s, st);
	}
}

/* Statuses: INVALID, EXISTS, NOMEMORY. */
int store_attach(struct request *r, const struct hello_req *req)
{
	struct peer_state *state = r->conn->state;
	struct shard *s = state->shard;
	struct store *st = store_find_id(s, req->incarnation);

	if (req->incarnation == 0 || req->address.len >= ADDRESS_TEXT_MAX)
		return -EINVAL;
	if (st && st->conn) {
		/* It knows better than we that the other connection is gone. */
		struct conn *before = st->conn;

		store_detach(before);
		conn_close(before);
	}
	if (!st) {
		st = node_alloc(sizeof(*st));
		if (!st)
			return -ENOMEM;
		*st = (struct store){ .shard = s, .id = req->incarnation };
		list_init(&st->link);
		list_init(&st->duties);
		list_insert(&s->stores, &st->link);
	}
	st->conn = r->conn;
	st->limit_bytes = req->limit_bytes;
	snprintf(st->address, sizeof(st->address), "%.*s", (int)req->address.len, req->address.ptr);
	state->store = st;
	replace_others(s, st);
	return 0;
}

void store_detach(struct conn *c)
{
	struct peer_state *state = c->state;
	struct store *st = TAKE_PTR(state->store);

	if (!st || st->conn != c)
		return;
	st->conn = NULL;
	compare_stop(st);
}

/* Nobody refers to it any more but its own calls. */
void store_forget(struct store *st)
{
	struct shard *s = st->shard;

	for (struct list *l = s->askings.next; l != &s->askings; l = l->next) {
		struct asking *a = container_of(l, struct asking, link);

		if (a->store == st)
			a->store = NULL;
	}
	compare_stop(st);
	duties_forget(st);
	cleaning_forget(st);
	timer_stop(s->loop, &st->again);
	list_remove(&st->link);
	node_free(st);
}
