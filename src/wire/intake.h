/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intake: the receiving half of a connection, without the connection.
 *
 * An intake never reads and never calls back: it says where the next bytes go, is
 * told how many came, and stops wanting more when it is its owner's turn. So the
 * owner may be a connection, a test or a fuzzer, may take its time while nothing
 * is read, and lets payloads land where they will stay. It has no buffer but for a
 * header, so an idle connection costs none.
 *
 *	HEADER --> FRAME --intake_body()--> BODY --> PLACE --intake_place()--> PAYLOAD --> WHOLE
 *	  ^                                  |         ^------ more to place ----+          |  |
 *	  |                                  +----------------- no payload ----------------^  |
 *	  +------------------------------------ intake_next() -------------------------------+
 *
 * HEADER   `frame` is not valid.
 * FRAME    `frame` is checked: its lengths are within limits.h and the table. The
 *          owner says where the body goes.
 * PLACE    the body is whole; the owner says where the payload goes, or its next piece.
 * PAYLOAD  the place has room for what is wanted.
 * WHOLE    frame, body and payload are the owner's to look at.
 * BROKEN   from anywhere, for good: the connection cannot go on.
 */
#pragma once

#include "wire/codec.h"

enum intake_state {
	INTAKE_HEADER,
	INTAKE_FRAME,
	INTAKE_BODY,
	INTAKE_PLACE,
	INTAKE_PAYLOAD,
	INTAKE_WHOLE,
	INTAKE_BROKEN,
};

struct intake {
	enum intake_state state;
	uint32_t have;         /* bytes of the current part or place */
	uint32_t place_len;    /* of the current place */
	uint32_t payload_have; /* bytes of the payload that have come, in all places */
	struct frame frame;
	uint8_t *body, *place; /* the owner's */
	uint8_t header[FRAME_HEADER_SIZE];
};

struct room {
	uint8_t *ptr;
	size_t len;
};

void intake_init(struct intake *in);

/* Where the next bytes go. Empty in FRAME, PLACE, WHOLE and BROKEN. */
static inline struct room intake_want(const struct intake *in)
{
	switch (in->state) {
	case INTAKE_HEADER:
		return (struct room){ (uint8_t *)in->header + in->have,
				      FRAME_HEADER_SIZE - in->have };
	case INTAKE_BODY:
		return (struct room){ in->body + in->have, in->frame.body_len - in->have };
	case INTAKE_PAYLOAD:
		return (struct room){ in->place + in->have, in->place_len - in->have };
	case INTAKE_FRAME:
	case INTAKE_PLACE:
	case INTAKE_WHOLE:
	case INTAKE_BROKEN:
		break;
	}
	return (struct room){ NULL, 0 };
}

/* `n` bytes, at most what was wanted, are in place. -EPROTO and -EMSGSIZE break the intake. */
int intake_got(struct intake *in, size_t n);

/* In FRAME: `body` has room for frame.body_len and is left alone until WHOLE. */
void intake_body(struct intake *in, uint8_t *body);

/* In PLACE: the next `len` bytes of the payload, at most what is left of it, go to `place`. */
void intake_place(struct intake *in, uint8_t *place, uint32_t len);

/* In PAYLOAD: what is still to come goes elsewhere; the old place is not touched any more. */
void intake_move(struct intake *in, uint8_t *place);

/* In WHOLE: the owner is done with the frame. */
void intake_next(struct intake *in);

static inline uint32_t intake_payload_left(const struct intake *in)
{
	return in->frame.payload_len - in->payload_have;
}
