/* SPDX-License-Identifier: Apache-2.0 */
#include "net/conn.h"

#include <assert.h>
#include <errno.h>

#include "base/cleanup.h"
#include "base/container.h"
#include "base/node.h"
#include "net/conn_priv.h"

int net_open(struct loop *l, struct net **ret)
{
	struct net *n = node_alloc(sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->loop = l;
	n->conns_max = CONNS_MAX;
	n->unread_max = UNREAD_BYTES_MAX;
	n->share = CONN_UNREAD_BYTES_MAX;
	list_init(&n->stuck);
	*ret = n;
	return 0;
}

void net_limit_conns(struct net *n, unsigned conns_max)
{
	n->conns_max = conns_max;
}

void net_limit_unread(struct net *n, size_t bytes)
{
	n->unread_max = bytes;
}

void net_close(struct net *n)
{
	if (!n)
		return;
	timer_stop(n->loop, &n->cut);
	while (n->spare_bodies) {
		struct body *b = n->spare_bodies;

		n->spare_bodies = b->u.next;
		node_free(b);
	}
	spares_fini(&n->spare_requests, sizeof(struct request));
	spares_fini(&n->spare_sendings, sizeof(struct sending));
	node_free(n);
}

struct loop *net_loop(const struct net *n)
{
	return n->loop;
}

const struct net_counters *net_counters(const struct net *n)
{
	return &n->counters;
}

struct body *body_take(struct net *n)
{
	struct body *b = n->spare_bodies;

	if (!b)
		return node_alloc(sizeof(*b));
	n->spare_bodies = b->u.next;
	n->spare_body_count--;
	return b;
}

struct body *body_give(struct net *n, struct body *b)
{
	if (!b || n->spare_body_count >= SPARE_BODIES_MAX)
		return node_free(b);
	b->u.next = n->spare_bodies;
	n->spare_bodies = b;
	n->spare_body_count++;
	return NULL;
}

/* Who may not have this served, and why; 0 if it may be. */
static int refuse(const struct conn *c, const struct message_info *info, const struct handler *h,
		  const char **ret_why)
{
	*ret_why = "this server does not know the message";
	if (!info || !h->serve || !(info->servers & c->service->server))
		return -EOPNOTSUPP;
	if (info->callers == CALLERS_FIRST)
		return 0;
	*ret_why = "a connection begins with HELLO";
	if (!c->access || c->access->role == ROLE_COUNT)
		return -EACCES;
	*ret_why = "only for servers of this store";
	if (info->callers == CALLERS_ROLE && c->access->role == ROLE_JOB)
		return -EACCES;
	*ret_why = "only for a job's connections";
	if (info->callers == CALLERS_JOB && c->access->role != ROLE_JOB)
		return -EACCES;
	*ret_why = "the token's time is over; ask whoever gave it for another";
	if (c->access->valid_until_ns && c->access->valid_until_ns <= node_wall_ns())
		return -EKEYEXPIRED;
	return 0;
}

struct request *request_begin(struct conn *c, const struct frame *f, struct body *body)
{
	static const struct handler none;
	int index = message_index(f->msg);
	const char *why;
	struct request *r;

	if (!c->service) {
		body_give(c->net, body);
		conn_fail(c, "the peer sent a request, and we serve none");
		return NULL;
	}
	r = request_new(c, f, body);
	if (!r) {
		conn_fail(c, "no memory for a request");
		return NULL;
	}
	r->handler = index < 0 ? &none : &c->service->handlers[index];
	r->payload_len = f->payload_len;
	r->refusal = refuse(c, message_info(f->msg), r->handler, &why);
	if (c->priv->is_turned_away) {
		r->refusal = -EUSERS;
		request_sink(r, r->refusal, "this process has %u connections, which is its limit",
			     c->net->conns_max);
		c->priv->has_been_told = true;
	} else if (r->refusal < 0) {
		request_sink(r, r->refusal, "%s", why);
		c->net->counters.refused_count++;
	}
	return r;
}

static void begin_request(struct conn *c)
{
	struct intake *in = &c->priv->intake;
	struct request *r = request_begin(c, &in->frame, NULL);

	if (!r)
		return;
	c->priv->incoming = r;
	intake_body(in, r->body->u.bytes);
}

static void begin_reply(struct conn *c)
{
	struct intake *in = &c->priv->intake;
	struct call *call = call_find(c, in->frame.call);
	struct body *b = call ? body_take(c->net) : NULL;

	c->priv->incoming = NULL;
	c->priv->incoming_call = call;
	if (!call) {
		/* It ended before: late, canceled. Without memory it is as if it were lost. */
		c->priv->late = c->service && c->service->late ? body_take(c->net) : NULL;
		c->priv->late_frame = in->frame;
		intake_body(in, c->priv->late ? c->priv->late->u.bytes : c->net->junk);
		return;
	}
	if (!b) {
		conn_fail(c, "no memory for a reply");
		return;
	}
	if (call->sending) {
		/* Answered before all of it was read: whatever the answer is, the rest is of no
		 * use. */
		send_abandon(c, call->sending);
	}
	call->body = b;
	call->frame = in->frame;
	intake_body(in, b->u.bytes);
}

/* The frame behind a long payload: the payload counts, or it is taken back. */
static void end_half(struct conn *c)
{
	struct conn_priv *p = c->priv;
	struct frame *f = &p->intake.frame;
	uint32_t call = p->incoming ? p->incoming->frame.call : 0;

	if (f->payload_len > 0 || f->flags & FRAME_MORE || (p->incoming && f->call != call)) {
		conn_fail(c, "not our protocol: a long payload is followed by its confirmation");
		return;
	}
	intake_body(&p->intake, c->net->junk);
}

static void into_sink(struct conn *c)
{
	uint32_t left = intake_payload_left(&c->priv->intake);

	intake_place(&c->priv->intake, c->net->sink, left < SCRATCH_BYTES ? left : SCRATCH_BYTES);
}

void conn_into_sink(struct conn *c)
{
	struct room room = intake_want(&c->priv->intake);

	/* The sink is short: what is longer is placed anew, piece by piece. */
	intake_move(&c->priv->intake, c->net->sink);
	if (room.len > SCRATCH_BYTES)
		c->priv->intake.place_len = SCRATCH_BYTES;
}

static void place_reply(struct conn *c, struct call *call)
{
	struct intake *in = &c->priv->intake;

	if (call && in->payload_have == 0 && in->frame.payload_len <= call->room_cap) {
		call->room_len = in->frame.payload_len;
		intake_place(in, call->room, in->frame.payload_len);
	} else {
		into_sink(c);
	}
}

void request_find_place(struct request *r)
{
	if (r->handler->place)
		r->handler->place(r);
	else if (r->payload_len > BODY_BYTES || !request_place_own(r))
		request_sink(r, -EMSGSIZE, "this message takes a payload of %u bytes", BODY_BYTES);
}

static void place_request(struct conn *c, struct request *r)
{
	if (r->refusal == 0) {
		c->priv->is_held = true; /* until request_place() or request_sink() */
		request_find_place(r);
	}
	if (!c->is_closed && c->priv->intake.state == INTAKE_PLACE && r->refusal < 0)
		into_sink(c);
}

void request_finish(struct request *r)
{
	if (r->refusal < 0) {
		request_drop(r);
		request_fail(r, r->refusal, "%s", r->why);
	} else {
		r->handler->serve(r);
	}
}

void call_answered(struct call *call)
{
	int r = status_errno(call->frame.status);

	if (r == 0 && call->frame.payload_len > call->room_len)
		r = -EMSGSIZE;
	call_arrived(call, r);
}

static void tell_late(struct conn *c)
{
	struct body *b = TAKE_PTR(c->priv->late);
	struct frame *f = &c->priv->late_frame;
	struct rcur body = rcur_make(b->u.bytes, f->body_len);

	if (f->status == STATUS_OK)
		c->service->late(c, f, &body);
	body_give(c->net, b);
}

static void finish_frame(struct conn *c)
{
	struct conn_priv *p = c->priv;
	struct request *r = p->incoming;
	struct call *call = p->incoming_call;
	uint16_t flags = p->intake.frame.flags;

	intake_next(&p->intake);
	if (p->late)
		tell_late(c);
	if (!p->is_half && flags & FRAME_MORE) {
		p->is_half = true;
		return;
	}
	p->is_half = false;
	p->incoming = NULL;
	p->incoming_call = NULL;
	if (flags & FRAME_ABORT && r) {
		request_drop(r);
		request_fail(r, -ECANCELED, "taken back by its sender");
	} else if (flags & FRAME_ABORT && call) {
		call_arrived(call, -ECANCELED);
	} else if (r) {
		request_finish(r);
	} else if (call) {
		call_answered(call);
	}
}

/* Acts wherever the intake stops for its owner. False: it must wait, or the connection is closed.
 */
static bool step(struct conn *c)
{
	struct conn_priv *p = c->priv;

	while (!c->is_closed && !p->is_held) {
		switch (p->intake.state) {
		case INTAKE_FRAME:
			if (p->is_half)
				end_half(c);
			else if (p->intake.frame.flags & FRAME_REPLY)
				begin_reply(c);
			else
				begin_request(c);
			break;
		case INTAKE_PLACE:
			if (p->incoming)
				place_request(c, p->incoming);
			else
				place_reply(c, p->incoming_call);
			break;
		case INTAKE_WHOLE:
			finish_frame(c);
			break;
		case INTAKE_HEADER:
		case INTAKE_BODY:
		case INTAKE_PAYLOAD:
			return true;
		case INTAKE_BROKEN:
			return false;
		}
	}
	return false;
}

/* How many of the bytes were taken. */
static size_t feed(struct conn *c, const uint8_t *bytes, size_t len)
{
	struct conn_priv *p = c->priv;
	size_t at = 0;

	while (at < len && conn_may_read(c) && step(c)) {
		struct room room = intake_want(&p->intake);
		size_t n = room.len < len - at ? room.len : len - at;
		int r;

		memcpy(room.ptr, bytes + at, n);
		at += n;
		r = intake_got(&p->intake, n);
		if (r < 0)
			conn_fail(c, r == -EPROTO ? "not our protocol" : "a frame above its limit");
	}
	if (conn_may_read(c))
		(void)step(c);
	return at;
}

static void stash_drop(struct conn *c)
{
	struct conn_priv *p = c->priv;

	if (p->stash)
		c->net->unread_bytes -= p->stash_len;
	p->stash = node_free(p->stash);
}

/* What came behind a frame that must wait is kept until it goes on. False: it still waits. */
static bool feed_stash(struct conn *c)
{
	struct conn_priv *p = c->priv;

	if (!p->stash)
		return true;
	p->stash_at += feed(c, p->stash + p->stash_at, p->stash_len - p->stash_at);
	if (p->stash_at < p->stash_len || !conn_may_read(c))
		return false;
	stash_drop(c);
	return true;
}

static void stash(struct conn *c, const uint8_t *bytes, size_t len)
{
	struct conn_priv *p = c->priv;

	if (c->is_closed)
		return;
	p->stash = node_alloc(len);
	if (!p->stash) {
		conn_fail(c, "no memory to wait with");
		return;
	}
	memcpy(p->stash, bytes, len);
	net_keep(c->net, len);
	p->stash_len = len;
	p->stash_at = 0;
}

static ssize_t receive_bytes(struct conn *c, void *buf, size_t len)
{
	ssize_t n = stream_recv(c->priv->stream, buf, len);

	if (n > 0)
		c->net->counters.received_bytes += (size_t)n;
	return n;
}

/* One system call: long payloads straight to their place, all else by way of the scratch. */
static ssize_t receive(struct conn *c)
{
	struct conn_priv *p = c->priv;
	struct room room;
	ssize_t n;
	size_t taken;

	if (p->twin)
		return twin_receive(c);
	room = intake_want(&p->intake);
	if (p->intake.state == INTAKE_PAYLOAD && room.len >= SCRATCH_BYTES / 8) {
		size_t most = turn_bytes(c->net);

		n = receive_bytes(c, room.ptr, room.len < most ? room.len : most);
		if (n > 0) {
			(void)intake_got(&p->intake, (size_t)n); /* breaks on headers only */
			(void)step(c);
		}
		return n;
	}
	n = receive_bytes(c, c->net->scratch, net_is_short(c->net) ? SHORT_BYTES : SCRATCH_BYTES);
	if (n <= 0)
		return n;
	taken = feed(c, c->net->scratch, (size_t)n);
	if (taken < (size_t)n)
		stash(c, c->net->scratch + taken, (size_t)n - taken);
	return n;
}

/* A frame has begun, and it is its sender's turn. */
static bool is_half_way(const struct conn *c)
{
	const struct conn_priv *p = c->priv;

	return conn_may_read(c) &&
	       (p->is_half || p->intake.state != INTAKE_HEADER || p->intake.have > 0);
}

static void conn_serve(struct conn *c)
{
	struct conn_priv *p = c->priv;
	size_t done = 0;
	bool was_stopped;

	if (!p->twin && c->net->heard != c) {
		c->net->heard = c;
		c->net->heard_from_ns = c->net->loop->now_ns;
	}
	p->is_serving = true;
	while (feed_stash(c) && conn_may_read(c)) {
		ssize_t n;

		if (done >= turn_bytes(c->net)) {
			loop_defer(c->net->loop, &p->again);
			break;
		}
		n = receive(c);
		if (n == -EAGAIN)
			break;
		if (n <= 0) {
			conn_end(c, n);
			break;
		}
		p->is_connected = true;
		p->received_ns = c->net->loop->now_ns;
		done += (size_t)n;
	}
	p->is_serving = false;
	if (is_half_way(c) && !timer_is_running(&p->half))
		timer_start(c->net->loop, &p->half,
			    c->net->loop->now_ns + CONN_HALF_MS_MAX * 1000000ull);
	was_stopped = !conn_may_read(c);
	if (!c->is_closed)
		send_flush(c);
	p->is_stopped = was_stopped && !conn_may_read(c);
	/* Sending may have made room to go on; the edge that told of input is gone. */
	if (was_stopped && !p->is_stopped)
		loop_defer(c->net->loop, &p->again);
	conn_ring_go_on(c);
}

static void is_ready(struct stream *s)
{
	struct conn *c = s->owner;
	bool was_full = conn_is_full(c);

	send_flush(c);
	if (!c->is_closed)
		conn_serve(c);
	if (was_full && conn_may_read(c))
		loop_defer(c->net->loop, &c->priv->again);
}

static void go_on(struct task *t)
{
	conn_serve(container_of(t, struct conn_priv, again)->conn);
}

static void flush(struct task *t)
{
	struct conn *c = container_of(t, struct conn_priv, flush)->conn;

	send_flush(c);
	if (c->priv->is_stopped)
		conn_resume(c);
}

void conn_resume(struct conn *c)
{
	conn_ring_go_on(c);
	if (!c->is_closed && !c->priv->is_serving && conn_may_read(c))
		loop_defer(c->net->loop, &c->priv->again);
}

/* What has come meanwhile counts: perhaps it was we who stood still. */
static void still_half_way(struct timer *t)
{
	struct conn *c = container_of(t, struct conn_priv, half)->conn;
	uint64_t now_ns = c->net->loop->now_ns, due_ns;

	conn_serve(c);
	due_ns = c->priv->received_ns + CONN_HALF_MS_MAX * 1000000ull;
	if (!is_half_way(c))
		timer_stop(c->net->loop, t);
	else if (due_ns <= now_ns)
		conn_fail(c, "it stopped in the middle of a frame");
	else
		timer_start(c->net->loop, t, due_ns);
}

static void no_hello(struct timer *t)
{
	struct conn *c = container_of(t, struct conn_priv, hello)->conn;

	if (!c->access)
		conn_fail(c, "it did not say HELLO in time");
}

struct conn *conn_open(struct net *n, struct stream *s, const struct service *service, void *owner)
{
	uint64_t others = n->served_count;
	/* Those that we open ourselves are few, one for each server. */
	bool is_counted = service && service->handlers[MESSAGE_HELLO].serve;
	bool is_too_many = is_counted && others >= n->conns_max + (uint64_t)CONNS_TURNED_MAX;
	struct conn *c = is_too_many ? NULL : node_alloc(sizeof(*c));
	struct conn_priv *p = is_too_many ? NULL : node_alloc(sizeof(*p));

	if (!c || !p) {
		node_free(c);
		node_free(p);
		stream_close(s);
		return NULL;
	}
	*c = (struct conn){
		.net = n, .service = service, .owner = owner, .peer = s->peer, .priv = p
	};
	*p = (struct conn_priv){ .conn = c,
				 .stream = s,
				 .again = { .run = go_on },
				 .flush = { .run = flush },
				 .hello = { .fire = no_hello },
				 .half = { .fire = still_half_way } };
	list_init(&c->link);
	list_init(&p->again.link);
	list_init(&p->flush.link);
	list_init(&p->requests);
	list_init(&p->parked);
	list_init(&p->queue);
	list_init(&p->stuck);
	intake_init(&p->intake);
	s->ready = is_ready;
	s->owner = c;
	if (s->other && s->other->ready == is_ready)
		twin_join(c, s->other->owner);
	n->counters.conn_count++;
	p->is_counted = is_counted;
	p->is_turned_away = is_counted && others >= n->conns_max;
	n->served_count += is_counted;
	if (conn_is_servers(c))
		timer_start(n->loop, &p->hello, n->loop->now_ns + HELLO_MS_MAX * 1000000ull);
	loop_defer(n->loop, &p->again); /* what came before there was an owner */
	return c;
}

static void conn_free(struct closing *closing)
{
	struct conn_priv *p = container_of(closing, struct conn_priv, closing);
	struct conn *c = p->conn;

	if (c->service && c->service->closed)
		c->service->closed(c);
	conn_ring_free(c);
	assert(p->unread_bytes == 0);
	c->net->counters.conn_count--;
	c->net->served_count -= p->is_counted;
	node_free(c->access);
	/* Another one may lie there next. */
	if (c->net->heard == c)
		c->net->heard = NULL;
	node_free(p);
	node_free(c);
}

void conn_unref_if_done(struct conn *c)
{
	if (c->priv->request_count == 0)
		loop_free_later(c->net->loop, &c->priv->closing);
}

void conn_fail(struct conn *c, const char *why)
{
	if (!c->is_closed)
		c->priv->why_closed = why;
	conn_close(c);
}

static const char *why_ended(const struct conn *c, ssize_t r)
{
	if (r == 0 || r == -EPIPE)
		return "the peer closed it";
	if (c->priv->is_connected)
		return "the connection broke";
	return r == -ECONNREFUSED || r == -ENOENT ? "nobody listens there" : "it could not connect";
}

void conn_end(struct conn *c, ssize_t r)
{
	struct conn_priv *p = c->priv;

	/* Only who has taken a connection ends or resets it. */
	p->is_connected |= r == 0 || r == -EPIPE || r == -ECONNRESET;
	p->was_left = p->is_connected && !c->is_closed;
	conn_fail(c, why_ended(c, r));
}

void conn_close(struct conn *c)
{
	struct conn_priv *p;
	struct request *incoming;

	if (!c || c->is_closed)
		return;
	p = c->priv;
	c->is_closed = true;
	if (!p->why_closed)
		p->why_closed = "we closed it";
	timer_stop(c->net->loop, &p->hello);
	timer_stop(c->net->loop, &p->half);
	task_stop(&p->again);
	task_stop(&p->flush);
	list_remove(&p->stuck);
	conn_ring_close(c);
	twin_part(c);
	stream_close(p->stream);
	p->stream = NULL;
	send_drop_all(c);
	calls_end_all(c);
	stash_drop(c);
	p->late = body_give(c->net, p->late);
	p->closing.free = conn_free;
	p->request_count++; /* until the end of this function */
	incoming = TAKE_PTR(p->incoming);
	/* One that waits for its place is its handler's, which hears of the end below. */
	if (incoming && !p->is_held)
		request_end(incoming);
	for (struct list *l = p->requests.next, *next; l != &p->requests; l = next) {
		struct request *r = container_of(l, struct request, link);

		next = l->next;
		if (request_ring_is_ours(r))
			request_end(r);
		else if (r->closed)
			r->closed(r);
	}
	p->request_count--;
	conn_unref_if_done(c);
}

const char *conn_why_closed(const struct conn *c)
{
	return c->priv->why_closed ? c->priv->why_closed : "it is open";
}

bool conn_was_left(const struct conn *c)
{
	return c->priv->was_left;
}

bool conn_is_connected(const struct conn *c)
{
	return c->priv->is_connected;
}
