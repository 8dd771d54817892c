/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: memory for functions is given back, whenever whoever waits for it gives up. Method: a
 * helper that has done its work, and a fiber that is canceled in the turn that hears of it.
 */
#include "test.h"

#include <errno.h>
#include <unistd.h>

#include "base/container.h"
#include "proxy/proxy_priv.h"
#include "world.h"

struct waiter {
	struct fiber fiber;
	struct region *region;
	size_t size;
	int result;
	bool has_ended;
};

static struct proxy proxy;
static struct waiter waiter;

static void wait_for_region(struct fiber *self)
{
	struct waiter *w = container_of(self, struct waiter, fiber);

	w->result = region_new(&proxy, w->size, NULL, &w->region);
}

static void waiter_ended(struct fiber *self)
{
	container_of(self, struct waiter, fiber)->has_ended = true;
}

static void do_nothing(struct work *w)
{
}

static void cancel(struct work *w)
{
	fiber_cancel(&waiter.fiber);
}

static void start(size_t size)
{
	waiter = (struct waiter){ .size = size };
	assert_int_equal(fiber_start(&loop->fibers, &waiter.fiber, wait_for_region, waiter_ended),
			 0);
	(void)fibers_run(&loop->fibers, loop->now_ns); /* without a turn, which would hear */
}

static int setup(void **state)
{
	world_open(false);
	proxy = (struct proxy){ .loop = loop };
	assert_int_equal(helper_open(loop, "regions", &proxy.helper), 0);
	return 0;
}

static int teardown(void **state)
{
	helper_close(proxy.helper);
	world_close();
	return 0;
}

static void what_is_waited_for_is_there(void **state)
{
	start(4096);
	WAIT_FOR(waiter.has_ended);
	assert_int_equal(waiter.result, 0);
	assert_int_equal(waiter.region->memory.size, 4096);
	assert_int_equal(proxy.region_count, 1);
	region_free(waiter.region);
	WAIT_FOR(proxy.region_count == 0);
}

static void who_gives_up_before_it_is_made_leaves_nothing(void **state)
{
	start(4096);
	fiber_cancel(&waiter.fiber);
	WAIT_FOR(waiter.has_ended);
	assert_int_equal(waiter.result, -ECANCELED);
	WAIT_FOR(proxy.region_count == 0);
}

/* Both in one turn, before the fiber runs. */
static void who_gives_up_when_it_is_made_leaves_nothing(void **state)
{
	struct work first = { .run = do_nothing, .done = cancel };

	helper_do(proxy.helper, &first);
	start(4096);
	usleep(100000); /* the helper has done both, and nobody has heard of it */
	WAIT_FOR(waiter.has_ended);
	assert_int_equal(waiter.result, -ECANCELED);
	WAIT_FOR(proxy.region_count == 0);
}

static void what_cannot_be_made_leaves_nothing(void **state)
{
	start(1ull << 60);
	WAIT_FOR(waiter.has_ended);
	assert_int_equal(waiter.result, -ENOMEM);
	WAIT_FOR(proxy.region_count == 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(what_is_waited_for_is_there),
		T(who_gives_up_before_it_is_made_leaves_nothing),
		T(who_gives_up_when_it_is_made_leaves_nothing),
		T(what_cannot_be_made_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
