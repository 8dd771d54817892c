/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instrument measures a target whose latency is known: what it reports must be within
 * 1 % of that. The target serves one request after the other on a clock of its own, which
 * every look at it moves on a little, and stalls when it is told to. Another one answers
 * over real sockets.
 */
#include "bench/worker.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/node.h"
#include "bench/first.h"
#include "test.h"

#define US 1000ull
#define MS 1000000ull

/* The clock. */

static uint64_t clock_ns;

static uint64_t fake_now(struct node *n)
{
	return clock_ns += 20;
}

static struct node fake_node = { .now_ns = fake_now };

/* The target. */

struct target {
	struct client client;
	uint64_t connect_ns;
	uint64_t latency_ns, stall_ns, stall_at; /* the request of this number takes stall_ns */
	uint64_t served, free_ns;
	uint64_t ends_ns[BENCH_DEPTH_MAX];
	int64_t result;
};
static struct target target;

static int fake_begin(struct client *c, struct request *rq)
{
	uint64_t from_ns = target.free_ns > clock_ns ? target.free_ns : clock_ns;

	target.free_ns =
		from_ns + (target.served == target.stall_at ? target.stall_ns : target.latency_ns);
	target.ends_ns[(c->head + c->count) % BENCH_DEPTH_MAX] = target.free_ns;
	target.served++;
	client_push(c, rq);
	return 0;
}

static int fake_flush(struct client *c)
{
	return 0;
}

static int fake_turn(struct client *c, uint64_t due_ns)
{
	uint64_t end_ns = c->count ? target.ends_ns[c->head] : UINT64_MAX;

	if (end_ns > due_ns) {
		if (clock_ns < due_ns)
			clock_ns = due_ns;
		return 0;
	}
	if (clock_ns < end_ns)
		clock_ns = end_ns;
	client_pop(c, target.result);
	return 1;
}

static int fake_fd(struct client *c)
{
	return -1;
}

static void fake_close(struct client *c)
{
}

static const struct client_ops FAKE_CLIENT = { fake_begin, fake_flush, fake_turn, fake_fd,
					       fake_close };

static int fake_connect(struct peer *p, const struct client_how *how, struct client **ret)
{
	clock_ns += target.connect_ns;
	target.client.ops = &FAKE_CLIENT;
	*ret = &target.client;
	return 0;
}

/* A process takes 3 ms to be there, 200 us of them are for its first object; to end takes it one
 * more. */
static int fake_first(struct peer *p, const char *key, size_t len, struct first_times *ret)
{
	clock_ns += 4 * MS;
	*ret = (struct first_times){ .open_ns = 200 * US, .start_ns = 3 * MS };
	return 0;
}

static const struct peer_ops FAKE = {
	.name = "fake", .ops = ~0u, .connect = fake_connect, .first = fake_first
};
static struct peer fake_peer = { .ops = &FAKE };

static struct tally *measure(struct load load, uint64_t slice_ns)
{
	static struct tally tally;
	static uint64_t by_client[16];
	struct worker w = { .peer = &fake_peer, .load = load, .tally = &tally, .epoll_fd = -1 };

	memset(&tally, 0, sizeof(tally));
	memset(by_client, 0, sizeof(by_client));
	tally.by_client = by_client;
	w.slice_ns = slice_ns;
	node_current = &fake_node;
	worker_open(&w);
	worker_slice(&w);
	node_current = NULL;
	worker_close(&w);
	assert_string_equal(w.error, "");
	assert_int_equal(w.result, 0);
	assert_int_equal(by_client[0], tally.count);
	return &tally;
}

static struct load load_of(enum bench_op op)
{
	return (struct load){ .op = op,
			      .other_op = op,
			      .size = 1000,
			      .clients = 1,
			      .depth = 1,
			      .key_count = 7,
			      .prefix = "k" };
}

static void target_set(uint64_t latency_ns, uint64_t stall_at, uint64_t stall_ns)
{
	clock_ns = 5000 * MS;
	target = (struct target){
		.latency_ns = latency_ns, .stall_at = stall_at, .stall_ns = stall_ns, .result = 1000
	};
}

static bool is_near(double got, double expected)
{
	if (fabs(got - expected) <= 0.01 * expected)
		return true;
	print_message("got %g, expected %g\n", got, expected);
	return false;
}

static double us_at(const struct tally *t, double share)
{
	return (double)histogram_at(&t->latency, share) / 1e3;
}

/* The tests. */

static void one_after_the_other_has_the_target_s_own_latency(void **state)
{
	const struct tally *t;

	target_set(100 * US, UINT64_MAX, 0);
	t = measure(load_of(BENCH_GET), 1000 * MS);
	assert_true(is_near(us_at(t, 0.5), 100));
	assert_true(is_near(us_at(t, 0.999), 100));
	assert_true(is_near((double)t->count, 10000));
	assert_true(is_near((double)t->bytes, 10000000));
	assert_true(is_near((double)t->elapsed_ns, 1e9));
}

