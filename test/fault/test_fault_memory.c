/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever the kernel answers to a call of media_memfd, a range that was filled has
 * its pages, so that no access can fail later, or the call says why not; nothing leaks; and
 * the next time all is well. Method: the life of a small and of a large region, which is
 * shared with somebody, in which each fault of faults.def happens at the first call, the second ...
 */
#include "../unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "faults.h"
#include "shm/memory.h"

#define SMALL     (64u << 10)
#define LARGE     (4u << 20)
#define FIRST_MAX 40 /* calls at which a fault begins, one after the other */

static bool has_pages(const struct memory *m, size_t bytes)
{
	struct stat st;

	return fstat(m->fd, &st) == 0 && (uint64_t)st.st_blocks * 512 >= bytes;
}

static bool is_zero(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

/* Somebody else maps it. */
static int share(const struct memory *m)
{
	struct memory other;
	int fd = memory_export_to_write(m);
	int r = fd < 0 ? fd : memory_join(fd, m->size, &other);

	if (r == 0)
		media_memfd.free(&other);
	memory_export_end(fd);
	return r;
}

/* 0, or what a call said. A fault is asked about while it is armed, so not by way of libc's. */
static int live(size_t size, const struct fault *f, unsigned first, bool *ret_is_met)
{
	struct memory m = { .fd = -1 };
	bool is_filled, is_whole = true;
	uint64_t there;
	int r;

	fault_arm(f, first);
	r = media_memfd.make(size, &m);
	if (r == 0)
		r = media_memfd.fill(&m, 0, size / 2);
	if (r == 0)
		r = media_memfd.fill(&m, size / 2, size);
	is_filled = r == 0;
	if (r == 0)
		r = share(&m);
	there = r == 0 ? memory_there(&m) : 0;
	*ret_is_met = fault_disarm();
	if (r == 0 && there < size)
		assert_true(*ret_is_met && strcmp(f->call_name, "fstat64") == 0 && there == 0);
	if (is_filled) {
		is_whole = has_pages(&m, size) && is_zero(m.ptr, size);
		memset(m.ptr, 1, size);
	}
	fault_arm(f, first);
	if (r == 0)
		r = media_memfd.punch(&m, 0, size / 2);
	if (r == 0)
		r = media_memfd.fill(&m, 0, size / 2);
	*ret_is_met |= fault_disarm();
	if (is_filled && r == 0)
		is_whole = is_whole && has_pages(&m, size) && is_zero(m.ptr, size / 2) &&
			   m.ptr[size / 2] == 1 && m.ptr[size - 1] == 1;
	media_memfd.free(&m);
	if (!is_whole)
		fail_msg("%s: %s, at call %u: what was filled has no pages, or foreign bytes",
			 f ? f->call_name : "", f ? f->what : "", first);
	return r;
}

static unsigned lines_of(const char *file, const char *word)
{
	FILE *in = fopen(file, "r");
	char line[512];
	unsigned n = 0;

	assert_non_null(in);
	while (fgets(line, sizeof(line), in))
		n += strstr(line, word) != NULL;
	fclose(in);
	return n;
}

/* The lowest descriptor that is free: it goes up where one leaks. */
static int next_file(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

/* This very error, or: what cannot be looked at is no region. */
static bool may_say(const struct fault *f, int r)
{
	return f->outcome == SAYS &&
	       (r == -f->error || (r == -EBADF && (strcmp(f->call_name, "fstat64") == 0 ||
						   strcmp(f->call_name, "fcntl64") == 0)));
}

static void any_answer_to_a_region_is_lived_with(size_t size)
{
	int file = next_file();
	unsigned met = 0, mapped = lines_of("/proc/self/maps", "wadi-segment");
	bool is_met;

	assert_int_equal(live(size, NULL, 1, &is_met), 0);
	for (unsigned i = 0; i < ALL_FAULTS_COUNT; i++) {
		const struct fault *f = &ALL_FAULTS[i];
		unsigned first = 1;

		do {
			int r = live(size, f, first, &is_met);

			if (r != 0 && (!is_met || !may_say(f, r)))
				fail_msg("%s: %s, at call %u: %s", f->call_name, f->what, first,
					 strerror(-r));
			assert_int_equal(next_file(), file);
			if (strcmp(f->call_name, "munmap") == 0) /* it was not let go */
				mapped = lines_of("/proc/self/maps", "wadi-segment");
			assert_int_equal(lines_of("/proc/self/maps", "wadi-segment"), mapped);
			met += is_met;
			first++;
		} while (is_met && first <= FIRST_MAX);
	}
	print_message("%u faults\n", met);
	assert_true(met > 15);
}

static void a_small_region(void **state)
{
	any_answer_to_a_region_is_lived_with(SMALL);
}

static void a_large_region(void **state)
{
	any_answer_to_a_region_is_lived_with(LARGE);
}

/* Where the machine does not say, something that holds anyhow is assumed. */
static void what_the_machine_hides_is_guessed(void **state)
{
	const unsigned count = media_memfd.count_max();
	char buf[64];

	for (unsigned i = 0; i < ALL_FAULTS_COUNT; i++) {
		const struct fault *f = &ALL_FAULTS[i];

		fault_arm(f, 1);
		assert_true(media_memfd.count_max() > 100);
		assert_true(media_memfd.count_max() <= count || f->error == EMFILE ||
			    f->error == EACCES || f->error == EIO);
		(void)fault_disarm();
		fault_arm(f, 1);
		assert_non_null(memory_huge_pages(buf, sizeof(buf)));
		(void)fault_disarm();
	}
}

static void each_line_has_been_met(void **state)
{
	const struct fault *f = fault_never_met(MEMORY);

	if (f)
		fail_msg("%s: %s: it has never happened", f->call_name, f->what);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_small_region),
		cmocka_unit_test(a_large_region),
		cmocka_unit_test(what_the_machine_hides_is_guessed),
		cmocka_unit_test(each_line_has_been_met),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
