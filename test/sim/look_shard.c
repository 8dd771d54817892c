/* SPDX-License-Identifier: Apache-2.0 */
#include "look.h"

#include "meta/shard_priv.h"

const char *look_at_shard(const struct shard *s)
{
	const char *why = NULL;

	for (unsigned i = 0; i < SLOT_COUNT && !why; i++)
		if (s->slots[i])
			why = look_at_catalog(s->slots[i]->catalog, s->asking_count > 0);
	return why;
}
