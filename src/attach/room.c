/* SPDX-License-Identifier: Apache-2.0 */
/*
 * room: an upload whose bytes are copied once, to where they stay: pieces of the proxy's memory
 * that only this handle may write, one after the other. What it has no room for goes through the
 * socket.
 */
#include <assert.h>
#include <errno.h>

#include "attach/handle.h"
#include "base/cleanup.h"
#include "base/hash.h"

void room_leave(struct wadi *w, struct upload_room *m)
{
	if (m->mapping)
		mapping_leave(&w->near, TAKE_PTR(m->mapping));
	m->len = m->have = 0;
}

static void sum_at(struct upload_room *m)
{
	size_t at = (size_t)((m->have - 1) / CHECK_PIECE) * 4;
	struct wcur w = wcur_make(m->sums + at, sizeof(m->sums) - at);

	put_u32(&w, m->crc);
}

void room_fill(struct upload_room *m, const uint8_t *data, uint32_t len)
{
	assert(len <= m->len - m->have);
	while (len > 0) {
		uint32_t n = CHECK_PIECE - m->have % CHECK_PIECE;

		if (n > len)
			n = len;
		if (m->have % CHECK_PIECE == 0)
			m->crc = crc_begin(m->seed);
		m->crc = copy_and_sum(m->data + m->have, data, n, m->crc);
		m->have += n;
		if (m->have % CHECK_PIECE == 0)
			sum_at(m);
		data += n;
		len -= n;
	}
}

/* What was written of the room at hand, and room for `len` bytes more. */
static int ask(struct wadi_op *op, struct upload *u, uint32_t part, uint64_t offset, uint32_t len,
	       struct reserved_part *ret)
{
	struct upload_room *m = &u->room;
	struct payload sums = { .ptr = m->sums,
				.len = (m->have + CHECK_PIECE - 1) / CHECK_PIECE * 4 };
	struct put_room_req req = {
		.put = u->put, .offset = offset, .part = part, .used = m->have, .len = len
	};
	struct question q;
	struct rcur body;
	struct wcur w;
	int r;

	if (m->have % CHECK_PIECE > 0)
		sum_at(m);
	w = question_begin(op, &q, MSG_PUT_ROOM);
	put_room_req_put(&w, &req);
	r = question_ask_there(&q, u->connection, &w, sums.len > 0 ? &sums : NULL);
	body = call_reply(&q.call);
	reserved_part_get(&body, ret);
	if (r == 0)
		r = rcur_finish(&body);
	question_end(&q);
	room_leave(op->w, m);
	/* There is room in either case, and perhaps it was waited for. What was written counts as
	 * if it had been sent: what may be is of all bytes. */
	if (r == 0 || r == -EOPNOTSUPP) {
		op_progress(op);
		u->sent += req.used;
	}
	return r;
}

/* -EOPNOTSUPP: it cannot be mapped, so nothing is written there. */
static int take(struct wadi_op *op, struct upload *u, const struct reserved_part *part)
{
	struct upload_room *m = &u->room;
	struct mapping *mapping;
	int r;

	if (part->len == 0 || part->len > ROOM_BYTES)
		return -EBADMSG;
	r = mapping_get_to_write(op, u->put, 0, part, &mapping);
	if (r < 0)
		return r;
	if (!mapping)
		return -EOPNOTSUPP;
	if ((uint64_t)part->offset + part->len > mapping->memory.size)
		return -EBADMSG;
	mapping_use(&op->w->near, mapping);
	m->mapping = mapping;
	m->data = mapping->memory.ptr + part->offset;
	m->seed = part->seed;
	m->len = part->len;
	m->have = 0;
	mapping_touch(mapping, m->data, m->len);
	return 0;
}

/* From here on its bytes are sent. */
static int give_up(struct wadi_op *op, struct upload *u)
{
	struct reserved_part part;

	u->is_in_place = false;
	return ask(op, u, 0, 0, 0, &part);
}

static int next(struct wadi_op *op, struct upload *u, uint32_t part, uint64_t offset)
{
	struct reserved_part room;
	int r = ask(op, u, part, offset, ROOM_BYTES, &room);

	if (r == -EOPNOTSUPP) {
		u->is_in_place = false;
		return 0;
	}
	if (r == 0)
		r = take(op, u, &room);
	return r == -EOPNOTSUPP ? give_up(op, u) : r;
}

int64_t room_write(struct wadi_op *op, struct upload *u, uint32_t part, uint64_t offset,
		   const uint8_t *data, size_t len)
{
	struct upload_room *m = &u->room;
	size_t at = 0;

	while (at < len && u->is_in_place) {
		uint32_t n = LOOP_PIECE;
		int r = 0;

		if (m->have == m->len)
			r = next(op, u, part, offset + at);
		if (r == 0 && fiber_yield(&op->w->loop->fibers) < 0)
			r = -ECANCELED;
		if (r < 0)
			return r;
		if (n > m->len - m->have)
			n = m->len - m->have;
		if (n > len - at)
			n = (uint32_t)(len - at);
		room_fill(m, data + at, n);
		at += n;
	}
	return (int64_t)at;
}

int room_end(struct wadi_op *op, struct upload *u)
{
	struct reserved_part part;

	return u->room.mapping ? ask(op, u, 0, 0, 0, &part) : 0;
}
