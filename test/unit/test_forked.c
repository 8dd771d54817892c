/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A child knows that it is one, and so does its child; whether or not the kernel wipes pages.
 */
#include "test.h"

#include <sys/mman.h>
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

/* Does a child find zeros? qemu's user mode says so, and does it not. */
static bool wipes_pages(void)
{
	char *p = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t pid;

	assert_true(p != MAP_FAILED);
	assert_int_equal(madvise(p, 1, MADV_WIPEONFORK), 0);
	*p = 1;
	pid = fork();
	if (pid == 0)
		_exit(*p);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	munmap(p, 1);
	return WEXITSTATUS(status) == 0;
}

static void a_child_is_told_from_who_began(void **state)
{
	struct forked f;

	if (!wipes_pages())
		skip();
	forked_begin(&f);
	assert_non_null(f.mark);
	assert_false(forked_since(&f));
	assert_int_equal(seen_by_children(&f), 3);
	assert_false(forked_since(&f));
	forked_end(&f);
	assert_null(f.mark);
}

/* Whoever begins in a child is that child's, and not its parent's; nor has the page another. */
static void what_begins_in_a_child_is_the_childs(void **state)
{
	struct forked first, second, own;
	int status;
	pid_t pid;

	if (!wipes_pages())
		skip();
	forked_begin(&first);
	forked_begin(&second);
	assert_ptr_equal(first.mark, second.mark);
	forked_end(&first);
	assert_false(forked_since(&second));
	pid = fork();
	if (pid == 0) {
		forked_begin(&own);
		status =
			forked_since(&own) || !forked_since(&second) || seen_by_children(&own) != 3;
		forked_end(&own);
		_exit(status || !forked_since(&second));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_false(forked_since(&second));
	forked_end(&second);
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
		cmocka_unit_test(what_begins_in_a_child_is_the_childs),
		cmocka_unit_test(without_a_page_it_goes_by_the_number),
		cmocka_unit_test(what_was_never_begun_is_nobodys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
