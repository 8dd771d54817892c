/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handle: what is behind wadi.h: a loop of the caller's own thread, a connection to a
 * proxy, and operations on fibers. A blocking call starts its operation and turns the
 * loop until it has ended; the others go on meanwhile.
 *
 *	handle.c   opening, errors, turning
 *	question.c what is asked, and the connection   closed.c   why it was not let in
 *	put.c get.c   whole objects       stream.c   writers and readers
 *	reserve.c  objects written in place   room.c  the pieces of an upload, likewise
 *	name.c     what needs no bytes: stat, remove, rename, wait, list
 *	op.c       operations in flight   job.c      jobs, tokens, totals
 *	ring.c     memory to ask through, on the proxy's host
 *	near.c     memory to copy from, likewise   mapping.c   what of it is mapped
 *	view.c     objects in place   sight.c   the index that leads to them
 *	resident.c small objects copied from there
 */
#pragma once

#include <errno.h>

#include "attach/near.h"
#include "base/spares.h"
#include "direct/direct.h"
#include "net/conn.h"
#include "shm/forked.h"
#include "wadi/wadi.h"
#include "wire/codec.h"
#include "wire/extent.h"

#define WHY_BYTES 200
/* An operation of any kind that is started, and its path, unless that is a long one. */
#define OP_BYTES 1152
#define TOO_MANY_OPS \
	"a handle has at most " TEXT_OF(FIBERS_PER_LOOP) " operations in flight: end some"

/* Pieces of one transfer that are on their way at once: the credit of a connection. */
#define LANES (CONN_CREDIT / TRANSFER_PIECE)

/* A program may have a thousand of them in turn, so what each operation touches comes first. */
struct wadi {
	struct direct *direct; /* whose are loop and net, and the proxy; NULL: it is elsewhere */
	struct loop *loop;
	struct net *net;
	struct conn *conn;
	struct forked forked;              /* since it was opened */
	bool (*is_interrupted)(void *arg); /* of its options; may be NULL */
	bool is_poisoned, is_saying_hello;
	bool was_left; /* the last one that was closed, by the other end */
	uint32_t timeout_ms;
	unsigned ended_count; /* operations, for wadi_turn() */
	unsigned op_count;
	unsigned connection;  /* counts up with each: what was open on an earlier one is gone */
	unsigned asked_count; /* questions on this one */
	struct wadi_attempt attempt;     /* the last one that we made up */
	uint64_t job, changes, heard_ns; /* changes: of the job, and when we heard of them */
	struct address address;
	struct near near;
	struct spares spare_ops; /* of OP_BYTES */
	struct list started;     /* operations that are to be ended */

	char job_name[JOB_NAME_BYTES_MAX + 1];
	struct conn *opening;   /* that has not been answered yet */
	const char *why_closed; /* the last one that was closed */
	void *interrupt_arg;
	struct waitq connected;
	struct call ring; /* asks for one */
	char endpoint[ADDRESS_TEXT_MAX], token[TOKEN_BYTES_MAX + 1];
	char why[WHY_BYTES]; /* words about an argument, for path_of() */
	char error[PATH_BYTES_MAX + WHY_BYTES + 300];
};

/* Of this handle and of no other: random from its beginning, and counted on. */
struct wadi_attempt attempt_next(struct wadi *w);

/* An operation on a fiber. The parts of wadi.h embed it beside their arguments. */
struct wadi_op {
	struct fiber fiber;
	struct wadi *w;
	int64_t (*run)(struct wadi_op *op); /* a count, or a negative errno */
	void (*free)(struct wadi_op *op);   /* of one that was started and not waited for */
	struct list link;                   /* likewise: of the handle */
	int64_t result;
	uint64_t due_ns;
	uint32_t timeout_ms;
	bool has_ended;
	uint64_t since; /* of its attempt: the changes of the job, before it was first sent */
	uint8_t renewals;
	bool has_since, is_stale; /* is_stale: so was the last question answered */
	bool is_unsure;           /* what was asked has perhaps happened, though nobody said so */
	bool is_lost;             /* what it had on a connection has gone with that */
	const char *verb;         /* for the error: "put", "get" */
	const char *what;         /* likewise: the path as given; may be NULL */
	char why[WHY_BYTES];
};