static void a_client_that_is_opened_for_it_is_part_of_a_request(void **state)
{
	struct load load = load_of(BENCH_GET);
	const struct tally *t;

	load.by = LOAD_OPENED;
	target_set(100 * US, UINT64_MAX, 0);
	target.connect_ns = 30 * US;
	t = measure(load, 1000 * MS);
	assert_true(is_near(us_at(t, 0.5), 130));
	assert_true(is_near((double)t->count, 1e6 / 130));
}

static void a_fresh_process_is_timed_from_its_handle_or_from_its_start(void **state)
{
	struct load load = load_of(BENCH_GET);
	const struct tally *t;

	load.by = LOAD_COLD;
	target_set(100 * US, UINT64_MAX, 0);
	t = measure(load, 1000 * MS);
	assert_true(is_near(us_at(t, 0.5), 200));
	assert_int_equal(t->count, 250);
	load.by = LOAD_STARTED;
	t = measure(load, 1000 * MS);
	assert_true(is_near(us_at(t, 0.5), 3000));
}

static void a_stall_is_the_maximum_and_costs_throughput(void **state)
{
	const struct tally *t;

	target_set(100 * US, 5000, 250 * MS);
	t = measure(load_of(BENCH_GET), 1000 * MS);
	assert_true(is_near(us_at(t, 0.5), 100));
	assert_true(is_near(us_at(t, 0.999), 100));
	assert_true(is_near((double)t->latency.max, 250e6));
	assert_true(is_near((double)t->count, 7500));
}

static void a_stall_at_the_end_is_waited_for(void **state)
{
	const struct tally *t;

	target_set(100 * US, 9000, 400 * MS);
	t = measure(load_of(BENCH_PUT), 1000 * MS);
	assert_true(is_near((double)t->latency.max, 400e6));
	assert_true(is_near((double)t->elapsed_ns, 1.3e9));
}

/*
 * A thousand a second, and a stall of 100 ms: who was due k ms after its beginning is answered
 * k * 0.1 ms after its end, so 100 - 0.9 k ms late, for the next 111; the others take 0.1 ms.
 */
static void with_a_rate_all_who_were_due_in_a_stall_have_waited(void **state)
{
	struct load load = load_of(BENCH_GET);
	const struct tally *t;
	double sum = 0;

	load.rate = 1000;
	target_set(100 * US, 500, 100 * MS);
	t = measure(load, 1000 * MS);
	assert_int_equal(t->count, 1000);
	for (int k = 0; k < 1000; k++)
		sum += k < 111 ? 100000 - 900.0 * k : 100;
	assert_true(is_near((double)t->latency.sum / 1e3, sum));
	assert_true(is_near(us_at(t, 0.5), 100));
	assert_true(is_near(us_at(t, 0.95), 100000 - 900 * 50));
	assert_true(is_near(us_at(t, 0.99), 100000 - 900 * 10));
	assert_true(is_near((double)t->latency.max, 100e6));
}

/* The last of ten is due a tenth of a second before the end, and answered at once. */
static void a_rate_is_of_all_the_time_that_it_was_asked_for(void **state)
{
	struct load load = load_of(BENCH_GET);
	const struct tally *t;

	load.rate = 10;
	target_set(100 * US, UINT64_MAX, 0);
	t = measure(load, 1000 * MS);
	assert_int_equal(t->count, 10);
	assert_true(is_near((double)t->elapsed_ns, 1e9));
}

static void what_moves_no_bytes_is_counted_without_them(void **state)
{
	const struct tally *t;

	target_set(100 * US, UINT64_MAX, 0);
	t = measure(load_of(BENCH_STAT), 10 * MS);
	assert_true(t->count > 0);
	assert_int_equal(t->bytes, 0);
}

/* Of one request each: the first takes 3 ms, the second 2. */
static void a_slice_has_its_own_times(void **state)
{
	static struct tally tally;
	static uint64_t by_client[1];
	struct worker w = { .peer = &fake_peer,
			    .load = load_of(BENCH_GET),
			    .tally = &tally,
			    .epoll_fd = -1,
			    .slice_ns = 1 * MS };

	tally.by_client = by_client;
	target_set(2 * MS, 0, 3 * MS);
	node_current = &fake_node;
	worker_open(&w);
	worker_slice(&w);
	worker_slice(&w);
	node_current = NULL;
	worker_close(&w);
	assert_int_equal(tally.slice.count, 1);
	assert_true(is_near((double)histogram_at(&tally.slice, 0.5), 2e6));
	assert_int_equal(tally.latency.count, 2);
	assert_true(is_near((double)tally.latency.max, 3e6));
}

