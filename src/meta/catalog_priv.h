/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog_priv: the nouns of a slot, and what the files of the catalog ask of each
 * other. A function that ends in _reserve() checks that an effect fits the state, and
 * gets what memory it needs; _apply() then cannot fail.
 */
#pragma once

#include "base/container.h"
#include "base/hash.h"
#include "base/heap.h"
#include "base/htable.h"
#include "base/limits.h"
#include "base/list.h"
#include "loop/stream.h"
#include "meta/account.h"
#include "meta/catalog.h"
#include "meta/image.h"
#include "meta/index.h"
#include "wire/extent.h"

/* Segments that are to be emptied are told apart by their dead share so finely. */
#define DYING_CLASSES 32

/* How long a fenced segment waits for its writer's next epoch, if nobody needs room. */
#define FENCED_MS_MAX (5u * 60 * 1000)

/* What became of a version. */
enum gone {
	GONE_REPLACED,
	GONE_REMOVED,
	GONE_EXPIRED,
	GONE_CONSUMED,
	GONE_RENAMED,
	GONE_READ, /* not the version: one read of it was confirmed, by the read id that is `end` */
};

/*
 * A job. It ends at one moment, for all who ask; what it had is taken apart afterwards,
 * in steps, and when nothing is left it stays for a while as a bill.
 *
 *	LIVING --end, lease over--> CLEARING --nothing left--> ENDED --forgotten-->
 */
enum job_state { JOB_LIVING, JOB_CLEARING, JOB_ENDED };

struct job {
	struct hlink by_id, by_name;
	struct index_link in_order; /* of names */
	struct heap_link lease;
	struct list link;   /* of its state */
	struct list untold; /* its end is still to be told to stores and proxies */
	enum job_state state;
	uint8_t seen; /* by which round of snapshots; likewise below */
	uint64_t id, made_ns, ended_ns;
	uint64_t attempt; /* that made it; see attempt_of() */
	uint64_t number;  /* in order of its list; likewise below */
	uint32_t lease_ms, functions, peak_mbps;
	uint16_t is_latency_sensitive, is_durable, has_expired;
	uint64_t quota, capacity;

	struct account account; /* what it pays for */
	uint64_t held_bytes;    /* what it has of the store, until it is given back */
	uint64_t asked_bytes;   /* asked of a store and not granted yet; not logged */

	struct index index;
	uint64_t object_count, object_bytes; /* visible ones */
	uint64_t version;                    /* the last one given */
	uint64_t renamed_ns;                 /* the last time; not in snapshots */
	uint32_t block, block_count;         /* for its next small value; NONE_32 */

	struct list attempts;                /* oldest first */
	struct attempt_block *attempt_block; /* where the next one lies; NULL: in a new one */
	uint32_t attempt_count;
	uint64_t forgotten_count; /* records that were dropped, all of them before those */

	struct list segments, opens, holds;
	uint32_t segment_count, debris_count;

	uint8_t name_len;
	uint8_t name[JOB_NAME_BYTES_MAX + 1 + 8]; /* a NUL and the id, so that it is unique */
};

/* Bytes of a segment that belong to an object. */
struct place {
	struct segment *segment; /* NULL: there are none */
	struct list of_segment;
	uint32_t offset, len;
};

struct piece {
	struct place bytes, table; /* table: of sums, if it has one */
	uint64_t seed;
	uint32_t crc;
};

/* Up to EXTENTS_MAX pieces that came together. */
struct chunk {
	struct chunk *next;
	uint64_t first; /* offset of its first byte in the object, or in the part */
	uint32_t count;
	struct piece pieces[];
};

/* The pieces of an object that has several, or of one that was opened. */
struct body {
	struct list debris; /* once it is no object any more */
	uint64_t number;    /* then */
	uint8_t seen;       /* likewise */
	struct job *job;
	uint32_t chunk_count, piece_count;
	struct chunk *chunks[];
};

