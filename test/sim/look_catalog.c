/* SPDX-License-Identifier: Apache-2.0 */
#include "look.h"

#include "base/container.h"
#include "meta/catalog_priv.h"

const char *look_at_catalog(const struct catalog *c, bool is_asking)
{
	const char *why = catalog_check(c);
	struct hlink *l = NULL;
	size_t at = 0;

	while (!why && !is_asking && (l = htable_walk(&c->jobs, &at, l)) != NULL)
		if (container_of(l, struct job, by_id)->asked_bytes != 0)
			why = "who does not ask for space any more has none reserved";
	return why;
}
