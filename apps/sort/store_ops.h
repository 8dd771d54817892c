/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_ops: what a store_<kind>.c provides to store.c, which measures, and turns
 * -EEXIST of puts and commits into success. The comments are in store.h.
 *
 * Every failure but -EEXIST has been described in store->problem.
 */
#pragma once

#include "store.h"

struct store_ops {
	int (*open)(const struct store_config *config, struct problem *problem, struct store **ret);
	void (*close)(struct store *s);
	int (*put)(struct store *s, const char *path, const void *data, size_t len);
	int (*writer_open)(struct store *s, const char *path, struct store_writer **ret);
	int (*writer_write)(struct store_writer *w, const void *data, size_t len);
	int (*writer_commit)(struct store_writer *w); /* the writer is gone afterwards */
	void (*writer_abandon)(struct store_writer *w);
	int (*read)(struct store *s, const struct store_read *reads, size_t count);
	/* Both NULL where nothing can be shown. */
	int (*view)(struct store *s, const char *path, struct store_view *ret);
	int (*view_end)(struct store *s, struct store_view *v);
	int (*wait_count)(struct store *s, const char *directory, size_t count, uint64_t due_ns);
	int (*list)(struct store *s, const char *directory, struct store_list *ret);
	int (*remove)(struct store *s, const char *path);
	int (*job_begin)(struct store *s, const char *job, uint32_t lease_ms, char *ret_token);
	int (*job_renew)(struct store *s, const char *job, uint32_t lease_ms);
	int (*job_usage)(struct store *s, const char *job, struct store_usage *ret);
	int (*job_end)(struct store *s, const char *job);
};

extern const struct store_ops STORE_DIR, STORE_MEMORY, STORE_REDIS, STORE_WADI;
