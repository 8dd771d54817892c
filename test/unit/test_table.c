/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pool leaves to a successor. A child process works on a pool whose table we see,
 * too, and is stopped after each of its instructions: whenever the table has changed, a
 * successor is made of it, and must be as the pool was before the request or after it.
 * Then tables that no pool of ours has written.
 */
#include "test.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/container.h"
#include "base/node.h"
#include "store/janitor.h"
#include "store/restore.h"

#define KB     1024u
#define MB     (1024u * KB)
#define SECOND 1000000000ull
#define LIMIT  (32 * MB)
#define WALL   (1700000000 * SECOND)

#define JOB_A ((5ull << 54) | 1)
#define JOB_B ((6ull << 54) | 1)

#define SEGMENTS 8

/* A keeper that says what it is told to say: the table, and a region for each segment. */
struct shelf {
	struct keep keep;
	struct memory table, segments[SEGMENTS];
	bool is_found;
};

static struct memory *place(struct shelf *s, struct keep_name name)
{
	if (name.kind == KEEP_TABLE)
		return &s->table;
	return name.number < SEGMENTS ? &s->segments[name.number] : NULL;
}

static int shelf_make(struct keep *k, size_t size, struct memory *ret)
{
	return media_memfd.make(size, ret);
}

static int shelf_put(struct keep *k, struct keep_name name, const struct memory *m)
{
	struct shelf *s = container_of(k, struct shelf, keep);
	struct memory *to = place(s, name);

	if (to && !s->is_found)
		*to = *m;
	return 0;
}

static unsigned dropped; /* a bit for each segment */

static void shelf_drop(struct keep *k, struct keep_name name)
{
	if (name.kind == KEEP_SEGMENT && name.number < SEGMENTS)
		dropped |= 1u << name.number;
}

static bool shelf_find(struct keep *k, struct keep_name from, struct keep_name *ret)
{
	return false;
}

static enum keep_kind unmapped; /* for these there are no addresses */

/* A copy: the successor frees it. */
static int shelf_take(struct keep *k, struct keep_name name, struct memory *ret)
{
	struct shelf *s = container_of(k, struct shelf, keep);
	const struct memory *m = place(s, name);
	int r;

	if (name.kind == unmapped)
		return -ENOMEM;
	if (!s->is_found || !m || !m->ptr)
		return -ENOENT;
	r = media_heap.make(m->size, ret);
	if (r == 0 && name.kind == KEEP_TABLE)
		memcpy(ret->ptr, m->ptr, m->size);
	return r;
}

static const struct keep_ops SHELF_OPS = {
	.make = shelf_make,
	.put = shelf_put,
	.drop = shelf_drop,
	.find = shelf_find,
	.take = shelf_take,
	.drop_rest = NULL,
};

static int found_make(struct keep *k, size_t size, struct memory *ret)
{
	return media_heap.make(size, ret);
}

static const struct keep_ops FOUND_OPS = {
	.make = found_make,
	.put = shelf_put,
	.drop = shelf_drop,
	.find = shelf_find,
	.take = shelf_take,
	.drop_rest = NULL,
};

static struct pool p;
static struct retired retired;
static struct shelf shelf;
static uint64_t now;

static void work(struct pool *pool, const struct media *media, struct keep *keep)
{
	struct step steps[8];
	unsigned n;

	while ((n = pool_plan(pool, steps, 8, 8 * MB, now)) > 0) {
		for (unsigned i = 0; i < n; i++)
			janitor_step(media, keep, &retired, &steps[i]);
		pool_done(pool, steps, n, now);
	}
}

/* With some of the smallest segments in stock, on memory that a child shares. */
static int setup(void **state)
{
	struct restored restored;

	now = 10 * SECOND;
	shelf = (struct shelf){ .keep.ops = &SHELF_OPS };
	assert_int_equal(pool_open(&p, &shelf.keep, &media_memfd, &retired, LIMIT, WALL, &restored),
			 0);
	work(&p, &media_memfd, &shelf.keep);
	assert_int_equal(p.clean_count[0], 4);
	shelf.is_found = true;
	return 0;
}

static int teardown(void **state)
{
	pool_fini(&p, &media_memfd);
	return 0;
}

