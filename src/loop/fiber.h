/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fiber: a function that waits without blocking its thread.
 *
 * A fiber has a small stack of its own. When it waits, the loop goes on; once it
 * is woken, late or canceled, the loop runs it on. No I/O and no clock in here:
 * the loop says what time it is, and its I/O does the waking.
 *
 *	fiber_start() --> READY --fibers_run()--> RUNNING --run() returns--> ENDED
 *	                   ^ ^                     |   |
 *	                   | +---- fiber_yield() --+   | waitq_wait()
 *	                   +-- woken, late, canceled -- WAITING
 *
 * - A wake-up makes a fiber READY and runs nothing; fibers_run() does that, from
 *   the loop's own stack. What a fiber has seen changes only while it waits.
 * - Queues are woken, not fibers. Who was late has left the queue, so a wake-up
 *   goes to the next in line and never to another wait of the same fiber.
 * - The first event wins: a fiber canceled after it was woken learns of the
 *   wake-up now, and of the cancellation at its next wait.
 * - The owner embeds the struct fiber, and leaves it alone until ended(), which
 *   runs on the loop's stack and may free it. ended() may be NULL.
 * - One thread, the loop's, for a fiber's whole life. Nothing here locks.
 */
#pragma once

#include <stdint.h>

#include "base/list.h"
#include "loop/switch.h"

struct fiber;
typedef void fiber_fn(struct fiber *self);

enum fiber_state {
	FIBER_READY,
	FIBER_RUNNING,
	FIBER_WAITING,
	FIBER_ENDED,
};

struct fiber {
	struct fibers *home;

	/* fiber.c's own. */
	enum fiber_state state;
	bool is_canceled;
	int result; /* of the wait that is over */
	uint64_t due_ns;
	struct list link;     /* on home->ready or a queue's waiting */
	struct list due_link; /* on home->due while WAITING */
	struct stack *stack;
	struct context context;
	fiber_fn *run, *ended;
};

/* All fibers of one loop. */
struct fibers {
	struct fiber *running; /* NULL while the loop's own code runs */
	uint64_t now_ns;       /* as of this turn */
	unsigned alive_count;
	uint64_t
		run_count; /* how often one was let run: who asks twice has not waited in between */

	/* fiber.c's own. */
	unsigned ready_count; /* of `ready` */
	unsigned stack_count, stack_count_max;
	struct list ready;   /* longest ready first */
	struct list yielded; /* ready, but not before the loop has done its I/O */
	struct list due;     /* every WAITING fiber, soonest first */
	struct stack *spare; /* warmest first */
	struct context context;
};

/* Those who wait for one thing, first come first. It outlives their waits. */
struct waitq {
	struct fibers *home;
	struct list waiting;
};

void fibers_init(struct fibers *fs, unsigned stack_count_max);
void fibers_fini(struct fibers *fs); /* all fibers have ended */
/* So many stacks more: of somebody who shares the loop. */
void fibers_allow(struct fibers *fs, unsigned more);

/*
 * Runs each fiber that is ready, once; those that are late and those that yielded, too.
 * Returns when to be back at the latest: `now_ns` if some are ready again, UINT64_MAX if
 * nobody waits.
 */
uint64_t fibers_run(struct fibers *fs, uint64_t now_ns);
/* Runs those that have been woken or started since, once each: the same turn goes on. */
void fibers_go_on(struct fibers *fs);
/* Is there anything for fibers_go_on()? */
static inline bool fibers_are_ready(const struct fibers *fs)
{
	return fs->ready_count > 0;
}

/* When to run them at the latest: 0 if some are ready, UINT64_MAX if nobody waits. */
uint64_t fibers_due(const struct fibers *fs);

/*
 * Forgets all fibers where they stand, as kill -9 does: for the simulator, before it
 * drops their memory. Nothing of theirs runs, not even ended().
 */
void fibers_drop(struct fibers *fs);

/*
 * -EAGAIN if all stacks are taken that may be: back-pressure, not a failure. -ENOMEM if there is
 * no memory for one, or no mapping.
 */
int fiber_start(struct fibers *fs, struct fiber *f, fiber_fn *run, fiber_fn *ended);
/* What it has refused, as the status of an operation, and words: `too_many`, if that is why. */
int fiber_refused(int r, const char *too_many, const char **ret_why);

/* Each of its waits, from a present one on, is over at once with -ECANCELED. */
void fiber_cancel(struct fiber *f);

void waitq_init(struct waitq *q, struct fibers *home);
bool waitq_wake(struct waitq *q); /* the first; false if nobody waits */

/*
 * For the running fiber: 0 if woken, -ETIMEDOUT or -ECANCELED. Others ran before
 * it does, so whoever is woken looks again at what he waited for.
 */
int waitq_wait(struct waitq *q, uint64_t due_ns);

/* For the running fiber: lets the loop do I/O, and all others run. 0 or -ECANCELED. */
int fiber_yield(struct fibers *fs);
