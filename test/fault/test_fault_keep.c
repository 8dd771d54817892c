/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever the kernel answers to an owner of kept memory, or to its keeper, what was
 * put and acknowledged is there for the successor; nothing leaks; and a keeper does not die
 * of it, nor live on when its time is over. Method: an owner puts some regions, drops one and
 * goes; each fault of faults.def happens at the first call, the second ..., on the one side
 * and then on the other, and then to keepers that nobody comes to any more.
 */
#include "../unit/test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "faults.h"
#include "shm/keep_client.h"
#include "shm/keeper.h"

#define SIZE      4096
#define REGIONS   3
#define FIRST_MAX 40
#define TRIES     30

static char directory[] = "/tmp/wadi-fault-keep-XXXXXX";
static int awake; /* always to be read */

static struct keep_name name_of(unsigned i)
{
	return (struct keep_name){ .kind = KEEP_VALUE, .number = i };
}

/* Without any fault: these calls are the test's. -1: there is no keeper. */
static int connect_to_keeper(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%s/%s", directory, KEEPER_SOCKET);
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0)
		return fd;
	close(fd);
	return -1;
}

static int connection(void)
{
	int fd = connect_to_keeper();

	assert_true(fd >= 0);
	return fd;
}

/* With a fault of its own, or none. */
static pid_t start_keeper(const struct fault *f, unsigned first)
{
	struct keeper_config config = { .directory = directory,
					.listen_fd = keeper_listen(directory),
					.stop_fd = -1,
					.patience_ns = 60000000000ull };
	pid_t pid;

	assert_true(config.listen_fd >= 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
		fault_arm(f, first);
		_exit(keeper_run(&config) == 0 ? 0 : 1);
	}
	close(config.listen_fd);
	return pid;
}

/* What is known to be kept is told in `kept`. */
static void use(struct keep *k, bool kept[REGIONS])
{
	struct memory m[REGIONS];

	for (unsigned i = 0; i < REGIONS; i++) {
		if (keep_make(k, &media_memfd, SIZE, &m[i]) < 0) {
			m[i] = (struct memory){ .fd = -1 };
			continue;
		}
		memset(m[i].ptr, (int)i + 1, SIZE);
		kept[i] = keep_put(k, name_of(i), &m[i]) == 0;
	}
	keep_drop(k, name_of(1));
	kept[1] = false;
	/* As the end of a process does it. */
	for (unsigned i = 0; i < REGIONS; i++)
		media_memfd.free(&m[i]);
}

/* The same, and the owner looks whether the keeper is there, as its watcher does. */
static void watch(struct keep_client *c, bool kept[REGIONS])
{
	int r;

	use(keep_client_keep(c), kept);
	r = keep_client_watch(c, awake);
	assert_true(r == -ECANCELED || r == 0);
}

/* The successor: no fault meets it, but for what its keeper still has before it. */
static void look(const bool kept[REGIONS], const char *what, unsigned first)
{
	struct keep_client *c = NULL;
	struct memory m;

	for (int i = 0; i < TRIES && !c; i++) {
		int fd = connect_to_keeper();

		if (fd >= 0)
			(void)keep_client_open(fd, true, &c);
	}
	if (!c)
		fail_msg("%s, at call %u: nobody gets to the keeper any more", what, first);
	for (unsigned i = 0; i < REGIONS; i++) {
		if (!kept[i])
			continue;
		if (keep_take(keep_client_keep(c), name_of(i), &m) != 0)
			fail_msg("%s, at call %u: region %u is gone", what, first, i);
		assert_int_equal(m.ptr[0], i + 1);
		assert_int_equal(m.ptr[SIZE - 1], i + 1);
		media_memfd.free(&m);
	}
	keep_client_close(c);
}

