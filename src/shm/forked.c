/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/forked.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/node.h"

/* No more than one word of it is used: the kernel rounds it up. */
#define PAGE_BYTES sizeof(uint64_t)

/* There is one process, however many handles it has; so it is never given back. */
static _Atomic uint64_t *_Atomic page;

static _Atomic uint64_t *page_new(void)
{
	void *p =
		mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	if (madvise(p, PAGE_BYTES, MADV_WIPEONFORK) < 0) {
		munmap(p, PAGE_BYTES);
		return NULL;
	}
	return p;
}

static _Atomic uint64_t *page_of_process(void)
{
	/* Acquire: it is ready for use. Pairs with the exchange of whoever made it. */
	_Atomic uint64_t *p = atomic_load_explicit(&page, memory_order_acquire), *other = NULL;

	if (p)
		return p;
	p = page_new();
	if (!p || atomic_compare_exchange_strong(&page, &other, p))
		return p;
	munmap((void *)p, PAGE_BYTES);
	return other;
}

void forked_begin(struct forked *f)
{
	_Atomic uint64_t *p = page_of_process();
	uint64_t zero = 0;

	*f = (struct forked){ .pid = getpid() };
	if (!p)
		return;
	/* The first one in a process, or in a child, chooses: a time, for theirs are different. */
	atomic_compare_exchange_strong(p, &zero, node_now_ns());
	f->word = atomic_load_explicit(p, memory_order_relaxed); /* only a fork changes it now */
	f->mark = p;
}

bool forked_since(const struct forked *f)
{
	if (!f->mark)
		return f->pid != getpid();
	/* Relaxed: a fork is no other thread's doing, as far as its child is concerned. */
	return atomic_load_explicit(f->mark, memory_order_relaxed) != f->word;
}

void forked_end(struct forked *f)
{
	*f = (struct forked){ 0 };
}
