/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The platform that is this machine: each run is a process of its own, which gets what
 * OpenWhisk's ActionLoop would give it: the request on its standard input, descriptor 3
 * for the reply, an environment of nothing but __OW_ names.
 *
 *	STARTED --acknowledged--> READY --a line--> REPLIED --end of descriptor 3--> (reaped)
 *	   +--------------------- died: end of descriptor 3 ---------------------------^
 *
 * A process has ended when descriptor 3 is closed at its side: the kernel does that
 * last of all that we can see, so that its memory is free before another one starts.
 */
#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "clock.h"

/* A reply is short; more is a function that has gone wrong. */
#define REPLY_MAX ((size_t)16 << 20)

/* How long a process may take to end after its reply. */
#define END_NS (5 * NS_PER_S)

struct process {
	struct platform_run *run; /* NULL: free */
	pid_t pid;
	int input_fd, reply_fd, log_fd; /* -1: closed */
	size_t sent;                    /* of the request */
	char *reply;                    /* all that came on descriptor 3 */
	size_t len, cap;
	uint64_t due_ns;
	bool is_late;
};

struct process_platform {
	struct platform platform;
	struct platform_config config;
	struct problem *problem; /* not ours */
	char *program;
	struct pollfd *polls; /* three for each process */
	struct process processes[];
};

/* Both ends of a pipe; ours does not block and goes to no other child. */
struct ends {
	int ours, theirs;
};

static int pipe_open(struct ends *ret, bool we_write)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	*ret = (struct ends){ .ours = fds[we_write], .theirs = fds[!we_write] };
	(void)fcntl(ret->ours, F_SETFL, O_NONBLOCK);
	return 0;
}

static void ends_close(struct ends *e)
{
	if (e->ours >= 0)
		close(e->ours);
	if (e->theirs >= 0)
		close(e->theirs);
	*e = (struct ends){ -1, -1 };
}

/* Only names that a platform would pass on, and what says that we wait for the ack. */
static char **environment_make(void)
{
	extern char **environ;
	static char ack[] = "__OW_WAIT_FOR_ACK=1";
	size_t count = 0, kept = 0;
	char **env;

	while (environ[count])
		count++;
	env = calloc(count + 2, sizeof(*env));
	if (!env)
		return NULL;
	for (size_t i = 0; i < count; i++)
		if (strncmp(environ[i], "__OW_", 5) == 0)
			env[kept++] = environ[i];
	env[kept] = ack;
	return env;
}

/* In the child: descriptors above 3 have been moved out of the way of 0 to 3 by their pipes. */
static void child_run(const struct process_platform *p, pid_t parent, int input, int reply, int log,
		      char **env)
{
	struct rlimit memory = { p->config.function_memory, p->config.function_memory };
	int high[3];

	child_begin(parent, SIGKILL);
#ifndef SORT_IS_SANITIZED
	setrlimit(RLIMIT_DATA, &memory);
#else
	(void)memory; /* its shadow is larger than any of our limits */
#endif
	high[0] = fcntl(input, F_DUPFD_CLOEXEC, 10);
	high[1] = fcntl(reply, F_DUPFD_CLOEXEC, 10);
	high[2] = fcntl(log, F_DUPFD_CLOEXEC, 10);
	dup2(high[0], 0);
	dup2(high[2], 1);
	dup2(high[2], 2);
	dup2(high[1], 3);
	execle(p->program, "wadi-sort-fn", (char *)NULL, env);
	dprintf(2, "cannot run %s: %s\n", p->program, strerror(errno));
	_exit(127);
}

static int process_spawn(struct process_platform *p, struct process *proc)
{
	struct ends input = { -1, -1 }, reply = { -1, -1 }, log = { -1, -1 };
	pid_t parent = getpid();
	char **env = environment_make();
	int r = env ? 0 : -ENOMEM;

	if (r == 0)
		r = pipe_open(&input, true);
	if (r == 0)
		r = pipe_open(&reply, false);
	if (r == 0)
		r = pipe_open(&log, false);
	if (r == 0) {
		proc->pid = fork();
		if (proc->pid == 0)
			child_run(p, parent, input.theirs, reply.theirs, log.theirs, env);
		r = proc->pid < 0 ? -errno : 0;
	}
	free(env);
	if (r < 0) {
		ends_close(&input);
		ends_close(&reply);
		ends_close(&log);
		return problem_set(p->problem, r, "cannot start a function: %s", strerror(-r));
	}
	proc->input_fd = input.ours;
	proc->reply_fd = reply.ours;
	proc->log_fd = log.ours;
	close(input.theirs);
	close(reply.theirs);
	close(log.theirs);
	return 0;
}

