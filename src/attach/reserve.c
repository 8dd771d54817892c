/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reserve: objects that are written where they are to lie: in segments of the proxy's that only
 * this handle may write, if it may map any; else in a buffer of ours, which is put at the commit.
 *
 * Nobody waits for what we write, so it may be taken away before it is committed: by the end of the
 * job, or of the proxy. Then the commit is STALE, and a put sends its bytes through the socket.
 */
#include <errno.h>
#include <string.h>

#include "attach/handle.h"
#include "base/cleanup.h"
#include "base/container.h"
#include "base/hash.h"
#include "base/node.h"

#define DATA_ALIGN 64
#define COPY_BYTES 4096

/* Where the host's memory is full, a put in place is tried so often: each try leases in vain. */
#define ROOM_AGAIN_MS 1000

/* So many bytes have sums in one message. */
#define BYTES_MAX ((size_t)SUMS_BYTES / 4 * CHECK_PIECE)

bool room_is_possible(const struct wadi *w)
{
	return near_is_possible(w) && w->near.room_refused != w->connection &&
	       w->loop->now_ns >= w->near.room_again_ns;
}

bool reserved_is_possible(const struct wadi *w, size_t len)
{
	return len >= RESERVE_FROM && len <= BYTES_MAX && room_is_possible(w);
}

bool is_for_the_socket(int r)
{
	return r == -EACCES || r == -EOPNOTSUPP || r == -EMSGSIZE || r == -EUSERS || r == -ESTALE ||
	       r == -ECONNRESET;
}

static void leave(struct wadi *w, struct reserved *v)
{
	if (v->mapping)
		mapping_leave(&w->near, TAKE_PTR(v->mapping));
}

/* What was mapped of it stays so until leave(). */
static int mapped(struct wadi_op *op, struct reserved *v, struct mapping *m, uint64_t offset,
		  uint64_t len)
{
	if (!m)
		return -EUSERS;
	if (offset + len > m->memory.size)
		return -EBADMSG;
	v->mapping = m;
	mapping_use(&op->w->near, m);
	v->data = m->memory.ptr + offset;
	return 0;
}

static int map_part(struct wadi_op *op, struct reserved *v, unsigned index)
{
	const struct reserved_part *part = &v->parts[index];
	struct mapping *m;
	int r = mapping_get_to_write(op, v->put, (uint16_t)index, part, &m);

	return r < 0 ? r : mapped(op, v, m, part->offset, part->len);
}

int reserved_map(struct wadi_op *op, struct reserved *v)
{
	struct mapping *m;
	int r;

	if (v->count == 1)
		return map_part(op, v, 0);
	r = mapping_get_reserved(op, v->put, v->parts, v->count, &m);
	return r < 0 ? r : mapped(op, v, m, 0, v->len);
}

static int take_parts(struct reserved *v, unsigned count, struct rcur *list)
{
	size_t len = 0;

	if (count == 0 || count > EXTENTS_MAX)
		return -EBADMSG;
	v->parts = node_alloc(count * sizeof(*v->parts));
	if (!v->parts)
		return -ENOMEM;
	for (; v->count < count; v->count++) {
		reserved_part_get(list, &v->parts[v->count]);
		len += v->parts[v->count].len;
		if (v->count + 1 < count && v->parts[v->count].len % CHECK_PIECE != 0)
			return -EBADMSG;
	}
	return rcur_finish(list) == 0 && len == v->len ? 0 : -EBADMSG;
}

