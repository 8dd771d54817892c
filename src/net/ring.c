/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames through memory. A slot of the ring has a whole frame: header, body, payload. What
 * does not fit, or finds no slot, goes through the stream; an answer that does not fit
 * leaves FRAME_MORE in its slot, and comes through the stream.
 */
#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "base/container.h"
#include "base/node.h"
#include "net/conn_priv.h"

/* Its own memory: one that is closed in the middle of its bell is freed with the connection. */
struct conn_ring {
	struct conn *conn;
	struct bell bell;
	bool is_callers;
	int event;                 /* the caller's: rings at the server */
	unsigned stream_calls;     /* likewise: calls that are answered through the stream */
	struct ring_caller caller; /* one or the other */
	struct ring_server server;
	bool is_put_off;   /* the server's: what is there waits until the peer has read */
	struct task again; /* likewise: goes on with those that have a place by now */
	struct task wake;  /* the other end, once for all that was written for it */
};

static struct conn_ring *ring_of(struct bell *b)
{
	return container_of(b, struct conn_ring, bell);
}

static void again(struct task *t);
static void wake(struct task *t);

static struct conn_ring *ring_new(struct conn *c, bool is_callers)
{
	struct conn_ring *g = node_alloc(sizeof(*g));

	if (g)
		*g = (struct conn_ring){
			.conn = c,
			.is_callers = is_callers,
			.event = -1,
			.again = { .run = again },
			.wake = { .run = wake },
		};
	if (g)
		list_init(&g->again.link);
	if (g)
		list_init(&g->wake.link);
	return g;
}

void conn_ring_close(struct conn *c)
{
	struct conn_ring *g = c->priv->ring;

	if (!g)
		return;
	/* Who sleeps over an answer would find it only when he next looks at the socket. */
	if (!list_is_empty(&g->wake.link) && !g->is_callers &&
	    ring_wake_caller(&g->server) == RING_ON_FUTEX)
		bell_ring_word(&g->server.memory->caller);
	task_stop(&g->wake);
	bell_close(&g->bell);
	task_stop(&g->again);
	if (g->event >= 0)
		close(g->event);
	g->event = -1;
}

void conn_ring_free(struct conn *c)
{
	c->priv->ring = node_free(c->priv->ring);
}

/* A header that was copied out. */
static bool frame_is_right(const uint8_t *header, uint32_t len, struct frame *ret)
{
	struct rcur r = rcur_make(header, FRAME_HEADER_SIZE);

	return frame_get(&r, ret) == 0 && frame_len(ret) == len;
}

/* The serving end. */

/* The payload is there, so to place it is to copy it. */
void request_ring_place(struct request *r, void *ptr, uint32_t len)
{
	assert(len <= r->payload_len - r->have);
	ring_read(&r->conn->priv->ring->server, r->ring_slot,
		  FRAME_HEADER_SIZE + r->frame.body_len + r->have, ptr, len);
	r->have += len;
	request_ring_go_on(r);
}

/* Never from within place(), or whoever found the place: nothing comes back in from below. */
void request_ring_go_on(struct request *r)
{
	r->is_waiting = false;
	if (!r->is_stepping)
		loop_defer(r->conn->net->loop, &r->conn->priv->ring->again);
}

bool request_ring_is_ours(const struct request *r)
{
	return r->is_in_ring && r->is_placing && !r->is_waiting && !r->is_stepping;
}

static void step(struct request *r)
{
	r->is_stepping = true;
	while (r->refusal == 0 && r->have < r->payload_len) {
		r->is_waiting = true;
		request_find_place(r);
		if (r->is_waiting)
			break;
	}
	r->is_stepping = false;
	r->is_placing = r->is_waiting;
	if (!r->is_placing)
		request_finish(r);
}

/* Some that waited for a place have it. */
static void again(struct task *t)
{
	struct conn *c = container_of(t, struct conn_ring, again)->conn;
	struct list *l = c->priv->requests.next;

	while (!c->is_closed && l != &c->priv->requests) {
		struct request *r = container_of(l, struct request, link);

		l = l->next;
		if (!r->is_placing || r->is_waiting)
			continue;
		step(r);
		l = c->priv->requests.next; /* any of them may have gone */
	}
}

static void serve_message(struct conn_ring *g, unsigned slot, uint32_t len)
{
	struct conn *c = g->conn;
	uint8_t header[FRAME_HEADER_SIZE];
	struct request *r;
	struct frame f;

	if (len >= sizeof(header))
		ring_read(&g->server, slot, 0, header, sizeof(header));
	if (len < sizeof(header) || !frame_is_right(header, len, &f) || f.flags) {
		conn_fail(c, "not our protocol: a message in its ring");
		return;
	}
	r = request_begin(c, &f, NULL);
	if (!r)
		return;
	r->is_in_ring = true;
	r->ring_slot = slot;
	ring_read(&g->server, slot, FRAME_HEADER_SIZE, r->body->u.bytes, f.body_len);
	step(r);
}

