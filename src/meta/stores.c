/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stores: storage servers, connected or away. Those that slots have, or had, segments of are in
 * the log, with their addresses, so that a successor of ours knows whom to wait for, and whose
 * count it misses.
 *
 *	away --says HELLO--> connected --its connection ends--> away
 *	  +--another one is at its address, or nothing was heard of it for store_gone_ms-->
 *	all it had is lost, and it is forgotten
 *
 * One that comes back after that is as good as any other; what it still has of then is
 * unknown to the slots, so it frees it (compare.c).
 */
#include <stdio.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/node.h"
#include "meta/shard_priv.h"

struct store *store_find_id(const struct shard *s, uint64_t id)
{
	for (struct list *l = s->stores.next; l != &s->stores; l = l->next) {
		struct store *st = container_of(l, struct store, link);

		if (st->id == id)
			return st;
	}
	return NULL;
}

static struct store *store_new(struct shard *s, uint64_t id)
{
	struct store *st = node_alloc(sizeof(*st));

	if (!st)
		return NULL;
	*st = (struct store){ .shard = s, .id = id, .away_ns = s->loop->now_ns };
	list_init(&st->link);
	list_init(&st->duties);
	list_init(&st->crowd);
	list_insert(&s->stores, &st->link);
	return st;
}

static int recover_one(void *owner, uint64_t id, const char *address)
{
	struct shard *s = owner;
	struct store *st = store_find_id(s, id);

	if (!st)
		st = store_new(s, id);
	if (!st)
		return -ENOMEM;
	if (st->address[0] == '\0')
		snprintf(st->address, sizeof(st->address), "%s", address);
	return 0;
}

int stores_recover(struct shard *s)
{
	int r = 0;

	for (struct slot *slot = slot_from(s, 0); slot && r == 0;
	     slot = slot_from(s, slot->number + 1))
		r = catalog_stores(slot->catalog, recover_one, s);
	return r;
}

void store_note(struct store *st, struct slot *slot)
{
	struct shard *s = st->shard;
	const struct slice address = { (const uint8_t *)st->address, strlen(st->address) };

	if (catalog_store_known(slot->catalog, st->id, address, shard_now(s), &s->out) < 0)
		st->is_noted = false; /* at the next look */
}

static void note_all(struct store *st)
{
	struct shard *s = st->shard;

	st->is_noted = true;
	for (struct slot *slot = slot_from(s, 0); slot && st->is_noted;
	     slot = slot_from(s, slot->number + 1))
		store_note(st, slot);
}

bool store_has_any(const struct store *st)
{
	const struct shard *s = st->shard;

	for (struct slot *slot = slot_from(s, 0); slot; slot = slot_from(s, slot->number + 1))
		if (catalog_store_has(slot->catalog, st->id))
			return true;
	return false;
}

void store_gone(struct store *st)
{
	struct shard *s = st->shard;

	for (struct slot *slot = slot_from(s, 0); slot; slot = slot_from(s, slot->number + 1))
		if (catalog_store_gone(slot->catalog, st->id, shard_now(s), &s->out) < 0)
			return;
	store_forget(st);
}

/* What it had is lost. */
static void give_up(struct store *st, const char *why)
{
	if (!store_has_any(st)) {
		store_gone(st);
		return;
	}
	if (!st->comparing)
		log_warning("%s: they are lost store=%llx address=\"%s\"", why,
			    (unsigned long long)st->id, st->address);
	store_lose(st);
}

static void replace_others(struct shard *s, const struct store *st)
{
	for (struct list *l = s->stores.next, *next; l != &s->stores; l = next) {
		struct store *old = container_of(l, struct store, link);

		next = l->next;
		if (old == st || old->conn || st->address[0] == '\0' ||
		    strcmp(old->address, st->address) != 0)
			continue;
		give_up(old, "a store came back without its bytes");
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

void stores_look(struct shard *s)
{
	uint64_t patience_ns = s->config.store_gone_ms * MS;

	stores_replaced(s);
	for (struct list *l = s->stores.next, *next; l != &s->stores; l = next) {
		struct store *st = container_of(l, struct store, link);

		next = l->next;
		if (st->conn && !st->is_noted)
			note_all(st);
		else if (!st->conn && patience_ns > 0 &&
			 s->loop->now_ns - st->away_ns >= patience_ns)
			give_up(st, "a store has not come back with its bytes for too long");
	}
}

void stores_renew(struct shard *s)
{
	for (struct list *l = s->stores.next; l != &s->stores; l = l->next)
		container_of(l, struct store, link)->away_ns = s->loop->now_ns;
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
	if (!st)
		st = store_new(s, req->incarnation);
	if (!st)
		return -ENOMEM;
	st->conn = r->conn;
	st->limit_bytes = req->limit_bytes;
	snprintf(st->address, sizeof(st->address), "%.*s", (int)req->address.len, req->address.ptr);
	state->store = st;
	note_all(st);
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
	st->away_ns = st->shard->loop->now_ns;
	compare_stop(st);
}

/* Nobody refers to it any more but its own calls. */
void store_forget(struct store *st)
{
	struct shard *s = st->shard;

	for (struct list *l = s->askings.next; l != &s->askings; l = l->next) {
		struct asking *a = container_of(l, struct asking, link);

		if (a->store != st)
			continue;
		list_remove(&a->crowd);
		a->store = NULL;
	}
	compare_stop(st);
	duties_forget(st);
	cleaning_forget(st);
	timer_stop(s->loop, &st->again);
	list_remove(&st->link);
	node_free(st);
}
