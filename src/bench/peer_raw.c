/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/container.h"
#include "bench/bench.h"
#include "bench/child.h"
#include "bench/cpus.h"
#include "bench/raw.h"
#include "bench/plain.h"

struct raw {
	struct peer peer;
	struct child child;
	struct plain_address address;
};

struct raw_client {
	struct client client;
	bool is_polling, is_only;
	int fd;
	struct raw_head head; /* of the answer that is coming */
	size_t have;
};

static int raw_begin(struct client *client, struct request *rq)
{
	struct raw_client *c = container_of(client, struct raw_client, client);
	bool is_put = rq->op == BENCH_PUT || rq->op == BENCH_CREATE;
	struct raw_head head = { .is_only = c->is_only };
	struct iovec v[2] = { { &head, sizeof(head) }, { rq->buf, rq->len } };

	if (is_put)
		head.len = rq->len;
	else if (rq->op == BENCH_GET)
		head.reply_len = rq->len;
	client_push(client, rq);
	return plain_send_all(c->fd, v, head.len ? 2 : 1);
}

static int raw_flush(struct client *client)
{
	(void)client;
	return 0;
}

/* 1: an answer is whole. */
static int read_answer(struct raw_client *c, int flags)
{
	struct request *rq = client_oldest(&c->client);
	uint8_t *at = (uint8_t *)&c->head + c->have;
	size_t want = sizeof(c->head) - c->have;
	ssize_t n;

	if (!rq)
		return 0;
	if (c->have >= sizeof(c->head)) {
		at = (uint8_t *)rq->buf + (c->have - sizeof(c->head));
		want = sizeof(c->head) + c->head.len - c->have;
	}
	n = recv(c->fd, at, want, flags);
	if (n < 0 && errno == EINTR)
		return 0;
	if (n < 0 && errno == EAGAIN)
		return flags ? 0 : -ETIMEDOUT;
	if (n <= 0)
		return -ECONNRESET;
	c->have += (size_t)n;
	if (c->have < sizeof(c->head))
		return 0;
	if (c->head.len > rq->len)
		return -EBADMSG;
	if (c->have < sizeof(c->head) + c->head.len)
		return 0;
	c->have = 0;
	client_pop(&c->client, (int64_t)c->head.len);
	return 1;
}

/* Asks again and again. */
static int poll_answer(struct raw_client *c, uint64_t due_ns)
{
	int r;

	do
		r = read_answer(c, MSG_DONTWAIT);
	while (r == 0 && c->client.count && due_ns == UINT64_MAX);
	return r;
}

static int raw_turn(struct client *client, uint64_t due_ns)
{
	struct raw_client *c = container_of(client, struct raw_client, client);
	int r, ended = 0;

	if (c->is_polling)
		return poll_answer(c, due_ns);
	if (due_ns != 0 && !plain_wait(c->fd, due_ns))
		return 0;
	if (due_ns == UINT64_MAX) {
		do
			r = read_answer(c, 0);
		while (r == 0 && client->count);
		return r;
	}
	while ((r = read_answer(c, MSG_DONTWAIT)) == 1)
		ended++;
	return r < 0 ? r : ended;
}

static int raw_fd(struct client *client)
{
	return container_of(client, struct raw_client, client)->fd;
}

static void raw_client_close(struct client *client)
{
	struct raw_client *c = container_of(client, struct raw_client, client);

	close(c->fd);
	free(c);
}

static const struct client_ops CLIENT = { raw_begin, raw_flush, raw_turn, raw_fd,
					  raw_client_close };

static int raw_connect(struct peer *p, const struct client_how *how, struct client **ret)
{
	struct raw *raw = container_of(p, struct raw, peer);
	struct raw_client *c = calloc(1, sizeof(*c));
	int fd = plain_connect(&raw->address);

	(void)how;
	if (!c || fd < 0) {
		free(c);
		if (fd >= 0)
			close(fd);
		return fd < 0 ? fd : -ENOMEM;
	}
	c->client.ops = &CLIENT;
	c->is_polling = p->ops->is_polling;
	c->is_only = p->clients == 1;
	c->fd = fd;
	*ret = &c->client;
	return 0;
}

static void serve(void *arg)
{
	raw_serve(arg);
}

static int raw_open(struct peer *p)
{
	struct raw *raw = container_of(p, struct raw, peer);
	cpu_set_t cpus = cpus_of(CPUS_SERVER, p->bench->threads);
	char name[64];
	struct raw_server s = { .is_polling = p->ops->is_polling };
	int r;

	snprintf(name, sizeof(name), "wadi-bench-%d-%s", (int)getpid(), p->ops->name);
	s.listen_fd = plain_listen(bench_is_local(p->bench) ? name : NULL, &raw->address);
	if (s.listen_fd < 0)
		return s.listen_fd;
	r = child_fork(&raw->child, serve, &s, &cpus);
	close(s.listen_fd);
	p->server = raw->child.pid;
	return r;
}

/* A server that polls would have the core of the others. */
static void raw_pause(struct peer *p)
{
	kill(p->server, SIGSTOP);
}

static void raw_resume(struct peer *p)
{
	kill(p->server, SIGCONT);
}

static void raw_close(struct peer *p)
{
	struct raw *raw = container_of(p, struct raw, peer);

	child_stop(&raw->child);
	free(raw);
}

#define RAW_OPS ((1u << BENCH_OP_COUNT) - 1 - (1u << BENCH_LIST))

static const struct peer_ops RAW = {
	.name = "raw",
	.ops = RAW_OPS,
	.is_floor = true,
	.open = raw_open,
	.connect = raw_connect,
	.close = raw_close,
};

static const struct peer_ops RAW_POLLING = {
	.name = "raw-polling",
	.ops = RAW_OPS,
	.is_floor = true,
	.is_polling = true,
	.open = raw_open,
	.connect = raw_connect,
	.pause = raw_pause,
	.resume = raw_resume,
	.close = raw_close,
};

struct peer *peer_raw_new(bool is_polling)
{
	struct raw *raw = calloc(1, sizeof(*raw));

	if (!raw)
		return NULL;
	raw->peer.ops = is_polling ? &RAW_POLLING : &RAW;
	return &raw->peer;
}
