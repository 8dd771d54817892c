/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory: regions of memory that can be handed to other processes, and what it
 * takes to have their pages, to give them back, and to forget what was in them.
 *
 * A region is made empty; fill() reserves pages of it and touches them, so that no
 * access ever faults, waits or fails afterwards; punch() gives pages back, whoever
 * maps them. Whose a region is, and when, is the business of a pool.
 *
 * - media_memfd: sealed memfds (nobody can resize one under us), mode 0600, with
 *   huge pages from 2 MiB up where the machine gives them to those who ask.
 * - media_heap: plain memory of the current node: the simulator's, and of tests.
 *
 * All of it changes page tables or touches megabytes: it blocks, so it is for a
 * helper's thread, never a loop's. A region is one thread's at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct plain;

struct memory {
	uint8_t *ptr;       /* on a page; NULL: no region */
	size_t size;        /* a multiple of the page */
	int fd;             /* -1 if it is plain memory */
	struct plain *base; /* of plain memory: as allocated */
};

/* Ranges are of whole pages. */
struct media {
	/* No pages yet. -ENOMEM, -EMFILE, -ENFILE. */
	int (*make)(size_t size, struct memory *ret);
	/* Pages for [from, to), zeros where there were none. -ENOMEM, -ENOSPC: some may be there.
	 */
	int (*fill)(struct memory *m, size_t from, size_t to);
	/* Zeros in pages that are there. */
	void (*scrub)(struct memory *m, size_t from, size_t to);
	/* The pages of [from, to) go; nobody may read there before the next fill(). */
	int (*punch)(struct memory *m, size_t from, size_t to);
	/* The region goes, with the pages that are left. Fine for one with `ptr` NULL. */
	void (*free)(struct memory *m);
	/* How many regions this process may have, and leave descriptors for others. */
	unsigned (*count_max)(void);
};

extern const struct media media_memfd, media_heap;

/*
 * A region that media_memfd made, in this process or another: maps it, and takes the
 * descriptor. -EBADF: it is no such region; -ENOMEM.
 */
int memory_adopt(int fd, struct memory *ret);

/* Bytes of pages that are there, whoever made them; 0 of plain memory. */
uint64_t memory_there(const struct memory *m);

/*
 * A description of its own for somebody else, who can read and map it, and not write. It is the
 * caller's. -EOPNOTSUPP: plain memory; -EMFILE, -ENFILE.
 */
int memory_export(const struct memory *m);
/* The same, and who can write. */
int memory_export_to_write(const struct memory *m);
/* -1 is fine. */
void memory_export_end(int fd);
/*
 * Has nobody else what was exported of it? Asked of one of memory_export_to_write(), of which
 * nothing is mapped; yes, if so, until that is closed.
 */
bool memory_is_ours_alone(int fd);

/*
 * A region of `size` bytes that another process made, of whatever user: maps it. The descriptor
 * stays the caller's. -EBADF: it is no such region; -ENOMEM.
 */
int memory_join(int fd, size_t size, struct memory *ret);
/* The same, to read only. */
int memory_join_to_read(int fd, size_t size, struct memory *ret);

/*
 * Addresses for `size` bytes, of whole pages, with nothing there: memory_join_part() maps parts of
 * other processes' regions side by side, to read only. -EBADF: that is no such region, or no such
 * part of one; -ENOMEM.
 */
int memory_span(size_t size, struct memory *ret);
int memory_join_part(struct memory *m, size_t at, int fd, size_t from, size_t len);
/* The same, to write, with all pages that are there. */
int memory_join_part_to_write(struct memory *m, size_t at, int fd, size_t from, size_t len);
/* Pages of such memory that are about to be written, many at once: page by page is dearer. */
void memory_touch(struct memory *m, size_t from, size_t to);

/* What the kernel says of huge pages for shared memory: "never", "advise" ...; for `wadi doctor`.
 */
const char *memory_huge_pages(char *buf, size_t cap);
