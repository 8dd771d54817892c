/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "attach/handle.h"
#include "base/node.h"

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
	op->free(op);
	return r;
}

void wadi_op_cancel(struct wadi_op *op)
{
	if (!op->has_ended && handle_check(op->w) == 0)
		fiber_cancel(&op->fiber);
}
