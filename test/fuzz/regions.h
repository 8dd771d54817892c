/* SPDX-License-Identifier: Apache-2.0 */
/*
 * regions: what a proxy makes for functions on its host, without system calls: plain memory instead
 * of memfds. A target that has it is linked with --wrap=media_memfd.
 */
#pragma once

#include "shm/memory.h"

static int memory_make(size_t size, struct memory *ret)
{
	return media_heap.make(size, ret);
}

static int memory_fill(struct memory *m, size_t from, size_t to)
{
	return media_heap.fill(m, from, to);
}

static int memory_punch(struct memory *m, size_t from, size_t to)
{
	return media_heap.punch(m, from, to);
}

static void memory_free(struct memory *m)
{
	media_heap.free(m);
}

extern const struct media __wrap_media_memfd;
const struct media __wrap_media_memfd = {
	.make = memory_make, .fill = memory_fill, .punch = memory_punch, .free = memory_free
};
