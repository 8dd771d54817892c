/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wadi, through wadi.h as any program would: a client that is alone on its thread calls and
 * waits, others have operations in flight.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <wadi/wadi.h>

#include "base/container.h"
#include "base/node.h"
#include "bench/bench.h"
#include "bench/first.h"
#include "bench/own_store.h"
#include "bench/plain.h"

struct wadi_peer {
	struct peer peer;
	enum bench_attach attach;
	struct own_store store; /* if none was named */
	char endpoint[256];
};

struct wadi_client {
	struct client client;
	struct wadi_peer *peer;
	struct wadi *w, *other; /* other: who puts what the first one waits for */
	struct request *asked;  /* of one that is alone: what turn() is to do */
	unsigned in_flight;
	struct request *flying[BENCH_DEPTH_MAX];
};

static int open_handle(struct wadi_peer *p, struct wadi **ret)
{
	struct wadi_options o = WADI_OPTIONS;
	int r;

	o.endpoint = p->endpoint;
	o.token = p->peer.bench->endpoint ? p->peer.bench->token : "";
	r = wadi_open(&o, ret);
	if (r < 0) {
		peer_fail(&p->peer, r, "%s", wadi_strerror(*ret));
		wadi_close(*ret);
		*ret = NULL;
	}
	return r;
}

/* One call of those that only wait. */

static int64_t list_all(struct wadi_client *c, const char *directory)
{
	struct wadi_list_entry e;
	struct wadi_list *l;
	int64_t count = 0;
	int r = wadi_list_open(c->w, directory, NULL, &l);

	if (r < 0)
		return r;
	while ((r = wadi_list_next(l, &e)) == 1)
		count++;
	wadi_list_close(&l);
	return r < 0 ? r : count;
}

/* One handle waits; the time is from when another begins to put until that is awake. */
static int64_t wait_for_put(struct wadi_client *c, struct request *rq)
{
	struct wadi_op *op, *put;
	int64_t r, put_r;

	if (!c->other)
		r = open_handle(c->peer, &c->other);
	r = c->other ? wadi_start_wait(c->w, rq->key, 10000, NULL, &op) : -ENOTCONN;
	if (r < 0)
		return r;
	/* It is on its way before the put is, and the server reads it first. */
	wadi_turn(c->w, 0);
	rq->begun_ns = node_now_ns();
	r = wadi_start_put(c->other, rq->key, rq->buf, rq->len, NULL, NULL, &put);
	if (r < 0)
		put = NULL;
	else
		wadi_turn(c->other, 0);
	if (!put)
		wadi_op_cancel(op);
	r = wadi_op_end(&op);
	put_r = put ? wadi_op_end(&put) : -EIO;
	return r < 0 ? r : put_r;
}

static int64_t call(struct wadi_client *c, struct request *rq)
{
	struct wadi_put_options create = WADI_PUT_OPTIONS;
	struct wadi_stat stat;

	switch (rq->op) {
	case BENCH_GET:
		return wadi_get(c->w, rq->key, rq->buf, rq->len ? rq->len : 1, NULL, NULL);
	case BENCH_PUT:
		return wadi_put(c->w, rq->key, rq->buf, rq->len, NULL, NULL);
	case BENCH_CREATE:
		create.flags = WADI_CREATE;
		return wadi_put(c->w, rq->key, rq->buf, rq->len, &create, NULL);
	case BENCH_STAT:
		return wadi_stat(c->w, rq->key, &stat);
	case BENCH_LIST:
		return list_all(c, rq->key);
	case BENCH_REMOVE:
		return wadi_remove(c->w, rq->key, 0);
	case BENCH_WAIT:
		return wait_for_put(c, rq);
	default:
		return -EOPNOTSUPP;
	}
}

static int alone_begin(struct client *client, struct request *rq)
{
	container_of(client, struct wadi_client, client)->asked = rq;
	return 0;
}

static int alone_flush(struct client *client)
{
	(void)client;
	return 0;
}

static int said(struct wadi_client *c, int64_t r)
{
	if (r < 0)
		peer_fail(&c->peer->peer, (int)r, "%s", wadi_strerror(c->w));
	return r < 0 ? (int)r : 0;
}

static int alone_turn(struct client *client, uint64_t due_ns)
{
	struct wadi_client *c = container_of(client, struct wadi_client, client);
	struct request *rq = c->asked;

	if (!rq) {
		plain_wait(wadi_fd(c->w), due_ns);
		return 0;
	}
	c->asked = NULL;
	rq->result = call(c, rq);
	rq->is_done = true;
	said(c, rq->result);
	return 1;
}

/* Several in flight. */

static int begin_one(struct wadi_client *c, struct request *rq, struct wadi_op **ret)
{
	struct wadi_put_options create = WADI_PUT_OPTIONS;

	switch (rq->op) {
	case BENCH_GET:
		return wadi_start_get(c->w, rq->key, rq->buf, rq->len ? rq->len : 1, NULL, NULL,
				      ret);
	case BENCH_PUT:
		return wadi_start_put(c->w, rq->key, rq->buf, rq->len, NULL, NULL, ret);
	case BENCH_CREATE:
		create.flags = WADI_CREATE;
		return wadi_start_put(c->w, rq->key, rq->buf, rq->len, &create, NULL, ret);
	case BENCH_REMOVE:
		return wadi_start_remove(c->w, rq->key, 0, ret);
	default:
		return -EOPNOTSUPP;
	}
}

