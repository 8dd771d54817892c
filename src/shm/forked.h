/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forked: is this still the process that began something, or a child of it? For a library, which
 * hears of no fork and is asked at each call: getpid() would do, but it enters the kernel, which
 * here takes half as long as to find an object in the index and to pin it.
 *
 * A page of our own that the kernel gives a child as zeros. Where it does not do that (before
 * 4.14, or in a sandbox), getpid() after all.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct forked {
	volatile const uint8_t *mark; /* not 0 in the process that began it; NULL: there is none */
	pid_t pid;
};

void forked_begin(struct forked *f);
/* One that was never begun is nobody's, so to everybody it is a parent's. */
bool forked_since(const struct forked *f);
void forked_end(struct forked *f); /* also in a child, whose page it is, too */
