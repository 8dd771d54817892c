/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog: the state of one slot: its jobs, and for each of them paths, objects,
 * attempts, values, segments; who holds and who writes what.
 *
 * A pure state machine: no I/O, no clock, no threads, no waits, and bounded work in
 * every call. A call decides, and what it decides is one effect: memory for it is
 * reserved, it is handed to ops->log(), and effect_apply() changes the state. A
 * replay hands the logged effects to catalog_replay(), which does the same.
 *
 *	request, time --> catalog_x() --> effect --> log, apply --> outcome
 *
 * - A call returns 0 or a negative errno of status.def; the outcome has words for it.
 *   Nothing has changed then.
 * - outcome.must_wait: there is no answer yet. Who waits is not known here: the caller
 *   parks the request under outcome.key, and asks again when that key is woken.
 * - Replies and payloads are encoded or copied before the call returns; slices in
 *   outcome.rep point into the catalog, until the next call.
 * - Times are nanoseconds of the catalog, which never go back; so are due times.
 * - What takes long (a job's end, a session's, the parts of a large object) is put on
 *   a list, and taken apart by catalog_tick() in steps.
 */
#pragma once

#include "base/hash.h"
#include "meta/effect.h"
#include "wire/codec.h"

struct catalog;

struct catalog_ops {
	/* Takes the effect down, before it is applied. */
	void (*log)(struct catalog *c, const struct effect *e);
	/*
	 * May another one be taken down? 0, -ENOBUFS, or -ENOSPC: no memory for anything new.
	 * What must be done anyway (is_own) may when requests may not. NULL: always.
	 */
	int (*room)(struct catalog *c, bool is_own);
	/* Can what is logged be made to survive the power? NULL: no. */
	bool (*can_sync)(struct catalog *c);
	/* The bytes of a value segment: zeros, or what a former life left. NULL: no memory. */
	void *(*value_map)(struct catalog *c, uint32_t index);
	void (*value_unmap)(struct catalog *c, uint32_t index, void *bytes);
};

/* What somebody waits for: a path, or a directory with its last '/', of a job. */
struct wake_key {
	struct hash_128 hash;
	uint64_t job;
};

#define WAKES_MAX 64

struct outcome {
	char detail[200]; /* words about an error; "" if there are none */
	bool may_fit;     /* -EDQUOT: but there is room once the job gives something back */
	bool must_wait;
	uint64_t seen_ns;    /* of a read: nothing younger than this is in the answer */
	struct wake_key key; /* of the path or directory that was asked about */

	/* Of a change: a version has ended, and not by its time; one that was told on; it may have
	 * been made before, and this is the answer once more. */
	bool has_ended, is_to_forget, is_repeat;

	/* What may have come about for those who wait. */
	struct wake_key wakes[WAKES_MAX];
	unsigned wake_count;
	bool wakes_all; /* more than that; also after a job's end */

	union {
#define M(id, NAME, name, servers, callers, request_max, reply_max) struct name##_rep name;
		MESSAGES(M)
#undef M
	} rep;

	/* LEASE: nothing is granted yet, so ask a store for this, and then catalog_grant(). */
	struct {
		bool is_needed;
		uint64_t need, bytes; /* bytes: at most so much will be granted */
		uint32_t size;
	} ask;
};

struct catalog *catalog_new(uint16_t slot, uint64_t seed, const struct catalog_ops *ops,
			    void *owner);
struct catalog *catalog_free(struct catalog *c);
void *catalog_owner(const struct catalog *c);
uint16_t catalog_slot(const struct catalog *c);
/* The time of the last effect. */
uint64_t catalog_last_ns(const struct catalog *c);

/* The next effect of a log, encoded. -EBADMSG: it does not fit this state; -ENOMEM. */
int catalog_replay(struct catalog *c, struct rcur *effect);

/*
 * A snapshot of what is now, the state after record `lsn`: images to put(), in small steps
 * of about `n` things each, while requests go on. Step: false when the last image is out.
 */
struct image;
void catalog_snapshot_begin(struct catalog *c, uint64_t lsn,
			    void (*put)(void *owner, const struct image *im), void *owner);
bool catalog_snapshot_step(struct catalog *c, unsigned n);
void catalog_snapshot_stop(struct catalog *c); /* it is not wanted any more */
bool catalog_snapshot_is_running(const struct catalog *c);

/*
 * Before a replay: the memory of small values is new. They are lost then, but for those that
 * images and records carry, the durable ones.
 */
void catalog_set_blank(struct catalog *c);
/* Some of the values are lost, now or before: each is compared with its sum when it is looked at.
 */
void catalog_set_lacking(struct catalog *c);

/*
 * So many ids, and versions of jobs that live, are left out: others may have been told of them by
 * whoever is forgotten.
 */
struct ids {
	uint64_t jobs, others, versions;
};
void catalog_skip(struct catalog *c, const struct ids *ids);

/* When catalog_tick() has something to do: UINT64_MAX for never, 0 for at once. */
uint64_t catalog_due(const struct catalog *c);
struct moment {
	uint64_t now_ns;
	uint64_t read_ns; /* what had come by then was read, so leases that fell due by then end; */
	uint64_t awake_ns; /* but those that fell due before we could be heard are renewed */
};
/* One bounded step of what is due. */
int catalog_tick(struct catalog *c, const struct moment *at, struct outcome *ret);

