/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memcached, by its text protocol: as little of it as is measured, and nothing between
 * socket and buffer.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/container.h"
#include "base/node.h"
#include "bench/bench.h"
#include "bench/child.h"
#include "bench/cpus.h"
#include "bench/plain.h"

#define READY_NS 10000000000ull
/* A line of an answer, and what was read behind it. */
#define INPUT_BYTES (64u << 10)
#define VALUE_END   "\r\nEND\r\n"

struct memcached {
	struct peer peer;
	struct child child;
	struct plain_address address;
	char path[108];
};

struct memcached_client {
	struct client client;
	int fd;
	char input[INPUT_BYTES];
	size_t at, have;              /* read, and not yet looked at: [at, have) */
	size_t value_len, value_have; /* of the value that is coming, and its VALUE_END */
	bool is_in_value;
};

static int memcached_begin(struct client *client, struct request *rq)
{
	struct memcached_client *c = container_of(client, struct memcached_client, client);
	char line[BENCH_KEY_MAX + 64];
	struct iovec v[3] = { { line, 0 }, { rq->buf, rq->len }, { (char[]){ "\r\n" }, 2 } };
	bool is_put = rq->op == BENCH_PUT || rq->op == BENCH_CREATE;
	int n;

	if (is_put)
		n = snprintf(line, sizeof(line), "%s %s 0 0 %zu\r\n",
			     rq->op == BENCH_PUT ? "set" : "add", rq->key, rq->len);
	else
		n = snprintf(line, sizeof(line), "%s %s\r\n",
			     rq->op == BENCH_GET ? "get" : "delete", rq->key);
	v[0].iov_len = (size_t)n;
	client_push(client, rq);
	return plain_send_all(c->fd, v, is_put ? 3 : 1);
}

static int memcached_flush(struct client *client)
{
	(void)client;
	return 0;
}

/* An answer's first line, or the only one. 1: the answer is whole; 0: not yet. */
static int take_line(struct memcached_client *c)
{
	struct request *rq = client_oldest(&c->client);
	char *line = c->input + c->at, *end = memmem(line, c->have - c->at, "\r\n", 2);
	unsigned long len;

	if (!end)
		return c->have - c->at > 512 ? -EBADMSG : 0;
	*end = '\0';
	c->at += (size_t)(end + 2 - line);
	if (strncmp(line, "VALUE ", 6) == 0) {
		if (sscanf(line, "VALUE %*s %*u %lu", &len) != 1 || len > rq->len)
			return -EBADMSG;
		c->value_len = len;
		c->value_have = 0;
		c->is_in_value = true;
		return 0;
	}
	if (strcmp(line, "STORED") == 0 || strcmp(line, "DELETED") == 0)
		client_pop(&c->client, 0);
	else if (strcmp(line, "END") == 0 || strcmp(line, "NOT_FOUND") == 0)
		client_pop(&c->client, -ENOENT);
	else if (strcmp(line, "NOT_STORED") == 0)
		client_pop(&c->client, -EEXIST);
	else
		client_pop(&c->client, strstr(line, "out of memory") ? -ENOSPC : -EIO);
	return 1;
}

static int value_done(struct memcached_client *c)
{
	if (c->value_have < c->value_len + strlen(VALUE_END))
		return 0;
	c->is_in_value = false;
	client_pop(&c->client, (int64_t)c->value_len);
	return 1;
}

/* What was read with the line already. */
static int take_value(struct memcached_client *c)
{
	struct request *rq = client_oldest(&c->client);
	size_t n = c->have - c->at, rest = c->value_len + strlen(VALUE_END) - c->value_have, bytes;

	if (n > rest)
		n = rest;
	bytes = c->value_have < c->value_len ? c->value_len - c->value_have : 0;
	if (bytes > n)
		bytes = n;
	memcpy((char *)rq->buf + c->value_have, c->input + c->at, bytes);
	c->at += n;
	c->value_have += n;
	return value_done(c);
}

