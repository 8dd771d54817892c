/* SPDX-License-Identifier: Apache-2.0 */
#include "instance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void owner_clear(struct instance *i)
{
	free(i->url);
	free(i->token);
	free(i->job);
	i->url = i->token = i->job = NULL;
}

void instance_fini(struct instance *i)
{
	i->store = store_close(i->store);
	owner_clear(i);
}

static bool is_same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static int owner_set(struct instance *i, const struct store_config *config)
{
	i->url = strdup(config->url);
	i->job = strdup(config->job);
	i->token = config->token ? strdup(config->token) : NULL;
	if (i->url && i->job && (i->token || !config->token))
		return 0;
	owner_clear(i);
	return -ENOMEM;
}

int instance_store_take(struct instance *i, const struct store_config *config,
			struct problem *problem, struct store **ret)
{
	if (i->store && is_same(i->url, config->url) && is_same(i->job, config->job) &&
	    is_same(i->token, config->token)) {
		*ret = i->store;
		i->store = NULL;
		(*ret)->problem = problem;
		(*ret)->stats = (struct store_stats){ 0 };
		return 0;
	}
	instance_fini(i);
	if (owner_set(i, config) < 0)
		return problem_set(problem, -ENOMEM, "no memory");
	return store_open(config, problem, ret);
}

void instance_store_give(struct instance *i, struct store *s, bool is_good)
{
	if (is_good)
		i->store = s;
	else
		store_close(s);
}