/* Jobs. */

int catalog_job_create(struct catalog *c, const struct job_create_req *req, uint64_t now_ns,
		       struct outcome *ret);
int catalog_job_renew(struct catalog *c, const struct job_renew_req *req, uint64_t now_ns,
		      struct outcome *ret);
/* *ret_job: which one; also when it had ended before. */
int catalog_job_end(struct catalog *c, const struct job_end_req *req, uint64_t now_ns,
		    struct outcome *ret, uint64_t *ret_job);
int catalog_job_show(const struct catalog *c, const struct job_show_req *req, uint64_t now_ns,
		     struct outcome *ret);
/* Job entries after `after` in byte order of names, ended ones too. False: there are more. */
bool catalog_job_list(const struct catalog *c, struct slice after, uint64_t now_ns,
		      struct wcur *payload, uint32_t *ret_count);
/* The id of the living job, or of the last one that ended; 0: none of this name. */
uint64_t catalog_job_named(const struct catalog *c, struct slice name);
/* What it has of stores and value segments, until they have taken it back. */
uint64_t catalog_job_bytes(const struct catalog *c, uint64_t job);
bool catalog_job_is_durable(const struct catalog *c, uint64_t job);
/* 0 if it lives; -EIDRM, -ENXIO. */
int catalog_job_lives(const struct catalog *c, uint64_t job);
/* Jobs that ended and were not told about yet: one at a time; 0: none. */
uint64_t catalog_job_over(struct catalog *c);
/* There was no memory to tell of it: it comes again. */
void catalog_job_over_again(struct catalog *c, uint64_t job);

/* Objects. */

int catalog_commit(struct catalog *c, const struct commit_req *req, struct slice payload,
		   uint64_t now_ns, struct outcome *ret);
int catalog_remove(struct catalog *c, const struct remove_req *req, uint64_t now_ns,
		   struct outcome *ret);
int catalog_remove_tree(struct catalog *c, const struct remove_tree_req *req, uint64_t now_ns,
			struct outcome *ret);
int catalog_rename(struct catalog *c, const struct rename_req *req, uint64_t now_ns,
		   struct outcome *ret);
int catalog_stat(struct catalog *c, uint64_t job, struct slice path, uint64_t now_ns,
		 struct outcome *ret);
int catalog_list(struct catalog *c, const struct list_req *req, uint64_t now_ns,
		 struct wcur *payload, struct outcome *ret);
int catalog_lookup(struct catalog *c, const struct lookup_req *req, uint64_t now_ns,
		   struct wcur *payload, struct outcome *ret);
int catalog_find(struct catalog *c, const struct find_req *req, uint64_t now_ns,
		 struct wcur *payload, struct outcome *ret);
int catalog_release(struct catalog *c, const struct release_req *req, uint64_t now_ns,
		    struct outcome *ret);
/* must_wait: it is not there yet, or there are fewer. */
int catalog_wait(struct catalog *c, uint64_t job, struct slice path, uint64_t now_ns,
		 struct outcome *ret);
int catalog_wait_count(struct catalog *c, uint64_t job, struct slice directory, uint64_t count,
		       uint64_t now_ns, struct outcome *ret);
/* The same for those who kept only the key. */
int catalog_wait_key(struct catalog *c, const struct wake_key *key, uint64_t now_ns,
		     struct outcome *ret);
int catalog_wait_count_key(struct catalog *c, const struct wake_key *key, uint64_t count,
			   uint64_t now_ns, struct outcome *ret);

/* Objects that come in pieces. */

int catalog_open(struct catalog *c, const struct open_req *req, uint64_t now_ns,
		 struct outcome *ret);
int catalog_extend(struct catalog *c, const struct extend_req *req, struct slice payload,
		   uint64_t now_ns, struct outcome *ret);
int catalog_drop(struct catalog *c, const struct drop_req *req, uint64_t now_ns,
		 struct outcome *ret);

/* Segments and sessions. */

/*
 * Grants into `payload`; or outcome.ask. What is asked for counts against the quota
 * until catalog_ask_over(). `segment_max`: the largest segment that any store has.
 */
int catalog_lease(struct catalog *c, const struct lease_req *req, uint32_t segment_max,
		  uint64_t now_ns, struct wcur *payload, struct outcome *ret);
void catalog_ask_over(struct catalog *c, uint64_t job, uint64_t bytes);
/*
 * The store's answer, GRANTs, booked at its stamp. Without a session (0: who asked is
 * gone), or a living job, they are given back at once.
 */
int catalog_grant(struct catalog *c, const struct lease_req *req, uint64_t stamp_ns,
		  struct slice grants, uint64_t now_ns, struct outcome *ret);
int catalog_settle(struct catalog *c, const struct settle_req *req, uint64_t now_ns,
		   struct outcome *ret);
/* Fenced segments that only wait for their writer's next epoch are given up: somebody needs room.
 */
