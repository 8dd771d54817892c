/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_priv: regions of plain memory, for media_heap and for keep_heap.c. What is
 * allocated begins with this; the region is behind it, on a page.
 */
#pragma once

#include "shm/memory.h"

struct plain {
	void (*free)(struct plain *p);
	size_t size;
};

/* `head` bytes, which begin with struct plain, and the region, all zeros. NULL: no memory. */
struct plain *plain_new(size_t head, size_t size, void (*free)(struct plain *p));
/* As the region that it is; `head` as it was made. */
struct memory plain_memory(struct plain *p, size_t head);