/* What a successor has: all that matters of it. */
struct state {
	uint64_t number, bytes, moments_hi, moments_lo;
	unsigned used_count;
	struct {
		uint64_t key, job, request, stamp_ns;
		uint32_t generation, size, front, back;
		bool is_used, is_sealed, is_revoked, is_over;
	} segments[SEGMENTS];
};

static void state_of(const struct pool *of, struct state *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->number = of->number;
	ret->bytes = of->book.bytes;
	ret->moments_hi = (uint64_t)(of->book.moments >> 64);
	ret->moments_lo = (uint64_t)of->book.moments;
	ret->used_count = of->used_count;
	for (unsigned i = 0; i < SEGMENTS; i++) {
		const struct segment *s = i < of->segment_count ? &of->chunks[0][i] : NULL;
		typeof(&ret->segments[0]) r = &ret->segments[i];

		r->generation = s ? s->generation : 1;
		if (!s || s->state < SEGMENT_OPEN || s->state > SEGMENT_FREEING)
			continue;
		r->is_used = true;
		r->key = s->key;
		r->job = s->job->id;
		r->request = s->request;
		r->stamp_ns = s->stamp_ns;
		r->size = s->size;
		r->is_sealed = s->was_sealed;
		r->front = s->was_sealed ? s->front : 0;
		r->back = s->was_sealed ? s->back : 0;
		r->is_revoked = s->is_revoked;
		r->is_over = s->job->is_over;
	}
}

static struct restored successor(struct shelf *from, uint64_t limit, struct pool *ret)
{
	struct shelf found = *from;
	struct restored restored;

	found.keep.ops = &FOUND_OPS;
	assert_int_equal(pool_open(ret, &found.keep, &media_heap, &retired, limit, WALL, &restored),
			 0);
	return restored;
}

static void look(struct state *ret)
{
	struct pool next;
	struct restored r = successor(&shelf, LIMIT, &next);

	assert_true(r.is_again && r.lost == 0);
	state_of(&next, ret);
	pool_fini(&next, &media_heap);
}

/* Requests. */

static struct grant grants[SEGMENTS];

static void ask(unsigned i, uint64_t job)
{
	struct ask a = { .job = job,
			 .request = 100 + i,
			 .stamp_ns = WALL + i,
			 .due_ns = now + SECOND,
			 .need = 1,
			 .size = 64 * KB };
	struct grants g;

	if (pool_ask(&p, &a, now, &g) != 0 || g.count != 1)
		_exit(2);
	grants[i] = g.list[0];
}

static void pin(unsigned i, uint64_t job)
{
	struct segment *s;
	uint8_t *bytes;

	if (pool_pin(&p, job, grants[i].segment, grants[i].generation, 0, 1, &s, &bytes) != 0)
		_exit(2);
}

static void seal(unsigned i, uint32_t front, uint32_t back)
{
	if (pool_seal(&p, grants[i].segment, grants[i].generation, front, back, WALL + 1000 + i, 0))
		_exit(2);
}

static void free_one(unsigned i)
{
	struct segment *s;

	(void)pool_free(&p, grants[i].segment, grants[i].generation, WALL + 2000 + i, now, &s);
}

static void request(unsigned i)
{
	struct segment *s;

	switch (i) {
	case 0 ... 3:
		ask(i, i < 3 ? JOB_A : JOB_B);
		break;
	case 4:
		seal(0, 4096, 60 * KB);
		break;
	case 5:
		(void)pool_revoke(&p, grants[1].segment, grants[1].generation, &s);
		break;
	case 6:
		free_one(3); /* and its job has nothing any more */
		break;
	case 7:
		ask(4, JOB_B); /* the same, as it was left */
		break;
	case 8:
		pin(2, JOB_A);
		free_one(2);
		break;
	case 9:
		pool_unpin(&p, pool_pinned(&p, grants[2].segment), false, now);
		break;
	case 10:
		pool_job_over(&p, JOB_A);
		break;
	case 11:
		free_one(0); /* one of two: the other one knows that the job is over */
		break;
	case 12:
		free_one(1);
		break;
	default:
		_exit(0);
	}
}

static void child(volatile unsigned *at)
{
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
		_exit(3);
	raise(SIGSTOP);
	for (*at = 0;; (*at)++)
		request(*at);
}

