/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool, alone: its janitor's steps are carried out by the test, when the test
 * wants it, on plain memory, and the time is a variable.
 */
#include "test.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/node.h"
#include "store/janitor.h"

#define KB     1024u
#define MB     (1024u * KB)
#define MS     1000000ull
#define SECOND (1000 * MS)
#define LIMIT  (64 * MB)

/* Jobs of the slots 5 and 6. */
#define JOB_A ((5ull << 54) | 1)
#define JOB_B ((6ull << 54) | 1)

#define NUMBER 0xabcdefull

static struct pool p;
static uint64_t now;
static const struct media *media;
static struct retired retired;

/* Everything that the janitor has to do, until nothing is left. */
static unsigned work(void)
{
	struct step steps[8];
	unsigned n, total = 0;

	while ((n = pool_plan(&p, steps, 8, 8 * MB, now)) > 0) {
		for (unsigned i = 0; i < n; i++) {
			assert_true(steps[i].from < steps[i].to);
			janitor_step(media, NULL, &retired, &steps[i]);
		}
		pool_done(&p, steps, n, now);
		assert_true(p.reserved <= p.limit);
		total += n;
		assert_true(total < 1000000);
	}
	return total;
}

static int open_pool(void **state)
{
	now = 10 * SECOND;
	media = &media_heap;
	assert_int_equal(pool_init(&p, NUMBER, LIMIT, UINT_MAX), 0);
	p.moving = 0; /* what is only for moves has tests of its own */
	return 0;
}

static int open_pool_for_moves(void **state)
{
	open_pool(state);
	p.moving = 2 * MB;
	return 0;
}

static int close_pool(void **state)
{
	pool_fini(&p, media);
	return 0;
}

static struct ask make_ask(uint64_t job, uint64_t request, uint64_t need, uint32_t size)
{
	return (struct ask){ .job = job,
			     .request = request,
			     .stamp_ns = 1000000,
			     .due_ns = now + 10 * SECOND,
			     .need = need,
			     .size = size };
}

/* Granted, if need be after the janitor's work. */
static struct grants must_get(uint64_t job, uint64_t request, uint64_t need, uint32_t size)
{
	struct ask a = make_ask(job, request, need, size), *next;
	struct grants g;
	int r = pool_ask(&p, &a, now, &g);

	for (unsigned i = 0; r == -EAGAIN && i < 1000; i++) {
		work();
		next = pool_next(&p, now, &g, &r);
		r = next ? r : -EAGAIN;
		now += next ? 0 : 10 * MS;
	}
	assert_int_equal(r, 0);
	return g;
}

static struct grant get_one(uint64_t job, uint64_t request, uint32_t size)
{
	struct grants g = must_get(job, request, size, size);

	assert_int_equal(g.count, 1);
	assert_int_equal(g.list[0].size, size);
	return g.list[0];
}

static int pin(const struct grant *g, uint64_t job, uint32_t offset, uint32_t len, uint8_t **ret)
{
	struct segment *s;

	return pool_pin(&p, job, g->segment, g->generation, offset, len, &s, ret);
}

static int pin_to_write(const struct grant *g, uint64_t job, uint8_t **ret)
{
	struct segment *s;

	return pool_pin_to_write(&p, job, g->segment, g->generation, g->key, 0, g->size, &s, ret);
}

static void unpin(const struct grant *g, bool is_to_write)
{
	pool_unpin(&p, pool_pinned(&p, g->segment), is_to_write, now);
}

static int free_it(const struct grant *g, uint64_t stamp_ns)
{
	struct segment *s;

	return pool_free(&p, g->segment, g->generation, stamp_ns, now, &s);
}

static int seal(const struct grant *g, uint32_t front, uint32_t back, uint64_t stamp_ns)
{
	return pool_seal(&p, g->segment, g->generation, front, back, stamp_ns, now);
}

/* What was sealed is punched, if nothing becomes of it meanwhile. */
static void work_later(void)
{
	now += SECOND;
	work();
}

static void write_all(const struct grant *g, uint64_t job, int byte)
{
	uint8_t *bytes;

	assert_int_equal(pin_to_write(g, job, &bytes), 0);
	memset(bytes, byte, g->size);
	unpin(g, true);
}

/* How many bytes of it are `byte`. */
static size_t count_bytes(const struct grant *g, uint64_t job, int byte)
{
	uint8_t *bytes;
	size_t n = 0;

	assert_int_equal(pin(g, job, 0, g->size, &bytes), 0);
	for (size_t i = 0; i < g->size; i++)
		n += bytes[i] == byte;
	unpin(g, false);
	return n;
}

static void a_fresh_pool_has_a_few_of_the_smallest_and_nothing_else(void **state)
{
	work();
	assert_int_equal(p.reserved, 4 * 64 * KB);
	assert_int_equal(pool_clean_bytes(&p), 4 * 64 * KB);
	assert_int_equal(p.used, 0);
	assert_int_equal(work(), 0);
	assert_true(pool_due_ns(&p, now) == UINT64_MAX);
}

static void what_is_in_stock_is_granted_at_once_and_the_rest_when_it_is_made(void **state)
{
	struct ask a = make_ask(JOB_A, 1, 100, 64 * KB), b = make_ask(JOB_A, 2, MB, MB);
	struct grants g;
	int r;

	work();
	assert_int_equal(pool_ask(&p, &a, now, &g), 0);
	assert_int_equal(g.count, 1);
	assert_int_equal(g.list[0].size, 64 * KB);
	assert_int_equal(g.list[0].segment >> 20, NUMBER);
	assert_int_equal(g.list[0].store, NUMBER);
	assert_int_equal(g.list[0].generation, 1);
	assert_true(g.list[0].key != 0);

	assert_int_equal(pool_ask(&p, &b, now, &g), -EAGAIN);
	assert_null(pool_next(&p, now, &g, &r));
	now += 3 * MS;
	work();
	assert_ptr_equal(pool_next(&p, now, &g, &r), &b);
	assert_int_equal(r, 0);
	assert_int_equal(g.count, 1);
	assert_int_equal(g.list[0].size, MB);
	/* The slot's time, and as much as it took here. */
	assert_int_equal(g.stamp_ns, 1000000 + 3 * MS);
	assert_int_equal(p.used, MB + 64 * KB);
}

static void several_cover_what_is_needed_and_the_last_is_no_larger_than_that(void **state)
{
	struct grants g;

	/* So that all of it is in stock. */
	for (unsigned i = 0; i < 12; i++)
		get_one(JOB_B, 100 + i, MB);
	get_one(JOB_B, 200, 128 * KB);
	work();
	g = must_get(JOB_A, 1, 2 * MB + 64 * KB + 1, MB);
	assert_int_equal(g.count, 3);
	assert_int_equal(g.list[0].size, MB);
	assert_int_equal(g.list[1].size, MB);
	assert_int_equal(g.list[2].size, 128 * KB);
}

static void a_size_is_a_power_of_two_between_the_smallest_and_a_64th_of_the_pool(void **state)
{
	struct grants g;

	assert_int_equal(must_get(JOB_A, 1, 1, 0).list[0].size, 64 * KB);
	assert_int_equal(must_get(JOB_A, 2, 1, 200 * KB).list[0].size, 128 * KB);
	assert_int_equal(must_get(JOB_A, 3, 64 * MB, UINT32_MAX).list[0].size, MB);
	g = must_get(JOB_A, 4, 0, 64 * KB);
	assert_int_equal(g.count, 1);
}

static void no_byte_is_handed_out_twice(void **state)
{
	struct grant all[64];
	unsigned n = 0;

	for (unsigned i = 0; i < 64; i++) {
		all[n] = get_one(i % 2 ? JOB_A : JOB_B, i, (64 * KB) << i % 4);
		write_all(&all[n], i % 2 ? JOB_A : JOB_B, (int)i + 1);
		n++;
	}
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(count_bytes(&all[i], i % 2 ? JOB_A : JOB_B, (int)i + 1),
				 all[i].size);
		for (unsigned k = 0; k < i; k++)
			assert_true(all[i].segment != all[k].segment && all[i].key != all[k].key);
	}
}

static void a_repeated_request_gets_the_same_grants(void **state)
{
	struct grants first, again;
	struct ask a;

	/* Two of a kind in stock, so that the answer has two. */
	for (unsigned i = 0; i < 12; i++)
		get_one(JOB_B, 100 + i, 256 * KB);
	work();
	first = must_get(JOB_A, 7, 512 * KB, 256 * KB);
	assert_int_equal(first.count, 2);
	now += 5 * SECOND;
	a = make_ask(JOB_A, 7, 512 * KB, 256 * KB);
	a.stamp_ns = 77;
	assert_int_equal(pool_ask(&p, &a, now, &again), 0);
	assert_int_equal(again.count, 2);
	assert_int_equal(again.stamp_ns, first.stamp_ns);
	for (unsigned i = 0; i < 2; i++) {
		unsigned k = again.list[i].segment == first.list[0].segment ? 0 : 1;

		assert_int_equal(again.list[i].segment, first.list[k].segment);
		assert_int_equal(again.list[i].generation, first.list[k].generation);
		assert_int_equal(again.list[i].key, first.list[k].key);
	}
	assert_true(again.list[0].segment != again.list[1].segment);
	assert_int_equal(p.used, 14 * 256 * KB);
	/* The same number of another job is another request. */
	again = must_get(JOB_B, 7, 64 * KB, 64 * KB);
	assert_int_equal(again.list[0].size, 64 * KB);
}

static void a_segment_goes_back_to_its_job_as_it_was(void **state)
{
	struct grant g = get_one(JOB_A, 1, MB), again;

	assert_int_equal(p.counters.granted_count, 1);
	assert_int_equal(p.counters.granted_bytes, MB);
	write_all(&g, JOB_A, 7);
	assert_int_equal(free_it(&g, 2000000), 0);
	now += 9900 * MS;
	work();
	again = get_one(JOB_A, 2, MB);
	assert_int_equal(again.segment, g.segment);
	assert_int_equal(again.generation, g.generation + 1);
	assert_true(again.key != g.key);
	assert_int_equal(count_bytes(&again, JOB_A, 7), MB);
	assert_int_equal(p.counters.warm_count, 1);

	/* After ten seconds it is anybody's, and so nobody's bytes are in it. */
	assert_int_equal(free_it(&again, 3000000), 0);
	now += 2 * SECOND; /* for the stock to be given back */
	work();
	assert_true(pool_due_ns(&p, now) == now + 8 * SECOND);
	now += 8 * SECOND;
	work();
	for (unsigned i = 0; i < POOL_CLASSES; i++)
		assert_int_equal(p.dirty_count[i], 0);
	again = get_one(JOB_A, 3, MB);
	assert_int_equal(count_bytes(&again, JOB_A, 0), MB);
	assert_int_equal(p.counters.warm_count, 1);
}

/* The same as media_heap, but that it says where pages were made and zeroed. */
static size_t filled_from, filled_bytes, scrubbed_bytes;

static int telling_fill(struct memory *m, size_t from, size_t to)
{
	filled_from = from;
	filled_bytes += to - from;
	return 0;
}

static void telling_scrub(struct memory *m, size_t from, size_t to)
{
	scrubbed_bytes += to - from;
	media_heap.scrub(m, from, to);
}

static struct media telling(void)
{
	struct media m = media_heap;

	m.fill = telling_fill;
	m.scrub = telling_scrub;
	filled_from = filled_bytes = scrubbed_bytes = 0;
	return m;
}

/* A megabyte of which all but `gone` bytes at 8192 were used, and whose rest was punched. */
static struct grant get_punched(uint64_t job, uint64_t request, uint32_t gone)
{
	uint64_t used = p.used;
	struct grant g = get_one(job, request, MB);

	write_all(&g, job, 7);
	assert_int_equal(seal(&g, 8000, 8192 + gone, 2000000), 0);
	work_later();
	assert_int_equal(p.used - used, MB - gone);
	return g;
}

