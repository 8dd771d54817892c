/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/codec.h"

/*
 * All fields are asked for at once whether they fit, strings counted as empty; then numbers are
 * only loads and stores, and a string takes of `rest`, what there is beyond that.
 */
static CURSOR_INLINE uint64_t read_le(const uint8_t **p, size_t width)
{
	struct rcur c = rcur_make(*p, width);

	*p += width;
	return get_le(&c, width);
}

static CURSOR_INLINE struct slice read_str(const uint8_t **p, size_t *rest, bool *bad)
{
	size_t len = read_le(p, 2);

	*bad |= len > *rest;
	if (*bad)
		return (struct slice){ 0 };
	*rest -= len;
	*p += len;
	return (struct slice){ *p - len, len };
}

static CURSOR_INLINE void write_le(uint8_t **p, uint64_t v, size_t width)
{
	struct wcur c = wcur_make(*p, width);

	put_le(&c, v, width);
	*p += width;
}

static CURSOR_INLINE void write_str(uint8_t **p, struct slice s)
{
	write_le(p, s.len, 2);
	if (s.len > 0)
		memcpy(*p, s.ptr, s.len);
	*p += s.len;
}

static CURSOR_INLINE bool has_room(const struct rcur *c, size_t len)
{
	return !c->bad && (size_t)(c->end - c->p) >= len;
}

/* clang-format off */
#define WIDTH_u16 2
#define WIDTH_u32 4
#define WIDTH_u64 8
#define WIDTH_str 2
#define WIDTH(type, field) + WIDTH_##type

#define GET_u16 (uint16_t)read_le(&p, 2)
#define GET_u32 (uint32_t)read_le(&p, 4)
#define GET_u64 read_le(&p, 8)
#define GET_str read_str(&p, &rest, &bad)
#define GET(type, field) ret->field = GET_##type;
#define GETS(FIELDS)                                                          \
	do {                                                                  \
		const size_t fixed = 0 FIELDS(WIDTH);                         \
		const uint8_t *p = c->p;                                      \
		size_t rest;                                                  \
		bool bad = false;                                             \
		if (!has_room(c, fixed)) {                                    \
			memset(ret, 0, sizeof(*ret));                         \
			c->bad = true;                                        \
			break;                                                \
		}                                                             \
		rest = (size_t)(c->end - p) - fixed;                          \
		FIELDS(GET)                                                   \
		(void)rest;                                                   \
		c->p = p;                                                     \
		c->bad = bad;                                                 \
	} while (0)

#define LEN_u16(value) 0
#define LEN_u32(value) 0
#define LEN_u64(value) 0
#define LEN_str(value) (value).len
#define LEN(type, field) + LEN_##type(m->field)
#define IS_LONG_u16(value) false
#define IS_LONG_u32(value) false
#define IS_LONG_u64(value) false
#define IS_LONG_str(value) ((value).len > UINT16_MAX)
#define IS_LONG(type, field) || IS_LONG_##type(m->field)
#define PUT_u16(value) write_le(&p, value, 2)
#define PUT_u32(value) write_le(&p, value, 4)
#define PUT_u64(value) write_le(&p, value, 8)
#define PUT_str(value) write_str(&p, value)
#define PUT(type, field) PUT_##type(m->field);
#define PUTS(FIELDS)                                                          \
	do {                                                                  \
		uint8_t *p;                                                   \
		c->bad |= false FIELDS(IS_LONG);                              \
		p = wcur_take(c, 0 FIELDS(WIDTH) FIELDS(LEN));                \
		if (p) {                                                      \
			FIELDS(PUT)                                           \
		}                                                             \
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

/* By number; what is not there is one less than the first. */
static const uint8_t INDEX[] = {
#define M(id, NAME, name, servers, callers, request_max, reply_max)           \
	[id] = MESSAGE_##NAME + 1,
	MESSAGES(M)
#undef M
};
_Static_assert(MESSAGE_COUNT < UINT8_MAX && sizeof(INDEX) <= 4096, "one byte of a small table");

int message_index(uint16_t msg)
{
	return msg < sizeof(INDEX) ? INDEX[msg] - 1 : -1;
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
	case MSG_RESERVE:
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
