/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: without memory every call says so and has changed nothing, or has done all of it;
 * and everything can be done once there is memory again. Method: in a sequence of
 * everything the n-th allocation fails, for each n; invariants and replay after each.
 */
#include "catalog_test.h"

static struct node node;
static unsigned failures;

/* -ENOMEM, or -ENOSPC for values: then once more, with memory. */
#define TRY(call)                                     \
	do {                                          \
		int r_ = (call);                      \
		const char *why_;                     \
		if (r_ == -ENOMEM || r_ == -ENOSPC) { \
			failures++;                   \
			why_ = catalog_check(t.c);    \
			if (why_)                     \
				printf("%s\n", why_); \
			assert_null(why_);            \
			r_ = (call);                  \
		}                                     \
		assert_int_equal(r_, 0);              \
	} while (0)

static int tick(void)
{
	const struct moment at = { .now_ns = t.now, .read_ns = t.now };
	int r = 0;

	while (r == 0 && catalog_due(t.c) <= t.now)
		r = catalog_tick(t.c, &at, &t.out);
	return r;
}

static int session_over(uint64_t session)
{
	return catalog_session_over(t.c, session, t.now, &t.out);
}

static int create(const char *name)
{
	struct job_create_req req = { .lease_ms = 60000, .name = text(name) };

	return catalog_job_create(t.c, &req, t.now, &t.out);
}

static int grant_one(uint64_t in, uint64_t request, struct grant *g)
{
	struct lease_req req = {
		.job = in, .session = 5, .request = request, .need = 1, .size = SEGMENT_BYTES_MIN
	};
	uint8_t bytes[GRANT_SIZE];
	struct wcur w = wcur_make(bytes, sizeof(bytes));

	*g = (struct grant){ .segment = (uint64_t)STORE << 20 | request,
			     .generation = 1,
			     .size = SEGMENT_BYTES_MIN,
			     .store = STORE };
	grant_put(&w, g);
	return catalog_grant(t.c, &req, t.now, (struct slice){ bytes, sizeof(bytes) }, t.now,
			     &t.out);
}

static int extend_by(uint64_t in, uint64_t open, uint32_t part, const struct extent *x)
{
	struct extend_req req = {
		.job = in, .session = 5, .open = open, .part = part, .extent_count = 1
	};
	uint8_t bytes[EXTENT_SIZE];
	struct wcur w = wcur_make(bytes, sizeof(bytes));

	extent_put(&w, x);
	return catalog_extend(t.c, &req, (struct slice){ bytes, sizeof(bytes) }, t.now, &t.out);
}

static int duties(void)
{
	struct duty d;
	int r = 0;

	while (r == 0 && catalog_duty(t.c, STORE, &d))
		r = catalog_duty_done(t.c, &d, 0, t.now, &t.out);
	return r;
}

static void everything(void)
{
	struct commit_req how = { .session = 5, .attempt_lo = 1 };
	struct open_req open = { .session = 5, .request = 1 };
	struct commit_req commit = { .session = 5, .attempt_lo = 3 };
	struct job_end_req end_req = { .name = text("another") };
	struct grant g, h;
	struct extent x[2];
	uint64_t in, id;

	TRY(create("another"));
	in = t.out.rep.job_create.job;
	how.job = open.job = commit.job = in;
	TRY(slot_put(&t, how, "d/small", "value"));
	how.attempt_lo++;
	how.ttl_ms = 10;
	TRY(slot_put(&t, how, "d/short", "lived"));
	how.ttl_ms = 0;
	how.attempt_lo++;
	TRY(slot_put(&t, how, "d/small", "another value"));
	TRY(grant_one(in, 1, &g));
	TRY(grant_one(in, 2, &h));
	x[0] = extent_at(&g, 0, 5000);
	x[1] = extent_at(&g, 8192, 5000);
	how.attempt_lo++;
	TRY(slot_put_extents(&t, how, "e/large", x, 2));
	TRY(slot_look(&t, (struct lookup_req){ .job = in, .session = 5, .take = 1, .is_held = 1 },
		      "e/large"));
	TRY(slot_put_extents(&t, (struct commit_req){ .job = in, .session = 5 }, "e/one",
			     &(struct extent){ h.segment, h.generation, 0, 10, 0, 0, 0, 0, 0 }, 1));
	TRY(catalog_open(t.c, &open, t.now, &t.out));
	commit.open = t.out.rep.open.open;
	x[0] = extent_at(&h, 4096, 100);
	TRY(extend_by(in, commit.open, 1, &x[0]));
	x[0] = extent_at(&h, 8192, 100);
	TRY(extend_by(in, commit.open, 0, &x[0]));
	commit.path = text("f/g/h");
	TRY(catalog_commit(t.c, &commit, (struct slice){ 0 }, t.now, &t.out));
	open.request = 2;
	TRY(catalog_open(t.c, &open, t.now, &t.out));
	TRY(catalog_rename(
		t.c,
		&(struct rename_req){
			.job = in, .attempt_lo = 9, .from = text("e/large"), .to = text("i/j") },
		t.now, &t.out));
	TRY(catalog_remove(t.c,
			   &(struct remove_req){ .job = in, .attempt_lo = 10, .path = text("i/j") },
			   t.now, &t.out));
	how.reads = 2;
	how.attempt_lo++;
	TRY(slot_put(&t, how, "r", "reads"));
	TRY(slot_look(&t, (struct lookup_req){ .job = in, .session = 6, .read_lo = 1 }, "r"));
	TRY(slot_look(&t, (struct lookup_req){ .job = in, .session = 7, .read_lo = 1 }, "r"));
	t.now += SECOND;
	TRY(tick());
	TRY(catalog_settle(t.c,
			   &(struct settle_req){ .job = in,
						 .session = 5,
						 .segment = h.segment,
						 .generation = h.generation,
						 .front = 16384,
						 .back = h.size },
			   t.now, &t.out));
	TRY(session_over(5));
	TRY(tick());
	TRY(duties());
	TRY(catalog_remove_tree(
		t.c,
		&(struct remove_tree_req){ .job = in, .up_to = UINT64_MAX, .directory = text("d") },
		t.now, &t.out));
	TRY(catalog_job_end(t.c, &end_req, t.now, &t.out, &id));
	TRY(tick());
	TRY(duties());
	TRY(tick());
	assert_int_equal(catalog_job_find(t.c, in)->state, JOB_ENDED);
}

