/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenWhisk, by its REST interface: each run is an activation of one action, asked for as a
 * blocking one. What takes longer than the platform blocks is asked for by its id, until the
 * run is due. The action is there before the first run: made, or brought up to date, from the
 * zip that `make openwhisk` builds.
 */
#include "platform.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "clock.h"
#include "openwhisk.h"
#include "remote.h"

/* Of a request that runs no function. */
#define ADMIN_NS (60 * NS_PER_S)

/* Between two questions about an activation: from the first doubled to the second. */
#define POLL_MIN_NS (50 * NS_PER_MS)
#define POLL_MAX_NS NS_PER_S

#define JSON_HEADER "Content-Type: application/json"

struct openwhisk_platform {
	struct remote remote;
	struct openwhisk whisk;
	char auth[256]; /* UUID:KEY */
};

static int openwhisk_ask(struct remote *r, struct remote_call *c)
{
	const struct openwhisk *w = &((struct openwhisk_platform *)r)->whisk;
	size_t len;

	c->http.url = c->url;
	c->http.headers[0] = JSON_HEADER;
	if (c->id[0]) {
		snprintf(c->url, sizeof(c->url), "%s/activations/%s", w->base, c->id);
		c->http.method = "GET";
		c->http.body = NULL;
		return 0;
	}
	snprintf(c->url, sizeof(c->url), "%s/actions/%s?blocking=true", w->base, w->action);
	c->http.method = "POST";
	c->body = openwhisk_parameters(c->run->input);
	if (!c->body)
		return remote_end(c, -ENOMEM, "no memory for a request");
	len = strlen(c->body);
	if (len > OPENWHISK_PAYLOAD_MAX)
		return remote_end(c, -E2BIG, "a request of %zu bytes; OpenWhisk takes %zu at most",
				  len, OPENWHISK_PAYLOAD_MAX);
	c->http.body = c->body;
	c->http.body_len = len;
	return 0;
}

static bool poll_later(struct remote_call *c)
{
	uint64_t pause_ns = POLL_MIN_NS;

	for (uint32_t i = 1; i < c->asked && pause_ns < POLL_MAX_NS; i++)
		pause_ns *= 2;
	c->again_ns = clock_ns() + (pause_ns < POLL_MAX_NS ? pause_ns : POLL_MAX_NS);
	return false;
}

/* Of an activation that is known: it has no record yet, or the gateway cannot say. */
static bool is_pending(const struct remote_call *c)
{
	return c->id[0] && c->http.status != 401 && c->http.status != 403;
}

static bool openwhisk_answer(struct remote *r, struct remote_call *c)
{
	struct openwhisk_answer a;

	(void)r;
	openwhisk_answer_parse(c->http.answer, c->http.answer_len, &a);
	snprintf(c->run->log, sizeof(c->run->log), "%s", a.log);
	c->run->init_ns = a.init_ns;
	if (a.output) {
		remote_reply(c, a.output);
		return true;
	}
	if (a.r < 0) {
		remote_end(c, a.r, "%s%s%s", a.said, a.log[0] ? "; " : "", a.log);
		return true;
	}
	if (!c->id[0] && c->http.status == 202)
		strcpy(c->id, a.id);
	if (is_pending(c))
		return poll_later(c);
	remote_end_by_status(c, a.said[0] ? a.said : NULL);
	return true;
}

static void openwhisk_close(struct remote *r)
{
	remote_fini(r);
	free(r);
}

static const struct remote_ops OPENWHISK = {
	.ask = openwhisk_ask,
	.answer = openwhisk_answer,
	.close = openwhisk_close,
};

