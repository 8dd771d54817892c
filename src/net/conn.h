/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn: an intake with a transport. It serves the peer's requests by a table of
 * handlers and carries our calls to the peer; either end may do both.
 *
 *	a request:  frame --> place() if it has a payload --> serve() --> request_reply()
 *	a call:     call_body() --> call_send() --> call_wait() or done() --> call_end()
 *
 * - place() says where a payload goes: request_place(), once or piece by piece; or
 *   request_sink(), which reads and drops it and answers with an error. It may do so
 *   later (the connection reads nothing meanwhile, so only for what is bounded).
 *   Without a place(), payloads up to BODY_BYTES go into the request's own buffer.
 * - serve() runs when the request is whole. It replies at once, or keeps the request
 *   and replies later, or turns it into a parked call of 96 bytes.
 * - Each request is answered exactly once, by request_reply() or request_fail(); that
 *   frees it. If the connection closes first, `closed` of the request is called, if
 *   there is one, and the answer, which is still owed, goes nowhere. What request_sink()
 *   refused is net's to answer: its `closed` is not called.
 * - A call ends exactly once: with the reply, its deadline (-ETIMEDOUT), call_cancel()
 *   or the end of the connection (-ECONNRESET); never inside call_send().
 * - Payloads that are sent are not copied: they stay until `sent` is called. Behind one
 *   above FRAME_FREE_PAYLOAD goes a second frame that confirms it, so one whose source
 *   is gone is filled up and taken back (FRAME_ABORT), and the connection goes on.
 *
 * Between two connections of one net that are the ends of a pair, frames are handed over and
 * their bytes are not checked: they are our own. A fiber that asks there (call_ask()) is
 * served on its own stack.
 *
 * A connection is closed by conn_close(), by its peer, or by a broken frame. When the
 * last of its requests has been answered, service->closed() is called, once, and the
 * connection is freed: whoever keeps a pointer to it has a service for that.
 */
#pragma once

#include "base/htable.h"
#include "base/list.h"
#include "loop/loop.h"
#include "loop/stream.h"
#include "wire/codec.h"
#include "wire/intake.h"

#define BODY_BYTES FRAME_BODY_MAX

struct conn;
struct request;
struct net;

/* A buffer for one body, from the loop's pool. */
struct body {
	union {
		struct body *next;
		uint8_t bytes[BODY_BYTES];
	} u;
};

/* What connections of one loop share: buffers and counters. */
struct net_counters {
	uint64_t conn_count, request_count, call_count, received_bytes, sent_bytes, refused_count;
};

int net_open(struct loop *l, struct net **ret);
/* How many connections there may be, CONNS_MAX unless said otherwise. */
void net_limit_conns(struct net *n, unsigned conns_max);
/* How much memory its peers may leave unread, UNREAD_BYTES_MAX unless said otherwise. */
void net_limit_unread(struct net *n, size_t bytes);
void net_close(struct net *n);         /* its connections have been closed, and a turn has passed */
struct body *body_take(struct net *n); /* NULL: no memory */
struct body *body_give(struct net *n, struct body *b); /* returns NULL; NULL is fine */
struct loop *net_loop(const struct net *n);
const struct net_counters *net_counters(const struct net *n);

/* Bytes on their way out, where they are: the owner embeds it. */
struct payload {
	const void *ptr;
	size_t len;
	void (*sent)(struct payload *p); /* may be NULL: the bytes are there for good */
	size_t kept;                     /* memory that stays for it until then */
};

struct handler {
	void (*serve)(struct request *r);
	/*
	 * Calls request_place() or request_sink(), now or later, also if the connection
	 * closes meanwhile (request.closed tells): the request is then dropped and freed.
	 */
	void (*place)(struct request *r);
	/* Placed, in part at least, and will never be served: gives back what place() took. */
	void (*drop)(struct request *r);
};

/* A server: the messages that it serves, and the end of connections. */
struct service {
	enum server server;
	struct handler handlers[MESSAGE_COUNT]; /* by enum message_index; empty: UNSUPPORTED */
	void (*closed)(struct conn *c);         /* may be NULL */
	/*
	 * The good answer to a call that had ended before it came: what it opened at the peer
	 * is nobody's. May be NULL.
	 */
	void (*late)(struct conn *c, const struct frame *f, struct rcur *body);
};

