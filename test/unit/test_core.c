/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what the core writes it reads again, byte for byte and in any range; what is
 * damaged is never handed on; what is held outlives its name; and a slot that lies
 * elsewhere is said to. Method: a shard, a store and a core on one loop, as in
 * `wadi dev`; a fiber runs each scenario and takes notes.
 */
#include "notes.h"
#include "test.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/container.h"
#include "base/hash.h"
#include "base/node.h"
#include "core/core_priv.h"
#include "meta/meta.h"
#include "shm/keep_heap.h"
#include "store/store.h"
#include "wire/extent.h"

#define POOL_BYTES (64ull << 20) /* so the largest segment has a megabyte */
#define SAMPLE_LEN (5u << 20)
#define SECOND_NS  1000000000ull

static struct loop *loop;
static struct net *net;
static struct shard *shard;
static struct store *store;
static struct core *core;
static struct reach *reach;
static const struct reach_ops *reach_ops;
static struct reach_ops counting_ops; /* which count */
static unsigned turn_count, pinned_in, pinned_count, pinned_together;
static uint64_t job, quota;
static atomic_bool is_full; /* the memory of metadata */
static uint8_t *sample, *back;
static char why[160];

static bool is_away; /* metadata */

static int to_shard(void *owner, uint16_t index, struct stream **ret)
{
	struct stream *ends[2];
	int r = is_away ? -ECONNREFUSED : stream_pair(loop, 256 << 10, ends);

	if (r < 0)
		return r;
	shard_accept(shard, ends[1]);
	*ret = ends[0];
	return 0;
}

struct scene {
	struct fiber fiber;
	void (*play)(void);
	bool has_ended;
};

static uint64_t due(void)
{
	return loop->now_ns + 5 * SECOND_NS;
}

static void make_job(void)
{
	static const struct slice name = { (const uint8_t *)"test", 4 };
	struct job_create_rep rep;
	struct rcur body;
	struct ask a;
	struct wcur w = ask_begin(core, &a, MSG_JOB_CREATE, slot_of_name(name));

	job_create_req_put(&w, &(struct job_create_req){
				       .lease_ms = 60000, .quota_dram = quota, .name = name });
	note("job:%d ", ask_wait(&a, &w, NULL, due()));
	body = ask_reply(&a);
	if (job_create_rep_get(&body, &rep) == 0)
		job = rep.job;
	ask_end(&a);
}

static void scene_run(struct fiber *self)
{
	struct scene *s = container_of(self, struct scene, fiber);

	if (core_wait_ready(core, due()) < 0)
		note("not ready ");
	while (store_joined_count(store) == 0 && core_sleep(core, loop->now_ns + 1000000) == 0)
		;
	make_job();
	s->play();
}

static void scene_ended(struct fiber *self)
{
	container_of(self, struct scene, fiber)->has_ended = true;
}

static void play_by(fiber_fn *run, void (*what)(void))
{
	struct scene s = { .play = what };

	assert_int_equal(fiber_start(&loop->fibers, &s.fiber, run, scene_ended), 0);
	while (!s.has_ended)
		assert_int_equal(loop_turn(loop, loop->now_ns + SECOND_NS), 0);
}

static void play(void (*what)(void))
{
	notes[0] = '\0';
	play_by(scene_run, what);
}

static void goes_on(struct fiber *self)
{
	container_of(self, struct scene, fiber)->play();
}

/* Another scene, behind one that was played. */
static void play_on(void (*what)(void))
{
	play_by(goes_on, what);
}

/* How often is a pin the second one of a turn, or a later one? */
static int count_pin(struct reach *r, uint64_t of, uint64_t segment, uint32_t generation,
		     uint32_t offset, uint32_t len, uint8_t **ret)
{
	pinned_count++;
	pinned_together += pinned_in == turn_count;
	pinned_in = turn_count;
	return reach_ops->pin(r, of, segment, generation, offset, len, ret);
}

static uint64_t fenced; /* a segment that nobody may write to any more */

static int pin_unless_fenced(struct reach *r, uint64_t of, uint64_t segment, uint32_t generation,
			     uint64_t key, uint32_t offset, uint32_t len, uint8_t **ret)
{
	if (segment == fenced)
		return -ESTALE;
	return reach_ops->pin_to_write(r, of, segment, generation, key, offset, len, ret);
}

static int setup(void **state)
{
	static const uint8_t token_key[32] = { 1 };
	struct shard_config config = { .count = 4,
				       .is_open_loopback = true,
				       .token_key = { token_key, 32 },
				       .is_full = &is_full,
				       .addresses = { "tcp://a:1", "tcp://b:2", "tcp://c:3",
						      "tcp://d:4" } };
	struct store_config pool = {
		.limit_bytes = POOL_BYTES, .tier = TIER_DRAM, .name = "dram", .address = ""
	};
	struct core_config c = { .shard_count = 1, .to_shard = to_shard };
	struct stream *s = NULL;

	/* The slot of "test" decides which of four shards this is. */
	config.index = slot_of_name((struct slice){ (const uint8_t *)"test", 4 }) % 4;
	sample = malloc(SAMPLE_LEN);
	back = malloc(SAMPLE_LEN);
	for (uint32_t i = 0; i < SAMPLE_LEN; i++)
		sample[i] = (uint8_t)(i * 2654435761u >> 24);
	assert_int_equal(loop_open_epoll(&loop), 0);
	assert_int_equal(net_open(loop, &net), 0);
	assert_int_equal(shard_open(&config, loop, net, &shard), 0);
	assert_int_equal(store_open(&pool, loop, net, &store), 0);
	assert_int_equal(to_shard(NULL, 0, &s), 0);
	assert_int_equal(store_join(store, s), 0);
	store_reach(store, &reach, &reach_ops);
	c.reach = reach;
	counting_ops = *reach_ops;
	counting_ops.pin = count_pin;
	counting_ops.pin_to_write = pin_unless_fenced;
	c.reach_ops = &counting_ops;
	c.reach_store = store_incarnation(store);
	assert_int_equal(core_open(net, &c, &core), 0);
	return 0;
}

static int teardown(void **state)
{
	core_stop(core);
	while (!core_has_stopped(core))
		loop_turn(loop, loop->now_ns + SECOND_NS);
	core_close(core);
	store_close(store);
	shard_close(shard);
	for (int i = 0; i < 5; i++)
		loop_turn(loop, 0);
	net_close(net);
	loop_close(loop);
	free(sample);
	free(back);
	return 0;
}

static struct how how_of(const char *path)
{
	return (struct how){ .attempt_hi = node_random_u64(),
			     .attempt_lo = 1,
			     .path = { (const uint8_t *)path, strlen(path) } };
}

static int put(const char *path, const uint8_t *bytes, uint32_t len)
{
	struct how how = how_of(path);
	struct committed done;
	struct extent e;
	struct piece p;
	int r;

	if (len <= INLINE_BYTES_MAX)
		return object_commit_value(core, job, &how, bytes, len, due(), &done, why,
					   sizeof(why));
	r = piece_reserve(core, job, len, 0, due(), &p, why, sizeof(why));
	if (r < 0)
		return r;
	memcpy(p.ptr, bytes, len);
	r = piece_fill(core, &p, due(), &e, why, sizeof(why));
	if (r == 0)
		r = object_commit(core, job, &how, &e, 1, due(), &done, why, sizeof(why));
	piece_end(core, &p);
	return r;
}

static int find(const char *path, uint64_t offset, struct found *f)
{
	struct slice name = { (const uint8_t *)path, strlen(path) };

	return object_find(core, job, name, offset, 1000, 0, 0, due(), f, why, sizeof(why));
}

/* The number of bytes, in as many pieces as it takes. */
static int64_t read_all(struct found *f, uint64_t offset, uint64_t len, uint8_t *buf)
{
	uint64_t at = 0;

	while (at < len) {
		struct span s;
		int r = object_read(core, f, offset + at, (uint32_t)(len - at), due(), &s);

		if (r < 0 || s.payload.len == 0) {
			span_end(&s);
			return r < 0 ? r : (int64_t)at;
		}
		memcpy(buf + at, s.payload.ptr, s.payload.len);
		at += s.payload.len;
		span_end(&s);
	}
	return (int64_t)at;
}

static struct found found;

static void play_sizes(void)
{
	static const uint32_t lens[] = { 0, 1, 2048, 2049, 65535, 65536, 65537, 131072, 1000000 };

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		uint32_t len = lens[i];

		if (put("x", sample, len) < 0 || find("x", 0, &found) < 0 ||
		    read_all(&found, 0, len, back) != len || memcmp(back, sample, len) != 0)
			note("%u:%s ", len, why);
		/* A range in the middle, across a border of sums. */
		if (len > 70000 && (read_all(&found, 65000, 1000, back) != 1000 ||
				    memcmp(back, sample + 65000, 1000) != 0))
			note("range of %u ", len);
		if (read_all(&found, len, 10, back) != 0)
			note("beyond %u ", len);
		object_release(core, &found, false);
	}
}

static void objects_of_any_size_come_back(void **state)
{
	play(play_sizes);
	assert_string_equal(notes, "job:0 ");
}

