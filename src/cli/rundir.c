/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static void name(struct rundir *d, unsigned number)
{
	const char *base = getenv("XDG_RUNTIME_DIR");

	if (base && *base == '/' && strlen(base) < RUNDIR_PATH_MAX - 16)
		snprintf(d->path, sizeof(d->path), "%s/wadi-%u", base, number);
	else
		snprintf(d->path, sizeof(d->path), "/tmp/wadi-%u-%u", getuid(), number);
}

/*
 * Locked, and nobody else's: a directory of ours that others cannot enter. In /tmp anybody
 * could have made it. -ESTALE: it was removed before we had the lock.
 */
static int lock(struct rundir *d)
{
	struct stat st, now;

	d->lock_fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (d->lock_fd < 0)
		return errno == ENOENT                      ? -ESTALE
		       : errno == ELOOP || errno == ENOTDIR ? -EPERM
							    : -errno;
	if (fstat(d->lock_fd, &st) < 0)
		return -errno;
	if (st.st_uid != getuid() || st.st_mode & 077)
		return -EPERM;
	if (flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	return lstat(d->path, &now) == 0 && now.st_ino == st.st_ino && now.st_dev == st.st_dev
		       ? 0
		       : -ESTALE;
}

static int lock_or_leave(struct rundir *d)
{
	int r = lock(d);

	if (r < 0)
		rundir_leave(d);
	return r;
}

static void tell(const struct rundir *d, int r)
{
	if (r == -EBUSY)
		fprintf(stderr, "wadi: another server has %s; end it, or choose another port\n",
			d->path);
	else if (r == -EPERM)
		fprintf(stderr, "wadi: %s is not a directory of ours with mode 0700; remove it\n",
			d->path);
	else if (r < 0)
		fprintf(stderr, "wadi: cannot use %s: %s\n", d->path, strerror(-r));
}

int rundir_open(struct rundir *d, unsigned number)
{
	int r;

	d->lock_fd = -1;
	name(d, number);
	/* A predecessor's keeper may remove it while we come. */
	do
		r = mkdir(d->path, 0700) < 0 && errno != EEXIST ? -errno : lock_or_leave(d);
	while (r == -ESTALE);
	tell(d, r);
	return r;
}

int rundir_open_again(struct rundir *d, const char *path)
{
	int r;

	d->lock_fd = -1;
	if (snprintf(d->path, sizeof(d->path), "%s", path) >= (int)sizeof(d->path))
		return -ENOENT;
	r = lock_or_leave(d);
	if (r == -ESTALE)
		return -ENOENT;
	tell(d, r);
	return r;
}

void rundir_leave(struct rundir *d)
{
	if (d->lock_fd >= 0)
		close(d->lock_fd);
	d->lock_fd = -1;
}

void rundir_close(struct rundir *d)
{
	if (d->lock_fd >= 0)
		(void)rmdir(d->path); /* what is in it has been removed by whoever made it */
	rundir_leave(d);
}
