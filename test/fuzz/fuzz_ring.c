/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rings: whatever the other end writes into the memory, and whenever, an end gets slots
 * that are its own and lengths that are within them, never more than there are; and what
 * two honest ends say to each other is whole.
 *
 * The input: steps of both ends, and between them bytes that one of them has no business
 * to write. Until the first of those, the ring must carry everything.
 */
#include "fuzz.h"

#include <errno.h>

#include "shm/ring.h"

struct play {
	struct ring_memory *memory; /* alone, so that a byte further is seen */
	struct ring_caller caller;
	struct ring_server server;
	uint64_t with_server, taken; /* slots, a bit each; taken: by the caller, not given back */
	uint8_t sent[RING_SLOTS];
	bool is_honest;
};

static unsigned any_of(uint64_t slots, uint64_t choice)
{
	for (choice %= (uint64_t)__builtin_popcountll(slots); choice > 0; choice--)
		slots &= slots - 1;
	return (unsigned)__builtin_ctzll(slots);
}

static void submit(struct play *p, uint8_t byte, uint32_t len)
{
	uint8_t *place;
	int slot = ring_take(&p->caller, &place);

	if (slot < 0) {
		REQUIRE(slot == -EAGAIN && p->taken == (UINT64_C(1) << RING_SLOTS) - 1);
		return;
	}
	REQUIRE(slot < RING_SLOTS && !(p->taken >> slot & 1));
	REQUIRE(place == p->memory->slots[slot]);
	p->taken |= UINT64_C(1) << slot;
	p->sent[slot] = byte;
	memset(place, byte, len);
	ring_submit(&p->caller, (unsigned)slot, len);
	(void)ring_wake_server(&p->caller);
}

static void serve(struct play *p)
{
	uint8_t copy[RING_SLOT_BYTES];
	unsigned slot = 0;
	uint32_t len = 0;
	int r = ring_next(&p->server, &slot, &len);

	REQUIRE(r == 0 || r == 1 || (r == -EPROTO && !p->is_honest));
	if (r != 1)
		return;
	REQUIRE(slot < RING_SLOTS && len > 0 && len <= RING_SLOT_BYTES);
	REQUIRE(!(p->with_server >> slot & 1));
	p->with_server |= UINT64_C(1) << slot;
	ring_read(&p->server, slot, 0, copy, len);
	REQUIRE(!p->is_honest || (copy[0] == p->sent[slot] && copy[len - 1] == p->sent[slot]));
}

static void complete(struct play *p, uint64_t choice, uint32_t len)
{
	unsigned slot;

	if (!p->with_server)
		return;
	slot = any_of(p->with_server, choice);
	p->with_server &= ~(UINT64_C(1) << slot);
	memset(ring_place(&p->server, slot), (uint8_t)~p->sent[slot], len);
	ring_complete(&p->server, slot, len);
	(void)ring_wake_caller(&p->server);
}

static void reap(struct play *p)
{
	unsigned slot = 0;
	uint32_t len = 0;
	int r = ring_reap(&p->caller, &slot, &len);

	REQUIRE(r == 0 || r == 1 || (r == -EPROTO && !p->is_honest));
	if (r != 1)
		return;
	REQUIRE(slot < RING_SLOTS && len > 0 && len <= RING_SLOT_BYTES);
	REQUIRE(p->taken >> slot & 1);
	p->taken &= ~(UINT64_C(1) << slot);
	REQUIRE(!p->is_honest || ring_answer(&p->caller, slot)[len - 1] == (uint8_t)~p->sent[slot]);
	ring_give(&p->caller, slot);
}

/* Anywhere; mostly at an entry that is looked at next, with a number that fits. */
static void spoil(struct play *p, struct bytes *in)
{
	uint64_t where = take(in, 1), value = take(in, 4);
	uint32_t nth = where & 1 ? p->caller.reaped : p->server.taken;
	_Atomic uint64_t *ring = where & 1 ? p->memory->completed : p->memory->submitted;

	p->is_honest = false;
	if (where & 2)
		ring[nth % RING_SLOTS] = (uint64_t)(nth + 1) << 32 | value;
	else if (where & 4)
		ring[value % RING_SLOTS] = take(in, 8);
	else if (where & 8)
		memset((uint8_t *)p->memory + value % (sizeof(*p->memory) - 64), (int)(where >> 4),
		       64);
	else
		*(where & 16 ? &p->memory->caller : &p->memory->server) = (uint32_t)value;
}

static void sleep_and_wake(struct play *p, uint64_t which)
{
	if (which & 1) {
		(void)ring_server_sleep(&p->server);
		ring_server_awake(&p->server);
	} else {
		(void)ring_caller_sleep(&p->caller, which & 2 ? RING_ON_FUTEX : RING_ON_EVENT);
	}
}

static uint32_t length(struct bytes *in)
{
	return 1 + (uint32_t)take(in, 2) % RING_SLOT_BYTES;
}

static void step(struct play *p, struct bytes *in)
{
	uint64_t what = take(in, 1);

	switch (what % 6) {
	case 0:
		submit(p, (uint8_t)(what >> 3), length(in));
		break;
	case 1:
		serve(p);
		break;
	case 2:
		complete(p, what / 6, length(in));
		break;
	case 3:
		reap(p);
		break;
	case 4:
		sleep_and_wake(p, what / 6);
		break;
	case 5:
		spoil(p, in);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct bytes in = bytes_of(data, len);
	struct play p = { .memory = aligned_alloc(SEGMENT_PAGE, sizeof(*p.memory)),
			  .is_honest = true };
	uint32_t from;

	REQUIRE(p.memory);
	memset(p.memory, 0, SEGMENT_PAGE); /* the entries and words: bytes of slots are anything */
	ring_caller_init(&p.caller, p.memory);
	ring_server_init(&p.server, p.memory);
	/* Near the end of the counters, too. */
	from = (uint32_t)take(&in, 1);
	from = from & 1 ? UINT32_MAX - from : 0;
	p.caller.submitted = p.caller.reaped = p.server.taken = p.server.completed = from;
	/* Entries of zeros are told apart from real ones by their number, but for the 2^32nd. */
	for (uint32_t i = 0; from && i < RING_SLOTS; i++)
		p.memory->submitted[i] = p.memory->completed[i] = UINT64_C(0x7fffffff) << 32;
	while (bytes_left(&in) > 0)
		step(&p, &in);
	free(p.memory);
	return 0;
}

void fuzz_seeds(void)
{
	/* submit, serve, complete, reap: whole; then an entry of a slot that is not there. */
	static const uint8_t TALK[] = { 0, 0, 40, 0, 6, 0x10, 1, 1, 1, 2, 99, 0, 3, 8, 1, 0, 3, 3 };
	static const uint8_t HOSTILE[] = { 1, 5, 2, 1, 0,  40, 0,  1, 5, 3, 0, 0,
					   1, 0, 3, 4, 10, 5,  16, 9, 9, 9, 9 };

	fuzz_seed("talk", TALK, sizeof(TALK));
	fuzz_seed("hostile", HOSTILE, sizeof(HOSTILE));
}
