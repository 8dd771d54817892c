/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pins: how many views a function has in each mapping: a region that the function writes
 * and the proxy reads. The function may write anything: it can only keep what its own job
 * pays for, or lose it early.
 *
 * Why nobody reads what is given away. Reader and reclaimer each write, then read:
 *
 *	function: view_get()             proxy: pins_reclaim()
 *	R1  reads sequence and words     P1  makes the sequence odd, of each entry
 *	R2  counts up                    P2  fence, seq_cst
 *	R3  fence, seq_cst               P3  reads the count: not 0: comes again
 *	R4  reads lease, table, sequence P4  ends the life of the mapping, reuses the bytes
 *	R5  reads the bytes              (a proxy that takes over has, for P1, another table)
 *	R6  counts down, release
 *
 * - Of two seq_cst fences one comes first. If it is R3, P3 sees the count of R2; if it is
 *   P2, R4 sees the sequence of P1 (or the table), which is not that of R1, ever. Never neither.
 * - P3 is an acquire and pairs with R6: when it reads 0, all reads of R5 are over. Counts are
 *   changed by adding alone, so that the last one down is after all others.
 * - A count that was 0 once after P2 needs no second look: views that begin later fail at R4.
 *   A count that R2 leaves for a moment, before R4 fails, costs the proxy one more visit.
 * - R1 is whole because a word of a later entry comes with its odd sequence (the release in
 *   entry_write(), the fence R3). Who sees the lease sees what was dropped before it.
 * - A reader that stops for ever between any two of these holds what a view holds, no more.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct index_writer;

struct pins {
	_Atomic uint32_t *counts; /* of mappings, by their number */
	uint32_t count;
};

static inline struct pins pins_of(void *region, size_t size)
{
	return (struct pins){ .counts = region, .count = (uint32_t)(size / sizeof(uint32_t)) };
}

/* The function's; on any of its threads. */
void pins_take(const struct pins *p, uint32_t mapping);
void pins_give(const struct pins *p, uint32_t mapping);

/*
 * The proxy's: drops entries into a mapping, and looks at the pins of its functions. True:
 * none of these functions has a view in it, nor will get one. False: come again. Who has
 * many functions may ask for some of them at a time; nothing is put there meanwhile.
 */
bool pins_reclaim(struct index_writer *x, uint32_t mapping, const struct pins *functions,
		  size_t count);
