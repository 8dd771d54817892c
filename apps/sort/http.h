/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http: requests to platforms, any number at once, by libcurl.
 *
 * A request is the caller's, and is libcurl's between http_start() and the http_wait() that
 * returns it or the http_cancel(). Whatever a server answers, with whatever status, is an
 * answer; r tells only that there is none.
 */
#pragma once

#include "problem.h"

#include <curl/curl.h>
#include <stddef.h>
#include <stdint.h>

/* A record of an activation has its result, at most 1 MB, and may have logs of 10 MB. */
#define HTTP_ANSWER_MAX ((size_t)16 << 20)

#define HTTP_HEADERS_MAX 8
#define HTTP_ERROR_MAX   CURL_ERROR_SIZE

struct http_request {
	/* The caller's, until the request has ended. */
	const char *method; /* GET, POST, PUT */
	const char *url;
	const char *headers[HTTP_HEADERS_MAX]; /* "Name: value"; as many as there are */
	const char *body;                      /* NULL: none */
	size_t body_len;
	uint64_t due_ns;

	/* Of one that has ended. */
	int r; /* 0; -ETIMEDOUT; -EHOSTUNREACH: not sent; -ECONNRESET: perhaps; -EMSGSIZE */
	char error[HTTP_ERROR_MAX]; /* a sentence, if r is not 0 */
	long status;
	char *answer; /* ends with a NUL that is not counted; owned */
	size_t answer_len;

	/* http.c's own. */
	CURL *curl; /* also holds the answer's headers */
	struct curl_slist *list;
	size_t answer_cap;
};

struct http_config {
	const char *user;  /* NAME:PASSWORD; NULL: none */
	const char *sigv4; /* as CURLOPT_AWS_SIGV4 has it, signed with `user`; NULL: basic */
};

struct http;

/* Strings of `config` must live as long. */
int http_open(const struct http_config *config, struct problem *problem, struct http **ret);
void http_close(struct http *h); /* nothing is under way; NULL is fine */

int http_start(struct http *h, struct http_request *req);

/* 1: a request has ended; 0: due. */
int http_wait(struct http *h, uint64_t due_ns, struct http_request **ret);

/* What was sent is perhaps done. */
void http_cancel(struct http *h, struct http_request *req);

/* One request from its start to its end; signals wait. Returns r. */
int http_do(struct http *h, struct http_request *req);

/* Of an answer; NULL: it has none. Until the request is freed or started again. */
const char *http_header(const struct http_request *req, const char *name);

/* After it has ended, before it is used again; fine for zeros. */
void http_request_fini(struct http_request *req);