static void a_freed_segment_gets_back_what_was_punched_and_goes_to_its_job(void **state)
{
	struct media m = telling();
	struct grant g = get_punched(JOB_A, 1, 300 * KB), again;
	uint64_t reserved = p.reserved;

	media = &m;
	assert_int_equal(free_it(&g, 3000000), 0);
	/* Counted before it is there; and nobody's before it is. */
	assert_int_equal(p.reserved, reserved + 300 * KB);
	assert_int_equal(p.used, 0);
	assert_int_equal(p.dirty_count[4], 0);
	work();
	assert_int_equal(p.counters.refilled_bytes, 300 * KB);
	assert_int_equal(filled_from, 8192);
	assert_int_equal(filled_bytes, 300 * KB);
	assert_int_equal(p.dirty_count[4], 1);
	again = get_one(JOB_A, 2, MB);
	assert_int_equal(again.segment, g.segment);
	assert_int_equal(again.generation, 2);
	assert_int_equal(p.counters.warm_count, 1);
	assert_int_equal(count_bytes(&again, JOB_A, 7), MB - 300 * KB);
	assert_int_equal(count_bytes(&again, JOB_A, 0), 300 * KB);
	media = &media_heap;
}

static struct segment *export(const struct grant *g, uint64_t job)
{
	struct segment *s;

	assert_int_equal(pool_export(&p, job, g->segment, g->generation, now, &s), 0);
	return s;
}

static void only_what_a_job_has_in_use_is_exported_to_it(void **state)
{
	struct grant g = get_one(JOB_A, 1, MB), other = get_one(JOB_A, 2, MB);
	struct segment *s;

	assert_int_equal(pool_export(&p, JOB_B, g.segment, g.generation, now, &s), -ESTALE);
	assert_int_equal(pool_export(&p, JOB_A, g.segment, g.generation + 1, now, &s), -ESTALE);
	assert_int_equal(pool_export(&p, JOB_A, g.segment + 100, 1, now, &s), -ESTALE);
	assert_int_equal(pool_export(&p, JOB_A, g.segment, g.generation, now, &s), 0);
	assert_int_equal(seal(&g, 4096, MB, 2000000), 0);
	assert_int_equal(pool_export(&p, JOB_A, g.segment, g.generation, now, &s), 0);
	assert_int_equal(p.counters.exported_count, 1);
	assert_int_equal(free_it(&g, 3000000), 0);
	assert_int_equal(pool_export(&p, JOB_A, g.segment, g.generation, now, &s), -ESTALE);
	pool_job_over(&p, JOB_A);
	assert_int_equal(pool_export(&p, JOB_A, other.segment, other.generation, now, &s), -EIDRM);
	assert_int_equal(p.counters.exported_count, 1);
}

/* Its own job has it again warm, and that does not make it anybody else's. */
static void exported_memory_is_its_jobs_again_and_then_unmade(void **state)
{
	struct grant g = get_one(JOB_A, 1, MB), again;
	uint64_t reserved, unmade;

	write_all(&g, JOB_A, 7);
	export(&g, JOB_A);
	assert_int_equal(free_it(&g, 2000000), 0);
	work();
	again = get_one(JOB_A, 2, MB);
	assert_int_equal(again.segment, g.segment);
	assert_int_equal(again.generation, 2);
	assert_int_equal(count_bytes(&again, JOB_A, 7), MB);
	assert_int_equal(free_it(&again, 3000000), 0);
	now += 2 * SECOND; /* for the stock to be given back */
	work();
	reserved = p.reserved;
	unmade = p.counters.unmade_bytes;
	assert_true(pool_due_ns(&p, now) == now + 8 * SECOND);
	now += 8 * SECOND;
	work();
	assert_int_equal(p.dirty_count[4], 0);
	assert_int_equal(p.counters.unmade_bytes - unmade, MB);
	assert_int_equal(p.counters.scrubbed_bytes, 0);
	assert_int_equal(p.reserved, reserved - MB);
	/* What is made in its place next is new, and nobody has mapped that. */
	for (unsigned i = 0; i < p.segment_count; i++)
		assert_false(p.chunks[0][i].is_exported);
	again = get_one(JOB_B, 3, MB);
	assert_int_equal(count_bytes(&again, JOB_B, 0), MB);
	assert_int_equal(free_it(&again, 4000000), 0);
	pool_job_over(&p, JOB_B);
	work();
	assert_int_equal(p.counters.scrubbed_bytes, MB);
}

/* The pool is full of what one job was given and does not use; the other one waits. */
static void who_waits_is_not_given_exported_memory_but_its_room(void **state)
{
	struct grant all[61], g;
	uint64_t made, begun;

	for (unsigned i = 0; i < 61; i++) {
		all[i] = get_one(JOB_A, i, MB);
		write_all(&all[i], JOB_A, 7);
		export(&all[i], JOB_A);
	}
	for (unsigned i = 0; i < 61; i++)
		assert_int_equal(free_it(&all[i], 2000000), 0);
	made = p.counters.made_bytes;
	begun = now;
	for (unsigned i = 0; i < 60; i++) {
		g = get_one(JOB_B, 100 + i, MB);
		assert_int_equal(count_bytes(&g, JOB_B, 0), MB);
	}
	assert_int_equal(p.counters.scrubbed_bytes, 0);
	assert_true(now - begun < SECOND); /* so it was not for being cold */
	assert_true(p.counters.made_bytes - made >= 57ull * MB);
	assert_int_equal(p.counters.warm_count, 0);
}

static void an_ended_jobs_memory_is_gone_though_a_function_maps_it(void **state)
{
	struct grant g, other;
	struct segment *s;
	struct memory theirs;
	struct stat st;
	int fd;

	pool_fini(&p, media);
	open_pool(state);
	media = &media_memfd;
	g = get_one(JOB_A, 1, MB);
	write_all(&g, JOB_A, 7);
	s = export(&g, JOB_A);
	fd = memory_export(&s->memory);
	assert_true(fd >= 0);
	assert_int_equal(memory_join_to_read(fd, MB, &theirs), 0);
	assert_int_equal(theirs.ptr[MB - 1], 7);
	pool_job_over(&p, JOB_A);
	assert_int_equal(free_it(&g, 2000000), 0);
	work();
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_blocks, 0);
	other = get_one(JOB_B, 1, MB);
	write_all(&other, JOB_B, 9);
	for (unsigned i = 0; i < MB; i += 4 * KB)
		assert_int_equal(theirs.ptr[i], 0);
	media->free(&theirs);
	close(fd);
}

/* The author writes there itself. */
static struct grant get_for(uint64_t job, uint64_t request, uint64_t author)
{
	struct ask a = make_ask(job, request, MB, MB);
	struct grants g;

	a.author = author;
	assert_int_equal(pool_ask(&p, &a, now, &g), 0);
	assert_int_equal(g.count, 1);
	return g.list[0];
}

static int let_write(const struct grant *g, uint64_t job, uint64_t author, struct segment **ret)
{
	return pool_export_to_write(&p, job, g->segment, g->generation, g->key, author, ret);
}

/* One that is warm for author 8 of JOB_A, and a warm one that anybody of JOB_A may have. */
static void get_warm(uint64_t *ret_authored, uint64_t *ret_other)
{
	struct grant g = get_one(JOB_A, 1, MB), other = get_one(JOB_A, 2, MB);
	struct segment *s;

	assert_int_equal(let_write(&g, JOB_A, 8, &s), 0);
	assert_int_equal(free_it(&g, 2000000), 0);
	assert_int_equal(free_it(&other, 2000000), 0);
	*ret_authored = g.segment;
	*ret_other = other.segment;
}

static void what_a_function_may_write_nobody_else_has_after_it(void **state)
{
	uint64_t authored, other;
	struct grant g, again;
	struct segment *s;

	get_warm(&authored, &other);
	/* Not the job, nor another function of it. */
	again = get_one(JOB_A, 3, MB);
	assert_int_equal(again.segment, other);
	assert_int_equal(free_it(&again, 3000000), 0);
	g = get_for(JOB_A, 4, 9);
	assert_int_equal(g.segment, other);
	again = get_one(JOB_A, 5, MB);
	assert_true(again.segment != authored && again.segment != other);
	/* It has its own first, and has had it since it first could write there. */
	again = get_for(JOB_A, 6, 8);
	assert_int_equal(again.segment, authored);
	assert_int_equal(again.generation, 2);
	assert_int_equal(let_write(&again, JOB_A, 8, &s), 0);
	assert_int_equal(s->authored, 1);
	assert_int_equal(s->author, 8);
	assert_int_equal(let_write(&g, JOB_A, 9, &s), 0);
	assert_int_equal(s->authored, 3);
}

static void all_that_was_asked_for_is_not_there_if_others_may_write_it(void **state)
{
	struct ask a = make_ask(JOB_A, 7, 2 * MB, MB);
	uint64_t authored, other;
	struct grants g;

	get_warm(&authored, &other);
	a.is_whole = true;
	assert_int_equal(pool_ask(&p, &a, now, &g), -EAGAIN);
	pool_forget(&p, &a);
	a.author = 8;
	assert_int_equal(pool_ask(&p, &a, now, &g), 0);
	assert_int_equal(g.count, 2);
	assert_int_equal(g.list[0].segment, authored);
	assert_int_equal(g.list[1].segment, other);
}

static void a_function_that_has_ended_leaves_nothing_warm(void **state)
{
	uint64_t authored, other;
	struct grant used;

	get_warm(&authored, &other);
	used = get_for(JOB_A, 3, 8);
	assert_int_equal(used.segment, authored);
	get_warm(&authored, &other);
	pool_author_over(&p, JOB_B, 8);
	pool_author_over(&p, JOB_A, 9);
	assert_int_equal(p.dirty_count[4], 2);
	pool_author_over(&p, JOB_A, 8);
	assert_int_equal(p.dirty_count[4], 1);
	assert_int_equal(free_it(&used, 4000000), 0);
	assert_int_equal(p.dirty_count[4], 1);
	work();
	assert_int_equal(p.counters.unmade_bytes, 2 * MB);
	assert_int_equal(p.counters.scrubbed_bytes, 0);
	for (unsigned i = 0; i < p.segment_count; i++)
		assert_int_equal(p.chunks[0][i].author, 0);
}

/* It was fenced, and its author may not have heard of it. */
static void what_an_author_may_still_write_is_not_used_again(void **state)
{
	struct grant revoked = get_one(JOB_A, 1, MB);
	struct segment *s;

	assert_int_equal(let_write(&revoked, JOB_A, 8, &s), 0);
	assert_int_equal(pool_revoke(&p, revoked.segment, revoked.generation, &s), 0);
	assert_int_equal(free_it(&revoked, 2000000), 0);
	assert_int_equal(p.dirty_count[4], 0);
	work();
	assert_int_equal(p.counters.unmade_bytes, MB);
}

/* Author 8 of JOB_A's, which lacks `gone` bytes when it is freed. */
static struct grant free_punched(uint64_t request, uint32_t gone)
{
	struct grant g = get_one(JOB_A, request, MB);
	struct segment *s;

	assert_int_equal(let_write(&g, JOB_A, 8, &s), 0);
	assert_int_equal(seal(&g, 0, gone, 2000000), 0);
	work_later();
	assert_int_equal(free_it(&g, 3000000), 0);
	assert_int_equal(p.dirty_count[4], 0);
	return g;
}

static void what_was_punched_is_refilled_for_its_author(void **state)
{
	struct grant g = free_punched(1, 300 * KB), again;
	struct segment *s;

	work();
	assert_int_equal(p.counters.refilled_bytes, 300 * KB);
	assert_int_equal(p.counters.unmade_bytes, 0);
	assert_int_equal(p.dirty_count[4], 1);
	/* And for nobody else, of its job either. */
	assert_true(get_one(JOB_A, 2, MB).segment != g.segment);
	again = get_for(JOB_A, 3, 8);
	assert_int_equal(again.segment, g.segment);
	/* What it has mapped is the same memory. */
	assert_int_equal(let_write(&again, JOB_A, 8, &s), 0);
	assert_int_equal(s->authored, 1);
}

static void what_is_refilled_for_an_author_that_ends_is_nobodys(void **state)
{
	struct step steps[8];
	unsigned n;

	/* Before the janitor has it, and while it does. */
	free_punched(1, 300 * KB);
	pool_author_over(&p, JOB_A, 8);
	work();
	assert_int_equal(p.counters.refilled_bytes, 300 * KB);
	assert_int_equal(p.counters.unmade_bytes, MB);
	free_punched(2, 200 * KB);
	n = pool_plan(&p, steps, 8, 8 * MB, now);
	assert_int_equal(n, 1);
	assert_int_equal(steps[0].kind, STEP_REFILL);
	pool_author_over(&p, JOB_A, 9);
	pool_author_over(&p, JOB_A, 8);
	janitor_step(media, NULL, &retired, &steps[0]);
	pool_done(&p, steps, n, now);
	assert_int_equal(p.dirty_count[4], 0);
	work();
	assert_int_equal(p.counters.unmade_bytes, 2 * MB);
	assert_int_equal(p.counters.scrubbed_bytes, 0);
	assert_int_equal(p.jobs.count, 0);
}

