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

static struct keep_name name_of(uint64_t number)
{
	return (struct keep_name){ .kind = KEEP_RETIRED, .number = number };
}

static void drop(struct retired *r, unsigned i)
{
	keep_drop(r->keep, name_of(r->list[i].number));
	close(r->list[i].fd);
	r->tally.count--;
	memmove(&r->list[i], &r->list[i + 1], (r->tally.count - i) * sizeof(*r->list));
	if (i < r->next)
		r->next--;
}

/* False: there may be none. */
static bool make_room(struct retired *r)
{
	if (r->most == 0)
		return false;
	if (r->tally.count == r->most) {
		drop(r, 0);
		r->tally.let_go_count++;
	}
	return true;
}

/* What a predecessor watched. It was punched, and perhaps touched again. */
static void take(struct retired *r, struct keep_name name)
{
	struct memory m;
	int fd;

	if (keep_take(r->keep, name, &m) < 0)
		return; /* it goes with all that nobody takes */
	fd = m.fd;
	m.fd = -1;
	media_memfd.free(&m);
	if (!memory_is_ours_alone(fd) && make_room(r)) {
		r->list[r->tally.count++] = (struct watched){ fd, name.number };
		return;
	}
	keep_drop(r->keep, name);
	close(fd);
}

void retired_init(struct retired *r, struct keep *keep)
{
	struct rlimit files = { .rlim_cur = 1024 };
	struct keep_name name = name_of(0);
	uint64_t most;

	getrlimit(RLIMIT_NOFILE, &files);
	most = files.rlim_cur / DESCRIPTORS_SHARE;
	*r = (struct retired){ .keep = keep,
			       .most = most < RETIRED_MAX ? (unsigned)most : RETIRED_MAX };
	while (keep_find(keep, name, &name)) {
		take(r, name);
		r->next_number = ++name.number;
	}
}

void retired_add(struct retired *r, const struct media *media, struct memory *m)
{
	int fd = memory_export_to_write(m);
	bool is_plain = fd == -EOPNOTSUPP;

	media->free(m);
	if (fd >= 0 && memory_is_ours_alone(fd)) {
		close(fd);
		return;
	}
	if (fd < 0 || !make_room(r)) {
		r->tally.let_go_count += !is_plain;
		if (fd >= 0)
			close(fd);
		return;
	}
	r->list[r->tally.count++] = (struct watched){ fd, r->next_number };
	/* If the keeper cannot have it now, it is watched for as long as we live. */
	(void)keep_put(r->keep, name_of(r->next_number++), &(struct memory){ .fd = fd });
}

/* How much there was. If it cannot be punched, there it is the next time. */
static uint64_t punch(struct retired *r, int fd)
{
	struct memory m = { .fd = fd };
	uint64_t there = memory_there(&m);
	struct stat st;

	if (there == 0 || fstat(fd, &st) < 0)
		return 0;
	m.size = (size_t)st.st_size;
	if (media_memfd.punch(&m, 0, m.size) == 0)
		r->tally.punched_bytes += there;
	return there;
}

bool retired_look(struct retired *r, uint64_t bytes)
{
	uint64_t before = r->tally.punched_bytes;

	while (r->next < r->tally.count && r->tally.punched_bytes - before < bytes) {
		int fd = r->list[r->next++].fd;

		if (memory_is_ours_alone(fd))
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
		close(r->list[--r->tally.count].fd);
}
