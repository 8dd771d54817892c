/* SPDX-License-Identifier: Apache-2.0 */
/*
 * who: may a function be given segments of its job to map? Who maps memory can hand it on to
 * whatever else can look into its process, so that must be nobody of another job. Pure.
 */
#pragma once

#include "net/conn.h"

/* Of a uid whose processes may map segments of one job, until that is over. */
struct uid_job {
	struct list link;
	uint64_t job;
	uint32_t uid;
	uint32_t place; /* where its successor finds it */
};

struct who {
	const struct access *access;
	const struct peer *peer;
	uint32_t own_uid;    /* the proxy's */
	uint64_t job_of_uid; /* that the peer's uid is bound to; 0: none */
	bool is_isolated;    /* whoever mounts this socket shares no pid namespace with others */
	bool trusts_local;   /* whoever can connect is as good as one's own */
};

/* 0, and whether its uid is to be bound to its job; -EACCES or -EOPNOTSUPP, and why. */
int who_may_map(const struct who *w, bool *ret_binds, const char **ret_why);
