/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: bodies are bytes as messages.def says, and nothing else is taken for one. Method: literals,
 * and memory that ends where they do. */
#include "test.h"

#include <stdlib.h>

#include "wire/codec.h"

static uint8_t body[FRAME_BODY_MAX];
static size_t len;

/* A request of this kind, 5 ms old, that is sent again 7 ms later. */
#define GROWN(NAME, name)                                                          \
	({                                                                         \
		struct wcur w = wcur_make(body, sizeof(body));                     \
		struct rcur r;                                                     \
		struct name##_req q;                                               \
		name##_req_put(&w, &(struct name##_req){ .age_ms = 5 });           \
		len = (size_t)wcur_finish(&w);                                     \
		request_grow_old(MSG_##NAME, body, len, 7);                        \
		r = rcur_make(body, len);                                          \
		assert_int_equal(name##_req_get(&r, &q), 0);                       \
		assert_int_equal(q.age_ms, 12);                                    \
		w = wcur_make(body, sizeof(body));                                 \
		q.age_ms = 0;                                                      \
		name##_req_put(&w, &q);                                            \
		for (size_t i = 0; i < len; i++)                                   \
			assert_int_equal(body[i], 0); /* nothing else has grown */ \
	})

static void a_repeat_says_how_old_it_is_in_every_message_that_has_an_age(void **state)
{
	(void)state;
	GROWN(PUT, put);
	GROWN(PUT_OPEN, put_open);
	GROWN(RESERVE, reserve);
	GROWN(LEASE, lease);
}

static void an_age_grows_to_its_limit_and_no_further(void **state)
{
	struct wcur w = wcur_make(body, sizeof(body));
	struct lease_req q;
	struct rcur r;

	(void)state;
	lease_req_put(&w, &(struct lease_req){ .age_ms = UINT64_MAX - 3 });
	len = (size_t)wcur_finish(&w);
	request_grow_old(MSG_LEASE, body, len, 7);
	r = rcur_make(body, len);
	assert_int_equal(lease_req_get(&r, &q), 0);
	assert_true(q.age_ms == UINT64_MAX);
}

static void what_has_no_age_or_is_too_short_for_one_stays_as_it_is(void **state)
{
	uint8_t other[31];

	(void)state;
	memset(body, 0x5a, sizeof(body));
	memset(other, 0x5a, sizeof(other));
	request_grow_old(MSG_STAT, body, 400, 7);
	request_grow_old(0xffff, body, 400, 7);
	request_grow_old(MSG_REMOVE, other, sizeof(other), 7);
	for (int i = 0; i < 400; i++)
		assert_int_equal(body[i], 0x5a);
	assert_memory_equal(body, other, sizeof(other));
}

/* RENAME: numbers, two strings, each behind its length. */
static const uint8_t RENAME[] = {
	1, 0, 0, 0, 0, 0, 0, 0x80, 2, 0, 0, 0, 0, 0, 0,   0,   3,   0, 0, 0,   0,   0,
	0, 0, 4, 0, 0, 0, 0, 0,    0, 0, 5, 1, 3, 0, 'a', '/', 'b', 2, 0, 'c', 'd',
};

static void strings_lie_between_and_behind_numbers(void **state)
{
	struct rename_req q = { .job = 0x8000000000000001,
				.attempt_hi = 2,
				.attempt_lo = 3,
				.since = 4,
				.flags = 0x105,
				.from = { (const uint8_t *)"a/b", 3 },
				.to = { (const uint8_t *)"cd", 2 } };
	struct wcur w = wcur_make(body, sizeof(RENAME));
	struct rcur r = rcur_make(RENAME, sizeof(RENAME));

	(void)state;
	rename_req_put(&w, &q);
	assert_int_equal(wcur_finish(&w), sizeof(RENAME));
	assert_memory_equal(body, RENAME, sizeof(RENAME));
	q = (struct rename_req){ 0 };
	assert_int_equal(rename_req_get(&r, &q), 0);
	assert_true(q.job == 0x8000000000000001 && q.since == 4 && q.flags == 0x105);
	assert_int_equal(q.from.len, 3);
	assert_memory_equal(q.from.ptr, "a/b", 3);
	assert_int_equal(q.to.len, 2);
	assert_memory_equal(q.to.ptr, "cd", 2);
}

/* In memory of just that length, which address sanitizer watches. */
static void what_is_too_short_or_too_long_is_not_decoded(void **state)
{
	(void)state;
	for (size_t n = 0; n <= sizeof(RENAME) + 1; n++) {
		uint8_t *bytes = malloc(n + 1);
		struct rename_req q;
		struct rcur r;

		memset(bytes, 0, n + 1);
		memcpy(bytes, RENAME, n < sizeof(RENAME) ? n : sizeof(RENAME));
		bytes = realloc(bytes, n ? n : 1);
		r = rcur_make(bytes, n);
		assert_int_equal(rename_req_get(&r, &q), n == sizeof(RENAME) ? 0 : -EBADMSG);
		free(bytes);
	}
}

/* The first string would end where the second one's length is. */
static void a_string_leaves_room_for_what_follows(void **state)
{
	uint8_t bytes[sizeof(RENAME)];
	struct rename_req q;
	struct rcur r;

	(void)state;
	for (unsigned n = 6; n < 9; n++) {
		memcpy(bytes, RENAME, sizeof(bytes));
		bytes[34] = (uint8_t)n;
		r = rcur_make(bytes, sizeof(bytes));
		assert_int_equal(rename_req_get(&r, &q), -EBADMSG);
	}
}

/* Of a record what is left over is another's, so nothing but this says that it is too short. */
static void a_record_that_is_cut_is_bad(void **state)
{
	struct list_entry e = { .name = { (const uint8_t *)"name", 4 }, .version = 7 };
	struct wcur w = wcur_make(body, sizeof(body));
	struct rcur r;
	size_t whole;

	(void)state;
	list_entry_put(&w, &e);
	whole = (size_t)wcur_finish(&w);
	for (size_t n = 0; n <= whole + 1; n++) {
		r = rcur_make(body, n);
		list_entry_get(&r, &e);
		assert_true(r.bad == (n < whole));
	}
	for (unsigned n = 5; n < 60; n++) {
		body[0] = (uint8_t)n;
		r = rcur_make(body, whole);
		list_entry_get(&r, &e);
		assert_true(r.bad);
	}
}

static void what_does_not_fit_is_not_encoded(void **state)
{
	static uint8_t long_bytes[65536 + 100];
	struct forget_req q = { .job = 1, .path = { long_bytes, 65536 } };
	struct wcur w;

	(void)state;
	w = wcur_make(long_bytes, sizeof(long_bytes));
	forget_req_put(&w, &q);
	assert_int_equal(wcur_finish(&w), -ENOBUFS);
	q.path.len = 10;
	for (size_t cap = 0; cap < 22; cap++) {
		memset(body, 0x5a, sizeof(body));
		w = wcur_make(body, cap);
		forget_req_put(&w, &q);
		assert_int_equal(wcur_finish(&w), -ENOBUFS);
		assert_int_equal(body[cap], 0x5a);
	}
	w = wcur_make(body, 22);
	forget_req_put(&w, &q);
	assert_int_equal(wcur_finish(&w), 22);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_repeat_says_how_old_it_is_in_every_message_that_has_an_age),
		cmocka_unit_test(an_age_grows_to_its_limit_and_no_further),
		cmocka_unit_test(what_has_no_age_or_is_too_short_for_one_stays_as_it_is),
		cmocka_unit_test(strings_lie_between_and_behind_numbers),
		cmocka_unit_test(what_is_too_short_or_too_long_is_not_decoded),
		cmocka_unit_test(a_string_leaves_room_for_what_follows),
		cmocka_unit_test(a_record_that_is_cut_is_bad),
		cmocka_unit_test(what_does_not_fit_is_not_encoded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
