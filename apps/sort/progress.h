/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress: a bar on a terminal for a stage that takes longer than a second; nothing
 * when the output goes anywhere else.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
	bool is_shown; /* there is a terminal */

	/* progress.c's own. */
	bool is_drawn;
	uint64_t start_ns;
};

void progress_init(struct progress *p, bool is_wanted);
void progress_begin(struct progress *p);

/* Looks at the clock and at the width of the terminal each time; ten times a second is right. */
void progress_draw(struct progress *p, const char *name, size_t ended, size_t running,
		   size_t count);

/* Wipes the bar, so that what is printed next begins on an empty line. */
void progress_end(struct progress *p);
