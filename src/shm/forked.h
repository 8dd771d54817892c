/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forked: is this still the process that began something, or a child of it? For a library, which
 * hears of no fork and is asked at each call: getpid() would do, but it enters the kernel, which
 * here takes half as long as to find an object in the index and to pin it.
 *
 * A page of the process that the kernel gives a child as zeros; a word is written there that no
 * other process has, and who finds another one is a child. It is one for all: with a thousand
 * handles in turn a page for each was a miss of the cache and of the TLB in every call. Where the
 * kernel does not do that (before 4.14, or in a sandbox), getpid() after all.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct forked {
	const _Atomic uint64_t *mark; /* NULL: there is none */
	uint64_t word;                /* that stood there when it was begun */
	pid_t pid;
};

void forked_begin(struct forked *f);
/* One that was never begun is nobody's, so to everybody it is a parent's. */
bool forked_since(const struct forked *f);
void forked_end(struct forked *f); /* also in a child */