static int file_read(const char *path, char **ret, size_t *ret_len, struct problem *problem)
{
	FILE *file = fopen(path, "rb");
	struct stat st;
	int r = 0;

	*ret = NULL;
	if (!file || fstat(fileno(file), &st) < 0)
		r = -errno;
	else if ((size_t)st.st_size > OPENWHISK_CODE_MAX)
		r = -EFBIG;
	else if (!(*ret = malloc((size_t)st.st_size + 1)))
		r = -ENOMEM;
	else if ((*ret_len = fread(*ret, 1, (size_t)st.st_size, file)) != (size_t)st.st_size)
		r = -EIO;
	if (file)
		fclose(file);
	if (r == 0)
		return 0;
	free(*ret);
	*ret = NULL;
	return problem_set(problem, r,
			   "%s: cannot read the code of the action: %s; `make openwhisk` makes it",
			   path, strerror(-r));
}

/* Of a request that must succeed before anything runs. */
static int admin_failed(const struct http_request *req, struct problem *problem)
{
	struct openwhisk_answer a;

	if (req->r < 0)
		return problem_set(problem, req->r, "%s: %s", req->url, req->error);
	openwhisk_answer_parse(req->answer, req->answer_len, &a);
	openwhisk_answer_fini(&a);
	if (req->status == 401 || req->status == 403)
		return problem_set(problem, -EACCES,
				   "%s answered %ld: %s; --auth-file or __OW_API_KEY has UUID:KEY",
				   req->url, req->status, a.said);
	return problem_set(problem, -EREMOTEIO, "%s answered %ld: %s", req->url, req->status,
			   a.said);
}

static int action_put(struct openwhisk_platform *p, const struct openwhisk_code *code,
		      struct problem *problem)
{
	char url[1024], *body = openwhisk_action_make(&p->whisk, code);
	struct http_request req = { .method = "PUT",
				    .url = url,
				    .headers = { JSON_HEADER },
				    .body = body,
				    .body_len = body ? strlen(body) : 0,
				    .due_ns = clock_ns() + ADMIN_NS };
	int r = 0;

	if (!body)
		return problem_set(problem, -ENOMEM, "no memory for the action");
	snprintf(url, sizeof(url), "%s/actions/%s?overwrite=true", p->whisk.base, p->whisk.action);
	if (http_do(p->remote.http, &req) < 0 || req.status != 200)
		r = admin_failed(&req, problem);
	http_request_fini(&req);
	free(body);
	return r;
}

static int action_make(struct openwhisk_platform *p, const struct platform_config *config,
		       struct problem *problem)
{
	struct openwhisk_code code = { .timeout_ms = config->timeout_ms,
				       .memory = config->function_memory };
	char url[1024], *zip = NULL;
	struct http_request req = { .method = "GET", .url = url, .due_ns = clock_ns() + ADMIN_NS };
	int r;

	snprintf(url, sizeof(url), "%s/actions/%s?code=false", p->whisk.base, p->whisk.action);
	if (http_do(p->remote.http, &req) < 0 || (req.status != 200 && req.status != 404))
		r = admin_failed(&req, problem);
	else if (!p->whisk.is_ours)
		r = req.status == 200 ? 0 : admin_failed(&req, problem);
	else
		r = file_read(config->bundle, &zip, &code.len, problem);
	code.zip = zip;
	if (zip && (req.status == 404 || !req.answer ||
		    !openwhisk_action_is(req.answer, req.answer_len, &p->whisk, &code)))
		r = action_put(p, &code, problem);
	free(zip);
	http_request_fini(&req);
	return r;
}

int platform_openwhisk_open(const struct platform_config *config, struct problem *problem,
			    struct platform **ret)
{
	struct openwhisk_platform *p = calloc(1, sizeof(*p));
	struct http_config http = { 0 };
	int r;

	if (!p)
		return problem_set(problem, -ENOMEM, "no memory");
	http.user = p->auth;
	r = openwhisk_parse(config->url, &p->whisk, problem);
	if (r == 0)
		r = platform_auth(config, "__OW_API_KEY", p->auth, sizeof(p->auth), problem);
	if (r == 0)
		r = remote_init(&p->remote, &OPENWHISK, &http, config, problem);
	if (r == 0)
		r = action_make(p, config, problem);
	if (r < 0) {
		openwhisk_close(&p->remote);
		return r;
	}
	*ret = &p->remote.platform;
	return 0;
}
