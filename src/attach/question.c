/* SPDX-License-Identifier: Apache-2.0 */
/*
 * question: what an operation asks its proxy, and the connection that it goes through: made when
 * a question needs one, and again when it was lost.
 */
#include <errno.h>
#include <stdio.h>

#include "attach/handle.h"
#include "base/cleanup.h"
#include "base/due.h"

/* Who finds no room comes again less often: there may be many like him. */
#define PAUSE_NS_FULL 1000000000ull
/* With a quarter of this left, what is said is heard. */
#define AGAIN_NS_MAX 4000000000ull

int op_sleep(struct wadi_op *op, uint64_t ns)
{
	int r = waitq_wait(&op->w->connected, op->w->loop->now_ns + ns);

	return r == -ETIMEDOUT ? 0 : r;
}

int op_pause(struct wadi_op *op, uint64_t *pause_ns, uint64_t most_ns)
{
	uint64_t ns = *pause_ns;

	*pause_ns = 2 * ns < most_ns ? 2 * ns : most_ns;
	return op_sleep(op, ns);
}

static int say_hello(struct wadi_op *op, struct conn *c)
{
	struct wadi *w = op->w;
	struct call call = { 0 };
	struct hello_rep rep;
	struct rcur body;
	struct wcur out = call_body(w->net, &call);
	int r;

	hello_req_put(&out,
		      &(struct hello_req){ .version = PROTOCOL_VERSION,
					   .role = ROLE_JOB,
					   .secret = { (uint8_t *)w->token, strlen(w->token) } });
	call_send(c, &call, MSG_HELLO, 0, &out, NULL, op->due_ns);
	r = call_wait(&call);
	body = call_reply(&call);
	if (r == 0)
		r = hello_rep_get(&body, &rep);
	if (r == 0 && rep.job_name.len > JOB_NAME_BYTES_MAX)
		r = -EBADMSG;
	/* Only metadata gives functions a session. It would do some of what a proxy does. */
	if (r == 0 && rep.session) {
		snprintf(op->why, sizeof(op->why),
			 "%s: metadata is there, not a proxy: its address begins with direct://",
			 w->endpoint);
		r = -EOPNOTSUPP;
	} else if (r == 0) {
		if (w->job != rep.job)
			w->changes = 0;
		w->job = rep.job;
		handle_heard(w, rep.changes);
		memcpy(w->job_name, rep.job_name.ptr, rep.job_name.len);
		w->job_name[rep.job_name.len] = '\0';
	} else {
		call_detail(&call, op->why, sizeof(op->why));
		if (!op->why[0] && (r == -EHOSTUNREACH || r == -ECONNRESET) &&
		    !socket_is_closed(&w->address, op->why, sizeof(op->why)))
			snprintf(op->why, sizeof(op->why), "%s: %s", w->endpoint,
				 w->why_closed ? w->why_closed : "no answer");
	}
	call_end(&call);
	return r;
}

/* The proxy asks nothing of us; the table is for the end of the connection. */
static void conn_closed(struct conn *c)
{
	struct wadi *w = c->owner;

	w->why_closed = conn_why_closed(c);
	w->was_left = conn_was_left(c);
	if (w->conn == c)
		w->conn = NULL;
	if (w->opening == c)
		w->opening = NULL;
	handle_ring_closed(c);
}

static const struct service CLIENT = { .closed = conn_closed, .late = reply_late };

/*
 * -EAGAIN: there is no room at the other end at this moment; -ECONNREFUSED: nobody is there;
 * -ECONNRESET: somebody was, and went.
 */
