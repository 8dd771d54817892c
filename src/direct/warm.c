/* SPDX-License-Identifier: Apache-2.0 */
/*
 * warm: direct clients between two handles. A function's process is used for many
 * invocations, often one handle each, and frozen in between; so nothing here runs, and
 * what became of connections and session is found out by who comes next.
 *
 * Each place is taken and given by one exchange, so whoever has got a direct client
 * out of one has it alone. Release and acquire there: what the thread before has written
 * is seen by the next.
 */
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "direct/direct_priv.h"

static _Atomic(struct direct *) places[DIRECT_WARM_MAX];

static bool is_like(const struct direct *d, const char *endpoint, const char *token)
{
	return strcmp(d->endpoint, endpoint) == 0 && strcmp(d->token, token) == 0;
}

/* An empty place, or the caller keeps it. */
static bool put(struct direct *d)
{
	for (int i = 0; i < DIRECT_WARM_MAX; i++) {
		struct direct *none = NULL;

		if (atomic_compare_exchange_strong_explicit(
			    &places[i], &none, d, memory_order_release, memory_order_relaxed))
			return true;
	}
	return false;
}

static void end(struct direct *d)
{
	loop_adopt(d->loop);
	direct_free(d);
}

struct direct *warm_take(const char *endpoint, const char *token)
{
	for (int i = 0; i < DIRECT_WARM_MAX; i++) {
		struct direct *d = atomic_exchange_explicit(&places[i], NULL, memory_order_acquire);

		if (!d || d->pid != getpid())
			continue; /* of the process that we were forked from: not ours to close */
		if (is_like(d, endpoint, token)) {
			loop_adopt(d->loop);
			return d;
		}
		if (!put(d))
			end(d);
	}
	return NULL;
}

/* Those that were given before are the less likely to be wanted. */
void warm_give(struct direct *d)
{
	struct direct *old;

	if (put(d))
		return;
	old = atomic_exchange_explicit(&places[0], d, memory_order_acq_rel);
	if (old && old->pid == getpid())
		end(old);
}
