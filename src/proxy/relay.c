/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay: what the catalog answers by itself goes to it as it came, and its answer
 * back. The proxy only looks whether it is allowed. Who waits for long leaves a parked
 * call behind, no fiber and no buffer.
 */
#include <errno.h>
#include <stdio.h>

#include "base/container.h"
#include "base/node.h"
#include "proxy/proxy_priv.h"

/* An answer of the catalog on its way back: the op keeps its bytes until they are sent. */
static void relay_sent(struct payload *p)
{
	struct op *op = container_of(p, struct op, span.payload);

	span_end(&op->span);
	answer_leave(op);
	op->is_sending = false;
	if (op->has_ended)
		op_free(op);
}

static void keep_answer(struct op *op, const struct ask *a)
{
	op->span.payload = (struct payload){ .ptr = op->span.buffer,
					     .len = a->call.room_len,
					     .sent = relay_sent,
					     .kept = sizeof(*op) + a->call.room_cap };
	op->is_sending = true;
}

static void answer_as(struct op *op, struct ask *a)
{
	struct request *r = op->request;
	struct rcur body = ask_reply(a);
	struct wcur w = request_answer(r);

	op_turn_over(op);
	put_bytes(&w, body.p, (size_t)(body.end - body.p));
	if (op->span.buffer) {
		keep_answer(op, a);
		request_reply(r, &w, &op->span.payload);
	} else {
		request_reply(r, &w, NULL);
	}
}

/* And of no other: servers and administrators ask about any. */
static bool is_of_a_job(const struct access *a)
{
	return a->role == ROLE_JOB && !(a->rights & RIGHT_ADMIN);
}

/*
 * As it came, but for one thing: a token is of one job, and jobs are asked for by name. When that
 * one has ended, another one may have its name.
 */
static void put_question(const struct request *r, struct wcur *w)
{
	const struct access *access = r->conn->access;
	const uint64_t own = is_of_a_job(access) ? access->job : 0;
	struct rcur body = request_body(r);
	union {
		struct job_renew_req renew;
		struct job_end_req end;
		struct job_show_req show;
	} u;

	if (own && r->frame.msg == MSG_JOB_RENEW && job_renew_req_get(&body, &u.renew) == 0) {
		u.renew.job = own;
		job_renew_req_put(w, &u.renew);
	} else if (own && r->frame.msg == MSG_JOB_END && job_end_req_get(&body, &u.end) == 0) {
		u.end.job = own;
		job_end_req_put(w, &u.end);
	} else if (own && r->frame.msg == MSG_JOB_SHOW && job_show_req_get(&body, &u.show) == 0) {
		u.show.job = own;
		job_show_req_put(w, &u.show);
	} else {
		put_bytes(w, body.p, (size_t)(body.end - body.p));
	}
}

static void relay_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct request *r = op->request;
	const struct message_info *info = message_info(r->frame.msg);
	struct ask a;
	struct wcur w = ask_begin(op->proxy->core, &a, r->frame.msg, op->slot);
	int x = 0;

	put_question(r, &w);
	if (info->reply_max > 0)
		x = answer_enter(op, info->reply_max);
	if (info->reply_max > 0 && x == 0) {
		op->span.core = op->proxy->core;
		a.call.room = op->span.buffer = node_alloc(info->reply_max);
		a.call.room_cap = info->reply_max;
		x = a.call.room ? 0 : -ENOMEM;
	}
	if (x == 0)
		x = ask_wait(&a, &w, NULL, r->due_ns);
	if (x < 0) {
		span_end(&op->span);
		answer_leave(op);
		op_turn_over(op);
		request_fail(r, x, "%s", a.detail);
	} else {
		answer_as(op, &a);
	}
	ask_end(&a);
}

static void relay(struct request *r, uint16_t slot)
{
	struct op *op = op_new(proxy_of(r), r);

	if (op)
		op->slot = slot;
	if (op)
		op->kept = message_info(r->frame.msg)->reply_max;
	op_serve_in_turn(op, r, relay_run);
}

