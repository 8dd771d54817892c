/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "attach/handle.h"
#include "base/container.h"
#include "base/node.h"
#include "wire/token.h"

#define NS_PER_MS 1000000

struct job_op {
	struct wadi_op op;
	struct slice name;
	struct wadi_job_options options;
	char *token;
	struct wadi_job_info *ret;
	size_t cap;
	struct wadi_store_info *ret_store;
};

static int job_init(struct job_op *o, struct wadi *w, const char *verb, const char *name,
		    int64_t (*run)(struct wadi_op *op))
{
	if (!name || strlen(name) > JOB_NAME_BYTES_MAX)
		return (int)handle_fail(w, verb, name, -EINVAL, "a job's name has 1 to 64 bytes");
	o->name = (struct slice){ (const uint8_t *)name, strlen(name) };
	op_init(&o->op, w, verb, name, 0, run);
	return 0;
}

static int64_t create_run(struct wadi_op *op)
{
	struct job_op *o = container_of(op, struct job_op, op);
	const struct wadi_job_options *j = &o->options;
	struct wadi_attempt attempt = attempt_next(op->w);
	struct job_create_rep rep;
	struct question q;
	struct rcur body;
	struct wcur w = question_begin(op, &q, MSG_JOB_CREATE);
	int r;

	job_create_req_put(&w, &(struct job_create_req){
				       .attempt_hi = attempt.hi,
				       .attempt_lo = attempt.lo,
				       .lease_ms = j->lease_ms,
				       .functions = j->functions,
				       .quota_dram = j->quota_dram,
				       .capacity = j->capacity,
				       .peak_mbps = j->peak_mbps,
				       .is_latency_sensitive = j->is_latency_sensitive,
				       .is_durable = j->is_durable,
				       .name = o->name,
			       });
	r = question_ask(&q, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = job_create_rep_get(&body, &rep);
	if (r == 0 && rep.token.len > TOKEN_BYTES_MAX)
		r = -EBADMSG;
	if (r == 0) {
		memcpy(o->token, rep.token.ptr, rep.token.len);
		o->token[rep.token.len] = '\0';
	}
	question_end(&q);
	return r;
}

int wadi_job_create(struct wadi *w, const char *name, const struct wadi_job_options *options,
		    char *token)
{
	struct job_op o = { .options = WADI_JOB_OPTIONS, .token = token };
	int r = job_init(&o, w, "job create", name, create_run);

	if (r < 0)
		return r;
	if (options)
		memcpy(&o.options, options,
		       options->size < sizeof(o.options) ? options->size : sizeof(o.options));
	return (int)op_run(&o.op);
}

static int64_t renew_run(struct wadi_op *op)
{
	struct job_op *o = container_of(op, struct job_op, op);
	struct question q;
	struct wcur w = question_begin(op, &q, MSG_JOB_RENEW);
	int r;

	job_renew_req_put(
		&w, &(struct job_renew_req){ .lease_ms = o->options.lease_ms, .name = o->name });
	r = question_ask(&q, &w, NULL);
	question_end(&q);
	return r;
}

int wadi_job_renew(struct wadi *w, const char *name, uint32_t lease_ms)
{
	struct job_op o = { .options = { .lease_ms = lease_ms } };
	int r = job_init(&o, w, "job renew", name, renew_run);

	return r < 0 ? r : (int)op_run(&o.op);
}

static bool is_own(const struct wadi *w, struct slice name)
{
	return strlen(w->job_name) == name.len && memcmp(w->job_name, name.ptr, name.len) == 0;
}

/*
 * It has ended, and that is all we were told. JOB_END is answered when nobody serves the job any
 * more; whoever has not heard of the end has done so by then, too.
 */
static int wait_until_served(struct wadi_op *op)
{
	const uint64_t until_ns = op->w->loop->now_ns + (uint64_t)SERVE_MS * NS_PER_MS;
	int r = 0;

	while (r == 0 && op->w->loop->now_ns < until_ns && op->w->loop->now_ns < op->due_ns)
		r = op_sleep(op,
			     (until_ns < op->due_ns ? until_ns : op->due_ns) - op->w->loop->now_ns);
	if (r < 0 || op->w->loop->now_ns >= until_ns)
		return r;
	snprintf(op->why, sizeof(op->why),
		 "the job has ended, and perhaps not everybody has heard of it");
	return -ETIMEDOUT;
}

static int64_t end_run(struct wadi_op *op)
{
	struct job_op *o = container_of(op, struct job_op, op);
	struct question q;
	struct wcur w = question_begin(op, &q, MSG_JOB_END);
	int r;

	job_end_req_put(&w, &(struct job_end_req){ .name = o->name });
	r = question_ask(&q, &w, NULL);
	question_end(&q);
	/* Our own job's end cuts our connection, perhaps before it is answered; asked again, we
	 * hear that the job has ended. */
	return r == -EIDRM && is_own(op->w, o->name) ? wait_until_served(op) : r;
}

int wadi_job_end(struct wadi *w, const char *name)
{
	struct job_op o = { 0 };
	int r = job_init(&o, w, "job end", name, end_run);

	return r < 0 ? r : (int)op_run(&o.op);
}

/* Bytes times nanoseconds to bytes times milliseconds, rounded down. */
static void to_byte_ms(uint64_t hi, uint64_t lo, uint64_t *ret_hi, uint64_t *ret_lo)
{
	unsigned __int128 v = ((unsigned __int128)hi << 64 | lo) / NS_PER_MS;

	*ret_hi = (uint64_t)(v >> 64);
	*ret_lo = (uint64_t)v;
}

static int info_from(struct wadi_job_info *ret, const struct job_show_rep *rep)
{
	if (rep->name.len > JOB_NAME_BYTES_MAX)
		return -EBADMSG;
	*ret = (struct wadi_job_info){
		.id = rep->job,
		.has_ended = rep->has_ended,
		.has_expired = rep->has_expired,
		.lease_left_ms = rep->lease_left_ms,
		.object_count = rep->object_count,
		.object_bytes = rep->object_bytes,
		.dram_bytes = rep->dram_bytes,
		.quota_dram = rep->quota_dram,
	};
	memcpy(ret->name, rep->name.ptr, rep->name.len);
	to_byte_ms(rep->byte_ns_hi, rep->byte_ns_lo, &ret->dram_byte_ms_hi, &ret->dram_byte_ms_lo);
	return 0;
}

static int64_t show_run(struct wadi_op *op)
{
	struct job_op *o = container_of(op, struct job_op, op);
	struct job_show_rep rep;
	struct question q;
	struct rcur body;
	struct wcur w = question_begin(op, &q, MSG_JOB_SHOW);
	int r;

	job_show_req_put(&w, &(struct job_show_req){ .name = o->name });
	r = question_ask(&q, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = job_show_rep_get(&body, &rep);
	if (r == 0)
		r = info_from(o->ret, &rep);
	question_end(&q);
	return r;
}

int wadi_job_show(struct wadi *w, const char *name, struct wadi_job_info *ret)
{
	struct job_op o = { .ret = ret };
	int r = job_init(&o, w, "job show", name, show_run);

	return r < 0 ? r : (int)op_run(&o.op);
}

/* One page; `after` is changed to the last name. */
static int list_page(struct wadi_op *op, struct job_op *o, uint8_t *room, char *after,
		     struct job_list_rep *rep, uint16_t slot, size_t *count)
{
	struct question q;
	struct rcur body, list;
	struct wcur w = question_begin(op, &q, MSG_JOB_LIST);
	int r;

	job_list_req_put(&w,
			 &(struct job_list_req){ .from_slot = slot,
						 .after = { (uint8_t *)after, strlen(after) } });
	q.call.room = room;
	q.call.room_cap = LIST_BYTES;
	r = question_ask(&q, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = job_list_rep_get(&body, rep);
	list = rcur_make(room, q.call.room_len);
	for (uint32_t i = 0; r == 0 && i < rep->count; i++) {
		struct job_entry e;
		struct job_show_rep show;
		struct wadi_job_info info;

		job_entry_get(&list, &e);
		if (list.bad) {
			r = -EBADMSG;
			break;
		}
		show = (struct job_show_rep){ .job = e.job,
					      .lease_left_ms = e.lease_left_ms,
					      .object_count = e.object_count,
					      .object_bytes = e.object_bytes,
					      .dram_bytes = e.dram_bytes,
					      .quota_dram = e.quota_dram,
					      .byte_ns_hi = e.byte_ns_hi,
					      .byte_ns_lo = e.byte_ns_lo,
					      .has_ended = e.has_ended,
					      .has_expired = e.has_expired,
					      .name = e.name };
		r = info_from(*count < o->cap ? &o->ret[*count] : &info, &show);
		if (r < 0)
			break;
		memcpy(after, e.name.ptr, e.name.len);
		after[e.name.len] = '\0';
		(*count)++;
	}
	question_end(&q);
	return r;
}

static int64_t list_run(struct wadi_op *op)
{
	struct job_op *o = container_of(op, struct job_op, op);
	struct job_list_rep rep = { .has_more = 1 };
	char after[JOB_NAME_BYTES_MAX + 1] = "";
	uint8_t *room = node_alloc(LIST_BYTES);
	uint16_t slot = 0;
	size_t count = 0;
	int r = room ? 0 : op_no_memory(op);

	while (r == 0 && rep.has_more) {
		r = list_page(op, o, room, after, &rep, slot, &count);
		slot = rep.next_slot;
		if (rep.has_more == 2)
			after[0] = '\0';
		op_progress(op);
	}
	node_free(room);
	return r < 0 ? r : (int64_t)count;
}

int wadi_job_list(struct wadi *w, struct wadi_job_info *ret, size_t cap)
{
	struct job_op o = { .ret = ret, .cap = cap };

	op_init(&o.op, w, "job list", NULL, 0, list_run);
	return (int)op_run(&o.op);
}

static int64_t store_run(struct wadi_op *op)
{
	struct job_op *o = container_of(op, struct job_op, op);
	struct wadi_store_info *ret = o->ret_store;
	struct info_rep rep;
	struct question q;
	struct rcur body;
	struct wcur w = question_begin(op, &q, MSG_INFO);
	int r;

	info_req_put(&w, &(struct info_req){});
	r = question_ask(&q, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = info_rep_get(&body, &rep);
	if (r == 0) {
		*ret = (struct wadi_store_info){
			.dram_limit = rep.dram_limit,
			.dram_used = rep.dram_used,
			.dram_clean = rep.dram_clean,
			.value_bytes = rep.value_bytes,
			.segment_count = rep.segment_count,
			.object_count = rep.object_count,
			.job_count = rep.job_count,
			.session_count = rep.session_count,
			.parked_count = rep.parked_count,
			.uptime_ms = rep.uptime_ms,
			.is_partial = rep.is_partial != 0,
			.lingering_bytes = rep.lingering_bytes,
		};
		to_byte_ms(rep.byte_ns_hi, rep.byte_ns_lo, &ret->dram_byte_ms_hi,
			   &ret->dram_byte_ms_lo);
		to_byte_ms(rep.forgotten_byte_ns_hi, rep.forgotten_byte_ns_lo,
			   &ret->forgotten_byte_ms_hi, &ret->forgotten_byte_ms_lo);
	}
	question_end(&q);
	return r;
}

int wadi_store_info(struct wadi *w, struct wadi_store_info *ret)
{
	struct job_op o = { .ret_store = ret };

	op_init(&o.op, w, "store info", NULL, 0, store_run);
	return (int)op_run(&o.op);
}

int wadi_token_narrow(const char *token, const char *prefix, uint32_t rights, uint32_t valid_s,
		      char *ret)
{
	uint64_t until_s = valid_s ? node_wall_ns() / 1000000000 + valid_s : 0;
	size_t prefix_len = prefix ? strlen(prefix) : 0;

	if (!token || !ret || strlen(token) > TOKEN_BYTES_MAX || prefix_len > PATH_BYTES_MAX)
		return -EINVAL;
	return token_narrow((struct slice){ (const uint8_t *)token, strlen(token) },
			    (struct slice){ (const uint8_t *)prefix, prefix_len },
			    rights ? rights : RIGHTS_OF_JOB, until_s, ret);
}
