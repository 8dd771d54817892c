/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/image.h"

/* clang-format off */
#define PUT(type, field) field_put_##type(c, m->field);
#define GET(type, field) m->field = field_get_##type(c);

#define I(id, NAME, name)                                                     \
	static void name##_put(struct wcur *c, const struct name##_image *m)  \
	{                                                                     \
		NAME##_IMAGE(PUT)                                             \
	}                                                                     \
	static void name##_get(struct rcur *c, struct name##_image *m)        \
	{                                                                     \
		NAME##_IMAGE(GET)                                             \
	}
IMAGES(I)
#undef I

void image_put(struct wcur *c, const struct image *im)
{
	field_put_u16(c, (uint16_t)im->kind);
	switch (im->kind) {
#define I(id, NAME, name)                                                     \
	case IMAGE_##NAME:                                                    \
		name##_put(c, &im->u.name);                                   \
		return;
	IMAGES(I)
#undef I
	case IMAGE_KINDS:
		break;
	}
	c->bad = true;
}

int image_get(struct rcur *c, struct image *ret)
{
	uint16_t kind = field_get_u16(c);

	*ret = (struct image){ .kind = (enum image_kind)kind };
	switch (kind) {
#define I(id, NAME, name)                                                     \
	case IMAGE_##NAME:                                                    \
		name##_get(c, &ret->u.name);                                  \
		break;
	IMAGES(I)
#undef I
	default:
		c->bad = true;
	}
	return c->bad ? -EBADMSG : 0;
}
/* clang-format on */
