/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keep_wire: what a keeper and its owner say to each other, over a Unix socket that
 * keeps messages apart (SOCK_SEQPACKET). The owner speaks, the keeper answers.
 *
 *	HELLO  version                              (first; no answer)
 *	LIST   a name                          LIST names at it or behind, and their descriptors
 *	PUT    names, a descriptor each        DONE result
 *	DROP   a name                               (no answer)
 *	END                                         (the keeper ends)
 *
 *	u32 magic | u16 kind | u16 count | i32 value | count x (u16 kind, u16 owner, u64 number)
 *
 * What does not read so is the end of the connection.
 */
#pragma once

#include "shm/keep.h"

#define KEEP_VERSION 1

/* Names of one message: the kernel passes up to 253 descriptors at a time. */
#define KEEP_BATCH 64

enum keep_message_kind { KEEP_HELLO = 1, KEEP_LIST, KEEP_PUT, KEEP_DROP, KEEP_END, KEEP_DONE };

struct keep_message {
	enum keep_message_kind kind;
	int32_t value; /* HELLO: the version; LIST: are there more; DONE: 0 or a negative errno */
	unsigned count, fd_count;
	struct keep_name names[KEEP_BATCH];
	int fds[KEEP_BATCH];
};

/*
 * 0, or a negative errno: the connection is good for nothing any more. -EMFILE: it is, but as many
 * descriptors of this user are on their way as may be. Waits for room.
 */
int keep_send(int fd, const struct keep_message *m);
/*
 * A message, and its descriptors, which are the caller's. -ECONNRESET: the other end is
 * gone; -EBADMSG: it is no message of ours; -EMFILE: descriptors of it were lost (the rest
 * is whole); -EAGAIN: nothing came within the socket's time.
 */
int keep_receive(int fd, struct keep_message *ret);
void keep_message_close(struct keep_message *m); /* its descriptors */

/* How long this end waits to send and to receive. */
int keep_set_patience(int fd, uint64_t ms);
/* The peer runs as our user. */
bool keep_peer_is_ours(int fd);
