/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever the kernel answers to the calls on the log's files, what was acknowledged
 * is there, an error is told and not taken for the end of something, nothing leaks, and the
 * next try goes on. Method: a directory and two files of a log, from their beginning to
 * their end; each fault of faults.def happens at the first call, the second ..., and then
 * the same again without one. What becomes of a failed sync is test_restart.c's.
 */
#include "../unit/test.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "faults.h"
#include "shm/archive.h"

#define LEN       3000
#define FIRST_MAX 60

static char directory[] = "/tmp/wadi-fault-archive-XXXXXX";
static char path[sizeof(directory) + 8];
static uint8_t bytes[2 * LEN];

/* The names that there are, one after the other. */
static int names(struct archive *a, char ret[200])
{
	char name[ARCHIVE_NAME_MAX] = "";
	int r;

	ret[0] = '\0';
	while ((r = a->ops->next(a, name, name)) > 0) {
		strcat(ret, name);
		strcat(ret, " ");
	}
	return r;
}

static int has(struct archive *a, const char *name, size_t len)
{
	static uint8_t got[2 * LEN + 10];
	int64_t n = a->ops->read(a, name, 0, got, sizeof(got));

	if (n < 0)
		return (int)n;
	if ((size_t)n != len || memcmp(got, bytes, len) != 0)
		fail_msg("%s has %d bytes, or others than were written", name, (int)n);
	return 0;
}

static int use(struct archive *a)
{
	const struct archive_ops *ops = a->ops;
	char found[200];
	int r = ops->write(a, "log-1", 0, bytes, LEN);

	if (r == 0)
		r = ops->write(a, "log-1", LEN, bytes + LEN, LEN);
	if (r == 0)
		r = ops->sync(a, "log-1");
	if (r == 0)
		r = ops->write(a, "log-2", 0, bytes, LEN);
	if (r == 0)
		r = names(a, found);
	if (r == 0)
		assert_string_equal(found, "log-1 log-2 ");
	if (r == 0)
		r = has(a, "log-1", 2 * LEN);
	if (r == 0)
		r = ops->cut(a, "log-2", 10);
	if (r == 0)
		r = has(a, "log-2", 10);
	if (r == 0)
		r = ops->remove(a, "log-2");
	if (r == 0)
		r = names(a, found);
	if (r == 0)
		assert_string_equal(found, "log-1 ");
	return r;
}

static int live(const struct fault *f, unsigned first, bool *ret_is_met)
{
	struct archive *a = NULL;
	int r;

	fault_arm(f, first);
	r = archive_open(path, &a);
	if (r == 0)
		r = use(a);
	archive_close(a);
	*ret_is_met = fault_disarm();
	return r;
}

static void clear(void)
{
	static const char *const FILES[] = { "log-1", "log-2" };
	char file[sizeof(path) + 8];

	for (unsigned i = 0; i < 2; i++) {
		snprintf(file, sizeof(file), "%s/%s", path, FILES[i]);
		unlink(file);
	}
	rmdir(path);
}

/* The lowest descriptor that is free: it goes up where one leaks. */
static int next_file(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static void any_answer_to_a_logs_files_is_lived_with(void **state)
{
	int file = next_file();
	unsigned met = 0;
	bool is_met;

	for (unsigned i = 0; i < ALL_FAULTS_COUNT; i++) {
		const struct fault *f = &ALL_FAULTS[i];
		unsigned first = 1;

		do {
			int r;

			clear();
			r = live(f, first, &is_met);
			if (r != 0 && (!is_met || f->outcome == WORKS || r != -f->error))
				fail_msg("%s: %s, at call %u: %s", f->call_name, f->what, first,
					 strerror(-r));
			assert_int_equal(next_file(), file);
			met += is_met;
			first++;
			/* With what the failed one has left. */
			assert_int_equal(live(NULL, 1, &(bool){ false }), 0);
			assert_int_equal(next_file(), file);
		} while (is_met && first <= FIRST_MAX);
	}
	print_message("%u faults\n", met);
	assert_true(met > 100);
}

/* These must be told: who is told nothing believes that all is well. */
static void what_is_not_written_or_not_safe_is_told(void **state)
{
	static const char *const CALLS_THAT_COUNT[] = { "openat64",  "pwrite64", "pread64",
							"fdatasync", "fsync",    "ftruncate64",
							"unlinkat",  "mkdir",    "flock",
							"fdopendir", "readdir64" };
	bool is_met;

	for (unsigned i = 0; i < ALL_FAULTS_COUNT; i++) {
		const struct fault *f = &ALL_FAULTS[i];
		bool counts = false;

		for (unsigned n = 0; n < sizeof(CALLS_THAT_COUNT) / sizeof(char *); n++)
			counts |= strcmp(f->call_name, CALLS_THAT_COUNT[n]) == 0;
		clear();
		if (counts && f->outcome == SAYS && live(f, 1, &is_met) != -f->error)
			fail_msg("%s: %s: nobody was told", f->call_name, f->what);
	}
}

static void each_line_has_been_met(void **state)
{
	const struct fault *f = fault_never_met(ARCHIVE);

	if (f)
		fail_msg("%s: %s: it has never happened", f->call_name, f->what);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_answer_to_a_logs_files_is_lived_with),
		cmocka_unit_test(what_is_not_written_or_not_safe_is_told),
		cmocka_unit_test(each_line_has_been_met),
	};
	int failed;

	if (!mkdtemp(directory))
		return 1;
	snprintf(path, sizeof(path), "%s/log", directory);
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 37 + i / 251);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	clear();
	rmdir(directory);
	return failed;
}
