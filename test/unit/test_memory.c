/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory regions: what the kernel is asked for is asked of it again, by other ways. One
 * contract for both media, and what only a memfd can show.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/node.h"
#include "loop/switch.h"
#include "shm/memory.h"

#define SIZE (1u << 20)
#define HUGE (4u << 20)

static uint64_t blocks(const struct memory *m)
{
	struct stat st;

	assert_int_equal(fstat(m->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static size_t nonzero(const struct memory *m, size_t from, size_t to)
{
	size_t n = 0;

	for (size_t i = from; i < to; i++)
		n += m->ptr[i] != 0;
	return n;
}

static void a_region_is_filled_written_scrubbed_punched_and_filled_again(void **state)
{
	const struct media *media = *state;
	struct memory m;

	assert_int_equal(media->make(SIZE, &m), 0);
	assert_int_equal(m.size, SIZE);
	assert_int_equal((uintptr_t)m.ptr % SEGMENT_PAGE, 0);
	assert_int_equal(media->fill(&m, 0, SIZE / 2), 0);
	assert_int_equal(media->fill(&m, SIZE / 2, SIZE), 0);
	assert_int_equal(nonzero(&m, 0, SIZE), 0);

	memset(m.ptr, 0xa5, SIZE);
	media->scrub(&m, SEGMENT_PAGE, 3 * SEGMENT_PAGE);
	assert_int_equal(nonzero(&m, SEGMENT_PAGE, 3 * SEGMENT_PAGE), 0);
	assert_int_equal(nonzero(&m, 0, SIZE), SIZE - 2 * SEGMENT_PAGE);

	assert_int_equal(media->punch(&m, SIZE / 2, SIZE), 0);
	assert_int_equal(media->fill(&m, SIZE / 2, SIZE), 0);
	assert_int_equal(nonzero(&m, SIZE / 2, SIZE), 0);
	assert_int_equal(nonzero(&m, 0, SIZE / 2), SIZE / 2 - 2 * SEGMENT_PAGE);
	media->free(&m);
	assert_null(m.ptr);
	media->free(&m);
}

static void a_filled_range_has_its_blocks_and_no_other(void **state)
{
	struct memory m;

	assert_int_equal(media_memfd.make(SIZE, &m), 0);
	assert_int_equal(blocks(&m), 0);
	assert_int_equal(media_memfd.fill(&m, 0, SIZE / 4), 0);
	assert_int_equal(blocks(&m), SIZE / 4);
	assert_int_equal(media_memfd.fill(&m, SIZE / 4, SIZE), 0);
	assert_int_equal(blocks(&m), SIZE);
	media_memfd.scrub(&m, 0, SIZE);
	assert_int_equal(blocks(&m), SIZE);
	assert_int_equal(media_memfd.punch(&m, SEGMENT_PAGE, SIZE), 0);
	assert_int_equal(blocks(&m), SEGMENT_PAGE);
	media_memfd.free(&m);
}

/* A page fault would say that an access had to wait for its page. */
static void no_access_to_a_filled_range_faults(void **state)
{
	struct rusage before, after;
	struct memory m;

	ON_TSAN(skip();) /* its shadow has four times as many pages, and they fault */
	assert_int_equal(media_memfd.make(HUGE, &m), 0);
	assert_int_equal(media_memfd.fill(&m, 0, HUGE), 0);
	assert_int_equal(getrusage(RUSAGE_THREAD, &before), 0);
	for (size_t i = 0; i < HUGE; i += SEGMENT_PAGE)
		((volatile uint8_t *)m.ptr)[i] = 1;
	assert_int_equal(getrusage(RUSAGE_THREAD, &after), 0);
	/* Of 1,024 pages. A few are the thread's own, and an eighth may be a sanitizer's shadow. */
	assert_in_range(after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt, 0,
			200);
	media_memfd.free(&m);
}

static long faults(void)
{
	struct rusage u;

	assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
	return u.ru_minflt;
}

/* In a mapping of their own, that has none of its pages yet. */
static void what_was_touched_is_written_without_a_fault_and_few_were_needed(void **state)
{
	struct memory m, theirs;
	int fd;
	long before;

	ON_TSAN(skip();)
	assert_int_equal(media_memfd.make(SIZE, &m), 0);
	assert_int_equal(media_memfd.fill(&m, 0, SIZE), 0);
	fd = memory_export_to_write(&m);
	assert_true(fd >= 0);
	assert_int_equal(memory_join(fd, SIZE, &theirs), 0);
	close(fd);
	if (madvise(theirs.ptr, SEGMENT_PAGE, 9999) == 0)
		skip(); /* qemu maps each page by itself */
	before = faults();
	memory_touch(&theirs, 0, SIZE / 2);
	assert_in_range(faults() - before, 1, 40);
	before = faults();
	for (size_t i = 0; i < SIZE / 2; i += SEGMENT_PAGE)
		theirs.ptr[i] = 1;
	/* Of 128 pages; see above. */
	assert_in_range(faults() - before, 0, 40);
	media_memfd.free(&theirs);
	media_memfd.free(&m);
}

/* Of that mapping, kB of what /proc calls so. */
static long mapped_kb(const void *at, const char *what)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[256], format[64];
	unsigned long from, to;
	long kb = -1;
	bool is_it = false;

	assert_non_null(f);
	snprintf(format, sizeof(format), "%s: %%ld kB", what);
	while (kb < 0 && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			is_it = from <= (uintptr_t)at && (uintptr_t)at < to;
		else if (is_it)
			(void)sscanf(line, format, &kb);
	}
	fclose(f);
	return kb;
}

/*
 * Filled, and in huge pages, as where shmem_enabled says "advise". False: a kernel before 6.1,
 * "deny", and emulators have none for memfds.
 */
static bool make_huge(struct memory *ret)
{
	assert_int_equal(media_memfd.make(HUGE, ret), 0);
	assert_int_equal(media_memfd.fill(ret, 0, HUGE), 0);
	if (madvise(ret->ptr, HUGE, 25 /* MADV_COLLAPSE */) == 0 &&
	    mapped_kb(ret->ptr, "ShmemPmdMapped") == 4096)
		return true;
	media_memfd.free(ret);
	return false;
}

static void huge_pages_are_mapped_whole_by_others_too(void **state)
{
	struct memory m, theirs, span;
	int fd;

	if (!make_huge(&m))
		skip();
	m.ptr[HUGE - 1] = 7;
	fd = memory_export_to_write(&m);
	assert_int_equal(memory_join(fd, HUGE, &theirs), 0);
	memory_touch(&theirs, 0, HUGE);
	assert_int_equal(mapped_kb(theirs.ptr, "ShmemPmdMapped"), 4096);
	assert_int_equal(theirs.ptr[HUGE - 1], 7);
	memset(theirs.ptr, 8, HUGE);
	media_memfd.free(&theirs);
	assert_int_equal(memory_join_to_read(fd, HUGE, &theirs), 0);
	assert_int_equal(theirs.ptr[0] + theirs.ptr[HUGE - 1], 16);
	assert_int_equal(mapped_kb(theirs.ptr, "ShmemPmdMapped"), 4096);
	media_memfd.free(&theirs);
	assert_int_equal(memory_span(HUGE, &span), 0);
	assert_int_equal(memory_join_part_to_write(&span, 0, fd, 0, HUGE), 0);
	assert_int_equal(mapped_kb(span.ptr, "ShmemPmdMapped"), 4096);
	media_memfd.free(&span);
	close(fd);
	media_memfd.free(&m);
}

/* What this process has of it, and what of that is mapped, are the same: budgets count the latter.
 */
static void a_huge_page_of_which_a_part_was_punched_keeps_the_rest(void **state)
{
	const size_t from = 3u << 19, to = from + 8 * SEGMENT_PAGE;
	struct memory m;

	if (!make_huge(&m))
		skip();
	memset(m.ptr, 1, HUGE);
	assert_int_equal(media_memfd.punch(&m, from, to), 0);
	assert_int_equal(blocks(&m), HUGE - 8 * SEGMENT_PAGE);
	assert_int_equal(mapped_kb(m.ptr, "Rss"), 4096 - 32);
	assert_int_equal(nonzero(&m, 0, from), from);
	assert_int_equal(nonzero(&m, to, HUGE), HUGE - to);
	/* A hole beside it stays one. */
	assert_int_equal(media_memfd.punch(&m, 0, SEGMENT_PAGE), 0);
	assert_int_equal(blocks(&m), HUGE - 9 * SEGMENT_PAGE);
	assert_int_equal(mapped_kb(m.ptr, "Rss"), 4096 - 36);
	assert_int_equal(media_memfd.fill(&m, from, to), 0);
	assert_int_equal(blocks(&m), HUGE - SEGMENT_PAGE);
	assert_int_equal(nonzero(&m, from, to), 0);
	media_memfd.free(&m);
}

static void nobody_can_resize_it_or_unseal_it(void **state)
{
	struct memory m;
	struct stat st;

	assert_int_equal(media_memfd.make(SIZE, &m), 0);
	assert_int_equal(ftruncate(m.fd, SIZE / 2), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(m.fd, 2 * SIZE), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fcntl(m.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fcntl(m.fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
			 F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	/* To punch must stay allowed: it is how bytes are taken back from who maps them. */
	assert_int_equal(fcntl(m.fd, F_GET_SEALS) & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE), 0);
	assert_int_equal(fstat(m.fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(fcntl(m.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	media_memfd.free(&m);
}

static void what_is_punched_is_gone_for_whoever_maps_it(void **state)
{
	struct memory m;
	uint8_t *other;

	assert_int_equal(media_memfd.make(SIZE, &m), 0);
	assert_int_equal(media_memfd.fill(&m, 0, SIZE), 0);
	other = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, m.fd, 0);
	assert_ptr_not_equal(other, MAP_FAILED);
	memset(m.ptr, 7, SIZE);
	assert_int_equal(other[SIZE - 1], 7);
	assert_int_equal(media_memfd.punch(&m, 0, SIZE), 0);
	media_memfd.free(&m);
	for (size_t i = 0; i < SIZE; i += SEGMENT_PAGE)
		assert_int_equal(other[i], 0);
	munmap(other, SIZE);
}

static void what_is_exported_can_be_read_and_not_written_and_is_a_description_of_its_own(
	void **state)
{
	struct memory m, theirs, plain;
	char byte = 1;
	int fd;

	assert_int_equal(media_memfd.make(SIZE, &m), 0);
	assert_int_equal(media_memfd.fill(&m, 0, SIZE), 0);
	fd = memory_export(&m);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(pwrite(fd, &byte, 1, 0), -1);
	assert_int_equal(fallocate(fd, 0, 0, SIZE), -1);
	assert_ptr_equal(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	/* What is told to theirs is not told to ours. */
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(fcntl(m.fd, F_GETFL) & O_NONBLOCK, 0);

	assert_int_equal(memory_join_to_read(fd, 2 * SIZE, &theirs), -EBADF);
	assert_int_equal(memory_join_to_read(0, SIZE, &theirs), -EBADF);
	assert_int_equal(memory_join_to_read(fd, SIZE, &theirs), 0);
	assert_int_equal(mprotect(theirs.ptr, SIZE, PROT_READ | PROT_WRITE), -1);
	close(fd);
	m.ptr[SIZE - 1] = 9;
	assert_int_equal(theirs.ptr[SIZE - 1], 9);
	assert_int_equal(media_memfd.punch(&m, 0, SIZE), 0);
	media_memfd.free(&m);
	assert_int_equal(nonzero(&theirs, 0, SIZE), 0);
	media_memfd.free(&theirs);

	assert_int_equal(media_heap.make(SIZE, &plain), 0);
	assert_int_equal(memory_export(&plain), -EOPNOTSUPP);
	media_heap.free(&plain);
}

/* Parts of two regions, one after the other; what lies between and behind is nobody's. */
static void parts_of_regions_are_mapped_side_by_side(void **state)
{
	struct memory a, b, span;
	int fd;

	assert_int_equal(media_memfd.make(SIZE, &a), 0);
	assert_int_equal(media_memfd.make(SIZE, &b), 0);
	assert_int_equal(media_memfd.fill(&a, 0, SIZE), 0);
	assert_int_equal(media_memfd.fill(&b, 0, SIZE), 0);
	memset(a.ptr, 1, SIZE);
	memset(b.ptr, 2, SIZE);
	b.ptr[4096] = 3;
	assert_int_equal(memory_span(4 * 4096, &span), 0);
	fd = memory_export(&a);
	assert_int_equal(memory_join_part(&span, 0, fd, SIZE - 4096, 4096), 0);
	assert_int_equal(memory_join_part(&span, 0, fd, SIZE - 4096, 8192), -EBADF);
	assert_int_equal(memory_join_part(&span, 4 * 4096, fd, 0, 4096), -EBADF);
	assert_int_equal(memory_join_part(&span, 1, fd, 0, 4096), -EBADF);
	assert_int_equal(memory_join_part(&span, 0, fd, SIZE + 4096, 4096), -EBADF);
	assert_int_equal(memory_join_part(&span, 0, 0, 0, 4096), -EBADF);
	close(fd);
	fd = memory_export(&b);
	assert_int_equal(memory_join_part(&span, 4096, fd, 4096, 8192), 0);
	close(fd);
	assert_true(span.ptr[0] == 1 && span.ptr[4095] == 1 && span.ptr[4096] == 3 &&
		    span.ptr[4097] == 2 && span.ptr[3 * 4096 - 1] == 2);
	b.ptr[8192] = 9;
	assert_int_equal(span.ptr[8192], 9);
	assert_int_equal(mprotect(span.ptr, 4096, PROT_READ | PROT_WRITE), -1);
	fd = memory_export(&b);
	assert_int_equal(memory_join_part_to_write(&span, 0, fd, 0, 4096), -EACCES);
	close(fd);
	fd = memory_export_to_write(&b);
	assert_int_equal(memory_join_part_to_write(&span, 0, fd, 1, 4096), -EBADF);
	assert_int_equal(memory_join_part_to_write(&span, 3 * 4096, fd, 4096, 4096), 0);
	close(fd);
	span.ptr[3 * 4096] = 7;
	assert_int_equal(b.ptr[4096], 7);
	media_memfd.free(&span);
	media_memfd.free(&a);
	media_memfd.free(&b);
}

static void without_descriptors_it_says_so_and_leaves_nothing(void **state)
{
	struct rlimit before, none;
	struct memory m = { .fd = -1 };
	int next;

	next = dup(0);
	assert_true(next >= 0);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(media_memfd.make(SIZE, &m), -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_null(m.ptr);
}

static void a_process_has_regions_for_three_quarters_of_its_descriptors(void **state)
{
	struct rlimit before, few;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = before;
	few.rlim_cur = 1000;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(media_memfd.count_max(), 750);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_true(media_heap.count_max() >= 1u << 20);
}

static void the_heaps_memory_is_the_nodes(void **state)
{
	struct node n = { .fail_countdown = 1 };
	struct memory m;

	node_current = &n;
	assert_int_equal(media_heap.make(SIZE, &m), -ENOMEM);
	node_current = NULL;
}

static void huge_pages_are_named_as_the_kernel_does(void **state)
{
	static const char *const known[] = { "always", "within_size", "advise", "never",
					     "deny",   "force",       "unknown" };
	char buf[128];
	const char *got = memory_huge_pages(buf, sizeof(buf));
	unsigned n = 0;

	for (unsigned i = 0; i < 7; i++)
		n += strcmp(got, known[i]) == 0;
	assert_int_equal(n, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(
			a_region_is_filled_written_scrubbed_punched_and_filled_again,
			(void *)&media_memfd),
		cmocka_unit_test_prestate(
			a_region_is_filled_written_scrubbed_punched_and_filled_again,
			(void *)&media_heap),
		cmocka_unit_test(a_filled_range_has_its_blocks_and_no_other),
		cmocka_unit_test(no_access_to_a_filled_range_faults),
		cmocka_unit_test(what_was_touched_is_written_without_a_fault_and_few_were_needed),
		cmocka_unit_test(huge_pages_are_mapped_whole_by_others_too),
		cmocka_unit_test(a_huge_page_of_which_a_part_was_punched_keeps_the_rest),
		cmocka_unit_test(nobody_can_resize_it_or_unseal_it),
		cmocka_unit_test(what_is_punched_is_gone_for_whoever_maps_it),
		cmocka_unit_test(
			what_is_exported_can_be_read_and_not_written_and_is_a_description_of_its_own),
		cmocka_unit_test(parts_of_regions_are_mapped_side_by_side),
		cmocka_unit_test(without_descriptors_it_says_so_and_leaves_nothing),
		cmocka_unit_test(a_process_has_regions_for_three_quarters_of_its_descriptors),
		cmocka_unit_test(the_heaps_memory_is_the_nodes),
		cmocka_unit_test(huge_pages_are_named_as_the_kernel_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
