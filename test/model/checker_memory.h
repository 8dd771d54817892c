/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checker_memory: what the threads of the checker share, as C11 has it, and their steps on it.
 *
 * A word is the list of what was stored to it and may still be read by somebody. A sight says,
 * for each word, the oldest of these that is not yet ruled out; what a release gives away and an
 * acquire takes is a sight.
 */
#pragma once

#include <stdatomic.h>

#include "base/hash.h"
#include "checker.h"

#define WORDS    64  /* of memory that are ever touched */
#define MESSAGES 12  /* of one word that somebody may still read */
#define ANSWERS  240 /* steps of a thread */

enum op_kind {
	OP_NONE,
	OP_LOAD,
	OP_STORE,
	OP_ADD,
	OP_FENCE,
	OP_CLOCK,
	OP_ACKNOWLEDGE,
	OP_ACKNOWLEDGED,
	OP_READ,
	OP_WRITE,
};

struct op {
	enum op_kind kind;
	memory_order order;
	unsigned word, size;
	uint64_t value;
};

/* Of each word, the oldest message that may still be read, by its place in the list. */
struct sight {
	uint8_t at[WORDS];
};

struct message {
	uint64_t value;
	struct sight sight; /* what its reader has seen, too, if it acquires */
};

struct thread {
	bool is_running, has_ended;
	unsigned time_count, answer_count;
	uint64_t digest; /* of the answers */
	struct op next;
	struct sight now;
	struct sight acquired; /* what `now` is after a fence that acquires */
	struct sight released; /* what goes with a relaxed store: `now` at the last fence that
				  releases */
	uint64_t answers[ANSWERS];
};

struct state {
	uint64_t time, acknowledged;
	struct sight all_fences, acknowledgement;
	uint8_t counts[WORDS]; /* of messages; 0: nobody has touched it */
	uint8_t reads[WORDS];  /* of a word that counts reads of bytes */
	struct thread threads[CHECKED_THREADS];
	struct message messages[WORDS][MESSAGES];
};

/* Words, by the order in which they were first touched. */
struct words {
	const void *addresses[WORDS];
	uint64_t initial[WORDS];
	bool is_counter[WORDS]; /* of the reads of some bytes by a thread */
	bool is_added[WORDS];   /* some step adds to it */
	unsigned count;
};
extern struct words words;

/* The word at `p`; what is there is what was there before all steps. */
unsigned memory_word(const void *p, size_t size);

/* How many answers the thread's next step may have. */
unsigned memory_choices(struct state *s, const struct thread *t);
/* Takes it, with one of them. NULL, or what must never happen. */
const char *memory_step(struct state *s, unsigned self, unsigned choice, uint64_t *ret);
void memory_fence(struct state *s, struct thread *t, memory_order order);
/* `next` begins, and knows what `killed` knew, and all that it has stored. */
void memory_inherit(struct state *s, unsigned killed, unsigned next);

void memory_copy(struct state *to, const struct state *from);
/* What no thread can read any more goes, so that states which differ in it alone are one. */
void memory_trim(struct state *s);
struct hash_128 memory_digest(const struct state *s);

static inline bool thread_is_awake(const struct thread *t)
{
	return t->is_running && !t->has_ended;
}
