/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: everything that must hold in a slot, by looking at all of it. For tests, and
 * for whoever doubts.
 */
#include "base/cleanup.h"
#include "base/node.h"
#include "meta/catalog_priv.h"

/* What was counted for one segment or job, to be compared with what it says. */
struct tally {
	struct hlink by_thing;
	const void *thing;
	uint64_t live, dead, places, bytes, blocks, objects, object_bytes, segments, debris,
		attempts;
};

struct check {
	const struct catalog *c;
	struct htable tallies;
	const char *broken;
};

static struct tally *tally_find(const struct check *k, const void *thing, uint64_t hash)
{
	for (struct hlink *l = htable_first(&k->tallies, hash); l; l = htable_next(l)) {
		struct tally *t = container_of(l, struct tally, by_thing);

		if (t->thing == thing)
			return t;
	}
	return NULL;
}

static uint64_t thing_hash(const void *thing)
{
	return hash_64(&thing, sizeof(thing), 0);
}

static struct tally *tally_of(struct check *k, const void *thing)
{
	uint64_t hash = thing_hash(thing);
	struct tally *t = tally_find(k, thing, hash);

	if (t)
		return t;
	t = node_alloc(sizeof(*t));
	t->thing = thing;
	htable_add(&k->tallies, &t->by_thing, hash);
	return t;
}

static void must(struct check *k, bool is_so, const char *rule)
{
	if (!is_so && !k->broken)
		k->broken = rule;
}

static uint64_t rounded(uint32_t len)
{
	return (len + SEGMENT_ALIGN - 1) & ~(uint32_t)(SEGMENT_ALIGN - 1);
}

static void count_place(struct check *k, const struct place *p)
{
	tally_of(k, p->segment)->live += rounded(p->len);
	tally_of(k, p->segment)->places++;
}

static void count_piece(struct check *k, const struct piece *p)
{
	count_place(k, &p->bytes);
	must(k, (p->table.segment != NULL) == (extent_table_count(p->bytes.len) > 0),
	     "a long piece has a table");
	if (!p->table.segment)
		return;
	count_place(k, &p->table);
	must(k, p->table.len == extent_table_count(p->bytes.len) * 4, "a table is of its piece");
}

static uint64_t count_chunk(struct check *k, const struct chunk *chunk)
{
	uint64_t len = 0;

	for (uint32_t i = 0; i < chunk->count; i++) {
		count_piece(k, &chunk->pieces[i]);
		len += chunk->pieces[i].bytes.len;
	}
	return len;
}

static void count_body(struct check *k, const struct body *b, uint64_t len, bool is_object)
{
	uint64_t at = 0;
	uint32_t count = 0;

	for (uint32_t i = 0; i < b->chunk_count; i++) {
		must(k, !is_object || b->chunks[i]->first == at, "chunks follow each other");
		at += count_chunk(k, b->chunks[i]);
		count += b->chunks[i]->count;
	}
	must(k, !is_object || at == len, "an object's chunks have its length");
	must(k, !is_object || count == b->piece_count, "a body knows how many pieces it has");
}

static void count_content(struct check *k, const struct entry *e)
{
	const struct value_segment *s;

	switch ((enum content)e->content) {
	case CONTENT_EMPTY:
		must(k, e->len == 0, "an object without content is empty");
		break;
	case CONTENT_VALUE:
		s = k->c->values[entry_value(e)->at >> VALUE_SEGMENT_SHIFT];
		must(k, s != NULL, "a value lies in a segment");
		if (s)
			tally_of(k, &s->blocks[(entry_value(e)->at & (VALUE_SEGMENT_BYTES - 1)) /
					       VALUE_BLOCK_BYTES])
				->live++;
		break;
	case CONTENT_PIECE:
		must(k, entry_piece(e)->bytes.len == e->len,
		     "the only piece has the object's length");
		count_piece(k, entry_piece(e));
		break;
	case CONTENT_BODY:
		count_body(k, body_of(e), e->len, true);
		break;
	}
}

static void check_entry(struct check *k, const struct entry *e)
{
	const struct life *life = entry_life(e);
	struct tally *t = tally_of(k, e->job);
	uint32_t reads = 0;

	t->objects++;
	t->object_bytes += e->len;
	count_content(k, e);
	must(k, entry_find(k->c, e->job, entry_path(e)) == e, "an entry is found by its path");
	must(k, entry_of(index_seek(&e->job->index, entry_path(e), false)) == e,
	     "an entry is in the index");
	must(k, !e->is_ghost, "a ghost is not found by its path");
	for (const struct hold *h = hold_first(k->c, e); h; h = hold_next(h))
		reads += h->is_read;
	must(k, !life || life->granted == reads, "each granted read is a hold");
	must(k, !life || life->reads == 0 || life->granted <= life->reads,
	     "no more reads are granted than there are");
	must(k, e->version <= e->job->version, "versions grow");
}

