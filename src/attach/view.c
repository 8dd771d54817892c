/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view: an object where it is, if this handle may map it and the index of its job leads there;
 * then neither it nor anybody is copied or asked. Else a view is a copy.
 */
#include <errno.h>
#include <string.h>

#include "attach/handle.h"
#include "base/container.h"
#include "base/node.h"

/* So often what was found may have gone before it is pinned; then it is copied. */
#define TRIES 8

struct wadi_view {
	struct wadi *w;
	struct sight *sight; /* NULL: a copy */
	struct view view;
	uint64_t now_ns; /* when it was found */
	void *copy;
	struct wadi_stat *stat; /* of a copy: it is larger than all the rest */
	const void *data;
	size_t len;
};

struct view_op {
	struct wadi_op op;
	struct get_how how;
	struct wadi_view *view;
};

static void view_free(struct wadi_view *v)
{
	node_free(v->copy);
	node_free(v->stat);
	node_free(v);
}

/* The part of the object that was asked for. */
static void cut(struct wadi_view *v, const struct wadi_get_options *o)
{
	uint64_t len = v->view.item.len, at = o->offset < len ? o->offset : len, left = len - at;

	v->data = v->view.ptr + at;
	v->len = o->len && o->len < left ? o->len : left;
}

/* A value is copied: what its memory is used for next waits for whoever has pinned it. */
static int copy_value(struct sight *s, const struct get_how *how, struct wadi_view *v)
{
	struct get_room room = { .is_ours = true };
	int64_t n;

	if (!v->stat)
		v->stat = node_alloc(sizeof(*v->stat));
	room.ret_stat = v->stat;
	n = resident_copy(s, &v->view, v->now_ns, how, &room);
	if (n < 0 || !v->stat) {
		node_free(room.buf);
		return -ENOENT;
	}
	v->data = v->copy = room.buf;
	v->len = (size_t)n;
	return 0;
}

/* 0: pinned, and in place. Else as view_get(). */
static int look(struct sight *s, const struct get_how *how, struct wadi_view *v)
{
	int r;

	v->now_ns = node_now_ns();
	r = sight_look(s, how->path, v->now_ns, &v->view);
	if (r < 0)
		return r;
	if (v->view.item.extent_count == 0)
		return copy_value(s, how, v);
	s->user_count++;
	v->sight = s;
	cut(v, &how->options);
	return 0;
}

/* Into the index, or else here as a copy; *ret_is_in_index says which. */
static int64_t get_it(struct view_op *o, bool is_view, bool *ret_is_in_index)
{
	struct wadi_view *v = o->view;
	int64_t n;

	if (!v->stat)
		v->stat = node_alloc(sizeof(*v->stat));
	if (!v->stat)
		return op_no_memory(&o->op);
	o->how.is_view = is_view;
	n = get_object_new(&o->op, &o->how, &v->copy, v->stat, ret_is_in_index);
	if (n < 0 || *ret_is_in_index)
		return n;
	v->data = v->copy;
	v->len = (size_t)n;
	return 0;
}

static int64_t view_run(struct wadi_op *op)
{
	struct view_op *o = container_of(op, struct view_op, op);
	bool is_in_index = true, may_view = true;
	int64_t n = 0;

	for (unsigned i = 0; n == 0 && is_in_index; i++) {
		struct sight *s = NULL;
		int r = may_view && i < TRIES ? sight_get(op, &s) : 0;

		if (r < 0)
			return r;
		r = s ? look(s, &o->how, o->view) : -ENOENT;
		if (r == 0)
			return 0;
		if (r != -ENOENT) {
			r = sight_prepare(op, s, &o->view->view, r);
			may_view = r == 0;
			if (r == -ECANCELED || r == -ETIMEDOUT)
				return r;
			if (r == 0)
				continue;
		}
		n = get_it(o, s && may_view, &is_in_index);
	}
	return n;
}

/* Without a fiber, if all is at hand. */
static bool is_at_hand(struct view_op *o, struct wadi *w)
{
	struct sight *s = sight_at_hand(w);

	return s && look(s, &o->how, o->view) == 0;
}

int wadi_view(struct wadi *w, const char *path, const struct wadi_get_options *options,
	      struct wadi_view **ret)
{
	struct view_op o = { 0 };
	const char *why = "";
	int r = handle_check(w);

	if (r < 0)
		return r;
	r = get_how_init(w, &o.how, options);
	if (r == 0)
		r = path_of(w, path, &o.how.path, &why);
	if (r < 0)
		return (int)handle_fail(w, "view", path, r, why);
	o.view = node_alloc(sizeof(*o.view));
	if (!o.view)
		return (int)handle_fail(w, "view", path, -ENOMEM, "in this process");
	o.view->w = w;
	if (!is_at_hand(&o, w)) {
		op_init(&o.op, w, "view", path, o.how.options.timeout_ms, view_run);
		r = (int)op_run(&o.op);
	}
	if (r < 0)
		view_free(o.view);
	else
		*ret = o.view;
	return r;
}

const void *wadi_view_data(const struct wadi_view *v)
{
	return v->data;
}

size_t wadi_view_len(const struct wadi_view *v)
{
	return v->len;
}

void wadi_view_stat(const struct wadi_view *v, struct wadi_stat *ret)
{
	if (v->sight)
		sight_stat(&v->view.item, v->now_ns, ret);
	else
		*ret = *v->stat;
}

struct still_op {
	struct wadi_op op;
	const struct sight *sight;
};

/* By then the sight is that of the connection that was answered, or will never be one again. */
static int64_t still_run(struct wadi_op *op)
{
	const struct sight *s = container_of(op, struct still_op, op)->sight;
	struct sight *now;
	struct question q;
	struct wcur w = question_begin(op, &q, MSG_PING);
	int r;

	ping_req_put(&w, &(struct ping_req){});
	r = question_ask(&q, &w, NULL);
	question_end(&q);
	if (r == 0)
		r = sight_get(op, &now);
	return r == 0 && now != s ? -ESTALE : r;
}

/*
 * Whoever writes the head that we have is still there, or a successor that knows of our views: by
 * its lease, or by its own word. Else nobody may have written into it that the view was revoked.
 */
static bool is_told_of_ends(struct wadi *w, const struct sight *s)
{
	struct still_op o = { .sight = s };

	if (node_now_ns() < index_reader_lease(&s->viewer.index))
		return true;
	op_init(&o.op, w, "release", NULL, 0, still_run);
	return op_run(&o.op) == 0;
}

int wadi_release(struct wadi_view **take)
{
	struct wadi_view *v = *take;
	int r = 0;

	*take = NULL;
	if (!v)
		return 0;
	/* After a fork the pin is the parent's: nothing of it is given back here. */
	if (forked_since(&v->w->forked))
		return handle_check(v->w);
	loop_adopt(v->w->loop);
	if (v->sight) {
		bool is_told = is_told_of_ends(v->w, v->sight);

		r = view_release(&v->sight->viewer, &v->view);
		if (!is_told)
			r = -ESTALE;
		sight_leave(&v->w->near, v->sight);
	}
	view_free(v);
	return r;
}
