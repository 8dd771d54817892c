/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upload: an object in many frames. The bytes come within the room that the answers
 * give, so there is a place for each when it arrives; a fiber of the upload leases
 * ahead, and answers that would have no room to give wait for it.
 */
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/container.h"
#include "base/due.h"
#include "base/node.h"
#include "proxy/upload.h"

/*
 * A payload whose place must be leased first keeps what is behind it waiting no longer than this:
 * long enough for a store that does not answer, and then for another one.
 */
#define PLACE_NS (3 * ASK_QUIET_MS * 1000000ull)

#define TOO_MANY \
	"a connection has at most " TEXT_OF(CONN_UPLOADS_MAX) " objects that come in pieces"

/* A PUT_DATA whose answer waits for room. It is its request's owner. */
struct waiter {
	struct list link;
	struct request *request;
	struct upload *upload;
	uint64_t need; /* how much more may come, at least */
	uint64_t begun_ns;
	bool was_put_off;
};

struct upload *upload_find(const struct request *r, uint64_t id)
{
	struct native *n = native_of(r);

	for (struct list *l = n->uploads.next; l != &n->uploads; l = l->next) {
		struct upload *u = container_of(l, struct upload, link);

		if (u->id == id)
			return u;
	}
	return NULL;
}

static void upload_free_if_done(struct upload *u)
{
	if (!u->is_closed || u->is_leasing || u->user_count > 0)
		return;
	piece_end(u->proxy->core, &u->piece);
	place_end(u->proxy->core, &u->room);
	fill_close(u->fill);
	node_free(u);
}

void upload_enter(struct upload *u)
{
	u->user_count++;
	u->is_busy = true;
}

/* Who waits for another thing than has come waits on. */
static void wake_all(struct upload *u)
{
	while (waitq_wake(&u->idle))
		;
}

static void upload_rest(struct upload *u)
{
	u->is_busy = false;
	wake_all(u);
}

static void upload_unref(struct upload *u)
{
	u->user_count--;
	upload_free_if_done(u);
}

void upload_leave(struct upload *u)
{
	upload_rest(u);
	upload_unref(u);
}

static bool has_all(const struct upload *u)
{
	return u->len_hint > 0 && u->taken >= u->len_hint;
}

/*
 * May so much more come? Of an object whose length is known, what is leased for it is
 * enough, even if odd pieces may waste so much of it that no number can be promised: who
 * needs more then asks for it.
 */
static bool has_room(const struct upload *u, uint64_t need)
{
	return fill_room(u->fill) >= u->taken + need || (need == 1 && fill_is_ahead(u->fill));
}

static void answer_room(struct request *r, const struct upload *u)
{
	struct wcur w = request_answer(r);

	put_data_rep_put(&w, &(struct put_data_rep){ .room = fill_room(u->fill) });
	request_reply(r, &w, NULL);
}

/* Its request is its owner's again. */
static struct request *waiter_end(struct waiter *w)
{
	struct request *r = w->request;

	list_remove(&w->link);
	r->closed = NULL;
	node_free(w);
	return r;
}

/*
 * A lease that was begun for an earlier piece has an earlier end: who may wait longer
 * than that gets another one, once, so that a lease that fails at once does not go on
 * failing; and if it would not fail too late.
 */
static bool put_off(struct waiter *w, int result)
{
	uint64_t due_ns = w->request->due_ns;

	if (result >= 0 || w->was_put_off || due_ns <= w->upload->due_ns ||
	    w->upload->proxy->loop->now_ns >= due_again(w->begun_ns, due_ns))
		return false;
	w->was_put_off = true;
	return true;
}

static struct waiter *waiter_of(struct list *l)
{
	return container_of(l, struct waiter, link);
}

static void answer_waiting(struct upload *u, int result)
{
	while (!list_is_empty(&u->waiting)) {
		struct waiter *w = waiter_of(u->waiting.next);
		struct request *r;

		if (result == 0 && !has_room(u, w->need))
			return;
		if (!u->is_closed && put_off(w, result))
			return;
		r = waiter_end(w);
		if (result < 0)
			request_fail(r, result, "%s", u->why);
		else
			answer_room(r, u);
	}
}

/* Their bytes are there, and nobody wants room for more. */
static void answer_all(struct upload *u)
{
	while (!list_is_empty(&u->waiting))
		answer_room(waiter_end(waiter_of(u->waiting.next)), u);
}

