/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench: how fast Wadi is, beside its floor and its peers, in one run.
 *
 * A bench (benches.def) is a list of cells: an operation, a size, so many clients, so many
 * requests in flight. A cell measures every system in turn, pair by pair, so that a machine
 * that drifts drifts for all; a row is one system in one cell, with its ratio to Wadi.
 *
 * Nothing here prints: rows go to a sink. What waits are the threads of workers.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bench/benches.def"
#include "bench/interval.h"
#include "bench/peer.h"

/* clang-format off */
enum bench_kind {
#define BENCH_KIND_ENUM(NAME, ...) BENCH_KIND_##NAME,
	BENCHES(BENCH_KIND_ENUM)
#undef BENCH_KIND_ENUM
	BENCH_KIND_COUNT
};
/* clang-format on */
const char *bench_kind_name(enum bench_kind kind);

struct bench_row {
	const char *bench, *op, *system, *attach, *mode;
	uint64_t size;
	unsigned clients, depth;
	double p50_us, p99_us, p999_us, max_us;
	double ops_per_s, mb_per_s;          /* 1 MB is 10^6 bytes */
	double server_cpu_us, client_cpu_us; /* of a request; NAN: not known */
	double least_share;     /* what the slowest client got, of the mean; NAN: there is one */
	double object_bytes;    /* of the catalog: memory of an object; else NAN */
	double beside_mb_per_s; /* what another client moved meanwhile; NAN: there is none */

	/* Wadi to this one, pair by pair: of the medians of latency, and of operations per second.
	 */
	unsigned pairs; /* 0: this is Wadi */
	struct interval latency, rate;

	double behind_cpu_us; /* of servers behind the one that is asked; NAN: there are none */
	bool is_by_attach;    /* the systems of its cell are ways to attach to Wadi */
};

struct bench_sink {
	void (*row)(struct bench_sink *s, const struct bench_row *row);
	/* A cell that could not be measured, or not with one system: one sentence. */
	void (*skipped)(struct bench_sink *s, const char *why);
};

/* What fits the buffers of all systems; more clients than this are not served by any. */
#define BENCH_SIZE_MAX    (1ull << 30)
#define BENCH_CLIENTS_MAX 20000

/* Values of one kind, as --sizes has them. */
#define BENCH_LIST_MAX 32
struct bench_list {
	uint64_t values[BENCH_LIST_MAX];
	unsigned count; /* 0: what the bench has by itself */
};

#define BENCH_SYSTEMS_MAX 12

struct bench {
	/* What is wanted. */
	const char *program;          /* of a store of our own */
	const char *endpoint, *token; /* NULL: a store of our own */
	enum bench_attach attach;
	uint64_t memory;  /* of the store */
	uint64_t objects; /* of the catalog's bench */
	unsigned kinds;   /* a bit for each bench_kind */
	unsigned peers;   /* and for each bench_peer */
	struct bench_list sizes, clients, depths;
	double rate; /* requests per second; 0: as fast as they are answered */
	uint64_t row_ns;
	unsigned pairs, threads; /* threads of the server, and as many of clients */
	bool is_awake;
	bool is_json; /* of what the sort prints */
	struct bench_sink *sink;

	/* bench's own. */
	struct peer *systems[BENCH_SYSTEMS_MAX]; /* Wadi first */
	unsigned system_count;
	char directory[80]; /* of sockets and files; "": not made */
	char error[400];
};

/* 0, or a negative errno: Wadi itself could not be measured, and b->error says why. */
int bench_run(struct bench *b);

/* SIGINT, SIGTERM or SIGHUP came: what runs ends soon. */
bool bench_is_interrupted(void);
/* As if one had: nobody can read what would come. */
void bench_interrupt(void);

/* Clients and servers meet at a Unix socket. */
bool bench_is_local(const struct bench *b);

/* For peers: a directory of this run, that goes with it; NULL: none could be made. */
const char *bench_directory(struct bench *b);
