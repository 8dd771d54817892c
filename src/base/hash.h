/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash: XXH3 for tables (seeded: the keys come from outside) and crc32c for what
 * is stored, begun with a seed, so that bytes in the wrong place do not match.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t hash_64(const void *p, size_t len, uint64_t seed);

struct hash_128 {
	uint64_t hi, lo;
};
struct hash_128 hash_128(const void *p, size_t len, uint64_t seed);

/* `crc` is the result for the bytes before, or crc_begin(). */
uint32_t crc_more(uint32_t crc, const void *p, size_t len);

static inline uint32_t crc_begin(uint64_t seed)
{
	return (uint32_t)(seed ^ (seed >> 32));
}