/* What is open is never more than 64 KiB, what was written, or the put at hand. */
static void play_open_space(void)
{
	uint64_t wrote = 0;

	for (unsigned i = 0; i < 600; i++) {
		uint32_t len = i == 300 ? 500000 : 5000;
		uint64_t most = len > 65536 ? 524288 : 65536;
		struct info_rep info;
		char path[16];

		snprintf(path, sizeof(path), "open/%u", i);
		if (put(path, sample, len) < 0)
			note("put %u: %s ", i, why);
		wrote += len;
		most = wrote > most ? wrote : most;
		store_info(store, &info);
		/* Less than an object and a page is wasted at the end of each segment. */
		if (info.dram_used > wrote + most + info.segment_count * (len + 4096))
			note("%llu of %llu ", (unsigned long long)info.dram_used,
			     (unsigned long long)wrote);
	}
}

static void open_space_is_bounded_by_what_was_written(void **state)
{
	play(play_open_space);
	assert_string_equal(notes, "job:0 ");
}

#define MOVED 20

static bool is_emptied;

static void emptied(void *owner, uint64_t segment, uint32_t generation, int result)
{
	is_emptied = result == 0;
}

/* A segment of 128 KiB with objects of 3,000 bytes, which are moved to another one. */
static void play_move(void)
{
	struct extent before;
	struct mover *m;
	char path[16];

	for (unsigned i = 0; i < 300; i++) {
		snprintf(path, sizeof(path), "move/%u", i);
		note("%s", put(path, sample + i, 3000) == 0 ? "" : why);
	}
	note("find:%d ", find("move/100", 0, &found));
	before = found.u.extents[0];
	object_release(core, &found, false);
	note("open:%d ", mover_open(core, emptied, NULL, &m));
	pinned_count = pinned_together = 0;
	is_emptied = false;
	note("empty:%d ", mover_empty(m, job, before.segment, before.generation));
	while (!is_emptied && fiber_yield(&loop->fibers) == 0)
		turn_count++;
	note("find:%d ", find("move/100", 0, &found));
	note("moved:%d ", found.u.extents[0].segment != before.segment);
	note("read:%d ", read_all(&found, 0, 3000, back) == 3000);
	note("same:%d ", memcmp(back, sample + 100, 3000) == 0);
	object_release(core, &found, false);
	mover_stop(m);
	mover_close(m);
}

/* Its bytes go elsewhere. The segment where they are then. */
static uint64_t move(struct mover *m, const char *path)
{
	const struct extent *e = &found.u.extents[0];
	int r = find(path, 0, &found);

	object_release(core, &found, false);
	is_emptied = false;
	if (r == 0)
		r = mover_empty(m, job, e->segment, e->generation);
	for (unsigned i = 0; r == 0 && !is_emptied && i < 1000; i++)
		r = core_sleep(core, loop->now_ns + SECOND_NS / 1000);
	if (r < 0 || find(path, 0, &found) < 0 || read_all(&found, 0, 60000, back) != 60000 ||
	    memcmp(back, sample, 60000) != 0)
		note("%s:%d ", path, r);
	object_release(core, &found, false);
	return e->segment;
}

/* Whatever allocation of a move fails, the object is whole, and is moved when there is memory. */
static struct {
	bool is_over;
	int result;
} ended;

static void move_ended(void *owner, uint64_t segment, uint32_t generation, int result)
{
	ended.is_over = true;
	ended.result = result;
}

static int move_once(struct mover *m)
{
	const struct extent *e = &found.u.extents[0];
	int r = find("moved", 0, &found);

	if (r < 0)
		return r;
	object_release(core, &found, false);
	ended.is_over = false;
	r = mover_empty(m, job, e->segment, e->generation);
	while (r == 0 && !ended.is_over)
		r = core_sleep(core, loop->now_ns + SECOND_NS / 1000);
	return r < 0 ? r : ended.result;
}

static void play_moves_without_memory(void)
{
	static struct node failing;
	unsigned n = 0, refused = 0;
	struct mover *m = NULL;
	bool is_met;
	int r;

	note("put:%d ", put("moved", sample, 60000));
	do {
		loop->node = node_current = &failing;
		failing.fail_countdown = ++n;
		r = mover_open(core, move_ended, NULL, &m);
		if (r == 0)
			r = move_once(m);
		is_met = failing.fail_countdown == 0;
		failing.fail_countdown = 0;
		loop->node = node_current = NULL;
		refused += r < 0;
		if (r < 0 && r != -ENOMEM && r != -EAGAIN && r != -ECONNRESET)
			note("%u:%d ", n, r);
		if (!m)
			note("open:%d ", mover_open(core, move_ended, NULL, &m));
		r = r < 0 ? move_once(m) : 0;
		if (r < 0 || find("moved", 0, &found) < 0 ||
		    read_all(&found, 0, 60000, back) != 60000 || memcmp(back, sample, 60000) != 0)
			note("%u again:%d ", n, r);
		object_release(core, &found, false);
		mover_stop(m);
		mover_close(m);
		m = NULL;
	} while (is_met && n < 1000);
	note("some:%d ", refused > 3);
}

static void a_move_may_lack_memory_anywhere(void **state)
{
	play(play_moves_without_memory);
	assert_string_equal(notes, "job:0 put:0 open:0 some:1 ");
}

/* Each is the only one that is live where it is; a segment is left as one of a megabyte is full. */
static void play_moves(void)
{
	struct mover *m;
	uint64_t last = 0;
	unsigned segments = 0;
	char path[16];

	for (unsigned i = 0; i < MOVED * 17; i++) {
		snprintf(path, sizeof(path), i % 17 ? "dead" : "live/%u", i / 17);
		if (put(path, sample, 60000) < 0)
			note("put %u: %s ", i, why);
	}
	note("open:%d ", mover_open(core, emptied, NULL, &m));
	for (unsigned i = 0; i < MOVED; i++) {
		uint64_t now_at;

		snprintf(path, sizeof(path), "live/%u", i);
		now_at = move(m, path);
		segments += now_at != last;
		last = now_at;
	}
	note("segments:%u ", segments);
	mover_stop(m);
	mover_close(m);
}

static void what_is_moved_does_not_take_a_turn_for_each_object(void **state)
{
	play(play_move);
	assert_string_equal(notes, "job:0 find:0 open:0 empty:0 find:0 moved:1 read:1 same:1 ");
	assert_true(pinned_count >= 40);
	assert_true(pinned_together >= pinned_count / 2);
}

static void what_is_moved_goes_to_segments_that_grow_with_it(void **state)
{
	play(play_moves);
	assert_string_equal(notes, "job:0 open:0 segments:7 ");
}

/* Four segments, which is all that the job may have. */
static void play_a_move_within_a_quota(void)
{
	struct mover *m;
	uint64_t before;

	note("put:%d ", put("moved", sample, 60000));
	note("%d ", put("second", sample, 60000));
	note("%d ", put("third", sample, 60000));
	note("%d ", put("fourth", sample, 60000));
	note("find:%d ", find("moved", 0, &found));
	before = found.u.extents[0].segment;
	object_release(core, &found, false);
	note("open:%d ", mover_open(core, emptied, NULL, &m));
	note("moved:%d ", move(m, "moved") != before);
	mover_stop(m);
	core_sleep(core, loop->now_ns + SECOND_NS / 100); /* if it has not ended */
	mover_close(m);
}

static void what_is_moved_needs_nothing_of_a_quota(void **state)
{
	quota = 4ull * SEGMENT_BYTES_MIN;
	play(play_a_move_within_a_quota);
	quota = 0;
	assert_string_equal(notes, "job:0 put:0 0 0 0 find:0 open:0 moved:1 ");
}

static void segments_grow_up_to_the_largest_with_what_is_written(void **state)
{
	assert_int_equal(segment_size_after(1, 0), 65536);
	assert_int_equal(segment_size_after(1, 131071), 65536);
	assert_int_equal(segment_size_after(1, 131072), 131072);
	assert_int_equal(segment_size_after(131073, 131072), 262144);
	assert_int_equal(segment_size_after(1, UINT64_MAX), 64u << 20);
}

static int fill_some(struct fill *f, uint32_t part, uint64_t *at, const uint8_t *bytes,
		     uint32_t len)
{
	while (len > 0) {
		struct piece p;
		int r = fill_ahead(f, 0, due(), why, sizeof(why));

		if (r >= 0)
			r = fill_take(f, part, *at, len, &p);
		if (r < 0)
			return r;
		memcpy(p.ptr, bytes, p.len);
		bytes += p.len;
		*at += p.len;
		len -= p.len;
		r = fill_add(f, &p, due());
		if (r < 0)
			return r;
	}
	return 0;
}

/* Parts in another order than their numbers, in odd lengths. */
static void play_parts(void)
{
	struct how how = how_of("parts");
	struct committed done;
	struct fill *f;
	uint64_t at[3] = { 0 };
	uint32_t a = 1500001, b = 70000;

	note("open:%d ", fill_open(core, job, 0, 0, 0, due(), &f, why, sizeof(why)));
	note("%d ", fill_some(f, 7, &at[2], sample + a + b, SAMPLE_LEN - a - b));
	note("%d ", fill_some(f, 2, &at[0], sample, 65536));
	note("%d ", fill_some(f, 5, &at[1], sample + a, b));
	note("%d ", fill_some(f, 2, &at[0], sample + 65536, a - 65536));
	{
		struct piece p;

		note("gap:%d ", fill_take(f, 2, at[0] + 1, 10, &p));
	}
	note("commit:%d ", fill_commit(f, &how, due(), &done, why, sizeof(why)));
	fill_close(f);
	note("find:%d ", find("parts", 0, &found));
	note("len:%d ", found.stat.len == SAMPLE_LEN);
	note("read:%d ", read_all(&found, 0, SAMPLE_LEN, back) == SAMPLE_LEN);
	note("same:%d ", memcmp(back, sample, SAMPLE_LEN) == 0);
	object_release(core, &found, false);
}