/*
 * What a connection was opened for, set by the handler of HELLO. `role` ROLE_COUNT:
 * nothing yet, and only messages that may come FIRST are served.
 */
struct access {
	enum role role;
	uint64_t job; /* of ROLE_JOB */
	unsigned rights;
	uint64_t valid_until_ns; /* by the wall clock; 0: for good */
	uint16_t prefix_len;
	uint8_t prefix[PATH_BYTES_MAX];
};

struct conn {
	struct net *net;
	const struct service *service; /* NULL: the peer may not call */
	void *owner;                   /* not ours: the server's or client's */
	void *state;            /* the service's own, of this connection; freed in its closed() */
	struct access *access;  /* NULL until HELLO; freed with the connection by node_free() */
	struct conn_priv *priv; /* net's own */
	bool is_closed;
	struct list link; /* the owner's, for a list of its connections */
	struct peer peer;
};

/* Takes the stream. NULL: no memory, or far too many; the stream is closed then too. */
struct conn *conn_open(struct net *n, struct stream *s, const struct service *service, void *owner);
/* In two steps: nothing is served any more; it is freed at the end of the turn. */
void conn_close(struct conn *c);
/* Why it closed, for a log line: "the peer closed it", "not our protocol" ... */
const char *conn_why_closed(const struct conn *c);
/* It was connected, and closed because its stream ended or broke: nothing was wrong with it. */
bool conn_was_left(const struct conn *c);
/* True once the stream has connected or anything has arrived. */
bool conn_is_connected(const struct conn *c);
/* Bytes queued for sending; doors push back by it. */
size_t conn_unsent(const struct conn *c);
/* For how long its peer has taken nothing of what waits for it; 0 if nothing does. */
uint64_t conn_stuck_ns(const struct conn *c);
/* So much memory is kept until its peer has read what comes before, and is not any more. */
void conn_keep(struct conn *c, size_t bytes);
void conn_unkeep(struct conn *c, size_t bytes);

/*
 * Frames through memory that both ends map (shm/ring.h), beside those through the stream. A
 * request that fits a slot goes there while one is free, and so does its answer; all else
 * goes as before. Who calls or serves sees no difference but that of two calls in flight the
 * later one may come first; PUT_DATA, whose order counts, goes through the stream. The
 * memory is the caller's; it stays until service->closed().
 */
struct ring_memory;
/* For who serves. `fd`, the memory's, goes to the peer before all that is sent from now on, and
 * with it the descriptor at which the peer rings. */
int conn_serve_ring(struct conn *c, struct ring_memory *m, int fd);
/* For who calls: with both of these, which have come. Takes `event`. */
int conn_call_ring(struct conn *c, struct ring_memory *m, int event);
/*
 * To the peer, before all that is sent through the stream from now on. Takes them, whatever is
 * returned; one that is negative is the error that is.
 */
int conn_pass_fds(struct conn *c, const int *fds, unsigned count);
/* Descriptors that have come from the peer: stream_take(). */
unsigned conn_take_fds(struct conn *c, int *fds, unsigned cap);

/* A request that is being served. */
struct request {
	struct conn *conn; /* stays valid until the answer, even when closed */
	struct frame frame;
	uint64_t due_ns;
	uint8_t *payload; /* as placed first; NULL if there is none */
	uint32_t payload_len;
	void *owner; /* the handler's */
	/* The answer is not sent any more by then, the connection is cut instead. NULL: never. */
	const uint64_t *until_ns;
	void (*closed)(struct request *
			       r); /* the handler's: the connection is gone; still to be answered */

	/* net's own. */
	struct list link;
	struct body *body, *answer, *own_payload;
	const struct handler *handler;
	int refusal; /* a negative errno: it is read, dropped and refused */
	bool is_placed;
	bool is_from_twin;                                    /* twin.c's */
	bool is_in_ring, is_stepping, is_placing, is_waiting; /* ring.c's */
	unsigned ring_slot;
	uint32_t have; /* of either: bytes of the payload that have a place */
	char why[120];
};

/* The body, to decode. */
struct rcur request_body(const struct request *r);

