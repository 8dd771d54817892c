/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plant: planted(NAME) is a constant: true in the build that has this bug, to see
 * whether the tests find it; false in every other.
 */
#pragma once

#include "base/planted.h" /* PLANT, from meson's option of that name */
#include "base/plants.def"

/* clang-format off */
#define P(name, seeds, what) PLANT_##name,
enum plant { PLANT_NONE, PLANTS(P) PLANT_COUNT };
#undef P
/* clang-format on */

#define planted(name) (PLANT == PLANT_##name)
