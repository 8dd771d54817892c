/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool: the segments that a storage server offers on one medium: who may touch
 * which, what is free, who waits for space, and what the janitor is to do.
 *
 * Pure: no I/O, no clock, no threads, and no memory is touched. Requests come in as
 * calls with the time; what takes long (to make, scrub, punch and free memory) goes
 * out as steps, which somebody carries out and reports. What a segment is good for,
 * and when it is no longer needed, the slot of its job decides.
 *
 *	VOID --> MAKING --> CLEAN --grant--> OPEN --seal--> SEALED --free--+
 *	  ^                  ^ |    ^          +-------------free----------+--> FREEING
 *	  |                  | |    +--- grant to the same job ---+               | last pin
 *	  +---- UNMAKING <---|-+                                  |               v
 *	            ^        +--------- SCRUBBING <-------------- DIRTY <---------+
 *	            +---------------------------------------------+ ^             |
 *	            +-------- too little of it is left -------------|-------------+
 *	                                                            +- REFILLING <+
 *
 * VOID       no memory, but an id whose generation goes on.
 * CLEAN      zeros in every byte; on `clean` of its class.
 * OPEN       of one job; who has the key may write, until seal, revoke or free.
 * SEALED     its untouched middle is punched, once nobody writes or reads there any more and
 *            if it is not freed soon; and again, if functions that map it touch it there.
 * FREEING    no new pins; the slot hears of it when the last one is gone.
 * REFILLING  still of its job; gets pages where it was punched, if most of it was not.
 * DIRTY      still of its job, which may have it again as it is; on `dirty`, or `exported`.
 * MAKING, REFILLING, SCRUBBING, UNMAKING   the janitor's, out of there by pool_done().
 *
 * - `reserved`, the memory of all segments and what is lent, never exceeds the limit: it is
 *   counted up before a step that reserves, and down after one that gave back.
 * - In one generation a segment is of one job. It comes to another only by CLEAN.
 * - Memory that functions of a job were given never gets there: it is its job's, or unmade.
 * - Memory that one of them may write, its author, is given to nobody else, of its job either.
 * - Who waits is served by the age of the put. Nobody younger is served from what
 *   those before him lack; only the oldest gets the last 1/POOL_RESERVE_SHARE.
 * - Moves come before all of them: they give back more than they take. Nobody else gets
 *   the last POOL_MOVE_SEGMENTS, `moving` bytes.
 */
#pragma once

#include "base/heap.h"
#include "base/htable.h"
#include "base/list.h"
#include "shm/memory.h"
#include "store/book.h"
#include "store/counters.h"
#include "store/table.h"
#include "wire/extent.h"

#define POOL_CLASSES 11 /* powers of two from SEGMENT_BYTES_MIN to SEGMENT_BYTES_MAX */
_Static_assert(SEGMENT_BYTES_MIN << (POOL_CLASSES - 1) == SEGMENT_BYTES_MAX, "one class each");

enum segment_state {
	SEGMENT_VOID,
	SEGMENT_MAKING,
	SEGMENT_CLEAN,
	SEGMENT_OPEN,
	SEGMENT_SEALED,
	SEGMENT_FREEING,
	SEGMENT_REFILLING,
	SEGMENT_DIRTY,
	SEGMENT_SCRUBBING,
	SEGMENT_UNMAKING,
	SEGMENT_STATES,
};

/* What the janitor begins: for those who wait, small and large; for a job that will be back; to be
 * rid of; for the stock. */
enum pool_urgency {
	POOL_WANTED,
	POOL_LARGE,
	POOL_WARMED,
	POOL_CLEARED,
	POOL_STOCKED,
	POOL_URGENCIES,
};

struct pool_job;

/* Of memory that a function may write, nobody knows which, or one that has ended. */
#define AUTHOR_GONE UINT64_MAX

