/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pack.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>

#include "base/node.h"

/* The first that finds repeats across a block; above it each step costs half as much again. */
#define LEVEL 1

static uint32_t clip(size_t len)
{
	return len < UINT32_MAX ? (uint32_t)len : UINT32_MAX;
}

size_t pack_bytes(void *to, size_t cap, const void *from, size_t len)
{
	struct isal_zstream *z = node_alloc(sizeof(*z) + ISAL_DEF_LVL1_DEFAULT);
	size_t out = 0;

	if (!z)
		return 0;
	isal_deflate_stateless_init(z);
	z->level = LEVEL;
	z->level_buf = (uint8_t *)(z + 1);
	z->level_buf_size = ISAL_DEF_LVL1_DEFAULT;
	z->end_of_stream = 1;
	z->flush = NO_FLUSH;
	z->next_in = (uint8_t *)from;
	z->avail_in = clip(len);
	z->next_out = to;
	z->avail_out = clip(cap);
	if (isal_deflate_stateless(z) == COMP_OK && z->avail_in == 0)
		out = z->total_out;
	node_free(z);
	return out;
}

int64_t unpack_bytes(void *to, size_t cap, const void *from, size_t len)
{
	struct inflate_state *z = node_alloc(sizeof(*z));
	int64_t out = -EBADMSG;

	if (!z)
		return -ENOMEM;
	isal_inflate_init(z);
	z->next_in = (uint8_t *)from;
	z->avail_in = clip(len);
	z->next_out = to;
	z->avail_out = clip(cap);
	if (isal_inflate_stateless(z) == ISAL_DECOMP_OK && z->block_state == ISAL_BLOCK_FINISH)
		out = z->total_out;
	node_free(z);
	return out;
}
