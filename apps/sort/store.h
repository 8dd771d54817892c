/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: where the functions of a job leave data for each other. Wadi, or something
 * to compare it with: a Redis server, a directory, or no store at all.
 *
 *	tcp://HOST:PORT, unix:///PATH,
 *	direct://HOST:PORT                Wadi, at one of its endpoints
 *	redis://HOST:PORT[?part=SIZE]     values of at most SIZE bytes, 16 MiB by default
 *	redis:///PATH[?part=SIZE]         the same over a Unix socket
 *	dir:PATH                          files
 *	memory:                           this process, whose threads the functions are
 *
 * Objects are immutable and appear whole. All puts are "if absent", and to find one
 * there already is success: it was written by another attempt of the same function,
 * from the same input. A name is `directory/directory/name`, relative to the job.
 *
 * What a function spends on ephemeral I/O is measured here and nowhere else, so the
 * same for all stores: time inside these calls, less the time in store_wait_count(),
 * which is time that other functions took.
 *
 * The first failure is described in the problem that the store was opened with.
 */
#pragma once

#include "problem.h"
#include "record.h"

#define STORE_PATH_MAX 256 /* bytes with the NUL; ours are short */
#define STORE_NAME_MAX 64

struct store_config {
	const char *url;
	const char *token;   /* NULL: none */
	const char *job;     /* NULL: only to make one */
	uint32_t timeout_ms; /* of a call that waits for nobody else */
};

struct store_stats {
	uint64_t read_bytes, write_bytes;
	uint64_t io_ns, wait_ns;
};

struct store {
	const struct store_ops *ops;
	struct problem *problem; /* not ours */
	struct store_stats stats;
};

struct store_writer {
	struct store *store;
};

/* A range of an object, and where it goes; the object has all of it. */
struct store_read {
	const char *path;
	uint64_t offset;
	void *buf;
	size_t len;
};

/* An object where it lies. */
struct store_view {
	const uint8_t *ptr;
	size_t len;
	void *of; /* the store's */
};

struct store_entry {
	char name[STORE_NAME_MAX];
	uint64_t len;
};

struct store_list {
	struct store_entry *entries; /* in byte order of their names */
	size_t count;

	/* store.c's own. */
	size_t cap;
};

struct store_usage {
	bool is_known;
	uint64_t dram_bytes;
	u128 dram_byte_ms; /* the integral over time, of which the bill is made */
};

int store_open(const struct store_config *config, struct problem *problem, struct store **ret);
struct store *store_close(struct store *s);
/* What a report calls it: wadi, redis, dir, memory. */
const char *store_kind(const char *url);

/* An object that is in memory as a whole. */
int store_put(struct store *s, const char *path, const void *data, size_t len);

/* An object of unknown length. It is not there before its commit, which takes the writer. */
int store_writer_open(struct store *s, const char *path, struct store_writer **ret);
int store_writer_write(struct store_writer *w, const void *data, size_t len);
int store_writer_commit(struct store_writer **take);
void store_writer_abandon(struct store_writer **take);

/* All of them; several are in flight where the store can do that. */
int store_read(struct store *s, const struct store_read *reads, size_t count);

/*
 * All of an object, without a copy. 1; 0: this store shows nothing, and it is to be read. Nothing
 * may be loaded beyond its end. store_view_end(): -ESTALE: it had been taken away, and what was
 * looked at may be anything.
 */
int store_view(struct store *s, const char *path, struct store_view *ret);
int store_view_end(struct store *s, struct store_view *v);

/* Until there are `count` objects directly in the directory, without polling for them. */
int store_wait_count(struct store *s, const char *directory, size_t count, uint32_t wait_ms);
int store_list(struct store *s, const char *directory, struct store_list *ret);
void store_list_fini(struct store_list *l);
int store_list_add(struct store_list *l, const char *name, uint64_t len);

/* One object, or, if the path ends in `/`, all below it. What is not there is no error. */
int store_remove(struct store *s, const char *path);

/*
 * The job that owns the objects, made and ended by the driver. `ret_token` receives
 * what functions need to open it, or "". A Wadi job ends by itself if nobody renews
 * its lease.
 */
#define STORE_TOKEN_MAX 1024
int store_job_begin(struct store *s, const char *job, uint32_t lease_ms, char *ret_token);
int store_job_renew(struct store *s, const char *job, uint32_t lease_ms);
int store_job_usage(struct store *s, const char *job, struct store_usage *ret);
int store_job_end(struct store *s, const char *job);
