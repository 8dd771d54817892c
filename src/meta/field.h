/* SPDX-License-Identifier: Apache-2.0 */
/*
 * field: what effects and images are made of, in as few bytes as it needs: memory has all
 * that is logged, and each object's image.
 *
 *	u16 u32 u64   a number: one byte below NUM_LONG; else NUM_LONG - 1 + n, and n bytes of it
 *	id            the same, with its slot turned behind its counter, which is small
 *	r32 r64       all bytes of something random, or of a sum
 *	str           its length as a number, and its bytes
 *
 * There is one way to say a number, and others are refused.
 */
#pragma once

#include "base/cursor.h"
#include "wire/extent.h"

#define NUM_LONG 248

static inline uint64_t num_get_long(struct rcur *c, size_t n)
{
	const uint8_t *p = rcur_take(c, n);
	uint64_t v = 0;

	for (size_t i = 0; p && i < n; i++)
		v |= (uint64_t)p[i] << 8 * i;
	if (v < NUM_LONG || v >> 8 * (n - 1) == 0)
		c->bad = true;
	return c->bad ? 0 : v;
}

static inline uint64_t field_get_num(struct rcur *c, uint64_t max)
{
	uint64_t v = get_le(c, 1);

	if (v >= NUM_LONG)
		v = num_get_long(c, v - (NUM_LONG - 1));
	if (v > max)
		c->bad = true;
	return c->bad ? 0 : v;
}

static inline void num_put_long(struct wcur *c, uint64_t v)
{
	size_t n = (size_t)(71 - __builtin_clzll(v)) / 8;
	uint8_t *p = wcur_take(c, 1 + n);

	if (!p)
		return;
	p[0] = (uint8_t)(NUM_LONG - 1 + n);
	v = le_swapped(v);
	/* The whole number in one store, if there is room for its zeros: nothing is behind us yet.
	 */
	memcpy(p + 1, &v, c->end - p > 8 ? 8 : n);
}

static inline void field_put_num(struct wcur *c, uint64_t v)
{
	if (v < NUM_LONG)
		put_le(c, v, 1);
	else
		num_put_long(c, v);
}

/* Either way, by as many bits as a slot has. */
static inline uint64_t id_turned(uint64_t v, unsigned left)
{
	return v << left | v >> (64 - left);
}

static inline struct slice field_get_str(struct rcur *c)
{
	size_t len = field_get_num(c, UINT16_MAX);
	const uint8_t *p = rcur_take(c, len);

	return p ? (struct slice){ .ptr = p, .len = len } : (struct slice){ 0 };
}

static inline void field_put_str(struct wcur *c, struct slice s)
{
	if (s.len > UINT16_MAX)
		c->bad = true;
	field_put_num(c, s.len);
	put_bytes(c, s.ptr, s.len);
}

/* clang-format off */
static inline uint16_t field_get_u16(struct rcur *c) { return (uint16_t)field_get_num(c, UINT16_MAX); }
static inline uint32_t field_get_u32(struct rcur *c) { return (uint32_t)field_get_num(c, UINT32_MAX); }
static inline uint64_t field_get_u64(struct rcur *c) { return field_get_num(c, UINT64_MAX); }
static inline uint32_t field_get_r32(struct rcur *c) { return get_u32(c); }
static inline uint64_t field_get_r64(struct rcur *c) { return get_u64(c); }
static inline uint64_t field_get_id(struct rcur *c)
{
	return id_turned(field_get_num(c, UINT64_MAX), ID_SLOT_SHIFT);
}
static inline void field_put_u16(struct wcur *c, uint16_t v) { field_put_num(c, v); }
static inline void field_put_u32(struct wcur *c, uint32_t v) { field_put_num(c, v); }
static inline void field_put_u64(struct wcur *c, uint64_t v) { field_put_num(c, v); }
static inline void field_put_r32(struct wcur *c, uint32_t v) { put_u32(c, v); }
static inline void field_put_r64(struct wcur *c, uint64_t v) { put_u64(c, v); }
static inline void field_put_id(struct wcur *c, uint64_t v)
{
	field_put_num(c, id_turned(v, 64 - ID_SLOT_SHIFT));
}
/* clang-format on */

/* As a struct has them. */
#define FIELD_TYPE_u16 uint16_t
#define FIELD_TYPE_u32 uint32_t
#define FIELD_TYPE_u64 uint64_t
#define FIELD_TYPE_id  uint64_t
#define FIELD_TYPE_r32 uint32_t
#define FIELD_TYPE_r64 uint64_t
#define FIELD_TYPE_str struct slice
