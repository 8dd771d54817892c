/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "attach/handle.h"
#include "base/cleanup.h"
#include "base/container.h"
#include "base/node.h"

/*
 * writer: collects a piece, and sends it while the next one is collected; what is written
 * in longer runs is not copied. What ends before the first piece is full goes as one put.
 * Where it may, it copies them to where they stay instead (room.c).
 * Two pieces are enough to keep a connection busy, and a program may have many writers.
 */
#define WRITER_PIECES 2

struct wadi_writer {
	struct wadi *w;
	struct put_how how;
	struct upload upload;
	struct lane *lane; /* being collected */
	uint32_t have;     /* bytes of it */
	bool is_open, is_broken;
	uint64_t len_hint;
	uint32_t part;
	uint64_t *part_lens; /* of all parts, once more than one is used */
	uint64_t part_len;   /* of this part, collected bytes included */
	uint8_t attributes[ATTRIBUTES_BYTES_MAX];
	char path[];
};

int wadi_writer_open(struct wadi *w, const char *path, uint64_t len_hint,
		     const struct wadi_put_options *options, struct wadi_writer **ret)
{
	struct wadi_writer *wr = path ? node_alloc(sizeof(*wr) + strlen(path) + 1) : NULL;
	const char *why = wr ? "attributes have at most 512 bytes" : why_no_room(path);
	int r = wr ? put_how_init(w, &wr->how, options) : path ? -ENOMEM : -EINVAL;

	if (r == 0) {
		strcpy(wr->path, path);
		r = path_of(w, wr->path, &wr->how.path, &why);
	}
	if (r < 0) {
		node_free(wr);
		return (int)handle_fail(w, "write", path, r, why);
	}
	if (wr->how.options.attributes_len)
		memcpy(wr->attributes, wr->how.options.attributes, wr->how.options.attributes_len);
	wr->how.options.attributes = wr->attributes;
	wr->w = w;
	wr->len_hint = len_hint;
	*ret = wr;
	return 0;
}

/* Of all lanes only so many have a buffer, so that more are never busy. */
static struct lane *lane_take(struct wadi_op *op, struct wadi_writer *wr)
{
	struct upload *u = &wr->upload;

	while (u->result == 0) {
		struct lane *oldest = NULL;

		for (unsigned i = 0; i < WRITER_PIECES; i++) {
			struct lane *l = &u->lanes[i];

			if (!l->is_busy) {
				if (!l->buf)
					l->buf = node_alloc(TRANSFER_PIECE);
				return l->buf ? l : NULL;
			}
			if (!oldest || l->began < oldest->began)
				oldest = l;
		}
		(void)upload_wait(op, u);
	}
	return NULL;
}

static int begin(struct wadi_op *op, struct wadi_writer *wr)
{
	int r = wr->is_open ? 0 : upload_open(op, &wr->upload, &wr->how, wr->len_hint);

	wr->is_open = wr->is_open || r == 0;
	return r;
}

static int flush(struct wadi_op *op, struct wadi_writer *wr)
{
	struct lane *l = wr->lane;
	uint64_t from = wr->part_len - wr->have;
	int64_t written = 0;
	int r = begin(op, wr);

	if (r == 0 && l)
		written = room_write(op, &wr->upload, wr->part, from, l->buf, wr->have);
	if (written < 0)
		return (int)written;
	if (r == 0 && l && wr->have > written)
		r = upload_send(op, &wr->upload, l, wr->part, from + (uint64_t)written,
				l->buf + written, wr->have - (uint32_t)written);
	if (r == 0) {
		wr->lane = NULL;
		wr->have = 0;
	}
	return r;
}

struct write_op {
	struct wadi_op op;
	struct wadi_writer *wr;
	const uint8_t *data;
	size_t len;
	uint32_t part;
	uint64_t *ret_version;
};

/* Whole pieces go straight from the caller's memory, as many at once as the credit allows. */
static int write_pieces(struct wadi_op *op, struct wadi_writer *wr, const uint8_t *data, size_t len)
{
	struct upload *u = &wr->upload;
	int r = begin(op, wr);

	for (size_t at = 0; r == 0 && at < len; at += TRANSFER_PIECE) {
		struct lane *l = upload_lane(op, u);

		r = l ? upload_send(op, u, l, wr->part, wr->part_len, data + at, TRANSFER_PIECE)
		      : u->result;
		wr->part_len += TRANSFER_PIECE;
	}
	/* The caller's again when this returns. */
	while (r == 0)
		r = upload_wait(op, u);
	return r == -EAGAIN ? u->result : r;
}

