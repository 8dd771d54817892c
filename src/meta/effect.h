/* SPDX-License-Identifier: Apache-2.0 */
/*
 * effect: a change of a slot's state, as it is logged and applied.
 *
 * One struct, encoder and decoder for each line of effects.def. A decoded `str`
 * points into the input; one that was just decided points into the request.
 */
#pragma once

#include "base/hash.h"
#include "meta/effects.def"
#include "meta/field.h"

/* The longest: a path, attributes, extents and a value, and every other field. */
#define EFFECT_BYTES_MAX 8192

struct job;
struct entry;
struct directory;
struct attempt;
struct segment;
struct pool;
struct session;
struct hold;
struct open;
struct chunk;
struct part;
struct body;

enum effect_kind {
#define E(id, NAME, name) EFFECT_##NAME = id,
	EFFECTS(E)
#undef E
		EFFECT_KINDS
};

/* clang-format off */
#define F(type, field) FIELD_TYPE_##type field;
#define E(id, NAME, name) struct name##_effect { NAME##_FIELDS(F) };
EFFECTS(E)
#undef E
#undef F
/* clang-format on */

struct effect {
	enum effect_kind kind;
	uint64_t at_ns;
	union {
#define E(id, NAME, name) struct name##_effect name;
		EFFECTS(E)
#undef E
	} u;

	/*
	 * Between effect_reserve() and effect_apply(): what it is about, and all the memory
	 * that it will need; what is left of that goes back afterwards.
	 */
	struct {
		struct job *job; /* if it is set before, so are `entry` and `hash` */
		struct entry *entry, *target;
		struct hash_128 hash; /* of the path that something is put at */
		struct segment *segment;
		struct pool *pool;
		struct session *session;
		struct hold *hold;
		struct open *open;
	} at;
	struct {
		struct job *job;
		struct entry *entry;
		struct directory *directory;
		struct attempt *attempt;
		struct attempt *spares;   /* chained by link.next */
		struct segment *segments; /* chained by `next_new` */
		struct session *session;
		struct share *share;
		struct hold *hold;
		struct open *open;
		struct part *part;
		struct chunk *chunk;
		struct body *body;
	} made;
};

void effect_put(struct wcur *c, const struct effect *e);
/* -EBADMSG: not an effect. Leaves what is behind it in the cursor. */
int effect_get(struct rcur *c, struct effect *ret);
const char *effect_name(enum effect_kind kind);
