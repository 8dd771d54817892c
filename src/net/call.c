/* SPDX-License-Identifier: Apache-2.0 */
#include "net/conn_priv.h"

#include <assert.h>
#include <errno.h>

#include "base/cleanup.h"
#include "base/container.h"

#define WORD_NS_MIN 10000000ull
#define WORD_NS_MAX 250000000ull

/* An answer that is there is read in one turn, or in a few if there is much before it. */
#define OVERDUE_TURNS 4

struct wcur call_body(struct net *n, struct call *c)
{
	c->net = n;
	c->body = body_take(n);
	return c->body ? wcur_make(c->body->u.bytes, BODY_BYTES) : (struct wcur){ .bad = true };
}

/* What ends a call in a later turn than its beginning: a timer that is due. */
static void end_soon(struct call *c, int result)
{
	c->result = result;
	timer_start(c->net->loop, &c->timer, c->net->loop->now_ns);
}

/* Nobody refers to it any more: neither the connection's table nor its receiving half. */
static void detach(struct call *c)
{
	struct conn_priv *p;

	if (!c->conn)
		return;
	p = c->conn->priv;
	htable_remove(&p->calls, &c->by_id);
	p->call_count--;
	if (!c->is_in_ring)
		conn_ring_count(c->conn, -1);
	if (c->sending)
		send_abandon(c->conn, c->sending);
	if (p->incoming_call == c) {
		/* What is still to come of its reply goes where nobody looks, or to who hears of
		 * late ones. */
		p->incoming_call = NULL;
		if (p->conn->service && p->conn->service->late) {
			p->late = TAKE_PTR(c->body);
			p->late_frame = c->frame;
		} else if (p->intake.state == INTAKE_BODY) {
			p->intake.body = p->conn->net->junk;
		}
		if (p->intake.state == INTAKE_PAYLOAD)
			conn_into_sink(p->conn);
	}
	c->conn = NULL;
}

static void end(struct call *c)
{
	timer_stop(c->net->loop, &c->timer);
	detach(c);
	c->is_pending = false;
	if (c->done)
		c->done(c);
	else
		waitq_wake(&c->ended);
}

static void is_due(struct timer *t)
{
	struct call *c = container_of(t, struct call, timer);

	/*
	 * Timers run before anything is read. Who slept past the deadline (a program between
	 * two calls of the library, a process that was stopped) has perhaps not read an answer
	 * that is there: some more turns, which do not wait.
	 */
	if (c->conn && c->overdue_turns < OVERDUE_TURNS) {
		c->overdue_turns++;
		timer_start(c->net->loop, t, c->net->loop->now_ns);
		return;
	}
	if (c->conn)
		c->result = -ETIMEDOUT;
	end(c);
}

static uint32_t left_ms(uint64_t now_ns, uint64_t due_ns)
{
	uint64_t ms = due_ns > now_ns ? (due_ns - now_ns + 999999) / 1000000 : 1;

	return ms < TIMEOUT_MS_MAX ? (uint32_t)ms : TIMEOUT_MS_MAX;
}

/*
 * The peer answers by `due_ns`, if only to say why it could not do better ("no room", and
 * whose). That word is worth a moment more than the bare fact that time is up.
 */
static uint64_t word_due_ns(uint64_t now_ns, uint64_t due_ns)
{
	uint64_t left = due_ns > now_ns ? due_ns - now_ns : 0, more = left / 8;

	if (more < WORD_NS_MIN)
		more = WORD_NS_MIN;
	if (more > WORD_NS_MAX)
		more = WORD_NS_MAX;
	return due_ns < UINT64_MAX - more ? due_ns + more : UINT64_MAX;
}

/* Its frame. False: it ends soon, unsent. */
static bool begin(struct conn *conn, struct call *c, const struct wcur *body,
		  const struct payload *payload, uint64_t due_ns, struct frame *f)
{
	struct net *n = c->net;
	ptrdiff_t len = wcur_finish(body);

	waitq_init(&c->ended, &n->loop->fibers);
	c->timer = (struct timer){ .fire = is_due };
	c->result = 0;
	c->room_len = 0;
	c->conn = NULL;
	c->sending = NULL;
	c->is_in_ring = false;
	c->is_pending = true;
	c->overdue_turns = 0;
	if (len < 0 || !conn || conn->is_closed || htable_reserve(&conn->priv->calls) < 0) {
		c->body = body_give(n, c->body);
		end_soon(c, len < 0 || (conn && !conn->is_closed) ? -ENOMEM : -ECONNRESET);
		return false;
	}
	f->call = ++conn->priv->next_call;
	f->timeout_ms = left_ms(n->loop->now_ns, due_ns);
	f->body_len = (uint32_t)len;
	f->payload_len = payload ? (uint32_t)payload->len : 0;
	assert(!payload || payload->len <= FRAME_PAYLOAD_MAX);
	n->counters.call_count++;
	return true;
}

/* From here on its answer, its deadline or the end of the connection end it. */
static void expect(struct conn *conn, struct call *c, uint32_t id, uint64_t due_ns)
{
	struct loop *l = c->net->loop;

	c->conn = conn;
	htable_add(&conn->priv->calls, &c->by_id, id);
	conn->priv->call_count++;
	timer_start(l, &c->timer, word_due_ns(l->now_ns, due_ns));
}