/* Zeros for one that is started: a head, and its path behind that. NULL without a path, too. */
void *op_alloc(struct wadi *w, size_t head, const char *path);
/* NULL is fine. */
void op_give(struct wadi *w, void *op, size_t head, const char *path);

/* A handle on a loop of somebody else's, as the simulator has it; address and timeout are set by
 * hand. */
int handle_init(struct wadi *w, struct loop *l);
/* Its memory, when its connections are closed and its net. NULL is fine. */
void handle_free(struct wadi *w);
/*
 * -EOWNERDEAD after fork, -ENOTRECOVERABLE if poisoned, else 0: then the handle is this thread's
 * from now on.
 */
int handle_check(struct wadi *w);
/* An answer said how often the job has changed. */
void handle_heard(struct wadi *w, uint64_t changes);
/* For the attempt of this operation: the same for all its repeats. Waits for a connection. */
uint64_t op_since(struct wadi_op *op);
/* The same for what cannot be made again when it is refused: asks first, if we heard long ago. */
uint64_t op_since_lately(struct wadi_op *op);
/*
 * After a refusal: was it for nothing but that the job has changed much since we heard of it? Then
 * the attempt is as young as now, and to be made again; a few times, for while it waits for room
 * a million objects may be removed, which are more changes than the job remembers.
 */
#define RENEWALS_MAX 8
bool op_renew(struct wadi_op *op, int result);
/* Of the last try of what is begun anew when it is STALE, which may have had no time for more. */
static inline int64_t op_in_time(const struct wadi_op *op, int64_t result)
{
	return result == -ESTALE && op->w->loop->now_ns >= op->due_ns ? -ETIMEDOUT : result;
}

/* -ENOMEM, said to be of this process. */
int op_no_memory(struct wadi_op *op);
/* Words about what was not allocated, or not named at all. */
static inline const char *why_no_room(const char *path)
{
	return path ? "in this process" : "no path was given";
}
/* Sets the fields for a call; `timeout_ms` 0: the handle's. */
void op_init(struct wadi_op *op, struct wadi *w, const char *verb, const char *what,
	     uint32_t timeout_ms, int64_t (*run)(struct wadi_op *op));
/* Starts it and turns until it has ended. Its result; the error is set. */
int64_t op_run(struct wadi_op *op);
/* If it fails, op->why says why. */
int op_start(struct wadi_op *op);
/* Turns until it has ended. */
int64_t op_finish(struct wadi_op *op);
/* The handle is closed: those that are in flight end, and nobody will end them. */
void ops_drop(struct wadi *w);
/* Sets the handle's error for a result, and returns that. */
int64_t handle_fail(struct wadi *w, const char *verb, const char *what, int64_t r, const char *why);

/* What this process may have no more of is no fault of the store. */
static inline int local_limit(int r)
{
	return r == -EMFILE || r == -ENFILE ? -EUSERS : r;
}

/* A Unix socket that this process may not connect to: why, and what to do. */
bool socket_is_closed(const struct address *a, char *buf, size_t cap);
/* It is there, and open to us: whoever listened at it was killed. */
bool socket_is_left(const struct address *a);

/* The path behind the job's name; -EACCES if it names another job. */
int path_of(struct wadi *w, const char *path, struct slice *ret, const char **ret_why);

/* Another question is about to be asked: from RING_AFTER on, a ring is worth its while. */
void handle_want_ring(struct wadi *w);
void handle_ring_closed(struct conn *c);

/* What an operation that had ended would have opened at the proxy is given back. */
void reply_late(struct conn *c, const struct frame *f, struct rcur *body);

/* On a fiber. */

/* A step of the operation has made progress: its deadline is counted anew. */
void op_progress(struct wadi_op *op);
/* For so long at most. -ECANCELED. */
int op_sleep(struct wadi_op *op, uint64_t ns);
/* Between two tries: so long at first, then twice as long each time, and `most_ns` at most. */
#define PAUSE_NS_MIN 1000000ull
#define PAUSE_NS_MAX 200000000ull
int op_pause(struct wadi_op *op, uint64_t *pause_ns, uint64_t most_ns);
/* The connection, opened anew if that is needed. */
int handle_conn(struct wadi_op *op, struct conn **ret);
/* Why an operation had what is gone: -ESTALE, or how its job ended, which nobody waits long for. */
int64_t handle_lost(struct wadi_op *op);
/*
 * One call, repeated while connections break: encode with call_body() into `body`,
 * which is kept. Ends with call_end(). `payload` may be NULL.
 */
