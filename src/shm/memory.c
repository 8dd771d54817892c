/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/memory.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/node.h"
#include "shm/memory_priv.h"

/* Newer than Debian 12's headers, or than its libc's. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define MAPPINGS_PATH   "/proc/sys/vm/max_map_count"
#define HUGE_PAGES_PATH "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

/* A line of the kernel's; "" if there is none. */
static void read_line(const char *path, char *buf, size_t cap)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, cap - 1);

	if (fd >= 0)
		close(fd);
	buf[n > 0 ? n : 0] = '\0';
}

static uint64_t read_number(const char *path, uint64_t otherwise)
{
	char buf[32];
	uint64_t n;

	read_line(path, buf, sizeof(buf));
	n = strtoull(buf, NULL, 10);
	return n ? n : otherwise;
}

const char *memory_huge_pages(char *buf, size_t cap)
{
	char *from, *to;

	/* "always within_size [advise] never": what holds is in brackets. */
	read_line(HUGE_PAGES_PATH, buf, cap);
	from = strchr(buf, '[');
	to = from ? strchr(from, ']') : NULL;
	if (!to)
		return "unknown";
	*to = '\0';
	return from + 1;
}

static int open_sealed(size_t size)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd = memfd_create("wadi-segment", flags | MFD_NOEXEC_SEAL);
	int r;

	/* Kernels before 6.3 do not know it. */
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("wadi-segment", flags);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)size) < 0 ||
	    fcntl(fd, F_ADD_SEALS, MEMORY_SEALS) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

static int memfd_make(size_t size, struct memory *ret)
{
	int fd = open_sealed(size);
	int r;

	if (fd < 0)
		return fd;
	r = memory_map(fd, size, ret);
	if (r < 0)
		close(fd);
	return r;
}

