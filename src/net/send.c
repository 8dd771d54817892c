/* SPDX-License-Identifier: Apache-2.0 */
#include "net/conn_priv.h"

#include <assert.h>
#include <errno.h>

#include "base/container.h"
#include "base/node.h"

#define PEER_STUCK_NS (PEER_STUCK_MS * 1000000ull)

/* Pieces of one system call. */
#define IOV_MAX_PIECES 64

static uint64_t total(const struct sending *s)
{
	return frame_len(&s->frame) + s->trailer_len;
}

uint32_t frame_write(uint8_t *to, const struct frame *f, const struct body *b, const void *payload)
{
	struct wcur w = wcur_make(to, FRAME_HEADER_SIZE);

	frame_put(&w, f);
	if (f->body_len > 0)
		memcpy(to + FRAME_HEADER_SIZE, b->u.bytes, f->body_len);
	if (f->payload_len > 0)
		memcpy(to + FRAME_HEADER_SIZE + f->body_len, payload, f->payload_len);
	return (uint32_t)frame_len(f);
}

/* Our own calls are ours to bound: where both ends ask, both would wait for the other to read. */
static bool is_answer(const struct sending *s)
{
	return s->frame.flags & FRAME_REPLY;
}

void sending_end(struct conn *c, struct sending *s)
{
	struct net *n = c->net;

	c->priv->unsent -= total(s) - s->sent;
	list_remove(&s->link);
	if (s->call)
		s->call->sending = NULL;
	if (s->owner && s->owner->sent)
		s->owner->sent(s->owner);
	c->priv->unread_bytes -= s->unread;
	n->unread_bytes -= s->unread;
	s->body = s->is_short ? node_free(s->body) : body_give(n, s->body);
	s->copy = node_free(s->copy);
	spares_give(&n->spare_sendings, s, sizeof(*s));
}

struct sending *send_frame(struct conn *c, const struct frame *f, struct body *body,
			   const void *payload)
{
	struct conn_priv *p = c->priv;
	struct sending *s = c->is_closed ? NULL : spares_take(&c->net->spare_sendings, sizeof(*s));

	if (!s) {
		body_give(c->net, body);
		conn_fail(c, "no memory to send");
		return NULL;
	}
	memset(s, 0, offsetof(struct sending, header));
	s->frame = *f;
	s->body = body;
	s->payload = payload;
	if (is_answer(s))
		sending_keep(c, s, sizeof(*s) + sizeof(*body));
	if (f->payload_len > FRAME_FREE_PAYLOAD)
		s->trailer_len = FRAME_HEADER_SIZE;
	if (p->unsent == 0)
		p->sent_ns = c->net->loop->now_ns;
	list_init(&s->link);
	list_insert(&p->queue, &s->link);
	p->unsent += total(s);
	if (p->twin)
		twin_wake(p->twin);
	else if (!p->is_serving)
		loop_follow(c->net->loop, &p->flush);
	return s;
}

/* Its header, and that of the frame behind a long payload. */
static void encode(struct sending *s)
{
	struct frame f = s->frame;
	struct wcur w = wcur_make(s->header, FRAME_HEADER_SIZE);

	if (s->trailer_len > 0)
		f.flags |= FRAME_MORE;
	frame_put(&w, &f);
	if (s->trailer_len == 0)
		return;
	f.flags = s->frame.flags;
	f.status = 0;
	f.timeout_ms = f.body_len = f.payload_len = 0;
	w = wcur_make(s->trailer, FRAME_HEADER_SIZE);
	frame_put(&w, &f);
}

struct gather {
	struct iovec iov[IOV_MAX_PIECES];
	int count;
	size_t len, most;
	uint8_t *joined; /* what comes next there, of JOINED_BYTES */
	size_t joined_left;
};

/* A short frame that is whole is a piece, together with such that are before it. */
static bool join(struct gather *g, const struct sending *s)
{
	size_t len = total(s);
	struct iovec *last = g->count > 0 ? &g->iov[g->count - 1] : NULL;

	if (len > JOINED_MAX || s->sent > 0 || len > g->joined_left || len > g->most - g->len)
		return false;
	frame_write(g->joined, &s->frame, s->body, s->payload);
	if (last && (uint8_t *)last->iov_base + last->iov_len == g->joined)
		last->iov_len += len;
	else
		g->iov[g->count++] = (struct iovec){ g->joined, len };
	g->joined += len;
	g->joined_left -= len;
	g->len += len;
	return true;
}