struct question {
	struct wadi_op *op;
	uint16_t msg;
	struct body *kept;
	uint64_t sent_ns; /* the last time; 0: not yet */
	struct call call; /* room and room_cap: the caller's */
};
struct wcur question_begin(struct wadi_op *op, struct question *q, uint16_t msg);
int question_ask(struct question *q, const struct wcur *body, const struct payload *payload);
/* About what lives and dies with its connection, so without repeating: -ESTALE if that is gone. */
int question_ask_there(struct question *q, unsigned connection, const struct wcur *body,
		       const struct payload *payload);
void question_end(struct question *q);
/*
 * What was said of such a thing: -ESTALE if it went with its connection, or is not there. If that
 * is for its job has ended, the operation's result says so.
 */
static inline int op_gone(struct wadi_op *op, int r)
{
	if (r != -ECONNRESET && r != -ENOENT)
		return r;
	op->is_lost = true;
	return -ESTALE;
}

/* As wadi_wait() does; -ETIMEDOUT if there is none until then. `ret_stat` may be NULL. */
int wait_once(struct wadi_op *op, struct slice path, uint64_t due_ns, struct wadi_stat *ret_stat);

/* How an object is put: attempt and age are filled in. */
struct put_how {
	struct wadi_put_options options;
	bool is_callers; /* the attempt: so it may have been sent before */
	struct slice path;
	uint64_t begun_ns;
};
int put_how_init(struct wadi *w, struct put_how *how, const struct wadi_put_options *options);
int64_t put_object(struct wadi_op *op, const struct put_how *how, const void *data, size_t len,
		   uint64_t *ret_version);
void put_req_fill(struct put_req *req, const struct put_how *how, uint64_t now_ns);

/* Asked for at once, of the proxy's memory: a question for so much is lost beside the copy. */
#define ROOM_BYTES (4u << 20)

/* Where the next bytes of an upload are written. */
struct upload_room {
	struct mapping *mapping; /* NULL: there is none */
	uint8_t *data;
	uint64_t seed;
	uint32_t len, have; /* bytes; written */
	uint32_t crc;       /* of those that have no sum yet */
	uint8_t sums[ROOM_BYTES / CHECK_PIECE * 4];
};

/* An upload, as writers and long puts use it. */
struct lane {
	struct call call;
	struct payload payload;
	uint8_t *buf;   /* a writer's own */
	uint64_t began; /* how much had been sent before: the order of sending */
	bool is_busy;
};
struct upload {
	uint64_t put, allowed, sent; /* bytes that may be sent, and were */
	unsigned connection;
	int result; /* of a piece that failed */
	struct lane lanes[LANES];
	bool is_in_place; /* its bytes are written where they stay, while that is so */
	struct upload_room room;
};
int upload_open(struct wadi_op *op, struct upload *u, const struct put_how *how, uint64_t len_hint);
/* A lane that is free; waits for one. NULL: the upload has failed. */
struct lane *upload_lane(struct wadi_op *op, struct upload *u);
/* Sends a piece from `data`, which stays until the lane is free; waits for room first. */
int upload_send(struct wadi_op *op, struct upload *u, struct lane *lane, uint32_t part,
		uint64_t offset, const void *data, uint32_t len);
/* One of the pieces on their way has arrived; -EAGAIN if there is none. */
int upload_wait(struct wadi_op *op, struct upload *u);
int upload_settle(struct wadi_op *op, struct upload *u);
int upload_commit(struct wadi_op *op, struct upload *u, uint64_t *ret_version);
/* Cancels what is on its way, and tells the proxy. From anywhere. */
void upload_drop(struct wadi *w, struct upload *u);

/*
 * If it is in place: copies the next bytes of the part to their place. How many; the rest of them,
 * and whatever comes after them, is to be sent.
 */
