/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child: a server as a process of ours: pinned, quiet, and gone when we are, however we end.
 *
 * Children are started by the main thread: when that ends, the kernel ends them.
 */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct child {
	pid_t pid;  /* 0: none runs */
	int out_fd; /* what it prints; -1: nobody listens */
};

/* `argv` is looked up in PATH. What it prints is dropped unless `is_heard`; errors go where ours
 * go. */
int child_start(struct child *c, const char *const argv[], const cpu_set_t *cpus, bool is_heard);
/* The same for a function of ours, which does not return. */
int child_fork(struct child *c, void (*run)(void *arg), void *arg, const cpu_set_t *cpus);
/* A line without its newline. -ETIMEDOUT; -EPIPE: there will be none. */
int child_line(struct child *c, char *buf, size_t cap, uint64_t due_ns);
/* False: it has ended by itself. */
bool child_is_running(struct child *c);
/* SIGTERM, and SIGKILL if that takes too long; fine if none runs. */
void child_stop(struct child *c);
