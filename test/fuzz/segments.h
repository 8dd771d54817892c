/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segments: the store core as fuzz_index.c plays it: a few segments that say of each byte where it
 * is from and of when, who has pinned them, and what functions may rely on meanwhile.
 */
#pragma once

#include "proxy/index.h"
#include "server.h"

#define SEGMENTS      4
#define SEGMENT_BYTES (4u * SEGMENT_PAGE)
#define KEPT_MAX      64
#define JOB           ((uint64_t)5 << ID_SLOT_SHIFT)

struct segment {
	uint32_t generation;
	unsigned pins;
	bool is_wanted;
	uint8_t bytes[SEGMENT_BYTES];
};

/* What a function has pinned, and may rely on until HOLD_MS_MAX after any of it is wanted back. */
struct kept {
	unsigned function;
	bool segments[SEGMENTS];
	uint64_t wanted_ns; /* 0: nobody does */
};

static struct segment segments[SEGMENTS];
static struct kept kept[KEPT_MAX];
static unsigned kept_count;

int __wrap_core_pin(struct core *c, uint64_t job, uint64_t segment, uint32_t generation,
		    uint32_t offset, uint32_t len);
void __wrap_core_unpin(struct core *c, uint64_t segment);
void __wrap_core_hold_views(struct core *c, uint64_t job, bool is_held);
int __wrap_core_serve(struct core *c, uint64_t job, uint64_t due_ns, const uint64_t **ret_until_ns);
void __wrap_core_served(struct core *c, uint64_t job);
uint16_t __wrap_core_shard_of(const struct core *c, uint64_t job);

int __wrap_core_pin(struct core *c, uint64_t job, uint64_t segment, uint32_t generation,
		    uint32_t offset, uint32_t len)
{
	struct segment *s = &segments[segment];

	REQUIRE(job == JOB && segment < SEGMENTS && (uint64_t)offset + len <= SEGMENT_BYTES);
	if (s->generation != generation || s->is_wanted)
		return -ESTALE;
	s->pins++;
	return 0;
}

void __wrap_core_unpin(struct core *c, uint64_t segment)
{
	REQUIRE(segment < SEGMENTS && segments[segment].pins > 0);
	segments[segment].pins--;
}

void __wrap_core_hold_views(struct core *c, uint64_t job, bool is_held)
{
	REQUIRE(false);
}

int __wrap_core_serve(struct core *c, uint64_t job, uint64_t due_ns, const uint64_t **ret_until_ns)
{
	REQUIRE(false);
	return 0;
}

void __wrap_core_served(struct core *c, uint64_t job)
{
	REQUIRE(job == JOB);
}

uint16_t __wrap_core_shard_of(const struct core *c, uint64_t job)
{
	return 0;
}

/* Which bytes a segment has: one can tell where they are from, and of when. */
static uint8_t byte_at(uint32_t segment, uint32_t generation, uint32_t at)
{
	return (uint8_t)(segment * 37 + generation * 101 + at / SEGMENT_ALIGN);
}

static void segment_begin(uint32_t n)
{
	struct segment *s = &segments[n];

	s->generation++;
	s->is_wanted = false;
	for (uint32_t i = 0; i < SEGMENT_BYTES; i += SEGMENT_ALIGN)
		memset(s->bytes + i, byte_at(n, s->generation, i), SEGMENT_ALIGN);
}

/* What a function has pinned. */

static void kept_add(unsigned function, const struct mapped *m)
{
	struct kept *k = &kept[kept_count];

	if (m->copies || kept_count == KEPT_MAX)
		return;
	kept_count++;
	*k = (struct kept){ .function = function };
	for (uint32_t i = 0; i < m->part_count; i++)
		k->segments[m->parts[i].segment] = true;
}

static void kept_want(uint32_t segment)
{
	for (unsigned i = 0; i < kept_count; i++)
		if (kept[i].segments[segment] && !kept[i].wanted_ns)
			kept[i].wanted_ns = loop->now_ns;
}

/* It has left, or nobody knows what its pins say. */
static void kept_forget(unsigned function)
{
	for (unsigned i = kept_count; i-- > 0;)
		if (kept[i].function == function)
			kept[i] = kept[--kept_count];
}

/* A segment is another's. */
static void kept_end(uint32_t segment)
{
	for (unsigned i = 0; i < kept_count; i++) {
		struct kept *k = &kept[i];

		if (!k->segments[segment])
			continue;
		REQUIRE(k->wanted_ns && loop->now_ns - k->wanted_ns >= HOLD_MS_MAX * MS);
		k->segments[segment] = false;
	}
}
