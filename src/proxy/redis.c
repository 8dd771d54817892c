/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis: the place of the Redis door. This build has none, and tells every client so
 * in its own protocol, so that nobody waits for an answer.
 */
#include "base/container.h"
#include "proxy/web.h"

static void redis_run(struct fiber *self)
{
	static const char answer[] = "-ERR not in this build\r\n";
	struct web *w = container_of(self, struct web, fiber);
	uint64_t due_ns = w->proxy->loop->now_ns + WEB_IDLE_MS * 1000000ull;

	if (web_read(w, due_ns) > 0)
		(void)web_write(w, answer, sizeof(answer) - 1, due_ns);
}

void proxy_accept_redis(struct proxy *p, struct stream *s)
{
	web_accept(p, s, redis_run);
}