static int connect_once(struct wadi_op *op)
{
	struct wadi *w = op->w;
	struct stream *s;
	struct conn *c;
	int r = w->direct ? direct_connect(w->direct, &s)
			  : stream_connect(w->loop, &w->address, &s);

	if (r < 0) {
		snprintf(op->why, sizeof(op->why), "%s: %s", w->endpoint, strerror(-r));
		r = local_limit(r);
		return r == -EUSERS || r == -ENOMEM ? r : -ECONNREFUSED;
	}
	c = conn_open(w->net, s, &CLIENT, w);
	if (!c)
		return -ENOMEM;
	w->opening = c;
	w->why_closed = NULL;
	w->was_left = false;
	r = say_hello(op, c);
	c = TAKE_PTR(w->opening); /* NULL: it was closed meanwhile */
	if (r == -EHOSTUNREACH && !c)
		r = -ECONNREFUSED; /* nobody has said it */
	if (r == -ECONNRESET || (r == 0 && !c))
		r = w->was_left ? -ECONNRESET : -EHOSTUNREACH;
	if (r < 0) {
		conn_close(c);
		return r == -EUSERS ? -EAGAIN : r;
	}
	w->conn = c;
	w->connection++;
	w->asked_count = 0;
	w->near.get_count = 0;
	return 0;
}

/*
 * Full means wait: the other end has as many as it may, and somebody may leave in time. Who was
 * there a moment ago, or was killed and has left its socket, is started again and goes on. Where
 * nobody ever was, nobody will be.
 */
static bool may_come_back(const struct wadi *w, int r, bool *was_there)
{
	if (r == -ECONNRESET || (r == -ECONNREFUSED && socket_is_left(&w->address)))
		*was_there = true;
	return r == -EAGAIN || r == -ECONNRESET || (r == -ECONNREFUSED && *was_there);
}

static int connect_in_time(struct wadi_op *op)
{
	const struct loop *l = op->w->loop;
	uint64_t pause_ns = PAUSE_NS_MIN, early_ns = due_early(l->now_ns, op->due_ns);
	bool was_there = false;
	int r = connect_once(op), pause;

	while (may_come_back(op->w, r, &was_there) && l->now_ns + pause_ns < early_ns) {
		pause = op_pause(op, &pause_ns, r == -EAGAIN ? PAUSE_NS_FULL : PAUSE_NS_MAX);
		if (pause < 0)
			return pause;
		op->why[0] = '\0';
		r = connect_once(op);
	}
	if (r == -ECONNRESET || r == -ECONNREFUSED)
		return -EHOSTUNREACH;
	return r == -EAGAIN ? -EUSERS : r;
}

static int get_conn(struct wadi_op *op, int (*connect)(struct wadi_op *op), struct conn **ret)
{
	struct wadi *w = op->w;
	int r = 0;

	while (w->is_saying_hello && r == 0)
		r = waitq_wait(&w->connected, op->due_ns);
	if (r == 0 && !w->conn) {
		w->is_saying_hello = true;
		r = connect(op);
		w->is_saying_hello = false;
		while (waitq_wake(&w->connected))
			;
	}
	*ret = w->conn;
	return r == 0 && !w->conn ? -EHOSTUNREACH : r;
}

int handle_conn(struct wadi_op *op, struct conn **ret)
{
	return get_conn(op, connect_in_time, ret);
}

int64_t handle_lost(struct wadi_op *op)
{
	char why[WHY_BYTES];
	struct conn *c;
	int r;

	memcpy(why, op->why, sizeof(why));
	r = get_conn(op, connect_once, &c);
	if (r == -EIDRM || r == -ENXIO)
		return r;
	memcpy(op->why, why, sizeof(why));
	return -ESTALE;
}

struct wcur question_begin(struct wadi_op *op, struct question *q, uint16_t msg)
{
	*q = (struct question){
		.op = op, .msg = msg, .kept = body_take(op->w->net), .call = { .net = op->w->net }
	};
	return q->kept ? wcur_make(q->kept->u.bytes, BODY_BYTES) : (struct wcur){ .bad = true };
}

/* A connection that has closed is forgotten; the next question opens another. */
static void forget_closed(struct wadi *w)
{
	if (w->conn && w->conn->is_closed)
		w->conn = NULL;
}

/* What a REMOVE_TREE says of versions is of the job that it was made for. */
static bool is_of_any_job(uint16_t msg)
{
	return msg == MSG_STAT || msg == MSG_LIST || msg == MSG_REMOVE || msg == MSG_RENAME ||
	       msg == MSG_WAIT || msg == MSG_WAIT_COUNT;
}

