/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve: the serving lease of a shard. Each request that it answered renews it, counted
 * from when the request was sent; while answers are on their way, HEARTBEATs do.
 *
 * What ends a job comes on the same connection, before the answer to anything that the
 * shard heard later. So who is within the lease has heard of every end that is older than
 * it; and a shard that waits for the lease's length after an end need not wait longer.
 */
#include <errno.h>

#include "base/container.h"
#include "core/core_priv.h"

#define MS       1000000ull
#define RENEW_MS (SERVE_MS / 4)

static void renew(struct shard_link *l);

static void renewed(struct call *call)
{
	struct shard_link *l = call->owner;
	int r = call->result;

	call_end(call);
	if (r == 0)
		serve_heard(l, l->renew_sent_ns);
	if (r == -ENOLINK)
		link_session_over(l);
	while (waitq_wake(&l->renewed))
		;
}

static void renew(struct shard_link *l)
{
	uint64_t now_ns = l->core->loop->now_ns;
	struct wcur w;

	if (l->renew.is_pending || !l->is_ready)
		return;
	l->renew = (struct call){ .done = renewed, .owner = l };
	l->renew_sent_ns = now_ns;
	w = call_body(l->core->net, &l->renew);
	heartbeat_req_put(&w, &(struct heartbeat_req){ .session = l->session, .epoch = l->epoch });
	call_send(l->conn, &l->renew, MSG_HEARTBEAT, 0, &w, NULL, now_ns + SERVE_MS * MS);
}

static void is_due(struct timer *t)
{
	struct shard_link *l = container_of(t, struct shard_link, renew_timer);

	if (l->serving_count == 0)
		return;
	renew(l);
	timer_start(l->core->loop, t, l->core->loop->now_ns + RENEW_MS * MS);
}

void serve_heard(struct shard_link *l, uint64_t sent_ns)
{
	if (sent_ns + SERVE_MS * MS > l->serve_until_ns)
		l->serve_until_ns = sent_ns + SERVE_MS * MS;
}

int core_serve(struct core *c, uint64_t job, uint64_t due_ns, const uint64_t **ret_until_ns)
{
	struct shard_link *l = shard_of(c, slot_of_id(job));

	while (l->serve_until_ns < c->loop->now_ns + SERVE_MS / 2 * MS) {
		int r = link_wait(l, due_ns);

		if (r < 0)
			return r;
		renew(l);
		r = waitq_wait(&l->renewed, due_ns);
		if (r < 0)
			return r == -ETIMEDOUT ? -EHOSTUNREACH : r;
	}
	l->serving_count++;
	if (!timer_is_running(&l->renew_timer))
		timer_start(c->loop, &l->renew_timer, c->loop->now_ns + RENEW_MS * MS);
	*ret_until_ns = &l->serve_until_ns;
	return 0;
}

void core_served(struct core *c, uint64_t job)
{
	shard_of(c, slot_of_id(job))->serving_count--;
}

void serve_init(struct shard_link *l)
{
	l->renew_timer.fire = is_due;
	waitq_init(&l->renewed, &l->core->loop->fibers);
}

void serve_fini(struct shard_link *l)
{
	timer_stop(l->core->loop, &l->renew_timer);
	if (!l->renew.is_pending)
		return;
	call_cancel(&l->renew);
	call_end(&l->renew);
}
