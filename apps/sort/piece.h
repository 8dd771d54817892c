/* SPDX-License-Identifier: Apache-2.0 */
/*
 * piece: bytes on their way out, collected so that they leave in large pieces; and
 * sink, where they go: a file of the output, or an object of the store.
 *
 * The piece is the function's only output buffer. Whoever changes its sink has
 * flushed it before.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct sink {
	int (*write)(struct sink *s, const uint8_t *data, size_t len);
};

struct piece {
	uint8_t *ptr; /* not ours */
	size_t cap, used;
	struct sink *to; /* not ours */
};

static inline int piece_flush(struct piece *p)
{
	size_t used = p->used;

	p->used = 0;
	return used ? p->to->write(p->to, p->ptr, used) : 0;
}

/* What does not fit fills the piece and is cut there. */
static inline int piece_put(struct piece *p, const uint8_t *data, size_t len)
{
	while (len > p->cap - p->used) {
		size_t n = p->cap - p->used;
		int r;

		memcpy(p->ptr + p->used, data, n);
		p->used += n;
		r = piece_flush(p);
		if (r < 0)
			return r;
		data += n;
		len -= n;
	}
	memcpy(p->ptr + p->used, data, len);
	p->used += len;
	return 0;
}
