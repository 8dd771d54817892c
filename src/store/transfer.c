/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of segments, to and from connections: a payload lands where it will stay, and
 * is sent from where it lies. While it is on its way the segment is pinned.
 */
#include "store/store_priv.h"

#include <errno.h>

#include "base/container.h"
#include "base/node.h"

static struct transfer *transfer_new(struct store *s)
{
	struct transfer *t;

	if (list_is_empty(&s->spare_transfers))
		return node_alloc(sizeof(*t));
	t = container_of(s->spare_transfers.next, struct transfer, link);
	list_remove(&t->link);
	return t;
}

static void transfer_begin(struct transfer *t, struct store *s, struct segment *segment,
			   struct conn *c, bool is_to_write)
{
	*t = (struct transfer){ .store = s,
				.segment = segment,
				.conn = c,
				.is_to_write = is_to_write,
				.is_early = !is_to_write && segment->state == SEGMENT_OPEN };
	segment->early_count += t->is_early;
	list_init(&t->link);
	list_insert(&segment->transfers, &t->link);
}

static void transfer_end(struct transfer *t)
{
	struct store *s = t->store;

	list_remove(&t->link);
	list_insert(s->spare_transfers.next, &t->link);
	t->segment->early_count -= t->is_early;
	store_unpin(s, t->segment, t->is_to_write);
}

void store_transfers_fini(struct store *s)
{
	while (!list_is_empty(&s->spare_transfers)) {
		struct transfer *t = container_of(s->spare_transfers.next, struct transfer, link);

		list_remove(&t->link);
		node_free(t);
	}
}

/* A server acts for any job, a function for its own. */
static int check_access(const struct access *a, unsigned right, uint64_t job, const char **ret_why)
{
	*ret_why = right == RIGHT_READ ? "the token gives no right to read"
				       : "the token gives no right to write";
	if (a->role != ROLE_JOB)
		return 0;
	if (!(a->rights & right))
		return -EACCES;
	*ret_why = "the token is of another job";
	return a->job == job ? 0 : -EACCES;
}

/* Statuses: STALE, JOBENDED, DENIED, INVALID. */
static const char *why_no_pin(int e)
{
	switch (e) {
	case -EIDRM:
		return "the job is over";
	case -ERANGE:
		return "beyond the bytes of the segment";
	case -EACCES:
		return "not the key of the segment, or no longer";
	case -ENOMEM:
		return "no memory for a transfer";
	default:
		return "the segment is not of this job, or not any more";
	}
}

static int error_of(int e)
{
	return e == -ERANGE ? -EINVAL : e;
}

/* Pins what a WRITE names, and says where its payload goes. */
static int write_begin(struct request *r, uint8_t **ret_bytes, const char **ret_why)
{
	struct store *s = r->conn->owner;
	struct rcur body = request_body(r);
	struct segment *segment;
	struct transfer *t;
	struct write_req q;
	int e = write_req_get(&body, &q);

	*ret_why = "not a WRITE";
	if (e < 0)
		return e;
	e = check_access(r->conn->access, RIGHT_WRITE, q.job, ret_why);
	if (e < 0)
		return e;
	t = transfer_new(s);
	e = t ? pool_pin_to_write(&s->pool, q.job, q.segment, q.generation, q.key, q.offset,
				  r->payload_len, &segment, ret_bytes)
	      : -ENOMEM;
	*ret_why = why_no_pin(e);
	if (e < 0) {
		if (t)
			list_insert(&s->spare_transfers, &t->link);
		return error_of(e);
	}
	transfer_begin(t, s, segment, r->conn, true);
	r->owner = t;
	return 0;
}

void store_write_place(struct request *r)
{
	const char *why;
	uint8_t *bytes;
	int e = write_begin(r, &bytes, &why);

	if (e < 0)
		request_sink(r, e, "%s", why);
	else
		request_place(r, bytes, r->payload_len);
}

void store_write_drop(struct request *r)
{
	if (r->owner)
		transfer_end(r->owner);
	r->owner = NULL;
}

void store_write_serve(struct request *r)
{
	const char *why;
	uint8_t *bytes;
	struct wcur w;
	int e = 0;

	/* Without a payload nobody has looked at it yet. */
	if (!r->owner)
		e = write_begin(r, &bytes, &why);
	if (e < 0) {
		request_fail(r, e, "%s", why);
		return;
	}
	store_write_drop(r);
	w = request_answer(r);
	write_rep_put(&w, &(struct write_rep){});
	request_reply(r, &w, NULL);
}

static void read_sent(struct payload *p)
{
	transfer_end(container_of(p, struct transfer, payload));
}

static int read_begin(struct request *r, struct transfer **ret, const char **ret_why)
{
	struct store *s = r->conn->owner;
	struct rcur body = request_body(r);
	struct segment *segment;
	struct transfer *t;
	struct read_req q;
	uint8_t *bytes;
	int e = read_req_get(&body, &q);

	*ret_why = "not a READ";
	if (e < 0)
		return e;
	*ret_why = "longer than a frame's payload may be";
	if (q.len > FRAME_PAYLOAD_MAX)
		return -EMSGSIZE;
	e = check_access(r->conn->access, RIGHT_READ, q.job, ret_why);
	if (e < 0)
		return e;
	t = transfer_new(s);
	e = t ? pool_pin(&s->pool, q.job, q.segment, q.generation, q.offset, q.len, &segment,
			 &bytes)
	      : -ENOMEM;
	*ret_why = why_no_pin(e);
	if (e < 0) {
		if (t)
			list_insert(&s->spare_transfers, &t->link);
		return error_of(e);
	}
	transfer_begin(t, s, segment, r->conn, false);
	t->payload = (struct payload){
		.ptr = bytes, .len = q.len, .sent = read_sent, .kept = sizeof(*t)
	};
	*ret = t;
	return 0;
}

void store_read_serve(struct request *r)
{
	const char *why;
	struct transfer *t;
	struct wcur w;
	int e = read_begin(r, &t, &why);

	if (e < 0) {
		request_fail(r, e, "%s", why);
		return;
	}
	w = request_answer(r);
	read_rep_put(&w, &(struct read_rep){});
	request_reply(r, &w, &t->payload);
}