static void in_flight_together_they_wait_for_each_other(void **state)
{
	struct load load = load_of(BENCH_GET);
	const struct tally *t;

	load.depth = 8;
	target_set(100 * US, UINT64_MAX, 0);
	t = measure(load, 1000 * MS);
	assert_true(is_near(us_at(t, 0.5), 800));
	assert_true(is_near((double)t->count, 10000));
}

/* More than the target can do: it does what it can, and is told no lies about. */
static void a_rate_that_is_too_high_ends_all_the_same(void **state)
{
	struct load load = load_of(BENCH_GET);
	const struct tally *t;

	load.rate = 20000;
	target_set(100 * US, UINT64_MAX, 0);
	t = measure(load, 1000 * MS);
	assert_true(is_near((double)t->elapsed_ns, 2e9));
	assert_true(is_near((double)t->latency.max, 1e9));
}

static void what_is_of_another_length_is_no_answer(void **state)
{
	static struct tally tally;
	static uint64_t by_client[1];
	struct worker w = { .peer = &fake_peer,
			    .load = load_of(BENCH_GET),
			    .tally = &tally,
			    .epoll_fd = -1,
			    .slice_ns = 10 * MS };

	tally.by_client = by_client;
	target_set(100 * US, UINT64_MAX, 0);
	target.result = 999;
	node_current = &fake_node;
	worker_open(&w);
	worker_slice(&w);
	node_current = NULL;
	worker_close(&w);
	assert_int_equal(w.result, -EBADMSG);
	assert_int_equal(tally.count, 0);
}

/* As many clients as a worker has, on sockets that answer by themselves: all get their part. */

struct echo {
	struct client client;
	int fds[2];
	uint64_t served;
};
static struct echo echoes[16];
static unsigned echo_count;

static int echo_begin(struct client *c, struct request *rq)
{
	struct echo *e = (struct echo *)c;

	client_push(c, rq);
	return write(e->fds[1], "x", 1) == 1 ? 0 : -EIO;
}

static int echo_turn(struct client *c, uint64_t due_ns)
{
	struct echo *e = (struct echo *)c;
	char byte;

	if (recv(e->fds[0], &byte, 1, MSG_DONTWAIT) != 1)
		return 0;
	e->served++;
	client_pop(c, 1000);
	return 1;
}

static int echo_fd(struct client *c)
{
	return ((struct echo *)c)->fds[0];
}

static void echo_close(struct client *c)
{
	close(((struct echo *)c)->fds[0]);
	close(((struct echo *)c)->fds[1]);
}

static const struct client_ops ECHO_CLIENT = { echo_begin, fake_flush, echo_turn, echo_fd,
					       echo_close };

static int echo_connect(struct peer *p, const struct client_how *how, struct client **ret)
{
	struct echo *e = &echoes[echo_count++];

	*e = (struct echo){ .client.ops = &ECHO_CLIENT };
	*ret = &e->client;
	return socketpair(AF_UNIX, SOCK_STREAM, 0, e->fds) < 0 ? -errno : 0;
}

static void many_clients_take_turns(void **state)
{
	static const struct peer_ops ECHO = { .name = "echo", .ops = ~0u, .connect = echo_connect };
	static struct tally tally;
	static uint64_t by_client[16];
	struct peer peer = { .ops = &ECHO };
	struct worker w = { .peer = &peer,
			    .load = load_of(BENCH_GET),
			    .tally = &tally,
			    .epoll_fd = -1,
			    .slice_ns = 100 * MS };
	uint64_t least = UINT64_MAX, sum = 0;

	w.load.clients = 16;
	tally.by_client = by_client;
	assert_int_equal(worker_open(&w), 0);
	assert_int_equal(worker_slice(&w), 0);
	worker_close(&w);
	for (int i = 0; i < 16; i++) {
		assert_int_equal(by_client[i], echoes[i].served);
		least = by_client[i] < least ? by_client[i] : least;
		sum += by_client[i];
	}
	assert_int_equal(sum, tally.count);
	assert_true(least * 16 * 2 > sum);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_after_the_other_has_the_target_s_own_latency),
		cmocka_unit_test(a_client_that_is_opened_for_it_is_part_of_a_request),
		cmocka_unit_test(a_fresh_process_is_timed_from_its_handle_or_from_its_start),
		cmocka_unit_test(a_stall_is_the_maximum_and_costs_throughput),
		cmocka_unit_test(a_stall_at_the_end_is_waited_for),
		cmocka_unit_test(with_a_rate_all_who_were_due_in_a_stall_have_waited),
		cmocka_unit_test(a_rate_is_of_all_the_time_that_it_was_asked_for),
		cmocka_unit_test(what_moves_no_bytes_is_counted_without_them),
		cmocka_unit_test(a_slice_has_its_own_times),
		cmocka_unit_test(in_flight_together_they_wait_for_each_other),
		cmocka_unit_test(a_rate_that_is_too_high_ends_all_the_same),
		cmocka_unit_test(what_is_of_another_length_is_no_answer),
		cmocka_unit_test(many_clients_take_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
