/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fields: requests and effects made of an input, field by field, so that most of them
 * make sense: ids are mostly those that were heard before, paths meet, and lengths and
 * offsets are small, round, or at an edge. All from the bytes of the input.
 *
 *	FILL(LEASE_REQ, &f, &req)      every field of a list, from the input
 *	LEARN(LEASE_REP, &f, &rep)     what is an id in it may come again
 */
#pragma once

#include "fuzz.h"
#include "wire/codec.h"

#define KNOWN_MAX 8

struct known {
	uint64_t values[KNOWN_MAX];
	unsigned count, next;
};

static const char *const KNOWN[] = {
	"job", "session",    "epoch", "object",     "version", "hold",    "open",  "segment",
	"put", "generation", "key",   "attempt_lo", "read_lo", "request", "store",
};
#define KNOWN_NAMES (sizeof(KNOWN) / sizeof(*KNOWN))

/* Those that ask for something rare, and are mostly 0. */
static const char *const PLAIN[] = { "flags",  "tier",   "copies", "if_version",
				     "age_ms", "ttl_ms", "reads",  "wait_ms" };

/* Instead of a place in KNOWN. */
enum { PLACE_NONE = -1, PLACE_PLAIN = -2, PLACE_UNKNOWN = -3 };

struct fields {
	struct bytes in;
	struct known known[KNOWN_NAMES];
	uint8_t room[16 << 10]; /* of the strings of one request */
	size_t used;
};

static inline void fields_init(struct fields *f, struct bytes in)
{
	f->in = in;
	f->used = 0;
	memset(f->known, 0, sizeof(f->known));
}

/* The place of a field in KNOWN: of this name, or of one that ends so, as table_segment. */
UNWATCHED static int known_place(const char *name)
{
	for (size_t i = 0; i < sizeof(PLAIN) / sizeof(*PLAIN); i++)
		if (strcmp(name, PLAIN[i]) == 0)
			return PLACE_PLAIN;
	for (size_t i = 0; i < KNOWN_NAMES; i++) {
		size_t n = strlen(name), m = strlen(KNOWN[i]);

		if (n >= m && strcmp(name + n - m, KNOWN[i]) == 0)
			return (int)i;
	}
	return PLACE_NONE;
}

/* Looked up once for each place in the program. */
#define KNOWN_PLACE(name)                           \
	({                                          \
		static int place_ = PLACE_UNKNOWN;  \
                                                    \
		if (place_ == PLACE_UNKNOWN)        \
			place_ = known_place(name); \
		place_;                             \
	})

UNWATCHED static inline void fields_learn(struct fields *f, int place, uint64_t v)
{
	struct known *k = place < 0 ? NULL : &f->known[place];

	if (!k || v == 0)
		return;
	for (unsigned i = 0; i < k->count; i++)
		if (k->values[i] == v)
			return;
	k->values[k->next++ % KNOWN_MAX] = v;
	if (k->count < KNOWN_MAX)
		k->count++;
}

/* From now on it is the only one of its name; 0: there is none. */
static inline void fields_only(struct fields *f, int place, uint64_t v)
{
	f->known[place] = (struct known){ .values = { v }, .count = v != 0, .next = v != 0 };
}

UNWATCHED static inline uint64_t fields_number(struct fields *f, int place, size_t width)
{
	static const uint64_t EDGES[16] = { 0,
					    1,
					    UINT16_MAX,
					    1ull << 31,
					    UINT32_MAX,
					    1ull << 32,
					    1ull << 62,
					    (1ull << 63) - 1,
					    1ull << 63,
					    UINT64_MAX - 1,
					    UINT64_MAX,
					    INLINE_BYTES_MAX,
					    TRANSFER_PIECE,
					    FRAME_PAYLOAD_MAX,
					    SEGMENT_BYTES_MAX,
					    SEGMENT_BYTES_MIN };
	unsigned c = (unsigned)take(&f->in, 1);
	const struct known *k = place < 0 ? NULL : &f->known[place];

	if (c >= 0xf0)
		return take(&f->in, width);
	if (c >= 0xe0)
		return EDGES[c & 15];
	if (place == PLACE_PLAIN)
		return c < 0xc0 ? 0 : c & 3;
	if (k)
		return c < 0xc0 && k->count > 0 ? k->values[c % k->count] : c & 31;
	if (c < 0x60)
		return c & 31;
	return c < 0xa0 ? (uint64_t)(c & 63) * SEGMENT_PAGE : 1ull << (c & 31);
}

