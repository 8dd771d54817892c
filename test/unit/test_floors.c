/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all systems owe to the worker that drives them, asked of those that need no server of
 * others: the floors, over sockets and through memory, and files in a directory. Who looks
 * only is told what has ended, and nothing else; and what was put is what is got, where it is
 * kept.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/node.h"
#include "bench/bench.h"
#include "test.h"

#define SIZES 5
static const size_t LENS[SIZES] = { 1, 0, 64, 3000, 300000 };

static struct peer *raw(void)
{
	return peer_raw_new(false);
}

static struct peer *raw_polling(void)
{
	return peer_raw_new(true);
}

static struct peer *futex(void)
{
	return peer_memory_new(false);
}

static struct peer *memory_polling(void)
{
	return peer_memory_new(true);
}

static const struct {
	const char *name;
	struct peer *(*make)(void);
	bool has_server, keeps; /* keeps: what was put last, if only for want of another place */
	bool is_floor, is_polling, is_single, is_serial;
} PEERS[] = {
	{ "raw", raw, true, true, true, false, false, false },
	{ "raw-polling", raw_polling, true, true, true, true, false, false },
	{ "futex", futex, true, true, true, false, true, false },
	{ "memory-polling", memory_polling, true, true, true, true, true, false },
	{ "memcpy", peer_memcpy_new, false, false, true, false, false, true },
	{ "dir", peer_dir_new, false, true, false, false, false, true },
};
#define PEER_COUNT (sizeof(PEERS) / sizeof(PEERS[0]))

static struct bench bench = { .threads = 1, .attach = BENCH_PROXY };
static uint8_t put_bytes[300000], got_bytes[300000];

static struct peer *open_peer(unsigned i)
{
	struct peer *p = PEERS[i].make();

	assert_non_null(p);
	assert_string_equal(p->ops->name, PEERS[i].name);
	p->bench = &bench;
	p->clients = 1;
	assert_int_equal(p->ops->open(p), 0);
	assert_int_equal(p->server > 0, PEERS[i].has_server);
	return p;
}

static struct client *connect_to(struct peer *p)
{
	const struct client_how how = { .is_alone = true };
	struct client *c = NULL;

	assert_int_equal(p->ops->connect(p, &how, &c), 0);
	return c;
}

/* Begins it, and waits for its end, which is told once. */
static int64_t ask(struct client *c, enum bench_op op, size_t len)
{
	struct request rq = { .op = op, .key = BENCH_DIRECTORY "/aa0", .len = len };
	int ended;

	rq.buf = op == BENCH_GET ? got_bytes : put_bytes;
	if (op == BENCH_LIST)
		strcpy(rq.key, BENCH_DIRECTORY);
	assert_int_equal(c->ops->begin(c, &rq), 0);
	ended = c->ops->flush(c);
	while (!rq.is_done && ended == 0)
		ended = c->ops->turn(c, UINT64_MAX);
	if (ended == 0)
		ended = c->ops->turn(c, 0);
	assert_int_equal(ended, 1);
	assert_true(rq.is_done);
	assert_int_equal(c->ops->flush(c), 0);
	assert_int_equal(c->ops->turn(c, 0), 0);
	return rq.result;
}

static bool has(const struct peer *p, enum bench_op op)
{
	return p->ops->ops & 1u << op;
}

/* The cell asks them what they can have a part in. */
static void each_says_what_it_is(void **state)
{
	for (unsigned i = 0; i < PEER_COUNT; i++) {
		struct peer *p = open_peer(i);

		assert_int_equal(p->ops->is_floor, PEERS[i].is_floor);
		assert_int_equal(p->ops->is_polling, PEERS[i].is_polling);
		assert_int_equal(p->ops->is_single, PEERS[i].is_single);
		assert_int_equal(p->ops->is_serial, PEERS[i].is_serial);
		assert_true(has(p, BENCH_GET) && has(p, BENCH_PUT) && has(p, BENCH_CREATE));
		assert_int_equal(has(p, BENCH_STAT), i != 4);
		assert_int_equal(has(p, BENCH_REMOVE), i < 2 || i == 5);
		assert_int_equal(has(p, BENCH_WAIT), i < 2);
		assert_int_equal(has(p, BENCH_LIST), i == 5);
		p->ops->close(p);
	}
}

