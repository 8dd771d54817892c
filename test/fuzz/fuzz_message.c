/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The body of every message, request and reply, and every record of a payload: what
 * decodes encodes to the same bytes.
 *
 * The input: a byte that says which, then the body.
 */
#include "fuzz.h"

#include "wire/codec.h"

#define BODY_MAX (64u << 10)

/* In the order of the table: requests, replies, records, and the error. */
enum which {
#define M(id, NAME, name, ...) WHICH_##name##_req, WHICH_##name##_rep,
	MESSAGES(M)
#undef M
#define R(FIELDS, name) WHICH_##name,
		RECORDS(R)
#undef R
			WHICH_error_rep,
	WHICH_COUNT
};
_Static_assert(WHICH_COUNT <= 256, "a byte says which");

static uint8_t again[BODY_MAX];

static void compare(struct slice body, const struct wcur *w)
{
	ptrdiff_t n = wcur_finish(w);

	REQUIRE(n == (ptrdiff_t)body.len);
	REQUIRE(memcmp(again, body.ptr, body.len) == 0);
}

#define WHOLE(name)                            \
	case WHICH_##name: {                   \
		struct name m;                 \
                                               \
		if (name##_get(&c, &m) == 0) { \
			name##_put(&w, &m);    \
			compare(body, &w);     \
		}                              \
		return;                        \
	}

/* A record leaves what follows it. */
#define RECORD(FIELDS, name)                                 \
	case WHICH_##name: {                                 \
		struct name m;                               \
                                                             \
		name##_get(&c, &m);                          \
		if (!c.bad) {                                \
			body.len = (size_t)(c.p - body.ptr); \
			name##_put(&w, &m);                  \
			compare(body, &w);                   \
		}                                            \
		return;                                      \
	}

static void both_ways(enum which which, struct slice body)
{
	struct rcur c = rcur_make(body.ptr, body.len);
	struct wcur w = wcur_make(again, sizeof(again));

	switch (which) {
#define M(id, NAME, name, ...) WHOLE(name##_req) WHOLE(name##_rep)
		MESSAGES(M)
#undef M
		RECORDS(RECORD)
		WHOLE(error_rep)
	case WHICH_COUNT:
		return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len == 0 || len > BODY_MAX || data[0] >= WHICH_COUNT)
		return 0;
	both_ways((enum which)data[0], (struct slice){ data + 1, len - 1 });
	return 0;
}

/* Each as if all its fields were words of their own. */
#define F_u16(field)      m.field = 0x1234;
#define F_u32(field)      m.field = 0x12345678;
#define F_u64(field)      m.field = 0x123456789abcdef0;
#define F_str(field)      m.field = words(#field);
#define FILL(type, field) F_##type(field)

#define SEED(FIELDS, type)                                        \
	{                                                         \
		struct type m = {};                               \
		struct wcur w = wcur_make(again, sizeof(again));  \
                                                                  \
		FIELDS(FILL)                                      \
		put_le(&w, WHICH_##type, 1);                      \
		type##_put(&w, &m);                               \
		fuzz_seed(#type, again, (size_t)wcur_finish(&w)); \
	}

void fuzz_seeds(void)
{
#define M(id, NAME, name, ...) SEED(NAME##_REQ, name##_req) SEED(NAME##_REP, name##_rep)
	MESSAGES(M)
#undef M
	RECORDS(SEED)
	SEED(ERROR_REP, error_rep)
}
