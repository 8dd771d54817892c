/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region: a large piece of a function's memory.
 *
 * It counts against --function-memory from its first byte, touched or not, so a
 * function takes what it needs and no more. Huge pages where the machine has them:
 * to touch 4 KiB pages for the first time costs more than to sort what is in them.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* A whole word may be loaded that begins inside the region. */
#define REGION_SLACK 8

struct region {
	uint8_t *ptr;
	size_t len;

	/* region.c's own. */
	size_t mapped;
};

int region_init(struct region *g, size_t len);
void region_fini(struct region *g);
