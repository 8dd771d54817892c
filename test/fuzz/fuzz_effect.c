/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Effects: what decodes encodes to the same bytes; whatever a log says, a catalog that
 * has lived refuses it or still holds afterwards, and goes on.
 *
 * The input: a byte that says how; then effects, encoded, or made field by field.
 */
#include "slot.h"

/* The lists of grants and extents inside an effect. */
static struct slice list_of(struct fields *f, const char *name)
{
	struct slice s;
	uint64_t count;

	if (strcmp(name, "grants") != 0 && strcmp(name, "extents") != 0)
		return fields_str(f, name);
	count = take(&f->in, 1) % 8;
	if (count > 3)
		count = 0;
	if (*name == 'g')
		s = FILL_RECORDS(f, GRANT, grant, count);
	else
		s = FILL_RECORDS(f, EXTENT, extent, count);
	return s;
}

#undef FIELD_str
#define FIELD_str(f, name) list_of(f, name)

static void make(struct fields *f, struct effect *e)
{
	static const uint16_t KINDS[] = {
#define E(id, NAME, name) id,
		EFFECTS(E)
#undef E
	};

	*e = (struct effect){ .kind = KINDS[take(&f->in, 1) % (sizeof(KINDS) / sizeof(*KINDS))] };
	e->at_ns = 1000 * SECOND + take(&f->in, 1) * SECOND;
	f->used = 0;
	switch (e->kind) {
#define E(id, NAME, name)                          \
	case EFFECT_##NAME:                        \
		FILL(NAME##_FIELDS, f, &e->u.name) \
		break;
		EFFECTS(E)
#undef E
	case EFFECT_KINDS:
		break;
	}
}

static void learn(struct fields *f, const struct effect *e)
{
	switch (e->kind) {
#define E(id, NAME, name)                           \
	case EFFECT_##NAME:                         \
		LEARN(NAME##_FIELDS, f, &e->u.name) \
		break;
		EFFECTS(E)
#undef E
	case EFFECT_KINDS:
		break;
	}
}

static void same_bytes(const uint8_t *bytes, const uint8_t *end)
{
	static uint8_t again[256 << 10];
	struct rcur c = rcur_make(bytes, (size_t)(end - bytes));
	struct wcur w = wcur_make(again, sizeof(again));
	struct effect e;

	REQUIRE(effect_get(&c, &e) == 0);
	effect_put(&w, &e);
	REQUIRE(wcur_finish(&w) == c.p - bytes && memcmp(again, bytes, (size_t)(c.p - bytes)) == 0);
	REQUIRE(effect_name(e.kind)[0] != '?');
}

/* True: applied. */
static bool replay(struct slot *t, struct rcur *c)
{
	const uint8_t *from = c->p;
	int r = catalog_replay(t->c, c);

	REQUIRE(r == 0 || r == -EBADMSG || r == -ENOMEM || r == -ENOSPC);
	if (r == 0)
		same_bytes(from, c->p);
	return r == 0;
}

static void encoded(struct slot *t, struct fields *f)
{
	struct rcur c = rcur_make(f->in.p, bytes_left(&f->in));

	while (c.p < c.end && replay(t, &c))
		;
}

static void made(struct slot *t, struct fields *f)
{
	static uint8_t bytes[64 << 10];

	for (int i = 0; i < 64 && bytes_left(&f->in) > 0; i++) {
		struct wcur w = wcur_make(bytes, sizeof(bytes));
		struct effect e;
		struct rcur c;

		make(f, &e);
		effect_put(&w, &e);
		if (wcur_finish(&w) < 0)
			continue;
		c = rcur_make(bytes, (size_t)wcur_finish(&w));
		if (replay(t, &c))
			learn(f, &e);
	}
}

/* It is still one that can be asked. */
static void goes_on(struct slot *t)
{
	static uint8_t payload[LIST_BYTES];
	struct commit_req put = { .job = (uint64_t)SLOT << ID_SLOT_SHIFT | 1,
				  .path = words("new") };
	struct list_req list = { .job = put.job, .is_recursive = 1 };
	struct wcur w = wcur_make(payload, sizeof(payload));

	t->now = t->c->last_ns;
	if (t->now < UINT64_MAX / 2)
		t->now += 100 * SECOND;
	put.len = 3;
	(void)catalog_commit(t->c, &put, words("new"), t->now, &t->out);
	(void)catalog_list(t->c, &list, t->now, &w, &t->out);
	(void)catalog_session_over(t->c, 5, t->now, &t->out);
	slot_tick(t);
	slot_must_hold(t->c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct fields f;
	struct slot t;

	slots_begin();
	fields_init(&f, bytes_of(data, len));
	slot_open(&t);
	slot_fill(&t, &f);
	if (take(&f.in, 1) % 2)
		made(&t, &f);
	else
		encoded(&t, &f);
	slot_must_hold(t.c);
	goes_on(&t);
	catalog_free(t.c);
	slots_end();
	return 0;
}

/* A life as it is logged, cut into effects; each is good from where its predecessors led. */
void fuzz_seeds(void)
{
	static struct fields f;
	struct slot t;
	size_t from;
	uint8_t bytes[4096];
	const uint64_t job = (uint64_t)SLOT << ID_SLOT_SHIFT | 1;
	uint64_t ended;
	struct wcur w = wcur_make(bytes, sizeof(bytes));
	const struct remove_req gone = { .job = job, .attempt_lo = 8, .path = words("a/x") };
	const struct rename_req moved = { .job = job, .from = words("b/1"), .to = words("b/2") };
	const struct remove_tree_req tree = { .job = job,
					      .up_to = UINT64_MAX,
					      .directory = words("b") };
	const struct job_end_req end = { .name = words("job") };
	const struct job_renew_req renew = { .lease_ms = 5000, .name = words("job") };

	fields_init(&f, bytes_of(bytes, 0));
	slot_open(&t);
	slot_fill(&t, &f);
	from = t.log_len;
	REQUIRE(catalog_job_renew(t.c, &renew, t.now, &t.out) == 0);
	REQUIRE(catalog_rename(t.c, &moved, t.now, &t.out) == 0);
	REQUIRE(catalog_remove(t.c, &gone, t.now, &t.out) == 0);
	REQUIRE(catalog_remove_tree(t.c, &tree, t.now, &t.out) == 0);
	REQUIRE(catalog_session_over(t.c, 5, t.now, &t.out) == 0);
	slot_tick(&t);
	REQUIRE(catalog_job_end(t.c, &end, t.now, &t.out, &ended) == 0);
	slot_tick(&t);
	put_le(&w, 0, 1);
	put_bytes(&w, slot_log_bytes + from, t.log_len - from);
	fuzz_seed("life", bytes, (size_t)wcur_finish(&w));
	w = wcur_make(bytes, sizeof(bytes));
	put_le(&w, 1, 1);
	for (int i = 0; i < 400; i++)
		put_le(&w, (uint64_t)(i * 37 % 251), 1);
	fuzz_seed("made", bytes, (size_t)wcur_finish(&w));
	catalog_free(t.c);
}
