/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "clock.h"

#define READY_NS (15 * NS_PER_S) /* a cold disk, a busy machine */
#define END_NS   (15 * NS_PER_S)

static void child_run(const char *program, const char *const argv[], int out, pid_t parent)
{
	child_begin(parent, SIGTERM);
	dup2(out, 1);
	execvp(program, (char *const *)argv);
	fprintf(stderr, "cannot run %s: %s\n", program, strerror(errno));
	_exit(127);
}

static void endpoint_take(struct server *s, const char *line)
{
	const char *endpoint = line + strlen("endpoint=");

	if (strncmp(line, "endpoint=", strlen("endpoint=")) != 0)
		return;
	if (strncmp(endpoint, "tcp://", 6) == 0)
		snprintf(s->tcp, sizeof(s->tcp), "%s", endpoint);
	if (strncmp(endpoint, "unix://", 7) == 0)
		snprintf(s->local, sizeof(s->local), "%s", endpoint);
}

/* 1: a line, without its newline; 0: not yet; negative: there will be none. */
static int line_read(struct server *s, char *buf, size_t cap, size_t *have, uint64_t due_ns)
{
	struct pollfd p = { .fd = s->out_fd, .events = POLLIN };
	ssize_t n;

	if (*have + 1 >= cap)
		return -EMSGSIZE;
	n = poll(&p, 1, clock_left_ms(due_ns, 1000));
	if (n == 0 || (n < 0 && errno == EINTR))
		return clock_ns() >= due_ns ? -ETIMEDOUT : 0;
	n = read(s->out_fd, buf + *have, 1);
	if (n <= 0)
		return -ECHILD;
	if (buf[*have] == '\n') {
		buf[*have] = '\0';
		*have = 0;
		return 1;
	}
	++*have;
	return 0;
}

static int ready_wait(struct server *s)
{
	uint64_t due_ns = clock_ns() + READY_NS;
	char line[ENDPOINT_MAX];
	size_t have = 0;

	for (;;) {
		int r = line_read(s, line, sizeof(line), &have, due_ns);

		if (r < 0)
			return r;
		if (r > 0 && strcmp(line, "ready") == 0)
			return 0;
		if (r > 0)
			endpoint_take(s, line);
	}
}

int server_open(struct server *s, const char *program, const char *const argv[],
		struct problem *problem)
{
	pid_t parent = getpid();
	int fds[2], r;

	*s = (struct server){ .out_fd = -1 };
	if (pipe2(fds, O_CLOEXEC) < 0)
		return problem_set(problem, -errno, "no pipe: %s", strerror(errno));
	s->pid = fork();
	if (s->pid == 0)
		child_run(program, argv, fds[1], parent);
	r = s->pid < 0 ? -errno : 0;
	close(fds[1]);
	s->out_fd = fds[0];
	if (r < 0) {
		s->pid = 0;
		server_close(s);
		return problem_set(problem, r, "cannot start a store: %s", strerror(-r));
	}
	r = ready_wait(s);
	if (r < 0) {
		server_close(s);
		return problem_set(problem, -EHOSTUNREACH,
				   "the store that was started for this "
				   "run (%s %s) %s",
				   program, argv[1],
				   r == -ETIMEDOUT ? "was not ready in time"
						   : "ended before it was ready");
	}
	return 0;
}

void server_close(struct server *s)
{
	uint64_t due_ns = clock_ns() + END_NS;
	bool is_late = false;

	if (s->pid > 0)
		kill(s->pid, SIGTERM);
	while (s->pid > 0) {
		pid_t pid = waitpid(s->pid, NULL, WNOHANG);

		if (pid == s->pid || (pid < 0 && errno != EINTR))
			break;
		if (!is_late && clock_ns() >= due_ns) {
			is_late = true;
			kill(s->pid, SIGKILL);
		}
		/* Its output ends with it, and wakes us. */
		(void)poll(&(struct pollfd){ .fd = s->out_fd, .events = 0 }, 1, 10);
	}
	s->pid = 0;
	if (s->out_fd >= 0)
		close(s->out_fd);
	s->out_fd = -1;
}
