/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "core/core.h"
#include "wire/extent.h"

/* A connection to a shard of the metadata server, with our session there. */
struct shard_link {
	struct core *core;
	uint16_t index;
	struct address address;
	struct conn *conn;
	bool is_ready;
	uint64_t session, epoch; /* epoch 0: ours has not begun */
	unsigned life;           /* how often it began, or began again after it was over */
	uint64_t left;           /* the session that HELLO ends, before ours begins; or 0 */
	struct call hello, beat;
	uint64_t beat_ns; /* when one was answered, or the link began */
	struct timer again, beat_timer;
	uint32_t pause_ms; /* before the next attempt to connect */
	struct waitq ready;
	unsigned waiting_count; /* for it to be ready */

	/* Of a direct client. */
	bool was_ready;
	int refusal; /* why nobody waits any more; of this try if is_refused */
	unsigned refusal_count;
	bool is_refused;
	char why[160]; /* it is not ready */

	/* map.c: of a direct client's first. */
	unsigned meta; /* which of the addresses that were given */
	struct call map;

	/* serve.c */
	uint64_t serve_until_ns, renew_sent_ns;
	unsigned serving_count; /* answers on their way */
	struct call renew;
	struct timer renew_timer;
	struct waitq renewed;
};

/* A connection to a storage server of another process. */
struct store_link {
	struct list link;
	struct core *core;
	uint64_t store;
	struct address address;
	struct conn *conn;
	bool is_connecting, is_ready; /* ready: it has answered HELLO */
	unsigned user_count;          /* who look for a connection */
	uint64_t used_ns;             /* when somebody last did */
	struct waitq ready;
};

/*
 * segment: leased by this process, filled like a log. Single extents are packed from
 * the back, pieces of large objects take pages from the front.
 *
 *	OPEN --full, idle, fenced--> SEALING --last reservation ended--> settled, forgotten
 *	  +--- session lost, job over --> LOST --last reservation ended--> forgotten
 *
 * Whose it is, and when it is free again, the catalog decides.
 */
enum segment_state { SEGMENT_OPEN, SEGMENT_SEALING, SEGMENT_SETTLING, SEGMENT_LOST };

struct segment {
	struct list link; /* of the core's */
	struct core *core;
	uint64_t id, key, store, job;
	uint64_t author; /* the function that it was leased for; 0: what it is not to write */
	uint32_t generation, size;
	uint32_t front, back; /* used are [0, front) and [back, size) */
	enum segment_state state;
	bool is_last_of_quota; /* it was less than was asked for, as the job's quota has no more */
	unsigned reservation_count;
	uint64_t used_ns; /* when something was last put into it */
	struct fiber fiber;
};

/* What this process writes for one job, or one function of it by itself. */
struct writer {
	struct hlink link;
	uint64_t job, author; /* author 0: this process */
	struct segment *open; /* for objects of one extent */
	uint64_t wrote;       /* bytes, since it last had nothing open */
	bool is_leasing;
	unsigned user_count;
	struct waitq leased;
};

struct core {
	struct net *net;
	struct loop *loop;
	struct core_config config;
	struct shard_link *links[SHARDS_MAX]; /* [0] alone while shard_count is not known */
	uint16_t shard_count;
	struct identity identity; /* of a direct client */
	struct waitq sleeping;
	unsigned waiting_count; /* requests that are to be asked again */
	struct list stores;
	int store_refusal; /* what HELLO was last answered by one */
	char store_words[160];
	struct htable writers;
	struct list segments;
	unsigned settling_count; /* of them */
	struct list takings;     /* on their way */
	struct timer tidy;
	struct list errands; /* requests that run by themselves */
	unsigned errand_count;
	struct errand *spare_errand;
	uint64_t buffer_bytes;  /* for segments elsewhere: at most BUFFER_BYTES_MAX */
	struct waitq buffering; /* reads that wait for room there */
	struct timer wanting;   /* while some do: when to say so */
	uint64_t number;        /* the last one that was given, see number_next() */
	bool is_closing;
};

