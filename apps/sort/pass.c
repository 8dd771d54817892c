/* SPDX-License-Identifier: Apache-2.0 */
#include "pass.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Below this, a read is more round trip than transfer. */
#define WINDOW_MIN ((uint64_t)256 << 10)

uint64_t run_need(const struct run *run)
{
	uint64_t need = run->longest > WINDOW_MIN ? run->longest : WINDOW_MIN;

	return need < run->len ? need : run->len;
}

/* Gives each window what it needs and an equal part of the rest; returns the sum. */
static size_t windows_size(struct window *windows, const struct run *runs, size_t count,
			   size_t room)
{
	uint64_t need = 0, all = 0, more;
	size_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		need += run_need(&runs[i]);
		all += runs[i].len;
	}
	more = all <= room ? all : (room - need) / count;
	for (size_t i = 0; i < count; i++) {
		uint64_t cap = run_need(&runs[i]) + more;

		windows[i].cap = (size_t)(cap < runs[i].len ? cap : runs[i].len);
		windows[i].left = runs[i].len;
		sum += windows[i].cap;
	}
	return sum;
}

static struct store_read read_of(const struct run *run, const struct window *w, size_t n,
				 char path[STORE_PATH_MAX])
{
	runs_path(run->directory, run->object, path);
	return (struct store_read){
		.path = path,
		.offset = run->offset + run->len - w->left,
		.buf = w->buf + w->end,
		.len = n,
	};
}

static int pass_fill(struct merge *m, struct window *w, size_t n)
{
	struct pass *p = (struct pass *)m; /* its first member */
	char path[STORE_PATH_MAX];
	struct store_read read = read_of(&p->runs[w - p->windows], w, n, path);

	return store_read(p->f->store, &read, 1);
}

_Static_assert(offsetof(struct pass, merge) == 0, "a merge of ours is a pass");

/* All windows at once, so that their reads are in flight together. */
static int windows_fill(struct pass *p)
{
	size_t count = p->merge.count;
	struct store_read *reads = calloc(count + 1, sizeof(*reads));
	char(*paths)[STORE_PATH_MAX] = calloc(count + 1, sizeof(*paths));
	int r = -ENOMEM;

	if (reads && paths) {
		for (size_t i = 0; i < count; i++)
			reads[i] =
				read_of(&p->runs[i], &p->windows[i], p->windows[i].cap, paths[i]);
		r = store_read(p->f->store, reads, count);
	}
	for (size_t i = 0; r == 0 && i < count; i++) {
		p->windows[i].end = p->windows[i].cap;
		p->windows[i].left -= p->windows[i].cap;
	}
	free(paths);
	free(reads);
	return r;
}

int pass_end(struct pass *p)
{
	int r = 0;

	while (p->view_count > 0) {
		int x = store_view_end(p->f->store, &p->views[--p->view_count]);

		r = r < 0 ? r : x;
	}
	free(p->views);
	p->views = NULL;
	return r;
}

void pass_fini(struct pass *p)
{
	(void)pass_end(p); /* whoever has to know has asked */
	merge_fini(&p->merge);
	region_fini(&p->room);
	free(p->windows);
}

static int window_view(struct pass *p, size_t i, struct store_view *v)
{
	const struct run *run = &p->runs[i];
	struct window *w = &p->windows[i];
	char path[STORE_PATH_MAX];
	int r;

	runs_path(run->directory, run->object, path);
	r = store_view(p->f->store, path, v);
	if (r <= 0)
		return r;
	p->view_count++;
	if (run->offset > v->len || run->len > v->len - run->offset)
		return problem_set(p->f->problem, -EIO, "%s: shorter than expected", path);
	*w = (struct window){ .buf = (uint8_t *)v->ptr + run->offset,
			      .cap = run->len,
			      .end = run->len };
	return 1;
}

/*
 * 1: the runs are looked at where they lie; 0: they are to be read. Only as many as could be read
 * at once, since a store that is short of memory takes it back from who looks for too long; and
 * only records, behind whose keys there is something, so that whole words may be loaded.
 */
static int windows_view(struct pass *p, size_t room)
{
	size_t count = p->merge.count;
	uint64_t all = 0;
	int r = 1;

	for (size_t i = 0; i < count; i++)
		all += p->runs[i].len;
	if (p->merge.format != FORMAT_RECORDS || all > room)
		return 0;
	p->views = calloc(count + 1, sizeof(*p->views));
	if (!p->views)
		return -ENOMEM;
	for (size_t i = 0; r > 0 && i < count; i++)
		r = window_view(p, i, &p->views[i]);
	if (r == 0) {
		(void)pass_end(p);
		memset(p->windows, 0, count * sizeof(*p->windows));
	}
	return r;
}

static int windows_read(struct pass *p, size_t room)
{
	size_t count = p->merge.count, sum = windows_size(p->windows, p->runs, count, room);
	uint8_t *buf;

	if (region_init(&p->room, sum) < 0)
		return function_no_memory(p->f, sum);
	buf = p->room.ptr;
	for (size_t i = 0; i < count; i++) {
		p->windows[i].buf = buf;
		buf += p->windows[i].cap;
	}
	return windows_fill(p);
}

int pass_init(struct pass *p, struct function *f, const struct run *runs, size_t count, size_t room,
	      bool may_view)
{
	int r;

	*p = (struct pass){
		.merge = { .format = f->req->format, .count = count, .fill = pass_fill },
		.f = f,
		.runs = runs,
		.windows = calloc(count + 1, sizeof(struct window)),
	};
	p->merge.windows = p->windows;
	r = !p->windows ? -ENOMEM : may_view ? windows_view(p, room) : 0;
	if (r == 0)
		r = windows_read(p, room);
	if (r >= 0)
		r = merge_init(&p->merge);
	if (r == -ENOMEM)
		function_no_memory(f, room);
	if (r < 0)
		pass_fini(p);
	return r;
}
