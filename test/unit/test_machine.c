/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the machine says of its memory, and what limits of control groups in version 1 and 2
 * make of it. The files that are read are made here, and are mounted where the kernel's are,
 * for this process alone; where that is not allowed nothing is tested.
 */
#include "cli/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"

#define GROUPS "/sys/fs/cgroup"

static char directory[] = "/tmp/wadi-machine-XXXXXX";
static bool is_allowed;

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static const char *in_directory(const char *name)
{
	static char path[100];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

/* A file of ours instead of one of the kernel's. */
static bool take_place(const char *name, const char *path)
{
	write_file(in_directory(name), "");
	return mount(in_directory(name), path, NULL, MS_BIND, NULL) == 0;
}

static int begin(void **state)
{
	bool is_root = geteuid() == 0;

	if (!mkdtemp(directory))
		return -1;
	is_allowed = unshare(is_root ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) == 0 &&
		     mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		     mount("none", GROUPS, "tmpfs", 0, NULL) == 0 &&
		     take_place("meminfo", "/proc/meminfo") &&
		     take_place("cgroup", "/proc/self/cgroup");
	return 0;
}

static int end(void **state)
{
	unlink(in_directory("meminfo"));
	unlink(in_directory("cgroup"));
	return rmdir(directory);
}

static void says(const char *meminfo, const char *cgroup)
{
	if (!is_allowed)
		skip();
	write_file(in_directory("meminfo"), meminfo);
	write_file(in_directory("cgroup"), cgroup);
}

static void group_says(const char *group, const char *file, const char *text)
{
	char path[300];

	snprintf(path, sizeof(path), GROUPS "%s", group);
	for (char *p = path + strlen(GROUPS) + 1; (p = strchr(p, '/')); *p++ = '/') {
		*p = '\0';
		mkdir(path, 0700);
	}
	mkdir(path, 0700);
	snprintf(path, sizeof(path), GROUPS "%s/%s", group, file);
	write_file(path, text);
}

static void expect_most(uint64_t bytes, const char *whose)
{
	char where[MEMORY_WHERE_MAX];

	assert_int_equal(memory_most(where, sizeof(where)), bytes);
	assert_string_equal(where, whose);
}

#define MEMINFO                      \
	"MemTotal:        1000 kB\n" \
	"MemFree:          100 kB\n" \
	"MemAvailable:300 kB\n"      \
	"MemAvailableToo:  900 kB\n"

static void the_machine_has_what_the_kernel_says(void **state)
{
	says(MEMINFO, "0::/\n");
	expect_most(1024000, "this machine has");
	assert_int_equal(memory_available(), 307200);
}

static void a_group_has_less(void **state)
{
	says(MEMINFO, "0::/two/one\n");
	group_says("/two/one", "memory.max", "500000\n");
	expect_most(500000, GROUPS "/two/one/memory.max is");
	group_says("/two/one", "memory.max", "1024000\n");
	expect_most(1024000, "this machine has");
	group_says("/two/one", "memory.max", "max\n");
	expect_most(1024000, "this machine has");
}

static void the_least_of_all_above_counts(void **state)
{
	says(MEMINFO, "0::/a/b/c\n");
	group_says("/a/b/c", "memory.max", "500000\n");
	group_says("/a/b", "memory.max", "max\n");
	group_says("/a", "memory.max", "400000\n");
	expect_most(400000, GROUPS "/a/memory.max is");
	group_says("", "memory.max", "300000\n");
	expect_most(300000, GROUPS "/memory.max is");
	unlink(GROUPS "/memory.max");
	group_says("/a/b", "memory.max", "200000\n");
	expect_most(200000, GROUPS "/a/b/memory.max is");
}

/* Of a group whose name ends in a slash, and of none. */
static void the_root_is_a_group_too(void **state)
{
	says(MEMINFO, "0::/\n");
	group_says("", "memory.max", "250000\n");
	expect_most(250000, GROUPS "/memory.max is");
	unlink(GROUPS "/memory.max");
	expect_most(1024000, "this machine has");
}

static void version_1_has_a_file_of_another_name(void **state)
{
	says(MEMINFO, "5:cpu,cpuacct:/x\n4:memory:/x\n1:name=systemd:/x\n");
	group_says("/memory/x", "memory.limit_in_bytes", "600000\n");
	group_says("/cpu,cpuacct/x", "memory.limit_in_bytes", "1\n");
	group_says("/x", "memory.max", "2\n");
	expect_most(600000, GROUPS "/memory/x/memory.limit_in_bytes is");
	/* What version 1 says for none. */
	group_says("/memory/x", "memory.limit_in_bytes", "9223372036854771712\n");
	expect_most(1024000, "this machine has");
}

static void of_both_versions_the_least_counts(void **state)
{
	says(MEMINFO, "4:memory:/old\n0::/new\n");
	group_says("/memory/old", "memory.limit_in_bytes", "600000\n");
	group_says("/new", "memory.max", "500000\n");
	expect_most(500000, GROUPS "/new/memory.max is");
	group_says("/new", "memory.max", "700000\n");
	expect_most(600000, GROUPS "/memory/old/memory.limit_in_bytes is");
}

static void lines_that_are_none_are_left_out(void **state)
{
	says(MEMINFO, "nonsense\n3:\n0::/fine\n");
	group_says("/fine", "memory.max", "800000\n");
	expect_most(800000, GROUPS "/fine/memory.max is");
}

static void where_nobody_says_it_there_is_no_limit(void **state)
{
	says("", "");
	expect_most(UINT64_MAX, "nobody says how much there is:");
	assert_int_equal(memory_available(), 0);
	says("", "0::/only\n");
	group_says("/only", "memory.max", "800000\n");
	expect_most(800000, GROUPS "/only/memory.max is");
}

static void a_first_line_has_no_end(void **state)
{
	char buf[16] = "";

	says("one\ntwo\n", "");
	assert_true(first_line("/proc/meminfo", buf, sizeof(buf)));
	assert_string_equal(buf, "one");
	assert_true(first_line("/proc/meminfo", buf, 3));
	assert_string_equal(buf, "on");
	assert_false(first_line("/proc/self/cgroup", buf, sizeof(buf)));
	assert_false(first_line("/nonexistent", buf, sizeof(buf)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_machine_has_what_the_kernel_says),
		cmocka_unit_test(a_group_has_less),
		cmocka_unit_test(the_least_of_all_above_counts),
		cmocka_unit_test(the_root_is_a_group_too),
		cmocka_unit_test(version_1_has_a_file_of_another_name),
		cmocka_unit_test(of_both_versions_the_least_counts),
		cmocka_unit_test(lines_that_are_none_are_left_out),
		cmocka_unit_test(where_nobody_says_it_there_is_no_limit),
		cmocka_unit_test(a_first_line_has_no_end),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