static int ask_for_room(struct wadi_op *op, uint64_t begun_ns, struct reserved *v)
{
	uint64_t now_ns = op->w->loop->now_ns;
	uint8_t room[RESERVED_BYTES];
	struct reserve_rep rep;
	struct question q;
	struct rcur body, parts;
	struct wcur w = question_begin(op, &q, MSG_RESERVE);
	int r;

	reserve_req_put(&w, &(struct reserve_req){ .len = v->len,
						   .age_ms = now_ns > begun_ns
								     ? (now_ns - begun_ns) / 1000000
								     : 0 });
	q.call.room = room;
	q.call.room_cap = sizeof(room);
	r = question_ask(&q, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = reserve_rep_get(&body, &rep);
	if (r == 0) {
		v->put = rep.put;
		v->connection = op->w->connection;
		parts = rcur_make(room, q.call.room_len);
		r = take_parts(v, rep.count, &parts);
	}
	question_end(&q);
	return r;
}

void reserved_end(struct wadi *w, struct reserved *v)
{
	leave(w, v);
	if (v->put && v->connection == w->connection && w->conn)
		put_forget(w, v->put);
	v->put = 0;
	v->parts = node_free(v->parts);
}

int reserved_begin(struct wadi_op *op, size_t len, uint64_t begun_ns, struct reserved *ret)
{
	int r;

	*ret = (struct reserved){ .len = len };
	r = ask_for_room(op, begun_ns, ret);
	if (r == -EACCES || r == -EOPNOTSUPP)
		op->w->near.room_refused = op->w->connection;
	if (r == -EUSERS)
		op->w->near.room_again_ns = op->w->loop->now_ns + ROOM_AGAIN_MS * 1000000ull;
	if (r < 0)
		reserved_end(op->w, ret);
	return r;
}

/*
 * Called, and not made in place as compilers do where they know that it is short: that is as fast,
 * and bench/copies counts the calls.
 */
static void *(*const volatile copy)(void *to, const void *from, size_t len) = memcpy;

uint32_t copy_and_sum(uint8_t *to, const uint8_t *from, size_t len, uint32_t crc)
{
	for (size_t at = 0, n; at < len; at += n) {
		n = len - at < COPY_BYTES ? len - at : COPY_BYTES;
		crc = crc_more(crc, from + at, n);
		(void)copy(to + at, from + at, n);
	}
	return crc;
}

/* With `data`, through a mapping, or with what is at `to` already. */
static int fill_part(struct wadi_op *op, const struct reserved_part *part, struct mapping *m,
		     uint8_t *to, const uint8_t *data, struct wcur *sums)
{
	for (size_t at = 0, n; at < part->len; at += n) {
		size_t left = part->len - at;

		n = left < CHECK_PIECE ? left : CHECK_PIECE;
		if (m && at % LOOP_PIECE == 0)
			mapping_touch(m, to + at, left < LOOP_PIECE ? left : LOOP_PIECE);
		put_u32(sums, data ? copy_and_sum(to + at, data + at, n, crc_begin(part->seed))
				   : crc_more(crc_begin(part->seed), to + at, n));
		if ((at + n) % LOOP_PIECE == 0 && fiber_yield(&op->w->loop->fibers) < 0)
			return -ECANCELED;
	}
	op_progress(op);
	return 0;
}

/* `data` NULL: it is mapped, and written. */
static int fill(struct wadi_op *op, struct reserved *v, const uint8_t *data, struct wcur *sums)
{
	size_t at = 0;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < v->count; at += v->parts[i].len, i++) {
		if (!data) {
			r = fill_part(op, &v->parts[i], NULL, v->data + at, NULL, sums);
			continue;
		}
		r = map_part(op, v, i);
		if (r == 0)
			r = fill_part(op, &v->parts[i], v->mapping, v->data, data + at, sums);
		leave(op->w, v);
	}
	return r;
}

static int say_what_it_is(struct wadi_op *op, struct reserved *v, const struct put_how *how,
			  uint64_t since, const struct payload *sums, uint64_t *ret_version)
{
	struct reserve_put_req req = { .put = v->put };
	struct reserve_put_rep rep;
	struct put_req what;
	struct question q;
	struct rcur body;
	struct wcur w;
	int r;

	w = question_begin(op, &q, MSG_RESERVE_PUT);
	put_req_fill(&what, how, op->w->loop->now_ns);
	req.attempt_hi = what.attempt_hi;
	req.attempt_lo = what.attempt_lo;
	req.since = since;
	req.if_version = what.if_version;
	req.ttl_ms = what.ttl_ms;
	req.reads = what.reads;
	req.flags = what.flags;
	req.tier = what.tier;
	req.copies = what.copies;
	req.path = what.path;
	req.attributes = what.attributes;
	reserve_put_req_put(&w, &req);
	r = question_ask_there(&q, v->connection, &w, sums);
	body = call_reply(&q.call);
	if (r == 0)
		r = reserve_put_rep_get(&body, &rep);
	if (r == 0)
		handle_heard(op->w, rep.changes);
	if (r == 0 && ret_version)
		*ret_version = rep.version;
	question_end(&q);
	if (r == 0)
		v->put = 0; /* else it is still to be dropped, if it is there at all */
	return r;
}

int reserved_put(struct wadi_op *op, struct reserved *v, const struct put_how *how,
		 const void *data, uint64_t since, uint64_t *ret_version)
{
	size_t len = (v->len + CHECK_PIECE - 1) / CHECK_PIECE * 4;
	struct payload sums = { .len = len };
	uint8_t *buf = node_alloc(len);
	struct wcur w;
	int r;

	if (!buf)
		return op_no_memory(op);
	w = wcur_make(buf, len);
	r = fill(op, v, data, &w);
	sums.ptr = buf;
	if (r == 0)
		r = say_what_it_is(op, v, how, since, &sums, ret_version);
	node_free(buf);
	return r;
}

int put_in_place(struct wadi_op *op, const struct put_how *how, const void *data, size_t len,
		 uint64_t *ret_version)
{
	uint64_t since = op_since(op);
	struct reserved v;
	int r = reserved_begin(op, len, how->begun_ns, &v);

	if (r == 0)
		r = reserved_put(op, &v, how, data, since, ret_version);
	reserved_end(op->w, &v);
	return r;
}

