/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workload: what functions and an operator do, and whether what they are answered is
 * what the model allows. Each client is a script on a fiber of its own node; it picks
 * a living job and works in it for a while, through this proxy or that. What was not
 * answered is mostly asked again under the same attempt.
 */
#pragma once

#include "cluster.h"
#include "model.h"

#define JOBS 3

enum act {
	ACT_PUT,
	ACT_CREATE,
	ACT_IF_VERSION,
	ACT_UPLOAD,
	ACT_IN_PLACE,
	ACT_GET,
	ACT_RANGE,
	ACT_HELD,
	ACT_STAT,
	ACT_REMOVE,
	ACT_RENAME,
	ACT_REMOVE_TREE,
	ACT_LIST,
	ACT_WAIT,
	ACT_AGAIN,
	ACTS,
};

/* What is done in a run, and how much: chosen by the seed. */
struct plan {
	unsigned weights[ACTS];
	uint32_t len_max, pause_ms_max;
	uint64_t busy_until_ns, until_ns; /* after the first they take their time */
	uint32_t end_permille;            /* of the operator's turns: a job is ended */
	bool has_short_leases, has_quotas, is_tight;
};

struct workload;

/* Room that is its own no more, and that it has mapped still. */
struct ghost {
	uint8_t *data;
	size_t len;
};
#define GHOSTS_MAX 4

struct script {
	struct wadi_op op;
	struct workload *wl;
	unsigned index, proxy;
	uint64_t random;
	uint8_t *buf;
	struct waitq sleep;
	struct gen *gen;
	bool is_running;
	bool has_left;            /* a function that has done what it was started for */
	struct write *memory[16]; /* acknowledged puts, to be repeated */
	struct ghost ghosts[GHOSTS_MAX];
	unsigned ghost_count;
};

struct workload {
	struct cluster *c;
	struct model *m;
	struct plan plan;
	struct gen *jobs[JOBS];
	struct script scripts[SHAPE_CLIENTS];
	unsigned names; /* of jobs, given */
	unsigned tried_job;
	uint64_t ops;
};

void workload_init(struct workload *wl, struct cluster *c, struct model *m,
		   const struct plan *plan);
void workload_fini(struct workload *wl);
/* The script of a client begins, as it does when its process has started. */
void workload_start(struct workload *wl, unsigned client);
void workload_killed(struct workload *wl, unsigned client);
/* Processes of functions that have left end, and others are started. */
void workload_renew(struct workload *wl);
bool workload_is_over(const struct workload *wl);
/* The end; workload_is_over() tells of each when it is done. Reads everything: on the operator. */
void workload_read(struct workload *wl);
/*
 * A bit of everything, in this job: through both proxies from the operator, and from clients that
 * are their own. False: not by this client, or there is no such job.
 */
bool workload_try(struct workload *wl, unsigned client, unsigned job);
/* Ends all jobs: on the operator. */
void workload_finish(struct workload *wl);
