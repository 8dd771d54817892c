/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attempt: what is remembered of versions that are gone. A repeat of the commit that
 * made one, or of the remove that ended it, is answered the same. Attempts of versions
 * that are there stand in their entries. A read that was confirmed is remembered likewise, so
 * that it is not counted again if the answer to that was lost.
 */
#include "base/node.h"
#include "meta/catalog_priv.h"

static uint64_t hash_of(const struct catalog *c, uint64_t path, uint64_t attempt)
{
	uint64_t key[2] = { path, attempt };

	return hash_64(key, sizeof(key), c->seed);
}

void attempt_expect(const struct catalog *c, const struct job *j, uint64_t path, uint64_t attempt)
{
	htable_expect(&c->attempts, hash_of(c, path, attempt));
	if (j->attempt_count >= ATTEMPTS_PER_JOB)
		__builtin_prefetch(j->attempts.next, 1); /* it makes room for the next one */
}

struct attempt *attempt_by_put(const struct catalog *c, uint64_t path, uint64_t attempt)
{
	struct hlink *l = htable_first(&c->attempts, hash_of(c, path, attempt));

	for (; l; l = htable_next(l)) {
		struct attempt *a = container_of(l, struct attempt, by_put);

		if (a->put == attempt)
			return a;
	}
	return NULL;
}

struct attempt *attempt_by_end(const struct catalog *c, uint64_t path, uint64_t attempt)
{
	struct hlink *l = htable_first(&c->ends, hash_of(c, path, attempt));

	for (; l; l = htable_next(l)) {
		struct attempt *a = container_of(l, struct attempt, by_end);

		if (!a->is_tombstone && a->what != GONE_READ && a->end == attempt)
			return a;
	}
	return NULL;
}

struct attempt *attempt_by_read(const struct catalog *c, uint64_t path, uint64_t read,
				uint64_t version)
{
	struct hlink *l = htable_first(&c->ends, hash_of(c, path, read));

	for (; l; l = htable_next(l)) {
		struct attempt *a = container_of(l, struct attempt, by_end);

		if (a->what == GONE_READ && a->version == version && a->end == read)
			return a;
	}
	return NULL;
}

struct attempt *tombstone_find(const struct catalog *c, uint64_t path)
{
	struct hlink *l = htable_first(&c->ends, hash_of(c, path, 0));

	for (; l; l = htable_next(l)) {
		struct attempt *a = container_of(l, struct attempt, by_end);

		if (a->is_tombstone)
			return a;
	}
	return NULL;
}

void tombstone_forget(struct catalog *c, uint64_t path)
{
	struct attempt *a = tombstone_find(c, path);

	if (!a)
		return;
	SNAPSHOT(tombstone, a);
	htable_remove(&c->ends, &a->by_end);
	a->is_tombstone = false;
}

/* A block has room for as many as there are. */
#define BLOCK_MIN 4
#define BLOCK_MAX 128

struct attempt *attempt_new(struct job *j)
{
	struct attempt_block *b = j->attempt_block;
	struct attempt *a;

	if (!b || b->used == b->cap) {
		uint32_t cap = j->attempt_count < BLOCK_MIN ? BLOCK_MIN : j->attempt_count;

		cap = cap > BLOCK_MAX ? BLOCK_MAX : cap;
		b = node_alloc(sizeof(*b) + cap * sizeof(*a));
		if (!b)
			return NULL;
		b->cap = (uint16_t)cap;
		j->attempt_block = b;
	}
	a = &b->attempts[b->used++];
	a->nth = b->used;
	b->live++;
	return a;
}

void attempt_free(struct job *j, struct attempt *a)
{
	struct attempt_block *b;

	if (a->nth == 0) {
		node_free(a);
		return;
	}
	b = container_of(a - (a->nth - 1), struct attempt_block, attempts[0]);
	if (--b->live > 0)
		return;
	if (j->attempt_block == b)
		j->attempt_block = NULL;
	node_free(b);
}

static void drop(struct catalog *c, struct job *j, struct attempt *a)
{
	SNAPSHOT(attempt, j, a);
	SNAPSHOT(leave, &a->link);
	list_remove(&a->link);
	if (a->has_put)
		htable_remove(&c->attempts, &a->by_put);
	if (a->has_end || a->is_tombstone)
		htable_remove(&c->ends, &a->by_end);
	j->attempt_count--;
	j->forgotten_count++;
	attempt_free(j, a);
}

void attempt_drop_first(struct catalog *c, struct job *j)
{
	drop(c, j, container_of(j->attempts.next, struct attempt, link));
}

void attempt_add(struct catalog *c, struct job *j, struct attempt *a, uint64_t path)
{
	a->seen = c->snapshot.round;
	if (a->is_tombstone)
		a->has_end = false;
	if (a->has_put)
		htable_add(&c->attempts, &a->by_put, hash_of(c, path, a->put));
	if (a->has_end || a->is_tombstone) {
		tombstone_forget(c, path);
		htable_add(&c->ends, &a->by_end, hash_of(c, path, a->end));
	}
	list_insert(&j->attempts, &a->link);
	if (++j->attempt_count > ATTEMPTS_PER_JOB)
		attempt_drop_first(c, j);
}

void attempt_restore(struct catalog *c, struct job *j, struct attempt *a, uint64_t put_hash,
		     uint64_t end_hash)
{
	if (a->has_put)
		htable_add(&c->attempts, &a->by_put, put_hash);
	if (a->has_end || a->is_tombstone)
		htable_add(&c->ends, &a->by_end, end_hash);
	list_insert(&j->attempts, &a->link);
	j->attempt_count++;
}

uint64_t job_changes(const struct job *j)
{
	return j->forgotten_count + j->attempt_count;
}

/*
 * Records are numbered by the changes that made them, and dropped in this order. What an
 * attempt did has its record, if it has one, by a change that came after it; so after it was
 * first sent, and so after its sender had heard of `since` changes. While no record with a
 * number from there on was dropped, an attempt that is not found has never done anything.
 *
 * No clock is in this, and no time on the way: a message that comes late, twice, or out of the
 * socket of a process that was stopped says the same number as it did when it was sent.
 */
int attempt_check(const struct job *j, uint64_t attempt, uint64_t since, struct outcome *out)
{
	if (!attempt || since >= j->forgotten_count)
		return 0;
	return refuse(out, -ESTALE,
		      "the attempt may be older than the last %u changes, which are all that the "
		      "job remembers",
		      ATTEMPTS_PER_JOB);
}
