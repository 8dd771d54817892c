/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core: the store core: what a proxy, a direct client and the volume do with the
 * store, written once. It knows where slots and segments are, leases segments and
 * fills them, commits, finds and reads.
 *
 * Everything here runs on one loop. What has `due_ns` in its signature waits and is
 * called from a fiber; the rest is called from anywhere on the loop.
 *
 *	shards.c  connections to the metadata shards, sessions, requests to a slot
 *	map.c     where those shards are, and who metadata says that we are
 *	stores.c  connections to storage servers on other hosts
 *	lease.c   segments leased by this process, and when they are given back
 *	write.c   room for bytes, and extents from what was written there
 *	place.c   room that functions of this host write themselves
 *	commit.c  objects made visible
 *	errand.c  what goes on when its asker has gone
 *	read.c    objects found, extents read and checked
 *	move.c    live bytes of a segment moved elsewhere
 *	serve.c   until when bytes of a job may be sent
 *	take.c    objects that others are told of
 */
#pragma once

#include "net/conn.h"
#include "net/reach.h"
#include "wire/codec.h"

struct core;
struct segment;

struct core_config {
	/* Metadata: in this process (to_shard), or at these addresses, of which any will do. */
	uint16_t shard_count; /* 0: asked for */
	int (*to_shard)(void *owner, uint16_t shard, struct stream **ret);
	const struct address *metas;
	unsigned meta_count;
	void *owner; /* of the callbacks; not ours */
	/*
	 * The roles' shared key; empty: none. Or, of a direct client, the token of its job: then
	 * metadata and stores hold us to that, the addresses may be of some shards only, and we
	 * connect when something is asked for, and say at once that we are refused.
	 */
	struct slice key;
	bool is_direct;

	/* The pool of this process, if it has one. */
	const struct reach_ops *reach_ops;
	struct reach *reach;
	uint64_t reach_store; /* its incarnation, which metadata is told */

	/*
	 * Sessions of a predecessor that is gone, by shard, SHARDS_MAX of them; 0: there was
	 * none. They are over when ours begin, which are told, for a successor. May be NULL.
	 */
	const uint64_t *sessions;
	void (*session_begun)(void *owner, uint16_t shard, uint64_t session);
	/*
	 * Those of its cores that have no successor: one at this shard that is not over yet, or 0.
	 * They are ended, one after the other, before ours begins. May be NULL, both.
	 */
	uint64_t (*session_left)(void *owner, uint16_t shard);
	void (*session_over)(void *owner, uint16_t shard, uint64_t session);

	/* A job is over: its connections are to be cut before this returns. May be NULL. */
	void (*job_over)(void *owner, uint64_t job);
	/*
	 * What object_take() found under this path holds no more, or of "" anything of the job. May
	 * be NULL.
	 */
	void (*forget)(void *owner, uint64_t job, struct slice path);
	/*
	 * Reads wait for room for their bytes, and have for PEER_STUCK_MS: whoever has what was
	 * read and does not take it is to be cut. May be NULL.
	 */
	void (*buffers_wanted)(void *owner);
	/* Nor does anything that was taken of the jobs of a shard, core_shard_of(). May be NULL. */
	void (*forget_shard)(void *owner, uint16_t shard);
};

int core_open(struct net *n, const struct core_config *config, struct core **ret);
/* What it does in the background ends; core_has_stopped() tells, some turns later. */
void core_stop(struct core *c);
bool core_has_stopped(const struct core *c);
void core_close(struct core *c); /* it has stopped, and so have those who use it */
/* What is open for nobody is given back, and what is to be undone is undone. */
void core_rest(struct core *c);
bool core_has_rested(const struct core *c);
/* After a rest: a direct client says at once again that nobody is there. */
void core_go_on(struct core *c);
/* True when every shard has answered HELLO. */
bool core_is_ready(const struct core *c);
int core_wait_ready(struct core *c, uint64_t due_ns);
struct net *core_net(const struct core *c);
struct loop *core_loop(const struct core *c);
/* Of a direct client: who it is, as metadata has it. On a fiber. */
struct identity {
	uint64_t job;               /* 0: of an operator whose own job lies in another shard */
	uint64_t changes, heard_ns; /* of the job, as HELLO was answered, and when that was */
	unsigned rights;
	uint16_t prefix_len;
	uint8_t job_name_len;
	uint8_t job_name[JOB_NAME_BYTES_MAX], prefix[PATH_BYTES_MAX];
};
int core_identify(struct core *c, uint64_t due_ns, const struct identity **ret, char *why,
		  size_t why_cap);
