/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves of the log and of snapshots: a record lies inside its leaf, is one that was
 * sealed for this leaf, and reads the same from wherever one begins; a changed byte is no
 * record.
 *
 * The input: a byte that says how; then the bytes of a leaf, or records to be sealed and
 * a place to change.
 */
#include "fuzz.h"

#include <errno.h>

#include "base/hash.h"
#include "meta/leaf.h"

#define BYTES        (5u << 10)
#define RECORDS_MAX  16
#define RECORD_LEAST 32 /* with filler */

static const struct leaf_header HEADER = { .kind = LEAF_LOG,
					   .shard_count = 1,
					   .seed = 77,
					   .incarnation = 5,
					   .memory = 6,
					   .number = 3,
					   .lsn = 10 };

/* Memory that ends where the leaf does. */
static uint8_t *leaf_of(struct slice s, uint32_t least)
{
	uint32_t len = s.len < least ? least : (uint32_t)s.len;
	uint8_t *leaf = calloc(1, len);

	REQUIRE(leaf);
	if (s.len > 0)
		memcpy(leaf, s.ptr, s.len);
	return leaf;
}

static void same_header(const struct leaf_header *a, const struct leaf_header *b)
{
	REQUIRE(a->kind == b->kind && a->shard == b->shard && a->shard_count == b->shard_count);
	REQUIRE(a->seed == b->seed && a->incarnation == b->incarnation && a->lsn == b->lsn);
	REQUIRE(a->number == b->number && a->index == b->index && a->base_ns == b->base_ns);
	REQUIRE(a->memory == b->memory && a->memory_ns == b->memory_ns);
}

/* Whatever it says, nobody reads outside of it. */
static void any_leaf(struct slice s)
{
	uint8_t *leaf = leaf_of(s, 8);
	uint32_t len = s.len < 8 ? 8 : (uint32_t)s.len, at = LEAF_HEADER;
	struct leaf_header h, again;
	struct record record;

	if (leaf_header_get(leaf, len, &h) == 0) {
		uint8_t other[LEAF_HEADER];

		leaf_header_put(other, &h);
		REQUIRE(leaf_header_get(other, sizeof(other), &again) == 0);
		same_header(&h, &again);
	} else {
		h = HEADER;
	}
	while (record_get(leaf, len, &h, &at, &record) == 0) {
		REQUIRE(at <= len && record.bytes.ptr + record.bytes.len <= leaf + at);
		REQUIRE(at % 8 == 0);
	}
	(void)records_behind(leaf, len, &h, at < len ? at : 0);
	free(leaf);
}

static void sealed(struct bytes *in)
{
	/* Room for the records that the input has, and some that is not used. */
	uint32_t len = LEAF_HEADER + (uint32_t)(bytes_left(in) < BYTES ? bytes_left(in) : BYTES) +
		       RECORDS_MAX * RECORD_LEAST;
	uint8_t *leaf = leaf_of((struct slice){ NULL, 0 }, len);
	uint32_t begins[RECORDS_MAX], used = LEAF_HEADER, at = LEAF_HEADER, changed;
	struct leaf_header h, ours = HEADER;
	struct record record;
	unsigned count = 0;
	int r;

	/* Who writes the bytes of records does not know it: with a known one, records of another
	 * leaf were put into them, and found. */
	ours.seed = hash_64(in->p, bytes_left(in), 77);
	leaf_header_put(leaf, &ours);
	for (; count < RECORDS_MAX && bytes_left(in) > 4; count++) {
		struct slice s = take_slice(in, take(in, 1));

		begins[count] = used;
		memcpy(leaf + used + 24, s.ptr, s.len);
		record = (struct record){ .lsn = 11 + count,
					  .synced = 3 * (count + 1),
					  .slot = 7,
					  .kind = RECORD_EFFECT,
					  .bytes = { leaf + used + 24, s.len } };
		used += record_seal(leaf + used, &ours, &record);
	}
	REQUIRE(leaf_header_get(leaf, len, &h) == 0);
	same_header(&h, &ours);
	for (unsigned i = 0; i < count; i++) {
		REQUIRE(at == begins[i]);
		REQUIRE(record_get(leaf, len, &h, &at, &record) == 0);
		REQUIRE(record.lsn == 11 + i && record.slot == 7 && record.kind == RECORD_EFFECT);
	}
	REQUIRE(at == used && record_get(leaf, len, &h, &at, &record) == -ENODATA);
	REQUIRE(records_behind(leaf, len, &h, LEAF_HEADER).count == count);
	REQUIRE(records_behind(leaf, len, &h, LEAF_HEADER).synced == 3 * count);
	/* Of another leaf it has none. */
	h.number++;
	REQUIRE(records_behind(leaf, len, &h, LEAF_HEADER).count == 0);
	h.number--;
	if (count == 0) {
		free(leaf);
		return;
	}
	changed = (uint32_t)take(in, 2) % (used - LEAF_HEADER) + LEAF_HEADER;
	leaf[changed] ^= (uint8_t)(1 + take(in, 1) % 255);
	at = LEAF_HEADER;
	for (unsigned i = 0; i < count; i++) {
		uint32_t end = i + 1 < count ? begins[i + 1] : used;

		at = begins[i];
		r = record_get(leaf, len, &h, &at, &record);
		if (changed < begins[i] || changed >= end)
			REQUIRE(r == 0);
		else if (r == 0) /* filler up to a multiple of 8 is nobody's */
			REQUIRE(changed >= begins[i] + 24 + record.bytes.len);
	}
	free(leaf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct bytes in = bytes_of(data, len);

	if (take(&in, 1) % 2)
		sealed(&in);
	else
		any_leaf(take_slice(&in, BYTES));
	return 0;
}

void fuzz_seeds(void)
{
	static uint8_t bytes[1 + 512];
	uint8_t *leaf = bytes + 1;
	struct record record = { .lsn = 11, .slot = 7, .kind = RECORD_EFFECT };
	uint32_t used = LEAF_HEADER;
	static const char RECORDS[] = "\1\5hello\0\10something\3abc\7\0\1";

	leaf_header_put(leaf, &HEADER);
	for (unsigned i = 0; i < 4; i++) {
		record.bytes = (struct slice){ leaf + used + 24, 5 + i * 9 };
		memset(leaf + used + 24, 'x', record.bytes.len);
		used += record_seal(leaf + used, &HEADER, &record);
		record.lsn++;
	}
	fuzz_seed("leaf", bytes, 1 + used);
	fuzz_seed("torn", bytes, 1 + used - 20);
	fuzz_seed("records", RECORDS, sizeof(RECORDS) - 1);
}