static void parts_are_put_in_the_order_of_their_numbers(void **state)
{
	play(play_parts);
	assert_string_equal(notes,
			    "job:0 open:0 0 0 0 0 gap:-22 commit:0 find:0 len:1 read:1 same:1 ");
}

static int fill_object(const char *path, uint32_t len)
{
	struct how how = how_of(path);
	struct committed done;
	struct fill *f;
	uint64_t at = 0;
	int r = fill_open(core, job, 0, len, 0, due(), &f, why, sizeof(why));

	if (r < 0)
		return r;
	r = fill_some(f, 0, &at, sample, len);
	if (r == 0)
		r = fill_commit(f, &how, due(), &done, why, sizeof(why));
	fill_close(f);
	return r;
}

/* Its long pieces begin on pages, and its segment is not this one. */
static bool is_mappable(const char *path, uint64_t not_there)
{
	bool is = find(path, 0, &found) == 0;

	for (unsigned i = 0; is && i < found.extent_count; i++) {
		const struct extent *e = &found.u.extents[i];

		is = e->segment != not_there &&
		     (e->len <= CHECK_PIECE || e->offset % SEGMENT_PAGE == 0);
	}
	object_release(core, &found, false);
	return is;
}

/* So that they can still be mapped side by side, whatever was moved there before. */
static void play_move_pages(void)
{
	static const char *const paths[] = { "one", "two" };
	struct mover *m;

	note("put:%d ", fill_object("one", 300001));
	note("%d ", fill_object("two", 300001));
	note("open:%d ", mover_open(core, emptied, NULL, &m));
	for (unsigned i = 0; i < 2; i++) {
		struct extent e;

		note("find:%d ", find(paths[i], 0, &found));
		e = found.u.extents[0];
		object_release(core, &found, false);
		is_emptied = false;
		note("empty:%d ", mover_empty(m, job, e.segment, e.generation));
		while (!is_emptied && fiber_yield(&loop->fibers) == 0)
			;
		note("pages:%d ", is_mappable(paths[i], e.segment));
	}
	mover_stop(m);
	mover_close(m);
}

static void what_is_moved_stays_on_pages(void **state)
{
	play(play_move_pages);
	assert_string_equal(notes, "job:0 put:0 0 open:0 find:0 empty:0 pages:1 find:0 empty:0 "
				   "pages:1 ");
}

/* More extents than one message carries: each part of 100 bytes is one. */
static void play_many_extents(void)
{
	struct how how = how_of("many");
	struct committed done;
	uint64_t first = 0;
	struct wcur w;
	struct fill *f;
	int r = fill_open(core, job, 0, 0, 0, due(), &f, why, sizeof(why));

	for (uint32_t i = 0; i < 300 && r == 0; i++) {
		uint64_t at = 0;

		r = fill_some(f, i, &at, sample + i * 100, 100);
	}
	note("fill:%d ", r);
	note("commit:%d ", fill_commit(f, &how, due(), &done, why, sizeof(why)));
	fill_close(f);
	note("find:%d ", find("many", 29950, &found));
	note("extents:%u held:%d ", found.stat.extent_count, found.hold != 0);
	note("end:%d ",
	     read_all(&found, 29950, 50, back) == 50 && memcmp(back, sample + 29950, 50) == 0);
	object_release(core, &found, false);
	note("find:%d ", find("many", 0, &found));
	note("all:%d ",
	     read_all(&found, 0, 30000, back) == 30000 && memcmp(back, sample, 30000) == 0);
	w = wcur_make(back, SAMPLE_LEN);
	note("near:%d ", object_near(core, &found, 150, due(), &w, &first) > 0);
	note("first:%d ", (int)first);
	object_release(core, &found, false);
}

static void extents_are_found_by_range(void **state)
{
	play(play_many_extents);
	assert_string_equal(notes,
			    "job:0 fill:0 commit:0 find:0 extents:300 held:0 end:1 find:0 all:1 "
			    "near:1 first:100 ");
}

/* A bit of it, in the very memory of the store. */
static void flip(const struct extent *e, uint32_t at)
{
	uint8_t *p;

	note("pin:%d ",
	     reach_ops->pin(reach, job, e->segment, e->generation, e->offset + at, 1, &p));
	*p ^= 1;
	reach_ops->unpin(reach, e->segment, false);
}

static void play_damage(void)
{
	static const uint32_t lens[] = { 5000, 65536, 200000 };

	for (int i = 0; i < 3; i++) {
		struct extent e;

		note("put:%d ", put("d", sample, lens[i]));
		note("find:%d ", find("d", 0, &found));
		e = found.u.extents[0];
		flip(&e, lens[i] - 1);
		note("read:%d ", (int)read_all(&found, 0, lens[i], back));
		/* What is in other pieces of a long one is as good as before. */
		note("first:%d ", (int)read_all(&found, 0, 1000, back));
		flip(&e, lens[i] - 1);
		note("again:%d ", read_all(&found, 0, lens[i], back) == lens[i]);
		object_release(core, &found, false);
	}
	/* The table of sums itself. */
	note("find:%d ", find("d", 0, &found));
	{
		struct extent e = found.u.extents[0], table = e;

		table.segment = e.table_segment;
		table.generation = e.table_generation;
		table.offset = e.table_offset;
		flip(&table, 0);
		note("read:%d ", (int)read_all(&found, 0, 1000, back));
	}
	object_release(core, &found, false);
}

static void damaged_bytes_are_never_handed_on(void **state)
{
	play(play_damage);
	assert_string_equal(notes, "job:0 "
				   "put:0 find:0 pin:0 read:-5 first:-5 pin:0 again:1 "
				   "put:0 find:0 pin:0 read:-5 first:-5 pin:0 again:1 "
				   "put:0 find:0 pin:0 read:-5 first:1000 pin:0 again:1 "
				   "find:0 pin:0 read:-5 ");
}

/* As a function does: through a descriptor that it was given, with the sums of its own. */
static void write_some_of(const struct place *p, const uint8_t *from, uint32_t len, uint8_t *sums)
{
	struct wcur w = wcur_make(sums, place_sums_len(p));
	struct reserved_part part;
	struct memory theirs;
	uint32_t size;
	int fd = place_export(core, p, &size);

	place_tell(p, &part);
	if (fd < 0 || memory_join(fd, size, &theirs) < 0) {
		note("not mapped ");
		return;
	}
	memcpy(theirs.ptr + part.offset, from, len);
	for (uint32_t at = 0; at < len; at += CHECK_PIECE)
		put_u32(&w, crc_more(crc_begin(part.seed), from + at,
				     len - at < CHECK_PIECE ? len - at : CHECK_PIECE));
	media_memfd.free(&theirs);
	close(fd);
}

static void write_place(const struct place *p, const uint8_t *from, uint8_t *sums)
{
	write_some_of(p, from, p->piece.len, sums);
}

static int reserve(uint64_t author, uint64_t len, struct place *ret, unsigned cap)
{
	const struct want want = { .job = job, .author = author, .need = len };

	return places_reserve(core, &want, due(), ret, cap, why, sizeof(why));
}

static void play_places(void)
{
	struct how how = how_of("p");
	struct reserved_part a, b, c, d;
	struct place places[4];
	struct extent extents[2];
	struct committed done;
	uint8_t sums[64];
	struct piece p;

	note("two:%d,%d ", reserve(8, 200000, &places[0], 1), reserve(8, 65536, &places[1], 1));
	note("other:%d ", reserve(9, 65536, &places[2], 1));
	note("ours:%d ", piece_reserve(core, job, 70000, 0, due(), &p, why, sizeof(why)));
	note("more:%d ", reserve(8, 1000, &places[3], 1));
	place_tell(&places[0], &a);
	place_tell(&places[1], &b);
	place_tell(&places[2], &c);
	place_tell(&places[3], &d);
	note("apart:%d ", c.segment != a.segment && c.segment != b.segment &&
				  c.segment != d.segment && d.segment != p.segment->id);
	for (int i = 0; i < 2; i++) {
		uint32_t at = i == 0 ? 0 : 200000;

		write_place(&places[i], sample + at, sums);
		note("fill:%d ", place_fill(core, &places[i],
					    (struct slice){ sums, place_sums_len(&places[i]) },
					    due(), &extents[i], why, sizeof(why)));
	}
	/* Where they may not write: their sums, and what we put. */
	note("table:%d ", extents[0].table_segment != a.segment &&
				  extents[0].table_segment != b.segment &&
				  extents[0].table_segment != c.segment);
	note("commit:%d ",
	     object_commit(core, job, &how, extents, 2, due(), &done, why, sizeof(why)));
	note("find:%d ", find("p", 0, &found));
	note("read:%d ",
	     read_all(&found, 0, 265536, back) == 265536 && memcmp(back, sample, 265536) == 0);
	object_release(core, &found, false);
	piece_end(core, &p);
	for (int i = 0; i < 4; i++)
		place_end(core, &places[i]);
	author_over(core, job, 8);
	author_over(core, job, 9);
}

static void what_a_function_writes_lies_where_nobody_else_writes(void **state)
{
	play(play_places);
	assert_string_equal(notes,
			    "job:0 two:1,1 other:1 ours:0 more:1 apart:1 fill:0 fill:0 table:1 "
			    "commit:0 find:0 read:1 ");
}

