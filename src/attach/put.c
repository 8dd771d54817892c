/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "attach/handle.h"
#include "base/cleanup.h"
#include "base/container.h"
#include "base/node.h"

int put_how_init(struct wadi *w, struct put_how *how, const struct wadi_put_options *options)
{
	struct wadi_put_options *o = &how->options;

	*how = (struct put_how){ .options = WADI_PUT_OPTIONS };
	if (options)
		memcpy(o, options, options->size < sizeof(*o) ? options->size : sizeof(*o));
	how->is_callers = o->attempt.hi || o->attempt.lo;
	if (!how->is_callers)
		o->attempt = attempt_next(w);
	how->begun_ns = w->loop ? node_now_ns() : 0;
	if (o->attributes_len > ATTRIBUTES_BYTES_MAX)
		return -EMSGSIZE;
	return 0;
}

void put_req_fill(struct put_req *req, const struct put_how *how, uint64_t now_ns)
{
	const struct wadi_put_options *o = &how->options;

	*req = (struct put_req){
		.attempt_hi = o->attempt.hi,
		.attempt_lo = o->attempt.lo,
		.age_ms = now_ns > how->begun_ns ? (now_ns - how->begun_ns) / 1000000 : 0,
		.if_version = o->if_version,
		.ttl_ms = o->ttl_ms,
		.reads = o->reads,
		.flags = (uint16_t)o->flags,
		.tier = (uint16_t)o->tier,
		.copies = (uint16_t)o->copies,
		.path = how->path,
		.attributes = { o->attributes, o->attributes_len },
	};
}

