/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faults: makes the kernel fail. One fault is armed at a time; calls are counted from
 * then on, of all threads together.
 */
#pragma once

#include <stdbool.h>

/* Instead of an errno: less than was wanted, or a yes to what was not done. */
#define SHORT   (-1)
#define NOTHING (-2)

/* The scenarios, of which a process runs one or two. */
enum where { LOOP = 1, MEMORY = 2, OWNER = 4, KEEPER = 8, KEEPERS_END = 16, ARCHIVE = 32 };

enum outcome { WORKS, SAYS };

struct fault {
	int call; /* enum in faults.c */
	const char *call_name;
	unsigned where; /* it is met */
	int error;
	unsigned times; /* in a row */
	enum outcome outcome;
	const char *what;
};

extern const struct fault ALL_FAULTS[];
extern const unsigned ALL_FAULTS_COUNT;

/* From the `first` call on. */
void fault_arm(const struct fault *f, unsigned first);
/* True if it has happened. */
bool fault_disarm(void);
/* A line of such scenarios that has not happened since this was asked; NULL: all have. */
const struct fault *fault_never_met(unsigned where);
