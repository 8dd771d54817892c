/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct: the store core in the process of its function. In front of it is a proxy that
 * nobody else has: a handle speaks to it through a pair, as it would through a socket, so
 * there is no second way to do what a proxy does. Core and proxy live on the handle's loop.
 *
 * What it costs to begin outlives the handle: a closed one is kept warm, with its loop, its
 * connections, its map and its session, for the next one of this process that wants the same.
 *
 *	direct.c   opening and closing
 *	warm.c     those that nobody uses right now
 */
#pragma once

#include "loop/loop.h"
#include "loop/stream.h"
#include "net/conn.h"

struct direct;

/*
 * "direct://host:port[,host:port...]": shards of the metadata server. -EINVAL: not an endpoint;
 * -EHOSTUNREACH: a host's name is not known. Nobody is asked anything yet.
 */
int direct_open(const char *endpoint, const char *token, struct direct **ret);
/*
 * The same on a loop of somebody else's, who turns it, as the simulator has it: it ends with its
 * process, whatever *ret is when this fails.
 */
int direct_open_on(struct loop *l, const char *endpoint, const char *token, struct direct **ret);
/*
 * What is open at metadata is given back: true when nothing is left. The handle's connections have
 * been closed. others: fibers of the loop that are not its own.
 */
bool direct_rest(struct direct *d, unsigned others);
/* After a rest: it is used again. */
void direct_go_on(struct direct *d);
/* The handle's, until direct_close(). */
struct loop *direct_loop(struct direct *d);
struct net *direct_net(struct direct *d);
/* The handle's end of a connection to the proxy. */
int direct_connect(struct direct *d, struct stream **ret);
/*
 * Waits for DIRECT_REST_MS at most until all that was open at metadata is given back. The
 * handle's connections have been closed, and its operations have ended. NULL is fine.
 */
void direct_close(struct direct *d);
