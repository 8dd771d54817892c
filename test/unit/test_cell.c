/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cell of a bench: which systems take part, in which order and with what share of the
 * clients; what is put before and taken away afterwards; and the arithmetic of its rows. The
 * systems are of the test: each request takes as long as the test says, on a clock that only
 * they move, and they note who asked for what.
 */
#include "bench/cell.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/node.h"
#include "test.h"

#define US       1000ull
#define MS       1000000ull
#define SYSTEMS  3
#define KEYS_MAX 20000
#define ROWS_MAX 9

/* The clock; threads of one cell work side by side, and each has its own. */

static _Thread_local uint64_t clock_ns = 1000 * MS;

static uint64_t fake_now(struct node *n)
{
	return clock_ns;
}

static struct node fake_node = { .now_ns = fake_now };

/* The systems. */

struct system {
	struct peer peer;
	struct peer_ops ops;
	uint64_t latency_ns[4]; /* of each slice in turn */
	unsigned slices, opened, closed;
	int connect_r; /* what connect() says */
	bool has_words;
	pthread_mutex_t lock;
	unsigned counts[BENCH_OP_COUNT];
	uint64_t bytes[BENCH_OP_COUNT];
	char keys[KEYS_MAX][BENCH_KEY_MAX]; /* that are there */
	unsigned key_count, missed;
	unsigned left[4]; /* keys that were there as a slice began */
	char last_key[BENCH_OP_COUNT][BENCH_KEY_MAX];
};
static struct system systems[SYSTEMS];
static char order[200]; /* of slices: a letter for each */

struct fake_client {
	struct client client;
	struct system *system;
	int fd; /* always readable */
};

static unsigned find(const struct system *s, const char *key)
{
	unsigned i = 0;

	while (i < s->key_count && strcmp(s->keys[i], key) != 0)
		i++;
	return i;
}

static int64_t note(struct system *s, const struct request *rq)
{
	unsigned i = find(s, rq->key);
	int64_t r = 0;

	s->counts[rq->op]++;
	s->bytes[rq->op] += rq->len;
	strcpy(s->last_key[rq->op], rq->key);
	switch (rq->op) {
	case BENCH_PUT:
	case BENCH_CREATE:
	case BENCH_WAIT:
		if (i == s->key_count && i < KEYS_MAX)
			strcpy(s->keys[s->key_count++], rq->key);
		break;
	case BENCH_REMOVE:
		if (i == s->key_count)
			r = -ENOENT;
		else
			memmove(s->keys[i], s->keys[--s->key_count], BENCH_KEY_MAX);
		break;
	default:
		s->missed += i == s->key_count && rq->op != BENCH_LIST;
		r = rq->op == BENCH_STAT ? 0 : (int64_t)rq->len;
	}
	return r;
}

static int fake_begin(struct client *client, struct request *rq)
{
	struct fake_client *c = (struct fake_client *)client;

	pthread_mutex_lock(&c->system->lock);
	rq->result = note(c->system, rq);
	pthread_mutex_unlock(&c->system->lock);
	client_push(client, rq);
	return 0;
}

static int fake_flush(struct client *client)
{
	return 0;
}

static int fake_turn(struct client *client, uint64_t due_ns)
{
	struct system *s = ((struct fake_client *)client)->system;
	struct request *rq = client_oldest(client);

	if (!rq)
		return 0;
	clock_ns += s->latency_ns[s->slices ? (s->slices - 1) % 4 : 0];
	client_pop(client, rq->result);
	return 1;
}

static int fake_fd(struct client *client)
{
	return ((struct fake_client *)client)->fd;
}

static void fake_close(struct client *client)
{
	struct system *s = ((struct fake_client *)client)->system;

	pthread_mutex_lock(&s->lock);
	s->closed++;
	pthread_mutex_unlock(&s->lock);
	close(fake_fd(client));
	free(client);
}

static const struct client_ops CLIENT = { fake_begin, fake_flush, fake_turn, fake_fd, fake_close };

