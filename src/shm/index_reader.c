/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/limits.h"
#include "base/plant.h"
#include "shm/index_priv.h"
#include "shm/shared.h"

int index_reader_open(struct index_reader *r, const void *head, size_t head_size)
{
	const struct index_head *h = head;

	if (head_size < sizeof(*h) || h->magic != INDEX_HEAD_MAGIC)
		return -EBADMSG;
	*r = (struct index_reader){ .head = h, .mapping_count = index_mapping_count(head_size) };
	return 0;
}

/* Changes nothing that view_release() needs, which may run on another thread. */
int index_reader_table(struct index_reader *r, const void *table, size_t table_size)
{
	const struct index_table *t = table;

	if (table_size < INDEX_TABLE_BYTES_MIN || table_size > INDEX_TABLE_BYTES_MAX ||
	    t->magic != INDEX_TABLE_MAGIC)
		return -EBADMSG;
	r->entries = (const struct index_entry *)table + 1;
	r->count = index_entry_count(table_size);
	r->seed = t->seed;
	r->number = t->number;
	return 0;
}

static void item_unpack(const uint64_t words[WORD_COUNT], struct index_item *item)
{
	*item = (struct index_item){ .mapping = (uint32_t)words[WORD_PLACE],
				     .life = (uint32_t)(words[WORD_PLACE] >> 32),
				     .offset = words[WORD_OFFSET],
				     .len = words[WORD_LEN],
				     .version = words[WORD_VERSION],
				     .expiry_ns = words[WORD_EXPIRY],
				     .object = words[WORD_OBJECT],
				     .committed_ns = words[WORD_COMMITTED],
				     .seed = words[WORD_SEED],
				     .crc = (uint32_t)words[WORD_KIND],
				     .extent_count = words[WORD_KIND] >> 32 & 0xffffff,
				     .tier = (uint8_t)(words[WORD_KIND] >> 56) };
}

/* What is read may be of two entries at once; that is seen at the second look. */
static bool entry_read(const struct index_entry *e, struct hash_128 hash, struct index_look *ret)
{
	uint64_t words[WORD_COUNT] = { 0 };

	/* Acquire: pairs with the release at the end of entry_write(). */
	ret->sequence = shared_load(&e->sequence, acquire);
	if (ret->sequence & 1 || shared_load(&e->hash_lo, relaxed) != hash.lo ||
	    shared_load(&e->hash_hi, relaxed) != hash.hi)
		return false;
	for (unsigned i = 0; i < INDEX_WORDS; i++)
		words[i] = shared_load(&e->words[i], relaxed);
	ret->entry = e;
	item_unpack(words, &ret->item);
	return true;
}

int index_reader_find(const struct index_reader *r, struct hash_128 hash, struct index_look *ret)
{
	for (uint32_t i = 0; i < INDEX_WINDOW; i++) {
		const struct index_entry *e = &r->entries[index_place(hash.lo, r->count, i)];

		/* A hint: most others differ here. */
		if (shared_load(&e->hash_lo, relaxed) == hash.lo && entry_read(e, hash, ret))
			return 0;
	}
	return -ENOENT;
}

bool index_reader_is_old(const struct index_reader *r)
{
	/* Relaxed: nothing follows from it but a question. */
	return shared_load(&r->head->table, relaxed) != r->number;
}

bool index_look_holds(const struct index_look *look)
{
	/* Relaxed: ordered by the fence before, and the acquire of the lease. */
	return shared_load(&look->entry->sequence, relaxed) == look->sequence;
}

int index_reader_check(const struct index_reader *r, const struct index_look *look, uint64_t now_ns)
{
	bool held = planted(LEASE_AFTER_SEQUENCE) && index_look_holds(look);
	/*
	 * Acquire, and before the others: pairs with the release in index_writer_lease(). Under
	 * a lease that was renewed, what was dropped before is not seen any more.
	 */
	uint64_t lease_ns = shared_load(&r->head->lease_ns, acquire);

	if (shared_load(&r->head->table, relaxed) != r->number)
		return -ESTALE;
	if (!planted(LEASE_AFTER_SEQUENCE))
		held = index_look_holds(look);
	if (!held || now_ns >= lease_ns)
		return -ENOENT;
	return look->item.expiry_ns && now_ns >= look->item.expiry_ns ? -ENOENT : 0;
}

uint32_t index_reader_life(const struct index_reader *r, uint32_t mapping)
{
	/* Acquire: pairs with the release in index_writer_end_life(). */
	shared_fence(acquire);
	return shared_load(&r->head->lives[mapping], relaxed);
}

uint64_t index_reader_lease(const struct index_reader *r)
{
	/* Acquire: what was said of lives before it was written is seen. */
	return shared_load(&r->head->lease_ns, acquire);
}
