/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "attach/handle.h"
#include "base/cleanup.h"
#include "base/container.h"
#include "base/node.h"

/* What the first answer brings of an object whose length is not known yet. */
#define FIRST_BYTES (64u << 10)

int get_how_init(struct wadi *w, struct get_how *how, const struct wadi_get_options *options)
{
	struct wadi_get_options *o = &how->options;

	*how = (struct get_how){ .options = WADI_GET_OPTIONS };
	if (options)
		memcpy(o, options, options->size < sizeof(*o) ? options->size : sizeof(*o));
	if (!o->read_id.hi && !o->read_id.lo)
		o->read_id = attempt_next(w);
	return 0;
}

void stat_from(struct wadi_stat *ret, const struct stat_rep *rep)
{
	size_t n = rep->attributes.len < WADI_ATTRIBUTES_MAX ? rep->attributes.len
							     : WADI_ATTRIBUTES_MAX;

	*ret = (struct wadi_stat){
		.object = rep->object,
		.version = rep->version,
		.len = rep->len,
		.age_ms = rep->age_ms,
		.ttl_left_ms = rep->ttl_left_ms,
		.reads_left = rep->reads_left,
		.extent_count = rep->extent_count,
		.tier = (enum wadi_tier)rep->tier,
		.is_directory = rep->is_directory,
		.attributes_len = (uint16_t)n,
	};
	if (n > 0)
		memcpy(ret->attributes, rep->attributes.ptr, n);
}

static void stat_got(struct wadi_stat *ret, const struct get_rep *rep)
{
	stat_from(ret, &(struct stat_rep){
			       .object = rep->object,
			       .version = rep->version,
			       .len = rep->len,
			       .age_ms = rep->age_ms,
			       .ttl_left_ms = rep->ttl_left_ms,
			       .reads_left = rep->reads_left,
			       .extent_count = rep->extent_count,
			       .tier = rep->tier,
			       .attributes = rep->attributes,
		       });
}

static void got_from(struct got *g, const struct get_rep *rep, const struct get_how *how)
{
	const struct wadi_get_options *o = &how->options;
	uint64_t left = o->offset < rep->len ? rep->len - o->offset : 0;

	if (g->ret_stat)
		stat_got(g->ret_stat, rep);
	g->version = rep->version;
	g->hold = rep->hold;
	g->is_in_index = how->is_view && rep->is_in_index;
	g->want = o->len && o->len < left ? o->len : left;
	g->is_counted = rep->reads_left != NONE_32;
}

