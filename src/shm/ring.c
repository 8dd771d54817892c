/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/ring.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/*
 * Sleeping is agreed upon by an entry and a word, and by one order that both ends see:
 *
 *	who writes the entry            who reads it
 *	W1  the entry                   R1  his word says that he sleeps
 *	W2  read his word               R2  read the entry
 *
 * All four are sequentially consistent. Whichever of W1 and R1 comes second in that
 * order, the read after it sees the other: he stays awake, or is woken, or both. One W2
 * is enough after many W1.
 *
 * W1 and R1 exchange where a store would do: it is the same instruction on x86-64, and
 * qemu-user, under which the tests of arm64 run, lets a load (ldar) pass a store (stlr).
 */

#define ALL (RING_SLOTS == 64 ? UINT64_MAX : (UINT64_C(1) << (RING_SLOTS % 64)) - 1)

/* The nth entry, counted from 0; so an entry of zeros, which is nobody's, is none that is waited
 * for first. */
static uint64_t entry_make(uint32_t nth, unsigned slot, uint32_t len)
{
	return (uint64_t)(nth + 1) << 32 | (uint64_t)slot << 16 | len;
}

static bool entry_is(uint64_t entry, uint32_t nth)
{
	return entry >> 32 == (uint32_t)(nth + 1);
}

/*
 * Is it there? Acquire: what its writer did before is visible. Pairs with W1, which is a
 * release too.
 */
static bool entry_get(_Atomic uint64_t *ring, uint32_t nth, uint64_t *ret)
{
	*ret = atomic_load_explicit(&ring[nth % RING_SLOTS], memory_order_acquire);
	return entry_is(*ret, nth);
}

/* Whose slots may come: `theirs`. */
static int entry_check(uint64_t entry, uint64_t theirs, unsigned *ret_slot, uint32_t *ret_len)
{
	unsigned slot = (unsigned)(entry >> 16 & UINT16_MAX);
	uint32_t len = (uint32_t)(entry & UINT16_MAX);

	if (slot >= RING_SLOTS || !(theirs >> slot & 1) || len == 0 || len > RING_SLOT_BYTES)
		return -EPROTO;
	*ret_slot = slot;
	*ret_len = len;
	return 0;
}

static enum ring_sleep wake(_Atomic uint32_t *word)
{
	/* W2. Read before it is written, since most find the other end awake. */
	uint32_t how = atomic_load_explicit(word, memory_order_seq_cst);

	if (how == RING_AWAKE)
		return RING_AWAKE;
	/* Relaxed: it orders nothing; who wakes twice has woken in vain. */
	how = atomic_exchange_explicit(word, RING_AWAKE, memory_order_relaxed);
	/* The other end may have written anything. */
	return how == RING_AWAKE      ? RING_AWAKE
	       : how == RING_ON_FUTEX ? RING_ON_FUTEX
				      : RING_ON_EVENT;
}

static void entry_put(_Atomic uint64_t *ring, uint32_t nth, unsigned slot, uint32_t len)
{
	assert(slot < RING_SLOTS && len > 0 && len <= RING_SLOT_BYTES);
	/* W1, and a release: the message is visible before the entry that tells of it. */
	(void)atomic_exchange_explicit(&ring[nth % RING_SLOTS], entry_make(nth, slot, len),
				       memory_order_seq_cst);
}

static void awake(_Atomic uint32_t *word)
{
	/* Relaxed: one that still sees us sleep wakes in vain, which costs a system call. */
	atomic_store_explicit(word, RING_AWAKE, memory_order_relaxed);
}

static bool go_to_sleep(_Atomic uint32_t *word, enum ring_sleep how, _Atomic uint64_t *ring,
			uint32_t nth)
{
	/* R1 and R2. */
	(void)atomic_exchange_explicit(word, how, memory_order_seq_cst);
	if (!entry_is(atomic_load_explicit(&ring[nth % RING_SLOTS], memory_order_seq_cst), nth))
		return true;
	awake(word);
	return false;
}

