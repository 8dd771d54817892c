/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server's directory: where it is, whose, and how one that is left goes to a successor.
 */
#include "cli/rundir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"

/* A number that is no port of any server. */
#define NUMBER 3000000001u

static char base[] = "/tmp/wadi-rundir-XXXXXX";

static int begin(void **state)
{
	return mkdtemp(base) ? setenv("XDG_RUNTIME_DIR", base, 1) : -1;
}

static int end(void **state)
{
	return rmdir(base);
}

static const char *expected(const char *where)
{
	static char path[200];

	snprintf(path, sizeof(path), "%s/wadi-%u", where, NUMBER);
	return path;
}

static bool is_there(const char *path)
{
	return access(path, F_OK) == 0;
}

static void it_is_in_the_runtime_directory_and_goes_when_it_is_closed(void **state)
{
	struct rundir d;
	struct stat st;

	assert_int_equal(rundir_open(&d, NUMBER), 0);
	assert_string_equal(d.path, expected(base));
	assert_int_equal(stat(d.path, &st), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0700);
	rundir_close(&d);
	assert_false(is_there(d.path));
	assert_int_equal(d.lock_fd, -1);
	rundir_close(&d);
}

/* Of a user's own name there, for all users have that. */
static void without_one_it_is_in_tmp(void **state)
{
	char in_tmp[100], relative[] = "tmp", longest[64], longer[65];
	const char *const nowhere[] = { NULL, "", relative, longer };
	struct rundir d;

	memset(longest, '/', sizeof(longest));
	memcpy(longest, "/tmp", 4);
	memset(longer, '/', sizeof(longer));
	longest[63] = longer[64] = '\0';
	snprintf(in_tmp, sizeof(in_tmp), "/tmp/wadi-%u-%u", getuid(), NUMBER);
	for (unsigned i = 0; i < 4; i++) {
		if (nowhere[i])
			setenv("XDG_RUNTIME_DIR", nowhere[i], 1);
		else
			unsetenv("XDG_RUNTIME_DIR");
		assert_int_equal(rundir_open(&d, NUMBER), 0);
		assert_string_equal(d.path, in_tmp);
		rundir_close(&d);
	}
	/* One byte shorter has room for any number, with its NUL. */
	setenv("XDG_RUNTIME_DIR", longest, 1);
	assert_int_equal(rundir_open(&d, NUMBER), 0);
	assert_string_equal(d.path, expected(longest));
	rundir_close(&d);
	setenv("XDG_RUNTIME_DIR", base, 1);
}

static void one_server_has_it_at_a_time(void **state)
{
	struct rundir first, second;

	assert_int_equal(rundir_open(&first, NUMBER), 0);
	assert_int_equal(rundir_open(&second, NUMBER), -EBUSY);
	assert_int_equal(second.lock_fd, -1);
	assert_int_equal(rundir_open_again(&second, first.path), -EBUSY);
	rundir_close(&second);
	assert_true(is_there(first.path));
	rundir_close(&first);
	assert_int_equal(rundir_open(&second, NUMBER), 0);
	rundir_close(&second);
}

static void what_is_left_is_a_successors(void **state)
{
	struct rundir d, next;

	assert_int_equal(rundir_open(&d, NUMBER), 0);
	rundir_leave(&d);
	assert_int_equal(d.lock_fd, -1);
	assert_true(is_there(d.path));
	assert_int_equal(rundir_open_again(&next, d.path), 0);
	assert_string_equal(next.path, d.path);
	assert_int_equal(rundir_open(&d, NUMBER), -EBUSY);
	rundir_leave(&next);
	assert_int_equal(rundir_open(&d, NUMBER), 0);
	rundir_close(&d);
	assert_int_equal(rundir_open_again(&next, d.path), -ENOENT);
	assert_int_equal(next.lock_fd, -1);
}

static void a_path_without_room_is_none(void **state)
{
	char path[RUNDIR_PATH_MAX + 1];
	struct rundir d;

	memset(path, '/', sizeof(path));
	path[RUNDIR_PATH_MAX] = '\0';
	assert_int_equal(rundir_open_again(&d, path), -ENOENT);
}

static void one_that_others_may_enter_is_not_ours(void **state)
{
	struct rundir d;

	assert_int_equal(mkdir(expected(base), 0700), 0);
	chmod(expected(base), 0710);
	assert_int_equal(rundir_open(&d, NUMBER), -EPERM);
	chmod(expected(base), 0701);
	assert_int_equal(rundir_open(&d, NUMBER), -EPERM);
	assert_int_equal(d.lock_fd, -1);
	chmod(expected(base), 0700);
	assert_int_equal(rundir_open(&d, NUMBER), 0);
	rundir_close(&d);
}

static void what_is_no_directory_is_not_ours(void **state)
{
	struct rundir d;

	assert_int_equal(symlink("/tmp", expected(base)), 0);
	assert_int_equal(rundir_open(&d, NUMBER), -EPERM);
	unlink(expected(base));
	fclose(fopen(expected(base), "w"));
	assert_int_equal(rundir_open(&d, NUMBER), -EPERM);
	unlink(expected(base));
}

static void where_there_is_no_place_it_fails(void **state)
{
	struct rundir d;

	setenv("XDG_RUNTIME_DIR", "/nonexistent", 1);
	assert_int_equal(rundir_open(&d, NUMBER), -ENOENT);
	assert_int_equal(d.lock_fd, -1);
	setenv("XDG_RUNTIME_DIR", base, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_in_the_runtime_directory_and_goes_when_it_is_closed),
		cmocka_unit_test(without_one_it_is_in_tmp),
		cmocka_unit_test(one_server_has_it_at_a_time),
		cmocka_unit_test(what_is_left_is_a_successors),
		cmocka_unit_test(a_path_without_room_is_none),
		cmocka_unit_test(one_that_others_may_enter_is_not_ours),
		cmocka_unit_test(what_is_no_directory_is_not_ours),
		cmocka_unit_test(where_there_is_no_place_it_fails),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
