/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine: what this machine, or the container that we are in, says of itself.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEMORY_WHERE_MAX 4096

/* The first line of a file, without its end. False: there is none. */
bool first_line(const char *path, char *buf, int cap);

/*
 * The most memory that we may ever use: the least of the machine's and of the limits of
 * our control group and of those above it, in version 1 or 2. `where` says whose it is,
 * to be put before the number: "this machine has", "/sys/fs/cgroup/.../memory.max is".
 */
uint64_t memory_most(char *where, size_t cap);
uint64_t memory_available(void);
