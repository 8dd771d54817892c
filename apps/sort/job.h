/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job: what one run of `wadi sort` owns: its directories, its store, its job in there.
 *
 * job_end() gives back all of it, in whatever state the run was left. After a kill -9
 * of the driver nobody calls it: functions and the embedded store die with the driver,
 * the sweeper removes the directories, and a job in a store that lives on ends with its
 * lease, which job_tick() renews.
 */
#pragma once

#include "embedded.h"
#include "options.h"
#include "sweeper.h"

#define JOB_LEASE_MS 30000

struct job {
	const struct options *options; /* not ours */
	struct problem *problem;       /* not ours */
	char name[32];
	char *work;   /* a directory for files, removed at the end */
	char *output; /* the directory that the user named for the parts, or NULL */
	char *parts;  /* where they are until they are verified */
	char *function_program;
	char *function_bundle; /* a zip of it, for platforms elsewhere */
	char token[STORE_TOKEN_MAX];
	struct store_config function_store; /* what functions get, but for where it is: */
	const char *function_url;
	struct store *admin;   /* makes and ends the job */
	struct store *store;   /* the driver's own way to the data */
	uint64_t store_memory; /* of the embedded store; 0: there is none */
	char attach[16];       /* how functions attach to Wadi; "": it is not Wadi */

	/* job.c's own. */
	struct sweeper sweeper;
	struct embedded embedded;
	uint64_t renewed_ns;
	bool has_begun; /* in the store */
};

/* What is going to pass through the store. */
struct job_size {
	uint64_t bytes, objects;
};

int job_begin(struct job *j, const struct options *o, struct job_size size,
	      struct problem *problem);
int job_end(struct job *j); /* fails if the store would not end the job */

/* To be called at least every few seconds. */
int job_tick(struct job *j);

/*
 * Moves the verified parts to where the user wants them. The first one comes last: where
 * there is a part-00000, there are all.
 */
int job_publish(struct job *j, uint32_t count);

/* A path below `directory`, to be freed; NULL: no memory. */
char *job_path(const char *directory, const char *kind, uint32_t index);
