/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/budget.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/container.h"
#include "base/log.h"
#include "store/store.h"

#define LOOK_NS 100000000ull
#define TRIM_NS 1000000000ull

/*
 * The heap keeps the pages of what was freed between things that are still there. They are
 * given back when nothing has happened for a while, since that may take a tenth of a second
 * in which all wait (a fragmented heap of a million objects); and only after some work, for
 * without any there is nothing to give.
 */
#define QUIET_NS  3000000000ull
#define WORK_NS   200000000ull
#define IDLE_PART 10 /* of the time between two looks */

/*
 * The heap grows and shrinks by brk(), which waits for whoever makes pages in the same address
 * space: the janitor does so for milliseconds at a time. So it grows in steps, shrinks by trim()
 * only, and what is not huge comes out of it.
 */
#define HEAP_STEP_BYTES (1 << 20)
#define HEAP_FROM_BYTES (4 << 20)

/* What may come between two looks, at the most: a hundred thousand small objects. */
#define AHEAD_BYTES (16ull << 20)

/*
 * Never used for what is new: the keeper, page tables, what comes before the next look; and the
 * next snapshot, which is packed and lies beside the last one for a while.
 */
#define SPARE_BYTES (8ull << 20)
#define SPARE_SHARE 8

/* All pages that this process has touched, the pool's included. */
static int resident(const struct budget *b, uint64_t *ret)
{
	char text[128];
	ssize_t n = pread(b->fd, text, sizeof(text) - 1, 0);
	unsigned long long all, pages;

	if (n <= 0)
		return -EIO;
	text[n] = '\0';
	if (sscanf(text, "%llu %llu", &all, &pages) != 2)
		return -EIO;
	*ret = pages * (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}

static uint64_t cpu_time(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void trim(struct budget *b)
{
	(void)malloc_trim(0);
	b->trim_ns = b->loop->now_ns + TRIM_NS;
	b->trimmed_cpu_ns = b->cpu_ns = cpu_time();
}

/* Has it been for so long, after so much, that nobody will notice? */
static bool is_quiet(struct budget *b)
{
	uint64_t cpu_ns = cpu_time();

	if (cpu_ns - b->cpu_ns > LOOK_NS / IDLE_PART)
		b->busy_ns = b->loop->now_ns;
	b->cpu_ns = cpu_ns;
	return b->loop->now_ns - b->busy_ns >= QUIET_NS && cpu_ns - b->trimmed_cpu_ns >= WORK_NS;
}

static void look(struct timer *t)
{
	struct budget *b = container_of(t, struct budget, timer);
	uint64_t used, pool = b->store ? store_memory_bytes(b->store) : 0, wanted = 0, lent = 0;
	bool is_full, may_trim = is_quiet(b), is_wanted;

	timer_start(b->loop, &b->timer, b->loop->now_ns + LOOK_NS);
	if (resident(b, &used) < 0)
		return;
	used = used > pool ? used - pool : 0;
	if (used + used / SPARE_SHARE + AHEAD_BYTES > b->share_bytes)
		wanted = used + used / SPARE_SHARE + AHEAD_BYTES - b->share_bytes;
	if (b->store)
		lent = store_lend(b->store, wanted);
	is_full = used + used / SPARE_SHARE + SPARE_BYTES > b->share_bytes + lent;
	if (is_full && !b->is_told)
		log_warning("Metadata and data use all memory: what is new waits until its "
			    "deadline for something to be given back; remove objects, end jobs, or "
			    "raise --memory memory=%llu metadata=%llu data=%llu",
			    (unsigned long long)b->memory_bytes, (unsigned long long)used,
			    (unsigned long long)pool);
	b->is_told = is_full;
	/*
	 * When it is full, nothing new is possible anyway; or what the heap does not need is what
	 * the pool has lent us, and somebody waits for that.
	 */
	is_wanted = is_full || (lent > 0 && store_is_waited_for(b->store));
	if (may_trim || (is_wanted && b->loop->now_ns >= b->trim_ns))
		trim(b);
	atomic_store_explicit(&b->is_full, is_full, memory_order_relaxed);
}

int budget_open(struct budget *b, struct loop *l, struct store *store, uint64_t memory_bytes,
		uint64_t share_bytes)
{
	(void)mallopt(M_TOP_PAD, HEAP_STEP_BYTES);
	(void)mallopt(M_TRIM_THRESHOLD, INT_MAX);
	(void)mallopt(M_MMAP_THRESHOLD, HEAP_FROM_BYTES);
	b->loop = l;
	b->store = store;
	b->memory_bytes = memory_bytes;
	b->share_bytes = share_bytes;
	b->timer.fire = look;
	b->fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	if (b->fd < 0)
		return -errno;
	look(&b->timer);
	return 0;
}

void budget_close(struct budget *b)
{
	if (!b->loop)
		return;
	timer_stop(b->loop, &b->timer);
	if (b->fd >= 0)
		close(b->fd);
	b->loop = NULL;
}
