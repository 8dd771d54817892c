/* SPDX-License-Identifier: Apache-2.0 */
/* look: what must hold inside a server at any moment. Files of their own, for they see meta's
 * insides. */
#pragma once

#include <stdbool.h>

struct shard;
struct catalog;

/* NULL, or the invariant that is broken. */
const char *look_at_shard(const struct shard *s);
/* `is_asking`: somebody may be waiting for space. */
const char *look_at_catalog(const struct catalog *c, bool is_asking);
