/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "base/container.h"
#include "base/node.h"
#include "proxy/index.h"

struct reading *reading_find(const struct request *r, uint64_t id)
{
	struct native *n = native_of(r);

	for (struct list *l = n->readings.next; l != &n->readings; l = l->next) {
		struct reading *g = container_of(l, struct reading, link);

		if (g->id == id)
			return g;
	}
	return NULL;
}

/* It is the connection's no more; the reference is the caller's. */
static void reading_close(struct native *n, struct reading *g)
{
	list_remove(&g->link);
	n->reading_count--;
}

static void reading_unref(struct reading *g)
{
	if (g && --g->user_count == 0)
		spares_give(&g->proxy->spare_readings, g, sizeof(*g));
}

static struct reading *reading_new(struct proxy *p)
{
	struct reading *g = spares_take(&p->spare_readings, sizeof(*g));

	if (!g)
		return NULL;
	memset(g, 0, offsetof(struct reading, found.u)); /* the bytes of a value are many */
	g->proxy = p;
	g->user_count = 1;
	list_init(&g->link);
	return g;
}

void reading_serve(struct reading *g, struct request *r, fiber_fn *run)
{
	struct op *op = op_new(proxy_of(r), r);

	if (op) {
		op->reading = g;
		g->user_count++;
	}
	op_serve_in_turn(op, r, run);
}

int serve_begin(struct op *op)
{
	struct request *r = op->request;
	int x = core_serve(op->proxy->core, op->job, r->due_ns, &r->until_ns);

	op->is_serving = x == 0;
	if (x == 0 && !r->conn->is_closed && native_of(r)->is_over)
		x = -EIDRM;
	return x;
}

void serve_end(struct op *op)
{
	if (op->is_serving)
		core_served(op->proxy->core, op->job);
	op->is_serving = false;
}

/* The bytes are on their way, and with them what they were read from. */
static void span_sent(struct payload *payload)
{
	struct op *op = container_of(payload, struct op, span.payload);

	span_end(&op->span);
	list_remove(&op->sending);
	serve_end(op);
	answer_leave(op);
	op->is_sending = false;
	if (op->has_ended)
		op_free(op);
}

void reply_span(struct op *op, const struct wcur *w)
{
	op_turn_over(op);
	op->span.payload.sent = span_sent;
	op->span.payload.kept = sizeof(*op) + sizeof(*op->reading);
	op->is_sending = true;
	op->conn = op->request->conn;
	list_insert(&op->proxy->sendings, &op->sending);
	request_reply(op->request, w, &op->span.payload);
}

/* `segment`: what is sent out of it; 0: what was fetched from other stores. */
static void cut_stuck(struct proxy *p, uint64_t segment)
{
	struct list *l = p->sendings.next;

	while (l != &p->sendings) {
		struct op *op = container_of(l, struct op, sending);
		const struct span *s = &op->span;

		l = l->next;
		if ((segment ? !s->is_pinned || s->segment != segment : s->buffer_len == 0) ||
		    op->conn->is_closed || conn_stuck_ns(op->conn) < PEER_STUCK_MS * 1000000ull)
			continue;
		/* All that it sends leaves the list, so begin again. */
		conn_close(op->conn);
		l = p->sendings.next;
	}
}

void proxy_segment_wanted(struct proxy *p, uint64_t job, uint64_t segment, bool is_short)
{
	index_segment_wanted(p, job, segment, is_short);
	cut_stuck(p, segment);
}

void proxy_buffers_wanted(struct proxy *p)
{
	cut_stuck(p, 0);
}

#define TOO_MANY_WAIT                                                                           \
	"in this proxy " TEXT_OF(GETS_WAITING_MAX) " gets wait for their object, which is its " \
						   "limit; WAIT for it, and get it then"

/* Waits until there is something to find. */
static int wait_for(struct op *op, struct slice path, uint64_t due_ns)
{
	struct proxy *p = op->proxy;
	struct ask a;
	struct wcur w;
	int r;

	if (p->waiting_get_count >= GETS_WAITING_MAX) {
		snprintf(op->why, sizeof(op->why), "%s", TOO_MANY_WAIT);
		return -EUSERS;
	}
	p->waiting_get_count++;
	w = ask_begin(p->core, &a, MSG_WAIT, slot_of_id(op->job));
	op_turn_over(op);
	wait_req_put(&w, &(struct wait_req){ .job = op->job, .path = path });
	r = ask_wait(&a, &w, NULL, due_ns);
	ask_end(&a);
	p->waiting_get_count--;
	return r == -ETIMEDOUT ? -ENOENT : r;
}

