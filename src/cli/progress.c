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

/* "big.bin   42 % [########..........]  430 MiB of 1 GiB  212 MiB/s  00:12" as far as it fits. */
static void draw(struct progress *p, uint64_t ms)
{
	unsigned width = terminal_width(stderr) - 1, left, cells, label_width;
	char done[QUANTITY_TEXT_MAX], total[QUANTITY_TEXT_MAX], speed[QUANTITY_TEXT_MAX];
	char behind[128], bar[96];
	uint64_t per_s = p->done * 1000 / (ms ? ms : 1);
	bool has_total = p->total && p->done <= p->total;
	size_t fit;

	bytes_rough(p->done, done);
	bytes_rough(p->total, total);
	bytes_rough(per_s, speed);
	if (has_total && per_s) {
		uint64_t s = (p->total - p->done) / per_s;

		snprintf(behind, sizeof(behind), "%s of %s  %s/s  %02u:%02u", done, total, speed,
			 (unsigned)(s / 60 % 6000), (unsigned)(s % 60));
	} else {
		snprintf(behind, sizeof(behind), "%s  %s/s", done, speed);
	}

	bar[0] = '\0';
	left = width > strlen(behind) + 2 ? width - (unsigned)strlen(behind) - 2 : 0;
	label_width = name_columns(p->label);
	if (has_total && left >= 24) {
		cells = left >= 58 ? 30 : left >= 40 ? 16 : 8;
		unsigned full = (unsigned)((double)p->done / (double)p->total * cells);

		snprintf(bar, sizeof(bar), " %3u%% [%.*s%.*s]  ",
			 (unsigned)((double)p->done / (double)p->total * 100), (int)full,
			 "##############################", (int)(cells - full),
			 "..............................");
		left -= (unsigned)strlen(bar) - 2;
	} else {
		strcpy(bar, "  ");
	}
	if (label_width > left)
		label_width = left;
	fit = name_fit(p->label, label_width);
	fprintf(stderr, "\r%.*s%s%s\033[K", (int)fit, p->label, bar, behind);
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