int catalog_reclaim(struct catalog *c, uint64_t now_ns, struct outcome *ret);
/* Nothing was heard of it: what it had open waits for its next epoch. */
int catalog_session_over(struct catalog *c, uint64_t session, uint64_t now_ns, struct outcome *ret);
/* It has no next epoch: what it had open is given up once it is fenced. */
int catalog_session_gone(struct catalog *c, uint64_t session, uint64_t now_ns, struct outcome *ret);
/* Each session that the slot keeps something for, in any order, until `each` is not 0. */
int catalog_sessions(const struct catalog *c, int (*each)(void *owner, uint64_t session),
		     void *owner);
/* True while the slot keeps something for the session. */
bool catalog_session_has(const struct catalog *c, uint64_t session);
/* The slot keeps something for it, and all of that is of this job. */
bool catalog_session_is_of(const struct catalog *c, uint64_t session, uint64_t job);

/* Duties: what the slot owes to the store of a segment. They follow from the state. */

enum duty_kind { DUTY_SEAL, DUTY_REVOKE, DUTY_FREE };
struct duty {
	enum duty_kind kind;
	uint64_t segment, stamp_ns;
	uint32_t generation, front, back;
};

/* The next one that is not on its way to that store. False: none. */
bool catalog_duty(struct catalog *c, uint64_t store, struct duty *ret);
bool catalog_has_duty(const struct catalog *c, uint64_t store);
/* `result` of the store: 0; -ESTALE: it knows of no such segment; else it is owed again. */
int catalog_duty_done(struct catalog *c, const struct duty *d, int result, uint64_t now_ns,
		      struct outcome *ret);

/*
 * Comparing lists with a store: catalog_compare_begin(), then catalog_compare() for each
 * segment that it has, then catalog_compare_end() until it returns false: what the
 * store no longer has is lost.
 */
void catalog_compare_begin(struct catalog *c, uint64_t store);
/* False: unknown here, or given up, so the store is to free it. */
bool catalog_compare(struct catalog *c, const struct segment_entry *e);
bool catalog_compare_end(struct catalog *c, uint64_t store, uint64_t now_ns, struct outcome *ret);
/*
 * Where a store is that the slot has segments of, or had: in the log, for a successor of ours.
 * Nothing happens if it never had any, or knows.
 */
int catalog_store_known(struct catalog *c, uint64_t store, struct slice address, uint64_t now_ns,
			struct outcome *ret);
/* Has it anything of the slot's that is neither lost nor given back? */
bool catalog_store_has(const struct catalog *c, uint64_t store);
/*
 * It does not come back, and the slot has nothing of it any more: what it has counted is missing
 * from now on.
 */
int catalog_store_gone(struct catalog *c, uint64_t store, uint64_t now_ns, struct outcome *ret);
/* Each that has, or had and is not gone; address "": not known. Until `each` is not 0. */
int catalog_stores(const struct catalog *c,
		   int (*each)(void *owner, uint64_t store, const char *address), void *owner);
/* Bytes that the slot has of a store, until it has freed them. */
uint64_t catalog_store_bytes(const struct catalog *c, uint64_t store);

/*
 * Cleaning: what is live in a sealed segment is copied elsewhere by a mover, and is there
 * from catalog_move() on; the segment is freed when nothing is left in it. Only dead bytes
 * count, those that were live once.
 */
struct dying {
	uint64_t job, segment, dead;
	uint32_t generation;
};
uint64_t catalog_dead_bytes(const struct catalog *c, uint64_t store);
/* Is so much of what the slot has of a store dead that it cleans before it asks for more? */
bool catalog_must_clean(const struct catalog *c, uint64_t store);
/* The segment with the largest dead share, to be emptied; not the same twice before
 * catalog_dying_over(). */
bool catalog_dying(struct catalog *c, uint64_t store, struct dying *ret);
/* True: it is. False: something in it is still live. */
bool catalog_dying_over(struct catalog *c, const struct dying *d);
/* PLACE_ENTRYs into `payload`. */
int catalog_places(struct catalog *c, const struct places_req *req, struct wcur *payload,
		   struct outcome *ret);
/* -EAGAIN: not while a snapshot is being taken. */
int catalog_move(struct catalog *c, const struct move_req *req, struct slice payload,
		 uint64_t now_ns, struct outcome *ret);

/* Sums over the slot. */
struct catalog_sums {
	uint64_t job_count, object_count, segment_count, session_count;
	uint64_t value_bytes;                /* of blocks with values */
	unsigned __int128 value_byte_ns;     /* their integral */
	unsigned __int128 byte_ns;           /* of all jobs that ever were */
	unsigned __int128 forgotten_byte_ns; /* of those of them that are not listed any more */
	bool has_lost; /* segments, or a store: what that counted is unknown */
};
void catalog_sums(const struct catalog *c, uint64_t now_ns, struct catalog_sums *ret);

/* Every line of the state, sorted, as text: for tests and wadi doctor. node_free() it. */
char *catalog_dump(const struct catalog *c);
/* Everything that must hold; NULL, or which rule is broken. For tests: it looks at all. */
const char *catalog_check(const struct catalog *c);