struct value {
	uint64_t at; /* value segment << VALUE_SEGMENT_SHIFT | offset */
	uint32_t crc;
	uint32_t seed; /* what the crc begins with: crc_begin() makes the same of it again */
};
#define VALUE_SEGMENT_SHIFT 20
_Static_assert(1u << VALUE_SEGMENT_SHIFT == VALUE_SEGMENT_BYTES, "an offset fits");

struct life {
	struct heap_link expiry; /* on no heap without ttl */
	uint32_t reads;          /* left, those granted included; 0: any number */
	uint32_t granted;
};

/* More than a million a second for 17 years; none of a record is above it, so as many are to come.
 */
#define VERSION_LAST ((1ull << 49) - 1)
/* Nanoseconds since 1970: until 2116. */
#define TIME_LAST         ((1ull << 62) - 1)
#define OBJECT_BYTES_LAST ((1ull << 43) - 1)
_Static_assert(OBJECT_BYTES_LAST > (uint64_t)OBJECT_EXTENTS_MAX * SEGMENT_BYTES_MAX,
	       "the longest object has a length");

/*
 * An entry: a version of a path. One allocation: this, life if it has one, value or
 * piece or body, the path, the attributes. A version that is replaced or removed under
 * a hold becomes a ghost: it has no place in the index, and goes with its last hold.
 *
 * There are millions, so each field has as many bits as it needs (entry_set()), and what few have,
 * holds, is found in a table.
 */
enum content { CONTENT_EMPTY, CONTENT_VALUE, CONTENT_PIECE, CONTENT_BODY };

struct entry {
	struct index_link in_job;
	struct hlink by_path; /* its hash is the upper half of the key's, and the priority */
	struct job *job;
	uint64_t object, attempt; /* attempt: see attempt_of() */
	uint64_t made_ns : 62;
	bool has_life : 1, is_held : 1;
	uint64_t version : 50, seen : 8, content : 2, tier : 2;
	bool is_ghost : 1;
	bool is_told_on : 1; /* by a LOOKUP; not logged */
	uint64_t len : 43, path_len : 11, attributes_len : 10;
};
_Static_assert(sizeof(struct entry) == 88,
	       "with a value and a name of 16 bytes it is 128 of a heap");

/*
 * What is remembered of a version that is gone, so that repeats are answered the same. It
 * lies in a block of its job's, or where there is no memory for one over its entry, so that to
 * remove never needs memory.
 */
struct attempt {
	struct list link;    /* of the job, in order of time */
	struct hlink by_put; /* (path, attempt that put it) */
	struct hlink by_end; /* (path, attempt that removed it); or the path, if nobody did */
	uint64_t put, end;   /* see attempt_of() */
	uint64_t version, object, at_ns;
	uint8_t what; /* enum gone */
	uint8_t seen;
	bool has_put, has_end, is_tombstone;
	bool was_tombstone; /* when the running snapshot began */
	uint16_t nth;       /* of its block, from 1; 0: it is none's */
};

/*
 * The oldest attempts of a job go first, so a block is empty as a whole, and entries that are
 * gone leave no attempts between those that are there, which would keep their pages.
 */
struct attempt_block {
	uint16_t cap, used, live;
	struct attempt attempts[];
};

/* Objects directly in a directory; it is there while there are any. */
struct directory {
	struct hlink by_path;
	struct job *job;
	uint64_t count;
	uint16_t path_len;
	uint8_t path[];
};

/*
 * A segment, as its slot sees it.
 *
 *	OPEN --settled----------------------> SEALED --no live byte--> FREEING --answered--> gone
 *	  +--session over--> FENCING --answered--> FENCED --settled, or somebody needs room--^
 *	  +--its process is gone--> FENCING, of nobody --answered-------------^
 *	  any of them --job over--> FREEING;   --the store has lost it--> LOST --no live byte-->
 *gone
 *
 * A segment goes back to its pool exactly when it is sealed and no live byte is left in
 * it; a hold keeps its version, and so its bytes, alive. Either may end last, so
 * catalog_segment_seal() and catalog_live_sub() each ask for the other. Nobody else
 * does, and nothing ever searches for free segments.
 *
 * GONE has been answered, and waits for the rest of an ended job's pieces.
 */
