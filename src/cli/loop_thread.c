/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/process_priv.h"

#include "base/container.h"

static void stop_now(struct letter *l)
{
	loop_stop(container_of(l, struct loop_thread, stop)->loop);
}

static void tell(struct loop_thread *t, int r)
{
	struct process *s = t->process;

	pthread_mutex_lock(&s->lock);
	t->result = r;
	t->is_up = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static void *thread_main(void *arg)
{
	struct loop_thread *t = arg;
	int r = loop_open_epoll(&t->loop);

	if (r == 0)
		r = net_open(t->loop, &t->net);
	if (r == 0) {
		net_limit_conns(t->net, conns_max(t->process));
		net_limit_unread(t->net, unread_max(t->process));
		r = t->open(t);
	}
	tell(t, r);
	if (r == 0)
		(void)loop_run(t->loop);
	t->close(t);
	/* Its letter may have arrived before loop_post() was done with the loop. */
	pthread_mutex_lock(&t->process->lock);
	pthread_mutex_unlock(&t->process->lock);
	for (int i = 0; t->loop && i < TURNS_TO_CLOSE; i++)
		(void)loop_turn(t->loop, 0);
	if (t->net)
		net_close(t->net);
	if (t->loop && t->loop->fibers.alive_count == 0)
		loop_close(t->loop);
	return NULL;
}

int loop_thread_start(struct loop_thread *t)
{
	struct process *s = t->process;
	int r;

	t->stop.run = stop_now;
	r = -pthread_create(&t->thread, NULL, thread_main, t);
	if (r < 0)
		return complain("cannot start", "a thread", r);
	t->has_thread = true;
	pthread_mutex_lock(&s->lock);
	while (!t->is_up)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
	return t->result;
}

void loop_thread_stop(struct loop_thread *t)
{
	if (!t->has_thread)
		return;
	pthread_mutex_lock(&t->process->lock);
	if (t->result == 0)
		loop_post(t->loop, &t->stop);
	pthread_mutex_unlock(&t->process->lock);
}

void loop_thread_join(struct loop_thread *t)
{
	if (t->has_thread)
		pthread_join(t->thread, NULL);
	t->has_thread = false;
}