static void only_who_was_granted_an_open_segment_lets_a_function_write_there(void **state)
{
	struct grant g = get_one(JOB_A, 1, MB), wrong = g;
	struct segment *s;

	wrong.key++;
	assert_int_equal(let_write(&wrong, JOB_A, 8, &s), -EACCES);
	assert_int_equal(let_write(&g, JOB_B, 8, &s), -ESTALE);
	assert_int_equal(p.counters.exported_count, 0);
	assert_int_equal(let_write(&g, JOB_A, 8, &s), 0);
	assert_int_equal(let_write(&g, JOB_A, 8, &s), 0);
	assert_int_equal(let_write(&g, JOB_A, 9, &s), -EACCES);
	assert_int_equal(seal(&g, 4 * KB, MB, 2000000), 0);
	assert_int_equal(let_write(&g, JOB_A, 8, &s), -EACCES);
	pool_job_over(&p, JOB_A);
	assert_int_equal(let_write(&g, JOB_A, 8, &s), -EIDRM);
}

/* The rest of a megabyte in shared memory, of which this is all that was punched. */
#define GONE (300 * KB)

/* As a function does: in this process, and for as long as it likes. */
static volatile uint8_t *map(const struct segment *s, bool is_to_write)
{
	int fd = is_to_write ? memory_export_to_write(&s->memory) : memory_export(&s->memory);
	void *at = mmap(NULL, s->size, is_to_write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
			fd, 0);

	assert_true(fd >= 0);
	assert_ptr_not_equal(at, MAP_FAILED);
	close(fd);
	return at;
}

static void unmap(volatile uint8_t *at)
{
	assert_int_equal(munmap((void *)at, MB), 0);
}

static int open_shared_pool(void **state)
{
	open_pool(state);
	media = &media_memfd;
	return 0;
}

/* Bytes that a function reads, which it touches so. */
static unsigned sum_of(volatile uint8_t *at, uint32_t from, uint32_t len)
{
	unsigned sum = 0;

	for (uint32_t i = from; i < from + len; i++)
		sum += at[i];
	return sum;
}

static void what_functions_touch_where_it_was_punched_is_punched_again(void **state)
{
	struct grant g = get_punched(JOB_A, 1, GONE);
	struct segment *s = export(&g, JOB_A);
	volatile uint8_t *writer = map(s, true), *reader = map(s, false);
	uint64_t used = p.used;

	assert_int_equal(memory_there(&s->memory), MB - GONE);
	assert_true(pool_due_ns(&p, now) <= now + SECOND);
	for (unsigned i = 1; i <= 3; i++) {
		if (i % 2)
			memset((void *)(writer + 8192), 9, GONE);
		else
			assert_int_equal(sum_of(reader, 8192, GONE), 0);
		assert_int_equal(memory_there(&s->memory), MB);
		work_later();
		assert_int_equal(memory_there(&s->memory), MB - GONE);
		assert_int_equal(p.counters.lingering_bytes, GONE);
		assert_int_equal(p.counters.punched_again_bytes, i * GONE);
	}
	work_later();
	assert_int_equal(p.counters.lingering_bytes, 0);
	assert_int_equal(p.counters.punched_bytes, GONE);
	assert_int_equal(p.used, used);
	assert_int_equal(p.reserved, used + pool_clean_bytes(&p));
	/* What was put is there. */
	assert_int_equal(sum_of(reader, 0, 8192), 7 * 8192);
	assert_int_equal(sum_of(reader, 8192 + GONE, MB - GONE - 8192), 7 * (MB - GONE - 8192));
	/* And when it is the job's again, all of it is its to write. */
	memset((void *)(writer + 8192), 9, GONE);
	assert_int_equal(free_it(&g, 3000000), 0);
	work();
	assert_int_equal(get_one(JOB_A, 2, MB).segment, g.segment);
	memset((void *)(writer + 8192), 9, GONE);
	work_later();
	assert_int_equal(sum_of(reader, 8192, GONE), 9 * GONE);
	unmap(writer);
	unmap(reader);
}

static void what_is_freed_and_viewed_still_is_watched(void **state)
{
	struct grant g = get_punched(JOB_A, 1, GONE);
	struct segment *s = export(&g, JOB_A);
	volatile uint8_t *reader = map(s, false);
	uint8_t *bytes;

	assert_int_equal(pin(&g, JOB_A, 0, 8192, &bytes), 0);
	assert_int_equal(free_it(&g, 3000000), -EAGAIN);
	assert_int_equal(sum_of(reader, 0, MB), 7 * (MB - GONE));
	work_later();
	assert_int_equal(memory_there(&s->memory), MB - GONE);
	assert_int_equal(p.counters.lingering_bytes, GONE);
	/* Nobody's any more, and what is there is counted otherwise. */
	assert_int_equal(sum_of(reader, 0, MB), 7 * (MB - GONE));
	pool_job_over(&p, JOB_A);
	unpin(&g, false);
	assert_int_equal(p.counters.lingering_bytes, 0);
	work();
	assert_int_equal(s->state, SEGMENT_VOID);
	unmap(reader);
}

static void what_is_freed_during_a_look_is_given_back(void **state)
{
	struct grant g = get_punched(JOB_A, 1, GONE);
	struct segment *s = export(&g, JOB_A);
	volatile uint8_t *writer = map(s, true);
	struct step steps[8];
	unsigned n;

	memset((void *)(writer + 8192), 9, GONE);
	now += SECOND;
	n = pool_plan(&p, steps, 8, 8 * MB, now);
	assert_int_equal(steps[0].kind, STEP_LOOK);
	assert_int_equal(free_it(&g, 3000000), 0);
	for (unsigned i = 0; i < n; i++)
		janitor_step(media, NULL, &retired, &steps[i]);
	pool_done(&p, steps, n, now);
	assert_int_equal(p.counters.lingering_bytes, 0);
	work();
	assert_int_equal(s->state, SEGMENT_VOID);
	unmap(writer);
}

static void what_no_function_maps_and_what_is_all_there_is_not_looked_at(void **state)
{
	struct grant punched = get_punched(JOB_A, 1, GONE), full = get_one(JOB_A, 2, MB);

	assert_int_equal(seal(&full, 4 * KB, 4 * KB + 4095, 2000000), 0);
	export(&full, JOB_A);
	now += 10 * SECOND;
	work();
	assert_true(pool_due_ns(&p, now) == UINT64_MAX);
	export(&punched, JOB_A);
	assert_true(pool_due_ns(&p, now) == now + SECOND);
}

/* Of a function that touches much in many, and of somebody who waits. */
static void who_waits_is_not_held_up_by_looks(void **state)
{
	struct ask a = make_ask(JOB_B, 1000, 512 * KB, 512 * KB);
	struct grant list[48];
	struct step steps[64];
	struct grants g;
	unsigned n, looks = 0, punches = 0, others = 0;

	for (unsigned i = 0; i < 48; i++) {
		list[i] = get_one(JOB_A, i, MB);
		export(&list[i], JOB_A);
		assert_int_equal(seal(&list[i], 0, GONE, 2000000), 0);
	}
	work_later();
	now += SECOND;
	for (unsigned round = 0; round < 2; round++) {
		n = pool_plan(&p, steps, 64, 8 * MB, now);
		for (unsigned i = 0; i < n; i++) {
			looks += steps[i].kind == STEP_LOOK;
			punches += steps[i].kind == STEP_PUNCH;
			janitor_step(media, NULL, &retired, &steps[i]);
			steps[i].there = MB;
		}
		pool_done(&p, steps, n, now);
		assert_int_equal(looks, round ? 48 : 32);
	}
	assert_int_equal(punches, 1);
	assert_int_equal(p.counters.lingering_bytes, 48 * GONE);
	assert_int_equal(pool_ask(&p, &a, now, &g), -EAGAIN);
	n = pool_plan(&p, steps, 64, 8 * MB, now);
	for (unsigned i = 0; i < n; i++) {
		looks += steps[i].kind == STEP_LOOK;
		punches += steps[i].kind == STEP_PUNCH;
		others += steps[i].kind == STEP_MAKE;
	}
	assert_int_equal(looks, 48);
	assert_int_equal(punches, 2);
	assert_true(others > 0);
	for (unsigned i = 0; i < n; i++)
		janitor_step(media, NULL, &retired, &steps[i]);
	pool_done(&p, steps, n, now);
	pool_forget(&p, &a);
	work();
	assert_int_equal(p.counters.punched_again_bytes, 48 * GONE);
}

static void large_holes_are_filled_in_pieces(void **state)
{
	struct grant g;

	pool_fini(&p, media);
	assert_int_equal(pool_init(&p, NUMBER, 2048ull * MB, UINT_MAX), 0);
	g = get_one(JOB_A, 1, 32 * MB);
	assert_int_equal(seal(&g, 0, 10 * MB, 2000000), 0);
	work_later();
	assert_int_equal(free_it(&g, 3000000), 0);
	assert_int_equal(work(), 3);
	assert_int_equal(p.counters.refilled_bytes, 10 * MB);
	assert_int_equal(get_one(JOB_A, 2, 32 * MB).segment, g.segment);
}

static void what_is_refilled_for_a_job_that_ends_is_scrubbed_for_others(void **state)
{
	struct media m = telling();
	struct grant g = get_punched(JOB_A, 1, 300 * KB);
	struct step steps[8];
	unsigned n;

	media = &m;
	assert_int_equal(free_it(&g, 3000000), 0);
	n = pool_plan(&p, steps, 8, 8 * MB, now);
	assert_int_equal(n, 1);
	assert_int_equal(steps[0].kind, STEP_REFILL);
	pool_job_over(&p, JOB_A);
	janitor_step(media, NULL, &retired, &steps[0]);
	pool_done(&p, steps, n, now);
	work();
	assert_int_equal(scrubbed_bytes, MB);
	g = get_one(JOB_B, 1, MB);
	assert_int_equal(count_bytes(&g, JOB_B, 0), MB);
	assert_int_equal(p.jobs.count, 1);
	/* And what a job leaves that is over already is not made whole for it. */
	pool_job_over(&p, JOB_B);
	assert_int_equal(seal(&g, 8000, 8192 + 300 * KB, 4000000), 0);
	work_later();
	assert_int_equal(free_it(&g, 5000000), 0);
	work();
	assert_int_equal(p.counters.refilled_bytes, 300 * KB);
	media = &media_heap;
}

static void what_is_mostly_gone_is_not_refilled(void **state)
{
	struct grant g = get_punched(JOB_A, 1, 512 * KB), h;
	uint64_t unmade = p.counters.unmade_bytes;

	assert_int_equal(free_it(&g, 3000000), 0);
	work();
	assert_int_equal(p.counters.refilled_bytes, 512 * KB);
	h = get_punched(JOB_A, 2, 512 * KB + 4096);
	assert_int_equal(free_it(&h, 4000000), 0);
	work();
	assert_int_equal(p.counters.refilled_bytes, 512 * KB);
	assert_int_equal(p.counters.unmade_bytes, unmade + MB);
}

/* Of the limit, all but `room` bytes: for good, until pool_lend(&p, 0). */
static void leave(uint64_t room)
{
	uint64_t bytes = LIMIT - (p.reserved - p.lent) - room;

	assert_int_equal(pool_lend(&p, bytes), bytes);
}

static void what_was_punched_is_refilled_up_to_the_limit(void **state)
{
	struct grant g = get_punched(JOB_A, 1, 300 * KB);

	leave(300 * KB - 1);
	assert_int_equal(free_it(&g, 3000000), 0);
	work();
	assert_int_equal(p.counters.refilled_bytes, 0);
	pool_lend(&p, 0);
	g = get_punched(JOB_A, 2, 300 * KB);
	leave(300 * KB);
	assert_int_equal(free_it(&g, 3000000), 0);
	work();
	assert_int_equal(p.counters.refilled_bytes, 300 * KB);
	pool_lend(&p, 0);
}

