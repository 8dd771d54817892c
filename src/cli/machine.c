/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/quantity.h"

bool first_line(const char *path, char *buf, int cap)
{
	FILE *f = fopen(path, "re");
	bool is_there = f && fgets(buf, cap, f);

	if (f)
		fclose(f);
	if (is_there)
		buf[strcspn(buf, "\n")] = '\0';
	return is_there;
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

/* Of the kernel's own list, in bytes; 0 if it is not in there. */
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

uint64_t memory_most(char *where, size_t cap)
{
	char group[MEMORY_WHERE_MAX];
	uint64_t total = meminfo("MemTotal"), limit = memory_limit(group, sizeof(group));

	if (total == 0 && limit == UINT64_MAX) {
		snprintf(where, cap, "nobody says how much there is:");
		return UINT64_MAX;
	}
	if (total == 0 || limit < total) {
		snprintf(where, cap, "%s is", group);
		return limit;
	}
	snprintf(where, cap, "this machine has");
	return total;
}

uint64_t memory_available(void)
{
	return meminfo("MemAvailable");
}