/*
 * An extent's seed, or a request's number: as good as unique, random from the core's beginning
 * and never twice in its life.
 */
static inline uint64_t number_next(struct core *c)
{
	return c->number += 0x9e3779b97f4a7c15; /* odd, so all 2^64 come before any comes again */
}

/* object_find() and object_take(): job and request are filled in. */
int object_look_up(struct core *c, const struct lookup_req *req, uint64_t due_ns, struct found *ret,
		   char *why, size_t why_cap);

/* The extent with a byte of the object, among those at hand; NULL: not among them. */
const struct extent *extent_at(const struct found *f, uint64_t offset, uint32_t *ret_at);

void serve_init(struct shard_link *l);
void serve_fini(struct shard_link *l);
/* A request that was sent then has been answered on the connection that we hear of ends by. */
void serve_heard(struct shard_link *l, uint64_t sent_ns);
/* HEARTBEAT was refused: the session is over. */
void link_session_over(struct shard_link *l);
int link_wait(struct shard_link *l, uint64_t due_ns);
/* A link that is not connected yet. NULL: no memory. */
struct shard_link *link_new(struct core *c, uint16_t index);
void link_free(struct shard_link *l);
/* It has all that is needed: who waits goes on. */
void link_begin(struct shard_link *l);
/* Of a direct client: who waits is told, and nobody waits for another try. */
void link_refuse(struct shard_link *l, int r, const char *why);

/* Behind HELLO: where are the shards? When it is known, the link begins. */
void map_ask(struct shard_link *l);
void map_fini(struct shard_link *l);
/* What HELLO was answered. */
int identity_set(struct core *c, const struct hello_rep *rep);

/* take.c: what is on its way is not taken. Empty: all of the job. */
void takings_spoil(struct core *c, uint64_t job, struct slice path);
void takings_spoil_shard(struct core *c, uint16_t shard);

int shards_open(struct core *c);
void shards_close(struct core *c);
struct shard_link *shard_of(struct core *c, uint16_t slot);

/*
 * The running fiber gets a connection to a storage server; the shard of the slot is asked where
 * that is. -EHOSTUNREACH: nobody knows, or nobody is there.
 */
int store_conn(struct core *c, uint64_t store, uint16_t slot, uint64_t due_ns, struct conn **ret);
/*
 * After a READ or a WRITE, which may be repeated: a store that was killed is back soon,
 * perhaps. True, after a while: ask again. In the end the result is what it was at first.
 */
struct store_wait {
	uint64_t until_ns;
	int first;
};
struct store_wait store_wait_begin(const struct core *c, uint64_t due_ns);
bool store_comes_back(struct core *c, struct store_wait *w, int *result);
void stores_tidy(struct core *c); /* forgets those that nobody has reached for a while */
void stores_close(struct core *c);

bool segment_is_near(const struct segment *s);
struct segment *segment_new(struct core *c, uint64_t job, const struct grant *g);
/*
 * Who has its bytes and needs a little more comes before those who have none yet: it could wait
 * for one who waits for what it has. As old as no put.
 */
#define HOLDER_AGE_MS (60ull * 60 * 1000)
/* Up to `cap` of them. The count, at least 1. */
int segments_lease(struct core *c, const struct want *want, uint64_t due_ns, struct segment **ret,
		   unsigned cap, char *why, size_t why_cap);
/* For `len` bytes from who wrote so much: what is open is no more than that, or what is at hand. */
uint32_t segment_size_after(uint64_t len, uint64_t wrote);
/* Room at the front, on a page, or at the back. -EAGAIN: not enough, or no longer open. */
int segment_take(struct segment *s, uint32_t len, bool is_paged, uint32_t *ret_offset);
/* No more is put into it. */
void segment_seal(struct segment *s);
void segment_reserved(struct segment *s);
void segment_unreserved(struct segment *s);
/* Everything that belongs to a job that is over, or to a session that nobody knows, is lost. */
void segments_lose(struct core *c, uint64_t job, struct shard_link *link);
/*
 * An epoch of the session is over: its segments take no more bytes. What is complete in them
 * may be committed by the next one, which settles them then.
 */
