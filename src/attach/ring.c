/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring: a handle that goes on asking through a Unix socket gets memory to ask through,
 * beside it (net/conn.h). In the background; without it, all stays as it is.
 */
#include <errno.h>
#include <unistd.h>

#include "attach/handle.h"
#include "base/limits.h"
#include "base/node.h"
#include "shm/memory.h"
#include "shm/ring.h"

void handle_ring_closed(struct conn *c)
{
	struct memory *m = c->state;

	if (m)
		media_memfd.free(m);
	c->state = node_free(m);
}

/* Takes the event, whatever is returned. */
static int use(struct conn *c, int fd, int event)
{
	struct memory *m = node_alloc(sizeof(*m));
	int r = m ? memory_join(fd, sizeof(struct ring_memory), m) : -ENOMEM;

	if (r < 0) {
		node_free(m);
		close(event);
		return r;
	}
	c->state = m; /* until the connection is closed, even if it is not used */
	return conn_call_ring(c, (struct ring_memory *)m->ptr, event);
}

static void came(struct call *call)
{
	struct wadi *w = call->owner;
	int fds[2] = { -1, -1 };
	unsigned count = w->conn ? conn_take_fds(w->conn, fds, 2) : 0;

	/* Both, or it is no ring: then everything goes through the socket, as it does so far. */
	if (call->result == 0 && count == 2)
		(void)use(w->conn, fds[0], fds[1]);
	else if (count == 2)
		close(fds[1]);
	if (count > 0)
		close(fds[0]);
	call_end(call);
	near_wake(w);
}

void handle_want_ring(struct wadi *w)
{
	struct wcur body;

	if (w->address.kind != ADDRESS_UNIX || !w->conn || w->ring.is_pending ||
	    w->near.call.is_pending || ++w->asked_count != RING_AFTER)
		return;
	w->ring = (struct call){ .done = came, .owner = w };
	(void)conn_take_fds(w->conn, NULL, 0); /* from here on they are wanted */
	body = call_body(w->net, &w->ring);
	ring_req_put(&body, &(struct ring_req){});
	call_send(w->conn, &w->ring, MSG_RING, 0, &body, NULL,
		  w->loop->now_ns + w->timeout_ms * 1000000ull);
}
