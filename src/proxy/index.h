/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index: what functions of a job on this host read without asking (shm/index.h). It is made for the
 * first that wants it, has what they asked to view and what they got twice (get.c), and goes with
 * its job, or when nobody reads it and room is needed for another one.
 *
 *	index.c   its regions, what is forgotten, until when it answers
 *	reader.c  who reads it
 *	mapped.c  where its entries lead, and how a segment is given back
 *	copies.c  small values, which lie in no segment
 *	kept.c    what a predecessor left of it
 *
 * It answers under the serving lease of its shard. When the connection to that is lost it is
 * blind: it answers nothing until all that it had is dropped.
 */
#pragma once

#include "proxy/proxy_priv.h"
#include "shm/index.h"
#include "shm/pins.h"

/*
 * A mapping of the index: a segment, or the pieces of an object side by side. It keeps them in
 * place until somebody wants one of them back.
 */
struct mapped {
	uint64_t wanted_ns; /* since when; 0: nobody does */
	bool is_revoked;    /* it has ended, but views are in it, so its number is not free yet */
	bool is_old; /* a predecessor's: views are in it, and nobody knows what it was made of */
	const struct region *copies; /* it is this, and not of the pool; NULL: of the pool */
	uint32_t part_count;
	struct mapping_part parts[];
};

/*
 * Copies of small values: regions that are filled one after the other. Then the one that was filled
 * first is emptied, and used again.
 */
struct copies {
	struct copies_region {
		struct region *region;
		uint64_t id;     /* that functions ask for it by */
		uint32_t number; /* of its mapping */
	} all[COPIES_MAX];
	unsigned count, now; /* now: which is being filled */
	uint32_t used;
	bool is_growing, is_grown; /* is_grown: there will be no more */
};

struct job_index {
	struct list link;
	struct proxy *proxy;
	uint64_t job;
	uint16_t place;      /* among those of the proxy: what is kept of it is found by that */
	unsigned old_count;  /* mapped ones that are, and are not revoked */
	unsigned user_count; /* the proxy, unless it is over; readers; fibers that wait */
	struct region *head, *table, *next_table; /* next_table: it is being filled */
	struct index_writer writer;
	struct mapped **mapped; /* by number */
	uint32_t mapped_count;
	struct pins *pins; /* of the readers */
	struct reader **readers;
	unsigned reader_count, native_count; /* native_count: those that have a connection */
	const uint64_t *until_ns;            /* of the serving lease, while there are readers */
	struct copies copies;
	uint32_t seen[INDEX_SEEN]; /* of what was got once: a part of its hash */
	bool is_over, is_blind, is_growing;
};

/* A connection's; or a predecessor's, whose function has not come back yet. */
struct reader {
	struct job_index *index;
	struct region *pins;
	struct native *native; /* NULL: nobody's yet */
	uint64_t id, since_ns;
	unsigned nth;
	bool is_passed; /* its descriptors were */
};

/* INDEX_LOOK_MS after which something may have come about. */
void index_look_soon(struct proxy *p);
/*
 * Where this leads. On a fiber that does not wait between object_take() and this. -EOPNOTSUPP: it
 * is nothing for an index; -EAGAIN: not now.
 */
int index_enter(struct job_index *x, const struct found *f, struct slice path);
/* Was it got before? Then it is forgotten that it was; index_note() is for what may be entered. */
bool index_was_got(struct job_index *x, struct slice path);
void index_note(struct job_index *x, struct slice path);
/* It may be full: fetches a larger table, once. */
void index_grow(struct job_index *x);
/* It answers for as long as we may, as of now. */
void index_renew(struct job_index *x);

/* mapped.c */

int mapped_get(struct job_index *x, const struct found *f, uint32_t *ret_number,
	       uint64_t *ret_offset);
/* One that is no segment's. */
int mapped_add_copies(struct job_index *x, const struct copies_region *c, uint32_t *ret_number);
/* Looks at those that are wanted. True: there are some. */
bool mapped_look(struct job_index *x, bool is_short);
void mapped_want(struct job_index *x, uint64_t segment, bool is_short);
/* All of them, whoever views them. */
void mapped_end_all(struct job_index *x);
/* Drops entries of all of them, in steps. True: there are none. */
bool mapped_drop_all(struct job_index *x);
/* One that a predecessor had, and in which there are views. -ENOMEM. */
int mapped_restore(struct job_index *x, uint32_t number);

/* copies.c */

/* A place for a value, with its bytes. -EAGAIN: not now. */
int copies_put(struct job_index *x, const void *value, uint32_t len, uint32_t *ret_number,
	       uint64_t *ret_offset);
/* A descriptor of the region of this id, to be read. -ESTALE: it is none of this index. */
int copies_export(const struct job_index *x, uint64_t id, uint32_t *ret_size);
void copies_fini(struct job_index *x);

/* kept.c */

/* Indexes in which functions may still have views. Blocks: at the start only. */
void indexes_restore(struct proxy *p);

/* index.c */

int index_get(struct proxy *p, uint64_t job, struct job_index **ret);
struct job_index *index_ref(struct job_index *x);
void index_unref(struct job_index *x);
/* From here on views are revoked, and nothing is found. */
void index_end(struct job_index *x);
void index_stop_serving(struct job_index *x);
/* One that is not there yet: alloc, regions, open. */
struct job_index *index_alloc(struct proxy *p, uint64_t job, uint16_t place);
int index_open(struct job_index *x);
/* Regions within what indexes may have. */
int index_take_region(struct proxy *p, size_t size, const struct keep_name *name,
		      struct region **ret);
void index_give_region(struct proxy *p, struct region *g);

/* reader.c */

int reader_add(struct job_index *x, uint64_t id, struct region *pins, struct reader **ret);
void reader_remove(struct reader *r);
/* Those that nobody has come back for. */
void readers_look(struct job_index *x);
/* Likewise, and nobody will: it is over. */
void readers_end(struct job_index *x);
