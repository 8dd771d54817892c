/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report: what a sort did, per stage and in all, as a table for people or as JSON.
 */
#pragma once

#include <stdio.h>

#include "crew.h"
#include "starts.h"
#include "store.h"

/* What a GB·hour of memory is taken to cost, in dollars; an estimate is made with it. */
#define PRICE_PER_GB_HOUR 0.084

enum stage_id {
	STAGE_GENERATE,
	STAGE_SAMPLE,
	STAGE_MAP,
	STAGE_REDUCE,
	STAGE_VALIDATE,
	STAGE_COUNT
};

struct stage {
	uint32_t functions, attempts, killed;
	uint64_t start_ns, end_ns;
	uint64_t bytes;          /* of long-term storage: read, or written if more was */
	uint64_t io_ns, wait_ns; /* of all its functions, in the store and there for others */
	uint64_t store_read_bytes, store_written_bytes;
	uint64_t peak_memory;     /* of the function that held most */
	struct store_usage usage; /* when the stage ended */
	struct times cold;        /* starts */
};

struct report {
	struct stage stages[STAGE_COUNT];
	struct starts_all starts;
	const char *platform; /* a word, so long */
	size_t platform_len;
	enum format format;
	const char *store;     /* how it was reached, in a word: wadi, redis, dir */
	const char *attach;    /* and of Wadi how functions attach; NULL: it is not Wadi */
	uint64_t count, bytes; /* that were sorted */
	u128 sum;
	uint64_t duplicates;
	uint64_t total_ns;
	struct store_usage usage; /* at the end of the job */
	bool is_verified;
};

const char *stage_name(size_t stage);

/* Adds a task that has ended to its stage. */
void report_add(struct report *r, const struct task *t);

/* Both sort its times. */
void report_print(struct report *r, FILE *to);
void report_print_json(struct report *r, FILE *to);