/* One instruction. False: it is over. */
static bool step(pid_t pid)
{
	int status;

	assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSTOPPED(status))
		return true;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	return false;
}

/* All that a successor of the request at hand would have been. */
#define CUTS_MAX 4096

static void whatever_instruction_is_the_last_a_successor_has_all_of_a_request_or_nothing(
	void **state)
{
	volatile unsigned *at =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct state before, after, *cuts = calloc(CUTS_MAX, sizeof(*cuts));
	size_t size = table_size(SEGMENTS);
	uint8_t *seen = malloc(size);
	unsigned request_at = 0, cut_count = 0, changes = 0;
	bool is_on = true;
	int status;
	pid_t pid;

	*at = 0;
	look(&before);
	assert_int_equal(before.used_count, 0);
	pid = fork();
	if (pid == 0)
		child(at);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status)) {
		free(cuts);
		free(seen);
		skip(); /* no ptrace() here */
	}
	memcpy(seen, shelf.table.ptr, size);
	while (is_on) {
		is_on = step(pid);
		if (memcmp(seen, shelf.table.ptr, size) != 0) {
			memcpy(seen, shelf.table.ptr, size);
			assert_true(cut_count < CUTS_MAX);
			look(&cuts[cut_count++]);
			changes++;
		}
		if (is_on && *at == request_at)
			continue;
		look(&after);
		/* Each of them changes something, but for the last pin: that is not seen. */
		assert_true((memcmp(&before, &after, sizeof(after)) != 0) ==
			    (request_at != 9 && request_at != 13));
		for (unsigned i = 0; i < cut_count; i++)
			if (memcmp(&cuts[i], &before, sizeof(before)) != 0 &&
			    memcmp(&cuts[i], &after, sizeof(after)) != 0)
				fail_msg("request %u, change %u of %u: neither before nor after",
					 request_at, i, cut_count);
		before = after;
		cut_count = 0;
		request_at = *at;
	}
	assert_int_equal(request_at, 13);
	assert_true(changes > 40); /* how many it takes to copy a row is the compiler's */
	/* The last one: JOB_B has its second segment, and no other is in use. */
	assert_int_equal(after.used_count, 1);
	assert_int_equal(after.bytes, 64 * KB);
	free(cuts);
	free(seen);
	munmap((void *)at, 4096);
}

/* By hand. */

static struct row used_row(uint64_t job, uint32_t size)
{
	return (struct row){ .job = job,
			     .request = 9,
			     .key = 77,
			     .stamp_ns = WALL,
			     .generation = 5,
			     .size = size,
			     .back = size,
			     .flags = ROW_USED };
}

static struct table empty_table(struct shelf *s, unsigned rows)
{
	struct memory m;
	struct table t;

	*s = (struct shelf){ .is_found = true };
	assert_int_equal(media_heap.make(table_size(rows), &m), 0);
	table_init(&t, m, rows, 12345);
	s->table = m;
	return t;
}

static uint64_t punched;

static int count_punched(struct memory *m, size_t from, size_t to)
{
	punched += to - from;
	return 0;
}

static struct memory region(size_t size)
{
	struct memory m;

	assert_int_equal(media_heap.make(size, &m), 0);
	return m;
}

static void shelf_free(struct shelf *s)
{
	media_heap.free(&s->table);
	for (unsigned i = 0; i < SEGMENTS; i++)
		media_heap.free(&s->segments[i]);
}

static uint64_t id_of(unsigned index)
{
	return 12345ull << 20 | index;
}