static int many_begin(struct client *client, struct request *rq)
{
	struct wadi_client *c = container_of(client, struct wadi_client, client);
	struct wadi_op *op;
	int r = begin_one(c, rq, &op);

	if (r < 0)
		return said(c, r);
	rq->own = op;
	c->flying[c->in_flight++] = rq;
	return 0;
}

/* Those that have ended. */
static int collect(struct wadi_client *c)
{
	int ended = 0;

	for (unsigned i = 0; i < c->in_flight;) {
		struct request *rq = c->flying[i];
		struct wadi_op *op = rq->own;

		if (!wadi_op_has_ended(op)) {
			i++;
			continue;
		}
		rq->result = wadi_op_end(&op);
		rq->is_done = true;
		said(c, rq->result);
		c->flying[i] = c->flying[--c->in_flight];
		ended++;
	}
	return ended;
}

static int many_flush(struct client *client)
{
	struct wadi_client *c = container_of(client, struct wadi_client, client);
	int r = c->in_flight ? wadi_turn(c->w, 0) : 0;

	return r < 0 ? said(c, r) : r > 0 ? collect(c) : 0;
}

static int many_turn(struct client *client, uint64_t due_ns)
{
	struct wadi_client *c = container_of(client, struct wadi_client, client);
	int r;

	if (due_ns == UINT64_MAX) {
		r = wadi_turn(c->w, 10000);
	} else {
		if (due_ns)
			plain_wait(wadi_fd(c->w), due_ns);
		r = wadi_turn(c->w, 0);
	}
	return r < 0 ? said(c, r) : r > 0 ? collect(c) : 0;
}

static int wadi_client_fd(struct client *client)
{
	return wadi_fd(container_of(client, struct wadi_client, client)->w);
}

static void wadi_client_close(struct client *client)
{
	struct wadi_client *c = container_of(client, struct wadi_client, client);

	while (c->in_flight) {
		struct wadi_op *op = c->flying[--c->in_flight]->own;

		wadi_op_cancel(op);
		wadi_op_end(&op);
	}
	wadi_close(c->w);
	wadi_close(c->other);
	free(c);
}

static const struct client_ops ALONE = { alone_begin, alone_flush, alone_turn, wadi_client_fd,
					 wadi_client_close };
static const struct client_ops MANY = { many_begin, many_flush, many_turn, wadi_client_fd,
					wadi_client_close };

static int wadi_connect(struct peer *p, const struct client_how *how, struct client **ret)
{
	struct wadi_client *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->peer = container_of(p, struct wadi_peer, peer);
	c->client.ops = how->is_alone ? &ALONE : &MANY;
	r = open_handle(c->peer, &c->w);
	if (r < 0) {
		free(c);
		return r;
	}
	*ret = &c->client;
	return 0;
}

/* The server. */

/* Who is at the other end of a Unix socket; 0: not known. */
static pid_t server_of(const char *endpoint)
{
	struct ucred who = { 0 };
	socklen_t len = sizeof(who);
	struct plain_address a;
	int fd;

	if (strncmp(endpoint, "unix://", 7) != 0)
		return 0;
	a = plain_local(endpoint + 7);
	fd = plain_connect(&a);
	if (fd < 0)
		return 0;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		who.pid = 0;
	close(fd);
	return who.pid;
}

static int start_store(struct wadi_peer *p)
{
	const char *why;
	int r = own_store_open(&p->store, (struct bench *)p->peer.bench, p->attach, &why);

	if (r < 0)
		return peer_fail(&p->peer, r, "%s", why);
	memcpy(p->endpoint, p->store.endpoint, sizeof(p->endpoint));
	p->peer.server = p->store.front.pid;
	for (unsigned i = 0; i < OWN_STORE_BEHIND; i++)
		p->peer.behind[i] = p->store.behind[i].pid;
	return 0;
}

/* What cannot be reached is told before anything is measured. */
static int try_handle(struct wadi_peer *p)
{
	struct wadi *w;
	int r = open_handle(p, &w);

	if (r == 0)
		wadi_close(w);
	return r;
}

static int wadi_peer_open(struct peer *peer)
{
	struct wadi_peer *p = container_of(peer, struct wadi_peer, peer);
	int r;

	if (!peer->bench->endpoint) {
		r = start_store(p);
		return r < 0 ? r : try_handle(p);
	}
	snprintf(p->endpoint, sizeof(p->endpoint), "%s", peer->bench->endpoint);
	peer->server = server_of(p->endpoint);
	return 0;
}

static int wadi_first(struct peer *peer, const char *key, size_t len, struct first_times *ret)
{
	struct wadi_peer *p = container_of(peer, struct wadi_peer, peer);
	const struct first f = { .program = peer->bench->program,
				 .endpoint = p->endpoint,
				 .token = peer->bench->endpoint ? peer->bench->token : NULL,
				 .key = key,
				 .len = len };

	return first_run(&f, ret);
}

static void wadi_peer_close(struct peer *peer)
{
	struct wadi_peer *p = container_of(peer, struct wadi_peer, peer);

	own_store_close(&p->store);
	free(p);
}

static const struct peer_ops WADI = {
	.name = "wadi",
	.ops = (1u << BENCH_OP_COUNT) - 1,
	.open = wadi_peer_open,
	.connect = wadi_connect,
	.first = wadi_first,
	.close = wadi_peer_close,
};

struct peer *peer_wadi_new(enum bench_attach attach)
{
	struct wadi_peer *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->peer.ops = &WADI;
	p->attach = attach;
	p->peer.attach = bench_attach_name(attach);
	return &p->peer;
}