static void waiter_closed(struct request *r)
{
	request_fail(waiter_end(r->owner), -ECANCELED, NULL);
}

static int lease(struct upload *u, uint64_t due_ns)
{
	uint64_t age_ms = (u->proxy->loop->now_ns - u->begun_ns) / 1000000;

	return fill_ahead(u->fill, age_ms, due_ns, u->why, sizeof(u->why));
}

static void lease_ahead(struct fiber *self)
{
	struct upload *u = container_of(self, struct upload, leaser);

	u->lease_result = lease(u, u->due_ns);
}

/* There was less than was asked for, and what another lease says would be heard too late. */
static bool is_out_of_room(const struct upload *u)
{
	const struct waiter *w;

	if (u->is_closed || u->lease_result <= 0 || list_is_empty(&u->waiting))
		return false;
	w = waiter_of(u->waiting.next);
	return u->proxy->loop->now_ns >= due_again(w->begun_ns, w->request->due_ns);
}

static void refuse_room(struct upload *u)
{
	bool is_quota = u->lease_result == FILL_SHORT_OF_QUOTA;

	snprintf(u->why, sizeof(u->why), "%s there were %llu bytes for it, and no more%s",
		 is_quota ? "of the quota of its job" : "of dram",
		 (unsigned long long)fill_room(u->fill),
		 is_quota ? "" : "; remove objects, end jobs, or raise --memory");
	answer_waiting(u, is_quota ? -EDQUOT : -ENOSPC);
}

static void leaser_ended(struct fiber *self)
{
	struct upload *u = container_of(self, struct upload, leaser);

	u->is_leasing = false;
	wake_all(u);
	if (!u->is_closed)
		answer_waiting(u, u->lease_result < 0 ? u->lease_result : 0);
	if (is_out_of_room(u))
		refuse_room(u);
	if (!u->is_closed && !list_is_empty(&u->waiting))
		upload_lease_if_needed(u, waiter_of(u->waiting.next)->request->due_ns);
	upload_free_if_done(u);
}

void upload_lease_if_needed(struct upload *u, uint64_t due_ns)
{
	const char *why;
	int x;

	if (u->is_leasing || u->is_closed || fill_is_ahead(u->fill))
		return;
	u->due_ns = due_ns;
	u->is_leasing = true;
	u->why[0] = '\0';
	x = fiber_start(&u->proxy->loop->fibers, &u->leaser, lease_ahead, leaser_ended);
	if (x < 0) {
		u->is_leasing = false;
		x = fiber_refused(x, TOO_MANY_OPS, &why);
		snprintf(u->why, sizeof(u->why), "%s", why);
		u->due_ns = UINT64_MAX; /* nobody is put off */
		answer_waiting(u, x);
	}
}

/* How much room a frame without bytes asks for. */
static uint32_t need_of(const struct request *r)
{
	struct rcur body = request_body(r);
	struct put_data_req req = { 0 };

	(void)put_data_req_get(&body, &req); /* it was decoded before */
	return req.need > 0 && req.need < TRANSFER_PIECE ? req.need : TRANSFER_PIECE;
}

/* Answers when more may come, or all has come; a frame without bytes, when what it needs may. */
static void answer_data(struct request *r, struct upload *u)
{
	uint64_t need = r->payload_len > 0 ? 1 : need_of(r), due_ns = r->due_ns;
	struct waiter *w;

	if (has_all(u) && r->payload_len > 0) {
		answer_room(r, u);
		return;
	}
	if (r->payload_len == 0)
		fill_needs(u->fill, need);
	if (has_room(u, need)) {
		answer_room(r, u);
		upload_lease_if_needed(u, due_ns);
		return;
	}
	w = node_alloc(sizeof(*w));
	if (!w) {
		request_fail(r, -ENOMEM, "no memory to wait for room");
		return;
	}
	*w = (struct waiter){
		.request = r, .upload = u, .need = need, .begun_ns = u->proxy->loop->now_ns
	};
	r->owner = w;
	r->closed = waiter_closed;
	list_init(&w->link);
	list_insert(&u->waiting, &w->link);
	upload_lease_if_needed(u, r->due_ns);
}

static struct upload *upload_new(struct op *op, const struct put_open_req *req)
{
	struct upload *u = node_alloc(sizeof(*u));

