/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crew: runs tasks on a platform, some at a time, in order, until each has succeeded.
 *
 * A task whose function died, was too late or failed runs again with the next attempt
 * number, before tasks that have not run yet; so a task that others wait for is never
 * behind them. After TASK_ATTEMPTS, or an error that would come again, the job fails.
 *
 * A platform that refuses a run has no room for it. That is no attempt: the run waits, and
 * those behind it too, each time longer, until another succeeds; without any, for at most as
 * long as a run may take. As many run at once as did when it was refused, one more after each
 * that succeeds.
 *
 * Who waits inside a function for other tasks comes after these in the list, so that it holds
 * no place that one of them needs now. One may need it again: it dies, and before this is heard
 * here the platform gives its place to who waits for it. On a platform that has refused a run,
 * who would wait is therefore started when those it waits for have ended.
 */
#pragma once

#include "options.h"
#include "platform.h"

#define TASK_ATTEMPTS 4

struct task {
	size_t stage;     /* the caller's */
	json_t *request;  /* owned: the value, without the attempt */
	size_t waits_for; /* inside its function, for the first so many of the list */

	/* Of a task that has ended. */
	json_t *reply;                      /* owned */
	uint64_t start_ns, init_ns, end_ns; /* the attempt that succeeded */
	uint32_t attempts, killed_count, refused_count;

	/* crew.c's own. */
	bool has_started;
	char *line; /* the request of this attempt */
	struct platform_run run;
	uint64_t kill_ns;              /* when it is to be killed; UINT64_MAX: not */
	uint32_t refusals;             /* one after the other */
	uint64_t refused_ns, again_ns; /* the first of them; not to be started before */
};

void tasks_fini(struct task *tasks, size_t count);

struct crew {
	struct platform *platform; /* not ours */
	struct problem *problem;   /* not ours */
	struct task *tasks;        /* not ours */
	size_t count, parallel;
	uint64_t timeout_ns;   /* of one run */
	unsigned kill_percent; /* of the runs, for tests */
	uint64_t random;       /* their seed */

	/* crew.c's own. */
	size_t ended_count, running_count;
	size_t places;     /* runs at once, as the platform has it; 0: not known */
	uint64_t ended_ns; /* what the ended ones took, in all */
	double kill_debt;  /* runs that should have been killed by now and were not */
};

/* 1: this task has succeeded; 0: due, or a signal came; -ENOENT: none is left; else it failed. */
int crew_next(struct crew *c, uint64_t due_ns, struct task **ret);

/* Ends what still runs; to be called before the tasks go. */
void crew_fini(struct crew *c);