struct wadi_reservation {
	struct wadi *w;
	struct wadi_put_options options;
	struct put_how how; /* of an op that runs */
	char *path;
	uint8_t attributes[ATTRIBUTES_BYTES_MAX];
	struct reserved room;
	uint8_t *buffer; /* where there is no room; our own */
};

/* Both calls. */
struct reserve_op {
	struct wadi_op op;
	struct wadi_reservation *r;
	uint64_t *ret_version;
};

static int64_t reserve_run(struct wadi_op *op)
{
	struct wadi_reservation *r = container_of(op, struct reserve_op, op)->r;
	int x = reserved_begin(op, r->room.len, r->how.begun_ns, &r->room);

	if (x == 0)
		x = reserved_map(op, &r->room);
	if (x < 0)
		reserved_end(op->w, &r->room);
	return x;
}

static int64_t commit_run(struct wadi_op *op)
{
	struct reserve_op *o = container_of(op, struct reserve_op, op);
	struct wadi_reservation *r = o->r;
	int x = -ESTALE;

	if (op->w->connection == r->room.connection)
		x = reserved_put(op, &r->room, &r->how, NULL, op_since_lately(op), o->ret_version);
	op->is_lost = false; /* the bytes are, whatever they went with */
	return x;
}

static int keep_what_was_given(struct wadi_reservation *r, const char *path)
{
	r->path = node_alloc(strlen(path) + 1);
	if (!r->path)
		return -ENOMEM;
	strcpy(r->path, path);
	r->options = r->how.options;
	if (r->options.attributes_len)
		memcpy(r->attributes, r->options.attributes, r->options.attributes_len);
	r->options.attributes = r->attributes;
	return 0;
}

/* On a cache line, as in a segment. */
static int take_buffer(struct wadi_reservation *r)
{
	size_t len = r->room.len;

	r->buffer = len <= SIZE_MAX - DATA_ALIGN ? node_alloc(len + DATA_ALIGN) : NULL;
	if (!r->buffer)
		return -ENOMEM;
	r->room.data =
		(uint8_t *)(((uintptr_t)r->buffer + DATA_ALIGN - 1) & ~(uintptr_t)(DATA_ALIGN - 1));
	return 0;
}

/* In the proxy's memory, or else in ours; *ret_is_said: what went wrong, the handle has words for.
 */
static int take_room(struct wadi_reservation *r, bool *ret_is_said)
{
	struct reserve_op o = { .r = r };
	int x = -EOPNOTSUPP;

	if (reserved_is_possible(r->w, r->room.len)) {
		op_init(&o.op, r->w, "reserve", r->path, r->options.timeout_ms, reserve_run);
		x = (int)op_run(&o.op);
		*ret_is_said = x < 0 && !is_for_the_socket(x);
	}
	return is_for_the_socket(x) ? take_buffer(r) : x;
}

int wadi_reserve(struct wadi *w, const char *path, size_t len,
		 const struct wadi_put_options *options, struct wadi_reservation **ret)
{
	struct wadi_reservation *r = node_alloc(sizeof(*r));
	const char *why = "attributes have at most 512 bytes";
	bool is_said = false;
	int x = r ? put_how_init(w, &r->how, options) : -ENOMEM;

	if (x == 0)
		x = path_of(w, path, &r->how.path, &why);
	if (x == 0)
		x = keep_what_was_given(r, path);
	if (x == 0) {
		r->w = w;
		r->room.len = len;
		x = take_room(r, &is_said);
	}
	if (x == 0) {
		*ret = r;
		return 0;
	}
	wadi_abandon(&r);
	if (is_said)
		return x;
	return (int)handle_fail(w, "reserve", path, x, x == -ENOMEM ? "in this process" : why);
}

void *wadi_reservation_data(struct wadi_reservation *r)
{
	return r->room.data;
}

static int commit_in_place(struct wadi_reservation *r, uint64_t *ret_version)
{
	struct reserve_op o = { .r = r, .ret_version = ret_version };
	const char *why = "";
	int x = put_how_init(r->w, &r->how, &r->options);

	if (x == 0)
		x = path_of(r->w, r->path, &r->how.path, &why);
	if (x < 0)
		return (int)handle_fail(r->w, "commit", r->path, x, why);
	op_init(&o.op, r->w, "commit", r->path, r->options.timeout_ms, commit_run);
	return (int)op_run(&o.op);
}

int wadi_commit(struct wadi_reservation **take, uint64_t *ret_version)
{
	struct wadi_reservation *r = *take;
	int x = r->buffer ? wadi_put(r->w, r->path, r->room.data, r->room.len, &r->options,
				     ret_version)
			  : commit_in_place(r, ret_version);

	wadi_abandon(take);
	return x;
}

void wadi_abandon(struct wadi_reservation **take)
{
	struct wadi_reservation *r = *take;

	*take = NULL;
	if (!r)
		return;
	if (r->w && handle_check(r->w) == 0)
		reserved_end(r->w, &r->room);
	node_free(r->path);
	node_free(r->buffer);
	node_free(r);
}