/* 0 if it may be passed on; else it has been refused. `job` is the one in the body. */
static int check(struct request *r, int decoded, unsigned right, uint64_t job, struct slice path,
		 bool must_be_valid)
{
	const char *why = "a body of another shape";
	int x = decoded;

	if (x == 0)
		x = access_check(r->conn->access, right, job, path, &why);
	if (x == 0 && must_be_valid && !path_is_valid(path, &why))
		x = -EINVAL;
	if (x < 0)
		request_fail(r, x, "%s", why);
	return x;
}

void relay_path_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct stat_req req = { 0 };
	int x = stat_req_get(&body, &req);

	if (check(r, x, RIGHT_READ, req.job, req.path, req.path.len > 0) == 0)
		relay(r, slot_of_id(req.job));
}

void relay_list_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct list_req req = { 0 };
	int x = list_req_get(&body, &req);

	if (check(r, x, RIGHT_LIST, req.job, req.directory, req.directory.len > 0) == 0)
		relay(r, slot_of_id(req.job));
}

void relay_remove_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct remove_req req = { 0 };
	int x = remove_req_get(&body, &req);

	if (check(r, x, RIGHT_REMOVE, req.job, req.path, true) == 0)
		relay(r, slot_of_id(req.job));
}

void relay_tree_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct remove_tree_req req = { 0 };
	int x = remove_tree_req_get(&body, &req);

	if (check(r, x, RIGHT_REMOVE, req.job, req.directory, req.directory.len > 0) == 0)
		relay(r, slot_of_id(req.job));
}

void relay_rename_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct rename_req req = { 0 };
	int x = rename_req_get(&body, &req);

	if (check(r, x, RIGHT_REMOVE, req.job, req.from, true) == 0 &&
	    check(r, 0, RIGHT_WRITE, req.job, req.to, true) == 0)
		relay(r, slot_of_id(req.job));
}

/* Jobs: of one's own with a token, of any for who may make some. False: it has been refused. */
static bool relay_job(struct request *r, int decoded, struct slice name)
{
	const struct access *a = r->conn->access;
	const struct native *n = native_of(r);
	const char *why = "a body of another shape";
	int x = decoded;

	if (x == 0 && !job_name_is_valid(name, &why))
		x = -EINVAL;
	if (x == 0 && is_of_a_job(a)) {
		why = "the token is of another job";
		if (name.len != n->job_name_len || memcmp(name.ptr, n->job_name, name.len) != 0)
			x = -EACCES;
		if (!(a->rights & RIGHT_JOB)) {
			why = "the token gives no right to its job";
			x = -EACCES;
		}
	}
	if (x < 0)
		request_fail(r, x, "%s", why);
	else
		relay(r, slot_of_name(name));
	return x == 0;
}

void relay_job_create_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct job_create_req req = { 0 };
	int x = job_create_req_get(&body, &req);

	if (x == 0 && is_of_a_job(r->conn->access)) {
		request_fail(r, -EACCES, "a job's token makes no jobs");
		return;
	}
	(void)relay_job(r, x, req.name);
}

void relay_job_renew_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct job_renew_req req = { 0 };
	int x = job_renew_req_get(&body, &req);

	(void)relay_job(r, x, req.name);
}

void relay_job_end_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct job_end_req req = { 0 };
	struct native *n = native_of(r);
	int x = job_end_req_get(&body, &req);
	bool is_own = x == 0 && req.name.len == n->job_name_len &&
		      memcmp(req.name.ptr, n->job_name, n->job_name_len) == 0;

	if (relay_job(r, x, req.name))
		n->is_ending |= is_own;
}

void relay_job_show_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct job_show_req req = { 0 };
	int x = job_show_req_get(&body, &req);

	(void)relay_job(r, x, req.name);
}

