/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>

#include "base/quantity.h"
#include "cli/terminal.h"

#define FIRST_MS 1000
#define AGAIN_MS 100

static uint64_t ms_since(const struct timespec *from, const struct timespec *to)
{
	return (uint64_t)((to->tv_sec - from->tv_sec) * 1000 +
			  (to->tv_nsec - from->tv_nsec) / 1000000);
}

void progress_begin(struct progress *p, const char *label, uint64_t total, bool is_stdout_used)
{
	*p = (struct progress){ .label = label, .total = total };
	p->is_wanted = terminal_is(stderr) && !(is_stdout_used && terminal_is(stdout));
	clock_gettime(CLOCK_MONOTONIC, &p->begun);
	p->drawn = p->begun;
}

/* "430 MiB of 1 GiB  212 MiB/s  00:12"; the time left goes first where there is no room. */
static void put_numbers(const struct progress *p, uint64_t per_s, bool has_total, bool has_time,
			char *buf, size_t cap)
{
	char done[QUANTITY_TEXT_MAX], total[QUANTITY_TEXT_MAX], speed[QUANTITY_TEXT_MAX];
	uint64_t left_s = has_total && per_s ? (p->total - p->done) / per_s : 0;
	int n;

	bytes_rough(p->done, done);
	bytes_rough(p->total, total);
	bytes_rough(per_s, speed);
	n = snprintf(buf, cap, "%s%s%s  %s/s", done, has_total ? " of " : "",
		     has_total ? total : "", speed);
	if (has_total && has_time)
		snprintf(buf + n, cap - (size_t)n, "  %02u:%02u", (unsigned)(left_s / 60 % 6000),
			 (unsigned)(left_s % 60));
}

/* " 42% [########......]  " */
static void put_bar(const struct progress *p, unsigned cells, char *buf, size_t cap)
{
	double part = (double)p->done / (double)p->total;
	int full = (int)(part * cells);

	snprintf(buf, cap, " %3u%% [%.*s%.*s]  ", (unsigned)(part * 100), full,
		 "##############################", (int)cells - full,
		 "..............................");
}

/* "big.bin  42% [########........]  430 MiB of 1 GiB  212 MiB/s  00:12" as far as it fits. */
static void draw(struct progress *p, uint64_t ms)
{
	unsigned width = terminal_width(stderr) - 1, left, label;
	uint64_t per_s = p->done * 1000 / (ms ? ms : 1);
	bool has_total = p->total && p->done <= p->total;
	char numbers[128], bar[96] = "  ";

	put_numbers(p, per_s, has_total, width >= 70, numbers, sizeof(numbers));
	left = width > strlen(numbers) ? width - (unsigned)strlen(numbers) : 0;
	if (left < strlen(bar))
		bar[0] = '\0';
	else if (has_total && left >= 20)
		put_bar(p, left >= 64 ? 30 : left >= 48 ? 16 : 8, bar, sizeof(bar));
	left = left > strlen(bar) ? left - (unsigned)strlen(bar) : 0;
	label = name_columns(p->label);
	fprintf(stderr, "\r%.*s%s%.*s\033[K", (int)name_fit(p->label, label < left ? label : left),
		p->label, bar, (int)width, numbers);
	fflush(stderr);
	p->is_drawn = true;
}

void progress_add(struct progress *p, uint64_t bytes)
{
	struct timespec now;

	p->done += bytes;
	if (!p->is_wanted)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (ms_since(&p->begun, &now) < FIRST_MS || ms_since(&p->drawn, &now) < AGAIN_MS)
		return;
	p->drawn = now;
	draw(p, ms_since(&p->begun, &now));
}

void progress_end(struct progress *p)
{
	if (p->is_drawn)
		fputs("\r\033[K", stderr);
	p->is_drawn = p->is_wanted = false;
}
