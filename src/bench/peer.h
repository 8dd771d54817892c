/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer: a system that is measured, Wadi or another: a server, and clients of it.
 *
 * All of them are driven by the same worker (worker.h), through the same few calls, so
 * that what differs is the system alone. A client has a queue of requests in flight:
 *
 *	begin()   takes a request: perhaps sends it, perhaps keeps it until
 *	flush()   all that was begun is on its way; some may have ended
 *	turn()    waits until a request has ended, or until due_ns; 0: looks only
 *
 * A request that has ended has `is_done` and its result. Buffers and keys stay until then.
 * Each returns how many requests have ended, or a negative errno: the system is broken.
 *
 * - A peer is opened once for a run, used by any number of clients, and closed.
 * - A client belongs to the thread that opened it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What is asked of a system: name, and what its size is of. */
#define BENCH_OPS(O)  \
	O(GET, "get") \
	O(PUT, "put") \
	O(CREATE, "create") O(STAT, "stat") O(LIST, "list") O(REMOVE, "remove") O(WAIT, "wait")
/* clang-format off */
enum bench_op {
#define BENCH_OP_ENUM(NAME, name) BENCH_##NAME,
	BENCH_OPS(BENCH_OP_ENUM)
#undef BENCH_OP_ENUM
	BENCH_OP_COUNT
};
/* clang-format on */
const char *bench_op_name(enum bench_op op);

/* A key is a name in a directory; the same in every system. */
#define BENCH_KEY_MAX   40
#define BENCH_DIRECTORY "bench"

/* In flight on one client. */
#define BENCH_DEPTH_MAX 1024

struct request {
	enum bench_op op;
	char key[BENCH_KEY_MAX];
	void *buf;  /* of a put: what; of a get: room for it */
	size_t len; /* bytes; of a list: how many entries are expected */
	bool is_done;
	int64_t result; /* bytes of a get, entries of a list, else 0; or a negative errno */
	uint64_t
		begun_ns; /* when it was due; a system may move that: of WAIT, when the put began */
	void *own;        /* the client's */
};

struct client;

struct client_ops {
	int (*begin)(struct client *c, struct request *rq);
	int (*flush)(struct client *c);
	int (*turn)(struct client *c, uint64_t due_ns);
	int (*fd)(struct client *c); /* polls readable when turn() has work; -1: it never waits */
	void (*close)(struct client *c);
};

struct client {
	const struct client_ops *ops;
	/* In order of sending, for systems that answer so. */
	struct request *queue[BENCH_DEPTH_MAX];
	unsigned head, count;
};

void client_push(struct client *c, struct request *rq);
/* The oldest; NULL: none. */
struct request *client_oldest(const struct client *c);
/* The oldest has ended. */
void client_pop(struct client *c, int64_t result);

/* How functions attach, in the order of the words of --attach. */
enum bench_attach { BENCH_PROXY, BENCH_HOST, BENCH_SIDECAR, BENCH_DIRECT, BENCH_ATTACH_COUNT };
const char *bench_attach_name(enum bench_attach attach);

/* What a client should be good for. */
struct client_how {
	bool is_alone; /* the only one of its thread, with one request at a time */
};

struct peer;
struct first_times;

struct peer_ops {
	const char *name;
	unsigned ops;    /* a bit for each that it has a counterpart of */
	bool is_floor;   /* keeps nothing, so nothing is prepared */
	bool is_polling; /* clients wait awake */
	bool is_single;  /* has one client, with one request at a time */
	bool is_serial;  /* begin() is all: a thread is one client, however many it has */
	/* Its server, pinned, and ready. */
	int (*open)(struct peer *p);
	int (*connect)(struct peer *p, const struct client_how *how, struct client **ret);
	/* A fresh process gets an object; NULL: there is none for this system. */
	int (*first)(struct peer *p, const char *key, size_t len, struct first_times *ret);
	/* Between measurements: no cost to others. May be NULL. */
	void (*pause)(struct peer *p);
	void (*resume)(struct peer *p);
	void (*close)(struct peer *p);
};

/* What all have in common. Peers embed it. */
struct peer {
	const struct peer_ops *ops;
	const struct bench *bench; /* not ours */
	const char *attach;        /* how clients reach it */
	pid_t server;              /* 0: none, or not known */
	pid_t behind[2];           /* of servers that it asks in turn */
	unsigned clients;          /* that it has, or will have, in what is measured now */
	char error[240];           /* why it failed, and what to do */
};

/* A bit for each thing that can be compared with. */
#define BENCH_PEERS "raw|redis|memcached|dir"
enum bench_peer { BENCH_RAW, BENCH_REDIS, BENCH_MEMCACHED, BENCH_DIR };

struct peer *peer_wadi_new(enum bench_attach attach);
struct peer *peer_raw_new(bool is_polling);
struct peer *peer_memory_new(bool is_polling); /* with BENCH_RAW, on one host */
struct peer *peer_memcpy_new(void);            /* likewise */
struct peer *peer_redis_new(void);
struct peer *peer_memcached_new(void);
struct peer *peer_dir_new(void);

/* Sets the error; returns `r`. */
int peer_fail(struct peer *p, int r, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* CPU time of its server until now; 0 if that is not known. */
uint64_t peer_cpu_ns(const struct peer *p);
/* The same of those behind it. */
uint64_t peer_behind_cpu_ns(const struct peer *p);
