/* SPDX-License-Identifier: Apache-2.0 */
/*
 * show: objects and jobs as several commands print them.
 */
#pragma once

#include <stddef.h>
#include <wadi/wadi.h>

#include "cli/json.h"

const char *tier_name(enum wadi_tier tier);
void stat_json(struct json *j, const struct wadi_stat *s);
void job_json(struct json *j, const struct wadi_job_info *job);

/* All jobs, living ones first, by name; whoever calls frees them. 0 or a negative errno. */
int jobs_list(struct wadi *w, struct wadi_job_info **ret, size_t *ret_count);

/* GB·s of a bill: 10^9 bytes for a second. */
double gb_seconds(uint64_t byte_ms_hi, uint64_t byte_ms_lo);
static inline unsigned __int128 byte_ms(uint64_t hi, uint64_t lo)
{
	return (unsigned __int128)hi << 64 | lo;
}
