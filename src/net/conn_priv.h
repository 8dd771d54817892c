/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_priv: what the files of net/ share: pools, the send queue, and the two halves
 * of a connection. conn.c receives, send.c sends, request.c answers, call.c asks; ring.c does
 * both through memory that two processes map, twin.c within one net.
 */
#pragma once

#include "base/spares.h"
#include "loop/bell.h"
#include "net/conn.h"
#include "shm/ring.h"

/* One system call brings up to so much; a longer payload then goes straight to its place. */
#define SCRATCH_BYTES (64u << 10)
/* Frames up to JOINED_MAX are written side by side: with a piece less the kernel takes less time
 * than that, 0.13 us for the three of a KiB. */
#define JOINED_BYTES (16u << 10)
#define JOINED_MAX   (INLINE_BYTES_MAX + 512)
/* While there is no room for what is not read, a system call brings so much. */
#define SHORT_BYTES BODY_BYTES

/*
 * Bytes taken from, and given to, one connection before others have their turn: as many as are
 * copied in 50 us (LOOP_PIECE) while others are heard, and more when nobody was for a while, since
 * each stop costs whoever moves a MiB a fifth of his time.
 */
#define TURN_BYTES_ALONE (1u << 20)
#define TURN_ALONE_NS    2000000

struct net {
	struct loop *loop;
	struct net_counters counters;
	struct body *spare_bodies;
	unsigned spare_body_count;
	struct spares spare_requests, spare_sendings;
	unsigned conns_max, served_count;
	size_t unread_bytes, unread_max;
	size_t share;      /* of it, that a connection may keep */
	struct list stuck; /* connections whose peers take nothing, for longest mostly first */
	struct timer cut;  /* runs while there is more unread than may be */
	/* The last one, but for twins, and since when. NULL: it is gone. */
	const struct conn *heard;
	uint64_t heard_from_ns;
	uint64_t asked_run;             /* the run of a fiber that has asked a twin at once */
	uint8_t scratch[SCRATCH_BYTES]; /* what recv() brings */
	uint8_t sink[SCRATCH_BYTES];    /* where payloads go that nobody wants */
	uint8_t junk[BODY_BYTES];       /* bodies of late replies */
	uint8_t joined[JOINED_BYTES];   /* short frames on their way out */
};

static inline size_t turn_bytes(const struct net *n)
{
	return n->loop->now_ns - n->heard_from_ns < TURN_ALONE_NS ? LOOP_PIECE : TURN_BYTES_ALONE;
}

/* A frame on its way out: header, body, payload, and the frame that confirms the payload. */
struct sending {
	struct list link;
	struct frame frame;
	struct body *body;
	const uint8_t *payload;
	uint32_t trailer_len;
	uint32_t unread;          /* what it counts of conn_priv.unread_bytes */
	uint64_t sent;            /* bytes, of all four */
	struct payload *owner;    /* to be told; NULL: nobody */
	const uint64_t *until_ns; /* not to be sent any more by then; NULL: never */
	struct call *call;        /* that it belongs to, until all is sent */
	uint8_t *copy;            /* of a short payload whose source is gone */
	bool is_filled;           /* zeros instead of the payload: it is taken back */
	bool is_short;            /* its body has no more memory than bytes */
	uint8_t header[FRAME_HEADER_SIZE], trailer[FRAME_HEADER_SIZE]; /* once bytes are sent */
};

/* Of thousands of connections each request finds its own cold, so what it touches comes first. */
struct conn_priv {
	struct conn *conn;
	struct stream *stream;
	struct intake intake;
	bool is_connected, is_held, is_serving, was_left;
	bool is_stopped;     /* it was not read to the end */
	bool is_half;        /* the frame is there, the one that confirms it is not */
	bool is_counted;     /* of conns_max */
	bool is_turned_away; /* there are too many: what it asks first is refused, then it ends */
	bool has_been_told;

