/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checker: runs a few threads through every interleaving, over memory as C11 has it, not as
 * this machine does: a store may become visible late, a load may see what was there earlier,
 * as long as no acquire, release or fence forbids it.
 *
 * The code under test is the real one, compiled with SHARED_CHECKED (shm/shared.h): each of its
 * atomic operations is a step. A thread is a function; a state remembers what its steps
 * have returned, and to take one more the function runs from its beginning with those
 * answers, which is all that it depends on. States that are the same are visited once.
 *
 * Memory: each word is the list of what was ever stored to it. A thread has, for each word, the
 * oldest that it may still read (its view); views travel with releases to acquires, and
 * through one view of all seq_cst fences. Left out: a load that sees what is stored
 * later by a thread that it itself lets go on (no machine does that to code with branches
 * between); and two who store to one word without knowing, since each word has one writer here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHECKED_THREADS 4

struct checked_thread {
	const char *name; /* NULL: there is no such thread */
	void (*run)(unsigned self);
	unsigned times; /* one after the other; nothing is kept from one to the next */
};

struct scenario {
	const char *name;
	void (*setup)(void);   /* alone, before all others */
	void (*restore)(void); /* private memory of threads as setup() left it */
	struct checked_thread threads[CHECKED_THREADS];
	unsigned killed, successor; /* may end at any step, and then this one begins; 0: nobody */
	uint64_t time_max;          /* the clock ticks from 0 up to here, at any moment */
	uint64_t lapse; /* from then on 2 may be acknowledged, without a word; 0: never */
};

struct verdict {
	uint64_t states, steps; /* different ones; transitions between them */
	const char *why;        /* what went wrong; NULL: nothing can */
};

/* Prints the steps that lead to what goes wrong. */
void checker_explore(const struct scenario *s, struct verdict *ret);

/* Steps of a thread, beside those of shm/shared.h. */

void checked_fail(const char *why);
uint64_t checked_clock(void);
/* Something is acknowledged: whoever asks later hears of it, and of all that came before. */
void checked_acknowledge(uint64_t what);
uint64_t checked_acknowledged(void);
/*
 * Plain bytes: to read what is written, or was not yet heard to be, or to write what is being
 * read, is what must never happen.
 */
uint64_t checked_bytes_read(void *p);
void checked_bytes_write(void *p, uint64_t v);