void segments_fence(struct core *c, struct shard_link *link);

void leases_open(struct core *c);
void leases_rest(struct core *c); /* seals what nobody writes to right now */
void leases_stop(struct core *c);
bool leases_are_settling(const struct core *c);
void leases_close(struct core *c);

/* piece_reserve(), in what this function writes by itself. */
int author_reserve(struct core *c, uint64_t job, uint64_t author, uint32_t len, uint64_t age_ms,
		   uint64_t due_ns, struct piece *ret, char *why, size_t why_cap);
/* Room for a short run of bytes that go with another extent: its table of sums. */
int table_reserve(struct core *c, uint64_t job, uint32_t len, uint64_t due_ns, struct piece *ret,
		  char *why, size_t why_cap);
/*
 * The table of a long piece goes where short objects go. `sums`: all of them, as they are to lie
 * there; NULL: they are made of the bytes.
 */
int piece_table(struct core *c, struct piece *p, const void *sums, uint64_t due_ns,
		struct extent *ret, char *why, size_t why_cap);
/* Its bytes are where they belong, and not ours to touch any more; the room stays reserved. */
void piece_leave(struct core *c, struct piece *p);
/*
 * The author may write there from now on. The bytes come later, and nobody waits for them: the
 * segment may go meanwhile.
 */
int place_let_write(struct core *c, uint64_t author, struct place *p);
/* Sends the bytes to their segment if that is elsewhere. */
int piece_send(struct core *c, struct piece *p, uint64_t due_ns);
/* Of `buffer_bytes`. */
void buffers_open(struct core *c);
void buffers_close(struct core *c);
void buffer_given_back(struct core *c, uint64_t len);
/* A window into a segment: pinned memory of this process, or a buffer. */
int piece_at(struct core *c, struct segment *s, uint32_t offset, uint32_t len, struct piece *ret);

/* An object whose extents are told to the catalog piece by piece. */
struct open_object {
	struct core *core;
	uint64_t job, id;
	struct errand *drop; /* while it is open */
};
int open_object_begin(struct open_object *o, uint64_t due_ns, char *why, size_t why_cap);
int open_object_extend(struct open_object *o, uint32_t part, uint64_t offset,
		       const struct extent *extents, uint32_t count, uint64_t due_ns);
int open_object_commit(struct open_object *o, const struct how *how, uint64_t due_ns,
		       struct committed *ret, char *why, size_t why_cap);
/* In the background; the session's end does it too. */
void open_object_drop(struct open_object *o);

/* False: what was asked has perhaps happened, or may yet. */
bool is_answer(int r);
/*
 * By who gives something back: as long as there is no answer, or the log has no room, which it will
 * have again.
 */
bool is_to_be_repeated(int r);

/* Makes use of an answer; -ENOMEM: it is asked for once more. */
typedef int errand_fn(struct core *c, uint64_t job, struct ask *a);
/* -EUSERS: as many run already as may; -ENOMEM. With words. */
int errand_new(struct core *c, uint64_t job, struct errand **ret, char *why, size_t why_cap);
void errand_free(struct errand *e); /* of one that was not started */
/*
 * Asks by itself until there is an answer, which `answered` gets; NULL: nobody. The body is
 * copied, the errand taken. What is asked must be the same however often it is asked.
 */
void errand_start(struct errand *e, uint16_t msg, const struct wcur *body, errand_fn *answered);
void errands_look(struct core *c); /* those that found no stack */
void errands_stop(struct core *c);
void errands_close(struct core *c);