static int collect(struct wadi_op *op, struct wadi_writer *wr, const uint8_t *data, size_t len)
{
	if (len > 0 && !wr->lane)
		wr->lane = lane_take(op, wr);
	if (len > 0 && !wr->lane)
		return wr->upload.result < 0 ? wr->upload.result : op_no_memory(op);
	if (len > 0)
		memcpy(wr->lane->buf + wr->have, data, len);
	wr->have += (uint32_t)len;
	wr->part_len += len;
	return wr->have == TRANSFER_PIECE ? flush(op, wr) : 0;
}

/* It is more than a piece, or is going to be. */
static bool is_long(const struct wadi_writer *wr, size_t more)
{
	return wr->len_hint > TRANSFER_PIECE || more >= TRANSFER_PIECE - wr->have;
}

/* Where bytes are written in place none are collected, but for those that may be all there is. */
static int write_in_place(struct wadi_op *op, struct write_op *o)
{
	struct wadi_writer *wr = o->wr;
	int64_t n = 0;
	int r = 0;

	if (!wr->is_open && is_long(wr, o->len) && room_is_possible(op->w))
		r = begin(op, wr);
	if (r == 0 && wr->upload.is_in_place && wr->have > 0)
		r = flush(op, wr);
	if (r == 0 && wr->upload.is_in_place)
		n = room_write(op, &wr->upload, wr->part, wr->part_len, o->data, o->len);
	if (n < 0)
		return (int)n;
	wr->part_len += (uint64_t)n;
	o->data += n;
	o->len -= (size_t)n;
	return r;
}

static int64_t write_run(struct wadi_op *op)
{
	struct write_op *o = container_of(op, struct write_op, op);
	struct wadi_writer *wr = o->wr;
	size_t first, whole;
	int r = write_in_place(op, o);

	if (r < 0)
		return r;
	first = wr->have > 0 ? TRANSFER_PIECE - wr->have : 0;
	if (first > o->len)
		first = o->len;
	whole = (o->len - first) / TRANSFER_PIECE * TRANSFER_PIECE;
	if (first > 0)
		r = collect(op, wr, o->data, first);
	if (r == 0 && whole > 0)
		r = write_pieces(op, wr, o->data + first, whole);
	if (r == 0)
		r = collect(op, wr, o->data + first + whole, o->len - first - whole);
	return r;
}

/*
 * Pieces on their way move only while the handle is turned: how long the program took for
 * its next bytes is not counted as theirs.
 */
static void forgive_pause(struct wadi_writer *wr, uint32_t timeout_ms)
{
	uint64_t due_ns = node_now_ns() + timeout_ms * 1000000ull;

	for (unsigned i = 0; i < LANES; i++)
		if (wr->upload.lanes[i].is_busy)
			call_extend(&wr->upload.lanes[i].call, due_ns);
}

static int64_t writer_run(struct write_op *o, struct wadi_writer *wr,
			  int64_t (*run)(struct wadi_op *op))
{
	int64_t r;

	if (wr->is_broken)
		return handle_fail(wr->w, "write", wr->path, -ECANCELED, "an earlier write failed");
	op_init(&o->op, wr->w, "write", wr->path, wr->how.options.timeout_ms, run);
	o->wr = wr;
	if (handle_check(wr->w) == 0)
		forgive_pause(wr, o->op.timeout_ms);
	r = op_run(&o->op);
	wr->is_broken = r < 0;
	/* Pieces on their way may lie in the caller's memory, which is his again. */
	if (r < 0 && handle_check(wr->w) == 0)
		upload_drop(wr->w, &wr->upload);
	return r;
}

int wadi_writer_write(struct wadi_writer *wr, const void *data, size_t len)
{
	struct write_op o = { .data = data, .len = len };
	struct upload_room *m = &wr->upload.room;

	/* What fits needs no operation. */
	if (!wr->is_broken && m->mapping && len <= LOOP_PIECE && len < m->len - m->have &&
	    handle_check(wr->w) == 0) {
		room_fill(m, data, (uint32_t)len);
		wr->part_len += len;
		return 0;
	}
	if (!wr->is_broken && wr->lane && len < TRANSFER_PIECE - wr->have) {
		memcpy(wr->lane->buf + wr->have, data, len);
		wr->have += (uint32_t)len;
		wr->part_len += len;
		return 0;
	}
	return (int)writer_run(&o, wr, write_run);
}

