/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator's network: cables with two ends, and pieces on their way.
 *
 *	connect()         CONNECTING --CONNECTED--> OPEN ----------+-- closed, killed --> CLOSED
 *	  |                        \--REFUSED, cut--> OPEN, fails -+
 *	  +--CONNECT--> (UNBORN) --> QUEUED --accepted()--> OPEN --+
 *
 * - Pieces to one end arrive in the order they were sent, each after a delay.
 * - The answer to a CONNECT is the kernel's: it needs a listener, not its program.
 * - What a send takes is bounded by the room at the far end; who found none is told
 *   by a ROOM once the reader has read.
 * - An end that is closed tells the other by an END behind its last byte, or by a
 *   RESET if it had not read everything; so does an end whose node was killed, as
 *   the dice say. What arrives for it later is answered by a RESET.
 * - The cable goes when both ends are closed.
 * - Descriptors go with the next piece of data, as through a Unix socket; whoever reads of that
 *   has them, if he wants any, until he reads the next ones.
 * - Between two nodes that are stalled everything is held, in its order, and arrives
 *   when they are not any more: nobody is told, as when a network drops packets.
 */
#include "loop/sim_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/container.h"
#include "base/hash.h"
#include "base/limits.h"
#include "loop/fds.h"

/* Bytes sent and not read, of one direction. */
#define ROOM_BYTES (256u << 10)

enum piece_kind {
	PIECE_CONNECT,
	PIECE_CONNECTED,
	PIECE_REFUSED,
	PIECE_DATA,
	PIECE_ROOM,
	PIECE_END,
	PIECE_RESET,
};

enum end_state { END_UNBORN, END_QUEUED, END_CONNECTING, END_OPEN, END_CLOSED };

struct piece {
	struct event event;
	struct list link; /* of the end that it goes to: coming, then arrived */
	struct end *to;
	enum piece_kind kind;
	size_t len, at; /* at: how much of it was read */
	struct fds handed;
	uint8_t bytes[];
};

struct end {
	struct stream stream;
	struct notice notice;
	struct cable *cable;
	struct end *other;
	enum end_state state;
	uint32_t node_id;
	struct list coming, held, arrived;
	size_t unread_bytes; /* in all lists */
	uint64_t last_ns;    /* when the last piece of `coming` arrives */
	bool was_full, has_ended, takes_fds;
	struct fds out, in;
	int error; /* sticks; what arrived before is read first */
};

struct cable {
	struct sim *sim;
	struct list link;
	struct end ends[2]; /* 0 connects, 1 is accepted */
	uint32_t port;
	struct acceptor *acceptor; /* while ends[1] is QUEUED */
	struct list queue_link;
	struct closing closing;
};

struct acceptor {
	struct notice notice;
	struct list link;
	struct sim_loop *loop;
	struct listener *listener; /* NULL once closed */
	struct list queue;
	unsigned queued_count;
	struct closing closing;
};

struct cut {
	struct list link;
	uint32_t a, b;
};

static struct sim_loop *sim_loop_of(struct loop *l)
{
	return container_of(l, struct sim_loop, loop);
}

static struct end *end_of(struct stream *s)
{
	return container_of(s, struct end, stream);
}

static struct cut *cut_find(const struct list *cuts, uint32_t a, uint32_t b)
{
	for (struct list *i = cuts->next; i != cuts; i = i->next) {
		struct cut *c = container_of(i, struct cut, link);

		if ((c->a == a && c->b == b) || (c->a == b && c->b == a))
			return c;
	}
	return NULL;
}

/* Of what may be cut short: true as often as the configuration says. */
static bool is_cut_short(struct sim *s)
{
	return s->config.cut_permille > 0 && dice_below(&s->net, 1000) < s->config.cut_permille;
}

static void piece_free(struct piece *p)
{
	fds_close(&p->handed);
	free(p);
}

static void pieces_drop(struct sim *s, struct list *pieces)
{
	while (!list_is_empty(pieces)) {
		struct piece *p = container_of(pieces->next, struct piece, link);

		heap_remove(&s->events, &p->event.link);
		list_remove(&p->link);
		piece_free(p);
	}
}

static void arrive(struct event *ev);

static bool is_watched(const struct sim_watch *w, uint32_t from, uint32_t to)
{
	return w->b ? (w->a == from && w->b == to) || (w->a == to && w->b == from)
		    : w->a == from || w->a == to;
}

