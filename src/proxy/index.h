/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index: what functions of a job on this host read without asking (shm/index.h). It is made for the
 * first that wants to view, has what they asked to view (get.c), and goes with its job, or when
 * nobody reads it and room is needed for another one.
 *
 *	index.c   its regions, who reads it, what is forgotten, until when it answers
 *	mapped.c  where its entries lead, and how a segment is given back
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
	uint32_t part_count;
	struct mapping_part parts[];
};

struct job_index {
	struct list link;
	struct proxy *proxy;
	uint64_t job;
	unsigned user_count; /* the proxy, unless it is over; readers; fibers that wait */
	struct region *head, *table, *next_table; /* next_table: it is being filled */
	struct index_writer writer;
	struct mapped **mapped; /* by number */
	uint32_t mapped_count;
	struct pins *pins; /* of the readers */
	struct reader **readers;
	unsigned reader_count;
	const uint64_t *until_ns; /* of the serving lease, while there are readers */
	bool is_over, is_blind, is_growing;
};

/* A connection's. */
struct reader {
	struct job_index *index;
	struct region *pins;
	unsigned nth;
};

/* INDEX_LOOK_MS after which something may have come about. */
void index_look_soon(struct proxy *p);
/*
 * Where this leads. On a fiber that does not wait between object_take() and this. -EOPNOTSUPP: it
 * is nothing for an index; -EAGAIN: not now.
 */
int index_enter(struct job_index *x, const struct found *f, struct slice path);
/* It may be full: fetches a larger table, once. */
void index_grow(struct job_index *x);
/* It answers for as long as we may, as of now. */
void index_renew(struct job_index *x);

/* mapped.c */

int mapped_get(struct job_index *x, const struct found *f, uint32_t *ret_number,
	       uint64_t *ret_offset);
/* Looks at those that are wanted. True: there are some. */
bool mapped_look(struct job_index *x, bool is_short);
void mapped_want(struct job_index *x, uint64_t segment, bool is_short);
/* All of them, whoever views them. */
void mapped_end_all(struct job_index *x);
/* Drops entries of all of them, in steps. True: there are none. */
bool mapped_drop_all(struct job_index *x);
