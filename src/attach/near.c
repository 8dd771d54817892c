/* SPDX-License-Identifier: Apache-2.0 */
#include "attach/near.h"

#include <errno.h>

#include "attach/handle.h"
#include "base/hash.h"
#include "base/node.h"

bool near_copy_piece(const uint8_t *extent, uint32_t begin, uint32_t end, uint32_t from,
		     uint32_t to, uint8_t *copy, uint64_t seed, uint32_t sum)
{
	uint32_t crc = crc_begin(seed);

	memcpy(copy, extent + from, to - from);
	crc = crc_more(crc, extent + begin, from - begin);
	crc = crc_more(crc, copy, to - from);
	return crc_more(crc, extent + to, end - to) == sum;
}

/* [at, at + len) of an extent. -EIO: not these bytes, or not any more. */
static int copy_extent(struct wadi_op *op, const uint8_t *extent, const struct near_extent *e,
		       struct rcur sums, uint32_t at, uint8_t *copy, uint32_t len)
{
	uint32_t begin = at / CHECK_PIECE * CHECK_PIECE, last = at + len;

	rcur_take(&sums, (size_t)at / CHECK_PIECE * 4);
	for (uint32_t from = at, end, to; from < last; from = to, begin = end) {
		end = e->len - begin < CHECK_PIECE ? e->len : begin + CHECK_PIECE;
		to = end < last ? end : last;
		if (!near_copy_piece(extent, begin, end, from, to, copy, e->seed, get_u32(&sums)))
			return -EIO;
		copy += to - from;
		if (end % LOOP_PIECE == 0 && fiber_yield(&op->w->loop->fibers) < 0)
			return -ECANCELED;
	}
	return 0;
}

/* The extent and its sums, as they came. */
static int extent_take(struct rcur *list, struct near_extent *e, struct rcur *sums)
{
	uint32_t count;
	const uint8_t *p;

	near_extent_get(list, e);
	count = extent_table_count(e->len);
	p = rcur_take(list, (size_t)e->sum_count * 4);
	if (!p || e->len == 0 || e->sum_count != (count ? count : 1))
		return -EBADMSG;
	*sums = rcur_make(p, (size_t)e->sum_count * 4);
	return 0;
}

/* Copied; 0: to be asked for. */
static int64_t copy_mapped(struct wadi_op *op, const struct near_extent *e, struct rcur sums,
			   uint32_t at, uint8_t *to, uint32_t len)
{
	struct near *n = &op->w->near;
	struct mapping *m;
	int r = mapping_get(op, e->segment, e->generation, &m);

	if (r < 0 || !m)
		return r;
	if ((uint64_t)e->offset + e->len > m->len)
		return 0;
	mapping_use(n, m);
	r = copy_extent(op, m->ptr + e->offset, e, sums, at, to, len);
	mapping_leave(n, m);
	if (r == 0)
		op_progress(op);
	if (r == 0)
		return len;
	return r == -EIO ? 0 : r;
}

/* What the list has of [at, end), as far as it is mapped. */
static int64_t copy_list(struct wadi_op *op, const struct near_list *l, uint64_t at, uint64_t end,
			 uint8_t *to)
{
	struct rcur list = rcur_make(l->bytes, l->len);
	uint64_t begun = at, first = l->first;

	for (unsigned count = l->count; count > 0 && at < end; count--) {
		struct near_extent e;
		struct rcur sums;
		uint64_t len;
		int64_t r;

		if (extent_take(&list, &e, &sums) < 0 || at < first)
			break;
		if (at - first >= e.len) {
			first += e.len;
			continue;
		}
		len = first + e.len < end ? first + e.len - at : end - at;
		r = copy_mapped(op, &e, sums, (uint32_t)(at - first), to, (uint32_t)len);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		at += len;
		to += len;
		first += e.len;
	}
	return (int64_t)(at - begun);
}

/* From the extent with that byte on. 1: it is here; 0: it is to be had through the socket alone. */
static int list_get(struct wadi_op *op, struct got *g, uint64_t at, struct near_list *l)
{
	struct get_near_rep rep;
	struct question q;
	struct rcur body;
	struct wcur w = question_begin(op, &q, MSG_GET_NEAR);
	int r;

	l->count = 0;
	get_near_req_put(&w, &(struct get_near_req){ .hold = g->hold, .offset = at });
	q.call.room = l->bytes;
	q.call.room_cap = NEAR_BYTES;
	r = question_ask_there(&q, g->connection, &w, NULL);
	body = call_reply(&q.call);
	if (r == -EACCES || r == -EOPNOTSUPP)
		op->w->near.refused = g->connection;
	if (r == 0)
		r = get_near_rep_get(&body, &rep);
	if (r == 0) {
		g->is_near = true;
		l->len = q.call.room_len;
		l->first = rep.first;
		l->count = rep.count;
	}
	question_end(&q);
	/* Why not, the socket will say. */
	return r == 0 ? 1 : r == -ECANCELED ? r : 0;
}

int64_t near_copy(struct wadi_op *op, struct got *g, struct near_list *l, uint64_t at, void *to,
		  uint64_t len)
{
	bool is_new = false;
	uint64_t done = 0;

	if (len >= NEAR_FROM && !l->bytes)
		l->bytes = node_alloc(NEAR_BYTES);
	if (len < NEAR_FROM || !l->bytes)
		return 0;
	while (near_is_possible(op->w) && op->w->connection == g->connection) {
		int64_t r = copy_list(op, l, at + done, at + len, (uint8_t *)to + done);

		if (r < 0)
			return r;
		done += (uint64_t)r;
		if (done == len || (r == 0 && is_new))
			break;
		r = list_get(op, g, at + done, l);
		if (r <= 0)
			return r < 0 ? r : (int64_t)done;
		is_new = true;
	}
	return (int64_t)done;
}
