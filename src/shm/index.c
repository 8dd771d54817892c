/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/index.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/limits.h"
#include "base/node.h"
#include "base/plant.h"
#include "shm/index_priv.h"
#include "shm/shared.h"

/*
 * Our own notes on an entry. Nothing that is done with them follows from what lies in the
 * region, which a function that has more rights than it should could have changed. Numbers are
 * counted from 1; 0 is none.
 */
struct index_link {
	uint32_t next, previous; /* in the list of the mapping */
	uint32_t mapping;        /* 0: there is no entry */
};

/* The lowest bit is set: an entry that was never written has none like it. */
struct hash_128 index_hash(const void *path, size_t len, uint64_t seed)
{
	struct hash_128 h = hash_128(path, len, seed);

	h.hi |= 1;
	return h;
}

size_t index_head_bytes(uint32_t number)
{
	return sizeof(struct index_head) + number * sizeof(uint32_t);
}

/* One table. */

static void link_out(struct index_side *s, uint32_t slot)
{
	struct index_link *l = &s->links[slot];

	if (l->next)
		s->links[l->next - 1].previous = l->previous;
	if (l->previous)
		s->links[l->previous - 1].next = l->next;
	else
		s->first[l->mapping - 1] = l->next;
	*l = (struct index_link){ 0 };
	s->live--;
}

static void link_in(struct index_side *s, uint32_t slot, uint32_t mapping)
{
	uint32_t *first = &s->first[mapping];

	s->links[slot] = (struct index_link){ .next = *first, .mapping = mapping + 1 };
	if (*first)
		s->links[*first - 1].previous = slot + 1;
	*first = slot + 1;
	s->live++;
}

/* A list for each mapping up to this one. */
static int first_reach(struct index_side *s, uint32_t mapping)
{
	uint32_t count = s->first_count ? s->first_count : 16;
	uint32_t *first;

	if (mapping < s->first_count)
		return 0;
	while (count <= mapping)
		count *= 2;
	first = node_resize(s->first, count * sizeof(*first));
	if (!first)
		return -ENOMEM;
	memset(first + s->first_count, 0, (count - s->first_count) * sizeof(*first));
	s->first = first;
	s->first_count = count;
	return 0;
}

/* Odd: whoever looks a second time sees another sequence than the first time. */
static void entry_drop(struct index_side *s, uint32_t slot)
{
	struct index_entry *e = &s->entries[slot];

	/*
	 * Relaxed: who only must not find it any more hears of that from us, by a message.
	 * Who frees the mapping orders it before his look at pins with the fence in pins.c.
	 */
	shared_store(&e->sequence, shared_load(&e->sequence, relaxed) | 1, relaxed);
	link_out(s, slot);
}

static void item_pack(const struct index_item *item, uint64_t words[WORD_COUNT])
{
	words[WORD_PLACE] = item->mapping | (uint64_t)item->life << 32;
	words[WORD_OFFSET] = item->offset;
	words[WORD_LEN] = item->len;
	words[WORD_VERSION] = item->version;
	words[WORD_EXPIRY] = item->expiry_ns;
	words[WORD_OBJECT] = item->object;
	words[WORD_COMMITTED] = item->committed_ns;
	words[WORD_SEED] = item->seed;
	words[WORD_KIND] = item->crc | (uint64_t)(item->extent_count & 0xffffff) << 32 |
			   (uint64_t)item->tier << 56;
}

static void entry_write(struct index_side *s, uint32_t slot, struct hash_128 hash,
			const uint64_t words[WORD_COUNT])
{
	struct index_entry *e = &s->entries[slot];
	uint64_t sequence = shared_load(&e->sequence, relaxed) | 1;

	if (s->links[slot].mapping)
		link_out(s, slot);
	shared_store(&e->sequence, sequence, relaxed);
	/*
	 * Release: the odd sequence is visible before any word that follows. Pairs with the
	 * fence in pins_take(): who has read one of these words sees it at his second look.
	 */
	if (!planted(WORDS_UNORDERED))
		shared_fence(release);
	shared_store(&e->hash_lo, hash.lo, relaxed);
	shared_store(&e->hash_hi, hash.hi, relaxed);
	for (unsigned i = 0; i < INDEX_WORDS; i++)
		shared_store(&e->words[i], words[i], relaxed);
	/*
	 * Release: the words, and the bytes that they lead to, are visible before it. Pairs
	 * with the acquire in index_reader_find().
	 */
	shared_store(&e->sequence, planted(SEQUENCE_KEPT) ? sequence - 1 : sequence + 1, release);
	link_in(s, slot, (uint32_t)words[WORD_PLACE]);
}

