/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A work is a letter twice: to the helper, and back to the loop that gave it.
 * In the simulator there is no thread, and a timer serves the same mailbox.
 */
#include "loop/loop.h"

#include <assert.h>
#include <errno.h>
#include <semaphore.h>
#include <signal.h>

#include "base/container.h"
#include "loop/loop_priv.h"

/* Simulated work takes any time up to this. */
#define WORK_NS_MAX 1000000

struct helper {
	struct loop *home;
	struct mailbox mail;
	struct letter *inbox; /* taken out of the mail, oldest first */

	pthread_t thread;
	sem_t bell;         /* rung when the mailbox says that we must be woken */
	struct letter stop; /* the last one */
	bool must_stop;

	struct timer later; /* instead of the thread */
};

static void finish(struct letter *letter)
{
	struct work *w = container_of(letter, struct work, letter);

	w->done(w);
}

static void perform(struct letter *letter)
{
	struct work *w = container_of(letter, struct work, letter);

	w->run(w);
	letter->run = finish;
	loop_post(w->home, letter);
}

static void stop(struct letter *letter)
{
	container_of(letter, struct helper, stop)->must_stop = true;
}

static bool serve_one(struct helper *h)
{
	struct letter *letter;

	if (!h->inbox)
		h->inbox = mailbox_take(&h->mail);
	letter = h->inbox;
	if (!letter)
		return false;
	h->inbox = letter->next;
	letter->run(letter);
	return true;
}

static void *helper_main(void *arg)
{
	struct helper *h = arg;

	while (!h->must_stop) {
		if (serve_one(h) || !mailbox_sleep(&h->mail))
			continue;
		sem_wait(&h->bell); /* interrupted or rung in vain: then there is just nothing to
				       serve */
		mailbox_awake(&h->mail);
	}
	return NULL;
}

static void start_later(struct helper *h)
{
	timer_start(h->home, &h->later, h->home->now_ns + node_random_u64() % WORK_NS_MAX);
}

static void serve_later(struct timer *t)
{
	struct helper *h = container_of(t, struct helper, later);

	if (serve_one(h))
		start_later(h);
}

/* Signals are the main thread's, so the helper is born with all of them blocked. */
static int start_thread(struct helper *h, const char *name)
{
	sigset_t all, before;
	int r;

	sem_init(&h->bell, 0, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&h->thread, NULL, helper_main, h);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r == 0)
		pthread_setname_np(h->thread, name);
	return -r;
}

int helper_open(struct loop *l, const char *name, struct helper **ret)
{
	struct helper *h = node_alloc(sizeof(*h));
	int r;

	if (!h)
		return -ENOMEM;
	h->home = l;
	h->stop.run = stop;
	h->later.fire = serve_later;
	r = l->ops->is_simulated ? 0 : start_thread(h, name);
	if (r < 0) {
		node_free(h);
		return r;
	}
	*ret = h;
	return 0;
}

void helper_do(struct helper *h, struct work *w)
{
	bool must_wake;

	w->helper = h;
	w->home = w->home ? w->home : h->home;
	w->letter.run = perform;
	must_wake = mailbox_post(&h->mail, &w->letter);
	if (must_wake)
		sem_post(&h->bell);
	if (h->home->ops->is_simulated && !timer_is_running(&h->later))
		start_later(h);
}

/* Takes our finished works out of the loop's inbox: what else is in there is not for now. */
static void finish_all(struct helper *h)
{
	struct letter **at = &h->home->inbox;

	loop_collect(h->home);
	while (*at) {
		struct letter *letter = *at;

		if (letter->run != finish ||
		    container_of(letter, struct work, letter)->helper != h) {
			at = &letter->next;
			continue;
		}
		*at = letter->next;
		letter->run(letter);
		at = &h->home->inbox;
	}
}

void helper_close(struct helper *h)
{
	assert(loop_is_mine(h->home));
	if (h->home->ops->is_simulated) {
		timer_stop(h->home, &h->later);
		while (serve_one(h))
			;
	} else {
		if (mailbox_post(&h->mail, &h->stop))
			sem_post(&h->bell);
		pthread_join(h->thread, NULL);
		sem_destroy(&h->bell);
	}
	finish_all(h);
	node_free(h);
}
