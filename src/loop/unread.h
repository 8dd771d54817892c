/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unread: descriptors that were sent through the Unix sockets of a loop, and that nobody has read.
 *
 * The kernel keeps them, and counts them as our user's; once there are as many as one of his
 * processes may have open, it takes no more from any (ETOOMANYREFS). So that who reads nothing uses
 * up only what is his, a share has at most as many as are left for all others.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

struct epoll_loop;

/* Those of a socket. Its owner embeds it, zeroed. */
struct unread {
	struct list link; /* of the loop, while there are some */
	int fd;           /* the socket's own */
	unsigned count;
	bool is_sent;   /* all of them; what is still to be sent, nobody can have read */
	bool is_closed; /* its socket is, and looks itself */
	uint64_t share;
};

/* Some more of this share, which are still to be sent. -EBUSY. */
int unread_add(struct epoll_loop *el, struct unread *u, unsigned count, uint64_t share);
/* Looks whether some are, and counts them no more if not. */
bool unread_is_left(struct epoll_loop *el, struct unread *u);
void unread_drop(struct epoll_loop *el, struct unread *u); /* counts them no more */
