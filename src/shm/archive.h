/* SPDX-License-Identifier: Apache-2.0 */
/*
 * archive: a few named files that outlive the process and, once synced, the power. Bytes
 * are written behind each other; a file goes as a whole.
 *
 * All calls block, so they are for a helper's thread and for the start; one thread at a
 * time. Names are short, of letters, digits and '-'.
 *
 * - archive_open(): a directory of the machine, locked against a second process.
 * - archive_new(): memory of the current node: the simulator's, and of tests. It says
 *   which bytes were synced: archive_lose() is the power cut.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARCHIVE_NAME_MAX 40

struct archive;

struct archive_ops {
	/* At `offset`, which is at most the file's length; made if `offset` is 0. */
	int (*write)(struct archive *a, const char *name, uint64_t offset, const void *bytes,
		     size_t len);
	/* What was written of this file, and its name, survive the machine. */
	int (*sync)(struct archive *a, const char *name);
	/* How many bytes there were from `offset` on, at most `cap`; 0 at the end. */
	int64_t (*read)(struct archive *a, const char *name, uint64_t offset, void *buf,
			size_t cap);
	int (*cut)(struct archive *a, const char *name, uint64_t len);
	/* Fine if there is none. */
	int (*remove)(struct archive *a, const char *name);
	/*
	 * 1, and the first name in byte order that comes after `after`, which may be `ret`; 0:
	 * there is none. An error is not the end of the list: who takes it for one begins anew.
	 */
	int (*next)(struct archive *a, const char *after, char ret[ARCHIVE_NAME_MAX]);
	const char *(*where)(const struct archive *a); /* for messages */
	void (*close)(struct archive *a);
};

struct archive {
	const struct archive_ops *ops;
};

/* Makes a directory if there is none, mode 0700; its name survives the machine. */
int archive_directory(const char *path);
/* archive_directory(), and it is ours then. -EWOULDBLOCK: somebody else has it. */
int archive_open(const char *path, struct archive **ret);
/* The same, and -ENOENT if there is no such directory. */
int archive_find(const char *path, struct archive **ret);
int archive_new(struct archive **ret);
/*
 * Of archive_new(): of each file's end that was not synced some is gone, and in the rest some is
 * zeros, as if the disk had begun anywhere; `dice` says which, and 0 that all is gone.
 */
void archive_lose(struct archive *a, uint64_t dice);
/* Of archive_new(), for tests: the next so many calls that change something fail with `err`. */
void archive_fail(struct archive *a, int err, unsigned count);

/* NULL is fine. */
static inline void archive_close(struct archive *a)
{
	if (a)
		a->ops->close(a);
}
