/* SPDX-License-Identifier: Apache-2.0 */
#include "sweeper.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* All names that it can be told. */
#define NAMES_MAX ((size_t)4 * PATH_MAX)

/* Functions die with us, and until the last has, it may make a file once more. */
#define TRIES       500
#define TRY_WAIT_NS 10000000

static int entry_remove(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st, (void)type, (void)at;
	(void)remove(path); /* what stays keeps its directory, and that is tried again */
	return 0;
}

static void tree_remove(const char *path)
{
	struct stat st;

	for (int i = 0; i < TRIES; i++) {
		nftw(path, entry_remove, 16, FTW_DEPTH | FTW_PHYS);
		if (lstat(path, &st) < 0)
			return;
		nanosleep(&(struct timespec){ .tv_nsec = TRY_WAIT_NS }, NULL);
	}
}

/* In the child. Whoever reads our output must not wait for it. */
static void child_run(int pipe_end)
{
	static char names[NAMES_MAX]; /* of this process alone */
	size_t len = 0;
	ssize_t n;
	int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	prctl(PR_SET_NAME, "wadi-sweeper");
	for (int fd = 0; fd < 3; fd++)
		dup2(nothing, fd);
	dup2(pipe_end, 3);
	close_range(4, UINT_MAX, 0);
	while ((n = read(3, names + len, sizeof(names) - 1 - len)) != 0) {
		if (n < 0 && errno != EINTR)
			break;
		len += n > 0 ? (size_t)n : 0;
	}
	for (size_t at = 0; at < len; at += strlen(names + at) + 1)
		tree_remove(names + at);
	_exit(0);
}

int sweeper_start(struct sweeper *s)
{
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	s->pid = fork();
	if (s->pid == 0)
		child_run(fds[0]);
	r = s->pid < 0 ? -errno : 0;
	close(fds[0]);
	s->fd = fds[1];
	if (r < 0) {
		close(s->fd);
		s->pid = 0;
	}
	return r;
}

int sweeper_add(struct sweeper *s, const char *path)
{
	size_t len = strlen(path) + 1;

	/* Less than a pipe takes at once. */
	if (len > PATH_MAX)
		return -ENAMETOOLONG;
	return write(s->fd, path, len) == (ssize_t)len ? 0 : -EIO;
}

void sweeper_end(struct sweeper *s)
{
	if (s->pid <= 0)
		return;
	close(s->fd);
	while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
		;
	s->pid = 0;
}
