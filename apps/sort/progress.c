/* SPDX-License-Identifier: Apache-2.0 */
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "clock.h"

#define WIDTH_MAX 120 /* a longer bar says no more */

void progress_init(struct progress *p, bool is_wanted)
{
	*p = (struct progress){ .is_shown = is_wanted && isatty(STDERR_FILENO) };
}

void progress_begin(struct progress *p)
{
	p->start_ns = clock_ns();
}

static size_t terminal_width(void)
{
	struct winsize size = { 0 };

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
		return 80;
	return size.ws_col < WIDTH_MAX ? size.ws_col : WIDTH_MAX;
}

void progress_draw(struct progress *p, const char *name, size_t ended, size_t running, size_t count)
{
	uint64_t passed_ns = clock_ns() - p->start_ns;
	char bar[WIDTH_MAX + 1], tail[48];
	size_t width, full, part;
	int tail_len;

	if (!p->is_shown || passed_ns < NS_PER_S || count == 0)
		return;
	tail_len = snprintf(tail, sizeof(tail), " %zu of %zu, %llu s", ended, count,
			    (unsigned long long)(passed_ns / NS_PER_S));
	width = terminal_width();
	/* Three columns stay free: for terminals that wrap at the last one, and for a ^C. */
	width = width > (size_t)tail_len + 16 ? width - (size_t)tail_len - 14 : 0;
	full = width * ended / count;
	part = width * (ended + running) / count;
	memset(bar, ' ', width);
	memset(bar, '-', part);
	memset(bar, '#', full);
	bar[width] = '\0';
	fprintf(stderr, "\r%-8s [%s]%s\x1b[K", name, bar, tail);
	fflush(stderr);
	p->is_drawn = true;
}

void progress_end(struct progress *p)
{
	if (p->is_drawn)
		fprintf(stderr, "\r\x1b[K");
	p->is_drawn = false;
}
