/* SPDX-License-Identifier: Apache-2.0 */
/*
 * interval: the median of a few values, and where it lies with 95 %.
 *
 * From the order of the values alone: the median is below all n of them as often as a coin
 * falls on one side n times. Nothing is assumed about how they are spread, so six values
 * are the least that say anything; of fewer the interval is all of them. Pure.
 */
#pragma once

#define INTERVAL_LEAST 6

struct interval {
	double median, low, high;
};

/* Sorts `values`. Of none: all 0. */
struct interval interval_of(double *values, unsigned count);
