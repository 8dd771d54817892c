/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore: a pool from what a predecessor left with the keeper, and the table for a
 * successor. Segments that were in use go on under the same id, generation and key; all
 * other memory goes, so that nobody ever sees what was in it. Blocks: at start only.
 */
#pragma once

#include "shm/keep.h"
#include "shm/retired.h"
#include "store/pool.h"

struct restored {
	bool is_again;  /* there was a predecessor */
	unsigned count; /* segments that go on */
	unsigned lost;  /* whose memory, or whose row, is not there */
	uint64_t limit; /* that was asked for, if more than that is in use; else 0 */
};

/*
 * pool_init(), with the predecessor's number, or a new one. `wall_ns` is the time that is
 * booked as the end of what is lost. Without a keeper there is no table. After an error
 * pool_fini() is due all the same; what the keeper has and cannot be mapped now is one, and is left
 * there. What is free and functions may map still comes to `retired`.
 */
int pool_open(struct pool *p, struct keep *keep, const struct media *media, struct retired *retired,
	      uint64_t limit, uint64_t wall_ns, struct restored *ret);
