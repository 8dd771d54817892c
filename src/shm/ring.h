/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring: messages between two processes in memory that both map. One end submits, the
 * other one serves and completes; a message is up to RING_SLOT_BYTES, and what is in it
 * is not the ring's business. Pure: no system call, no clock; who sleeps and how he is
 * woken is told, and done by others.
 *
 *	caller    ring_take() --> write --> ring_submit() ............ ring_reap() --> read -->
 *ring_give() server                               ring_next() --> ring_read() .. write -->
 *ring_complete()
 *
 * A slot is the caller's until it is submitted, the server's until it is completed, and
 * the caller's again. The answer takes the place of the request, so there is always room
 * for it, and the server never waits for the caller. Nor can the rings of entries be
 * full: there are as many entries as slots, and an entry says in its upper half which
 * one it is since the beginning, so that neither end tells the other how far it is.
 *
 * - The other end may write anything into the memory at any time. What it says is read
 *   once; an entry that cannot be right is -EPROTO, and the ring is of no use any more.
 *   Bytes of a message are to be copied out before they are looked at: ring_read().
 * - All that an end relies on is in its own memory: how far it is, whose a slot is.
 * - The memory begins as zeros. It is of one caller and one server for its whole life.
 *
 *	                                  runs beside the other end's   each is for
 *	ring_take .. ring_caller_awake    everything                    one thread of the caller
 *	ring_next .. ring_server_awake    everything                    one thread of the server
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

#define RING_LINE 64 /* bytes that two cores hand to each other at a time */

struct ring_memory {
	/* The caller writes these: (which one, slot, length). */
	_Alignas(RING_LINE) _Atomic uint64_t submitted[RING_SLOTS];
	/* The server does. */
	_Alignas(RING_LINE) _Atomic uint64_t completed[RING_SLOTS];
	/* enum ring_sleep, of the end that the word is named after. */
	_Alignas(RING_LINE) _Atomic uint32_t server;
	_Alignas(RING_LINE) _Atomic uint32_t caller;
	_Alignas(SEGMENT_PAGE) uint8_t slots[RING_SLOTS][RING_SLOT_BYTES];
};

_Static_assert(RING_SLOTS <= 64 && (RING_SLOTS & (RING_SLOTS - 1)) == 0, "a bit for each slot");
_Static_assert(RING_SLOT_BYTES <= UINT16_MAX, "a length fits its part of an entry");

/* How an end sleeps, and so how it is woken. */
enum ring_sleep {
	RING_AWAKE,
	RING_ON_FUTEX, /* on its own word */
	RING_ON_EVENT, /* on a descriptor */
};

struct ring_caller {
	struct ring_memory *memory; /* not ours */
	uint32_t submitted, reaped; /* so many so far */
	uint64_t free, out;         /* slots, a bit each: to be had, with the server */
};

struct ring_server {
	struct ring_memory *memory; /* not ours */
	uint32_t taken, completed;  /* so many so far */
	uint64_t in;                /* slots that are with us, a bit each */
};

/* The caller's. */

void ring_caller_init(struct ring_caller *c, struct ring_memory *memory);
/* A slot for a message, RING_SLOT_BYTES at *ret. -EAGAIN: all are in use. */
int ring_take(struct ring_caller *c, uint8_t **ret);
/* `len` bytes of it, at least 1, are a message. */
void ring_submit(struct ring_caller *c, unsigned slot, uint32_t len);
/* After one or more of them: how the server sleeps; who is asleep is to be woken. */
enum ring_sleep ring_wake_server(struct ring_caller *c);
/* 1: the answer lies in *ret_slot, until ring_give(). 0: there is none. -EPROTO. */
int ring_reap(struct ring_caller *c, unsigned *ret_slot, uint32_t *ret_len);
const uint8_t *ring_answer(const struct ring_caller *c, unsigned slot);
void ring_give(struct ring_caller *c, unsigned slot);
/* Would ring_reap() find anything? */
bool ring_has_answer(const struct ring_caller *c);
/* Before it sleeps in this way. False: there is something to reap, so stay awake. */
bool ring_caller_sleep(struct ring_caller *c, enum ring_sleep how);
void ring_caller_awake(struct ring_caller *c);

/* The server's. */

void ring_server_init(struct ring_server *s, struct ring_memory *memory);
/* 1: a message in *ret_slot, which is the server's until ring_complete(). 0: there is none.
 * -EPROTO.
 */
int ring_next(struct ring_server *s, unsigned *ret_slot, uint32_t *ret_len);
/* Would ring_next() find anything? */
bool ring_has_next(const struct ring_server *s);
/* A copy of [at, at + len) of a slot. What is read twice may be different the second time. */
void ring_read(const struct ring_server *s, unsigned slot, uint32_t at, void *to, uint32_t len);
/* Where the answer goes: to be written, and not to be read again. */
uint8_t *ring_place(const struct ring_server *s, unsigned slot);
/* `len` bytes of it, at least 1, are the answer. */
void ring_complete(struct ring_server *s, unsigned slot, uint32_t len);
/* After one or more of them: how the caller sleeps, likewise. */
enum ring_sleep ring_wake_caller(struct ring_server *s);
bool ring_server_sleep(struct ring_server *s);
void ring_server_awake(struct ring_server *s);
