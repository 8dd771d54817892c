/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "bench/worker.h"

static void *run(void *arg)
{
	struct crew_member *m = arg;
	struct worker *w = &m->worker;
	bool is_over = false;

	cpus_pin(&m->cpus);
	if (m->is_in_background)
		cpus_leave_to_others();
	while (!is_over) {
		while (sem_wait(&m->go) < 0)
			; /* a signal */
		switch (m->work) {
		case CREW_OPEN:
			worker_open(w);
			break;
		case CREW_SLICE:
			worker_slice(w);
			break;
		case CREW_EACH:
			worker_each(w, m->each.op, m->each.from, m->each.to);
			break;
		case CREW_CLOSE:
			worker_close(w);
			is_over = true;
			break;
		}
		sem_post(&m->done);
	}
	return NULL;
}

int crew_start(struct crew_member *m)
{
	int r;

	sem_init(&m->go, 0, 0);
	sem_init(&m->done, 0, 0);
	m->worker.epoll_fd = -1;
	r = pthread_create(&m->thread, NULL, run, m);
	return -r;
}

void crew_go(struct crew_member *m, enum crew_work work)
{
	m->work = work;
	sem_post(&m->go);
}

int crew_wait(struct crew_member *m)
{
	while (sem_wait(&m->done) < 0)
		;
	return m->worker.result;
}

void crew_stop(struct crew_member *m)
{
	crew_go(m, CREW_CLOSE);
	crew_wait(m);
	pthread_join(m->thread, NULL);
	sem_destroy(&m->go);
	sem_destroy(&m->done);
}
