/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of this process as the store: memory:. What the functions cost without one, to
 * compare with; they are threads then. Objects of all jobs are in one list, in the
 * order of their names, `job/path`; a job is what begins with its name.
 */
#include "store_memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "store_ops.h"

struct object {
	char *name;
	uint8_t *bytes;
	size_t len;
	unsigned ref_count; /* the list's, and one for each read in progress */
};

/* The only state that calls share. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct object **objects;
	size_t count, cap;
} all = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static _Thread_local const atomic_bool *stop_now;

struct memory_store {
	struct store store;
	char *job; /* NULL if none was named */
};

struct memory_writer {
	struct store_writer writer;
	struct object *object; /* not in the list yet */
	size_t cap;
};

void store_memory_obey(const atomic_bool *stop)
{
	stop_now = stop;
}

void store_memory_wake(void)
{
	pthread_mutex_lock(&all.lock);
	pthread_cond_broadcast(&all.changed);
	pthread_mutex_unlock(&all.lock);
}

static int no_memory(struct store *s)
{
	return problem_set(s->problem, -ENOMEM, "no memory");
}

static int stopped(struct store *s)
{
	return stop_now && atomic_load(stop_now)
		       ? problem_set(s->problem, -ECANCELED, "told to stop")
		       : 0;
}

static void object_free(struct object *o)
{
	if (!o)
		return;
	free(o->name);
	free(o->bytes);
	free(o);
}

/* With the lock held, as everything up to the next heading. */

static void object_unref(struct object *o)
{
	if (--o->ref_count == 0)
		object_free(o);
}

