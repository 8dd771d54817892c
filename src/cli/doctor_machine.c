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

#define HUGE_PAGES "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

/* Descriptors and mappings that a server needs beside its segments. */
#define OTHERS 1024

/* The first line of a file, without its end. False: there is none. */
static bool first_line(const char *path, char *buf, int cap)
{
	FILE *f = fopen(path, "re");
	bool is_there = f && fgets(buf, cap, f);

	if (f)
		fclose(f);
	if (is_there)
		buf[strcspn(buf, "\n")] = '\0';
	return is_there;
}

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

/* The least limit from a group up to its root; UINT64_MAX: none. `where` gets its file. */
static uint64_t group_limit(const char *mount, const char *group, const char *file, char *where,
			    size_t cap)
{
	char path[4096 + 256], line[64], *end;
	size_t root_len = strlen(mount);
	uint64_t least = UINT64_MAX, n;

	snprintf(path, sizeof(path), "%s%s", mount, group);
	for (;;) {
		size_t len = strlen(path);

		while (len > root_len && path[len - 1] == '/')
			path[--len] = '\0';
		snprintf(path + len, sizeof(path) - len, "/%s", file);
		/* "max", and what version 1 says for it, are no limit. */
		if (first_line(path, line, sizeof(line)) && count_parse(line, &n) == 0 &&
		    n < 1ull << 62 && n < least) {
			least = n;
			snprintf(where, cap, "%s", path);
		}
		path[len] = '\0';
		end = len > root_len ? strrchr(path, '/') : NULL;
		if (!end)
			return least;
		*end = '\0';
	}
}

/* Of our own group, in version 2 or 1. */
static uint64_t memory_limit(char *where, size_t cap)
{
	uint64_t least = UINT64_MAX;
	char line[4096];
	FILE *f = fopen("/proc/self/cgroup", "re");

	where[0] = '\0';
	while (f && fgets(line, sizeof(line), f)) {
		char *kinds = strchr(line, ':'), *group = kinds ? strchr(kinds + 1, ':') : NULL;
		char found[4096] = "";
		uint64_t n = UINT64_MAX;

		if (!group)
			continue;
		*group++ = '\0';
		group[strcspn(group, "\n")] = '\0';
		if (kinds[1] == '\0')
			n = group_limit("/sys/fs/cgroup", group, "memory.max", found,
					sizeof(found));
		else if (strcmp(kinds + 1, "memory") == 0)
			n = group_limit("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes",
					found, sizeof(found));
		if (n < least) {
			least = n;
			snprintf(where, cap, "%s", found);
		}
	}
	if (f)
		fclose(f);
	return least;
}

static uint64_t meminfo(const char *name)
{
	char line[128];
	size_t len = strlen(name);
	uint64_t kib = 0;
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, name, len) == 0 && line[len] == ':')
			kib = strtoull(line + len + 1, NULL, 10);
	if (f)
		fclose(f);
	return kib << 10;
}

static void look_at_memory(struct doctor *d, uint64_t memory)
{
	char where[4096], size[QUANTITY_TEXT_MAX], limit_text[QUANTITY_TEXT_MAX], todo[96];
	uint64_t total = meminfo("MemTotal"), available = meminfo("MemAvailable");
	uint64_t limit = memory_limit(where, sizeof(where));
	const char *by = "this machine has";

	if (limit < total)
		by = where;
	else
		limit = total;
	bytes_exact(memory, size);
	bytes_rough(limit, limit_text);
	/* A tenth is for everything else. */
	snprintf(todo, sizeof(todo), "start it with --memory %lluM or less",
		 (unsigned long long)(limit / 10 * 9 >> 20));
	if (memory > limit / 10 * 9)
		finding(d, FINDING_BAD, "memory", todo, "--memory %s does not fit: %s %s", size, by,
			limit_text);
	else if (memory > available)
		finding(d, FINDING_WARN, "memory",
			"end what uses it, or start with a smaller --memory",
			"--memory %s, but only %s are free now", size,
			bytes_rough(available, limit_text));
	else
		finding(d, FINDING_OK, "memory", NULL, "--memory %s fits: %s %s", size, by,
			limit_text);
}

void doctor_machine(struct doctor *d, uint64_t memory)
{
	look_at_kernel(d);
	look_at_huge_pages(d);
	look_at_limits(d, memory);
	look_at_memory(d, memory);
}
