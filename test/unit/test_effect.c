/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: every effect comes out of the log as it went in, and nothing else does. Method:
 * each kind with a different value in every field; every truncation; unknown kinds.
 */
#include "test.h"

#include "meta/effect.h"

static uint64_t next_value;
static char words[64][16];

static struct slice some_text(void)
{
	char *w = words[next_value % 64];

	for (int i = 0; i < 12; i++)
		w[i] = (char)('a' + (next_value + (unsigned)i) % 26);
	return (struct slice){ (const uint8_t *)w, 1 + next_value++ % 12 };
}

/* clang-format off */
#define FILL_u16(f) m->f = (uint16_t)(0x1000 + next_value++)
#define FILL_u32(f) m->f = (uint32_t)(0x20000000 + next_value++)
#define FILL_u64(f) m->f = 0x3000000000000000ull + next_value++
#define FILL_id(f)  FILL_u64(f)
#define FILL_r32(f) FILL_u32(f)
#define FILL_r64(f) FILL_u64(f)
#define FILL_str(f) m->f = some_text()
#define SAME_u16(f) assert_int_equal(a->f, b->f)
#define SAME_u32(f) assert_int_equal(a->f, b->f)
#define SAME_u64(f) assert_true(a->f == b->f)
#define SAME_id(f)  SAME_u64(f)
#define SAME_r32(f) SAME_u32(f)
#define SAME_r64(f) SAME_u64(f)
#define SAME_str(f) assert_int_equal(a->f.len, b->f.len); assert_memory_equal(a->f.ptr, b->f.ptr, a->f.len)
#define FILL(type, f) FILL_##type(f);
#define SAME(type, f) SAME_##type(f);
#define E(id, NAME, name)                                                     \
	static void name##_fill(struct name##_effect *m) { NAME##_FIELDS(FILL) } \
	static void name##_same(const struct name##_effect *a, const struct name##_effect *b) \
	{                                                                     \
		NAME##_FIELDS(SAME)                                           \
	}
EFFECTS(E)
#undef E
/* clang-format on */

static size_t encode(const struct effect *e, uint8_t *buf, size_t cap)
{
	struct wcur w = wcur_make(buf, cap);

	effect_put(&w, e);
	assert_true(wcur_finish(&w) > 0);
	return (size_t)wcur_finish(&w);
}