enum segment_state {
	SEGMENT_OPEN,
	SEGMENT_FENCING,
	SEGMENT_FENCED,
	SEGMENT_SEALED,
	SEGMENT_FREEING,
	SEGMENT_LOST,
	SEGMENT_GONE,
};

struct segment {
	struct hlink by_id, by_request;
	struct list of_job, of_session, of_pool;
	struct list owed; /* of the pool: a duty that is not on its way; FENCED: of all that are */
	struct job *job;  /* NULL: of one that was forgotten */
	struct session *session;
	struct pool *pool;
	struct segment *next_new;
	uint64_t id, request, key, number;
	uint64_t owner; /* the session that may commit and settle; 0: none any more */
	uint32_t generation, size, front, back;
	enum segment_state state;
	uint8_t seen;
	bool is_sealed_told, is_sent; /* not logged */
	uint32_t compared;            /* likewise: the round that found it at the store */
	struct list places;           /* the live ones */
	uint64_t live;                /* bytes, each place rounded up to SEGMENT_ALIGN */
	uint64_t placed;              /* those that ever were: the rest of them is dead */
	struct list of_dying;         /* of the pool, by the dead share; likewise not logged */
	uint64_t dead;                /* as counted there */
	uint8_t dying;
	bool is_emptied;                                    /* somebody is at it */
	uint32_t held;                                      /* bytes that its store has for it */
	uint64_t opened_ns, fenced_ns, sealed_ns, freed_ns; /* stamps */
	uint64_t *
		claimed; /* until it is sealed: a bit per SEGMENT_ALIGN bytes that were committed */
};

/*
 * What the slot has of one store. Its address is remembered for as long as it has a segment
 * here, so that whoever goes on from the log still knows whose successor is at that address.
 */
struct pool {
	struct list link;
	uint64_t store;
	char address[ADDRESS_TEXT_MAX]; /* "": not known */
	uint8_t seen;
	struct list segments, owed;
	struct list dying[DYING_CLASSES]; /* sealed segments by their dead share, the least first */
	uint64_t bytes, dead;
	uint32_t round;
};

struct session {
	struct hlink by_id; /* until it is over */
	struct list link;   /* then */
	uint64_t id, number;
	uint64_t over_number; /* 0: it is not over */
	uint8_t seen;
	bool is_gone; /* then: its process is, and has no next epoch */
	struct list segments, holds, opens;
	uint32_t hold_count, open_count;
};

/* What a session has of a job, while that is anything. */
struct share {
	struct hlink link;
	const struct session *session;
	const struct job *job;
	uint32_t hold_count, open_count;
};

/* Keeps the bytes of a version; also a read of a reads-left object that was granted. */
struct hold {
	struct hlink by_id, by_read;
	struct hlink by_request; /* (session, request), if that is not 0 */
	struct list of_session, of_job;
	struct heap_link due; /* of a granted read */
	struct hlink by_entry;
	struct entry *entry;
	struct session *session;
	uint64_t id, number, read_hi, read_lo;
	uint64_t request;    /* the LOOKUP that was given it, of a read the latest */
	uint64_t touched_ns; /* not logged */
	uint32_t nth_try;
	bool is_read;
};

struct part {
	struct index_link in_open; /* by number */
	uint8_t key[4];
	uint32_t number;
	uint64_t len;
	struct chunk *first, *last;
};

struct open {
	struct hlink by_id, by_request;
	struct list of_session, of_job;
	struct list debris; /* once it was dropped */
	struct job *job;
	struct session *session;
	uint64_t id, request, len;
	uint64_t dropped_number; /* 0: it was not */
	uint8_t seen;
	uint32_t piece_count, chunk_count, part_count;
	struct index parts;
};

