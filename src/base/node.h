/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node: the machine as a server sees it: its memory, its clocks, its dice.
 *
 * A process is one node. The simulator makes many in one process and says which
 * is running, so a node's memory can be dropped at once (kill -9), its clock can
 * jump and its randomness repeats with the seed. `node_current` is the one
 * thread-local variable of the program; every allocation of layers 3 to 5 goes
 * through here.
 *
 * NULL is the real machine: libc's heap, CLOCK_BOOTTIME, getrandom().
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct node {
	void *(*alloc)(struct node *n, size_t size);
	void *(*resize)(struct node *n, void *p, size_t size);
	void (*free)(struct node *n, void *p);
	uint64_t (*now_ns)(struct node *n);  /* never goes back, runs on while suspended */
	uint64_t (*wall_ns)(struct node *n); /* since 1970; may jump */
	void (*random)(struct node *n, void *buf, size_t len);
	uint64_t fail_countdown; /* the allocation that brings it to 0 fails; 0: none does */
};

extern _Thread_local struct node *node_current;

/* Zeroed; NULL if there is none. `size` 0 is 1. */
void *node_alloc(size_t size);
void *node_resize(void *p, size_t size); /* new bytes are not zeroed; NULL leaves `p` alone */
void *node_free(void *p);                /* returns NULL; NULL is fine */

uint64_t node_now_ns(void);
uint64_t node_wall_ns(void);
void node_random(void *buf, size_t len);
uint64_t node_random_u64(void);
