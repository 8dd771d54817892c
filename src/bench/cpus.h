/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpus: who runs where, and whether the cores sleep.
 *
 * Servers get the first cores that this process may use, clients the next ones; if there
 * are not enough, the last ones are shared. All systems get the same.
 *
 * A virtual core that sleeps takes 20 to 50 us to wake, so a run is either quiet, or it
 * keeps every core awake by a thread that runs only when nobody else wants to (SCHED_IDLE).
 */
#pragma once

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

enum cpus_part { CPUS_SERVER, CPUS_CLIENT };

cpu_set_t cpus_of(enum cpus_part part, unsigned threads);
/* This thread; what it had before. */
cpu_set_t cpus_pin(const cpu_set_t *cpus);
/* This thread runs when nobody else wants its core (SCHED_IDLE). */
void cpus_leave_to_others(void);

#define AWAKE_MAX 256
struct awake {
	pthread_t threads[AWAKE_MAX];
	unsigned count;
	atomic_bool must_stop;
};
int awake_start(struct awake *a);
void awake_stop(struct awake *a);
