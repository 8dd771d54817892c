/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve: objects, segments: decode, check access and session, ask the catalog of the
 * slot, answer. Nothing is decided here.
 */
#include <stdio.h>

#include "base/node.h"
#include "meta/shard_priv.h"
#include "net/access.h"

static struct shard *shard_of(const struct request *r)
{
	return ((struct peer_state *)r->conn->state)->shard;
}

struct slot *request_slot(struct request *r)
{
	struct shard *s = shard_of(r);
	uint16_t number = r->frame.slot;
	struct slot *slot;
	int e = shard_slot(s, number, &slot);

	if (e == 0)
		return slot;
	if (e == -EREMCHG)
		request_fail(r, e, "%s", s->config.addresses[number % s->config.count]);
	else
		request_fail(r, e, "there are %u slots", SLOT_COUNT);
	return NULL;
}

/* What a request is about, and what it needs. */
struct subject {
	int decoded;
	uint64_t job;
	unsigned right;
	struct slice path;
	bool has_session;
	uint64_t session, epoch;
};

/* The slot that serves it; NULL: it has been refused. */
static struct slot *begin(struct request *r, const struct subject *s)
{
	const char *why = "a body of another shape";
	int e = s->decoded;

	if (e == 0)
		e = access_check(r->conn->access, s->right, s->job, s->path, &why);
	if (e == 0 && slot_of_id(s->job) != r->frame.slot) {
		e = -EINVAL;
		why = "the job lies in another slot";
	}
	if (e < 0) {
		request_fail(r, e, "%s", why);
		return NULL;
	}
	if (s->has_session && presence_check(r, s->session, s->epoch) < 0)
		return NULL;
	return request_slot(r);
}