UNWATCHED static inline bool is_path_name(const char *name)
{
	static const char *const NAMES[] = { "path", "from", "to", "after", "directory" };

	for (size_t i = 0; i < sizeof(NAMES) / sizeof(*NAMES); i++)
		if (strcmp(name, NAMES[i]) == 0)
			return true;
	return false;
}

static inline struct slice fields_room(struct fields *f, size_t len)
{
	struct slice s = { f->room + f->used, len };

	if (len > sizeof(f->room) - f->used)
		return (struct slice){ f->room, 0 };
	f->used += len;
	return s;
}

/* Up to `max` bytes out of the input, or as many equal ones. */
static inline struct slice fields_text(struct fields *f, size_t max)
{
	uint64_t len = take(&f->in, 2) % (max + 1);
	struct slice s;

	if (len < 256)
		return take_slice(&f->in, len);
	s = fields_room(f, len);
	memset((uint8_t *)s.ptr, 'a' + (int)take(&f->in, 1) % 26, s.len);
	return s;
}

UNWATCHED static inline struct slice fields_str(struct fields *f, const char *name)
{
	static const char *const PATHS[] = {
		"",    "a",   "b",   "a/",    "a/x", "a/y", "a/y/z",
		"a-b", "b/1", "b/2", "b/3/4", "/a",  "//",  "\xc3\xa4/\xc3\xb6"
	};
	static const char *const JOBS[] = { "job", "other", "third", "default" };
	unsigned c = (unsigned)take(&f->in, 1);

	if (c >= 0xe0)
		return fields_text(f, PATH_BYTES_MAX + 10);
	if (is_path_name(name))
		return words(PATHS[c % (sizeof(PATHS) / sizeof(*PATHS))]);
	if (strcmp(name, "name") == 0)
		return words(JOBS[c % 4]);
	return take_slice(&f->in, c % 8);
}

/* `count` records one behind the other. */
#define FILL_RECORDS(f, FIELDS, type, count)                                                      \
	({                                                                                        \
		struct wcur w_ = wcur_make((f)->room + (f)->used, sizeof((f)->room) - (f)->used); \
		struct type x_;                                                                   \
                                                                                                  \
		for (uint64_t i_ = 0; i_ < (count); i_++) {                                       \
			FILL(FIELDS, f, &x_)                                                      \
			type##_put(&w_, &x_);                                                     \
		}                                                                                 \
		(f)->used += (size_t)(w_.p - w_.start);                                           \
		(struct slice){ w_.start, (size_t)(w_.p - w_.start) };                            \
	})

#define FIELD_u16(f, name)    (uint16_t) fields_number(f, KNOWN_PLACE(name), 2)
#define FIELD_u32(f, name)    (uint32_t) fields_number(f, KNOWN_PLACE(name), 4)
#define FIELD_u64(f, name)    fields_number(f, KNOWN_PLACE(name), 8)
#define FIELD_id(f, name)     FIELD_u64(f, name)
#define FIELD_r32(f, name)    FIELD_u32(f, name)
#define FIELD_r64(f, name)    FIELD_u64(f, name)
#define FIELD_str(f, name)    fields_str(f, name)
#define FILL_ONE(type, field) m_->field = FIELD_##type(f_, #field);
#define FILL(FIELDS, f, m)               \
	{                                \
		struct fields *f_ = (f); \
		__typeof__(m) m_ = (m);  \
                                         \
		(void)f_, (void)m_;      \
		FIELDS(FILL_ONE)         \
	}

#define LEARN_u16(f, name, v)  (void)(v)
#define LEARN_u32(f, name, v)  fields_learn(f, KNOWN_PLACE(name), v)
#define LEARN_u64(f, name, v)  fields_learn(f, KNOWN_PLACE(name), v)
#define LEARN_id(f, name, v)   LEARN_u64(f, name, v)
#define LEARN_r32(f, name, v)  LEARN_u32(f, name, v)
#define LEARN_r64(f, name, v)  LEARN_u64(f, name, v)
#define LEARN_str(f, name, v)  (void)(v)
#define LEARN_ONE(type, field) LEARN_##type(f_, #field, m_->field);
#define LEARN(FIELDS, f, m)              \
	{                                \
		struct fields *f_ = (f); \
		__typeof__(m) m_ = (m);  \
                                         \
		(void)f_, (void)m_;      \
		FIELDS(LEARN_ONE)        \
	}
