/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory: the floor of a function on its proxy's host: a request and its answer through
 * memory that two processes share, with a copy of the bytes at either end, and nothing
 * else. Both sleep on a futex, or look again and again: two floors.
 *
 * A client is the only one, with one request at a time: nobody sleeps on two futexes.
 */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/container.h"
#include "bench/bench.h"
#include "bench/child.h"
#include "bench/cpus.h"

#define ROOM_BYTES (64u << 10) /* longer ones go through it piece by piece, unasked */

struct channel {
	_Alignas(64) _Atomic uint32_t asked; /* so many requests */
	uint64_t len, reply_len;             /* of the last one: bytes that come, and that go */
	_Alignas(64) _Atomic uint32_t answered;
	uint8_t room[ROOM_BYTES];
};

struct region {
	struct channel channel;
	bool is_polling;
};

struct memory_peer {
	struct peer peer;
	struct child child;
	struct region *region;
};

struct memory_client {
	struct client client;
	struct channel *channel;
	bool is_polling;
	uint32_t asked;
};

static void sleep_on(_Atomic uint32_t *word, uint32_t value)
{
	(void)syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void wake(_Atomic uint32_t *word)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void await(_Atomic uint32_t *word, uint32_t value, bool is_polling)
{
	uint32_t now;

	while ((now = atomic_load_explicit(word, memory_order_acquire)) != value)
		if (!is_polling)
			sleep_on(word, now);
}

static void tell(_Atomic uint32_t *word, uint32_t value, bool is_polling)
{
	atomic_store_explicit(word, value, memory_order_release);
	if (!is_polling)
		wake(word);
}

static void copy(uint8_t *to, const uint8_t *from, uint64_t len, uint32_t to_step,
		 uint32_t from_step)
{
	for (uint64_t at = 0, n; at < len; at += n) {
		n = len - at < ROOM_BYTES ? len - at : ROOM_BYTES;
		memcpy(to + at * to_step, from + at * from_step, n);
	}
}

/* The server's: where its bytes come from, and go to. */
static uint8_t bytes[ROOM_BYTES];

static void serve(void *arg)
{
	struct region *region = arg;

	for (uint32_t asked = 0;; asked++) {
		struct channel *c = &region->channel;

		await(&c->asked, asked + 1, region->is_polling);
		copy(bytes, c->room, c->len, 0, 0);
		copy(c->room, bytes, c->reply_len, 0, 0);
		tell(&c->answered, asked + 1, region->is_polling);
	}
}

/* The client's. */

static void start(struct memory_client *c, const struct request *rq)
{
	bool is_put = rq->op == BENCH_PUT || rq->op == BENCH_CREATE;

	c->channel->len = is_put ? rq->len : 0;
	c->channel->reply_len = rq->op == BENCH_GET ? rq->len : 0;
	if (is_put)
		copy(c->channel->room, rq->buf, rq->len, 0, 1);
	tell(&c->channel->asked, ++c->asked, c->is_polling);
}

static int memory_begin(struct client *client, struct request *rq)
{
	client_push(client, rq);
	start(container_of(client, struct memory_client, client), rq);
	return 0;
}

static int memory_flush(struct client *client)
{
	(void)client;
	return 0;
}

static int memory_turn(struct client *client, uint64_t due_ns)
{
	struct memory_client *c = container_of(client, struct memory_client, client);
	struct request *rq = client_oldest(client);
	uint64_t len;

	if (!rq || (due_ns == 0 &&
		    atomic_load_explicit(&c->channel->answered, memory_order_acquire) != c->asked))
		return 0;
	await(&c->channel->answered, c->asked, c->is_polling);
	len = c->channel->reply_len;
	if (len > 0)
		copy(rq->buf, c->channel->room, len, 1, 0);
	client_pop(client, (int64_t)len);
	return 1;
}

static int memory_fd(struct client *client)
{
	(void)client;
	return -1;
}

static void memory_client_close(struct client *client)
{
	free(container_of(client, struct memory_client, client));
}

static const struct client_ops CLIENT = { memory_begin, memory_flush, memory_turn, memory_fd,
					  memory_client_close };

static int memory_connect(struct peer *p, const struct client_how *how, struct client **ret)
{
	struct region *region = container_of(p, struct memory_peer, peer)->region;
	struct memory_client *c = calloc(1, sizeof(*c));

	(void)how;
	if (!c)
		return -ENOMEM;
	c->client.ops = &CLIENT;
	c->channel = &region->channel;
	c->is_polling = region->is_polling;
	c->asked = atomic_load(&c->channel->answered); /* by the one before, who has gone */
	*ret = &c->client;
	return 0;
}

static int memory_open(struct peer *p)
{
	struct memory_peer *m = container_of(p, struct memory_peer, peer);
	cpu_set_t cpus = cpus_of(CPUS_SERVER, p->bench->threads);
	void *region = mmap(NULL, sizeof(*m->region), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int r;

	if (region == MAP_FAILED)
		return -errno;
	m->region = region;
	m->region->is_polling = p->ops->is_polling;
	r = child_fork(&m->child, serve, region, &cpus);
	p->server = m->child.pid;
	return r;
}

/* A server that polls would have the core of the others. */
static void memory_pause(struct peer *p)
{
	kill(p->server, SIGSTOP);
}

static void memory_resume(struct peer *p)
{
	kill(p->server, SIGCONT);
}

static void memory_close(struct peer *p)
{
	struct memory_peer *m = container_of(p, struct memory_peer, peer);

	child_stop(&m->child);
	if (m->region)
		munmap(m->region, sizeof(*m->region));
	free(m);
}

#define MEMORY_OPS (1u << BENCH_GET | 1u << BENCH_PUT | 1u << BENCH_CREATE | 1u << BENCH_STAT)

static const struct peer_ops FUTEX = {
	.name = "futex",
	.ops = MEMORY_OPS,
	.is_floor = true,
	.is_single = true,
	.open = memory_open,
	.connect = memory_connect,
	.close = memory_close,
};

static const struct peer_ops FUTEX_POLLING = {
	.name = "memory-polling",
	.ops = MEMORY_OPS,
	.is_floor = true,
	.is_single = true,
	.is_polling = true,
	.open = memory_open,
	.connect = memory_connect,
	.pause = memory_pause,
	.resume = memory_resume,
	.close = memory_close,
};

struct peer *peer_memory_new(bool is_polling)
{
	struct memory_peer *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->peer.ops = is_polling ? &FUTEX_POLLING : &FUTEX;
	return &m->peer;
}
