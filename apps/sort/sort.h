/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sort: one run of `wadi sort`, between driver.c, which has it run, and stages.c, which
 * knows what is to be done.
 */
#pragma once

#include "crew.h"
#include "job.h"
#include "options.h"
#include "plan.h"
#include "progress.h"
#include "report.h"
#include "verify.h"

struct sort {
	struct options options;
	struct problem problem;
	struct plan plan;
	struct job job;
	struct platform *platform;
	struct progress progress;
	struct report report;
	struct tally in;
	uint32_t maps, reduces, parallel;
};

/* All stages, from the input to the verified output. */
int stages_run(struct sort *s);

/*
 * Runs the tasks of a stage, or of two that overlap, until all have succeeded. Meanwhile
 * it renews the job, draws the progress, and fails with -EINTR when a signal came.
 */
int tasks_run(struct sort *s, struct task *tasks, size_t count);