static void watches_count(struct sim *s, uint32_t from, uint32_t to)
{
	for (struct list *i = s->watches.next; i != &s->watches; i = i->next) {
		struct sim_watch *w = container_of(i, struct sim_watch, link);

		if (w->left > 0 && is_watched(w, from, to) && --w->left == 0)
			sim_stop(s);
	}
}

/* What the simulator itself needs it has: if there is no memory, the run is over. */
static struct piece *piece_send(struct end *to, enum piece_kind kind, size_t len)
{
	struct sim *s = to->cable->sim;
	const struct sim_config *c = &s->config;
	uint64_t at_ns = s->now_ns + c->delay_ns_min;
	struct piece *p = calloc(1, sizeof(*p) + len);

	assert(p);
	if (c->delay_ns_max > c->delay_ns_min)
		at_ns += dice_below(&s->net, c->delay_ns_max - c->delay_ns_min + 1);
	/* Two that arrive at one time could change places. */
	to->last_ns = at_ns > to->last_ns ? at_ns : to->last_ns + 1;
	*p = (struct piece){ .event = { .happen = arrive }, .to = to, .kind = kind, .len = len };
	list_insert(&to->coming, &p->link);
	to->unread_bytes += len;
	event_set(s, &p->event, to->last_ns);
	if (kind == PIECE_DATA)
		watches_count(s, to->other->node_id, to->node_id);
	return p;
}

static void notify(struct end *e)
{
	if (e->state == END_OPEN || e->state == END_CONNECTING)
		notice_put(sim_loop_of(e->stream.loop), &e->notice);
}

static void cable_free(struct closing *c)
{
	struct cable *k = container_of(c, struct cable, closing);

	for (int i = 0; i < 2; i++) {
		pieces_drop(k->sim, &k->ends[i].coming);
		pieces_drop(k->sim, &k->ends[i].held);
		pieces_drop(k->sim, &k->ends[i].arrived);
	}
	free(k);
}

static void end_enter_closed(struct end *e)
{
	struct cable *k = e->cable;

	assert(e->state != END_CLOSED);
	if (e->state == END_QUEUED) {
		list_remove(&k->queue_link);
		k->acceptor->queued_count--;
	}
	e->state = END_CLOSED;
	fds_close(&e->out);
	fds_close(&e->in);
	list_remove(&e->notice.link);
	if (e->other->state == END_CLOSED) {
		list_remove(&k->link);
		list_insert(&k->sim->closed, &k->closing.link);
	}
}

/* By its owner, or with its node. */
static void end_close(struct end *e, enum piece_kind farewell)
{
	if (e->other->state != END_CLOSED && !e->error)
		piece_send(e->other, farewell, 0);
	end_enter_closed(e);
}

/* From here on it fails; an end that nobody has yet is just gone. */
static void end_fail(struct end *e, int error)
{
	switch (e->state) {
	case END_UNBORN:
	case END_QUEUED:
		end_enter_closed(e);
		break;
	case END_CONNECTING:
	case END_OPEN:
		e->state = END_OPEN;
		e->error = error;
		notify(e);
		break;
	case END_CLOSED:
		break;
	}
}

static struct acceptor *acceptor_find(struct sim_node *n, uint32_t port)
{
	for (struct list *i = n->loops.next; i != &n->loops; i = i->next) {
		struct sim_loop *sl = container_of(i, struct sim_loop, link);

		for (struct list *j = sl->acceptors.next; j != &sl->acceptors; j = j->next) {
			struct acceptor *a = container_of(j, struct acceptor, link);

			if (a->listener->address.u.sim.port == port)
				return a;
		}
	}
	return NULL;
}

static void arrive_connect(struct end *e)
{
	struct cable *k = e->cable;
	struct sim_node *n = sim_node_find(k->sim, e->node_id);
	struct acceptor *a = n ? acceptor_find(n, k->port) : NULL;

	if (!a || a->queued_count >= LISTEN_BACKLOG ||
	    cut_find(&k->sim->cuts, e->node_id, e->other->node_id)) {
		end_close(e, PIECE_REFUSED);
		return;
	}
	e->state = END_QUEUED;
	k->acceptor = a;
	list_insert(&a->queue, &k->queue_link);
	a->queued_count++;
	notice_put(a->loop, &a->notice);
	if (e->other->state != END_CLOSED)
		piece_send(e->other, PIECE_CONNECTED, 0);
}

static void arrive_data(struct end *e, struct piece *p)
{
	if (e->state == END_CLOSED) {
		if (e->other->state != END_CLOSED)
			piece_send(e->other, PIECE_RESET, 0);
		piece_free(p);
		return;
	}
	list_insert(&e->arrived, &p->link);
	notify(e);
}