static void check_order(struct check *k, const struct job *j)
{
	struct index_link *l = index_first(&j->index), *next;
	uint64_t count = l != NULL;

	for (; l && (next = index_next(l)) != NULL; l = next, count++)
		must(k, slice_compare(entry_path(entry_of(l)), entry_path(entry_of(next))) < 0,
		     "the index is in order");
	must(k, count == j->object_count, "the index has all objects");
}

static void check_directory(struct check *k, const struct directory *d)
{
	struct slice path = { d->path, d->path_len };
	uint64_t count = 0;

	for (struct index_link *l = index_seek(&d->job->index, path, false); l; l = index_next(l)) {
		struct slice p = entry_path(entry_of(l));

		if (!slice_begins_with(p, path))
			break;
		count += directory_of(p).len == path.len;
	}
	must(k, count == d->count && count > 0, "a directory counts what is directly in it");
}

static void check_segment(struct check *k, const struct segment *s)
{
	struct tally *pool = tally_of(k, s->pool);
	uint64_t places = 0, dead = s->state == SEGMENT_SEALED ? s->placed - s->live : 0;

	for (const struct list *l = s->places.next; l != &s->places; l = l->next)
		places++;
	must(k, tally_of(k, s)->places == places, "a segment knows its live places");
	must(k, s->live <= s->placed && s->dead == dead, "a segment counts its dead bytes");
	must(k, s->is_emptied || s->dying == dead * DYING_CLASSES / (s->placed + !s->placed),
	     "a sealed segment stands where its dead share belongs");
	pool->dead += dead;
	must(k, tally_of(k, s)->live == s->live, "a segment counts its live bytes");
	must(k, s->state != SEGMENT_SEALED || s->live > 0, "a sealed segment has live bytes");
	must(k, s->state != SEGMENT_GONE || s->live > 0, "a segment that is gone is forgotten");
	must(k, (s->claimed != NULL) == (s->state <= SEGMENT_FENCED), "who is written has claims");
	must(k,
	     s->state == SEGMENT_FREEING || s->state == SEGMENT_GONE || s->live <= s->held ||
		     s->state == SEGMENT_LOST,
	     "no byte is handed out twice");
	must(k, s->session == NULL || s->state == SEGMENT_OPEN, "only open ones have a session");
	pool->bytes += s->held;
	if (!s->job)
		return;
	tally_of(k, s->job)->segments++;
	tally_of(k, s->job)->bytes += s->held;
	if (s->state < SEGMENT_FREEING)
		tally_of(k, s->job)->blocks += s->held; /* billed */
}

static void check_values(struct check *k)
{
	const struct catalog *c = k->c;
	uint32_t empty_count = 0;

	for (uint32_t i = 0; i < c->value_cap; i++) {
		const struct value_segment *s = c->values[i];
		uint32_t used = 0;

		for (uint32_t n = 0; s && n < VALUE_BLOCKS; n++) {
			const struct value_block *b = &s->blocks[n];

			must(k, (b->job != NULL) == (b->live > 0), "a block with values has a job");
			if (!b->job) {
				must(k, !tally_find(k, b, thing_hash(b)),
				     "a block without a job has no values");
				continue;
			}
			must(k, tally_of(k, b)->live == b->live, "a block counts its values");
			used++;
			tally_of(k, b->job)->bytes += VALUE_BLOCK_BYTES;
			tally_of(k, b->job)->blocks += VALUE_BLOCK_BYTES;
			tally_of(k, b->job)->live++;
		}
		must(k, !s || used == s->used_count, "a value segment counts its blocks");
		empty_count += s && used == 0;
	}
	must(k, empty_count == c->empty_value_count, "a slot counts its empty value segments");
}

