/* SPDX-License-Identifier: Apache-2.0 */
#include "platform.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *prefix;
	int (*open)(const struct platform_config *config, struct problem *problem,
		    struct platform **ret);
} KINDS[] = {
	{ "process", platform_process_open },
	{ "thread", platform_thread_open },
};

const char *platform_kind(const char *url, size_t *ret_len)
{
	*ret_len = strcspn(url, ":");
	return url;
}

int platform_open(const struct platform_config *config, struct problem *problem,
		  struct platform **ret)
{
	for (size_t i = 0; i < sizeof(KINDS) / sizeof(KINDS[0]); i++)
		if (strncmp(config->url, KINDS[i].prefix, strlen(KINDS[i].prefix)) == 0)
			return KINDS[i].open(config, problem, ret);
	return problem_set(problem, -EINVAL, "no such platform: '%s'", config->url);
}
