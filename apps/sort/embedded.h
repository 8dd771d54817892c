/* SPDX-License-Identifier: Apache-2.0 */
/*
 * embedded: a Wadi store for one run of the sort: one process, `wadi dev`, or, for the ways to
 * attach that need roles apart, metadata, a store and perhaps a proxy as processes of their own.
 *
 *	host     dev                 its Unix socket: proxy and memory are on the functions' host
 *	proxy    dev                 its TCP port, as if it were on another host
 *	sidecar  meta, store, proxy  the Unix socket of the proxy, which has no memory of its own
 *	direct   meta, store         the metadata server: the functions are their own proxies
 */
#pragma once

#include <stdint.h>

#include "options.h"
#include "server.h"

struct embedded_config {
	const char *program;   /* wadi */
	const char *directory; /* of this run, for a key */
	enum attach attach;
	uint64_t memory;      /* of `wadi dev`, or of the store */
	uint64_t meta_memory; /* of metadata, if that is a process of its own */
};

struct embedded {
	char url[ENDPOINT_MAX]; /* where functions attach; "": not opened */
	uint64_t memory;        /* of all its processes at most */

	/* embedded.c's own: in the order in which they start. */
	struct server servers[3];
	unsigned server_count;
};

/* Returns when it is ready. */
int embedded_open(struct embedded *e, const struct embedded_config *config,
		  struct problem *problem);
void embedded_close(struct embedded *e); /* also half open, or zeros */
