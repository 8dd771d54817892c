/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the stores behind store.h do the same. Method: one contract test over each that
 * can be had here: a directory, the memory of the process, and a Redis server of our own on a Unix
 * socket, skipped if the machine has none. Wadi is tested end to end, with a store to talk to.
 */
#include "test.h"

#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "store.h"

struct fixture {
	char path[64];
	char url[128];
	pid_t server;
	struct problem problem;
	struct store *store;
};

static int entry_remove(const char *path, const struct stat *st, int type, struct FTW *at)
{
	return remove(path);
}

static struct store *open_store(const char *url, struct problem *problem)
{
	struct store_config config = { .url = url, .job = "job", .timeout_ms = 5000 };
	struct store *s = NULL;

	return store_open(&config, problem, &s) < 0 ? NULL : s;
}

static struct fixture *fixture_new(void)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->path, "/tmp/wadi-test-store-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	return f;
}

static int setup_dir(void **state)
{
	struct fixture *f = fixture_new();
	char token[STORE_TOKEN_MAX];

	snprintf(f->url, sizeof(f->url), "dir:%s", f->path);
	f->store = open_store(f->url, &f->problem);
	assert_non_null(f->store);
	assert_int_equal(store_job_begin(f->store, "job", 0, token), 0);
	*state = f;
	return 0;
}

static int setup_memory(void **state)
{
	struct fixture *f = fixture_new();

	strcpy(f->url, "memory:");
	f->store = open_store(f->url, &f->problem);
	assert_non_null(f->store);
	*state = f;
	return 0;
}

/* Leaves store NULL if there is no Redis; parts of 5 bytes, so that most objects have several. */
static int setup_redis(void **state)
{
	struct fixture *f = fixture_new();

	snprintf(f->url, sizeof(f->url), "redis://%s/r?part=5", f->path);
	f->server = fork();
	if (f->server == 0) {
		char path[80];

		snprintf(path, sizeof(path), "%s/r", f->path);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)!freopen("/dev/null", "w", stdout);
		(void)!freopen("/dev/null", "w", stderr);
		execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", path,
		       "--save", "", (char *)NULL);
		_exit(127);
	}
	for (int i = 0; i < 500 && !f->store; i++) {
		if (waitpid(f->server, NULL, WNOHANG) == f->server) {
			f->server = 0;
			break;
		}
		poll(NULL, 0, 10);
		f->problem.text[0] = '\0';
		f->store = open_store(f->url, &f->problem);
	}
	f->problem.text[0] = '\0';
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->store) {
		assert_int_equal(store_job_end(f->store, "job"), 0);
		store_close(f->store);
	}
	if (f->server) {
		kill(f->server, SIGKILL);
		waitpid(f->server, NULL, 0);
	}
	nftw(f->path, entry_remove, 8, FTW_DEPTH | FTW_PHYS);
	free(f);
	return 0;
}

static struct store *store_of(void **state)
{
	struct fixture *f = *state;

	if (!f->store)
		skip();
	return f->store;
}

static void expect(struct store *s, const char *path, uint64_t offset, const char *want)
{
	char got[64] = { 0 };
	struct store_read read = { path, offset, got, strlen(want) };

	assert_int_equal(store_read(s, &read, 1), 0);
	assert_string_equal(got, want);
}

static void what_was_put_can_be_read_in_ranges(void **state)
{
	struct store *s = store_of(state);
	char a[8] = { 0 }, b[8] = { 0 }, c[8] = { 0 };
	struct store_read reads[] = { { "d/two", 0, a, 3 },
				      { "d/one", 9, b, 4 },
				      { "d/one", 4, c, 2 } };

	assert_int_equal(store_put(s, "d/one", "0123456789abcdef", 16), 0);
	assert_int_equal(store_put(s, "d/two", "two", 3), 0);
	assert_int_equal(store_put(s, "d/none", "", 0), 0);
	for (uint64_t from = 0; from < 16; from++)
		for (size_t len = 1; len <= 16 - from; len++) {
			char want[17];

			snprintf(want, len + 1, "%s", &"0123456789abcdef"[from]);
			expect(s, "d/one", from, want);
		}
	assert_int_equal(store_read(s, reads, 3), 0);
	assert_string_equal(a, "two");
	assert_string_equal(b, "9abc");
	assert_string_equal(c, "45");
}

