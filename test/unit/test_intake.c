/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: how the bytes were cut on their way makes no difference, and nothing but a
 * whole message is accepted. Method: frames with and without body and payload in
 * pieces of every size, payloads in one and in several places; a message decoded at
 * every length; every message encoded and decoded again.
 */
#include "test.h"

#include "wire/intake.h"

static const struct frame FRAMES[] = {
	{ .msg = MSG_PUT, .call = 1, .body_len = 5, .payload_len = 7 },
	{ .msg = MSG_PING, .call = 2, .body_len = 0, .payload_len = 0 },
	{ .msg = MSG_PUT, .call = 3, .body_len = 0, .payload_len = 9 },
};
#define FRAMES_SIZE (3 * FRAME_HEADER_SIZE + 5 + 7 + 9)

static void encode_frames(uint8_t *buf)
{
	struct wcur w = wcur_make(buf, FRAMES_SIZE);

	for (size_t i = 0; i < 3; i++) {
		uint32_t n = FRAMES[i].body_len + FRAMES[i].payload_len;

		frame_put(&w, &FRAMES[i]);
		memcpy(wcur_take(&w, n), "bodypayload.", n);
	}
	assert_int_equal(wcur_finish(&w), FRAMES_SIZE);
}

/* Checks each frame as it becomes whole; returns how many did. */
static size_t feed(const uint8_t *buf, size_t size, size_t piece, uint32_t place_len)
{
	struct intake in;
	uint8_t body[16], payload[16];
	size_t whole = 0;

	intake_init(&in);
	for (size_t at = 0, n; at < size; at += n) {
		struct room room = intake_want(&in);

		n = piece < room.len ? piece : room.len;
		n = n < size - at ? n : size - at;
		assert_true(n > 0);
		memcpy(room.ptr, buf + at, n);
		assert_int_equal(intake_got(&in, n), 0);
		if (in.state == INTAKE_FRAME)
			intake_body(&in, body);
		if (in.state == INTAKE_PLACE) {
			uint32_t left = intake_payload_left(&in);

			assert_true(left > 0);
			intake_place(&in, payload + in.frame.payload_len - left,
				     place_len < left ? place_len : left);
		}
		if (in.state != INTAKE_WHOLE)
			continue;
		assert_int_equal(in.frame.call, FRAMES[whole].call);
		assert_memory_equal(body, "bodyp", in.frame.body_len);
		assert_memory_equal(payload, in.frame.body_len ? "ayload." : "bodypaylo",
				    in.frame.payload_len);
		whole++;
		intake_next(&in);
	}
	return whole;
}

static void it_does_not_matter_how_bytes_are_cut_and_placed(void **state)
{
	uint8_t buf[FRAMES_SIZE];

	encode_frames(buf);
	for (size_t piece = 1; piece <= FRAMES_SIZE; piece++)
		for (uint32_t place = 1; place <= 9; place++)
			assert_int_equal(feed(buf, FRAMES_SIZE, piece, place), 3);
	assert_int_equal(feed(buf, FRAMES_SIZE - 1, FRAMES_SIZE, 16), 2);
}

static void a_bad_header_breaks_it_for_good(void **state)
{
	static const struct {
		struct frame frame;
		uint8_t flip; /* in the first byte of the magic */
		int r;
	} bad[] = {
		{ { .msg = MSG_PUT }, 1, -EPROTO },
		{ { .msg = MSG_PUT, .body_len = FRAME_BODY_MAX + 1 }, 0, -EMSGSIZE },
		{ { .msg = MSG_PUT, .payload_len = FRAME_PAYLOAD_MAX + 1 }, 0, -EMSGSIZE },
		{ { .msg = MSG_PING, .payload_len = 1 }, 0, -EMSGSIZE },
		{ { .msg = MSG_PUT, .flags = FRAME_REPLY, .payload_len = 1 }, 0, -EMSGSIZE },
		{ { .msg = 0xffff, .payload_len = FRAME_PAYLOAD_MAX + 1 }, 0, -EMSGSIZE },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct intake in;
		struct wcur w;

		intake_init(&in);
		w = wcur_make(intake_want(&in).ptr, intake_want(&in).len);
		frame_put(&w, &bad[i].frame);
		in.header[0] ^= bad[i].flip;
		assert_int_equal(intake_got(&in, FRAME_HEADER_SIZE), bad[i].r);
		assert_int_equal(in.state, INTAKE_BROKEN);
		assert_int_equal(intake_want(&in).len, 0);
	}
}

