/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lambda: what is said to AWS Lambda's Invoke interface, and what it answers. Pure: no I/O.
 *
 *	lambda://FUNCTION[:QUALIFIER]    one that the user has made, of what `make lambda` built
 *
 * Where and who is in the environment, as for AWS's own programs: AWS_ENDPOINT_URL_LAMBDA,
 * AWS_ENDPOINT_URL, or the endpoint of AWS_REGION or AWS_DEFAULT_REGION; AWS_ACCESS_KEY_ID,
 * AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.
 */
#pragma once

#include "problem.h"

#include <stddef.h>
#include <stdint.h>

/* Lambda's own, of an event and of a reply. */
#define LAMBDA_PAYLOAD_MAX ((size_t)6 << 20)

#define LAMBDA_TOKEN_MAX 4096 /* those of roles have up to two thousand bytes */

struct lambda_environment {
	const char *endpoint, *region;           /* NULL: not there */
	const char *access_key, *secret, *token; /* NULL: not there */
};

struct lambda {
	char url[1024];                    /* of the invocations */
	char sigv4[128];                   /* provider, region and service */
	char user[384];                    /* key and secret */
	char token[LAMBDA_TOKEN_MAX + 32]; /* a header; "": none */
};

int lambda_url_check(const char *url, struct problem *problem);
int lambda_parse(const char *url, const struct lambda_environment *env, struct lambda *ret,
		 struct problem *problem);

/* What came: a status, a body that may be NULL, and the headers of these names, or NULL. */
struct lambda_reply {
	long status;
	const char *body;
	size_t len;
	const char *function_error; /* X-Amz-Function-Error */
	const char *log_result;     /* X-Amz-Log-Result */
};

struct lambda_answer {
	char *output;     /* the function's reply; owned; NULL: none */
	int r;            /* without one: -ETIMEDOUT, -ECHILD, -E2BIG; 0: the status tells */
	uint64_t init_ns; /* 0: it was warm, or nobody told */
	char said[1024];  /* Lambda's own sentence; "" */
	char log[2048];   /* the end of it */
};

void lambda_answer_parse(const struct lambda_reply *reply, struct lambda_answer *ret);