struct segment {
	uint64_t id;
	uint32_t generation, size;
	uint64_t key;
	struct pool_job *job;              /* OPEN to DIRTY */
	uint64_t request, stamp_ns;        /* of the grant */
	uint64_t sealed_ns, freed_ns;      /* likewise the slot's, once it is */
	uint32_t front, back;              /* used are [0, front) and [back, size) */
	unsigned pin_count, writer_count;  /* pins of all kinds; those that write */
	struct list transfers;             /* the server's: reads and writes in progress */
	unsigned early_count;              /* likewise: reads that began before it was sealed */
	void *free_waiter, *revoke_waiter; /* the server's: who is told */

	/* pool's own. */
	struct memory memory;
	enum segment_state state;
	uint32_t held;      /* bytes of `reserved` */
	uint32_t done;      /* how far the janitor is */
	uint32_t lingering; /* bytes more than `held`, when it was looked at last */
	uint32_t index;
	uint8_t class_of_size;
	uint8_t urgency; /* enum pool_urgency: which `begun` it is on */
	bool is_away;    /* a step of it is with the janitor */
	bool is_revoked, was_sealed;
	bool is_exported;  /* to functions of its job, in this generation or an earlier one */
	bool is_viewed;    /* perhaps, since a predecessor had exported it; so it is pinned */
	uint64_t author;   /* the function that may write to its memory; 0: only we do */
	uint32_t authored; /* the generation since which that is so */
	uint64_t since_ns; /* DIRTY; SEALED, on `punches`; on `looks` */
	struct list link;  /* of its state */
	struct list of_job;
	struct hlink by_request;
};

struct pool_job {
	uint64_t id;
	bool is_over;
	bool has_views; /* of a predecessor's, by the word of who knows them */

	/* pool's own. */
	struct hlink by_id;
	unsigned count;                 /* of its segments, DIRTY ones too */
	struct list used;               /* OPEN, SEALED, FREEING */
	struct list refilling;          /* REFILLING */
	struct list warm[POOL_CLASSES]; /* DIRTY; those with an author first */
	struct list link;               /* of `over`: it is, and has DIRTY ones */
};

/* Somebody who needs segments. The caller embeds it, and fills in the first part. */
struct ask {
	uint64_t job, request;
	uint64_t stamp_ns; /* the slot's time when it asked */
	uint64_t age_ns;   /* of the put, when it asked */
	uint64_t due_ns;
	uint64_t need; /* bytes */
	uint32_t size; /* of a segment, at most */
	bool is_move;
	bool is_whole;   /* all of `need`, as far as one grant can be, or nothing yet */
	bool is_now;     /* where there is no room for `need`, it does not wait for any */
	uint64_t author; /* the function that is to write there; 0: none */

	/* pool's own. */
	uint64_t arrived_ns, birth_ns;
	uint32_t size_most; /* `size` is what we would make for it */
	int refusal;        /* what it is told when it is due */
	struct list link;
	struct heap_link due;
	struct hlink by_request;
};

struct grants {
	uint64_t stamp_ns;
	unsigned count;
	struct grant list[LEASE_SEGMENTS_MAX];
};

/* What the janitor is to do. It fills in `memory`, `there` and `result`. */
enum step_kind { STEP_MAKE, STEP_REFILL, STEP_SCRUB, STEP_PUNCH, STEP_LOOK, STEP_UNMAKE };
struct step {
	enum step_kind kind;
	struct segment *segment; /* not to be touched by the janitor */
	uint32_t index;          /* of the segment */
	struct memory memory;
	uint32_t size, from, to; /* bytes; `from` 0 begins, `to` == size ends */
	bool is_exported;        /* functions may map it */
	uint64_t there;          /* STEP_LOOK: bytes of pages */
	int result;
};

struct pool {
	uint64_t number, limit;
	uint64_t lent, lend_wanted; /* bytes, of `reserved` and `used`; so many are wanted */
	uint32_t size_max;          /* of a segment */
	uint64_t moving;            /* bytes that only moves get */
	unsigned segment_max;       /* with memory: each is a descriptor and a mapping */
	uint64_t reserved, used;    /* bytes: of all segments; of OPEN, SEALED and FREEING ones */
	unsigned used_count;
	struct book book;
	struct closed closed; /* the part of the book of what is free */
	struct table table;   /* all of this for a successor */
	struct pool_counters counters;

