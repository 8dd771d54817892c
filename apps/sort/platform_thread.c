/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The platform that is this process: each run is a thread of its own. It shows what the
 * functions cost without processes and without a store, and is for nothing else: what one
 * takes of memory is not limited, and one that is to be killed goes on until its next call
 * of the store.
 */
#include "platform.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "function.h"
#include "store_memory.h"

struct thread {
	struct thread_platform *platform;
	struct platform_run *run; /* NULL: free */
	pthread_t thread;
	atomic_bool is_stopped, has_ended;
	bool is_late;
	char *reply;
	uint64_t ready_ns, end_ns;
};

struct thread_platform {
	struct platform platform;
	struct problem *problem; /* not ours */
	int ended_fd;            /* a thread has ended */
	size_t parallel;
	struct thread threads[];
};

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	struct instance instance = { 0 };

	t->ready_ns = clock_ns();
	store_memory_obey(&t->is_stopped);
	t->reply = function_run(&instance, t->run->input, strlen(t->run->input));
	instance_fini(&instance);
	t->end_ns = clock_ns();
	atomic_store(&t->has_ended, true);
	(void)eventfd_write(t->platform->ended_fd, 1);
	return NULL;
}

static int thread_start(struct platform *platform, struct platform_run *run)
{
	struct thread_platform *p = (struct thread_platform *)platform;
	struct thread *t = p->threads;
	int r;

	while (t < p->threads + p->parallel && t->run)
		t++;
	if (t == p->threads + p->parallel)
		return -EAGAIN;
	t->is_late = false;
	t->reply = NULL;
	atomic_store(&t->is_stopped, false);
	atomic_store(&t->has_ended, false);
	run->start_ns = clock_ns();
	run->init_ns = run->end_ns = 0;
	run->output = NULL;
	run->log[0] = '\0';
	t->run = run;
	r = -pthread_create(&t->thread, NULL, thread_main, t);
	if (r == 0)
		return 0;
	t->run = NULL;
	return problem_set(p->problem, r, "cannot start a function: %s", strerror(-r));
}

static void thread_stop(struct thread *t)
{
	atomic_store(&t->is_stopped, true);
	store_memory_wake();
}

static struct platform_run *thread_end(struct thread *t)
{
	struct platform_run *run = t->run;

	pthread_join(t->thread, NULL);
	run->init_ns = t->ready_ns - run->start_ns;
	run->end_ns = t->end_ns;
	if (atomic_load(&t->is_stopped)) {
		free(t->reply);
		t->reply = NULL;
	}
	run->output = t->reply;
	run->r = t->reply ? 0 : t->is_late ? -ETIMEDOUT : -ECHILD;
	t->run = NULL;
	return run;
}

static int thread_wait(struct platform *platform, uint64_t due_ns, struct platform_run **ret)
{
	struct thread_platform *p = (struct thread_platform *)platform;
	struct pollfd ended = { .fd = p->ended_fd, .events = POLLIN };
	uint64_t now_ns = clock_ns(), wait_ns;
	struct timespec timeout;
	eventfd_t count;
	sigset_t none;

	for (struct thread *t = p->threads; t < p->threads + p->parallel; t++)
		if (t->run && !t->is_late && t->run->due_ns < due_ns)
			due_ns = t->run->due_ns;
	wait_ns = due_ns > now_ns ? due_ns - now_ns : 0;
	timeout.tv_sec = (time_t)(wait_ns / NS_PER_S);
	timeout.tv_nsec = (long)(wait_ns % NS_PER_S);
	sigemptyset(&none);
	if (ppoll(&ended, 1, &timeout, &none) < 0)
		return 0;
	now_ns = clock_ns();
	for (struct thread *t = p->threads; t < p->threads + p->parallel; t++) {
		if (!t->run)
			continue;
		if (atomic_load(&t->has_ended)) {
			(void)eventfd_read(p->ended_fd, &count); /* one of each that ended */
			*ret = thread_end(t);
			return 1;
		}
		if (now_ns >= t->run->due_ns && !t->is_late) {
			t->is_late = true;
			thread_stop(t);
		}
	}
	return 0;
}

static void thread_kill(struct platform *platform, struct platform_run *run)
{
	struct thread_platform *p = (struct thread_platform *)platform;

	for (struct thread *t = p->threads; t < p->threads + p->parallel; t++)
		if (t->run == run)
			thread_stop(t);
}

static void thread_abandon(struct platform *platform)
{
	struct thread_platform *p = (struct thread_platform *)platform;

	for (struct thread *t = p->threads; t < p->threads + p->parallel; t++)
		if (t->run)
			thread_stop(t);
	for (struct thread *t = p->threads; t < p->threads + p->parallel; t++)
		if (t->run)
			free(thread_end(t)->output);
}

static void thread_close(struct platform *platform)
{
	struct thread_platform *p = (struct thread_platform *)platform;

	close(p->ended_fd);
	free(p);
}

static const struct platform_ops THREAD = {
	.start = thread_start,
	.wait = thread_wait,
	.kill = thread_kill,
	.abandon = thread_abandon,
	.close = thread_close,
};

int platform_thread_open(const struct platform_config *config, struct problem *problem,
			 struct platform **ret)
{
	struct thread_platform *p;

	p = calloc(1, sizeof(*p) + config->parallel * sizeof(p->threads[0]));
	if (!p)
		return problem_set(problem, -ENOMEM, "no memory");
	p->platform.ops = &THREAD;
	p->problem = problem;
	p->parallel = config->parallel;
	for (size_t i = 0; i < p->parallel; i++)
		p->threads[i].platform = p;
	p->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
	if (p->ended_fd < 0) {
		free(p);
		return problem_set(problem, -errno, "no descriptor: %s", strerror(errno));
	}
	*ret = &p->platform;
	return 0;
}
