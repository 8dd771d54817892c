/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "attach/handle.h"
#include "base/node.h"

static size_t op_len(size_t head, const char *path)
{
	return head + strlen(path) + 1;
}

void *op_alloc(struct wadi *w, size_t head, const char *path)
{
	size_t len = path ? op_len(head, path) : 0;
	void *op = NULL;

	if (path)
		op = len <= OP_BYTES ? spares_take(&w->spare_ops, OP_BYTES) : node_alloc(len);
	return op ? memset(op, 0, len) : NULL;
}

void op_give(struct wadi *w, void *op, size_t head, const char *path)
{
	if (op && op_len(head, path) <= OP_BYTES)
		spares_give(&w->spare_ops, op, OP_BYTES);
	else
		node_free(op);
}

bool wadi_op_has_ended(const struct wadi_op *op)
{
	return op->has_ended;
}

int64_t wadi_op_end(struct wadi_op **take)
{
	struct wadi_op *op = *take;
	int64_t r = handle_check(op->w);

	*take = NULL;
	if (r < 0)
		return r; /* of another process: its memory is not ours to give back */
	r = op_finish(op);
	list_remove(&op->link);
	op->free(op);
	return r;
}

void wadi_op_cancel(struct wadi_op *op)
{
	if (!op->has_ended && handle_check(op->w) == 0)
		fiber_cancel(&op->fiber);
}
