/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/leaf.h"

#include <stdatomic.h>

#include "base/hash.h"
#include "base/plant.h"

#define MAGIC         0x3266616c69646177ull /* "wadilaf2" */
#define RECORD_HEADER 24
#define USED_AT       80 /* behind the crc: it changes */
#define MEMORY_NS_AT  88 /* for those who find it in memory: like USED_AT it is not in the crc */
#define CRC_AT        72

_Static_assert(USED_AT + 4 <= MEMORY_NS_AT && MEMORY_NS_AT + 8 <= LEAF_HEADER,
	       "the header has room for it");

void leaf_header_put(uint8_t *leaf, const struct leaf_header *h)
{
	struct wcur w = wcur_make(leaf, LEAF_HEADER);

	memset(leaf, 0, LEAF_HEADER);
	put_u64(&w, MAGIC);
	put_u16(&w, h->kind);
	put_u16(&w, h->shard);
	put_u16(&w, h->shard_count);
	put_u16(&w, 0);
	put_u64(&w, h->seed);
	put_u64(&w, h->incarnation);
	put_u64(&w, h->number);
	put_u64(&w, h->lsn);
	put_u32(&w, h->index);
	put_u32(&w, h->packed);
	put_u64(&w, h->base_ns);
	put_u64(&w, h->memory);
	w = wcur_make(leaf + CRC_AT, 4);
	put_u32(&w, crc_more(0, leaf, CRC_AT));
	leaf_set_memory_ns(leaf, h->memory_ns);
	leaf_set_used(leaf, LEAF_HEADER);
}

bool leaf_is_zero(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

/* What comes behind the magic is as we would have written it. */
static bool is_crc_right(const uint8_t *leaf)
{
	struct rcur c = rcur_make(leaf + CRC_AT, 4);
	uint8_t magic[8];
	struct wcur w = wcur_make(magic, sizeof(magic));

	put_u64(&w, MAGIC);
	return get_u32(&c) == crc_more(crc_more(0, magic, sizeof(magic)), leaf + sizeof(magic),
				       CRC_AT - sizeof(magic));
}

int leaf_header_get(const uint8_t *leaf, size_t len, struct leaf_header *ret)
{
	struct rcur c = rcur_make(leaf, len);
	uint64_t magic = get_u64(&c);

	if (leaf_is_zero(leaf, len < LEAF_HEADER ? len : LEAF_HEADER))
		return -ENODATA;
	if (len < LEAF_HEADER)
		return -EBADMSG;
	/* The last byte is the version. If only that is wrong, it is damage. */
	if (magic != MAGIC && magic << 8 == MAGIC << 8 && magic >> 56 && !is_crc_right(leaf))
		return -ENOTSUP;
	*ret = (struct leaf_header){ .kind = get_u16(&c) };
	ret->shard = get_u16(&c);
	ret->shard_count = get_u16(&c);
	get_u16(&c);
	ret->seed = get_u64(&c);
	ret->incarnation = get_u64(&c);
	ret->number = get_u64(&c);
	ret->lsn = get_u64(&c);
	ret->index = get_u32(&c);
	ret->packed = get_u32(&c);
	ret->base_ns = get_u64(&c);
	ret->memory = get_u64(&c);
	c = rcur_make(leaf + MEMORY_NS_AT, 8);
	ret->memory_ns = get_u64(&c);
	return magic == MAGIC && is_crc_right(leaf) ? 0 : -EBADMSG;
}

/*
 * Release: the record's bytes are there before the length that covers them. Its partner is
 * the end of this process: whoever reads it comes after that.
 */
void leaf_set_used(uint8_t *leaf, uint32_t used)
{
	atomic_store_explicit((_Atomic uint32_t *)(void *)(leaf + USED_AT), used,
			      memory_order_release);
}

uint32_t leaf_used(const uint8_t *leaf)
{
	return atomic_load_explicit((const _Atomic uint32_t *)(const void *)(leaf + USED_AT),
				    memory_order_acquire);
}

void leaf_set_memory_ns(uint8_t *leaf, uint64_t ns)
{
	struct wcur w = wcur_make(leaf + MEMORY_NS_AT, 8);

	/* For who finds it after a kill: the compiler is not to move it before the records. */
	atomic_signal_fence(memory_order_release);
	put_u64(&w, ns);
}

static uint32_t crc_of(const uint8_t *at, size_t len, const struct leaf_header *h)
{
	uint32_t crc = crc_begin(h->seed ^ (h->number << 16) ^ h->index);

	crc = crc_more(crc, at, 4);
	return crc_more(crc, at + 8, RECORD_HEADER - 8 + len);
}

uint32_t record_seal(uint8_t *at, const struct leaf_header *h, const struct record *record)
{
	uint32_t len = (uint32_t)record->bytes.len, size = record_size(len);
	struct wcur w = wcur_make(at, RECORD_HEADER);

	put_u32(&w, len);
	put_u32(&w, 0);
	put_u64(&w, record->lsn);
	put_u16(&w, record->slot);
	put_u16(&w, record->kind);
	put_u32(&w, record->synced);
	memset(at + RECORD_HEADER + len, 0, size - RECORD_HEADER - len);
	w = wcur_make(at + 4, 4);
	put_u32(&w, crc_of(at, len, h));
	return size;
}

int record_get(const uint8_t *leaf, uint32_t len, const struct leaf_header *h, uint32_t *at,
	       struct record *ret)
{
	uint32_t left = *at < len ? len - *at : 0, bytes, crc;
	struct rcur c = rcur_make(leaf + *at, left);

	if (leaf_is_zero(leaf + *at, left < RECORD_HEADER ? left : RECORD_HEADER))
		return -ENODATA;
	bytes = get_u32(&c);
	crc = get_u32(&c);
	*ret = (struct record){ .lsn = get_u64(&c) };
	ret->slot = get_u16(&c);
	ret->kind = get_u16(&c);
	ret->synced = get_u32(&c);
	if (left < RECORD_HEADER || bytes > left - RECORD_HEADER || record_size(bytes) > left ||
	    (crc != crc_of(leaf + *at, bytes, h) && !planted(TORN_TAIL_ACCEPTED)))
		return -EBADMSG;
	ret->bytes = (struct slice){ leaf + *at + RECORD_HEADER, bytes };
	*at += record_size(bytes);
	return 0;
}

struct records_behind records_behind(const uint8_t *leaf, uint32_t len, const struct leaf_header *h,
				     uint32_t at)
{
	struct records_behind found = { 0 };
	struct record r;

	for (at = (at + 7) & ~7u; at < len;) {
		if (record_get(leaf, len, h, &at, &r) < 0) {
			at += 8;
			continue;
		}
		found.count++;
		if (r.synced > found.synced)
			found.synced = r.synced;
	}
	return found;
}
