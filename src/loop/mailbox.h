/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mailbox: letters from any thread to one, in the order in which they were posted.
 *
 * It is a stack that senders push to and the owner takes as a whole, so nothing is
 * ever popped from between two others' hands. And it tells a sender when the owner
 * must be woken: only if it sleeps, and only one of them.
 *
 *	                   runs beside: post   take   sleep, awake
 *	mailbox_post()                  yes    yes    yes           any thread
 *	mailbox_take()                  yes    no     no            the owner
 *	mailbox_sleep(), _awake()       yes    no     no            the owner
 *
 * How to sleep and how to wake is the owner's business: mailbox_sleep(), then sleep
 * unless it said no, then mailbox_awake().
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* The sender's until it is posted, the owner's of the mailbox until run() is called, which may free
 * it. */
struct letter {
	struct letter *next;
	void (*run)(struct letter *l);
};

/* Of x86-64 and most of aarch64. */
#define CACHE_LINE 64

/*
 * It is all of a loop that other threads write, and it lies between what its owner uses in
 * each turn. So that these do not wait for each other, nothing of either is on the lines of
 * the other, wherever the allocator puts it.
 */
struct mailbox {
	char before[CACHE_LINE];
	struct letter *_Atomic newest;
	_Atomic bool is_asleep;
	char after[CACHE_LINE];
};
_Static_assert(offsetof(struct mailbox, newest) >= CACHE_LINE - 1 &&
		       sizeof(struct mailbox) - offsetof(struct mailbox, after) >= CACHE_LINE - 1,
	       "whoever is beside it is on another cache line");

/* True if the owner sleeps and this call has to wake it. */
bool mailbox_post(struct mailbox *m, struct letter *letter);

/* All that was posted, oldest first, linked by `next`; NULL if nothing was. */
struct letter *mailbox_take(struct mailbox *m);

static inline bool mailbox_is_empty(const struct mailbox *m)
{
	/* Relaxed: a hint. Who acts on it either takes, or asks mailbox_sleep(). */
	return !atomic_load_explicit(&m->newest, memory_order_relaxed);
}

/* From here on a post says that the owner must be woken. False: there is mail already, so stay
 * awake. */
bool mailbox_sleep(struct mailbox *m);
void mailbox_awake(struct mailbox *m);