static void check_job(struct check *k, const struct job *j, struct account *sum)
{
	struct tally *t = tally_of(k, j);

	must(k, t->objects == j->object_count, "a job counts its objects");
	must(k, t->object_bytes == j->object_bytes, "a job counts its objects' bytes");
	must(k, t->segments == j->segment_count, "a job counts its segments");
	must(k, t->debris == j->debris_count, "a job counts its debris");
	must(k, t->bytes == j->held_bytes, "a job counts what it holds");
	must(k, t->live == j->block_count, "a job counts its blocks");
	must(k, j->attempt_count <= ATTEMPTS_PER_JOB, "a job forgets old attempts");
	must(k, (j->state == JOB_LIVING ? t->blocks : 0) == j->account.bytes,
	     "a job pays for what it has");
	check_order(k, j);
	sum->bytes += j->account.bytes;
	sum->moments += j->account.moments;
}

/* All links of a table, as the structs that they are in. */
#define EACH(table, type, member, it)                                                       \
	for (struct {                                                                       \
		     size_t at;                                                             \
		     struct hlink *l;                                                       \
	     } w_ = { 0, NULL };                                                            \
	     (w_.l = htable_walk((table), &w_.at, w_.l)) != NULL;)                          \
		for (const type *it = container_of(w_.l, type, member), *once_ = it; once_; \
		     once_ = NULL)

static void count_lists(struct check *k)
{
	const struct catalog *c = k->c;

	for (struct list *l = c->debris.next; l != &c->debris; l = l->next) {
		const struct body *b = container_of(l, struct body, debris);

		count_body(k, b, 0, false);
		tally_of(k, b->job)->debris++;
	}
	for (struct list *l = c->dropped.next; l != &c->dropped; l = l->next)
		tally_of(k, container_of(l, struct open, debris)->job)->debris++;
}

static void count_open(struct check *k, const struct open *o, bool is_dropped)
{
	uint64_t len = 0;

	for (struct index_link *l = index_first(&o->parts); l; l = index_next(l))
		for (const struct chunk *i = container_of(l, struct part, in_open)->first; i;
		     i = i->next)
			len += count_chunk(k, i);
	must(k, is_dropped || len == o->len, "an open object has the length of its parts");
}

static void check_all(struct check *k)
{
	const struct catalog *c = k->c;
	struct account sum = { 0 };
	uint64_t visible = 0, requests = 0, shared_holds = 0, shared_opens = 0;

	EACH(&c->entries, struct entry, by_path, e)
	check_entry(k, e);
	EACH(&c->holds, struct hold, by_id, h)
	{
		if (h->entry->is_ghost && hold_first(c, h->entry) == h)
			count_content(k, h->entry);
		requests += h->request != 0;
	}
	EACH(&c->shares, struct share, link, sh)
	{
		must(k, sh->hold_count + sh->open_count > 0, "a share is of something");
		shared_holds += sh->hold_count;
		shared_opens += sh->open_count;
	}
	must(k, shared_holds == c->holds.count && shared_opens == c->opens.count,
	     "a session counts what each job has in it");
	must(k, c->hold_requests.count == requests, "a hold is found by its request");
	EACH(&c->opens, struct open, by_id, o)
	count_open(k, o, false);
	for (struct list *l = c->dropped.next; l != &c->dropped; l = l->next)
		count_open(k, container_of(l, struct open, debris), true);
	count_lists(k);
	EACH(&c->directories, struct directory, by_path, d)
	check_directory(k, d);
	EACH(&c->segments, struct segment, by_id, s)
	check_segment(k, s);
	check_values(k);
	EACH(&c->jobs, struct job, by_id, j)
	{
		check_job(k, j, &sum);
		visible += j->state == JOB_LIVING ? j->object_count : 0;
	}
	for (struct list *l = c->pools.next; l != &c->pools; l = l->next) {
		const struct pool *p = container_of(l, struct pool, link);

		must(k, tally_of(k, p)->bytes == p->bytes, "a pool counts its bytes");
		must(k, tally_of(k, p)->dead == p->dead, "a pool counts its dead bytes");
	}
	must(k, visible == c->object_count, "a slot counts its objects");
	must(k, c->segments.count == c->segment_count, "a slot counts its segments");
	must(k, sum.bytes == c->account.bytes, "the jobs together pay for what the slot has");
	must(k, sum.moments + c->forgotten.moments == c->account.moments,
	     "the jobs together paid for what the slot had");
}

const char *catalog_check(const struct catalog *c)
{
	struct check k = { .c = c };
	struct hlink *l;
	size_t at;

	if (htable_reserve(&k.tallies) < 0)
		return "there is memory to check with";
	check_all(&k);
	at = 0;
	while ((l = htable_any(&k.tallies, &at)) != NULL) {
		htable_remove(&k.tallies, l);
		node_free(container_of(l, struct tally, by_thing));
	}
	htable_fini(&k.tallies);
	return k.broken;
}
