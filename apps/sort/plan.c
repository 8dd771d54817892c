/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "request.h"

int plan_add(struct plan *p, const char *path, uint64_t len)
{
	struct plan_file *more = reallocarray(p->files, p->count + 1, sizeof(*more));
	char *copy = strdup(path);

	if (more)
		p->files = more;
	if (!more || !copy) {
		free(copy);
		return -ENOMEM;
	}
	p->files[p->count++] = (struct plan_file){ .path = copy, .len = len };
	p->len += len;
	return 0;
}

void plan_fini(struct plan *p)
{
	for (size_t i = 0; i < p->count; i++)
		free(p->files[i].path);
	free(p->files);
	*p = (struct plan){ 0 };
}

static int cannot_read(struct problem *problem, const char *path)
{
	return problem_set(problem, -errno, "%s: cannot read: %s", path, strerror(errno));
}

static int file_add(struct plan *p, const char *path, const struct stat *st,
		    struct problem *problem)
{
	/* Functions may run in any directory. */
	char *absolute;
	int r;

	if (p->format == FORMAT_RECORDS && st->st_size % RECORD_SIZE)
		return problem_set(problem, -EINVAL,
				   "%s: %lld bytes are no whole number of records of %d; text is "
				   "--format lines",
				   path, (long long)st->st_size, RECORD_SIZE);
	absolute = realpath(path, NULL);
	if (!absolute)
		return cannot_read(problem, path);
	r = request_text_check(absolute, problem);
	if (r == 0)
		r = plan_add(p, absolute, (uint64_t)st->st_size);
	free(absolute);
	return r < 0 ? problem_set(problem, r, "no memory") : 0;
}

static int is_visible(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

static int entry_add(struct plan *p, const char *directory, const char *name,
		     struct problem *problem)
{
	struct stat st;
	char *path;
	int r = 0;

	if (asprintf(&path, "%s/%s", directory, name) < 0)
		return problem_set(problem, -ENOMEM, "no memory");
	if (stat(path, &st) < 0)
		r = cannot_read(problem, path);
	else if (S_ISREG(st.st_mode))
		r = file_add(p, path, &st, problem);
	free(path);
	return r;
}

static int directory_add(struct plan *p, const char *path, struct problem *problem)
{
	struct dirent **entries;
	size_t before = p->count;
	int count = scandir(path, &entries, is_visible, alphasort), r = 0;

	if (count < 0)
		return cannot_read(problem, path);
	for (int i = 0; i < count; i++) {
		if (r == 0)
			r = entry_add(p, path, entries[i]->d_name, problem);
		free(entries[i]);
	}
	free(entries);
	if (r == 0 && p->count == before)
		return problem_set(problem, -ENOENT, "%s: no files in this directory", path);
	return r;
}

int plan_input(struct plan *p, const struct paths *paths, struct problem *problem)
{
	for (size_t i = 0; i < paths->count; i++) {
		const char *path = paths->list[i];
		struct stat st;
		int r;

		if (stat(path, &st) < 0)
			return cannot_read(problem, path);
		if (S_ISDIR(st.st_mode))
			r = directory_add(p, path, problem);
		else if (S_ISREG(st.st_mode))
			r = file_add(p, path, &st, problem);
		else
			r = problem_set(problem, -EINVAL, "%s: neither a file nor a directory",
					path);
		if (r < 0)
			return r;
	}
	return 0;
}

json_t *plan_share(const struct plan *p, uint32_t index, uint32_t count)
{
	uint64_t unit = p->format == FORMAT_RECORDS ? RECORD_SIZE : 1;
	uint64_t units = p->len / unit;
	uint64_t from = (uint64_t)((u128)units * index / count) * unit;
	uint64_t to = (uint64_t)((u128)units * (index + 1) / count) * unit;
	json_t *share = json_array();
	uint64_t begin = 0; /* of the file, in the stream */

	for (size_t i = 0; i < p->count && begin < to; begin += p->files[i++].len) {
		uint64_t end = begin + p->files[i].len;
		uint64_t a = from > begin ? from : begin, b = to < end ? to : end;

		if (a < b && json_array_append_new(share, json_pack("[sII]", p->files[i].path,
								    (json_int_t)(a - begin),
								    (json_int_t)(b - a))) < 0) {
			json_decref(share);
			return NULL;
		}
	}
	return share;
}
