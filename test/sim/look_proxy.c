/* SPDX-License-Identifier: Apache-2.0 */
#include "look.h"

#include "base/container.h"
#include "proxy/proxy_priv.h"

unsigned proxy_functions(const struct proxy *p, struct slice job)
{
	unsigned count = 0;

	for (struct list *l = p->conns.next; l != &p->conns; l = l->next) {
		const struct conn *c = container_of(l, struct conn, link);
		const struct native *n = c->state;

		count += c->access && !c->is_closed && n->job_name_len == job.len &&
			 memcmp(n->job_name, job.ptr, job.len) == 0;
	}
	return count;
}
