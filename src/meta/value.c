/* SPDX-License-Identifier: Apache-2.0 */
/*
 * value: small values, stored once, in blocks of one job each, in value segments of the
 * slot. A job fills one block after the other; a block with no value left is free for
 * anybody. It is filled with zeros when it is taken anew, not when it is freed: a replay
 * must not touch bytes that later records refer to.
 */
#include <assert.h>

#include "base/node.h"
#include "meta/catalog_priv.h"

#define VALUE_ALIGN 8

static uint32_t segment_of(uint64_t at)
{
	return (uint32_t)(at >> VALUE_SEGMENT_SHIFT);
}

static uint32_t offset_of(uint64_t at)
{
	return (uint32_t)(at & (VALUE_SEGMENT_BYTES - 1));
}

static struct value_block *block_of(const struct catalog *c, uint64_t at)
{
	uint32_t i = segment_of(at);

	if (i >= c->value_cap || !c->values[i])
		return NULL;
	return &c->values[i]->blocks[offset_of(at) / VALUE_BLOCK_BYTES];
}

/* Blocks are numbered through all segments. */
static uint64_t at_of_block(uint32_t block)
{
	return (uint64_t)block * VALUE_BLOCK_BYTES;
}

static uint32_t round_up(uint32_t len)
{
	return (len + VALUE_ALIGN - 1) & ~(uint32_t)(VALUE_ALIGN - 1);
}

static uint32_t free_block(const struct value_segment *s)
{
	for (uint32_t i = 0;; i++) {
		uint32_t n = (s->hint + i) % VALUE_BLOCKS;

		assert(i < VALUE_BLOCKS);
		if (!s->blocks[n].job)
			return s->index * VALUE_BLOCKS + n;
	}
}

void value_choose(const struct catalog *c, const struct job *j, uint32_t len, uint64_t *ret_at,
		  bool *ret_is_new)
{
	const struct list *l;
	uint32_t index = 0;

	*ret_is_new = false;
	if (j->block != NONE_32) {
		const struct value_block *b = block_of(c, at_of_block(j->block));

		*ret_at = at_of_block(j->block) + b->used;
		if (b->used + len <= VALUE_BLOCK_BYTES)
			return;
	}
	*ret_is_new = true;
	l = list_is_empty(&c->free_values) ? &c->empty_values : &c->free_values;
	if (!list_is_empty(l)) {
		*ret_at =
			at_of_block(free_block(container_of(l->next, struct value_segment, link)));
		return;
	}
	while (index < c->value_cap && c->values[index])
		index++;
	*ret_at = (uint64_t)index << VALUE_SEGMENT_SHIFT;
}

static int make_room(struct catalog *c, uint32_t index)
{
	uint32_t cap = c->value_cap ? c->value_cap : 4;
	struct value_segment **more;

	while (cap <= index)
		cap *= 2;
	if (cap == c->value_cap)
		return 0;
	more = node_resize(c->values, cap * sizeof(*more));
	if (!more)
		return -ENOMEM;
	memset(more + c->value_cap, 0, (cap - c->value_cap) * sizeof(*more));
	c->values = more;
	c->value_cap = cap;
	return 0;
}

static void become_empty(struct catalog *c, struct value_segment *s)
{
	list_remove(&s->link);
	list_insert(&c->empty_values, &s->link);
	c->empty_value_count++;
}

/* An empty one more or less changes nothing, so this needs no effect. */
static int segment_make(struct catalog *c, uint32_t index)
{
	struct value_segment *s;

	if (index < c->value_cap && c->values[index])
		return 0;
	s = node_alloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->bytes = c->ops->value_map(c, index);
	if (!s->bytes) {
		node_free(s);
		return -ENOSPC;
	}
	if (make_room(c, index) < 0) {
		c->ops->value_unmap(c, index, s->bytes);
		node_free(s);
		return -ENOMEM;
	}
	s->index = index;
	list_init(&s->link);
	become_empty(c, s);
	c->values[index] = s;
	return 0;
}

int value_reserve(struct catalog *c, uint64_t at, uint32_t len)
{
	if (len == 0 || len > INLINE_BYTES_MAX ||
	    offset_of(at) % VALUE_BLOCK_BYTES + len > VALUE_BLOCK_BYTES)
		return -EBADMSG;
	if (at >> VALUE_SEGMENT_SHIFT >= VALUE_SEGMENTS_MAX)
		return -ENOSPC;
	return segment_make(c, segment_of(at));
}

bool value_may_lie(const struct catalog *c, const struct job *j, uint64_t at)
{
	const struct value_block *b = block_of(c, at);

	if (at >> VALUE_SEGMENT_SHIFT >= VALUE_SEGMENTS_MAX)
		return false;
	return !b || !b->job || (b->job == j && offset_of(at) % VALUE_BLOCK_BYTES >= b->used);
}