	/* Receiving. */
	unsigned request_count;
	struct list requests;       /* that are not answered */
	struct request *incoming;   /* whose frame is being received */
	struct call *incoming_call; /* whose reply is being received; NULL with a late one */
	uint8_t *stash;             /* bytes behind a frame that waits for its place */
	struct body *late;          /* of a late reply that the service wants to hear of */
	uint64_t received_ns;

	/* The other end of a pair, if it is of our net: each takes its frames out of the other's
	 * queue, and nothing goes through the stream. NULL: it is not, or is closed. */
	struct conn *twin;
	struct sending *taking; /* of the twin's queue: `incoming` is made of it */
	struct call *asking;    /* that the twin serves at this moment: twin_ask() */
	const uint8_t *given;   /* the payload of what is served so */

	/* Sending. */
	struct list queue;
	size_t unsent;
	uint64_t sent_ns;    /* since when nothing of it was taken */
	size_t unread_bytes; /* memory that is kept until the peer has read */
	struct list stuck;   /* of net.stuck */
	struct task flush;

	/* Calls. */
	struct conn_ring *ring; /* NULL: all goes through the stream */
	struct htable calls;
	uint32_t next_call;
	unsigned call_count;

	/* What a request does not touch. */
	struct task again; /* goes on where a turn's share was used up */
	size_t stash_len, stash_at;
	struct frame late_frame;
	struct timer half; /* runs while a frame is half received */
	struct timer hello;
	struct list parked;
	const char *why_closed;
	struct closing closing;
};

static inline uint64_t frame_len(const struct frame *f)
{
	return (uint64_t)FRAME_HEADER_SIZE + f->body_len + f->payload_len;
}

/* All of a frame, which fits; it is not read again, for perhaps it lies where the peer may write.
 * How many bytes. */
uint32_t frame_write(uint8_t *to, const struct frame *f, const struct body *b, const void *payload);
/* Takes `body`, which may be NULL. NULL: no memory; the connection is closing then. */
struct sending *send_frame(struct conn *c, const struct frame *f, struct body *body,
			   const void *payload);
void send_queue(struct conn *c);
/* Whoever has received anything asks, and most often there is nothing to send. */
static inline void send_flush(struct conn *c)
{
	if (!list_is_empty(&c->priv->queue) || c->priv->is_turned_away)
		send_queue(c);
}
/* False: it may not be sent any more, and the connection is closed for it. */
bool sending_is_in_time(struct conn *c, const struct sending *s);
/* All of it has been sent, or will not be. */
void sending_end(struct conn *c, struct sending *s);
/* The source of a payload is about to go: forget, fill up, or copy. */
void send_abandon(struct conn *c, struct sending *s);
void send_drop_all(struct conn *c);

/* Does the peer say HELLO to us, or we to the peer? */
static inline bool conn_is_servers(const struct conn *c)
{
	return c->service && c->service->handlers[MESSAGE_HELLO].serve;
}

static inline bool net_is_short(const struct net *n)
{
	return n->unread_bytes > n->unread_max;
}

/* Its peer does not read what it is sent. What we send to ourselves is taken in the next turn, so
 * it needs no share. */
static inline bool conn_is_full(const struct conn *c)
{
	const struct conn_priv *p = c->priv;

	return p->unsent >= CONN_SEND_QUEUE_BYTES ||
	       (p->unread_bytes > c->net->share &&
		(!p->twin || p->unread_bytes > CONN_UNREAD_BYTES_MAX));
}

/* There is more unread than may be: who takes nothing is cut. */
void net_watch(struct net *n);

static inline void net_keep(struct net *n, size_t bytes)
{
	n->unread_bytes += bytes;
	if (net_is_short(n) && !timer_is_running(&n->cut))
		net_watch(n);
}

/*
 * True while it may take requests: what it owes, and what its peer does not read, is
 * bounded. A client always reads, or two full connections would wait for each other.
 */
static inline bool conn_may_read(const struct conn *c)
{
	return !c->is_closed && !c->priv->is_held && c->priv->request_count < CONN_REQUESTS_MAX &&
	       (!conn_is_full(c) || !conn_is_servers(c));
}

