/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor: what is looked at, and what comes out of it.
 *
 * A finding is good, or it says what is wrong and what to do. A warning is what Wadi
 * copes with at a price; bad is what a person must change.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum finding_level { FINDING_OK, FINDING_WARN, FINDING_BAD };

struct doctor {
	bool is_json;
	unsigned width;
	unsigned counts[3]; /* by level */
	bool is_unreachable;
};

/* `what_to_do` NULL: nothing. */
void finding(struct doctor *d, enum finding_level level, const char *about, const char *what_to_do,
	     const char *format, ...) __attribute__((format(printf, 5, 6)));

/* doctor_log.c: the log in a server's --data. */
void doctor_log(struct doctor *d, const char *data, bool must_repair);

/* doctor_machine.c: the machine, for a server of so much memory. */
void doctor_machine(struct doctor *d, uint64_t memory);
