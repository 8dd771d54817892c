/* SPDX-License-Identifier: Apache-2.0 */
/* clock: time for measuring and for deadlines; the same for all processes of a machine. */
#pragma once

#include <stdint.h>
#include <time.h>

#define NS_PER_S  1000000000ull
#define NS_PER_MS 1000000ull

static inline uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* What is left until `due_ns`, for calls that want milliseconds; rounded up, at most `max_ms`. */
static inline int clock_left_ms(uint64_t due_ns, int max_ms)
{
	uint64_t now_ns = clock_ns();
	uint64_t left_ms = due_ns > now_ns ? (due_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS : 0;

	return left_ms < (uint64_t)max_ms ? (int)left_ms : max_ms;
}
