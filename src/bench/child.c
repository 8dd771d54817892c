/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/node.h"

#define STOP_MS 10000

/* In the child: what both kinds of it begin with, and how it ends when its parent does. */
static void begin(pid_t parent, const cpu_set_t *cpus, int end)
{
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, end);
	if (getppid() != parent)
		_exit(1);
	setpgid(0, 0); /* Ctrl-C is the parent's to handle */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	sched_setaffinity(0, sizeof(*cpus), cpus);
}

int child_start(struct child *c, const char *const argv[], const cpu_set_t *cpus, bool is_heard)
{
	pid_t parent = getpid();
	int out[2];

	*c = (struct child){ .out_fd = -1 };
	if (is_heard) {
		if (pipe2(out, O_CLOEXEC) < 0)
			return -errno;
	} else {
		out[0] = -1;
		out[1] = open("/dev/null", O_WRONLY | O_CLOEXEC);
		if (out[1] < 0)
			return -errno;
	}
	c->pid = fork();
	if (c->pid == 0) {
		begin(parent, cpus, SIGTERM);
		dup2(out[1], 1);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(out[1]);
	c->out_fd = out[0];
	if (c->pid > 0)
		return 0;
	c->pid = 0;
	close(out[0]);
	c->out_fd = -1;
	return -EAGAIN;
}

int child_fork(struct child *c, void (*run)(void *arg), void *arg, const cpu_set_t *cpus)
{
	pid_t parent = getpid();
	int begun[2];
	char none;

	*c = (struct child){ .out_fd = -1 };
	if (pipe2(begun, O_CLOEXEC) < 0)
		return -errno;
	c->pid = fork();
	if (c->pid == 0) {
		begin(parent, cpus, SIGKILL); /* it has nothing to lose, and may be stopped */
		close(begun[0]);
		close(begun[1]);
		run(arg);
		_exit(0);
	}
	close(begun[1]);
	/* Not before it has begun: stopped too early, it would not end with us. */
	if (c->pid > 0)
		(void)!read(begun[0], &none, 1);
	close(begun[0]);
	if (c->pid > 0)
		return 0;
	c->pid = 0;
	return -EAGAIN;
}

int child_line(struct child *c, char *buf, size_t cap, uint64_t due_ns)
{
	size_t have = 0;

	/* Byte by byte: it is a few lines, and the rest stays in the pipe. */
	while (have + 1 < cap) {
		struct pollfd p = { .fd = c->out_fd, .events = POLLIN };
		uint64_t now_ns = node_now_ns();

		if (now_ns >= due_ns)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)((due_ns - now_ns) / 1000000) + 1) <= 0)
			continue;
		if (read(c->out_fd, buf + have, 1) <= 0)
			return -EPIPE;
		if (buf[have] == '\n') {
			buf[have] = '\0';
			return 0;
		}
		have++;
	}
	return -EMSGSIZE;
}

bool child_is_running(struct child *c)
{
	if (c->pid > 0 && waitpid(c->pid, NULL, WNOHANG) == 0)
		return true;
	c->pid = 0;
	return false;
}

void child_stop(struct child *c)
{
	if (c->pid <= 0)
		return;
	kill(c->pid, SIGTERM);
	kill(c->pid, SIGCONT);
	for (int ms = 0; waitpid(c->pid, NULL, WNOHANG) == 0; ms++) {
		if (ms == STOP_MS)
			kill(c->pid, SIGKILL);
		usleep(1000);
	}
	if (c->out_fd >= 0)
		close(c->out_fd);
	*c = (struct child){ .out_fd = -1 };
}
