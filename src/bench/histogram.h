/* SPDX-License-Identifier: Apache-2.0 */
/*
 * histogram: how often which time was measured, in buckets that grow with the value.
 *
 * Each power of two is cut into 128 buckets, so what is reported is within 0.4 % of what
 * was added, over all 64 bits, in constant memory and without a choice of range. Below
 * 128 every value has a bucket of its own; the least and the largest are exact. Pure.
 */
#pragma once

#include <stdint.h>

#define HISTOGRAM_BITS    7
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS)

struct histogram {
	uint64_t count, sum, min, max; /* min and max: of nothing, 0 */
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t value);
void histogram_merge(struct histogram *h, const struct histogram *other);

/* The least value that at least this share of all values do not exceed; 0 of nothing. */
uint64_t histogram_at(const struct histogram *h, double share);