	if (!u)
		return NULL;
	*u = (struct upload){ .proxy = op->proxy,
			      .len_hint = req->len_hint,
			      .req = *req,
			      .begun_ns = op->proxy->loop->now_ns - req->age_ms * 1000000 };
	memcpy(u->path, req->path.ptr, req->path.len);
	memcpy(u->attributes, req->attributes.ptr, req->attributes.len);
	u->req.path.ptr = u->path;
	u->req.attributes.ptr = u->attributes;
	list_init(&u->link);
	list_init(&u->waiting);
	waitq_init(&u->idle, &op->proxy->loop->fibers);
	return u;
}

static void open_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct request *r = op->request;
	struct rcur body = request_body(r);
	struct put_open_req req;
	struct native *n = native_of(r);
	const char *why;
	struct upload *u;
	struct wcur w;
	bool is_open;
	int x = put_open_req_get(&body, &req);

	u = x == 0 ? upload_new(op, &req) : NULL;
	if (!u) {
		request_fail(r, x < 0 ? x : -ENOMEM, "PUT_OPEN");
		return;
	}
	u->is_in_place = req.is_in_place && author_check(r, &why) == 0;
	x = fill_open(op->proxy->core, op->job, u->is_in_place ? native_author(r) : 0, req.len_hint,
		      req.age_ms, r->due_ns, &u->fill, op->why, sizeof(op->why));
	is_open = x == 0;
	/* Others have waited, too. */
	if (is_open && n->upload_count >= CONN_UPLOADS_MAX) {
		snprintf(op->why, sizeof(op->why), "%s", TOO_MANY);
		x = -EUSERS;
	} else if (is_open && r->conn->is_closed) {
		x = -ECANCELED;
	}
	if (x < 0) {
		if (is_open)
			fill_close(u->fill);
		node_free(u);
		request_fail(r, x, "%s", op->why);
		return;
	}
	u->id = ++n->next_id;
	u->native = n;
	n->upload_count++;
	list_insert(&n->uploads, &u->link);
	w = request_answer(r);
	put_open_rep_put(&w, &(struct put_open_rep){ .put = u->id,
						     .room = fill_room(u->fill),
						     .is_in_place = u->is_in_place });
	request_reply(r, &w, NULL);
}

void put_open_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct put_open_req req;
	const char *why = "PUT_OPEN";
	int x = put_open_req_get(&body, &req);
	struct op *op;

	if (x == 0)
		x = access_check(r->conn->access, RIGHT_WRITE, r->conn->access->job, req.path,
				 &why);
	if (x == 0)
		x = check_put(req.path, req.flags, req.tier, req.copies, req.attributes, &why);
	if (x == 0 && native_of(r)->upload_count >= CONN_UPLOADS_MAX) {
		why = TOO_MANY;
		x = -EUSERS;
	}
	if (x < 0) {
		request_fail(r, x, "%s", why);
		return;
	}
	op = op_new(proxy_of(r), r);
	op_serve(op, r, open_run);
}

/* Whoever sent bytes in a wrong order may send others; what was in order is missing for good. */
static int upload_refuse(struct upload *u, int x)
{
	if (u->refused == 0 && x < 0 && x != -EINVAL)
		u->refused = x;
	return x;
}

/* The next bytes of a frame have no place yet: those before them are put away first. */
static int place_next(struct request *r, struct upload *u, const struct put_data_req *req,
		      uint64_t due_ns)
{
	uint32_t done = r->payload_len - request_payload_left(r);
	int x = u->room.piece.segment ? -EINVAL : u->refused;

	if (x == 0 && u->coming && u->coming != r)
		x = -EINVAL;
	if (x < 0)
		return x;
	u->coming = NULL;
	if (u->piece.segment)
		x = fill_add(u->fill, &u->piece, due_ns);
	if (x == 0 && u->is_closed)
		x = -ECANCELED;
	if (x == 0)
		x = fill_take(u->fill, req->part, req->offset + done, request_payload_left(r),
			      &u->piece);
	if (x < 0)
		return x;
	u->taken += u->piece.len;
	u->coming = r;
	request_place(r, u->piece.ptr, u->piece.len);
	return 0;
}

static int decode_data(struct request *r, struct put_data_req *req, struct upload **ret)
{
	struct rcur body = request_body(r);
	int x = put_data_req_get(&body, req);

	if (x < 0)
		return x;
	*ret = upload_find(r, req->put);
	return *ret ? 0 : -ENOENT;
}