/* It lives still, and is not needed any more. */
static void end(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

/* The lowest descriptor that is free: it goes up where one leaks. */
static int next_file(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static void each_line_has_been_met(unsigned where)
{
	const struct fault *f = fault_never_met(where);

	if (f)
		fail_msg("%s: %s: it has never happened", f->call_name, f->what);
}

static void an_owner_with_any_fault(void **state)
{
	int file = next_file();
	unsigned met = 0;

	for (unsigned i = 0; i < ALL_FAULTS_COUNT; i++) {
		const struct fault *f = &ALL_FAULTS[i];
		unsigned first = 1;
		bool is_met;

		do {
			bool kept[REGIONS] = { false };
			struct keep_client *c = NULL;
			pid_t pid = start_keeper(NULL, 0);
			int fd = connection();

			fault_arm(f, first);
			if (keep_client_open(fd, first % 2 == 0, &c) == 0)
				watch(c, kept);
			keep_client_close(c);
			is_met = fault_disarm();
			/* It was of one region. */
			if (is_met && f->error == ETOOMANYREFS)
				assert_true(kept[0] || kept[2]);
			look(kept, f->what, first);
			end(pid);
			assert_int_equal(next_file(), file);
			met += is_met;
			first++;
		} while (is_met && first <= FIRST_MAX);
	}
	print_message("%u faults\n", met);
	each_line_has_been_met(OWNER);
}

/* Where its socket is it looks as soon as it runs, and it would not begin. */
static unsigned first_of(const struct fault *f)
{
	return strcmp(f->call_name, "stat64") == 0 ? 2 : 1;
}

static void a_keeper_with_any_fault(void **state)
{
	int file = next_file();

	for (unsigned i = 0; i < ALL_FAULTS_COUNT; i++) {
		const struct fault *f = &ALL_FAULTS[i];

		for (unsigned first = first_of(f); first <= 12 && (f->where & KEEPER); first++) {
			bool kept[REGIONS] = { false };
			struct keep_client *c = NULL;
			pid_t pid = start_keeper(f, first);

			if (keep_client_open(connection(), false, &c) == 0)
				use(keep_client_keep(c), kept);
			keep_client_close(c);
			look(kept, f->what, first);
			end(pid);
			assert_int_equal(next_file(), file);
		}
	}
	each_line_has_been_met(KEEPER);
}

static void a_keeper_that_cannot_begin_says_so(void **state)
{
	struct keeper_config config = { .directory = directory, .listen_fd = -1, .stop_fd = awake };
	int file = next_file();

	for (unsigned i = 0; i < ALL_FAULTS_COUNT; i++) {
		const struct fault *f = &ALL_FAULTS[i];
		bool is_met;
		int fd;

		fault_arm(f, 1);
		fd = keeper_listen(directory);
		is_met = fault_disarm();
		assert_true(fd >= 0 || (is_met && fd == -f->error) ||
			    (strcmp(f->call_name, "unlink") == 0 && fd == -EADDRINUSE));
		if (fd < 0)
			fd = keeper_listen(directory);
		config.listen_fd = fd;
		if (strcmp(f->call_name, "stat64") == 0) {
			fault_arm(f, 1);
			assert_int_equal(keeper_run(&config), -f->error);
			assert_true(fault_disarm());
		}
		close(fd);
		assert_int_equal(next_file(), file);
	}
}

/* 0; 1 if it says that it cannot begin. Nobody comes to it. */
static int run_to_its_end(const char *path, const struct fault *f, unsigned first)
{
	struct keeper_config config = { .directory = path,
					.listen_fd = keeper_listen(path),
					.stop_fd = awake,
					.patience_ns = 60000000000ull };
	int status;
	pid_t pid;

	assert_true(config.listen_fd >= 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (f)
			fault_arm(f, first);
		_exit(keeper_run(&config) == 0 ? 0 : 1);
	}
	close(config.listen_fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* What it leaves there is litter, but only what it could not remove. */
static void a_keeper_whose_time_is_over_goes(void **state)
{
	char path[sizeof(directory) + 8], file[sizeof(path) + sizeof(KEEPER_SOCKET)];

	snprintf(path, sizeof(path), "%s/end", directory);
	snprintf(file, sizeof(file), "%s/%s", path, KEEPER_SOCKET);
	for (unsigned i = 0; i < ALL_FAULTS_COUNT; i++) {
		const struct fault *f = &ALL_FAULTS[i];

		for (unsigned first = 1; first <= 4 && (f->where & KEEPERS_END); first++) {
			assert_int_equal(mkdir(path, 0700), 0);
			if (run_to_its_end(path, f, first) != 0)
				assert_int_equal(first, 1);
			(void)unlink(file);
			(void)rmdir(path);
			assert_int_not_equal(access(path, F_OK), 0);
		}
	}
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(run_to_its_end(path, NULL, 0), 0);
	assert_int_not_equal(access(path, F_OK), 0);
	each_line_has_been_met(KEEPERS_END);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_owner_with_any_fault),
		cmocka_unit_test(a_keeper_with_any_fault),
		cmocka_unit_test(a_keeper_that_cannot_begin_says_so),
		cmocka_unit_test(a_keeper_whose_time_is_over_goes),
	};
	char path[sizeof(directory) + sizeof(KEEPER_SOCKET)];
	int failed;

	awake = eventfd(1, EFD_CLOEXEC);
	if (!mkdtemp(directory) || awake < 0)
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(path, sizeof(path), "%s/%s", directory, KEEPER_SOCKET);
	unlink(path);
	rmdir(directory);
	return failed;
}
