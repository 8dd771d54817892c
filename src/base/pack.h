/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pack: bytes made smaller, quickly, and back: raw deflate (RFC 1951), a block at a time,
 * where memory is dear and nobody waits.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* How many bytes at `to`, `cap` at most; 0: they are not fewer than that, or no memory. */
size_t pack_bytes(void *to, size_t cap, const void *from, size_t len);
/* How many bytes at `to`. -EBADMSG: it is not what pack_bytes() made, or more than `cap`; -ENOMEM.
 */
int64_t unpack_bytes(void *to, size_t cap, const void *from, size_t len);
