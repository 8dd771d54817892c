/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_map: regions of this process and of others, mapped.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "shm/memory_priv.h"

/* Addresses with nothing there, so that huge pages have theirs: only then they are mapped whole. */
static uint8_t *addresses_for(size_t size)
{
	size_t more = size < HUGE_PAGE ? 0 : HUGE_PAGE - SEGMENT_PAGE, before;
	uint8_t *p = mmap(NULL, size + more, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			  -1, 0);

	if (p == MAP_FAILED || more == 0)
		return p;
	before = huge_up((uintptr_t)p) - (uintptr_t)p;
	if (before > 0)
		munmap(p, before);
	if (before < more)
		munmap(p + before + size, more - before);
	return p + before;
}

static int map_as(int fd, size_t size, int rights, uint8_t **ret)
{
	uint8_t *at = size < HUGE_PAGE ? NULL : addresses_for(size), *p = at;

	if (p != MAP_FAILED)
		p = mmap(at, size, rights, MAP_SHARED | (at ? MAP_FIXED : 0), fd, 0);
	if (p == MAP_FAILED) {
		int r = -errno;

		if (at && at != MAP_FAILED)
			munmap(at, size);
		return r;
	}
	*ret = p;
	return 0;
}

int memory_map(int fd, size_t size, struct memory *ret)
{
	uint8_t *p;
	int r = map_as(fd, size, PROT_READ | PROT_WRITE, &p);

	if (r < 0)
		return r;
	/* Advice: where the machine gives none, it has no effect. */
	if (size >= HUGE_PAGE)
		(void)madvise(p, size, MADV_HUGEPAGE);
	*ret = (struct memory){ .ptr = p, .size = size, .fd = fd };
	return 0;
}

/* Nobody can resize it under us. */
static bool is_region(int fd, struct stat *ret)
{
	int seals = fcntl(fd, F_GET_SEALS); /* fails for what is no memfd */

	return seals >= 0 && (seals & MEMORY_SEALS) == MEMORY_SEALS && fstat(fd, ret) == 0 &&
	       S_ISREG(ret->st_mode) && ret->st_size > 0 && ret->st_size % SEGMENT_PAGE == 0;
}

int memory_adopt(int fd, struct memory *ret)
{
	struct stat st;

	if (!is_region(fd, &st) || st.st_uid != geteuid())
		return -EBADF;
	return memory_map(fd, (size_t)st.st_size, ret);
}

int memory_join(int fd, size_t size, struct memory *ret)
{
	struct stat st;
	int r = is_region(fd, &st) && (uint64_t)st.st_size == size ? memory_map(fd, size, ret)
								   : -EBADF;

	if (r == 0)
		ret->fd = -1;
	return r;
}

int memory_join_to_read(int fd, size_t size, struct memory *ret)
{
	struct stat st;
	uint8_t *p;
	int r;

	if (!is_region(fd, &st) || (uint64_t)st.st_size != size)
		return -EBADF;
	r = map_as(fd, size, PROT_READ, &p);
	if (r == 0)
		*ret = (struct memory){ .ptr = p, .size = size, .fd = -1 };
	return r;
}

int memory_span(size_t size, struct memory *ret)
{
	uint8_t *p = addresses_for(size);

	if (p == MAP_FAILED)
		return -errno;
	*ret = (struct memory){ .ptr = p, .size = size, .fd = -1 };
	return 0;
}

static int join_part(struct memory *m, size_t at, int fd, size_t from, size_t len, int rights)
{
	struct stat st;

	if (at > m->size || len > m->size - at || !is_region(fd, &st) ||
	    from > (size_t)st.st_size || len > (size_t)st.st_size - from ||
	    (at | from | len) % SEGMENT_PAGE != 0)
		return -EBADF;
	if (mmap(m->ptr + at, len, rights, MAP_SHARED | MAP_FIXED, fd, (off_t)from) == MAP_FAILED)
		return -errno;
	return 0;
}

int memory_join_part(struct memory *m, size_t at, int fd, size_t from, size_t len)
{
	return join_part(m, at, fd, from, len, PROT_READ);
}

int memory_join_part_to_write(struct memory *m, size_t at, int fd, size_t from, size_t len)
{
	int r = join_part(m, at, fd, from, len, PROT_READ | PROT_WRITE);

	if (r == 0)
		memory_touch(m, at, at + len);
	return r;
}

void memory_touch(struct memory *m, size_t from, size_t to)
{
	uintptr_t begin = (uintptr_t)m->ptr;

	assert(from <= to && to <= m->size);
	while (from < to) {
		(void)*(volatile const uint8_t *)(m->ptr + from);
		from = ((begin + from) | (FAULT_AROUND - 1)) + 1 - begin;
	}
}
