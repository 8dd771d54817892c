/* SPDX-License-Identifier: Apache-2.0 */
/*
 * access: what a connection may do. Servers of the store may do everything, and name
 * the job they act for; a function may do what its token says, in its own job.
 */
#pragma once

#include "net/conn.h"

/* 0; -EACCES: not this right, this job, or this path. *ret_why is a literal. */
int access_check(const struct access *a, unsigned right, uint64_t job, struct slice path,
		 const char **ret_why);
