/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Redis, through its own C library, which is loaded only if it is asked for: Wadi's
 * programs run where there is none.
 */
#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/container.h"
#include "base/limits.h"
#include "base/node.h"
#include "bench/bench.h"
#include "bench/child.h"
#include "bench/cpus.h"
#include "bench/plain.h"

#define READY_NS 10000000000ull
#define LIBRARY  "libhiredis.so." TEXT_OF(HIREDIS_SONAME)

#define FUNCTIONS(F)              \
	F(redisConnect)           \
	F(redisConnectUnix)       \
	F(redisFree)              \
	F(redisAppendCommandArgv) \
	F(redisBufferWrite) F(redisBufferRead) F(redisGetReplyFromReader) F(freeReplyObject)

struct redis {
	struct peer peer;
	struct child child;
	uint16_t port;
	char path[108];
	void *library;
	/* clang-format off */
#define FUNCTION_MEMBER(name) __typeof__(&name) name;
	FUNCTIONS(FUNCTION_MEMBER)
	/* clang-format on */
};

struct redis_client {
	struct client client;
	struct redis *redis;
	redisContext *context, *other; /* other: who pushes what the first one waits for */
	bool has_output;
};

static int load(struct redis *r)
{
	r->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!r->library)
		return peer_fail(&r->peer, -ELIBACC, "no %s: apt-get install libhiredis-dev",
				 LIBRARY);
		/* clang-format off */