int upload_lease(struct upload *u, uint64_t due_ns)
{
	int x = lease(u, due_ns);

	if (u->is_closed)
		return -ECANCELED;
	answer_waiting(u, 0);
	return x;
}

/*
 * The same; odd pieces, each of which wastes some of a page, may have used up what was promised.
 * What the leaser brings is for both, and may be all there is; but he may wait for longer, so in
 * the end it asks beside him.
 */
static int place_or_lease(struct request *r, struct upload *u, const struct put_data_req *req)
{
	uint64_t begun_ns = u->proxy->loop->now_ns, due_ns = begun_ns + PLACE_NS;
	int x = place_next(r, u, req, r->due_ns), leased = 0;

	if (due_ns > r->due_ns)
		due_ns = r->due_ns;
	while (x == -ENOBUFS && leased == 0 && u->is_leasing) {
		leased = waitq_wait(&u->idle, due_again(begun_ns, due_ns));
		x = u->is_closed ? -ECANCELED : place_next(r, u, req, r->due_ns);
	}
	if (x != -ENOBUFS)
		return x;
	leased = upload_lease(u, due_ns);
	if (u->is_closed)
		return -ECANCELED;
	x = place_next(r, u, req, r->due_ns);
	return x == -ENOBUFS && leased < 0 ? leased : x;
}

/* After the bytes before these, which are still on their way to another host. */
static void place_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct request *r = op->request;
	struct upload *u = op->upload;
	struct put_data_req req;
	struct rcur body = request_body(r);
	int x = put_data_req_get(&body, &req);
	bool is_its_turn;

	while (x == 0 && u->is_busy)
		x = waitq_wait(&u->idle, r->due_ns);
	if (x == 0 && u->is_closed)
		x = -ECANCELED;
	is_its_turn = x == 0;
	u->is_busy |= is_its_turn;
	if (is_its_turn)
		x = place_or_lease(r, u, &req);
	if (upload_refuse(u, x) < 0)
		request_sink(r, x, "the bytes have no place%s%s", u->why[0] ? ": " : "", u->why);
	if (is_its_turn)
		upload_rest(u);
	upload_unref(u);
}

void put_data_place(struct request *r)
{
	const char *why;
	struct put_data_req req;
	struct upload *u;
	int x = decode_data(r, &req, &u);
	struct op *op;

	if (x < 0) {
		request_sink(r, x, "there is no such upload on this connection");
		return;
	}
	r->owner = u;
	if (!u->is_busy && (!u->piece.segment || !u->piece.is_buffer)) {
		x = place_next(r, u, &req, r->due_ns);
		if (x != -ENOBUFS || u->refused) {
			if (upload_refuse(u, x) < 0)
				request_sink(r, x,
					     "the bytes are not the next ones, or those "
					     "before them had no place%s%s",
					     u->why[0] ? ": " : "", u->why);
			return;
		}
	}
	/* Before its fiber runs a commit may end, and the upload with it, but for its users. */
	u->user_count++;
	op = op_new(proxy_of(r), r);
	if (op)
		op->upload = u;
	x = op ? op_begin(op, place_run) : -ENOMEM;
	if (x < 0) {
		upload_unref(u);
		op_free(op);
		x = fiber_refused(x, TOO_MANY_OPS, &why);
		request_sink(r, upload_refuse(u, x), "%s", why);
	}
}

static void add_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct upload *u = op->upload;
	int x = fill_add(u->fill, &u->piece, op->request->due_ns);

	if (upload_refuse(u, x) < 0)
		request_fail(op->request, x, "%s",
			     core_words(op->proxy->core, x, "the bytes did not reach their store"));
	else if (u->is_closed)
		request_fail(op->request, -ECANCELED, "the upload was dropped");
	else
		answer_data(op->request, u);
	upload_leave(u);
}

