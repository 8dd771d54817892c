/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec: one struct, one encoder and one decoder for each line of messages.def.
 *
 * Pure: bytes in, struct out, and back. No allocation, no I/O, no clock, no
 * logging, so the same functions run in the servers, the tests and the fuzzers.
 * A decoded `str` points into the input buffer. `x_req_get()` and `x_rep_get()`
 * decode a whole body; the records of payloads, `extent_get()` and the like, take
 * their own bytes and leave the rest: ask rcur_finish() at the end.
 */
#pragma once

#include "base/cursor.h"
#include "base/limits.h"
#include "wire/messages.def"
#include "wire/status.def"

#define PROTOCOL_VERSION  1
#define FRAME_MAGIC       0x31444157 /* "WAD1" */
#define FRAME_HEADER_SIZE 36

/* The longest payloads of lists: a LIST_STEP of short names, or a few dozen of the longest. */
#define LIST_BYTES    (128u << 10)
#define EXTENT_SIZE   48
#define EXTENTS_BYTES (EXTENTS_MAX * EXTENT_SIZE)
#define GRANT_SIZE    32
#define GRANTS_BYTES  (LEASE_SEGMENTS_MAX * GRANT_SIZE)
/* With the sums of some 400 MiB: a longer object is asked for in several messages. */
#define NEAR_BYTES         (32u << 10)
#define NEAR_EXTENT_SIZE   32
#define RESERVED_PART_SIZE 28
#define RESERVED_BYTES     (EXTENTS_MAX * RESERVED_PART_SIZE)
/* Of an object that a function writes itself. */
#define SUMS_BYTES        (SEGMENT_BYTES_MAX / CHECK_PIECE * 4)
#define MAPPING_PART_SIZE 20
#define MAPPING_BYTES     (EXTENTS_MAX * MAPPING_PART_SIZE)
#define PLACE_SIZE        8
#define PLACES_BYTES      (EXTENTS_MAX * PLACE_SIZE)
#define MOVE_SIZE         24
#define MOVES_BYTES       (EXTENTS_MAX * MOVE_SIZE)

_Static_assert(INLINE_BYTES_MAX <= EXTENTS_BYTES, "a value fits where extents do");

enum frame_flags { FRAME_REPLY = 1u << 0, FRAME_MORE = 1u << 1, FRAME_ABORT = 1u << 2 };

/* Who serves a message, and who may call. */
enum server { SERVER_PROXY = 1u << 0, SERVER_META = 1u << 1, SERVER_STORE = 1u << 2 };
enum role { ROLE_JOB, ROLE_PROXY, ROLE_META, ROLE_STORE, ROLE_COUNT };
enum callers { CALLERS_JOB, CALLERS_ROLE, CALLERS_ANY, CALLERS_FIRST };

/* HOW.flags, RENAME.flags */
enum put_flags { PUT_CREATE = 1u << 0, PUT_DURABLE = 1u << 1, PUT_FLAGS_ALL = 3 };
enum tier { TIER_ANY, TIER_DRAM, TIER_NVMF, TIER_BLOCK, TIER_COUNT };
enum rights {
	RIGHT_READ = 1u << 0,
	RIGHT_WRITE = 1u << 1,
	RIGHT_REMOVE = 1u << 2,
	RIGHT_LIST = 1u << 3,
	RIGHT_JOB = 1u << 4,
	RIGHT_ADMIN = 1u << 5, /* create jobs, list and end any: never part of a job's token */
	RIGHTS_OF_JOB = 0x1f,
};

#define NONE_32 UINT32_MAX
#define NONE_64 UINT64_MAX

/* clang-format off */
enum status {
#define S(code, NAME, err, retry, text) STATUS_##NAME = code,
	STATUSES(S)
#undef S
	STATUS_COUNT
};

#define WIRE_u16 uint16_t
#define WIRE_u32 uint32_t
#define WIRE_u64 uint64_t
#define WIRE_str struct slice

#define F(type, field) WIRE_##type field;
struct frame { FRAME(F) };

/* What payloads are made of. */
#define RECORDS(R)                                                            \
	R(EXTENT,        extent)                                              \
	R(NEAR_EXTENT,   near_extent)                                         \
	R(RESERVED_PART, reserved_part)                                       \
	R(MAPPING_PART,  mapping_part)                                        \
	R(GRANT,         grant)                                               \
	R(LIST_ENTRY,    list_entry)                                          \
	R(ADDRESS,       address_entry)                                       \
	R(JOB_SHOW_REP,  job_entry)                                           \
	R(SEGMENT_ENTRY, segment_entry)                                       \
	R(PLACE_ENTRY,   place_entry)                                         \
	R(MOVE_ENTRY,    move_entry)

#define R(FIELDS, name)                                                       \
	struct name { FIELDS(F) };                                            \
	void name##_get(struct rcur *c, struct name *ret);                    \
	void name##_put(struct wcur *c, const struct name *m);
RECORDS(R)
#undef R

#define M(id, NAME, name, servers, callers, request_max, reply_max)           \
	enum { MSG_##NAME = id };                                             \
	struct name##_req { NAME##_REQ(F) };                                  \
	struct name##_rep { NAME##_REP(F) };                                  \
	int name##_req_get(struct rcur *c, struct name##_req *ret);           \
	int name##_rep_get(struct rcur *c, struct name##_rep *ret);           \
	void name##_req_put(struct wcur *c, const struct name##_req *m);      \
	void name##_rep_put(struct wcur *c, const struct name##_rep *m);
MESSAGES(M)
#undef M
struct error_rep { ERROR_REP(F) };
int error_rep_get(struct rcur *c, struct error_rep *ret);
void error_rep_put(struct wcur *c, const struct error_rep *m);
#undef F
/* clang-format on */

/* A line of the table. */
struct message_info {
	uint16_t id;
	const char *name;
	unsigned servers;
	enum callers callers;
	uint32_t request_max, reply_max;
};

/* Messages without gaps, to index tables of handlers. */
enum message_index {
#define M(id, NAME, name, servers, callers, request_max, reply_max) MESSAGE_##NAME,
	MESSAGES(M)
#undef M
		MESSAGE_COUNT
};
int message_index(uint16_t msg); /* -1: unknown */

/* NULL for an unknown message. */
const struct message_info *message_info(uint16_t msg);
/* All of them, in the order of the table: for documents and tests. */
const struct message_info *message_table(size_t *ret_count);

/*
 * A repeat carries the same body, and says in it how old it is by then: `more_ms` more
 * than was encoded. A message without `age_ms` stays as it is.
 */
void request_grow_old(uint16_t msg, uint8_t *body, size_t len, uint64_t more_ms);

/* Checks the magic (-EPROTO), and the lengths against limits.h and the table (-EMSGSIZE). */
int frame_get(struct rcur *c, struct frame *ret);
void frame_put(struct wcur *c, const struct frame *m);

enum status_retry { RETRY_NEVER, RETRY_LATER, RETRY_SAME, RETRY_ELSEWHERE, RETRY_ANEW };

/* From and to negative errnos. An errno without a line is INTERNAL, an unknown code likewise. */
enum status status_of(int r);
int status_errno(unsigned status);
const char *status_name(unsigned status);
const char *status_text(unsigned status);
enum status_retry status_retry(unsigned status);