static void piece_arrives(struct piece *p)
{
	struct end *e = p->to;

	sim_note(e->cable->sim, hash_64(p->bytes, p->len, (uint64_t)p->kind), e->node_id);
	list_remove(&p->link);
	switch (p->kind) {
	case PIECE_DATA:
		arrive_data(e, p);
		return;
	case PIECE_CONNECT:
		arrive_connect(e);
		break;
	case PIECE_CONNECTED:
		if (e->state == END_CONNECTING)
			e->state = END_OPEN;
		notify(e);
		break;
	case PIECE_REFUSED:
		end_fail(e, -ECONNREFUSED);
		break;
	case PIECE_ROOM:
		notify(e);
		break;
	case PIECE_END:
		e->has_ended = true;
		notify(e);
		break;
	case PIECE_RESET:
		end_fail(e, -ECONNRESET);
		break;
	}
	piece_free(p);
}

static void arrive(struct event *ev)
{
	struct piece *p = container_of(ev, struct piece, event);
	struct end *e = p->to;

	if (cut_find(&e->cable->sim->stalls, e->node_id, e->other->node_id)) {
		list_remove(&p->link);
		list_insert(&e->held, &p->link);
		return;
	}
	piece_arrives(p);
}

/* What came with a piece. True: that piece is the last one of this read. */
static bool take_handed(struct end *e, struct piece *p)
{
	if (p->handed.count == 0)
		return false;
	fds_close(&e->in); /* nobody has taken the last ones */
	if (e->takes_fds) {
		e->in = p->handed;
		p->handed.count = 0;
	}
	fds_close(&p->handed);
	return true;
}

/* Into `buf` what has arrived, up to `len`. */
static size_t take_arrived(struct end *e, uint8_t *buf, size_t len)
{
	bool is_last = false;
	size_t had = 0;

	while (had < len && !is_last && !list_is_empty(&e->arrived)) {
		struct piece *p = container_of(e->arrived.next, struct piece, link);
		size_t n = len - had < p->len - p->at ? len - had : p->len - p->at;

		is_last = take_handed(e, p);
		memcpy(buf + had, p->bytes + p->at, n);
		had += n;
		p->at += n;
		if (p->at == p->len) {
			list_remove(&p->link);
			piece_free(p);
		}
	}
	e->unread_bytes -= had;
	return had;
}

static ssize_t end_recv(struct stream *s, void *buf, size_t len)
{
	struct end *e = end_of(s);
	size_t had;

	assert(len > 0 && e->state != END_CLOSED);
	if (is_cut_short(e->cable->sim))
		len = 1 + dice_below(&e->cable->sim->net, len);
	had = take_arrived(e, buf, len);
	if (had > 0) {
		if (e->other->was_full && e->other->state != END_CLOSED) {
			e->other->was_full = false;
			piece_send(e->other, PIECE_ROOM, 0);
		}
		return (ssize_t)had;
	}
	if (e->error)
		return e->error;
	return e->has_ended ? 0 : -EAGAIN;
}

static ssize_t end_send(struct stream *s, const struct iovec *iov, int count)
{
	struct end *e = end_of(s), *to = e->other;
	struct sim *sim = e->cable->sim;
	size_t room = to->unread_bytes < ROOM_BYTES ? ROOM_BYTES - to->unread_bytes : 0;
	size_t len = 0, at = 0;
	struct piece *p;

	assert(e->state != END_CLOSED);
	if (e->error)
		return e->error;
	for (int i = 0; i < count; i++)
		len += iov[i].iov_len;
	if (e->state == END_CONNECTING || (len > 0 && room == 0)) {
		e->was_full = true;
		return -EAGAIN;
	}
	if (len > room)
		len = room;
	if (len > 0 && is_cut_short(sim))
		len = 1 + dice_below(&sim->net, len);
	p = piece_send(to, PIECE_DATA, len);
	if (len > 0) {
		p->handed = e->out;
		e->out.count = 0;
	}
	for (int i = 0; at < len; i++) {
		size_t n = iov[i].iov_len < len - at ? iov[i].iov_len : len - at;

		memcpy(p->bytes + at, iov[i].iov_base, n);
		at += n;
	}
	return (ssize_t)len;
}

static void end_close_by_owner(struct stream *s)
{
	struct end *e = end_of(s);

	end_close(e, list_is_empty(&e->arrived) ? PIECE_END : PIECE_RESET);
}