static void a_stream_is_an_object_when_it_is_committed(void **state)
{
	struct store *s = store_of(state);
	struct store_list list;
	struct store_writer *w, *lost;

	assert_int_equal(store_writer_open(s, "d/stream", &w), 0);
	assert_int_equal(store_writer_open(s, "d/lost", &lost), 0);
	assert_int_equal(store_writer_write(w, "abc", 3), 0);
	assert_int_equal(store_writer_write(lost, "abc", 3), 0);
	assert_int_equal(store_writer_write(w, "defghijkl", 9), 0);
	assert_int_equal(store_list(s, "d", &list), 0);
	assert_int_equal(list.count, 0);
	assert_int_equal(store_writer_commit(&w), 0);
	assert_null(w);
	store_writer_abandon(&lost);
	assert_int_equal(store_list(s, "d", &list), 0);
	assert_int_equal(list.count, 1);
	assert_string_equal(list.entries[0].name, "stream");
	assert_int_equal(list.entries[0].len, 12);
	store_list_fini(&list);
	expect(s, "d/stream", 1, "bcdefghijk");
}

static void the_first_writer_wins_and_the_second_is_content(void **state)
{
	struct store *s = store_of(state);
	struct store_writer *w;
	struct store_list list;

	assert_int_equal(store_put(s, "d/a", "first one", 9), 0);
	assert_int_equal(store_put(s, "d/a", "second", 6), 0);
	assert_int_equal(store_writer_open(s, "d/a", &w), 0);
	assert_int_equal(store_writer_write(w, "third", 5), 0);
	assert_int_equal(store_writer_commit(&w), 0);
	expect(s, "d/a", 0, "first one");
	assert_int_equal(store_list(s, "d", &list), 0);
	assert_int_equal(list.count, 1);
	store_list_fini(&list);
}

static void a_list_has_what_is_directly_in_the_directory_in_order(void **state)
{
	struct store *s = store_of(state);
	struct store_list list;

	assert_int_equal(store_put(s, "l/10", "ten", 3), 0);
	assert_int_equal(store_put(s, "l/02", "two", 3), 0);
	assert_int_equal(store_put(s, "other/01", "x", 1), 0);
	assert_int_equal(store_put(s, "l/01", "", 0), 0);
	assert_int_equal(store_list(s, "l", &list), 0);
	assert_int_equal(list.count, 3);
	assert_string_equal(list.entries[0].name, "01");
	assert_string_equal(list.entries[1].name, "02");
	assert_string_equal(list.entries[2].name, "10");
	assert_int_equal(list.entries[0].len, 0);
	assert_int_equal(list.entries[2].len, 3);
	store_list_fini(&list);
	assert_int_equal(store_list(s, "nothing", &list), 0);
	assert_int_equal(list.count, 0);
	store_list_fini(&list);
}

static void what_is_removed_is_gone_alone_or_with_its_directory(void **state)
{
	struct store *s = store_of(state);
	struct store_list list;

	assert_int_equal(store_put(s, "r/a", "a", 1), 0);
	assert_int_equal(store_put(s, "r/b", "bbbbbbbbbbbb", 12), 0);
	assert_int_equal(store_put(s, "r/c", "c", 1), 0);
	assert_int_equal(store_remove(s, "r/a"), 0);
	assert_int_equal(store_remove(s, "r/a"), 0);
	assert_int_equal(store_list(s, "r", &list), 0);
	assert_int_equal(list.count, 2);
	store_list_fini(&list);
	assert_int_equal(store_remove(s, "r/"), 0);
	assert_int_equal(store_remove(s, "r/"), 0);
	assert_int_equal(store_list(s, "r", &list), 0);
	assert_int_equal(list.count, 0);
	store_list_fini(&list);
}

static void a_read_of_what_is_not_there_is_an_error_with_a_name(void **state)
{
	struct fixture *f = *state;
	struct store *s = store_of(state);
	char buf[8];
	struct store_read none = { "d/none", 0, buf, 4 }, past = { "d/four", 2, buf, 4 };

	assert_int_equal(store_put(s, "d/four", "four", 4), 0);
	assert_true(store_read(s, &past, 1) < 0);
	assert_non_null(strstr(f->problem.text, "d/four"));
	f->problem.text[0] = '\0';
	assert_true(store_read(s, &none, 1) < 0);
	assert_non_null(strstr(f->problem.text, "d/none"));
}

/* How often one puts beside another who removes. */
#define PUTS 2000

/* One who waits or puts, with a connection of its own. */
struct other {
	const struct fixture *f;
	char directory[8];
	int r;
	_Atomic bool has_ended;
};

