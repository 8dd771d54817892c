/* SPDX-License-Identifier: Apache-2.0 */
/*
 * due: when who waits for room, which others may give back, is told that there is none.
 */
#pragma once

#include <stdint.h>

#define DUE_EARLY_SHARE  8
#define DUE_EARLY_NS_MAX 100000000ull
#define DUE_AGAIN_SHARE  4

/* What is only said at the end of a wait is said so long before it, so that it is heard in time. */
static inline uint64_t due_early(uint64_t now_ns, uint64_t due_ns)
{
	uint64_t by_ns = due_ns > now_ns ? (due_ns - now_ns) / DUE_EARLY_SHARE : 0;

	return due_ns - (by_ns < DUE_EARLY_NS_MAX ? by_ns : DUE_EARLY_NS_MAX);
}

/*
 * Until then it is worth while to begin another wait: with less time left, what is said in the end
 * of that would be heard too late.
 */
static inline uint64_t due_again(uint64_t begun_ns, uint64_t due_ns)
{
	return due_ns > begun_ns ? due_ns - (due_ns - begun_ns) / DUE_AGAIN_SHARE : due_ns;
}