uint64_t memory_there(const struct memory *m)
{
	struct stat st;

	return fstat(m->fd, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

/* Ours can write; and a description that is shared could be told things, leases and flags. */
static int open_anew(const struct memory *m, int flags)
{
	char path[40];
	int fd;

	if (m->fd < 0)
		return -EOPNOTSUPP;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", m->fd);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int memory_export(const struct memory *m)
{
	return open_anew(m, O_RDONLY);
}

int memory_export_to_write(const struct memory *m)
{
	return open_anew(m, O_RDWR);
}

void memory_export_end(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* The kernel leases a file to write only to the holder of the only description of it. */
bool memory_is_ours_alone(int fd)
{
	return fcntl(fd, F_SETLEASE, F_WRLCK) == 0;
}

/* Before 5.14 there is no MADV_POPULATE_WRITE. Reserved first, so that no access can fail. */
static int reserve_and_touch(struct memory *m, size_t from, size_t to)
{
	while (fallocate(m->fd, 0, (off_t)from, (off_t)(to - from)) < 0)
		if (errno != EINTR)
			return -errno;
	for (size_t i = from; i < to; i += SEGMENT_PAGE) {
		volatile uint8_t *p = m->ptr + i;

		*p = *p;
	}
	return 0;
}

/*
 * Pages are made in order, so the last one tells; to look for the next hole would go through
 * all that is behind it. Says no where it is not known, which costs time and nothing else.
 */
static bool has_pages(const struct memory *m, size_t to)
{
	off_t last = (off_t)to - SEGMENT_PAGE;

	return lseek(m->fd, last, SEEK_DATA) == last;
}

/*
 * To populate is to reserve, too, and says so if it cannot. To fallocate() first would
 * cost huge pages: it knows nothing of the advice, which is the mapping's. An emulated
 * kernel may answer yes to any advice and do nothing, so the pages are looked for.
 */
static int memfd_fill(struct memory *m, size_t from, size_t to)
{
	assert(from <= to && to <= m->size);
	if (from == to)
		return 0;
	while (madvise(m->ptr + from, to - from, MADV_POPULATE_WRITE) < 0) {
		if (errno == EINVAL)
			return reserve_and_touch(m, from, to);
		if (errno != EINTR && errno != EAGAIN)
			return errno == EFAULT ? -ENOMEM : -errno;
	}
	return has_pages(m, to) ? 0 : reserve_and_touch(m, from, to);
}

static void any_scrub(struct memory *m, size_t from, size_t to)
{
	assert(from <= to && to <= m->size);
	memset(m->ptr + from, 0, to - from);
}

/*
 * A huge page of which a part was punched is small ones now, and not mapped any more: those that
 * are left are mapped again, since they are ours, and are counted by what is mapped.
 */
static void map_again(struct memory *m, size_t from, size_t to)
{
	for (size_t at = from; at < to; at += FAULT_AROUND)
		if (has_pages(m, at + SEGMENT_PAGE))
			memory_touch(m, at, at + SEGMENT_PAGE);
}

static int memfd_punch(struct memory *m, size_t from, size_t to)
{
	assert(from <= to && to <= m->size);
	if (from == to)
		return 0;
	while (fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
			 (off_t)(to - from)) < 0)
		if (errno != EINTR)
			return -errno;
	if (m->size >= HUGE_PAGE) {
		map_again(m, huge_down(from), from);
		map_again(m, to, huge_up(to));
	}
	return 0;
}

static void memfd_free(struct memory *m)
{
	if (!m->ptr)
		return;
	munmap(m->ptr, m->size);
	if (m->fd >= 0)
		close(m->fd);
	*m = (struct memory){ .fd = -1 };
}

/* Each is a descriptor and a mapping; a quarter of both is for all else. */
static unsigned memfd_count_max(void)
{
	struct rlimit files = { .rlim_cur = 1024 };
	uint64_t most = read_number(MAPPINGS_PATH, 65530);

	getrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur < most)
		most = files.rlim_cur;
	most -= most / 4;
	return most < UINT_MAX ? (unsigned)most : UINT_MAX;
}

const struct media media_memfd = {
	.make = memfd_make,
	.fill = memfd_fill,
	.scrub = any_scrub,
	.punch = memfd_punch,
	.free = memfd_free,
	.count_max = memfd_count_max,
};

struct plain *plain_new(size_t head, size_t size, void (*free)(struct plain *p))
{
	struct plain *p = node_alloc(head + size + SEGMENT_PAGE);

	if (p)
		*p = (struct plain){ .free = free, .size = size };
	return p;
}

struct memory plain_memory(struct plain *p, size_t head)
{
	uintptr_t from = (uintptr_t)p + head + SEGMENT_PAGE - 1;

	return (struct memory){ .ptr = (uint8_t *)(from & ~(uintptr_t)(SEGMENT_PAGE - 1)),
				.size = p->size,
				.fd = -1,
				.base = p };
}

static void plain_free(struct plain *p)
{
	node_free(p);
}

static int heap_make(size_t size, struct memory *ret)
{
	struct plain *p = plain_new(sizeof(*p), size, plain_free);

	if (!p)
		return -ENOMEM;
	*ret = plain_memory(p, sizeof(*p));
	return 0;
}

/* Plain memory comes zeroed, and as a whole. */
static int heap_fill(struct memory *m, size_t from, size_t to)
{
	assert(from <= to && to <= m->size);
	return 0;
}

static int heap_punch(struct memory *m, size_t from, size_t to)
{
	any_scrub(m, from, to);
	return 0;
}

static void heap_free(struct memory *m)
{
	if (m->base)
		m->base->free(m->base);
	*m = (struct memory){ .fd = -1 };
}

static unsigned heap_count_max(void)
{
	return UINT_MAX;
}

const struct media media_heap = {
	.make = heap_make,
	.fill = heap_fill,
	.scrub = any_scrub,
	.punch = heap_punch,
	.free = heap_free,
	.count_max = heap_count_max,
};
