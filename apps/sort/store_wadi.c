/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wadi as the store, through its public library: tcp://HOST:PORT, unix:///PATH, direct://HOST:PORT.
 *
 * Names are objects of the job of the token. Small and known objects are one put; many
 * reads are in flight together; a wait is the store's own, asked again before it grows
 * old, so that a connection that died is noticed.
 */
#include "store_ops.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <wadi/wadi.h>

#include "clock.h"

/* Gets on their way at once: enough to keep a connection busy, few enough to be fair. */
#define READS_AHEAD 8

#define WAIT_MS 5000

struct wadi_store {
	struct store store;
	struct wadi *w;
	bool is_near; /* views need no copy, or hardly ever */
};

struct wadi_store_writer {
	struct store_writer writer;
	struct wadi_writer *w;
};

static struct wadi *handle_of(struct store *s)
{
	return ((struct wadi_store *)s)->w;
}

/* What the library says is a sentence already. -EEXIST is no failure here. */
static int failed(struct store *s, int r)
{
	if (r == -EEXIST)
		return r;
	return problem_set(s->problem, r, "%s (%s)", wadi_strerror(handle_of(s)),
			   wadi_status_name(r));
}

static void wadi_store_close(struct store *s)
{
	wadi_close(handle_of(s));
	free(s);
}

static int wadi_store_open(const struct store_config *config, struct problem *problem,
			   struct store **ret)
{
	struct wadi_options options = WADI_OPTIONS;
	struct wadi_store *ws = calloc(1, sizeof(*ws));
	int r;

	if (!ws)
		return problem_set(problem, -ENOMEM, "no memory");
	ws->store.problem = problem;
	options.endpoint = config->url;
	options.token = config->token;
	options.timeout_ms = config->timeout_ms;
	r = wadi_open(&options, &ws->w);
	if (r < 0) {
		if (ws->w)
			failed(&ws->store, r);
		else
			problem_set(problem, r, "no memory");
		wadi_store_close(&ws->store);
		return r;
	}
	ws->is_near = strncmp(config->url, "unix://", 7) == 0;
	*ret = &ws->store;
	return 0;
}

static int wadi_store_put(struct store *s, const char *path, const void *data, size_t len)
{
	struct wadi_put_options options = WADI_PUT_OPTIONS;
	int r;

	options.flags = WADI_CREATE;
	r = wadi_put(handle_of(s), path, data, len, &options, NULL);
	return r < 0 ? failed(s, r) : 0;
}

static int wadi_store_writer_open(struct store *s, const char *path, struct store_writer **ret)
{
	struct wadi_put_options options = WADI_PUT_OPTIONS;
	struct wadi_store_writer *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return problem_set(s->problem, -ENOMEM, "no memory");
	options.flags = WADI_CREATE;
	r = wadi_writer_open(handle_of(s), path, 0, &options, &w->w);
	if (r < 0) {
		free(w);
		return failed(s, r);
	}
	*ret = &w->writer;
	return 0;
}

static int wadi_store_writer_write(struct store_writer *w, const void *data, size_t len)
{
	int r = wadi_writer_write(((struct wadi_store_writer *)w)->w, data, len);

	return r < 0 ? failed(w->store, r) : 0;
}

static void wadi_store_writer_abandon(struct store_writer *w)
{
	wadi_writer_abandon(&((struct wadi_store_writer *)w)->w);
	free(w);
}

static int wadi_store_writer_commit(struct store_writer *w)
{
	int r = wadi_writer_commit(&((struct wadi_store_writer *)w)->w, NULL);

	if (r < 0)
		r = failed(w->store, r);
	free(w);
	return r;
}

static int read_start(struct store *s, const struct store_read *read, struct wadi_op **ret)
{
	struct wadi_get_options options = WADI_GET_OPTIONS;
	int r;

	options.offset = read->offset;
	options.len = read->len;
	r = wadi_start_get(handle_of(s), read->path, read->buf, read->len, &options, NULL, ret);
	return r < 0 ? failed(s, r) : 0;
}

static int read_end(struct store *s, const struct store_read *read, struct wadi_op **take)
{
	int64_t n = wadi_op_end(take);

	if (n < 0)
		return failed(s, (int)n);
	if ((uint64_t)n != read->len)
		return problem_set(s->problem, -EIO, "%s: shorter than expected", read->path);
	return 0;
}

static int wadi_store_read(struct store *s, const struct store_read *reads, size_t count)
{
	struct wadi_op *ops[READS_AHEAD];
	size_t started = 0, ended = 0;
	int r = 0;

	while (r == 0 && ended < count) {
		if (started < count && started - ended < READS_AHEAD) {
			r = read_start(s, &reads[started], &ops[started % READS_AHEAD]);
			started += r == 0;
			continue;
		}
		r = read_end(s, &reads[ended], &ops[ended % READS_AHEAD]);
		ended++;
	}
	/* Their buffers are the caller's, so nobody may still be writing there. */
	for (; ended < started; ended++) {
		wadi_op_cancel(ops[ended % READS_AHEAD]);
		(void)wadi_op_end(&ops[ended % READS_AHEAD]); /* the first failure is told */
	}
	return r;
}