static int process_start(struct platform *platform, struct platform_run *run)
{
	struct process_platform *p = (struct process_platform *)platform;
	struct process *proc = p->processes;
	int r;

	while (proc < p->processes + p->config.parallel && proc->run)
		proc++;
	if (proc == p->processes + p->config.parallel)
		return -EAGAIN;
	*proc = (struct process){ .due_ns = run->due_ns };
	run->start_ns = clock_ns();
	run->init_ns = run->end_ns = 0;
	run->output = NULL;
	run->log[0] = '\0';
	r = process_spawn(p, proc);
	if (r == 0)
		proc->run = run;
	return r;
}

static void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void request_send(struct process *proc)
{
	const char *input = proc->run->input;
	size_t len = strlen(input);
	ssize_t n = write(proc->input_fd, input + proc->sent, len - proc->sent);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		proc->sent += (size_t)n;
	if (n < 0)
		fd_close(&proc->input_fd); /* it died; descriptor 3 tells */
}

/* Keeps the end of the log. */
static void log_read(struct process *proc)
{
	char *log = proc->run->log;
	char buf[1024];
	ssize_t n = read(proc->log_fd, buf, sizeof(buf));
	size_t have = strlen(log), drop;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		fd_close(&proc->log_fd);
		return;
	}
	for (ssize_t i = 0; i < n; i++)
		if (!buf[i])
			buf[i] = ' ';
	drop = have + (size_t)n < sizeof(proc->run->log)
		       ? 0
		       : have + (size_t)n + 1 - sizeof(proc->run->log);
	memmove(log, log + drop, have - drop);
	memcpy(log + have - drop, buf, (size_t)n);
	log[have - drop + (size_t)n] = '\0';
}

static int reply_grow(struct process *proc)
{
	size_t cap = proc->cap ? 2 * proc->cap : 4096;
	char *more = cap <= REPLY_MAX ? realloc(proc->reply, cap) : NULL;

	if (!more)
		return -ENOMEM;
	proc->reply = more;
	proc->cap = cap;
	return 0;
}

/* Whole lines: the acknowledgement, then the reply, after which there is no more input. */
static void lines_take(struct process *proc)
{
	char *newline;

	while (!proc->run->end_ns && (newline = memchr(proc->reply, '\n', proc->len))) {
		size_t len = (size_t)(newline - proc->reply) + 1;

		if (!proc->run->init_ns) {
			proc->run->init_ns = clock_ns() - proc->run->start_ns;
		} else {
			*newline = '\0';
			proc->run->output = strdup(proc->reply);
			proc->run->end_ns = clock_ns();
			proc->due_ns = proc->run->end_ns + END_NS;
			fd_close(&proc->input_fd);
		}
		proc->len -= len;
		memmove(proc->reply, proc->reply + len, proc->len);
	}
}

static void reply_read(struct process *proc)
{
	ssize_t n = 0;

	if (proc->len < proc->cap || reply_grow(proc) == 0)
		n = read(proc->reply_fd, proc->reply + proc->len, proc->cap - proc->len);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		fd_close(&proc->reply_fd);
		return;
	}
	proc->len += (size_t)n;
	lines_take(proc);
}

static void process_fini(struct process *proc)
{
	fd_close(&proc->input_fd);
	fd_close(&proc->reply_fd);
	fd_close(&proc->log_fd);
	kill(proc->pid, SIGKILL); /* it has closed descriptor 3, so it is ending or lost */
	while (waitpid(proc->pid, NULL, 0) < 0 && errno == EINTR)
		;
	free(proc->reply);
	proc->reply = NULL;
	proc->run = NULL;
}

/* The run of a process whose descriptor 3 is closed. */
static struct platform_run *process_end(struct process *proc)
{
	struct platform_run *run = proc->run;

