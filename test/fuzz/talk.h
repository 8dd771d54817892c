/* SPDX-License-Identifier: Apache-2.0 */
/*
 * talk: what a peer says that knows the protocol and does not keep it: requests with
 * ids that it was told, in any order, again, with other headers, cut short; answers to
 * what it is asked. Which, follows from the bytes that it is given.
 *
 * Pure: frames go into a buffer, and are heard as they were received.
 */
#pragma once

#include "base/hash.h"
#include "fields.h"
#include "wire/extent.h"

#define TALK_BYTES (FRAME_HEADER_SIZE + FRAME_BODY_MAX + 2 * FRAME_FREE_PAYLOAD + 256)

struct talk {
	uint64_t session, epoch; /* of this connection, if it has one */
	struct fields f;
	unsigned servers; /* enum server: whose messages it sends */
	enum role role;   /* what it says at HELLO, and with which secret; mostly */
	struct slice secret;
	uint32_t call;
	uint8_t frame[TALK_BYTES]; /* the last that was made */
	size_t len;
};

static inline void talk_init(struct talk *t, unsigned servers, struct bytes in)
{
	fields_init(&t->f, in);
	t->servers = servers;
	t->role = ROLE_JOB;
	t->secret = (struct slice){ NULL, 0 };
	t->call = 0;
	t->len = 0;
	t->session = t->epoch = 0;
}

/* Goes on as another. */
static inline void talk_as(struct talk *t, enum role role, struct slice secret, uint64_t session,
			   uint64_t epoch)
{
	t->role = role;
	t->secret = secret;
	t->session = session;
	t->epoch = epoch;
	fields_only(&t->f, KNOWN_PLACE("session"), session);
	fields_only(&t->f, KNOWN_PLACE("epoch"), epoch);
}

static inline uint16_t talk_slot(struct talk *t)
{
	const struct known *jobs = &t->f.known[KNOWN_PLACE("job")];
	unsigned c = (unsigned)take(&t->f.in, 1);

	if (c >= 0xf0)
		return (uint16_t)take(&t->f.in, 2);
	if (c < 0xc0 && jobs->count > 0)
		return slot_of_id(jobs->values[c % jobs->count]);
	return slot_of_name(words("job"));
}

/* Most HELLOs are good ones. */
static inline void talk_hello(struct talk *t, struct hello_req *m)
{
	unsigned c = (unsigned)take(&t->f.in, 1);

	if (c >= 0xf0)
		return;
	*m = (struct hello_req){ .version = PROTOCOL_VERSION,
				 .role = (uint16_t)t->role,
				 .session = c < 0xc0 ? 0 : m->session,
				 .epoch = c < 0xc0 ? 0 : m->epoch,
				 .incarnation = 1 + c % 2,
				 .limit_bytes = 8u << 20,
				 .secret = t->secret,
				 .address = words("tcp://store:1") };
	if (c >= 0xd0 && c < 0xe0)
		m->role = (uint16_t)(c % ROLE_COUNT);
	if (c >= 0xe0)
		m->secret = take_slice(&t->f.in, c & 7);
}

static inline struct slice talk_filler(size_t len)
{
	static const uint8_t filler[2 * FRAME_FREE_PAYLOAD];

	return (struct slice){ filler, len < sizeof(filler) ? len : sizeof(filler) };
}

/* Extents that are announced, or a value with its sum, or whatever. */
static inline struct slice talk_commit(struct talk *t, struct commit_req *m)
{
	unsigned c = (unsigned)take(&t->f.in, 1);
	struct slice s;

	if (c & 1) {
		m->extent_count = c / 2 % 4;
		s = FILL_RECORDS(&t->f, EXTENT, extent, m->extent_count);
		return s;
	}
	s = talk_filler(c * 16);
	m->extent_count = 0;
	m->len = s.len;
	m->crc = crc_more(crc_begin(m->seed), s.ptr, s.len);
	return s;
}

