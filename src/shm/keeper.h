/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper: what `wadi keep` does: it holds descriptors for one owner at a time, and for
 * the next one if that is gone, but not for ever. It maps nothing and looks at nothing.
 *
 *	OWNED --connection ends--> ALONE --a connection says HELLO--> OWNED
 *	  +-- END --> over           +-- nobody in time, or SIGTERM --> over
 *
 * Who connects while it is owned waits in the backlog. A connection that says what is no
 * message ends; what was put stays.
 */
#pragma once

#include <stdint.h>

struct keeper_config {
	const char *directory; /* of the socket, which is listened at already */
	int listen_fd;
	int stop_fd;          /* readable: end, if nobody owns it. -1: never */
	uint64_t patience_ns; /* how long it waits for an owner */
};

#define KEEPER_SOCKET "keep.sock"

/* A socket in `directory`, listened at; the stale one that was there is gone. Its descriptor. */
int keeper_listen(const char *directory);
/* One that was killed, or stays silent, does not take its socket along: its owner does. */
void keeper_unlisten(const char *directory);
/*
 * Until it is over. Then it has removed the directory, with the sockets in it, unless
 * somebody has locked that: a successor who has just not connected yet, and who is waited
 * for a little longer. 0 or a negative errno.
 */
int keeper_run(const struct keeper_config *config);
