/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bell: how a loop hears of what another process writes into memory that both map.
 *
 * A bell that is listened to is looked at in each turn. Before the loop sleeps, it says so
 * in that memory (sleep()); who writes there afterwards rings: bell_ring_event() at a
 * descriptor, or bell_ring_word() if the loop sleeps on a word of that memory, which is the
 * shorter way and good only for who expects nothing else.
 *
 *	bell_open() --> resting <--quiet for BELL_QUIET_NS-- listened to
 *	                   |                                   ^
 *	                   +------------- rung ----------------+
 *
 * - One with a descriptor rests by itself when nothing has come for a while, so that a turn
 *   costs as much as there are who talk, not as much as there are bells.
 * - One without: bell_listen() and bell_rest() are the owner's to call.
 * - The owner embeds it. look() may close it, or any other.
 */
#pragma once

#include <stdatomic.h>

#include "loop/loop.h"

struct bell {
	/* The owner's, set before it is opened. */
	bool (*peek)(struct bell *b); /* has anything come? */
	bool (*look)(struct bell *b); /* serves some of it; true: there was something */
	/* Who writes from here on rings. False: something has come, so stay awake. */
	bool (*sleep)(struct bell *b, bool is_on_word);
	void (*awake)(struct bell *b);
	_Atomic uint32_t
		*word; /* to sleep on while it is `asleep`. NULL: something else may come */
	uint32_t asleep;

	/* bell.c's own. */
	struct loop *loop; /* NULL: not open */
	struct list link;  /* of those that are listened to */
	struct event *event;
	uint64_t heard_ns;
};

/*
 * With a descriptor for who rings: *ret_fd, the bell's. `ret_fd` NULL: without. A negative
 * errno; -EOPNOTSUPP in the simulator.
 */
int bell_open(struct loop *l, struct bell *b, int *ret_fd);
/* Fine if it is not open, and zeroed. */
void bell_close(struct bell *b);
void bell_listen(struct bell *b);
void bell_rest(struct bell *b);

/* From the other end. Neither waits. */
void bell_ring_event(int fd);
void bell_ring_word(_Atomic uint32_t *word);