static bool slot_has(const struct index_side *s, uint32_t slot, struct hash_128 hash)
{
	const struct index_entry *e = &s->entries[slot];

	return s->links[slot].mapping && shared_load(&e->hash_lo, relaxed) == hash.lo &&
	       shared_load(&e->hash_hi, relaxed) == hash.hi;
}

/* False: it is not there, and *ret_slot is the place for it: a free one, or that of another. */
static bool slot_find(const struct index_side *s, struct hash_128 hash, uint32_t turn,
		      uint32_t *ret_slot)
{
	*ret_slot = index_place(hash.lo, s->count, turn % INDEX_WINDOW);
	for (uint32_t i = INDEX_WINDOW; i-- > 0;) {
		uint32_t slot = index_place(hash.lo, s->count, i);

		if (slot_has(s, slot, hash)) {
			*ret_slot = slot;
			return true;
		}
		if (!s->links[slot].mapping)
			*ret_slot = slot;
	}
	return false;
}

static int side_put(struct index_side *s, struct hash_128 hash, uint32_t turn,
		    const uint64_t words[WORD_COUNT])
{
	int r = first_reach(s, (uint32_t)words[WORD_PLACE]);
	uint32_t slot;

	if (r < 0)
		return r;
	if (slot_find(s, hash, turn, &slot) &&
	    shared_load(&s->entries[slot].words[WORD_VERSION], relaxed) > words[WORD_VERSION])
		return 0;
	entry_write(s, slot, hash, words);
	return 0;
}

static bool side_drop(struct index_side *s, struct hash_128 hash)
{
	uint32_t slot;

	if (!s->entries || !slot_find(s, hash, 0, &slot))
		return false;
	entry_drop(s, slot);
	return true;
}

/* How many more may be dropped. */
static unsigned side_drop_mapping(struct index_side *s, uint32_t mapping, unsigned steps)
{
	while (steps > 0 && mapping < s->first_count && s->first[mapping]) {
		entry_drop(s, s->first[mapping] - 1);
		steps--;
	}
	return steps;
}

/*
 * Never given before, not even to a table that a proxy was filling when it was killed, and which
 * some function has already.
 */
static uint64_t number_issue(struct index_head *h)
{
	uint64_t number = 1 + (planted(TABLE_NUMBER_AGAIN) ? shared_load(&h->table, relaxed)
							   : shared_load(&h->issued, relaxed));

	shared_store(&h->issued, number, relaxed);
	return number;
}

static int side_open(struct index_side *s, struct index_head *head, void *region, size_t size,
		     uint64_t seed)
{
	struct index_table *t = region;
	uint32_t count = index_entry_count(size);

	if (size < INDEX_TABLE_BYTES_MIN || size > INDEX_TABLE_BYTES_MAX)
		return -EINVAL;
	*s = (struct index_side){ .links = node_alloc(count * sizeof(struct index_link)) };
	if (!s->links)
		return -ENOMEM;
	s->entries = (struct index_entry *)region + 1;
	s->count = count;
	s->number = number_issue(head);
	*t = (struct index_table){ .magic = INDEX_TABLE_MAGIC, .number = s->number, .seed = seed };
	return 0;
}

static void side_close(struct index_side *s)
{
	node_free(s->links);
	node_free(s->first);
	*s = (struct index_side){ 0 };
}

/* The index. */

int index_writer_open(struct index_writer *x, void *head, size_t head_size, void *table,
		      size_t table_size, uint64_t seed)
{
	struct index_head *h = head;
	int r;

	*x = (struct index_writer){ .seed = seed };
	if (head_size < sizeof(*h))
		return -EINVAL;
	r = side_open(&x->now, h, table, table_size, seed);
	if (r < 0)
		return r;
	x->head = h;
	x->mapping_count = index_mapping_count(head_size);
	h->magic = INDEX_HEAD_MAGIC;
	/* Who sees a lease of ours sees that the older tables are over: index_writer_lease(). */
	shared_store(&h->lease_ns, 0, relaxed);
	shared_store(&h->table, x->now.number, release);
	return 0;
}

