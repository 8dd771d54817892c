/* SPDX-License-Identifier: Apache-2.0 */
/*
 * account: how many bytes, for how long, exactly. Who books the same changes with the
 * same stamps has the same integral to the last bit, whenever he hears of them.
 *
 *	integral(T) = sum of delta x (T - stamp) = bytes x T - moments
 */
#pragma once

#include <stdint.h>

struct account {
	uint64_t bytes;
	unsigned __int128 moments; /* sum of delta x stamp, modulo 2^128 */
};

static inline void account_book(struct account *a, int64_t delta, uint64_t stamp_ns)
{
	a->bytes += (uint64_t)delta;
	a->moments += (unsigned __int128)((__int128)delta * (__int128)stamp_ns);
}

/* 0 before the stamps of what is booked. */
static inline unsigned __int128 account_integral(const struct account *a, uint64_t moment_ns)
{
	__int128 v = (__int128)((unsigned __int128)a->bytes * moment_ns - a->moments);

	return v < 0 ? 0 : (unsigned __int128)v;
}
