/* SPDX-License-Identifier: Apache-2.0 */
#include "starts.h"

#include <stdlib.h>

void times_add(struct times *t, uint64_t ns)
{
	if (t->count < STARTS_MAX)
		t->ns[t->count++] = ns;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

uint64_t times_median_ns(struct times *t)
{
	qsort(t->ns, t->count, sizeof(*t->ns), compare);
	return t->count ? t->ns[t->count / 2] : 0;
}

static void attach_add(struct starts_all *all, uint64_t attach_ns, uint64_t run_ns)
{
	all->store_ns += run_ns;
	if (attach_ns == 0) {
		all->kept_count++;
		return;
	}
	times_add(&all->attach, attach_ns);
	all->attached_ns += attach_ns;
	all->fresh_ns += run_ns;
}

uint64_t starts_add(struct starts_all *all, const struct task *t)
{
	const json_t *attach = json_object_get(t->reply, "attach_ns");
	bool is_cold = json_integer_value(json_object_get(t->reply, "run")) <= 1;
	uint64_t wall_ns = (uint64_t)json_integer_value(json_object_get(t->reply, "wall_ns"));
	uint64_t ns = t->end_ns - t->start_ns, beyond_ns = ns > wall_ns ? ns - wall_ns : 0;
	struct starts *s = is_cold ? &all->cold : &all->warm;

	all->refused_count += t->refused_count;
	times_add(&s->beyond, beyond_ns);
	if (t->init_ns)
		times_add(&s->init, t->init_ns);
	if (attach)
		attach_add(all, (uint64_t)json_integer_value(attach), ns);
	return is_cold ? beyond_ns : 0;
}