/* All in one frame. */
static int put_at_once(struct wadi_op *op, const struct put_how *how, const void *data, size_t len,
		       uint64_t *ret_version)
{
	struct payload payload = { .ptr = data, .len = len };
	struct put_req req;
	struct put_rep rep;
	struct question q;
	struct rcur body;
	struct wcur w = question_begin(op, &q, MSG_PUT);
	int r;

	put_req_fill(&req, how, op->w->loop->now_ns);
	req.since = op_since(op);
	put_req_put(&w, &req);
	r = question_ask(&q, &w, len ? &payload : NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = put_rep_get(&body, &rep);
	if (r == 0)
		handle_heard(op->w, rep.changes);
	if (r == 0 && ret_version)
		*ret_version = rep.version;
	question_end(&q);
	return r;
}

int upload_open(struct wadi_op *op, struct upload *u, const struct put_how *how, uint64_t len_hint)
{
	struct put_open_req req = { .len_hint = len_hint };
	struct put_open_rep rep;
	struct put_req what;
	struct question q;
	struct rcur body;
	struct wcur w = question_begin(op, &q, MSG_PUT_OPEN);
	int r;

	put_req_fill(&what, how, op->w->loop->now_ns);
	/* PUT_OPEN is a length, what a PUT is, and a flag. */
	put_u64(&w, req.len_hint);
	put_req_put(&w, &what);
	put_u16(&w, room_is_possible(op->w));
	r = question_ask(&q, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = put_open_rep_get(&body, &rep);
	if (r == 0) {
		u->put = rep.put;
		u->allowed = rep.room;
		u->is_in_place = rep.is_in_place;
		u->connection = op->w->connection;
		op_progress(op);
	}
	question_end(&q);
	return r;
}

static void lane_end(struct wadi_op *op, struct upload *u, struct lane *lane)
{
	struct rcur body = call_reply(&lane->call);
	struct put_data_rep rep;
	int r = lane->call.result;

	if (r == 0)
		r = put_data_rep_get(&body, &rep);
	if (r == 0 && rep.room > u->allowed)
		u->allowed = rep.room;
	if (r < 0 && u->result == 0) {
		u->result = op_gone(op, r);
		call_detail(&lane->call, op->why, sizeof(op->why));
		if (r == -ECONNRESET)
			snprintf(op->why, sizeof(op->why), "the connection was lost in the middle");
	}
	call_end(&lane->call);
	lane->is_busy = false;
}

/* A piece has arrived: those behind it have their whole deadline from here on. */
static void upload_progress(struct wadi_op *op, struct upload *u)
{
	op_progress(op);
	for (unsigned i = 0; i < LANES; i++)
		if (u->lanes[i].is_busy)
			call_extend(&u->lanes[i].call, op->due_ns);
}

int upload_wait(struct wadi_op *op, struct upload *u)
{
	struct lane *oldest = NULL;
	int r;

	for (unsigned i = 0; i < LANES; i++) {
		struct lane *l = &u->lanes[i];

		if (l->is_busy && !l->call.is_pending) {
			lane_end(op, u, l);
			upload_progress(op, u);
			return u->result;
		}
		if (l->is_busy && (!oldest || l->began < oldest->began))
			oldest = l;
	}
	if (!oldest)
		return -EAGAIN;
	r = call_wait(&oldest->call);
	if (r == -ECANCELED)
		u->result = r;
	lane_end(op, u, oldest);
	upload_progress(op, u);
	return u->result;
}

struct lane *upload_lane(struct wadi_op *op, struct upload *u)
{
	while (u->result == 0) {
		for (unsigned i = 0; i < LANES; i++)
			if (!u->lanes[i].is_busy)
				return &u->lanes[i];
		(void)upload_wait(op, u);
	}
	return NULL;
}

/* need: for so much, if these are no bytes. */
static void send_data(struct wadi_op *op, struct upload *u, struct lane *lane, uint32_t part,
		      uint64_t offset, const void *data, uint32_t len, uint32_t need)
{
	struct wadi *w = op->w;
	struct wcur body;

	lane->call = (struct call){ 0 };
	lane->payload = (struct payload){ .ptr = data, .len = len };
	body = call_body(w->net, &lane->call);
	put_data_req_put(&body,
			 &(struct put_data_req){
				 .put = u->put, .part = part, .offset = offset, .need = need });
	lane->is_busy = true;
	lane->began = u->sent;
	u->sent += len;
	call_send(w->connection == u->connection ? w->conn : NULL, &lane->call, MSG_PUT_DATA,
		  slot_of_id(w->job), &body, len ? &lane->payload : NULL, op->due_ns);
}

int upload_send(struct wadi_op *op, struct upload *u, struct lane *lane, uint32_t part,
		uint64_t offset, const void *data, uint32_t len)
{
	while (u->result == 0 && u->sent + len > u->allowed) {
		int r = upload_wait(op, u);

		if (r == -EAGAIN) {
			/* Nothing is on its way whose answer could bring room: ask for it. */
			send_data(op, u, lane, part, offset, NULL, 0, len);
			r = upload_wait(op, u);
		}
		if (r < 0)
			return r;
	}
	if (u->result < 0)
		return u->result;
	send_data(op, u, lane, part, offset, data, len, 0);
	return 0;
}

int upload_settle(struct wadi_op *op, struct upload *u)
{
	int r;

	do
		r = upload_wait(op, u);
	while (r == 0);
	return r == -EAGAIN ? u->result : r;
}

int upload_commit(struct wadi_op *op, struct upload *u, uint64_t *ret_version)
{
	struct put_commit_rep rep;
	uint64_t since;
	struct question q;
	struct rcur body;
	struct wcur w;
	int r = upload_settle(op, u);

	if (r == 0)
		r = room_end(op, u);
	if (r < 0)
		return r;
	since = op_since_lately(op);
	op_progress(op);
	w = question_begin(op, &q, MSG_PUT_COMMIT);
	put_commit_req_put(&w, &(struct put_commit_req){ .put = u->put, .since = since });
	r = question_ask_there(&q, u->connection, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = put_commit_rep_get(&body, &rep);
	if (r == 0)
		handle_heard(op->w, rep.changes);
	if (r == 0 && ret_version)
		*ret_version = rep.version;
	question_end(&q);
	if (r == 0)
		u->put = 0; /* else it is still to be dropped, if it is there at all */
	return r;
}

/* A call that nobody waits for. */
struct note {
	struct call call;
};

static void note_done(struct call *call)
{
	call_end(call);
	node_free(container_of(call, struct note, call));
}

/* Where there is no memory to say it, the connection goes, and with it all that it had open. */
static struct note *note_new(struct wadi *w)
{
	struct note *n = node_alloc(sizeof(*n));

	if (!n)
		conn_close(w->conn);
	return n;
}

static void note_send(struct wadi *w, uint16_t msg, struct note *n, const struct wcur *body)
{
	n->call.done = note_done;
	call_send(w->conn, &n->call, msg, slot_of_id(w->job), body, NULL,
		  w->loop->now_ns + w->timeout_ms * 1000000ull);
	/* To end it before it was sent would take it back, and a stopped proxy reads long after. */
	call_extend(&n->call, UINT64_MAX);
}

void put_forget(struct wadi *w, uint64_t put)
{
	struct note *n = note_new(w);
	struct wcur body;

	if (!n)
		return;
	body = call_body(w->net, &n->call);
	put_drop_req_put(&body, &(struct put_drop_req){ .put = put });
	note_send(w, MSG_PUT_DROP, n, &body);
}

static void hold_forget(struct wadi *w, uint64_t hold)
{
	struct note *n = note_new(w);
	struct wcur body;

	if (!n)
		return;
	body = call_body(w->net, &n->call);
	get_end_req_put(&body, &(struct get_end_req){ .hold = hold });
	note_send(w, MSG_GET_END, n, &body);
}

void upload_drop(struct wadi *w, struct upload *u)
{
	for (unsigned i = 0; i < LANES; i++) {
		struct lane *l = &u->lanes[i];

		if (!l->is_busy)
			continue;
		call_cancel(&l->call);
		call_end(&l->call);
		l->is_busy = false;
	}
	room_leave(w, &u->room);
	if (u->put && w->connection == u->connection && w->conn)
		put_forget(w, u->put);
	u->put = 0;
}

void get_forget(struct wadi *w, struct got *g)
{
	if (g->hold && w->connection == g->connection && w->conn)
		hold_forget(w, g->hold);
	g->hold = 0;
}

void reply_late(struct conn *c, const struct frame *f, struct rcur *body)
{
	struct wadi *w = c->owner;
	struct reserve_rep reserve;
	struct put_open_rep put;
	struct get_rep get;

	if (w->conn != c)
		return;
	if (f->msg == MSG_PUT_OPEN && put_open_rep_get(body, &put) == 0)
		put_forget(w, put.put);
	if (f->msg == MSG_RESERVE && reserve_rep_get(body, &reserve) == 0)
		put_forget(w, reserve.put);
	if (f->msg == MSG_GET && get_rep_get(body, &get) == 0 && get.hold)
		hold_forget(w, get.hold);
}

static int put_in_pieces(struct wadi_op *op, const struct put_how *how, const uint8_t *data,
			 size_t len, uint64_t *ret_version)
{
	struct upload *u = node_alloc(sizeof(*u));
	int r = u ? upload_open(op, u, how, len) : op_no_memory(op);
	int64_t written = r == 0 ? room_write(op, u, 0, 0, data, len) : 0;

	if (written < 0)
		r = (int)written;
	for (size_t at = (size_t)written, n; r == 0 && at < len; at += n) {
		struct lane *lane = upload_lane(op, u);

		n = len - at < TRANSFER_PIECE ? len - at : TRANSFER_PIECE;
		r = lane ? upload_send(op, u, lane, 0, at, data + at, (uint32_t)n) : u->result;
	}
	if (r == 0)
		r = upload_commit(op, u, ret_version);
	if (u)
		upload_drop(op->w, u);
	node_free(u);
	return r;
}

int64_t put_object(struct wadi_op *op, const struct put_how *how, const void *data, size_t len,
		   uint64_t *ret_version)
{
	unsigned tries = 0;
	int r = -EAGAIN;

	op->is_unsure |= how->is_callers;
	if (reserved_is_possible(op->w, len)) {
		r = put_in_place(op, how, data, len, ret_version);
		if (!is_for_the_socket(r))
			return r;
	}
	r = -EAGAIN;
	if (len <= FRAME_PAYLOAD_MAX)
		do
			r = put_at_once(op, how, data, len, ret_version);
		while (op_renew(op, r));
	/* A value was sent whole, and its attempt alone is what is not known any more. */
	if (r != -EAGAIN && (r != -ESTALE || len <= INLINE_BYTES_MAX))
		return r;
	/* The caller's bytes are still here, so what was lost on the way is sent again. */
	do {
		op->is_lost = false;
		r = put_in_pieces(op, how, data, len, ret_version);
		(void)op_renew(op, r);
	} while (r == -ESTALE && ++tries < 3 && op->w->loop->now_ns < op->due_ns);
	if (r != -ESTALE || !op->is_lost)
		return (int)op_in_time(op, r);
	/* And they could be once more, with the same attempt, if there were time. */
	r = (int)handle_lost(op);
	return r == -ESTALE ? -EHOSTUNREACH : r;
}

struct put_op {
	struct wadi_op op;
	struct put_how how;
	const void *data;
	size_t len;
	uint64_t *ret_version;
};

static int64_t put_run(struct wadi_op *op)
{
	struct put_op *p = container_of(op, struct put_op, op);

	return put_object(op, &p->how, p->data, p->len, p->ret_version);
}

int wadi_put(struct wadi *w, const char *path, const void *data, size_t len,
	     const struct wadi_put_options *options, uint64_t *ret_version)
{
	struct put_op p = { .data = data, .len = len, .ret_version = ret_version };
	const char *why = "attributes have at most 512 bytes";
	int r = put_how_init(w, &p.how, options);

	if (r == 0)
		r = path_of(w, path, &p.how.path, &why);
	if (r < 0)
		return (int)handle_fail(w, "put", path, r, why);
	op_init(&p.op, w, "put", path, p.how.options.timeout_ms, put_run);
	return (int)op_run(&p.op);
}

/* In flight. */

struct started_put {
	struct put_op put;
	uint8_t attributes[ATTRIBUTES_BYTES_MAX];
	char path[];
};

static void started_free(struct wadi_op *op)
{
	struct started_put *s = container_of(op, struct started_put, put.op);

	op_give(op->w, s, sizeof(*s), s->path);
}

int wadi_start_put(struct wadi *w, const char *path, const void *data, size_t len,
		   const struct wadi_put_options *options, uint64_t *ret_version,
		   struct wadi_op **ret)
{
	struct started_put *s = op_alloc(w, sizeof(*s), path);
	const char *why = path ? "in this process" : "no path was given";
	int r = s ? put_how_init(w, &s->put.how, options) : path ? -ENOMEM : -EINVAL;

	if (r == 0) {
		strcpy(s->path, path);
		r = path_of(w, s->path, &s->put.how.path, &why);
	}
	if (r == 0)
		r = handle_check(w);
	if (r == 0) {
		if (s->put.how.options.attributes_len)
			memcpy(s->attributes, s->put.how.options.attributes,
			       s->put.how.options.attributes_len);
		s->put.how.options.attributes = s->attributes;
		s->put.data = data;
		s->put.len = len;
		s->put.ret_version = ret_version;
		op_init(&s->put.op, w, "put", s->path, s->put.how.options.timeout_ms, put_run);
		s->put.op.free = started_free;
		r = op_start(&s->put.op);
		why = s->put.op.why;
	}
	if (r < 0) {
		r = (int)handle_fail(w, "put", path, r, why);
		op_give(w, s, sizeof(*s), path);
		return r;
	}
	*ret = &s->put.op;
	return 0;
}