static void what_has_no_memory_is_lost_and_its_generation_goes_on(void **state)
{
	struct shelf s;
	struct table t = empty_table(&s, 6);
	struct row row = used_row(JOB_A, 64 * KB);
	struct segment *segment;
	struct restored r;
	struct pool next;

	for (unsigned i = 0; i < 4; i++)
		table_set_row(&t, i, &row);
	row = (struct row){ .generation = 9 };
	table_set_row(&t, 4, &row);
	s.segments[0] = region(64 * KB);
	s.segments[2] = region(128 * KB); /* not what it should be */
	s.segments[3] = region(64 * KB);
	r = successor(&s, LIMIT, &next);
	assert_true(r.is_again && r.count == 2 && r.lost == 2 && r.limit == 0);
	assert_int_equal(next.number, 12345);
	assert_int_equal(next.segment_count, 5);
	assert_int_equal(pool_find(&next, id_of(0), 5, &segment), 0);
	assert_int_equal(pool_find(&next, id_of(1), 5, &segment), -ESTALE);
	assert_int_equal(pool_find(&next, id_of(2), 5, &segment), -ESTALE);
	assert_int_equal(pool_find(&next, id_of(3), 5, &segment), 0);
	assert_int_equal(next.chunks[0][1].generation, 6);
	assert_int_equal(next.chunks[0][2].generation, 6);
	assert_int_equal(next.chunks[0][4].generation, 9);
	assert_int_equal(next.book.bytes, 128 * KB);
	assert_int_equal(next.used_count, 2);
	pool_fini(&next, &media_heap);
	shelf_free(&s);
}

static void what_cannot_be_mapped_now_is_left_for_the_next_one(void **state)
{
	static const enum keep_kind kinds[] = { KEEP_TABLE, KEEP_SEGMENT };
	struct shelf s;
	struct table t = empty_table(&s, 2);
	struct row row = used_row(JOB_A, 64 * KB);
	struct restored r;
	struct pool next;

	table_set_row(&t, 0, &row);
	s.segments[0] = region(64 * KB);
	s.keep.ops = &FOUND_OPS;
	dropped = 0;
	for (unsigned i = 0; i < 2; i++) {
		unmapped = kinds[i];
		assert_int_equal(pool_open(&next, &s.keep, &media_heap, &retired, LIMIT, WALL, &r),
				 -ENOMEM);
		pool_fini(&next, &media_heap);
	}
	unmapped = 0;
	assert_int_equal(dropped, 0);
	r = successor(&s, LIMIT, &next);
	assert_true(r.is_again && r.count == 1 && r.lost == 0);
	pool_fini(&next, &media_heap);
	shelf_free(&s);
}

static void without_memory_all_is_left_for_the_next_one(void **state)
{
	static struct node failing;
	struct shelf s;
	struct table t = empty_table(&s, 2);
	struct row row = used_row(JOB_A, 64 * KB);
	struct restored r;
	struct pool next;
	uint64_t n = 0;
	int e;

	table_set_row(&t, 0, &row);
	s.segments[0] = region(64 * KB);
	s.keep.ops = &FOUND_OPS;
	dropped = 0;
	do {
		node_current = &failing;
		failing.fail_countdown = ++n;
		e = pool_open(&next, &s.keep, &media_heap, &retired, LIMIT, WALL, &r);
		node_current = NULL;
		assert_true(e == 0 || (e == -ENOMEM && failing.fail_countdown == 0));
		if (e == 0)
			assert_true(r.lost == 0 && next.used_count == 1);
		pool_fini(&next, &media_heap);
	} while (failing.fail_countdown == 0);
	assert_true(n > 6);
	assert_int_equal(dropped, 0);
	shelf_free(&s);
}

/* Whether it is in use still or was free already: functions may map it. */
static void what_was_exported_stays_so_or_is_punched(void **state)
{
	struct shelf s;
	struct table t = empty_table(&s, 3);
	struct row row = used_row(JOB_A, 64 * KB);
	struct restored r;
	struct pool next;
	struct media counting = media_heap;
	unsigned at = 0;

	table_set_row(&t, 0, &row);
	row.flags |= ROW_EXPORTED | ROW_AUTHORED;
	table_set_row(&t, 1, &row);
	row = (struct row){ .generation = 9, .size = 64 * KB, .flags = ROW_EXPORTED };
	table_set_row(&t, 2, &row);
	for (unsigned i = 0; i < 3; i++)
		s.segments[i] = region(64 * KB);
	counting.punch = count_punched;
	punched = 0;
	dropped = 0;
	s.keep.ops = &FOUND_OPS;
	assert_int_equal(pool_open(&next, &s.keep, &counting, &retired, LIMIT, WALL, &r), 0);
	assert_true(r.is_again && r.count == 2 && r.lost == 0);
	assert_int_equal(next.chunks[0][0].is_exported, false);
	assert_int_equal(next.chunks[0][1].is_exported, true);
	assert_int_equal(next.chunks[0][2].is_exported, false);
	assert_true(next.chunks[0][0].author == 0);
	assert_true(next.chunks[0][1].author == AUTHOR_GONE);
	assert_int_equal(next.chunks[0][2].generation, 9);
	assert_int_equal(punched, 64 * KB);
	assert_int_equal(dropped, 1u << 2);
	assert_int_equal(pool_view_over(&next, &at)->index, 1);
	assert_null(pool_view_over(&next, &at));
	pool_unpin(&next, &next.chunks[0][1], false, now);
	pool_fini(&next, &media_heap);
	shelf_free(&s);
}

