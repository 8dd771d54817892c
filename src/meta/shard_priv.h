/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_priv: what the files of a shard share.
 */
#pragma once

#include "base/container.h"
#include "base/heap.h"
#include "base/htable.h"
#include "base/list.h"
#include "base/spares.h"
#include "loop/loop.h"
#include "meta/catalog.h"
#include "meta/meta.h"
#include "meta/oplog.h"
#include "meta/snapshots.h"

#define MS 1000000ull

/* Sessions and stopped loops are looked for so often. */
#define LOOK_MS 1000

struct slot {
	struct shard *shard;
	struct catalog *catalog;
	struct heap_link due;
	uint64_t lacking;  /* a job's quota has no room for so much, but for what is dead */
	struct list lines; /* of jobs whose quota somebody waits for */
	uint16_t number;
};

/* A reader or writer that was heard of. What it has, the slots keep. */
struct presence {
	struct hlink by_id;
	struct list link; /* in order of `heard_ns` */
	uint64_t id, epoch, heard_ns;
	uint64_t since;    /* the epoch it began in; 0 if it is recovered */
	uint64_t job;      /* of a function's; 0: a server's */
	uint64_t near;     /* the store in its process; 0: there is none */
	bool is_recovered; /* what our predecessor had heard of: whose it is, what it has says */
};

/* A connection's own. */
struct peer_state {
	struct shard *shard;
	struct store *store; /* of ROLE_STORE */
	uint64_t session, epoch;
	struct list tellings; /* JOB_OVERs on their way to it */
	bool is_ending;       /* a function that has asked for the end of its job */
	struct list forgets;  /* FORGETs likewise */
	bool tells_on;        /* it has told others of objects, who do not ask */
};

/* A storage server, whether it is connected or away. */
struct store {
	struct list link;
	struct shard *shard;
	uint64_t id, limit_bytes;
	struct conn *conn;              /* NULL: away */
	uint64_t away_ns;               /* then: since when */
	char address[ADDRESS_TEXT_MAX]; /* "": not known */
	bool is_noted;                  /* it is in the log, for all slots that need to know */
	unsigned duty_count;            /* on their way to it */
	bool has_more;                  /* duties that had to wait for others */
	struct timer again; /* runs: it failed to take one, and is left alone for a while */
	struct list duties; /* struct duty_call */
	struct comparing *comparing;
	uint64_t lacking; /* CLEAN: bytes for who has waited longest there */
	struct emptying *emptying;
	struct timer clean_again; /* runs: the last one could not be emptied */
	struct list crowd;        /* asks that it has no place for, the oldest first */
	/* Of the answer that is coming in: there is one at a time. */
	uint8_t grants[GRANTS_BYTES];
};

/* Segments that are being asked of a store, or wait in line for a quota before that. */
struct asking {
	struct list link;        /* of all, or of its line */
	struct list crowd;       /* of its store's, or in none */
	struct line *line;       /* NULL: it stands in none */
	int64_t birth_ns;        /* then: of its put */
	struct hlink by_request; /* of its asker, if that is not 0 */
	struct hlink by_number;  /* `request`, by which stores know it */
	struct shard *shard;
	struct slot *slot;
	struct store *store; /* NULL: of none yet */
	struct lease_req req;
	uint64_t request, bytes, born_ns, due_ns;
	uint64_t asked_ns;    /* when it was first asked of a store */
	uint64_t told_due_ns; /* to the store */
	uint64_t placed_ns;   /* since when it is this store's */
	uint64_t need;
	uint32_t size;
	bool is_now;       /* it waits for nothing there */
	bool is_asked;     /* and its store may have granted it */
	bool is_near_full; /* the store in its asker's process had no room */
	bool is_withdrawn; /* what the store was sent last says that nobody wants it */
	bool is_leaving;   /* it says so though somebody does, to ask another */
	bool has_left;     /* once is enough */
	struct job_waits *of_job;
	struct parked parked; /* conn NULL: who asked is gone */
	struct call call;
	struct timer again;
};
_Static_assert(sizeof(struct asking) <= 576, "a job may have PARKED_PER_JOB of them");

/* How many of one job wait, for space too, while that is anybody. */
struct job_waits {
	struct hlink by_job;
	uint64_t job, bytes;
	uint32_t count;
};

/* All who wait for one path or directory. */
struct waited {
	struct hlink by_key;
	struct job_waits *of_job;
	struct list all, woken;
	struct list waiters;
	struct wake_key key;
	uint32_t count, left; /* waiters; those of them to be looked at, once woken */
};

struct waiter {
	struct parked parked;
	struct list link;
	struct waited *waited;
	uint64_t count; /* of WAIT_COUNT */
};
_Static_assert(sizeof(struct waiter) <= 96, "a parked call has at most 96 bytes");

