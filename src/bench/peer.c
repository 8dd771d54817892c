/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/peer.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

/* clang-format off */
static const char *const OP_NAMES[] = {
#define BENCH_OP_NAME(NAME, name) name,
	BENCH_OPS(BENCH_OP_NAME)
};
/* clang-format on */

const char *bench_attach_name(enum bench_attach attach)
{
	static const char *const NAMES[] = { "proxy", "host", "sidecar", "direct" };

	return NAMES[attach];
}

const char *bench_op_name(enum bench_op op)
{
	return OP_NAMES[op];
}

void client_push(struct client *c, struct request *rq)
{
	assert(c->count < BENCH_DEPTH_MAX);
	c->queue[(c->head + c->count++) % BENCH_DEPTH_MAX] = rq;
}

struct request *client_oldest(const struct client *c)
{
	return c->count ? c->queue[c->head] : NULL;
}

void client_pop(struct client *c, int64_t result)
{
	struct request *rq = client_oldest(c);

	c->head = (c->head + 1) % BENCH_DEPTH_MAX;
	c->count--;
	rq->result = result;
	rq->is_done = true;
}

int peer_fail(struct peer *p, int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(p->error, sizeof(p->error), format, args);
	va_end(args);
	return r;
}

static uint64_t cpu_ns_of(pid_t pid)
{
	struct timespec t;
	clockid_t clock;

	if (pid <= 0 || clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) < 0)
		return 0;
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t peer_cpu_ns(const struct peer *p)
{
	return cpu_ns_of(p->server);
}

uint64_t peer_behind_cpu_ns(const struct peer *p)
{
	return cpu_ns_of(p->behind[0]) + cpu_ns_of(p->behind[1]);
}