	if (proc->log_fd >= 0)
		log_read(proc);
	run->r = run->output ? 0 : proc->is_late ? -ETIMEDOUT : -ECHILD;
	process_fini(proc);
	return run;
}

static void process_late(struct process *proc, uint64_t now_ns)
{
	if (now_ns < proc->due_ns)
		return;
	proc->is_late = true;
	proc->due_ns = UINT64_MAX;
	kill(proc->pid, SIGKILL);
}

static int events_wait(struct process_platform *p, uint64_t due_ns)
{
	size_t count = p->config.parallel;
	struct pollfd *polls = p->polls;
	struct timespec timeout;
	uint64_t now_ns;
	sigset_t none;

	for (size_t i = 0; i < count; i++) {
		const struct process *proc = &p->processes[i];
		bool sends =
			proc->run && proc->input_fd >= 0 && proc->sent < strlen(proc->run->input);

		polls[3 * i] = (struct pollfd){ sends ? proc->input_fd : -1, POLLOUT, 0 };
		polls[3 * i + 1] = (struct pollfd){ proc->run ? proc->reply_fd : -1, POLLIN, 0 };
		polls[3 * i + 2] = (struct pollfd){ proc->run ? proc->log_fd : -1, POLLIN, 0 };
		if (proc->run && proc->due_ns < due_ns)
			due_ns = proc->due_ns;
	}
	now_ns = clock_ns();
	due_ns = due_ns > now_ns ? due_ns - now_ns : 0;
	timeout.tv_sec = (time_t)(due_ns / NS_PER_S);
	timeout.tv_nsec = (long)(due_ns % NS_PER_S);
	sigemptyset(&none);
	return ppoll(polls, 3 * count, &timeout, &none);
}

static int process_wait(struct platform *platform, uint64_t due_ns, struct platform_run **ret)
{
	struct process_platform *p = (struct process_platform *)platform;
	const struct pollfd *polls = p->polls;
	uint64_t now_ns;

	if (events_wait(p, due_ns) < 0)
		return 0;
	now_ns = clock_ns();
	for (size_t i = 0; i < p->config.parallel; i++) {
		struct process *proc = &p->processes[i];

		if (!proc->run)
			continue;
		if (polls[3 * i].revents)
			request_send(proc);
		if (polls[3 * i + 2].revents)
			log_read(proc);
		if (polls[3 * i + 1].revents)
			reply_read(proc);
		if (proc->reply_fd < 0) {
			*ret = process_end(proc);
			return 1;
		}
		process_late(proc, now_ns);
	}
	return 0;
}

static void process_kill(struct platform *platform, struct platform_run *run)
{
	struct process_platform *p = (struct process_platform *)platform;

	for (size_t i = 0; i < p->config.parallel; i++)
		if (p->processes[i].run == run)
			kill(p->processes[i].pid, SIGKILL);
}

static void platform_free(struct process_platform *p)
{
	free(p->program);
	free(p->polls);
	free(p);
}

static void process_abandon(struct platform *platform)
{
	struct process_platform *p = (struct process_platform *)platform;

	for (size_t i = 0; i < p->config.parallel; i++) {
		struct process *proc = &p->processes[i];

		if (!proc->run)
			continue;
		free(proc->run->output);
		proc->run->output = NULL;
		process_fini(proc);
	}
}

static void process_close(struct platform *platform)
{
	platform_free((struct process_platform *)platform);
}

static const struct platform_ops PROCESS = {
	.start = process_start,
	.wait = process_wait,
	.kill = process_kill,
	.abandon = process_abandon,
	.close = process_close,
};

int platform_process_open(const struct platform_config *config, struct problem *problem,
			  struct platform **ret)
{
	struct process_platform *p;

	p = calloc(1, sizeof(*p) + config->parallel * sizeof(p->processes[0]));
	if (!p)
		return problem_set(problem, -ENOMEM, "no memory");
	p->platform.ops = &PROCESS;
	p->config = *config;
	p->problem = problem;
	p->program = strdup(config->program);
	p->polls = calloc(3 * config->parallel, sizeof(*p->polls));
	if (!p->program || !p->polls) {
		platform_free(p);
		return problem_set(problem, -ENOMEM, "no memory");
	}
	*ret = &p->platform;
	return 0;
}
