/* SPDX-License-Identifier: Apache-2.0 */
/*
 * book: how many bytes, for how long, exactly. A slot and a store book the same
 * changes with the same stamps, so that their integrals agree to the last bit,
 * although each books when it hears of them.
 *
 *	integral(T) = sum of delta x (T - stamp) = bytes x T - moments
 */
#pragma once

#include <stdint.h>

struct book {
	uint64_t bytes;
	unsigned __int128 moments; /* sum of delta x stamp_ns, modulo 2^128 */
};

static inline void book_add(struct book *b, int64_t delta, uint64_t stamp_ns)
{
	b->bytes += (uint64_t)delta;
	b->moments += (unsigned __int128)((__int128)delta * (__int128)stamp_ns);
}

/* 0 before the stamps of what is booked: clocks of slots differ by little, not by nothing. */
static inline unsigned __int128 book_integral(const struct book *b, uint64_t moment_ns)
{
	__int128 v = (__int128)((unsigned __int128)b->bytes * moment_ns - b->moments);

	return v < 0 ? 0 : (unsigned __int128)v;
}
