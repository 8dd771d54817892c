/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pair: a stream whose two ends are on one loop. Each end has a ring of the bytes
 * that are on their way to it; the other end writes them. An end is told ready by a
 * task, so in a later turn, and never from within the other end's call.
 */
#include "loop/stream.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/container.h"

struct end {
	struct stream stream;
	struct task tell;
	struct end *other;
	struct pair *pair;
	bool is_closed, was_full; /* was_full: we could not send all, so wait for room */

	/* What has come for us. The indices run free; cap is a power of two. */
	uint8_t *ring;
	size_t head, tail;
};

struct pair {
	struct end ends[2];
	size_t cap;
	struct closing closing;
};

static struct end *end_of(struct stream *s)
{
	return container_of(s, struct end, stream);
}

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* The bytes from a free-running index on, up to `len` or the ring's edge. */
static uint8_t *stretch(const struct end *e, size_t index, size_t *len)
{
	size_t at = index & (e->pair->cap - 1);

	*len = min_size(*len, e->pair->cap - at);
	return e->ring + at;
}

static ssize_t pair_recv(struct stream *s, void *buf, size_t len)
{
	struct end *e = end_of(s);
	size_t had = 0;

	assert(len > 0 && !e->is_closed);
	len = min_size(len, e->tail - e->head);
	while (had < len) {
		size_t n = len - had;
		const uint8_t *from = stretch(e, e->head, &n);

		memcpy((uint8_t *)buf + had, from, n);
		e->head += n;
		had += n;
	}
	if (had == 0)
		return e->other->is_closed ? 0 : -EAGAIN;
	if (e->other->was_full) {
		e->other->was_full = false;
		loop_follow(s->loop, &e->other->tell);
	}
	return (ssize_t)had;
}

static void put(struct end *to, const uint8_t *from, size_t len)
{
	while (len > 0) {
		size_t n = len;
		uint8_t *at = stretch(to, to->tail, &n);

		memcpy(at, from, n);
		to->tail += n;
		from += n;
		len -= n;
	}
}

static ssize_t pair_send(struct stream *s, const struct iovec *iov, int count)
{
	struct end *e = end_of(s), *to = e->other;
	size_t sent = 0;

	assert(!e->is_closed);
	if (to->is_closed)
		return -EPIPE;
	e->was_full = false;
	for (int i = 0; i < count && !e->was_full; i++) {
		size_t n = min_size(iov[i].iov_len, e->pair->cap - (to->tail - to->head));

		put(to, iov[i].iov_base, n);
		sent += n;
		e->was_full = n < iov[i].iov_len;
	}
	if (sent == 0)
		return e->was_full ? -EAGAIN : 0;
	loop_follow(s->loop, &to->tell);
	return (ssize_t)sent;
}

static void pair_free(struct closing *c)
{
	struct pair *p = container_of(c, struct pair, closing);

	node_free(p->ends[0].ring);
	node_free(p);
}

static void pair_close(struct stream *s)
{
	struct end *e = end_of(s);

	assert(!e->is_closed);
	e->is_closed = true;
	e->was_full = false;
	s->other = e->other->stream.other = NULL;
	task_stop(&e->tell);
	if (e->other->is_closed)
		loop_free_later(s->loop, &e->pair->closing);
	else
		loop_follow(s->loop, &e->other->tell);
}

static const struct stream_ops PAIR_OPS = {
	.recv = pair_recv,
	.send = pair_send,
	.close = pair_close,
};

static void tell(struct task *t)
{
	struct end *e = container_of(t, struct end, tell);

	assert(e->stream.ready);
	e->stream.ready(&e->stream);
}

static void end_init(struct end *e, struct pair *p, struct loop *l, uint8_t *ring)
{
	e->stream.ops = &PAIR_OPS;
	e->stream.loop = l;
	e->stream.peer = (struct peer){ .is_loopback = true, .uid = UINT32_MAX };
	e->other = &p->ends[e == &p->ends[0]];
	e->stream.other = &e->other->stream;
	e->pair = p;
	e->ring = ring;
	e->tell.run = tell;
	list_init(&e->tell.link);
	loop_defer(l, &e->tell);
}

int stream_pair(struct loop *l, size_t cap, struct stream *ret[2])
{
	struct pair *p = node_alloc(sizeof(*p));
	uint8_t *rings;
	size_t size = 1;

	while (size < cap)
		size *= 2;
	rings = p ? node_alloc(2 * size) : NULL;
	if (!rings) {
		node_free(p);
		return -ENOMEM;
	}
	p->cap = size;
	p->closing.free = pair_free;
	for (int i = 0; i < 2; i++) {
		end_init(&p->ends[i], p, l, rings + (size_t)i * size);
		ret[i] = &p->ends[i].stream;
	}
	return 0;
}