/* What the core has no words for. */
static const char *why_not_read(const struct op *op, int x)
{
	switch (x) {
	case -EIO:
		return "they do not have the checksum that they were put with; put them again";
	case -ECONNRESET:
	case -EHOSTUNREACH:
		return "the store that has its bytes does not answer; get it again";
	case -EREMOTEIO:
		return "the store that had its bytes is gone; put it again";
	case -EUSERS:
		return "this proxy has as many answers that nobody takes as it may; try again";
	case -ESTALE:
		return "the bytes that were held are gone";
	default:
		return core_words(op->proxy->core, x, "");
	}
}

/*
 * What it was about is not where it was. Replaced or removed meanwhile: what is there now? Or its
 * store has begun anew, and metadata will soon know: after the first time there is a pause, which
 * doubles.
 */
static int look_again(struct op *op, struct reading *g, uint64_t *pause_ns)
{
	struct core *core = op->proxy->core;

	object_release(core, &g->found, false);
	answer_leave(op);
	if (*pause_ns == 0) {
		*pause_ns = CORE_PAUSE_NS;
		return 0;
	}
	op_turn_over(op);
	return core_pause(core, pause_ns, op->request->due_ns);
}

static int find_and_read(struct op *op, struct reading *g, const struct get_req *req)
{
	struct core *core = op->proxy->core;
	uint64_t due_ns = op->request->due_ns;
	uint64_t wait_due_ns = op->proxy->loop->now_ns + req->wait_ms * 1000000ull;
	uint32_t take = req->take && req->take < FRAME_PAYLOAD_MAX ? req->take : FRAME_PAYLOAD_MAX;
	uint32_t near_from = core_has_pool(core) ? req->near_from : 0;
	uint64_t pause_ns = 0;
	bool may_view = req->is_view;
	int x;

	if (req->len && req->len < take)
		take = (uint32_t)req->len;
	/* So that there is a hold, whatever comes of it. */
	if (near_from && near_from <= take)
		take = near_from - 1;
	for (;;) {
		uint64_t want;
		uint32_t len;

		x = get_find(op, g, req, take, &may_view);
		if (x == 0 && g->is_in_index)
			return 0;
		if (x == -ENOENT && op->proxy->loop->now_ns < wait_due_ns) {
			x = wait_for(op, req->path, wait_due_ns < due_ns ? wait_due_ns : due_ns);
			if (x == 0)
				continue;
		}
		if (x < 0)
			return x;
		want = get_wanted(req, g->found.stat.len);
		len = want < take ? (uint32_t)want : take;
		if (near_from && want >= near_from)
			len = 0;
		x = answer_enter(op, len);
		if (x == 0)
			x = object_read(core, &g->found, req->offset, len, due_ns, &op->span);
		if (x != -ESTALE || op->proxy->loop->now_ns >= due_ns)
			break;
		x = look_again(op, g, &pause_ns);
		if (x < 0)
			return x;
	}
	if (x < 0) {
		object_release(core, &g->found, false);
		answer_leave(op);
	}
	return x;
}

void get_give_back(struct op *op)
{
	serve_end(op);
	span_end(&op->span);
	answer_leave(op);
	op_turn_over(op);
}

static void get_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct request *r = op->request;
	struct rcur body = request_body(r);
	struct reading *g = op->reading;
	struct get_req req;
	struct get_rep rep;
	bool goes_on;
	struct wcur w;
	int x = get_req_get(&body, &req);

	if (x == 0)
		x = find_and_read(op, g, &req);
	if (x == 0) {
		x = serve_begin(op);
		if (x == 0 && r->conn->is_closed)
			x = -ECANCELED;
		if (x == 0 && g->is_in_index)
			index_renew(native_of(r)->reader->index);
		if (x < 0)
			object_release(op->proxy->core, &g->found, false);
	}
	if (x < 0) {
		get_give_back(op);
		request_fail(r, x, "%s", op->why[0] ? op->why : why_not_read(op, x));
		return;
	}
	if (g->found.hold && op->span.payload.len >= get_wanted(&req, g->found.stat.len) &&
	    g->found.stat.reads_left == NONE_32) {
		/* All of it is in this answer, so nothing needs to be held. */
		object_release(op->proxy->core, &g->found, false);
		g->found.hold = 0;
	}
	/* A small value is whole in what was found, without a hold. */
	goes_on = !g->is_in_index &&
		  (g->found.hold || op->span.payload.len < get_wanted(&req, g->found.stat.len));
	if (goes_on && native_of(r)->reading_count >= CONN_READS_MAX) {
		object_release(op->proxy->core, &g->found, false);
		get_give_back(op);
		request_fail(r, -EUSERS, "a connection has at most %u reads that go on",
			     CONN_READS_MAX);
		return;
	}
	if (goes_on) {
		g->id = ++native_of(r)->next_id;
		g->user_count++;
		native_of(r)->reading_count++;
		list_insert(&native_of(r)->readings, &g->link);
	}
	rep = (struct get_rep){
		.hold = g->id,
		.is_in_index = g->is_in_index,
		.object = g->found.stat.object,
		.version = g->found.stat.version,
		.len = g->found.stat.len,
		.age_ms = g->found.stat.age_ms,
		.ttl_left_ms = g->found.stat.ttl_left_ms,
		.reads_left = g->found.stat.reads_left,
		.extent_count = g->found.stat.extent_count,
		.tier = g->found.stat.tier,
		.attributes = g->found.stat.attributes,
	};
	w = request_answer(r);
	get_rep_put(&w, &rep);
	reply_span(op, &w);
}