/* A LOOKUP that waits for a read to be given back or used up. */
struct lookup_waiter {
	struct waiter waiter;
	struct hlink by_request; /* if that is not 0 */
	struct lookup_req req;
	uint8_t path[];
};

/* A payload on its way out. */
struct reply_bytes {
	struct payload payload;
	struct shard *shard;
	size_t cap;
	uint8_t bytes[];
};

/* Regions for the value segments of the slots. */
struct regions {
	uint64_t next_number;
	struct list spare, used, old; /* old: the predecessor's, that nobody has asked for yet */
	unsigned spare_count;
	struct value_region *made; /* the helper makes it */
	struct work work;
	int result;
};

struct shard {
	struct loop *loop;
	struct net *net;
	struct shard_config config;
	uint64_t incarnation; /* of its memory: who goes on from files alone has another one */
	uint64_t memory_ns;   /* when that was begun */
	uint64_t seed, opened_ns, base_ns, looked_ns;
	uint64_t succeeded_ns;   /* when it went on from a predecessor's state; 0: it did not */
	uint64_t proxy_lost_ns;  /* the last connection of a proxy was lost; 0: none */
	uint64_t teller_lost_ns; /* of one that told on */
	uint64_t awake_ns;       /* the last time that nobody could be heard before; slots' time */
	uint64_t reading_ns, read_ns; /* what had come by then is being read, has been read */
	struct oplog log;
	struct snapshots snapshots;
	struct regions regions;
	uint64_t slot_lsns[SLOT_COUNT];       /* while it recovers: what the snapshot has of each */
	struct restore *restore;              /* likewise: the slot that is being restored */
	uint64_t recovered_snapshot;          /* its number */
	struct slot *slots[SLOT_COUNT];       /* made at first use, so mostly few */
	uint64_t slots_used[SLOT_COUNT / 64]; /* a bit of each that is there: slot_from() */
	struct heap dues;                     /* of slots */
	struct list conns, stores, askings, overs, held, forgettings;
	struct htable asked, asked_numbers;
	unsigned asking_count, over_count;
	struct htable presences;
	struct list presence_order;
	struct timer tick;
	struct task late;
	unsigned late_turns;
	bool is_closing, is_retrying;
	bool is_left;     /* to a successor */
	bool has_gone_on; /* from what a predecessor left */
	bool is_blank;    /* it goes on from files alone: small values are not in memory */
	bool is_lacking;  /* a predecessor did, and was in turn killed: some are still lost */
	bool was_blank;   /* it went on so, or one did who was killed at once: sessions are over */
	bool has_forgotten; /* it, or one a moment before it: something that was told on, perhaps */

	struct htable waited, looking, job_waits; /* looking: LOOKUPs, by session and request */
	struct list all_waited, woken;
	struct heap wait_dues;
	uint32_t waiter_count, waited_count, sweep_left;
	uint64_t parked_bytes;      /* memory of waiters */
	uint32_t held_parked_count; /* those whose answer waits until it is safe */
	struct task wake;
	struct list woken_lines;
	struct task serve_lines;

	struct spares spare_small, spare_large;
	struct outcome out, wake_out; /* of the running request; of those who are woken */
};

/* Where a request that a session repeats is in the tables of those that wait. */
static inline uint64_t request_hash(const struct shard *s, uint64_t session, uint64_t request)
{
	uint64_t key[2] = { session, request };

	return hash_64(key, sizeof(key), s->seed);
}

/* shard.c */

uint64_t shard_now(const struct shard *s);
/* Made at first use. -EREMCHG: another shard's; -EINVAL; -ENOMEM. */
int shard_slot(struct shard *s, uint16_t number, struct slot **ret);

/* The first that is there, from this number on; NULL: none is. */
struct slot *slot_from(const struct shard *s, unsigned number);
/* After each call of a catalog: wakes, when to tick, what is owed. */
void shard_after(struct slot *slot, const struct outcome *out);
void shard_plan(struct shard *s);
void shard_free_if_done(struct shard *s);
struct reply_bytes *reply_bytes_take(struct shard *s, size_t cap);
/* So many of them are there: its payload. */
void reply_bytes_made(struct reply_bytes *b, size_t len);
void reply_bytes_give(struct payload *p);
void meta_conn_closed(struct conn *c);

/* regions.c */

void regions_init(struct shard *s);
/* What the predecessor left; -ENOMEM. */
int regions_recover(struct shard *s);
void regions_recovered(struct shard *s);
void regions_fini(struct shard *s);
/* Some are made ahead. */
void regions_look(struct shard *s);
/* VALUE_SEGMENT_BYTES: as they were, if the slot had this one before; NULL: no memory. */
void *regions_map(struct shard *s, uint16_t slot, uint32_t index);
void regions_unmap(struct shard *s, void *bytes);