static void who_has_other_stores_waits_for_no_room(void **state)
{
	struct ask a = make_ask(JOB_A, 3, 10 * MB, MB), b = make_ask(JOB_B, 4, 60 * MB, MB);
	struct ask late = make_ask(JOB_A, 5, MB, MB);
	struct grants g;
	int r;

	/* What the janitor makes for it is waited for. */
	a.is_now = late.is_now = true;
	assert_int_equal(pool_ask(&p, &a, now, &g), -EAGAIN);
	work();
	assert_ptr_equal(pool_next(&p, now, &g, &r), &a);
	assert_int_equal(r, 0);
	/* But not what others have, or have waited for before. */
	assert_int_equal(pool_ask(&p, &b, now, &g), -EAGAIN);
	assert_int_equal(pool_ask(&p, &late, now, &g), -ENOSPC);
	pool_forget(&p, &b);
	a = make_ask(JOB_A, 6, 52 * MB, MB);
	a.is_now = true;
	assert_int_equal(pool_ask(&p, &a, now, &g), -ENOSPC);
	assert_int_equal(p.ask_count, 0);
	/* The repeat of what was granted. */
	a = make_ask(JOB_A, 3, 10 * MB, MB);
	a.is_now = true;
	assert_int_equal(pool_ask(&p, &a, now, &g), 0);
}

static void what_was_punched_is_refilled_if_no_other_job_waits(void **state)
{
	struct grant g = get_punched(JOB_A, 1, 300 * KB), h = get_punched(JOB_A, 2, 200 * KB);
	struct ask a = make_ask(JOB_A, 3, 60 * MB, MB), b = make_ask(JOB_B, 4, 60 * MB, MB);
	struct grants more;

	a.is_whole = b.is_whole = true;
	assert_int_equal(pool_ask(&p, &a, now, &more), -EAGAIN);
	assert_int_equal(pool_ask(&p, &b, now, &more), -EAGAIN);
	assert_int_equal(free_it(&g, 3000000), 0);
	assert_false(list_is_empty(&p.begun[POOL_WARMED]));
	pool_forget(&p, &a);
	work();
	assert_int_equal(p.counters.refilled_bytes, 300 * KB);
	assert_int_equal(free_it(&h, 3000000), 0);
	assert_true(list_is_empty(&p.begun[POOL_WARMED]));
	pool_forget(&p, &b);
}

/* Freed by its job, and there for it. */
static uint64_t free_warm(uint64_t job, uint64_t request, uint32_t size)
{
	struct grant g = get_one(job, request, size);

	assert_int_equal(free_it(&g, 3000000), 0);
	return g.segment;
}

/* Nothing is there for it at once. */
static void assert_waits(uint64_t request, uint64_t need, uint32_t size)
{
	struct ask a = make_ask(JOB_A, request, need, size);
	struct grants g;

	assert_int_equal(pool_ask(&p, &a, now, &g), -EAGAIN);
	pool_forget(&p, &a);
}

static void assert_granted(uint64_t request, uint64_t need, uint32_t size, uint64_t segment)
{
	struct ask a = make_ask(JOB_A, request, need, size);
	struct grants g;

	assert_int_equal(pool_ask(&p, &a, now, &g), 0);
	assert_int_equal(g.count, 1);
	assert_int_equal(g.list[0].segment, segment);
}

static void where_memory_is_short_a_job_has_back_another_size(void **state)
{
	struct grant others[8];
	uint64_t half;

	for (unsigned i = 0; i < 8; i++)
		others[i] = get_one(JOB_B, i, MB);
	now += 5 * SECOND; /* and the stock is forgotten */
	work();
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(free_it(&others[i], 3000000), 0);
	free_warm(JOB_A, 1, 128 * KB); /* too small for somebody who writes megabytes */
	half = free_warm(JOB_A, 2, 512 * KB);
	/* There is room for a megabyte, beside what is kept back. */
	leave(LIMIT / 20 + MB);
	assert_int_equal(p.clean_count[4], 0);
	assert_waits(3, 100 * KB, MB);
	leave(LIMIT / 20 + MB - 1);
	assert_waits(4, 513 * KB, MB);
	assert_granted(5, 100 * KB, MB, half);
	assert_waits(6, 100 * KB, MB);
	pool_lend(&p, 0);
}

static void where_memory_is_short_a_job_has_back_twice_as_much_if_it_asked_for_that(void **state)
{
	uint64_t whole = free_warm(JOB_A, 1, MB);

	/* An eighth of what is left is less than a megabyte, so half of one is enough. */
	leave(6 * MB);
	assert_waits(2, 100 * KB, MB);
	leave(2 * MB + 512 * KB);
	assert_waits(3, 100 * KB, MB);
	leave(3 * MB + 512 * KB);
	assert_waits(4, 100 * KB, 512 * KB);
	assert_granted(5, 100 * KB, MB, whole);
	pool_lend(&p, 0);
}

static void what_nobody_asks_for_goes_before_what_its_job_may_have_back(void **state)
{
	struct grant g = get_one(JOB_A, 1, 512 * KB);

	work();
	assert_int_equal(p.clean_count[3], 1);
	now += 10 * SECOND;
	assert_int_equal(free_it(&g, 3000000), 0);
	p.granted_ns = now; /* somebody asks, but not for these */
	leave(0);
	get_one(JOB_B, 2, 128 * KB);
	assert_int_equal(p.clean_count[3], 0);
	assert_int_equal(p.dirty_count[3], 1);
	pool_lend(&p, 0);
}

static void where_memory_is_short_a_segment_waits_for_its_job_for_a_second_only(void **state)
{
	struct grant g = get_one(JOB_A, 1, MB);

	work();
	pool_lend(&p, LIMIT - LIMIT / 20 - (p.reserved - p.lent) + 1);
	assert_int_equal(free_it(&g, 3000000), 0);
	assert_int_equal(pool_due_ns(&p, now), now + SECOND);
	now += SECOND - 1;
	work();
	assert_int_equal(p.dirty_count[4], 1);
	now += 1;
	work();
	assert_int_equal(p.dirty_count[4], 0);
	pool_lend(&p, 0);
}

static void a_segment_comes_to_another_job_as_zeros(void **state)
{
	uint64_t seen[128];
	unsigned reused = 0;

	/* All of the pool is written, freed, and asked for by somebody else. */
	for (unsigned i = 0; i < 60; i++) {
		struct grant g = get_one(JOB_A, i, MB);

		write_all(&g, JOB_A, 0x5a);
		seen[i] = g.segment;
		now += 10 * MS;
	}
	for (unsigned i = 0; i < 60; i++) {
		struct grant g = { .segment = seen[i], .generation = 1 };

		assert_int_equal(free_it(&g, 2000000), 0);
	}
	for (unsigned i = 0; i < 60; i++) {
		struct grant g = get_one(JOB_B, i, MB);

		assert_int_equal(count_bytes(&g, JOB_B, 0), MB);
		for (unsigned k = 0; k < 60; k++)
			reused += seen[k] == g.segment && g.generation > 1;
	}
	/* Or the test would show nothing. */
	assert_true(reused > 20);
	assert_true(p.counters.scrubbed_bytes > 0);
}

static void every_access_is_checked_against_job_generation_key_and_range(void **state)
{
	struct grant g = get_one(JOB_A, 1, 64 * KB), other = g;
	uint8_t *bytes;
	struct segment *s;

	assert_int_equal(pin(&g, JOB_B, 0, 1, &bytes), -ESTALE);
	other.generation = g.generation + 1;
	assert_int_equal(pin(&other, JOB_A, 0, 1, &bytes), -ESTALE);
	other.generation = g.generation - 1;
	assert_int_equal(pin(&other, JOB_A, 0, 1, &bytes), -ESTALE);
	other = g;
	other.segment += 1u << 20;
	assert_int_equal(pin(&other, JOB_A, 0, 1, &bytes), -ESTALE);
	other.segment = (NUMBER << 20) | 0xfffff;
	assert_int_equal(pin(&other, JOB_A, 0, 1, &bytes), -ESTALE);

	assert_int_equal(pin(&g, JOB_A, 64 * KB, 1, &bytes), -ERANGE);
	assert_int_equal(pin(&g, JOB_A, 0, 64 * KB + 1, &bytes), -ERANGE);
	assert_int_equal(pin(&g, JOB_A, 1, UINT32_MAX, &bytes), -ERANGE);
	assert_int_equal(pin(&g, JOB_A, 64 * KB - 1, 1, &bytes), 0);
	unpin(&g, false);
	assert_int_equal(pin(&g, JOB_A, 64 * KB, 0, &bytes), 0);
	unpin(&g, false);

	other = g;
	other.key ^= 1;
	assert_int_equal(pin_to_write(&other, JOB_A, &bytes), -EACCES);
	assert_int_equal(pin_to_write(&g, JOB_B, &bytes), -ESTALE);
	assert_int_equal(pool_pin_to_write(&p, JOB_A, g.segment, g.generation, g.key, 1, 64 * KB,
					   &s, &bytes),
			 -ERANGE);
	assert_int_equal(pin_to_write(&g, JOB_A, &bytes), 0);
	unpin(&g, true);

	/* A segment that is in stock is nobody's. */
	other.segment = g.segment ^ 1;
	assert_int_equal(pin(&other, JOB_A, 0, 1, &bytes), -ESTALE);
}

static void a_sealed_segment_is_read_where_it_was_used_and_written_nowhere(void **state)
{
	struct grant g = get_one(JOB_A, 1, MB);
	uint64_t reserved = p.reserved;
	uint8_t *bytes;

	write_all(&g, JOB_A, 9);
	assert_int_equal(seal(&g, 10000, MB - 100, 2000000), 0);
	assert_int_equal(pin_to_write(&g, JOB_A, &bytes), -EACCES);
	/* Whole pages: 3 in front, 1 at the back. */
	assert_int_equal(pin(&g, JOB_A, 0, 12288, &bytes), 0);
	unpin(&g, false);
	assert_int_equal(pin(&g, JOB_A, 0, 12289, &bytes), -ERANGE);
	assert_int_equal(pin(&g, JOB_A, 500000, 1, &bytes), -ERANGE);
	assert_int_equal(pin(&g, JOB_A, MB - 4096, 4096, &bytes), 0);
	assert_int_equal(bytes[4095], 9);
	unpin(&g, false);
	assert_int_equal(pin(&g, JOB_A, MB - 4097, 1, &bytes), -ERANGE);
	work_later();
	assert_int_equal(p.counters.punched_bytes, MB - 4 * 4096);
	assert_true(p.reserved <= reserved + MB - (MB - 4 * 4096));
	assert_int_equal(p.used, 4 * 4096);
	/* Again, also with other words: nothing happens. */
	assert_int_equal(seal(&g, 10000, MB - 100, 3000000), 0);
	assert_int_equal(seal(&g, 0, MB, 3000000), 0);
	assert_int_equal(p.used, 4 * 4096);
	assert_int_equal(p.book.bytes, 4 * 4096);
	/* Most of it was punched: it does not go back to the job. */
	assert_int_equal(free_it(&g, 4000000), 0);
	assert_int_equal(p.used, 0);
	g = get_one(JOB_A, 2, MB);
	assert_int_equal(count_bytes(&g, JOB_A, 0), MB);
}

static void a_full_segment_is_sealed_and_keeps_all_its_bytes(void **state)
{
	struct grant g = get_one(JOB_A, 1, 64 * KB), h = get_one(JOB_A, 2, 64 * KB);

	write_all(&g, JOB_A, 3);
	write_all(&h, JOB_A, 4);
	assert_int_equal(seal(&g, 30000, 30000, 2000000), 0);
	/* Front and back in one page. */
	assert_int_equal(seal(&h, 32768 + 100, 32768 + 4000, 2000000), 0);
	work_later();
	assert_int_equal(p.counters.punched_bytes, 0);
	assert_int_equal(p.used, 128 * KB);
	assert_int_equal(count_bytes(&g, JOB_A, 3), 64 * KB);
	assert_int_equal(count_bytes(&h, JOB_A, 4), 64 * KB);
}

static void nothing_is_punched_while_somebody_writes(void **state)
{
	struct grant g = get_one(JOB_A, 1, MB);
	uint8_t *bytes;

	assert_int_equal(pin_to_write(&g, JOB_A, &bytes), 0);
	assert_int_equal(seal(&g, 4096, MB, 2000000), 0);
	work_later();
	assert_int_equal(p.counters.punched_bytes, 0);
	memset(bytes, 1, MB);
	unpin(&g, true);
	work_later();
	assert_int_equal(p.counters.punched_bytes, MB - 4096);
	assert_int_equal(bytes[4095], 1);
	assert_int_equal(bytes[4096], 0);
}

