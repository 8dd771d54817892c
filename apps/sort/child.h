/* SPDX-License-Identifier: Apache-2.0 */
/* child: what every process of the driver's begins with. */
#pragma once

#include <sys/types.h>

/* In the child, after fork(): it ends by signal `end` when `parent` does, however that ends. */
void child_begin(pid_t parent, int end);