static void each_answers_as_long_as_it_is_asked_for(void **state)
{
	for (unsigned i = 0; i < PEER_COUNT; i++) {
		struct peer *p = open_peer(i);
		struct client *c = connect_to(p);

		for (unsigned k = 0; k < SIZES; k++) {
			assert_int_equal(ask(c, BENCH_PUT, LENS[k]), 0);
			assert_int_equal(ask(c, BENCH_GET, LENS[k]), LENS[k]);
			if (has(p, BENCH_STAT))
				assert_int_equal(ask(c, BENCH_STAT, LENS[k]), 0);
			if (has(p, BENCH_REMOVE))
				assert_int_equal(ask(c, BENCH_REMOVE, LENS[k]), 0);
			assert_int_equal(ask(c, BENCH_CREATE, LENS[k]), 0);
			if (has(p, BENCH_REMOVE))
				assert_int_equal(ask(c, BENCH_REMOVE, LENS[k]), 0);
		}
		c->ops->close(c);
		p->ops->close(p);
	}
}

/* What one client put another one gets, where that is kept, and no more bytes than it asked for. */
static void one_after_the_other_uses_the_same_server(void **state)
{
	for (unsigned i = 0; i < PEER_COUNT; i++) {
		struct peer *p = open_peer(i);

		for (unsigned k = 0; k < 3; k++) {
			struct client *c = connect_to(p);

			memset(put_bytes, 'a' + (int)k, sizeof(put_bytes));
			assert_int_equal(ask(c, BENCH_PUT, 1000), 0);
			memset(got_bytes, 0, sizeof(got_bytes));
			c->ops->close(c);
			c = connect_to(p);
			assert_int_equal(ask(c, BENCH_GET, 1000), 1000);
			if (PEERS[i].keeps)
				assert_memory_equal(got_bytes, put_bytes, 1000);
			assert_int_equal(got_bytes[1000], 0);
			c->ops->close(c);
		}
		p->ops->close(p);
	}
}

/* While its server stands still nothing ends, however often somebody looks. */
static void who_looks_only_is_told_nothing_before_the_end(void **state)
{
	for (unsigned i = 0; i < PEER_COUNT; i++) {
		struct peer *p;
		struct client *c;
		struct request rq = { .op = BENCH_GET, .buf = got_bytes, .len = 3000 };

		if (!PEERS[i].has_server)
			continue;
		p = open_peer(i);
		c = connect_to(p);
		assert_int_equal(ask(c, BENCH_GET, 10), 10);
		assert_int_equal(kill(p->server, SIGSTOP), 0);
		assert_int_equal(waitpid(p->server, NULL, WUNTRACED), p->server);
		assert_int_equal(c->ops->begin(c, &rq), 0);
		assert_int_equal(c->ops->flush(c), 0);
		for (int k = 0; k < 100; k++)
			assert_int_equal(c->ops->turn(c, 0), 0);
		assert_false(rq.is_done);
		assert_int_equal(kill(p->server, SIGCONT), 0);
		assert_int_equal(c->ops->turn(c, UINT64_MAX), 1);
		assert_true(rq.is_done);
		assert_int_equal(rq.result, 3000);
		c->ops->close(c);
		p->ops->close(p);
	}
}

/* Of the ones who poll: their servers stand still while others are measured. */
static void who_polls_is_paused(void **state)
{
	for (unsigned i = 0; i < PEER_COUNT; i++) {
		struct peer *p = open_peer(i);
		int status;

		assert_int_equal(p->ops->pause != NULL, p->ops->is_polling);
		assert_int_equal(p->ops->resume != NULL, p->ops->is_polling);
		if (p->ops->is_polling) {
			p->ops->pause(p);
			assert_int_equal(waitpid(p->server, &status, WUNTRACED), p->server);
			assert_true(WIFSTOPPED(status));
			p->ops->resume(p);
			assert_int_equal(waitpid(p->server, &status, WCONTINUED), p->server);
			assert_true(WIFCONTINUED(status));
		}
		p->ops->close(p);
	}
}

static void a_server_ends_with_its_peer(void **state)
{
	for (unsigned i = 0; i < PEER_COUNT; i++) {
		struct peer *p = open_peer(i);
		pid_t pid = p->server;

		p->ops->close(p);
		if (pid > 0)
			assert_int_not_equal(kill(pid, 0), 0);
	}
}