static void what_is_moved_does_not_touch_the_old_place(void **state)
{
	uint8_t header[FRAME_HEADER_SIZE], first[8] = { 0 }, second[8] = { 0 };
	struct wcur w = wcur_make(header, sizeof(header));
	struct intake in;

	frame_put(&w, &(struct frame){ .msg = MSG_PUT, .payload_len = 8 });
	intake_init(&in);
	memcpy(intake_want(&in).ptr, header, sizeof(header));
	assert_int_equal(intake_got(&in, sizeof(header)), 0);
	intake_body(&in, NULL);
	intake_place(&in, first, 8);
	memcpy(intake_want(&in).ptr, "abc", 3);
	intake_got(&in, 3);
	intake_move(&in, second);
	assert_int_equal(intake_want(&in).len, 5);
	memcpy(intake_want(&in).ptr, "defgh", 5);
	intake_got(&in, 5);
	assert_int_equal(in.state, INTAKE_WHOLE);
	assert_memory_equal(first, "abc\0\0\0\0\0", 8);
	assert_memory_equal(second, "defgh\0\0\0", 8);
}

static void a_message_is_accepted_whole_or_not_at_all(void **state)
{
	struct slice path = { .ptr = (const uint8_t *)"map/3/part", .len = 10 };
	struct put_req sample = { .attempt_hi = 7, .if_version = 1 << 20, .tier = 2, .path = path };
	uint8_t buf[96] = { 0 };
	ptrdiff_t len = 5 * 8 + 2 * 4 + 3 * 2 + (2 + 10) + 2;

	for (ptrdiff_t n = sizeof(buf); n >= 0; n--) {
		struct wcur w = wcur_make(buf, (size_t)n);
		struct rcur r = rcur_make(buf, (size_t)n);
		struct put_req got;

		put_req_put(&w, &sample);
		assert_int_equal(wcur_finish(&w), n < len ? -ENOBUFS : len);
		assert_int_equal(put_req_get(&r, &got), n == len ? 0 : -EBADMSG);
		if (n == len) {
			assert_int_equal(got.attempt_hi, 7);
			assert_int_equal(got.if_version, 1 << 20);
			assert_int_equal(got.tier, 2);
			assert_int_equal(got.path.len, 10);
			assert_memory_equal(got.path.ptr, "map/3/part", 10);
		}
	}
}

/* Whatever is decoded encodes to the same bytes: for each message, from random bytes. */
static void what_decodes_encodes_to_the_same_bytes(void **state)
{
	uint8_t in[FRAME_BODY_MAX], out[FRAME_BODY_MAX];
	unsigned decoded = 0;

	for (unsigned seed = 1; seed <= 300; seed++) {
		uint32_t x = seed * 2654435761u;
		size_t len = seed % 100;

		for (size_t i = 0; i < len; i++) {
			x = x * 1664525 + 1013904223;
			/* Mostly zeros, or no length of a string would ever fit. */
			in[i] = x >> 30 ? 0 : (uint8_t)(x >> 16 & 7);
		}
#define TRY(name)                                            \
	do {                                                 \
		struct rcur r = rcur_make(in, len);          \
		struct wcur w = wcur_make(out, sizeof(out)); \
		struct name m;                               \
		if (name##_get(&r, &m) < 0)                  \
			break;                               \
		decoded++;                                   \
		name##_put(&w, &m);                          \
		assert_int_equal(wcur_finish(&w), len);      \
		assert_memory_equal(in, out, len);           \
	} while (0);
#define M(id, NAME, name, servers, callers, request_max, reply_max) TRY(name##_req) TRY(name##_rep)
		MESSAGES(M)
#undef M
	}
	assert_true(decoded > 100);
}

static void a_status_and_its_errno_name_each_other(void **state)
{
	for (int code = 0; code < STATUS_COUNT; code++) {
		assert_int_equal(status_of(status_errno((uint16_t)code)), code);
		assert_string_not_equal(status_name((uint16_t)code), "");
	}
	assert_int_equal(status_of(-ENOENT), STATUS_NOTFOUND);
	assert_int_equal(status_of(-EPIPE), STATUS_INTERNAL);
	assert_int_equal(status_errno(60000), -ENOTRECOVERABLE);
	assert_int_equal(status_of(5), STATUS_OK);
}

static void ids_are_unique_and_found(void **state)
{
	size_t count;
	const struct message_info *table = message_table(&count);

	assert_int_equal(count, MESSAGE_COUNT);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(message_index(table[i].id), i);
		assert_ptr_equal(message_info(table[i].id), &table[i]);
	}
	assert_null(message_info(0));
	assert_null(message_info(0xffff));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_does_not_matter_how_bytes_are_cut_and_placed),
		cmocka_unit_test(a_bad_header_breaks_it_for_good),
		cmocka_unit_test(what_is_moved_does_not_touch_the_old_place),
		cmocka_unit_test(a_message_is_accepted_whole_or_not_at_all),
		cmocka_unit_test(what_decodes_encodes_to_the_same_bytes),
		cmocka_unit_test(a_status_and_its_errno_name_each_other),
		cmocka_unit_test(ids_are_unique_and_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
