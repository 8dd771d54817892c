/* SPDX-License-Identifier: Apache-2.0 */
/*
 * instance: what a process of functions keeps from one run to the next: how many there
 * were, and the way to the store of the last one, because to attach is what a short run
 * would pay most for. Where a run names another store, job or token, there is another way.
 *
 * It is kept only after a run that succeeded: who failed attaches afresh the next time, so a
 * store that went away costs one run. What is kept may have been frozen for any time.
 * For zeros nothing was kept; one thread at a time.
 */
#pragma once

#include "store.h"

struct instance {
	uint32_t runs; /* begun */

	/* instance.c's own. */
	struct store *store;     /* NULL: none is kept */
	char *url, *token, *job; /* whose it is; owned, the token may be NULL */
};

/* Opened, or kept from before: then its counts begin anew. The caller gives it back. */
int instance_store_take(struct instance *i, const struct store_config *config,
			struct problem *problem, struct store **ret);

/* Keeps it if the run was a good one, else closes it. NULL is fine. */
void instance_store_give(struct instance *i, struct store *s, bool is_good);

void instance_fini(struct instance *i);
