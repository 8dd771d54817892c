/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim: loops of many nodes in one thread, in simulated time, over a simulated
 * network. Everything follows from the seed: delays, the order of loops that are
 * due at one time, how streams cut their bytes.
 *
 *	sim_open(seed) ; sim_node_add() for each ; sim_loop_open() on it ;
 *	sim_run() turns the loop that has the next event, until a time or a stop.
 *
 * loop_turn() on one of the loops, outside sim_run(), does what it does anywhere: it
 * waits for events of that loop; meanwhile everything else goes on.
 *
 * A node has memory, clocks and randomness of its own (base/node.h), and any
 * number of loops. While one of them turns, node_current is that node; who calls
 * code of a node outside a turn sets it. sim_node_kill() drops its loops, its
 * connections (the peers see an end or a reset) and all its memory at once, as
 * kill -9 does; sim_node_pause() stops its loops and lets its clock run on, as
 * SIGSTOP does.
 *
 * A turn takes a microsecond, whatever it does: who turns without waiting for
 * anything still gets on in time.
 */
#pragma once

#include "base/node.h"
#include "loop/loop.h"
#include "loop/stream.h"

struct sim;
struct sim_node;

struct sim_config {
	uint64_t seed;
	uint64_t delay_ns_min, delay_ns_max; /* of each piece that crosses the network */
	unsigned cut_permille;               /* of 1000 sends: only a random part is taken */
};

int sim_open(const struct sim_config *config, struct sim **ret);
void sim_close(struct sim *s);
uint64_t sim_now_ns(const struct sim *s);
uint64_t sim_random(struct sim *s); /* for the workload: the same sequence for the same seed */

/* `id` is the node's address: "sim://id:port". */
int sim_node_add(struct sim *s, uint32_t id, struct sim_node **ret);
struct node *sim_node_of(struct sim_node *n); /* to be node_current while its code is set up */
void sim_node_kill(struct sim_node *n); /* not in a turn of its own; add loops to start it again */
void sim_node_pause(struct sim_node *n, bool is_paused);
/* Descriptors pass between nodes of one host: real ones, of this process. 0: it is alone there. */
void sim_node_set_host(struct sim_node *n, uint32_t host);
void sim_node_set_wall(struct sim_node *n, uint64_t wall_ns); /* its wall clock jumps */
size_t sim_node_bytes(const struct sim_node *n); /* that it has allocated: 0 when all was freed */

int sim_loop_open(struct sim_node *n, struct loop **ret);

/* From now on each piece that is sent takes up to so long. */
void sim_set_delay(struct sim *s, uint64_t delay_ns_max);

/* Cuts the connections between two nodes now; new ones fail while it is cut. */
void sim_cut(struct sim *s, uint32_t a, uint32_t b, bool is_cut);
/* Holds all that is on its way between two nodes, and tells nobody; then it arrives. */
void sim_stall(struct sim *s, uint32_t a, uint32_t b, bool is_stalled);

/*
 * A moment that is not told by the clock: when the nth piece has been sent between two
 * nodes (b 0: between one and any other) the simulation stops, after the step at hand.
 */
struct sim_watch {
	struct list link; /* list_init() before the first use */
	uint32_t a, b;
	unsigned left; /* pieces; 0: it has come */
};
void sim_watch(struct sim *s, struct sim_watch *w);
void sim_unwatch(struct sim_watch *w);

/* Runs until `until_ns` of simulated time or a stop; false if before that nothing is left to
 * happen. */
bool sim_run(struct sim *s, uint64_t until_ns);
void sim_stop(struct sim *s); /* after the step at hand */

/* A number that two runs of one seed share at each moment: the hash of all events so far. */
uint64_t sim_fingerprint(const struct sim *s);
