/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_priv: what the files of the server share. store.c opens and closes, and turns the pool;
 * conns.c has the connections, hello.c says who may have one; serve_segment.c and duty.c serve
 * slots, transfer.c reads and writes, near.c does both for a store core in this process.
 */
#pragma once

#include "store/janitor.h"
#include "store/store.h"

/* A transfer that somebody waits for may stand still so long; then its connection is cut. */
#define TRANSFER_PATIENCE_NS 1000000000ull

struct store {
	struct pool pool;
	struct janitor janitor;
	struct retired retired;
	struct loop *loop;
	struct net *net;
	char *name, *key, *address;
	uint8_t *token_key;
	size_t key_len, token_key_len;
	const struct media *media;
	void (*wanted)(void *owner, uint64_t job, uint64_t segment, bool is_short);
	void *wanted_owner;
	uint64_t opened_ns, opened_wall_ns;

	struct task turn; /* serves who waits, and tells the janitor */
	struct timer due;
	struct list links; /* to metadata servers */
	struct list conns;
	unsigned joined_count;

	struct list waits; /* of duties for pins: struct pin_wait, the longest first */
	struct timer patience;
	struct timer views; /* runs: there may be some of a predecessor's */
	struct list spare_transfers;
	struct htable jobs;  /* connections of ROLE_JOB, by job */
	struct mover *mover; /* not ours */
	int (*empty)(struct mover *m, uint64_t job, uint64_t segment, uint32_t generation);
	struct list empties; /* EMPTYs that wait for it: struct empty_wait */
	uint64_t cleaned_ns; /* the last CLEAN */
	struct reach *reach;
	uint64_t failed_logged;
};

/* A metadata shard that we offered the pool to. */
struct link {
	struct store *store;
	struct list link;
	struct conn *conn; /* NULL between two tries */
	struct call hello;
	struct call clean;
	uint64_t dead, cleaned_ns; /* as its slots told, when they were last asked to clean */
	struct timer again;
	struct address address;
	bool has_address, is_joined, is_told;
	unsigned failure_count;
};

/* Of near.c. */
struct reach {
	struct store *store;
};

/* What we keep of a connection, either way it was opened. */
struct client {
	struct conn *conn;
	struct link *to; /* NULL: it came to us */
	struct hlink of_job;
	bool is_of_job;
	unsigned ask_count;
};

/* A read or a write in progress. */
struct transfer {
	struct list link; /* of the segment; of the spare ones */
	struct payload payload;
	struct store *store;
	struct segment *segment;
	struct conn *conn;
	bool is_to_write, is_early; /* early: a read of what was not sealed when it began */
};

/* A payload of our own: so many bytes, and it goes when it was sent. NULL: no memory. */
struct list_payload {
	struct payload payload;
	uint8_t bytes[];
};
struct list_payload *list_payload_new(size_t cap);

/* The pool has changed: serve who waits, and tell the janitor, in the next turn. */
void store_changed(struct store *s);
uint64_t store_time_ns(const struct store *s);
/* No view of before is left in what there is. */
void store_end_views(struct store *s);

/* conns.c: all of them, and what waits for them to be there again. */
void store_conns_close(struct store *s);

/* hello.c */
void store_hello_serve(struct request *r);
/* -ENOMEM. */
int store_access_set(struct conn *c, const struct access *access);

/* Else the request has been refused. */
bool store_is_from_meta(struct request *r);
/* Slots' requests. */
void store_segment_serve(struct request *r);
void store_seal_serve(struct request *r);
void store_revoke_serve(struct request *r);
void store_free_serve(struct request *r);
void store_job_over_serve(struct request *r);
void store_segments_serve(struct request *r);
/* Answers those whose waiting for space is over. */
void store_asks_serve(struct store *s);
/* Gives a pin back: who waited for it is answered. */
void store_unpin(struct store *s, struct segment *segment, bool is_to_write);
/* In closed(): nobody is told any more. */
void store_waits_forget(struct conn *c);
void store_patience_over(struct timer *t);

/* clean.c */

void store_empty_serve(struct request *r);
void store_empty_forget(struct parked *p);
/* Somebody may lack space: slots are asked to give back what is dead. When to call again. */
uint64_t store_clean(struct store *s);
void store_clean_forget(struct link *l);

void store_write_place(struct request *r);
void store_write_drop(struct request *r);
void store_write_serve(struct request *r);
void store_read_serve(struct request *r);
void store_transfers_fini(struct store *s);
