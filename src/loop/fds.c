/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void fds_close(struct fds *f)
{
	while (f->count > 0)
		close(f->fd[--f->count]);
}

int fds_copy(struct fds *f, const int *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);

		if (fd < 0) {
			int r = -errno;

			fds_close(f);
			return r;
		}
		f->fd[f->count++] = fd;
	}
	return 0;
}

unsigned fds_take(struct fds *f, int *fds, unsigned cap)
{
	unsigned n = f->count < cap ? f->count : cap;

	if (n > 0) {
		memcpy(fds, f->fd, n * sizeof(int));
		memmove(f->fd, f->fd + n, (f->count - n) * sizeof(int));
		f->count -= n;
	}
	return n;
}
