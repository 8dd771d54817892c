/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes made smaller and back; and what was not made so. */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include "base/node.h"
#include "base/pack.h"

#define LEN (1 << 20)

static uint8_t *in, *packed, *out;
static uint64_t state;

static uint8_t roll(void)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint8_t)(state >> 56);
}

static int setup(void **s)
{
	in = malloc(LEN);
	packed = malloc(LEN);
	out = malloc(LEN);
	state = 1;
	return !in || !packed || !out;
}

static int teardown(void **s)
{
	free(in);
	free(packed);
	free(out);
	return 0;
}

static void what_repeats_becomes_small_and_comes_back(void **s)
{
	size_t n;

	for (size_t i = 0; i < LEN; i++)
		in[i] = i % 64 < 8 ? roll() : (uint8_t)(i % 64);
	n = pack_bytes(packed, LEN, in, LEN);
	assert_in_range(n, 1, LEN / 3);
	assert_int_equal(unpack_bytes(out, LEN, packed, n), LEN);
	assert_memory_equal(out, in, LEN);
}

static void what_does_not_repeat_is_refused_where_there_is_no_room(void **s)
{
	for (size_t i = 0; i < LEN; i++)
		in[i] = roll();
	assert_int_equal(pack_bytes(packed, LEN / 2, in, LEN), 0);
}

static void too_little_room_is_refused(void **s)
{
	size_t n;

	memset(in, 7, LEN);
	n = pack_bytes(packed, LEN, in, LEN);
	assert_int_not_equal(n, 0);
	assert_int_equal(unpack_bytes(out, LEN - 1, packed, n), -EBADMSG);
}

static void other_bytes_are_refused_or_are_other_bytes(void **s)
{
	size_t n;

	for (size_t i = 0; i < LEN; i++)
		in[i] = (uint8_t)(i / 100 + roll() % 4);
	n = pack_bytes(packed, LEN, in, LEN);
	for (size_t cut = 0; cut < n; cut += n / 50)
		assert_int_not_equal(unpack_bytes(out, LEN, packed, cut), LEN);
	for (int i = 0; i < 200; i++) {
		size_t at = (size_t)roll() << 8 | roll();

		packed[at % n] ^= (uint8_t)(1 + roll() % 255);
		(void)unpack_bytes(out, LEN, packed, n); /* under a sanitizer: it stays within */
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static void no_memory_is_not_damage(void **s)
{
	struct node node = { .fail_countdown = 1 };
	size_t n;

	memset(in, 7, LEN);
	n = pack_bytes(packed, LEN, in, LEN);
	node_current = &node;
	assert_int_equal(unpack_bytes(out, LEN, packed, n), -ENOMEM);
	assert_int_equal(unpack_bytes(out, LEN, packed, n), LEN);
	node.fail_countdown = 1;
	assert_int_equal(pack_bytes(packed, LEN, in, LEN), 0);
	node_current = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_repeats_becomes_small_and_comes_back),
		T(what_does_not_repeat_is_refused_where_there_is_no_room),
		T(too_little_room_is_refused),
		T(other_bytes_are_refused_or_are_other_bytes),
		T(no_memory_is_not_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
