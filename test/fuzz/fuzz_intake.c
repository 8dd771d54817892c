/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames: how the bytes were cut changes nothing, and a header that is taken is one
 * that we would have written.
 *
 * The input: a byte that says how to cut, then what a peer sends.
 */
#include "fuzz.h"

#include "base/hash.h"
#include "wire/intake.h"

#define FRAMES_MAX 64
#define EXACT_MAX  (64u << 10)

struct heard {
	struct frame frame;
	uint64_t body, payload;
};

struct hearing {
	struct heard list[FRAMES_MAX];
	unsigned count;
	enum intake_state state;
	int result;
	size_t taken;
};

struct listener_end {
	struct intake in;
	uint8_t *body, *payload;
	uint32_t state; /* of the sequence that cuts */
};

/* 1 to `max`; all of it if nothing is cut. */
static size_t cut(struct listener_end *l, size_t max)
{
	if (l->state == 0 || max < 2)
		return max;
	l->state = l->state * 1664525 + 1013904223;
	return 1 + (l->state >> 16) % (max < 64 ? max : 64);
}

static void header_is_ours(const struct intake *in)
{
	uint8_t again[FRAME_HEADER_SIZE];
	struct wcur w = wcur_make(again, sizeof(again));

	frame_put(&w, &in->frame);
	REQUIRE(wcur_finish(&w) == FRAME_HEADER_SIZE);
	REQUIRE(memcmp(again, in->header, FRAME_HEADER_SIZE) == 0);
	REQUIRE(in->frame.body_len <= FRAME_BODY_MAX);
	REQUIRE(in->frame.payload_len <= FRAME_PAYLOAD_MAX);
}

/* What no input can fill costs no memory of its own. */
static uint8_t *payload_room(uint32_t len)
{
	static uint8_t large[FRAME_PAYLOAD_MAX];

	return len > EXACT_MAX ? large : malloc(len);
}

static void forget(struct listener_end *l)
{
	free(l->body);
	if (l->in.frame.payload_len <= EXACT_MAX)
		free(l->payload);
	l->body = l->payload = NULL;
}

static void hear_whole(struct listener_end *l, struct hearing *ret)
{
	const struct frame *f = &l->in.frame;

	if (ret->count < FRAMES_MAX)
		ret->list[ret->count] = (struct heard){ *f, hash_64(l->body, f->body_len, 1),
							hash_64(l->payload, f->payload_len, 2) };
	ret->count++;
	forget(l);
	intake_next(&l->in);
}

/* The owner's turn. */
static void decide(struct listener_end *l, struct hearing *ret)
{
	const struct frame *f = &l->in.frame;

	switch (l->in.state) {
	case INTAKE_FRAME:
		header_is_ours(&l->in);
		l->body = malloc(f->body_len);
		intake_body(&l->in, l->body);
		break;
	case INTAKE_PLACE:
		if (!l->payload)
			l->payload = payload_room(f->payload_len);
		intake_place(&l->in, l->payload + l->in.payload_have,
			     (uint32_t)cut(l, intake_payload_left(&l->in)));
		break;
	case INTAKE_WHOLE:
		hear_whole(l, ret);
		break;
	case INTAKE_HEADER:
	case INTAKE_BODY:
	case INTAKE_PAYLOAD:
	case INTAKE_BROKEN:
		REQUIRE(false);
	}
}

static void listen_to(struct slice bytes, uint32_t cuts, struct hearing *ret)
{
	struct listener_end l = { .state = cuts };

	*ret = (struct hearing){ 0 };
	intake_init(&l.in);
	while (ret->result == 0) {
		struct room room = intake_want(&l.in);
		size_t left = bytes.len - ret->taken, n = room.len < left ? room.len : left;

		if (room.len == 0) {
			decide(&l, ret);
			continue;
		}
		if (left == 0)
			break;
		n = cut(&l, n);
		memcpy(room.ptr, bytes.ptr + ret->taken, n);
		ret->taken += n;
		ret->result = intake_got(&l.in, n);
	}
	ret->state = l.in.state;
	REQUIRE((ret->result < 0) == (ret->state == INTAKE_BROKEN));
	forget(&l);
}

static bool same_frame(const struct frame *a, const struct frame *b)
{
#define F(type, field) &&a->field == b->field
	return true FRAME(F);
#undef F
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct hearing whole, in_pieces;
	struct bytes in = bytes_of(data, len);
	uint32_t cuts = 1 + (uint32_t)take(&in, 1);
	struct slice bytes = take_slice(&in, len);

	listen_to(bytes, 0, &whole);
	listen_to(bytes, cuts, &in_pieces);
	REQUIRE(whole.count == in_pieces.count && whole.result == in_pieces.result);
	REQUIRE(whole.taken == in_pieces.taken);
	/* Only where a payload is cut is its owner's. */
	REQUIRE(whole.state == in_pieces.state ||
		(whole.state == INTAKE_PAYLOAD && in_pieces.state == INTAKE_PLACE));
	for (unsigned i = 0; i < whole.count && i < FRAMES_MAX; i++)
		REQUIRE(same_frame(&whole.list[i].frame, &in_pieces.list[i].frame) &&
			whole.list[i].body == in_pieces.list[i].body &&
			whole.list[i].payload == in_pieces.list[i].payload);
	return 0;
}

static void put_frame(struct wcur *w, uint16_t msg, uint32_t body_len, uint32_t payload_len)
{
	frame_put(w, &(struct frame){ .msg = msg,
				      .call = 1,
				      .timeout_ms = 10000,
				      .body_len = body_len,
				      .payload_len = payload_len });
	memset(wcur_take(w, body_len + payload_len), 'x', body_len + payload_len);
}

void fuzz_seeds(void)
{
	uint8_t bytes[1024];
	struct wcur w = wcur_make(bytes, sizeof(bytes));

	put_le(&w, 7, 1);
	put_frame(&w, MSG_HELLO, 20, 0);
	put_frame(&w, MSG_PUT, 30, 200);
	put_frame(&w, MSG_PING, 0, 0);
	fuzz_seed("three-frames", bytes, (size_t)wcur_finish(&w));

	w = wcur_make(bytes, sizeof(bytes));
	put_le(&w, 0, 1);
	put_frame(&w, 0x7777, 3, 5);
	frame_put(&w, &(struct frame){ .msg = MSG_PUT, .payload_len = FRAME_PAYLOAD_MAX });
	fuzz_seed("unknown-and-long", bytes, (size_t)wcur_finish(&w));

	w = wcur_make(bytes, sizeof(bytes));
	put_le(&w, 3, 1);
	frame_put(&w, &(struct frame){ .msg = MSG_PUT, .payload_len = FRAME_PAYLOAD_MAX + 1 });
	fuzz_seed("too-long", bytes, (size_t)wcur_finish(&w));
}
