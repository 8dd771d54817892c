/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image: a thing of a slot, as a snapshot has it: struct, encoder and decoder for each
 * line of images.def. A decoded `str` points into the input.
 */
#pragma once

#include "meta/field.h"
#include "meta/images.def"

/* The longest: extents of a whole chunk. */
#define IMAGE_BYTES_MAX 8192

enum image_kind {
#define I(id, NAME, name) IMAGE_##NAME = id,
	IMAGES(I)
#undef I
		IMAGE_KINDS
};

/* clang-format off */
#define F(type, field) FIELD_TYPE_##type field;
#define I(id, NAME, name) struct name##_image { NAME##_IMAGE(F) };
IMAGES(I)
#undef I
#undef F
/* clang-format on */

struct image {
	enum image_kind kind;
	union {
#define I(id, NAME, name) struct name##_image name;
		IMAGES(I)
#undef I
	} u;
};

void image_put(struct wcur *c, const struct image *im);
/* -EBADMSG: not an image. Leaves what is behind it in the cursor. */
int image_get(struct rcur *c, struct image *ret);
