/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/codec.h"

/* clang-format off */
/* With a cursor of its own each coder has that in registers, and looks at memory for fields only. */
#define GET(type, field) ret->field = get_##type(&at);
#define PUT(type, field) put_##type(&at, m->field);
#define GETS(FIELDS)                                                          \
	do {                                                                  \
		struct rcur at = *c;                                          \
		FIELDS(GET)                                                   \
		*c = at;                                                      \
	} while (0)
#define PUTS(FIELDS)                                                          \
	do {                                                                  \
		struct wcur at = *c;                                          \
		FIELDS(PUT)                                                   \
		*c = at;                                                      \
	} while (0)

#define ONE_WAY(FIELDS, name)                                                 \
	int name##_get(struct rcur *c, struct name *ret)                      \
	{                                                                     \
		(void)ret;                                                    \
		GETS(FIELDS);                                                 \
		return rcur_finish(c);                                        \
	}                                                                     \
	void name##_put(struct wcur *c, const struct name *m)                 \
	{                                                                     \
		(void)m;                                                      \
		PUTS(FIELDS);                                                 \
	}

#define M(id, NAME, name, servers, callers, request_max, reply_max)           \
	ONE_WAY(NAME##_REQ, name##_req)                                       \
	ONE_WAY(NAME##_REP, name##_rep)
MESSAGES(M)
#undef M
ONE_WAY(ERROR_REP, error_rep)

#define R(FIELDS, name)                                                       \
	void name##_get(struct rcur *c, struct name *ret) { GETS(FIELDS); }   \
	void name##_put(struct wcur *c, const struct name *m) { PUTS(FIELDS); }
RECORDS(R)
#undef R

#define P  SERVER_PROXY
#define M_ SERVER_META
#define S  SERVER_STORE
static const struct message_info TABLE[] = {
#define M(id, NAME, name, servers, callers, request_max, reply_max)           \
	{ id, #NAME, servers, CALLERS_##callers, request_max, reply_max },
	MESSAGES(M)
#undef M
};
#undef P
#undef M_
#undef S

int message_index(uint16_t msg)
{
	switch (msg) {
#define M(id, NAME, name, servers, callers, request_max, reply_max)           \
	case id: return MESSAGE_##NAME;
	MESSAGES(M)
#undef M
	default:
		return -1;
	}
}

void frame_put(struct wcur *c, const struct frame *m)
{
	put_u32(c, FRAME_MAGIC);
	PUTS(FRAME);
}

static void frame_fields_get(struct rcur *c, struct frame *ret)
{
	GETS(FRAME);
}

static const struct {
	const char *name, *text;
	int err;
	enum status_retry retry;
} STATUS_TABLE[STATUS_COUNT] = {
#define S(code, NAME, err, retry, text) [code] = { #NAME, text, err, RETRY_##retry },
	STATUSES(S)
#undef S
};
/* clang-format on */

const struct message_info *message_info(uint16_t msg)
{
	int index = message_index(msg);

	return index < 0 ? NULL : &TABLE[index];
}

const struct message_info *message_table(size_t *ret_count)
{
	*ret_count = sizeof(TABLE) / sizeof(TABLE[0]);
	return TABLE;
}

/* Before it there are numbers only. SIZE_MAX: there is none. */
static size_t age_at(uint16_t msg)
{
	switch (msg) {
	case MSG_PUT:
		return 0;
	case MSG_PUT_OPEN:
		return 8;
	case MSG_LEASE:
		return 32;
	default:
		return SIZE_MAX;
	}
}

void request_grow_old(uint16_t msg, uint8_t *body, size_t len, uint64_t more_ms)
{
	size_t at = age_at(msg);
	struct rcur r;
	struct wcur w;
	uint64_t age_ms;

	if (at > len || len - at < 8)
		return;
	r = rcur_make(body + at, 8);
	w = wcur_make(body + at, 8);
	age_ms = get_u64(&r);
	put_u64(&w, age_ms + more_ms < age_ms ? UINT64_MAX : age_ms + more_ms);
}

/* An unknown message passes: the answer to it is UNSUPPORTED, not a hang-up. */
static uint32_t payload_max(const struct frame *f)
{
	const struct message_info *info = message_info(f->msg);

	if (!info)
		return FRAME_PAYLOAD_MAX;
	return f->flags & FRAME_REPLY ? info->reply_max : info->request_max;
}

int frame_get(struct rcur *c, struct frame *ret)
{
	uint32_t magic = get_u32(c);

	frame_fields_get(c, ret);
	if (magic != FRAME_MAGIC)
		return -EPROTO;
	if (ret->body_len > FRAME_BODY_MAX || ret->payload_len > payload_max(ret))
		return -EMSGSIZE;
	return rcur_finish(c);
}

enum status status_of(int r)
{
	if (r >= 0)
		return STATUS_OK;
	for (int code = 1; code < STATUS_COUNT; code++)
		if (STATUS_TABLE[code].err == -r)
			return (enum status)code;
	return STATUS_INTERNAL;
}

int status_errno(unsigned status)
{
	return -STATUS_TABLE[status < STATUS_COUNT ? status : STATUS_INTERNAL].err;
}

const char *status_name(unsigned status)
{
	return STATUS_TABLE[status < STATUS_COUNT ? status : STATUS_INTERNAL].name;
}

const char *status_text(unsigned status)
{
	return STATUS_TABLE[status < STATUS_COUNT ? status : STATUS_INTERNAL].text;
}

enum status_retry status_retry(unsigned status)
{
	return STATUS_TABLE[status < STATUS_COUNT ? status : STATUS_INTERNAL].retry;
}
