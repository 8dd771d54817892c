/* SPDX-License-Identifier: Apache-2.0 */
/* dice: numbers that follow from a seed (splitmix64), and numbers that follow from a number. */
#pragma once

#include <stdint.h>

static inline uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static inline uint64_t dice_roll(uint64_t *state, uint64_t below)
{
	return mix(*state += 0x9e3779b97f4a7c15ull) % below;
}