/* Several at once, and from several clients: all have their answers, in order. */
static void sockets_serve_many_in_flight(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct peer *p = open_peer(i);
		struct client *clients[3];
		struct request rqs[3][4] = { 0 };

		p->clients = 3;
		for (unsigned k = 0; k < 3; k++)
			clients[k] = connect_to(p);
		for (unsigned k = 0; k < 12; k++) {
			struct request *rq = &rqs[k % 3][k / 3];

			*rq = (struct request){ .op = k % 2 ? BENCH_PUT : BENCH_GET,
						.buf = k % 2 ? put_bytes : got_bytes,
						.len = 100 + k };
			assert_int_equal(clients[k % 3]->ops->begin(clients[k % 3], rq), 0);
		}
		for (unsigned k = 0; k < 3; k++) {
			struct client *c = clients[k];
			int ended = 0;

			for (uint64_t due_ns = node_now_ns() + 10000000000ull;
			     ended < 4 && node_now_ns() < due_ns;) {
				int n = c->ops->turn(c, 0);

				assert_true(n >= 0);
				ended += n;
			}
			assert_int_equal(ended, 4);
			assert_null(client_oldest(c));
			assert_true(c->ops->fd(c) >= 0);
			for (unsigned d = 0; d < 4; d++)
				assert_int_equal(rqs[k][d].result,
						 rqs[k][d].op == BENCH_GET ? 100 + d * 3 + k : 0);
			c->ops->close(c);
		}
		p->ops->close(p);
	}
}

/* Before its answer is: that is the end of the connection, and told as such. */
static void who_is_gone_is_an_error(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct peer *p = open_peer(i);
		struct client *c = connect_to(p);
		struct request rq = { .op = BENCH_GET, .buf = got_bytes, .len = 100 };

		assert_int_equal(ask(c, BENCH_GET, 10), 10);
		kill(p->server, SIGSTOP);
		assert_int_equal(c->ops->begin(c, &rq), 0);
		kill(p->server, SIGKILL);
		assert_int_equal(c->ops->turn(c, UINT64_MAX), -ECONNRESET);
		assert_false(rq.is_done);
		c->ops->close(c);
		p->ops->close(p);
	}
}

static void files_are_refused_counted_and_missed(void **state)
{
	struct peer *p = open_peer(5);
	struct client *c = connect_to(p);

	assert_int_equal(ask(c, BENCH_GET, 10), -ENOENT);
	assert_int_equal(ask(c, BENCH_STAT, 10), -ENOENT);
	assert_int_equal(ask(c, BENCH_REMOVE, 10), -ENOENT);
	assert_int_equal(ask(c, BENCH_LIST, 0), 1); /* that for lists */
	assert_int_equal(ask(c, BENCH_CREATE, 10), 0);
	assert_int_equal(ask(c, BENCH_CREATE, 10), -EEXIST);
	assert_int_equal(ask(c, BENCH_LIST, 0), 2);
	assert_int_equal(ask(c, BENCH_PUT, 20), 0);
	assert_int_equal(ask(c, BENCH_GET, 30), 20);
	c->ops->close(c);
	p->ops->close(p);
}

/* In a directory of shared memory, of which a client holds a descriptor. */
static void find_directory(char *path, size_t cap)
{
	path[0] = '\0';
	for (int fd = 3; fd < 100; fd++) {
		char name[32], at[100] = "";

		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		if (readlink(name, at, sizeof(at) - 1) > 0 &&
		    strncmp(at, "/dev/shm/wadi-bench-", 20) == 0)
			snprintf(path, cap, "%s", at);
	}
}

static void files_go_with_their_directory(void **state)
{
	struct peer *p = open_peer(5);
	struct client *c = connect_to(p);
	char path[100];

	assert_int_equal(ask(c, BENCH_PUT, 20), 0);
	find_directory(path, sizeof(path));
	assert_int_equal(access(path, F_OK), 0);
	c->ops->close(c);
	p->ops->close(p);
	assert_int_not_equal(access(path, F_OK), 0);
	find_directory(path, sizeof(path));
	assert_string_equal(path, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_says_what_it_is),
		cmocka_unit_test(each_answers_as_long_as_it_is_asked_for),
		cmocka_unit_test(one_after_the_other_uses_the_same_server),
		cmocka_unit_test(who_looks_only_is_told_nothing_before_the_end),
		cmocka_unit_test(who_polls_is_paused),
		cmocka_unit_test(a_server_ends_with_its_peer),
		cmocka_unit_test(sockets_serve_many_in_flight),
		cmocka_unit_test(who_is_gone_is_an_error),
		cmocka_unit_test(files_are_refused_counted_and_missed),
		cmocka_unit_test(files_go_with_their_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
