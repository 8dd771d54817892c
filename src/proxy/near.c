/* SPDX-License-Identifier: Apache-2.0 */
/*
 * near: functions that map the segments of their job (who.h). They are given descriptors of
 * those, and told where the bytes of an object are, under the hold of its GET.
 */
#include <errno.h>
#include <stdio.h>

#include "base/container.h"
#include "base/node.h"
#include "proxy/index.h"
#include "proxy/who.h"

int near_check(const struct request *r, const char **ret_why)
{
	struct proxy *p = proxy_of(r);
	const struct uid_job *bound = uid_find(p, r->conn->peer.uid);
	struct who who = { .access = r->conn->access,
			   .peer = &r->conn->peer,
			   .own_uid = p->config.own_uid,
			   .job_of_uid = bound ? bound->job : 0,
			   .is_isolated = p->config.is_isolated,
			   .trusts_local = p->config.trusts_local };
	bool binds;
	int x = who_may_map(&who, &binds, ret_why);

	if (x < 0 && bound && who.access && who.access->job != bound->job)
		uid_ask_whether_over(p, bound->job);
	/* It would be bound to a job of whose end nobody hears any more. */
	if (x == 0 && native_of(r)->is_over) {
		*ret_why = "the job has ended";
		x = -EIDRM;
	}
	if (x == 0 && !core_has_pool(p->core)) {
		*ret_why = "this proxy has no pool in its process";
		x = -EOPNOTSUPP;
	}
	if (x == 0 && binds) {
		*ret_why = "as many uids have segments as may";
		x = uid_bind(p, who.peer->uid, who.access->job);
	}
	return x;
}

/* A generation of a segment is never 0: that is memory of the index. */
static int export(struct request *r, const struct export_req *req, uint32_t *ret_size)
{
	const struct reader *reader = native_of(r)->reader;

	if (req->generation == 0)
		return reader ? copies_export(reader->index, req->segment, ret_size) : -ESTALE;
	return core_export(proxy_of(r)->core, r->conn->access->job, req->segment, req->generation,
			   ret_size);
}

void export_serve(struct request *r)
{
	struct rcur body = request_body(r);
	const char *why = "not an EXPORT";
	struct export_req req;
	uint32_t size = 0;
	struct wcur w;
	int fd = -1, x = export_req_get(&body, &req);

	if (x == 0)
		x = near_check(r, &why);
	if (x == 0) {
		why = "no descriptor";
		x = fd = export(r, &req, &size);
	}
	if (x >= 0)
		x = conn_pass_fds(r->conn, &fd, 1);
	if (x == -EBUSY)
		why = "segments that were asked for before have not been taken";
	if (x < 0) {
		request_fail(r, x == -EMFILE || x == -ENFILE || x == -EBUSY ? -EUSERS : x, "%s",
			     why);
		return;
	}
	w = request_answer(r);
	export_rep_put(&w, &(struct export_rep){ .size = size });
	request_reply(r, &w, NULL);
}

/* The answer's payload; it goes with the span. */
static int near_list(struct op *op, const struct get_near_req *req, struct get_near_rep *ret)
{
	int x = answer_enter(op, NEAR_BYTES);
	struct wcur to;

	op->span = (struct span){ .core = op->proxy->core };
	if (x < 0)
		return x;
	op->span.buffer = node_alloc(NEAR_BYTES);
	if (!op->span.buffer)
		return -ENOMEM;
	to = wcur_make(op->span.buffer, NEAR_BYTES);
	x = object_near(op->proxy->core, &op->reading->found, req->offset, op->request->due_ns, &to,
			&ret->first);
	if (x < 0)
		return x;
	ret->count = (uint16_t)x;
	op->span.payload.ptr = op->span.buffer;
	op->span.payload.len = (size_t)wcur_finish(&to);
	return 0;
}

static void get_near_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct request *r = op->request;
	struct rcur body = request_body(r);
	struct get_near_rep rep = { 0 };
	struct get_near_req req;
	struct wcur w;
	int x = get_near_req_get(&body, &req);

	if (x == 0)
		x = near_list(op, &req, &rep);
	if (x == 0)
		x = serve_begin(op);
	if (x < 0) {
		get_give_back(op);
		request_fail(r, x, NULL);
		return;
	}
	op->reading->is_near = true;
	w = request_answer(r);
	get_near_rep_put(&w, &rep);
	reply_span(op, &w);
}

void get_near_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct get_near_req req;
	struct reading *g = NULL;
	const char *why = "nothing is held under this number";
	int x = get_near_req_get(&body, &req);

	if (x == 0) {
		g = reading_find(r, req.hold);
		x = g ? near_check(r, &why) : -ENOENT;
	}
	if (x < 0) {
		request_fail(r, x, "%s", why);
		return;
	}
	reading_serve(g, r, get_near_run);
}