/* The rest of a value goes to its place at once, what is behind it to the input. */
static ssize_t receive(struct memcached_client *c, int flags)
{
	struct request *rq = client_oldest(&c->client);
	struct iovec v[2] = { { NULL, 0 }, { c->input, sizeof(c->input) } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
	ssize_t n;

	if (c->at < c->have) {
		memmove(c->input, c->input + c->at, c->have - c->at);
		c->have -= c->at;
		c->at = 0;
		v[1] = (struct iovec){ c->input + c->have, sizeof(c->input) - c->have };
	} else {
		c->at = c->have = 0;
		if (c->is_in_value && c->value_have < c->value_len)
			v[0] = (struct iovec){ (char *)rq->buf + c->value_have,
					       c->value_len - c->value_have };
	}
	n = recvmsg(c->fd, &m, flags);
	if (n <= 0)
		return n < 0 ? -errno : -ECONNRESET;
	if ((size_t)n > v[0].iov_len) {
		c->value_have += v[0].iov_len;
		c->have += (size_t)n - v[0].iov_len;
	} else {
		c->value_have += (size_t)n;
	}
	return n;
}

static int take_answers(struct memcached_client *c)
{
	int ended = 0, r;
	size_t at;

	do {
		if (!c->client.count || c->at == c->have)
			return ended;
		at = c->at;
		r = c->is_in_value ? take_value(c) : take_line(c);
		ended += r > 0;
	} while (r > 0 || (r == 0 && c->at > at));
	return r < 0 ? r : ended;
}

static int memcached_turn(struct client *client, uint64_t due_ns)
{
	struct memcached_client *c = container_of(client, struct memcached_client, client);
	int ended = 0;

	do {
		ssize_t n;

		if (!plain_wait(c->fd, due_ns))
			return ended;
		n = receive(c, due_ns == UINT64_MAX ? 0 : MSG_DONTWAIT);
		if (n == -EAGAIN)
			return due_ns == UINT64_MAX ? -ETIMEDOUT : ended;
		if (n < 0)
			return (int)n;
		ended = take_answers(c);
	} while (ended == 0 && client->count && due_ns == UINT64_MAX);
	return ended;
}

static int memcached_fd(struct client *client)
{
	return container_of(client, struct memcached_client, client)->fd;
}

static void memcached_client_close(struct client *client)
{
	struct memcached_client *c = container_of(client, struct memcached_client, client);

	close(c->fd);
	free(c);
}

static const struct client_ops CLIENT = { memcached_begin, memcached_flush, memcached_turn,
					  memcached_fd, memcached_client_close };

static int memcached_connect(struct peer *p, const struct client_how *how, struct client **ret)
{
	struct memcached *m = container_of(p, struct memcached, peer);
	struct memcached_client *c = calloc(1, sizeof(*c));

	(void)how;
	if (!c)
		return -ENOMEM;
	c->client.ops = &CLIENT;
	c->fd = plain_connect(&m->address);
	if (c->fd < 0) {
		int r = c->fd;

		free(c);
		return r;
	}
	*ret = &c->client;
	return 0;
}

static int memcached_open(struct peer *p)
{
	struct memcached *m = container_of(p, struct memcached, peer);
	const char *directory =
		bench_is_local(p->bench) ? bench_directory((struct bench *)p->bench) : NULL;
	cpu_set_t cpus = cpus_of(CPUS_SERVER, p->bench->threads);
	uint16_t port_number = directory ? 0 : plain_free_port();
	uint64_t item_mib = p->bench->memory >> 21;
	char port[16], threads[16], memory[16], item[24], listen[120];
	const char *argv[] = { "memcached", "-u",
			       "root",      "-U",
			       "0",         "-c",
			       "8192",      "-R",
			       "1000",      "-I",
			       item,        "-m",
			       memory,      "-t",
			       threads,     directory ? "-s" : "-p",
			       listen,      directory ? NULL : "-l",
			       "127.0.0.1", NULL };
	int r;

	snprintf(memory, sizeof(memory), "%llu", (unsigned long long)(p->bench->memory >> 20));
	/* Its own limits: half of its memory, and less than 1 GiB, in whole chunks. */
	snprintf(item, sizeof(item), "%llum",
		 (unsigned long long)(item_mib < 1024 ? item_mib : 1023));
	snprintf(threads, sizeof(threads), "%u", p->bench->threads);
	snprintf(port, sizeof(port), "%u", port_number);
	snprintf(m->path, sizeof(m->path), "%s/memcached", directory ? directory : "");
	snprintf(listen, sizeof(listen), "%s", directory ? m->path : port);
	m->address = directory ? plain_local(m->path) : plain_loopback(port_number);
	/* -u is for who is root, and must say who it is to be: else it cannot make its socket. */
	r = child_start(&m->child, argv, &cpus, false);
	p->server = m->child.pid;
	if (r < 0)
		return r;
	r = plain_await(&m->address, &m->child, node_now_ns() + READY_NS);
	if (r < 0)
		peer_fail(p, r, "memcached did not become ready; is it installed?");
	return r;
}

static void memcached_close(struct peer *p)
{
	struct memcached *m = container_of(p, struct memcached, peer);

	child_stop(&m->child);
	free(m);
}

static const struct peer_ops MEMCACHED = {
	.name = "memcached",
	.ops = 1u << BENCH_GET | 1u << BENCH_PUT | 1u << BENCH_CREATE | 1u << BENCH_REMOVE,
	.open = memcached_open,
	.connect = memcached_connect,
	.close = memcached_close,
};

struct peer *peer_memcached_new(void)
{
	struct memcached *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->peer.ops = &MEMCACHED;
	m->child.out_fd = -1;
	return &m->peer;
}
