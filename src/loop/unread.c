/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/unread.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "base/container.h"
#include "base/limits.h"
#include "loop/epoll_priv.h"

/*
 * Nobody tells that they were read, so with each socket that comes in so many are asked, in turn:
 * those that were read are found, however many others were not.
 */
#define LOOKS 4

void unread_drop(struct epoll_loop *el, struct unread *u)
{
	if (u->count == 0)
		return;
	list_remove(&u->link);
	el->unread_count -= u->count;
	u->count = 0;
}

bool unread_is_left(struct epoll_loop *el, struct unread *u)
{
	int bytes;

	if (u->count == 0)
		return false;
	if (!u->is_sent || ioctl(u->fd, SIOCOUTQ, &bytes) < 0 || bytes > 0)
		return true;
	unread_drop(el, u);
	return false;
}

static void look_at_some(struct epoll_loop *el)
{
	for (int i = 0; i < LOOKS && !list_is_empty(&el->unread); i++) {
		struct unread *u = container_of(el->unread.next, struct unread, link);

		if (!u->is_closed && !unread_is_left(el, u))
			continue;
		list_remove(&u->link);
		list_insert(&el->unread, &u->link);
	}
}

static unsigned count_of(const struct epoll_loop *el, uint64_t share)
{
	unsigned count = 0;

	for (struct list *l = el->unread.next; l != &el->unread; l = l->next) {
		const struct unread *u = container_of(l, struct unread, link);

		count += u->share == share ? u->count : 0;
	}
	return count;
}

int unread_add(struct epoll_loop *el, struct unread *u, unsigned count, uint64_t share)
{
	look_at_some(el);
	if (u->count + count > STREAM_FDS_UNREAD && unread_is_left(el, u))
		return -EBUSY;
	if (count_of(el, share) + count + el->unread_count > el->loop.fds_unread_max)
		return -EBUSY;
	if (u->count == 0) {
		list_init(&u->link);
		list_insert(&el->unread, &u->link);
	}
	u->count += count;
	u->is_sent = false;
	u->share = share;
	el->unread_count += count;
	return 0;
}
