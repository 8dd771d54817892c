/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host: memory that the processes of a simulated host share: real memfds and real mappings, since
 * all of them are this process. What a killed one had mapped and open is given back here, as the
 * kernel would; what its keeper has stays.
 */
#pragma once

#include "shm/keep.h"

struct node;

/* media_memfd, and it is remembered whose each region is. */
extern const struct media media_host;

/* The process of this node has ended: its regions are unmapped. */
void host_unmap_all(const struct node *n);

/* A keeper of such regions; it holds descriptors, and its memory is libc's. */
struct keep_host;
struct keep_host *keep_host_new(void);
void keep_host_free(struct keep_host *k); /* with all that it keeps; NULL is fine */
struct keep *keep_host_keep(struct keep_host *k);
/* As keep_heap.h has them. */
void keep_host_owner_gone(struct keep_host *k);
void keep_host_set_down(struct keep_host *k, bool is_down);
