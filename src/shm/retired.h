/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retired: regions that are nobody's any more, and that other processes map still. Whoever touches
 * one makes pages of it again, a reader too, and has them until he ends: so they are looked
 * at again and again, and punched if there are any. One goes when nobody else has it.
 *
 * Who has it, the kernel knows: it leases a file to write only to the holder of the only
 * description of it, and a mapping holds one. Ours is opened for that. Those that memfd_create()
 * makes, a keeper's too, are not counted; what is exported is. Where a kernel gives no
 * leases, a region stays until others push it out.
 *
 * A keeper has them as well, by the very description that is ours, so that whoever comes after
 * us goes on watching.
 *
 * It blocks: it is for a helper's thread, and one thread's at a time.
 */
#pragma once

#include "base/limits.h"
#include "shm/keep.h"

struct retired_tally {
	unsigned count;
	uint64_t lingering_bytes; /* had been made again, when all were looked at last */
	uint64_t punched_bytes;   /* of those, since the beginning */
	uint64_t let_go_count;    /* were pushed out, or found no descriptor */
};

struct watched {
	int fd;
	uint64_t number; /* with the keeper */
};

struct retired {
	struct retired_tally tally;
	struct keep *keep; /* not ours; NULL: they are not kept */
	uint64_t next_number;
	unsigned most;                    /* no more than that */
	unsigned next;                    /* to be looked at */
	uint64_t found;                   /* in this round, up to there */
	struct watched list[RETIRED_MAX]; /* the oldest first */
};

/* What a predecessor watched comes first. One that is all zeros watches nothing. */
void retired_init(struct retired *r, struct keep *keep);
/* Takes a punched region of `media`. Plain memory, and what nobody else has, is freed at once. */
void retired_add(struct retired *r, const struct media *media, struct memory *m);
/* At all that are left of this round, or until so much is punched. True: the round is over. */
bool retired_look(struct retired *r, uint64_t bytes);
/* They are watched no more, but for whoever finds them with the keeper. */
void retired_fini(struct retired *r);