void get_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct get_req req;
	const char *why = "GET";
	struct op *op;
	int x = get_req_get(&body, &req);

	if (x == 0)
		x = access_check(r->conn->access, RIGHT_READ, r->conn->access->job, req.path, &why);
	if (x == 0 && req.path.len > 0 && !path_is_valid(req.path, &why))
		x = -EINVAL;
	if (x < 0) {
		request_fail(r, x, "%s", why);
		return;
	}
	op = op_new(proxy_of(r), r);
	if (op)
		op->reading = reading_new(op->proxy);
	if (op && !op->reading)
		op_refuse(op, r, -ENOMEM);
	else
		op_serve_in_turn(op, r, get_run);
}

static void get_on_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct request *r = op->request;
	struct rcur body = request_body(r);
	struct get_on_req req;
	struct wcur w;
	int x = get_on_req_get(&body, &req);

	if (req.take > FRAME_PAYLOAD_MAX)
		req.take = FRAME_PAYLOAD_MAX;
	if (x == 0)
		x = answer_enter(op, req.take);
	if (x == 0)
		x = object_read(op->proxy->core, &op->reading->found, req.offset, req.take,
				r->due_ns, &op->span);
	if (x == 0)
		x = serve_begin(op);
	if (x < 0) {
		get_give_back(op);
		request_fail(r, x, "%s", why_not_read(op, x));
		return;
	}
	w = request_answer(r);
	get_on_rep_put(&w, &(struct get_on_rep){});
	reply_span(op, &w);
}

void get_on_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct get_on_req req;
	struct reading *g = NULL;

	if (get_on_req_get(&body, &req) == 0)
		g = reading_find(r, req.hold);
	if (!g) {
		request_fail(r, -ENOENT, "nothing is held under this number");
		return;
	}
	reading_serve(g, r, get_on_run);
}

static void get_end_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct wcur w;
	struct rcur body = request_body(op->request);
	struct found *found = &op->reading->found;
	struct get_end_req req;
	int x = get_end_req_get(&body, &req);

	/* Who copied by itself hears whether the bytes were still to be served when it had them. */
	if (x == 0 && op->reading->is_near)
		x = serve_begin(op);
	if (x == 0 && req.is_confirmed)
		x = object_release_wait(op->proxy->core, found, true, op->request->due_ns);
	else
		object_release(op->proxy->core, found, false);
	if (x < 0) {
		request_fail(op->request, x, NULL);
	} else {
		w = request_answer(op->request);
		request_reply(op->request, &w, NULL);
	}
	serve_end(op);
}

/* The last that is heard of it, and nobody waits for what comes of that. */
static void reading_drop(struct native *n, struct reading *g)
{
	reading_close(n, g);
	object_release(g->proxy->core, &g->found, false);
	reading_unref(g);
}

static void get_end_unconfirmed(struct request *r, struct reading *g)
{
	struct wcur w = request_answer(r);

	reading_drop(native_of(r), g);
	request_reply(r, &w, NULL);
}

/*
 * Who confirms, and is refused, still has what he held, and may say the same again, or give it
 * back. Who gives it back has done so.
 */
void get_end_serve(struct request *r)
{
	struct native *n = native_of(r);
	struct rcur body = request_body(r);
	struct get_end_req req;
	struct reading *g = NULL;
	struct op *op;
	int x = -ENOMEM;

	if (get_end_req_get(&body, &req) == 0)
		g = reading_find(r, req.hold);
	if (!g) {
		request_fail(r, -ENOENT, "nothing is held under this number");
		return;
	}
	if (!req.is_confirmed && !g->is_near) {
		get_end_unconfirmed(r, g);
		return;
	}
	op = op_new(proxy_of(r), r);
	if (op)
		x = op_begin(op, get_end_run);
	if (x < 0) {
		op_refuse(op, r, x);
		if (!req.is_confirmed)
			reading_drop(n, g);
		return;
	}
	reading_close(n, g);
	op->reading = g; /* with the connection's reference */
}

void readings_close(struct proxy *p, struct native *n)
{
	while (!list_is_empty(&n->readings)) {
		struct reading *g = container_of(n->readings.next, struct reading, link);

		reading_close(n, g);
		object_release(p->core, &g->found, false);
		reading_unref(g);
	}
}

void readings_fini(struct proxy *p)
{
	spares_fini(&p->spare_readings, sizeof(struct reading));
}

void reading_leave(struct op *op)
{
	reading_unref(op->reading);
	op->reading = NULL;
}
