/* SPDX-License-Identifier: Apache-2.0 */
#include "http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

#define CONNECT_MS 10000L

struct http {
	struct http_config config;
	CURLM *multi;
};

int http_open(const struct http_config *config, struct problem *problem, struct http **ret)
{
	struct http *h = calloc(1, sizeof(*h));

	if (h && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
		h->multi = curl_multi_init();
	if (!h || !h->multi) {
		free(h);
		return problem_set(problem, -ENOMEM, "no memory for a client of HTTP");
	}
	h->config = *config;
	*ret = h;
	return 0;
}

void http_close(struct http *h)
{
	if (!h)
		return;
	curl_multi_cleanup(h->multi);
	free(h);
}

void http_request_fini(struct http_request *req)
{
	curl_easy_cleanup(req->curl);
	curl_slist_free_all(req->list);
	free(req->answer);
	*req = (struct http_request){ 0 };
}

static size_t on_answer(char *data, size_t size, size_t count, void *arg)
{
	struct http_request *req = arg;
	size_t len = size * count, need = req->answer_len + len + 1;

	if (need > HTTP_ANSWER_MAX)
		return 0; /* which ends it */
	if (need > req->answer_cap) {
		size_t cap = 2 * need < HTTP_ANSWER_MAX ? 2 * need : HTTP_ANSWER_MAX;
		char *more = realloc(req->answer, cap);

		if (!more)
			return 0;
		req->answer = more;
		req->answer_cap = cap;
	}
	memcpy(req->answer + req->answer_len, data, len);
	req->answer_len += len;
	req->answer[req->answer_len] = '\0';
	return len;
}

/* What is on this machine is not asked through a proxy, whatever the environment says. */
static bool is_loopback(const char *url)
{
	static const char *const HOSTS[] = { "127.", "localhost", "[::1]" };
	const char *host = strstr(url, "://");

	for (size_t i = 0; host && i < sizeof(HOSTS) / sizeof(HOSTS[0]); i++)
		if (strncmp(host + 3, HOSTS[i], strlen(HOSTS[i])) == 0)
			return true;
	return false;
}

static int headers_make(struct http_request *req)
{
	for (size_t i = 0; i < HTTP_HEADERS_MAX && req->headers[i]; i++) {
		struct curl_slist *list = curl_slist_append(req->list, req->headers[i]);

		if (!list)
			return -ENOMEM;
		req->list = list;
	}
	return 0;
}

static void credentials_set(const struct http *h, CURL *curl)
{
	if (!h->config.user)
		return;
	curl_easy_setopt(curl, CURLOPT_USERPWD, h->config.user);
	if (h->config.sigv4)
		curl_easy_setopt(curl, CURLOPT_AWS_SIGV4, h->config.sigv4);
	else
		curl_easy_setopt(curl, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
}

static void options_set(const struct http *h, struct http_request *req)
{
	const char *ca = getenv("SSL_CERT_FILE");
	CURL *curl = req->curl;

	curl_easy_setopt(curl, CURLOPT_URL, req->url);
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, req->method);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS,
			 (long)clock_left_ms(req->due_ns, INT32_MAX) + 1); /* 0 is never */
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, req->error);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_answer);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, req);
	curl_easy_setopt(curl, CURLOPT_PRIVATE, req);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, req->list);
	if (req->body) {
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, req->body);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)req->body_len);
	}
	if (ca && *ca)
		curl_easy_setopt(curl, CURLOPT_CAINFO, ca);
	if (is_loopback(req->url))
		curl_easy_setopt(curl, CURLOPT_PROXY, "");
	credentials_set(h, curl);
}

int http_start(struct http *h, struct http_request *req)
{
	int r;

	curl_easy_cleanup(req->curl);
	curl_slist_free_all(req->list);
	free(req->answer);
	req->list = NULL;
	req->answer = NULL;
	req->answer_len = req->answer_cap = 0;
	req->error[0] = '\0';
	req->status = 0;
	req->curl = curl_easy_init();
	r = req->curl ? headers_make(req) : -ENOMEM;
	if (r < 0)
		return r;
	options_set(h, req);
	return curl_multi_add_handle(h->multi, req->curl) == CURLM_OK ? 0 : -ENOMEM;
}

static int result_of(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_COULDNT_CONNECT:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
		return -EHOSTUNREACH;
	case CURLE_WRITE_ERROR:
		return -EMSGSIZE;
	default:
		return -ECONNRESET;
	}
}

static void request_end(struct http *h, struct http_request *req, CURLcode code)
{
	req->r = result_of(code);
	if (req->r == -EMSGSIZE)
		snprintf(req->error, sizeof(req->error), "the answer is longer than %zu MiB",
			 HTTP_ANSWER_MAX >> 20);
	else if (req->r < 0 && !req->error[0])
		snprintf(req->error, sizeof(req->error), "%s", curl_easy_strerror(code));
	curl_easy_getinfo(req->curl, CURLINFO_RESPONSE_CODE, &req->status);
	curl_multi_remove_handle(h->multi, req->curl);
}

/* One that has ended; NULL: none. */
static struct http_request *ended_take(struct http *h)
{
	struct http_request *req;
	struct CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(h->multi, &left))) {
		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &req);
		request_end(h, req, msg->data.result);
		return req;
	}
	return NULL;
}

int http_wait(struct http *h, uint64_t due_ns, struct http_request **ret)
{
	int running, left_ms;

	do {
		curl_multi_perform(h->multi, &running);
		*ret = ended_take(h);
		if (*ret)
			return 1;
		left_ms = clock_left_ms(due_ns, INT32_MAX);
		curl_multi_poll(h->multi, NULL, 0, left_ms, NULL);
	} while (left_ms > 0);
	return 0;
}

void http_cancel(struct http *h, struct http_request *req)
{
	curl_multi_remove_handle(h->multi, req->curl);
	http_request_fini(req);
}

int http_do(struct http *h, struct http_request *req)
{
	struct http_request *ended;
	int r = http_start(h, req);

	if (r < 0) {
		snprintf(req->error, sizeof(req->error), "no memory for a request");
		return req->r = r;
	}
	if (http_wait(h, req->due_ns + NS_PER_S, &ended) == 1)
		return req->r;
	curl_multi_remove_handle(h->multi, req->curl);
	snprintf(req->error, sizeof(req->error), "no answer");
	return req->r = -ETIMEDOUT;
}

const char *http_header(const struct http_request *req, const char *name)
{
	struct curl_header *header;

	if (!req->curl ||
	    curl_easy_header(req->curl, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
		return NULL;
	return header->value;
}