static void what_is_freed_soon_stays_whole(void **state)
{
	struct grant g = get_one(JOB_A, 1, MB);

	assert_int_equal(seal(&g, 4096, MB, 2000000), 0);
	assert_true(pool_due_ns(&p, now) <= now + SECOND);
	now += SECOND - 1;
	work();
	assert_int_equal(p.counters.punched_bytes, 0);
	/* Its bytes count as long as they are there, but are not billed. */
	assert_int_equal(p.used, MB);
	assert_int_equal(p.book.bytes, 4096);
	assert_int_equal(free_it(&g, 3000000), 0);
	work();
	assert_int_equal(get_one(JOB_A, 2, MB).segment, g.segment);
	assert_int_equal(p.counters.warm_count, 1);
	assert_int_equal(p.counters.refilled_bytes, 0);
	assert_int_equal(p.counters.punched_bytes, 0);
}

static void where_memory_is_short_it_is_punched_at_once(void **state)
{
	struct grant g = get_one(JOB_A, 1, MB);
	struct ask a = make_ask(JOB_B, 1, 60 * MB, MB);
	struct grants more;

	a.is_whole = true;
	/* Somebody waits. */
	assert_int_equal(seal(&g, 4096, MB, 2000000), 0);
	assert_int_equal(pool_ask(&p, &a, now, &more), -EAGAIN);
	assert_int_equal(pool_due_ns(&p, now), now);
	work();
	assert_int_equal(p.counters.punched_bytes, MB - 4096);
	pool_forget(&p, &a);
	work();
	/* More is to be lent than there is. */
	g = get_one(JOB_A, 2, MB);
	assert_int_equal(seal(&g, 4096, MB, 2000000), 0);
	assert_int_equal(pool_lend(&p, LIMIT), LIMIT - (p.reserved - p.lent));
	work();
	assert_int_equal(p.counters.punched_bytes, 2 * (MB - 4096));
	pool_lend(&p, 0);
	/* Or more than is kept back is reserved. */
	g = get_one(JOB_A, 3, MB);
	assert_int_equal(seal(&g, 4096, MB, 2000000), 0);
	pool_lend(&p, LIMIT - LIMIT / 20 - (p.reserved - p.lent) + 1);
	work();
	assert_int_equal(p.counters.punched_bytes, 3 * (MB - 4096));
	pool_lend(&p, 0);
}

static void what_is_no_range_of_the_segment_is_not_sealed(void **state)
{
	struct grant g = get_one(JOB_A, 1, 64 * KB);
	uint8_t *bytes;

	assert_int_equal(seal(&g, 0, 64 * KB + 1, 1), -EINVAL);
	assert_int_equal(seal(&g, 100, 99, 1), -EINVAL);
	g.generation++;
	assert_int_equal(seal(&g, 0, 0, 1), -ESTALE);
	g.generation--;
	assert_int_equal(pin_to_write(&g, JOB_A, &bytes), 0);
	unpin(&g, true);
}

static void a_free_is_answered_when_the_last_pin_is_gone(void **state)
{
	struct grant g = get_one(JOB_A, 1, 64 * KB), next;
	uint8_t *bytes, *other;

	assert_int_equal(pin(&g, JOB_A, 0, 100, &bytes), 0);
	assert_int_equal(pin_to_write(&g, JOB_A, &other), 0);
	assert_int_equal(free_it(&g, 2000000), -EAGAIN);
	assert_int_equal(p.book.bytes, 0);
	assert_int_equal(pin(&g, JOB_A, 0, 1, &other), -ESTALE);
	assert_int_equal(pin_to_write(&g, JOB_A, &other), -ESTALE);
	unpin(&g, true);
	assert_int_equal(free_it(&g, 2000000), -EAGAIN);
	/* Its bytes are where they were, and nobody else's, all the while. */
	memset(bytes, 8, 100);
	for (unsigned i = 0; i < 8; i++) {
		next = get_one(JOB_A, 10 + i, 64 * KB);
		assert_true(next.segment != g.segment);
	}
	assert_int_equal(bytes[99], 8);
	unpin(&g, false);
	assert_int_equal(free_it(&g, 2000000), 0);
	assert_int_equal(free_it(&g, 9000000), 0);
	assert_int_equal(p.book.bytes, 8 * 64 * KB);
	assert_int_equal(p.counters.freed_count, 1);
	next = get_one(JOB_A, 30, 64 * KB);
	assert_int_equal(next.segment, g.segment);
	/* And the late repeat does not free what is another's by now. */
	assert_int_equal(free_it(&g, 9000000), 0);
	assert_int_equal(pin_to_write(&next, JOB_A, &bytes), 0);
	unpin(&next, true);
}

static void who_frees_what_was_never_there_hears_that_it_is_free(void **state)
{
	struct grant g = { .segment = (NUMBER + 1) << 20, .generation = 1 };

	assert_int_equal(free_it(&g, 1), 0);
	g.segment = NUMBER << 20 | 5;
	assert_int_equal(free_it(&g, 1), 0);
	work();
	g.segment = NUMBER << 20;
	assert_int_equal(free_it(&g, 1), 0); /* in stock */
	assert_int_equal(p.counters.freed_count, 0);
	assert_int_equal(p.book.bytes, 0);
}

static void a_revoked_segment_takes_no_more_bytes_and_is_still_read(void **state)
{
	struct grant g = get_one(JOB_A, 1, 64 * KB);
	struct segment *s;
	uint8_t *bytes;

	assert_int_equal(pin_to_write(&g, JOB_A, &bytes), 0);
	assert_int_equal(pool_revoke(&p, g.segment, g.generation, &s), -EAGAIN);
	assert_int_equal(pool_revoke(&p, g.segment, g.generation, &s), -EAGAIN);
	assert_int_equal(pin_to_write(&g, JOB_A, &bytes), -EACCES);
	unpin(&g, true);
	assert_int_equal(s->writer_count, 0);
	assert_int_equal(pool_revoke(&p, g.segment, g.generation, &s), 0);
	assert_int_equal(pin(&g, JOB_A, 0, 64 * KB, &bytes), 0);
	/* A reader does not hold it up. */
	assert_int_equal(pool_revoke(&p, g.segment, g.generation, &s), 0);
	unpin(&g, false);
	assert_int_equal(pool_revoke(&p, g.segment, g.generation + 1, &s), 0);
	assert_int_equal(seal(&g, 4096, 64 * KB, 1), 0);
}

/* Functions may have a segment mapped for as long as it is there. */
static void who_only_reads_holds_up_neither_the_fence_nor_the_punch(void **state)
{
	struct grant g = get_one(JOB_A, 1, 64 * KB);
	struct segment *s;
	uint8_t *bytes;

	assert_int_equal(pin(&g, JOB_A, 0, 1, &bytes), 0);
	assert_int_equal(pin_to_write(&g, JOB_A, &bytes), 0);
	assert_int_equal(pool_revoke(&p, g.segment, g.generation, &s), -EAGAIN);
	unpin(&g, true);
	assert_int_equal(pool_revoke(&p, g.segment, g.generation, &s), 0);
	assert_int_equal(seal(&g, 4096, 64 * KB, 2000000), 0);
	work_later();
	assert_int_equal(p.used, 4096);
	unpin(&g, false);
}

static void when_a_job_is_over_nothing_of_it_is_read_or_written_at_once(void **state)
{
	struct grant g = get_one(JOB_A, 1, MB), h = get_one(JOB_A, 2, MB),
		     b = get_one(JOB_B, 1, MB);
	struct ask a;
	struct grants more;
	uint8_t *bytes;

	write_all(&g, JOB_A, 5);
	assert_int_equal(free_it(&h, 2000000), 0); /* warm, and soon not */
	assert_int_equal(pin(&g, JOB_A, 0, 10, &bytes), 0);
	pool_job_over(&p, JOB_A);
	pool_job_over(&p, JOB_A);
	work();
	assert_int_equal(p.counters.scrubbed_bytes + p.counters.unmade_bytes, MB);
	assert_int_equal(pin(&g, JOB_A, 0, 10, &bytes), -EIDRM);
	assert_int_equal(pin_to_write(&g, JOB_A, &bytes), -EIDRM);
	assert_int_equal(pin(&b, JOB_B, 0, 10, &bytes), 0);
	unpin(&b, false);
	a = make_ask(JOB_A, 9, MB, MB);
	assert_int_equal(pool_ask(&p, &a, now, &more), -EIDRM);
	assert_int_equal(free_it(&g, 2000000), -EAGAIN);
	unpin(&g, false);
	assert_int_equal(free_it(&g, 2000000), 0);
	/* Soon: without that anybody asks or any time passes. */
	work();
	assert_int_equal(p.used, MB);
	assert_int_equal(p.used_count, 1);
	for (unsigned i = 0; i < POOL_CLASSES; i++)
		assert_int_equal(p.dirty_count[i], 0);
	assert_int_equal(p.counters.scrubbed_bytes + p.counters.unmade_bytes, 2 * MB);
}

static void who_waits_for_a_job_that_ends_waits_no_longer(void **state)
{
	struct ask a = make_ask(JOB_A, 1, MB, MB), b = make_ask(JOB_B, 1, MB, MB);
	struct grants g;
	int r;

	assert_int_equal(pool_ask(&p, &a, now, &g), -EAGAIN);
	assert_int_equal(pool_ask(&p, &b, now, &g), -EAGAIN);
	pool_job_over(&p, JOB_A);
	assert_true(pool_due_ns(&p, now) <= now);
	assert_ptr_equal(pool_next(&p, now, &g, &r), &a);
	assert_int_equal(r, -EIDRM);
	assert_null(pool_next(&p, now, &g, &r));
	work();
	assert_ptr_equal(pool_next(&p, now, &g, &r), &b);
	assert_int_equal(r, 0);
}

/* It would have waited for an hour, for more than there is. */
static void who_gives_up_lets_in_who_waits_behind(void **state)
{
	struct ask large = make_ask(JOB_A, 1, 60 * MB, MB), small = make_ask(JOB_B, 1, MB, MB);
	struct grants g, had;
	int r;

	for (unsigned i = 0; i < 20; i++)
		get_one(JOB_A, 100 + i, MB);
	large.is_whole = true;
	large.due_ns = now + 3600 * SECOND;
	assert_int_equal(pool_ask(&p, &large, now, &g), -EAGAIN);
	now += SECOND;
	assert_int_equal(pool_ask(&p, &small, now, &g), -EAGAIN);
	work();
	assert_null(pool_next(&p, now, &g, &r));
	pool_withdraw(&p, &(struct ask){ .job = JOB_A, .request = 1 }, &g);
	assert_int_equal(g.count, 0);
	assert_true(pool_due_ns(&p, now) <= now);
	assert_ptr_equal(pool_next(&p, now, &g, &r), &large);
	assert_int_equal(r, -ECANCELED);
	work();
	assert_ptr_equal(pool_next(&p, now, &had, &r), &small);
	assert_int_equal(r, 0);
	/* What was granted is told, and stays; of what is not there, nothing. */
	pool_withdraw(&p, &small, &g);
	assert_int_equal(g.count, 1);
	assert_int_equal(g.list[0].segment, had.list[0].segment);
	pool_withdraw(&p, &large, &g);
	assert_int_equal(g.count, 0);
	assert_null(pool_next(&p, now, &g, &r));
	assert_int_equal(p.ask_count + p.asked_bytes + p.counters.refused_count, 0);
}

/* All that may be had: 1 MiB segments until a request waits. */
static unsigned fill(uint64_t job, struct grant *list, unsigned cap)
{
	for (unsigned n = 0; n < cap; n++) {
		struct ask a = make_ask(job, 1000 + n, MB, MB);
		struct grants g;
		int r = pool_ask(&p, &a, now, &g);

		for (unsigned i = 0; r == -EAGAIN && i < 3; i++) {
			work();
			r = pool_next(&p, now, &g, &r) ? 0 : -EAGAIN;
		}
		if (r == -EAGAIN) {
			pool_forget(&p, &a);
			return n;
		}
		list[n] = g.list[0];
	}
	return cap;
}

static void the_last_20th_is_for_the_oldest_who_waits_and_only_after_a_moment(void **state)
{
	struct grant list[64];
	struct ask old = make_ask(JOB_A, 1, MB, MB), young = make_ask(JOB_B, 2, MB, MB);
	struct grants g;
	int r;

	/* 95 % of 64 MiB is 60.8. */
	assert_int_equal(fill(JOB_A, list, 64), 60);
	young.age_ns = 5 * MS;
	old.age_ns = 900 * MS;
	assert_int_equal(pool_ask(&p, &young, now, &g), -EAGAIN);
	assert_int_equal(pool_ask(&p, &old, now, &g), -EAGAIN);
	work();
	assert_null(pool_next(&p, now, &g, &r));
	assert_true(pool_due_ns(&p, now) <= now + 50 * MS);
	now += 50 * MS;
	work();
	assert_ptr_equal(pool_next(&p, now, &g, &r), &old);
	assert_int_equal(r, 0);
	assert_int_equal(g.list[0].size, MB);
	/* The other is the oldest now, and has waited long enough, too. */
	assert_ptr_equal(pool_next(&p, now, &g, &r), NULL);
	work();
	assert_ptr_equal(pool_next(&p, now, &g, &r), &young);
	assert_int_equal(p.used, 62 * MB);
	assert_true(p.reserved <= LIMIT);
}