void index_writer_close(struct index_writer *x)
{
	if (x->head) {
		shared_store(&x->head->lease_ns, 0, relaxed);
		shared_store(&x->head->table, number_issue(x->head), release);
	}
	side_close(&x->now);
	side_close(&x->next);
	x->head = NULL;
}

void index_writer_lease(struct index_writer *x, uint64_t until_ns)
{
	/*
	 * Release: who sees this lease sees all that was dropped before. Pairs with the
	 * acquire in index_reader_check().
	 */
	shared_store(&x->head->lease_ns, until_ns, release);
}

int index_writer_put(struct index_writer *x, struct hash_128 hash, struct index_item *item)
{
	uint64_t words[WORD_COUNT];
	int r;

	assert(item->mapping < x->mapping_count);
	item->life = index_writer_life(x, item->mapping);
	item_pack(item, words);
	x->turn++;
	r = side_put(&x->now, hash, x->turn, words);
	if (r == 0 && x->next.entries)
		r = side_put(&x->next, hash, x->turn, words);
	/* In both or in none: the next table must not have an older version. */
	if (r < 0)
		(void)index_writer_drop(x, hash);
	return r;
}

bool index_writer_drop(struct index_writer *x, struct hash_128 hash)
{
	bool was_now = side_drop(&x->now, hash);
	bool was_next = side_drop(&x->next, hash);

	return was_now || was_next;
}

bool index_writer_drop_mapping(struct index_writer *x, uint32_t mapping)
{
	unsigned left = side_drop_mapping(&x->now, mapping, INDEX_STEP);

	return side_drop_mapping(&x->next, mapping, left) > 0;
}

uint32_t index_writer_life(const struct index_writer *x, uint32_t mapping)
{
	return shared_load(&x->head->lives[mapping], relaxed);
}

void index_writer_end_life(struct index_writer *x, uint32_t mapping)
{
	assert(mapping < x->mapping_count);
	shared_store(&x->head->lives[mapping], index_writer_life(x, mapping) + 1, relaxed);
	/*
	 * Release: whatever becomes of the bytes comes after it. Pairs with the acquire in
	 * index_reader_life(): who has read such bytes sees that their life is over.
	 */
	shared_fence(release);
}

bool index_writer_is_full(const struct index_writer *x)
{
	return x->now.live > x->now.count / 4 * 3;
}

int index_writer_grow(struct index_writer *x, void *table, size_t size)
{
	if (x->next.entries)
		return -EBUSY;
	if (index_entry_count(size) <= x->now.count)
		return -EINVAL;
	x->copied = 0;
	return side_open(&x->next, x->head, table, size, x->seed);
}

/* What was put meanwhile is there already, and no older. */
static void entry_copy(struct index_writer *x, uint32_t slot)
{
	const struct index_entry *e = &x->now.entries[slot];
	uint32_t mapping = x->now.links[slot].mapping;
	uint64_t words[WORD_COUNT] = { 0 };
	struct hash_128 hash;

	if (!mapping)
		return;
	hash.lo = shared_load(&e->hash_lo, relaxed);
	hash.hi = shared_load(&e->hash_hi, relaxed);
	for (unsigned i = 0; i < INDEX_WORDS; i++)
		words[i] = shared_load(&e->words[i], relaxed);
	/* Which list it is in follows from our own note. */
	words[WORD_PLACE] = (words[WORD_PLACE] & ~0xffffffffull) | (mapping - 1);
	/* Without memory it is not copied, and will be asked for. */
	(void)side_put(&x->next, hash, x->turn++, words);
}

bool index_writer_copy(struct index_writer *x)
{
	if (!x->next.entries)
		return true;
	for (unsigned i = 0; i < INDEX_STEP && x->copied < x->now.count; i++)
		entry_copy(x, x->copied++);
	if (x->copied < x->now.count)
		return false;
	/* From here on the old one is neither written nor believed. */
	shared_store(&x->head->table, x->next.number, release);
	side_close(&x->now);
	x->now = x->next;
	x->next = (struct index_side){ 0 };
	return true;
}
