/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/effect.h"

/* clang-format off */
/* With a cursor of its own an encoder has that in registers. */
#define PUT(type, field) field_put_##type(&at, m->field);
#define GET(type, field) m->field = field_get_##type(c);

#define E(id, NAME, name)                                                     \
	static void name##_put(struct wcur *c, const struct name##_effect *m) \
	{                                                                     \
		struct wcur at = *c;                                          \
		NAME##_FIELDS(PUT)                                            \
		*c = at;                                                      \
	}                                                                     \
	static void name##_get(struct rcur *c, struct name##_effect *m)       \
	{                                                                     \
		NAME##_FIELDS(GET)                                            \
	}
EFFECTS(E)
#undef E

void effect_put(struct wcur *c, const struct effect *e)
{
	field_put_u16(c, (uint16_t)e->kind);
	field_put_u64(c, e->at_ns);
	switch (e->kind) {
#define E(id, NAME, name)                                                     \
	case EFFECT_##NAME:                                                   \
		name##_put(c, &e->u.name);                                    \
		return;
	EFFECTS(E)
#undef E
	case EFFECT_KINDS:
		break;
	}
	c->bad = true;
}

int effect_get(struct rcur *c, struct effect *ret)
{
	uint16_t kind = field_get_u16(c);

	*ret = (struct effect){ .kind = (enum effect_kind)kind, .at_ns = field_get_u64(c) };
	switch (kind) {
#define E(id, NAME, name)                                                     \
	case EFFECT_##NAME:                                                   \
		name##_get(c, &ret->u.name);                                  \
		break;
	EFFECTS(E)
#undef E
	default:
		c->bad = true;
	}
	return c->bad ? -EBADMSG : 0;
}

const char *effect_name(enum effect_kind kind)
{
	switch (kind) {
#define E(id, NAME, name)                                                     \
	case EFFECT_##NAME:                                                   \
		return #NAME;
	EFFECTS(E)
#undef E
	case EFFECT_KINDS:
		break;
	}
	return "?";
}
/* clang-format on */
