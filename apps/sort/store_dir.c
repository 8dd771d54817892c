/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory as the store: dir:PATH. A job is a directory in it, and an object is a
 * file, written in `.new` and linked to its name, which fails if it is taken.
 * Waiting is inotify's.
 */
#include "store_ops.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"

#define NEW "/.new"

/* inotify sees nothing of other hosts' changes, so a wait looks round this often. */
#define LOOK_MS 1000

/* Who needs a directory that another removes, or the other way round, begins anew this often;
 * each time the other one has done something. */
#define RACE_TRIES 100

struct dir {
	struct store store;
	char *path; /* of all jobs */
	char *root; /* of this job; NULL if none was named */
};

struct dir_writer {
	struct store_writer writer;
	int fd;
	char *path, *temporary;
};

static int fail(struct store *s, const char *what, const char *path)
{
	return problem_set(s->problem, -errno, "%s: cannot %s: %s", path, what, strerror(errno));
}

static int no_memory(struct store *s)
{
	return problem_set(s->problem, -ENOMEM, "no memory");
}

static char *path_of(const struct dir *d, const char *path)
{
	char *joined;

	return asprintf(&joined, "%s/%s", d->root, path) < 0 ? NULL : joined;
}

/* Of something that has no name yet, or no longer; NULL without memory. */
static char *new_path(const struct dir *d)
{
	unsigned long long unique = 0;
	char *path;

	(void)!getrandom(&unique, sizeof(unique), 0); /* then O_EXCL says no, and we say why */
	return asprintf(&path, "%s" NEW "/%016llx", d->root, unique) < 0 ? NULL : path;
}

static void dir_close(struct store *s)
{
	struct dir *d = (struct dir *)s;

	free(d->path);
	free(d->root);
	free(d);
}

static int dir_open(const struct store_config *config, struct problem *problem, struct store **ret)
{
	struct dir *d = calloc(1, sizeof(*d));

	if (!d)
		return problem_set(problem, -ENOMEM, "no memory");
	d->path = strdup(config->url + strlen("dir:"));
	if (!d->path || (config->job && asprintf(&d->root, "%s/%s", d->path, config->job) < 0)) {
		d->root = NULL;
		dir_close(&d->store);
		return problem_set(problem, -ENOMEM, "no memory");
	}
	*ret = &d->store;
	return 0;
}