static void *put_slowly(void *arg)
{
	struct other *o = arg;
	struct problem problem = { 0 };
	struct store *s = open_store(o->f->url, &problem);

	for (int i = 0; s && i < 3; i++) {
		char path[32];

		poll(NULL, 0, 20);
		snprintf(path, sizeof(path), "%s/%d", o->directory, i);
		o->r |= store_put(s, path, "x", 1);
	}
	store_close(s);
	return NULL;
}

static void *put_again(void *arg)
{
	struct other *o = arg;
	struct problem problem = { 0 };
	struct store *s = open_store(o->f->url, &problem);

	o->r = s ? 0 : -1;
	for (int i = 0; s && i < PUTS && o->r == 0; i++) {
		char path[32];

		snprintf(path, sizeof(path), "%s/%d", o->directory, i);
		o->r = store_put(s, path, "x", 1);
	}
	store_close(s);
	atomic_store(&o->has_ended, true);
	return NULL;
}

/* As by a map that is repeated, when its bucket has been reduced. */
static void what_is_removed_may_be_written_at_the_same_time(void **state)
{
	struct fixture *f = *state;
	struct store *s = store_of(state);
	struct other o = { .f = f, .directory = "r" };
	struct store_list list;
	pthread_t thread;

	pthread_create(&thread, NULL, put_again, &o);
	while (!atomic_load(&o.has_ended))
		assert_int_equal(store_remove(s, "r/"), 0);
	pthread_join(thread, NULL);
	assert_int_equal(o.r, 0);
	assert_int_equal(store_remove(s, "r/"), 0);
	assert_int_equal(store_list(s, "r", &list), 0);
	assert_int_equal(list.count, 0);
	store_list_fini(&list);
}

static void *wait_for_three(void *arg)
{
	struct other *o = arg;
	struct problem problem = { 0 };
	struct store *s = open_store(o->f->url, &problem);

	o->r = s ? store_wait_count(s, o->directory, 3, 20000) : -1;
	store_close(s);
	return NULL;
}

/* How long it took until four had seen the three objects of another. */
static uint64_t wait_together(const struct fixture *f, unsigned round)
{
	enum { OTHERS = 5 };
	struct other others[OTHERS];
	pthread_t threads[OTHERS];
	uint64_t start_ns = clock_ns();

	for (size_t i = 0; i < OTHERS; i++) {
		others[i] = (struct other){ .f = f };
		snprintf(others[i].directory, sizeof(others[i].directory), "w%u", round);
		pthread_create(&threads[i], NULL, i ? wait_for_three : put_slowly, &others[i]);
	}
	for (size_t i = 0; i < OTHERS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(others[i].r, 0);
	}
	return clock_ns() - start_ns;
}

static void everybody_who_waits_for_a_count_is_woken(void **state)
{
	struct store *s = store_of(state);
	uint64_t best_ns = UINT64_MAX;

	/* By a message, and not because somebody looked round; on a busy machine, now and then. */
	for (unsigned round = 0; round < 5 && best_ns > 900 * NS_PER_MS; round++) {
		uint64_t took_ns = wait_together(*state, round);

		best_ns = took_ns < best_ns ? took_ns : best_ns;
	}
	assert_in_range(best_ns, 0, 900 * NS_PER_MS);
	assert_int_equal(store_wait_count(s, "w0", 3, 10000), 0);
	assert_true(s->stats.wait_ns > 0);
}

static void a_wait_ends_at_its_time(void **state)
{
	struct fixture *f = *state;
	struct store *s = store_of(state);
	uint64_t start_ns = clock_ns();

	assert_int_equal(store_put(s, "w/1", "x", 1), 0);
	assert_int_equal(store_wait_count(s, "w", 2, 50), -ETIMEDOUT);
	assert_in_range(clock_ns() - start_ns, 50 * NS_PER_MS, 20 * NS_PER_S);
	assert_memory_equal(f->problem.text, "waited ", strlen("waited "));
	assert_non_null(strstr(f->problem.text, " s for 2 objects in w"));
}

/* The memory of this process is; others are read. */
static void an_object_is_shown_where_it_lies_or_not_at_all(void **state)
{
	struct fixture *f = *state;
	struct store *s = store_of(state);
	bool is_shown = strcmp(f->url, "memory:") == 0;
	struct store_view v;

	assert_int_equal(store_put(s, "d/x", "0123456789", 10), 0);
	assert_int_equal(store_view(s, "d/x", &v), is_shown);
	assert_int_equal(s->stats.read_bytes, is_shown ? 10 : 0);
	if (!is_shown)
		return;
	assert_int_equal(v.len, 10);
	assert_int_equal(store_remove(s, "d/x"), 0);
	assert_memory_equal(v.ptr, "0123456789", 10);
	assert_int_equal(store_view_end(s, &v), 0);
	assert_int_equal(store_view(s, "d/x", &v), -ENOENT);
	assert_non_null(strstr(f->problem.text, "d/x"));
}