/*
 * Adds [at, len) of a part, or what a turn has room for; `at` becomes what is left of it for
 * the parts behind.
 */
static void add(struct gather *g, const void *ptr, size_t len, uint64_t *at)
{
	size_t n, room = g->most - g->len;

	if (*at >= len) {
		*at -= len;
		return;
	}
	n = len - *at < room ? len - *at : room;
	if (n > 0 && g->count < IOV_MAX_PIECES) {
		g->iov[g->count++] = (struct iovec){ (char *)ptr + *at, n };
		g->len += n;
	}
	*at = 0;
}

/* What fills up a payload whose source is gone. */
static void add_zeros(struct gather *g, size_t len, uint64_t *at)
{
	static const uint8_t ZEROS[SCRATCH_BYTES];

	for (size_t piece; len > 0; len -= piece) {
		piece = len < SCRATCH_BYTES ? len : SCRATCH_BYTES;
		add(g, ZEROS, piece, at);
	}
}

static void add_frame(struct net *n, struct gather *g, struct sending *s)
{
	uint64_t at = s->sent;

	if (join(g, s))
		return;
	/* A short one may have begun in a piece with others. */
	if (at == 0 || s->trailer_len == 0)
		encode(s);
	add(g, s->header, FRAME_HEADER_SIZE, &at);
	add(g, s->body ? s->body->u.bytes : n->junk, s->frame.body_len, &at);
	if (s->is_filled)
		add_zeros(g, s->frame.payload_len, &at);
	else
		add(g, s->payload, s->frame.payload_len, &at);
	add(g, s->trailer, s->trailer_len, &at);
}

/* The clock is asked, not the loop: we may have been stopped since its turn began. */
static bool is_too_late(const struct sending *s)
{
	return s->until_ns && node_now_ns() >= *s->until_ns;
}

bool sending_is_in_time(struct conn *c, const struct sending *s)
{
	if (!is_too_late(s))
		return true;
	conn_fail(c, "what was being sent may no longer be served");
	return false;
}

static void advance(struct conn *c, size_t n)
{
	c->net->counters.sent_bytes += n;
	c->priv->sent_ns = c->net->loop->now_ns;
	if (!list_is_empty(&c->priv->stuck))
		list_remove(&c->priv->stuck);
	while (n > 0) {
		struct sending *s = container_of(c->priv->queue.next, struct sending, link);
		uint64_t left = total(s) - s->sent, take = n < left ? n : left;

		s->sent += take;
		c->priv->unsent -= take;
		n -= take;
		if (s->sent == total(s))
			sending_end(c, s);
	}
}

/* A body is as long as the longest, for it is mostly sent at once. False: it is no more. */
static bool shorten(struct conn *c, struct sending *s)
{
	size_t len = s->frame.body_len, less = sizeof(*s->body) - len;
	struct body *b = s->is_short ? NULL : node_alloc(len);

	if (!b)
		return false;
	if (len > 0)
		memcpy(b, s->body->u.bytes, len);
	body_give(c->net, s->body);
	s->body = b;
	s->is_short = true;
	if (is_answer(s)) {
		s->unread -= (uint32_t)less;
		c->priv->unread_bytes -= less;
		c->net->unread_bytes -= less;
	}
	return true;
}

static void not_taken(struct conn *c)
{
	struct conn_priv *p = c->priv;

	if (!conn_is_servers(c))
		return;
	if (list_is_empty(&p->stuck))
		list_insert(&c->net->stuck, &p->stuck);
	for (struct list *l = p->queue.prev; l != &p->queue; l = l->prev)
		if (!shorten(c, container_of(l, struct sending, link)))
			return;
}