/* Segments of its own, all but the last of them full; and one that is taken away. */
static void play_large_place(void)
{
	struct place places[EXTENTS_MAX];
	struct reserved_part part;
	struct extent e;
	uint8_t sums[4096];
	uint64_t len = 0;
	int n = reserve(8, 5u << 20, places, EXTENTS_MAX);

	note("many:%d ", n > 1);
	for (int i = 0; i < n; i++) {
		place_tell(&places[i], &part);
		len += part.len;
		if (part.offset != 0 || (i + 1 < n && part.len % CHECK_PIECE != 0))
			note("%d:%u+%u ", i, part.offset, part.len);
	}
	note("all:%d ", len == 5u << 20);
	note("too few:%d ", reserve(9, 5u << 20, places + n, 1));
	segments_lose(core, job, NULL);
	note("stale:%d ",
	     place_fill(core, &places[0], (struct slice){ sums, place_sums_len(&places[0]) }, due(),
			&e, why, sizeof(why)));
	for (int i = 0; i < n; i++)
		place_end(core, &places[i]);
}

static void what_is_taken_away_from_a_function_is_stale(void **state)
{
	play(play_large_place);
	assert_string_equal(notes, "job:0 many:1 all:1 too few:-90 stale:-116 ");
}

static bool has_segment(uint64_t id)
{
	for (struct list *l = core->segments.next; l != &core->segments; l = l->next)
		if (container_of(l, struct segment, link)->id == id)
			return true;
	return false;
}

static void play_fenced(void)
{
	uint64_t first;

	note("put:%d ", put("a", sample, 10000));
	note("find:%d ", find("a", 0, &found));
	object_release(core, &found, false);
	first = fenced = found.u.extents[0].segment;
	note("has:%d ", has_segment(first));
	note("put:%d ", put("a", sample + 1, 10000));
	note("find:%d ", find("a", 0, &found));
	object_release(core, &found, false);
	note("elsewhere:%d ", found.u.extents[0].segment != first);
	for (int i = 0; i < 100 && has_segment(first); i++)
		core_sleep(core, loop->now_ns + SECOND_NS / 10);
	note("has:%d ", has_segment(first));
	fenced = 0;
}

/* What is put goes elsewhere, and the segment is given back though its job lives on. */
static void a_segment_that_was_fenced_is_given_back(void **state)
{
	play(play_fenced);
	assert_string_equal(notes, "job:0 put:0 find:0 has:1 put:0 find:0 elsewhere:1 has:0 ");
}

/* Room for 300,000 bytes, of which `used` are written. */
static int give(struct fill *f, uint32_t part, uint64_t offset, uint32_t used)
{
	struct place p;
	uint8_t sums[64];
	int r = fill_give(f, part, offset, 300000, &p);

	if (r < 0)
		return r;
	write_some_of(&p, sample + offset, used, sums);
	return fill_given(f, &p, used, (struct slice){ sums, (used + 65535) / 65536 * 4 });
}

static void play_rooms(void)
{
	struct how how = how_of("rooms");
	struct committed done;
	struct fill *f, *wrong;
	uint8_t sums[8] = { 0 };
	struct piece ours;
	struct place p;

	note("open:%d ", fill_open(core, job, 8, 0, 0, due(), &f, why, sizeof(why)));
	note("%d ", give(f, 0, 0, 131072));
	/* Given for another part, and not wanted: then the first one goes on where it was. */
	note("%d ", give(f, 1, 0, 0));
	note("%d ", give(f, 0, 131072, 100000));
	note("gap:%d ", fill_give(f, 0, 131072, 10, &p));
	note("%d ", give(f, 0, 231072, 1000));
	note("none:%d ", give(f, 0, 232072, 0));
	note("commit:%d ", fill_commit(f, &how, due(), &done, why, sizeof(why)));
	fill_close(f);
	note("find:%d ", find("rooms", 0, &found));
	note("extents:%u ", found.stat.extent_count);
	/* Its table lies where only we write. */
	note("ours:%d ", piece_try(core, job, 100, &ours));
	note("table:%d ", found.u.extents[0].table_segment == ours.segment->id);
	piece_end(core, &ours);
	note("read:%d ",
	     read_all(&found, 0, 232072, back) == 232072 && memcmp(back, sample, 232072) == 0);
	object_release(core, &found, false);
	note("open:%d ", fill_open(core, job, 8, 0, 0, due(), &wrong, why, sizeof(why)));
	note("give:%d ", fill_give(wrong, 0, 0, 1000, &p));
	note("wrong:%d ", fill_given(wrong, &p, 1000, (struct slice){ sums, 8 }));
	note("commit:%d ", fill_commit(wrong, &how, due(), &done, why, sizeof(why)));
	fill_close(wrong);
	author_over(core, job, 8);
}

static void pieces_that_a_function_writes_are_as_long_as_it_says(void **state)
{
	play(play_rooms);
	assert_string_equal(notes, "job:0 open:0 0 0 0 gap:-22 0 none:0 commit:0 "
				   "find:0 extents:2 ours:0 table:1 read:1 "
				   "open:0 give:0 wrong:-22 commit:-125 ");
}

static void play_hold(void)
{
	struct span s;

	note("put:%d ", put("h", sample, 200000));
	note("find:%d ", find("h", 0, &found));
	note("held:%d ", found.hold != 0);
	for (int i = 0; i < 20; i++)
		if (put("h", sample + 1, 200000) < 0)
			note("replace ");
	core_sleep(core, loop->now_ns + 50000000);
	note("old:%d ",
	     read_all(&found, 0, 200000, back) == 200000 && memcmp(back, sample, 200000) == 0);
	note("release:%d ", object_release_wait(core, &found, false, due()));
	/* Now its segment may be anybody's: it is refused, or, if nobody had it yet, still right.
	 */
	for (int i = 0; i < 40; i++)
		if (put("h", sample + 2, 900000) < 0)
			note("replace ");
	core_sleep(core, loop->now_ns + 1500000000);
	found.hold = 0;
	note("gone:%d ", object_read(core, &found, 0, 100, due(), &s));
	span_end(&s);
}

static void what_is_held_outlives_its_name_and_no_more(void **state)
{
	play(play_hold);
	assert_string_equal(notes, "job:0 put:0 find:0 held:1 old:1 release:0 gone:-116 ");
}

/* Metadata has not answered for long, and all that was given up is still to be undone. */
/* What is told on. */

static void take_note(void *owner, uint64_t of_job, struct slice path)
{
	note("forget:%.*s ", (int)path.len, (const char *)path.ptr);
}

static int take(const char *path)
{
	struct slice name = { (const uint8_t *)path, strlen(path) };

	return object_take(core, job, name, due(), &found, why, sizeof(why));
}

static void play_take(void)
{
	note("put:%d ", put("x", sample, 100000));
	note("take:%d ", take("x"));
	note("len:%d of:%u hold:%d ", (int)found.stat.len, found.extent_count, found.hold != 0);
	note("put:%d ", put("x", sample, 5000));
	note("put:%d ", put("x", sample, 6000));
	note("take:%d ", take("y"));
}

static void what_was_taken_is_forgotten_when_it_is_replaced(void **state)
{
	core->config.forget = take_note;
	play(play_take);
	assert_string_equal(
		notes, "job:0 put:0 take:0 len:100000 of:1 hold:0 forget:x put:0 put:0 take:-2 ");
}

static unsigned forgotten;

static void forget_one(void *owner, uint64_t of, struct slice path)
{
	forgotten++;
}

static void forget_all(void *owner, uint16_t of)
{
	forgotten++;
}

static void play_replacements_without_memory(void)
{
	static struct node failing;
	unsigned n = 0;
	bool is_met;
	int r;

	do {
		note("%s", put("x", sample, 100000) == 0 ? "" : why);
		while ((r = take("x")) == -EAGAIN)
			;
		note("%s", r == 0 ? "" : why);
		forgotten = 0;
		loop->node = node_current = &failing;
		failing.fail_countdown = ++n;
		r = put("x", sample, 5000);
		is_met = failing.fail_countdown == 0;
		failing.fail_countdown = 0;
		loop->node = node_current = NULL;
		if (r == 0 ? forgotten == 0 : r != -ENOMEM && r != -EAGAIN)
			note("%u:%d ", n, r);
	} while (is_met && n < 1000);
	note("some:%d ", n > 3);
}

static void what_is_replaced_without_memory_is_forgotten_or_not_said_to_be(void **state)
{
	core->config.forget = forget_one;
	core->config.forget_shard = forget_all;
	play(play_replacements_without_memory);
	assert_string_equal(notes, "job:0 some:1 ");
}

/* It was replaced, and that was said, before it was heard what it is. */
static void spoiler_run(struct fiber *self)
{
	takings_spoil(core, job, (struct slice){ (const uint8_t *)"y", 1 });
	note("spoil ");
	takings_spoil(core, job, (struct slice){ (const uint8_t *)"x", 1 });
}

static void spoiler_ended(struct fiber *self)
{
}

static void play_spoil(void)
{
	static struct fiber spoiler;

	put("x", sample, 100000);
	spoiler = (struct fiber){ 0 };
	note("%d ", fiber_start(&loop->fibers, &spoiler, spoiler_run, spoiler_ended));
	note("take:%d ", take("x"));
	note("take:%d ", take("x"));
}