static void the_nth_allocation_may_fail_for_every_n(void **state)
{
	uint64_t n = 0, left;
	unsigned total = 0;

	do {
		slot_close(&t);
		begin(state);
		failures = 0;
		node = (struct node){ .fail_countdown = ++n };
		node_current = &node;
		everything();
		node_current = NULL;
		total += failures;
		left = node.fail_countdown;
		assert_null(catalog_check(t.c));
		assert_null(slot_replay(&t));
	} while (left == 0);
	/* All were reached, and the last round had none left to fail. */
	assert_true(n > 30);
	assert_true(total > 25);
	assert_int_equal(failures, 0);
	assert_int_equal(t.c->segment_count, 0);
	assert_int_equal(t.c->sessions.count, 0);
}

static void a_catalog_that_finds_no_memory_is_none(void **state)
{
	struct catalog *c = NULL;

	for (uint64_t n = 1; !c; n++) {
		node = (struct node){ .fail_countdown = n };
		node_current = &node;
		c = catalog_new(SLOT, 1, &SLOT_OPS, &t);
		node_current = NULL;
		assert_true(n < 100);
	}
	catalog_free(c);
}

/* All kinds of images: what is whole, what is held, what was begun and what is left of that. */
static void fill(void)
{
	struct commit_req how = { .job = job, .session = 5 };
	struct open_req open = { .job = job, .session = 5, .request = 1 };
	struct extent x[EXTENTS_MAX];
	uint64_t id;
	struct grant g;

	assert_int_equal(slot_put(&t, how, "d/value", "value"), 0);
	assert_int_equal(grant_one(job, 1, &g), 0);
	for (unsigned i = 0; i < 3; i++)
		x[i] = extent_at(&g, 4096 * i, 100);
	assert_int_equal(slot_put_extents(&t, how, "d/piece", x, 1), 0);
	assert_int_equal(slot_put_extents(&t, how, "d/body", x + 1, 2), 0);
	assert_int_equal(
		slot_look(&t,
			  (struct lookup_req){ .job = job, .session = 6, .take = 1, .is_held = 1 },
			  "d/body"),
		0);
	how.attempt_lo = 7;
	assert_int_equal(slot_put(&t, how, "d/body", "another"), 0); /* what was there is held */
	for (unsigned part = 0; part < 3; part++) {
		open.request++;
		assert_int_equal(catalog_open(t.c, &open, t.now, &t.out), 0);
		id = t.out.rep.open.open;
		for (uint32_t i = 0; i < 2; i++) {
			x[0] = extent_at(&g, 32768 + 8192 * part + 4096 * i, 100);
			assert_int_equal(extend_by(job, id, i, &x[0]), 0);
		}
	}
	assert_int_equal(
		catalog_drop(t.c, &(struct drop_req){ .job = job, .open = id }, t.now, &t.out), 0);
	slot_snapshot_begin(&t);
	while (catalog_snapshot_step(t.c, 10))
		;
}

static void what_is_restored_may_lack_memory_anywhere(void **state)
{
	struct rcur images;
	uint64_t n = 0;
	int r;

	fill();
	do {
		struct catalog *c = catalog_new(SLOT, 0x5eed, &SLOT_OPS, &t);
		struct restore restore;

		node = (struct node){ .fail_countdown = ++n };
		node_current = &node;
		r = restore_begin(&restore, c);
		images = rcur_make(t.images, t.images_len);
		while (r == 0 && images.p < images.end)
			r = restore_next(&restore, &images);
		restore_end(&restore);
		node_current = NULL;
		assert_true(r == 0 || (r == -ENOMEM && node.fail_countdown == 0));
		if (r == 0)
			assert_null(slot_compare(t.c, c));
		catalog_free(c);
	} while (node.fail_countdown == 0);
	assert_int_equal(r, 0);
	assert_true(n > 20);
}

static void no_effect_of_a_log_can_do_harm(void **state)
{
	struct effect e = { .kind = EFFECT_OBJECT_PUT, .at_ns = 5 };
	uint8_t buf[EFFECT_BYTES_MAX];
	struct wcur w;
	struct rcur c;

	/* What names something that is not there is refused, whatever it is. */
#define E(id, NAME, name)                                         \
	e = (struct effect){ .kind = EFFECT_##NAME, .at_ns = 5 }; \
	w = wcur_make(buf, sizeof(buf));                          \
	effect_put(&w, &e);                                       \
	c = rcur_make(buf, (size_t)wcur_finish(&w));              \
	assert_int_equal(catalog_replay(t.c, &c), -EBADMSG);
	EFFECTS(E)
#undef E
	assert_null(catalog_check(t.c));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_nth_allocation_may_fail_for_every_n),
		T(a_catalog_that_finds_no_memory_is_none),
		T(what_is_restored_may_lack_memory_anywhere),
		T(no_effect_of_a_log_can_do_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
