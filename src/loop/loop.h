/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop: one thread's events.
 *
 * A turn, in this order (loop_turn() is the same list):
 *	1  read the clock: `now_ns` is the time of the whole turn, but for a wait in 6
 *	2  run the timers that are due
 *	3  run the tasks that were deferred before this turn
 *	4  run the fibers that were ready before this turn, once each; settle
 *	5  look at the memory that other processes write to (bell.h), and settle after each
 *	6  ask the backend for I/O: not at all waiting if anything is ready, else up
 *	   to the soonest due time, and then the clock is read again; it calls
 *	   stream->ready() and listener->accepted(), and settles after each of them
 *	7  serve the mailbox; settle
 *	8  free what was closed
 *
 * To settle is to run what followed from what ran: tasks by loop_follow(), and fibers that
 * were started or woken, round by round, until there is nothing left or the rounds are used
 * up (the rest is for the next turn); then the tasks by loop_finish(). So a request is
 * answered before the next one is read, while what it needs is in the caches, and a turn is
 * not made of fifty halves.
 *
 * Everything of a loop lives and dies on its thread. loop_post() is the only
 * function that another thread may call. A callback may start, stop and close
 * anything, itself included; what is closed is freed in step 8, so nothing dies
 * under its own feet. What one turn takes from each source is bounded
 * (base/limits.h), so no source starves the others.
 *
 * Backends: loop_open_epoll() for real sockets; sim_loop_open() (sim.h) for the
 * simulator. One contract test holds both.
 */
#pragma once

#include <pthread.h>

#include "base/heap.h"
#include "base/list.h"
#include "base/node.h"
#include "loop/fiber.h"
#include "loop/mailbox.h"

struct loop;
struct helper;
struct address;
struct stream;
struct listener;

/*
 * A call at a time. The owner embeds it, zeroed. It fires once for each start, and
 * never in the turn that started it. Equal due times fire in no particular order.
 */
struct timer {
	struct heap_link link;
	void (*fire)(struct timer *t);
};

/*
 * A call in the next turn, or as soon as what runs now has returned. Asked for twice, it runs
 * once.
 */
struct task {
	struct list link; /* list_init() before the first use */
	void (*run)(struct task *t);
};

struct loop_ops {
	/* Waits for events, until `due_ns` at the latest (UINT64_MAX: for ever); hands them out. */
	int (*poll)(struct loop *l, uint64_t due_ns);
	void (*wake)(struct loop *l); /* from any thread: ends a poll */
	int (*connect)(struct loop *l, const struct address *to, struct stream **ret);
	int (*listen)(struct loop *l, const struct address *at, struct listener *lr);
	/* NULL: there are no sockets. */
	int (*adopt)(struct loop *l, int fd, const struct address *from, struct stream **ret);
	void (*unlisten)(struct listener *lr);
	void (*close)(struct loop *l); /* frees it */
	int (*fd)(struct loop *l);
	void (*tell)(struct loop *l, uint64_t due_ns); /* fd() polls readable from then on */
	bool is_simulated; /* no threads here: what a helper does is done on the loop */
};

struct loop {
	uint64_t now_ns;
	struct fibers fibers;
	bool may_stay_awake; /* a wait may ask again and again before it sleeps: limits.h */
	/* Descriptors that were sent, and not read: of all streams, until somebody says how many.
	 */
	unsigned fds_unread_max;

	/* loop.c's own. */
	const struct loop_ops *ops;
	struct node *node; /* whose loop it is: node_current while it turns */
	pthread_t thread;
	struct heap timers;
	struct list tasks, following, finishing, mark;
	struct list bells;  /* that are listened to: bell.h */
	struct list closed; /* of struct closing: freed at the end of the turn */
	struct mailbox mail;
	struct letter *inbox; /* taken out of the mail, oldest first */
	bool is_turning, must_stop;
	bool is_asleep; /* bells ring, as far as they know */
	/* The next turn has work, or this one's caller looks whether what has run is what it waits
	 * for. */
	bool is_needed_soon;
	bool is_waited_for; /* somebody outside waits on loop_fd(), so we sleep between turns too */
	unsigned signal_count; /* waits that a signal has ended */
	uint64_t polled_ns;
	uint64_t busy_ns_max; /* the longest time from poll to poll: a stall, seen by others */
};

/* First member of what is closed in two steps: marked now, freed at the end of the turn. */
struct closing {
	struct list link;
	void (*free)(struct closing *c);
};

/* Initializes what all backends share; they call it. */
void loop_init(struct loop *l, const struct loop_ops *ops);

/* A loop of real sockets, on this thread. */
int loop_open_epoll(struct loop **ret);
/* No fibers, streams or timers are left, and no thread that may still be in loop_post(). */
void loop_close(struct loop *l);

/*
 * One turn. It waits for events until `due_ns` at the latest, but not at all if it
 * has run anything in 2 to 5: whoever turns until a condition holds looks first.
 * 0 or a negative errno.
 */
int loop_turn(struct loop *l, uint64_t due_ns);
/* Turns until loop_stop(). */
int loop_run(struct loop *l);
void loop_stop(struct loop *l);

/*
 * The epoll backend's own descriptor, which polls readable when a turn has work, and when it is
 * due, as the last turn left it: what was made ready or started since is for whoever did that to
 * turn for. -EOPNOTSUPP elsewhere.
 */
int loop_fd(struct loop *l);
/* When the next turn must be at the latest, if no event comes before: `now_ns` if something is
 * ready. */
uint64_t loop_due(const struct loop *l);

/* A timer that runs is started anew. Stopping one that does not run is fine. */
void timer_start(struct loop *l, struct timer *t, uint64_t due_ns);
void timer_stop(struct loop *l, struct timer *t);
static inline bool timer_is_running(const struct timer *t)
{
	return heap_has(&t->link);
}

/*
 * Deferred to the next turn: whoever has had its share of this one. Following in this turn: what
 * goes on with something that is small; it must not follow itself for ever.
 */
void loop_defer(struct loop *l, struct task *t);
void loop_follow(struct loop *l, struct task *t);
/* Once nothing follows any more: what is dear, and is done once for many. */
void loop_finish(struct loop *l, struct task *t);
void task_stop(struct task *t);

/* From any thread, or a signal's handler. The order of one thread's letters is kept. */
void loop_post(struct loop *l, struct letter *letter);

/* For assertions: are we on its thread? */
bool loop_is_mine(const struct loop *l);
/* It is this thread's from now on; the one before has handed it over, and does not touch it. */
void loop_adopt(struct loop *l);

/* Frees at the end of the turn. */
void loop_free_later(struct loop *l, struct closing *c);

/*
 * helper: a thread of its own for what blocks: page tables, files, name lookups.
 * Work is done in the order it was given; `done` runs on the loop that gave it.
 * In the simulator both run on the loop, `run` after a random while, `done` in a
 * later turn.
 */
struct work {
	struct letter letter;         /* the helper's */
	struct helper *helper;        /* likewise */
	struct loop *home;            /* where done() runs; NULL: the loop that opened the helper */
	void (*run)(struct work *w);  /* on the helper's thread */
	void (*done)(struct work *w); /* on the loop; the owner's again */
};
/* `name` is the thread's, at most 15 bytes. */
int helper_open(struct loop *l, const char *name, struct helper **ret);
void helper_do(struct helper *h, struct work *w);
/*
 * Finishes what it was given and joins the thread. When it returns, all done() calls
 * of the loop that opened it have been made; others' are in the post.
 */
void helper_close(struct helper *h);
