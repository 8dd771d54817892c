/* SPDX-License-Identifier: Apache-2.0 */
/*
 * near: what a handle maps of its job's segments, where it may: bytes of objects are copied from
 * there, or viewed there, and not one of them goes through the socket.
 *
 *	mapping.c   segments, and pieces of them side by side: mapped once, given up when unused
 *	sight.c     the index of the job, and what it leads to
 *	near.c      objects copied under a hold
 *	resident.c  small ones copied without asking anybody
 *	reserve.c   room that the function writes
 */
#pragma once

#include "net/conn.h"
#include "shm/view.h"

struct wadi;
struct wadi_op;
struct wadi_stat;
struct got;
struct get_how;

/*
 * The index as one connection has it. A view keeps its sight, so that it can be given back, and
 * learns whether it was revoked, after the connection has gone.
 */
struct sight {
	struct list link; /* of those that are over and still have views */
	struct viewer viewer;
	struct memory head, table, pins;
	uint64_t reader; /* what the proxy calls us there */
	unsigned connection;
	unsigned table_count; /* that it has had */
	unsigned user_count;  /* views, and fibers that wait */
};

/* What is asked for that comes as a descriptor. */
struct near_asking {
	uint16_t msg; /* EXPORT, RESERVE_MAP or INDEX */
	uint64_t segment;
	uint32_t generation;
	uint64_t put; /* of RESERVE_MAP */
	uint16_t index;
	/* A piece of it, to be mapped there. NULL: all of it */
	struct mapping *to;
	size_t at;
	uint32_t offset, len;
	bool is_next;    /* the table alone */
	uint64_t reader; /* that we were on another connection; 0: none */
};

struct near {
	struct sight *sight;    /* of the last connection that had one */
	unsigned get_count;     /* gets that were asked for on this connection */
	unsigned refused;       /* on this connection nothing is to be had */
	unsigned sight_refused; /* likewise, of an index */
	unsigned room_refused;  /* and of room to write */
	uint64_t room_again_ns; /* there was none; then it is asked for again */
	struct wadi *w;
	struct list mappings; /* used last, last */
	unsigned count;
	/* Asks for one: one at a time, so its descriptor is the one that came. */
	struct call call;
	unsigned asked_on;
	struct near_asking asked;
	struct waitq came;
	struct timer idle;
	struct list old_sights;
};

void near_init(struct near *n, struct wadi *w);
void near_fini(struct near *n);
/* On this connection, as far as is known. */
bool near_is_possible(const struct wadi *w);
/* Something that came with descriptors has come: others may ask. */
void near_wake(struct wadi *w);
/* Where the bytes of what is held are, as the proxy said: NEAR_EXTENTs, with their sums. */
struct near_list {
	uint8_t *bytes; /* the owner's to free */
	size_t len;
	uint64_t first; /* of the object: where the first one begins */
	uint16_t count;
};
/*
 * Of [at, at + len) of what is held as much as is mapped, or can be; the rest is to be asked for.
 * It is right if get_check(), or get_end(), says so. How much, or -ECANCELED. The list is kept for
 * the next time; at first it is zeroed.
 */
int64_t near_copy(struct wadi_op *op, struct got *g, struct near_list *l, uint64_t at, void *to,
		  uint64_t len);

/* A piece of an extent that one sum is of: [from, to) of [begin, end) is copied, then compared. */
bool near_copy_piece(const uint8_t *extent, uint32_t begin, uint32_t end, uint32_t from,
		     uint32_t to, uint8_t *copy, uint64_t seed, uint32_t sum);

/* mapping.c. On a fiber: *ret NULL: it is not to be had now. -ECANCELED, -ETIMEDOUT. */

int mapping_get(struct wadi_op *op, uint64_t segment, uint32_t generation, struct mapping **ret);
/* A part of what is reserved under `put`, to be written. */
int mapping_get_to_write(struct wadi_op *op, uint64_t put, uint16_t index,
			 const struct reserved_part *part, struct mapping **ret);
int mapping_get_pieces(struct wadi_op *op, const struct mapping_part *parts, uint32_t count,
		       struct mapping **ret);
/* All parts of it side by side, of which all but the last are whole pages. */
int mapping_get_reserved(struct wadi_op *op, uint64_t put, const struct reserved_part *parts,
			 uint32_t count, struct mapping **ret);
void mapping_use(struct near *n, struct mapping *m);
void mapping_leave(struct near *n, struct mapping *m);
/* It is about to be written, and many pages at once are cheaper than each by itself. */
void mapping_touch(struct mapping *m, const uint8_t *at, size_t len);
/* It has this number there. False: it has another one that somebody views it by. */
bool mapping_bind(struct mapping *m, struct viewer *v, uint32_t number, uint32_t life);
/* The viewer is no more. */
void mappings_unbind(struct near *n, const struct viewer *v);
/*
 * Asks, or waits for who does. 1: look again whether it is there; 0: it is not to be had now.
 * *has_asked is false at first.
 */
int near_ask(struct wadi_op *op, const struct near_asking *what, bool *has_asked);
/* In the background: one more get was asked for, and with so many an index is worth its while. */
void near_want_index(struct wadi *w);

/* sight.c */

/* The index of this connection, asked for if need be; *ret NULL: there is none. */
int sight_get(struct wadi_op *op, struct sight **ret);
/* What came with the answer to INDEX. Takes the descriptors. */
int sight_came(struct near *n, const struct index_rep *rep, const int *fds, unsigned count);
/* The table that holds now. */
int sight_next(struct wadi_op *op, struct sight *s);
/* Maps what has this number. -ENOENT: it is not to be had. */
int sight_map(struct wadi_op *op, struct sight *s, uint32_t number);
/* The one of this connection, if it is at hand; without asking, and without a fiber. */
struct sight *sight_at_hand(const struct wadi *w);
/* view_get(). */
int sight_look(struct sight *s, struct slice path, uint64_t now_ns, struct view *ret);
/* What sight_look() lacked, fetched. 0: look again. */
int sight_prepare(struct wadi_op *op, struct sight *s, const struct view *view, int why);
void sight_stat(const struct index_item *item, uint64_t now_ns, struct wadi_stat *ret);
void sight_leave(struct near *n, struct sight *s);
void sights_fini(struct near *n);

/* resident.c */

/* Where the bytes go: `cap` of them, or new memory, of node_alloc(). */
struct get_room {
	void *buf;
	size_t cap;
	bool is_ours;
	struct wadi_stat *ret_stat; /* may be NULL */
};
/*
 * The part of the object that `how` says: how many bytes, -EMSGSIZE, or to be asked for: -ENOENT;
 * -ENXIO and -ESTALE: *ret_view is for sight_prepare() first. Nobody is asked, and nothing waits.
 */
int64_t resident_get(struct wadi *w, const struct get_how *how, struct get_room *room,
		     struct view *ret_view);
/* The same, on a fiber: what it lacks is fetched. -ECANCELED, -ETIMEDOUT. */
int64_t resident_get_prepared(struct wadi_op *op, const struct get_how *how, struct get_room *room);
/* Of what sight_look() found, which is given back. -ENOENT: it is to be asked for. */
int64_t resident_copy(struct sight *s, const struct view *view, uint64_t now_ns,
		      const struct get_how *how, struct get_room *room);
