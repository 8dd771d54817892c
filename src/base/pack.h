/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pack: bytes made smaller, quickly, and back: raw deflate (RFC 1951), a block at a time,
 * where memory is dear and nobody waits.
 */
#pragma once

#include <stddef.h>

/* How many bytes at `to`, `cap` at most; 0: they are not fewer than that, or no memory. */
size_t pack_bytes(void *to, size_t cap, const void *from, size_t len);
/* How many bytes at `to`, `cap` at most; 0: it is not what pack_bytes() made, or is longer. */
size_t unpack_bytes(void *to, size_t cap, const void *from, size_t len);
