/* SPDX-License-Identifier: Apache-2.0 */
#include "region.h"

#include <errno.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)

int region_init(struct region *g, size_t len)
{
	size_t mapped = len + REGION_SLACK;
	void *ptr;

	ptr = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ptr == MAP_FAILED)
		return -errno;
	if (mapped >= HUGE_PAGE)
		(void)madvise(ptr, mapped, MADV_HUGEPAGE); /* slower without, and no less right */
	*g = (struct region){ .ptr = ptr, .len = len, .mapped = mapped };
	return 0;
}

void region_fini(struct region *g)
{
	if (g->ptr)
		munmap(g->ptr, g->mapped);
	*g = (struct region){ 0 };
}
