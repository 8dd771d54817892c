/* SPDX-License-Identifier: Apache-2.0 */
/*
 * action: what makes a server an action of OpenWhisk's, as the image of one: it is initialized
 * once, before the first run, and what a run logged ends with a line of its own.
 */
#pragma once

#include <stdbool.h>

struct action {
	bool is_ready;
};

/*
 * POST /init: 200, or the status to refuse it with and *ret_why, a literal. The "env" of the body
 * becomes part of the environment. Code that it has is ignored: the image is the action.
 */
int action_init(struct action *a, const char *body, const char **ret_why);

/* At the end of each run, before its answer. */
void action_log_end(void);