static int fake_connect(struct peer *p, const struct client_how *how, struct client **ret)
{
	struct system *s = (struct system *)p;
	struct fake_client *c;

	node_current = &fake_node; /* of the thread that it is for */
	if (s->connect_r < 0)
		return s->has_words ? peer_fail(p, s->connect_r, "in its own words") : s->connect_r;
	c = calloc(1, sizeof(*c));
	c->client.ops = &CLIENT;
	c->system = s;
	c->fd = eventfd(1, EFD_CLOEXEC);
	pthread_mutex_lock(&s->lock);
	s->opened++;
	pthread_mutex_unlock(&s->lock);
	*ret = &c->client;
	return 0;
}

static void fake_resume(struct peer *p)
{
	struct system *s = (struct system *)p;

	s->left[s->slices++ % 4] = s->key_count;
	order[strlen(order)] = p->ops->name[0];
}

/* The bench. */

static struct bench_row rows[ROWS_MAX];
static unsigned row_count, skip_count;
static char skipped[400];

static void take_row(struct bench_sink *s, const struct bench_row *row)
{
	assert_true(row_count < ROWS_MAX);
	rows[row_count++] = *row;
}

static void take_skipped(struct bench_sink *s, const char *why)
{
	skip_count++;
	snprintf(skipped, sizeof(skipped), "%s", why);
}

static struct bench_sink sink = { take_row, take_skipped };
static struct bench bench;

static int begin(void **state)
{
	static const char *const NAMES[SYSTEMS] = { "wadi", "floor", "other" };

	memset(order, 0, sizeof(order));
	memset(rows, 0, sizeof(rows));
	row_count = skip_count = 0;
	skipped[0] = '\0';
	bench = (struct bench){
		.sink = &sink, .row_ns = 10 * MS, .pairs = 2, .threads = 1, .system_count = SYSTEMS
	};
	for (unsigned i = 0; i < SYSTEMS; i++) {
		struct system *s = &systems[i];

		memset(s, 0, sizeof(*s));
		pthread_mutex_init(&s->lock, NULL);
		s->ops = (struct peer_ops){ .name = NAMES[i],
					    .ops = (1u << BENCH_OP_COUNT) - 1,
					    .is_floor = i == 1,
					    .connect = fake_connect,
					    .resume = fake_resume };
		s->peer = (struct peer){ .ops = &s->ops, .attach = "proxy", .bench = &bench };
		for (unsigned k = 0; k < 4; k++)
			s->latency_ns[k] = (i + 1) * 100 * US;
		bench.systems[i] = &s->peer;
	}
	return 0;
}

static int end(void **state)
{
	for (unsigned i = 0; i < SYSTEMS; i++)
		if (systems[i].opened != systems[i].closed)
			return -1;
	return 0;
}

static struct cell cell_of(enum bench_op op)
{
	return (struct cell){
		.kind = BENCH_KIND_GET,
		.load = { .op = op, .other_op = op, .size = 1000, .clients = 1, .depth = 1 }
	};
}

static bool is_near(double got, double expected)
{
	if (fabs(got - expected) <= 0.01 * expected)
		return true;
	print_message("got %g, expected %g\n", got, expected);
	return false;
}

/* The tests. */