/* Requests that found no room, or nobody, and are about to be made again. */
unsigned core_waiting_count(const struct core *c);
/* Each store of other processes; NULL for one that does not answer. On a fiber. */
struct info_rep;
int core_stores_info(struct core *c, uint64_t due_ns,
		     void (*add)(void *owner, const struct info_rep *one), void *owner);
/* Words for a failed read or write: a storage server's own, if it is that it did not take us. */
const char *core_words(const struct core *c, int r, const char *otherwise);
uint16_t core_shard_count(const struct core *c); /* 0: not known yet */
uint16_t core_shard_of(const struct core *c, uint64_t job);

/* The running fiber does nothing until then. 0 or -ECANCELED. */
int core_sleep(struct core *c, uint64_t until_ns);
/*
 * The same between two tries, until due_ns at most. The first pause is CORE_PAUSE_NS, each later
 * one twice as long as the one before, up to a hundred times that.
 */
int core_pause(struct core *c, uint64_t *pause_ns, uint64_t due_ns);
#define CORE_PAUSE_NS 1000000ull

/*
 * A request to the shard of a slot. It is repeated when a connection or a session ends, or
 * there is no room at this moment, until it is answered or late: all requests of the core may
 * be repeated. Encode between ask_begin() and ask_wait(); ask_end() always.
 */
struct ask {
	struct core *core;
	uint16_t msg, slot;
	struct body *kept; /* the request, to be sent again */
	uint64_t sent_ns;  /* the last time; 0: not yet */
	unsigned sent_count;
	unsigned life;    /* of our session there, when it was last sent: shard_link.life */
	bool is_unheard;  /* there was no connection to send it on, to the end */
	struct call call; /* room, room_cap: set by the caller */
	char detail[160]; /* the peer's words about an error */
};
struct wcur ask_begin(struct core *c, struct ask *a, uint16_t msg, uint16_t slot);
int ask_wait(struct ask *a, const struct wcur *body, const struct payload *payload,
	     uint64_t due_ns);
static inline struct rcur ask_reply(const struct ask *a)
{
	return call_reply(&a->call);
}
void ask_end(struct ask *a);

/*
 * Whether core_send() may be of use now: of a direct client, when there is a connection. Else
 * core_reach() waits for that.
 */
bool core_is_reached(struct core *c, uint16_t slot);
int core_reach(struct core *c, uint16_t slot, uint64_t due_ns, char *why, size_t why_cap);
/* One try, without a fiber: call->done() tells. It begins with call_body(). */
void core_send(struct core *c, struct call *call, uint16_t msg, uint16_t slot,
	       const struct wcur *body, uint64_t due_ns);

/*
 * Segments that hold `need` bytes, none larger than `size`, for a put of this age, or a move.
 * least: likewise, as little as that is of use; 0: all of it.
 */
struct want {
	uint64_t job, need, least, age_ms;
	uint64_t author; /* who writes there by itself; 0: nobody */
	uint32_t size;
	bool is_move, is_whole;
};

/* A piece of room in a leased segment, pinned until it is ended. */
struct piece {
	struct segment *segment;
	struct segment *table; /* where its table of sums is, if it has one */
	uint32_t offset, len;
	uint8_t *ptr; /* `len` bytes: of the segment itself, or of a buffer if that is elsewhere */
	bool is_buffer, is_pinned;
};

/* Room for an object of one extent in the job's open segment. -EAGAIN: none without waiting. */
int piece_try(struct core *c, uint64_t job, uint32_t len, struct piece *ret);
/* The same, and leases: `age_ns` is the age of the put. `why` gets the server's words. */
int piece_reserve(struct core *c, uint64_t job, uint32_t len, uint64_t age_ms, uint64_t due_ns,
		  struct piece *ret, char *why, size_t why_cap);
/*
 * The bytes are there: sums them, sends them if the segment is elsewhere, and describes them. Their
 * table of sums may have to wait for room, too.
 */
int piece_fill(struct core *c, struct piece *p, uint64_t due_ns, struct extent *ret, char *why,
	       size_t why_cap);
/* Committed, or never to be. Fine after a failure. */
void piece_end(struct core *c, struct piece *p);

/*
 * place: room for an extent that a function of this host, its author, writes itself: in segments of
 * this process's pool that it alone may write, and which it has again while it is there. Nothing is
 * pinned: what is taken away meanwhile is STALE when it is committed.
 */
struct place {
	struct piece piece;
	uint64_t seed;
	uint32_t since;    /* the generation since which the segment's memory is this author's */
	bool is_all_of_it; /* nothing else is put into its segment */
};
/* Up to here one segment has room for what is reserved at once. */
#define PLACE_BYTES_MAX FRAME_PAYLOAD_MAX
/*
 * Places for an object, one after the other: one, or from PLACE_BYTES_MAX on up to `cap`. How many.
 * -EOPNOTSUPP: there is no such room; -EMSGSIZE: nor so much of it in one go. `want` has
 * no size.
 */