static bool is_on_one_host(const struct end *e)
{
	const struct sim_node *a = sim_node_find(e->cable->sim, e->node_id);
	const struct sim_node *b = sim_node_find(e->cable->sim, e->other->node_id);

	return a && b && a->host && a->host == b->host;
}

static int end_pass(struct stream *s, const int *fds, unsigned count)
{
	struct end *e = end_of(s);

	if (!is_on_one_host(e))
		return -EOPNOTSUPP;
	if (e->out.count > 0)
		return -EBUSY;
	return fds_copy(&e->out, fds, count);
}

static unsigned end_take(struct stream *s, int *fds, unsigned cap)
{
	struct end *e = end_of(s);

	e->takes_fds = true;
	return fds_take(&e->in, fds, cap);
}

static const struct stream_ops END_OPS = {
	.recv = end_recv,
	.send = end_send,
	.close = end_close_by_owner,
	.pass = end_pass,
	.take = end_take,
};

static void tell_end(struct notice *n)
{
	struct end *e = container_of(n, struct end, notice);

	assert(e->stream.ready);
	e->stream.ready(&e->stream);
}

static void end_init(struct cable *k, int index, struct loop *l, uint32_t node_id)
{
	struct end *e = &k->ends[index];

	e->stream.ops = &END_OPS;
	e->stream.loop = l;
	e->stream.peer.uid = UINT32_MAX;
	e->stream.peer.is_loopback = true;
	e->cable = k;
	e->other = &k->ends[!index];
	e->node_id = node_id;
	e->notice.tell = tell_end;
	list_init(&e->notice.link);
	list_init(&e->coming);
	list_init(&e->held);
	list_init(&e->arrived);
}

static struct address sim_address(uint32_t node_id, uint32_t port)
{
	struct address a = { .kind = ADDRESS_SIM, .len = sizeof(a.u.sim) };

	a.u.sim.node = node_id;
	a.u.sim.port = port;
	return a;
}

