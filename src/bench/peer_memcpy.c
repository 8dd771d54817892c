/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memcpy: the floor of a put in place and of a get by copying: the bytes are copied, by who asks,
 * and nobody else does anything. To the next of many places, as a store has no use for the one
 * that was written last: it has been touched before, and is in nobody's cache. It is memory as a
 * store has it, in pages of the same kind.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/container.h"
#include "bench/bench.h"
#include "shm/memory.h"

/* Of all places together, at least; and two of them. */
#define PLACES_BYTES ((size_t)64 << 20)

struct memcpy_client {
	struct client client;
	struct memory places;
	size_t at;
	unsigned ended; /* in begin(), and not told of yet */
};

static int make_places(struct memcpy_client *c, size_t len)
{
	size_t size = PLACES_BYTES;
	struct memory m = { .fd = -1 };
	int r;

	while (size < 2 * len)
		size *= 2;
	if (size <= c->places.size)
		return 0;
	r = media_memfd.make(size, &m);
	if (r == 0)
		r = media_memfd.fill(&m, 0, size);
	if (r < 0) {
		media_memfd.free(&m);
		return r;
	}
	media_memfd.free(&c->places);
	c->places = m;
	c->at = 0;
	return 0;
}

static int memcpy_begin(struct client *client, struct request *rq)
{
	struct memcpy_client *c = container_of(client, struct memcpy_client, client);
	int r = make_places(c, rq->len);

	if (r < 0)
		return r;
	if (rq->len > c->places.size - c->at)
		c->at = 0;
	if (rq->op == BENCH_GET)
		memcpy(rq->buf, c->places.ptr + c->at, rq->len);
	else
		memcpy(c->places.ptr + c->at, rq->buf, rq->len);
	c->at += rq->len;
	rq->result = rq->op == BENCH_GET ? (int64_t)rq->len : 0;
	rq->is_done = true;
	c->ended++;
	return 0;
}

static int memcpy_flush(struct client *client)
{
	struct memcpy_client *c = container_of(client, struct memcpy_client, client);
	unsigned ended = c->ended;

	c->ended = 0;
	return (int)ended;
}

static int memcpy_turn(struct client *client, uint64_t due_ns)
{
	(void)due_ns;
	return memcpy_flush(client);
}

static int memcpy_fd(struct client *client)
{
	(void)client;
	return -1;
}

static void memcpy_client_close(struct client *client)
{
	struct memcpy_client *c = container_of(client, struct memcpy_client, client);

	media_memfd.free(&c->places);
	free(c);
}

static const struct client_ops CLIENT = { memcpy_begin, memcpy_flush, memcpy_turn, memcpy_fd,
					  memcpy_client_close };

/* The first bytes are not what is measured, so places are made here for all but the largest. */
static int memcpy_connect(struct peer *p, const struct client_how *how, struct client **ret)
{
	struct memcpy_client *c = calloc(1, sizeof(*c));
	int r = c ? make_places(c, 0) : -ENOMEM;

	(void)p;
	(void)how;
	if (r < 0) {
		free(c);
		return r;
	}
	c->client.ops = &CLIENT;
	*ret = &c->client;
	return 0;
}

static int memcpy_open(struct peer *p)
{
	(void)p;
	return 0;
}

static void memcpy_close(struct peer *p)
{
	free(p);
}

static const struct peer_ops MEMCPY = {
	.name = "memcpy",
	.ops = 1u << BENCH_GET | 1u << BENCH_PUT | 1u << BENCH_CREATE,
	.is_floor = true,
	.is_serial = true,
	.open = memcpy_open,
	.connect = memcpy_connect,
	.close = memcpy_close,
};

struct peer *peer_memcpy_new(void)
{
	struct peer *p = calloc(1, sizeof(*p));

	if (p)
		p->ops = &MEMCPY;
	return p;
}