/* The shards one after the other: a slot in the cursor says which, and from where on. */
static void job_list_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct request *r = op->request;
	struct core *core = op->proxy->core;
	struct rcur body = request_body(r);
	struct job_list_req req;
	struct job_list_rep rep;
	struct ask a;
	struct wcur w;
	int x = job_list_req_get(&body, &req);
	uint16_t shard = x == 0 ? req.from_slot % core_shard_count(core) : 0;

	if (x == 0)
		x = answer_enter(op, LIST_BYTES);
	op->span.core = core;
	op->span.buffer = x == 0 ? node_alloc(LIST_BYTES) : NULL;
	w = ask_begin(core, &a, MSG_JOB_LIST, shard);
	job_list_req_put(&w, &req);
	a.call.room = op->span.buffer;
	a.call.room_cap = LIST_BYTES;
	if (x == 0)
		x = op->span.buffer ? ask_wait(&a, &w, NULL, r->due_ns) : -ENOMEM;
	body = ask_reply(&a);
	if (x == 0)
		x = job_list_rep_get(&body, &rep);
	if (x < 0) {
		span_end(&op->span);
		answer_leave(op);
		op_turn_over(op);
		request_fail(r, x, "%s", a.detail);
		ask_end(&a);
		return;
	}
	if (!rep.has_more && shard + 1 < core_shard_count(core)) {
		rep.has_more = 2;
		rep.next_slot = (uint16_t)(shard + 1);
	}
	keep_answer(op, &a);
	ask_end(&a);
	op_turn_over(op);
	w = request_answer(r);
	job_list_rep_put(&w, &rep);
	request_reply(r, &w, &op->span.payload);
}

void relay_job_list_serve(struct request *r)
{
	struct op *op;

	if (is_of_a_job(r->conn->access)) {
		request_fail(r, -EACCES, "a job's token shows its own job only");
		return;
	}
	op = op_new(proxy_of(r), r);
	op_serve_in_turn(op, r, job_list_run);
}

/* Somebody who waits: one call upstream, and a record. */
struct waiting {
	struct parked parked;
	struct call call;
};

static void waited(struct call *call)
{
	struct waiting *g = container_of(call, struct waiting, call);
	struct parked *p = &g->parked;
	char detail[160];

	if (call->result < 0) {
		int r = call->result == -ECONNRESET ? -EHOSTUNREACH : call->result;

		parked_fail(p, r, "%s", call_detail(call, detail, sizeof(detail)));
	} else {
		struct rcur body = call_reply(call);
		struct wcur w = parked_answer(p);

		put_bytes(&w, body.p, (size_t)(body.end - body.p));
		parked_reply(p, &w);
	}
	call_end(call);
	node_free(g);
}

static void park(struct request *r, uint16_t slot)
{
	struct waiting *g = node_alloc(sizeof(*g));
	struct rcur body = request_body(r);
	uint16_t msg = r->frame.msg;
	uint64_t due_ns = r->due_ns;
	struct wcur w;

	if (!g) {
		request_fail(r, -ENOMEM, "no memory to wait with");
		return;
	}
	g->call.done = waited;
	w = call_body(proxy_of(r)->net, &g->call);
	put_bytes(&w, body.p, (size_t)(body.end - body.p));
	core_send(proxy_of(r)->core, &g->call, msg, slot, &w, due_ns);
	request_park(r, &g->parked);
}

static void reach_and_park(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct request *r = op->request;
	int x = core_reach(op->proxy->core, op->slot, r->due_ns, op->why, sizeof(op->why));

	if (x < 0)
		request_fail(r, x, "%s", op->why);
	else
		park(r, op->slot);
}

/* A direct client connects when somebody waits for that, and its refusal is to be heard of. */
static void park_or_reach(struct request *r, uint16_t slot)
{
	struct op *op;

	if (core_is_reached(proxy_of(r)->core, slot)) {
		park(r, slot);
		return;
	}
	op = op_new(proxy_of(r), r);
	if (op)
		op->slot = slot;
	op_serve(op, r, reach_and_park);
}

void relay_wait_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct wait_req req = { 0 };
	int x = wait_req_get(&body, &req);

	if (check(r, x, RIGHT_READ, req.job, req.path, true) == 0)
		park_or_reach(r, slot_of_id(req.job));
}

void relay_count_serve(struct request *r)
{
	struct rcur body = request_body(r);
	struct wait_count_req req = { 0 };
	int x = wait_count_req_get(&body, &req);

	if (check(r, x, RIGHT_LIST, req.job, req.directory, req.directory.len > 0) == 0)
		park_or_reach(r, slot_of_id(req.job));
}