static void what_is_forgotten_before_it_is_heard_of_is_not_taken(void **state)
{
	play(play_spoil);
	assert_string_equal(notes, "job:0 0 spoil take:-11 take:0 ");
}

static void play_errands(void)
{
	note("put:%d ", put("e", sample, 100));
	core->errand_count = ERRANDS_MAX;
	note("get:%d %s; ", find("e", 0, &found), why);
	core->errand_count = 0;
	note("get:%d ", find("e", 0, &found));
}

static void what_may_have_to_be_undone_is_limited(void **state)
{
	play(play_errands);
	assert_string_equal(notes, "job:0 put:0 get:-87 4096 requests are to be undone here, which "
				   "is the limit, and metadata does not answer; get:0 ");
}

static void play_route(void)
{
	uint16_t mine = slot_of_name((struct slice){ (const uint8_t *)"test", 4 });

	for (uint16_t i = 0; i < 4; i++) {
		struct ask a;
		uint16_t slot = (mine + i) % SLOT_COUNT;
		struct wcur w = ask_begin(core, &a, MSG_STAT, slot);
		int r;

		stat_req_put(&w,
			     &(struct stat_req){
				     .job = i == 0 ? job : (uint64_t)slot << ID_SLOT_SHIFT | 1 });
		r = ask_wait(&a, &w, NULL, due());
		if (r == -EREMCHG)
			note("%s ", a.detail);
		else
			note("%d ", r);
		ask_end(&a);
	}
}

static void a_wrong_shard_names_the_right_one(void **state)
{
	static const char *const at[] = { "tcp://a:1", "tcp://b:2", "tcp://c:3", "tcp://d:4" };
	unsigned mine = slot_of_name((struct slice){ (const uint8_t *)"test", 4 }) % 4;
	char expected[128];

	play(play_route);
	snprintf(expected, sizeof(expected), "job:0 0 %s %s %s ", at[(mine + 1) % 4],
		 at[(mine + 2) % 4], at[(mine + 3) % 4]);
	assert_string_equal(notes, expected);
}

/* A store elsewhere, which is killed and is back at once. */

#define WRITERS 8

static struct keep_heap *keeper;
static struct listener store_listener;
static unsigned accepted;
static char store_address[ADDRESS_TEXT_MAX];

struct writer_fiber {
	struct fiber fiber;
	unsigned number, failed, slow;
	uint8_t *back;
	struct found found;
	bool has_read, has_ended;
};

static void accept_store(struct listener *lr, struct stream *stream)
{
	accepted++;
	if (store)
		(void)store_accept(store, stream);
	else
		stream_close(stream);
}

static void far_store_open(void)
{
	struct store_config pool = { .limit_bytes = POOL_BYTES,
				     .tier = TIER_DRAM,
				     .name = "dram",
				     .address = store_address,
				     .media = &media_heap,
				     .keep = keep_heap_keep(keeper) };
	struct stream *s = NULL;

	assert_int_equal(store_open(&pool, loop, net, &store), 0);
	keep_drop_rest(pool.keep);
	assert_int_equal(to_shard(NULL, 0, &s), 0);
	assert_int_equal(store_join(store, s), 0);
}

static int far_setup(void **state)
{
	struct core_config c = { .shard_count = 1, .to_shard = to_shard };
	struct address at;

	if (setup(state) != 0)
		return -1;
	core_stop(core);
	while (!core_has_stopped(core))
		loop_turn(loop, loop->now_ns + SECOND_NS);
	core_close(core);
	store_close(store);
	assert_int_equal(address_parse("tcp://127.0.0.1:0", &at), 0);
	store_listener = (struct listener){ .accepted = accept_store };
	assert_int_equal(listener_open(loop, &at, &store_listener), 0);
	address_format(&store_listener.address, store_address, sizeof(store_address));
	assert_int_equal(keep_heap_open(NULL, &keeper), 0);
	far_store_open();
	assert_int_equal(core_open(net, &c, &core), 0);
	return 0;
}

static int far_teardown(void **state)
{
	int r;

	listener_close(&store_listener);
	r = teardown(state);
	keep_heap_close(keeper);
	return r;
}

/* Its connections end in the middle of whatever they were at; its memory stays. */
static void far_store_gone(void)
{
	store_close(store);
	store = NULL;
	keep_heap_owner_gone(keeper);
}

static void far_store_restart(void)
{
	far_store_gone();
	far_store_open();
}

static void write_and_read(struct fiber *self)
{
	struct writer_fiber *f = container_of(self, struct writer_fiber, fiber);

	for (unsigned i = 0; i < 12; i++) {
		uint32_t len = 200000 + 1000 * f->number, from = 4096 * f->number + i;
		uint64_t begun_ns = loop->now_ns;
		char path[32];

		snprintf(path, sizeof(path), "%u/%u", f->number, i);
		f->failed += put(path, sample + from, len) < 0;
		if (find(path, 0, &f->found) < 0 || read_all(&f->found, 0, len, f->back) != len ||
		    memcmp(f->back, sample + from, len) != 0)
			f->failed++;
		object_release(core, &f->found, false);
		f->slow += loop->now_ns - begun_ns > 3 * SECOND_NS;
	}
}

static void writer_ended(struct fiber *self)
{
	container_of(self, struct writer_fiber, fiber)->has_ended = true;
}

static void nothing(void)
{
}

static void who_writes_while_a_store_is_restarted_does_not_notice(void **state)
{
	struct writer_fiber *writers = calloc(WRITERS, sizeof(*writers));
	unsigned alive = WRITERS, restarts = 0;

	accepted = 0;
	play(nothing); /* until all are ready, and there is a job */
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i].number = i;
		writers[i].back = malloc(300000);
		assert_int_equal(
			fiber_start(&loop->fibers, &writers[i].fiber, write_and_read, writer_ended),
			0);
	}
	for (unsigned turn = 0; alive > 0; turn++) {
		assert_int_equal(loop_turn(loop, loop->now_ns + SECOND_NS / 1000), 0);
		if (turn % 31 == 30 && restarts < 40) {
			far_store_restart();
			restarts++;
		}
		alive = 0;
		for (unsigned i = 0; i < WRITERS; i++)
			alive += !writers[i].has_ended;
	}
	assert_true(restarts > 5);
	assert_true(accepted <= restarts + 1); /* one of them connects for all */
	for (unsigned i = 0; i < WRITERS; i++) {
		assert_int_equal(writers[i].failed, 0);
		assert_int_equal(writers[i].slow, 0);
		free(writers[i].back);
	}
	free(writers);
}

/* Memory with something behind it, which nobody may touch. */

#define GUARD_BYTES 64
#define GUARD       0x5a
#define LIST_OF_8   (8 * sizeof(void *))

static uint8_t *guarded; /* the first list of eight that was made, while there is one */
static bool is_written_behind;

static void guard_look(const void *p)
{
	for (size_t i = 0; p && p == guarded && i < GUARD_BYTES; i++)
		is_written_behind |= guarded[LIST_OF_8 + i] != GUARD;
}

static void *guard_alloc(struct node *n, size_t size)
{
	return calloc(1, size);
}

static void *guard_resize(struct node *n, void *p, size_t size)
{
	static bool was_made;
	uint8_t *grown;

	guard_look(p);
	guarded = p == guarded ? NULL : guarded;
	grown = realloc(p, size + GUARD_BYTES);
	if (size == LIST_OF_8 && grown && !was_made) {
		memset(grown + size, GUARD, GUARD_BYTES);
		guarded = grown;
		was_made = true;
	}
	return grown;
}

static void guard_free(struct node *n, void *p)
{
	guard_look(p);
	guarded = p == guarded ? NULL : guarded;
	free(p);
}

static uint64_t real_now_ns(struct node *n)
{
	uint64_t now_ns;

	node_current = NULL;
	now_ns = node_now_ns();
	node_current = n;
	return now_ns;
}

static void real_random(struct node *n, void *buf, size_t len)
{
	node_current = NULL;
	node_random(buf, len);
	node_current = n;
}

static struct node guard = { .alloc = guard_alloc,
			     .resize = guard_resize,
			     .free = guard_free,
			     .now_ns = real_now_ns,
			     .wall_ns = real_now_ns,
			     .random = real_random };

static int live_count;

static void *live_alloc(struct node *n, size_t size)
{
	live_count++;
	return calloc(1, size);
}

static void live_free(struct node *n, void *p)
{
	live_count -= p != NULL;
	free(p);
}

static void wait_run(struct fiber *self)
{
	struct waitq never;

	waitq_init(&never, self->home);
	(void)waitq_wait(&never, UINT64_MAX);
}

/* All stacks are taken, and no more are made. The target that the first try makes stays. */
static void play_moves_without_a_fiber(void)
{
	static struct node counted = { .alloc = live_alloc, .free = live_free };
	static struct fiber waiting[64];
	unsigned count = 0, max = loop->fibers.stack_count_max;
	struct mover *m;
	int first;

	note("open:%d ", mover_open(core, emptied, NULL, &m));
	loop->fibers.stack_count_max = loop->fibers.stack_count;
	while (count < 64 && fiber_start(&loop->fibers, &waiting[count], wait_run, NULL) == 0)
		count++;
	live_count = 0;
	node_current = loop->node = &counted;
	note("empty:%d ", mover_empty(m, job, 1, 1));
	first = live_count;
	note("%d ", mover_empty(m, job, 1, 1));
	node_current = loop->node = NULL;
	note("more:%d ", live_count - first);
	loop->fibers.stack_count_max = max;
	while (count > 0)
		fiber_cancel(&waiting[--count]);
	core_sleep(core, loop->now_ns + SECOND_NS / 1000);
	mover_stop(m);
	mover_close(m);
}

