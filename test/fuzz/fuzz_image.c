/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images of a snapshot: what decodes encodes to the same bytes; whatever they say, they
 * are refused, or a catalog is made of them that can be looked at and freed; and if
 * everything holds in it, it goes on so.
 *
 * The input: a byte that says how; then images, encoded, or made field by field.
 */
#include "slot.h"

#include "meta/image.h"
#include "meta/restore.h"

static struct slice list_of(struct fields *f, const char *name)
{
	struct slice s;

	if (strcmp(name, "extents") != 0)
		return fields_str(f, name);
	s = FILL_RECORDS(f, EXTENT, extent, take(&f->in, 1) % 3);
	return s;
}

#undef FIELD_str
#define FIELD_str(f, name) list_of(f, name)

static void make(struct fields *f, struct image *im)
{
	im->kind = (enum image_kind)(1 + take(&f->in, 1) % (IMAGE_KINDS - 1));
	f->used = 0;
	switch (im->kind) {
#define I(id, NAME, name)                          \
	case IMAGE_##NAME:                         \
		FILL(NAME##_IMAGE, f, &im->u.name) \
		break;
		IMAGES(I)
#undef I
	case IMAGE_KINDS:
		break;
	}
}

static void learn(struct fields *f, const struct image *im)
{
	switch (im->kind) {
#define I(id, NAME, name)                           \
	case IMAGE_##NAME:                          \
		LEARN(NAME##_IMAGE, f, &im->u.name) \
		break;
		IMAGES(I)
#undef I
	case IMAGE_KINDS:
		break;
	}
}

static void same_bytes(const uint8_t *bytes, const uint8_t *end)
{
	static uint8_t again[256 << 10];
	struct rcur c = rcur_make(bytes, (size_t)(end - bytes));
	struct wcur w = wcur_make(again, sizeof(again));
	struct image im;

	REQUIRE(image_get(&c, &im) == 0);
	image_put(&w, &im);
	REQUIRE(wcur_finish(&w) == c.p - bytes && memcmp(again, bytes, (size_t)(c.p - bytes)) == 0);
}

static bool next(struct restore *r, struct rcur *c)
{
	const uint8_t *from = c->p;
	int err = restore_next(r, c);

	REQUIRE(err == 0 || err == -EBADMSG || err == -ENOMEM || err == -ENOSPC);
	if (err == 0)
		same_bytes(from, c->p);
	return err == 0 && !r->is_whole;
}

static void encoded(struct restore *r, struct fields *f)
{
	struct rcur c = rcur_make(f->in.p, bytes_left(&f->in));

	while (c.p < c.end && next(r, &c))
		;
}

static void made(struct restore *r, struct fields *f)
{
	static uint8_t bytes[64 << 10];
	struct image im = { .kind = IMAGE_SLOT };
	bool goes_on = true;

	im.u.slot =
		(struct slot_image){ .slot = SLOT, .next_job = 9, .next_id = 9, .next_number = 9 };
	for (int i = 0; i < 64 && goes_on && bytes_left(&f->in) > 0; i++) {
		struct wcur w = wcur_make(bytes, sizeof(bytes));
		struct rcur c;

		if (i > 0)
			make(f, &im);
		image_put(&w, &im);
		if (wcur_finish(&w) < 0)
			continue;
		c = rcur_make(bytes, (size_t)wcur_finish(&w));
		goes_on = next(r, &c);
		learn(f, &im);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct fields f;
	struct restore r;
	struct slot t;

	fields_init(&f, bytes_of(data, len));
	slot_open(&t);
	REQUIRE(restore_begin(&r, t.c) == 0);
	if (take(&f.in, 1) % 2)
		made(&r, &f);
	else
		encoded(&r, &f);
	restore_end(&r);
	/* Sums of the images are believed, so a whole one may still be broken: then nobody goes on.
	 */
	if (r.is_whole && !catalog_check(t.c)) {
		t.now = catalog_last_ns(t.c) < UINT64_MAX / 2 ? catalog_last_ns(t.c) + SECOND
							      : catalog_last_ns(t.c);
		slot_tick(&t);
		slot_must_hold(t.c);
	}
	catalog_free(t.c);
	return 0;
}

static struct wcur seed;

static void put(void *owner, const struct image *im)
{
	(void)owner;
	image_put(&seed, im);
}

void fuzz_seeds(void)
{
	static uint8_t bytes[8192];
	static struct fields f;
	struct slot t;

	fields_init(&f, bytes_of(bytes, 0));
	slot_open(&t);
	slot_fill(&t, &f);
	seed = wcur_make(bytes, sizeof(bytes));
	put_le(&seed, 0, 1);
	catalog_snapshot_begin(t.c, 5, put, NULL);
	while (catalog_snapshot_step(t.c, 10))
		;
	fuzz_seed("filled", bytes, (size_t)wcur_finish(&seed));
	catalog_free(t.c);

	slot_open(&t);
	seed = wcur_make(bytes, sizeof(bytes));
	put_le(&seed, 0, 1);
	catalog_snapshot_begin(t.c, 5, put, NULL);
	while (catalog_snapshot_step(t.c, 10))
		;
	fuzz_seed("empty", bytes, (size_t)wcur_finish(&seed));
	catalog_free(t.c);
	bytes[0] = 1;
	for (int i = 1; i < 300; i++)
		bytes[i] = (uint8_t)(i * 37 % 251);
	fuzz_seed("made", bytes, 300);
}
