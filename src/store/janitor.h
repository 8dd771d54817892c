/* SPDX-License-Identifier: Apache-2.0 */
/*
 * janitor: carries out the steps of a pool on a helper's thread, where it may block,
 * and reports them on the loop. It decides nothing. A batch is short, so that what
 * becomes urgent meanwhile waits a millisecond; two are on their way, so that the
 * helper does not wait for the loop. What it gives back and functions map still it looks
 * at about once a second.
 */
#pragma once

#include "loop/loop.h"
#include "shm/keep.h"
#include "shm/retired.h"
#include "store/pool.h"

#define BATCH_STEPS     64
#define BATCH_BYTES     (8u << 20)
#define JANITOR_BATCHES 2

/* What a segment's memory is called at the keeper. */
static inline struct keep_name segment_name(uint32_t index)
{
	return (struct keep_name){ .kind = KEEP_SEGMENT, .number = index };
}

struct janitor;

struct batch {
	struct work work;
	struct janitor *janitor;
	unsigned count;               /* 0: it is here */
	struct retired_tally retired; /* when it was done */
	struct step steps[BATCH_STEPS];
};

/* At what functions map still. */
struct look {
	struct work work;
	struct janitor *janitor;
	bool is_away, is_over; /* with the helper; all were looked at */
	struct retired_tally retired;
};

struct janitor {
	struct loop *loop;
	struct pool *pool; /* not ours */
	const struct media *media;
	struct keep *keep; /* not ours; NULL: none */
	struct helper *helper;
	struct batch batches[JANITOR_BATCHES];
	struct retired *retired;   /* not ours; the helper's while we are open */
	struct retired_tally told; /* to the pool */
	struct look look;
	struct timer again;                  /* for the next look, while there are any */
	void (*reported)(struct janitor *j); /* the owner's: the pool has changed */
};

int janitor_open(struct janitor *j, struct loop *l, struct pool *p, const struct media *media,
		 struct keep *keep, struct retired *retired, void (*reported)(struct janitor *j));
/* Gives the helper what there is to do. */
void janitor_turn(struct janitor *j);
/* Finishes what was begun; fine if never opened. */
void janitor_close(struct janitor *j);

/* One step, here and now: what the helper does, and tests. */
void janitor_step(const struct media *media, struct keep *keep, struct retired *retired,
		  struct step *s);