static void every_effect_comes_back_as_it_was(void **state)
{
	uint8_t buf[EFFECT_BYTES_MAX];
	struct effect in, out;
	struct rcur c;
	size_t len;

#define E(id, NAME, name)                                                    \
	in = (struct effect){ .kind = EFFECT_##NAME, .at_ns = 0x7777 + id }; \
	name##_fill(&in.u.name);                                             \
	len = encode(&in, buf, sizeof(buf));                                 \
	c = rcur_make(buf, len);                                             \
	assert_int_equal(effect_get(&c, &out), 0);                           \
	assert_int_equal(rcur_finish(&c), 0);                                \
	assert_int_equal(out.kind, id);                                      \
	assert_true(out.at_ns == 0x7777 + id);                               \
	name##_same(&in.u.name, &out.u.name);                                \
	for (size_t n = 0; n < len; n++) {                                   \
		c = rcur_make(buf, n);                                       \
		assert_int_equal(effect_get(&c, &out), -EBADMSG);            \
	}                                                                    \
	assert_string_equal(effect_name(EFFECT_##NAME), #NAME);
	EFFECTS(E)
#undef E
}

static void what_follows_an_effect_is_left_alone(void **state)
{
	uint8_t buf[64];
	struct effect in = { .kind = EFFECT_JOB_ENDED, .at_ns = 5 }, out;
	size_t len = encode(&in, buf, sizeof(buf));
	struct rcur c;

	encode(&in, buf + len, sizeof(buf) - len);
	c = rcur_make(buf, 2 * len);
	assert_int_equal(effect_get(&c, &out), 0);
	assert_ptr_equal(c.p, buf + len);
	assert_int_equal(effect_get(&c, &out), 0);
}

static void an_unknown_kind_is_no_effect(void **state)
{
	uint8_t buf[64] = { 0 };
	struct effect out;
	struct rcur c = rcur_make(buf, sizeof(buf));
	struct wcur w = wcur_make(buf, sizeof(buf));

	assert_int_equal(effect_get(&c, &out), -EBADMSG);
	buf[0] = 9;
	c = rcur_make(buf, sizeof(buf));
	assert_int_equal(effect_get(&c, &out), -EBADMSG);
	effect_put(&w, &(struct effect){ .kind = (enum effect_kind)9 });
	assert_true(wcur_finish(&w) < 0);
}

/* Job 5 of slot 3; a lease of 300 ms. */
static void numbers_have_as_many_bytes_as_they_need(void **state)
{
	static const uint8_t RIGHT[] = { 2, 5, 0xf9, 0x03, 0x14, 0xf9, 0x2c, 0x01 };
	uint8_t buf[64];
	struct effect in = { .kind = EFFECT_JOB_RENEWED, .at_ns = 5 };

	in.u.job_renewed = (struct job_renewed_effect){ .job = 3ull << 54 | 5, .lease_ms = 300 };
	assert_int_equal(encode(&in, buf, sizeof(buf)), sizeof(RIGHT));
	assert_memory_equal(buf, RIGHT, sizeof(RIGHT));
	in.u.job_renewed.lease_ms = 247;
	assert_int_equal(encode(&in, buf, sizeof(buf)), 6);
	assert_int_equal(buf[5], 247);
	in.u.job_renewed.lease_ms = 248;
	assert_int_equal(encode(&in, buf, sizeof(buf)), 7);
	assert_memory_equal(buf + 5, "\xf8\xf8", 2);
	in.at_ns = UINT64_MAX;
	assert_int_equal(encode(&in, buf, sizeof(buf)), 15);
	assert_memory_equal(buf + 1, "\xff\xff\xff\xff\xff\xff\xff\xff\xff", 9);
}

static void a_number_is_said_in_one_way(void **state)
{
	static const struct {
		const char *bytes; /* of a JOB_RENEWED at 5, of job 0: its lease */
		size_t len;
		int result;
	} CASES[] = {
		{ "\xf8\xf7", 2, -EBADMSG },                 /* fits one byte */
		{ "\xf8\xf8", 2, 0 },                        /* does not */
		{ "\xf9\xff\x00", 3, -EBADMSG },             /* its last byte says nothing */
		{ "\xf9\x00\x01", 3, 0 },                    /* here it does */
		{ "\xfb\xff\xff\xff\xff", 5, 0 },            /* the longest lease */
		{ "\xfc\x00\x00\x00\x00\x01", 6, -EBADMSG }, /* longer than that */
	};

	for (size_t i = 0; i < sizeof(CASES) / sizeof(*CASES); i++) {
		uint8_t buf[16] = { 2, 5, 0 };
		struct effect out;
		struct rcur c;

		memcpy(buf + 3, CASES[i].bytes, CASES[i].len);
		c = rcur_make(buf, 3 + CASES[i].len);
		assert_int_equal(effect_get(&c, &out), CASES[i].result);
	}
}

static void the_longest_effect_has_its_room(void **state)
{
	static uint8_t bytes[4096], buf[EFFECT_BYTES_MAX];
	struct effect e = { .kind = EFFECT_OBJECT_PUT };

	e.u.object_put.path = (struct slice){ bytes, 1024 };
	e.u.object_put.attributes = (struct slice){ bytes, 512 };
	e.u.object_put.extents = (struct slice){ bytes, 3072 };
	e.u.object_put.bytes = (struct slice){ bytes, 2048 };
	assert_true(encode(&e, buf, sizeof(buf)) > 6656);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_effect_comes_back_as_it_was),
		cmocka_unit_test(what_follows_an_effect_is_left_alone),
		cmocka_unit_test(an_unknown_kind_is_no_effect),
		cmocka_unit_test(numbers_have_as_many_bytes_as_they_need),
		cmocka_unit_test(a_number_is_said_in_one_way),
		cmocka_unit_test(the_longest_effect_has_its_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
