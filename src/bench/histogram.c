/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/histogram.h"

#include <math.h>

#define PER_OCTAVE (1u << HISTOGRAM_BITS)

static unsigned bucket_of(uint64_t value)
{
	unsigned shift;

	if (value < PER_OCTAVE)
		return (unsigned)value;
	shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_BITS;
	return (shift + 1) * PER_OCTAVE + (unsigned)(value >> shift) - PER_OCTAVE;
}

/* The middle of a bucket. */
static uint64_t value_of(unsigned bucket)
{
	unsigned shift = bucket / PER_OCTAVE;
	uint64_t step = bucket % PER_OCTAVE;

	if (shift == 0)
		return step;
	shift--;
	return ((PER_OCTAVE + step) << shift) + ((1ull << shift) >> 1);
}

void histogram_add(struct histogram *h, uint64_t value)
{
	if (h->count == 0 || value < h->min)
		h->min = value;
	if (value > h->max)
		h->max = value;
	h->count++;
	h->sum += value;
	h->buckets[bucket_of(value)]++;
}

void histogram_merge(struct histogram *h, const struct histogram *other)
{
	if (other->count == 0)
		return;
	if (h->count == 0 || other->min < h->min)
		h->min = other->min;
	if (other->max > h->max)
		h->max = other->max;
	h->count += other->count;
	h->sum += other->sum;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		h->buckets[i] += other->buckets[i];
}

uint64_t histogram_at(const struct histogram *h, double share)
{
	uint64_t rank = (uint64_t)ceil(share * (double)h->count), seen = 0, value;
	unsigned i = 0;

	if (h->count == 0)
		return 0;
	if (rank == 0)
		rank = 1;
	if (rank >= h->count)
		return h->max;
	while ((seen += h->buckets[i]) < rank)
		i++;
	value = value_of(i);
	return value < h->min ? h->min : value > h->max ? h->max : value;
}