	/* pool's own. */
	struct segment **chunks; /* of CHUNK_SEGMENTS each, made as needed */
	unsigned segment_count;  /* that ever were */
	unsigned void_count;
	struct list voids, punches, over;
	struct list looks, touched;        /* functions may have touched what was punched; have */
	struct list begun[POOL_URGENCIES]; /* the janitor's, and not away */
	struct list clean[POOL_CLASSES], dirty[POOL_CLASSES];
	struct list exported[POOL_CLASSES]; /* DIRTY ones that are not to be scrubbed */
	unsigned clean_count[POOL_CLASSES], dirty_count[POOL_CLASSES];
	unsigned coming_count[POOL_CLASSES]; /* MAKING and SCRUBBING */
	uint64_t leaving;                    /* bytes held by UNMAKING ones */
	unsigned leaving_count;
	struct htable jobs, requests;
	struct list asks; /* oldest put first */
	struct heap dues;
	struct htable asked;                            /* the same by request */
	unsigned ask_count, asking_count[POOL_CLASSES]; /* all; by the size they asked for */
	uint64_t asked_bytes;                           /* that they need */
	uint64_t demand[POOL_CLASSES], demand_ns;       /* bytes granted lately, clean ones */
	uint64_t granted_ns;                            /* the last time */
	uint64_t failed_ns; /* a step that reserves, the last time; 0: none */
	int failure;        /* its error */
};

/*
 * `number` has at most 64 - SEGMENT_POOL_SHIFT bits and is never used again. With many
 * segments the smallest ones grow, so that `segment_max` of them are enough.
 */
int pool_init(struct pool *p, uint64_t number, uint64_t limit, unsigned segment_max);
/*
 * The next segment of a predecessor's: row_is_possible(), with its memory, of which `held`
 * bytes are there. One without memory is not in use any more, whatever its row says.
 * -ENOMEM: the memory is the caller's then.
 */
int pool_restore(struct pool *p, const struct row *row, struct memory *memory, uint32_t held);
/* All rows, into a new table. */
void pool_write_table(struct pool *p);
/* Every step has been reported, nothing is pinned, nobody waits. Frees what is left. */
void pool_fini(struct pool *p, const struct media *media);

/*
 * 0: here they are; the same again for a repeated (job, request). -EAGAIN: `a` waits,
 * and pool_next() will bring it back. -ENOSPC: never; -EIDRM: the job is over; -EUSERS:
 * too many wait; -ENOMEM.
 */
int pool_ask(struct pool *p, struct ask *a, uint64_t now_ns, struct grants *ret);
/* One whose waiting is over, with its result, 0 or an error; NULL if there is none. */
struct ask *pool_next(struct pool *p, uint64_t now_ns, struct grants *ret, int *ret_result);
/* What the oldest of those who wait lacks, and whoever is lent to; 0: nothing. */
uint64_t pool_lacking(const struct pool *p);
/* Waits no more. */
void pool_forget(struct pool *p, struct ask *a);
/*
 * Of the same (job, request): it is given up. What was granted for it; what waits gets nothing, and
 * pool_next() brings it back with -ECANCELED.
 */
void pool_withdraw(struct pool *p, const struct ask *a, struct grants *ret);

/* In use, in this generation: else -ESTALE. */
int pool_find(struct pool *p, uint64_t id, uint32_t generation, struct segment **ret);

/* The bytes, until pool_unpin(). -ESTALE: also of another job; -EIDRM: its job is over; -ERANGE. */
int pool_pin(struct pool *p, uint64_t job, uint64_t id, uint32_t generation, uint32_t offset,
	     uint32_t len, struct segment **ret, uint8_t **ret_bytes);
