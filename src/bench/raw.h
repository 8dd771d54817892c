/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw: the floor: bytes to and fro over the same kind of socket, and nothing else.
 *
 * Every message is a head of 64 bytes, and after it as many bytes as it says. A request is
 * answered by one message; the head of the request says how long that is to be. So a put is
 * a stream to the server, a get a stream from it, and what is small is a ping-pong.
 *
 * Both ends wait by sleeping in the kernel, or by asking it again and again: two floors.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RAW_HEAD_BYTES 64

struct raw_head {
	uint64_t len;       /* bytes that follow */
	uint64_t reply_len; /* of a request */
	uint64_t is_only;   /* there is one connection, so that recv() alone can wait for it */
	uint8_t fill[RAW_HEAD_BYTES - 24];
};
_Static_assert(sizeof(struct raw_head) == RAW_HEAD_BYTES, "no holes");

/* Serves whoever connects, until it is killed. */
struct raw_server {
	int listen_fd;
	bool is_polling;
};
void raw_serve(const struct raw_server *s);
