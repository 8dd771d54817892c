/* SPDX-License-Identifier: Apache-2.0 */
#include "remote.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

/* Before a run is tried again whose request was lost, so that a gateway can come back. */
#define LOST_NS (500 * NS_PER_MS)

/* No platform asks for longer pauses and means it. */
#define RETRY_AFTER_MAX_S 60

/* How often a lost question about a run that goes on is asked again, at least. */
#define POLL_LOST_NS (200 * NS_PER_MS)

int remote_end(struct remote_call *c, int result, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(c->run->log, sizeof(c->run->log), format, args);
	va_end(args);
	c->run->r = result;
	return result;
}

void remote_reply(struct remote_call *c, char *output)
{
	c->run->r = 0;
	c->run->output = output;
}

static uint64_t retry_after_ns(const struct remote_call *c)
{
	const char *text = http_header(&c->http, "Retry-After");
	unsigned long s = text ? strtoul(text, NULL, 10) : 0; /* a date is 0 */

	return s ? clock_ns() + (s < RETRY_AFTER_MAX_S ? s : RETRY_AFTER_MAX_S) * NS_PER_S : 0;
}

static int result_of(long status)
{
	switch (status) {
	case 429:
	case 503:
		return -EAGAIN;
	case 401:
	case 403:
		return -EACCES;
	case 404:
		return -ENOENT;
	case 413:
		return -E2BIG;
	default:
		return status >= 400 && status < 500 && status != 408 && status != 409 ? -EINVAL
										       : -ECHILD;
	}
}

void remote_end_by_status(struct remote_call *c, const char *said)
{
	int r = result_of(c->http.status);

	remote_end(c, r, "%s answered %ld%s%s", c->url, c->http.status, said ? ": " : "",
		   said ? said : "");
	if (r == -EAGAIN)
		c->run->again_ns = retry_after_ns(c);
	else if (r == -ECHILD)
		c->run->again_ns = clock_ns() + LOST_NS;
}

static void call_clear(struct remote_call *c)
{
	http_request_fini(&c->http);
	free(c->body);
	*c = (struct remote_call){ 0 };
}

/* The next request; or the run's end, which r tells. */
static int call_ask(struct remote *r, struct remote_call *c)
{
	int result;

	c->again_ns = 0;
	c->http.due_ns = c->run->due_ns;
	result = r->ops->ask(r, c);
	c->asked++;
	if (result == 0 && http_start(r->http, &c->http) < 0)
		result = remote_end(c, -ECHILD, "no memory for a request");
	return result;
}

static int remote_start(struct platform *platform, struct platform_run *run)
{
	struct remote *r = (struct remote *)platform;
	struct remote_call *c = r->calls;

	while (c < r->calls + r->parallel && c->run)
		c++;
	if (c == r->calls + r->parallel)
		return -EAGAIN;
	run->start_ns = clock_ns();
	run->init_ns = run->end_ns = run->again_ns = 0;
	run->output = NULL;
	run->log[0] = '\0';
	c->run = run;
	c->again_ns = run->start_ns; /* asked in wait(), where it may end */
	return 0;
}

static struct platform_run *call_end(struct remote_call *c)
{
	struct platform_run *run = c->run;

	run->end_ns = clock_ns();
	call_clear(c);
	return run;
}

/* Nobody answered. True: the run has ended. */
static bool call_lost(struct remote_call *c)
{
	if (c->http.r == -ETIMEDOUT && clock_ns() >= c->run->due_ns) {
		remote_end(c, -ETIMEDOUT, "%s: %s", c->url, c->http.error);
	} else if (c->id[0]) {
		c->again_ns = clock_ns() + POLL_LOST_NS;
		return false;
	} else if (c->http.r == -EHOSTUNREACH) {
		remote_end(c, -EAGAIN, "%s: %s", c->url, c->http.error);
	} else {
		remote_end(c, -ECHILD, "%s: %s", c->url, c->http.error);
		c->run->again_ns = clock_ns() + LOST_NS;
	}
	return true;
}

static struct remote_call *call_of(struct http_request *req)
{
	return (struct remote_call *)((char *)req - offsetof(struct remote_call, http));
}

/* Asks for those whose time has come. One whose run ended; NULL: none, and when the next is due. */
static struct remote_call *calls_ask(struct remote *r, uint64_t *due_ns)
{
	for (struct remote_call *c = r->calls; c < r->calls + r->parallel; c++) {
		if (!c->run || !c->again_ns)
			continue;
		if (c->is_given_up) {
			remote_end(c, -ECHILD, "given up");
			return c;
		}
		if (c->again_ns >= c->run->due_ns) {
			remote_end(c, -ETIMEDOUT, "%s: not ended in time", c->url);
			return c;
		}
		if (c->again_ns > clock_ns()) {
			if (c->again_ns < *due_ns)
				*due_ns = c->again_ns;
			continue;
		}
		if (call_ask(r, c) < 0)
			return c;
	}
	return NULL;
}

static int remote_wait(struct platform *platform, uint64_t due_ns, struct platform_run **ret)
{
	struct remote *r = (struct remote *)platform;
	struct remote_call *c = calls_ask(r, &due_ns);
	struct http_request *req;

	if (!c) {
		if (http_wait(r->http, due_ns, &req) == 0)
			return 0;
		c = call_of(req);
		if (c->http.r < 0 ? !call_lost(c) : !r->ops->answer(r, c))
			return 0;
	}
	*ret = call_end(c);
	return 1;
}

static void call_abandon(struct remote *r, struct remote_call *c)
{
	if (!c->again_ns)
		http_cancel(r->http, &c->http);
	call_clear(c);
}

static void remote_kill(struct platform *platform, struct platform_run *run)
{
	struct remote *r = (struct remote *)platform;

	for (struct remote_call *c = r->calls; c < r->calls + r->parallel; c++) {
		if (c->run != run)
			continue;
		call_abandon(r, c);
		*c = (struct remote_call){ .run = run, .again_ns = 1, .is_given_up = true };
	}
}

static void remote_abandon(struct platform *platform)
{
	struct remote *r = (struct remote *)platform;

	for (struct remote_call *c = r->calls; c < r->calls + r->parallel; c++)
		if (c->run)
			call_abandon(r, c);
}

static void remote_close(struct platform *platform)
{
	struct remote *r = (struct remote *)platform;

	r->ops->close(r);
}

static const struct platform_ops REMOTE = {
	.start = remote_start,
	.wait = remote_wait,
	.kill = remote_kill,
	.abandon = remote_abandon,
	.close = remote_close,
};

int remote_init(struct remote *r, const struct remote_ops *ops, const struct http_config *http,
		const struct platform_config *config, struct problem *problem)
{
	r->platform.ops = &REMOTE;
	r->ops = ops;
	r->problem = problem;
	r->parallel = config->parallel;
	r->calls = calloc(config->parallel, sizeof(*r->calls));
	if (!r->calls)
		return problem_set(problem, -ENOMEM, "no memory");
	return http_open(http, problem, &r->http);
}

void remote_fini(struct remote *r)
{
	http_close(r->http);
	free(r->calls);
	r->http = NULL;
	r->calls = NULL;
}
