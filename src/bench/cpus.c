/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/cpus.h"

#include <errno.h>
#include <unistd.h>

/* What we were allowed at the start: a pinned thread asks in vain. */
static cpu_set_t allowed_cpus(void)
{
	cpu_set_t all;

	/* The main thread is never pinned for long. */
	CPU_ZERO(&all);
	sched_getaffinity(getpid(), sizeof(all), &all);
	return all;
}

cpu_set_t cpus_of(enum cpus_part part, unsigned threads)
{
	cpu_set_t all = allowed_cpus(), ret;
	unsigned count = (unsigned)CPU_COUNT(&all), from, to, i = 0;

	from = part == CPUS_SERVER ? 0 : threads;
	to = from + threads;
	if (to > count) {
		to = count;
		from = count > threads ? count - threads : 0;
	}
	CPU_ZERO(&ret);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		if (i >= from && i < to)
			CPU_SET(cpu, &ret);
		i++;
	}
	return ret;
}

cpu_set_t cpus_pin(const cpu_set_t *cpus)
{
	cpu_set_t before;

	CPU_ZERO(&before);
	sched_getaffinity(0, sizeof(before), &before);
	sched_setaffinity(0, sizeof(*cpus), cpus);
	return before;
}

void cpus_leave_to_others(void)
{
	sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){ 0 });
}

static void *spin(void *arg)
{
	struct awake *a = arg;

	cpus_leave_to_others();
	while (!atomic_load_explicit(&a->must_stop, memory_order_relaxed))
		;
	return NULL;
}

int awake_start(struct awake *a)
{
	cpu_set_t all = allowed_cpus();

	atomic_init(&a->must_stop, false);
	a->count = 0;
	for (unsigned cpu = 0; cpu < CPU_SETSIZE && a->count < AWAKE_MAX; cpu++) {
		pthread_attr_t attr;
		cpu_set_t one;
		int r;

		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		pthread_attr_init(&attr);
		pthread_attr_setaffinity_np(&attr, sizeof(one), &one);
		r = pthread_create(&a->threads[a->count], &attr, spin, a);
		pthread_attr_destroy(&attr);
		if (r != 0) {
			awake_stop(a);
			return -r;
		}
		a->count++;
	}
	return 0;
}

void awake_stop(struct awake *a)
{
	atomic_store_explicit(&a->must_stop, true, memory_order_relaxed);
	for (unsigned i = 0; i < a->count; i++)
		pthread_join(a->threads[i], NULL);
	a->count = 0;
}