/* Its functions believe what they were told for a while: until then it is not given back. */
static void what_a_predecessor_had_exported_is_not_used_again_at_once(void **state)
{
	struct shelf s;
	struct table t = empty_table(&s, 2);
	struct row row = used_row(JOB_A, 64 * KB);
	struct segment *segment;
	struct restored r;
	struct pool next;
	unsigned at = 0;

	table_set_row(&t, 0, &row);
	row.flags |= ROW_EXPORTED;
	table_set_row(&t, 1, &row);
	s.segments[0] = region(64 * KB);
	s.segments[1] = region(64 * KB);
	s.keep.ops = &FOUND_OPS;
	assert_int_equal(pool_open(&next, &s.keep, &media_heap, &retired, LIMIT, WALL, &r), 0);
	assert_int_equal(
		pool_free(&next, next.chunks[0][0].id, row.generation, WALL, now, &segment), 0);
	assert_int_equal(
		pool_free(&next, next.chunks[0][1].id, row.generation, WALL, now, &segment),
		-EAGAIN);
	assert_int_equal(next.used_count, 1);
	/* Nor while somebody knows of views. */
	pool_hold_views(&next, JOB_A, true);
	assert_null(pool_view_over(&next, &at));
	pool_hold_views(&next, JOB_A, false);
	at = 0;
	assert_ptr_equal(pool_view_over(&next, &at), segment);
	pool_unpin(&next, segment, false, now);
	assert_int_equal(next.used_count, 0);
	pool_fini(&next, &media_heap);
	shelf_free(&s);
}

static void a_freed_segment_that_was_exported_says_so_to_a_successor(void **state)
{
	struct segment *segment;
	struct row row;

	ask(0, JOB_A);
	assert_int_equal(pool_export(&p, JOB_A, grants[0].segment, 1, now, &segment), 0);
	assert_int_equal(table_row(&p.table, segment->index, &row), 0);
	assert_true(row.flags == (ROW_USED | ROW_EXPORTED));
	free_one(0);
	assert_int_equal(table_row(&p.table, segment->index, &row), 0);
	assert_true(row.flags == ROW_EXPORTED);
	assert_int_equal(row.size, 64 * KB);
	assert_int_equal(row.generation, 2);
}

static void what_cannot_be_is_lost_and_never_used_again(void **state)
{
	static const struct row rows[] = {
		{ .generation = 5, .size = 65535, .back = 65535, .flags = ROW_USED, .job = JOB_A },
		{ .generation = 5, .size = 32768, .back = 32768, .flags = ROW_USED, .job = JOB_A },
		{ .generation = 5,
		  .size = 1u << 27,
		  .back = 1u << 27,
		  .flags = ROW_USED,
		  .job = JOB_A },
		{ .generation = 5, .size = 65536, .back = 65537, .flags = ROW_USED, .job = JOB_A },
		{ .generation = 5,
		  .size = 65536,
		  .front = 9,
		  .back = 8,
		  .flags = ROW_USED,
		  .job = JOB_A },
		{ .generation = 0, .size = 65536, .back = 65536, .flags = ROW_USED, .job = JOB_A },
		{ .generation = UINT32_MAX,
		  .size = 65536,
		  .back = 65536,
		  .flags = ROW_USED,
		  .job = JOB_A },
	};
	unsigned count = sizeof(rows) / sizeof(rows[0]);
	struct shelf s;
	struct table t = empty_table(&s, 8);
	struct restored r;
	struct pool next;

	for (unsigned i = 0; i < count; i++) {
		table_set_row(&t, i, &rows[i]);
		s.segments[i] = region(64 * KB);
	}
	r = successor(&s, LIMIT, &next);
	assert_int_equal(r.lost, count);
	assert_int_equal(r.count, 0);
	assert_int_equal(next.used_count, 0);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(next.chunks[0][i].generation, UINT32_MAX);
	/* They are on no list: a new one gets the next place. */
	work(&next, &media_heap, NULL);
	assert_int_equal(next.segment_count, count + 4);
	pool_fini(&next, &media_heap);
	shelf_free(&s);
}

