/* SPDX-License-Identifier: Apache-2.0 */
/* What a pool counts, since its start. */
#pragma once

#include <stdint.h>

#include "store/counters.def"

#define C(name, help) uint64_t name;
struct pool_counters {
	POOL_COUNTERS(C)
	POOL_GAUGES(C)
};
#undef C
