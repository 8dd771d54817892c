/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oplog: the effects of a shard, in order, each with a number. For now it counts, and
 * shows them to whoever looks.
 */
#pragma once

#include "meta/effect.h"

struct oplog {
	uint64_t lsn;                                                     /* of the last record */
	void (*sink)(void *owner, uint16_t slot, const struct effect *e); /* may be NULL */
	void *owner;
};

void oplog_append(struct oplog *l, uint16_t slot, const struct effect *e);
