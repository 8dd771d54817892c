/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/process_priv.h"

#include <time.h>

#include "base/container.h"

static uint64_t thread_cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* On the unit's loop. */
static void look(const struct core_unit *u, struct loop_tally *ret)
{
	*ret = (struct loop_tally){ .cpu_ns = thread_cpu_ns() };
	if (u->proxy)
		proxy_tally(u->proxy, ret);
}

/* Back on the loop that asked. */
static void answered(struct letter *l)
{
	struct core_unit *u = container_of(l, struct question, letter)->asker;

	if (--u->unanswered_count > 0)
		return;
	while (waitq_wake(&u->answered))
		;
}

static void answer(struct letter *l)
{
	struct question *q = container_of(l, struct question, letter);

	look(q->asked, &q->asker->tallies[q->asked->index]);
	l->run = answered;
	loop_post(q->asker->home.loop, l);
}

static void ask(struct core_unit *u, struct core_unit *other)
{
	struct question *q = &u->questions[other->index];

	*q = (struct question){ .letter.run = answer, .asker = u, .asked = other };
	u->unanswered_count++;
	loop_post(other->home.loop, &q->letter);
}

/* Who comes while others wait for answers takes the same ones. */
const struct loop_tally *tallies_ask(void *owner, uint64_t due_ns, unsigned *ret_count)
{
	struct core_unit *u = owner;
	struct process *s = u->home.process;

	if (u->unanswered_count == 0)
		for (unsigned i = 0; i < s->core_count; i++)
			if (i != u->index)
				ask(u, &s->cores[i]);
	while (u->unanswered_count > 0)
		if (waitq_wait(&u->answered, due_ns) < 0)
			return NULL;
	look(u, &u->tallies[u->index]);
	*ret_count = s->core_count;
	return u->tallies;
}
