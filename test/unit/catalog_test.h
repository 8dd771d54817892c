/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog_test: how a test of the catalog begins, with a job, and ends: everything holds, and
 * the log leads to the same state, and so does a snapshot. One program includes it once.
 */
#pragma once

#include "test.h"

#include "slot.h"

static struct slot_test t;
static uint64_t job;

static int begin(void **state)
{
	slot_open(&t);
	job = slot_job(&t, "job", 0);
	return 0;
}

static int end(void **state)
{
	const char *why = catalog_check(t.c);

	if (!why)
		why = slot_replay(&t);
	if (!why) {
		catalog_snapshot_stop(t.c); /* one that the test began */
		slot_snapshot_begin(&t);
		while (catalog_snapshot_step(t.c, UINT32_MAX))
			;
		why = slot_restore(&t);
	}
	if (why)
		printf("%s\n", why);
	slot_close(&t);
	return why ? -1 : 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
