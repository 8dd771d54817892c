/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever the kernel answers to an owner of kept memory, or to its keeper, what was
 * put and acknowledged is there for the successor; nothing leaks; and a keeper does not die
 * of it. Method: an owner puts some regions, drops one and goes; each fault of faults.def
 * happens at the first call, the second ..., on the one side and then on the other.
 */
#include "../unit/test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
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

static struct keep_name name_of(unsigned i)
{
	return (struct keep_name){ .kind = KEEP_VALUE, .number = i };
}

/* Without any fault: these calls are the test's. */
static int connection(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%s/%s", directory, KEEPER_SOCKET);
	assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
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

/* The successor: no fault meets it, but for what its keeper still has before it. */
static void look(const bool kept[REGIONS], const char *what, unsigned first)
{
	struct keep_client *c = NULL;
	struct memory m;

	for (int i = 0; i < TRIES && !c; i++)
		(void)keep_client_open(connection(), true, &c);
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
				use(keep_client_keep(c), kept);
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
	assert_true(met > 30);
}

/* What a keeper calls; others would not be met. A message is never sent in part. */
static bool is_of_keepers(const struct fault *f)
{
	static const char *const calls[] = { "accept4", "getsockopt", "setsockopt", "sendmsg",
					     "recvmsg" };

	for (unsigned i = 0; i < 5; i++)
		if (strcmp(f->call_name, calls[i]) == 0 && f->error != SHORT)
			return true;
	return false;
}

static void a_keeper_with_any_fault(void **state)
{
	int file = next_file();

	for (unsigned i = 0; i < ALL_FAULTS_COUNT; i++) {
		const struct fault *f = &ALL_FAULTS[i];

		for (unsigned first = 1; first <= 12 && is_of_keepers(f); first++) {
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
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_owner_with_any_fault),
		cmocka_unit_test(a_keeper_with_any_fault),
	};
	char path[sizeof(directory) + sizeof(KEEPER_SOCKET)];
	int failed;

	if (!mkdtemp(directory))
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(path, sizeof(path), "%s/%s", directory, KEEPER_SOCKET);
	unlink(path);
	rmdir(directory);
	return failed;
}