#define BEGIN(name, ...)                                                                  \
	struct shard *s = shard_of(r);                                                    \
	struct outcome *out = &s->out;                                                    \
	struct rcur body = request_body(r);                                               \
	struct name##_req req = { 0 };                                                    \
	struct subject subject = { .decoded = name##_req_get(&body, &req), __VA_ARGS__ }; \
	struct slot *slot

/* clang-format off */
#define ABOUT(right_, path_)                                                  \
	(subject.job = req.job, subject.right = (right_), subject.path = (path_))
#define IN_SESSION                                                            \
	(subject.has_session = true, subject.session = req.session, subject.epoch = req.epoch)

/* Ends a handler: with the answer, or why there is none. Then what came about. */
#define ANSWER_BY(name, e, reply)                                             \
	do {                                                                  \
		const struct said said_ = { req.job, out->seen_ns };          \
		struct wcur w_;                                               \
		if ((e) < 0) {                                                \
			refuse_when_safe(r, slot, req.job, (e), out->detail); \
		} else {                                                      \
			w_ = request_answer(r);                               \
			name##_rep_put(&w_, &out->rep.name);                  \
			reply;                                                \
		}                                                             \
		shard_after(slot, out);                                       \
	} while (0)
#define ANSWER(name, e, payload) \
	ANSWER_BY(name, e, reply_when_safe(r, slot, &said_, &w_, (payload)))
/* The same for what may end a version that others were told of. */
#define ANSWER_CHANGE(name, e, path, other) \
	ANSWER_BY(name, e, reply_when_forgotten(r, slot, &said_, &w_, (path), (other)))
/* clang-format on */

static const struct slice NO_PATH = { 0 };

/* Statuses: NOTFOUND, CONSUMED, EXPIRED, JOBENDED, NOJOB. */
void stat_serve(struct request *r)
{
	BEGIN(stat);
	int e;

	ABOUT(RIGHT_READ, req.path);
	slot = begin(r, &subject);
	if (!slot)
		return;
	e = catalog_stat(slot->catalog, req.job, req.path, shard_now(s), out);
	ANSWER(stat, e, NULL);
}

/* Statuses: NOTFOUND, TOOLARGE, JOBENDED, NOJOB, NOMEMORY. */
void list_serve(struct request *r)
{
	BEGIN(list);
	struct reply_bytes *b;
	struct wcur payload;
	int e;

	ABOUT(RIGHT_LIST, req.directory);
	slot = begin(r, &subject);
	if (!slot)
		return;
	b = reply_bytes_take(s, LIST_BYTES);
	if (!b) {
		request_fail(r, -ENOMEM, "no memory for an answer");
		return;
	}
	payload = wcur_make(b->bytes, LIST_BYTES);
	e = catalog_list(slot->catalog, &req, shard_now(s), &payload, out);
	reply_bytes_made(b, (size_t)(payload.p - payload.start));
	if (e < 0)
		reply_bytes_give(&b->payload);
	ANSWER(list, e, &b->payload);
}

/* Statuses: NOTFOUND, CONSUMED, EXPIRED, VERSION, STALE, JOBENDED, NOJOB. */
void remove_serve(struct request *r)
{
	BEGIN(remove);
	int e;

	ABOUT(RIGHT_REMOVE, req.path);
	slot = begin(r, &subject);
	if (!slot)
		return;
	e = catalog_remove(slot->catalog, &req, shard_now(s), out);
	ANSWER_CHANGE(remove, e, req.path, NO_PATH);
}

/* Statuses: TOOLARGE, JOBENDED, NOJOB. */
void remove_tree_serve(struct request *r)
{
	BEGIN(remove_tree);
	int e;

	ABOUT(RIGHT_REMOVE, req.directory);
	slot = begin(r, &subject);
	if (!slot)
		return;
	e = catalog_remove_tree(slot->catalog, &req, shard_now(s), out);
	ANSWER_CHANGE(remove_tree, e, NO_PATH, NO_PATH);
}

/* Statuses: NOTFOUND, CONSUMED, EXPIRED, EXISTS, STALE, JOBENDED, NOJOB. */
void rename_serve(struct request *r)
{
	BEGIN(rename);
	const char *why;
	int e;

	ABOUT(RIGHT_REMOVE, req.from);
	if (subject.decoded == 0 &&
	    access_check(r->conn->access, RIGHT_WRITE, req.job, req.to, &why) < 0) {
		request_fail(r, -EACCES, "%s", why);
		return;
	}
	slot = begin(r, &subject);
	if (!slot)
		return;
	e = catalog_rename(slot->catalog, &req, shard_now(s), out);
	ANSWER_CHANGE(rename, e, req.from, req.to);
}

/* Statuses: TIMEOUT, LIMIT, DIRECTORY, INVALID, JOBENDED, NOJOB. */
void wait_serve(struct request *r)
{
	BEGIN(wait);
	int e;

	ABOUT(RIGHT_READ, req.path);
	slot = begin(r, &subject);
	if (!slot)
		return;
	e = catalog_wait(slot->catalog, req.job, req.path, shard_now(s), out);
	if (e == 0 && out->must_wait) {
		waiter_park(r, slot, out, 0, NULL);
		return;
	}
	ANSWER(stat, e, NULL);
}

/* Statuses: TIMEOUT, LIMIT, JOBENDED, NOJOB. */
void wait_count_serve(struct request *r)
{
	BEGIN(wait_count);
	int e;

	ABOUT(RIGHT_LIST, req.directory);
	slot = begin(r, &subject);
	if (!slot)
		return;
	e = catalog_wait_count(slot->catalog, req.job, req.directory, req.count, shard_now(s), out);
	if (e == 0 && out->must_wait) {
		waiter_park(r, slot, out, req.count, NULL);
		shard_after(slot, out);
		return;
	}
	ANSWER(wait_count, e, NULL);
}

/*
 * Full means wait: a value that the quota would have room for, if the job gave something back,
 * is to be sent again until its deadline.
 */
static int or_again(int e, const struct outcome *out)
{
	return e == -EDQUOT && out->may_fit ? -EAGAIN : e;
}

/*
 * Statuses: EXISTS, VERSION, STALE, QUOTA, AGAIN, NOSPACE, INVALID, TOOLARGE, DIRECTORY, DAMAGED,
 * UNSUPPORTED, JOBENDED, NOJOB, NOSESSION, NOMEMORY.
 */
void commit_serve(struct request *r)
{
	BEGIN(commit);
	struct slice payload = { r->payload, r->payload_len };
	int e;

	ABOUT(RIGHT_WRITE, req.path);
	IN_SESSION;
	slot = begin(r, &subject);
	if (!slot)
		return;
	e = catalog_commit(slot->catalog, &req, payload, shard_now(s), out);
	ANSWER_CHANGE(commit, or_again(e, out), req.path, NO_PATH);
}

/* Statuses: LIMIT, JOBENDED, NOJOB, NOSESSION. */
void open_serve(struct request *r)
{
	BEGIN(open);
	int e;

	ABOUT(RIGHT_WRITE, NO_PATH);
	IN_SESSION;
	slot = begin(r, &subject);
	if (!slot)
		return;
	e = catalog_open(slot->catalog, &req, shard_now(s), out);
	ANSWER(open, e, NULL);
}

/* Statuses: STALE, INVALID, LIMIT, JOBENDED, NOJOB, NOSESSION. */
void extend_serve(struct request *r)
{
	BEGIN(extend);
	struct slice payload = { r->payload, r->payload_len };
	int e;

	ABOUT(RIGHT_WRITE, NO_PATH);
	IN_SESSION;
	slot = begin(r, &subject);
	if (!slot)
		return;
	e = catalog_extend(slot->catalog, &req, payload, shard_now(s), out);
	ANSWER(extend, e, NULL);
}

/* Statuses: NOSESSION. */
void drop_serve(struct request *r)
{
	BEGIN(drop);
	int e;

	ABOUT(RIGHT_WRITE, NO_PATH);
	IN_SESSION;
	slot = begin(r, &subject);
	if (!slot)
		return;
	e = catalog_drop(slot->catalog, &req, shard_now(s), out);
	ANSWER(drop, e, NULL);
}

/* The value or the extents, into bytes of the shard's. */
static int look_up(struct shard *s, struct slot *slot, const struct lookup_req *req,
		   struct outcome *out, struct reply_bytes **ret)
{
	struct reply_bytes *b = reply_bytes_take(s, EXTENTS_BYTES);
	struct wcur payload;
	int e;

	if (!b)
		return -ENOMEM;
	payload = wcur_make(b->bytes, EXTENTS_BYTES);
	e = catalog_lookup(slot->catalog, req, shard_now(s), &payload, out);
	reply_bytes_made(b, (size_t)(payload.p - payload.start));
	*ret = b;
	if (e < 0 || out->must_wait) {
		reply_bytes_give(&b->payload);
		*ret = NULL;
	}
	return e;
}

/* Only servers are asked to forget, so only they are listened to. */
static void tells_on(struct request *r, struct lookup_req *req)
{
	req->is_told_on &= r->conn->access->role == ROLE_PROXY;
	((struct peer_state *)r->conn->state)->tells_on |= req->is_told_on;
}

/*
 * Statuses: NOTFOUND, CONSUMED, EXPIRED, DIRECTORY, UNSUPPORTED, LOST, LIMIT, TIMEOUT, JOBENDED,
 * NOJOB, NOSESSION, NOMEMORY.
 */
void lookup_serve(struct request *r)
{
	BEGIN(lookup);
	struct reply_bytes *b = NULL;
	int e;

	ABOUT(RIGHT_READ, req.path);
	IN_SESSION;
	slot = begin(r, &subject);
	if (!slot)
		return;
	out->detail[0] = '\0';
	out->must_wait = false;
	tells_on(r, &req);
	e = look_up(s, slot, &req, out, &b);
	if (e == 0 && out->must_wait) {
		waiter_park(r, slot, out, 0, &req);
		return;
	}
	ANSWER(lookup, e, b ? &b->payload : NULL);
}

bool lookup_answer(struct shard *s, struct slot *slot, struct lookup_waiter *w)
{
	struct parked *p = &w->waiter.parked;
	struct outcome *out = &s->wake_out;
	struct reply_bytes *b = NULL;
	struct presence *session = presence_find(s, w->req.session);
	struct wcur body;
	int e = session && session->epoch == w->req.epoch ? 0 : -ENOLINK;

	out->detail[0] = '\0';
	out->must_wait = false;
	if (e == 0)
		e = look_up(s, slot, &w->req, out, &b);
	if (e == 0 && out->must_wait)
		return false;
	if (e < 0) {
		parked_refuse_when_safe(p, slot, w->req.job, e, out->detail);
		return true;
	}
	body = parked_answer(p);
	lookup_rep_put(&body, &out->rep.lookup);
	parked_reply_when_safe(p, slot, &(struct said){ w->req.job, out->seen_ns }, &body,
			       &b->payload);
	return true;
}

/* Statuses: STALE, LOST, JOBENDED, NOJOB, NOSESSION, NOMEMORY. */
void find_serve(struct request *r)
{
	BEGIN(find);
	struct reply_bytes *b;
	struct wcur payload;
	int e;

	ABOUT(RIGHT_READ, NO_PATH);
	IN_SESSION;
	slot = begin(r, &subject);
	if (!slot)
		return;
	b = reply_bytes_take(s, EXTENTS_BYTES);
	if (!b) {
		request_fail(r, -ENOMEM, "no memory for an answer");
		return;
	}
	payload = wcur_make(b->bytes, EXTENTS_BYTES);
	e = catalog_find(slot->catalog, &req, shard_now(s), &payload, out);
	reply_bytes_made(b, (size_t)(payload.p - payload.start));
	if (e < 0)
		reply_bytes_give(&b->payload);
	ANSWER(find, e, &b->payload);
}

/* Statuses: STALE, NOSESSION. */
void release_serve(struct request *r)
{
	BEGIN(release);
	int e;

	ABOUT(RIGHT_READ, NO_PATH);
	IN_SESSION;
	slot = begin(r, &subject);
	if (!slot)
		return;
	if (req.hold == 0)
		lookups_give_up(s, req.session, req.request);
	e = catalog_release(slot->catalog, &req, shard_now(s), out);
	ANSWER(release, e, NULL);
}

/* Statuses: STALE, INVALID, NOSESSION. */
void settle_serve(struct request *r)
{
	BEGIN(settle);
	int e;

	ABOUT(RIGHT_WRITE, NO_PATH);
	IN_SESSION;
	slot = begin(r, &subject);
	if (!slot)
		return;
	e = catalog_settle(slot->catalog, &req, shard_now(s), out);
	ANSWER(settle, e, NULL);
}

/* Statuses: JOBENDED, NOJOB, NOSESSION, NOMEMORY. */
void places_serve(struct request *r)
{
	BEGIN(places);
	struct reply_bytes *b;
	struct wcur payload;
	int e;

	ABOUT(RIGHT_WRITE, NO_PATH);
	IN_SESSION;
	slot = begin(r, &subject);
	if (!slot)
		return;
	b = reply_bytes_take(s, PLACES_BYTES);
	if (!b) {
		request_fail(r, -ENOMEM, "no memory for an answer");
		return;
	}
	payload = wcur_make(b->bytes, PLACES_BYTES);
	e = catalog_places(slot->catalog, &req, &payload, out);
	reply_bytes_made(b, (size_t)(payload.p - payload.start));
	if (e < 0)
		reply_bytes_give(&b->payload);
	ANSWER(places, e, &b->payload);
}

/* Statuses: AGAIN, STALE, INVALID, JOBENDED, NOJOB, NOSESSION. */
void move_serve(struct request *r)
{
	BEGIN(move);
	struct slice payload = { r->payload, r->payload_len };
	int e;

	ABOUT(RIGHT_WRITE, NO_PATH);
	IN_SESSION;
	slot = begin(r, &subject);
	if (!slot)
		return;
	e = catalog_move(slot->catalog, &req, payload, shard_now(s), out);
	ANSWER(move, e, NULL);
}

/*
 * Statuses: DENIED, QUOTA, NOSPACE, UNSUPPORTED, INVALID, LIMIT, JOBENDED, NOJOB, NOSESSION,
 * NOMEMORY.
 */
void lease_serve(struct request *r)
{
	BEGIN(lease);
	struct reply_bytes *b;
	struct wcur payload;
	int e;

	ABOUT(RIGHT_WRITE, NO_PATH);
	IN_SESSION;
	if (req.is_move && r->conn->access->role == ROLE_JOB) {
		request_fail(r, -EACCES, "only servers of this store move bytes");
		return;
	}
	slot = begin(r, &subject);
	if (!slot || asking_joins(r, slot, &req))
		return;
	b = reply_bytes_take(s, GRANTS_BYTES);
	if (!b) {
		request_fail(r, -ENOMEM, "no memory for an answer");
		return;
	}
	payload = wcur_make(b->bytes, GRANTS_BYTES);
	e = catalog_lease(slot->catalog, &req, stores_segment_max(s), shard_now(s), &payload, out);
	reply_bytes_made(b, (size_t)(payload.p - payload.start));
	if (e < 0 || out->ask.is_needed)
		reply_bytes_give(&b->payload);
	if (e == 0 && out->ask.is_needed && !req.is_move && line_is_before(slot, &req)) {
		catalog_ask_over(slot->catalog, req.job, out->ask.bytes);
		line_join(r, slot, &req);
	} else if (e == 0 && out->ask.is_needed) {
		asking_start(r, slot, &req, out);
	} else if (e == -EDQUOT && out->may_fit) {
		line_join(r, slot, &req);
	} else {
		ANSWER(lease, e, &b->payload);
	}
}

static void ping_serve(struct request *r)
{
	struct wcur w = request_answer(r);

	request_reply(r, &w, NULL);
}

/* clang-format off */
#define H(NAME, name) [MESSAGE_##NAME] = { .serve = name##_serve }
const struct service META_SERVICE = {
	.server = SERVER_META,
	.handlers = {
		H(HELLO, hello), H(PING, ping), H(MAP, map), [MESSAGE_INFO] = { .serve = shard_info_serve },
		H(STAT, stat), H(LIST, list), H(REMOVE, remove), H(REMOVE_TREE, remove_tree),
		H(RENAME, rename), H(WAIT, wait), H(WAIT_COUNT, wait_count),
		H(JOB_CREATE, job_create), H(JOB_RENEW, job_renew), H(JOB_END, job_end),
		H(JOB_SHOW, job_show), H(JOB_LIST, job_list),
		H(HEARTBEAT, heartbeat), H(LEASE, lease), H(SETTLE, settle), H(COMMIT, commit),
		H(OPEN, open), H(EXTEND, extend), H(DROP, drop), H(LOOKUP, lookup),
		H(FIND, find), H(RELEASE, release), H(PLACES, places), H(MOVE, move),
		H(CLEAN, clean),
	},
	.closed = meta_conn_closed,
};
/* clang-format on */