int64_t room_write(struct wadi_op *op, struct upload *u, uint32_t part, uint64_t offset,
		   const uint8_t *data, size_t len);
/* The part ends with what was written, or the object. */
int room_end(struct wadi_op *op, struct upload *u);
/* So few bytes that there is room for them at hand: without a fiber. */
void room_fill(struct upload_room *m, const uint8_t *data, uint32_t len);
void room_leave(struct wadi *w, struct upload_room *m);

/* What is open under this number is dropped, in the background. */
void put_forget(struct wadi *w, uint64_t put);

/* Room in the proxy's memory that we write ourselves, where that may be. */
struct reserved {
	uint64_t put; /* 0: none */
	unsigned connection;
	size_t len;
	unsigned count;
	struct reserved_part *parts;
	struct mapping *mapping; /* of the part at hand */
	uint8_t *data;
};
bool room_is_possible(const struct wadi *w);
bool reserved_is_possible(const struct wadi *w, size_t len);
/* On failure there is nothing to be ended. */
int reserved_begin(struct wadi_op *op, size_t len, uint64_t begun_ns, struct reserved *ret);
/* As one range of addresses; to copy to its parts is cheaper, they may be mapped already. */
int reserved_map(struct wadi_op *op, struct reserved *v);
/* `data` NULL: it is mapped, and written. */
int reserved_put(struct wadi_op *op, struct reserved *v, const struct put_how *how,
		 const void *data, uint64_t since, uint64_t *ret_version);
void reserved_end(struct wadi *w, struct reserved *v);
/*
 * Summed, then copied, so little at a time that it is still in the nearest cache: that takes
 * little longer than the copy alone. What its owner changes in between is found DAMAGED.
 */
uint32_t copy_and_sum(uint8_t *to, const uint8_t *from, size_t len, uint32_t crc);
/* A result of those below: without them, the bytes may be had by the proxy all the same. */
bool is_for_the_socket(int r);
/* One copy, straight to its place. */
int put_in_place(struct wadi_op *op, const struct put_how *how, const void *data, size_t len,
		 uint64_t *ret_version);

struct get_how {
	struct wadi_get_options options;
	struct slice path;
	uint32_t near_from; /* of so many bytes and more none come first: near_copy(); or 0 */
	bool is_view;       /* none come of what the index leads to */
};
int get_how_init(struct wadi *w, struct get_how *how, const struct wadi_get_options *options);
int64_t get_object(struct wadi_op *op, const struct get_how *how, void *buf, size_t cap,
		   struct wadi_stat *ret_stat);
/*
 * Into new memory, the caller's, to be given back with node_free(); with how->is_view nothing of
 * what is in the index.
 */
int64_t get_object_new(struct wadi_op *op, const struct get_how *how, void **ret_data,
		       struct wadi_stat *ret_stat, bool *ret_is_in_index);
/* What a GET found. */
struct got {
	struct wadi_stat *ret_stat; /* in: NULL if nobody wants to know */
	uint64_t hold;
	unsigned connection;
	uint64_t version;
	uint64_t want;   /* bytes from the offset on that the caller asked for */
	uint32_t len;    /* that came with the first answer */
	bool is_counted; /* a `reads` object: the read is to be confirmed */
	bool is_in_index;
	bool is_near; /* bytes were copied from where they are: are they still good? */
};
/* Repeats of a get whose connection, or whose bytes, went away in the middle. */
#define GET_TRIES 4
/* The first `cap` bytes into `buf`, and a hold for the rest. */
int get_begin(struct wadi_op *op, const struct get_how *how, void *buf, uint32_t cap,
	      struct got *ret);
/* [at, at + len) counted from the start of the object. */
int get_range(struct wadi_op *op, struct got *g, uint64_t at, void *buf, uint64_t len);
/* What was copied from where it is: was it still to be read? */
int get_check(struct wadi_op *op, const struct got *g);
/* All has come, or nobody wants it any more. */
int get_end(struct wadi_op *op, struct got *g, bool is_whole);
/* The same without a fiber, in the background: what was held goes with its session otherwise. */
void get_forget(struct wadi *w, struct got *g);

void stat_from(struct wadi_stat *ret, const struct stat_rep *rep);