void relay_drop_parked(struct conn *c)
{
	struct parked *p;

	while ((p = conn_next_parked(c)) != NULL) {
		struct waiting *g = container_of(p, struct waiting, parked);

		parked_drop(p);
		call_cancel(&g->call);
		call_end(&g->call);
		node_free(g);
	}
}

/* Totals: of all shards and stores. */

static int shard_info(struct proxy *p, uint16_t shard, uint64_t due_ns, struct info_rep *ret)
{
	struct ask a;
	struct rcur body;
	struct wcur w = ask_begin(p->core, &a, MSG_INFO, shard);
	int r;

	info_req_put(&w, &(struct info_req){});
	r = ask_wait(&a, &w, NULL, due_ns);
	body = ask_reply(&a);
	if (r == 0)
		r = info_rep_get(&body, ret);
	ask_end(&a);
	return r;
}

static void add_wide(uint64_t *hi, uint64_t *lo, uint64_t one_hi, uint64_t one_lo)
{
	*lo += one_lo;
	*hi += one_hi + (*lo < one_lo);
}

void info_add_integral(struct info_rep *sum, const struct info_rep *one)
{
	add_wide(&sum->byte_ns_hi, &sum->byte_ns_lo, one->byte_ns_hi, one->byte_ns_lo);
}

static void add_store(void *owner, const struct info_rep *one)
{
	struct info_rep *sum = owner;

	if (!one) {
		sum->is_partial = 1;
		return;
	}
	sum->dram_limit += one->dram_limit;
	sum->dram_used += one->dram_used;
	sum->dram_clean += one->dram_clean;
	sum->segment_count += one->segment_count;
	sum->lingering_bytes += one->lingering_bytes;
	info_add_integral(sum, one);
	sum->moment_ns = one->moment_ns;
}

int proxy_info(struct proxy *p, uint64_t due_ns, struct info_rep *ret)
{
	unsigned count;
	const struct loop_tally *tallies = proxy_tallies(p, due_ns, &count);

	if (!tallies)
		return -ETIMEDOUT;
	*ret = (struct info_rep){ .uptime_ms = (p->loop->now_ns - p->started_ns) / 1000000 };
	for (unsigned i = 0; i < count; i++)
		ret->parked_count += tallies[i].waiting_count;
	for (uint16_t i = 0; i < core_shard_count(p->core); i++) {
		struct info_rep one;
		int r = shard_info(p, i, due_ns, &one);

		if (r < 0)
			return r;
		/* A direct client's own is nobody else's. */
		if (p->config.is_private && ret->uptime_ms < one.uptime_ms)
			ret->uptime_ms = one.uptime_ms;
		ret->value_bytes += one.value_bytes;
		ret->object_count += one.object_count;
		ret->job_count += one.job_count;
		ret->session_count += one.session_count;
		ret->parked_count += one.parked_count;
		info_add_integral(ret, &one); /* of the blocks of small values */
		add_wide(&ret->forgotten_byte_ns_hi, &ret->forgotten_byte_ns_lo,
			 one.forgotten_byte_ns_hi, one.forgotten_byte_ns_lo);
		ret->is_partial |= one.is_partial;
	}
	if (p->config.add_info)
		p->config.add_info(p->config.owner, ret);
	/* Those on other hosts. */
	return core_stores_info(p->core, due_ns, add_store, ret);
}

static void info_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct info_rep info;
	struct wcur w;
	int x = proxy_info(op->proxy, op->request->due_ns, &info);

	if (x < 0) {
		request_fail(op->request, x, NULL);
		return;
	}
	w = request_answer(op->request);
	info_rep_put(&w, &info);
	request_reply(op->request, &w, NULL);
}

void info_serve(struct request *r)
{
	struct op *op;

	if (!r->conn->access || is_of_a_job(r->conn->access)) {
		request_fail(r, -EACCES, "a job's token shows its own job only");
		return;
	}
	op = op_new(proxy_of(r), r);
	op_serve(op, r, info_run);
}