/* How much of the payload has no place yet. */
uint32_t request_payload_left(const struct request *r);
/* In place(), or later: the next `len` bytes of the payload go to `ptr`. */
void request_place(struct request *r, void *ptr, uint32_t len);
/* All of a payload of up to BODY_BYTES goes into a buffer of the request's own. False: no memory.
 */
bool request_place_own(struct request *r);
/* Reads and drops what is left of the payload, then answers with the error; serve() is not called.
 */
void request_sink(struct request *r, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/*
 * Of one that has a place, in part at least, and is not served yet: that place is about to go.
 * Calls drop() at once; what is still to come is read and dropped, and then it is answered with the
 * error.
 */
void request_unplace(struct request *r, int err, const char *why);
/* The same of what is coming in, if it is such a one. */
void conn_unplace(struct conn *c, int err, const char *why);

/* An answer: encode into request_answer(), then send. `payload` may be NULL. */
struct wcur request_answer(struct request *r);
void request_reply(struct request *r, const struct wcur *body, struct payload *payload);
/* An answer with an error: `err` is a negative errno of status.def, `format` its detail (may be
 * NULL). */
void request_fail(struct request *r, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* A request that waits for somebody else's event. The owner embeds it; at most 96 bytes in all. */
struct parked {
	struct list link; /* of the connection */
	struct conn *conn;
	struct heap_link due;
	uint32_t call;
	uint16_t msg, slot;
};
/* Frees the request; the parked call stands for it until it is answered or parked_drop()ped. */
void request_park(struct request *r, struct parked *p);
void parked_drop(struct parked *p);
/* The call is in `to` from now on, and has no due time there. */
void parked_move(struct parked *from, struct parked *to);
struct wcur parked_answer(struct parked *p);
void parked_reply(struct parked *p, const struct wcur *body);
void parked_reply_with(struct parked *p, const struct wcur *body, struct payload *payload);
void parked_fail(struct parked *p, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* In service->closed(): those of this connection that are left. NULL if none. */
struct parked *conn_next_parked(struct conn *c);

/* A request of ours. The caller embeds it; between call_send() and its end nobody else touches it.
 */
struct call {
	int result;         /* when it has ended: 0, or a negative errno from the reply's status */
	struct frame frame; /* of the reply */
	/* In: where the reply's payload goes; a longer one is -EMSGSIZE. Out: how much came. */
	void *room;
	size_t room_cap, room_len;
	void (*done)(struct call *c); /* NULL if a fiber waits */
	void *owner;                  /* the caller's */

	/* net's own. */
	struct net *net;
	struct conn *conn; /* NULL once the connection is gone */
	struct hlink by_id;
	struct timer timer;
	struct waitq ended;
	struct body *body;       /* of the request until it is sent, then of the reply */
	struct sending *sending; /* while not all of it is sent */
	bool is_pending;
	bool is_in_ring; /* its answer will be there */
	uint8_t overdue_turns;
};

/* Begins: a body to encode into. -ENOMEM makes the cursor bad. */
struct wcur call_body(struct net *n, struct call *c);
/*
 * Sends. `payload` may be NULL; its bytes are not needed any more when the call has
 * ended. Errors are reported as the call's end, in a later turn.
 */
void call_send(struct conn *conn, struct call *c, uint16_t msg, uint16_t slot,
	       const struct wcur *body, const struct payload *payload, uint64_t due_ns);
/* The running fiber waits for the end; returns the result. -ECANCELED ends the call too. */
int call_wait(struct call *c);
/* Both; what a twin answers at once is there without a wait. */
int call_ask(struct conn *conn, struct call *c, uint16_t msg, uint16_t slot,
	     const struct wcur *body, const struct payload *payload, uint64_t due_ns);
/* The reply's body; empty if there is none. Valid until call_end(). */
struct rcur call_reply(const struct call *c);
/* The peer's words about an error, "" if there are none. Into `buf`, with a NUL; returns buf. */
const char *call_detail(const struct call *c, char *buf, size_t cap);
/* Ends it at once, without done(). Fine after its end. */
void call_cancel(struct call *c);
/* A deadline counted anew, of a call that is pending. */
void call_extend(struct call *c, uint64_t due_ns);
/* Gives the buffers back; every call needs it, whatever its result. */
void call_end(struct call *c);
