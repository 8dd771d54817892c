/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wadi-sort-lambda: the functions of the sort on AWS Lambda, a custom runtime. It asks the
 * Runtime API for an invocation, runs the function, posts the reply, and asks again; the
 * store of the last run stays attached meanwhile, and Lambda freezes all of it.
 *
 * The event is the function's line of JSON. A reply with "error" is posted as an error, of
 * type Sort.Final if it would come again, else Sort.Failed.
 *
 * It ends when it cannot ask: then nobody is there to run functions for, and Lambda starts
 * another one.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "function.h"
#include "http_client.h"

#define API "/2018-06-01/runtime/"

/* Lambda's own, of event and reply. */
#define PAYLOAD_MAX ((size_t)6 << 20)

/* Posting a reply is a matter of milliseconds. */
#define POST_NS (10 * NS_PER_S)

/* What is left for the reply when a function stops waiting for others. */
#define REPLY_MS 500

/* Longer than any invocation may last: then the deadline is no time of day, but nonsense. */
#define INVOCATION_MS_MAX ((int64_t)3600 * 1000)

#define ID_MAX 128

struct runtime {
	struct http_client client;
	struct instance instance;
	char id[ID_MAX]; /* of the invocation */
};

static int post(struct runtime *rt, const char *target, const char *error_type, const char *body)
{
	char headers[256];
	struct http_call call = {
		.method = "POST",
		.target = target,
		.headers = headers,
		.body = body,
		.body_len = strlen(body),
		.due_ns = clock_ns() + POST_NS,
	};
	int r;

	snprintf(headers, sizeof(headers), "Content-Type: application/json\r\n%s%s%s",
		 error_type ? "Lambda-Runtime-Function-Error-Type: " : "",
		 error_type ? error_type : "", error_type ? "\r\n" : "");
	r = http_client_call(&rt->client, &call);
	return r < 0 ? r : rt->client.in.head.status;
}

/* Of an invocation, or of the start. */
static int post_error(struct runtime *rt, const char *target, const char *type, const char *why)
{
	json_t *body =
		json_pack("{ss ss s[]}", "errorMessage", why, "errorType", type, "stackTrace");
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	int r = text ? post(rt, target, type, text) : -ENOMEM;

	free(text);
	json_decref(body);
	return r;
}

/* Is there, and is no name of a header or a path of somebody else's. */
static bool id_take(struct runtime *rt, const char *id)
{
	if (!id || !*id || strlen(id) >= sizeof(rt->id) || strpbrk(id, "/?# "))
		return false;
	strcpy(rt->id, id);
	return true;
}

/* 0: an invocation is in client.in. Not 0: nobody is there any more. */
static int next(struct runtime *rt)
{
	struct http_call call = { .method = "GET",
				  .target = API "invocation/next",
				  .headers = "",
				  .due_ns = UINT64_MAX };
	int r = http_client_call(&rt->client, &call), status = rt->client.in.head.status;

	if (r < 0) {
		fprintf(stderr, "wadi-sort-lambda: no next invocation: %s\n", strerror(-r));
		return r;
	}
	if (status == 200 &&
	    id_take(rt, http_head_value(&rt->client.in.head, "lambda-runtime-aws-request-id")))
		return 0;
	fprintf(stderr, "wadi-sort-lambda: no next invocation: status %d, or no request id\n",
		status);
	return -EBADMSG;
}

/* Milliseconds until Lambda kills us; 0: it does not say, or not in a way to believe. */
static int64_t left_ms(const struct http_head *h)
{
	const char *deadline = http_head_value(h, "lambda-runtime-deadline-ms");
	struct timespec now;
	int64_t left;

	clock_gettime(CLOCK_REALTIME, &now);
	left = deadline ? strtoll(deadline, NULL, 10) - now.tv_sec * 1000 - now.tv_nsec / 1000000
			: 0;
	return left > 0 && left <= INVOCATION_MS_MAX ? left : 0;
}

/*
 * A function that waits for others gives up in time to say so. NULL: the event is as it
 * is, perhaps no JSON, which the function tells.
 */
