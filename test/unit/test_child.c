/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Servers as processes of ours: what they print is heard line by line, their end is noticed,
 * and to stop them is to wait until they are gone.
 */
#include "bench/child.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/node.h"
#include "bench/cpus.h"
#include "test.h"

#define SECOND_NS 1000000000ull

static int start(struct child *c, const char *script, bool is_heard)
{
	const char *const argv[] = { "sh", "-c", script, NULL };
	cpu_set_t cpus = cpus_of(CPUS_SERVER, 1);

	return child_start(c, argv, &cpus, is_heard);
}

static uint64_t in_ns(uint64_t ns)
{
	return node_now_ns() + ns;
}

static bool is_there(pid_t pid)
{
	return kill(pid, 0) == 0;
}

/* Until it has ended, or a while is over. */
static bool ends(struct child *c)
{
	uint64_t due_ns = in_ns(10 * SECOND_NS);
	bool is_running;

	while ((is_running = child_is_running(c)) && node_now_ns() < due_ns)
		usleep(1000);
	return !is_running;
}

static void its_lines_are_heard_one_by_one(void **state)
{
	struct child c;
	char line[16];

	assert_int_equal(start(&c, "echo one; echo; echo three; exec sleep 60", true), 0);
	assert_int_equal(child_line(&c, line, sizeof(line), in_ns(10 * SECOND_NS)), 0);
	assert_string_equal(line, "one");
	assert_int_equal(child_line(&c, line, sizeof(line), in_ns(10 * SECOND_NS)), 0);
	assert_string_equal(line, "");
	assert_int_equal(child_line(&c, line, sizeof(line), in_ns(10 * SECOND_NS)), 0);
	assert_string_equal(line, "three");
	assert_true(child_is_running(&c));
	child_stop(&c);
}

static void a_line_that_does_not_come_is_late(void **state)
{
	struct child c;
	char line[16];
	uint64_t begun_ns = node_now_ns();

	assert_int_equal(start(&c, "printf half; exec sleep 60", true), 0);
	assert_int_equal(child_line(&c, line, sizeof(line), in_ns(SECOND_NS / 20)), -ETIMEDOUT);
	assert_in_range(node_now_ns() - begun_ns, SECOND_NS / 20, 30 * SECOND_NS);
	child_stop(&c);
}

static void who_has_ended_says_no_more(void **state)
{
	struct child c;
	char line[16];

	assert_int_equal(start(&c, "echo last", true), 0);
	assert_int_equal(child_line(&c, line, sizeof(line), in_ns(10 * SECOND_NS)), 0);
	assert_int_equal(child_line(&c, line, sizeof(line), in_ns(10 * SECOND_NS)), -EPIPE);
	child_stop(&c);
}

static void a_line_has_an_end_within_its_room(void **state)
{
	struct child c;
	char line[4];

	assert_int_equal(start(&c, "echo abc; echo abcd", true), 0);
	assert_int_equal(child_line(&c, line, sizeof(line), in_ns(10 * SECOND_NS)), -EMSGSIZE);
	assert_memory_equal(line, "abc", 3);
	child_stop(&c);
	assert_int_equal(start(&c, "echo ab; echo ab", true), 0);
	assert_int_equal(child_line(&c, line, sizeof(line), in_ns(10 * SECOND_NS)), 0);
	assert_string_equal(line, "ab");
	child_stop(&c);
}

static void its_end_is_noticed(void **state)
{
	struct child c;

	assert_int_equal(start(&c, "exec sleep 60", false), 0);
	assert_int_equal(c.out_fd, -1);
	assert_true(child_is_running(&c));
	assert_int_equal(kill(c.pid, SIGKILL), 0);
	assert_true(ends(&c));
	assert_int_equal(c.pid, 0);
	assert_false(child_is_running(&c));
	child_stop(&c);
}

static void a_program_that_is_not_there_ends_at_once(void **state)
{
	const char *const argv[] = { "/nonexistent/server", NULL };
	cpu_set_t cpus = cpus_of(CPUS_SERVER, 1);
	struct child c;

	assert_int_equal(child_start(&c, argv, &cpus, false), 0);
	assert_true(ends(&c));
	child_stop(&c);
}

