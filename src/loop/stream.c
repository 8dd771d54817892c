/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/stream.h"

#include <assert.h>

int stream_connect(struct loop *l, const struct address *to, struct stream **ret)
{
	assert(loop_is_mine(l));
	return l->ops->connect(l, to, ret);
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
	assert(loop_is_mine(l) && !lr->acceptor && lr->accepted);
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