void value_write(struct catalog *c, uint64_t at, struct slice bytes)
{
	struct value_block *b = block_of(c, at);
	uint8_t *to = c->values[segment_of(at)]->bytes + offset_of(at);
	/* Of a snapshot the first one of a block may lie anywhere in it. */
	size_t in_block = offset_of(at) % VALUE_BLOCK_BYTES;

	memcpy(to, bytes.ptr, bytes.len);
	if (!b->job)
		memset(to + bytes.len, 0, VALUE_BLOCK_BYTES - in_block - bytes.len);
}

const uint8_t *value_bytes(const struct catalog *c, uint64_t at)
{
	return c->values[segment_of(at)]->bytes + offset_of(at);
}

/* The block becomes the job's; nothing is booked. */
static void block_own(struct catalog *c, struct job *j, uint64_t at)
{
	struct value_segment *s = c->values[segment_of(at)];

	block_of(c, at)->job = j;
	if (s->used_count++ == 0) {
		list_remove(&s->link);
		list_insert(&c->free_values, &s->link);
		c->empty_value_count--;
	}
	s->hint = (offset_of(at) / VALUE_BLOCK_BYTES + 1) % VALUE_BLOCKS;
	if (s->used_count == VALUE_BLOCKS)
		list_remove(&s->link);
	j->block_count++;
	j->held_bytes += VALUE_BLOCK_BYTES;
}

static void block_take(struct catalog *c, struct job *j, uint64_t at, uint64_t at_ns)
{
	block_own(c, j, at);
	j->block = (uint32_t)(at / VALUE_BLOCK_BYTES);
	job_book(c, j, VALUE_BLOCK_BYTES, at_ns);
	account_book(&c->value_account, VALUE_BLOCK_BYTES, at_ns);
}

void value_claim(struct catalog *c, struct job *j, uint64_t at, uint32_t len, uint64_t at_ns)
{
	struct value_block *b = block_of(c, at);

	SNAPSHOT(job, j);
	if (!b->job)
		block_take(c, j, at, at_ns);
	b->live++;
	b->used = (uint16_t)round_up(offset_of(at) % VALUE_BLOCK_BYTES + len);
}

void value_release(struct catalog *c, struct job *j, uint64_t at, uint64_t at_ns)
{
	struct value_block *b = block_of(c, at);
	struct value_segment *s = c->values[segment_of(at)];

	if (--b->live > 0)
		return;
	SNAPSHOT(job, j);
	*b = (struct value_block){ 0 };
	if (s->used_count-- == VALUE_BLOCKS)
		list_insert(&c->free_values, &s->link);
	if (s->used_count == 0)
		become_empty(c, s);
	if (j->block == at / VALUE_BLOCK_BYTES)
		j->block = NONE_32;
	j->block_count--;
	j->held_bytes -= VALUE_BLOCK_BYTES;
	if (j->state == JOB_LIVING)
		account_book(&c->value_account, -(int64_t)VALUE_BLOCK_BYTES, at_ns);
	job_book(c, j, -(int64_t)VALUE_BLOCK_BYTES, at_ns);
}

int value_restore_block(struct catalog *c, struct job *j, uint32_t block, uint32_t used)
{
	uint64_t at = at_of_block(block);
	int r = used == 0 || used > VALUE_BLOCK_BYTES ? -EBADMSG : value_reserve(c, at, 1);

	if (r < 0)
		return r;
	if (block_of(c, at)->job)
		return -EBADMSG;
	block_own(c, j, at);
	block_of(c, at)->used = (uint16_t)used;
	j->block = block;
	return 0;
}

int value_restore(struct catalog *c, struct job *j, uint64_t at, uint32_t len)
{
	struct value_block *b;
	uint32_t end;
	int r = value_reserve(c, at, len);

	if (r < 0)
		return r;
	b = block_of(c, at);
	if (b->job && b->job != j)
		return -EBADMSG;
	if (!b->job)
		block_own(c, j, at);
	b->live++;
	end = round_up(offset_of(at) % VALUE_BLOCK_BYTES + len);
	if (b->used < end)
		b->used = (uint16_t)end;
	return 0;
}

static void segment_free(struct catalog *c, struct value_segment *s)
{
	c->values[s->index] = NULL;
	list_remove(&s->link);
	c->ops->value_unmap(c, s->index, s->bytes);
	node_free(s);
}

bool values_are_tidy(const struct catalog *c)
{
	unsigned kept = list_is_empty(&c->living) ? 0 : 1;

	return c->empty_value_count <= kept;
}

void values_tidy(struct catalog *c)
{
	for (int i = 0; i < TICK_STEP && !values_are_tidy(c); i++) {
		segment_free(c, container_of(c->empty_values.next, struct value_segment, link));
		c->empty_value_count--;
	}
}

void values_fini(struct catalog *c)
{
	for (uint32_t i = 0; i < c->value_cap; i++)
		if (c->values[i])
			segment_free(c, c->values[i]);
	c->values = node_free(c->values);
	c->value_cap = 0;
}
