/* SPDX-License-Identifier: Apache-2.0 */
#include "action.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_END "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"

static int environment_set(const json_t *env)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)env, name, value)
	{
		char *text = json_is_string(value)
				     ? strdup(json_string_value(value))
				     : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
		bool is_name = *name && !strchr(name, '=');

		if (text && is_name)
			setenv(name, text, 1);
		free(text);
		if (!text)
			return -1;
	}
	return 0;
}

int action_init(struct action *a, const char *body, const char **ret_why)
{
	json_t *root = json_loads(body, 0, NULL), *value = json_object_get(root, "value");
	int status = 200;

	if (a->is_ready) {
		*ret_why = "Cannot initialize the action more than once.";
		status = 403;
	} else if (!json_is_object(value)) {
		*ret_why = "the request has no object value";
		status = 400;
	} else if (environment_set(json_object_get(value, "env")) < 0) {
		*ret_why = "no memory for the environment";
		status = 502;
	}
	a->is_ready |= status == 200;
	json_decref(root);
	return status;
}

void action_log_end(void)
{
	printf(LOG_END "\n");
	fflush(stdout);
	fprintf(stderr, LOG_END "\n");
}
