/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_priv: what the files of a pool share. pool.c has the segments and their life, grant.c who is
 * given one, pin.c who may touch it, ask.c those who wait, plan.c what the janitor is to do, look.c
 * what functions may have touched again.
 */
#pragma once

#include "store/pool.h"

#define CHUNK_SEGMENTS 256

/* Before a clock's 0, so that a put may be older than the machine's start. */
#define ASK_EPOCH_NS (1ull << 62)

/* The oldest waits so long before it gets from the reserve: a still older put may ask meanwhile. */
#define ASK_PATIENCE_NS 50000000ull

/* Of those who wait, so many are looked at in one go. */
#define ASK_SCAN 64

#define DEMAND_HALF_NS 500000000ull

/* The untouched middle of a sealed segment, in whole pages; none if it begins behind its end. */
static inline uint32_t middle_begin(const struct segment *s)
{
	return (s->front + SEGMENT_PAGE - 1) & ~(uint32_t)(SEGMENT_PAGE - 1);
}

static inline uint32_t middle_end(const struct segment *s)
{
	return s->back & ~(uint32_t)(SEGMENT_PAGE - 1);
}

static inline uint32_t class_size(unsigned class_of_size)
{
	return SEGMENT_BYTES_MIN << class_of_size;
}

static inline bool segment_is_used(const struct segment *s)
{
	return s->state == SEGMENT_OPEN || s->state == SEGMENT_SEALED ||
	       s->state == SEGMENT_FREEING;
}

/* What a segment is booked with: all of it while it is open. */
static inline uint32_t segment_booked_now(const struct segment *s)
{
	return segment_booked(s->size, s->front, s->back);
}

/* The largest power of two that is not above `bytes`; 0 if that would be no segment. */
uint32_t pool_size_within(uint64_t bytes);
unsigned pool_class_of(uint32_t size);

/* The only writer of `state`; keeps the counts and the lists of states. */
void pool_enter(struct pool *p, struct segment *s, enum segment_state state);
void pool_hold(struct pool *p, struct segment *s, uint32_t held);
/* A VOID one; NULL if there are POOL_SEGMENTS_MAX, or no memory. */
struct segment *pool_segment_new(struct pool *p);
/* It waits for its job, or its author if it has one, who may have it as it is. */
void pool_keep_warm(struct pool *p, struct segment *s, uint64_t now_ns);
/* A DIRTY one is its job's no more. */
void pool_disown(struct pool *p, struct segment *s);

/* NULL: not of this pool, or never there. */
struct segment *pool_lookup(const struct pool *p, uint64_t id);
struct segment *pool_segment_at(const struct pool *p, unsigned index);
/* Before anybody hears of a change that a successor must know, it is written down. */
void pool_note(struct pool *p, const struct segment *s);

struct pool_job *pool_job_find(const struct pool *p, uint64_t id);
/* Counted for a segment, or while somebody works with it. NULL: no memory. */
struct pool_job *pool_job_ref(struct pool *p, uint64_t id);
void pool_job_unref(struct pool *p, struct pool_job *j);
uint64_t pool_request_hash(const struct pool *p, uint64_t job, uint64_t request);

/* Grants what is there of what `a` needs, with at most `room` more bytes in use. -EAGAIN: nothing
 * is. */
int pool_grant(struct pool *p, const struct ask *a, uint64_t room, uint64_t now_ns,
	       struct grants *ret);
/* What its author wrote last, or the last of those without one; the job may be NULL: not here yet.
 */
struct segment *pool_find_warm(const struct pool_job *j, unsigned class_of_size, uint64_t author);
/* It is refused next, before anybody is served. */
void pool_refuse(struct pool *p, struct ask *a, int refusal);
/* The grants that were made for a request. False: none. */
bool pool_granted(const struct pool *p, const struct ask *a, struct grants *ret);

/* The classes that would do for `a` within `room` bytes, in the order of granting. */
unsigned pool_ask_classes(const struct ask *a, uint64_t room, uint8_t ret[LEASE_SEGMENTS_MAX]);
/* Who has waited longest, moves aside; NULL: nobody. */
const struct ask *pool_oldest(const struct pool *p);
/* What `a` may use, if those before it lack `ahead` bytes. */
uint64_t pool_ask_room(const struct pool *p, const struct ask *a, bool is_oldest, uint64_t ahead);
uint64_t pool_ask_bytes(const struct ask *a);

/* True: what was punched of a freed segment is made again, and its job may have it then. */
bool pool_refill(struct pool *p, struct segment *s, uint64_t now_ns);

/* In use, punched, and mapped by functions: from now on it is looked at; else nothing happens. */
void pool_watch(struct pool *p, struct segment *s, uint64_t now_ns);
/* When to look again; UINT64_MAX: at nothing. */
uint64_t pool_look_due_ns(const struct pool *p);
/* One to be looked at with those that are due; NULL: there are no more. */
struct segment *pool_next_look(const struct pool *p, uint64_t now_ns);
/* It was, and so many bytes are there. */
void pool_looked(struct pool *p, struct segment *s, uint64_t there);
/* One to be punched again; NULL: none. */
struct segment *pool_next_touched(const struct pool *p);
/* So many bytes more than `held` are there. */
void pool_lingers(struct pool *p, struct segment *s, uint32_t bytes);

/* So much more would be of a reserve: what nobody needs is not kept beyond that. */
bool pool_is_short(const struct pool *p, uint64_t bytes);

void pool_demand_add(struct pool *p, unsigned class_of_size, uint64_t now_ns);
