/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim: what its files share. sim.c has time and loops, sim_node.c memory and
 * clocks, sim_net.c connections. What is declared here is the simulator's own
 * memory, from libc, and so outlives a node that is killed.
 */
#pragma once

#include "base/list.h"
#include "loop/loop_priv.h"
#include "loop/sim.h"

/* A generator of numbers. Each use has one of its own, so that one more roll here changes nothing
 * there. */
struct dice {
	uint64_t state;
};
uint64_t dice_roll(struct dice *d);
uint64_t dice_below(struct dice *d, uint64_t count);

/* Happens once, at its due time; then whoever embeds it may free it. */
struct event {
	struct heap_link link;
	void (*happen)(struct event *e);
};

/* Something that a loop is told of in its next turn. */
struct notice {
	struct list link;
	void (*tell)(struct notice *n);
};

struct sim {
	struct sim_config config;
	uint64_t now_ns, fingerprint;
	struct dice net, order, workload;
	struct heap events;
	struct list nodes, cables, cuts, stalls;
	struct list watches;
	struct list closed;       /* of struct closing: freed after the step */
	struct sim_loop *turning; /* by sim_step() */
	bool must_stop;
};

struct sim_node {
	struct node node;
	struct sim *sim;
	struct list link;
	uint32_t id, host;
	bool is_paused;
	struct list loops, blocks;
	size_t bytes;
	uint64_t boot_ns, wall_ns; /* its clocks' readings at the simulation's 0 */
	struct dice dice;
	uint32_t port_last; /* given to a listener or a connection */
};

struct sim_loop {
	struct loop loop;
	struct sim_node *node;
	struct list link;
	struct list notices; /* first come first */
	struct list acceptors;
	uint64_t rested_ns; /* not turned again before */
};

void event_set(struct sim *s, struct event *e, uint64_t due_ns);
void notice_put(struct sim_loop *sl, struct notice *n);

/* Everything that happens goes into the fingerprint. */
void sim_note(struct sim *s, uint64_t what, uint64_t value);

struct sim_node *sim_node_find(struct sim *s, uint32_t id); /* NULL */

int sim_net_connect(struct loop *l, const struct address *to, struct stream **ret);
int sim_net_listen(struct loop *l, const struct address *at, struct listener *lr);
void sim_net_unlisten(struct listener *lr);
void sim_net_kill(struct sim_node *n); /* its connections and listeners */
void sim_net_close(struct sim *s);
