/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slot: a catalog for tests: with its log, with a second catalog that the log is
 * replayed into, with the memory of its values, and with a store that takes its duties
 * and books bytes as the real one does.
 */
#pragma once

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/node.h"
#include "meta/catalog.h"
#include "meta/catalog_priv.h"
#include "meta/restore.h"

#define SLOT       7
#define STORE      0x51
#define SECOND     1000000000ull
#define VALUE_MAPS 64

struct stored {
	bool is_used;
	uint64_t id;
	uint32_t generation, size, booked;
	bool is_sealed;
};

struct slot_test {
	struct catalog *c, *replica;
	uint64_t now;
	struct outcome out;
	uint8_t *log;
	size_t log_len, log_cap, replayed;
	uint64_t effect_count, effects_max; /* the log has no room for more; 0: it has */
	void *values[VALUE_MAPS];
	uint8_t payload[LIST_BYTES];
	struct wcur w; /* of the last payload */

	struct stored *stored;
	size_t stored_count;
	struct account account; /* of the store */
	uint64_t lost_bytes;

	uint8_t *images;                            /* of the running or last snapshot */
	size_t images_len, images_cap, snapshot_at; /* where it is in the log */
	uint64_t image_count;
};

static inline struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

static void slot_log(struct catalog *c, const struct effect *e)
{
	struct slot_test *t = catalog_owner(c);
	struct wcur w;

	if (t->log_cap - t->log_len < EFFECT_BYTES_MAX) {
		t->log_cap = 2 * t->log_cap + EFFECT_BYTES_MAX;
		t->log = realloc(t->log, t->log_cap);
	}
	w = wcur_make(t->log + t->log_len, EFFECT_BYTES_MAX);
	effect_put(&w, e);
	if (wcur_finish(&w) < 0)
		abort();
	t->log_len += (size_t)wcur_finish(&w);
	t->effect_count++;
}

static int slot_room(struct catalog *c, bool is_own)
{
	const struct slot_test *t = catalog_owner(c);

	(void)is_own;
	return t->effects_max && t->effect_count >= t->effects_max ? -ENOBUFS : 0;
}

static void *slot_map(struct catalog *c, uint32_t index)
{
	struct slot_test *t = catalog_owner(c);

	if (index >= VALUE_MAPS)
		return NULL;
	if (!t->values[index])
		t->values[index] = calloc(1, VALUE_SEGMENT_BYTES);
	return t->values[index];
}

static void slot_unmap(struct catalog *c, uint32_t index, void *bytes)
{
	(void)c, (void)index, (void)bytes;
}

static const struct catalog_ops SLOT_OPS = {
	.log = slot_log, .room = slot_room, .value_map = slot_map, .value_unmap = slot_unmap
};

static inline void slot_open(struct slot_test *t)
{
	memset(t, 0, sizeof(*t));
	t->now = 1000 * SECOND;
	t->c = catalog_new(SLOT, 0x5eed, &SLOT_OPS, t);
	t->replica = catalog_new(SLOT, 0x5eed, &SLOT_OPS, t);
	if (!t->c || !t->replica)
		abort();
}

static inline void slot_close(struct slot_test *t)
{
	catalog_free(t->c);
	catalog_free(t->replica);
	for (int i = 0; i < VALUE_MAPS; i++)
		free(t->values[i]);
	free(t->log);
	free(t->stored);
	free(t->images);
}

/* NULL, or what differs. */
static inline const char *slot_compare(const struct catalog *live, const struct catalog *other)
{
	const char *differs = NULL;
	char *a = catalog_dump(live), *b = catalog_dump(other);

	if (!a || !b) {
		differs = "no memory to compare with";
	} else if (strcmp(a, b) != 0) {
		size_t line = 0;

		for (size_t i = 0; a[i] == b[i]; i++)
			if (a[i] == '\n')
				line = i + 1;
		printf("live:   %.*s\nother:  %.*s\n", (int)strcspn(a + line, "\n"), a + line,
		       (int)strcspn(b + line, "\n"), b + line);
		differs = "the other catalog differs";
	}
	node_free(a);
	node_free(b);
	return differs;
}

/* What was logged since the last time, into the second catalog. NULL, or what differs. */
static inline const char *slot_replay(struct slot_test *t)
{
	struct rcur c = rcur_make(t->log + t->replayed, t->log_len - t->replayed);

	while (c.p < c.end)
		if (catalog_replay(t->replica, &c) < 0)
			return "an effect does not fit";
	t->replayed = t->log_len;
	return slot_compare(t->c, t->replica);
}