static int64_t part_run(struct wadi_op *op)
{
	struct write_op *o = container_of(op, struct write_op, op);
	struct wadi_writer *wr = o->wr;
	int r = 0;

	if (!wr->part_lens) {
		wr->part_lens = node_alloc(PARTS_MAX * sizeof(*wr->part_lens));
		if (!wr->part_lens)
			return op_no_memory(op);
	}
	if (wr->have > 0 || !wr->is_open)
		r = flush(op, wr);
	if (r == 0)
		r = room_end(op, &wr->upload);
	if (r < 0)
		return r;
	wr->part_lens[wr->part] = wr->part_len;
	wr->part = o->part;
	wr->part_len = wr->part_lens[wr->part];
	return 0;
}

int wadi_writer_part(struct wadi_writer *wr, uint32_t number)
{
	struct write_op o = { .part = number };

	if (number >= PARTS_MAX)
		return (int)handle_fail(wr->w, "write", wr->path, -EINVAL, "parts are 0 to 9,999");
	if (number == wr->part)
		return 0;
	return (int)writer_run(&o, wr, part_run);
}

static int64_t commit_run(struct wadi_op *op)
{
	struct write_op *o = container_of(op, struct write_op, op);
	struct wadi_writer *wr = o->wr;
	int r = 0;

	if (!wr->is_open)
		return put_object(op, &wr->how, wr->lane ? wr->lane->buf : NULL, wr->have,
				  o->ret_version);
	if (wr->have > 0)
		r = flush(op, wr);
	return r < 0 ? r : upload_commit(op, &wr->upload, o->ret_version);
}

int wadi_writer_commit(struct wadi_writer **take, uint64_t *ret_version)
{
	struct write_op o = { .ret_version = ret_version };
	int r = (int)writer_run(&o, *take, commit_run);

	wadi_writer_abandon(take);
	return r;
}

void wadi_writer_abandon(struct wadi_writer **take)
{
	struct wadi_writer *wr = *take;

	if (!wr)
		return;
	if (handle_check(wr->w) == 0) {
		upload_drop(wr->w, &wr->upload);
		(void)loop_turn(wr->w->loop, 0); /* sends it */
	}
	for (unsigned i = 0; i < WRITER_PIECES; i++)
		node_free(wr->upload.lanes[i].buf);
	node_free(wr->part_lens);
	*take = node_free(wr);
}

/* reader: holds a version, and fetches ahead of what is read, or copies it from where it is. */

struct wadi_reader {
	struct wadi *w;
	struct get_how how;
	struct got got;
	struct wadi_stat stat;
	struct near_list near;
	uint64_t at, end; /* of the object: the next byte for the caller; where it stops */
	uint8_t *buf;     /* bytes at hand: [buf + from, buf + from + have) */
	uint32_t from, have;
	char path[];
};

struct read_op {
	struct wadi_op op;
	struct wadi_reader *rd;
	uint8_t *buf;
	size_t cap;
};

static int reader_begin(struct wadi_op *op, struct wadi_reader *rd)
{
	int r;

	near_want_index(op->w);
	rd->how.near_from = near_is_possible(op->w) ? NEAR_FROM : 0;
	rd->got.ret_stat = &rd->stat;
	r = get_begin(op, &rd->how, rd->buf, TRANSFER_PIECE, &rd->got);
	if (r < 0)
		return r;
	rd->have = rd->got.len;
	rd->at = rd->how.options.offset;
	rd->end = rd->at + rd->got.want;
	/* All of it is here: nothing needs to be held, and a counted read has been made. */
	return rd->have == rd->got.want ? get_end(op, &rd->got, true) : 0;
}

/* Again if the answer to that was lost, as get_repeatedly() has it. */
static int reader_begin_repeatedly(struct wadi_op *op, struct wadi_reader *rd)
{
	int r = reader_begin(op, rd);

	for (unsigned i = 0; i < GET_TRIES && r == -ESTALE && op->w->loop->now_ns < op->due_ns;
	     i++) {
		get_forget(op->w, &rd->got);
		r = reader_begin(op, rd);
	}
	if (r == -EALREADY && rd->got.version && rd->have == rd->got.want)
		return 0;
	return (int)op_in_time(op, r);
}