/* A copy of its own would come page by page; the caller has a better place for one. */
static int wadi_store_view(struct store *s, const char *path, struct store_view *ret)
{
	struct wadi_view *v;
	int r;

	if (!((struct wadi_store *)s)->is_near)
		return 0;
	r = wadi_view(handle_of(s), path, NULL, &v);
	if (r < 0)
		return failed(s, r);
	*ret = (struct store_view){ .ptr = wadi_view_data(v), .len = wadi_view_len(v), .of = v };
	return 1;
}

static int wadi_store_view_end(struct store *s, struct store_view *v)
{
	struct wadi_view *of = v->of;
	int r = wadi_release(&of);

	return r < 0 ? problem_set(s->problem, r, "what was merged had been taken away meanwhile")
		     : 0;
}

static int wadi_store_wait_count(struct store *s, const char *directory, size_t count,
				 uint64_t due_ns)
{
	int r;

	do {
		int left_ms = clock_left_ms(due_ns, WAIT_MS);

		if (left_ms == 0)
			return -ETIMEDOUT;
		r = wadi_wait_count(handle_of(s), directory, count, (uint32_t)left_ms, NULL);
	} while (r == -ETIMEDOUT);
	return r < 0 ? failed(s, r) : 0;
}

static int wadi_store_list(struct store *s, const char *directory, struct store_list *ret)
{
	struct wadi_list_entry entry;
	struct wadi_list *list;
	int r = wadi_list_open(handle_of(s), directory, NULL, &list);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return failed(s, r);
	while ((r = wadi_list_next(list, &entry)) > 0) {
		char name[STORE_NAME_MAX];

		snprintf(name, sizeof(name), "%.*s", (int)entry.name_len, entry.name);
		r = store_list_add(ret, name, entry.stat.len);
		if (r < 0)
			break;
	}
	if (r < 0)
		failed(s, r);
	wadi_list_close(&list);
	return r;
}

static int wadi_store_remove(struct store *s, const char *path)
{
	size_t len = strlen(path);
	int r;

	if (len > 0 && path[len - 1] == '/')
		r = wadi_remove_tree(handle_of(s), path, NULL);
	else
		r = wadi_remove(handle_of(s), path, 0);
	return r < 0 && r != -ENOENT ? failed(s, r) : 0;
}

static int wadi_store_job_begin(struct store *s, const char *job, uint32_t lease_ms,
				char *ret_token)
{
	struct wadi_job_options options = WADI_JOB_OPTIONS;
	int r;

	_Static_assert(STORE_TOKEN_MAX >= WADI_TOKEN_MAX, "a token of Wadi's has room");
	options.lease_ms = lease_ms;
	r = wadi_job_create(handle_of(s), job, &options, ret_token);
	return r < 0 ? failed(s, r) : 0;
}

static int wadi_store_job_renew(struct store *s, const char *job, uint32_t lease_ms)
{
	int r = wadi_job_renew(handle_of(s), job, lease_ms);

	return r < 0 ? failed(s, r) : 0;
}

static int wadi_store_job_usage(struct store *s, const char *job, struct store_usage *ret)
{
	struct wadi_job_info info;
	int r = wadi_job_show(handle_of(s), job, &info);

	if (r < 0)
		return failed(s, r);
	*ret = (struct store_usage){
		.is_known = true,
		.dram_bytes = info.dram_bytes,
		.dram_byte_ms = (u128)info.dram_byte_ms_hi << 64 | info.dram_byte_ms_lo,
	};
	return 0;
}

static int wadi_store_job_end(struct store *s, const char *job)
{
	int r = wadi_job_end(handle_of(s), job);

	return r < 0 ? failed(s, r) : 0;
}

const struct store_ops STORE_WADI = {
	.open = wadi_store_open,
	.close = wadi_store_close,
	.put = wadi_store_put,
	.writer_open = wadi_store_writer_open,
	.writer_write = wadi_store_writer_write,
	.writer_commit = wadi_store_writer_commit,
	.writer_abandon = wadi_store_writer_abandon,
	.read = wadi_store_read,
	.view = wadi_store_view,
	.view_end = wadi_store_view_end,
	.wait_count = wadi_store_wait_count,
	.list = wadi_store_list,
	.remove = wadi_store_remove,
	.job_begin = wadi_store_job_begin,
	.job_renew = wadi_store_job_renew,
	.job_usage = wadi_store_job_usage,
	.job_end = wadi_store_job_end,
};
