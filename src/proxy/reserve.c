/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reserve: room that a function of this host writes itself (core/place.c), if it may map segments
 * of its job (who.h), and may put. Then it sums what it wrote, and says what it is.
 */
#include <errno.h>
#include <stdio.h>

#include "base/container.h"
#include "base/node.h"
#include "proxy/proxy_priv.h"

struct reserved {
	struct list link; /* of its connection */
	struct native *native;
	struct core *core;
	uint64_t id;
	bool is_busy;      /* it is being put: whoever does frees it */
	struct timer held; /* for long enough, if others wait for space */
	unsigned count, cap;
	struct place places[];
};

/* What is held for longer than it may be is looked at so often. */
#define LOOK_MS 1000

/* So many bytes have sums in one message. */
#define BYTES_MAX ((uint64_t)SUMS_BYTES / 4 * CHECK_PIECE)

#define TOO_MANY "a connection has room for at most " TEXT_OF(CONN_RESERVED_MAX) " objects"

static struct reserved *reserved_find(const struct request *r, uint64_t id)
{
	struct native *n = native_of(r);

	for (struct list *l = n->reserved.next; l != &n->reserved; l = l->next) {
		struct reserved *v = container_of(l, struct reserved, link);

		if (v->id == id)
			return v;
	}
	return NULL;
}

static void reserved_free(struct reserved *v)
{
	if (!v)
		return;
	for (unsigned i = 0; i < v->cap; i++)
		place_end(v->core, &v->places[i]);
	node_free(v);
}

/* Nobody finds it any more. */
static void reserved_close(struct reserved *v)
{
	list_remove(&v->link);
	timer_stop(core_loop(v->core), &v->held);
	v->native->reserved_count--;
	if (!v->is_busy)
		reserved_free(v);
}

/* Who was stopped for so long finds it STALE when he puts it. */
static void held_for_long(struct timer *t)
{
	struct reserved *v = container_of(t, struct reserved, held);

	if (places_are_short(v->core))
		reserved_close(v);
	else
		timer_start(core_loop(v->core), t,
			    core_loop(v->core)->now_ns + LOOK_MS * 1000000ull);
}

void reserved_drop(struct request *r, uint64_t id)
{
	struct reserved *v = reserved_find(r, id);

	if (v)
		reserved_close(v);
}

void reserved_close_all(struct native *n)
{
	while (!list_is_empty(&n->reserved))
		reserved_close(container_of(n->reserved.next, struct reserved, link));
}

void native_author_close(struct conn *c)
{
	struct native *n = c->state;
	struct proxy *p = c->owner;

	reserved_close_all(n);
	if (n->author)
		author_over(p->core, c->access->job, n->author);
}

int author_check(const struct request *r, const char **ret_why)
{
	const struct access *a = r->conn->access;
	int x = near_check(r, ret_why);

	return x < 0 ? x : access_check(a, RIGHT_WRITE, a->job, (struct slice){ 0 }, ret_why);
}

uint64_t native_author(const struct request *r)
{
	struct native *n = native_of(r);

	if (!n->author)
		n->author = node_random_u64() >> 1 | 1;
	return n->author;
}

/* Room. */

static void payload_sent(struct payload *p)
{
	node_free(p);
}

static struct payload *parts_of(const struct reserved *v)
{
	size_t len = (size_t)v->count * RESERVED_PART_SIZE;
	struct payload *p = node_alloc(sizeof(*p) + len);
	struct wcur w;

	if (!p)
		return NULL;
	*p = (struct payload){
		.ptr = p + 1, .len = len, .sent = payload_sent, .kept = sizeof(*p) + len
	};
	w = wcur_make(p + 1, len);
	for (unsigned i = 0; i < v->count; i++) {
		struct reserved_part part;

		place_tell(&v->places[i], &part);
		reserved_part_put(&w, &part);
	}
	return p;
}

static int reserve(struct op *op, struct reserved **ret, struct payload **ret_parts)
{
	struct request *r = op->request;
	struct rcur body = request_body(r);
	struct want want = { .job = op->job, .author = native_author(r) };
	struct reserve_req req;
	struct reserved *v;
	unsigned cap;
	int x = reserve_req_get(&body, &req);

	if (x < 0)
		return x;
	cap = req.len <= PLACE_BYTES_MAX ? 1 : EXTENTS_MAX;
	*ret = v = node_alloc(sizeof(*v) + cap * sizeof(v->places[0]));
	if (!v)
		return -ENOMEM;
	v->core = op->proxy->core;
	want.need = req.len;
	want.age_ms = req.age_ms;
	x = places_reserve(v->core, &want, r->due_ns, v->places, cap, op->why, sizeof(op->why));
	if (x < 0)
		return x;
	v->cap = v->count = (unsigned)x;
	/* Others have waited, too. */
	if (native_of(r)->reserved_count >= CONN_RESERVED_MAX) {
		snprintf(op->why, sizeof(op->why), "%s", TOO_MANY);
		return -EUSERS;
	}
	*ret_parts = r->conn->is_closed ? NULL : parts_of(v);
	return *ret_parts ? 0 : r->conn->is_closed ? -ECANCELED : -ENOMEM;
}