static void a_row_is_of_all_its_pairs(void **state)
{
	struct cell c = cell_of(BENCH_GET);

	systems[0].latency_ns[1] = 300 * US; /* Wadi's second turn */
	assert_int_equal(cell_run(&bench, &c), 0);
	assert_int_equal(row_count, SYSTEMS);
	assert_int_equal(skip_count, 0);
	assert_string_equal(rows[0].system, "wadi");
	assert_string_equal(rows[1].system, "floor");
	assert_string_equal(rows[2].system, "other");
	for (unsigned i = 0; i < SYSTEMS; i++) {
		assert_string_equal(rows[i].bench, "get");
		assert_string_equal(rows[i].op, "get");
		assert_string_equal(rows[i].attach, "proxy");
		assert_string_equal(rows[i].mode, "quiet");
		assert_int_equal(rows[i].size, 1000);
		assert_int_equal(rows[i].clients, 1);
		assert_int_equal(rows[i].depth, 1);
		assert_int_equal(rows[i].pairs, i ? 2 : 0);
		assert_true(isnan(rows[i].server_cpu_us) && isnan(rows[i].behind_cpu_us));
		assert_true(isnan(rows[i].beside_mb_per_s) && isnan(rows[i].object_bytes));
		assert_true(isnan(rows[i].least_share));
		assert_true(rows[i].client_cpu_us > 0 && rows[i].client_cpu_us < 500);
		assert_false(rows[i].is_by_attach);
	}
	/* Of 10 ms each half: 50 of 100 us, and 17 of 300 us. */
	assert_true(is_near(rows[0].p50_us, 100));
	assert_true(is_near(rows[0].p99_us, 300));
	assert_true(is_near(rows[0].p999_us, 300));
	assert_true(is_near(rows[0].max_us, 300));
	assert_true(is_near(rows[0].ops_per_s, 67 / 0.0101));
	assert_true(is_near(rows[0].mb_per_s, 0.067 / 0.0101));
	assert_true(is_near(rows[1].p50_us, 200));
	assert_true(is_near(rows[1].ops_per_s, 5000));
	/* Pair by pair: 100 and 300 to 200. */
	assert_true(is_near(rows[1].latency.low, 0.5));
	assert_true(is_near(rows[1].latency.high, 1.5));
	assert_true(is_near(rows[1].latency.median, 1));
	assert_true(is_near(rows[1].rate.low, 2. / 3));
	assert_true(is_near(rows[1].rate.high, 2));
	assert_true(is_near(rows[2].latency.low, 1. / 3));
	assert_true(is_near(rows[2].latency.high, 1));
}

static void systems_take_turns_there_and_back(void **state)
{
	struct cell c = cell_of(BENCH_GET);

	bench.pairs = 3;
	assert_int_equal(cell_run(&bench, &c), 0);
	assert_string_equal(order, "wfoofwwfo");
}

static void a_cell_has_its_own_words(void **state)
{
	struct cell c = cell_of(BENCH_GET);

	c.kind = BENCH_KIND_ATTACH;
	c.op = "open";
	bench.is_awake = true;
	assert_int_equal(cell_run(&bench, &c), 0);
	assert_string_equal(rows[0].bench, "attach");
	assert_string_equal(rows[0].op, "open");
	assert_string_equal(rows[0].mode, "awake");
	assert_true(rows[0].is_by_attach);
}

/* At most 64, and no more than 256 MiB of them. */
static void what_is_got_was_put_before_and_is_gone_afterwards(void **state)
{
	struct cell c = cell_of(BENCH_GET);

	assert_int_equal(cell_run(&bench, &c), 0);
	for (unsigned i = 0; i < SYSTEMS; i++) {
		assert_int_equal(systems[i].counts[BENCH_PUT], i == 1 ? 0 : 64);
		assert_int_equal(systems[i].counts[BENCH_REMOVE], i == 1 ? 0 : 64);
		assert_int_equal(systems[i].key_count, 0);
		assert_int_equal(systems[i].missed > 0, i == 1);
	}
	bench.system_count = 1; /* for the memory of this test */
	c.load.size = 100 << 20;
	assert_int_equal(cell_run(&bench, &c), 0);
	assert_int_equal(systems[0].counts[BENCH_PUT], 64 + 2);
	c.load.size = 257 << 20;
	assert_int_equal(cell_run(&bench, &c), 0);
	assert_int_equal(systems[0].counts[BENCH_PUT], 64 + 2 + 1);
}

