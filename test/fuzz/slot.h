/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slot: a catalog for fuzzing, with what it must be given: a log that is kept, and
 * memory for values that no input has to wait for.
 */
#pragma once

#include <errno.h>

#include "arena.h"
#include "fields.h"
#include "meta/catalog_priv.h"

#define SLOT      7
#define STORE     0x51
#define SECOND    1000000000ull
#define LOG_BYTES (1u << 20)

#define VALUE_MAPS 4
static uint8_t slot_values[VALUE_MAPS][VALUE_SEGMENT_BYTES], slot_log_bytes[LOG_BYTES];

struct slot {
	struct catalog *c;
	uint64_t now;
	struct outcome out;
	size_t log_len;
};

static void slot_log(struct catalog *c, const struct effect *e)
{
	struct slot *t = catalog_owner(c);
	struct wcur w = wcur_make(slot_log_bytes + t->log_len, LOG_BYTES - t->log_len);

	effect_put(&w, e);
	REQUIRE(wcur_finish(&w) > 0 && wcur_finish(&w) <= EFFECT_BYTES_MAX);
	t->log_len += (size_t)wcur_finish(&w);
}

static void *slot_map(struct catalog *c, uint32_t index)
{
	(void)c;
	return index < VALUE_MAPS ? slot_values[index] : NULL;
}

static void slot_unmap(struct catalog *c, uint32_t index, void *bytes)
{
	(void)c, (void)index, (void)bytes;
}

static const struct catalog_ops SLOT_OPS = { .log = slot_log,
					     .value_map = slot_map,
					     .value_unmap = slot_unmap };

/* Before the first one is opened, and after the last one was freed. */
static inline void slots_begin(void)
{
	static struct node node;

	arena_begin(&node);
	node_current = &node;
}

static inline void slots_end(void)
{
	arena_end();
}

static inline void slot_open(struct slot *t)
{
	*t = (struct slot){ .now = 1000 * SECOND };
	t->c = catalog_new(SLOT, 0x5eed, &SLOT_OPS, t);
	REQUIRE(t->c);
}

static inline void slot_must_hold(const struct catalog *c)
{
	const char *broken = catalog_check(c);

	if (!broken)
		return;
	fprintf(stderr, "does not hold: %s\n%s", broken, catalog_dump(c));
	abort();
}

/* One of everything that a slot may have; its ids are learned. */
static inline void slot_fill(struct slot *t, struct fields *f)
{
	static uint8_t payload[LIST_BYTES];
	const struct job_create_req job = { .lease_ms = 60000, .name = words("job") };
	const uint64_t id = (uint64_t)SLOT << ID_SLOT_SHIFT | 1;
	struct commit_req put = { .job = id, .seed = 1, .attempt_hi = 1 };
	struct lease_req lease = {
		.job = id, .session = 5, .request = 6, .need = 65536, .size = 65536
	};
	const struct grant grants[2] = {
		{ (uint64_t)STORE << SEGMENT_POOL_SHIFT, 1, 65536, 99, STORE },
		{ ((uint64_t)STORE << SEGMENT_POOL_SHIFT) + 1, 1, 65536, 99, STORE },
	};
	struct extent x = { .segment = grants[0].segment, .generation = 1, .len = 4096, .seed = 2 };
	struct wcur w = wcur_make(payload, sizeof(payload));
	struct lookup_req look = { .job = id, .session = 5, .read_lo = 9, .path = words("a/x") };
	struct open_req open = { .job = id, .session = 5, .request = 7 };
	struct extend_req extend = { .job = id, .session = 5, .extent_count = 1 };

	REQUIRE(catalog_job_create(t->c, &job, t->now, &t->out) == 0);
	REQUIRE(t->out.rep.job_create.job == id);
	grant_put(&w, &grants[0]);
	grant_put(&w, &grants[1]);
	REQUIRE(catalog_grant(t->c, &lease, t->now, (struct slice){ payload, 2 * GRANT_SIZE },
			      t->now, &t->out) == 0);
	REQUIRE(catalog_store_known(t->c, STORE, words("tcp://store:1"), t->now, &t->out) == 0);
	put.path = words("a/x");
	put.len = 5;
	put.crc = crc_more(crc_begin(put.seed), "value", 5);
	put.reads = 3;
	put.attempt_lo = 1;
	REQUIRE(catalog_commit(t->c, &put, words("value"), t->now, &t->out) == 0);
	LEARN(COMMIT_REP, f, &t->out.rep.commit)
	w = wcur_make(payload, sizeof(payload));
	extent_put(&w, &x);
	put = (struct commit_req){
		.job = id, .len = 4096, .extent_count = 1, .path = words("b/1")
	};
	put.session = 5;
	put.ttl_ms = 1000;
	put.attempt_hi = 1;
	put.attempt_lo = 2;
	REQUIRE(catalog_commit(t->c, &put, (struct slice){ payload, EXTENT_SIZE }, t->now,
			       &t->out) == 0);
	LEARN(COMMIT_REP, f, &t->out.rep.commit)
	w = wcur_make(payload, sizeof(payload));
	REQUIRE(catalog_lookup(t->c, &look, t->now, &w, &t->out) == 0);
	LEARN(LOOKUP_REP, f, &t->out.rep.lookup)
	REQUIRE(catalog_open(t->c, &open, t->now, &t->out) == 0);
	LEARN(OPEN_REP, f, &t->out.rep.open)
	extend.open = t->out.rep.open.open;
	x.offset = 8192;
	w = wcur_make(payload, sizeof(payload));
	extent_put(&w, &x);
	REQUIRE(catalog_extend(t->c, &extend, (struct slice){ payload, EXTENT_SIZE }, t->now,
			       &t->out) == 0);
	LEARN(LEASE_REQ, f, &lease)
	LEARN(GRANT, f, &grants[0])
	LEARN(GRANT, f, &grants[1])
	LEARN(COMMIT_REQ, f, &put)
	LEARN(LOOKUP_REQ, f, &look)
}

/* What is due is done, as far as it goes. */
static inline void slot_tick(struct slot *t)
{
	const struct moment at = { .now_ns = t->now, .read_ns = t->now };

	for (int i = 0; i < 64 && catalog_due(t->c) <= t->now; i++)
		REQUIRE(catalog_tick(t->c, &at, &t->out) == 0);
}
