/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/retired.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of a process's descriptors, they have at most this share. */
#define DESCRIPTORS_SHARE 16

void retired_init(struct retired *r)
{
	struct rlimit files = { .rlim_cur = 1024 };
	uint64_t most;

	getrlimit(RLIMIT_NOFILE, &files);
	most = files.rlim_cur / DESCRIPTORS_SHARE;
	*r = (struct retired){ .most = most < RETIRED_MAX ? (unsigned)most : RETIRED_MAX };
}

/* The lease goes with the descriptor, which is closed next. */
static bool is_ours_alone(int fd)
{
	return fcntl(fd, F_SETLEASE, F_WRLCK) == 0;
}

static void drop(struct retired *r, unsigned i)
{
	close(r->fds[i]);
	r->tally.count--;
	memmove(&r->fds[i], &r->fds[i + 1], (r->tally.count - i) * sizeof(*r->fds));
	if (i < r->next)
		r->next--;
}

void retired_add(struct retired *r, const struct media *media, struct memory *m)
{
	int fd = memory_export_to_write(m);
	bool is_plain = fd == -EOPNOTSUPP;

	media->free(m);
	if (fd >= 0 && is_ours_alone(fd)) {
		close(fd);
		return;
	}
	if (fd < 0 || r->most == 0) {
		r->tally.let_go_count += !is_plain;
		if (fd >= 0)
			close(fd);
		return;
	}
	if (r->tally.count == r->most) {
		drop(r, 0);
		r->tally.let_go_count++;
	}
	r->fds[r->tally.count++] = fd;
}

/* How much there was. If it cannot be punched, there it is the next time. */
static uint64_t punch(struct retired *r, int fd)
{
	struct memory m = { .fd = fd };
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_blocks == 0)
		return 0;
	m.size = (size_t)st.st_size;
	if (media_memfd.punch(&m, 0, m.size) == 0)
		r->tally.punched_bytes += (uint64_t)st.st_blocks * 512;
	return (uint64_t)st.st_blocks * 512;
}

bool retired_look(struct retired *r, uint64_t bytes)
{
	uint64_t before = r->tally.punched_bytes;

	while (r->next < r->tally.count && r->tally.punched_bytes - before < bytes) {
		int fd = r->fds[r->next++];

		if (is_ours_alone(fd))
			drop(r, r->next - 1);
		else
			r->found += punch(r, fd);
	}
	if (r->next < r->tally.count)
		return false;
	r->tally.lingering_bytes = r->found;
	r->found = 0;
	r->next = 0;
	return true;
}

void retired_fini(struct retired *r)
{
	while (r->tally.count > 0)
		drop(r, r->tally.count - 1);
}
