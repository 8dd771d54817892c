/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stacks: those of fibers are kept from one input to the next, for to map and to protect one
 * costs as much as a short conversation. While nobody has one, nobody may touch it either. A
 * target that has it is linked with --wrap=mmap64,--wrap=munmap,--wrap=mprotect.
 */
#pragma once

#include <sanitizer/asan_interface.h>
#include <sys/mman.h>

#include "base/limits.h"

#define STACK_SLOT_BYTES (FIBER_GUARD_BYTES + FIBER_STACK_BYTES)
#define STACKS_KEPT      64

static uint8_t *stacks[STACKS_KEPT];
static unsigned stack_count;

void *__real_mmap64(void *at, size_t len, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t len, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *p, size_t len);
int __wrap_munmap(void *p, size_t len);
int __real_mprotect(void *p, size_t len, int protection);
int __wrap_mprotect(void *p, size_t len, int protection);

void *__wrap_mmap64(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
	uint8_t *slot;

	if (len != STACK_SLOT_BYTES)
		return __real_mmap64(at, len, protection, flags, fd, offset);
	if (stack_count == 0) {
		slot = __real_mmap64(at, len, protection, flags, fd, offset);
		REQUIRE(slot != MAP_FAILED &&
			__real_mprotect(slot, FIBER_GUARD_BYTES, PROT_NONE) == 0);
		return slot;
	}
	slot = stacks[--stack_count];
	ASAN_UNPOISON_MEMORY_REGION(slot + FIBER_GUARD_BYTES, FIBER_STACK_BYTES);
	return slot;
}

int __wrap_mprotect(void *p, size_t len, int protection)
{
	/* As it was when it was mapped. */
	if (len == FIBER_GUARD_BYTES && protection == PROT_NONE)
		return 0;
	return __real_mprotect(p, len, protection);
}

int __wrap_munmap(void *p, size_t len)
{
	if (len != STACK_SLOT_BYTES || stack_count == STACKS_KEPT)
		return __real_munmap(p, len);
	ASAN_POISON_MEMORY_REGION((uint8_t *)p + FIBER_GUARD_BYTES, FIBER_STACK_BYTES);
	stacks[stack_count++] = p;
	return 0;
}