static void a_list_is_of_as_many_entries_as_its_size(void **state)
{
	struct cell c = cell_of(BENCH_LIST);

	c.load.size = 100;
	assert_int_equal(cell_run(&bench, &c), 0);
	assert_int_equal(systems[0].counts[BENCH_PUT], 100);
	assert_int_equal(systems[0].bytes[BENCH_PUT], 100);
	assert_int_equal(systems[0].counts[BENCH_REMOVE], 100);
	assert_string_equal(systems[0].last_key[BENCH_PUT], "bench/list/99");
	assert_string_equal(systems[0].last_key[BENCH_LIST], "bench/list/");
	assert_true(systems[0].counts[BENCH_LIST] >= 100);
	assert_int_equal(systems[0].key_count, 0);
	assert_int_equal(rows[0].mb_per_s, 0);
	c.load.size = 0;
	assert_int_equal(cell_run(&bench, &c), 0);
	assert_int_equal(row_count, SYSTEMS);
	assert_string_equal(skipped, "a directory without entries is none, so it has no list");
}

static void names_of_its_own_are_removed_after_each_turn(void **state)
{
	struct cell c = cell_of(BENCH_CREATE);

	c.load.count_max = 30;
	assert_int_equal(cell_run(&bench, &c), 0);
	/* Of the 50 that fit a turn; the third system has time for less. */
	assert_int_equal(systems[0].counts[BENCH_CREATE], 60);
	assert_int_equal(systems[0].counts[BENCH_REMOVE], 60);
	assert_int_equal(systems[0].counts[BENCH_PUT], 0);
	assert_int_equal(systems[0].left[1], 0);
	assert_string_equal(systems[0].last_key[BENCH_CREATE], "bench/aa59");
	assert_int_equal(systems[1].counts[BENCH_REMOVE], 0);
	assert_int_equal(systems[2].counts[BENCH_CREATE], 34);
	assert_int_equal(systems[2].key_count, 0);
}

static void what_is_removed_is_put_before(void **state)
{
	struct cell c = cell_of(BENCH_REMOVE);

	c.load.count_max = 30;
	assert_int_equal(cell_run(&bench, &c), 0);
	assert_int_equal(systems[0].counts[BENCH_PUT], 60);
	assert_int_equal(systems[0].counts[BENCH_REMOVE], 60);
	assert_int_equal(systems[1].counts[BENCH_PUT], 0);
	assert_int_equal(systems[2].counts[BENCH_PUT], 60);
	assert_int_equal(systems[2].key_count, 0); /* those that it had no time for, too */
}

/* Of a floor that keeps nothing, each remove finds nothing: it has no part here. */
static void clients_are_shared_out_to_threads(void **state)
{
	struct cell c = cell_of(BENCH_PUT);

	bench.system_count = 1;
	bench.threads = 2;
	c.load.clients = 2;
	assert_int_equal(cell_run(&bench, &c), 0);
	assert_int_equal(systems[0].opened, 2);
	assert_int_equal(systems[0].peer.clients, 2);
	assert_int_equal(rows[0].clients, 2);
	/* Each has names of its own: 64 of them, put before, and 100 times while it is measured. */
	assert_int_equal(systems[0].counts[BENCH_REMOVE], 2 * 64);
	assert_int_equal(systems[0].counts[BENCH_PUT], 2 * (64 + 100));
	assert_int_equal(systems[0].key_count, 0);
	/* Twice as many in the same time, and each had the same. */
	assert_true(is_near(rows[0].ops_per_s, 20000));
	assert_true(is_near(rows[0].mb_per_s, 20));
	assert_true(is_near(rows[0].p50_us, 100));
	assert_true(is_near(rows[0].least_share, 1));
}

/* Two of them on one thread have half of its time each, and the third one has all of its own. */
static void the_least_share_is_of_the_mean(void **state)
{
	struct cell c = cell_of(BENCH_GET);

	bench.system_count = 1;
	bench.threads = 2;
	c.load.clients = 3;
	assert_int_equal(cell_run(&bench, &c), 0);
	assert_int_equal(systems[0].opened, 3);
	assert_true(is_near(rows[0].least_share, 0.75));
	assert_true(is_near(rows[0].ops_per_s, 20000));
}

