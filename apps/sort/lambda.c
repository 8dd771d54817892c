/* SPDX-License-Identifier: Apache-2.0 */
#include "lambda.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEME "lambda://"

/* Letters as AWS has them in names and regions: nothing that would change a URL. */
static bool is_name(const char *s, size_t len, const char *more)
{
	if (len == 0)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr(more, s[i]))
			return false;
	return true;
}

/* Both in the environment. A URL has no end of line, nor has a header. */
static bool is_text(const char *s, size_t max)
{
	for (const char *c = s; *c; c++)
		if (*c <= ' ' || *c > '~')
			return false;
	return *s && strlen(s) < max;
}

int lambda_url_check(const char *url, struct problem *problem)
{
	const char *name = "", *qualifier = NULL;
	size_t len = 0;

	if (strncmp(url, SCHEME, strlen(SCHEME)) == 0) {
		name = url + strlen(SCHEME);
		len = strcspn(name, ":");
		qualifier = name[len] ? name + len + 1 : NULL;
	}
	if (len <= 140 && is_name(name, len, "-_") &&
	    (!qualifier ||
	     (strlen(qualifier) <= 128 && is_name(qualifier, strlen(qualifier), "-_$"))))
		return 0;
	return problem_set(problem, -EINVAL,
			   "'%s' is no function of Lambda's; one is lambda://FUNCTION[:QUALIFIER]",
			   url);
}

static int environment_check(const struct lambda_environment *env, struct problem *problem)
{
	if (!env->access_key || !env->secret || !is_text(env->access_key, 128) ||
	    !is_text(env->secret, 256))
		return problem_set(problem, -EACCES,
				   "Lambda wants to know who asks: AWS_ACCESS_KEY_ID and "
				   "AWS_SECRET_ACCESS_KEY in the environment");
	if (!env->region || !is_name(env->region, strlen(env->region), "-") ||
	    strlen(env->region) > 64)
		return problem_set(problem, -EINVAL,
				   "Lambda is in some region: AWS_REGION in the environment, as "
				   "eu-central-1");
	if (env->endpoint &&
	    (!is_text(env->endpoint, 512) || strncmp(env->endpoint, "http", 4) != 0))
		return problem_set(problem, -EINVAL, "'%.200s' is no URL of Lambda's",
				   env->endpoint);
	if (env->token && !is_text(env->token, LAMBDA_TOKEN_MAX))
		return problem_set(problem, -EINVAL, "AWS_SESSION_TOKEN is no token");
	return 0;
}

int lambda_parse(const char *url, const struct lambda_environment *env, struct lambda *ret,
		 struct problem *problem)
{
	const char *name, *colon;
	char endpoint[640];
	size_t len;
	int r = lambda_url_check(url, problem);

	if (r == 0)
		r = environment_check(env, problem);
	if (r < 0)
		return r;
	name = url + strlen(SCHEME);
	colon = strchr(name, ':');
	if (env->endpoint)
		snprintf(endpoint, sizeof(endpoint), "%s", env->endpoint);
	else
		snprintf(endpoint, sizeof(endpoint), "https://lambda.%s.amazonaws.com",
			 env->region);
	len = strlen(endpoint);
	if (endpoint[len - 1] == '/')
		endpoint[len - 1] = '\0';
	*ret = (struct lambda){ 0 };
	snprintf(ret->url, sizeof(ret->url), "%s/2015-03-31/functions/%.*s/invocations%s%s",
		 endpoint, (int)strcspn(name, ":"), name, colon ? "?Qualifier=" : "",
		 colon ? colon + 1 : "");
	snprintf(ret->sigv4, sizeof(ret->sigv4), "aws:amz:%s:lambda", env->region);
	snprintf(ret->user, sizeof(ret->user), "%s:%s", env->access_key, env->secret);
	if (env->token)
		snprintf(ret->token, sizeof(ret->token), "X-Amz-Security-Token: %s", env->token);
	return 0;
}

