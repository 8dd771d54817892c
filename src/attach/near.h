/* SPDX-License-Identifier: Apache-2.0 */
/*
 * near: what a handle maps of its job's segments, where it may: bytes of objects are then
 * copied from there, and not one of them goes through the socket.
 */
#pragma once

#include "net/conn.h"
#include "shm/memory.h"

struct wadi;
struct wadi_op;
struct got;

struct near_mapping {
	struct list link; /* used last, last */
	uint64_t segment, used_ns;
	uint32_t generation;
	unsigned user_count;
	struct memory memory;
};

struct near {
	struct wadi *w;
	struct list mappings;
	unsigned count;
	unsigned refused; /* on this connection nothing is to be had */
	struct call call; /* asks for one: one at a time, so its descriptor is the one that came */
	unsigned asked_on;
	uint64_t asked_segment;
	uint32_t asked_generation;
	struct waitq came;
	struct timer idle;
};

void near_init(struct near *n, struct wadi *w);
void near_fini(struct near *n);
/* On this connection, as far as is known. */
bool near_is_possible(const struct wadi *w);
/*
 * Of [at, at + len) of what is held as much as is mapped, or can be; the rest is to be asked for.
 * It is right if get_end() says so. How much, or -ECANCELED.
 */
int64_t near_copy(struct wadi_op *op, struct got *g, uint64_t at, void *to, uint64_t len);