static inline struct slice talk_payload(struct talk *t, int message)
{
	const struct message_info *info = message_table(&(size_t){ 0 }) + message;
	unsigned c = (unsigned)take(&t->f.in, 1);

	if (info->request_max == 0)
		return talk_filler(c == 0xff);
	if (message == MESSAGE_EXTEND) {
		struct slice s = FILL_RECORDS(&t->f, EXTENT, extent, c % 4);

		return s;
	}
	/* Sums of what they have written, as many as it may have. */
	if ((message == MESSAGE_RESERVE_PUT || message == MESSAGE_PUT_ROOM) && c < 0xc0)
		return talk_filler(c % 8 * 4u);
	return talk_filler(c < 0xf0 ? c * 40u : FRAME_FREE_PAYLOAD - 0xf8 + c);
}

/* A request's body; its payload comes back. */
static inline struct slice talk_body(struct talk *t, int message, struct wcur *w)
{
	struct slice payload = { NULL, 0 };
	bool has_payload = false;

	switch (message) {
#define M(id, NAME, name, ...)                                                     \
	case MESSAGE_##NAME: {                                                     \
		struct name##_req m;                                               \
                                                                                   \
		FILL(NAME##_REQ, &t->f, &m)                                        \
		if (message == MESSAGE_HELLO)                                      \
			talk_hello(t, (struct hello_req *)(void *)&m);             \
		if (message == MESSAGE_COMMIT) {                                   \
			payload = talk_commit(t, (struct commit_req *)(void *)&m); \
			has_payload = true;                                        \
		}                                                                  \
		name##_req_put(w, &m);                                             \
		break;                                                             \
	}
		MESSAGES(M)
#undef M
	}
	return has_payload ? payload : talk_payload(t, message);
}

/* What is wrong with it, if anything is. */
static inline void talk_spoil(struct talk *t, struct frame *f)
{
	unsigned c = (unsigned)take(&t->f.in, 1);

	if (c < 0xc0)
		return;
	switch (c % 8) {
	case 0:
		f->msg = (uint16_t)take(&t->f.in, 2);
		break;
	case 1:
		f->flags = (uint16_t)take(&t->f.in, 1) % 8;
		break;
	case 2:
		f->status = (uint16_t)take(&t->f.in, 1);
		break;
	case 3:
		f->call = (uint32_t)take(&t->f.in, 1) % 8;
		break;
	case 4:
		f->timeout_ms = (uint32_t)fields_number(&t->f, -1, 4);
		break;
	case 5:
		f->body_len = (uint32_t)fields_number(&t->f, -1, 4);
		break;
	case 6:
		f->payload_len = (uint32_t)fields_number(&t->f, -1, 4);
		break;
	case 7:
		f->body_len += (uint32_t)take(&t->f.in, 1) % 8;
		break;
	}
}

static inline void talk_confirm(struct talk *t, struct wcur *w, struct frame f)
{
	f.flags = take(&t->f.in, 1) >= 0xe0 ? FRAME_ABORT : 0;
	f.body_len = f.payload_len = 0;
	frame_put(w, &f);
}

static inline void talk_finish(struct talk *t, struct frame *f, struct wcur *w, struct slice body,
			       struct slice payload)
{
	bool is_long = payload.len > FRAME_FREE_PAYLOAD;

	f->body_len = (uint32_t)body.len;
	f->payload_len = (uint32_t)payload.len;
	if (is_long)
		f->flags |= FRAME_MORE;
	talk_spoil(t, f);
	frame_put(w, f);
	put_bytes(w, body.ptr, body.len);
	put_bytes(w, payload.ptr, payload.len);
	if (is_long)
		talk_confirm(t, w, *f);
	t->len = w->bad ? 0 : (size_t)(w->p - w->start);
}

/* One that they serve us; HELLO has been said. Now and then another. */
static inline bool is_for_us(struct talk *t, const struct message_info *m)
{
	if (take(&t->f.in, 1) >= 0xf8)
		return true;
	return (m->servers & t->servers) && m->id != MSG_HELLO &&
	       (t->role != ROLE_JOB || m->callers != CALLERS_ROLE);
}