int places_reserve(struct core *c, const struct want *want, uint64_t due_ns, struct place *ret,
		   unsigned cap, char *why, size_t why_cap);
void place_tell(const struct place *p, struct reserved_part *ret);
/* A descriptor of its segment, to be written; the caller's. */
int place_export(struct core *c, const struct place *p, uint32_t *ret_size);
/* What the sums of it take: one for each CHECK_PIECE. */
size_t place_sums_len(const struct place *p);
/* Its author has written it, and summed it with the seed: place_sums_len() bytes, as on the wire.
 */
int place_fill(struct core *c, struct place *p, struct slice sums, uint64_t due_ns,
	       struct extent *ret, char *why, size_t why_cap);
/* Committed, or never to be. Fine after a failure. */
void place_end(struct core *c, struct place *p);
/* Others wait for space: a place is not kept for longer than HOLD_MS_MAX. */
bool places_are_short(struct core *c);
/* The author has ended, and has no place any more. */
void author_over(struct core *c, uint64_t job, uint64_t author);

/* How an object is put, beyond its bytes. */
struct how {
	uint64_t attempt_hi, attempt_lo, since, if_version; /* since: see messages.def */
	uint32_t ttl_ms, reads;
	uint16_t flags, tier, copies;
	struct slice path, attributes; /* not ours */
};

struct committed {
	uint64_t object, version, changes;
};

/* A small value, or up to EXTENTS_MAX extents, become an object. */
int object_commit_value(struct core *c, uint64_t job, const struct how *how, const void *value,
			uint32_t len, uint64_t due_ns, struct committed *ret, char *why,
			size_t why_cap);
int object_commit(struct core *c, uint64_t job, const struct how *how, const struct extent *extents,
		  uint32_t count, uint64_t due_ns, struct committed *ret, char *why,
		  size_t why_cap);

/*
 * fill: an object that comes in pieces, of known or unknown length, in numbered
 * parts. It has segments of its own, leased ahead; with an author, that may write there.
 */
struct fill;
int fill_open(struct core *c, uint64_t job, uint64_t author, uint64_t len_hint, uint64_t age_ms,
	      uint64_t due_ns, struct fill **ret, char *why, size_t why_cap);
/* How many bytes may come in all; grows with fill_ahead(). */
uint64_t fill_room(const struct fill *f);
/* True if as much as a writer has in flight may come without a lease. */
bool fill_is_ahead(const struct fill *f);
/*
 * Who fills it lacks room for so much. If what is leased for the length that was said cannot
 * promise that, its length is unknown from here on.
 */
void fill_needs(struct fill *f, uint64_t len);
/* Leases ahead, if that is needed. 0, or less of it was granted, by the job's quota or the stores.
 */
enum fill_short { FILL_NOT_SHORT, FILL_SHORT_OF_QUOTA, FILL_SHORT_OF_ROOM };
int fill_ahead(struct fill *f, uint64_t age_ms, uint64_t due_ns, char *why, size_t why_cap);
/*
 * Room for the next bytes of a part, up to `len`, in one piece. In the order of their
 * offsets within a part. -ENOBUFS: beyond fill_room(); -EINVAL: not the next bytes.
 */
int fill_take(struct fill *f, uint32_t part, uint64_t offset, uint32_t len, struct piece *ret);
/* The bytes of the piece that was taken last are there; it is ended. */
int fill_add(struct fill *f, struct piece *p, uint64_t due_ns);
/*
 * fill_take(), for the author: as a place, which it writes. -EOPNOTSUPP: it would not be in this
 * process. fill_given() ends it before anything else is taken: the author has written `used` bytes,
 * and summed them. -EINVAL: it says so of more than it has, or other sums; nothing more can be
 * added then.
 */
int fill_give(struct fill *f, uint32_t part, uint64_t offset, uint32_t len, struct place *ret);
int fill_given(struct fill *f, struct place *p, uint32_t used, struct slice sums);
/* The bytes of a piece did not come: nothing more can be added, or committed. */
void fill_spoil(struct fill *f, struct piece *p);
int fill_commit(struct fill *f, const struct how *how, uint64_t due_ns, struct committed *ret,
		char *why, size_t why_cap);
/* NULL is fine. What was not committed is given back. */
void fill_close(struct fill *f);

/*
 * mover: empties segments of this process's pool. What is live in them is copied to others of
 * the same pool, and the slot is told where it is now.
 */