void put_data_serve(struct request *r)
{
	struct put_data_req req;
	struct upload *u;
	struct op *op;
	int x = decode_data(r, &req, &u);

	if (x < 0) {
		request_fail(r, x, "there is no such upload on this connection");
		return;
	}
	if (u->coming != r) {
		answer_data(r, u); /* it has no bytes, whatever others of it are at */
		return;
	}
	u->coming = NULL;
	if (!u->piece.is_buffer) {
		x = fill_add(u->fill, &u->piece, r->due_ns); /* in place: it does not wait */
		if (upload_refuse(u, x) < 0)
			request_fail(r, x, "the bytes did not reach their place");
		else
			answer_data(r, u);
		return;
	}
	op = op_new(proxy_of(r), r);
	if (!op) {
		request_fail(r, upload_refuse(u, -ENOMEM), "no memory");
		return;
	}
	op->upload = u;
	upload_enter(u);
	x = op_begin(op, add_run);
	if (x < 0) {
		(void)upload_refuse(u, x == -EAGAIN ? -EUSERS : x);
		upload_leave(u);
		op_refuse(op, r, x);
	}
}

void put_data_drop(struct request *r)
{
	struct put_data_req req;
	struct upload *u;

	if (decode_data(r, &req, &u) < 0 || u->coming != r)
		return;
	u->coming = NULL;
	fill_spoil(u->fill, &u->piece);
}

/* Off its connection: nobody finds it any more. Freed when its fibers are done with it. */
static void upload_close(struct upload *u)
{
	snprintf(u->why, sizeof(u->why), "the upload was dropped");
	if (u->coming)
		request_unplace(u->coming, -ECANCELED, u->why);
	list_remove(&u->link);
	u->native->upload_count--;
	u->is_closed = true;
	answer_waiting(u, -ECANCELED);
	if (u->is_leasing)
		fiber_cancel(&u->leaser);
	upload_free_if_done(u);
}

static void commit_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct request *r = op->request;
	struct upload *u = op->upload;
	struct rcur body = request_body(r);
	struct put_commit_req req;
	int x = put_commit_req_get(&body, &req);
	struct how how = HOW_OF(&u->req);
	struct committed done;
	struct wcur w;

	how.since = req.since; /* of this attempt to commit it */
	/* No more room is wanted, so whoever waits for it need not, or another lease would begin.
	 */
	while (u->is_leasing && x == 0) {
		answer_all(u);
		fiber_cancel(&u->leaser);
		x = waitq_wait(&u->idle, r->due_ns);
	}
	if (x == 0)
		x = fill_commit(u->fill, &how, r->due_ns, &done, op->why, sizeof(op->why));
	/* Where nobody knows what happened, it stays, to be committed again. */
	if (!u->is_closed && x != -ETIMEDOUT && x != -EHOSTUNREACH && x != -ECANCELED)
		upload_close(u);
	upload_leave(u);
	if (x < 0) {
		request_fail(r, x, "%s", op->why);
		return;
	}
	w = request_answer(r);
	put_commit_rep_put(&w, &(struct put_commit_rep){ .object = done.object,
							 .version = done.version,
							 .changes = done.changes });
	request_reply(r, &w, NULL);
}

void put_commit_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct put_commit_req req;
	struct upload *u = NULL;
	struct op *op;
	int x;

	if (put_commit_req_get(&body, &req) == 0)
		u = upload_find(r, req.put);
	if (!u || u->is_busy || u->coming || u->room.piece.segment) {
		request_fail(r, u ? -EINVAL : -ENOENT,
			     u ? "its bytes are still coming"
			       : "there is no such upload on this connection");
		return;
	}
	if (u->refused) {
		request_fail(r, u->refused, "bytes of it had no place%s%s", u->why[0] ? ": " : "",
			     u->why);
		return;
	}
	op = op_new(proxy_of(r), r);
	if (!op) {
		request_fail(r, -ENOMEM, "no memory");
		return;
	}
	op->upload = u;
	upload_enter(u);
	x = op_begin(op, commit_run);
	if (x < 0) {
		upload_leave(u);
		op_refuse(op, r, x);
	}
}

void put_drop_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct put_drop_req req;
	struct upload *u;
	struct wcur w;
	int x = put_drop_req_get(&body, &req);

	if (x < 0) {
		request_fail(r, x, "not a PUT_DROP");
		return;
	}
	u = upload_find(r, req.put);
	w = request_answer(r);
	if (u)
		upload_close(u);
	else
		reserved_drop(r, req.put);
	request_reply(r, &w, NULL);
}

void uploads_close(struct proxy *p, struct native *n)
{
	(void)p;
	while (!list_is_empty(&n->uploads))
		upload_close(container_of(n->uploads.next, struct upload, link));
}
