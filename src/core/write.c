/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/node.h"
#include "core/core_priv.h"

int piece_at(struct core *c, struct segment *s, uint32_t offset, uint32_t len, struct piece *ret)
{
	int r = 0;

	*ret = (struct piece){ .segment = s, .offset = offset, .len = len };
	if (segment_is_near(s)) {
		r = c->config.reach_ops->pin_to_write(c->config.reach, s->job, s->id, s->generation,
						      s->key, offset, len, &ret->ptr);
		ret->is_pinned = r == 0;
	} else if (c->buffer_bytes + len > BUFFER_BYTES_MAX) {
		r = -EUSERS;
	} else {
		ret->ptr = node_resize(NULL, len); /* not zeroed: all of it is written */
		ret->is_buffer = ret->ptr != NULL;
		c->buffer_bytes += ret->ptr ? len : 0;
		r = ret->ptr ? 0 : -ENOMEM;
	}
	if (r < 0) {
		ret->segment = NULL;
		return r;
	}
	segment_reserved(s);
	return 0;
}

void piece_leave(struct core *c, struct piece *p)
{
	if (p->is_pinned)
		c->config.reach_ops->unpin(c->config.reach, p->segment->id, true);
	if (p->is_buffer) {
		node_free(p->ptr);
		buffer_given_back(c, p->len);
	}
	p->ptr = NULL;
	p->is_pinned = p->is_buffer = false;
}

void piece_end(struct core *c, struct piece *p)
{
	if (p->segment) {
		piece_leave(c, p);
		segment_unreserved(TAKE_PTR(p->segment));
	}
	if (p->table)
		segment_unreserved(TAKE_PTR(p->table));
}

static int write_once(struct core *c, struct piece *p, uint32_t at, uint32_t len, uint64_t due_ns)
{
	struct segment *s = p->segment;
	struct payload payload = { .ptr = p->ptr + at, .len = len };
	struct call call = { 0 };
	struct conn *conn;
	struct wcur w;
	int r = store_conn(c, s->store, slot_of_id(s->job), due_ns, &conn);

	if (r < 0)
		return r;
	w = call_body(c->net, &call);
	write_req_put(&w, &(struct write_req){ .job = s->job,
					       .segment = s->id,
					       .key = s->key,
					       .generation = s->generation,
					       .offset = p->offset + at });
	call_send(conn, &call, MSG_WRITE, slot_of_id(s->job), &w, &payload, due_ns);
	r = call_wait(&call);
	call_end(&call);
	return r == -EACCES ? -ESTALE : r; /* fenced: the key opens nothing any more */
}

/* One frame of a WRITE carries so much. */
static int write_some(struct core *c, struct piece *p, uint32_t at, uint32_t len, uint64_t due_ns)
{
	struct store_wait wait = store_wait_begin(c, due_ns);
	int r;

	do
		r = write_once(c, p, at, len, due_ns);
	while (store_comes_back(c, &wait, &r));
	return r;
}

int piece_send(struct core *c, struct piece *p, uint64_t due_ns)
{
	int r = 0;

	if (!p->is_buffer)
		return 0;
	for (uint32_t at = 0, n; r == 0 && at < p->len; at += n) {
		n = p->len - at < FRAME_PAYLOAD_MAX ? p->len - at : FRAME_PAYLOAD_MAX;
		r = write_some(c, p, at, n, due_ns);
	}
	if (r == -ESTALE)
		segment_seal(p->segment);
	return r;
}

static int sum_bytes(struct core *c, const struct piece *p, struct wcur *to, uint64_t seed)
{
	int r = 0;

	for (uint32_t at = 0, n; at < p->len && r == 0; at += n) {
		n = p->len - at < CHECK_PIECE ? p->len - at : CHECK_PIECE;
		put_u32(to, crc_more(crc_begin(seed), p->ptr + at, n));
		if ((at + n) % LOOP_PIECE == 0)
			r = fiber_yield(&c->loop->fibers);
	}
	return r;
}

int piece_table(struct core *c, struct piece *p, const void *sums, uint64_t due_ns,
		struct extent *ret, char *why, size_t why_cap)
{
	uint32_t len = extent_table_count(p->len) * 4;
	struct piece table;
	int r = table_reserve(c, p->segment->job, len, due_ns, &table, why, why_cap);
	struct wcur w;

	if (r < 0)
		return r;
	w = wcur_make(table.ptr, len);
	if (sums)
		put_bytes(&w, sums, len);
	else
		r = sum_bytes(c, p, &w, ret->seed);
	ret->crc = crc_more(crc_begin(ret->seed), table.ptr, len);
	ret->table_segment = table.segment->id;
	ret->table_generation = table.segment->generation;
	ret->table_offset = table.offset;
	if (r == 0)
		r = piece_send(c, &table, due_ns);
	/* Until the commit nobody but us knows of the table: its segment must not be settled. */
	p->table = table.segment;
	piece_leave(c, &table);
	return r;
}

int piece_fill(struct core *c, struct piece *p, uint64_t due_ns, struct extent *ret, char *why,
	       size_t why_cap)
{
	int r = 0;

	*ret = (struct extent){ .segment = p->segment->id,
				.generation = p->segment->generation,
				.offset = p->offset,
				.len = p->len,
				.seed = number_next(c) };
	if (p->len <= CHECK_PIECE)
		ret->crc = crc_more(crc_begin(ret->seed), p->ptr, p->len);
	else
		r = piece_table(c, p, NULL, due_ns, ret, why, why_cap);
	if (r == 0)
		r = piece_send(c, p, due_ns);
	return r;
}
