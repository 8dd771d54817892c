/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/oplog.h"

void oplog_append(struct oplog *l, uint16_t slot, const struct effect *e)
{
	l->lsn++;
	if (l->sink)
		l->sink(l->owner, slot, e);
}