/* So much memory is kept for it until it is sent. */
static inline void sending_keep(struct conn *c, struct sending *s, size_t bytes)
{
	s->unread += (uint32_t)bytes;
	c->priv->unread_bytes += bytes;
	net_keep(c->net, bytes);
}

/* What is being received has no place any more. */
void conn_into_sink(struct conn *c);
void conn_resume(struct conn *c);
void conn_fail(struct conn *c, const char *why);
/* By its peer, or by the way there: `r` is what receiving or sending has said, 0 or less. */
void conn_end(struct conn *c, ssize_t r);
void conn_unref_if_done(struct conn *c);

/* call.c's part of receiving. */
struct call *call_find(struct conn *c, uint32_t id);
void call_arrived(struct call *call, int result);
void calls_end_all(struct conn *c);

/* The reply is whole, payload and all. */
void call_answered(struct call *call);
/* Likewise, of one that lies in memory. Takes `body`, which is NULL only if it is empty. */
void call_hear(struct conn *c, const struct frame *f, struct body *body, const void *payload);
/* Of this call. */
void call_take(struct call *call, const struct frame *f, struct body *body, const void *payload);

/* A request whose frame has come, and `body`, which it takes; NULL: it is to come. It is refused
 * already, if it is to be. NULL: the connection is closing. */
struct request *request_begin(struct conn *c, const struct frame *f, struct body *body);
/* Asks for a place for the payload, now or later. */
void request_find_place(struct request *r);
/* All of it is there. */
void request_finish(struct request *r);

/* ring.c. close: nothing more comes or goes there; free: later, when nobody is in the middle of it.
 */
void conn_ring_close(struct conn *c);
void conn_ring_free(struct conn *c);
/* Of a request that came through the ring: more of its payload has a place, or needs none. */
void request_ring_place(struct request *r, void *ptr, uint32_t len);
void request_ring_go_on(struct request *r);
/* It has a place, or is refused, and is to go on in the next turn. */
bool request_ring_is_ours(const struct request *r);
/* Its answer: false if it is too long, and goes through the stream. */
bool request_ring_reply(struct request *r, const struct frame *f, const struct body *b,
			const void *payload);
/* Its answer goes through the stream. */
void request_ring_leave(struct request *r);
/* True if the request went through the ring. */
bool conn_ring_call(struct conn *c, const struct frame *f, const struct body *b,
		    const void *payload);
/* What was put off, because nothing is read of what is answered through the stream, goes on if that
 * is over. */
void conn_ring_go_on(struct conn *c);
/* One more call, or one less, waits for an answer through the stream. */
void conn_ring_count(struct conn *c, int more);

/* twin.c. `other`: of the same pair. */
void twin_join(struct conn *c, struct conn *other);
void twin_part(struct conn *c);
/* There is something in the queue of its twin. */
void twin_wake(struct conn *c);
/* The next frame of the twin's: how many bytes it would have been. -EAGAIN. */
ssize_t twin_receive(struct conn *c);
void twin_place(struct request *r, void *ptr, uint32_t len);
/*
 * The running fiber may have a call served by the twin here and now: nothing is before it on the
 * way there and back.
 */
bool twin_may_ask(const struct conn *c, const struct frame *f);
/* Takes the call's body. True: it is answered; else the answer is still to come, by its id. */
bool twin_ask(struct conn *c, struct call *call, const struct frame *f,
	      const struct payload *payload);
/* The answer to a request. False: nobody waits for it so, or it goes through the queue. */
bool twin_answer(struct request *r, const struct frame *f, struct body *body,
		 const struct payload *payload);

/* request.c's part of receiving. */
struct request *request_new(struct conn *c, const struct frame *f, struct body *body);
void request_free(struct request *r);
/* Never to be served: its place, if it has one, is given back. */
void request_drop(struct request *r);
/* The same, and not to be answered either. */
void request_end(struct request *r);
