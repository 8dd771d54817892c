/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring: memory for the frames of a function on this host (net/conn.h), made when it asks for
 * some and gone with its connection. To make it and to be rid of it blocks, so a helper does.
 *
 * It carries what the socket would, so whoever may have a connection may have it.
 */
#include <errno.h>
#include <string.h>

#include "base/container.h"
#include "base/node.h"
#include "proxy/proxy_priv.h"
#include "shm/memory.h"
#include "shm/ring.h"

struct ring {
	struct work work;
	struct proxy *proxy;
	struct memory memory;
	int result;
	bool is_made, is_unwanted; /* is_unwanted: whoever it was for has gone */
	struct waitq made;
};

static void unmake(struct work *w)
{
	media_memfd.free(&container_of(w, struct ring, work)->memory);
}

static void unmade(struct work *w)
{
	struct ring *g = container_of(w, struct ring, work);

	g->proxy->ring_count--;
	node_free(g);
}

static void give_back(struct ring *g)
{
	g->work.run = unmake;
	g->work.done = unmade;
	helper_do(g->proxy->helper, &g->work);
}

/* With all its pages, so that no access ever waits for one. */
static void make(struct work *w)
{
	struct ring *g = container_of(w, struct ring, work);

	g->result = media_memfd.make(sizeof(struct ring_memory), &g->memory);
	if (g->result == 0)
		g->result = media_memfd.fill(&g->memory, 0, sizeof(struct ring_memory));
}

static void made(struct work *w)
{
	struct ring *g = container_of(w, struct ring, work);

	g->is_made = true;
	if (g->is_unwanted)
		give_back(g);
	else
		waitq_wake(&g->made);
}

static int ring_new(struct op *op, struct ring **ret)
{
	struct proxy *p = op->proxy;
	struct ring *g = node_alloc(sizeof(*g));

	if (!g)
		return -ENOMEM;
	*g = (struct ring){ .work = { .run = make, .done = made }, .proxy = p };
	waitq_init(&g->made, &p->loop->fibers);
	p->ring_count++;
	helper_do(p->helper, &g->work);
	while (!g->is_made) {
		int r = waitq_wait(&g->made, UINT64_MAX);

		g->is_unwanted = r < 0;
		if (r < 0)
			return r;
	}
	*ret = g;
	return 0;
}

static void ring_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct request *r = op->request;
	struct ring *g = NULL;
	struct wcur w;
	int x = ring_new(op, &g);

	if (x == 0)
		x = g->result;
	if (x == 0)
		x = r->conn->is_closed
			    ? -ECANCELED
			    : conn_serve_ring(r->conn, (struct ring_memory *)g->memory.ptr,
					      g->memory.fd);
	if (x < 0) {
		if (g)
			give_back(g);
		request_fail(r, x == -EMFILE || x == -ENFILE ? -EUSERS : x, "no ring: %s",
			     strerror(-x));
		return;
	}
	native_of(r)->ring = g;
	w = request_answer(r);
	ring_rep_put(&w, &(struct ring_rep){});
	request_reply(r, &w, NULL);
}

void ring_serve(struct request *r)
{
	struct proxy *p = proxy_of(r);

	if (r->conn->peer.address.kind != ADDRESS_UNIX) {
		request_fail(r, -EOPNOTSUPP, "a ring goes through a Unix socket");
		return;
	}
	if (native_of(r)->ring || p->ring_count >= p->config.rings_max) {
		request_fail(r, -EUSERS, "a connection has one ring, this proxy at most %u",
			     p->config.rings_max);
		return;
	}
	if (!p->helper && helper_open(p->loop, "rings", &p->helper) < 0) {
		request_fail(r, -ENOMEM, "no thread to make a ring");
		return;
	}
	op_serve(op_new(p, r), r, ring_run);
}

void native_ring_close(struct native *n)
{
	if (n->ring)
		give_back(n->ring);
	n->ring = NULL;
}
