/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keys: a list of keys, as samplers leave them in the store and as the driver leaves
 * the splitters: for each its length in 4 bytes, little-endian, and the key.
 *
 * The splitters divide all keys into buckets: a key belongs to the bucket whose
 * number is how many splitters are not above it. Samples are taken by bytes, so
 * buckets are alike in bytes. Equal keys are never divided.
 */
#pragma once

#include "item.h"

/* Of a sampled key; a longer one is as good a splitter when cut. */
#define KEYS_CUT 256

struct key {
	const uint8_t *ptr;
	size_t len;
};

struct keys {
	uint8_t *bytes; /* owned: what is in the store */
	size_t len, cap;
	struct key *keys; /* owned; into bytes. NULL before keys_index() */
	size_t count;
};

void keys_fini(struct keys *k);
int keys_add(struct keys *k, const uint8_t *key, size_t len);

/* Room for `len` more encoded bytes, which the caller fills in. */
uint8_t *keys_room(struct keys *k, size_t len);

/* Finds the keys in the bytes, once all are there; -EBADMSG: they are no keys. */
int keys_index(struct keys *k);

/* Sorts an indexed list. */
void keys_sort(struct keys *k);

/* bucket_count - 1 splitters from sorted samples; with no samples none, and so one bucket. */
int splitters_choose(const struct keys *samples, size_t bucket_count, struct keys *ret);

/* Of sorted items, the first that is not below the splitter. */
size_t splitter_find(const struct key *splitter, const struct item *items, size_t count,
		     const uint8_t *arena);
