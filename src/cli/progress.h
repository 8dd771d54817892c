/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress: a line on the terminal's stderr for what takes longer than a second.
 * None if stderr is no terminal, or if standard output is one that we write to.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct progress {
	const char *label;    /* not ours; safe */
	uint64_t done, total; /* bytes; total 0: not known */
	struct timespec begun, drawn;
	bool is_wanted, is_drawn;
};

void progress_begin(struct progress *p, const char *label, uint64_t total, bool is_stdout_used);
void progress_add(struct progress *p, uint64_t bytes);
void progress_end(struct progress *p); /* wipes the line; before any message */
