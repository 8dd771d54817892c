/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what is read from a leaf lies in it, however short its file is. Method: a leaf with
 * one record, and every end behind that, in bytes that could be the beginning of another. And
 * a header is told from zeros, from that of another version, and from a damaged one.
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include "meta/leaf.h"

static const struct leaf_header HEADER = { .kind = LEAF_LOG, .shard_count = 1, .number = 3 };

/* Memory that ends where the file does. */
static uint8_t *leaf_of(uint32_t len, uint32_t *ret_end)
{
	uint8_t *leaf = malloc(len > 200 ? len : 200);
	struct record record = { .lsn = 5, .synced = 96, .kind = RECORD_EFFECT };

	memset(leaf, 0xff, len > 200 ? len : 200);
	leaf_header_put(leaf, &HEADER);
	memcpy(leaf + LEAF_HEADER + 24, "hello", 5);
	record.bytes = (struct slice){ leaf + LEAF_HEADER + 24, 5 };
	*ret_end = LEAF_HEADER + record_seal(leaf + LEAF_HEADER, &HEADER, &record);
	assert_int_equal(*ret_end, LEAF_HEADER + 32);
	return leaf;
}

static void a_record_comes_back(void **state)
{
	uint32_t end, at = LEAF_HEADER;
	uint8_t *leaf = leaf_of(LEAF_HEADER + 32, &end);
	struct record record;

	assert_int_equal(record_get(leaf, end, &HEADER, &at, &record), 0);
	assert_int_equal(at, end);
	assert_int_equal(record.lsn, 5);
	assert_int_equal(record.synced, 96);
	assert_memory_equal(record.bytes.ptr, "hello", 5);
	assert_int_equal(record_get(leaf, end, &HEADER, &at, &record), -ENODATA);
	free(leaf);
}

static void an_end_inside_the_next_is_no_record(void **state)
{
	for (uint32_t more = 1; more < 40; more++) {
		uint32_t end, at, len = LEAF_HEADER + 32 + more;
		uint8_t *leaf = leaf_of(len, &end);
		struct record record;

		at = end;
		leaf[end] = 0xf0; /* a length that wraps around to a few bytes */
		assert_int_equal(record_get(leaf, len, &HEADER, &at, &record), -EBADMSG);
		assert_int_equal(at, end);
		assert_int_equal(records_behind(leaf, len, &HEADER, end).count, 0);
		assert_int_equal(records_behind(leaf, len, &HEADER, LEAF_HEADER).count, 1);
		assert_int_equal(records_behind(leaf, len, &HEADER, LEAF_HEADER).synced, 96);
		free(leaf);
	}
}

static const struct leaf_header FULL = { .kind = LEAF_SNAPSHOT,
					 .shard = 3,
					 .shard_count = 7,
					 .seed = 0x123456789abcdef0,
					 .incarnation = 0xfedcba9876543210,
					 .number = 12,
					 .index = 2,
					 .packed = 5,
					 .lsn = 99,
					 .base_ns = 88,
					 .memory = 77 };

/* What its crc covers, and that. */
#define COVERED 76

static void a_header_with_another_byte_is_none(void **state)
{
	uint8_t whole[LEAF_HEADER], leaf[LEAF_HEADER];
	struct leaf_header h;

	leaf_header_put(whole, &FULL);
	for (unsigned at = 0; at < COVERED; at++)
		for (unsigned how = 1; how < 256; how++) {
			memcpy(leaf, whole, sizeof(leaf));
			leaf[at] ^= (uint8_t)how;
			assert_int_equal(leaf_header_get(leaf, sizeof(leaf), &h), -EBADMSG);
		}
}

static void a_header_of_another_version_is_told_from_damage(void **state)
{
	uint8_t leaf[LEAF_HEADER] = "wadilaf3 and whatever else it may say";
	struct leaf_header h;

	assert_int_equal(leaf_header_get(leaf, sizeof(leaf), &h), -ENOTSUP);
	leaf[7] = '\0';
	assert_int_equal(leaf_header_get(leaf, sizeof(leaf), &h), -EBADMSG);
	leaf[7] = '1';
	leaf[6] = 'g';
	assert_int_equal(leaf_header_get(leaf, sizeof(leaf), &h), -EBADMSG);
	memset(leaf, 0, sizeof(leaf));
	assert_int_equal(leaf_header_get(leaf, sizeof(leaf), &h), -ENODATA);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_record_comes_back),
		cmocka_unit_test(an_end_inside_the_next_is_no_record),
		cmocka_unit_test(a_header_with_another_byte_is_none),
		cmocka_unit_test(a_header_of_another_version_is_told_from_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
