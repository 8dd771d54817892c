/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames between the two ends of a pair within one net. Each takes them out of the other's
 * queue as they are: the body's buffer changes hands, and a payload is copied once, from where
 * it is to where its receiver wants it. What would be read from a stream otherwise, and when,
 * and when it waits, is the same; it is only not written as bytes, and so not checked as bytes.
 */
#include <assert.h>
#include <errno.h>

#include "base/cleanup.h"
#include "base/container.h"
#include "net/conn_priv.h"

/* Not if there are bytes in the stream already, which come first. */
void twin_join(struct conn *c, struct conn *other)
{
	if (c->net != other->net || other->priv->is_connected)
		return;
	c->priv->twin = other;
	other->priv->twin = c;
}

/* The other one hears of it through the stream. */
void twin_part(struct conn *c)
{
	struct conn *other = TAKE_PTR(c->priv->twin);

	if (!other)
		return;
	other->priv->twin = NULL;
	other->priv->taking = NULL;
}

/* One that had its share of this turn goes on in the next. */
void twin_wake(struct conn *c)
{
	if (list_is_empty(&c->priv->again.link))
		loop_follow(c->net->loop, &c->priv->again);
}

static void count(struct net *n, const struct frame *f)
{
	n->counters.sent_bytes += frame_len(f);
	n->counters.received_bytes += frame_len(f);
}

static void taken(struct conn *c, struct sending *s)
{
	count(c->net, &s->frame);
	sending_end(c->priv->twin, s);
}

static void take_reply(struct conn *c, struct sending *s)
{
	struct frame f = s->frame;
	struct body *b = TAKE_PTR(s->body);
	struct payload *owner = TAKE_PTR(s->owner);
	const void *payload = s->payload;

	taken(c, s);
	call_hear(c, &f, b, payload);
	if (owner && owner->sent)
		owner->sent(owner);
}

/* The payload is there, so to place it is to copy it; unless it was taken back, or is gone with
 * its sender. */
void twin_place(struct request *r, void *ptr, uint32_t len)
{
	const struct conn_priv *p = r->conn->priv;
	const struct sending *s = p->taking;

	assert(len <= r->payload_len - r->have);
	if (p->given)
		memcpy(ptr, p->given + r->have, len);
	else if (s && !s->is_filled)
		memcpy(ptr, s->payload + r->have, len);
	r->have += len;
}

/* False: it waits for a place, or is gone. */
static bool find_places(struct conn *c, struct request *r)
{
	struct conn_priv *p = c->priv;

	while (r->refusal == 0 && r->have < r->payload_len) {
		p->is_held = true; /* until request_place() or request_sink() */
		request_find_place(r);
		if (c->is_closed || p->is_held || !p->taking)
			return false;
	}
	return true;
}

static void take_request(struct conn *c)
{
	struct conn_priv *p = c->priv;
	struct request *r = p->incoming;
	bool is_taken_back;

	if (!find_places(c, r))
		return;
	is_taken_back = p->taking->is_filled;
	taken(c, TAKE_PTR(p->taking));
	p->incoming = NULL;
	if (is_taken_back) {
		request_drop(r);
		request_fail(r, -ECANCELED, "taken back by its sender");
	} else {
		request_finish(r);
	}
}

static struct sending *first(const struct conn *c)
{
	struct list *l = &c->priv->queue;

	return list_is_empty(l) ? NULL : container_of(l->next, struct sending, link);
}

static void begin_request(struct conn *c, struct sending *s)
{
	struct conn_priv *p = c->priv;
	struct conn *from = p->twin;
	struct request *r = request_begin(c, &s->frame, TAKE_PTR(s->body));

	if (!r) {
		/* Its body is gone with it, so it must not be sent through the stream, either. */
		if (first(from) == s)
			sending_end(from, s);
		return;
	}
	r->is_from_twin = true;
	s->sent = FRAME_HEADER_SIZE + s->frame.body_len; /* from here on it is taken back */
	p->twin->priv->unsent -= s->sent;
	p->incoming = r;
	p->taking = s;
	take_request(c);
}

ssize_t twin_receive(struct conn *c)
{
	struct conn *from = c->priv->twin;
	bool was_full = conn_is_full(from);
	struct sending *s = first(from);
	size_t len;

	if (!s || !sending_is_in_time(from, s))
		return -EAGAIN;
	len = frame_len(&s->frame);
	from->priv->is_connected = true;
	from->priv->sent_ns = c->net->loop->now_ns;
	if (c->priv->taking)
		take_request(c);
	else if (s->frame.flags & FRAME_REPLY)
		take_reply(c, s);
	else
		begin_request(c, s);
	send_flush(from); /* one that was turned away ends with its queue */
	if (was_full)
		conn_resume(from);
	return (ssize_t)len;
}

/*
 * Nothing may be overtaken (on the way back: twin_answer()), and nobody be asked where the payload
 * goes. Once in each run of a fiber, or one that asks again and again would keep the loop; and so
 * whoever serves cannot come here, either.
 */
bool twin_may_ask(const struct conn *c, const struct frame *f)
{
	const struct conn *to = c->priv->twin;
	const struct fibers *fs = &c->net->loop->fibers;
	int index = message_index(f->msg);

	return to && fs->running && c->net->asked_run != fs->run_count && c->priv->is_connected &&
	       list_is_empty(&c->priv->queue) && conn_may_read(to) &&
	       (f->payload_len == 0 ||
		(index >= 0 && to->service && !to->service->handlers[index].place));
}

static void serve_at_once(struct conn *c, const struct frame *f, struct body *body,
			  const void *payload)
{
	struct conn_priv *p = c->priv;
	struct request *r = request_begin(c, f, body);

	if (!r)
		return;
	r->is_from_twin = true;
	p->incoming = r;
	p->given = payload;
	if (r->refusal == 0 && r->payload_len > 0)
		request_find_place(r);
	p->given = NULL;
	p->incoming = NULL;
	request_finish(r);
}

bool twin_ask(struct conn *c, struct call *call, const struct frame *f,
	      const struct payload *payload)
{
	struct conn_priv *p = c->priv, *to = p->twin->priv;

	c->net->asked_run = c->net->loop->fibers.run_count;
	count(c->net, f);
	p->asking = call;
	to->is_serving = true; /* it goes on here, not in the next turn */
	serve_at_once(p->twin, f, TAKE_PTR(call->body), payload ? payload->ptr : NULL);
	to->is_serving = false;
	return !TAKE_PTR(p->asking);
}

bool twin_answer(struct request *r, const struct frame *f, struct body *body,
		 const struct payload *payload)
{
	struct conn *c = r->conn, *to = c->priv->twin;
	struct call *call = to ? to->priv->asking : NULL;

	/* What was sent before it comes before it; the clock is looked at where frames are sent. */
	if (!call || f->call != to->priv->next_call || r->until_ns ||
	    !list_is_empty(&c->priv->queue))
		return false;
	to->priv->asking = NULL;
	count(c->net, f);
	call_take(call, f, body, payload ? payload->ptr : NULL);
	return true;
}