/* Of the first whose name is not less. */
static size_t place_of(const char *name)
{
	size_t low = 0, high = all.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(all.objects[middle]->name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct object *find(const char *name)
{
	size_t at = place_of(name);

	return at < all.count && strcmp(all.objects[at]->name, name) == 0 ? all.objects[at] : NULL;
}

static int insert(struct object *o)
{
	size_t at = place_of(o->name);

	if (at < all.count && strcmp(all.objects[at]->name, o->name) == 0)
		return -EEXIST;
	if (all.count == all.cap) {
		size_t cap = all.cap ? 2 * all.cap : 64;
		struct object **more = realloc(all.objects, cap * sizeof(struct object *));

		if (!more)
			return -ENOMEM;
		all.objects = more;
		all.cap = cap;
	}
	memmove(all.objects + at + 1, all.objects + at, (all.count - at) * sizeof(struct object *));
	all.objects[at] = o;
	all.count++;
	o->ref_count = 1;
	return 0;
}

/* The range of all names that begin with this. */
static size_t range_of(const char *prefix, size_t *ret_from)
{
	size_t from = place_of(prefix), to = from;

	while (to < all.count && strncmp(all.objects[to]->name, prefix, strlen(prefix)) == 0)
		to++;
	*ret_from = from;
	return to - from;
}

static void drop(size_t from, size_t count)
{
	for (size_t i = from; i < from + count; i++)
		object_unref(all.objects[i]);
	memmove(all.objects + from, all.objects + from + count,
		(all.count - from - count) * sizeof(struct object *));
	all.count -= count;
	if (all.count == 0) {
		free(all.objects);
		all.objects = NULL;
		all.cap = 0;
	}
}

/* Calls. */

static char *name_of(const struct store *s, const char *path, const char *end)
{
	const char *job = ((const struct memory_store *)s)->job;
	size_t len = strlen(job) + strlen(path) + strlen(end) + 2;
	char *name = malloc(len);

	if (name)
		snprintf(name, len, "%s/%s%s", job, path, end);
	return name;
}

static void memory_close(struct store *s)
{
	free(((struct memory_store *)s)->job);
	free(s);
}

static int memory_open(const struct store_config *config, struct problem *problem,
		       struct store **ret)
{
	struct memory_store *m = calloc(1, sizeof(*m));

	if (m && config->job)
		m->job = strdup(config->job);
	if (!m || (config->job && !m->job)) {
		free(m);
		return problem_set(problem, -ENOMEM, "no memory");
	}
	*ret = &m->store;
	return 0;
}

static void memory_writer_abandon(struct store_writer *writer)
{
	object_free(((struct memory_writer *)writer)->object);
	free(writer);
}

static int memory_writer_open(struct store *s, const char *path, struct store_writer **ret)
{
	struct memory_writer *w = calloc(1, sizeof(*w));

	if (w)
		w->object = calloc(1, sizeof(*w->object));
	if (w && w->object)
		w->object->name = name_of(s, path, "");
	if (!w || !w->object || !w->object->name) {
		if (w)
			memory_writer_abandon(&w->writer);
		return no_memory(s);
	}
	*ret = &w->writer;
	return 0;
}

static int memory_writer_write(struct store_writer *writer, const void *data, size_t len)
{
	struct memory_writer *w = (struct memory_writer *)writer;
	struct object *o = w->object;
	int r = stopped(writer->store);

	if (r < 0)
		return r;
	if (len > w->cap - o->len) {
		size_t cap = 2 * w->cap > o->len + len ? 2 * w->cap : o->len + len;
		uint8_t *more = realloc(o->bytes, cap);

		if (!more)
			return no_memory(writer->store);
		o->bytes = more;
		w->cap = cap;
	}
	if (len > 0)
		memcpy(o->bytes + o->len, data, len);
	o->len += len;
	return 0;
}

static int memory_writer_commit(struct store_writer *writer)
{
	struct memory_writer *w = (struct memory_writer *)writer;
	struct store *s = writer->store;
	int r = stopped(s);

	if (r == 0) {
		pthread_mutex_lock(&all.lock);
		r = insert(w->object);
		pthread_cond_broadcast(&all.changed);
		pthread_mutex_unlock(&all.lock);
	}
	if (r == 0)
		w->object = NULL;
	memory_writer_abandon(writer);
	return r == -ENOMEM ? no_memory(s) : r;
}

static int memory_put(struct store *s, const char *path, const void *data, size_t len)
{
	struct store_writer *w;
	int r = memory_writer_open(s, path, &w);

	if (r < 0)
		return r;
	w->store = s;
	r = memory_writer_write(w, data, len);
	if (r == 0)
		return memory_writer_commit(w);
	memory_writer_abandon(w);
	return r;
}

/* It is here until it is left. */
static int object_use(struct store *s, const char *path, struct object **ret)
{
	char *name = name_of(s, path, "");
	struct object *o;

	if (!name)
		return no_memory(s);
	pthread_mutex_lock(&all.lock);
	o = find(name);
	if (o)
		o->ref_count++;
	pthread_mutex_unlock(&all.lock);
	free(name);
	*ret = o;
	return o ? 0 : problem_set(s->problem, -ENOENT, "%s: is not there", path);
}

static void object_leave(struct object *o)
{
	pthread_mutex_lock(&all.lock);
	object_unref(o);
	pthread_mutex_unlock(&all.lock);
}

static int read_one(struct store *s, const struct store_read *read)
{
	struct object *o;
	int r = object_use(s, read->path, &o);

	if (r < 0)
		return r;
	if (read->offset > o->len || read->len > o->len - read->offset)
		r = problem_set(s->problem, -EIO, "%s: shorter than expected", read->path);
	else if (read->len > 0)
		memcpy(read->buf, o->bytes + read->offset, read->len);
	object_leave(o);
	return r;
}

static int memory_view(struct store *s, const char *path, struct store_view *ret)
{
	struct object *o;
	int r = stopped(s);

	if (r == 0)
		r = object_use(s, path, &o);
	if (r < 0)
		return r;
	*ret = (struct store_view){ .ptr = o->bytes, .len = o->len, .of = o };
	return 1;
}

static int memory_view_end(struct store *s, struct store_view *v)
{
	(void)s;
	object_leave(v->of);
	return 0;
}

static int memory_read(struct store *s, const struct store_read *reads, size_t count)
{
	int r = stopped(s);

	for (size_t i = 0; i < count && r == 0; i++)
		r = read_one(s, &reads[i]);
	return r;
}

static int memory_list(struct store *s, const char *directory, struct store_list *ret)
{
	char *prefix = name_of(s, directory, "/");
	size_t from, count;
	int r = 0;

	if (!prefix)
		return no_memory(s);
	pthread_mutex_lock(&all.lock);
	count = range_of(prefix, &from);
	for (size_t i = from; i < from + count && r == 0; i++)
		r = store_list_add(ret, all.objects[i]->name + strlen(prefix), all.objects[i]->len);
	pthread_mutex_unlock(&all.lock);
	free(prefix);
	return r;
}

static int memory_wait_count(struct store *s, const char *directory, size_t count, uint64_t due_ns)
{
	char *prefix = name_of(s, directory, "/");
	size_t from;
	int r = prefix ? 0 : no_memory(s);

	pthread_mutex_lock(&all.lock);
	while (r == 0 && range_of(prefix, &from) < count) {
		struct timespec due = { .tv_sec = (time_t)(due_ns / NS_PER_S),
					.tv_nsec = (long)(due_ns % NS_PER_S) };

		r = stopped(s);
		if (r == 0)
			r = -pthread_cond_clockwait(&all.changed, &all.lock, CLOCK_MONOTONIC, &due);
	}
	pthread_mutex_unlock(&all.lock);
	free(prefix);
	return r;
}

static int remove_range(struct store *s, char *take_prefix)
{
	size_t from, count;

	if (!take_prefix)
		return no_memory(s);
	pthread_mutex_lock(&all.lock);
	count = range_of(take_prefix, &from);
	if (count > 0)
		drop(from, count);
	pthread_mutex_unlock(&all.lock);
	free(take_prefix);
	return 0;
}

/* An object, or all in a directory: `directory/`. */
static int memory_remove(struct store *s, const char *path)
{
	size_t len = strlen(path), at;
	char *name = name_of(s, path, "");

	if (!name || (len > 0 && path[len - 1] == '/'))
		return remove_range(s, name);
	pthread_mutex_lock(&all.lock);
	at = place_of(name);
	if (at < all.count && strcmp(all.objects[at]->name, name) == 0)
		drop(at, 1);
	pthread_mutex_unlock(&all.lock);
	free(name);
	return 0;
}

static int memory_job_begin(struct store *s, const char *job, uint32_t lease_ms, char *ret_token)
{
	(void)s, (void)job, (void)lease_ms, (void)ret_token; /* it has neither */
	return 0;
}

static int memory_job_renew(struct store *s, const char *job, uint32_t lease_ms)
{
	(void)s, (void)job, (void)lease_ms;
	return 0;
}

static int memory_job_usage(struct store *s, const char *job, struct store_usage *ret)
{
	(void)s, (void)job, (void)ret; /* nobody counts */
	return 0;
}

static int memory_job_end(struct store *s, const char *job)
{
	struct memory_store named = { .job = (char *)job };

	return remove_range(s, name_of(&named.store, "", ""));
}

const struct store_ops STORE_MEMORY = {
	.open = memory_open,
	.close = memory_close,
	.put = memory_put,
	.writer_open = memory_writer_open,
	.writer_write = memory_writer_write,
	.writer_commit = memory_writer_commit,
	.writer_abandon = memory_writer_abandon,
	.read = memory_read,
	.view = memory_view,
	.view_end = memory_view_end,
	.wait_count = memory_wait_count,
	.list = memory_list,
	.remove = memory_remove,
	.job_begin = memory_job_begin,
	.job_renew = memory_job_renew,
	.job_usage = memory_job_usage,
	.job_end = memory_job_end,
};