struct value_block {
	struct job *job; /* NULL: free */
	uint16_t used, live;
};

#define VALUE_BLOCKS (VALUE_SEGMENT_BYTES / VALUE_BLOCK_BYTES)
struct value_segment {
	struct list link; /* of those with free blocks, or of the empty ones */
	uint32_t index, used_count, hint;
	uint8_t *bytes;
	struct value_block blocks[VALUE_BLOCKS];
};

/* A snapshot that is being taken. */
struct snapshot {
	bool is_running;
	uint8_t round;
	unsigned phase, pool;
	struct list *at; /* of the list that is walked: what comes next */
	size_t job_len, path_len;
	uint8_t job[JOB_NAME_BYTES_MAX + 1 + 8 + 1], path[PATH_BYTES_MAX];
	uint64_t lsn;
	struct slot_end_image end;
	void (*put)(void *owner, const struct image *im);
	void *owner;
};

struct catalog {
	uint16_t slot;
	uint64_t seed;
	const struct catalog_ops *ops;
	void *owner;
	struct outcome *out; /* of the running call; NULL in a replay */
	bool is_blank;       /* see catalog_set_blank() */
	bool is_lacking;     /* see catalog_set_lacking() */

	uint64_t last_ns, next_job, next_id, next_number;
	struct snapshot snapshot;
	struct htable jobs, names, entries, directories, attempts, ends;
	struct htable segments, requests, sessions, holds, held, hold_requests, reads, opens,
		open_requests, shares;
	struct heap expiries, leases, read_dues;
	struct index job_order;
	struct list living, clearing, ended, untold;
	struct list debris, dropped, over_sessions, pools, fenced;
	uint32_t job_count, ended_count;
	uint64_t object_count, segment_count;
	struct account account, value_account;
	struct account forgotten; /* the part of account that is on no job's bill any more */
	bool has_lost;            /* segments: what their store counted is gone with it */

	struct value_segment **values; /* by index; NULL where there is none */
	uint32_t value_cap, empty_value_count;
	struct list free_values, empty_values; /* with room; of these, those without a value */
};

/* catalog.c */

#define CATALOG_TABLES 16
void catalog_tables(struct catalog *c, struct htable *ret[CATALOG_TABLES]);

#define MS 1000000ull

