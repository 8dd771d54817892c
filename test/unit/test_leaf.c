/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what is read from a leaf lies in it, however short its file is. Method: a leaf with
 * one record, and every end behind that, in bytes that could be the beginning of another.
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

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_record_comes_back),
		cmocka_unit_test(an_end_inside_the_next_is_no_record),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
