/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files in a directory of a file system in memory: no server, nobody to protect from, and
 * none of what a store is for; but as whole as its objects: written aside, then renamed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/container.h"
#include "bench/bench.h"

struct dir {
	struct peer peer;
	char path[64];
	unsigned client_count;
};

struct dir_client {
	struct client client;
	struct dir *dir;
	int directory_fd;
	unsigned number;
	unsigned ended; /* in begin(), and not told of yet */
};

static int64_t write_all(int fd, const void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(fd, (const char *)buf + done, len - done);

		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return 0;
}

static int64_t put(const struct dir_client *c, const struct request *rq)
{
	char aside[32];
	int64_t r;
	int fd;

	snprintf(aside, sizeof(aside), ".%u", c->number);
	fd = openat(c->directory_fd, aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = write_all(fd, rq->buf, rq->len);
	close(fd);
	if (r == 0)
		r = rq->op == BENCH_CREATE
			    ? linkat(c->directory_fd, aside, c->directory_fd, rq->key, 0)
			    : renameat(c->directory_fd, aside, c->directory_fd, rq->key);
	if (r == -1)
		r = -errno;
	if (rq->op == BENCH_CREATE)
		unlinkat(c->directory_fd, aside, 0);
	return r;
}

static int64_t get(const struct dir_client *c, const struct request *rq)
{
	int fd = openat(c->directory_fd, rq->key, O_RDONLY | O_CLOEXEC);
	size_t done = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t n = read(fd, (char *)rq->buf + done, rq->len - done);

		if (n <= 0)
			break;
		done += (size_t)n;
	}
	close(fd);
	return (int64_t)done;
}

static int64_t list(const struct dir_client *c, const struct request *rq)
{
	int fd = openat(c->directory_fd, rq->key, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int64_t count = 0;
	struct dirent *e;

	if (!d)
		return -errno;
	while ((e = readdir(d)))
		count += e->d_name[0] != '.';
	closedir(d);
	return count;
}

static int dir_begin(struct client *client, struct request *rq)
{
	struct dir_client *c = container_of(client, struct dir_client, client);
	struct stat s;

	switch (rq->op) {
	case BENCH_GET:
		rq->result = get(c, rq);
		break;
	case BENCH_PUT:
	case BENCH_CREATE:
		rq->result = put(c, rq);
		break;
	case BENCH_STAT:
		rq->result = fstatat(c->directory_fd, rq->key, &s, 0) < 0 ? -errno : 0;
		break;
	case BENCH_REMOVE:
		rq->result = unlinkat(c->directory_fd, rq->key, 0) < 0 ? -errno : 0;
		break;
	case BENCH_LIST:
		rq->result = list(c, rq);
		break;
	default:
		return -EOPNOTSUPP;
	}
	rq->is_done = true;
	c->ended++;
	return 0;
}

static int dir_ended(struct client *client)
{
	struct dir_client *c = container_of(client, struct dir_client, client);
	unsigned ended = c->ended;

	c->ended = 0;
	return (int)ended;
}

static int dir_turn(struct client *client, uint64_t due_ns)
{
	(void)due_ns;
	return dir_ended(client);
}

static int dir_fd(struct client *client)
{
	(void)client;
	return -1;
}

static void dir_client_close(struct client *client)
{
	struct dir_client *c = container_of(client, struct dir_client, client);

	close(c->directory_fd);
	free(c);
}

static const struct client_ops CLIENT = { dir_begin, dir_ended, dir_turn, dir_fd,
					  dir_client_close };

static int dir_connect(struct peer *p, const struct client_how *how, struct client **ret)
{
	struct dir *d = container_of(p, struct dir, peer);
	struct dir_client *c = calloc(1, sizeof(*c));

	(void)how;
	if (!c)
		return -ENOMEM;
	c->client.ops = &CLIENT;
	c->dir = d;
	c->number = __atomic_fetch_add(&d->client_count, 1, __ATOMIC_RELAXED);
	c->directory_fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->directory_fd < 0) {
		free(c);
		return -errno;
	}
	*ret = &c->client;
	return 0;
}

/* Keys have one of these before them. */
static const char *const DIRECTORIES[] = { "", "/" BENCH_DIRECTORY, "/" BENCH_DIRECTORY "/list" };

static int dir_open(struct peer *p)
{
	struct dir *d = container_of(p, struct dir, peer);
	char path[128];

	snprintf(d->path, sizeof(d->path), "/dev/shm/wadi-bench-XXXXXX");
	if (!mkdtemp(d->path)) {
		d->path[0] = '\0';
		return peer_fail(p, -errno, "no directory in /dev/shm");
	}
	for (size_t i = 1; i < sizeof(DIRECTORIES) / sizeof(DIRECTORIES[0]); i++) {
		snprintf(path, sizeof(path), "%s%s", d->path, DIRECTORIES[i]);
		if (mkdir(path, 0700) < 0)
			return -errno;
	}
	return 0;
}

/* What cells have left, too. */
static void empty(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d)))
		if (e->d_type != DT_DIR)
			unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	rmdir(path);
}

static void dir_close(struct peer *p)
{
	struct dir *d = container_of(p, struct dir, peer);
	char path[128];

	for (size_t i = sizeof(DIRECTORIES) / sizeof(DIRECTORIES[0]); d->path[0] && i-- > 0;) {
		snprintf(path, sizeof(path), "%s%s", d->path, DIRECTORIES[i]);
		empty(path);
	}
	free(d);
}

static const struct peer_ops FILES = {
	.name = "dir",
	.ops = (1u << BENCH_OP_COUNT) - 1 - (1u << BENCH_WAIT),
	.is_serial = true,
	.open = dir_open,
	.connect = dir_connect,
	.close = dir_close,
};

struct peer *peer_dir_new(void)
{
	struct dir *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->peer.ops = &FILES;
	return &d->peer;
}
