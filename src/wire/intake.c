/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/intake.h"

#include <assert.h>

static void enter(struct intake *in, enum intake_state state)
{
	in->state = state;
	in->have = 0;
}

void intake_init(struct intake *in)
{
	*in = (struct intake){ .state = INTAKE_HEADER };
}

/* A part without bytes is whole as soon as it begins. */
static void leave_if_whole(struct intake *in)
{
	if (in->state == INTAKE_BODY && in->have == in->frame.body_len)
		enter(in, in->frame.payload_len > 0 ? INTAKE_PLACE : INTAKE_WHOLE);
	if (in->state == INTAKE_PAYLOAD && in->have == in->place_len)
		enter(in, intake_payload_left(in) > 0 ? INTAKE_PLACE : INTAKE_WHOLE);
}

int intake_got(struct intake *in, size_t n)
{
	int r;

	assert(n <= intake_want(in).len);
	in->have += (uint32_t)n;
	if (in->state == INTAKE_PAYLOAD)
		in->payload_have += (uint32_t)n;
	if (in->state == INTAKE_HEADER && in->have == FRAME_HEADER_SIZE) {
		struct rcur c = rcur_make(in->header, FRAME_HEADER_SIZE);

		r = frame_get(&c, &in->frame);
		in->payload_have = 0;
		enter(in, r < 0 ? INTAKE_BROKEN : INTAKE_FRAME);
		return r;
	}
	leave_if_whole(in);
	return 0;
}

void intake_body(struct intake *in, uint8_t *body)
{
	assert(in->state == INTAKE_FRAME);
	in->body = body;
	enter(in, INTAKE_BODY);
	leave_if_whole(in);
}

void intake_place(struct intake *in, uint8_t *place, uint32_t len)
{
	assert(in->state == INTAKE_PLACE && len > 0 && len <= intake_payload_left(in));
	in->place = place;
	in->place_len = len;
	enter(in, INTAKE_PAYLOAD);
}

void intake_move(struct intake *in, uint8_t *place)
{
	assert(in->state == INTAKE_PAYLOAD);
	in->place_len -= in->have;
	in->have = 0;
	in->place = place;
}

void intake_next(struct intake *in)
{
	assert(in->state == INTAKE_WHOLE);
	enter(in, INTAKE_HEADER);
}
