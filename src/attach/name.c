/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "attach/handle.h"
#include "base/cleanup.h"
#include "base/container.h"
#include "base/node.h"

/* What needs no bytes: one question, one answer. */
struct name_op {
	struct wadi_op op;
	struct slice path, to;
	uint64_t number, attempt_hi, attempt_lo;
	uint32_t flags, wait_ms;
	struct wadi_stat *ret_stat;
	uint64_t *ret_number;
};

/* Its arguments, checked; then it runs. */
static int name_init(struct name_op *o, struct wadi *w, const char *verb, const char *path,
		     uint32_t timeout_ms, int64_t (*run)(struct wadi_op *op))
{
	struct wadi_attempt attempt;
	const char *why = "";
	int r = path_of(w, path, &o->path, &why);

	if (r < 0)
		return (int)handle_fail(w, verb, path, r, why);
	op_init(&o->op, w, verb, path, timeout_ms, run);
	attempt = attempt_next(w);
	o->attempt_hi = attempt.hi;
	o->attempt_lo = attempt.lo;
	return 0;
}

static int64_t stat_run(struct wadi_op *op)
{
	struct name_op *o = container_of(op, struct name_op, op);
	struct question q;
	struct stat_rep rep;
	struct rcur body;
	struct wcur w = question_begin(op, &q, MSG_STAT);
	struct conn *c;
	int r = handle_conn(op, &c);

	stat_req_put(&w, &(struct stat_req){ .job = op->w->job, .path = o->path });
	if (r == 0)
		r = question_ask(&q, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = stat_rep_get(&body, &rep);
	if (r == 0)
		stat_from(o->ret_stat, &rep);
	question_end(&q);
	return r;
}

int wadi_stat(struct wadi *w, const char *path, struct wadi_stat *ret)
{
	struct name_op o = { .ret_stat = ret };
	int r = name_init(&o, w, "stat", path, 0, stat_run);

	return r < 0 ? r : (int)op_run(&o.op);
}

static int remove_once(struct wadi_op *op, const struct name_op *o)
{
	struct remove_rep rep;
	struct question q;
	struct rcur body;
	struct wcur w = question_begin(op, &q, MSG_REMOVE);
	int r;

	remove_req_put(&w, &(struct remove_req){ .job = op->w->job,
						 .attempt_hi = o->attempt_hi,
						 .attempt_lo = o->attempt_lo,
						 .since = op_since(op),
						 .if_version = o->number,
						 .path = o->path });
	r = question_ask(&q, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = remove_rep_get(&body, &rep);
	if (r == 0)
		handle_heard(op->w, rep.changes);
	question_end(&q);
	return r;
}

static int64_t remove_run(struct wadi_op *op)
{
	const struct name_op *o = container_of(op, struct name_op, op);
	int r;

	do
		r = remove_once(op, o);
	while (op_renew(op, r));
	return r;
}

int wadi_remove(struct wadi *w, const char *path, uint64_t if_version)
{
	struct name_op o = { .number = if_version };
	int r = name_init(&o, w, "remove", path, 0, remove_run);

	return r < 0 ? r : (int)op_run(&o.op);
}

/* A directory's name as the catalog has it: "" or with a slash at its end. */
static int directory_of(struct wadi *w, const char *directory, char *buf, struct slice *ret,
			const char **ret_why)
{
	int r = path_of(w, directory, ret, ret_why);

	if (r < 0 || ret->len == 0 || ret->ptr[ret->len - 1] == '/')
		return r;
	if (ret->len + 1 > PATH_BYTES_MAX)
		return -EMSGSIZE;
	memcpy(buf, ret->ptr, ret->len);
	buf[ret->len] = '/';
	*ret = (struct slice){ (uint8_t *)buf, ret->len + 1 };
	return 0;
}

/* A directory that is removed step by step. */
struct tree_op {
	struct name_op name;
	uint64_t up_to, count; /* up_to 0: not asked yet */
	uint8_t from[PATH_BYTES_MAX];
	size_t from_len; /* 0: at the first name */
};

static int tree_took(struct tree_op *o, const struct remove_tree_rep *rep)
{
	if (rep->next.len > sizeof(o->from))
		return -EPROTO;
	o->count += rep->count;
	if (o->up_to == 0)
		o->up_to = rep->version;
	o->from_len = rep->next.len;
	if (rep->next.len > 0)
		memcpy(o->from, rep->next.ptr, rep->next.len);
	return 0;
}

static int tree_step(struct wadi_op *op, struct tree_op *o)
{
	struct question q;
	struct remove_tree_rep rep;
	struct rcur body;
	struct wcur w = question_begin(op, &q, MSG_REMOVE_TREE);
	int r;

	remove_tree_req_put(&w, &(struct remove_tree_req){ .job = op->w->job,
							   .up_to = o->up_to,
							   .max = TREE_STEP,
							   .directory = o->name.path,
							   .from = { o->from, o->from_len } });
	r = question_ask(&q, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = remove_tree_rep_get(&body, &rep);
	if (r == 0)
		r = tree_took(o, &rep);
	question_end(&q);
	op_progress(op);
	return r;
}

/*
 * Asks first what is the newest version, so that a step that is held up on its way, and comes when
 * all this is long over, takes nothing that was put after that.
 */
static int64_t remove_tree_run(struct wadi_op *op)
{
	struct tree_op *o = container_of(op, struct tree_op, name.op);
	int r = tree_step(op, o);

	if (r == 0 && o->up_to > 0) {
		do
			r = tree_step(op, o);
		while (r == 0 && o->from_len > 0);
	}
	if (o->name.ret_number)
		*o->name.ret_number = o->count;
	return r;
}

int wadi_remove_tree(struct wadi *w, const char *directory, uint64_t *ret_count)
{
	struct tree_op o = { .name.ret_number = ret_count };
	char buf[PATH_BYTES_MAX];
	const char *why = "";
	int r = directory_of(w, directory, buf, &o.name.path, &why);

	if (r < 0)
		return (int)handle_fail(w, "remove", directory, r, why);
	op_init(&o.name.op, w, "remove", directory, 0, remove_tree_run);
	return (int)op_run(&o.name.op);
}

static int rename_once(struct wadi_op *op, const struct name_op *o)
{
	struct question q;
	struct rename_rep rep;
	struct rcur body;
	struct wcur w = question_begin(op, &q, MSG_RENAME);
	int r;

	rename_req_put(&w, &(struct rename_req){ .job = op->w->job,
						 .attempt_hi = o->attempt_hi,
						 .attempt_lo = o->attempt_lo,
						 .since = op_since(op),
						 .flags = (uint16_t)o->flags,
						 .from = o->path,
						 .to = o->to });
	r = question_ask(&q, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = rename_rep_get(&body, &rep);
	if (r == 0)
		handle_heard(op->w, rep.changes);
	if (r == 0 && o->ret_number)
		*o->ret_number = rep.version;
	question_end(&q);
	return r;
}

static int64_t rename_run(struct wadi_op *op)
{
	const struct name_op *o = container_of(op, struct name_op, op);
	int r;

	do
		r = rename_once(op, o);
	while (op_renew(op, r));
	return r;
}

int wadi_rename(struct wadi *w, const char *from, const char *to, uint32_t flags,
		uint64_t *ret_version)
{
	struct name_op o = { .flags = flags, .ret_number = ret_version };
	const char *why = "";
	int r = name_init(&o, w, "rename", from, 0, rename_run);

	if (r < 0)
		return r;
	r = path_of(w, to, &o.to, &why);
	return r < 0 ? (int)handle_fail(w, "rename", to, r, why) : (int)op_run(&o.op);
}

int wait_once(struct wadi_op *op, struct slice path, uint64_t due_ns, struct wadi_stat *ret_stat)
{
	struct question q;
	struct wait_rep rep;
	struct stat_rep stat;
	struct rcur body;
	struct wcur w = question_begin(op, &q, MSG_WAIT);
	int r;

	op->due_ns = due_ns;
	wait_req_put(&w, &(struct wait_req){ .job = op->w->job, .path = path });
	r = question_ask(&q, &w, NULL);
	body = call_reply(&q.call);
	_Static_assert(sizeof(rep) == sizeof(stat), "WAIT is answered as STAT is");
	if (r == 0)
		r = stat_rep_get(&body, &stat);
	if (r == 0 && ret_stat)
		stat_from(ret_stat, &stat);
	question_end(&q);
	return r;
}

static int64_t wait_run(struct wadi_op *op)
{
	struct name_op *o = container_of(op, struct name_op, op);

	return wait_once(op, o->path, op->w->loop->now_ns + o->wait_ms * 1000000ull, o->ret_stat);
}

int wadi_wait(struct wadi *w, const char *path, uint32_t wait_ms, struct wadi_stat *ret_stat)
{
	struct name_op o = { .wait_ms = wait_ms, .ret_stat = ret_stat };
	int r = name_init(&o, w, "wait", path, wait_ms, wait_run);

	return r < 0 ? r : (int)op_run(&o.op);
}

static int64_t wait_count_run(struct wadi_op *op)
{
	struct name_op *o = container_of(op, struct name_op, op);
	struct question q;
	struct wait_count_rep rep;
	struct rcur body;
	struct wcur w = question_begin(op, &q, MSG_WAIT_COUNT);
	int r;

	op->due_ns = op->w->loop->now_ns + o->wait_ms * 1000000ull;
	wait_count_req_put(&w, &(struct wait_count_req){ .job = op->w->job,
							 .count = o->number,
							 .directory = o->path });
	r = question_ask(&q, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = wait_count_rep_get(&body, &rep);
	if (r == 0 && o->ret_number)
		*o->ret_number = rep.count;
	question_end(&q);
	return r;
}

int wadi_wait_count(struct wadi *w, const char *directory, uint64_t count, uint32_t wait_ms,
		    uint64_t *ret_count)
{
	struct name_op o = { .number = count, .wait_ms = wait_ms, .ret_number = ret_count };
	char buf[PATH_BYTES_MAX];
	const char *why = "";
	int r = directory_of(w, directory, buf, &o.path, &why);

	if (r < 0)
		return (int)handle_fail(w, "wait", directory, r, why);
	op_init(&o.op, w, "wait", directory, wait_ms, wait_count_run);
	return (int)op_run(&o.op);
}

struct started_wait {
	struct name_op name;
	struct wadi_stat unused;
	char path[];
};

static void started_free(struct wadi_op *op)
{
	struct started_wait *s = container_of(op, struct started_wait, name.op);

	op_give(op->w, s, sizeof(*s), s->path);
}

static int start(struct wadi *w, const char *verb, const char *path, const struct name_op *model,
		 int64_t (*run)(struct wadi_op *op), struct wadi_op **ret)
{
	struct started_wait *s = op_alloc(w, sizeof(*s), path);
	int r = handle_check(w);

	if (r == 0 && !s)
		r = (int)handle_fail(w, verb, path, path ? -ENOMEM : -EINVAL, why_no_room(path));
	if (r == 0) {
		strcpy(s->path, path);
		s->name = *model;
		r = name_init(&s->name, w, verb, s->path, model->wait_ms, run);
	}
	if (r == 0) {
		s->name.op.free = started_free;
		r = op_start(&s->name.op);
		r = (int)handle_fail(w, verb, path, r, s->name.op.why);
	}
	if (r < 0)
		op_give(w, s, sizeof(*s), path);
	else
		*ret = &s->name.op;
	return r;
}

int wadi_start_remove(struct wadi *w, const char *path, uint64_t if_version, struct wadi_op **ret)
{
	return start(w, "remove", path, &(struct name_op){ .number = if_version }, remove_run, ret);
}

int wadi_start_wait(struct wadi *w, const char *path, uint32_t wait_ms, struct wadi_stat *ret_stat,
		    struct wadi_op **ret)
{
	return start(w, "wait", path, &(struct name_op){ .wait_ms = wait_ms, .ret_stat = ret_stat },
		     wait_run, ret);
}

/* Lists: a page at a time. */

struct wadi_list {
	struct wadi *w;
	struct slice directory;
	bool is_recursive, has_more;
	uint32_t timeout_ms;
	uint8_t *page;
	struct rcur at;
	uint32_t left;
	size_t after_len;
	char after[PATH_BYTES_MAX + 1], name[PATH_BYTES_MAX + 1];
	char directory_buf[PATH_BYTES_MAX], path[];
};

struct list_op {
	struct wadi_op op;
	struct wadi_list *l;
};

static int64_t page_run(struct wadi_op *op)
{
	struct wadi_list *l = container_of(op, struct list_op, op)->l;
	struct question q;
	struct list_rep rep;
	struct rcur body;
	struct wcur w = question_begin(op, &q, MSG_LIST);
	int r;

	list_req_put(&w, &(struct list_req){ .job = op->w->job,
					     .is_recursive = l->is_recursive,
					     .max = LIST_STEP,
					     .directory = l->directory,
					     .after = { (uint8_t *)l->after, l->after_len } });
	q.call.room = l->page;
	q.call.room_cap = LIST_BYTES;
	r = question_ask(&q, &w, NULL);
	body = call_reply(&q.call);
	if (r == 0)
		r = list_rep_get(&body, &rep);
	if (r == 0) {
		l->at = rcur_make(l->page, q.call.room_len);
		l->left = rep.count;
		l->has_more = rep.has_more;
	}
	question_end(&q);
	return r;
}

static int page(struct wadi_list *l)
{
	struct list_op o = { .l = l };

	op_init(&o.op, l->w, "list", l->path, l->timeout_ms, page_run);
	return (int)op_run(&o.op);
}

int wadi_list_open(struct wadi *w, const char *directory, const struct wadi_list_options *options,
		   struct wadi_list **ret)
{
	struct wadi_list_options o = WADI_LIST_OPTIONS;
	struct wadi_list *l = directory ? node_alloc(sizeof(*l) + strlen(directory) + 1) : NULL;
	const char *why = "";
	int r;

	*ret = NULL;
	if (!l)
		return (int)handle_fail(w, "list", directory, directory ? -ENOMEM : -EINVAL,
					why_no_room(directory));
	if (options)
		memcpy(&o, options, options->size < sizeof(o) ? options->size : sizeof(o));
	strcpy(l->path, directory);
	l->w = w;
	l->is_recursive = o.is_recursive;
	l->timeout_ms = o.timeout_ms;
	l->has_more = true;
	r = directory_of(w, l->path, l->directory_buf, &l->directory, &why);
	if (r == 0 && o.after) {
		l->after_len = strlen(o.after);
		r = l->after_len > PATH_BYTES_MAX ? -EMSGSIZE : 0;
		if (r == 0)
			memcpy(l->after, o.after, l->after_len);
	}
	l->page = node_alloc(LIST_BYTES);
	if (r == 0 && !l->page)
		r = -ENOMEM;
	if (r < 0)
		(void)handle_fail(w, "list", directory, r, why);
	else
		r = page(l);
	if (r < 0)
		wadi_list_close(&l);
	*ret = l;
	return r;
}

int wadi_list_next(struct wadi_list *l, struct wadi_list_entry *ret)
{
	struct list_entry e;
	struct stat_rep stat;
	int r;

	while (l->left == 0) {
		if (!l->has_more)
			return 0;
		r = page(l);
		if (r < 0)
			return r;
	}
	list_entry_get(&l->at, &e);
	if (l->at.bad || e.name.len > PATH_BYTES_MAX)
		return (int)handle_fail(l->w, "list", l->path, -EBADMSG, "");
	l->left--;
	memcpy(l->name, e.name.ptr, e.name.len);
	l->name[e.name.len] = '\0';
	memcpy(l->after, l->name, e.name.len + 1);
	l->after_len = e.name.len;
	stat = (struct stat_rep){ .object = e.object,
				  .version = e.version,
				  .len = e.len,
				  .age_ms = e.age_ms,
				  .ttl_left_ms = e.ttl_left_ms,
				  .reads_left = e.reads_left,
				  .extent_count = e.extent_count,
				  .tier = e.tier,
				  .is_directory = e.is_directory,
				  .attributes = e.attributes };
	stat_from(&ret->stat, &stat);
	ret->name = l->name;
	ret->name_len = e.name.len;
	return 1;
}

void wadi_list_close(struct wadi_list **take)
{
	if (*take)
		node_free((*take)->page);
	*take = node_free(*take);
}