static void more_than_the_limit_stays_and_raises_it(void **state)
{
	struct shelf s;
	struct table t = empty_table(&s, 2);
	struct row row = used_row(JOB_A, 8 * MB);
	struct restored r;
	struct pool next;

	table_set_row(&t, 0, &row);
	row.flags |= ROW_SEALED;
	row.front = 4 * MB;
	row.back = 8 * MB - 4096;
	row.sealed_ns = WALL + 5;
	table_set_row(&t, 1, &row);
	s.segments[0] = region(8 * MB);
	s.segments[1] = region(8 * MB);
	r = successor(&s, 4 * MB, &next);
	assert_int_equal(r.limit, 4 * MB);
	assert_int_equal(next.limit, 12 * MB + 4096);
	assert_int_equal(next.reserved, next.limit);
	/* 8 MiB from WALL on, 8 MiB for 5 ns, then half of it and a page. */
	assert_int_equal((uint64_t)book_integral(&next.book, WALL + 15),
			 15 * 8ull * MB + 5 * 8ull * MB + 10 * (4ull * MB + 4096));
	pool_fini(&next, &media_heap);
	shelf_free(&s);
}

static int no_punch(struct memory *m, size_t from, size_t to)
{
	return -EOPNOTSUPP;
}

/* A whole segment is there, whatever is used of it. */
static void what_the_machine_does_not_take_back_raises_the_limit_too(void **state)
{
	struct shelf s;
	struct table t = empty_table(&s, 1);
	struct row row = used_row(JOB_A, 8 * MB);
	struct media stuck = media_heap;
	struct restored r;
	struct pool next;

	row.flags |= ROW_SEALED;
	row.front = MB;
	row.sealed_ns = WALL + 5;
	table_set_row(&t, 0, &row);
	s.segments[0] = region(8 * MB);
	s.keep.ops = &FOUND_OPS;
	stuck.punch = no_punch;
	assert_int_equal(pool_open(&next, &s.keep, &stuck, &retired, 4 * MB, WALL, &r), 0);
	assert_int_equal(r.limit, 4 * MB);
	assert_int_equal(next.limit, 8 * MB);
	assert_int_equal(next.reserved, 8 * MB);
	pool_fini(&next, &media_heap);
	shelf_free(&s);
}

static void a_row_that_was_closed_is_not_closed_again(void **state)
{
	struct row row = used_row(JOB_A, 64 * KB);

	row.flags |= ROW_FREED;
	row.freed_ns = WALL + 7;
	for (int is_closed = 0; is_closed < 2; is_closed++) {
		struct closed closed = { .moments = row_book(&row).moments,
					 .index = 1,
					 .generation = row.generation };
		struct shelf s;
		struct table t = empty_table(&s, 2);
		struct pool next;

		/* Nor if another one is closed before it. */
		for (unsigned i = 0; i < 2; i++)
			table_set_row(&t, i, &row);
		if (is_closed)
			table_set_closed(&t, &closed);
		(void)successor(&s, LIMIT, &next);
		assert_int_equal((uint64_t)book_integral(&next.book, WALL + 1000), 2 * 7 * 64 * KB);
		assert_int_equal(next.chunks[0][1].generation, 6);
		pool_fini(&next, &media_heap);
		shelf_free(&s);
	}
}

static void what_is_no_table_is_a_new_pool(void **state)
{
	for (int i = 0; i < 6; i++) {
		struct shelf s;
		struct table t = empty_table(&s, 40);
		uint64_t *head = (uint64_t *)t.memory.ptr;
		struct restored r;
		struct pool next;

		if (i == 1)
			head[0]++; /* magic */
		if (i == 2)
			head[1]++; /* number */
		if (i == 3)
			head[2] += 1ull << 32; /* rows */
		if (i == 4)
			s.table.size = 4096; /* rows that are not there */
		if (i == 5)
			head[3]++; /* sum */
		r = successor(&s, LIMIT, &next);
		assert_int_equal(r.is_again, i == 0);
		assert_int_equal(next.number == 12345, i == 0);
		pool_fini(&next, &media_heap);
		shelf_free(&s);
	}
}