static void submit(struct conn *conn, struct call *c, const struct frame *f,
		   const struct payload *payload, uint64_t due_ns)
{
	struct body *b = TAKE_PTR(c->body);

	expect(conn, c, f->call, due_ns);
	if (conn_ring_call(conn, f, b, payload ? payload->ptr : NULL)) {
		c->is_in_ring = true;
		body_give(c->net, b);
		return;
	}
	conn_ring_count(conn, 1);
	c->sending = send_frame(conn, f, b, payload ? payload->ptr : NULL);
	/* If there was no memory, the connection is closing and ends all its calls. */
	if (c->sending)
		c->sending->call = c;
}

void call_send(struct conn *conn, struct call *c, uint16_t msg, uint16_t slot,
	       const struct wcur *body, const struct payload *payload, uint64_t due_ns)
{
	struct frame f = { .msg = msg, .slot = slot };

	if (begin(conn, c, body, payload, due_ns, &f))
		submit(conn, c, &f, payload, due_ns);
}

int call_ask(struct conn *conn, struct call *c, uint16_t msg, uint16_t slot,
	     const struct wcur *body, const struct payload *payload, uint64_t due_ns)
{
	struct frame f = { .msg = msg, .slot = slot };

	if (!begin(conn, c, body, payload, due_ns, &f))
		return call_wait(c);
	if (!twin_may_ask(conn, &f)) {
		submit(conn, c, &f, payload, due_ns);
	} else if (!twin_ask(conn, c, &f, payload)) {
		/* It is served and not answered yet, unless that was the end of the connection. */
		if (conn->is_closed)
			end_soon(c, -ECONNRESET);
		else
			expect(conn, c, f.call, due_ns);
	}
	return call_wait(c);
}

struct call *call_find(struct conn *c, uint32_t id)
{
	struct hlink *l = htable_first(&c->priv->calls, id);

	return l ? container_of(l, struct call, by_id) : NULL;
}

void call_arrived(struct call *c, int result)
{
	c->result = result;
	end(c);
}

void call_take(struct call *call, const struct frame *f, struct body *body, const void *payload)
{
	call->body = body;
	call->frame = *f;
	if (f->payload_len > 0 && f->payload_len <= call->room_cap) {
		memcpy(call->room, payload, f->payload_len);
		call->room_len = f->payload_len;
	}
	call_answered(call);
}

void call_hear(struct conn *c, const struct frame *f, struct body *body, const void *payload)
{
	struct call *call = call_find(c, f->call);
	struct rcur r;

	if (call) {
		call_take(call, f, body, payload);
		return;
	}
	if (c->service && c->service->late && f->status == STATUS_OK) {
		r = rcur_make(body ? body->u.bytes : NULL, f->body_len);
		c->service->late(c, f, &r);
	}
	body_give(c->net, body);
}

/* The connection is gone. Their ends are told in the next turn: nothing comes back in from below.
 */
void calls_end_all(struct conn *c)
{
	struct htable *t = &c->priv->calls;
	struct hlink *l;
	size_t at;

	at = 0;
	while ((l = htable_any(t, &at)) != NULL) {
		struct call *call = container_of(l, struct call, by_id);

		htable_remove(t, l);
		if (c->priv->incoming_call == call)
			c->priv->incoming_call = NULL;
		if (call->sending)
			call->sending->call = NULL;
		call->sending = NULL;
		call->conn = NULL;
		end_soon(call, c->priv->is_connected ? -ECONNRESET : -EHOSTUNREACH);
	}
	htable_fini(t);
}

int call_wait(struct call *c)
{
	while (c->is_pending) {
		int r = waitq_wait(&c->ended, UINT64_MAX);

		if (r == -ECANCELED) {
			call_cancel(c);
			return r;
		}
	}
	return c->result;
}

void call_extend(struct call *c, uint64_t due_ns)
{
	if (!c->is_pending || !c->conn)
		return;
	c->overdue_turns = 0;
	timer_start(c->net->loop, &c->timer, word_due_ns(c->net->loop->now_ns, due_ns));
}

void call_cancel(struct call *c)
{
	if (!c->is_pending)
		return;
	timer_stop(c->net->loop, &c->timer);
	detach(c);
	c->is_pending = false;
	c->result = -ECANCELED;
}

struct rcur call_reply(const struct call *c)
{
	return c->body && c->frame.body_len > 0 ? rcur_make(c->body->u.bytes, c->frame.body_len)
						: rcur_make(NULL, 0);
}

const char *call_detail(const struct call *c, char *buf, size_t cap)
{
	struct rcur r = call_reply(c);
	struct error_rep e;

	buf[0] = '\0';
	if (c->result < 0 && c->body && c->frame.status != STATUS_OK &&
	    error_rep_get(&r, &e) == 0) {
		size_t n = e.detail.len < cap - 1 ? e.detail.len : cap - 1;

		memcpy(buf, e.detail.ptr, n);
		buf[n] = '\0';
	}
	return buf;
}

void call_end(struct call *c)
{
	assert(!c->is_pending);
	c->body = body_give(c->net, c->body);
}
