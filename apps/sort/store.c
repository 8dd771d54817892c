/* SPDX-License-Identifier: Apache-2.0 */
#include "store_ops.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

/* clang-format off */
static const struct kind {
	const char *prefix, *name;
	const struct store_ops *ops;
} KINDS[] = {
#ifdef SORT_WITH_WADI
	{ "tcp://",   "wadi",   &STORE_WADI },
	{ "unix://",  "wadi",   &STORE_WADI },
	{ "direct://", "wadi",  &STORE_WADI },
#endif
	{ "redis://", "redis",  &STORE_REDIS },
	{ "dir:",     "dir",    &STORE_DIR },
	{ "memory:",  "memory", &STORE_MEMORY },
};
/* clang-format on */

/* NULL: of none. */
static const struct kind *kind_of(const char *url)
{
	for (size_t i = 0; i < sizeof(KINDS) / sizeof(KINDS[0]); i++)
		if (strncmp(url, KINDS[i].prefix, strlen(KINDS[i].prefix)) == 0)
			return &KINDS[i];
	return NULL;
}

const char *store_kind(const char *url)
{
	const struct kind *k = kind_of(url);

	return k ? k->name : "none";
}

int store_open(const struct store_config *config, struct problem *problem, struct store **ret)
{
	const struct kind *k = kind_of(config->url);
	uint64_t start_ns = clock_ns();
	int r;

	if (!k)
		return problem_set_final(
			problem, -EINVAL,
			"no such store: '%s'; a store is tcp://HOST:PORT, unix:///PATH, "
			"direct://HOST:PORT, redis://HOST:PORT, dir:PATH or memory:",
			config->url);
	r = k->ops->open(config, problem, ret);
	if (r < 0)
		return r;
	(*ret)->ops = k->ops;
	(*ret)->problem = problem;
	(*ret)->stats.io_ns += clock_ns() - start_ns;
	return 0;
}

struct store *store_close(struct store *s)
{
	if (s)
		s->ops->close(s);
	return NULL;
}

int store_put(struct store *s, const char *path, const void *data, size_t len)
{
	uint64_t start_ns = clock_ns();
	int r = s->ops->put(s, path, data, len);

	s->stats.io_ns += clock_ns() - start_ns;
	s->stats.write_bytes += len;
	return r == -EEXIST ? 0 : r;
}

int store_writer_open(struct store *s, const char *path, struct store_writer **ret)
{
	uint64_t start_ns = clock_ns();
	int r = s->ops->writer_open(s, path, ret);

	s->stats.io_ns += clock_ns() - start_ns;
	if (r == 0)
		(*ret)->store = s;
	return r;
}

int store_writer_write(struct store_writer *w, const void *data, size_t len)
{
	struct store *s = w->store;
	uint64_t start_ns = clock_ns();
	int r = s->ops->writer_write(w, data, len);

	s->stats.io_ns += clock_ns() - start_ns;
	s->stats.write_bytes += len;
	return r;
}

int store_writer_commit(struct store_writer **take)
{
	struct store *s = (*take)->store;
	uint64_t start_ns = clock_ns();
	int r = s->ops->writer_commit(*take);

	*take = NULL;
	s->stats.io_ns += clock_ns() - start_ns;
	return r == -EEXIST ? 0 : r;
}

void store_writer_abandon(struct store_writer **take)
{
	if (*take)
		(*take)->store->ops->writer_abandon(*take);
	*take = NULL;
}

int store_read(struct store *s, const struct store_read *reads, size_t count)
{
	uint64_t start_ns = clock_ns();
	int r = s->ops->read(s, reads, count);

	s->stats.io_ns += clock_ns() - start_ns;
	for (size_t i = 0; i < count; i++)
		s->stats.read_bytes += reads[i].len;
	return r;
}

int store_view(struct store *s, const char *path, struct store_view *ret)
{
	uint64_t start_ns = clock_ns();
	int r = s->ops->view ? s->ops->view(s, path, ret) : 0;

	s->stats.io_ns += clock_ns() - start_ns;
	if (r > 0)
		s->stats.read_bytes += ret->len;
	return r;
}

int store_view_end(struct store *s, struct store_view *v)
{
	uint64_t start_ns = clock_ns();
	int r = s->ops->view_end(s, v);

	s->stats.io_ns += clock_ns() - start_ns;
	return r;
}

int store_wait_count(struct store *s, const char *directory, size_t count, uint32_t wait_ms)
{
	uint64_t start_ns = clock_ns();
	int r = s->ops->wait_count(s, directory, count, start_ns + wait_ms * NS_PER_MS);

	s->stats.wait_ns += clock_ns() - start_ns;
	if (r == -ETIMEDOUT)
		return problem_set(s->problem, r, "waited %u s for %zu objects in %s",
				   wait_ms / 1000, count, directory);
	return r;
}

static int entry_compare(const void *a, const void *b)
{
	return strcmp(((const struct store_entry *)a)->name, ((const struct store_entry *)b)->name);
}

int store_list(struct store *s, const char *directory, struct store_list *ret)
{
	uint64_t start_ns = clock_ns();
	struct store_list list = { 0 };
	int r = s->ops->list(s, directory, &list);

	s->stats.io_ns += clock_ns() - start_ns;
	if (r < 0) {
		store_list_fini(&list);
		return r;
	}
	if (list.count > 1)
		qsort(list.entries, list.count, sizeof(*list.entries), entry_compare);
	*ret = list;
	return 0;
}

void store_list_fini(struct store_list *l)
{
	free(l->entries);
	*l = (struct store_list){ 0 };
}

int store_list_add(struct store_list *l, const char *name, uint64_t len)
{
	struct store_entry *e;

	if (strlen(name) >= STORE_NAME_MAX)
		return -ENAMETOOLONG;
	if (l->count == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		struct store_entry *more = reallocarray(l->entries, cap, sizeof(*more));

		if (!more)
			return -ENOMEM;
		l->entries = more;
		l->cap = cap;
	}
	e = &l->entries[l->count++];
	*e = (struct store_entry){ .len = len };
	strcpy(e->name, name);
	return 0;
}

int store_remove(struct store *s, const char *path)
{
	uint64_t start_ns = clock_ns();
	int r = s->ops->remove(s, path);

	s->stats.io_ns += clock_ns() - start_ns;
	return r;
}

int store_job_begin(struct store *s, const char *job, uint32_t lease_ms, char *ret_token)
{
	ret_token[0] = '\0';
	return s->ops->job_begin(s, job, lease_ms, ret_token);
}

int store_job_renew(struct store *s, const char *job, uint32_t lease_ms)
{
	return s->ops->job_renew(s, job, lease_ms);
}

int store_job_usage(struct store *s, const char *job, struct store_usage *ret)
{
	*ret = (struct store_usage){ 0 };
	return s->ops->job_usage(s, job, ret);
}

int store_job_end(struct store *s, const char *job)
{
	return s->ops->job_end(s, job);
}
