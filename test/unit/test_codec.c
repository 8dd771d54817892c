/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_repeat_says_how_old_it_is_in_every_message_that_has_an_age),
		cmocka_unit_test(an_age_grows_to_its_limit_and_no_further),
		cmocka_unit_test(what_has_no_age_or_is_too_short_for_one_stays_as_it_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
