/* SPDX-License-Identifier: Apache-2.0 */
/*
 * look: into the servers, past their doors: what must hold inside of them at every
 * moment, and what must be left when all is over. A file of its own for each, for their
 * insides have the same names for different things: look_catalog.c, look_shard.c,
 * look_store.c, look_core.c, look_proxy.c.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"

struct catalog;
struct core;
struct shard;
struct store;

/* NULL, or the invariant that is broken. */
const char *look_at_shard(const struct shard *s);
/* `is_asking`: somebody may be waiting for space. */
const char *look_at_catalog(const struct catalog *c, bool is_asking);
const char *look_at_store(struct store *s);

/* A segment that a slot has, or that a store lends. */
struct owned {
	uint64_t segment, job; /* job 0: its slot has forgotten it */
	uint32_t generation;
	bool is_given_back; /* by its slot: the store may have it again already */
};
unsigned shard_segments(const struct shard *s, struct owned *list, unsigned cap);
unsigned catalog_segments(const struct catalog *c, struct owned *list, unsigned cap);
unsigned store_segments(struct store *s, struct owned *list, unsigned cap);

/* Its session at each shard; 0: none yet. */
unsigned core_sessions(const struct core *c, uint64_t *list, unsigned cap);
struct proxy;
/* How many connections are bound to the job of this name. */
unsigned proxy_functions(const struct proxy *p, struct slice job);
struct direct;
struct core *direct_core(const struct direct *d);
uint64_t shard_lsn(const struct shard *s); /* grows with each change */
/* How many versions are kept for readers. */
uint64_t shard_holds(const struct shard *s);
uint64_t catalog_holds(const struct catalog *c);
/* A session that is none of these, in any slot; 0: there is none. */
uint64_t shard_other_session(const struct shard *s, const uint64_t *list, unsigned count);
uint64_t catalog_other_session(const struct catalog *c, const uint64_t *list, unsigned count);
/* Nobody reads, puts or waits: what is kept for those who do, though jobs and sessions live on. */
bool shard_is_at_rest(const struct shard *s, char *why, size_t cap);
bool catalog_is_at_rest(const struct catalog *c, char *why, size_t cap);
/* As after ever so many changes: no job remembers any attempt that is over. */
void shard_forget(struct shard *s);
void catalog_forget(struct catalog *c);
/* Adds what all jobs pay, and what values have cost. */
void shard_bills(const struct shard *s, unsigned __int128 *jobs, unsigned __int128 *values);
/* Its process has ended: what it watched of memory that was given back. */
void store_unmap(struct store *s);
unsigned __int128 store_bill(const struct store *s);

/* Nothing of a job that has ended is left, and nobody waits; else what is. */
bool shard_is_empty(const struct shard *s, char *why, size_t cap);
bool catalog_is_empty(const struct catalog *c, char *why, size_t cap);
bool store_is_empty(struct store *s, char *why, size_t cap);
