/* SPDX-License-Identifier: Apache-2.0 */
#include "net/access.h"

#include <errno.h>

/* The rights that are missing, as `wadi job token --rights` has them. */
static const char *without_right(unsigned missing)
{
	static const char *const WHY[] = {
		"the token gives no right to read",    "the token gives no right to write",
		"the token gives no right to remove",  "the token gives no right to list",
		"the token gives no right to its job",
	};

	for (unsigned i = 0; i < sizeof(WHY) / sizeof(WHY[0]); i++)
		if (missing & 1u << i)
			return WHY[i];
	return "only for who may administer the store";
}

int access_check(const struct access *a, unsigned right, uint64_t job, struct slice path,
		 const char **ret_why)
{
	*ret_why = "a connection begins with HELLO";
	if (!a || a->role == ROLE_COUNT)
		return -EACCES;
	if (a->role != ROLE_JOB)
		return 0;
	*ret_why = without_right(right & ~a->rights);
	if (!(a->rights & right))
		return -EACCES;
	*ret_why = "the token is of another job";
	if (job != a->job && !(right & RIGHT_ADMIN))
		return -EACCES;
	*ret_why = "the token is only for paths with another beginning";
	if (a->prefix_len > 0 &&
	    (path.len < a->prefix_len || memcmp(path.ptr, a->prefix, a->prefix_len) != 0))
		return -EACCES;
	return 0;
}
