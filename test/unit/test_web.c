/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: connections of a foreign protocol are no more than may be, and of each that was accepted
 * it is said that it is gone, however it ends. Method: pairs, whose one end reads until there is
 * no more.
 */
#include "test.h"

#include <errno.h>

#include "base/container.h"
#include "proxy/web.h"
#include "world.h"

static struct proxy proxy;
static struct stream *clients[WEB_CONNS_MAX + 2];
static unsigned gone_count;

static void gone(void *owner)
{
	gone_count++;
}

static void ready(struct stream *s)
{
}

static void serve(struct fiber *self)
{
	struct web *w = container_of(self, struct web, fiber);

	w->is_serving = true;
	while (web_read(w, UINT64_MAX) > 0)
		;
}

static void read_half(struct fiber *self)
{
	(void)web_read(container_of(self, struct web, fiber), UINT64_MAX);
}

static void connect_to(unsigned i, fiber_fn *run)
{
	struct stream *ends[2];

	assert_int_equal(stream_pair(loop, 4096, ends), 0);
	clients[i] = ends[0];
	clients[i]->ready = ready;
	web_accept(&proxy, ends[1], run);
	turn_for(MS);
}

static bool is_closed(unsigned i)
{
	char byte;

	return stream_recv(clients[i], &byte, 1) != -EAGAIN;
}

static int setup(void **state)
{
	world_open(true);
	proxy = (struct proxy){ .loop = loop, .config = { .gone = gone } };
	list_init(&proxy.web_conns);
	memset(clients, 0, sizeof(clients));
	gone_count = 0;
	return 0;
}

static int teardown(void **state)
{
	for (unsigned i = 0; i < sizeof(clients) / sizeof(clients[0]); i++)
		stream_close(clients[i]);
	web_close_all(&proxy);
	turn_for(MS);
	world_close();
	return 0;
}

static void who_hangs_up_is_gone(void **state)
{
	connect_to(0, serve);
	assert_int_equal(gone_count, 0);
	stream_close(clients[0]);
	clients[0] = NULL;
	WAIT_FOR(gone_count == 1);
	assert_true(list_is_empty(&proxy.web_conns));
}

static void who_is_one_too_many_takes_the_place_of_the_oldest_that_is_idle(void **state)
{
	connect_to(0, serve);
	for (unsigned i = 1; i < 64; i++)
		connect_to(i, read_half);
	assert_int_equal(gone_count, 0);
	connect_to(64, serve);
	assert_int_equal(gone_count, 1);
	assert_true(is_closed(1));
	assert_false(is_closed(0) || is_closed(2) || is_closed(64));
}

static void where_all_are_served_there_is_no_place_for_another_one(void **state)
{
	for (unsigned i = 0; i < 64; i++)
		connect_to(i, serve);
	connect_to(64, serve);
	assert_int_equal(gone_count, 1);
	assert_true(is_closed(64));
	assert_false(is_closed(0));
}

static void where_there_is_no_fiber_there_is_no_place_either(void **state)
{
	loop->fibers.stack_count_max = 0;
	connect_to(0, serve);
	assert_int_equal(gone_count, 1);
	assert_true(is_closed(0));
	assert_true(list_is_empty(&proxy.web_conns));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(who_hangs_up_is_gone),
		T(who_is_one_too_many_takes_the_place_of_the_oldest_that_is_idle),
		T(where_all_are_served_there_is_no_place_for_another_one),
		T(where_there_is_no_fiber_there_is_no_place_either),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
