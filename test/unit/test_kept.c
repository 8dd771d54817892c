/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: when a proxy was killed, a view that a function has is of the bytes that it was begun with,
 * or the function finds that it is over, whatever memory the successor lacks. Method: a keeper with
 * the head of an index and the pins of a reader, which has one view; the core is a note of whether
 * it gives back what functions view.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "core/core_priv.h"
#include "proxy/index.h"
#include "shm/index_priv.h"
#include "world.h"

#define JOB    71
#define READER 5
#define VIEWED 3 /* the number of its mapping */

/* The keeper: what is there, and a region that cannot be mapped. */
enum { HEAD, PINS, SHELF };
static struct {
	struct keep_name name;
	struct memory memory;
	_Atomic bool is_there; /* the helper drops what was found */
} shelf[SHELF];
static struct keep_name unmapped;

static void shelf_drop(struct keep *k, struct keep_name name)
{
	for (unsigned i = 0; i < SHELF; i++)
		if (shelf[i].name.kind == name.kind)
			shelf[i].is_there = false;
}

static bool shelf_find(struct keep *k, struct keep_name from, struct keep_name *ret)
{
	for (unsigned i = 0; i < SHELF; i++) {
		*ret = shelf[i].name;
		if (shelf[i].is_there && ret->kind == from.kind && ret->owner == from.owner &&
		    ret->number >= from.number)
			return true;
	}
	return false;
}

static int shelf_take(struct keep *k, struct keep_name name, struct memory *ret)
{
	for (unsigned i = 0; i < SHELF; i++)
		if (shelf[i].is_there && shelf[i].name.kind == name.kind)
			return name.kind == unmapped.kind
				       ? -ENOMEM
				       : memory_adopt(fcntl(shelf[i].memory.fd, F_DUPFD_CLOEXEC, 0),
						      ret);
	return -ENOENT;
}

static int shelf_put(struct keep *k, struct keep_name name, const struct memory *m)
{
	return -ENOSPC;
}

static const struct keep_ops SHELF_OPS = {
	.put = shelf_put, .drop = shelf_drop, .find = shelf_find, .take = shelf_take
};
static struct keep keep = { .ops = &SHELF_OPS };

static struct proxy proxy;
static struct core core;
static struct reach_ops reach_ops;
static bool is_held;
static uint32_t life; /* when the proxy was killed */

static void note_held(struct reach *r, uint64_t job, bool held)
{
	assert_int_equal(job, JOB);
	is_held = held;
}

static struct index_head *head(void)
{
	return (struct index_head *)(void *)shelf[HEAD].memory.ptr;
}

static void make(unsigned i, struct keep_name name)
{
	assert_int_equal(media_memfd.make(INDEX_HEAD_BYTES, &shelf[i].memory), 0);
	assert_int_equal(media_memfd.fill(&shelf[i].memory, 0, INDEX_HEAD_BYTES), 0);
	shelf[i].name = name;
	shelf[i].is_there = true;
}

/* What a proxy leaves that is killed. */
static void fill_shelf(void)
{
	struct index_writer x;
	struct memory table;
	struct pins pins;

	make(HEAD, (struct keep_name){ KEEP_INDEX, 0, JOB });
	make(PINS, (struct keep_name){ KEEP_PINS, 0, READER });
	assert_int_equal(media_memfd.make(INDEX_TABLE_BYTES_FIRST, &table), 0);
	assert_int_equal(media_memfd.fill(&table, 0, table.size), 0);
	assert_int_equal(index_writer_open(&x, head(), INDEX_HEAD_BYTES, table.ptr, table.size, 1),
			 0);
	pins = pins_of(shelf[PINS].memory.ptr, INDEX_HEAD_BYTES);
	pins_take(&pins, VIEWED);
	life = head()->lives[VIEWED];
	index_writer_close(&x);
	media_memfd.free(&table);
}

/* True if a function can tell that its view is over, or it is not. */
static bool view_is_right(void)
{
	return is_held || head()->lives[VIEWED] != life;
}

static void begin_proxy(void)
{
	is_held = false;
	reach_ops.hold_views = note_held;
	core = (struct core){ .loop = loop, .config = { .reach_ops = &reach_ops } };
	proxy = (struct proxy){ .loop = loop,
				.core = &core,
				.config = { .keep = &keep,
					    .rings_max = 4,
					    .indexes_max = 2,
					    .index_bytes_max = 1u << 20 } };
	list_init(&proxy.left_regions);
	indexes_init(&proxy);
}

static void end_proxy(void)
{
	proxy.is_stopping = true;
	indexes_stop(&proxy);
	WAIT_FOR(proxy.region_count == 0);
	assert_int_equal(proxy.index_count, 0);
	assert_int_equal(proxy.index_bytes, 0);
	if (proxy.helper)
		helper_close(proxy.helper);
	media_memfd.free(&shelf[HEAD].memory);
	media_memfd.free(&shelf[PINS].memory);
}

static int setup(void **state)
{
	world_open(false);
	unmapped = (struct keep_name){ 0 };
	fill_shelf();
	begin_proxy();
	return 0;
}

static int teardown(void **state)
{
	end_proxy();
	world_close();
	return 0;
}

static void a_view_goes_on(void **state)
{
	indexes_restore(&proxy);
	assert_true(is_held);
	assert_int_equal(head()->lives[VIEWED], life);
}

static void a_view_without_pins_is_over(void **state)
{
	unmapped = shelf[PINS].name;
	indexes_restore(&proxy);
	assert_true(view_is_right());
}

static void a_view_whose_head_cannot_be_mapped_is_held(void **state)
{
	unmapped = shelf[HEAD].name;
	indexes_restore(&proxy);
	assert_true(view_is_right());
}

static void a_view_is_right_whatever_memory_is_lacking(void **state)
{
	struct node failing = { .fail_countdown = 0 };
	uint64_t n = 0;

	for (;;) {
		node_current = &failing;
		failing.fail_countdown = ++n;
		indexes_restore(&proxy);
		node_current = NULL;
		if (!view_is_right())
			fail_msg("allocation %d: the view is not held, and not over", (int)n);
		if (failing.fail_countdown > 0)
			break;
		end_proxy();
		fill_shelf();
		begin_proxy();
	}
	assert_true(n > 6);
	assert_true(is_held);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(a_view_goes_on),
		T(a_view_without_pins_is_over),
		T(a_view_whose_head_cannot_be_mapped_is_held),
		T(a_view_is_right_whatever_memory_is_lacking),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