static void who_waits_is_served_by_the_age_of_the_put(void **state)
{
	static const uint64_t ages_ms[] = { 300, 50, 700, 1, 200 };
	static const unsigned order[] = { 2, 0, 4, 1, 3 };
	struct grant list[64];
	struct ask asks[5];
	struct grants g;
	unsigned n = fill(JOB_A, list, 64);
	int r;

	/* So that even the reserve is used up. */
	now += SECOND;
	for (unsigned i = 0; i < 4; i++)
		(void)get_one(JOB_A, i, MB);
	assert_int_equal(p.used, LIMIT);
	for (unsigned i = 0; i < 5; i++) {
		asks[i] = make_ask(JOB_B, i, MB, MB);
		asks[i].age_ns = ages_ms[i] * MS;
		assert_int_equal(pool_ask(&p, &asks[i], now, &g), -EAGAIN);
		now += MS;
	}
	now += SECOND;
	for (unsigned i = 0; i < 5; i++) {
		work();
		assert_null(pool_next(&p, now, &g, &r));
		assert_int_equal(free_it(&list[--n], 1), 0);
		work();
		assert_ptr_equal(pool_next(&p, now, &g, &r), &asks[order[i]]);
		assert_int_equal(r, 0);
	}
}

static void a_pool_has_two_of_its_largest_segments_for_moves(void **state)
{
	struct pool other;

	assert_int_equal(pool_init(&other, NUMBER, LIMIT, UINT_MAX), 0);
	assert_int_equal(other.moving, 2 * MB);
	pool_fini(&other, media);
	/* One of less than 64 segments has none to spare. */
	assert_int_equal(pool_init(&other, NUMBER, 63 * 64 * KB, UINT_MAX), 0);
	assert_int_equal(other.moving, 0);
	pool_fini(&other, media);
}

static void the_last_segments_are_only_for_moves_which_come_before_all_others(void **state)
{
	struct grant list[64];
	struct ask all = make_ask(JOB_B, 7, LIMIT - 2 * MB + 1, MB);
	struct ask old = make_ask(JOB_B, 8, MB, MB), move = make_ask(JOB_A, 9, MB, MB);
	struct grants g;
	int r;

	assert_int_equal(pool_ask(&p, &all, now, &g), -ENOSPC);
	assert_int_equal(fill(JOB_A, list, 64), 60);
	now += SECOND;
	for (unsigned i = 0; i < 2; i++)
		(void)get_one(JOB_A, i, MB);
	assert_int_equal(p.used, 62 * MB);
	old.age_ns = 9 * SECOND;
	assert_int_equal(pool_ask(&p, &old, now, &g), -EAGAIN);
	now += SECOND;
	work();
	assert_null(pool_next(&p, now, &g, &r));
	move.is_move = true;
	assert_int_equal(pool_ask(&p, &move, now, &g), -EAGAIN);
	work();
	assert_ptr_equal(pool_next(&p, now, &g, &r), &move);
	assert_int_equal(g.list[0].size, MB);
	assert_null(pool_next(&p, now, &g, &r));
	/* Beside others that wait it is served at once, if memory is there. */
	work();
	(void)free_it(&g.list[0], 1);
	move = make_ask(JOB_A, 10, MB, MB);
	move.is_move = true;
	assert_int_equal(pool_ask(&p, &move, now, &g), 0);
	pool_forget(&p, &old);
}

static void what_is_lacking_to_be_lent_is_told_though_nobody_asks(void **state)
{
	struct grant list[64];
	unsigned n = fill(JOB_A, list, 64);

	/* What is clean, and nobody's, comes without that. */
	(void)pool_lend(&p, LIMIT - 60 * MB);
	assert_int_equal(pool_lacking(&p), 0);
	(void)pool_lend(&p, LIMIT - 54 * MB);
	assert_int_equal(pool_lacking(&p), 6 * MB);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(free_it(&list[--n], 1), 0);
	assert_int_equal(pool_lacking(&p), 0);
	pool_lend(&p, 0);
}

static void what_the_oldest_lacks_is_told_but_not_what_a_move_does(void **state)
{
	struct grant list[64];
	struct ask old = make_ask(JOB_B, 8, 3 * MB, MB), young = make_ask(JOB_B, 9, 100 * KB, MB);
	struct ask move = make_ask(JOB_A, 10, 512 * KB, 512 * KB);
	struct grants g;
	unsigned n = fill(JOB_A, list, 64);

	assert_int_equal(pool_lacking(&p), 0);
	old.age_ns = SECOND;
	assert_int_equal(pool_ask(&p, &young, now, &g), -EAGAIN);
	assert_int_equal(pool_ask(&p, &old, now, &g), -EAGAIN);
	move.is_move = true;
	assert_int_equal(pool_ask(&p, &move, now, &g), -EAGAIN);
	/* 60 of the 60.8 MiB are in use that are not reserved. */
	assert_int_equal(pool_lacking(&p), 3 * MB - (LIMIT - LIMIT / 20 - 60 * MB));
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(free_it(&list[--n], 1), 0);
	assert_int_equal(pool_lacking(&p), 0);
	pool_forget(&p, &young);
	pool_forget(&p, &old);
	pool_forget(&p, &move);
}

static void the_fuller_the_pool_the_smaller_what_is_open(void **state)
{
	struct grant list[64];
	unsigned n = fill(JOB_A, list, 58);
	struct grants g = must_get(JOB_B, 1, 100, MB);

	/* 6 MiB are free: an eighth of that, as a power of two. */
	assert_int_equal(n, 58);
	assert_int_equal(g.list[0].size, 512 * KB);
	g = must_get(JOB_B, 2, 600 * KB, MB);
	assert_int_equal(g.list[0].size, MB);
}

static void who_needs_all_of_it_takes_nothing_before_that_is_there(void **state)
{
	struct ask first = make_ask(JOB_A, 1, 40 * MB, MB),
		   second = make_ask(JOB_B, 2, 40 * MB, MB);
	struct grants g, h;
	int r;

	first.is_whole = second.is_whole = true;
	first.age_ns = MS;
	assert_int_equal(pool_ask(&p, &second, now, &g), -EAGAIN);
	assert_int_equal(pool_ask(&p, &first, now, &g), -EAGAIN);
	work();
	assert_ptr_equal(pool_next(&p, now, &g, &r), &first);
	assert_int_equal(g.count, 40);
	/* 24 MiB are left, and stay free, however long the other waits. */
	for (int i = 0; i < 3; i++) {
		now += SECOND;
		work();
		assert_null(pool_next(&p, now, &h, &r));
	}
	assert_int_equal(p.used, 40 * MB);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(free_it(&g.list[i], 1), 0);
	work();
	assert_ptr_equal(pool_next(&p, now, &h, &r), &second);
	assert_int_equal(r, 0);
	assert_int_equal(h.count, 40);
}

static void nobody_younger_takes_what_the_older_lacks(void **state)
{
	struct grant list[64];
	struct ask large = make_ask(JOB_B, 1, 16 * MB, MB),
		   small = make_ask(JOB_B, 2, 100, 64 * KB);
	struct grants g;
	unsigned n = fill(JOB_A, list, 64);
	int r;

	now += SECOND;
	for (unsigned i = 0; i < 4; i++)
		(void)get_one(JOB_A, i, MB);
	large.age_ns = SECOND;
	assert_int_equal(pool_ask(&p, &large, now, &g), -EAGAIN);
	now += SECOND;
	/* 64 KiB come free: not for the small one, although that would do. */
	assert_int_equal(seal(&list[0], 0, 64 * KB, 1), 0);
	assert_int_equal(free_it(&list[0], 1), 0);
	n--;
	assert_int_equal(pool_ask(&p, &small, now, &g), -EAGAIN);
	work();
	assert_ptr_equal(pool_next(&p, now, &g, &r), &large);
	assert_true(g.count >= 1);
	pool_forget(&p, &small);
}

static void only_the_oldest_takes_less_than_he_asked_for(void **state)
{
	struct ask first = make_ask(JOB_B, 1, 704 * KB, 512 * KB),
		   second = make_ask(JOB_B, 2, 4 * MB, MB), third = make_ask(JOB_B, 3, 4 * MB, MB);
	struct grant list[64];
	struct grants g;
	int r;

	/* 60.8 MiB may be had by those who are not the oldest: 115 KiB are left behind the first.
	 */
	assert_int_equal(fill(JOB_A, list, 64), 60);
	work();
	assert_true(p.clean_count[0] > 0);
	first.age_ns = 3 * SECOND;
	assert_int_equal(pool_ask(&p, &first, now, &g), -EAGAIN);
	assert_int_equal(pool_ask(&p, &second, now, &g), -EAGAIN);
	assert_null(pool_next(&p, now, &g, &r));
	assert_int_equal(pool_ask(&p, &third, now, &g), -EAGAIN);
	work();
	assert_ptr_equal(pool_next(&p, now, &g, &r), &first);
	assert_int_equal(g.list[0].size, 512 * KB);
	pool_forget(&p, &second);
	pool_forget(&p, &third);
}

static void no_more_wait_than_may(void **state)
{
	struct ask *asks = calloc(POOL_ASKS_MAX + 1, sizeof(*asks));
	struct grants g;

	for (unsigned i = 0; i < POOL_ASKS_MAX; i++) {
		asks[i] = make_ask(JOB_A, i, MB, MB);
		assert_int_equal(pool_ask(&p, &asks[i], now, &g), -EAGAIN);
	}
	asks[POOL_ASKS_MAX] = make_ask(JOB_A, POOL_ASKS_MAX, MB, MB);
	assert_int_equal(pool_ask(&p, &asks[POOL_ASKS_MAX], now, &g), -EUSERS);
	for (unsigned i = 0; i < POOL_ASKS_MAX; i++)
		pool_forget(&p, &asks[i]);
	assert_int_equal(p.ask_count, 0);
	free(asks);
}

static unsigned made_count;

static int counted_make(size_t size, struct memory *ret)
{
	made_count++;
	return media_heap.make(size, ret);
}

static void a_large_segment_is_made_in_pieces_so_that_a_small_one_need_not_wait_for_it(void **state)
{
	struct ask large = make_ask(JOB_A, 1, 64 * MB, 64 * MB), small = make_ask(JOB_B, 2, MB, MB);
	struct media counted = media_heap;
	struct step steps[8];
	struct grants g;
	unsigned n;
	int r;

	pool_fini(&p, media);
	assert_int_equal(pool_init(&p, NUMBER, 4096ull * MB, UINT_MAX), 0);
	counted.make = counted_make;
	media = &counted;
	made_count = 0;
	assert_int_equal(pool_ask(&p, &large, now, &g), -EAGAIN);
	n = pool_plan(&p, steps, 8, 8 * MB, now);
	assert_int_equal(n, 1);
	assert_true(steps[0].to - steps[0].from < 64 * MB);
	assert_int_equal(pool_ask(&p, &small, now, &g), -EAGAIN);
	for (unsigned i = 0; i < n; i++)
		janitor_step(media, NULL, &retired, &steps[i]);
	pool_done(&p, steps, n, now);
	/* Within the next two rounds of it. */
	for (unsigned k = 0; k < 2; k++) {
		n = pool_plan(&p, steps, 8, 8 * MB, now);
		for (unsigned i = 0; i < n; i++)
			janitor_step(media, NULL, &retired, &steps[i]);
		pool_done(&p, steps, n, now);
	}
	assert_ptr_equal(pool_next(&p, now, &g, &r), &small);
	work();
	assert_ptr_equal(pool_next(&p, now, &g, &r), &large);
	assert_int_equal(g.list[0].size, 64 * MB);
	assert_int_equal(count_bytes(&g.list[0], JOB_A, 0), 64 * MB);
	assert_int_equal(p.counters.made_bytes, 64 * MB + MB + pool_clean_bytes(&p));
	assert_int_equal(made_count, 2 + p.clean_count[0] + p.clean_count[4] + p.clean_count[10]);
	media = &media_heap;
}