#define FUNCTION_LOAD(name)                                  \
	*(void **)&r->name = dlsym(r->library, #name);       \
	if (!r->name)                                        \
		return peer_fail(&r->peer, -ELIBBAD, "%s has no %s", LIBRARY, #name);
	FUNCTIONS(FUNCTION_LOAD)
	/* clang-format on */
	return 0;
}

/* Commands. */

static void append(struct redis_client *c, redisContext *to, unsigned count, const char **words,
		   const size_t *lens)
{
	c->redis->redisAppendCommandArgv(to, (int)count, words, lens);
	c->has_output = true;
}

static void append_command(struct redis_client *c, redisContext *to, struct request *rq)
{
	const char *words[6] = { "", rq->key };
	size_t lens[6] = { 0, strlen(rq->key) };
	char pattern[BENCH_KEY_MAX + 2];
	unsigned count = 2;

	switch (rq->op) {
	case BENCH_GET:
		words[0] = "GET";
		break;
	case BENCH_PUT:
	case BENCH_CREATE:
		words[0] = "SET";
		words[2] = rq->buf;
		lens[2] = rq->len;
		count = 3;
		if (rq->op == BENCH_CREATE)
			words[count++] = "NX";
		break;
	case BENCH_STAT:
		words[0] = "STRLEN";
		break;
	case BENCH_REMOVE:
		words[0] = "DEL";
		break;
	case BENCH_LIST: /* by this prefix; Redis has no directories */
		words[0] = "KEYS";
		snprintf(pattern, sizeof(pattern), "%s*", rq->key);
		words[1] = pattern;
		lens[1]++;
		break;
	case BENCH_WAIT:
		words[0] = "BLPOP";
		words[2] = "10";
		count = 3;
		break;
	default:
		assert(false);
	}
	lens[0] = strlen(words[0]);
	if (count > 2 && lens[2] == 0 && rq->op == BENCH_WAIT)
		lens[2] = 2;
	if (count > 3)
		lens[3] = 2;
	append(c, to, count, words, lens);
}

static int write_all(struct redis_client *c, redisContext *to)
{
	int is_done = 0;

	while (!is_done)
		if (c->redis->redisBufferWrite(to, &is_done) != REDIS_OK)
			return peer_fail(&c->redis->peer, -ECONNRESET, "%s", to->errstr);
	c->has_output = false;
	return 0;
}

static int64_t result_of(const struct request *rq, const redisReply *reply)
{
	if (reply->type == REDIS_REPLY_ERROR)
		return -EIO;
	if (reply->type == REDIS_REPLY_NIL)
		return rq->op == BENCH_CREATE ? -EEXIST : -ENOENT;
	if (reply->type == REDIS_REPLY_STRING)
		return (int64_t)reply->len;
	if (reply->type == REDIS_REPLY_ARRAY && rq->op == BENCH_LIST)
		return (int64_t)reply->elements;
	return 0;
}

/* What the replies that have come say. A count. */
static int read_replies(struct redis_client *c)
{
	struct redis *r = c->redis;
	int ended = 0;

	for (;;) {
		struct request *rq = client_oldest(&c->client);
		void *reply = NULL;

		if (!rq)
			return ended;
		if (r->redisGetReplyFromReader(c->context, &reply) != REDIS_OK)
			return peer_fail(&r->peer, -EBADMSG, "%s", c->context->errstr);
		if (!reply)
			return ended;
		client_pop(&c->client, result_of(rq, reply));
		r->freeReplyObject(reply);
		ended++;
	}
}

static int read_one(struct redis_client *c, redisContext *from)
{
	void *reply = NULL;

	while (!reply) {
		if (c->redis->redisBufferRead(from) != REDIS_OK ||
		    c->redis->redisGetReplyFromReader(from, &reply) != REDIS_OK)
			return -ECONNRESET;
	}
	c->redis->freeReplyObject(reply);
	return 0;
}

static int open_context(struct redis *r, redisContext **ret)
{
	redisContext *c =
		r->path[0] ? r->redisConnectUnix(r->path) : r->redisConnect("127.0.0.1", r->port);

	if (c && !c->err) {
		*ret = c;
		return 0;
	}
	if (c)
		r->redisFree(c);
	return -ECONNREFUSED;
}

/* One waits for a list; the time is from when another begins to push until that is awake. */
static int push_awaited(struct redis_client *c, struct request *rq)
{
	const char *words[] = { "RPUSH", rq->key, rq->buf };
	const size_t lens[] = { 5, strlen(rq->key), rq->len };
	int r = c->other ? 0 : open_context(c->redis, &c->other);

	if (r == 0)
		r = write_all(c, c->context);
	if (r < 0)
		return r;
	rq->begun_ns = node_now_ns();
	append(c, c->other, 3, words, lens);
	return write_all(c, c->other);
}

static int redis_begin(struct client *client, struct request *rq)
{
	struct redis_client *c = container_of(client, struct redis_client, client);

	append_command(c, c->context, rq);
	client_push(client, rq);
	return rq->op == BENCH_WAIT ? push_awaited(c, rq) : 0;
}

static int redis_flush(struct client *client)
{
	struct redis_client *c = container_of(client, struct redis_client, client);

	return c->has_output ? write_all(c, c->context) : 0;
}

static int redis_turn(struct client *client, uint64_t due_ns)
{
	struct redis_client *c = container_of(client, struct redis_client, client);
	bool is_wait = c->client.count && client_oldest(client)->op == BENCH_WAIT;
	int r = redis_flush(client);

	if (r < 0)
		return r;
	do {
		if (!plain_wait(c->context->fd, due_ns))
			return 0;
		if (c->redis->redisBufferRead(c->context) != REDIS_OK)
			return peer_fail(&c->redis->peer, -ECONNRESET, "%s", c->context->errstr);
		r = read_replies(c);
	} while (r == 0 && client->count && due_ns == UINT64_MAX);
	if (r > 0 && is_wait && read_one(c, c->other) < 0)
		return -ECONNRESET;
	return r;
}

static int redis_fd(struct client *client)
{
	return container_of(client, struct redis_client, client)->context->fd;
}

static void redis_client_close(struct client *client)
{
	struct redis_client *c = container_of(client, struct redis_client, client);

	if (c->other)
		c->redis->redisFree(c->other);
	c->redis->redisFree(c->context);
	free(c);
}

static const struct client_ops CLIENT = { redis_begin, redis_flush, redis_turn, redis_fd,
					  redis_client_close };

static int redis_connect(struct peer *p, const struct client_how *how, struct client **ret)
{
	struct redis_client *c = calloc(1, sizeof(*c));
	int r;

	(void)how;
	if (!c)
		return -ENOMEM;
	c->client.ops = &CLIENT;
	c->redis = container_of(p, struct redis, peer);
	r = open_context(c->redis, &c->context);
	if (r < 0) {
		free(c);
		return r;
	}
	*ret = &c->client;
	return 0;
}

/* The server: everything in memory, nothing on disk. */

static int wait_ready(struct redis *r)
{
	struct plain_address a = r->path[0] ? plain_local(r->path) : plain_loopback(r->port);
	int result = plain_await(&a, &r->child, node_now_ns() + READY_NS);

	if (result < 0)
		peer_fail(&r->peer, result, "redis-server did not become ready; is it installed?");
	return result;
}

static int redis_open(struct peer *p)
{
	struct redis *r = container_of(p, struct redis, peer);
	const char *directory =
		bench_is_local(p->bench) ? bench_directory((struct bench *)p->bench) : NULL;
	cpu_set_t cpus = cpus_of(CPUS_SERVER, p->bench->threads);
	char port[16], threads[16];
	const char *argv[] = { "redis-server", "--save",       "",      "--appendonly",
			       "no",           "--port",       port,    "--bind",
			       "127.0.0.1",    "--io-threads", threads, "--protected-mode",
			       "no",           "--unixsocket", r->path, NULL };
	int result = load(r);

	if (result < 0)
		return result;
	r->port = directory ? 0 : plain_free_port();
	snprintf(port, sizeof(port), "%u", r->port);
	snprintf(threads, sizeof(threads), "%u", p->bench->threads);
	if (directory)
		snprintf(r->path, sizeof(r->path), "%s/redis", directory);
	else
		argv[13] = NULL;
	result = child_start(&r->child, argv, &cpus, false);
	p->server = r->child.pid;
	return result < 0 ? result : wait_ready(r);
}

static void redis_close(struct peer *p)
{
	struct redis *r = container_of(p, struct redis, peer);

	child_stop(&r->child);
	if (r->library)
		dlclose(r->library);
	free(r);
}

static const struct peer_ops REDIS = {
	.name = "redis",
	.ops = (1u << BENCH_OP_COUNT) - 1,
	.open = redis_open,
	.connect = redis_connect,
	.close = redis_close,
};

struct peer *peer_redis_new(void)
{
	struct redis *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->peer.ops = &REDIS;
	r->child.out_fd = -1;
	return &r->peer;
}