struct mover;
struct mover_counters {
	uint64_t moved_bytes, emptied_count;
};
/* `emptied` tells how each one ended: 0, or an error, and then it may be tried again. */
int mover_open(struct core *c,
	       void (*emptied)(void *owner, uint64_t segment, uint32_t generation, int result),
	       void *owner, struct mover **ret);
/* Begins. -EAGAIN: there is enough to do, or it is one of a job that is being moved. */
int mover_empty(struct mover *m, uint64_t job, uint64_t segment, uint32_t generation);
const struct mover_counters *mover_counters(const struct mover *m);
void mover_stop(struct mover *m);
void mover_close(struct mover *m); /* its fibers have ended; NULL is fine */

/* An object that was looked up. */
struct found {
	uint64_t job, hold, first; /* first: offset of the first extent */
	uint64_t asked_ns;         /* when it was first asked for */
	struct errand *release;    /* while there is a hold: what will give it back */
	uint32_t extent_count, nth_try;
	unsigned life; /* of the session that has the hold: ask.life */
	struct stat_rep stat;
	uint32_t value_crc;
	uint64_t value_seed;
	uint32_t value_len;
	uint8_t attributes[ATTRIBUTES_BYTES_MAX];
	union {
		uint8_t value[EXTENTS_BYTES];
		struct extent extents[EXTENTS_MAX];
	} u;
};

/* `take`: how much is read at once; what goes beyond that gets a hold. */
int object_find(struct core *c, uint64_t job, struct slice path, uint64_t offset, uint32_t take,
		uint64_t read_hi, uint64_t read_lo, uint64_t due_ns, struct found *ret, char *why,
		size_t why_cap);
/*
 * An object that others are told of, who read it without asking while the serving lease holds,
 * until config.forget() or config.forget_shard() says otherwise. No hold. -EAGAIN: that was said
 * meanwhile; -EOPNOTSUPP: its reads are counted. Until the fiber waits again nothing is forgotten.
 */
int object_take(struct core *c, uint64_t job, struct slice path, uint64_t due_ns, struct found *ret,
		char *why, size_t why_cap);
/* The extents around another offset, under the hold. */
int object_find_on(struct core *c, struct found *f, uint64_t offset, uint64_t due_ns);
/* In the background; is_confirmed: a granted read is used up. */
void object_release(struct core *c, struct found *f, bool is_confirmed);
/* The same, and waits for the answer. -ESTALE: too late, others may have the read. */
int object_release_wait(struct core *c, struct found *f, bool is_confirmed, uint64_t due_ns);

/* Bytes of an object, checked, where they are: pinned, or in a buffer, until span_end(). */
struct span {
	struct payload payload; /* ptr, len */
	struct core *core;
	uint64_t segment;
	uint8_t *buffer;
	uint32_t buffer_len;
	bool is_pinned;
};

/*
 * Up to `take` bytes from `offset` on; fewer where an extent ends. -ESTALE: the bytes
 * were there and are gone, look up once more. -EIO: damaged.
 */
int object_read(struct core *c, struct found *f, uint64_t offset, uint32_t take, uint64_t due_ns,
		struct span *ret);
void span_end(struct span *s);

/*
 * Where the bytes are, for a function that maps segments of this process's pool: as many
 * NEAR_EXTENTs as have room, with their sums, from the one at `offset`, whose beginning is
 * *ret_first. How many, 0 if that one is not here; or an error.
 */
int object_near(struct core *c, struct found *f, uint64_t offset, uint64_t due_ns, struct wcur *to,
		uint64_t *ret_first);
/* A descriptor of a segment that object_near() named, the caller's; see reach.h. */
int core_export(struct core *c, uint64_t job, uint64_t segment, uint32_t generation,
		uint32_t *ret_size);
bool core_has_pool(const struct core *c);
/*
 * The bytes stay where they are, and their segment is not given back, until core_unpin(). -ESTALE:
 * they are not there any more; -EOPNOTSUPP: they are not in this process.
 */
int core_pin(struct core *c, uint64_t job, uint64_t segment, uint32_t generation, uint32_t offset,
	     uint32_t len);
void core_unpin(struct core *c, uint64_t segment);
/* See reach.h. */
void core_hold_views(struct core *c, uint64_t job, bool is_held);

/*
 * The serving lease: bytes of a job may be sent until *ret_until_ns, which moves on while
 * the shard of the job answers us. When it does not, or when we were stopped, the job may have
 * ended without our hearing of it. core_served() when they were sent, or dropped.
 */
int core_serve(struct core *c, uint64_t job, uint64_t due_ns, const uint64_t **ret_until_ns);
void core_served(struct core *c, uint64_t job);
