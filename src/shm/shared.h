/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shared: atomic words in memory that several processes map, for index.c, index_reader.c,
 * pins.c and view.c. They touch what is shared through these alone, so that the checker of
 * test/model can compile the same sources with SHARED_CHECKED: each line here is then one
 * step of a thread, and what it reads is whatever the memory model of C11 allows.
 *
 * `order` is a word: relaxed, acquire, release, seq_cst.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#ifdef SHARED_CHECKED

uint64_t checked_load(const void *p, size_t size, memory_order order);
void checked_store(void *p, uint64_t v, size_t size, memory_order order);
void checked_add(void *p, uint64_t n, size_t size, memory_order order);
void checked_fence(memory_order order);

#define shared_load(p, order) \
	((__typeof__(*(p) + 0))checked_load(p, sizeof(*(p)), memory_order_##order))
#define shared_store(p, v, order) checked_store(p, v, sizeof(*(p)), memory_order_##order)
#define shared_add(p, n, order)   checked_add(p, (uint64_t)(n), sizeof(*(p)), memory_order_##order)
#define shared_fence(order)       checked_fence(memory_order_##order)

#else

#define shared_load(p, order)     atomic_load_explicit(p, memory_order_##order)
#define shared_store(p, v, order) atomic_store_explicit(p, v, memory_order_##order)
#define shared_add(p, n, order)   (void)atomic_fetch_add_explicit(p, n, memory_order_##order)
#define shared_fence(order)       atomic_thread_fence(memory_order_##order)

#endif
