/* SPDX-License-Identifier: Apache-2.0 */
/*
 * room: an upload whose function writes it piece by piece to where it stays, as reserve.c has it
 * for objects of known length. The segments are the upload's own, leased ahead as for frames.
 */
#include <errno.h>

#include "base/container.h"
#include "proxy/upload.h"

const struct place *upload_place(const struct request *r, uint64_t id)
{
	const struct upload *u = upload_find(r, id);

	return u && u->room.piece.segment ? &u->room : NULL;
}

/* What was written of the room that was given before. */
static int settle(struct request *r, struct upload *u, const struct put_room_req *req)
{
	uint32_t len = u->room.piece.len;
	int x;

	if (!u->room.piece.segment)
		return req->used == 0 && r->payload_len == 0 ? 0 : -EINVAL;
	x = fill_given(u->fill, &u->room, req->used, (struct slice){ r->payload, r->payload_len });
	if (x == 0)
		u->taken -= len - req->used;
	return x;
}

static int give(struct upload *u, const struct put_room_req *req)
{
	int x = fill_give(u->fill, req->part, req->offset, req->len, &u->room);

	if (x == 0)
		u->taken += u->room.piece.len;
	return x;
}

static void answer(struct request *r, struct upload *u, int x, bool is_wanted)
{
	struct reserved_part part = { 0 };
	struct wcur w;

	if (x < 0) {
		request_fail(r, x, "no room to write in%s%s", u->why[0] ? ": " : "", u->why);
		return;
	}
	if (is_wanted) {
		place_tell(&u->room, &part);
		upload_lease_if_needed(u, r->due_ns);
	}
	w = request_answer(r);
	reserved_part_put(&w, &part);
	request_reply(r, &w, NULL);
}

static void room_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct request *r = op->request;
	struct rcur body = request_body(r);
	struct upload *u = op->upload;
	struct put_room_req req;
	int x = put_room_req_get(&body, &req), leased = 0;

	if (x == 0)
		leased = upload_lease(u, r->due_ns);
	if (x == 0)
		x = u->is_closed ? -ECANCELED : give(u, &req);
	answer(r, u, x == -ENOBUFS && leased < 0 ? leased : x, true);
	upload_leave(u);
}

/* More is to be leased first. */
static void give_later(struct request *r, struct upload *u)
{
	struct op *op = op_new(proxy_of(r), r);
	int x = op ? 0 : -ENOMEM;

	if (op) {
		op->upload = u;
		upload_enter(u);
		x = op_begin(op, room_run);
		if (x < 0)
			upload_leave(u);
	}
	if (x < 0)
		op_refuse(op, r, x);
}

void put_room_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct upload *u = NULL;
	struct put_room_req req;
	int x = put_room_req_get(&body, &req);

	if (x == 0)
		u = upload_find(r, req.put);
	if (!u || !u->is_in_place || u->is_busy || u->piece.segment) {
		request_fail(r,
			     !u                ? -ENOENT
			     : !u->is_in_place ? -EOPNOTSUPP
					       : -EINVAL,
			     !u ? "there is no such upload on this connection"
				: "its bytes come in frames");
		return;
	}
	x = u->refused;
	if (x == 0)
		x = settle(r, u, &req);
	if (x == 0 && req.len > 0)
		x = give(u, &req);
	if (x == -ENOBUFS)
		give_later(r, u);
	else
		answer(r, u, x, req.len > 0);
}
