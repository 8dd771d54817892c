/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "base/container.h"
#include "proxy/proxy_priv.h"

/*
 * How long a payload may stand in the way of what is behind it while its place is
 * leased. Then it is read, dropped, and answered AGAIN: the client comes back with
 * PUT_OPEN, which waits for space without any bytes.
 */
#define PLACE_MS 20

static int decode(struct request *r, struct put_req *ret, const char **ret_why)
{
	struct rcur body = request_body(r);
	int x;

	*ret_why = "PUT";
	x = put_req_get(&body, ret);
	if (x == 0)
		x = access_check(r->conn->access, RIGHT_WRITE, r->conn->access->job, ret->path,
				 ret_why);
	if (x == 0)
		x = check_put(ret->path, ret->flags, ret->tier, ret->copies, ret->attributes,
			      ret_why);
	return x;
}

/* The job's open segment is full: lease another, briefly. */
static void place_slowly(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct loop *l = op->proxy->loop;
	int r = piece_reserve(op->proxy->core, op->job, op->request->payload_len, 0,
			      l->now_ns + PLACE_MS * 1000000ull, &op->piece, op->why,
			      sizeof(op->why));

	if (r == 0)
		request_place(op->request, op->piece.ptr, op->piece.len);
	else if (r == -EIDRM || r == -ENXIO)
		request_sink(op->request, r, "%s", op->why);
	else
		request_sink(op->request, -EAGAIN, "%s", op->why);
}

/* serve() or drop() goes on with the op; if it was sunk, nobody does. */
static void placed(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);

	if (!op->piece.segment)
		op_free(op);
	else if (op->has_ended)
		op_free(op); /* dropped meanwhile */
}

void put_place(struct request *r)
{
	struct proxy *p = proxy_of(r);
	struct put_req req;
	const char *why;
	int x = decode(r, &req, &why);
	struct op *op;

	if (x < 0) {
		request_sink(r, x, "%s", why);
		return;
	}
	if (r->payload_len <= INLINE_BYTES_MAX) {
		if (!request_place_own(r))
			request_sink(r, -ENOMEM, "no memory for a value");
		return;
	}
	op = op_new(p, r);
	if (!op) {
		request_sink(r, -ENOMEM, "no memory for a put");
		return;
	}
	x = piece_try(p->core, op->job, r->payload_len, &op->piece);
	if (x == 0) {
		request_place(r, op->piece.ptr, op->piece.len);
		return;
	}
	why = "no buffer for its bytes";
	if (x == -EAGAIN) {
		x = fiber_start(&p->loop->fibers, &op->fiber, place_slowly, placed);
		(void)fiber_refused(x, TOO_MANY_OPS, &why);
	}
	if (x < 0) {
		op_free(op);
		request_sink(r, -EAGAIN, "%s", why);
	}
}

static void commit(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct request *r = op->request;
	struct core *core = op->proxy->core;
	struct committed done;
	struct extent extent;
	struct rcur body = request_body(r);
	struct put_req req;
	int x = put_req_get(&body, &req); /* it was checked before there was a fiber */
	struct how how = HOW_OF(&req);

	if (x == 0 && !op->piece.segment) {
		x = object_commit_value(core, op->job, &how, r->payload, r->payload_len, r->due_ns,
					&done, op->why, sizeof(op->why));
	} else if (x == 0) {
		x = piece_fill(core, &op->piece, r->due_ns, &extent, op->why, sizeof(op->why));
		if (x < 0 && !op->why[0])
			snprintf(op->why, sizeof(op->why), "%s",
				 core_words(core, x,
					    "for the bytes, or the table of their checksums"));
		if (x == 0)
			x = object_commit(core, op->job, &how, &extent, 1, r->due_ns, &done,
					  op->why, sizeof(op->why));
	}
	piece_end(core, &op->piece);
	if (x < 0) {
		request_fail(r, x, "%s", op->why);
	} else {
		struct wcur w = request_answer(r);

		put_rep_put(&w, &(struct put_rep){ .object = done.object,
						   .version = done.version,
						   .changes = done.changes });
		request_reply(r, &w, NULL);
	}
}

void put_serve(struct request *r)
{
	struct op *op = r->payload_len > INLINE_BYTES_MAX ? r->owner : op_new(proxy_of(r), r);
	struct put_req req;
	const char *why;
	int x = r->payload_len > 0 ? 0 : decode(r, &req, &why); /* else put_place() did */

	if (x < 0) {
		op_free(op);
		request_fail(r, x, "%s", why);
		return;
	}
	op_serve(op, r, commit);
}

void put_drop(struct request *r)
{
	struct op *op = r->payload_len > INLINE_BYTES_MAX ? r->owner : NULL;

	if (!op)
		return;
	piece_end(op->proxy->core, &op->piece);
	/* If the fiber that placed it is still about to end, it frees the op. */
	if (op->fiber.run && op->fiber.state != FIBER_ENDED)
		op->has_ended = true;
	else
		op_free(op);
}