/* To write; -EACCES: the key is not, or no longer, the right one. */
int pool_pin_to_write(struct pool *p, uint64_t job, uint64_t id, uint32_t generation, uint64_t key,
		      uint32_t offset, uint32_t len, struct segment **ret, uint8_t **ret_bytes);
/* True: it was the last one that something waited for, and the janitor is to look. */
bool pool_unpin(struct pool *p, struct segment *s, bool is_to_write, uint64_t now_ns);
/*
 * Functions that had views of a predecessor's believe what it told them for SERVE_MS: until then
 * what it had exported is pinned, and longer where somebody knows of views. One that is not held
 * by those, to be unpinned; *at is 0 at first; NULL: there are no more.
 */
struct segment *pool_view_over(struct pool *p, unsigned *at);
void pool_hold_views(struct pool *p, uint64_t job, bool is_held);
/* For those who know its id only; a pin must be left. */
struct segment *pool_pinned(struct pool *p, uint64_t id);

/*
 * For functions of its job, which may map its memory from now on, and as long as they like:
 * nobody else ever gets it. -ESTALE: also of another job; -EIDRM: its job is over.
 */
int pool_export(struct pool *p, uint64_t job, uint64_t id, uint32_t generation, uint64_t now_ns,
		struct segment **ret);
/*
 * Likewise, and this one may write, too, until pool_author_over(). Of an OPEN segment that was
 * granted for that; -EACCES: the key is not, or no longer, the right one, or another may write.
 */
int pool_export_to_write(struct pool *p, uint64_t job, uint64_t id, uint32_t generation,
			 uint64_t key, uint64_t author, struct segment **ret);
/* It has ended: nobody has its memory any more as it is. */
void pool_author_over(struct pool *p, uint64_t job, uint64_t author);

/* Used are [0, front) and [back, size). -ESTALE, -EINVAL. Again: nothing happens. */
int pool_seal(struct pool *p, uint64_t id, uint32_t generation, uint32_t front, uint32_t back,
	      uint64_t stamp_ns, uint64_t now_ns);
/* The key is good for nothing any more. 0: nobody writes; -EAGAIN: *ret has writers still. */
int pool_revoke(struct pool *p, uint64_t id, uint32_t generation, struct segment **ret);
/*
 * 0: it is freed, now or before. -EAGAIN: *ret is pinned; it is freed by the last
 * pool_unpin(). `stamp_ns` 0: nobody knew of it, and it is booked as if it had not been lent.
 */
int pool_free(struct pool *p, uint64_t id, uint32_t generation, uint64_t stamp_ns, uint64_t now_ns,
	      struct segment **ret);
/* No pin of this job from now on. */
void pool_job_over(struct pool *p, uint64_t job);

/* The segments in use after `after` (0: from the first), of one slot or of all (UINT16_MAX), by id.
 */
unsigned pool_list(const struct pool *p, uint16_t of_slot, uint64_t after,
		   struct segment_entry *list, unsigned cap, bool *ret_has_more);

/* What is to be done next, most urgent first, of about `bytes` bytes. Each is reported once. */
unsigned pool_plan(struct pool *p, struct step *steps, unsigned cap, uint64_t bytes,
		   uint64_t now_ns);
void pool_done(struct pool *p, const struct step *steps, unsigned count, uint64_t now_ns);

/* When to call pool_next() and pool_plan() again, if nothing else happens before. */
uint64_t pool_due_ns(const struct pool *p, uint64_t now_ns);

/*
 * Memory for what is no segment: of `bytes` as much as is not held, and the rest as soon as
 * clean or dirty segments are given back, if this is asked again. Returns what is lent now.
 */
uint64_t pool_lend(struct pool *p, uint64_t bytes);

uint64_t pool_clean_bytes(const struct pool *p);
/* As many have memory as may, whatever their size. */
bool pool_is_out_of_segments(const struct pool *p);
/* What a job has in use. */
uint64_t pool_job_bytes(const struct pool *p, uint64_t job);
