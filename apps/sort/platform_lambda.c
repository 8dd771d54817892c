/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AWS Lambda: each run is a synchronous invocation of one function, which the user has made.
 * The answer brings the end of the log, and with it how long a cold start took.
 */
#include "platform.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "lambda.h"
#include "remote.h"

/* Of a request that runs no function. */
#define CHECK_NS (30 * NS_PER_S)

struct lambda_platform {
	struct remote remote;
	struct lambda lambda;
};

static void request_make(const struct lambda *l, const char *type, struct http_request *req)
{
	req->url = l->url;
	req->method = "POST";
	req->headers[0] = "Content-Type: application/json";
	req->headers[1] = type;
	req->headers[2] = "X-Amz-Log-Type: Tail";
	req->headers[3] = l->token[0] ? l->token : NULL;
}

static int lambda_ask(struct remote *r, struct remote_call *c)
{
	const struct lambda *l = &((struct lambda_platform *)r)->lambda;
	size_t len = strlen(c->run->input);

	if (len > LAMBDA_PAYLOAD_MAX)
		return remote_end(c, -E2BIG, "a request of %zu bytes; Lambda takes %zu at most",
				  len, LAMBDA_PAYLOAD_MAX);
	request_make(l, "X-Amz-Invocation-Type: RequestResponse", &c->http);
	strcpy(c->url, l->url); /* for what is said of it */
	c->http.body = c->run->input;
	c->http.body_len = len;
	return 0;
}

static bool lambda_answer(struct remote *r, struct remote_call *c)
{
	struct lambda_reply reply = {
		.status = c->http.status,
		.body = c->http.answer,
		.len = c->http.answer_len,
		.function_error = http_header(&c->http, "X-Amz-Function-Error"),
		.log_result = http_header(&c->http, "X-Amz-Log-Result"),
	};
	struct lambda_answer a;

	(void)r;
	lambda_answer_parse(&reply, &a);
	snprintf(c->run->log, sizeof(c->run->log), "%s", a.log);
	c->run->init_ns = a.init_ns;
	if (a.output)
		remote_reply(c, a.output);
	else if (a.r < 0)
		remote_end(c, a.r, "%s%s%s", a.said, a.log[0] ? "; " : "", a.log);
	else
		remote_end_by_status(c, a.said[0] ? a.said : NULL);
	return true;
}

static void lambda_close(struct remote *r)
{
	remote_fini(r);
	free(r);
}

static const struct remote_ops LAMBDA = {
	.ask = lambda_ask,
	.answer = lambda_answer,
	.close = lambda_close,
};

/*
 * Before anything runs: is somebody there, does he know us and the function. Some that are not
 * AWS's have no dry runs, and say so; then the first run tells.
 */
static int lambda_check(struct lambda_platform *p, struct problem *problem)
{
	struct http_request req = { .body = "{}", .body_len = 2, .due_ns = clock_ns() + CHECK_NS };
	struct lambda_answer a = { 0 };
	int r = 0;

	request_make(&p->lambda, "X-Amz-Invocation-Type: DryRun", &req);
	if (http_do(p->remote.http, &req) < 0)
		r = problem_set(problem, req.r, "%s: %s", req.url, req.error);
	else if (req.status == 401 || req.status == 403 || req.status == 404) {
		lambda_answer_parse(&(struct lambda_reply){ .status = req.status,
							    .body = req.answer,
							    .len = req.answer_len },
				    &a);
		r = problem_set(problem, req.status == 404 ? -ENOENT : -EACCES,
				"%s answered %ld: %s", req.url, req.status, a.said);
	}
	http_request_fini(&req);
	return r;
}

/* The first of two that is there; NULL: neither. */
static const char *environment(const char *name, const char *other)
{
	const char *s = getenv(name);

	if ((!s || !*s) && other)
		s = getenv(other);
	return s && *s ? s : NULL;
}

int platform_lambda_open(const struct platform_config *config, struct problem *problem,
			 struct platform **ret)
{
	struct lambda_environment env = {
		.endpoint = environment("AWS_ENDPOINT_URL_LAMBDA", "AWS_ENDPOINT_URL"),
		.region = environment("AWS_REGION", "AWS_DEFAULT_REGION"),
		.access_key = environment("AWS_ACCESS_KEY_ID", NULL),
		.secret = environment("AWS_SECRET_ACCESS_KEY", NULL),
		.token = environment("AWS_SESSION_TOKEN", NULL),
	};
	struct lambda_platform *p = calloc(1, sizeof(*p));
	struct http_config http = { 0 };
	int r;

	if (!p)
		return problem_set(problem, -ENOMEM, "no memory");
	http.user = p->lambda.user;
	http.sigv4 = p->lambda.sigv4;
	r = lambda_parse(config->url, &env, &p->lambda, problem);
	if (r == 0)
		r = remote_init(&p->remote, &LAMBDA, &http, config, problem);
	if (r == 0)
		r = lambda_check(p, problem);
	if (r < 0) {
		lambda_close(&p->remote);
		return r;
	}
	*ret = &p->remote.platform;
	return 0;
}