/* Snapshots. */

static void slot_image(void *owner, const struct image *im)
{
	struct slot_test *t = owner;
	struct wcur w;

	if (t->images_cap - t->images_len < IMAGE_BYTES_MAX) {
		t->images_cap = 2 * t->images_cap + IMAGE_BYTES_MAX;
		t->images = realloc(t->images, t->images_cap);
	}
	w = wcur_make(t->images + t->images_len, IMAGE_BYTES_MAX);
	image_put(&w, im);
	if (wcur_finish(&w) < 0)
		abort();
	t->images_len += (size_t)wcur_finish(&w);
	t->image_count++;
}

static inline void slot_snapshot_begin(struct slot_test *t)
{
	t->images_len = 0;
	t->image_count = 0;
	t->snapshot_at = t->log_len;
	catalog_snapshot_begin(t->c, t->effect_count, slot_image, t);
}

/* The last snapshot and what was logged since, in another catalog. NULL, or what differs. */
static inline const char *slot_restore(struct slot_test *t)
{
	struct catalog *c = catalog_new(SLOT, 0x5eed, &SLOT_OPS, t);
	struct rcur images = rcur_make(t->images, t->images_len);
	struct rcur log = rcur_make(t->log + t->snapshot_at, t->log_len - t->snapshot_at);
	const char *differs = NULL;
	struct restore r;

	if (restore_begin(&r, c) < 0)
		abort();
	while (images.p < images.end && !differs)
		if (restore_next(&r, &images) < 0)
			differs = "an image does not fit";
	if (!differs && !r.is_whole)
		differs = "the last image is missing";
	restore_end(&r);
	while (log.p < log.end && !differs)
		if (catalog_replay(c, &log) < 0)
			differs = "an effect does not fit what was restored";
	if (!differs)
		differs = slot_compare(t->c, c);
	if (!differs)
		differs = catalog_check(c);
	catalog_free(c);
	return differs;
}

static inline struct wcur *slot_payload(struct slot_test *t)
{
	t->w = wcur_make(t->payload, sizeof(t->payload));
	return &t->w;
}

static inline struct slice slot_got(const struct slot_test *t)
{
	return (struct slice){ t->payload, (size_t)(t->w.p - t->payload) };
}

static inline uint64_t slot_job(struct slot_test *t, const char *name, uint64_t quota)
{
	struct job_create_req req = { .lease_ms = 60000, .quota_dram = quota, .name = text(name) };

	if (catalog_job_create(t->c, &req, t->now, &t->out) < 0)
		abort();
	return t->out.rep.job_create.job;
}

/* A commit of a small value with what `req` says. */
static inline int slot_put(struct slot_test *t, struct commit_req req, const char *path,
			   const char *value)
{
	struct slice v = text(value);

	req.path = text(path);
	req.len = v.len;
	req.seed = 42;
	req.crc = crc_more(crc_begin(req.seed), v.ptr, v.len);
	return catalog_commit(t->c, &req, v, t->now, &t->out);
}

static inline int slot_look(struct slot_test *t, struct lookup_req req, const char *path)
{
	req.path = text(path);
	return catalog_lookup(t->c, &req, t->now, slot_payload(t), &t->out);
}

/* The store. */

static inline struct stored *stored_find(struct slot_test *t, uint64_t id, uint32_t generation)
{
	for (size_t i = 0; i < t->stored_count; i++)
		if (t->stored[i].is_used && t->stored[i].id == id &&
		    t->stored[i].generation == generation)
			return &t->stored[i];
	return NULL;
}

/* Grants a segment, as the answer to a SEGMENT. */
static inline struct grant stored_grant(struct slot_test *t, uint32_t size)
{
	size_t i = 0;

	while (i < t->stored_count && t->stored[i].is_used)
		i++;
	if (i == t->stored_count) {
		t->stored = realloc(t->stored, ++t->stored_count * sizeof(*t->stored));
		t->stored[i] = (struct stored){ .id = (uint64_t)STORE << 20 | i };
	}
	t->stored[i].is_used = true;
	t->stored[i].is_sealed = false;
	t->stored[i].generation++;
	t->stored[i].size = t->stored[i].booked = size;
	account_book(&t->account, size, t->now);
	return (struct grant){ .segment = t->stored[i].id,
			       .generation = t->stored[i].generation,
			       .size = size,
			       .key = 99,
			       .store = STORE };
}

