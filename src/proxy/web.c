/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/web.h"

#include <errno.h>

#include "base/container.h"
#include "base/node.h"

static void is_ready(struct stream *s)
{
	waitq_wake(&((struct web *)s->owner)->ready);
}

static void web_ended(struct fiber *self)
{
	struct web *w = container_of(self, struct web, fiber);
	struct proxy *p = w->proxy;

	stream_close(w->stream);
	list_remove(&w->link);
	node_free(w);
	proxy_gone(p);
}

/* False: there are as many as there may be, and all are being served. */
static bool make_room(struct proxy *p)
{
	struct web *oldest = NULL;
	unsigned n = 0;

	for (struct list *l = p->web_conns.next; l != &p->web_conns; l = l->next) {
		struct web *w = container_of(l, struct web, link);

		if (w->is_leaving)
			continue;
		n++;
		if (!oldest && !w->is_serving)
			oldest = w;
	}
	if (n < WEB_CONNS_MAX)
		return true;
	if (!oldest)
		return false;
	oldest->is_leaving = true;
	fiber_cancel(&oldest->fiber);
	return true;
}

void web_accept(struct proxy *p, struct stream *s, fiber_fn *run)
{
	struct web *w = p->is_stopping || !make_room(p) ? NULL : node_alloc(sizeof(*w));

	if (!w) {
		stream_close(s);
		proxy_gone(p);
		return;
	}
	w->proxy = p;
	w->stream = s;
	waitq_init(&w->ready, &p->loop->fibers);
	s->ready = is_ready;
	s->owner = w;
	list_init(&w->link);
	if (fiber_start(&p->loop->fibers, &w->fiber, run, web_ended) < 0) {
		stream_close(s);
		node_free(w);
		proxy_gone(p);
		return;
	}
	list_insert(&p->web_conns, &w->link);
}

void web_close_all(struct proxy *p)
{
	for (struct list *l = p->web_conns.next; l != &p->web_conns; l = l->next)
		fiber_cancel(&container_of(l, struct web, link)->fiber);
}

ssize_t web_read(struct web *w, uint64_t due_ns)
{
	for (;;) {
		size_t room = sizeof(w->in) - w->len;
		ssize_t n = room ? stream_recv(w->stream, w->in + w->len, room) : -EMSGSIZE;
		int r;

		if (n > 0)
			w->len += (size_t)n;
		if (n != -EAGAIN)
			return n;
		r = waitq_wait(&w->ready, due_ns);
		if (r < 0)
			return r;
	}
}

int web_write(struct web *w, const void *bytes, size_t len, uint64_t due_ns)
{
	for (size_t at = 0; at < len;) {
		struct iovec iov = { (char *)bytes + at, len - at };
		ssize_t n = stream_send(w->stream, &iov, 1);
		int r;

		if (n >= 0) {
			at += (size_t)n;
			continue;
		}
		r = n == -EAGAIN ? waitq_wait(&w->ready, due_ns) : (int)n;
		if (r < 0)
			return r;
	}
	return 0;
}
