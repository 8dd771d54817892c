/* SPDX-License-Identifier: Apache-2.0 */
#include "platform.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lambda.h"
#include "openwhisk.h"

static int process_check(const char *url, struct problem *problem)
{
	if (strcmp(url, "process") == 0)
		return 0;
	return problem_set(problem, -EINVAL, "--platform process has no place, and '%s' has one",
			   url);
}

static int openwhisk_check(const char *url, struct problem *problem)
{
	struct openwhisk ignored;

	return openwhisk_parse(url, &ignored, problem);
}

/* Words are told apart by their beginning, up to what is no letter. */
static const struct kind {
	const char *word;
	int (*check)(const char *url, struct problem *problem);
	int (*open)(const struct platform_config *config, struct problem *problem,
		    struct platform **ret);
} KINDS[] = {
	{ "process", process_check, platform_process_open },
	{ "thread", NULL, platform_thread_open },
	{ "openwhisk", openwhisk_check, platform_openwhisk_open },
	{ "lambda", lambda_url_check, platform_lambda_open },
	{ "http", platform_http_check, platform_http_open },
	{ "https", platform_http_check, platform_http_open },
};

const char *platform_kind(const char *url, size_t *ret_len)
{
	*ret_len = strspn(url, "abcdefghijklmnopqrstuvwxyz");
	return url;
}

/* NULL: of none. */
static const struct kind *kind_of(const char *url)
{
	size_t len;

	platform_kind(url, &len);
	for (size_t i = 0; i < sizeof(KINDS) / sizeof(KINDS[0]); i++)
		if (strlen(KINDS[i].word) == len && strncmp(url, KINDS[i].word, len) == 0)
			return &KINDS[i];
	return NULL;
}

static int not_known(const char *url, struct problem *problem)
{
	return problem_set(problem, -EINVAL, "no such platform: '%s'", url);
}

int platform_check(const char *url, struct problem *problem)
{
	const struct kind *k = kind_of(url);

	return k && k->check ? k->check(url, problem) : not_known(url, problem);
}

int platform_open(const struct platform_config *config, struct problem *problem,
		  struct platform **ret)
{
	const struct kind *k = kind_of(config->url);

	return k ? k->open(config, problem, ret) : not_known(config->url, problem);
}

static int auth_read(const char *path, char *ret, size_t cap, struct problem *problem)
{
	FILE *file = fopen(path, "r");

	ret[0] = '\0';
	if (!file)
		return problem_set(problem, -errno, "%s: cannot read: %s", path, strerror(errno));
	if (!fgets(ret, (int)cap, file))
		ret[0] = '\0';
	fclose(file);
	ret[strcspn(ret, " \r\n")] = '\0';
	return 0;
}

int platform_auth(const struct platform_config *config, const char *name, char *ret, size_t cap,
		  struct problem *problem)
{
	const char *text = config->auth ? config->auth : getenv(name);

	if (config->auth_file) {
		int r = auth_read(config->auth_file, ret, cap, problem);

		if (r < 0)
			return r;
	} else {
		snprintf(ret, cap, "%s", text ? text : "");
	}
	if (strchr(ret, ':'))
		return 0;
	return problem_set(problem, -EACCES,
			   "this platform wants to know who asks: --auth-file FILE, or %s in the "
			   "environment, with NAME:SECRET",
			   name);
}