static bool server_peek(struct bell *b)
{
	return ring_has_next(&ring_of(b)->server);
}

/*
 * As many as there are slots, and then it is others' turn. A slot is free again before the answer
 * that did not fit it has been read from the stream, so it is not the slots that bound those.
 */
static bool server_look(struct bell *b)
{
	struct conn_ring *g = ring_of(b);
	unsigned slot = 0;
	uint32_t len = 0;

	g->is_put_off = conn_is_full(g->conn);
	if (g->is_put_off) {
		g->conn->priv->is_stopped = true;
		bell_rest(b);
	}
	for (int n = 0; n < RING_SLOTS && !g->conn->is_closed && !conn_is_full(g->conn); n++) {
		int r = ring_next(&g->server, &slot, &len);

		if (r == 0)
			break;
		if (r < 0)
			conn_fail(g->conn, "not our protocol: an entry of its ring");
		else
			serve_message(g, slot, len);
	}
	return true;
}

void conn_ring_go_on(struct conn *c)
{
	struct conn_ring *g = c->priv->ring;

	if (!g || !g->is_put_off || c->is_closed || conn_is_full(c))
		return;
	g->is_put_off = false;
	bell_listen(&g->bell);
}

static bool server_sleep(struct bell *b, bool is_on_word)
{
	(void)is_on_word;
	return ring_server_sleep(&ring_of(b)->server);
}

static void server_awake(struct bell *b)
{
	ring_server_awake(&ring_of(b)->server);
}

/* A job's connections have one share of what may be unread. */
static int pass(struct conn *c, const int *fds, unsigned count)
{
	c->priv->stream->share = c->access ? c->access->job : 0;
	return stream_pass(c->priv->stream, fds, count);
}

int conn_serve_ring(struct conn *c, struct ring_memory *m, int fd)
{
	struct conn_ring *g = c->priv->ring ? NULL : ring_new(c, false);
	int fds[2] = { fd }, r;

	if (!g)
		return c->priv->ring ? -EEXIST : -ENOMEM;
	ring_server_init(&g->server, m);
	g->bell.peek = server_peek;
	g->bell.look = server_look;
	g->bell.sleep = server_sleep;
	g->bell.awake = server_awake;
	r = bell_open(c->net->loop, &g->bell, &fds[1]);
	if (r == 0)
		r = pass(c, fds, 2);
	if (r < 0) {
		bell_close(&g->bell);
		node_free(g);
		return r;
	}
	c->priv->ring = g;
	return 0;
}

/* An event for it comes through the stream: any frame will do, and one that nobody asked for is
 * read and dropped. */
static void ring_at_caller(struct conn_ring *g, enum ring_sleep how)
{
	if (how == RING_ON_FUTEX)
		bell_ring_word(&g->server.memory->caller);
	else if (how == RING_ON_EVENT)
		(void)send_frame(g->conn, &(struct frame){ .msg = MSG_RING, .flags = FRAME_REPLY },
				 NULL, NULL);
}

static void wake(struct task *t)
{
	struct conn_ring *g = container_of(t, struct conn_ring, wake);

	if (!g->is_callers)
		ring_at_caller(g, ring_wake_caller(&g->server));
	else if (ring_wake_server(&g->caller) != RING_AWAKE)
		bell_ring_event(g->event);
}

static void complete(struct request *r, const struct frame *f, const struct body *b,
		     const void *payload)
{
	struct conn_ring *g = r->conn->priv->ring;
	uint32_t len = frame_write(ring_place(&g->server, r->ring_slot), f, b, payload);

	r->is_in_ring = false;
	ring_complete(&g->server, r->ring_slot, len);
	loop_finish(r->conn->net->loop, &g->wake);
}

void request_ring_leave(struct request *r)
{
	complete(r,
		 &(struct frame){ .msg = r->frame.msg,
				  .flags = FRAME_REPLY | FRAME_MORE,
				  .call = r->frame.call },
		 NULL, NULL);
}

bool request_ring_reply(struct request *r, const struct frame *f, const struct body *b,
			const void *payload)
{
	if (frame_len(f) > RING_SLOT_BYTES) {
		request_ring_leave(r);
		return false;
	}
	/* The clock is asked, not the loop: we may have been stopped since its turn began. */
	if (r->until_ns && node_now_ns() >= *r->until_ns)
		conn_fail(r->conn, "what was being sent may no longer be served");
	else
		complete(r, f, b, payload);
	return true;
}

/* The calling end. */

/* Who waits for nothing else may sleep on the ring's word. */
static void choose_sleep(struct conn_ring *g)
{
	g->bell.word = g->stream_calls == 0 ? &g->caller.memory->caller : NULL;
}

