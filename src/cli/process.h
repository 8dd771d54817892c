/* SPDX-License-Identifier: Apache-2.0 */
/*
 * process: the roles of one process put together: loops and their threads, the doors'
 * listeners, the connections between roles, and the end of all of it.
 *
 * Loop 0 is the calling thread's and has the proxy, the store, the core, and shard 0
 * of the metadata; each further shard has a loop and a thread of its own, and so has each
 * further proxy, with a core of its own: to the other roles those are as many proxies.
 * Roles on one loop talk through a pair; a shard on another by a socket.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "loop/stream.h"

enum process_role { WITH_META = 1u << 0, WITH_STORE = 1u << 1, WITH_PROXY = 1u << 2 };

struct process_config {
	unsigned roles;
	uint64_t memory_bytes;
	unsigned shard_count;
	unsigned loop_count;               /* of the proxy; more than 1 only without a store */
	const char *listen, *http, *redis; /* addresses; NULL: not that door */
	const char *direct;                /* of `wadi dev`: NULL: near `listen` */
	const char *socket;                /* NULL: in the run directory */
	unsigned socket_mode;              /* 0: nobody else may connect */
	const char *data;                  /* a directory; NULL: none */
	uint64_t snapshot_bytes;           /* logged between two snapshots */
	uint64_t keep_ms;                  /* that the keeper waits for the next process */
	uint64_t store_gone_ms;            /* that metadata waits for a store */
	const char *metas;                 /* addresses, with commas between; NULL: our own */
	const char *key_file, *token_key_file, *advertise;
	bool trusts_local, is_isolated; /* see proxy/who.h */
	bool is_dev;                    /* on this host without tokens */
};

/* Runs until SIGTERM or SIGINT. The exit code; what went wrong has been told on stderr. */
int process_run(const struct process_config *config);
