/* SPDX-License-Identifier: Apache-2.0 */
/*
 * own_store: a store of Wadi's for one run, of as many processes as the way to attach needs.
 *
 *	proxy, host  `wadi dev`: its TCP port, or its Unix socket
 *	sidecar      metadata, a store, and a proxy without memory of its own: its Unix socket
 *	direct       metadata and a store; clients are their own proxies
 */
#pragma once

#include "bench/child.h"
#include "bench/peer.h"

struct bench;

#define OWN_STORE_BEHIND 2

struct own_store {
	char endpoint[256];
	/* What clients talk to; and what is behind that, as processes of their own. 0: none. */
	struct child front, behind[OWN_STORE_BEHIND];
};

/* Pinned, and ready. A sentence to *ret_why if not; then too it is to be closed. */
int own_store_open(struct own_store *s, struct bench *b, enum bench_attach attach,
		   const char **ret_why);
void own_store_close(struct own_store *s);
