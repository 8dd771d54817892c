/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/container.h"
#include "base/node.h"
#include "net/conn_priv.h"

struct request *request_new(struct conn *c, const struct frame *f, struct body *body)
{
	struct net *n = c->net;
	struct request *r;
	uint32_t ms = f->timeout_ms ? f->timeout_ms : TIMEOUT_MS_DEFAULT;

	r = spares_take(&n->spare_requests, sizeof(*r));
	if (!r) {
		body_give(n, body);
		return NULL;
	}
	/* All but the words: they are written before they are read. */
	memset(r, 0, offsetof(struct request, why));
	r->why[0] = '\0';
	r->conn = c;
	r->frame = *f;
	r->body = body ? body : body_take(n);
	if (!r->body) {
		node_free(r);
		return NULL;
	}
	if (ms > TIMEOUT_MS_MAX)
		ms = TIMEOUT_MS_MAX;
	r->due_ns = n->loop->now_ns + (uint64_t)ms * 1000000;
	list_init(&r->link);
	list_insert(&c->priv->requests, &r->link);
	c->priv->request_count++;
	n->counters.request_count++;
	return r;
}

void request_free(struct request *r)
{
	struct conn *c = r->conn;
	struct net *n = c->net;
	bool was_full = c->priv->request_count >= CONN_REQUESTS_MAX;

	body_give(n, r->body);
	body_give(n, r->answer);
	body_give(n, r->own_payload);
	list_remove(&r->link);
	c->priv->request_count--;
	spares_give(&n->spare_requests, r, sizeof(*r));
	if (c->is_closed)
		conn_unref_if_done(c);
	else if (was_full)
		conn_resume(c);
}

void request_drop(struct request *r)
{
	if (r->is_placed && r->handler->drop)
		r->handler->drop(r);
}

void request_end(struct request *r)
{
	request_drop(r);
	request_free(r);
}

struct rcur request_body(const struct request *r)
{
	return rcur_make(r->body->u.bytes, r->frame.body_len);
}

uint32_t request_payload_left(const struct request *r)
{
	return r->is_in_ring || r->is_from_twin ? r->payload_len - r->have
						: intake_payload_left(&r->conn->priv->intake);
}

void request_place(struct request *r, void *ptr, uint32_t len)
{
	struct conn_priv *p = r->conn->priv;

	if (!r->is_placed)
		r->payload = ptr;
	r->is_placed = true;
	if (r->conn->is_closed) {
		request_end(r);
		return;
	}
	if (r->is_in_ring) {
		request_ring_place(r, ptr, len);
		return;
	}
	assert(p->incoming == r);
	p->is_held = false;
	if (r->is_from_twin)
		twin_place(r, ptr, len);
	else
		intake_place(&p->intake, ptr, len);
	conn_resume(r->conn);
}

bool request_place_own(struct request *r)
{
	assert(r->payload_len <= BODY_BYTES && !r->own_payload);
	r->own_payload = body_take(r->conn->net);
	if (r->own_payload)
		request_place(r, r->own_payload->u.bytes, r->payload_len);
	return r->own_payload != NULL;
}

void request_sink(struct request *r, int err, const char *format, ...)
{
	struct conn_priv *p = r->conn->priv;
	va_list args;

	va_start(args, format);
	if (format)
		vsnprintf(r->why, sizeof(r->why), format, args);
	va_end(args);
	r->refusal = err;
	r->closed = NULL; /* its handler has done with it */
	if (r->conn->is_closed) {
		request_end(r);
		return;
	}
	if (r->is_in_ring) {
		request_ring_go_on(r);
		return;
	}
	if (p->incoming != r)
		return; /* it is refused before its payload begins */
	p->is_held = false;
	conn_resume(r->conn);
}

void request_unplace(struct request *r, int err, const char *why)
{
	struct conn_priv *p = r->conn->priv;

	/* What came through a ring, or from a twin, was copied when it was placed. */
	if (!r->conn->is_closed && p->incoming == r && p->intake.state == INTAKE_PAYLOAD)
		conn_into_sink(r->conn);
	r->refusal = err;
	snprintf(r->why, sizeof(r->why), "%s", why);
	request_drop(r);
	r->is_placed = false;
}

void conn_unplace(struct conn *c, int err, const char *why)
{
	struct request *r = c->priv->incoming;

	if (!c->is_closed && r && r->is_placed && !c->priv->is_held)
		request_unplace(r, err, why);
}

struct wcur request_answer(struct request *r)
{
	if (!r->answer)
		r->answer = body_take(r->conn->net);
	return r->answer ? wcur_make(r->answer->u.bytes, BODY_BYTES) : (struct wcur){ .bad = true };
}

/* The frame that answers a request, or a parked call: then `r` is NULL. */
static struct sending *answer(struct conn *c, struct request *r, const struct frame *what,
			      struct body *body, uint32_t body_len, uint16_t status,
			      struct payload *payload)
{
	struct frame f = { .msg = what->msg,
			   .flags = FRAME_REPLY,
			   .status = status,
			   .slot = what->slot,
			   .call = what->call,
			   .trace = what->trace,
			   .body_len = body_len };
	struct sending *s = NULL;

