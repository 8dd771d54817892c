/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions behind HTTP (Knative, Cloud Run, Azure, `wadi-sort-fn --http`): each run is a POST
 * to one URL, whose answer is the reply.
 *
 *	http://HOST[:PORT][/PATH], https://...
 *
 * Who asks, if the platform wants to know, is NAME:SECRET of --auth-file, --auth or
 * WADI_FUNCTION_AUTH:
 * `bearer` for a token, `x-functions-key` for Azure's header, any other name for basic.
 */
#include "platform.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clock.h"
#include "remote.h"

/* In the environment, where nobody said who asks. */
#define AUTH_NAME "WADI_FUNCTION_AUTH"

/* Of a request that runs no function; one that is not there yet is started for it. */
#define CHECK_NS (60 * NS_PER_S)

struct http_platform {
	struct remote remote;
	char url[1024];
	char auth[2048];        /* as the user gave it */
	char auth_header[2112]; /* "": none, or basic */
};

int platform_http_check(const char *url, struct problem *problem)
{
	size_t len = strlen(url);
	const char *host = strstr(url, "://");

	for (size_t i = 0; i < len; i++)
		if (url[i] <= ' ' || url[i] > '~')
			len = 1024;
	if (len < 1024 && host && host[3] && host[3] != '/')
		return 0;
	return problem_set(problem, -EINVAL,
			   "'%.200s' is no function behind HTTP; one is http://HOST[:PORT][/PATH]",
			   url);
}

static int http_ask(struct remote *r, struct remote_call *c)
{
	const struct http_platform *p = (struct http_platform *)r;

	strcpy(c->url, p->url);
	c->http.url = c->url;
	c->http.method = "POST";
	c->http.headers[0] = "Content-Type: application/json";
	c->http.headers[1] = p->auth_header[0] ? p->auth_header : NULL;
	c->http.body = c->run->input;
	c->http.body_len = strlen(c->run->input);
	return 0;
}

/* A function's own words, with whatever status, are a reply; a platform's are not. */
static bool is_reply(const struct remote_call *c)
{
	json_t *root =
		c->http.answer ? json_loadb(c->http.answer, c->http.answer_len, 0, NULL) : NULL;
	bool says_final = json_is_boolean(json_object_get(root, "is_final"));

	json_decref(root);
	return c->http.status == 200
		       ? c->http.answer != NULL
		       : says_final && (c->http.status == 422 || c->http.status == 500);
}

static bool http_answer(struct remote *r, struct remote_call *c)
{
	(void)r;
	if (is_reply(c)) {
		remote_reply(c, c->http.answer);
		c->http.answer = NULL; /* taken */
	} else if (c->http.status >= 200 && c->http.status < 300) {
		remote_end(c, -ENOMSG, "%s answered %ld and nothing else; is it one for events?",
			   c->url, c->http.status);
	} else {
		remote_end_by_status(c, NULL);
	}
	return true;
}

static void http_platform_close(struct remote *r)
{
	remote_fini(r);
	free(r);
}

static const struct remote_ops HTTP = {
	.ask = http_ask,
	.answer = http_answer,
	.close = http_platform_close,
};

/* Before anything runs: is somebody there. What he answers to a GET is his business. */
static int http_check(struct http_platform *p, struct problem *problem)
{
	struct http_request req = { .method = "GET",
				    .url = p->url,
				    .headers = { p->auth_header[0] ? p->auth_header : NULL },
				    .due_ns = clock_ns() + CHECK_NS };
	int r = http_do(p->remote.http, &req);

	if (r < 0)
		problem_set(problem, r, "%s: %s", req.url, req.error);
	http_request_fini(&req);
	return r;
}

/* True: it is basic, which the client of HTTP does by itself. */
static bool auth_is_basic(struct http_platform *p)
{
	const char *secret = strchr(p->auth, ':') + 1;

	if (strncasecmp(p->auth, "bearer:", 7) == 0)
		snprintf(p->auth_header, sizeof(p->auth_header), "Authorization: Bearer %s",
			 secret);
	else if (strncasecmp(p->auth, "x-functions-key:", 16) == 0)
		snprintf(p->auth_header, sizeof(p->auth_header), "x-functions-key: %s", secret);
	return !p->auth_header[0];
}

int platform_http_open(const struct platform_config *config, struct problem *problem,
		       struct platform **ret)
{
	struct http_platform *p = calloc(1, sizeof(*p));
	const char *auth = getenv(AUTH_NAME);
	struct http_config http = { 0 };
	int r = 0;

	if (!p)
		return problem_set(problem, -ENOMEM, "no memory");
	snprintf(p->url, sizeof(p->url), "%s", config->url);
	if (config->auth || config->auth_file || (auth && *auth)) {
		r = platform_auth(config, AUTH_NAME, p->auth, sizeof(p->auth), problem);
		http.user = r == 0 && auth_is_basic(p) ? p->auth : NULL;
	}
	if (r == 0)
		r = remote_init(&p->remote, &HTTP, &http, config, problem);
	if (r == 0)
		r = http_check(p, problem);
	if (r < 0) {
		http_platform_close(&p->remote);
		return r;
	}
	*ret = &p->remote.platform;
	return 0;
}