static void a_move_that_finds_no_fiber_leaves_nothing(void **state)
{
	play(play_moves_without_a_fiber);
	assert_string_equal(notes, "job:0 open:0 empty:-11 -11 more:0 ");
}

#define OLDER_MS (2ull * HOLDER_AGE_MS)

struct filler {
	struct fiber fiber;
	struct fill *fill;
	struct piece piece;
	char words[160];
	int result;
	bool has_ended;
};

static void lease_ahead(struct fiber *self)
{
	struct filler *a = container_of(self, struct filler, fiber);

	a->result = fill_ahead(a->fill, OLDER_MS, due(), a->words, sizeof(a->words));
}

static void add_piece(struct fiber *self)
{
	struct filler *a = container_of(self, struct filler, fiber);

	a->result = fill_add(a->fill, &a->piece, due());
}

static void filler_ended(struct fiber *self)
{
	container_of(self, struct filler, fiber)->has_ended = true;
}

#define OTHERS_MAX 256

static unsigned take_space(struct fill *fills[OTHERS_MAX], unsigned n, uint64_t len)
{
	while (n < OTHERS_MAX &&
	       fill_open(core, job, 0, len, HOLDER_AGE_MS, loop->now_ns + SECOND_NS, &fills[n], why,
			 sizeof(why)) == 0)
		n++;
	return n;
}

/* The pool is full, until they are closed. How many. */
static unsigned take_all_space(struct fill *fills[OTHERS_MAX])
{
	return take_space(fills, take_space(fills, 0, 1000000), 60000);
}

/* There is no room for the tables of sums at first. */
static void play_a_second_commit(void)
{
	struct how how = how_of("twice");
	struct fill *others[OTHERS_MAX], *f;
	struct committed done;
	uint64_t at = 0;
	unsigned n;
	struct piece p;

	note("open:%d ", fill_open(core, job, 7, 300000, 0, due(), &f, why, sizeof(why)));
	note("fill:%d ", fill_some(f, 1, &at, sample, 200000));
	at = 0;
	note("%d ", fill_some(f, 0, &at, sample + 200000, 100000));
	n = take_all_space(others);
	note("full:%d ", n > 40 && n < OTHERS_MAX);
	note("commit:%d ",
	     fill_commit(f, &how, loop->now_ns + SECOND_NS / 10, &done, why, sizeof(why)));
	note("take:%d ", fill_take(f, 0, at, 1000, &p));
	while (n > 0)
		fill_close(others[--n]);
	note("commit:%d ", fill_commit(f, &how, due(), &done, why, sizeof(why)));
	fill_close(f);
	note("find:%d ", find("twice", 0, &found));
	note("read:%d ", (int)read_all(&found, 0, 300000, back));
	note("same:%d ", memcmp(back, sample + 200000, 100000) == 0 &&
				 memcmp(back + 100000, sample, 200000) == 0);
	object_release(core, &found, false);
}

static void what_could_not_be_committed_is_committed_as_a_whole_later(void **state)
{
	play(play_a_second_commit);
	assert_string_equal(notes, "job:0 open:0 fill:0 0 full:1 commit:-28 take:-22 commit:0 "
				   "find:0 read:300000 same:1 ");
}

/* The table of its sums, at the end of a segment, is there already when it is committed for the
 * second time. */
static void play_a_refused_commit(void)
{
	struct how how = how_of("refused");
	const struct extent *e = &found.u.extents[0];
	struct committed done;
	struct fill *f;
	uint64_t at = 0;
	int r;

	note("open:%d ", fill_open(core, job, 0, 100032, 0, due(), &f, why, sizeof(why)));
	note("fill:%d ", fill_some(f, 0, &at, sample, 100032));
	how.if_version = 9;
	r = fill_commit(f, &how, due(), &done, why, sizeof(why));
	how.if_version = 0;
	note("commit:%d %d ", r, fill_commit(f, &how, due(), &done, why, sizeof(why)));
	fill_close(f);
	note("find:%d ", find("refused", 0, &found));
	note("table:%u ", e->table_offset - e->offset);
	note("read:%d ", (int)read_all(&found, 0, 100032, back));
	object_release(core, &found, false);
}

static void sums_that_were_written_are_not_written_again(void **state)
{
	play(play_a_refused_commit);
	assert_string_equal(notes, "job:0 open:0 fill:0 commit:-52 0 find:0 table:131008 "
				   "read:100032 ");
}

/*
 * Seven segments, and a list that has room for eight. All of them are fenced while bytes are on
 * their way, so those need another one; and one more is leased ahead, which comes before that.
 */
static void play_two_leases(void)
{
	static struct filler adder, leaser;
	struct fill *others[OTHERS_MAX], *f;
	unsigned other_count;
	uint64_t at = 0;

	adder = leaser = (struct filler){ 0 };
	node_current = loop->node = &guard;
	note("open:%d ", fill_open(core, job, 0, 7000000, 0, due(), &f, why, sizeof(why)));
	adder.fill = leaser.fill = f;
	note("fill:%d ", fill_some(f, 0, &at, sample, SAMPLE_LEN));
	note("%d ", fill_some(f, 0, &at, sample, 1200000));
	note("take:%d ", fill_take(f, 0, at, 1000, &adder.piece));
	memset(adder.piece.ptr, 7, adder.piece.len);
	other_count = take_all_space(others);
	note("others:%d ", other_count > 40 && other_count < OTHERS_MAX);
	adder.piece.segment->key++;
	segments_fence(core, shard_of(core, slot_of_id(job)));
	(void)fiber_start(&loop->fibers, &leaser.fiber, lease_ahead, filler_ended);
	(void)fiber_start(&loop->fibers, &adder.fiber, add_piece, filler_ended);
	core_sleep(core, loop->now_ns + SECOND_NS / 10);
	note("waiting:%d ", !leaser.has_ended && !adder.has_ended);
	while (other_count > 0)
		fill_close(others[--other_count]);
	while (!leaser.has_ended || !adder.has_ended)
		core_sleep(core, loop->now_ns + SECOND_NS / 1000);
	note("ahead:%d add:%d ", leaser.result, adder.result);
	fill_close(f);
	note("behind:%d ", is_written_behind);
	node_current = loop->node = NULL;
}

static void two_leases_for_an_object_have_room_in_its_list(void **state)
{
	play(play_two_leases);
	assert_string_equal(notes, "job:0 open:0 fill:0 0 take:0 others:1 waiting:1 ahead:0 add:0 "
				   "behind:0 ");
}

static bool may_give_back;

/* Keeps the buffer, so that it is not what wakes the next one. */
static void read_sample(struct fiber *self)
{
	struct writer_fiber *f = container_of(self, struct writer_fiber, fiber);
	struct span s;

	f->failed = find("far", 0, &f->found) < 0 ||
		    object_read(core, &f->found, 0, 5000, due(), &s) < 0;
	if (!f->failed) {
		f->has_read = s.payload.len == 5000 && memcmp(s.payload.ptr, sample, 5000) == 0;
		while (!may_give_back)
			core_sleep(core, loop->now_ns + SECOND_NS / 1000);
		span_end(&s);
	}
	object_release(core, &f->found, false);
}

static void play_buffers(void)
{
	static struct writer_fiber readers[2];

	may_give_back = false;
	note("put:%d ", put("far", sample, 5000));
	core->buffer_bytes += BUFFER_BYTES_MAX; /* others have them all */
	for (int i = 0; i < 2; i++) {
		readers[i] = (struct writer_fiber){ .number = (unsigned)i };
		(void)fiber_start(&loop->fibers, &readers[i].fiber, read_sample, writer_ended);
	}
	core_sleep(core, loop->now_ns + SECOND_NS / 10);
	note("read:%d,%d ", readers[0].has_read, readers[1].has_read);
	buffer_given_back(core, BUFFER_BYTES_MAX);
	for (int i = 0; i < 2000 && !(readers[0].has_read && readers[1].has_read); i++)
		core_sleep(core, loop->now_ns + SECOND_NS / 1000);
	note("read:%d,%d ", readers[0].has_read, readers[1].has_read);
	may_give_back = true;
	while (!readers[0].has_ended || !readers[1].has_ended)
		core_sleep(core, loop->now_ns + SECOND_NS / 10);
	note("failed:%u,%u left:%u", readers[0].failed, readers[1].failed,
	     (unsigned)core->buffer_bytes);
}

static void who_waits_for_a_buffer_is_woken_when_there_is_one(void **state)
{
	play(play_buffers);
	assert_string_equal(notes, "job:0 put:0 read:0,0 read:1,1 failed:0,0 left:0");
}

/* Somebody else on the same loop, who has a turn whenever there is one. */
static struct {
	struct fiber fiber;
	unsigned turns;
	bool must_end, has_ended;
} neighbor;

static void neighbor_run(struct fiber *self)
{
	while (!neighbor.must_end && fiber_yield(&loop->fibers) == 0)
		neighbor.turns++;
	neighbor.has_ended = true;
}

