/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/mailbox.h"

#include <stddef.h>

/*
 * Sleeping is agreed upon by two variables, and by one order that all threads see:
 *
 *	sender                          owner
 *	P1  newest = letter             S1  is_asleep = true
 *	P2  read is_asleep              S2  read newest
 *
 * All four are sequentially consistent. Whichever of P1 and S1 comes second in that
 * order, the read after it sees the other: either the owner stays awake, or the
 * sender wakes it, or both. Never neither.
 */

bool mailbox_post(struct mailbox *m, struct letter *letter)
{
	/* Relaxed: only compared. The exchange below fails if it is out of date. */
	letter->next = atomic_load_explicit(&m->newest, memory_order_relaxed);

	/*
	 * P1, and a release: the letter and all that its sender did before are visible to
	 * who takes it. Pairs with the acquire in mailbox_take(). The letters below it are
	 * covered too, as each exchange continues the release of the one before.
	 */
	while (!atomic_compare_exchange_weak_explicit(&m->newest, &letter->next, letter,
						      memory_order_seq_cst, memory_order_relaxed))
		;

	/* P2. Read before it is written, since most posts find the owner awake. */
	if (!atomic_load_explicit(&m->is_asleep, memory_order_seq_cst))
		return false;
	/* Relaxed: of several senders one gets `true`, and orders nothing by it. */
	return atomic_exchange_explicit(&m->is_asleep, false, memory_order_relaxed);
}

struct letter *mailbox_take(struct mailbox *m)
{
	struct letter *newest, *oldest = NULL;

	if (mailbox_is_empty(m))
		return NULL;
	/* Acquire: pairs with the release in mailbox_post(). */
	newest = atomic_exchange_explicit(&m->newest, NULL, memory_order_acquire);
	while (newest) {
		struct letter *below = newest->next;

		newest->next = oldest;
		oldest = newest;
		newest = below;
	}
	return oldest;
}

bool mailbox_sleep(struct mailbox *m)
{
	/*
	 * S1 and S2; they pair with P1 and P2. S1 exchanges for the sake of qemu-user, which
	 * lets a load (ldar) pass a store (stlr); it is the same instruction on x86-64.
	 */
	(void)atomic_exchange_explicit(&m->is_asleep, true, memory_order_seq_cst);
	if (!atomic_load_explicit(&m->newest, memory_order_seq_cst))
		return true;
	mailbox_awake(m);
	return false;
}

void mailbox_awake(struct mailbox *m)
{
	/* Relaxed: a sender that still sees `true` wakes in vain, which costs one idle turn. */
	atomic_store_explicit(&m->is_asleep, false, memory_order_relaxed);
}
