/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/show.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *tier_name(enum wadi_tier tier)
{
	switch (tier) {
	case WADI_TIER_ANY:
		return "any";
	case WADI_TIER_DRAM:
		return "dram";
	case WADI_TIER_NVMF:
		return "nvmf";
	case WADI_TIER_BLOCK:
		return "block";
	}
	return "?";
}

void stat_json(struct json *j, const struct wadi_stat *s)
{
	char hex[2 * WADI_ATTRIBUTES_MAX + 1] = "";

	json_bool(j, "is_directory", s->is_directory);
	if (s->is_directory) {
		json_number(j, "objects", s->len);
		return;
	}
	json_number(j, "length", s->len);
	json_exact(j, "object", s->object);
	json_exact(j, "version", s->version);
	json_number(j, "age_ms", s->age_ms);
	if (s->ttl_left_ms == UINT64_MAX)
		json_null(j, "ttl_left_ms");
	else
		json_number(j, "ttl_left_ms", s->ttl_left_ms);
	if (s->reads_left == UINT32_MAX)
		json_null(j, "reads_left");
	else
		json_number(j, "reads_left", s->reads_left);
	json_word(j, "tier", tier_name(s->tier));
	json_number(j, "extents", s->extent_count);
	for (size_t i = 0; i < s->attributes_len && i < WADI_ATTRIBUTES_MAX; i++)
		sprintf(hex + 2 * i, "%02x", s->attributes[i]);
	json_word(j, "attributes", hex);
}

void job_json(struct json *j, const struct wadi_job_info *job)
{
	json_word(j, "name", job->name);
	json_exact(j, "id", job->id);
	json_bool(j, "has_ended", job->has_ended);
	json_bool(j, "has_expired", job->has_expired);
	if (job->lease_left_ms == UINT64_MAX)
		json_null(j, "lease_left_ms");
	else
		json_number(j, "lease_left_ms", job->lease_left_ms);
	json_number(j, "objects", job->object_count);
	json_number(j, "object_bytes", job->object_bytes);
	json_number(j, "dram_bytes", job->dram_bytes);
	if (job->quota_dram)
		json_number(j, "quota_dram", job->quota_dram);
	else
		json_null(j, "quota_dram");
	json_exact(j, "dram_byte_ms", byte_ms(job->dram_byte_ms_hi, job->dram_byte_ms_lo));
	json_real(j, "dram_gb_s", gb_seconds(job->dram_byte_ms_hi, job->dram_byte_ms_lo), 6);
}

static int by_name(const void *a, const void *b)
{
	const struct wadi_job_info *x = a, *y = b;

	return x->has_ended != y->has_ended ? x->has_ended - y->has_ended
					    : strcmp(x->name, y->name);
}

int jobs_list(struct wadi *w, struct wadi_job_info **ret, size_t *ret_count)
{
	size_t cap = 256;

	/* Jobs may begin between two calls; then there is a third. */
	for (;;) {
		struct wadi_job_info *jobs = calloc(cap, sizeof(*jobs));
		int n = jobs ? wadi_job_list(w, jobs, cap) : -ENOMEM;

		if (n >= 0 && (size_t)n <= cap) {
			qsort(jobs, (size_t)n, sizeof(*jobs), by_name);
			*ret = jobs;
			*ret_count = (size_t)n;
			return 0;
		}
		free(jobs);
		if (n < 0)
			return n;
		cap = (size_t)n + 256;
	}
}

double gb_seconds(uint64_t byte_ms_hi, uint64_t byte_ms_lo)
{
	return ((double)byte_ms_hi * 18446744073709551616.0 + (double)byte_ms_lo) / 1e12;
}