/* The next request, in `frame`. `message` < 0: any of theirs. */
static inline void talk_request(struct talk *t, int message)
{
	static uint8_t body[16 << 10];
	struct wcur w = wcur_make(t->frame, sizeof(t->frame)), b = wcur_make(body, sizeof(body));
	size_t count;
	const struct message_info *table = message_table(&count);
	struct slice payload;
	struct frame f;

	t->f.used = 0;
	if (message < 0) {
		message = (int)(take(&t->f.in, 1) % count);
		for (size_t i = 0; i < count && !is_for_us(t, &table[message]); i++)
			message = (int)((size_t)(message + 1) % count);
	}
	payload = talk_body(t, message, &b);
	f = (struct frame){ .msg = table[message].id,
			    .slot = talk_slot(t),
			    .call = ++t->call,
			    .timeout_ms = take(&t->f.in, 1) < 0x80 ? 10000 : 5 };
	talk_finish(t, &f, &w, (struct slice){ body, b.bad ? 0 : (size_t)(b.p - b.start) },
		    payload);
}

/* The answer to a request of theirs, in `frame`. */
static inline void talk_answer(struct talk *t, const struct frame *asked)
{
	static uint8_t body[16 << 10];
	struct wcur w = wcur_make(t->frame, sizeof(t->frame)), b = wcur_make(body, sizeof(body));
	struct frame f = *asked;
	struct slice payload = { NULL, 0 };
	unsigned c = (unsigned)take(&t->f.in, 1);

	t->f.used = 0;
	f.flags = FRAME_REPLY;
	if (c >= 0xc0) {
		f.status = (uint16_t)(c & 31);
		error_rep_put(&b, &(struct error_rep){ words("no") });
		talk_finish(t, &f, &w, (struct slice){ body, (size_t)(b.p - b.start) }, payload);
		return;
	}
	switch (message_index(asked->msg)) {
#define M(id, NAME, name, ...)              \
	case MESSAGE_##NAME: {              \
		struct name##_rep m;        \
                                            \
		FILL(NAME##_REP, &t->f, &m) \
		name##_rep_put(&b, &m);     \
		break;                      \
	}
		MESSAGES(M)
#undef M
	}
	if (asked->msg == MSG_SEGMENT) {
		payload = FILL_RECORDS(&t->f, GRANT, grant, c % 4);
		b = wcur_make(body, sizeof(body));
		segment_rep_put(&b, &(struct segment_rep){ take(&t->f.in, 4), (uint16_t)(c % 4) });
	}
	talk_finish(t, &f, &w, (struct slice){ body, b.bad ? 0 : (size_t)(b.p - b.start) },
		    payload);
}

/* A frame of an answer came. *is_half, of its connection: the next one confirms its payload. */
static inline void talk_hear(struct talk *t, bool *is_half, const struct frame *f,
			     struct slice body, struct slice payload)
{
	struct rcur c = rcur_make(body.ptr, body.len), list = rcur_make(payload.ptr, payload.len);
	bool is_end = *is_half;

	*is_half = f->flags & FRAME_MORE;
	if (is_end || !(f->flags & FRAME_REPLY) || f->status != STATUS_OK)
		return;
	switch (message_index(f->msg)) {
#define M(id, NAME, name, ...)                        \
	case MESSAGE_##NAME: {                        \
		struct name##_rep m;                  \
                                                      \
		REQUIRE(name##_rep_get(&c, &m) == 0); \
		LEARN(NAME##_REP, &t->f, &m)          \
		break;                                \
	}
		MESSAGES(M)
#undef M
	}
	if (f->msg == MSG_HELLO) {
		struct rcur again = rcur_make(body.ptr, body.len);
		struct hello_rep m;

		REQUIRE(hello_rep_get(&again, &m) == 0);
		talk_as(t, t->role, t->secret, m.session, m.epoch);
	}
	if (f->msg == MSG_LEASE || f->msg == MSG_SEGMENT)
		while (list.p < list.end && !list.bad) {
			struct grant g;

			grant_get(&list, &g);
			LEARN(GRANT, &t->f, &g)
		}
}
