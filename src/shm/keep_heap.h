/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keep_heap: the simulator's keeper. Regions are plain memory of a node of the keeper's
 * own, so they are there when the owner's node was killed. It speaks of no time and
 * sends nothing; one thread.
 */
#pragma once

#include "shm/keep.h"

struct node;
struct keep_heap;

/* Regions and names are allocated of `home`, which outlives it. */
int keep_heap_open(struct node *home, struct keep_heap **ret);
/* Its owner has been told to end, or nobody came in time: all of it goes. NULL is fine. */
void keep_heap_close(struct keep_heap *k);

/* The owner was killed: nothing is mapped any more, and all that was put can be found. */
void keep_heap_owner_gone(struct keep_heap *k);
/*
 * The keeper is down: put() says so. When it is up again it has what its owner had put,
 * as it was handed over anew; what the owner has not, is gone.
 */
void keep_heap_set_down(struct keep_heap *k, bool is_down);

struct keep *keep_heap_keep(struct keep_heap *k);
/* Regions that the owner has mapped, or that are kept. */
unsigned keep_heap_count(const struct keep_heap *k);