static void reserve_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct request *r = op->request;
	struct native *n = native_of(r);
	struct reserved *v = NULL;
	struct payload *parts = NULL;
	struct wcur w;
	int x = reserve(op, &v, &parts);

	if (x < 0) {
		reserved_free(v);
		request_fail(r, x, "%s", op->why);
		return;
	}
	v->native = n;
	v->id = ++n->next_id;
	n->reserved_count++;
	list_init(&v->link);
	list_insert(&n->reserved, &v->link);
	v->held = (struct timer){ .fire = held_for_long };
	timer_start(op->proxy->loop, &v->held, op->proxy->loop->now_ns + HOLD_MS_MAX * 1000000ull);
	w = request_answer(r);
	reserve_rep_put(&w, &(struct reserve_rep){ .put = v->id, .count = (uint16_t)v->count });
	request_reply(r, &w, parts);
}

void reserve_serve(struct request *r)
{
	struct native *n = native_of(r);
	struct rcur body = request_body(r);
	const char *why = "not a RESERVE";
	struct reserve_req req;
	int x = reserve_req_get(&body, &req);

	if (x == 0)
		x = author_check(r, &why);
	if (x == 0 && (req.len == 0 || req.len > BYTES_MAX)) {
		why = "there is room for 1 byte to 64 MiB at once";
		x = -EMSGSIZE;
	}
	if (x == 0 && n->reserved_count >= CONN_RESERVED_MAX) {
		why = TOO_MANY;
		x = -EUSERS;
	}
	if (x < 0) {
		request_fail(r, x, "%s", why);
		return;
	}
	op_serve(op_new(proxy_of(r), r), r, reserve_run);
}

static const struct place *reserved_place(const struct request *r,
					  const struct reserve_map_req *req)
{
	const struct reserved *v = reserved_find(r, req->put);

	if (!v)
		return req->index == 0 ? upload_place(r, req->put) : NULL;
	return req->index < v->count ? &v->places[req->index] : NULL;
}

void reserve_map_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct reserve_map_req req;
	const struct place *p = NULL;
	uint32_t size = 0;
	struct wcur w;
	int fd = -1, x = reserve_map_req_get(&body, &req);

	if (x == 0)
		p = reserved_place(r, &req);
	if (x == 0)
		x = fd = p ? place_export(proxy_of(r)->core, p, &size) : -ESTALE;
	if (x >= 0)
		x = conn_pass_fds(r->conn, &fd, 1);
	if (x < 0) {
		request_fail(r, x == -EMFILE || x == -ENFILE || x == -EBUSY ? -EUSERS : x,
			     "no descriptor of this room");
		return;
	}
	w = request_answer(r);
	reserve_map_rep_put(&w, &(struct reserve_map_rep){ .size = size });
	request_reply(r, &w, NULL);
}

/* And what was written there. */

static int decode_put(struct request *r, struct reserve_put_req *ret, const char **ret_why)
{
	struct rcur body = request_body(r);
	int x = reserve_put_req_get(&body, ret);

	*ret_why = "not a RESERVE_PUT";
	if (x == 0)
		x = access_check(r->conn->access, RIGHT_WRITE, r->conn->access->job, ret->path,
				 ret_why);
	if (x == 0)
		x = check_put(ret->path, ret->flags, ret->tier, ret->copies, ret->attributes,
			      ret_why);
	return x;
}

/* The sums of one place after the other. */
static int fill(struct op *op, struct extent *ret)
{
	struct request *r = op->request;
	struct rcur sums = rcur_make(r->payload, r->payload_len);

	for (unsigned i = 0; i < op->reserved->count; i++) {
		struct place *p = &op->reserved->places[i];
		size_t len = place_sums_len(p);
		const uint8_t *of = rcur_take(&sums, len);
		int x = of ? place_fill(op->proxy->core, p, (struct slice){ of, len }, r->due_ns,
					&ret[i], op->why, sizeof(op->why))
			   : -EINVAL;

		if (x < 0)
			return x;
	}
	return rcur_finish(&sums) == 0 ? 0 : -EINVAL;
}

static void put_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct request *r = op->request;
	struct core *core = op->proxy->core;
	struct reserved *v = op->reserved;
	struct committed done;
	struct extent *extents = node_alloc(v->count * sizeof(*extents));
	struct reserve_put_req req;
	const char *why = "";
	struct wcur w;
	int x = decode_put(r, &req, &why);
	struct how how = HOW_OF(&req);

	snprintf(op->why, sizeof(op->why), "%s", why);
	if (x == 0)
		x = extents ? fill(op, extents) : -ENOMEM;
	if (x == 0)
		x = object_commit(core, op->job, &how, extents, v->count, r->due_ns, &done, op->why,
				  sizeof(op->why));
	node_free(extents);
	reserved_free(v);
	if (x < 0) {
		request_fail(r, x, "%s", op->why);
		return;
	}
	w = request_answer(r);
	reserve_put_rep_put(&w, &(struct reserve_put_rep){ .object = done.object,
							   .version = done.version,
							   .changes = done.changes });
	request_reply(r, &w, NULL);
}

void reserve_put_serve(struct request *r)
{
	struct reserve_put_req req;
	const char *why;
	struct reserved *v = NULL;
	int x = decode_put(r, &req, &why);
	struct op *op;

	if (x == 0 && !(v = reserved_find(r, req.put))) {
		why = "nothing is reserved under this number";
		x = -ESTALE;
	}
	if (x < 0) {
		request_fail(r, x, "%s", why);
		return;
	}
	op = op_new(proxy_of(r), r);
	x = op ? op_begin(op, put_run) : -ENOMEM;
	if (x < 0) {
		op_refuse(op, r, x);
		return;
	}
	/* The fiber has not begun. From here on it is the fiber's, whatever becomes of it. */
	op->reserved = v;
	v->is_busy = true;
	reserved_close(v);
}
