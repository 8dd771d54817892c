/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/pins.h"

#include "base/plant.h"
#include "shm/index.h"
#include "shm/shared.h"

void pins_take(const struct pins *p, uint32_t mapping)
{
	/* Relaxed: the fence orders it. Its partner is the one in pins_reclaim(). */
	shared_add(&p->counts[mapping], 1, relaxed);
	if (!planted(PIN_UNFENCED))
		shared_fence(seq_cst);
	else
		shared_fence(acq_rel);
}

void pins_give(const struct pins *p, uint32_t mapping)
{
	/* Release: all reads of the view are over. Pairs with the acquire in is_pinned(). */
	if (!planted(PIN_GIVEN_EARLY))
		shared_add(&p->counts[mapping], -1, release);
	else
		shared_add(&p->counts[mapping], -1, relaxed);
}

/* A mapping that its region has no place for was never given to the function. */
static bool is_pinned(const struct pins *functions, size_t count, uint32_t mapping)
{
	for (size_t i = 0; i < count; i++)
		if (mapping < functions[i].count &&
		    shared_load(&functions[i].counts[mapping], acquire) != 0)
			return true;
	return false;
}

bool pins_reclaim(struct index_writer *x, uint32_t mapping, const struct pins *functions,
		  size_t count)
{
	bool was_pinned = planted(LOOK_BEFORE_DROP) && is_pinned(functions, count, mapping);

	if (!index_writer_drop_mapping(x, mapping))
		return false;
	if (planted(LOOK_BEFORE_DROP))
		return !was_pinned;
	if (!planted(LOOK_UNFENCED))
		shared_fence(seq_cst);
	return !is_pinned(functions, count, mapping);
}
