/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: nobody reads bytes that are not those of the entry it found, whatever becomes of the
 * entry, the mapping and the proxy meanwhile; and after an acknowledgement nobody begins to
 * read what was replaced. Method: index, pins and views as they are, through every interleaving of
 * two functions and a proxy that may be killed, in memory as C11 has it (checker.h).
 *
 * The bytes of a mapping are one word; an object's bytes are its version.
 */
#include "base/sanitizer.h"
#include "../unit/test.h"

#include <errno.h>
#include <inttypes.h>
#include <stdalign.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/node.h"
#include "checker.h"
#include "shm/index_priv.h"
#include "shm/shared.h"
#include "shm/view.h"

/* States of millions of steps: with every access checked they take minutes, and the others have the
 * same code. */
#define TOO_MANY_FOR_ASAN ON_ASAN(skip())

#define MAPPINGS 4
#define ARENA    4096
#define PROXY    2
#define NEXT     3 /* the proxy that comes after it */

/* What functions and proxies share. */
static struct {
	alignas(128) uint8_t head[sizeof(struct index_head) + MAPPINGS * sizeof(uint32_t)];
	alignas(128) uint8_t table[INDEX_TABLE_BYTES_MIN];
	alignas(128) uint8_t larger_table[2 * INDEX_TABLE_BYTES_MIN];
	alignas(128) uint8_t next_table[INDEX_TABLE_BYTES_MIN]; /* of the proxy that comes after */
	_Atomic uint32_t pins[2][MAPPINGS];
	alignas(8) uint64_t bytes[MAPPINGS];
} shared;

/* A proxy's own; the other one begins with what setup() has left, too. */
static struct private_memory {
	struct index_writer writer;
	size_t used;
	alignas(16) uint8_t arena[ARENA];
} own, image;

static struct viewer viewers[2];
static struct viewer next_viewers[2]; /* with the table of the proxy that comes after */
static struct mapping mappings[MAPPINGS], *mapped[MAPPINGS];
static const struct pins PINS[2] = { { shared.pins[0], MAPPINGS }, { shared.pins[1], MAPPINGS } };

/* All of them want the same place. */
static const struct hash_128 A = { .hi = 1, .lo = 7 }, B = { .hi = 3, .lo = 9 };

/* That it was there at all: a search in which nothing happens proves nothing. */
static bool has_seen[4], has_reclaimed, was_revoked;

static void *arena_alloc(struct node *n, size_t size)
{
	size_t at = own.used;

	assert_true(at + size <= ARENA);
	own.used += (size + 15) & ~(size_t)15;
	memset(own.arena + at, 0, size);
	return own.arena + at;
}

static void *arena_resize(struct node *n, void *p, size_t size)
{
	void *fresh = arena_alloc(n, size);

	if (p)
		memmove(fresh, p, size); /* and something behind it, which is still the arena's */
	return fresh;
}

static void arena_free(struct node *n, void *p)
{
}

static struct node node = { .alloc = arena_alloc, .resize = arena_resize, .free = arena_free };

/* The proxy. */

static void put(struct hash_128 hash, uint32_t mapping, uint64_t version)
{
	struct index_item item = { .mapping = mapping, .len = 8, .version = version };

	(void)index_writer_put(&own.writer, hash, &item);
}

static void reclaim_and_use(uint32_t mapping, uint64_t version)
{
	for (unsigned i = 0; i < 2; i++) {
		if (!pins_reclaim(&own.writer, mapping, PINS, 2))
			continue;
		has_reclaimed = true;
		checked_bytes_write(&shared.bytes[mapping], version);
		put(A, mapping, version);
		return;
	}
}

static void setup(void)
{
	memset(&shared, 0, sizeof(shared));
	memset(&own, 0, sizeof(own));
	memset(has_seen, 0, sizeof(has_seen));
	has_reclaimed = was_revoked = false;
	node_current = &node;
	(void)index_writer_open(&own.writer, shared.head, sizeof(shared.head), shared.table,
				sizeof(shared.table), 1);
	index_writer_lease(&own.writer, 1);
	for (unsigned i = 0; i < MAPPINGS; i++) {
		mappings[i] = (struct mapping){ .ptr = (uint8_t *)&shared.bytes[i], .len = 8 };
		mapped[i] = &mappings[i];
		shared.bytes[i] = i + 1;
	}
	for (unsigned i = 0; i < 2; i++) {
		viewers[i] = (struct viewer){ .pins = PINS[i],
					      .mappings = mapped,
					      .mapping_count = MAPPINGS };
		(void)index_reader_open(&viewers[i].index, shared.head, sizeof(shared.head));
		(void)index_reader_table(&viewers[i].index, shared.table, sizeof(shared.table));
	}
	memcpy(next_viewers, viewers, sizeof(viewers));
	image = own;
}