/* safe.c */

/* As request_reply(), once that is as safe as the job wants it. */
struct said {
	uint64_t job, seen_ns; /* outcome.seen_ns */
};
bool said_is_safe(const struct slot *slot, const struct said *said);
void reply_when_safe(struct request *r, struct slot *slot, const struct said *said,
		     const struct wcur *body, struct payload *payload);
/* The same for a parked call, which is its owner's no more. */
void parked_reply_when_safe(struct parked *p, struct slot *slot, const struct said *said,
			    const struct wcur *body, struct payload *payload);
/*
 * As request_fail(): who hears that something is there already, or not any more, must not learn of
 * it before it is as safe as the job wants it.
 */
void refuse_when_safe(struct request *r, struct slot *slot, uint64_t job, int err, const char *why);
void parked_refuse_when_safe(struct parked *p, struct slot *slot, uint64_t job, int err,
			     const char *why);
/* The connection of a parked call is over. True: it was one whose answer waited here. */
bool parked_was_held(struct parked *p);
/* More of the log is synced, or its disk has failed. */
void replies_safe(struct shard *s);
void replies_forget(struct shard *s);

/* forget.c */

/*
 * As reply_when_safe(), of a change, once nobody answers any more with what it has ended. The
 * paths that it was about; `path` empty: any of the job's.
 */
void reply_when_forgotten(struct request *r, struct slot *slot, const struct said *said,
			  const struct wcur *body, struct slice path, struct slice other);
void forgets_of_conn_over(struct conn *c);
/* The shard closes: what is not answered yet is perhaps done. */
void forgettings_fini(struct shard *s);

/* restart.c */

/* Takes over what there is of this shard. Before oplog_open(). */
int shard_recover(struct shard *s, const struct oplog_config *config);

/* hello.c */

/* Sessions that slots have things of: they may come back. */
int presences_recover(struct shard *s);
/* What they have been given and have given back since the last sync is not known: all are over. */
void presences_end(struct shard *s);
#define DEFAULT_JOB "default"
void hello_serve(struct request *r);
void heartbeat_serve(struct request *r);
/* -ENOLINK: not this session, not this epoch, not this connection's. */
int presence_check(struct request *r, uint64_t session, uint64_t epoch);
/*
 * The session of a function that has nothing open is over with its connection; else soon, if it
 * does not come back.
 */
void presence_of_conn_over(struct conn *c);
struct presence *presence_find(const struct shard *s, uint64_t id);
void presences_renew(struct shard *s);
/* Those that were not heard of for long, by what has been read. */
void presences_expire(struct shard *s);
void presences_fini(struct shard *s);
bool default_job_make(struct shard *s);

/* serve.c, serve_job.c */

extern const struct service META_SERVICE;
struct slot *request_slot(struct request *r);
/* clang-format off */
#define SERVES(F)                                                             \
	F(stat) F(list) F(remove) F(remove_tree) F(rename) F(wait) F(wait_count)\
	F(commit) F(open) F(extend) F(drop) F(lookup) F(find) F(release)      \
	F(settle) F(lease) F(places) F(move) F(clean) F(map) F(shard_info) F(job_create) F(job_renew)    \
	F(job_end) F(job_show) F(job_list)
/* clang-format on */
#define F(name) void name##_serve(struct request *r);
SERVES(F)
#undef F
/* Asks again. False: it still waits; true: it has been answered. */
bool lookup_answer(struct shard *s, struct slot *slot, struct lookup_waiter *w);

/* waiter.c */

/* False: it was answered that too many wait. */
bool request_may_wait(struct request *r, const struct shard *s, uint64_t job);
/* Made for the first, whose `count` is still to be counted up. NULL: no memory. */
struct job_waits *job_waits_get(struct shard *s, uint64_t job);
/* It has been counted down, or not up. */
void job_waits_rest(struct shard *s, struct job_waits *of);
/* The request is parked under the outcome's key. */
void waiter_park(struct request *r, struct slot *slot, const struct outcome *out, uint64_t count,
		 const struct lookup_req *lookup);
/* The LOOKUPs of a session with this request, if any wait, do so no more. */
void lookups_give_up(struct shard *s, uint64_t session, uint64_t request);
void waiters_wake(struct slot *slot, const struct outcome *out);
void waiters_due(struct shard *s);
void waiter_forget(struct shard *s, struct waiter *w);
void waiters_work(struct task *t);
void parkeds_of_conn_over(struct conn *c);

/* stores.c */

