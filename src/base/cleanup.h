/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup: a scope frees what it owns. CLEANUP(x_free) calls x_freep(&variable)
 * when the scope is left; TAKE_PTR() lets the value leave alive.
 */
#pragma once

#define CLEANUP(fn) __attribute__((cleanup(fn)))

#define TAKE_PTR(p)                     \
	({                              \
		typeof(p) taken_ = (p); \
		(p) = NULL;             \
		taken_;                 \
	})
