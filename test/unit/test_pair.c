/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what is true of a pair alone, beside what test_stream holds for all streams:
 * it is exact about its room, and tells nobody anything twice or for nothing.
 * Method: the test turns the loop by hand and counts.
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include "loop/stream.h"
#include "world.h"

static struct stream *ends[2];
static unsigned ready_counts[2];

static void ready(struct stream *s)
{
	ready_counts[s == ends[1]]++;
}

static void turn(void)
{
	assert_int_equal(loop_turn(loop, 0), 0);
}

static void expect_ready(unsigned a, unsigned b)
{
	turn();
	turn();
	assert_int_equal(ready_counts[0], a);
	assert_int_equal(ready_counts[1], b);
	ready_counts[0] = ready_counts[1] = 0;
}

static ssize_t send_bytes(int from, const void *bytes, size_t len)
{
	struct iovec iov = { (void *)bytes, len };

	return stream_send(ends[from], &iov, 1);
}

static int setup(void **state)
{
	world_open(false);
	assert_int_equal(stream_pair(loop, 16, ends), 0);
	ends[0]->ready = ends[1]->ready = ready;
	ready_counts[0] = ready_counts[1] = 0;
	return 0;
}

static int teardown(void **state)
{
	stream_close(ends[0]);
	stream_close(ends[1]);
	turn();
	world_close();
	return 0;
}

static void both_are_told_ready_once_at_the_beginning(void **state)
{
	char c;

	assert_int_equal(ready_counts[0] + ready_counts[1], 0);
	assert_int_equal(stream_recv(ends[0], &c, 1), -EAGAIN);
	assert_ptr_equal(ends[0]->other, ends[1]);
	assert_ptr_equal(ends[1]->other, ends[0]);
	expect_ready(1, 1);
	expect_ready(0, 0);
}

static void it_takes_what_there_is_room_for_and_not_a_byte_more(void **state)
{
	char buf[32];

	expect_ready(1, 1);
	assert_int_equal(send_bytes(0, "0123456789", 10), 10);
	assert_int_equal(send_bytes(0, "abcdefghij", 10), 6);
	assert_int_equal(send_bytes(0, "x", 1), -EAGAIN);
	expect_ready(0, 1); /* for both sends together */
	assert_int_equal(stream_recv(ends[1], buf, 3), 3);
	expect_ready(1, 0); /* there is room again */
	assert_int_equal(stream_recv(ends[1], buf + 3, sizeof(buf) - 3), 13);
	assert_memory_equal(buf, "0123456789abcdef", 16);
	expect_ready(0, 0); /* nobody waited for that room */
	assert_int_equal(stream_recv(ends[1], buf, sizeof(buf)), -EAGAIN);
}

static void bytes_go_round_the_ring(void **state)
{
	uint8_t sent = 0, expected = 0;

	for (int i = 0; i < 1000; i++) {
		uint8_t bytes[11], buf[11];
		ssize_t r;

		for (size_t j = 0; j < sizeof(bytes); j++)
			bytes[j] = sent++;
		assert_int_equal(send_bytes(1, bytes, sizeof(bytes)), sizeof(bytes));
		r = stream_recv(ends[0], buf, (size_t)(1 + i % 11));
		while (r > 0) {
			for (ssize_t j = 0; j < r; j++)
				assert_int_equal(buf[j], expected++);
			r = stream_recv(ends[0], buf, sizeof(buf));
		}
		assert_int_equal(r, -EAGAIN);
	}
	assert_int_equal(sent, expected);
}

static void what_was_sent_before_the_end_can_be_read_after_it(void **state)
{
	char buf[8];

	expect_ready(1, 1);
	assert_int_equal(send_bytes(0, "last", 4), 4);
	stream_close(ends[0]);
	ends[0] = NULL;
	assert_null(ends[1]->other);
	expect_ready(0, 1);
	assert_int_equal(stream_recv(ends[1], buf, sizeof(buf)), 4);
	assert_memory_equal(buf, "last", 4);
	assert_int_equal(stream_recv(ends[1], buf, sizeof(buf)), 0);
	assert_int_equal(stream_recv(ends[1], buf, sizeof(buf)), 0);
	assert_int_equal(send_bytes(1, "x", 1), -EPIPE);
	expect_ready(0, 0);
}

static void who_closed_while_it_waited_for_room_is_not_told_of_it(void **state)
{
	char buf[32];

	expect_ready(1, 1);
	assert_int_equal(send_bytes(0, "0123456789abcdefgh", 18), 16);
	stream_close(ends[0]);
	ends[0] = NULL;
	assert_int_equal(stream_recv(ends[1], buf, sizeof(buf)), 16);
	expect_ready(0, 1);
}

static void no_memory_is_an_error_and_leaves_nothing(void **state)
{
	struct stream *more[2] = { NULL, NULL };

	for (uint64_t n = 1; n <= 2; n++) {
		struct node failing = { .fail_countdown = n };

		node_current = &failing;
		assert_int_equal(stream_pair(loop, 16, more), -ENOMEM);
		node_current = NULL;
		assert_null(more[0]);
	}
	expect_ready(1, 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(both_are_told_ready_once_at_the_beginning),
		T(it_takes_what_there_is_room_for_and_not_a_byte_more),
		T(bytes_go_round_the_ring),
		T(what_was_sent_before_the_end_can_be_read_after_it),
		T(who_closed_while_it_waited_for_room_is_not_told_of_it),
		T(no_memory_is_an_error_and_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