static void waiting_for_the_janitor_holds_up_nobody_else(void **state)
{
	struct ask large = make_ask(JOB_A, 1, MB, MB), small = make_ask(JOB_B, 2, 100, 64 * KB),
		   same = make_ask(JOB_B, 3, MB, MB);
	struct grants g;
	int r;

	work();
	large.age_ns = SECOND;
	assert_int_equal(pool_ask(&p, &large, now, &g), -EAGAIN);
	assert_int_equal(pool_ask(&p, &small, now, &g), 0);
	assert_int_equal(p.ask_count, 1);
	/* But what is made for him is his. */
	work();
	assert_true(p.clean_count[4] > 0);
	assert_int_equal(pool_ask(&p, &same, now, &g), -EAGAIN);
	assert_ptr_equal(pool_next(&p, now, &g, &r), &large);
	work();
	assert_ptr_equal(pool_next(&p, now, &g, &r), &same);
	/* And when he has it, others pass who want what he wanted. */
	work();
	assert_true(p.clean_count[4] > 0);
	large = make_ask(JOB_A, 4, 512 * KB, 512 * KB);
	assert_int_equal(pool_ask(&p, &large, now, &g), -EAGAIN);
	same = make_ask(JOB_B, 5, MB, MB);
	assert_int_equal(pool_ask(&p, &same, now, &g), 0);
	pool_forget(&p, &large);
}

static void who_waits_too_long_hears_that_there_is_no_space(void **state)
{
	struct grant list[64];
	struct ask a = make_ask(JOB_B, 1, MB, MB);
	struct grants g;
	int r;

	(void)fill(JOB_A, list, 64);
	now += SECOND;
	for (unsigned i = 0; i < 4; i++)
		(void)get_one(JOB_A, i, MB);
	a.due_ns = now + 100 * MS;
	assert_int_equal(pool_ask(&p, &a, now, &g), -EAGAIN);
	work();
	now += 99 * MS;
	assert_null(pool_next(&p, now, &g, &r));
	assert_true(pool_due_ns(&p, now) <= a.due_ns);
	now += MS;
	assert_ptr_equal(pool_next(&p, now, &g, &r), &a);
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(p.ask_count, 0);
	assert_int_equal(p.counters.refused_count, 1);
}

static void what_can_never_fit_is_refused_at_once(void **state)
{
	struct ask a = make_ask(JOB_A, 1, LIMIT + 1, MB), b = make_ask(JOB_A, 2, LIMIT, MB);
	struct grants g;

	assert_int_equal(pool_ask(&p, &a, now, &g), -ENOSPC);
	assert_int_equal(pool_ask(&p, &b, now, &g), -EAGAIN);
	pool_forget(&p, &b);
}

static void what_one_segment_can_hold_is_not_torn_apart(void **state)
{
	struct grant list[64];
	struct ask whole = make_ask(JOB_B, 1, 600 * KB, MB);
	struct grants g;
	unsigned n = fill(JOB_A, list, 64);
	int r;

	now += SECOND;
	for (unsigned i = 0; i < 4; i++)
		(void)get_one(JOB_A, i, MB);
	assert_int_equal(pool_ask(&p, &whole, now, &g), -EAGAIN);
	now += SECOND;
	assert_int_equal(seal(&list[n - 1], 512 * KB, MB, 1), 0);
	work();
	assert_null(pool_next(&p, now, &g, &r)); /* 512 KiB are there */
	assert_int_equal(free_it(&list[n - 1], 1), 0);
	work();
	assert_ptr_equal(pool_next(&p, now, &g, &r), &whole);
	assert_int_equal(g.count, 1);
	assert_int_equal(g.list[0].size, MB);
}

static void memory_of_one_size_becomes_memory_of_another(void **state)
{
	struct grant list[1024];
	struct grant g;
	unsigned n = 0;

	/* All of it in the smallest segments, and back. */
	for (; p.used + 64 * KB <= LIMIT / 100 * 90; n++)
		list[n] = get_one(JOB_A, n, 64 * KB);
	while (n > 0)
		assert_int_equal(free_it(&list[--n], 1), 0);
	for (unsigned i = 0; i < 50; i++)
		g = get_one(JOB_B, i, MB);
	assert_int_equal(g.size, MB);
	assert_int_equal(p.used, 50 * MB);
}

static void the_stock_follows_the_demand_and_an_idle_pool_is_small(void **state)
{
	struct grant list[40];

	for (unsigned i = 0; i < 40; i++) {
		if (i == 20) {
			work();
			assert_in_range(p.clean_count[4], 4, 6);
		}
		list[i] = get_one(JOB_A, i, MB);
		now += 5 * MS;
	}
	work();
	assert_int_equal(p.clean_count[4], 7);
	assert_int_equal(pool_clean_bytes(&p), 7 * MB + 256 * KB); /* not above 1/8 */
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(free_it(&list[i], 1), 0);
	pool_job_over(&p, JOB_A);
	work();
	/* Some of it is kept for a moment, and then no longer. */
	assert_true(p.reserved > 4 * MB);
	for (unsigned i = 0; i < 100 && pool_due_ns(&p, now) != UINT64_MAX; i++) {
		uint64_t due = pool_due_ns(&p, now);

		now = due > now ? due : now + MS;
		work();
	}
	assert_int_equal(p.reserved, 4 * 64 * KB);
	assert_true(now < 30 * SECOND);
}

/* The same as media_heap, but that it gives memory only while `supply` lasts. */
static size_t supply;

static int scarce_make(size_t size, struct memory *ret)
{
	return supply == 0 ? -EMFILE : media_heap.make(size, ret);
}

static int scarce_fill(struct memory *m, size_t from, size_t to)
{
	if (to - from > supply)
		return -ENOMEM;
	supply -= to - from;
	return 0;
}

static void what_a_job_has_back_needs_no_stock(void **state)
{
	struct grant g = get_one(JOB_A, 0, MB);

	for (unsigned i = 1; i < 40; i++) {
		assert_int_equal(free_it(&g, i), 0);
		g = get_one(JOB_A, i, MB);
		now += 5 * MS;
		work();
	}
	assert_int_equal(p.counters.warm_count, 39);
	assert_in_range(p.clean_count[4], 0, 1);
}

static void with_many_segments_the_smallest_ones_grow(void **state)
{
	uint64_t sum = 0;
	unsigned n = 0;

	pool_fini(&p, media);
	assert_int_equal(pool_init(&p, NUMBER, LIMIT, 128), 0);
	/* 64 MiB in 64 KiB would be 1,024 segments. */
	while (sum + MB <= LIMIT / 20 * 19) {
		struct grants g = must_get(JOB_A, n, 100, 64 * KB);

		assert_int_equal(g.count, 1);
		assert_true(n > 32 || g.list[0].size == 64 * KB);
		assert_true(g.list[0].size <= MB);
		sum += g.list[0].size;
		n++;
	}
	assert_true(n < 128);
	assert_int_equal(p.used, sum);
}

static void without_a_segment_left_puts_wait_and_go_on_when_there_is_one(void **state)
{
	struct ask a = make_ask(JOB_B, 1, 100, MB);
	struct grant list[8];
	struct grants g;
	int r;

	pool_fini(&p, media);
	assert_int_equal(pool_init(&p, NUMBER, LIMIT, 8), 0);
	for (unsigned i = 0; i < 8; i++)
		list[i] = get_one(JOB_A, i, MB);
	assert_int_equal(pool_ask(&p, &a, now, &g), -EAGAIN);
	work();
	assert_null(pool_next(&p, now, &g, &r));
	assert_int_equal(free_it(&list[3], 1), 0);
	work();
	assert_ptr_equal(pool_next(&p, now, &g, &r), &a);
	assert_int_equal(r, 0);
}

static void a_machine_with_less_memory_than_promised_makes_puts_wait(void **state)
{
	struct media scarce = media_heap;
	struct ask a = make_ask(JOB_A, 1, MB, MB);
	struct grants g;
	int r;

	scarce.make = scarce_make;
	scarce.fill = scarce_fill;
	media = &scarce;
	supply = 300 * KB;
	work();
	assert_int_equal(p.reserved, 256 * KB);
	assert_int_equal(pool_ask(&p, &a, now, &g), -EAGAIN);
	work();
	assert_null(pool_next(&p, now, &g, &r));
	assert_true(p.counters.failed_count > 0);
	assert_int_equal(p.reserved, 256 * KB);
	/* It is not asked all the time, but again. */
	now += 60 * MS;
	assert_int_equal(work(), 0);
	assert_int_equal(pool_due_ns(&p, now), now + 40 * MS);
	supply = 10 * MB;
	now += 40 * MS;
	work();
	assert_ptr_equal(pool_next(&p, now, &g, &r), &a);
	assert_int_equal(r, 0);
	media = &media_heap;
}

static unsigned regions_left;

static int limited_make(size_t size, struct memory *ret)
{
	int r = regions_left == 0 ? -EMFILE : media_heap.make(size, ret);

	regions_left -= r == 0;
	return r;
}

static void limited_free(struct memory *m)
{
	regions_left += m->ptr != NULL;
	media_heap.free(m);
}

/* Its limit would have room for both sizes. */
static void where_the_machine_has_no_more_what_is_idle_makes_room(void **state)
{
	struct media scarce = media_heap;
	struct ask a = make_ask(JOB_B, 9, 256 * KB, 256 * KB), *next = NULL;
	struct grant list[4];
	struct grants g;
	int r = 0;

	scarce.make = limited_make;
	scarce.free = limited_free;
	media = &scarce;
	regions_left = 8; /* four of them for the smallest */
	for (unsigned i = 0; i < 4; i++)
		list[i] = get_one(JOB_A, i, MB);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(free_it(&list[i], 5), 0);
	pool_job_over(&p, JOB_A);
	work();
	assert_int_equal(p.clean_count[4], 4);
	assert_int_equal(pool_ask(&p, &a, now, &g), -EAGAIN);
	for (unsigned i = 0; i < 50 && !next; i++) {
		now += 100 * MS;
		work();
		next = pool_next(&p, now, &g, &r);
	}
	assert_ptr_equal(next, &a);
	assert_int_equal(r, 0);
	media = &media_heap;
}

static void a_machine_without_memory_to_refill_with_has_the_rest_back(void **state)
{
	struct media scarce = media_heap;
	struct grant g = get_punched(JOB_A, 1, 300 * KB), h = get_punched(JOB_A, 2, 300 * KB);
	uint64_t unmade = p.counters.unmade_bytes;

	scarce.fill = scarce_fill;
	media = &scarce;
	supply = 0;
	assert_int_equal(free_it(&g, 3000000), 0);
	work();
	assert_int_equal(p.counters.failed_count, 1);
	assert_int_equal(p.counters.unmade_bytes, unmade + MB);
	/* For the next one it is not even tried. */
	assert_int_equal(free_it(&h, 3000000), 0);
	work();
	assert_int_equal(p.counters.failed_count, 1);
	assert_int_equal(p.counters.unmade_bytes, unmade + 2 * MB);
	assert_int_equal(p.counters.refilled_bytes, 0);
	assert_int_equal(p.used, 0);
	assert_int_equal(p.jobs.count, 0);
	media = &media_heap;
}

static void nothing_is_booked_before_the_first_stamp(void **state)
{
	struct book b = { 0 };

	book_add(&b, 100, 1000);
	assert_true(book_integral(&b, 999) == 0);
	assert_true(book_integral(&b, 1000) == 0);
	assert_true(book_integral(&b, 1003) == 300);
}

static void both_sides_book_the_same_bytes_at_the_same_times(void **state)
{
	struct ask a = make_ask(JOB_A, 1, 64 * KB, 64 * KB);
	struct grants g, h;
	uint64_t bytes = 0;
	unsigned __int128 moments = 0;

	work();
	a.stamp_ns = 5000000000000000001ull;
	assert_int_equal(pool_ask(&p, &a, now, &g), 0);
	bytes += 65536;
	moments += (unsigned __int128)65536 * 5000000000000000001ull;
	h = must_get(JOB_B, 2, MB, MB);
	bytes += MB;
	moments += (unsigned __int128)MB * h.stamp_ns;
	assert_int_equal(seal(&h.list[0], 5000, MB - 1, 5000000000000000100ull), 0);
	/* Two pages and one: so many bytes less. */
	bytes -= MB - 3 * 4096;
	moments -= (unsigned __int128)(MB - 3 * 4096) * 5000000000000000100ull;
	assert_int_equal(free_it(&g.list[0], 5000000000000000200ull), 0);
	bytes -= 65536;
	moments -= (unsigned __int128)65536 * 5000000000000000200ull;
	assert_true(p.book.bytes == bytes && p.book.moments == moments);

	/* (0x10000 for 199 ns, 0x100000 from h to 100, 0x3000 from 100 to 300.) */
	assert_true(book_integral(&p.book, 5000000000000000300ull) ==
		    (unsigned __int128)65536 * 199 +
			    (unsigned __int128)MB * (5000000000000000100ull - h.stamp_ns) +
			    (unsigned __int128)(3 * 4096) * 200);
	assert_int_equal(free_it(&h.list[0], 5000000000000000300ull), 0);
	assert_int_equal(p.book.bytes, 0);
	/* When all is freed, it does not grow any more. */
	assert_true(book_integral(&p.book, 5000000000000000300ull) ==
		    book_integral(&p.book, 6000000000000000000ull));
}