/* Whether it listens to SIGTERM is its own affair; a stopped one is woken for it. */
static void to_stop_is_to_wait_until_it_is_gone(void **state)
{
	struct child c;
	uint64_t begun_ns = node_now_ns();
	pid_t pid;

	assert_int_equal(start(&c, "exec sleep 60", true), 0);
	pid = c.pid;
	kill(pid, SIGSTOP);
	child_stop(&c);
	assert_false(is_there(pid));
	assert_int_equal(c.pid, 0);
	assert_int_equal(c.out_fd, -1);
	child_stop(&c);
	/* It was not the last resort, which comes after ten seconds. */
	assert_true(node_now_ns() - begun_ns < 9 * SECOND_NS);
}

/* A child has signals as any program does, whatever its parent makes of them. */
static void it_begins_with_signals_of_its_own(void **state)
{
	struct child c;
	char line[16];
	sigset_t all, before;

	signal(SIGINT, SIG_IGN);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	/* The last eight digits: of signals 1 to 32. */
	assert_int_equal(
		start(&c, "grep SigBlk /proc/self/status | cut -c17-; kill -INT $$; echo no", true),
		0);
	sigprocmask(SIG_SETMASK, &before, NULL);
	signal(SIGINT, SIG_DFL);
	assert_int_equal(child_line(&c, line, sizeof(line), in_ns(10 * SECOND_NS)), 0);
	assert_string_equal(line, "00000000");
	assert_int_equal(child_line(&c, line, sizeof(line), in_ns(10 * SECOND_NS)), -EPIPE);
	child_stop(&c);
}

/* What a forked one finds out about itself. */
struct report {
	int fd;
	pid_t parent;
};

static void tell(void *arg)
{
	struct report *r = arg;
	int end = 0;
	char text[4] = { 0 };

	prctl(PR_GET_PDEATHSIG, &end);
	text[0] = (char)end;
	text[1] = (char)(getppid() == r->parent);
	text[2] = (char)(getpgrp() == getpid());
	(void)!write(r->fd, text, sizeof(text));
	for (;;)
		pause();
}

static void a_forked_one_ends_with_its_parent(void **state)
{
	cpu_set_t cpus = cpus_of(CPUS_SERVER, 1);
	struct report report = { .parent = getpid() };
	struct child c;
	char text[4] = "";
	int fds[2];
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	report.fd = fds[1];
	assert_int_equal(child_fork(&c, tell, &report, &cpus), 0);
	assert_int_equal(read(fds[0], text, sizeof(text)), sizeof(text));
	assert_int_equal(text[0], SIGKILL);
	assert_int_equal(text[1], 1);
	assert_int_equal(text[2], 1); /* Ctrl-C is not its */
	assert_true(child_is_running(&c));
	assert_int_equal(c.out_fd, -1);
	pid = c.pid;
	child_stop(&c);
	assert_false(is_there(pid));
	close(fds[0]);
	close(fds[1]);
}

static void nothing_runs_where_none_was_started(void **state)
{
	struct child c = { .out_fd = -1 };

	assert_false(child_is_running(&c));
	child_stop(&c);
	assert_int_equal(c.out_fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(its_lines_are_heard_one_by_one),
		cmocka_unit_test(a_line_that_does_not_come_is_late),
		cmocka_unit_test(who_has_ended_says_no_more),
		cmocka_unit_test(a_line_has_an_end_within_its_room),
		cmocka_unit_test(its_end_is_noticed),
		cmocka_unit_test(a_program_that_is_not_there_ends_at_once),
		cmocka_unit_test(to_stop_is_to_wait_until_it_is_gone),
		cmocka_unit_test(it_begins_with_signals_of_its_own),
		cmocka_unit_test(a_forked_one_ends_with_its_parent),
		cmocka_unit_test(nothing_runs_where_none_was_started),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
