/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/budget.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include "base/container.h"
#include "base/log.h"
#include "store/store.h"

#define LOOK_NS 100000000ull
#define TRIM_NS 1000000000ull

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

static void look(struct timer *t)
{
	struct budget *b = container_of(t, struct budget, timer);
	uint64_t used, pool = b->store ? store_memory_bytes(b->store) : 0, wanted = 0, lent = 0;
	bool is_full;

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
		log_warning("Metadata and data use all memory: what is new is refused until "
			    "something is given back; remove objects, end jobs, or raise --memory "
			    "memory=%llu metadata=%llu data=%llu",
			    (unsigned long long)b->memory_bytes, (unsigned long long)used,
			    (unsigned long long)pool);
	b->is_told = is_full;
	if (is_full && b->loop->now_ns >= b->trim_ns) {
		/* Pages of what was removed; some milliseconds, in which nothing new was possible.
		 */
		(void)malloc_trim(0);
		b->trim_ns = b->loop->now_ns + TRIM_NS;
	}
	atomic_store_explicit(&b->is_full, is_full, memory_order_relaxed);
}

int budget_open(struct budget *b, struct loop *l, struct store *store, uint64_t memory_bytes,
		uint64_t share_bytes)
{
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
