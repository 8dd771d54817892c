/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a server starts, with all that its predecessor left, though the keeper of its memory
 * falls silent or dies on the way; and once it has started nothing waits for the next one.
 * Method: this program is the keeper, too, as kept.c starts itself with the word `keep`.
 */
#include "cli/kept.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/node.h"
#include "shm/keeper.h"
#include "test.h"

#define SIZE    4096
#define REGIONS 4
#define HERE    42

static const struct kept_config CONFIG = { .port = 1, .keep_ms = 60000 };

static char base[] = "/tmp/wadi-slow-keeper-XXXXXX";
static struct kept kept;
static bool starts_itself;
static struct memory regions[REGIONS]; /* ours, as put */

static struct keep_name name_of(unsigned i)
{
	return (struct keep_name){ .kind = KEEP_VALUE, .number = i };
}

static int put(unsigned i)
{
	struct memory *m = &regions[i];

	assert_int_equal(media_memfd.make(SIZE, m), 0);
	memset(m->ptr, (int)i + 1, SIZE);
	return keep_put(kept.keep, name_of(i), m);
}

static void must_take(unsigned i)
{
	assert_int_equal(keep_take(kept.keep, name_of(i), &regions[i]), 0);
	assert_int_equal(regions[i].ptr[0], i + 1);
	assert_int_equal(regions[i].ptr[SIZE - 1], i + 1);
}

/* The watcher's own notes are not ours to read: each keeper says who it is in a file. */
static FILE *open_pid_file(const char *directory, const char *mode)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/../pid", directory);
	return fopen(path, mode);
}

static pid_t keeper(void)
{
	FILE *file = open_pid_file(kept.dir.path, "r");
	int pid = 0;

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%d", &pid), 1);
	fclose(file);
	return pid;
}

static void begin_server(bool is_again)
{
	if (!starts_itself)
		skip();
	assert_int_equal(kept_open(&kept, &CONFIG), 0);
	assert_int_equal(kept.is_again, is_again);
}

static void end_server(bool is_over)
{
	kept_close(&kept, is_over);
	for (unsigned i = 0; i < REGIONS; i++)
		media_memfd.free(&regions[i]);
}

static void kill_keeper(void)
{
	pid_t pid = keeper();

	kill(pid, SIGKILL);
	while (kill(pid, 0) == 0) /* the watcher takes note of its end */
		usleep(1000);
}

static void one_that_stops_at_the_start_is_replaced(void **state)
{
	pid_t first;

	begin_server(false);
	assert_int_equal(put(0), 0);
	first = keeper();
	kill(first, SIGSTOP);
	assert_int_equal(put(1), 0);
	assert_int_not_equal(keeper(), first);
	kept_start(&kept);
	end_server(false);
	begin_server(true);
	must_take(0);
	must_take(1);
	end_server(true);
}

static void one_that_dies_at_the_start_is_replaced(void **state)
{
	begin_server(false);
	for (unsigned i = 0; i < REGIONS; i++) {
		kill_keeper();
		assert_int_equal(put(i), 0);
	}
	end_server(true);
}

/* What nobody has taken yet is handed to the next one, too. */
static void a_predecessors_that_stops_at_the_start_is_replaced(void **state)
{
	pid_t first;

	begin_server(false);
	assert_int_equal(put(0), 0);
	assert_int_equal(put(1), 0);
	kept_start(&kept);
	first = keeper();
	end_server(false);
	begin_server(true);
	must_take(0);
	kill(first, SIGSTOP);
	assert_int_equal(put(2), 0);
	must_take(1);
	end_server(false);
	kill(first, SIGKILL);
	assert_int_equal(waitpid(first, NULL, 0), first);
	begin_server(true);
	for (unsigned i = 0; i < 3; i++)
		must_take(i);
	end_server(true);
}

static void once_begun_nothing_waits_for_the_next_one(void **state)
{
	uint64_t begun_ns;

	begin_server(false);
	kept_start(&kept);
	kill(keeper(), SIGSTOP);
	begun_ns = node_now_ns();
	assert_int_equal(put(0), -EHOSTDOWN);
	assert_true(node_now_ns() - begun_ns < KEEP_NEXT_MS * 1000000ull);
	end_server(true);
}

static void one_that_is_dead_at_the_end_leaves_no_socket(void **state)
{
	struct stat st;

	begin_server(false);
	kept_start(&kept);
	kill(keeper(), SIGKILL);
	end_server(true);
	assert_int_equal(stat(kept.dir.path, &st), -1);
	assert_int_equal(errno, ENOENT);
}

/* Under qemu's user mode /proc/self/exe is the emulator. */
static bool can_start_itself(void)
{
	char program[] = "test", word[] = "here";
	char *argv[] = { program, word, NULL };
	int status = 0;
	pid_t pid;

	return posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, NULL) == 0 &&
	       waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == HERE;
}

static int begin(void **state)
{
	starts_itself = can_start_itself();
	return mkdtemp(base) ? setenv("XDG_RUNTIME_DIR", base, 1) : -1;
}

/* Nothing is left there. */
static int end(void **state)
{
	char path[100];

	snprintf(path, sizeof(path), "%s/pid", base);
	return (starts_itself ? unlink(path) : 0) + rmdir(base);
}

static int be_keeper(const char *directory)
{
	struct keeper_config config = { .directory = directory,
					.listen_fd = STDIN_FILENO,
					.stop_fd = -1,
					.patience_ns = CONFIG.keep_ms * 1000000 };

	FILE *file = open_pid_file(directory, "w");

	if (!file || fprintf(file, "%d", getpid()) < 0 || fclose(file) != 0)
		return 1;
	return keeper_run(&config) < 0;
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_that_stops_at_the_start_is_replaced),
		cmocka_unit_test(one_that_dies_at_the_start_is_replaced),
		cmocka_unit_test(a_predecessors_that_stops_at_the_start_is_replaced),
		cmocka_unit_test(once_begun_nothing_waits_for_the_next_one),
		cmocka_unit_test(one_that_is_dead_at_the_end_leaves_no_socket),
	};

	if (argc > 1 && strcmp(argv[1], "here") == 0)
		return HERE;
	if (argc > 1 && strcmp(argv[1], "keep") == 0)
		return be_keeper(argv[argc - 1]);
	return cmocka_run_group_tests(tests, begin, end);
}
