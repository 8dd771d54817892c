/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring: memory for the frames of a function on this host (net/conn.h), made when it asks for
 * some and left with its connection. It counts until the function has done with it, too: it may be
 * in the middle of taking an answer, so its pages stay, and they are ours to answer for.
 *
 * It carries what the socket would, so whoever may have a connection may have it.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/container.h"
#include "base/node.h"
#include "proxy/proxy_priv.h"
#include "shm/memory.h"
#include "shm/ring.h"

/* To its other end. */
static int ring_pass(struct conn *c, const struct memory *m)
{
	int fd = memory_export_to_write(m), x;

	if (fd < 0)
		return fd;
	x = c->is_closed ? -ECANCELED : conn_serve_ring(c, (struct ring_memory *)m->ptr, fd);
	memory_export_end(fd);
	return x;
}

static void ring_run(struct fiber *self)
{
	struct op *op = container_of(self, struct op, fiber);
	struct request *r = op->request;
	struct proxy *p = op->proxy;
	struct region *g = NULL;
	struct wcur w;
	int x = region_new(p, sizeof(struct ring_memory), NULL, &g);

	if (x == 0)
		x = ring_pass(r->conn, &g->memory);
	if (x < 0) {
		p->ring_count--;
		region_free(g);
		request_fail(r, x == -EMFILE || x == -ENFILE || x == -EBUSY ? -EUSERS : x,
			     "no ring: %s", strerror(-x));
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
	struct op *op;
	int x;

	if (r->conn->peer.address.kind != ADDRESS_UNIX) {
		request_fail(r, -EOPNOTSUPP, "a ring goes through a Unix socket");
		return;
	}
	if (native_of(r)->ring || p->ring_count >= p->config.rings_max) {
		request_fail(r, -EUSERS, "a connection has one ring, this proxy at most %u",
			     p->config.rings_max);
		return;
	}
	op = op_new(p, r);
	x = op ? op_begin(op, ring_run) : -ENOMEM;
	if (x < 0)
		op_refuse(op, r, x);
	else
		p->ring_count++;
}

static void ring_gone(struct proxy *p)
{
	p->ring_count--;
}

void native_ring_close(struct native *n)
{
	if (n->ring)
		region_leave(TAKE_PTR(n->ring), ring_gone);
}