static void play_long_sums(void)
{
	const uint32_t len = 4 * LOOP_PIECE;
	unsigned before, summed;
	struct extent e;
	struct piece p;
	struct span s;

	note("put:%d ", put("long", sample, len));
	note("find:%d ", find("long", 0, &found));
	note("reserve:%d ", piece_reserve(core, job, len, 0, due(), &p, why, sizeof(why)));
	neighbor.must_end = neighbor.has_ended = false;
	(void)fiber_start(&loop->fibers, &neighbor.fiber, neighbor_run, NULL);
	before = neighbor.turns;
	note("fill:%d ", piece_fill(core, &p, due(), &e, why, sizeof(why)));
	summed = neighbor.turns;
	note("read:%d ", object_read(core, &found, 0, len, due(), &s));
	note("turns:%d,%d ", summed - before >= 3, neighbor.turns - summed >= 3);
	neighbor.must_end = true;
	while (!neighbor.has_ended && fiber_yield(&loop->fibers) == 0)
		;
	span_end(&s);
	piece_end(core, &p);
	object_release(core, &found, false);
}

static void long_sums_are_made_in_pieces_with_turns_for_others_between(void **state)
{
	play(play_long_sums);
	assert_string_equal(notes, "job:0 put:0 find:0 reserve:0 fill:0 read:0 turns:1,1 ");
}

#define CORE_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/* Of a quota that has room for one. */
#define PIECE_LEN 60000

static void wait_for_long(struct fiber *self)
{
	char words[160];
	struct piece p;
	int r = piece_reserve(core, job, PIECE_LEN, 0, loop->now_ns + 4 * SECOND_NS, &p, words,
			      sizeof(words));

	note("long:%d ", r);
}

static void play_beside_who_waits(void)
{
	struct scene other = { .has_ended = false };
	struct piece first, second;
	uint64_t began_ns;
	int r;

	note("first:%d ", piece_reserve(core, job, PIECE_LEN, 0, due(), &first, why, sizeof(why)));
	(void)fiber_start(&loop->fibers, &other.fiber, wait_for_long, scene_ended);
	core_sleep(core, loop->now_ns + 100000000);
	began_ns = loop->now_ns;
	r = piece_reserve(core, job, PIECE_LEN, 0, loop->now_ns + SECOND_NS, &second, why,
			  sizeof(why));
	note("short:%d ", r);
	note("%s ", strstr(why, "of its quota of") ? "words" : why);
	note("%s ", loop->now_ns - began_ns < SECOND_NS ? "early" : "late");
	while (!other.has_ended)
		core_sleep(core, loop->now_ns + 100000000);
	piece_end(core, &first);
}

/* Whoever asks for all of a writer's puts may wait for longer than one of them can. */
static void who_has_less_time_hears_in_his_own(void **state)
{
	quota = SEGMENT_BYTES_MIN;
	play(play_beside_who_waits);
	quota = 0;
	assert_string_equal(notes, "job:0 first:0 short:-122 words early long:-122 ");
}

static void give_back(struct timer *t)
{
	is_full = false;
}

static void play_full_metadata(void)
{
	struct timer room = { .fire = give_back };
	uint64_t began_ns = loop->now_ns;
	int r;

	is_full = true;
	timer_start(loop, &room, loop->now_ns + SECOND_NS / 2);
	r = put("waits", sample, 100);
	timer_stop(loop, &room);
	note("put:%d %s ", r, loop->now_ns >= began_ns + SECOND_NS / 2 ? "later" : "at once");
	is_full = true;
	began_ns = loop->now_ns;
	r = put("in vain", sample, 100);
	note("put:%d %s ", r, strstr(why, "metadata and data use all memory") ? "words" : why);
	note("%s ", loop->now_ns > began_ns + 4 * SECOND_NS ? "late" : "at once");
	note("%s ", loop->now_ns < began_ns + 8 * SECOND_NS ? "in time" : "too late");
	is_full = false;
}

static void a_value_waits_for_memory_of_metadata(void **state)
{
	play(play_full_metadata);
	assert_string_equal(notes, "job:0 put:0 later put:-28 words late in time ");
}

/* Its table of sums does not get to the store at first. */
static struct fill *filling;

static void play_fill(void)
{
	uint64_t at = 0;

	note("open:%d ", fill_open(core, job, 0, 0, 0, due(), &filling, why, sizeof(why)));
	note("fill:%d ", fill_some(filling, 0, &at, sample, 200000));
}

static void play_commit(void)
{
	struct how how = { .attempt_lo = 1, .path = { (const uint8_t *)"sums", 4 } };
	struct committed done;
	uint64_t due_ns = loop->now_ns + (store ? 5 * SECOND_NS : SECOND_NS / 2);

	note("%s ", fill_commit(filling, &how, due_ns, &done, why, sizeof(why)) == 0 ? "committed"
										     : "not");
}

static void play_sums(void)
{
	fill_close(filling);
	note("find:%d ", find("sums", 0, &found));
	note("read:%d ", (int)read_all(&found, 0, 200000, back));
	object_release(core, &found, false);
}

static void sums_that_were_not_written_are_written_by_the_next_commit(void **state)
{
	play(play_fill);
	far_store_gone();
	play_on(play_commit);
	far_store_open();
	play_on(play_commit);
	play_on(play_sums);
	assert_string_equal(notes, "job:0 open:0 fill:0 not committed find:0 read:200000 ");
}

static void play_put(void)
{
	note("put:%d ", put("x", sample, 100000));
}

static void a_store_for_which_there_is_no_descriptor_is_out_of_reach(void **state)
{
	struct rlimit before, few;
	int next = dup(0);

	play(nothing);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){ (rlim_t)next, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	play_on(play_put);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	play_on(play_put);
	assert_string_equal(notes, "job:0 put:-113 put:0 ");
}