/* Names of theirs begin with two letters, of which there are enough for all. */
static void threads_have_names_of_their_own(void **state)
{
	struct cell c = cell_of(BENCH_PUT);

	bench.system_count = 1;
	bench.row_ns = 2 * US; /* one request, so that what is removed is removed in order */
	for (unsigned threads = 1; threads <= 28; threads += 9) {
		bench.threads = c.load.clients = threads;
		row_count = 0;
		assert_int_equal(cell_run(&bench, &c), 0);
		assert_string_equal(systems[0].last_key[BENCH_REMOVE],
				    threads == 1    ? "bench/aa63"
				    : threads == 10 ? "bench/aj63"
				    : threads == 19 ? "bench/as63"
						    : "bench/bb63");
	}
}

static void no_more_threads_than_clients(void **state)
{
	struct cell c = cell_of(BENCH_STAT);

	bench.threads = 4;
	c.load.clients = 3;
	bench.system_count = 1;
	assert_int_equal(cell_run(&bench, &c), 0);
	assert_int_equal(systems[0].opened, 3);
	assert_int_equal(rows[0].mb_per_s, 0);
}

static void a_rate_is_of_all_threads_together(void **state)
{
	struct cell c = cell_of(BENCH_PUT);

	bench.system_count = 1;
	bench.threads = c.load.clients = 2;
	c.load.rate = 4000;
	/* 5 ms of each pair: 20 are due, 10 for each thread. */
	systems[0].latency_ns[0] = systems[0].latency_ns[1] = 500 * US;
	assert_int_equal(cell_run(&bench, &c), 0);
	assert_int_equal(systems[0].counts[BENCH_PUT], 2 * 64 + 40);
}

static void who_works_beside_has_a_figure_of_its_own(void **state)
{
	struct cell c = cell_of(BENCH_GET);

	c.beside = (struct load){
		.op = BENCH_PUT, .other_op = BENCH_GET, .size = 1000000, .clients = 1, .depth = 1
	};
	assert_int_equal(cell_run(&bench, &c), 0);
	assert_int_equal(systems[0].peer.clients, 2);
	assert_int_equal(systems[0].opened, 2);
	assert_int_equal(systems[1].peer.clients, 1);
	assert_int_equal(systems[1].opened, 1);
	/* A million bytes in 100 us. */
	assert_true(is_near(rows[0].beside_mb_per_s, 10000));
	assert_true(isnan(rows[1].beside_mb_per_s));
	assert_true(is_near(rows[0].ops_per_s, 10000));
	assert_true(is_near(rows[0].mb_per_s, 10));
	assert_int_equal(rows[0].clients, 1);
	assert_int_equal(systems[0].key_count, 0);
}

static void calls_are_of_one_client_for_each_thread(void **state)
{
	static const enum bench_op CALLS[] = { BENCH_STAT, BENCH_LIST, BENCH_WAIT };

	for (unsigned i = 0; i < 6; i++) {
		struct cell c = cell_of(CALLS[i / 2]);

		if (i % 2)
			c.load.clients = 2;
		else
			c.load.depth = 2;
		assert_int_equal(cell_run(&bench, &c), 0);
		assert_int_equal(skip_count, i + 1);
		assert_non_null(strstr(skipped, "stat, list and wait are calls"));
	}
	assert_int_equal(row_count, 0);
}

static void who_opens_for_each_request_does_nothing_else(void **state)
{
	struct cell c = cell_of(BENCH_GET);

	c.load.by = LOAD_OPENED;
	c.load.rate = 1;
	assert_int_equal(cell_run(&bench, &c), 0);
	c.load.rate = 0;
	c.load.depth = 2;
	assert_int_equal(cell_run(&bench, &c), 0);
	c.load.depth = 1;
	c.load.clients = 2;
	assert_int_equal(cell_run(&bench, &c), 0);
	assert_int_equal(skip_count, 3);
	assert_non_null(strstr(skipped, "who opens a handle for each request"));
	assert_int_equal(row_count, 0);
}

/* How many of the three have a part; the second one is what changes. */
static unsigned parts(const struct cell *c)
{
	row_count = 0;
	assert_int_equal(cell_run(&bench, c), 0);
	for (unsigned i = 0; i < row_count; i++)
		if (strcmp(rows[i].system, "floor") == 0)
			return 1;
	return 0;
}

