/* SPDX-License-Identifier: Apache-2.0 */
/* What others map after it was given back: this process maps it as a function would. */
#include "test.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/limits.h"
#include "shm/retired.h"

#define SIZE (16u * SEGMENT_PAGE)

static struct retired r;

/* A region of somebody's, with all its pages. */
static struct memory make(void)
{
	struct memory m;

	assert_int_equal(media_memfd.make(SIZE, &m), 0);
	assert_int_equal(media_memfd.fill(&m, 0, SIZE), 0);
	return m;
}

/* What a function has of it, until munmap(). */
static volatile uint8_t *map(const struct memory *m, bool is_to_write)
{
	int fd = is_to_write ? memory_export_to_write(m) : memory_export(m);
	int rights = is_to_write ? PROT_READ | PROT_WRITE : PROT_READ;
	void *p = mmap(NULL, SIZE, rights, MAP_SHARED, fd, 0);

	assert_true(fd >= 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	close(fd);
	return p;
}

static void unmap(volatile uint8_t *p)
{
	assert_int_equal(munmap((void *)p, SIZE), 0);
}

static void retire(struct memory *m)
{
	assert_int_equal(media_memfd.punch(m, 0, SIZE), 0);
	retired_add(&r, &media_memfd, m);
	assert_null(m->ptr);
}

/* A keeper, for a few regions: it has the very descriptions that it is given. */
#define KEPT 8

static struct {
	struct keep_name name;
	int fd; /* -1: none */
	bool is_found;
} kept[KEPT];

static int keeper_put(struct keep *k, struct keep_name name, const struct memory *m)
{
	for (unsigned i = 0; i < KEPT; i++) {
		if (kept[i].fd >= 0)
			continue;
		kept[i].name = name;
		kept[i].fd = dup(m->fd);
		return 0;
	}
	return -ENOSPC;
}

static void keeper_drop(struct keep *k, struct keep_name name)
{
	for (unsigned i = 0; i < KEPT; i++) {
		if (kept[i].fd < 0 || kept[i].name.number != name.number)
			continue;
		close(kept[i].fd);
		kept[i].fd = -1;
	}
}

static bool keeper_find(struct keep *k, struct keep_name from, struct keep_name *ret)
{
	bool is_there = false;

	for (unsigned i = 0; i < KEPT; i++) {
		if (kept[i].fd < 0 || !kept[i].is_found || kept[i].name.number < from.number ||
		    (is_there && kept[i].name.number > ret->number))
			continue;
		*ret = kept[i].name;
		is_there = true;
	}
	return is_there;
}

static int keeper_take(struct keep *k, struct keep_name name, struct memory *ret)
{
	for (unsigned i = 0; i < KEPT; i++) {
		if (kept[i].fd < 0 || kept[i].name.number != name.number)
			continue;
		kept[i].is_found = false;
		return memory_adopt(dup(kept[i].fd), ret);
	}
	return -ENOENT;
}

static const struct keep_ops KEEPER_OPS = {
	.put = keeper_put, .drop = keeper_drop, .find = keeper_find, .take = keeper_take
};
static struct keep the_keeper = { .ops = &KEEPER_OPS };

static unsigned kept_count(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < KEPT; i++)
		n += kept[i].fd >= 0;
	return n;
}

static void kill_and_begin_anew(void)
{
	retired_fini(&r);
	for (unsigned i = 0; i < KEPT; i++)
		kept[i].is_found = kept[i].fd >= 0;
	retired_init(&r, &the_keeper);
}

static int setup(void **state)
{
	for (unsigned i = 0; i < KEPT; i++)
		kept[i].fd = -1;
	retired_init(&r, NULL);
	return 0;
}

static int teardown(void **state)
{
	retired_fini(&r);
	assert_int_equal(r.tally.count, 0);
	return 0;
}

static void what_nobody_maps_is_freed_at_once(void **state)
{
	struct memory m = make(), plain;

	retire(&m);
	assert_int_equal(r.tally.count, 0);
	/* A region that was never given away, and memory that nobody could be given. */
	assert_int_equal(media_heap.make(SIZE, &plain), 0);
	retired_add(&r, &media_heap, &plain);
	assert_int_equal(r.tally.count, 0);
	assert_int_equal(r.tally.let_go_count, 0);
}

static void what_is_touched_again_is_punched_again(void **state)
{
	struct memory m = make();
	volatile uint8_t *reader = map(&m, false), *writer = map(&m, true);

	retire(&m);
	assert_int_equal(r.tally.count, 1);
	assert_true(retired_look(&r, SIZE));
	assert_int_equal(r.tally.lingering_bytes, 0);
	/* To read is to touch. */
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(reader[i * SEGMENT_PAGE], 0);
	assert_true(retired_look(&r, SIZE));
	assert_int_equal(r.tally.lingering_bytes, 3 * SEGMENT_PAGE);
	writer[SIZE - 1] = 7;
	assert_int_equal(reader[SIZE - 1], 7);
	assert_true(retired_look(&r, SIZE));
	assert_int_equal(r.tally.lingering_bytes, SEGMENT_PAGE);
	assert_int_equal(r.tally.punched_bytes, 4 * SEGMENT_PAGE);
	assert_true(retired_look(&r, SIZE));
	assert_int_equal(r.tally.lingering_bytes, 0);
	assert_int_equal(reader[SIZE - 1], 0);
	unmap(writer);
	unmap(reader);
}

