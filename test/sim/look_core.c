/* SPDX-License-Identifier: Apache-2.0 */
#include "look.h"

#include "core/core_priv.h"
#include "direct/direct_priv.h"

unsigned core_sessions(const struct core *c, uint64_t *list, unsigned cap)
{
	unsigned n = c->shard_count < cap ? c->shard_count : cap;

	for (unsigned i = 0; i < n; i++)
		/* Until HELLO is answered it is that of a predecessor. */
		list[i] = c->links[i]->epoch > 0 ? c->links[i]->session : 0;
	return n;
}

struct core *direct_core(const struct direct *d)
{
	return d->core;
}