/* LEASE, SEGMENT and its answer. 0 and the number of grants in out.rep.lease. */
static inline int slot_lease(struct slot_test *t, uint64_t job, uint64_t session, uint64_t request,
			     uint64_t need, uint32_t size, struct grant *ret)
{
	struct lease_req req = {
		.job = job, .session = session, .request = request, .need = need, .size = size
	};
	int r = catalog_lease(t->c, &req, SEGMENT_BYTES_MAX, t->now, slot_payload(t), &t->out);
	uint64_t bytes = t->out.ask.bytes, left = need;
	uint8_t grants[GRANTS_BYTES];
	struct wcur w = wcur_make(grants, sizeof(grants));
	struct rcur c;
	uint16_t count = 0;

	if (r < 0)
		return r;
	if (t->out.ask.is_needed) {
		size = t->out.ask.size;
		while (count < LEASE_SEGMENTS_MAX && (count == 0 || left > 0)) {
			struct grant g = stored_grant(
				t, count > 0 && left < size ? segment_size_for(left) : size);

			grant_put(&w, &g);
			left -= left < g.size ? left : g.size;
			ret[count++] = g;
		}
		catalog_ask_over(t->c, job, bytes);
		return catalog_grant(t->c, &req, t->now,
				     (struct slice){ grants, (size_t)(w.p - grants) }, t->now,
				     &t->out);
	}
	c = rcur_make(t->payload, (size_t)(t->w.p - t->payload));
	for (unsigned i = 0; i < t->out.rep.lease.count; i++)
		grant_get(&c, &ret[i]);
	return 0;
}

/* What the store does with one duty. */
static inline int stored_take(struct slot_test *t, const struct duty *d)
{
	struct stored *s = stored_find(t, d->segment, d->generation);
	uint32_t booked;

	if (!s)
		return d->kind == DUTY_FREE ? 0 : -ESTALE;
	switch (d->kind) {
	case DUTY_SEAL:
		if (s->is_sealed)
			return 0;
		booked = segment_booked(s->size, d->front, d->back);
		account_book(&t->account, (int64_t)booked - s->booked, d->stamp_ns);
		s->booked = booked;
		s->is_sealed = true;
		break;
	case DUTY_REVOKE:
		break;
	case DUTY_FREE:
		account_book(&t->account, -(int64_t)s->booked, d->stamp_ns);
		s->is_used = false;
		break;
	}
	return 0;
}

/* All duties, until none is owed. Their number. */
static inline unsigned slot_duties(struct slot_test *t)
{
	struct duty d;
	unsigned n = 0;

	while (catalog_duty(t->c, STORE, &d)) {
		int r = stored_take(t, &d);

		if (catalog_duty_done(t->c, &d, r, t->now, &t->out) < 0)
			abort();
		n++;
	}
	return n;
}

static inline void slot_tick(struct slot_test *t)
{
	const struct moment at = { .now_ns = t->now, .read_ns = t->now };

	while (catalog_due(t->c) <= t->now)
		if (catalog_tick(t->c, &at, &t->out) < 0)
			abort();
}

static inline struct extent extent_at(const struct grant *g, uint32_t offset, uint32_t len)
{
	return (struct extent){ .segment = g->segment,
				.generation = g->generation,
				.offset = offset,
				.len = len,
				.seed = offset + 1 };
}

/* A commit of extents. */
static inline int slot_put_extents(struct slot_test *t, struct commit_req req, const char *path,
				   const struct extent *extents, uint32_t count)
{
	uint8_t bytes[EXTENTS_BYTES];
	struct wcur w = wcur_make(bytes, sizeof(bytes));

	req.path = text(path);
	req.extent_count = count;
	req.len = 0;
	for (uint32_t i = 0; i < count; i++) {
		extent_put(&w, &extents[i]);
		req.len += extents[i].len;
	}
	return catalog_commit(t->c, &req, (struct slice){ bytes, (size_t)(w.p - bytes) }, t->now,
			      &t->out);
}

static inline unsigned __int128 slot_job_integral(struct slot_test *t, const char *name)
{
	struct job_show_req req = { .name = text(name) };

	if (catalog_job_show(t->c, &req, t->now, &t->out) < 0)
		abort();
	return (unsigned __int128)t->out.rep.job_show.byte_ns_hi << 64 |
	       t->out.rep.job_show.byte_ns_lo;
}
