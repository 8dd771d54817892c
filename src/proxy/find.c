/* SPDX-License-Identifier: Apache-2.0 */
/*
 * find: the version that a GET is about, and whether the index leads to it from here on, so that
 * the next ones need no GET.
 */
#include <errno.h>

#include "proxy/index.h"

uint64_t get_wanted(const struct get_req *req, uint64_t object_len)
{
	uint64_t left = req->offset < object_len ? object_len - req->offset : 0;

	return req->len && req->len < left ? req->len : left;
}

/* Of the connection, as long as there is one: asked again after each wait. NULL: it has none. */
static struct job_index *index_of(const struct op *op)
{
	const struct request *r = op->request;
	const struct reader *reader = r->conn->is_closed ? NULL : native_of(r)->reader;

	return reader ? reader->index : NULL;
}

static int enter(struct op *op, const struct found *f, struct slice path)
{
	struct job_index *x = index_of(op);
	int r = x ? index_enter(x, f, path) : -EAGAIN;

	if (r == 0)
		index_grow(x);
	return r;
}

/* Of what is about to be entered: the bytes have one sum, which an entry has, and need no hold. */
static bool may_be_entered(const struct stat_rep *stat)
{
	return stat->len <= CHECK_PIECE && stat->extent_count <= 1 && stat->attributes.len == 0 &&
	       stat->reads_left == NONE_32;
}

/* Found, and in the index if it has room: the next get of it asks nobody. -EAGAIN: as always. */
static int find_to_enter(struct op *op, struct reading *g, const struct get_req *req, uint32_t take)
{
	int r = object_take(op->proxy->core, op->job, req->path, op->request->due_ns, &g->found,
			    op->why, sizeof(op->why));

	if (r == -EOPNOTSUPP || r == -ENODATA)
		return -EAGAIN;
	if (r == 0 &&
	    (!may_be_entered(&g->found.stat) || get_wanted(req, g->found.stat.len) > take))
		return -EAGAIN;
	if (r == 0)
		(void)enter(op, &g->found, req->path);
	return r;
}

/*
 * As always; what a function reads that has an index is noted there, and entered when it is read
 * once more.
 */
static int find_to_get(struct op *op, struct reading *g, const struct get_req *req, uint32_t take)
{
	struct job_index *x = index_of(op);
	int r = x && index_was_got(x, req->path) ? find_to_enter(op, g, req, take) : -EAGAIN;

	if (r != -EAGAIN)
		return r;
	r = object_find(op->proxy->core, op->job, req->path, req->offset, take, req->read_hi,
			req->read_lo, op->request->due_ns, &g->found, op->why, sizeof(op->why));
	x = index_of(op);
	if (r == 0 && x && may_be_entered(&g->found.stat))
		index_note(x, req->path);
	return r;
}

/*
 * Found, and if it is a small value that is all: it comes with the answer. True: it is in the
 * index, where the function reads it. Whatever else comes of it, it is looked up as always: *ret is
 * -EAGAIN then.
 */
static bool find_to_view(struct op *op, struct reading *g, const struct get_req *req, int *ret)
{
	int r = object_take(op->proxy->core, op->job, req->path, op->request->due_ns, &g->found,
			    op->why, sizeof(op->why));

	/* Of counted reads the usual way knows more. */
	*ret = r == -EOPNOTSUPP || r == -ENODATA ? -EAGAIN : r;
	if (r < 0)
		return false;
	r = enter(op, &g->found, req->path);
	if (g->found.stat.extent_count == 0)
		return false;
	*ret = r == 0 ? 0 : -EAGAIN;
	return r == 0;
}

int get_find(struct op *op, struct reading *g, const struct get_req *req, uint32_t take,
	     bool *may_view)
{
	int r = -EAGAIN;

	if (*may_view && index_of(op))
		g->is_in_index = find_to_view(op, g, req, &r);
	*may_view = *may_view && r != -EAGAIN;
	return *may_view ? r : find_to_get(op, g, req, take);
}
