/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A child knows that it is one, and so does its child; whether or not the kernel wipes pages.
 */
#include "test.h"

#include <sys/wait.h>
#include <unistd.h>

#include "shm/forked.h"

/* What a child, and a child of it, see: bits 1 and 2. */
static int seen_by_children(const struct forked *f)
{
	int status, seen;
	pid_t pid = fork();

	if (pid == 0) {
		pid = fork();
		if (pid == 0)
			_exit(forked_since(f));
		seen = waitpid(pid, &status, 0) == pid ? WEXITSTATUS(status) : 0;
		_exit(2 * seen + forked_since(f));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void a_child_is_told_from_who_began(void **state)
{
	struct forked f;

	forked_begin(&f);
	assert_non_null(f.mark);
	assert_false(forked_since(&f));
	assert_int_equal(seen_by_children(&f), 3);
	assert_false(forked_since(&f));
	forked_end(&f);
	assert_null(f.mark);
}

static void without_a_page_it_goes_by_the_number(void **state)
{
	struct forked f = { .pid = getpid() };

	assert_false(forked_since(&f));
	assert_int_equal(seen_by_children(&f), 3);
	forked_end(&f);
}

static void what_was_never_begun_is_nobodys(void **state)
{
	struct forked f = { 0 };

	assert_true(forked_since(&f));
	forked_end(&f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_child_is_told_from_who_began),
		cmocka_unit_test(without_a_page_it_goes_by_the_number),
		cmocka_unit_test(what_was_never_begun_is_nobodys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