	if (payload)
		f.payload_len = (uint32_t)payload->len;
	if (c->is_closed ||
	    (r && r->is_in_ring && request_ring_reply(r, &f, body, payload ? payload->ptr : NULL)))
		body_give(c->net, body);
	else if (!r || !twin_answer(r, &f, body, payload))
		s = send_frame(c, &f, body, payload ? payload->ptr : NULL);
	if (s && payload)
		sending_keep(c, s, payload->kept);
	if (s)
		s->owner = payload;
	else if (payload && payload->sent)
		payload->sent(payload);
	return s;
}

void request_reply(struct request *r, const struct wcur *body, struct payload *payload)
{
	ptrdiff_t len = wcur_finish(body);
	struct sending *s;

	if (len < 0) {
		if (payload && payload->sent)
			payload->sent(payload);
		request_fail(r, -ENOMEM, "no memory for an answer");
		return;
	}
	r->closed = NULL; /* to send it may be the end of the connection */
	s = answer(r->conn, r, &r->frame, TAKE_PTR(r->answer), (uint32_t)len, STATUS_OK, payload);
	if (s)
		s->until_ns = r->until_ns;
	request_free(r);
}

static uint32_t put_detail(struct body *b, const char *format, va_list args)
{
	char text[512] = "";
	struct wcur w;

	if (!b)
		return 0;
	if (format)
		vsnprintf(text, sizeof(text), format, args);
	w = wcur_make(b->u.bytes, BODY_BYTES);
	error_rep_put(&w, &(struct error_rep){ { (uint8_t *)text, strlen(text) } });
	return (uint32_t)wcur_finish(&w);
}

void request_fail(struct request *r, int err, const char *format, ...)
{
	uint32_t len;
	va_list args;

	(void)request_answer(r);
	va_start(args, format);
	len = put_detail(r->answer, format, args);
	va_end(args);
	r->closed = NULL;
	answer(r->conn, r, &r->frame, TAKE_PTR(r->answer), len, (uint16_t)status_of(err), NULL);
	request_free(r);
}

void request_park(struct request *r, struct parked *p)
{
	*p = (struct parked){
		.conn = r->conn, .call = r->frame.call, .msg = r->frame.msg, .slot = r->frame.slot
	};
	list_init(&p->link);
	list_insert(&r->conn->priv->parked, &p->link);
	if (r->is_in_ring && !r->conn->is_closed)
		request_ring_leave(r);
	request_free(r);
}

void parked_drop(struct parked *p)
{
	list_remove(&p->link);
	p->conn = NULL;
}

void parked_move(struct parked *from, struct parked *to)
{
	*to = (struct parked){
		.conn = from->conn, .call = from->call, .msg = from->msg, .slot = from->slot
	};
	list_init(&to->link);
	list_insert(&from->link, &to->link);
	parked_drop(from);
}

struct parked *conn_next_parked(struct conn *c)
{
	struct list *l = &c->priv->parked;

	return list_is_empty(l) ? NULL : container_of(l->next, struct parked, link);
}

static void parked_send(struct parked *p, const struct wcur *body, struct body *b, uint16_t status,
			struct payload *payload)
{
	struct frame f = { .msg = p->msg, .slot = p->slot, .call = p->call };
	struct conn *c = p->conn;
	ptrdiff_t len = wcur_finish(body);

	parked_drop(p);
	if (len < 0) {
		body_give(c->net, b);
		conn_fail(c, "no memory for an answer");
		if (payload && payload->sent)
			payload->sent(payload);
		return;
	}
	answer(c, NULL, &f, b, (uint32_t)len, status, payload);
}

/* The cursor's buffer is a body from the pool, so the body is where the cursor starts. */
struct wcur parked_answer(struct parked *p)
{
	struct body *b = body_take(p->conn->net);

	return b ? wcur_make(b->u.bytes, BODY_BYTES) : (struct wcur){ .bad = true };
}

void parked_reply_with(struct parked *p, const struct wcur *body, struct payload *payload)
{
	struct body *b = body->start ? container_of(body->start, struct body, u.bytes[0]) : NULL;

	parked_send(p, body, b, STATUS_OK, payload);
}

void parked_reply(struct parked *p, const struct wcur *body)
{
	parked_reply_with(p, body, NULL);
}

void parked_fail(struct parked *p, int err, const char *format, ...)
{
	struct body *b = body_take(p->conn->net);
	struct wcur w = { .bad = !b };
	va_list args;

	if (b) {
		va_start(args, format);
		w = wcur_make(b->u.bytes, BODY_BYTES);
		w.p += put_detail(b, format, args);
		va_end(args);
	}
	parked_send(p, &w, b, (uint16_t)status_of(err), NULL);
}