int sim_net_connect(struct loop *l, const struct address *to, struct stream **ret)
{
	struct sim_node *n = sim_loop_of(l)->node;
	struct cable *k;

	if (to->kind != ADDRESS_SIM)
		return -EAFNOSUPPORT;
	k = calloc(1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	k->sim = n->sim;
	k->port = to->u.sim.port;
	k->closing.free = cable_free;
	list_init(&k->queue_link);
	list_insert(&n->sim->cables, &k->link);
	end_init(k, 0, l, n->id);
	end_init(k, 1, NULL, to->u.sim.node);
	k->ends[0].state = END_CONNECTING;
	k->ends[0].stream.peer.address = *to;
	k->ends[1].stream.peer.address = sim_address(n->id, ++n->port_last);
	/* Within a host it is as if it had come through a Unix socket. */
	if (is_on_one_host(&k->ends[1]))
		k->ends[1].stream.peer.address =
			(struct address){ .kind = ADDRESS_UNIX, .len = sizeof(struct sockaddr_un) };
	piece_send(&k->ends[1], PIECE_CONNECT, 0);
	*ret = &k->ends[0].stream;
	return 0;
}

static void tell_acceptor(struct notice *n)
{
	struct acceptor *a = container_of(n, struct acceptor, notice);

	/* accepted() may close the listener. */
	for (int i = 0; i < LOOP_ACCEPTS_PER_TURN && !list_is_empty(&a->queue); i++) {
		struct cable *k = container_of(a->queue.next, struct cable, queue_link);
		struct end *e = &k->ends[1];

		list_remove(&k->queue_link);
		a->queued_count--;
		e->state = END_OPEN;
		e->stream.loop = &a->loop->loop;
		notify(e);
		a->listener->accepted(a->listener, &e->stream);
	}
	if (!list_is_empty(&a->queue))
		notice_put(a->loop, &a->notice);
}

static void acceptor_free(struct closing *c)
{
	free(container_of(c, struct acceptor, closing));
}

int sim_net_listen(struct loop *l, const struct address *at, struct listener *lr)
{
	struct sim_loop *sl = sim_loop_of(l);
	struct sim_node *n = sl->node;
	uint32_t port = at->u.sim.port;
	struct acceptor *a;

	if (at->kind != ADDRESS_SIM)
		return -EAFNOSUPPORT;
	if (at->u.sim.node != n->id)
		return -EADDRNOTAVAIL;
	while (port == 0) {
		n->port_last++;
		port = acceptor_find(n, n->port_last) ? 0 : n->port_last;
	}
	if (acceptor_find(n, port))
		return -EADDRINUSE;
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->notice.tell = tell_acceptor;
	a->closing.free = acceptor_free;
	a->loop = sl;
	a->listener = lr;
	list_init(&a->notice.link);
	list_init(&a->queue);
	list_insert(&sl->acceptors, &a->link);
	lr->address = sim_address(n->id, port);
	lr->acceptor = a;
	return 0;
}

static void acceptor_close(struct acceptor *a)
{
	while (!list_is_empty(&a->queue)) {
		struct cable *k = container_of(a->queue.next, struct cable, queue_link);

		end_close(&k->ends[1], PIECE_RESET);
	}
	list_remove(&a->link);
	list_remove(&a->notice.link);
	list_insert(&a->loop->node->sim->closed, &a->closing.link);
}

void sim_net_unlisten(struct listener *lr)
{
	acceptor_close(lr->acceptor);
	lr->acceptor = NULL;
}

void sim_net_kill(struct sim_node *n)
{
	struct sim *s = n->sim;

	for (struct list *i = n->loops.next; i != &n->loops; i = i->next) {
		struct sim_loop *sl = container_of(i, struct sim_loop, link);

		while (!list_is_empty(&sl->acceptors))
			acceptor_close(container_of(sl->acceptors.next, struct acceptor, link));
	}
	for (struct list *i = s->cables.next, *next = i->next; i != &s->cables;
	     i = next, next = i->next) {
		struct cable *k = container_of(i, struct cable, link);

		for (int j = 0; j < 2; j++) {
			struct end *e = &k->ends[j];

			if (e->node_id == n->id && e->state != END_UNBORN && e->state != END_CLOSED)
				end_close(e, dice_below(&s->net, 2) ? PIECE_END : PIECE_RESET);
		}
	}
}

/* False: it was so before. */
static bool cut_set(struct list *cuts, uint32_t a, uint32_t b, bool is_cut)
{
	struct cut *c = cut_find(cuts, a, b);

	if (is_cut == (c != NULL))
		return false;
	if (c) {
		list_remove(&c->link);
		free(c);
		return true;
	}
	c = calloc(1, sizeof(*c));
	assert(c);
	c->a = a;
	c->b = b;
	list_insert(cuts, &c->link);
	return true;
}

/* What was held arrives, but where another stall still holds it. */
static void cable_flush(struct cable *k)
{
	if (cut_find(&k->sim->stalls, k->ends[0].node_id, k->ends[1].node_id))
		return;
	for (int j = 0; j < 2; j++)
		while (!list_is_empty(&k->ends[j].held))
			piece_arrives(container_of(k->ends[j].held.next, struct piece, link));
}

void sim_stall(struct sim *s, uint32_t a, uint32_t b, bool is_stalled)
{
	assert(!s->turning);
	sim_note(s, b, a);
	if (!cut_set(&s->stalls, a, b, is_stalled) || is_stalled)
		return;
	/* A cable that goes meanwhile is freed after the next step. */
	for (struct list *i = s->cables.next, *next = i->next; i != &s->cables;
	     i = next, next = i->next)
		cable_flush(container_of(i, struct cable, link));
}

void sim_cut(struct sim *s, uint32_t a, uint32_t b, bool is_cut)
{
	sim_note(s, a, b);
	if (!cut_set(&s->cuts, a, b, is_cut) || !is_cut)
		return;
	for (struct list *i = s->cables.next, *next = i->next; i != &s->cables;
	     i = next, next = i->next) {
		struct cable *k = container_of(i, struct cable, link);

		if (!cut_find(&s->cuts, k->ends[0].node_id, k->ends[1].node_id))
			continue;
		for (int j = 0; j < 2; j++) {
			pieces_drop(s, &k->ends[j].coming);
			pieces_drop(s, &k->ends[j].held);
			end_fail(&k->ends[j], -ECONNRESET);
		}
	}
}

static void cuts_free(struct list *cuts)
{
	while (!list_is_empty(cuts)) {
		struct cut *c = container_of(cuts->next, struct cut, link);

		list_remove(&c->link);
		free(c);
	}
}

void sim_net_close(struct sim *s)
{
	while (!list_is_empty(&s->cables)) {
		struct cable *k = container_of(s->cables.next, struct cable, link);

		list_remove(&k->link);
		cable_free(&k->closing);
	}
	cuts_free(&s->cuts);
	cuts_free(&s->stalls);
}