void conn_ring_count(struct conn *c, int more)
{
	struct conn_ring *g = c->priv->ring;

	if (!g || !g->is_callers)
		return;
	g->stream_calls += (unsigned)more;
	choose_sleep(g);
}

static void hear_answer(struct conn *c, const struct frame *f, const uint8_t *body)
{
	struct body *b = body_take(c->net);

	if (!b) {
		conn_fail(c, "no memory for a reply");
		return;
	}
	memcpy(b->u.bytes, body, f->body_len);
	call_hear(c, f, b, body + f->body_len);
}

static void hear_message(struct conn_ring *g, const uint8_t *bytes, uint32_t len)
{
	struct conn *c = g->conn;
	uint8_t header[FRAME_HEADER_SIZE];
	struct call *call;
	struct frame f;

	if (len >= sizeof(header))
		memcpy(header, bytes, sizeof(header));
	if (len < sizeof(header) || !frame_is_right(header, len, &f) || !(f.flags & FRAME_REPLY)) {
		conn_fail(c, "not our protocol: an answer in the ring");
		return;
	}
	if (!(f.flags & FRAME_MORE)) {
		hear_answer(c, &f, bytes + sizeof(header));
		return;
	}
	call = call_find(c, f.call);
	if (call) {
		call->is_in_ring = false;
		conn_ring_count(c, 1);
	}
}

static bool caller_peek(struct bell *b)
{
	return ring_has_answer(&ring_of(b)->caller);
}

static bool caller_look(struct bell *b)
{
	struct conn_ring *g = ring_of(b);
	unsigned slot = 0;
	uint32_t len = 0;
	int r = 1;

	for (int n = 0; n < RING_SLOTS && r == 1 && !g->conn->is_closed; n++) {
		r = ring_reap(&g->caller, &slot, &len);
		if (r == 1) {
			hear_message(g, ring_answer(&g->caller, slot), len);
			ring_give(&g->caller, slot);
		}
	}
	if (r < 0)
		conn_fail(g->conn, "not our protocol: an entry of the ring");
	if (!g->conn->is_closed && g->caller.out == 0)
		bell_rest(b);
	return true;
}

static bool caller_sleep(struct bell *b, bool is_on_word)
{
	return ring_caller_sleep(&ring_of(b)->caller, is_on_word ? RING_ON_FUTEX : RING_ON_EVENT);
}

static void caller_awake(struct bell *b)
{
	ring_caller_awake(&ring_of(b)->caller);
}

int conn_call_ring(struct conn *c, struct ring_memory *m, int event)
{
	struct conn_ring *g = c->priv->ring || c->is_closed ? NULL : ring_new(c, true);
	int r = g ? 0 : c->priv->ring ? -EEXIST : -ENOMEM;

	if (g) {
		ring_caller_init(&g->caller, m);
		g->stream_calls = c->priv->call_count;
		g->bell.peek = caller_peek;
		g->bell.look = caller_look;
		g->bell.sleep = caller_sleep;
		g->bell.awake = caller_awake;
		g->bell.asleep = RING_ON_FUTEX;
		choose_sleep(g);
		r = bell_open(c->net->loop, &g->bell, NULL);
	}
	if (r < 0) {
		node_free(g);
		close(event);
		return r;
	}
	g->event = event;
	c->priv->ring = g;
	return 0;
}

bool conn_ring_call(struct conn *c, const struct frame *f, const struct body *b,
		    const void *payload)
{
	struct conn_ring *g = c->priv->ring;
	bool is_first;
	uint8_t *place;
	int slot;

	/* Pieces of one object must not overtake each other, and most are too long for a slot;
	 * descriptors come through the stream. */
	if (!g || !g->is_callers || frame_len(f) > RING_SLOT_BYTES || f->msg == MSG_PUT_DATA ||
	    f->msg == MSG_EXPORT || f->msg == MSG_INDEX || f->msg == MSG_RESERVE_MAP)
		return false;
	is_first = g->caller.out == 0;
	slot = ring_take(&g->caller, &place);
	if (slot < 0)
		return false;
	ring_submit(&g->caller, (unsigned)slot, frame_write(place, f, b, payload));
	loop_finish(c->net->loop, &g->wake);
	if (is_first)
		bell_listen(&g->bell);
	return true;
}

int conn_pass_fds(struct conn *c, const int *fds, unsigned count)
{
	int r = c->is_closed ? -ECONNRESET : 0;

	for (unsigned i = 0; i < count; i++)
		r = fds[i] < 0 ? fds[i] : r;
	if (r == 0)
		r = pass(c, fds, count);
	for (unsigned i = 0; i < count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return r;
}

unsigned conn_take_fds(struct conn *c, int *fds, unsigned cap)
{
	return c->is_closed ? 0 : stream_take(c->priv->stream, fds, cap);
}
