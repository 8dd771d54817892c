/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker: a thread that keeps clients of one system busy, and measures.
 *
 * Without a rate each request that has ended is followed by the next (closed loop), and its
 * latency is from its own beginning. With a rate requests are due at fixed times, and its
 * latency is from then: who had to wait because the system stalled is counted as waiting.
 * A request that is due while all others are in flight is begun as soon as one has ended.
 *
 * A slice ends when its time is over and all that was begun has ended; all of it counts,
 * the time until then too. With a rate, so does the time in which nothing was due any more.
 *
 * worker_slice() is all of the instrument, and runs on any thread and on the node's clock;
 * a crew runs several in threads of their own, pinned, side by side.
 */
#pragma once

#include <pthread.h>
#include <semaphore.h>

#include "bench/cpus.h"
#include "bench/histogram.h"
#include "bench/peer.h"

/* Who asks: clients that stay, or for each request one that is opened for it, here or in a fresh
 * process; that is timed from its opening, or from its start. */
enum load_by { LOAD_KEPT, LOAD_OPENED, LOAD_COLD, LOAD_STARTED };

struct load {
	enum bench_op op, other_op; /* in turn; the same if it is one */
	size_t size;
	unsigned clients, depth;
	double rate;        /* per second, of all clients of the worker; 0: none */
	char prefix[16];    /* of keys */
	unsigned key_count; /* 0: each request has a key of its own */
	uint64_t count_max; /* of a slice; 0: any */
	enum load_by by;
};

struct tally {
	struct histogram latency, slice; /* ns; of all slices that are over, and of the last */
	uint64_t count, bytes, elapsed_ns, cpu_ns;
	uint64_t *by_client; /* `clients` of the load */
};

struct worker {
	struct peer *peer;
	struct load load;
	struct tally *tally; /* what slices add to; not ours */
	uint64_t slice_ns;
	uint64_t key_next; /* of keys of their own, the first that has not been used */
	int result;
	char error[400];

	/* worker.c's own. */
	struct client **clients;
	struct request *requests, **idle;
	uint8_t *buffers;
	unsigned idle_count, busy_count, key_at;
	uint64_t due_ns, end_ns, begun_count;
	int epoll_fd;
};

/* Clients and buffers. What failed is in `error`. */
int worker_open(struct worker *w);
/* From now on for slice_ns. */
int worker_slice(struct worker *w);
/* One request for each key [from, to), many at a time, not measured. */
int worker_each(struct worker *w, enum bench_op op, uint64_t from, uint64_t to);
void worker_close(struct worker *w); /* also half open */

/* A worker in a thread of its own, which does one thing after the other. */
enum crew_work { CREW_OPEN, CREW_SLICE, CREW_EACH, CREW_CLOSE };
struct crew_member {
	struct worker worker;
	cpu_set_t cpus;
	bool is_in_background; /* it has its core when nobody else wants it */
	pthread_t thread;
	sem_t go, done;
	enum crew_work work;
	uint64_t fresh; /* between it and worker.key_next are the names of its own that are there */
	struct {
		enum bench_op op;
		uint64_t from, to;
	} each;
};
int crew_start(struct crew_member *m);
/* Begins, and waits: in between the other members work too. */
void crew_go(struct crew_member *m, enum crew_work work);
int crew_wait(struct crew_member *m);
void crew_stop(struct crew_member *m); /* closes the worker, too */
