/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this machine, or the container that we are in, allows a server.
 */
#include "cli/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/quantity.h"
#include "cli/machine.h"

#define HUGE_PAGES "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

/* Descriptors and mappings that a server needs beside its segments. */
#define OTHERS 1024

/* A pool of small objects has this many. */
static uint64_t segments_of(uint64_t memory)
{
	uint64_t n = memory / SEGMENT_BYTES_MIN;

	return n < POOL_SEGMENTS_MAX ? n : POOL_SEGMENTS_MAX;
}

static void look_at_kernel(struct doctor *d)
{
	struct utsname u;
	int fd;

	uname(&u);
	finding(d, FINDING_OK, "machine", NULL, "Linux %s, %s, %ld cores", u.release, u.machine,
		sysconf(_SC_NPROCESSORS_ONLN));
	fd = memfd_create("wadi-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, 65536) < 0 ||
	    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 65536) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		finding(d, FINDING_BAD, "memfd",
			"run a Linux of 3.17 or later, whose sandbox allows it",
			"sealed memory files do not work here: %s", strerror(errno));
	else
		finding(d, FINDING_OK, "memfd", NULL, "memory files can be sealed and punched");
	if (fd >= 0)
		close(fd);
}

static void look_at_huge_pages(struct doctor *d)
{
	char line[128];

	if (!first_line(HUGE_PAGES, line, sizeof(line))) {
		finding(d, FINDING_WARN, "huge pages",
			"use a kernel with CONFIG_TRANSPARENT_HUGEPAGE",
			"this kernel has none for shared memory, so fresh memory costs ten times "
			"more");
		return;
	}
	if (strstr(line, "[never]") || strstr(line, "[deny]"))
		finding(d, FINDING_WARN, "huge pages", "echo advise | sudo tee " HUGE_PAGES,
			"shmem_enabled is off, so fresh memory comes in 4 KiB pages, which costs "
			"ten "
			"times more");
	else
		finding(d, FINDING_OK, "huge pages", NULL, "shmem_enabled: %s", line);
}

static void look_at_limits(struct doctor *d, uint64_t memory)
{
	uint64_t needed = segments_of(memory) + OTHERS, maps;
	char todo[160], size[QUANTITY_TEXT_MAX], line[64];
	struct rlimit files;

	bytes_exact(memory, size);
	getrlimit(RLIMIT_NOFILE, &files);
	snprintf(todo, sizeof(todo), "ulimit -n %llu, or LimitNOFILE=%llu in its unit file",
		 (unsigned long long)needed, (unsigned long long)needed);
	if (files.rlim_max < needed)
		finding(d, FINDING_WARN, "descriptors", todo,
			"at most %llu open files; --memory %s of small objects may need %llu",
			(unsigned long long)files.rlim_max, size, (unsigned long long)needed);
	else
		finding(d, FINDING_OK, "descriptors", NULL, "up to %llu open files",
			(unsigned long long)files.rlim_max);

	snprintf(todo, sizeof(todo), "sudo sysctl vm.max_map_count=%llu",
		 (unsigned long long)(needed < 65530 ? 65530 : needed));
	if (!first_line("/proc/sys/vm/max_map_count", line, sizeof(line)) ||
	    count_parse(line, &maps) < 0)
		return;
	if (maps < needed)
		finding(d, FINDING_WARN, "mappings", todo,
			"vm.max_map_count is %s; --memory %s of small objects may need %llu", line,
			size, (unsigned long long)needed);
	else
		finding(d, FINDING_OK, "mappings", NULL, "vm.max_map_count is %s", line);
}

static void look_at_memory(struct doctor *d, uint64_t memory)
{
	char where[MEMORY_WHERE_MAX], size[QUANTITY_TEXT_MAX], limit_text[QUANTITY_TEXT_MAX],
		todo[96];
	uint64_t available = memory_available(), limit = memory_most(where, sizeof(where));

	bytes_exact(memory, size);
	bytes_rough(limit, limit_text);
	/* A tenth is for everything else. */
	snprintf(todo, sizeof(todo), "start it with --memory %lluM or less",
		 (unsigned long long)(limit / 10 * 9 >> 20));
	if (memory > limit / 10 * 9)
		finding(d, FINDING_BAD, "memory", todo, "--memory %s does not fit: %s %s", size,
			where, limit_text);
	else if (memory > available)
		finding(d, FINDING_WARN, "memory",
			"end what uses it, or start with a smaller --memory",
			"--memory %s, but only %s are free now", size,
			bytes_rough(available, limit_text));
	else
		finding(d, FINDING_OK, "memory", NULL, "--memory %s fits: %s %s", size, where,
			limit_text);
}

void doctor_machine(struct doctor *d, uint64_t memory)
{
	look_at_kernel(d);
	look_at_huge_pages(d);
	look_at_limits(d, memory);
	look_at_memory(d, memory);
}