/* As much as there is room for; what is no digit is left out. */
static size_t base64_take(const char *text, char *ret, size_t cap)
{
	static const char DIGITS[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t bits = 0;
	size_t len = 0, count = 0;

	for (; *text && *text != '=' && len + 1 < cap; text++) {
		const char *digit = strchr(DIGITS, *text);

		if (!digit)
			continue;
		bits = bits << 6 | (uint32_t)(digit - DIGITS);
		if (++count % 4 != 1)
			ret[len++] = (char)(bits >> (6 - 2 * ((count - 1) % 4)));
	}
	ret[len] = '\0';
	return len;
}

/* Lambda's own lines, around those of the function. */
static bool is_of_lambda(const char *line)
{
	static const char *const WORDS[] = { "START", "END", "REPORT", "INIT_START" };

	for (size_t i = 0; i < sizeof(WORDS) / sizeof(WORDS[0]); i++)
		if (strncmp(line, WORDS[i], strlen(WORDS[i])) == 0 &&
		    (strncmp(line + strlen(WORDS[i]), " RequestId: ", 12) == 0 || i == 3))
			return true;
	return false;
}

/* The function's lines of the last 4 KiB, and what a cold start took, which is in Lambda's. */
static void log_take(const char *log_result, struct lambda_answer *ret)
{
	static const char INIT[] = "Init Duration: ";
	char text[6144], *to = text;
	size_t len = base64_take(log_result, text, sizeof(text)), drop;
	const char *init = memmem(text, len, INIT, strlen(INIT));

	if (init) {
		double ms = strtod(init + strlen(INIT), NULL);

		ret->init_ns = ms > 0 && ms < 1e6 ? (uint64_t)(ms * 1e6) : 0;
	}
	for (size_t i = 0; i < len; i++)
		if (!text[i])
			text[i] = ' ';
	for (char *line = text, *next; *line; line = next) {
		next = line + strcspn(line, "\n");
		next += *next == '\n';
		if (is_of_lambda(line))
			continue;
		memmove(to, line, (size_t)(next - line));
		to += next - line;
	}
	while (to > text && to[-1] == '\n')
		to--;
	*to = '\0';
	len = (size_t)(to - text);
	drop = len < sizeof(ret->log) ? 0 : len - sizeof(ret->log) + 1;
	memcpy(ret->log, text + drop, len - drop + 1);
}

static void say(struct lambda_answer *ret, const char *kind, const char *message)
{
	snprintf(ret->said, sizeof(ret->said), "%s%s%s", kind, *kind && *message ? ": " : "",
		 message);
	for (char *c = ret->said; *c; c++)
		if ((unsigned char)*c < ' ')
			*c = ' ';
}

static const char *string_of(const json_t *root, const char *name)
{
	const char *s = json_string_value(json_object_get(root, name));

	return s ? s : "";
}

/* Types of ours are a function's reply, all others tell that there was none. */
static void error_take(const json_t *root, struct lambda_answer *ret)
{
	const char *type = string_of(root, "errorType");
	const char *message = string_of(root, "errorMessage");

	say(ret, type, message);
	if (strncmp(type, "Sort.", 5) == 0) {
		json_t *reply = json_pack("{ss sb}", "error", message, "is_final",
					  strcmp(type, "Sort.Failed") != 0);

		ret->output = json_dumps(reply, JSON_COMPACT);
		json_decref(reply);
	}
	if (ret->output)
		return;
	if (strstr(message, "Task timed out"))
		ret->r = -ETIMEDOUT;
	else
		ret->r = strcmp(type, "Function.ResponseSizeTooLarge") == 0 ? -E2BIG : -ECHILD;
}

void lambda_answer_parse(const struct lambda_reply *reply, struct lambda_answer *ret)
{
	const char *body = reply->body ? reply->body : "";
	json_t *root;

	*ret = (struct lambda_answer){ 0 };
	if (reply->log_result)
		log_take(reply->log_result, ret);
	if (reply->status == 200 && !reply->function_error) {
		ret->output = strdup(body);
		ret->r = ret->output ? 0 : -ECHILD;
		return;
	}
	root = json_loadb(body, reply->body ? reply->len : 0, 0, NULL);
	if (reply->status == 200) {
		error_take(root, ret);
	} else {
		const char *message = string_of(root, "message");

		say(ret, "", *message ? message : string_of(root, "Message"));
	}
	json_decref(root);
}
