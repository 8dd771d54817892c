/* SPDX-License-Identifier: Apache-2.0 */
#include "base/node.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

_Thread_local struct node *node_current;

/* Fault tests: is this the allocation that is to fail? */
static bool must_fail(struct node *n)
{
	return n && n->fail_countdown > 0 && --n->fail_countdown == 0;
}

void *node_alloc(size_t size)
{
	struct node *n = node_current;

	if (must_fail(n))
		return NULL;
	size = size ? size : 1;
	return n && n->alloc ? n->alloc(n, size) : calloc(1, size);
}

void *node_resize(void *p, size_t size)
{
	struct node *n = node_current;

	if (must_fail(n))
		return NULL;
	size = size ? size : 1;
	return n && n->alloc ? n->resize(n, p, size) : realloc(p, size);
}

void *node_free(void *p)
{
	struct node *n = node_current;

	if (p && n && n->alloc)
		n->free(n, p);
	else
		free(p);
	return NULL;
}

static uint64_t read_clock(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t node_now_ns(void)
{
	struct node *n = node_current;

	return n && n->now_ns ? n->now_ns(n) : read_clock(CLOCK_BOOTTIME);
}

uint64_t node_wall_ns(void)
{
	struct node *n = node_current;

	return n && n->wall_ns ? n->wall_ns(n) : read_clock(CLOCK_REALTIME);
}

void node_random(void *buf, size_t len)
{
	struct node *n = node_current;
	size_t have = 0;

	if (n && n->random) {
		n->random(n, buf, len);
		return;
	}
	while (have < len) {
		ssize_t r = getrandom((char *)buf + have, len - have, 0);

		if (r > 0)
			have += (size_t)r;
	}
}

uint64_t node_random_u64(void)
{
	uint64_t v;

	node_random(&v, sizeof(v));
	return v;
}