static char *event_in_time(const char *event, int64_t left)
{
	json_t *root = left ? json_loads(event, 0, NULL) : NULL;
	json_t *value = json_object_get(root, "value"), *timeout;
	int64_t most = left > 2 * REPLY_MS ? left - REPLY_MS : left / 2;
	char *text = NULL;

	timeout = json_object_get(value, "timeout_ms");
	if (json_is_integer(timeout) && json_integer_value(timeout) > most) {
		json_integer_set(timeout, most);
		text = json_dumps(root, JSON_COMPACT);
	}
	json_decref(root);
	return text;
}

/* For what asks for it in this process, and to be found in logs. */
static void trace_set(const struct http_head *h)
{
	const char *trace = http_head_value(h, "lambda-runtime-trace-id");

	if (trace)
		setenv("_X_AMZN_TRACE_ID", trace, 1);
	else
		unsetenv("_X_AMZN_TRACE_ID");
}

static char *run(struct runtime *rt)
{
	struct http_intake *in = &rt->client.in;
	char *event, *reply;

	trace_set(&in->head);
	event = event_in_time(in->body, left_ms(&in->head));
	reply = event ? function_run(&rt->instance, event, strlen(event))
		      : function_run(&rt->instance, in->body, in->body_len);
	free(event);
	return reply;
}

/* The status of the answer to it, or a negative errno. */
static int reply_post(struct runtime *rt, const char *reply)
{
	json_t *root = reply ? json_loads(reply, 0, NULL) : NULL;
	const char *error = json_string_value(json_object_get(root, "error"));
	bool is_final = json_is_true(json_object_get(root, "is_final"));
	char target[64 + ID_MAX];
	int r;

	if (!root)
		error = "no memory for the reply";
	else if (!error && strlen(reply) > PAYLOAD_MAX)
		error = "the reply is longer than 6 MiB";
	snprintf(target, sizeof(target), API "invocation/%s/%s", rt->id,
		 error ? "error" : "response");
	if (error)
		r = post_error(rt, target, is_final ? "Sort.Final" : "Sort.Failed", error);
	else
		r = post(rt, target, NULL, reply);
	json_decref(root);
	return r;
}

/* False: the end. A refusal is of this invocation, which was over before us. */
static bool invocation_serve(struct runtime *rt)
{
	char *reply;
	int r;

	if (next(rt) < 0)
		return false;
	reply = run(rt);
	r = reply_post(rt, reply);
	free(reply);
	fflush(stdout);
	fflush(stderr);
	if (r == 202)
		return true;
	if (r > 0)
		fprintf(stderr, "wadi-sort-lambda: the reply to %s was refused with %d\n", rt->id,
			r);
	else
		fprintf(stderr, "wadi-sort-lambda: cannot post a reply: %s\n", strerror(-r));
	return r >= 400 && r < 500;
}

/* What would fail in every run is told once, at the start. */
static bool endpoint_check(struct runtime *rt)
{
	const char *url = getenv("WADI_ENDPOINT");

	if (!url || !*url || strcmp(store_kind(url), "none") != 0)
		return true;
	fprintf(stderr, "wadi-sort-lambda: WADI_ENDPOINT is no endpoint: %s\n", url);
	(void)post_error(rt, API "init/error", "Sort.NoEndpoint",
			 "WADI_ENDPOINT is to be tcp://HOST:PORT, unix:///PATH or "
			 "direct://HOST:PORT");
	return false;
}

int main(void)
{
	const char *api = getenv("AWS_LAMBDA_RUNTIME_API");
	struct runtime *rt = calloc(1, sizeof(*rt));

	if (!rt || !api || http_client_init(&rt->client, api, PAYLOAD_MAX + 1024) < 0) {
		fprintf(stderr, "wadi-sort-lambda: AWS_LAMBDA_RUNTIME_API is not there; Lambda "
				"sets it, and so does test/platforms/lambda.py\n");
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	if (endpoint_check(rt))
		while (invocation_serve(rt))
			;
	instance_fini(&rt->instance);
	http_client_fini(&rt->client);
	free(rt);
	return 1; /* a runtime that ends has failed */
}
