/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pass: one merge of runs that lie in the store, side by side in a list: read through windows, as
 * large as the room allows, or looked at where they lie.
 */
#pragma once

#include "function.h"
#include "merge.h"
#include "region.h"
#include "runs.h"

struct pass {
	struct merge merge;

	/* pass.c's own. */
	struct function *f;
	const struct run *runs;
	struct window *windows;
	struct region room;
	struct store_view *views; /* of what is looked at where it lies, else NULL */
	size_t view_count;
};

/* Room for a window on it, at least. */
uint64_t run_need(const struct run *run);

/* `room` is enough for all that each needs. The problem is described, but for -EBADMSG. */
int pass_init(struct pass *p, struct function *f, const struct run *runs, size_t count, size_t room,
	      bool may_view);
/* Whoever has merged all asks whether it was right: from here on nothing is looked at. */
int pass_end(struct pass *p);
void pass_fini(struct pass *p);