static void bytes_and_time_are_counted(void **state)
{
	struct store *s = store_of(state);

	assert_int_equal(store_put(s, "d/x", "0123456789", 10), 0);
	expect(s, "d/x", 0, "0123");
	assert_int_equal(s->stats.write_bytes, 10);
	assert_int_equal(s->stats.read_bytes, 4);
	assert_true(s->stats.io_ns > 0);
	assert_int_equal(s->stats.wait_ns, 0);
}

static void a_job_that_ended_has_left_nothing(void **state)
{
	struct fixture *f = *state;
	struct store *s = store_of(state);
	char token[STORE_TOKEN_MAX];
	struct store_list list;

	assert_int_equal(store_put(s, "d/x", "0123456789", 10), 0);
	assert_int_equal(store_job_end(s, "job"), 0);
	assert_int_equal(store_job_begin(s, "job", 0, token), 0);
	store_close(s);
	f->store = open_store(f->url, &f->problem);
	assert_int_equal(store_list(f->store, "d", &list), 0);
	assert_int_equal(list.count, 0);
	store_list_fini(&list);
}

static int connect_to(const struct fixture *f)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%s/r", f->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	return fd;
}

static void ask(int fd, const char *question, const char *answer)
{
	char buf[64];
	ssize_t n;

	assert_true(write(fd, question, strlen(question)) > 0);
	n = read(fd, buf, sizeof(buf) - 1);
	assert_true(n > 0);
	buf[n] = '\0';
	assert_string_equal(buf, answer);
}

static void *go_on_later(void *arg)
{
	poll(NULL, 0, 100);
	kill(((struct fixture *)arg)->server, SIGCONT);
	return NULL;
}

/* By a function that was killed when its server had not read all of it. */
static void what_was_sent_before_a_job_ended_is_not_there_after_it(void **state)
{
	static const char begin[] = "*3\r\n$3\r\nSET\r\n$9\r\njob/p/x:0\r\n$100000\r\n";
	static char value[100002];
	struct fixture *f = *state;
	struct store *s = store_of(state);
	pthread_t thread;
	int fd = connect_to(f);

	memset(value, 'x', sizeof(value) - 2);
	memcpy(value + sizeof(value) - 2, "\r\n", 2);
	ask(fd, "PING\r\n", "+PONG\r\n");
	kill(f->server, SIGSTOP);
	assert_int_equal(write(fd, begin, strlen(begin)), strlen(begin));
	assert_int_equal(write(fd, value, sizeof(value)), sizeof(value));
	close(fd);
	pthread_create(&thread, NULL, go_on_later, f);
	assert_int_equal(store_job_end(s, "job"), 0);
	pthread_join(thread, NULL);
	poll(NULL, 0, 100); /* whatever is still to be read */
	fd = connect_to(f);
	ask(fd, "DBSIZE\r\n", ":0\r\n");
	close(fd);
}

#define CONTRACT(setup)                                                                  \
	T(what_was_put_can_be_read_in_ranges, setup),                                    \
		T(a_stream_is_an_object_when_it_is_committed, setup),                    \
		T(the_first_writer_wins_and_the_second_is_content, setup),               \
		T(a_list_has_what_is_directly_in_the_directory_in_order, setup),         \
		T(what_is_removed_is_gone_alone_or_with_its_directory, setup),           \
		T(what_is_removed_may_be_written_at_the_same_time, setup),               \
		T(a_read_of_what_is_not_there_is_an_error_with_a_name, setup),           \
		T(everybody_who_waits_for_a_count_is_woken, setup),                      \
		T(an_object_is_shown_where_it_lies_or_not_at_all, setup),                \
		T(a_wait_ends_at_its_time, setup), T(bytes_and_time_are_counted, setup), \
		T(a_job_that_ended_has_left_nothing, setup)
#define T(test, setup) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	static const struct CMUnitTest dir[] = { CONTRACT(setup_dir) };
	static const struct CMUnitTest memory[] = { CONTRACT(setup_memory) };
	static const struct CMUnitTest redis[] = {
		CONTRACT(setup_redis),
		T(what_was_sent_before_a_job_ended_is_not_there_after_it, setup_redis),
	};
	int failed = cmocka_run_group_tests(dir, NULL, NULL);

	failed += cmocka_run_group_tests(memory, NULL, NULL);
	return failed + cmocka_run_group_tests(redis, NULL, NULL);
}
