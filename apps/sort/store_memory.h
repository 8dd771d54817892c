/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the memory of this process as a store needs besides store.h: its functions are
 * threads, which nobody can kill. One that is to end finds out at its next call.
 */
#pragma once

#include <stdatomic.h>

/* Calls of this thread fail with -ECANCELED from when *stop is set, which stays there. */
void store_memory_obey(const atomic_bool *stop);

/* Those who wait look whether they are to stop. */
void store_memory_wake(void);
