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

static void name(struct rundir *d, uint16_t port)
{
	const char *base = getenv("XDG_RUNTIME_DIR");

	if (base && *base == '/' && strlen(base) < RUNDIR_PATH_MAX - 16)
		snprintf(d->path, sizeof(d->path), "%s/wadi-%u", base, port);
	else
		snprintf(d->path, sizeof(d->path), "/tmp/wadi-%u-%u", getuid(), port);
}

/* Nobody else's: a directory of ours that others cannot enter. In /tmp anybody could have made it.
 */
static int check(const struct rundir *d)
{
	struct stat st;

	if (lstat(d->path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) && st.st_uid == getuid() && !(st.st_mode & 077) ? 0 : -EPERM;
}

int rundir_open(struct rundir *d, uint16_t port)
{
	int r = 0;

	d->lock_fd = -1;
	name(d, port);
	if (mkdir(d->path, 0700) < 0 && errno != EEXIST)
		r = -errno;
	if (r == 0)
		r = check(d);
	if (r == 0) {
		d->lock_fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		r = d->lock_fd < 0 ? -errno : 0;
	}
	if (r == 0 && flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0)
		r = errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (r == -EBUSY)
		fprintf(stderr, "wadi: another server has %s; end it, or choose another port\n",
			d->path);
	else if (r == -EPERM)
		fprintf(stderr, "wadi: %s is not a directory of ours with mode 0700; remove it\n",
			d->path);
	else if (r < 0)
		fprintf(stderr, "wadi: cannot use %s: %s\n", d->path, strerror(-r));
	if (r < 0 && d->lock_fd >= 0) {
		close(d->lock_fd);
		d->lock_fd = -1;
	}
	return r;
}

void rundir_close(struct rundir *d)
{
	if (d->lock_fd < 0)
		return;
	(void)rmdir(d->path); /* what is in it has been removed by whoever made it */
	close(d->lock_fd);
	d->lock_fd = -1;
}