static int64_t reader_open_run(struct wadi_op *op)
{
	struct wadi_reader *rd = container_of(op, struct read_op, op)->rd;
	struct get_room room = { .buf = rd->buf, .cap = TRANSFER_PIECE, .ret_stat = &rd->stat };
	int64_t n = resident_get_prepared(op, &rd->how, &room);

	if (n >= 0) {
		rd->have = (uint32_t)n;
		rd->at = rd->how.options.offset;
		rd->end = rd->at + (uint64_t)n;
	}
	return n == -ENOENT ? reader_begin_repeatedly(op, rd) : n < 0 ? n : 0;
}

int wadi_reader_open(struct wadi *w, const char *path, const struct wadi_get_options *options,
		     struct wadi_reader **ret)
{
	struct wadi_reader *rd = path ? node_alloc(sizeof(*rd) + strlen(path) + 1) : NULL;
	const char *why = why_no_room(path);
	struct read_op o = { .rd = rd };
	int r = rd ? get_how_init(w, &rd->how, options) : path ? -ENOMEM : -EINVAL;

	if (r == 0) {
		strcpy(rd->path, path);
		rd->w = w;
		r = path_of(w, rd->path, &rd->how.path, &why);
	}
	if (r == 0 && !(rd->buf = node_alloc(TRANSFER_PIECE)))
		r = -ENOMEM;
	if (r < 0) {
		(void)handle_fail(w, "read", path, r, why);
	} else {
		op_init(&o.op, w, "read", path, rd->how.options.timeout_ms, reader_open_run);
		r = (int)op_run(&o.op);
	}
	if (r < 0)
		wadi_reader_close(&rd);
	*ret = rd;
	return r;
}

void wadi_reader_stat(const struct wadi_reader *rd, struct wadi_stat *ret)
{
	*ret = rd->stat;
}

/* The next `len` bytes. Each run of copying ends with a question: the job may have ended. */
static int read_on(struct wadi_op *op, struct wadi_reader *rd, uint8_t *to, uint64_t len)
{
	int64_t n = near_copy(op, &rd->got, &rd->near, rd->at, to, len);
	int r = n < 0 ? (int)n : 0;

	if (r == 0 && (uint64_t)n < len)
		r = get_range(op, &rd->got, rd->at + (uint64_t)n, to + n, len - (uint64_t)n);
	if (r == 0 && rd->at + len == rd->end)
		return get_end(op, &rd->got, true);
	return r == 0 && n > 0 ? get_check(op, &rd->got) : r;
}

static int64_t read_run(struct wadi_op *op)
{
	struct read_op *o = container_of(op, struct read_op, op);
	struct wadi_reader *rd = o->rd;
	uint64_t left = rd->end - rd->at;
	int r;

	if (o->cap >= TRANSFER_PIECE) {
		/* Straight to the caller. */
		uint64_t n = left < o->cap ? left : o->cap;

		r = read_on(op, rd, o->buf, n);
		if (r < 0)
			return r;
		rd->at += n;
		return (int64_t)n;
	}
	if (left > TRANSFER_PIECE)
		left = TRANSFER_PIECE;
	r = read_on(op, rd, rd->buf, left);
	if (r < 0)
		return r;
	rd->from = 0;
	rd->have = (uint32_t)left;
	return 0;
}

int64_t wadi_reader_read(struct wadi_reader *rd, void *buf, size_t cap)
{
	struct read_op o = { .rd = rd, .buf = buf, .cap = cap };
	size_t n;

	if (rd->have == 0 && rd->at < rd->end && cap > 0) {
		int64_t r;

		op_init(&o.op, rd->w, "read", rd->path, rd->how.options.timeout_ms, read_run);
		r = op_run(&o.op);
		if (r != 0)
			return r;
	}
	n = rd->have < cap ? rd->have : cap;
	memcpy(buf, rd->buf + rd->from, n);
	rd->from += (uint32_t)n;
	rd->have -= (uint32_t)n;
	rd->at += n;
	return (int64_t)n;
}

void wadi_reader_close(struct wadi_reader **take)
{
	struct wadi_reader *rd = *take;

	if (!rd)
		return;
	if (rd->got.hold && handle_check(rd->w) == 0) {
		get_forget(rd->w, &rd->got);
		(void)loop_turn(rd->w->loop, 0); /* sends it */
	}
	node_free(rd->near.bytes);
	node_free(rd->buf);
	*take = node_free(rd);
}