static void setup_a(void)
{
	setup();
	put(A, 0, 1);
	image = own;
}

static void restore(void)
{
	own = image;
}

/* A function. */

static void get(unsigned self, struct hash_128 hash)
{
	uint64_t acknowledged = checked_acknowledged();
	const struct viewer *v = acknowledged < 2 ? &viewers[self] : &next_viewers[self];
	struct view view;

	if (view_get(v, hash, checked_clock(), &view) < 0)
		return;
	if (view.item.version < acknowledged)
		checked_fail("an old version, after the new one was acknowledged");
	if (view.ptr != (uint8_t *)&shared.bytes[view.item.mapping])
		checked_fail("a view of another mapping");
	if (checked_bytes_read((void *)view.ptr) != view.item.version)
		checked_fail("bytes of another object");
	if (checked_bytes_read((void *)view.ptr) != view.item.version)
		checked_fail("bytes that change");
	if (view_release(v, &view) != 0)
		checked_fail("a view was revoked, and nobody did it");
	has_seen[view.item.version] = true;
}

static void gets_a(unsigned self)
{
	get(self, A);
}

static void gets_b(unsigned self)
{
	get(self, B);
}

static void explore(const struct scenario *s)
{
	struct verdict v;

	checker_explore(s, &v);
	node_current = NULL;
	printf("%s: %" PRIu64 " states, %" PRIu64 " steps\n", s->name, v.states, v.steps);
	assert_null(v.why);
}

/* The object is replaced, and its mapping used for the next one. */
static void replaces(unsigned self)
{
	index_writer_drop(&own.writer, A);
	checked_acknowledge(2);
	reclaim_and_use(0, 2);
}

static void a_mapping_is_used_again_when_nobody_reads_it(void **state)
{
	static const struct scenario S = {
		.name = "reclaim",
		.setup = setup_a,
		.restore = restore,
		.threads = { { "function 1", gets_a, 2 },
			     { "function 2", gets_a, 1 },
			     { "proxy", replaces, 1 } },
	};

	explore(&S);
	assert_true(has_seen[1] && has_seen[2] && has_reclaimed);
}

/* Another object takes the place of the entry, and then the first one comes back elsewhere. */
static void uses_an_entry_again(unsigned self)
{
	put(B, 1, 2);
	put(A, 2, 3);
}

static void an_entry_that_is_used_again_is_one_or_the_other(void **state)
{
	static const struct scenario S = {
		.name = "entry",
		.setup = setup_a,
		.restore = restore,
		.threads = { { "function 1", gets_a, 1 },
			     { "function 2", gets_b, 1 },
			     { "proxy", uses_an_entry_again, 1 } },
	};

	explore(&S);
	assert_true(has_seen[1] && has_seen[2] && has_seen[3]);
}

/* It was never written before; what is in it comes and goes. */
static void puts_and_drops(unsigned self)
{
	put(A, 0, 1);
	index_writer_drop(&own.writer, A);
	put(A, 1, 2);
}

static void an_entry_is_whole_from_its_first_moment(void **state)
{
	static const struct scenario S = {
		.name = "first",
		.setup = setup,
		.restore = restore,
		.threads = { { "function 1", gets_a, 1 },
			     { "function 2", gets_a, 1 },
			     { "proxy", puts_and_drops, 1 } },
	};

	explore(&S);
	assert_true(has_seen[1] && has_seen[2]);
}

/* Whoever hears of an acknowledgement has heard of the next table, too. */
static void setup_takeover(void)
{
	setup_a();
	for (unsigned i = 0; i < 2; i++) {
		struct index_reader *r = &next_viewers[i].index;

		r->entries = (struct index_entry *)shared.next_table + 1;
		r->number++;
	}
}

/* Pins are as they were; the table is a new one. */
static void takes_over(unsigned self)
{
	(void)index_writer_open(&own.writer, shared.head, sizeof(shared.head), shared.next_table,
				sizeof(shared.next_table), 1);
	index_writer_lease(&own.writer, 1);
	checked_acknowledge(2);
	reclaim_and_use(0, 3);
}

