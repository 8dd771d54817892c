/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fini: everything at once, without effects: the end of the process, or of a test.
 */
#include "base/node.h"
#include "meta/catalog_priv.h"

static void free_body(struct body *b)
{
	for (uint32_t i = 0; b && i < b->chunk_count; i++)
		node_free(b->chunks[i]);
	node_free(b);
}

void entry_free_now(struct entry *e)
{
	free_body(body_of(e));
	node_free(e);
}

static void free_chunks(struct chunk *k)
{
	while (k) {
		struct chunk *next = k->next;

		node_free(k);
		k = next;
	}
}

static void free_open(struct open *o)
{
	struct index_link *l;

	while ((l = o->parts.root) != NULL) {
		struct part *p = container_of(l, struct part, in_open);

		index_remove(&o->parts, l);
		free_chunks(p->first);
		node_free(p);
	}
	node_free(o);
}

static void free_holds(struct catalog *c)
{
	struct hlink *l;
	size_t at;

	at = 0;
	while ((l = htable_any(&c->holds, &at)) != NULL) {
		struct hold *h = container_of(l, struct hold, by_id);

		htable_remove(&c->holds, l);
		hold_unhang(c, h);
		if (!h->entry->is_held && h->entry->is_ghost)
			entry_free_now(h->entry);
		node_free(h);
	}
}

static void free_shares(struct catalog *c)
{
	struct hlink *l;
	size_t at = 0;

	while ((l = htable_any(&c->shares, &at)) != NULL) {
		htable_remove(&c->shares, l);
		node_free(container_of(l, struct share, link));
	}
}

static void free_objects(struct catalog *c)
{
	struct hlink *l;
	size_t at;

	at = 0;
	while ((l = htable_any(&c->entries, &at)) != NULL) {
		htable_remove(&c->entries, l);
		entry_free_now(container_of(l, struct entry, by_path));
	}
	at = 0;
	while ((l = htable_any(&c->directories, &at)) != NULL) {
		htable_remove(&c->directories, l);
		node_free(container_of(l, struct directory, by_path));
	}
	at = 0;
	while ((l = htable_any(&c->opens, &at)) != NULL) {
		htable_remove(&c->opens, l);
		free_open(container_of(l, struct open, by_id));
	}
	while (!list_is_empty(&c->dropped)) {
		struct list *i = c->dropped.next;

		list_remove(i);
		free_open(container_of(i, struct open, debris));
	}
	while (!list_is_empty(&c->debris)) {
		struct list *i = c->debris.next;

		list_remove(i);
		free_body(container_of(i, struct body, debris));
	}
}

static void free_sessions(struct catalog *c)
{
	struct hlink *l;
	size_t at;

	at = 0;
	while ((l = htable_any(&c->sessions, &at)) != NULL) {
		htable_remove(&c->sessions, l);
		node_free(container_of(l, struct session, by_id));
	}
	while (!list_is_empty(&c->over_sessions)) {
		struct list *i = c->over_sessions.next;

		list_remove(i);
		node_free(container_of(i, struct session, link));
	}
}

static void free_jobs(struct catalog *c)
{
	struct hlink *l;
	size_t at;

	at = 0;
	while ((l = htable_any(&c->jobs, &at)) != NULL) {
		struct job *j = container_of(l, struct job, by_id);

		htable_remove(&c->jobs, l);
		while (!list_is_empty(&j->attempts)) {
			struct list *a = j->attempts.next;

			list_remove(a);
			attempt_free(j, container_of(a, struct attempt, link));
		}
		node_free(j);
	}
}

struct catalog *catalog_free(struct catalog *c)
{
	struct htable *all[CATALOG_TABLES];
	struct hlink *l;
	size_t at;

	if (!c)
		return NULL;
	free_holds(c);
	free_shares(c);
	free_objects(c);
	free_sessions(c);
	free_jobs(c);
	at = 0;
	while ((l = htable_any(&c->segments, &at)) != NULL) {
		htable_remove(&c->segments, l);
		node_free(container_of(l, struct segment, by_id)->claimed);
		node_free(container_of(l, struct segment, by_id));
	}
	while (!list_is_empty(&c->pools)) {
		struct list *i = c->pools.next;

		list_remove(i);
		node_free(container_of(i, struct pool, link));
	}
	values_fini(c);
	catalog_tables(c, all);
	for (int i = 0; i < CATALOG_TABLES; i++)
		htable_fini(all[i]);
	return node_free(c);
}
