/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: which job a uid's processes may have memory of is known to every successor of a proxy, or
 * that one does not begin. Method: proxies one after the other over a keeper for one region, whose
 * memory may fail them at any point.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "proxy/proxy_priv.h"
#include "proxy/who.h"
#include "world.h"

/* The keeper. */
static int kept = -1, take_result;

static int shelf_make(struct keep *k, size_t size, struct memory *ret)
{
	return media_memfd.make(size, ret);
}

static int shelf_put(struct keep *k, struct keep_name name, const struct memory *m)
{
	if (kept >= 0)
		close(kept);
	kept = fcntl(m->fd, F_DUPFD_CLOEXEC, 0);
	return 0;
}

static void shelf_drop(struct keep *k, struct keep_name name)
{
	fail_msg("nothing of it is dropped");
}

static bool shelf_find(struct keep *k, struct keep_name from, struct keep_name *ret)
{
	return false;
}

static int shelf_take(struct keep *k, struct keep_name name, struct memory *ret)
{
	if (take_result < 0 || kept < 0)
		return take_result < 0 ? take_result : -ENOENT;
	return memory_adopt(fcntl(kept, F_DUPFD_CLOEXEC, 0), ret);
}

static const struct keep_ops SHELF_OPS = { .make = shelf_make,
					   .put = shelf_put,
					   .drop = shelf_drop,
					   .find = shelf_find,
					   .take = shelf_take };
static struct keep shelf = { .ops = &SHELF_OPS };

static struct net *net;
static struct proxy *proxy;

static int open_proxy(void)
{
	struct proxy_config config = { .keep = &shelf };

	return proxy_open(net, &config, &proxy);
}

static void close_proxy(void)
{
	proxy_stop(proxy);
	assert_true(proxy_has_stopped(proxy));
	proxy_close(proxy);
}

static void is_bound(uint32_t uid, uint64_t job)
{
	const struct uid_job *u = uid_find(proxy, uid);

	assert_int_equal(u ? u->job : 0, job);
}

static int setup(void **state)
{
	world_open(false);
	assert_int_equal(net_open(loop, &net), 0);
	assert_int_equal(open_proxy(), 0);
	assert_int_equal(uid_bind(proxy, 1001, 71), 0);
	assert_int_equal(uid_bind(proxy, 1002, 72), 0);
	assert_int_equal(uid_bind(proxy, 1003, 73), 0);
	uids_job_over(proxy, 72);
	close_proxy();
	return 0;
}

static int teardown(void **state)
{
	close_proxy();
	close(kept);
	kept = -1;
	net_close(net);
	world_close();
	return 0;
}

static void all_are_there(void)
{
	is_bound(1001, 71);
	is_bound(1002, 0);
	is_bound(1003, 73);
}

static void a_successor_knows_them(void **state)
{
	assert_int_equal(open_proxy(), 0);
	all_are_there();
	uids_job_over(proxy, 71);
	close_proxy();
	assert_int_equal(open_proxy(), 0);
	is_bound(1001, 0);
	is_bound(1003, 73);
}

static void without_memory_for_them_there_is_no_proxy(void **state)
{
	struct node failing = { .fail_countdown = 0 };
	uint64_t n = 0;
	int r;

	do {
		node_current = &failing;
		failing.fail_countdown = ++n;
		r = open_proxy();
		node_current = NULL;
		assert_int_equal(r, failing.fail_countdown == 0 ? -ENOMEM : 0);
	} while (r < 0);
	assert_int_equal(n, 4);
	all_are_there();
}

static void what_cannot_be_mapped_now_is_left_to_the_next(void **state)
{
	static const int ERRORS[] = { -ENOMEM, -EMFILE, -ENFILE };

	for (unsigned i = 0; i < 3; i++) {
		take_result = ERRORS[i];
		assert_int_equal(open_proxy(), ERRORS[i]);
	}
	take_result = 0;
	assert_int_equal(open_proxy(), 0);
	all_are_there();
}

/* Whoever wants to map something asks for it anew. */
static void who_cannot_be_bound_maps_nothing(void **state)
{
	struct node failing = { .fail_countdown = 1 };

	assert_int_equal(open_proxy(), 0);
	node_current = &failing;
	assert_int_equal(uid_bind(proxy, 1004, 74), -EUSERS);
	failing.fail_countdown = 1;
	uid_ask_whether_over(proxy, 71);
	node_current = NULL;
	assert_false(proxy->is_asking_of_uid);
	is_bound(1004, 0);
	assert_int_equal(uid_bind(proxy, 1004, 74), 0);
	all_are_there();
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(a_successor_knows_them),
		T(without_memory_for_them_there_is_no_proxy),
		T(what_cannot_be_mapped_now_is_left_to_the_next),
		T(who_cannot_be_bound_maps_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
