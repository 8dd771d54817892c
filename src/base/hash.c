/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include <isa-l/crc.h>
#include <xxhash.h>

uint64_t hash_64(const void *p, size_t len, uint64_t seed)
{
	return XXH3_64bits_withSeed(p, len, seed);
}

struct hash_128 hash_128(const void *p, size_t len, uint64_t seed)
{
	XXH128_hash_t h = XXH3_128bits_withSeed(p, len, seed);

	return (struct hash_128){ .hi = h.high64, .lo = h.low64 };
}

uint32_t crc_more(uint32_t crc, const void *p, size_t len)
{
	const unsigned char *at = p;

	/* The library counts in int. */
	while (len > 0) {
		int n = len < (1u << 30) ? (int)len : 1 << 30;

		crc = crc32_iscsi((unsigned char *)at, n, crc);
		at += n;
		len -= (size_t)n;
	}
	return crc;
}