static void it_is_watched_until_nobody_holds_it(void **state)
{
	struct memory m = make();
	volatile uint8_t *reader = map(&m, false), *writer = map(&m, true);
	int fd = memory_export(&m);

	retire(&m);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(retired_look(&r, SIZE));
		assert_int_equal(r.tally.count, 1);
		if (i == 0)
			unmap(writer);
		else if (i == 1)
			unmap(reader);
		else
			close(fd);
	}
	assert_true(retired_look(&r, SIZE));
	assert_int_equal(r.tally.count, 0);
	assert_int_equal(r.tally.let_go_count, 0);
}

/* What a keeper has is the description that memfd_create() made: it is dropped there first, but
 * that takes its time. */
static void a_keeper_is_nobody_who_touches_it(void **state)
{
	struct memory m = make();
	int keeper = dup(m.fd);

	assert_true(keeper >= 0);
	retire(&m);
	assert_int_equal(r.tally.count, 0);
	close(keeper);
}

static void a_look_is_short_and_goes_on(void **state)
{
	struct memory m[3];
	volatile uint8_t *writers[3];

	for (unsigned i = 0; i < 3; i++) {
		m[i] = make();
		writers[i] = map(&m[i], true);
		retire(&m[i]);
		writers[i][0] = 1;
	}
	assert_false(retired_look(&r, SEGMENT_PAGE));
	assert_int_equal(writers[0][0], 0);
	assert_int_equal(writers[1][0], 1);
	/* One that goes meanwhile is not looked for, and nobody is left out for it. */
	unmap(writers[1]);
	assert_true(retired_look(&r, SEGMENT_PAGE));
	assert_int_equal(writers[2][0], 0);
	assert_int_equal(r.tally.lingering_bytes, 2 * SEGMENT_PAGE);
	assert_int_equal(r.tally.count, 2);
	unmap(writers[0]);
	unmap(writers[2]);
}

static void a_successor_goes_on_watching(void **state)
{
	volatile uint8_t *writers[3];
	struct memory m;

	retired_init(&r, &the_keeper);
	for (unsigned i = 0; i < 3; i++) {
		m = make();
		writers[i] = map(&m, true);
		retire(&m);
	}
	assert_int_equal(kept_count(), 3);
	writers[0][0] = writers[1][0] = 1;
	unmap(writers[2]); /* while nobody looks */
	kill_and_begin_anew();
	assert_int_equal(r.tally.count, 2);
	assert_int_equal(kept_count(), 2);
	assert_true(retired_look(&r, 2 * SIZE));
	assert_int_equal(r.tally.lingering_bytes, 2 * SEGMENT_PAGE);
	assert_int_equal(writers[0][0], 0);
	assert_int_equal(writers[1][0], 0);
	/* What comes later has a name of its own, and all go when nobody holds them. */
	m = make();
	writers[2] = map(&m, true);
	retire(&m);
	kill_and_begin_anew();
	assert_int_equal(r.tally.count, 3);
	for (unsigned i = 0; i < 3; i++)
		unmap(writers[i]);
	assert_true(retired_look(&r, SIZE));
	assert_int_equal(r.tally.count, 0);
	assert_int_equal(kept_count(), 0);
	assert_int_equal(r.tally.let_go_count, 0);
}

/* A process with few descriptors watches fewer. */
static void the_oldest_is_pushed_out(void **state)
{
	struct rlimit before, few;
	volatile uint8_t *writers[5];

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = before;
	few.rlim_cur = 4 * 16;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	retired_init(&r, NULL);
	assert_int_equal(r.most, 4);
	for (unsigned i = 0; i < 5; i++) {
		struct memory m = make();

		writers[i] = map(&m, true);
		retire(&m);
		writers[i][0] = 1;
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(r.tally.count, 4);
	assert_int_equal(r.tally.let_go_count, 1);
	assert_true(retired_look(&r, SIZE));
	assert_int_equal(writers[0][0], 1);
	for (unsigned i = 1; i < 5; i++)
		assert_int_equal(writers[i][0], 0);
	for (unsigned i = 0; i < 5; i++)
		unmap(writers[i]);
}

static void there_are_never_more_than_the_limit(void **state)
{
	struct rlimit files;

	assert_int_equal(RETIRED_MAX, 1024);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	assert_int_equal(r.most, files.rlim_cur / 16 < 1024 ? files.rlim_cur / 16 : 1024);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_nobody_maps_is_freed_at_once),
		TEST(what_is_touched_again_is_punched_again),
		TEST(it_is_watched_until_nobody_holds_it),
		TEST(a_keeper_is_nobody_who_touches_it),
		TEST(a_look_is_short_and_goes_on),
		TEST(a_successor_goes_on_watching),
		TEST(the_oldest_is_pushed_out),
		TEST(there_are_never_more_than_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
