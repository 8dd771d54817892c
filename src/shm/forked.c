/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/forked.h"

#include <sys/mman.h>
#include <unistd.h>

/* No more than one byte of it is used: the kernel rounds it up. */
#define MARK_BYTES 1

void forked_begin(struct forked *f)
{
	uint8_t *p =
		mmap(NULL, MARK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*f = (struct forked){ .pid = getpid() };
	if (p == MAP_FAILED)
		return;
	if (madvise(p, MARK_BYTES, MADV_WIPEONFORK) < 0) {
		munmap(p, MARK_BYTES);
		return;
	}
	*p = 1;
	f->mark = p;
}

bool forked_since(const struct forked *f)
{
	return f->mark ? *f->mark == 0 : f->pid != getpid();
}

void forked_end(struct forked *f)
{
	if (f->mark)
		munmap((void *)f->mark, MARK_BYTES);
	*f = (struct forked){ 0 };
}