static void a_proxy_may_be_killed_at_any_step(void **state)
{
	TOO_MANY_FOR_ASAN;
	static const struct scenario S = {
		.name = "kill",
		.setup = setup_takeover,
		.restore = restore,
		.threads = { { "function 1", gets_a, 1 },
			     { "function 2", gets_a, 1 },
			     { "proxy", replaces, 1 },
			     { "successor", takes_over, 1 } },
		.killed = PROXY,
		.successor = NEXT,
	};

	explore(&S);
	assert_true(has_seen[1] && has_seen[2] && has_seen[3] && has_reclaimed);
}

/* It was stopped; what it was told meanwhile comes before the lease that follows. */
static void hears_late(unsigned self)
{
	index_writer_drop(&own.writer, A);
	checked_acknowledge(2);
	index_writer_lease(&own.writer, 3);
}

static void a_lease_ends_and_what_comes_after_it_knows_more(void **state)
{
	static const struct scenario S = {
		.name = "lease",
		.setup = setup_a,
		.restore = restore,
		.threads = { { "function 1", gets_a, 2 },
			     { "function 2", gets_a, 1 },
			     { "proxy", hears_late, 1 } },
		.time_max = 2,
		.lapse = 1,
	};

	explore(&S);
	assert_true(has_seen[1]);
}

/* A larger table; the old one is not written any more. */
static void grows(unsigned self)
{
	(void)index_writer_grow(&own.writer, shared.larger_table, sizeof(shared.larger_table));
	(void)index_writer_copy(&own.writer);
	replaces(self);
}

/* The second function has the larger table before it holds. */
static void setup_growth(void)
{
	struct index_reader *r = &viewers[1].index;

	setup_a();
	r->entries = (struct index_entry *)shared.larger_table + 1;
	r->count = index_entry_count(sizeof(shared.larger_table));
	r->number++;
	memcpy(next_viewers, viewers, sizeof(viewers));
}

static void a_table_is_replaced_by_a_larger_one(void **state)
{
	TOO_MANY_FOR_ASAN;
	static const struct scenario S = {
		.name = "growth",
		.setup = setup_growth,
		.restore = restore,
		.threads = { { "function 1", gets_a, 1 },
			     { "function 2", gets_a, 1 },
			     { "proxy", grows, 1 },
			     { "successor", takes_over, 1 } },
		.killed = PROXY,
		.successor = NEXT,
	};

	explore(&S);
	assert_true(has_seen[1] && has_seen[2] && has_reclaimed);
}

/* The job ended: nobody waits for views. */
static void revokes(unsigned self)
{
	(void)index_writer_drop_mapping(&own.writer, 0);
	index_writer_end_life(&own.writer, 0);
	checked_store(&shared.bytes[0], 0, 8, memory_order_relaxed);
}

static void gets_what_may_be_revoked(unsigned self)
{
	struct view view;
	uint64_t bytes;

	if (view_get(&viewers[self], A, checked_clock(), &view) < 0)
		return;
	bytes = checked_load(view.ptr, 8, memory_order_relaxed);
	if (view_release(&viewers[self], &view) == 0) {
		has_seen[1] = true;
		if (bytes != 1)
			checked_fail("bytes that were taken away, and nobody said so");
	} else {
		was_revoked = true;
	}
}

static void a_revoked_view_says_so(void **state)
{
	static const struct scenario S = {
		.name = "revoke",
		.setup = setup_a,
		.restore = restore,
		.threads = { { "function 1", gets_what_may_be_revoked, 2 },
			     { "function 2", gets_what_may_be_revoked, 1 },
			     { "proxy", revokes, 1 } },
	};

	explore(&S);
	assert_true(has_seen[1] && was_revoked);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mapping_is_used_again_when_nobody_reads_it),
		cmocka_unit_test(an_entry_that_is_used_again_is_one_or_the_other),
		cmocka_unit_test(an_entry_is_whole_from_its_first_moment),
		cmocka_unit_test(a_proxy_may_be_killed_at_any_step),
		cmocka_unit_test(a_lease_ends_and_what_comes_after_it_knows_more),
		cmocka_unit_test(a_table_is_replaced_by_a_larger_one),
		cmocka_unit_test(a_revoked_view_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
