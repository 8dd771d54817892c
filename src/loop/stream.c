/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/stream.h"

#include <assert.h>
#include <errno.h>

int stream_connect(struct loop *l, const struct address *to, struct stream **ret)
{
	assert(loop_is_mine(l));
	return l->ops->connect(l, to, ret);
}

int stream_pass(struct stream *s, const int *fds, unsigned count)
{
	assert(count <= STREAM_FDS_MAX);
	return s->ops->pass ? s->ops->pass(s, fds, count) : -EOPNOTSUPP;
}

unsigned stream_take(struct stream *s, int *fds, unsigned cap)
{
	return s->ops->take ? s->ops->take(s, fds, cap) : 0;
}

int stream_adopt(struct loop *l, int fd, const struct address *from, struct stream **ret)
{
	assert(loop_is_mine(l) && l->ops->adopt);
	return l->ops->adopt(l, fd, from, ret);
}

void stream_close(struct stream *s)
{
	if (!s)
		return;
	assert(loop_is_mine(s->loop));
	s->ops->close(s);
}

int listener_open(struct loop *l, const struct address *at, struct listener *lr)
{
	assert(loop_is_mine(l) && !lr->acceptor);
	assert(lr->accepted || (lr->taken && l->ops->adopt));
	lr->loop = l;
	return l->ops->listen(l, at, lr);
}

void listener_close(struct listener *lr)
{
	if (!lr->acceptor)
		return;
	assert(loop_is_mine(lr->loop));
	lr->loop->ops->unlisten(lr);
}