/* One that comes back, at another address, is another one. */
static void a_store_that_is_gone_is_forgotten(void **state)
{
	struct store_link *l;

	play(play_fill);
	fill_close(filling);
	l = container_of(core->stores.next, struct store_link, link);
	assert_int_equal(l->store, store_incarnation(store));
	listener_close(&store_listener);
	far_store_gone();
	while (l->conn)
		assert_int_equal(loop_turn(loop, loop->now_ns + SECOND_NS), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(loop_turn(loop, loop->now_ns + SECOND_NS / 2), 0);
	assert_false(list_is_empty(&core->stores)); /* it may be back at once */
	l->used_ns = 0;
	for (int i = 0; i < 5 && !list_is_empty(&core->stores); i++)
		assert_int_equal(loop_turn(loop, loop->now_ns + SECOND_NS), 0);
	assert_true(list_is_empty(&core->stores));
}

/* The connection to metadata is lost in the middle of a commit, and nobody is there for a while. */

#define PARTS 200

static uint64_t cut_at; /* calls */

static void cut_run(struct fiber *self)
{
	while (net_counters(net)->call_count < cut_at)
		if (fiber_yield(&loop->fibers) < 0)
			return;
	is_away = true;
	conn_close(core->links[0]->conn);
}

static void play_cut(void)
{
	struct scene cutter = { .has_ended = false };
	struct how how = how_of("cut");
	struct committed done;
	struct fill *f;
	int r = fill_open(core, job, 0, 0, 0, due(), &f, why, sizeof(why));

	for (uint32_t i = 0; i < PARTS && r == 0; i++) {
		uint64_t at = 0;

		r = fill_some(f, i, &at, sample + i * 100ul, 100);
	}
	note("fill:%d ", r);
	cut_at = net_counters(net)->call_count + PARTS / 2;
	(void)fiber_start(&loop->fibers, &cutter.fiber, cut_run, scene_ended);
	r = fill_commit(f, &how, loop->now_ns + SECOND_NS / 2, &done, why, sizeof(why));
	note("commit:%s ", r == -EHOSTUNREACH ? "unknown" : why);
	fiber_cancel(&cutter.fiber);
	while (!cutter.has_ended)
		fiber_yield(&loop->fibers);
	is_away = false;
	r = fill_commit(f, &how, due(), &done, why, sizeof(why));
	note("commit:%d %s", r, r < 0 ? why : "");
	fill_close(f);
	note("find:%d ", find("cut", 0, &found));
	note("read:%d ", (int)read_all(&found, 0, PARTS * 100, back));
	note("same:%d ", memcmp(back, sample, PARTS * 100) == 0);
	object_release(core, &found, false);
}

static void what_was_cut_off_is_committed_from_there(void **state)
{
	play(play_cut);
	assert_string_equal(notes,
			    "job:0 fill:0 commit:unknown commit:0 find:0 read:20000 same:1 ");
}

/* As many as there are functions, or jobs, on a busy host. */
#define IDLE 200

static void play_idle(void)
{
	uint64_t end_ns = loop->now_ns + 20 * SECOND_NS;

	for (unsigned i = 0; i < IDLE; i++) {
		struct piece p;

		note("%s", author_reserve(core, job, i + 1, 3000, 0, due(), &p, why, sizeof(why))
				   ? why
				   : "");
		piece_end(core, &p);
	}
	note("writers:%zu ", core->writers.count);
	while (core->writers.count > 0 && loop->now_ns < end_ns)
		core_sleep(core, loop->now_ns + SECOND_NS / 100);
	while (!list_is_empty(&core->segments) && loop->now_ns < end_ns)
		core_sleep(core, loop->now_ns + SECOND_NS / 100);
	note("%s ", loop->now_ns < end_ns ? "sealed" : "open");
}

/* Each after a second, however many they are. */
static void segments_that_nobody_writes_to_are_all_sealed(void **state)
{
	play(play_idle);
	assert_string_equal(notes, "job:0 writers:200 sealed ");
}

/* Metadata whose log is full for longer than a request is repeated, and to which the way is lost.
 */

#define LATE_NS 100000000

static uint64_t full_until_ns;
static bool has_settled;

static void full_hello(struct request *r)
{
	struct wcur w = request_answer(r);

	r->conn->access = node_alloc(sizeof(*r->conn->access));
	if (r->conn->access)
		r->conn->access->role = ROLE_PROXY;
	hello_rep_put(&w,
		      &(struct hello_rep){ .version = PROTOCOL_VERSION, .session = 1, .epoch = 1 });
	request_reply(r, &w, NULL);
}

static void full_lease(struct request *r)
{
	static uint8_t bytes[GRANT_SIZE];
	static struct payload grants = { .ptr = bytes, .len = sizeof(bytes) };
	struct wcur g = wcur_make(bytes, sizeof(bytes)), w = request_answer(r);

	grant_put(&g, &(struct grant){ .segment = 1, .generation = 1, .size = SEGMENT_BYTES_MIN });
	lease_rep_put(&w, &(struct lease_rep){ .count = 1 });
	request_reply(r, &w, &grants);
}

static void full_settle(struct request *r)
{
	struct wcur w;

	if (!full_until_ns)
		full_until_ns = loop->now_ns + 3 * LOGFULL_MS / 2 * 1000000ull;
	if (loop->now_ns < full_until_ns) {
		request_fail(r, -ENOBUFS, "the log can take no more for now");
		return;
	}
	w = request_answer(r);
	request_reply(r, &w, NULL);
	has_settled = true;
}

/* It ends what came before, and too late for another try. */
static bool ends_session;

static void late_commit(struct request *r)
{
	const struct timespec pause = { .tv_nsec = LATE_NS + LATE_NS / 10 };

	nanosleep(&pause, NULL);
	if (!ends_session)
		conn_close(r->conn);
	request_fail(r, -ENOLINK, "the session is over");
}

static void held_lookup(struct request *r)
{
	struct wcur w = request_answer(r);

	lookup_rep_put(&w, &(struct lookup_rep){ .hold = 7, .nth_try = 1, .crc = crc_begin(0) });
	request_reply(r, &w, NULL);
}

/* It has used the read up, and its answer is lost so many times. */
static unsigned lost_releases;

static void lost_release(struct request *r)
{
	if (lost_releases > 0) {
		lost_releases--;
		conn_close(r->conn);
	}
	request_fail(r, -ESTALE, "there is no such hold");
}

static struct conn *full_conn;

static void full_closed(struct conn *c)
{
	if (full_conn == c)
		full_conn = NULL;
}

static const struct service FULL = {
	.server = SERVER_META,
	.handlers = { [MESSAGE_HELLO] = { .serve = full_hello },
		      [MESSAGE_LEASE] = { .serve = full_lease },
		      [MESSAGE_COMMIT] = { .serve = late_commit },
		      [MESSAGE_LOOKUP] = { .serve = held_lookup },
		      [MESSAGE_RELEASE] = { .serve = lost_release },
		      [MESSAGE_SETTLE] = { .serve = full_settle } },
	.closed = full_closed,
};

static int to_full(void *owner, uint16_t index, struct stream **ret)
{
	struct stream *ends[2];
	int r = stream_pair(loop, 256 << 10, ends);

	if (r < 0)
		return r;
	full_conn = conn_open(net, ends[1], &FULL, NULL);
	*ret = ends[0];
	return 0;
}

static struct core *of_full;

static void play_full_log(void)
{
	const struct want want = { .job = job, .need = 1000, .size = SEGMENT_BYTES_MIN };
	struct segment *s;
	uint64_t end_ns = loop->now_ns + 20 * SECOND_NS;

	note("lease:%d ", segments_lease(of_full, &want, due(), &s, 1, why, sizeof(why)));
	segment_seal(s);
	while (!has_settled && loop->now_ns < end_ns)
		core_sleep(core, loop->now_ns + SECOND_NS / 100);
	note("%s ", has_settled ? "settled" : "forgotten");
}

static void play_full(void (*run)(void))
{
	const struct core_config c = { .shard_count = 1, .to_shard = to_full };

	assert_int_equal(core_open(net, &c, &of_full), 0);
	play(run);
	core_stop(of_full);
	while (!core_has_stopped(of_full))
		loop_turn(loop, loop->now_ns + SECOND_NS);
	core_close(of_full);
	if (full_conn)
		conn_close(full_conn);
}

static void what_a_full_log_does_not_take_is_given_back_later(void **state)
{
	full_until_ns = 0;
	has_settled = false;
	play_full(play_full_log);
	assert_string_equal(notes, "job:0 lease:1 settled ");
}

static void commit_late(void)
{
	const struct how how = { .path = { (const uint8_t *)"x", 1 } };
	struct committed done;

	if (core_wait_ready(of_full, due()) < 0)
		note("nobody is there ");
	note("%d ", object_commit_value(of_full, job, &how, "x", 1, loop->now_ns + LATE_NS, &done,
					why, sizeof(why)));
	note("%s; ", why);
}

static void play_late_commits(void)
{
	ends_session = false;
	commit_late();
	ends_session = true;
	commit_late();
}

/* Nobody has answered: it is not the asker's own connection that is gone, nor was it refused. */
static void what_is_cut_off_at_the_deadline_was_not_answered(void **state)
{
	play_full(play_late_commits);
	assert_string_equal(notes, "job:0 -113 the connection to metadata was lost; "
				   "-113 the connection to metadata was lost; ");
}

static void note_release(unsigned lost, bool is_confirmed)
{
	struct slice name = { (const uint8_t *)"x", 1 };

	lost_releases = 0;
	note("%d:", object_find(of_full, job, name, 0, 0, 1, 1, due(), &found, why, sizeof(why)));
	lost_releases = lost;
	note("%d ", object_release_wait(of_full, &found, is_confirmed, due()));
}

static void play_lost_release(void)
{
	note_release(0, true);
	note_release(1, true);
	note_release(1, false);
}

static void a_read_whose_confirmation_was_not_answered_is_confirmed(void **state)
{
	play_full(play_lost_release);
	assert_string_equal(notes, "job:0 0:-116 0:0 0:-116 ");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		CORE_TEST(objects_of_any_size_come_back),
		CORE_TEST(what_is_moved_does_not_take_a_turn_for_each_object),
		CORE_TEST(open_space_is_bounded_by_what_was_written),
		CORE_TEST(what_is_moved_goes_to_segments_that_grow_with_it),
		CORE_TEST(what_is_moved_needs_nothing_of_a_quota),
		CORE_TEST(a_move_that_finds_no_fiber_leaves_nothing),
		CORE_TEST(what_is_moved_stays_on_pages),
		CORE_TEST(a_move_may_lack_memory_anywhere),
		cmocka_unit_test(segments_grow_up_to_the_largest_with_what_is_written),
		CORE_TEST(parts_are_put_in_the_order_of_their_numbers),
		CORE_TEST(extents_are_found_by_range),
		CORE_TEST(damaged_bytes_are_never_handed_on),
		CORE_TEST(what_a_function_writes_lies_where_nobody_else_writes),
		CORE_TEST(what_is_taken_away_from_a_function_is_stale),
		CORE_TEST(a_segment_that_was_fenced_is_given_back),
		CORE_TEST(pieces_that_a_function_writes_are_as_long_as_it_says),
		CORE_TEST(what_is_held_outlives_its_name_and_no_more),
		CORE_TEST(what_was_taken_is_forgotten_when_it_is_replaced),
		CORE_TEST(what_is_replaced_without_memory_is_forgotten_or_not_said_to_be),
		CORE_TEST(what_is_forgotten_before_it_is_heard_of_is_not_taken),
		CORE_TEST(what_may_have_to_be_undone_is_limited),
		CORE_TEST(who_has_less_time_hears_in_his_own),
		CORE_TEST(a_value_waits_for_memory_of_metadata),
		CORE_TEST(a_wrong_shard_names_the_right_one),
		CORE_TEST(what_could_not_be_committed_is_committed_as_a_whole_later),
		CORE_TEST(sums_that_were_written_are_not_written_again),
		CORE_TEST(what_was_cut_off_is_committed_from_there),
		CORE_TEST(segments_that_nobody_writes_to_are_all_sealed),
		CORE_TEST(what_a_full_log_does_not_take_is_given_back_later),
		CORE_TEST(what_is_cut_off_at_the_deadline_was_not_answered),
		CORE_TEST(a_read_whose_confirmation_was_not_answered_is_confirmed),
		cmocka_unit_test_setup_teardown(
			sums_that_were_not_written_are_written_by_the_next_commit, far_setup,
			far_teardown),
		cmocka_unit_test_setup_teardown(
			a_store_for_which_there_is_no_descriptor_is_out_of_reach, far_setup,
			far_teardown),
		cmocka_unit_test_setup_teardown(a_store_that_is_gone_is_forgotten, far_setup,
						far_teardown),
		cmocka_unit_test_setup_teardown(two_leases_for_an_object_have_room_in_its_list,
						far_setup, far_teardown),
		cmocka_unit_test_setup_teardown(
			who_writes_while_a_store_is_restarted_does_not_notice, far_setup,
			far_teardown),
		cmocka_unit_test_setup_teardown(who_waits_for_a_buffer_is_woken_when_there_is_one,
						far_setup, far_teardown),
		CORE_TEST(long_sums_are_made_in_pieces_with_turns_for_others_between),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