/* Those that slots have segments of: they may come back. */
int stores_recover(struct shard *s);
struct store *store_find_id(const struct shard *s, uint64_t id);
int store_attach(struct request *r, const struct hello_req *req);
void store_detach(struct conn *c);
/* Where it is, for a successor of ours, as long as the slot has a segment of it. */
void store_note(struct store *st, struct slot *slot);
/* Stores that are gone, and whose address another one has, have lost their bytes. */
void stores_replaced(struct shard *s);
/* And so have those that have been away for too long. */
void stores_look(struct shard *s);
/* Nobody could be heard: who is away gets a new period. */
void stores_renew(struct shard *s);
/* Has any slot something of it that is neither lost nor given back? */
bool store_has_any(const struct store *st);
void store_forget(struct store *st);
/*
 * It is given up, and nothing is left of it: that is noted, and it is forgotten. If there is no
 * room in the log, at the next look.
 */
void store_gone(struct store *st);

/* choose.c */

/* The largest segment that a store has. */
uint32_t stores_segment_max(const struct shard *s);
/*
 * The store in the asker's process, where functions reach the bytes without a copy, as long as it
 * answers, has room, and does not lead by too much; else the roomiest. What a store moves stays
 * there: it can write to no other. NULL: none is connected.
 */
struct store *store_choose(struct asking *a);
/* Another that may have room when this one answers nothing; itself, if there is none. */
struct store *store_beside(struct store *st);
/*
 * How much of what it needs is asked of its store: of an object that no pool can have, half a pool
 * at a time, if there are several.
 */
uint64_t store_need(const struct asking *a);

/* place.c */

void askings_of_store(struct store *st);
/* Somebody has waited for a while: what only waits for its writer is given up. */
void askings_look(struct shard *s);
void asking_forget(struct asking *a);
/* It is parked, and is still to be asked of somebody. NULL: it has been refused. */
struct asking *asking_new(struct request *r, struct slot *slot, const struct lease_req *req);
/* outcome.ask, of a store. */
void asking_go(struct asking *a, const struct outcome *out);
/* If its asker is still there. */
void asking_refuse(struct asking *a, int err, const char *words);
/* Ended, one way or the other; who waited for it has been answered. */
void asking_free(struct asking *a);
/* What the store granted for this number is still to be heard of. */
bool asking_is_open(const struct store *st, uint64_t number);
/* It is looked at again: at its deadline, and before it if its session may be over. */
void asking_watch(struct asking *a);
/* Its asker is gone; it has FUNCTION_GONE_MS to come back. */
void asking_of_conn_over(struct parked *p);
/* The repeat of a LEASE that is being asked for takes the place of the one before. */
bool asking_joins(struct request *r, struct slot *slot, const struct lease_req *req);
/* outcome.ask, of a store; the request is parked. */
void asking_start(struct request *r, struct slot *slot, const struct lease_req *req,
		  const struct outcome *out);

/* line.c */

/* Does anybody wait for the quota of this job whose put is as old? */
bool line_is_before(const struct slot *slot, const struct lease_req *req);
/* The request is parked there. */
void line_join(struct request *r, struct slot *slot, const struct lease_req *req);
/* Something of the slot has changed. */
void lines_wake(struct slot *slot);
void lines_work(struct task *t);
/* Its deadline. */
void line_late(struct asking *a);
void line_rest(struct line *l);
void lines_forget(struct slot *slot);

/* duties.c */

void duties_send(struct store *st, struct slot *slot);
void duties_send_all(struct store *st);
void duties_forget(struct store *st);
/* A segment of the store that no slot knows is to be freed. False: not now. */
bool stray_free(struct store *st, const struct segment_entry *e);

/* cleaning.c */

/* Somebody asks for more of a store, for a job of the slot: what is dead there goes first. */
void clean_before(struct store *st, struct slot *slot);
/* A job's quota is used up: so much of it may be dead. */
void clean_quota(struct slot *slot, uint64_t bytes);
void cleaning_forget(struct store *st);

/* compare.c */

void compare_start(struct store *st);
void compare_stop(struct store *st);
void compare_go_on(struct store *st);
/* The store has gone for good: all that slots have there is lost, and then it is forgotten. */
void store_lose(struct store *st);

/* over.c */

void jobs_over_tell(struct slot *slot);
/* The request is answered when all have heard of the job's end. */
void job_over_wait(struct request *r, uint64_t job);
/* Who comes back hears of what has ended meanwhile. */
void overs_tell_conn(struct conn *c);
void overs_of_conn_over(struct conn *c);
void overs_look(struct shard *s);
/* More of the log is synced, or its disk has failed. Before replies_safe(). */
void overs_safe(struct shard *s);
void overs_fini(struct shard *s);