/* The caller. */

void ring_caller_init(struct ring_caller *c, struct ring_memory *memory)
{
	*c = (struct ring_caller){ .memory = memory, .free = ALL };
}

int ring_take(struct ring_caller *c, uint8_t **ret)
{
	unsigned slot;

	if (c->free == 0)
		return -EAGAIN;
	slot = (unsigned)__builtin_ctzll(c->free);
	c->free &= c->free - 1;
	*ret = c->memory->slots[slot];
	return (int)slot;
}

void ring_submit(struct ring_caller *c, unsigned slot, uint32_t len)
{
	entry_put(c->memory->submitted, c->submitted++, slot, len);
	c->out |= UINT64_C(1) << slot;
}

enum ring_sleep ring_wake_server(struct ring_caller *c)
{
	return wake(&c->memory->server);
}

int ring_reap(struct ring_caller *c, unsigned *ret_slot, uint32_t *ret_len)
{
	uint64_t entry;

	if (!entry_get(c->memory->completed, c->reaped, &entry))
		return 0;
	if (entry_check(entry, c->out, ret_slot, ret_len) < 0)
		return -EPROTO;
	c->reaped++;
	c->out &= ~(UINT64_C(1) << *ret_slot);
	return 1;
}

bool ring_has_answer(const struct ring_caller *c)
{
	uint64_t entry;

	return entry_get(c->memory->completed, c->reaped, &entry);
}

const uint8_t *ring_answer(const struct ring_caller *c, unsigned slot)
{
	return c->memory->slots[slot];
}

void ring_give(struct ring_caller *c, unsigned slot)
{
	assert(slot < RING_SLOTS && !((c->free | c->out) >> slot & 1));
	c->free |= UINT64_C(1) << slot;
}

bool ring_caller_sleep(struct ring_caller *c, enum ring_sleep how)
{
	return go_to_sleep(&c->memory->caller, how, c->memory->completed, c->reaped);
}

void ring_caller_awake(struct ring_caller *c)
{
	awake(&c->memory->caller);
}

/* The server. */

void ring_server_init(struct ring_server *s, struct ring_memory *memory)
{
	*s = (struct ring_server){ .memory = memory };
}

int ring_next(struct ring_server *s, unsigned *ret_slot, uint32_t *ret_len)
{
	uint64_t entry;

	if (!entry_get(s->memory->submitted, s->taken, &entry))
		return 0;
	if (entry_check(entry, ~s->in, ret_slot, ret_len) < 0)
		return -EPROTO;
	s->taken++;
	s->in |= UINT64_C(1) << *ret_slot;
	return 1;
}

bool ring_has_next(const struct ring_server *s)
{
	uint64_t entry;

	return entry_get(s->memory->submitted, s->taken, &entry);
}

void ring_read(const struct ring_server *s, unsigned slot, uint32_t at, void *to, uint32_t len)
{
	assert(slot < RING_SLOTS && at <= RING_SLOT_BYTES && len <= RING_SLOT_BYTES - at);
	memcpy(to, s->memory->slots[slot] + at, len);
	/* The compiler must not read there again instead of where it was copied to. */
	atomic_signal_fence(memory_order_seq_cst);
}

uint8_t *ring_place(const struct ring_server *s, unsigned slot)
{
	return s->memory->slots[slot];
}

void ring_complete(struct ring_server *s, unsigned slot, uint32_t len)
{
	assert(slot < RING_SLOTS && s->in >> slot & 1);
	s->in &= ~(UINT64_C(1) << slot);
	entry_put(s->memory->completed, s->completed++, slot, len);
}

enum ring_sleep ring_wake_caller(struct ring_server *s)
{
	return wake(&s->memory->caller);
}

bool ring_server_sleep(struct ring_server *s)
{
	return go_to_sleep(&s->memory->server, RING_ON_EVENT, s->memory->submitted, s->taken);
}

void ring_server_awake(struct ring_server *s)
{
	awake(&s->memory->server);
}
