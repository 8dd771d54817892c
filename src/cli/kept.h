/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kept: the part of a process that outlives it: its run directory, its keeper, and the
 * facts about it that a successor needs to be the same to everybody: where it listens, and
 * the key of its tokens; and its sessions, which are over with it. It starts the keeper, and
 * starts another whenever that dies or falls silent.
 *
 *	kept_open    finds the predecessor's directory and keeper, or makes new ones
 *	kept_start   when the predecessor's is taken: what nobody took goes
 *	kept_close   ends the keeper, or leaves it to a successor
 *
 * A predecessor is found by the port that both were given; where the kernel chose it, by
 * the file `run` in the directory of --data.
 */
#pragma once

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/rundir.h"
#include "shm/keep_client.h"

struct address;

/* Listeners of a process. */
enum kept_door {
	KEPT_LISTEN,
	KEPT_UNIX,
	KEPT_HTTP,
	KEPT_REDIS,
	KEPT_STORE,
	KEPT_DIRECT,
	KEPT_DOORS
};

struct kept_config {
	uint16_t port;    /* 0: the kernel chooses */
	const char *data; /* a directory, made if need be; NULL: none */
	uint64_t keep_ms; /* that the keeper waits for a successor */
};

struct about;

struct kept {
	struct rundir dir;
	struct keep *keep;
	bool is_again; /* there was a predecessor, and its memory is here */
	bool is_alone; /* there was none, whatever a process of the same number has left */

	/* kept.c's own. */
	const struct kept_config *config;
	int data_fd; /* of --data, locked; -1: none */
	struct keep_client *client;
	struct memory about;
	pthread_t watcher;
	bool has_watcher;
	int wake_fd;
	pid_t pid; /* of the keeper, if we started it */
};

/* What went wrong has been told on stderr. */
int kept_open(struct kept *k, const struct kept_config *config);
/* The keeper may drop what nobody has taken; and what is put no longer waits for the next one. */
void kept_start(struct kept *k);
/* `is_over`: nobody shall come after us. Fine if it was not opened: its descriptors are -1. */
void kept_close(struct kept *k, bool is_over);

/* Where to listen: as `wanted`, or, where the kernel is to choose, where the predecessor did. */
const char *kept_door(const struct kept *k, enum kept_door door, const char *wanted);
void kept_set_door(struct kept *k, enum kept_door door, const struct address *at);
/*
 * The sessions of a loop's core, by shard: the predecessor's, until ours are set. NULL: nothing is
 * kept. Each loop may call these for itself.
 */
const uint64_t *kept_sessions(const struct kept *k, unsigned loop);
void kept_set_session(struct kept *k, unsigned loop, uint16_t shard, uint64_t session);
/*
 * Of a predecessor with more loops than `count`, which are ours, those of the others are shared
 * out: one that this loop is to end, or 0; and it has been ended.
 */
uint64_t kept_session_left(const struct kept *k, unsigned loop, unsigned count, uint16_t shard);
void kept_session_over(struct kept *k, unsigned loop, unsigned count, uint16_t shard,
		       uint64_t session);
/* The predecessor's key, or else this one, from now on. */
void kept_key(struct kept *k, uint8_t *key, size_t len);
