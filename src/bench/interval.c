/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/interval.h"

#include <math.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/*
 * The rank, from 0, of the interval's low end. The median is below the value of rank r when at
 * most r of n coins show heads; the largest r for which that has 2.5 % at the most.
 */
static unsigned low_rank(unsigned n)
{
	double chance = pow(0.5, n), sum = chance;
	unsigned r = 0;

	while (sum + chance * (double)(n - r) / (r + 1) <= 0.025) {
		chance *= (double)(n - r) / (r + 1);
		sum += chance;
		r++;
	}
	return r;
}

struct interval interval_of(double *values, unsigned count)
{
	struct interval ret = { 0 };
	unsigned k;

	if (count == 0)
		return ret;
	qsort(values, count, sizeof(*values), compare);
	k = low_rank(count);
	ret.median = (values[(count - 1) / 2] + values[count / 2]) / 2;
	ret.low = values[k];
	ret.high = values[count - 1 - k];
	return ret;
}