void send_queue(struct conn *c)
{
	struct conn_priv *p = c->priv;
	size_t done = 0;

	while (!c->is_closed && !p->twin && !list_is_empty(&p->queue)) {
		struct gather g; /* not all of it zeroed: it is a kilobyte, and a request sends four
				    times */
		ssize_t n;

		g.count = 0;
		g.len = 0;
		g.joined = c->net->joined;
		g.joined_left = JOINED_BYTES;
		g.most = turn_bytes(c->net);
		if (done >= g.most) {
			loop_defer(c->net->loop, &p->flush);
			return;
		}
		/* Once the pieces are used up, a frame in the middle must not be left out. */
		for (struct list *l = p->queue.next;
		     l != &p->queue && g.count < IOV_MAX_PIECES - 4 && g.len < g.most;
		     l = l->next) {
			struct sending *s = container_of(l, struct sending, link);

			if (!sending_is_in_time(c, s))
				return;
			add_frame(c->net, &g, s);
		}
		n = stream_send(p->stream, g.iov, g.count);
		if (n == -EAGAIN) {
			not_taken(c);
			return;
		}
		if (n < 0) {
			conn_end(c, n);
			return;
		}
		p->is_connected = true;
		done += (size_t)n;
		advance(c, (size_t)n);
	}
	if (p->is_turned_away && p->has_been_told && list_is_empty(&p->queue))
		conn_fail(c, "there are too many connections");
}

/* True if what is left of the payload, if anything, no longer needs its source. */
static bool detach(struct net *n, struct sending *s)
{
	uint32_t len = s->frame.payload_len;
	uint64_t begin = (uint64_t)FRAME_HEADER_SIZE + s->frame.body_len, end = begin + len;
	uint32_t from = s->sent > begin ? (uint32_t)(s->sent - begin) : 0;
	struct wcur w = wcur_make(s->trailer, FRAME_HEADER_SIZE);
	struct rcur r = rcur_make(s->trailer, FRAME_HEADER_SIZE);
	struct frame f;

	if (s->sent >= end || len == 0)
		return true;
	if (s->trailer_len > 0) {
		(void)frame_get(&r, &f); /* our own bytes */
		f.flags |= FRAME_ABORT;
		frame_put(&w, &f);
		s->is_filled = true;
		return true;
	}
	s->copy = node_alloc(len);
	if (!s->copy)
		return false;
	memcpy(s->copy + from, s->payload + from, len - from);
	s->payload = s->copy;
	(void)n;
	return true;
}

void send_abandon(struct conn *c, struct sending *s)
{
	if (s->call)
		s->call->sending = NULL;
	s->call = NULL;
	s->owner = NULL;
	if (s->sent == 0)
		sending_end(c, s);
	else if (c->priv->twin)
		s->is_filled = true;
	else if (!detach(c->net, s))
		conn_fail(c, "no memory to take back a frame");
}

void conn_keep(struct conn *c, size_t bytes)
{
	c->priv->unread_bytes += bytes;
	net_keep(c->net, bytes);
}

void conn_unkeep(struct conn *c, size_t bytes)
{
	c->priv->unread_bytes -= bytes;
	c->net->unread_bytes -= bytes;
	if (c->priv->is_stopped)
		conn_resume(c);
}

static void share_out(struct net *n)
{
	size_t each = n->unread_max / (n->served_count + 1);

	n->share = net_is_short(n) && each < CONN_UNREAD_BYTES_MAX ? each : CONN_UNREAD_BYTES_MAX;
}

static void cut(struct timer *t)
{
	struct net *n = container_of(t, struct net, cut);
	uint64_t again_ns = n->loop->now_ns + PEER_STUCK_NS;

	share_out(n);
	if (!net_is_short(n))
		return;
	for (struct list *l = n->stuck.next; l != &n->stuck; l = l->next) {
		struct conn *c = container_of(l, struct conn_priv, stuck)->conn;

		if (conn_stuck_ns(c) < PEER_STUCK_NS)
			continue;
		conn_fail(c, "it reads nothing, and others need the memory for their answers");
		again_ns = n->loop->now_ns; /* the others' turn comes first */
		break;
	}
	timer_start(n->loop, t, again_ns);
}

void net_watch(struct net *n)
{
	n->cut.fire = cut;
	share_out(n);
	timer_start(n->loop, &n->cut, n->loop->now_ns + PEER_STUCK_NS);
}

void send_drop_all(struct conn *c)
{
	while (!list_is_empty(&c->priv->queue))
		sending_end(c, container_of(c->priv->queue.next, struct sending, link));
}

size_t conn_unsent(const struct conn *c)
{
	return c->priv->unsent;
}

uint64_t conn_stuck_ns(const struct conn *c)
{
	return c->priv->unsent > 0 ? c->net->loop->now_ns - c->priv->sent_ns : 0;
}