static int get_once(struct wadi_op *op, const struct get_how *how, uint64_t wait_ns, void *buf,
		    uint32_t cap, struct got *ret)
{
	const struct wadi_get_options *o = &how->options;
	struct get_rep rep;
	struct question q;
	struct rcur body;
	struct wcur w;
	int r;

	/* Beyond the time that is waited for the object, the answer has the usual time. */
	op->due_ns = op->w->loop->now_ns + (uint64_t)op->timeout_ms * 1000000 + wait_ns;
	w = question_begin(op, &q, MSG_GET);
	get_req_put(&w, &(struct get_req){ .offset = o->offset,
					   .len = o->len,
					   .take = cap,
					   .near_from = how->near_from,
					   .wait_ms = (uint32_t)(wait_ns / 1000000),
					   .read_hi = o->read_id.hi,
					   .read_lo = o->read_id.lo,
					   .is_view = how->is_view,
					   .path = how->path });
	q.call.room = buf;
	q.call.room_cap = cap;
	r = question_ask(&q, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = get_rep_get(&body, &rep);
	if (r == 0) {
		got_from(ret, &rep, how);
		ret->len = (uint32_t)q.call.room_len;
		ret->connection = op->w->connection;
		if (ret->len > ret->want)
			r = -EBADMSG;
		op_progress(op);
	}
	question_end(&q);
	return r;
}

/*
 * Where too many gets wait for their object already, it is waited for as wadi_wait() does, which
 * costs the proxy less, and got then. All who have waited so come at once, so there may be no room
 * for a moment.
 */
int get_begin(struct wadi_op *op, const struct get_how *how, void *buf, uint32_t cap,
	      struct got *ret)
{
	const struct loop *l = op->w->loop;
	uint64_t until_ns = l->now_ns + how->options.wait_ms * 1000000ull;
	uint64_t pause_ns = PAUSE_NS_MIN;

	for (;;) {
		uint64_t left_ns = l->now_ns < until_ns ? until_ns - l->now_ns : 0;
		int r = get_once(op, how, left_ns, buf, cap, ret);

		if (r != -EUSERS || l->now_ns + pause_ns >= until_ns)
			return r;
		r = wait_once(op, how->path, until_ns, NULL);
		if (r == 0)
			r = op_pause(op, &pause_ns, PAUSE_NS_MAX);
		if (r < 0 && r != -ETIMEDOUT)
			return r;
		op->why[0] = '\0';
	}
}

/* A piece of a range that is on its way. */
struct part {
	struct call call;
	uint64_t at, end; /* of the object; what came is taken off at its beginning */
	uint8_t *to;
	bool is_busy;
};

static void part_ask(struct wadi_op *op, struct got *g, struct part *p)
{
	struct wadi *w = op->w;
	struct wcur body;

	p->call = (struct call){ .room = p->to, .room_cap = p->end - p->at };
	body = call_body(w->net, &p->call);
	get_on_req_put(&body, &(struct get_on_req){ .hold = g->hold,
						    .offset = p->at,
						    .take = (uint32_t)(p->end - p->at) });
	p->is_busy = true;
	call_send(w->connection == g->connection ? w->conn : NULL, &p->call, MSG_GET_ON,
		  slot_of_id(w->job), &body, NULL, op->due_ns);
}

/* A piece has come: the others, which come behind it, have their whole deadline from here on. */
static void parts_progress(struct wadi_op *op, struct part *parts)
{
	op_progress(op);
	for (unsigned i = 0; i < LANES; i++)
		if (parts[i].is_busy)
			call_extend(&parts[i].call, op->due_ns);
}

/* One answer; the rest of the piece is asked for if it was short. */
static int part_wait(struct wadi_op *op, struct got *g, struct part *parts, struct part *p)
{
	int r = call_wait(&p->call);
	size_t n = p->call.room_len;

	if (r < 0 && r != -ECANCELED)
		call_detail(&p->call, op->why, sizeof(op->why));
	call_end(&p->call);
	p->is_busy = false;
	if (r == 0 && n == 0)
		r = -EBADMSG;
	if (r < 0)
		return op_gone(op, r);
	parts_progress(op, parts);
	p->at += n;
	p->to += n;
	if (p->at < p->end)
		part_ask(op, g, p);
	return 0;
}

static void part_next(struct wadi_op *op, struct got *g, struct part *p, uint64_t *at, uint64_t end,
		      uint8_t **to)
{
	uint64_t n = end - *at < TRANSFER_PIECE ? end - *at : TRANSFER_PIECE;

	if (n == 0)
		return;
	p->at = *at;
	p->end = *at + n;
	p->to = *to;
	*at += n;
	*to += n;
	part_ask(op, g, p);
}

int get_range(struct wadi_op *op, struct got *g, uint64_t at, void *buf, uint64_t len)
{
	struct part *parts = node_alloc(LANES * sizeof(*parts));
	uint64_t end = at + len;
	uint8_t *to = buf;
	unsigned turn = 0;
	int r = parts ? 0 : op_no_memory(op);

	for (unsigned i = 0; r == 0 && i < LANES; i++)
		part_next(op, g, &parts[i], &at, end, &to);
	/* In the order of their beginning, so a slow one is waited for while others fill their
	 * place. */
	while (r == 0 && parts[turn].is_busy) {
		struct part *p = &parts[turn];

		r = part_wait(op, g, parts, p);
		if (r < 0 || p->is_busy)
			continue;
		part_next(op, g, p, &at, end, &to);
		turn = (turn + 1) % LANES;
	}
	for (unsigned i = 0; parts && i < LANES; i++) {
		if (!parts[i].is_busy)
			continue;
		call_cancel(&parts[i].call);
		call_end(&parts[i].call);
	}
	node_free(parts);
	return r;
}

static int ask_of_hold(const struct got *g, struct question *q, const struct wcur *body)
{
	int r = question_ask_there(q, g->connection, body, NULL);

	question_end(q);
	return r;
}

int get_check(struct wadi_op *op, const struct got *g)
{
	struct question q;
	struct wcur w = question_begin(op, &q, MSG_GET_ON);

	get_on_req_put(&w, &(struct get_on_req){ .hold = g->hold });
	return ask_of_hold(g, &q, &w);
}

int get_end(struct wadi_op *op, struct got *g, bool is_whole)
{
	struct question q;
	struct wcur w;
	int r;

	if (!g->hold)
		return 0;
	if ((!g->is_counted && !g->is_near) || !is_whole) {
		get_forget(op->w, g);
		return 0;
	}
	if (op->w->connection != g->connection)
		return -ESTALE;
	w = question_begin(op, &q, MSG_GET_END);
	get_end_req_put(&w,
			&(struct get_end_req){ .hold = g->hold, .is_confirmed = g->is_counted });
	/* The bytes are whole; whether the read was counted is between the proxy and the catalog.
	 */
	r = ask_of_hold(g, &q, &w);
	if (r == 0)
		g->hold = 0; /* else it may not have come to that: it is held still */
	return r;
}

struct get_op {
	struct wadi_op op;
	struct get_how how;
	struct get_room room;
	bool is_in_index; /* and so it is not here */
	bool is_to_look;  /* perhaps it is resident */
	/* Of a try that had all bytes, and was to be counted: of this version. */
	bool is_whole;
	uint64_t whole_version, whole_len;
};

/* What did not come with the first answer: from where it is, as far as that goes. */
static int get_rest(struct wadi_op *op, struct got *g, uint64_t from, uint8_t *buf)
{
	struct near_list list = { 0 };
	uint64_t have = g->len;
	int64_t n = near_copy(op, g, &list, from + have, buf + have, g->want - have);

	node_free(list.bytes);
	if (n < 0)
		return (int)n;
	have += (uint64_t)n;
	return have < g->want ? get_range(op, g, from + have, buf + have, g->want - have) : 0;
}

/* Into the caller's buffer, or a new one. */
static int64_t get_whole(struct wadi_op *op, struct get_op *g)
{
	uint32_t most = g->room.is_ours ? FIRST_BYTES : TRANSFER_PIECE;
	uint32_t cap = !g->room.is_ours && g->room.cap < most ? (uint32_t)g->room.cap : most;
	struct got got = { .ret_stat = g->room.ret_stat };
	void *grown;
	int r;

	if (g->room.is_ours && g->room.cap < FIRST_BYTES) {
		/* Without zeros: most need little of it. An earlier try has cut it to what it
		 * found. */
		grown = node_resize(g->room.buf, FIRST_BYTES);
		if (!grown)
			return op_no_memory(op);
		g->room.buf = grown;
		g->room.cap = FIRST_BYTES;
	}
	g->how.near_from = near_is_possible(op->w) ? NEAR_FROM : 0;
	near_want_index(op->w);
	r = get_begin(op, &g->how, g->room.buf, cap, &got);
	if (r < 0)
		return r;
	g->is_whole = g->is_whole && got.version == g->whole_version;
	g->is_in_index = got.is_in_index;
	if (g->is_in_index)
		return 0;
	if (g->room.is_ours) {
		grown = node_resize(g->room.buf, got.want ? got.want : 1);
		r = grown ? 0 : op_no_memory(op);
		g->room.buf = grown ? grown : g->room.buf;
		g->room.cap = grown ? got.want : g->room.cap;
	} else if (got.want > g->room.cap) {
		snprintf(op->why, sizeof(op->why), "it has %llu bytes, and there is room for %zu",
			 (unsigned long long)got.want, g->room.cap);
		r = -EMSGSIZE;
	}
	if (r == 0 && got.len < got.want)
		r = get_rest(op, &got, g->how.options.offset, g->room.buf);
	if (r == 0) {
		g->is_whole = true;
		g->whole_version = got.version;
		g->whole_len = got.want;
		r = get_end(op, &got, true);
	}
	if (r < 0)
		get_forget(op->w, &got);
	return r < 0 ? r : (int64_t)got.want;
}

static int64_t get_repeatedly(struct wadi_op *op, struct get_op *g)
{
	int64_t r;

	for (unsigned i = 0;; i++) {
		r = get_whole(op, g);
		if (r != -ESTALE || i == GET_TRIES || op->w->loop->now_ns >= op->due_ns)
			break;
	}
	/* The answer to the try that was counted was lost, and its bytes are here. */
	return r == -EALREADY && g->is_whole ? (int64_t)g->whole_len : op_in_time(op, r);
}

static int64_t get_run(struct wadi_op *op)
{
	struct get_op *g = container_of(op, struct get_op, op);
	int64_t r = g->is_to_look ? resident_get_prepared(op, &g->how, &g->room) : -ENOENT;

	return r == -ENOENT ? get_repeatedly(op, g) : r;
}

int64_t get_object(struct wadi_op *op, const struct get_how *how, void *buf, size_t cap,
		   struct wadi_stat *ret_stat)
{
	struct get_op g = { .how = *how, .room = { .buf = buf, .cap = cap, .ret_stat = ret_stat } };

	return get_repeatedly(op, &g);
}

int64_t get_object_new(struct wadi_op *op, const struct get_how *how, void **ret_data,
		       struct wadi_stat *ret_stat, bool *ret_is_in_index)
{
	struct get_op g = { .how = *how, .room = { .is_ours = true, .ret_stat = ret_stat } };
	int64_t r = get_repeatedly(op, &g);

	*ret_is_in_index = r >= 0 && g.is_in_index;
	if (r < 0 || g.is_in_index)
		node_free(g.room.buf);
	else
		*ret_data = g.room.buf;
	return r;
}

static int get_how_for(struct wadi *w, const char *path, const struct wadi_get_options *options,
		       struct get_how *how)
{
	const char *why = "";
	int r = handle_check(w);

	if (r < 0)
		return r;
	r = get_how_init(w, how, options);
	if (r == 0)
		r = path_of(w, path, &how->path, &why);
	return r < 0 ? (int)handle_fail(w, "get", path, r, why) : 0;
}

static int64_t get_on_fiber(struct wadi *w, const char *path, const struct get_how *how,
			    struct get_room *room, bool is_to_look)
{
	struct get_op g = { .how = *how, .room = *room, .is_to_look = is_to_look };
	int64_t r;

	op_init(&g.op, w, "get", path, how->options.timeout_ms, get_run);
	r = op_run(&g.op);
	*room = g.room;
	return r;
}

/* Without a fiber, if all is at hand and no other operation waits for its turn. */
static int64_t get(struct wadi *w, const char *path, const struct wadi_get_options *options,
		   struct get_room *room)
{
	struct get_how how;
	struct view view;
	int64_t r = get_how_for(w, path, options, &how);

	if (r < 0)
		return r;
	r = w->op_count == 0 ? resident_get(w, &how, room, &view) : -EAGAIN;
	return r >= 0 ? r : get_on_fiber(w, path, &how, room, r != -ENOENT);
}

int64_t wadi_get(struct wadi *w, const char *path, void *buf, size_t cap,
		 const struct wadi_get_options *options, struct wadi_stat *ret_stat)
{
	struct get_room room = { .buf = buf, .cap = cap, .ret_stat = ret_stat };

	return get(w, path, options, &room);
}

int64_t wadi_get_alloc(struct wadi *w, const char *path, const struct wadi_get_options *options,
		       void **ret_data, struct wadi_stat *ret_stat)
{
	struct get_room room = { .is_ours = true, .ret_stat = ret_stat };
	int64_t r = get(w, path, options, &room);

	if (r < 0)
		node_free(room.buf);
	else
		*ret_data = room.buf;
	return r;
}

/* In flight. */

struct started_get {
	struct get_op get;
	void **ret_data; /* NULL: into the caller's buffer */
	char path[];
};

static void started_free(struct wadi_op *op)
{
	struct started_get *s = container_of(op, struct started_get, get.op);

	if (s->ret_data && op->result >= 0)
		*s->ret_data = s->get.room.buf;
	else if (s->ret_data)
		node_free(s->get.room.buf);
	op_give(op->w, s, sizeof(*s), s->path);
}

static int start(struct wadi *w, const char *path, const struct get_room *room, void **ret_data,
		 const struct wadi_get_options *options, struct wadi_op **ret)
{
	struct started_get *s = op_alloc(w, sizeof(*s), path);
	int r = handle_check(w);

	if (r == 0 && !s)
		r = (int)handle_fail(w, "get", path, path ? -ENOMEM : -EINVAL, why_no_room(path));
	if (r == 0) {
		strcpy(s->path, path);
		s->get.room = *room;
		s->ret_data = ret_data;
		r = get_how_for(w, s->path, options, &s->get.how);
	}
	if (r == 0) {
		op_init(&s->get.op, w, "get", s->path, s->get.how.options.timeout_ms, get_run);
		s->get.is_to_look = true;
		s->get.op.free = started_free;
		r = op_start(&s->get.op);
		r = (int)handle_fail(w, "get", path, r, s->get.op.why);
	}
	if (r < 0)
		op_give(w, s, sizeof(*s), path);
	else
		*ret = &s->get.op;
	return r;
}

int wadi_start_get(struct wadi *w, const char *path, void *buf, size_t cap,
		   const struct wadi_get_options *options, struct wadi_stat *ret_stat,
		   struct wadi_op **ret)
{
	struct get_room room = { .buf = buf, .cap = cap, .ret_stat = ret_stat };

	return start(w, path, &room, NULL, options, ret);
}

int wadi_start_get_alloc(struct wadi *w, const char *path, const struct wadi_get_options *options,
			 void **ret_data, struct wadi_stat *ret_stat, struct wadi_op **ret)
{
	struct get_room room = { .is_ours = true, .ret_stat = ret_stat };

	return start(w, path, &room, ret_data, options, ret);
}