/* Any one byte of it is another: a row is as it was, or as it was before, or lost. */
static void one_wrong_byte_invents_nothing(void **state)
{
	struct shelf s;
	struct table t = empty_table(&s, 3);
	struct row first = used_row(JOB_A, 64 * KB), second;
	size_t used = 104 + 3 * 176;

	table_set_row(&t, 1, &first);
	second = first;
	second.flags |= ROW_SEALED;
	second.front = 4096;
	second.sealed_ns = WALL + 9;
	table_set_row(&t, 1, &second);
	s.segments[1] = region(64 * KB);
	for (size_t i = 0; i < used; i++) {
		struct restored r;
		struct pool next;

		t.memory.ptr[i] ^= 0x41;
		if (pool_open(&next, NULL, &media_heap, &retired, LIMIT, WALL, &r) == 0)
			pool_fini(&next, &media_heap);
		{
			struct shelf found = s;

			found.keep.ops = &FOUND_OPS;
			if (pool_open(&next, &found.keep, &media_heap, &retired, LIMIT, WALL, &r) ==
				    0 &&
			    r.is_again && r.count == 1) {
				const struct segment *g = &next.chunks[0][1];

				assert_int_equal(g->generation, 5);
				assert_int_equal(g->key, 77);
				assert_int_equal(g->job->id, JOB_A);
				assert_int_equal(g->size, 64 * KB);
				assert_int_equal(g->front, g->was_sealed ? 4096 : 0);
			}
			pool_fini(&next, &media_heap);
		}
		t.memory.ptr[i] ^= 0x41;
	}
	shelf_free(&s);
}

/* Each of its images that is there. */
static void spoil(struct table *t, const struct row *row)
{
	uint8_t *at = t->memory.ptr, *end = t->memory.ptr + t->memory.size;

	while ((at = memmem(at, (size_t)(end - at), &row->key, sizeof(row->key))) != NULL)
		*at++ ^= 0x41;
}

/* The first image may be half written when its writer is killed; of two, one is whole. */
static void a_row_is_none_or_lost_by_how_often_it_was_written(void **state)
{
	static const int expected[] = { -ENOENT, -EBADMSG, -EBADMSG };
	struct row row = used_row(JOB_A, 64 * KB), got;

	row.key = 0x123456789abcdef0;
	for (unsigned n = 0; n < 3; n++) {
		struct shelf s;
		struct table t = empty_table(&s, 3);

		for (unsigned i = 0; i <= n; i++)
			table_set_row(&t, 1, &row);
		assert_int_equal(table_row(&t, 1, &got), 0);
		spoil(&t, &row);
		assert_int_equal(table_row(&t, 1, &got), expected[n]);
		shelf_free(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			whatever_instruction_is_the_last_a_successor_has_all_of_a_request_or_nothing,
			setup, teardown),
		cmocka_unit_test(what_has_no_memory_is_lost_and_its_generation_goes_on),
		cmocka_unit_test(what_cannot_be_mapped_now_is_left_for_the_next_one),
		cmocka_unit_test(without_memory_all_is_left_for_the_next_one),
		cmocka_unit_test(what_was_exported_stays_so_or_is_punched),
		cmocka_unit_test(what_a_predecessor_had_exported_is_not_used_again_at_once),
		cmocka_unit_test_setup_teardown(
			a_freed_segment_that_was_exported_says_so_to_a_successor, setup, teardown),
		cmocka_unit_test(what_cannot_be_is_lost_and_never_used_again),
		cmocka_unit_test(more_than_the_limit_stays_and_raises_it),
		cmocka_unit_test(what_the_machine_does_not_take_back_raises_the_limit_too),
		cmocka_unit_test(a_row_that_was_closed_is_not_closed_again),
		cmocka_unit_test(what_is_no_table_is_a_new_pool),
		cmocka_unit_test(one_wrong_byte_invents_nothing),
		cmocka_unit_test(a_row_is_none_or_lost_by_how_often_it_was_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