/*
 * The body was made before there was this connection, and that may have brought another job: the
 * one that a store has by itself, when the store was begun anew. Bodies begin with it.
 */
static void say_job(struct question *q, size_t len)
{
	struct wcur w = wcur_make(q->kept->u.bytes, len);

	if (is_of_any_job(q->msg))
		put_u64(&w, q->op->w->job);
}

static void say_it_was_lost(struct wadi_op *op)
{
	snprintf(op->why, sizeof(op->why), "%s: the connection was lost", op->w->endpoint);
}

static int ask_once(struct question *q, const struct wcur *body, const struct payload *payload)
{
	struct wadi_op *op = q->op;
	ptrdiff_t len = wcur_finish(body);
	struct conn *c;
	struct wcur w;
	int r;

	q->call.body = body_give(op->w->net, q->call.body);
	r = len < 0 ? -ENOMEM : handle_conn(op, &c);
	if (r == 0)
		handle_want_ring(op->w);
	if (r < 0)
		return r;
	if (q->sent_ns)
		request_grow_old(q->msg, q->kept->u.bytes, (size_t)len,
				 (op->w->loop->now_ns - q->sent_ns) / 1000000 + 1);
	q->sent_ns = op->w->loop->now_ns;
	say_job(q, (size_t)len);
	w = call_body(op->w->net, &q->call);
	put_bytes(&w, q->kept->u.bytes, (size_t)len);
	call_send(c, &q->call, q->msg, slot_of_id(op->w->job), &w, payload, op->due_ns);
	r = call_wait(&q->call);
	if (r == -ECONNRESET || r == -EHOSTUNREACH || r == -ETIMEDOUT || r == -ECANCELED ||
	    r == -ENOMEM || r == -ENOBUFS)
		op->is_unsure = true;
	op->is_stale = r == -ESTALE;
	if (r < 0)
		call_detail(&q->call, op->why, sizeof(op->why));
	if (r == -ECONNRESET)
		say_it_was_lost(op);
	forget_closed(op->w);
	return r;
}

int question_ask_there(struct question *q, unsigned connection, const struct wcur *body,
		       const struct payload *payload)
{
	const struct wadi *w = q->op->w;
	int r = -ECONNRESET;

	/* On another one its number is that of something else, or of nothing. */
	if (w->connection == connection && w->conn)
		r = ask_once(q, body, payload);
	else
		say_it_was_lost(q->op);
	return op_gone(q->op, r);
}

/* Who is asked answers that who he needs is out of reach: he has waited for that himself. */
static bool was_said(const struct question *q)
{
	return q->call.body && q->call.frame.status == STATUS_UNREACHABLE;
}

/* As due_again() has it for so much: who waits for an hour has time for another question in the
 * last minute. */
static uint64_t last_again_ns(uint64_t begun_ns, uint64_t due_ns)
{
	if (due_ns > begun_ns + AGAIN_NS_MAX)
		begun_ns = due_ns - AGAIN_NS_MAX;
	return due_again(begun_ns, due_ns);
}

int question_ask(struct question *q, const struct wcur *body, const struct payload *payload)
{
	uint64_t pause_ns = PAUSE_NS_MIN, begun_ns = q->op->w->loop->now_ns;
	struct wadi_op *op = q->op;

	for (;;) {
		int r = ask_once(q, body, payload), pause;
		uint64_t again_ns = was_said(q) ? last_again_ns(begun_ns, op->due_ns) : op->due_ns;

		if (r != -ECONNRESET && !(r == -EHOSTUNREACH && op->w->connection > 0))
			return r;
		if (op->w->loop->now_ns + pause_ns >= again_ns)
			return -EHOSTUNREACH;
		pause = op_pause(op, &pause_ns, PAUSE_NS_MAX);
		if (pause < 0)
			return pause;
	}
}

void question_end(struct question *q)
{
	q->kept = body_give(q->op->w->net, q->kept);
	call_end(&q->call);
}
