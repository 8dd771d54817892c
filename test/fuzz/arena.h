/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena: the memory of a world that lasts as long as an input. Every allocation lies behind the
 * last one, with bytes between them that nobody may touch, and what is freed is not used again
 * before the world is over, so whoever still uses it is found, however late. ASan's own heap,
 * which keeps a few megabytes apart for that, and stacks of who allocated, was a third of the
 * time of an input: a report has those again if the input is run with WADI_FUZZ_HEAP=1.
 *
 * What is large comes from the heap: there it is zero before anybody has written zeros.
 */
#pragma once

#include <sanitizer/asan_interface.h>

#include "base/node.h"
#include "fuzz.h"

#define ARENA_BYTES      (64u << 20)
#define ARENA_LARGE      (256u << 10)
#define ARENA_BEFORE     16u /* each, with its size */
#define ARENA_BEHIND_MAX 2048u
#define ARENA_ALIGN      16u
#define ARENA_FREED      SIZE_MAX

static struct {
	_Alignas(64) uint8_t bytes[ARENA_BYTES];
	size_t used, most; /* most: of all worlds; up to there all that is not in use is poisoned */
	size_t alive;      /* allocations, large ones too */
} arena;

#define UNCHECKED \
	__attribute__((no_sanitize("address", "undefined", "coverage"), no_builtin("memset")))

/* No call of memset(), which would look at each byte's shadow. */
UNCHECKED static inline void arena_zero(uint8_t *p, size_t len)
{
	uint64_t *words = (void *)p;

	for (size_t i = 0; i < (len + 7) / 8; i++)
		words[i] = 0;
}

UNCHECKED static inline size_t arena_size(void *p, size_t size)
{
	size_t *at = (void *)((uint8_t *)p - ARENA_BEFORE), before = *at;

	*at = size;
	return before;
}

static inline bool arena_has(const void *p)
{
	return (const uint8_t *)p >= arena.bytes && (const uint8_t *)p < arena.bytes + ARENA_BYTES;
}

/* What a block takes, with what nobody may touch behind it: the more, the larger it is. */
UNWATCHED static inline size_t arena_span(size_t size)
{
	size_t behind = size / 16 < ARENA_BEHIND_MAX ? size / 16 : ARENA_BEHIND_MAX;

	return (size + behind + 2 * ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

UNWATCHED static void *arena_alloc(struct node *n, size_t size)
{
	uint8_t *p = arena.bytes + arena.used + ARENA_BEFORE;
	size_t end = arena.used + ARENA_BEFORE + arena_span(size);

	(void)n;
	if (size >= ARENA_LARGE || end > ARENA_BYTES) {
		p = calloc(1, size);
		arena.alive += p != NULL;
		return p;
	}
	arena.alive++;
	if (end > arena.most) {
		ASAN_POISON_MEMORY_REGION(arena.bytes + arena.most, end - arena.most);
		arena.most = end;
	}
	arena.used = end;
	arena_zero(p, size);
	arena_size(p, size);
	ASAN_UNPOISON_MEMORY_REGION(p, size);
	return p;
}

UNWATCHED static void arena_free(struct node *n, void *p)
{
	size_t size;

	(void)n;
	arena.alive--;
	if (!arena_has(p)) {
		free(p);
		return;
	}
	size = arena_size(p, ARENA_FREED);
	REQUIRE(size != ARENA_FREED);
	ASAN_POISON_MEMORY_REGION(p, size);
}

UNWATCHED static void *arena_resize(struct node *n, void *p, size_t size)
{
	size_t before;
	void *moved;

	if (!p)
		return arena_alloc(n, size);
	if (!arena_has(p))
		return realloc(p, size);
	before = arena_size(p, 0);
	arena_size(p, before);
	REQUIRE(before != ARENA_FREED);
	moved = arena_alloc(n, size);
	memcpy(moved, p, before < size ? before : size);
	arena_free(n, p);
	return moved;
}

/* From now on the memory of `n` is here, if it is not to be on the heap. */
static inline void arena_begin(struct node *n)
{
	if (getenv("WADI_FUZZ_HEAP"))
		return;
	n->alloc = arena_alloc;
	n->resize = arena_resize;
	n->free = arena_free;
}

/* Nothing is left of it. */
static inline void arena_end(void)
{
	REQUIRE(arena.alive == 0);
	arena.used = 0;
}