static void segments_in_use_are_listed_by_slot_and_page(void **state)
{
	struct segment_entry list[64];
	struct grant a[5], b[3];
	uint64_t after = 0;
	unsigned n, seen = 0;
	bool has_more;

	for (unsigned i = 0; i < 5; i++)
		a[i] = get_one(JOB_A, 50 + i, 64 * KB);
	for (unsigned i = 0; i < 3; i++)
		b[i] = get_one(JOB_B, 60 + i, 128 * KB);
	n = pool_list(&p, UINT16_MAX, 0, list, 64, &has_more);
	assert_int_equal(n, 8);
	assert_false(has_more);
	n = pool_list(&p, 6, 0, list, 64, &has_more);
	assert_int_equal(n, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(list[i].job, JOB_B);
		assert_int_equal(list[i].size, 128 * KB);
		assert_int_equal(list[i].segment, b[i].segment);
		assert_int_equal(list[i].generation, b[i].generation);
		assert_int_equal(list[i].request, 60 + i);
	}
	assert_int_equal(free_it(&a[1], 1), 0);
	do {
		n = pool_list(&p, 5, after, list, 3, &has_more);
		assert_true(n > 0 && n <= 3);
		for (unsigned i = 0; i < n; i++) {
			assert_true(list[i].segment > after);
			assert_true(list[i].segment != a[1].segment);
			after = list[i].segment;
		}
		seen += n;
	} while (has_more);
	assert_int_equal(seen, 4);
}

static void a_put_may_be_older_than_the_machines_start(void **state)
{
	struct ask a = make_ask(JOB_A, 1, MB, MB), b = make_ask(JOB_B, 2, MB, MB);
	struct grants g;
	int r;

	now = 5;
	a.age_ns = 3600 * SECOND;
	b.age_ns = UINT64_MAX;
	assert_int_equal(pool_ask(&p, &a, now, &g), -EAGAIN);
	assert_int_equal(pool_ask(&p, &b, now, &g), -EAGAIN);
	work();
	assert_ptr_equal(pool_next(&p, now, &g, &r), &b);
	assert_ptr_equal(pool_next(&p, now, &g, &r), &a);
}

/* Whatever allocation fails, a call that fails has changed nothing, and it all ends well. */
static bool live_a_life(void)
{
	struct ask a = make_ask(JOB_A, 1, MB, MB);
	struct grants g = { .count = 0 };
	struct segment *s;
	uint8_t *bytes;
	int r, tries = 0;

	if (pool_init(&p, NUMBER, LIMIT, UINT_MAX) < 0) {
		pool_fini(&p, &media_heap);
		return false;
	}
	r = pool_ask(&p, &a, now, &g);
	while (r == -EAGAIN && tries++ < 5) {
		work();
		now += 200 * MS;
		if (!pool_next(&p, now, &g, &r))
			r = -EAGAIN;
	}
	if (r == 0) {
		assert_int_equal(g.count, 1);
		assert_int_equal(pool_pin_to_write(&p, JOB_A, g.list[0].segment,
						   g.list[0].generation, g.list[0].key, 0, MB, &s,
						   &bytes),
				 0);
		memset(bytes, 1, MB);
		pool_unpin(&p, s, true, now);
		assert_int_equal(seal(&g.list[0], 4096, MB, 1), 0);
		assert_int_equal(free_it(&g.list[0], 2), 0);
	} else if (r == -EAGAIN) {
		pool_forget(&p, &a);
	}
	assert_int_equal(p.used, 0);
	assert_int_equal(p.ask_count, 0);
	work();
	pool_fini(&p, &media_heap);
	return r == 0;
}

static void an_allocation_that_fails_loses_nothing(void **state)
{
	struct node n = { .fail_countdown = 0 };
	uint64_t k = 0;
	unsigned failures = 0;

	node_current = &n;
	do {
		n.fail_countdown = ++k;
		failures += !live_a_life();
		assert_true(k < 1000);
	} while (n.fail_countdown == 0);
	node_current = NULL;
	assert_true(k > 5 && failures > 0);
}

static void what_nobody_uses_is_lent_and_comes_back(void **state)
{
	struct ask a = make_ask(JOB_A, 1, MB, MB);
	struct grants g;
	int r;

	assert_int_equal(pool_ask(&p, &a, now, &g), -EAGAIN);
	work();
	assert_ptr_equal(pool_next(&p, now, &g, &r), &a);
	work(); /* a stock of clean ones */
	assert_int_equal(p.used, MB);
	assert_true(p.reserved > MB);
	/* What is not held is lent at once, and the rest when the clean ones are gone. */
	assert_in_range(pool_lend(&p, LIMIT - 2 * MB), LIMIT / 2, LIMIT - 2 * MB);
	work();
	assert_int_equal(pool_lend(&p, LIMIT - 2 * MB), LIMIT - 2 * MB);
	assert_int_equal(p.used, LIMIT - 2 * MB + MB);
	/* Nothing of it is granted meanwhile, and never is lent what is in use. */
	a = make_ask(JOB_A, 2, 8 * MB, MB);
	assert_int_equal(pool_ask(&p, &a, now, &g), -EAGAIN);
	work();
	assert_null(pool_next(&p, now, &g, &r));
	(void)pool_lend(&p, LIMIT);
	work();
	assert_int_equal(pool_lend(&p, LIMIT), LIMIT - MB);
	assert_int_equal(pool_lend(&p, 0), 0);
	assert_int_equal(p.used, MB);
	work();
	assert_ptr_equal(pool_next(&p, now, &g, &r), &a);
	assert_int_equal(r, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_pool, close_pool)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_fresh_pool_has_a_few_of_the_smallest_and_nothing_else),
		TEST(what_is_in_stock_is_granted_at_once_and_the_rest_when_it_is_made),
		TEST(several_cover_what_is_needed_and_the_last_is_no_larger_than_that),
		TEST(a_size_is_a_power_of_two_between_the_smallest_and_a_64th_of_the_pool),
		TEST(no_byte_is_handed_out_twice),
		TEST(a_repeated_request_gets_the_same_grants),
		TEST(a_segment_goes_back_to_its_job_as_it_was),
		TEST(a_freed_segment_gets_back_what_was_punched_and_goes_to_its_job),
		TEST(only_what_a_job_has_in_use_is_exported_to_it),
		TEST(exported_memory_is_its_jobs_again_and_then_unmade),
		TEST(who_waits_is_not_given_exported_memory_but_its_room),
		TEST(what_a_function_may_write_nobody_else_has_after_it),
		TEST(all_that_was_asked_for_is_not_there_if_others_may_write_it),
		TEST(a_function_that_has_ended_leaves_nothing_warm),
		TEST(what_an_author_may_still_write_is_not_used_again),
		cmocka_unit_test_setup_teardown(
			what_functions_touch_where_it_was_punched_is_punched_again,
			open_shared_pool, close_pool),
		cmocka_unit_test_setup_teardown(what_is_freed_and_viewed_still_is_watched,
						open_shared_pool, close_pool),
		cmocka_unit_test_setup_teardown(what_is_freed_during_a_look_is_given_back,
						open_shared_pool, close_pool),
		TEST(what_no_function_maps_and_what_is_all_there_is_not_looked_at),
		TEST(who_waits_is_not_held_up_by_looks),
		TEST(what_was_punched_is_refilled_for_its_author),
		TEST(what_is_refilled_for_an_author_that_ends_is_nobodys),
		TEST(only_who_was_granted_an_open_segment_lets_a_function_write_there),
		TEST(an_ended_jobs_memory_is_gone_though_a_function_maps_it),
		TEST(large_holes_are_filled_in_pieces),
		TEST(what_is_refilled_for_a_job_that_ends_is_scrubbed_for_others),
		TEST(what_is_mostly_gone_is_not_refilled),
		TEST(what_was_punched_is_refilled_up_to_the_limit),
		TEST(who_has_other_stores_waits_for_no_room),
		TEST(what_was_punched_is_refilled_if_no_other_job_waits),
		TEST(where_memory_is_short_a_job_has_back_another_size),
		TEST(where_memory_is_short_a_job_has_back_twice_as_much_if_it_asked_for_that),
		TEST(what_nobody_asks_for_goes_before_what_its_job_may_have_back),
		TEST(where_memory_is_short_a_segment_waits_for_its_job_for_a_second_only),
		TEST(a_segment_comes_to_another_job_as_zeros),
		TEST(every_access_is_checked_against_job_generation_key_and_range),
		TEST(a_sealed_segment_is_read_where_it_was_used_and_written_nowhere),
		TEST(a_full_segment_is_sealed_and_keeps_all_its_bytes),
		TEST(nothing_is_punched_while_somebody_writes),
		TEST(what_is_freed_soon_stays_whole),
		TEST(where_memory_is_short_it_is_punched_at_once),
		TEST(what_is_no_range_of_the_segment_is_not_sealed),
		TEST(a_free_is_answered_when_the_last_pin_is_gone),
		TEST(who_frees_what_was_never_there_hears_that_it_is_free),
		TEST(a_revoked_segment_takes_no_more_bytes_and_is_still_read),
		TEST(who_only_reads_holds_up_neither_the_fence_nor_the_punch),
		TEST(when_a_job_is_over_nothing_of_it_is_read_or_written_at_once),
		TEST(who_waits_for_a_job_that_ends_waits_no_longer),
		TEST(who_gives_up_lets_in_who_waits_behind),
		TEST(the_last_20th_is_for_the_oldest_who_waits_and_only_after_a_moment),
		TEST(who_waits_is_served_by_the_age_of_the_put),
		TEST(a_pool_has_two_of_its_largest_segments_for_moves),
		cmocka_unit_test_setup_teardown(
			the_last_segments_are_only_for_moves_which_come_before_all_others,
			open_pool_for_moves, close_pool),
		TEST(what_is_lacking_to_be_lent_is_told_though_nobody_asks),
		TEST(what_the_oldest_lacks_is_told_but_not_what_a_move_does),
		TEST(the_fuller_the_pool_the_smaller_what_is_open),
		TEST(who_needs_all_of_it_takes_nothing_before_that_is_there),
		TEST(nobody_younger_takes_what_the_older_lacks),
		TEST(only_the_oldest_takes_less_than_he_asked_for),
		TEST(no_more_wait_than_may),
		TEST(a_large_segment_is_made_in_pieces_so_that_a_small_one_need_not_wait_for_it),
		TEST(waiting_for_the_janitor_holds_up_nobody_else),
		TEST(who_waits_too_long_hears_that_there_is_no_space),
		TEST(what_can_never_fit_is_refused_at_once),
		TEST(what_one_segment_can_hold_is_not_torn_apart),
		TEST(memory_of_one_size_becomes_memory_of_another),
		TEST(the_stock_follows_the_demand_and_an_idle_pool_is_small),
		TEST(what_a_job_has_back_needs_no_stock),
		TEST(with_many_segments_the_smallest_ones_grow),
		TEST(without_a_segment_left_puts_wait_and_go_on_when_there_is_one),
		TEST(a_machine_with_less_memory_than_promised_makes_puts_wait),
		TEST(where_the_machine_has_no_more_what_is_idle_makes_room),
		TEST(a_machine_without_memory_to_refill_with_has_the_rest_back),
		TEST(nothing_is_booked_before_the_first_stamp),
		TEST(both_sides_book_the_same_bytes_at_the_same_times),
		TEST(segments_in_use_are_listed_by_slot_and_page),
		TEST(a_put_may_be_older_than_the_machines_start),
		TEST(what_nobody_uses_is_lent_and_comes_back),
		cmocka_unit_test(an_allocation_that_fails_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
