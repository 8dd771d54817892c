/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/archive.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/container.h"
#include "base/node.h"

struct directory {
	struct archive archive;
	int fd;
	char *path;
};

static struct directory *directory_of(const struct archive *a)
{
	return container_of((struct archive *)a, struct directory, archive);
}

static int write_all(int fd, uint64_t offset, const uint8_t *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, bytes, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		bytes += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int dir_write(struct archive *a, const char *name, uint64_t offset, const void *bytes,
		     size_t len)
{
	int flags = O_WRONLY | O_CLOEXEC | O_NOFOLLOW | (offset == 0 ? O_CREAT : 0);
	int fd = openat(directory_of(a)->fd, name, flags, 0600), r;

	if (fd < 0)
		return -errno;
	r = write_all(fd, offset, bytes, len);
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

static int dir_sync(struct archive *a, const char *name)
{
	int fd = openat(directory_of(a)->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), r = 0;

	if (fd < 0)
		return -errno;
	if (fdatasync(fd) < 0 || fsync(directory_of(a)->fd) < 0)
		r = -errno;
	close(fd);
	return r;
}

static int64_t dir_read(struct archive *a, const char *name, uint64_t offset, void *buf, size_t cap)
{
	int fd = openat(directory_of(a)->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int64_t got = 0;

	if (fd < 0)
		return -errno;
	while ((size_t)got < cap) {
		ssize_t n = pread(fd, (uint8_t *)buf + got, cap - (size_t)got,
				  (off_t)(offset + (uint64_t)got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			got = -errno;
		if (n <= 0)
			break;
		got += n;
	}
	close(fd);
	return got;
}

static int dir_cut(struct archive *a, const char *name, uint64_t len)
{
	int fd = openat(directory_of(a)->fd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW), r = 0;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)len) < 0)
		r = -errno;
	close(fd);
	return r;
}

static int dir_remove(struct archive *a, const char *name)
{
	return unlinkat(directory_of(a)->fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

/* The name as dir_next() has it so far, or this one, if it is nearer. */
static void nearer(char found[ARCHIVE_NAME_MAX], const char *name, const char *after)
{
	if (name[0] == '.' || strlen(name) >= ARCHIVE_NAME_MAX || strcmp(name, after) <= 0 ||
	    (found[0] && strcmp(name, found) >= 0))
		return;
	memcpy(found, name, strlen(name) + 1);
}

static int dir_next(struct archive *a, const char *after, char ret[ARCHIVE_NAME_MAX])
{
	int fd = openat(directory_of(a)->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	char found[ARCHIVE_NAME_MAX] = "";
	const struct dirent *entry;

	if (!d) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	errno = 0;
	while ((entry = readdir(d)) != NULL)
		nearer(found, entry->d_name, after);
	r = -errno;
	closedir(d);
	if (r < 0)
		return r;
	memcpy(ret, found, sizeof(found));
	return found[0] != '\0';
}

static const char *dir_where(const struct archive *a)
{
	return directory_of(a)->path;
}

static void dir_close(struct archive *a)
{
	struct directory *d = directory_of(a);

	if (d->fd >= 0)
		close(d->fd);
	node_free(d->path);
	node_free(d);
}

static const struct archive_ops DIRECTORY_OPS = {
	.write = dir_write,
	.sync = dir_sync,
	.read = dir_read,
	.cut = dir_cut,
	.remove = dir_remove,
	.next = dir_next,
	.where = dir_where,
	.close = dir_close,
};

int archive_find(const char *path, struct archive **ret)
{
	struct directory *d = node_alloc(sizeof(*d));
	int r = 0;

	if (!d)
		return -ENOMEM;
	*d = (struct directory){ .archive.ops = &DIRECTORY_OPS, .fd = -1 };
	d->path = node_alloc(strlen(path) + 1);
	if (!d->path)
		r = -ENOMEM;
	else
		memcpy(d->path, path, strlen(path) + 1);
	if (r == 0) {
		d->fd = openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (d->fd < 0 || flock(d->fd, LOCK_EX | LOCK_NB) < 0)
			r = -errno;
	}
	if (r < 0) {
		dir_close(&d->archive);
		return r;
	}
	*ret = &d->archive;
	return 0;
}

int archive_directory(const char *path)
{
	int fd = -1, r = 0;

	if (mkdir(path, 0700) < 0)
		return errno == EEXIST ? 0 : -errno;
	fd = openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		int parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		r = parent < 0 || fsync(parent) < 0 ? -errno : 0;
		if (parent >= 0)
			close(parent);
		close(fd);
	} else {
		r = -errno;
	}
	/* Else the next try would believe it. */
	if (r < 0)
		(void)rmdir(path);
	return r;
}

int archive_open(const char *path, struct archive **ret)
{
	int r = archive_directory(path);

	return r < 0 ? r : archive_find(path, ret);
}
