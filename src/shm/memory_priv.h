/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_priv: what memory.c, memory_map.c and keep_heap.c have in common.
 */
#pragma once

#include <fcntl.h>

#include "shm/memory.h"

/* Nobody can resize it, nor seal it further. */
#define MEMORY_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* A region that is smaller cannot have one of its own. */
#define HUGE_PAGE (2u << 20)

static inline size_t huge_down(size_t at)
{
	return at & ~(size_t)(HUGE_PAGE - 1);
}

static inline size_t huge_up(size_t at)
{
	return huge_down(at + HUGE_PAGE - 1);
}

/*
 * To read where a page is not mapped maps all that are there of so many bytes around it, writable
 * where the mapping is (fault_around_bytes; where a machine has set it to less, what is left over
 * faults when it is written). To be asked for with madvise(), each page is looked for once more.
 */
#define FAULT_AROUND (64u << 10)

/* To read and to write, and so that huge pages can be mapped whole. Takes the descriptor. */
int memory_map(int fd, size_t size, struct memory *ret);

/*
 * Regions of plain memory, for media_heap and for keep_heap.c. What is allocated begins with
 * this; the region is behind it, on a page.
 */
struct plain {
	void (*free)(struct plain *p);
	size_t size;
};

/* `head` bytes, which begin with struct plain, and the region, all zeros. NULL: no memory. */
struct plain *plain_new(size_t head, size_t size, void (*free)(struct plain *p));
/* As the region that it is; `head` as it was made. */
struct memory plain_memory(struct plain *p, size_t head);
