/* SPDX-License-Identifier: Apache-2.0 */
#include "base/node.h"
#include "meta/catalog_priv.h"

struct body *body_of(const struct entry *e)
{
	return e->content == CONTENT_BODY ? *entry_body(e) : NULL;
}

uint32_t entry_piece_count(const struct entry *e)
{
	if (e->content == CONTENT_BODY)
		return (*entry_body(e))->piece_count;
	return e->content == CONTENT_PIECE;
}

void extent_of_piece(const struct piece *p, struct extent *ret)
{
	*ret = (struct extent){ .segment = p->bytes.segment->id,
				.generation = p->bytes.segment->generation,
				.offset = p->bytes.offset,
				.len = p->bytes.len,
				.crc = p->crc,
				.seed = p->seed };
	if (p->table.segment) {
		ret->table_segment = p->table.segment->id;
		ret->table_generation = p->table.segment->generation;
		ret->table_offset = p->table.offset;
	}
}

static void put_piece(const struct piece *p, struct wcur *payload, bool *ret_is_lost)
{
	struct extent x;

	extent_of_piece(p, &x);
	extent_put(payload, &x);
	*ret_is_lost |= piece_is_lost(p);
}

/* The last chunk that begins at or before `offset`. */
static uint32_t chunk_at(const struct body *b, uint64_t offset)
{
	uint32_t low = 0, high = b->chunk_count;

	while (high - low > 1) {
		uint32_t middle = (low + high) / 2;

		if (b->chunks[middle]->first <= offset)
			low = middle;
		else
			high = middle;
	}
	return low;
}

uint32_t pieces_put(const struct entry *e, uint64_t offset, uint64_t until, struct wcur *payload,
		    uint64_t *ret_first, uint64_t *ret_end, bool *ret_is_lost)
{
	const struct body *b = body_of(e);
	uint32_t found = 0, i;
	uint64_t at;

	*ret_is_lost = false;
	if (!b) {
		*ret_first = 0;
		*ret_end = e->len;
		if (e->content == CONTENT_PIECE)
			put_piece(entry_piece(e), payload, ret_is_lost);
		return e->content == CONTENT_PIECE;
	}
	*ret_first = *ret_end = 0;
	if (b->chunk_count == 0)
		return 0; /* opened, and committed empty */
	i = chunk_at(b, offset);
	at = b->chunks[i]->first;
	*ret_first = at;
	for (; i < b->chunk_count && found < EXTENTS_MAX; i++) {
		const struct chunk *k = b->chunks[i];

		for (uint32_t n = 0; n < k->count && found < EXTENTS_MAX; n++) {
			const struct piece *p = &k->pieces[n];

			if (found > 0 && at >= until)
				goto out;
			at += p->bytes.len;
			if (at <= offset)
				continue;
			if (found++ == 0)
				*ret_first = at - p->bytes.len;
			put_piece(p, payload, ret_is_lost);
		}
	}
out:
	*ret_end = at;
	return found;
}

void chunk_free(struct catalog *c, struct chunk *k, uint64_t at_ns)
{
	for (uint32_t i = 0; i < k->count; i++)
		catalog_live_sub(c, &k->pieces[i], at_ns);
	node_free(k);
}

void body_discard(struct catalog *c, struct body *b, uint64_t at_ns)
{
	if (b->chunk_count > 1) {
		b->number = c->next_number++;
		b->seen = c->snapshot.round;
		list_insert(&c->debris, &b->debris);
		b->job->debris_count++;
		return;
	}
	if (b->chunk_count == 1)
		chunk_free(c, b->chunks[0], at_ns);
	node_free(b);
}

/* DEBRIS_CLEARED */

int debris_cleared_reserve(struct catalog *c, struct effect *e)
{
	(void)e;
	return list_is_empty(&c->debris) && list_is_empty(&c->dropped) ? -EBADMSG : 0;
}

static void clear_body(struct catalog *c, struct body *b, uint64_t at_ns)
{
	struct job *j = b->job;

	SNAPSHOT(debris, b);
	if (b->chunk_count > 0)
		chunk_free(c, b->chunks[--b->chunk_count], at_ns);
	if (b->chunk_count > 0)
		return;
	SNAPSHOT(leave, &b->debris);
	list_remove(&b->debris);
	node_free(b);
	j->debris_count--;
	job_rest(c, j);
}

static void clear_open(struct catalog *c, struct open *o, uint64_t at_ns)
{
	struct job *j = o->job;

	if (open_clear(c, o, at_ns))
		return;
	j->debris_count--;
	job_rest(c, j);
}

void debris_cleared_apply(struct catalog *c, struct effect *e)
{
	for (uint32_t i = 0; i < e->u.debris_cleared.count; i++) {
		if (!list_is_empty(&c->debris))
			clear_body(c, container_of(c->debris.next, struct body, debris), e->at_ns);
		else if (!list_is_empty(&c->dropped))
			clear_open(c, container_of(c->dropped.next, struct open, debris), e->at_ns);
		else
			break;
	}
}