/* All directories between those of its first bytes, which are there, and its last slash. */
static int parents_make(char *path, size_t there)
{
	for (char *slash = strchr(path + there + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		int r;

		*slash = '\0';
		r = mkdir(path, 0777);
		*slash = '/';
		if (r < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

static void dir_writer_free(struct dir_writer *w)
{
	if (w->fd >= 0)
		close(w->fd);
	if (w->temporary)
		unlink(w->temporary);
	free(w->temporary);
	free(w->path);
	free(w);
}

static void dir_writer_abandon(struct store_writer *w)
{
	dir_writer_free((struct dir_writer *)w);
}

static int dir_writer_open(struct store *s, const char *path, struct store_writer **ret)
{
	struct dir *d = (struct dir *)s;
	struct dir_writer *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return no_memory(s);
	w->fd = -1;
	w->path = path_of(d, path);
	w->temporary = new_path(d);
	if (!w->path || !w->temporary) {
		dir_writer_free(w);
		return no_memory(s);
	}
	w->fd = open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (w->fd < 0) {
		r = fail(s, "create", w->temporary);
		dir_writer_free(w);
		return r;
	}
	*ret = &w->writer;
	return 0;
}

static int write_all(struct store *s, struct dir_writer *w, const uint8_t *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(w->fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(s, "write", w->temporary);
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static int dir_writer_write(struct store_writer *w, const void *data, size_t len)
{
	return write_all(w->store, (struct dir_writer *)w, data, len);
}

static int appear(struct store *s, struct dir_writer *w)
{
	/* Not the job's own: a job that has ended stays away. */
	size_t there = strlen(((struct dir *)s)->root);

	for (int i = 0; i < RACE_TRIES; i++) {
		if (link(w->temporary, w->path) == 0)
			return 0;
		if (errno != ENOENT || (parents_make(w->path, there) < 0 && errno != ENOENT))
			break;
	}
	return errno == EEXIST ? -EEXIST : fail(s, "link to", w->path);
}

static int dir_writer_commit(struct store_writer *writer)
{
	struct dir_writer *w = (struct dir_writer *)writer;
	int r = appear(w->writer.store, w);

	dir_writer_free(w);
	return r;
}

static int dir_put(struct store *s, const char *path, const void *data, size_t len)
{
	struct store_writer *w;
	int r = dir_writer_open(s, path, &w);

	if (r < 0)
		return r;
	r = write_all(s, (struct dir_writer *)w, data, len);
	if (r == 0)
		r = appear(s, (struct dir_writer *)w);
	dir_writer_abandon(w);
	return r;
}

static int read_range(struct store *s, int fd, const char *path, const struct store_read *read)
{
	uint8_t *buf = read->buf;

	for (size_t have = 0; have < read->len;) {
		ssize_t n = pread(fd, buf + have, read->len - have, (off_t)(read->offset + have));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(s, "read", path);
		if (n == 0)
			return problem_set(s->problem, -EIO, "%s: shorter than expected", path);
		have += (size_t)n;
	}
	return 0;
}

static int dir_read(struct store *s, const struct store_read *reads, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char *path = path_of((struct dir *)s, reads[i].path);
		int fd, r;

		if (!path)
			return no_memory(s);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		r = fd < 0 ? fail(s, "open", path) : read_range(s, fd, path, &reads[i]);
		if (fd >= 0)
			close(fd);
		free(path);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Calls with each name in the directory; a directory that is not there is empty. */
static int entries_read(struct store *s, const char *path, struct store_list *list,
			size_t *ret_count)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	int r = 0;

	*ret_count = 0;
	if (!dir)
		return errno == ENOENT ? 0 : fail(s, "open", path);
	while (r == 0 && (e = readdir(dir))) {
		struct stat st;

		if (e->d_name[0] == '.')
			continue;
		++*ret_count;
		if (!list)
			continue;
		if (fstatat(dirfd(dir), e->d_name, &st, 0) < 0)
			r = fail(s, "look at", path);
		else
			r = store_list_add(list, e->d_name, (uint64_t)st.st_size);
	}
	closedir(dir);
	return r;
}

static int dir_list(struct store *s, const char *directory, struct store_list *ret)
{
	char *path = path_of((struct dir *)s, directory);
	size_t count;
	int r;

	if (!path)
		return no_memory(s);
	r = entries_read(s, path, ret, &count);
	free(path);
	return r;
}

/* 0 when something may have changed. */
static int watch_wait(int fd, uint64_t due_ns)
{
	char events[4096];
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (clock_ns() >= due_ns)
		return -ETIMEDOUT;
	if (poll(&p, 1, clock_left_ms(due_ns, LOOK_MS)) > 0)
		while (read(fd, events, sizeof(events)) > 0)
			;
	return 0;
}

static int count_wait(struct store *s, const char *path, int fd, size_t count, uint64_t due_ns)
{
	size_t have;
	int r;

	if (inotify_add_watch(fd, path, IN_CREATE | IN_MOVED_TO) < 0)
		return fail(s, "watch", path);
	for (;;) {
		r = entries_read(s, path, NULL, &have);
		if (r < 0 || have >= count)
			return r;
		r = watch_wait(fd, due_ns);
		if (r < 0)
			return r;
	}
}

static int dir_wait_count(struct store *s, const char *directory, size_t count, uint64_t due_ns)
{
	char *path = NULL;
	size_t have;
	int fd, r;

	if (asprintf(&path, "%s/%s/", ((struct dir *)s)->root, directory) < 0)
		return no_memory(s);
	/* To give a watch back costs the kernel 10 ms, so there is none without need. */
	r = entries_read(s, path, NULL, &have);
	if (r < 0 || have >= count) {
		free(path);
		return r;
	}
	r = parents_make(path, strlen(((struct dir *)s)->root));
	fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (r < 0 || fd < 0)
		r = fail(s, "watch", path);
	else
		r = count_wait(s, path, fd, count, due_ns);
	if (fd >= 0)
		close(fd);
	free(path);
	return r;
}

static int entry_remove(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st, (void)type, (void)at;
	return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

static int tree_remove(struct store *s, const char *path)
{
	struct stat st;

	for (int i = 0; i < RACE_TRIES; i++) {
		if ((lstat(path, &st) < 0 && errno == ENOENT) ||
		    nftw(path, entry_remove, 16, FTW_DEPTH | FTW_PHYS) == 0)
			return 0;
		if (errno != ENOTEMPTY && errno != ENOENT)
			break;
	}
	return fail(s, "remove", path);
}

/* A directory is taken away at once, so that nobody can write into it while it is emptied. */
static int directory_remove(struct store *s, const char *path)
{
	char *away = new_path((struct dir *)s);
	int r = 0;

	if (!away)
		return no_memory(s);
	if (rename(path, away) == 0)
		r = tree_remove(s, away);
	else if (errno != ENOENT)
		r = fail(s, "remove", path);
	free(away);
	return r;
}

static int dir_remove(struct store *s, const char *path)
{
	char *joined = path_of((struct dir *)s, path);
	int r = 0;

	if (!joined)
		return no_memory(s);
	if (joined[strlen(joined) - 1] == '/')
		r = directory_remove(s, joined);
	else if (unlink(joined) < 0 && errno != ENOENT)
		r = fail(s, "remove", joined);
	free(joined);
	return r;
}

static int dir_job_begin(struct store *s, const char *job, uint32_t lease_ms, char *ret_token)
{
	struct dir *d = (struct dir *)s;
	char path[PATH_MAX];
	int r;

	(void)lease_ms, (void)ret_token; /* files have neither */
	if (snprintf(path, sizeof(path), "%s/%s" NEW "/", d->path, job) >= PATH_MAX)
		return problem_set_final(s->problem, -ENAMETOOLONG, "%s: too long", d->path);
	r = parents_make(path, 0);
	return r < 0 ? fail(s, "create", path) : 0;
}

static int dir_job_renew(struct store *s, const char *job, uint32_t lease_ms)
{
	(void)s, (void)job, (void)lease_ms;
	return 0;
}

static int dir_job_usage(struct store *s, const char *job, struct store_usage *ret)
{
	(void)s, (void)job, (void)ret; /* nobody counts */
	return 0;
}

static int dir_job_end(struct store *s, const char *job)
{
	struct dir *d = (struct dir *)s;
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", d->path, job); /* fitted at the job's begin */
	return tree_remove(s, path);
}

const struct store_ops STORE_DIR = {
	.open = dir_open,
	.close = dir_close,
	.put = dir_put,
	.writer_open = dir_writer_open,
	.writer_write = dir_writer_write,
	.writer_commit = dir_writer_commit,
	.writer_abandon = dir_writer_abandon,
	.read = dir_read,
	.wait_count = dir_wait_count,
	.list = dir_list,
	.remove = dir_remove,
	.job_begin = dir_job_begin,
	.job_renew = dir_job_renew,
	.job_usage = dir_job_usage,
	.job_end = dir_job_end,
};
