/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of a process share:
 *
 *	process.c     the order in which all of it starts, and stops
 *	keys.c        of tokens, and of the roles
 *	loop_thread.c a loop, and the thread that turns it
 *	shard_unit.c  metadata: a shard, and the loop that it lives on
 *	store_unit.c  the store of this process
 *	core_unit.c   the store core and the proxy above it, and the loop that they live on
 *	tallies.c     what is counted on each loop
 *	doors.c       where functions connect, and over which loops they are spread
 */
#pragma once

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "cli/budget.h"
#include "cli/kept.h"
#include "cli/process.h"
#include "core/core.h"
#include "meta/meta.h"
#include "proxy/proxy.h"
#include "shm/archive.h"
#include "store/store.h"
#include "wire/token.h"

#define KEY_MAX 256

/* Turns until what was closed on a loop is free. */
#define TURNS_TO_CLOSE 3

/* A loop, and all that its thread needs to know. Loop 0 is the calling thread's and has none. */
struct loop_thread {
	struct process *process;
	struct loop *loop;
	struct net *net;
	/* On the thread: before the loop runs; when it was stopped, and also if open() failed. */
	int (*open)(struct loop_thread *t);
	void (*close)(struct loop_thread *t);

	/* loop_thread.c's own. */
	pthread_t thread;
	bool has_thread, is_up;
	int result;
	struct letter stop;
};

/* A metadata shard, with the loop that it lives on. Shard 0 shares loop 0. */
struct shard_unit {
	struct loop_thread home;
	uint16_t index;
	struct shard *shard;
	struct listener listener, unix_listener;
	char address[ADDRESS_TEXT_MAX];
};

/* To another loop and back, for what is counted there. */
struct question {
	struct letter letter;
	struct core_unit *asker, *asked;
};

/*
 * A store core, and the proxy on it if there is one, with the loop that they live on. Unit 0
 * shares loop 0.
 */
struct core_unit {
	struct loop_thread home;
	unsigned index;
	struct core *core;
	struct proxy *proxy;

	/*
	 * Connections that it was given, for who gives it more: loop 0 counts them up when it
	 * sends them there, this one down.
	 */
	atomic_uint conn_count;

	/* tallies.c: one question to each of the others, and what they say. */
	struct question questions[LOOPS_MAX];
	struct loop_tally tallies[LOOPS_MAX];
	unsigned unanswered_count;
	struct waitq answered;
};

/* A listener of loop 0, for the proxies. */
struct door {
	struct listener listener;
	void (*accept)(struct proxy *p, struct stream *s);
	bool is_spread; /* over all loops */
	unsigned mode;  /* of a Unix path; 0: as listeners have it */
};

struct process {
	const struct process_config *config;
	struct kept_config kept_config;
	struct kept kept;
	char socket_path[ADDRESS_TEXT_MAX];
	struct loop *loop;
	struct net *net;
	struct core_unit cores[LOOPS_MAX]; /* [0] is there, and has loop 0, whatever the roles */
	unsigned core_count;
	unsigned parting_count, parted_count[2];
	struct shard_unit units[SHARDS_MAX];
	unsigned unit_count;
	struct address metas[SHARDS_MAX];
	unsigned meta_count;
	struct archive *archives[SHARDS_MAX]; /* of the units; NULL without --data */
	struct budget budget;
	struct store *store;
	struct mover *mover;
	struct door native, unix_native, http, redis;
	struct listener store_listen;
	char advertised[ADDRESS_TEXT_MAX], store_socket[ADDRESS_TEXT_MAX];
	uint8_t token_key[KEY_MAX], key[KEY_MAX + 1];
	size_t token_key_len, key_len;
	pthread_t signal_thread;
	struct letter stop;
	struct fiber starter;
	sigset_t signals;
	bool is_failed, has_signal_thread;
	pthread_mutex_t lock; /* of what other threads tell about themselves */
	pthread_cond_t changed;
};

/* What fails has been told on stderr, here and below. */
int complain(const char *what, const char *name, int r);
/* Bytes of --memory that are not pool: catalogs, values, buffers, stacks, the program itself. */
uint64_t other_bytes(const struct process *s);
/* Of one loop. */
unsigned conns_max(const struct process *s);
/* Likewise: memory for what peers do not take. */
size_t unread_max(const struct process *s);
/* Each is two descriptors more of a connection; at most a quarter of those is for that. */
unsigned rings_max(const struct process *s);
unsigned indexes_max(const struct process *s);
/* Descriptors that functions were sent and have not read. */
unsigned fds_unread_max(const struct process *s);
/* Descriptors of those, of one loop. */
unsigned files_shared(const struct process *s);

int keys_load(struct process *s);
/* Whether those are there without which this process would be open to others, or of no use. */
int keys_check(const struct process *s, bool is_loopback);

/* Returns when open() has, with its result. */
int loop_thread_start(struct loop_thread *t);
void loop_thread_stop(struct loop_thread *t); /* fine if it did not start */
void loop_thread_join(struct loop_thread *t); /* likewise */

int shard_units_open(struct process *s);
int shard_units_listen(struct process *s); /* of `wadi dev`: for direct clients */
/* must_leave: the start failed, and what a predecessor left is for the next one. */
void shard_units_close(struct process *s, bool must_leave);

/* A connection from a loop of this process to a shard of it. */
int to_shard(struct process *s, struct loop *from, uint16_t index, struct stream **ret);

/* A store is told to others with its address, so it listens before it joins them. */
int store_unit_listen(struct process *s);
/* Where direct clients of this host reach the store of a process with metadata. */
const char *store_unit_socket(const struct process *s, char *buf, size_t cap);
int store_unit_open(struct process *s);
int store_unit_open_mover(struct process *s); /* when there is a core */

int core_units_open_first(struct process *s);   /* unit 0 without a proxy */
int core_units_open_proxies(struct process *s); /* that, and the other units */
void core_units_stop(struct process *s);        /* their fibers end, or STOP_NS is over */
void core_units_close(struct process *s); /* all, but the threads of others have ended before */

/* Of all loops with a proxy; `owner` is a core unit. See struct proxy_config. */
const struct loop_tally *tallies_ask(void *owner, uint64_t due_ns, unsigned *ret_count);

/* Opens `lr`, whose callback and owner are set, and tells where. */
int listen_at(struct process *s, struct listener *lr, enum kept_door door, const char *text);
int doors_open(struct process *s);
void doors_close(struct process *s);
