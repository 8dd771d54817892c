/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/who.h"

#include <errno.h>

#include "net/access.h"

/* What the token says. */
static int check_token(const struct access *a, const char **ret_why)
{
	*ret_why = "no HELLO as a function of a job";
	if (!a || a->role != ROLE_JOB)
		return -EACCES;
	*ret_why = "the token is of a part of the job, and a segment has all of it";
	if (a->prefix_len > 0)
		return -EACCES;
	return access_check(a, RIGHT_READ, a->job, (struct slice){ 0 }, ret_why);
}

int who_may_map(const struct who *w, bool *ret_binds, const char **ret_why)
{
	int r;

	*ret_binds = false;
	*ret_why = "descriptors go through a Unix socket";
	if (w->peer->address.kind != ADDRESS_UNIX)
		return -EOPNOTSUPP;
	r = check_token(w->access, ret_why);
	if (r < 0 || w->trusts_local || w->is_isolated)
		return r;
	*ret_why = "root can look into every process";
	if (w->peer->uid == 0 || w->peer->uid == UINT32_MAX)
		return -EACCES;
	*ret_why = "it has the proxy's own uid";
	if (w->peer->uid == w->own_uid)
		return -EACCES;
	*ret_why = "processes of its uid have segments of another job";
	if (w->job_of_uid && w->job_of_uid != w->access->job)
		return -EACCES;
	*ret_binds = !w->job_of_uid;
	return 0;
}
