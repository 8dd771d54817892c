/* SPDX-License-Identifier: Apache-2.0 */
#include "net/access.h"

#include <errno.h>

int access_check(const struct access *a, unsigned right, uint64_t job, struct slice path,
		 const char **ret_why)
{
	*ret_why = "a connection begins with HELLO";
	if (!a || a->role == ROLE_COUNT)
		return -EACCES;
	if (a->role != ROLE_JOB)
		return 0;
	*ret_why = "the token does not give this right";
	if (!(a->rights & right))
		return -EACCES;
	*ret_why = "the token is of another job";
	if (job != a->job && !(right & RIGHT_ADMIN))
		return -EACCES;
	*ret_why = "the token is for paths with another beginning";
	if (a->prefix_len > 0 &&
	    (path.len < a->prefix_len || memcmp(path.ptr, a->prefix, a->prefix_len) != 0))
		return -EACCES;
	return 0;
}
