/* SPDX-License-Identifier: Apache-2.0 */
#include "embedded.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"

#define READY_NS (15 * NS_PER_S) /* a cold disk, a busy machine */
#define END_NS   (15 * NS_PER_S)

static void child_run(const char *program, uint64_t memory, int out, pid_t parent)
{
	char memory_text[32];
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1);
	setpgid(0, 0); /* Ctrl-C is the driver's to handle */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	dup2(out, 1);
	snprintf(memory_text, sizeof(memory_text), "%llu", (unsigned long long)memory);
	execlp(program, "wadi", "dev", "--memory", memory_text, "--listen", "127.0.0.1:0", "--http",
	       "127.0.0.1:0", "--redis", "127.0.0.1:0", (char *)NULL);
	fprintf(stderr, "cannot run %s: %s\n", program, strerror(errno));
	_exit(127);
}

static void endpoint_take(struct embedded *e, const char *line)
{
	const char *endpoint = line + strlen("endpoint=");

	if (strncmp(line, "endpoint=", strlen("endpoint=")) != 0)
		return;
	if (strncmp(endpoint, "tcp://", 6) == 0)
		snprintf(e->tcp, sizeof(e->tcp), "%s", endpoint);
	if (strncmp(endpoint, "unix://", 7) == 0)
		snprintf(e->local, sizeof(e->local), "%s", endpoint);
}

/* 1: a line, without its newline; 0: not yet; negative: there will be none. */
static int line_read(struct embedded *e, char *buf, size_t cap, size_t *have, uint64_t due_ns)
{
	struct pollfd p = { .fd = e->out_fd, .events = POLLIN };
	ssize_t n;

	if (*have + 1 >= cap)
		return -EMSGSIZE;
	n = poll(&p, 1, clock_left_ms(due_ns, 1000));
	if (n == 0 || (n < 0 && errno == EINTR))
		return clock_ns() >= due_ns ? -ETIMEDOUT : 0;
	n = read(e->out_fd, buf + *have, 1);
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

static int ready_wait(struct embedded *e)
{
	uint64_t due_ns = clock_ns() + READY_NS;
	char line[ENDPOINT_MAX];
	size_t have = 0;

	for (;;) {
		int r = line_read(e, line, sizeof(line), &have, due_ns);

		if (r < 0)
			return r;
		if (r > 0 && strcmp(line, "ready") == 0)
			return 0;
		if (r > 0)
			endpoint_take(e, line);
	}
}

int embedded_open(struct embedded *e, const char *program, uint64_t memory, struct problem *problem)
{
	pid_t parent = getpid();
	int fds[2], r;

	*e = (struct embedded){ .out_fd = -1 };
	if (pipe2(fds, O_CLOEXEC) < 0)
		return problem_set(problem, -errno, "no pipe: %s", strerror(errno));
	e->pid = fork();
	if (e->pid == 0)
		child_run(program, memory, fds[1], parent);
	r = e->pid < 0 ? -errno : 0;
	close(fds[1]);
	e->out_fd = fds[0];
	if (r < 0) {
		e->pid = 0;
		embedded_close(e);
		return problem_set(problem, r, "cannot start a store: %s", strerror(-r));
	}
	r = ready_wait(e);
	if (r < 0) {
		embedded_close(e);
		return problem_set(problem, -EHOSTUNREACH,
				   "the store that was started for this "
				   "run (%s dev) %s",
				   program,
				   r == -ETIMEDOUT ? "was not ready in time"
						   : "ended before it was ready");
	}
	return 0;
}

void embedded_close(struct embedded *e)
{
	uint64_t due_ns = clock_ns() + END_NS;
	bool is_late = false;

	if (e->pid > 0)
		kill(e->pid, SIGTERM);
	while (e->pid > 0) {
		pid_t pid = waitpid(e->pid, NULL, WNOHANG);

		if (pid == e->pid || (pid < 0 && errno != EINTR))
			break;
		if (!is_late && clock_ns() >= due_ns) {
			is_late = true;
			kill(e->pid, SIGKILL);
		}
		/* Its output ends with it, and wakes us. */
		(void)poll(&(struct pollfd){ .fd = e->out_fd, .events = 0 }, 1, 10);
	}
	e->pid = 0;
	if (e->out_fd >= 0)
		close(e->out_fd);
	e->out_fd = -1;
}
