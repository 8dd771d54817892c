/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upload: an object that comes in pieces, as upload.c and room.c have it: in frames, or written by
 * its function itself, and never both at a time.
 */
#pragma once

#include "proxy/proxy_priv.h"

struct upload {
	struct list link; /* of its connection */
	struct native *native;
	struct proxy *proxy;
	uint64_t id, len_hint, begun_ns, taken;
	struct fill *fill;
	struct piece piece;     /* being received, or put away */
	struct request *coming; /* whose bytes are being received there; NULL: nobody's */
	struct place room;      /* being written by its function */
	bool is_in_place;       /* it may have some */
	struct put_open_req req;
	uint8_t path[PATH_BYTES_MAX], attributes[ATTRIBUTES_BYTES_MAX];

	struct fiber leaser;
	bool is_leasing, is_closed;
	bool is_busy;        /* bytes are being put away, or it is being committed */
	unsigned user_count; /* fibers that look at it */
	int lease_result;    /* of fill_ahead() */
	int refused; /* why bytes of it could not be taken; those behind them go on from there */
	uint64_t due_ns; /* of the lease */
	char why[160];
	struct list waiting; /* of struct waiter: answers without room */
	struct waitq idle;
};

/* NULL: none of this connection. */
struct upload *upload_find(const struct request *r, uint64_t id);
/* While a fiber is at it: nothing else is put away, and it is not freed. */
void upload_enter(struct upload *u);
void upload_leave(struct upload *u);
/* More room than is given now, in the background, unless there is enough. */
void upload_lease_if_needed(struct upload *u, uint64_t due_ns);
/* Waits for it. Who waits for room in frames hears of what came. */
int upload_lease(struct upload *u, uint64_t due_ns);