/* Says why, and returns `r`. */
int refuse(struct outcome *ret, int r, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void outcome_begin(struct catalog *c, struct outcome *ret);
/* Checks and reserves. Nothing has changed if it fails. */
int effect_reserve(struct catalog *c, struct effect *e);
/* Logs, applies, and frees what memory is left. */
void effect_finish(struct catalog *c, struct effect *e);
int effect_do(struct catalog *c, struct effect *e);
void catalog_wake(struct catalog *c, const struct job *j, struct slice path);
/* Removes some of what has expired: before objects are counted. */
int catalog_expire(struct catalog *c, uint64_t now_ns);
void catalog_wake_hash(struct catalog *c, uint64_t job, struct hash_128 hash);
static inline uint64_t catalog_next_id(const struct catalog *c)
{
	return (uint64_t)c->slot << ID_SLOT_SHIFT | c->next_id;
}
/* Where a number is in the tables of sessions, segments, opens and holds. */
static inline uint64_t id_hash(const struct catalog *c, uint64_t id)
{
	return hash_64(&id, sizeof(id), c->seed);
}
/* An effect that names this id was applied. */
void catalog_id_used(struct catalog *c, uint64_t id);

#define E(id, NAME, name)                                        \
	int name##_reserve(struct catalog *c, struct effect *e); \
	void name##_apply(struct catalog *c, struct effect *e);
EFFECTS(E)
#undef E

/* replay.c */

/* Is it one that a catalog in this state could have logged? -EBADMSG. */
int record_check(const struct catalog *c, const struct effect *e);

/* job.c */

struct job *catalog_job_find(const struct catalog *c, uint64_t id);
/* 0; -EIDRM, -ENXIO with words. */
int catalog_job_living(struct catalog *c, uint64_t id, struct outcome *out, struct job **ret);
struct slice job_name(const struct job *j);
/* What the job pays for changes; nothing once it has ended. */
void job_book(struct catalog *c, struct job *j, int64_t delta, uint64_t stamp_ns);
/* What the quota has room for. */
uint64_t job_room(const struct job *j);
/* Whether so many bytes more are within the quota; else -EDQUOT with words. */
int job_charge(const struct job *j, uint64_t bytes, struct outcome *out);
/* Something of an ended job is gone; perhaps it was the last. */
void job_rest(struct catalog *c, struct job *j);
/* From an image: what it was made with; what became of it is the caller's. -EBADMSG, -ENOMEM. */
int job_restore(struct catalog *c, const struct job_made_effect *m, uint64_t made_ns,
		bool is_living, struct job **ret);

/* entry.c */

struct hash_128 path_hash(const struct catalog *c, uint64_t job, struct slice path);
struct slice entry_path(const struct entry *e);
struct slice entry_attributes(const struct entry *e);
struct life *entry_life(const struct entry *e);
struct value *entry_value(const struct entry *e);
struct piece *entry_piece(const struct entry *e);
struct body **entry_body(const struct entry *e);
extern const struct index_ops ENTRY_OPS;
static inline struct entry *entry_of(const struct index_link *l)
{
	return l ? container_of((struct index_link *)l, struct entry, in_job) : NULL;
}

struct entry_plan {
	uint16_t path_len, attributes_len;
	bool has_life;
	enum content content;
};
struct entry *entry_alloc(const struct entry_plan *p);
/* None is more than its last one above, which who asks has seen to. */
void entry_set(struct entry *e, uint64_t version, uint64_t len, uint64_t made_ns);
bool entry_has_expired(const struct entry *e, uint64_t now_ns);
/* Of the path, whatever its state; NULL if there is none. */
struct entry *entry_find(const struct catalog *c, const struct job *j, struct slice path);
/* For whoever knows path_hash().hi of it already. */
struct entry *entry_find_hashed(const struct catalog *c, const struct job *j, struct slice path,
				uint64_t hash);
struct entry *entry_find_hash(const struct catalog *c, uint64_t job, struct hash_128 hash);
/* Visible: not expired. */
struct entry *entry_seen(const struct catalog *c, const struct job *j, struct slice path,
			 uint64_t now_ns);
struct slice directory_of(struct slice path);
struct directory *directory_find_hash(const struct catalog *c, uint64_t job, struct hash_128 hash);
struct directory *directory_find(const struct catalog *c, const struct job *j, struct slice path);
/* Memory for the directory of a new path, if it needs one. */
int directory_reserve(struct catalog *c, struct job *j, struct slice path, struct directory **ret);
/* The path's entry becomes visible; one that was there is gone. */
void entry_add(struct catalog *c, struct entry *e, struct hash_128 hash, struct directory **spare);
struct end {
	enum gone what;
	uint64_t attempt, at_ns; /* that removed it, and when */
	bool is_forgotten;       /* no record: its job is over */
	bool keeps_content;      /* it belongs to another entry now */
};
/* Leaves index and count; becomes a record, or a ghost with a record of its own memory. */
void entry_end(struct catalog *c, struct entry *e, const struct end *end, struct attempt **spare);
/* The same for one whose place `by` takes. */
void entry_replace(struct catalog *c, struct entry *e, struct entry *by, struct hash_128 hash,
		   const struct end *end, struct attempt **spare);
/* Gives back its bytes, and its memory too. */
void entry_free(struct catalog *c, struct entry *e, uint64_t at_ns);
int attempt_spare(const struct entry *e, struct attempt **ret);

/* look.c */

/* -ENOENT, -ETIME or -ENODATA with words. */
int catalog_missing(const struct catalog *c, const struct job *j, struct slice path,
		    uint64_t now_ns, struct outcome *ret);
void entry_stat(const struct entry *e, uint64_t now_ns, struct stat_rep *ret);
/* A directory's path with its last '/', in `buf` of PATH_BYTES_MAX + 1. -EMSGSIZE. */
int directory_path(struct slice path, uint8_t *buf, struct slice *ret);

/* attempt.c */

/*
 * Half of its 128 bits are kept: they only tell it from others at the same path. Those of one
 * client, which are counted, stay as far from each other as they are; 0: none.
 */
static inline uint64_t attempt_of(uint64_t hi, uint64_t lo)
{
	return lo + hi * 0x9e3779b97f4a7c15ull;
}
/* The memory that a new version of a path will touch, before it does. */
void attempt_expect(const struct catalog *c, const struct job *j, uint64_t path, uint64_t attempt);
struct attempt *attempt_by_put(const struct catalog *c, uint64_t path_hash, uint64_t attempt);
struct attempt *attempt_by_end(const struct catalog *c, uint64_t path_hash, uint64_t attempt);
/* Was a read of this version confirmed under this id? */
struct attempt *attempt_by_read(const struct catalog *c, uint64_t path_hash, uint64_t read,
				uint64_t version);
/* What became of the last object of a path that nobody removed; NULL: nothing is known. */
struct attempt *tombstone_find(const struct catalog *c, uint64_t path_hash);
/* Room for one in a block; NULL: no memory. */
struct attempt *attempt_new(struct job *j);
void attempt_free(struct job *j, struct attempt *a);
void attempt_add(struct catalog *c, struct job *j, struct attempt *a, uint64_t path_hash);
void tombstone_forget(struct catalog *c, uint64_t path_hash);
void attempt_drop_first(struct catalog *c, struct job *j);
/* The youngest so far, from an image. */
void attempt_restore(struct catalog *c, struct job *j, struct attempt *a, uint64_t put_hash,
		     uint64_t end_hash);
/* How often something of the job was replaced, removed, or came to its end. */
uint64_t job_changes(const struct job *j);
/* -ESTALE with words if an attempt that was not found may have been forgotten. */
int attempt_check(const struct job *j, uint64_t attempt, uint64_t since, struct outcome *out);

/* pool.c */

struct pool *catalog_pool_find(const struct catalog *c, uint64_t store);
int catalog_pool_reserve(struct catalog *c, uint64_t store);
/* From an image. -EBADMSG, -ENOMEM. */
int catalog_pool_restore(struct catalog *c, uint64_t store, struct slice address);

/* segment.c */

struct segment *catalog_segment_find(const struct catalog *c, uint64_t id, uint32_t generation);
uint64_t catalog_request_hash(const struct catalog *c, uint64_t session, uint64_t request);
/* Was anything committed in [front, back)? */
bool catalog_segment_is_claimed(const struct segment *s, uint32_t front, uint32_t back);
/* The longest run of pages in which nothing was; [size, size) if there is none. */
void catalog_segment_gap(const struct segment *s, uint32_t *ret_front, uint32_t *ret_back);
/* Ranges that a request names: each in a segment of its writer, and for the first time. */
struct range_check {
	const struct catalog *c;
	const struct job *job;
	const uint64_t *session; /* NULL: whosever it was, as in a record */
	struct outcome *out;
	struct range {
		const struct segment *segment;
		uint32_t from, to;
	} ranges[2 * EXTENTS_MAX];
	unsigned count;
};
/* -ESTALE, -EINVAL with words. */
int range_check(struct range_check *k, uint64_t id, uint32_t generation, uint32_t offset,
		uint32_t len);
/*
 * Checks the extents of a request: -ESTALE, -EINVAL with words. `session`: whose segments
 * they lie in; NULL for a record, which does not say.
 */
int extents_check(const struct catalog *c, const struct job *j, const uint64_t *session,
		  struct slice extents, uint64_t *ret_len, struct outcome *out);
/* They become pieces; their bytes are claimed and live. */
void pieces_make(struct catalog *c, struct slice extents, struct piece *pieces);
void extent_of_piece(const struct piece *p, struct extent *ret);
void catalog_live_sub(struct catalog *c, struct piece *p, uint64_t at_ns);
/* The piece is the same, in other memory. */
void piece_relocate(const struct piece *from, struct piece *to);
/* From an image: it is where it was. -EBADMSG. */
int place_restore(struct place *p, struct segment *s, uint32_t offset, uint32_t len);
/* The place is elsewhere from now on. */
void place_move(struct catalog *c, struct place *p, struct segment *to, uint32_t offset,
		uint64_t at_ns);
/* Counts what is dead in it, and where it stands among others. */
void catalog_segment_dying(struct segment *s);
void catalog_segment_seal(struct catalog *c, struct segment *s, uint32_t front, uint32_t back,
			  uint64_t at_ns);
/* Its writer's session is over. */
/* is_gone: of a process that does not come back, so it is nobody's. */
void catalog_segment_fence(struct catalog *c, struct segment *s, bool is_gone);
void catalog_segment_owe(struct segment *s);
/* The duty that follows from its state. False: none. */
bool catalog_segment_duty(const struct segment *s, struct duty *ret);
void catalog_segment_give_back(struct catalog *c, struct segment *s, uint64_t at_ns);
bool piece_is_lost(const struct piece *p);

/* lease.c */

/* A fenced segment is sealed with what was committed in it: nobody speaks for the rest. */
int segment_give_up(struct catalog *c, const struct segment *s, uint64_t now_ns);
/* The first of those that wait. */
int fenced_give_up(struct catalog *c, uint64_t now_ns);

/* body.c */

struct body *body_of(const struct entry *e);
uint32_t entry_piece_count(const struct entry *e);
/* The pieces from the one with byte `offset`, at most EXTENTS_MAX; ends behind `until`. */
uint32_t pieces_put(const struct entry *e, uint64_t offset, uint64_t until, struct wcur *payload,
		    uint64_t *ret_first, uint64_t *ret_end, bool *ret_is_lost);
void chunk_free(struct catalog *c, struct chunk *k, uint64_t at_ns);
void body_discard(struct catalog *c, struct body *b, uint64_t at_ns);
void open_discard(struct catalog *c, struct open *o);

/* open.c */

void open_init(struct open *o);
struct part *open_find_part(const struct open *o, uint32_t number);
/* A new one is made of *spare, which is taken. */
struct part *open_get_part(struct open *o, uint32_t number, struct part **spare);
struct open *catalog_open_find(const struct catalog *c, uint64_t id);
/* If it is there, and its session's: an effect. */
int open_give_up(struct catalog *c, const struct drop_req *req, uint64_t now_ns);
/* What it has, in order of the parts; it is gone then. */
void open_to_body(struct catalog *c, struct open *o, struct body *b);
void open_forget(struct catalog *c, struct open *o);
void open_drop(struct catalog *c, struct open *o);
/* One chunk of a dropped one. False: nothing is left, and it is freed. */
bool open_clear(struct catalog *c, struct open *o, uint64_t at_ns);

/* session.c */

struct session *catalog_session_find(const struct catalog *c, uint64_t id);
int session_reserve(struct catalog *c, uint64_t id, struct session **ret_made);
struct session *session_get(struct catalog *c, uint64_t id, struct session **spare);
/* Nothing is left in it: forgotten. */
void session_rest(struct catalog *c, struct session *s);

/* share.c */

/* All zero where there is none, or no session. */
struct share share_of(const struct catalog *c, const struct session *s, const struct job *j);
/* For one more; `s` NULL: of a session that begins with it. */
int share_reserve(const struct catalog *c, const struct session *s, const struct job *j,
		  struct share **ret_made);
/* So many more, or fewer, of the session, and of the job's share of it; that is new: *spare. */
void share_change(struct catalog *c, struct session *s, struct job *j, int holds, int opens,
		  struct share **spare);

/* hold.c */

struct hold *catalog_hold_find(const struct catalog *c, uint64_t id);
struct hold *read_find(const struct catalog *c, const struct entry *e, uint64_t hi, uint64_t lo);
/* What a LOOKUP of a session that is not over was given; NULL: nothing, or request is 0. */
struct hold *hold_find_request(const struct catalog *c, uint64_t session, uint64_t request);
/* Those of an entry, in any order. */
struct hold *hold_first(const struct catalog *c, const struct entry *e);
struct hold *hold_next(const struct hold *h);
/* It is of this entry from now on; it was of none. */
void hold_hang(struct catalog *c, struct hold *h, struct entry *e);
void hold_unhang(struct catalog *c, struct hold *h);
void hold_add(struct catalog *c, struct hold *h);
/* spare: a read is confirmed, and this is for the version, if that is gone with it; NULL: it is
 * not. */
void hold_end(struct catalog *c, struct hold *h, struct attempt **spare, uint64_t at_ns);

/* value.c */

/* Where a value of a job goes. *ret_is_new: a block is taken for it. */
void value_choose(const struct catalog *c, const struct job *j, uint32_t len, uint64_t *ret_at,
		  bool *ret_is_new);
/* -ENOSPC: no memory for another value segment. */
int value_reserve(struct catalog *c, uint64_t at, uint32_t len);
/* Behind the job's own values, or in a block that is nobody's. */
bool value_may_lie(const struct catalog *c, const struct job *j, uint64_t at);
/* Between reserve and claim: live, or in a replay into blank memory. */
void value_write(struct catalog *c, uint64_t at, struct slice bytes);
void value_claim(struct catalog *c, struct job *j, uint64_t at, uint32_t len, uint64_t at_ns);
void value_release(struct catalog *c, struct job *j, uint64_t at, uint64_t at_ns);
/* From images: a value of the job; the block where its next one goes. -EBADMSG, -ENOMEM, -ENOSPC.
 */
int value_restore(struct catalog *c, struct job *j, uint64_t at, uint32_t len);
int value_restore_block(struct catalog *c, struct job *j, uint32_t block, uint32_t used);
const uint8_t *value_bytes(const struct catalog *c, uint64_t at);
/*
 * Empty segments go back, a few at a time, but for one, which the next value would need again: that
 * of a slot without jobs would be one for each of them all.
 */
void values_tidy(struct catalog *c);
bool values_are_tidy(const struct catalog *c);
void values_fini(struct catalog *c);

/* fini.c */

void entry_free_now(struct entry *e);

/* snapshot.c: a thing is about to change, or to go. */

void snapshot_job_now(struct catalog *c, struct job *j);
void snapshot_session_now(struct catalog *c, struct session *s);
void snapshot_segment_now(struct catalog *c, struct segment *s);
void snapshot_pool_now(struct catalog *c, struct pool *p);
/* With its holds. */
void snapshot_entry_now(struct catalog *c, struct entry *e);
void snapshot_open_now(struct catalog *c, struct open *o);
void snapshot_debris_now(struct catalog *c, struct body *b);
void snapshot_attempt_now(struct catalog *c, struct job *j, struct attempt *a);
/* It is about to be one no more. */
void snapshot_tombstone_now(struct catalog *c, struct attempt *a);
/* `l` is about to leave its list. */
void snapshot_leave_now(struct catalog *c, struct list *l);

/* clang-format off */
#define SNAPSHOT(name, ...)                                                   \
	do {                                                                  \
		if (c->snapshot.is_running)                                   \
			snapshot_##name##_now(c, __VA_ARGS__);                \
	} while (0)
/* clang-format on */