static void who_cannot_do_the_same_is_left_out(void **state)
{
	struct cell one = cell_of(BENCH_GET), two = one, opened = one, deep = one;
	struct system *s = &systems[1];

	two.load.clients = 2;
	deep.load.depth = 2;
	opened.load.by = LOAD_OPENED;
	assert_int_equal(parts(&one), 1);

	s->ops.ops &= ~(1u << BENCH_GET);
	assert_int_equal(parts(&one), 0);
	s->ops.ops |= 1u << BENCH_GET;

	s->ops.is_single = true;
	assert_int_equal(parts(&one), 1);
	assert_int_equal(parts(&deep), 0);
	s->ops.is_single = false;

	/* Who copies to himself has no server to be connected to. */
	assert_int_equal(parts(&opened), 0);
	s->peer.server = 1;
	assert_int_equal(parts(&opened), 1);

	/* It has one thread, where the store has two. */
	bench.threads = 2;
	assert_int_equal(parts(&one), 1);
	assert_int_equal(parts(&two), 0);
	s->peer.server = 0;
	assert_int_equal(parts(&two), 1);

	s->ops.is_serial = true;
	assert_int_equal(parts(&two), 1);
	bench.threads = 1;
	assert_int_equal(parts(&one), 1);
	assert_int_equal(skip_count, 0);
}

static void fresh_processes_are_of_those_that_have_them(void **state)
{
	struct cell c = cell_of(BENCH_GET);

	c.load.by = LOAD_COLD;
	assert_int_equal(cell_run(&bench, &c), 0);
	assert_int_equal(row_count, 0);
	assert_int_equal(systems[0].opened, 0);
}

static void who_fails_is_told_and_left_out(void **state)
{
	struct cell c = cell_of(BENCH_GET);

	systems[2].connect_r = -ECONNREFUSED;
	systems[2].has_words = true;
	assert_int_equal(cell_run(&bench, &c), 0);
	assert_int_equal(row_count, 2);
	assert_int_equal(skip_count, 1);
	assert_string_equal(skipped, "other: cannot connect: Connection refused: in its own words");
	assert_string_equal(order, "wffw");
	/* What it said then is not said of another failure. */
	systems[2].has_words = false;
	assert_int_equal(cell_run(&bench, &c), 0);
	assert_int_equal(skip_count, 2);
	assert_string_equal(skipped, "other: cannot connect: Connection refused");
}

static void without_wadi_there_is_nothing(void **state)
{
	struct cell c = cell_of(BENCH_GET);

	systems[0].connect_r = -ECONNREFUSED;
	assert_int_equal(cell_run(&bench, &c), -ECONNREFUSED);
	assert_string_equal(bench.error, "wadi: cannot connect: Connection refused");
	assert_int_equal(row_count, 0);
	assert_int_equal(skip_count, 0);
}

#define CELL_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CELL_TEST(a_row_is_of_all_its_pairs),
		CELL_TEST(systems_take_turns_there_and_back),
		CELL_TEST(a_cell_has_its_own_words),
		CELL_TEST(what_is_got_was_put_before_and_is_gone_afterwards),
		CELL_TEST(a_list_is_of_as_many_entries_as_its_size),
		CELL_TEST(names_of_its_own_are_removed_after_each_turn),
		CELL_TEST(what_is_removed_is_put_before),
		CELL_TEST(clients_are_shared_out_to_threads),
		CELL_TEST(the_least_share_is_of_the_mean),
		CELL_TEST(threads_have_names_of_their_own),
		CELL_TEST(no_more_threads_than_clients),
		CELL_TEST(a_rate_is_of_all_threads_together),
		CELL_TEST(who_works_beside_has_a_figure_of_its_own),
		CELL_TEST(calls_are_of_one_client_for_each_thread),
		CELL_TEST(who_opens_for_each_request_does_nothing_else),
		CELL_TEST(who_cannot_do_the_same_is_left_out),
		CELL_TEST(fresh_processes_are_of_those_that_have_them),
		CELL_TEST(who_fails_is_told_and_left_out),
		CELL_TEST(without_wadi_there_is_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
