/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/loop.h"

#include <assert.h>
#include <errno.h>

#include "base/container.h"
#include "base/limits.h"
#include "loop/loop_priv.h"

void loop_init(struct loop *l, const struct loop_ops *ops)
{
	*l = (struct loop){ .ops = ops, .node = node_current, .thread = pthread_self() };
	fibers_init(&l->fibers, FIBERS_PER_LOOP);
	list_init(&l->tasks);
	list_init(&l->following);
	list_init(&l->finishing);
	list_init(&l->mark);
	list_init(&l->bells);
	list_init(&l->closed);
	l->now_ns = node_now_ns();
}

void loop_adopt(struct loop *l)
{
	l->thread = pthread_self();
}

bool loop_is_mine(const struct loop *l)
{
	return pthread_equal(l->thread, pthread_self());
}

void timer_start(struct loop *l, struct timer *t, uint64_t due_ns)
{
	assert(loop_is_mine(l));
	heap_remove(&l->timers, &t->link);
	/* Never due in this turn: a timer that starts itself anew must not keep the turn from
	 * ending. */
	heap_add(&l->timers, &t->link, due_ns > l->now_ns ? due_ns : l->now_ns + 1);
}

void timer_stop(struct loop *l, struct timer *t)
{
	assert(loop_is_mine(l));
	heap_remove(&l->timers, &t->link);
}

/* These return whether there was anything to run. */

static bool run_timers(struct loop *l)
{
	for (unsigned n = 0; n < LOOP_TIMERS_PER_TURN; n++) {
		struct heap_link *soonest = heap_top(&l->timers);
		struct timer *t;

		if (!soonest || soonest->due > l->now_ns)
			return n > 0;
		t = container_of(soonest, struct timer, link);
		heap_remove(&l->timers, soonest);
		t->fire(t);
	}
	return true;
}

static bool run_fibers(struct loop *l)
{
	bool is_any_due = fibers_due(&l->fibers) <= l->now_ns;

	fibers_run(&l->fibers, l->now_ns);
	return is_any_due;
}

void loop_defer(struct loop *l, struct task *t)
{
	assert(loop_is_mine(l));
	list_remove(&t->link);
	list_insert(&l->tasks, &t->link);
}

void loop_follow(struct loop *l, struct task *t)
{
	assert(loop_is_mine(l));
	list_remove(&t->link);
	list_insert(&l->following, &t->link);
}

void loop_finish(struct loop *l, struct task *t)
{
	assert(loop_is_mine(l));
	list_remove(&t->link);
	list_insert(&l->finishing, &t->link);
}

void task_stop(struct task *t)
{
	list_remove(&t->link);
}

/* Those that are there now; what is added meanwhile is behind the mark, for later. */
static bool run_tasks(struct loop *l, struct list *tasks)
{
	if (list_is_empty(tasks))
		return false;
	list_insert(tasks, &l->mark);
	while (tasks->next != &l->mark) {
		struct task *t = container_of(tasks->next, struct task, link);

		list_remove(&t->link);
		t->run(t);
	}
	list_remove(&l->mark);
	return true;
}

static bool has_followers(const struct loop *l)
{
	return !list_is_empty(&l->following) || fibers_are_ready(&l->fibers);
}

bool loop_settle(struct loop *l)
{
	unsigned n = 0;

	do {
		while (has_followers(l) && n < LOOP_ROUNDS_TO_SETTLE) {
			run_tasks(l, &l->following);
			fibers_go_on(&l->fibers);
			n++;
		}
	} while (!list_is_empty(&l->finishing) && run_tasks(l, &l->finishing) &&
		 ++n < LOOP_ROUNDS_TO_SETTLE);
	return n > 0;
}

void loop_post(struct loop *l, struct letter *letter)
{
	if (mailbox_post(&l->mail, letter))
		l->ops->wake(l);
}

void loop_collect(struct loop *l)
{
	struct letter **end = &l->inbox;

	while (*end)
		end = &(*end)->next;
	*end = mailbox_take(&l->mail);
}

static void serve_mail(struct loop *l)
{
	if (!l->inbox)
		loop_collect(l);
	for (unsigned n = 0; l->inbox && n < LOOP_LETTERS_PER_TURN; n++) {
		struct letter *letter = l->inbox;

		l->inbox = letter->next;
		letter->run(letter);
	}
}

void loop_free_later(struct loop *l, struct closing *c)
{
	assert(loop_is_mine(l));
	list_insert(&l->closed, &c->link);
}

static void free_closed(struct loop *l)
{
	while (!list_is_empty(&l->closed)) {
		struct closing *c = container_of(l->closed.next, struct closing, link);

		list_remove(&c->link);
		c->free(c);
	}
}

uint64_t loop_due(const struct loop *l)
{
	struct heap_link *soonest = heap_top(&l->timers);
	uint64_t due_ns = fibers_due(&l->fibers);

	if (!list_is_empty(&l->tasks) || !list_is_empty(&l->following) ||
	    !list_is_empty(&l->finishing) || l->inbox || !mailbox_is_empty(&l->mail) ||
	    l->must_stop || !list_is_empty(&l->closed) || bells_peek(l))
		return l->now_ns;
	if (soonest && soonest->due < due_ns)
		due_ns = soonest->due;
	return due_ns > l->now_ns ? due_ns : l->now_ns;
}

void loop_polls(struct loop *l, uint64_t now_ns)
{
	uint64_t busy_ns = now_ns - l->polled_ns;

	if (busy_ns > l->busy_ns_max)
		l->busy_ns_max = busy_ns;
	l->polled_ns = now_ns;
}

/*
 * From here on a letter, a bell, or the time when a turn is due wakes whoever waits for us. If one
 * is there already, a turn is due.
 */
static void sleep_outside(struct loop *l)
{
	mailbox_sleep(&l->mail);
	l->is_asleep = bells_sleep(l, false);
	l->ops->tell(l, loop_due(l));
}

static bool look_at_bells(struct loop *l)
{
	if (l->is_asleep)
		bells_awake(l);
	l->is_asleep = false;
	return bells_look(l);
}

/* `is_watched`: the caller waits for something that may have happened before step 6. */
static int turn(struct loop *l, uint64_t due_ns, bool is_watched)
{
	struct node *outer = node_current;
	uint64_t own_ns;
	bool has_run;
	int r;

	assert(loop_is_mine(l) && !l->is_turning);
	node_current = l->node;
	l->is_turning = true;
	l->now_ns = node_now_ns();
	if (!l->polled_ns)
		l->polled_ns = l->now_ns;

	has_run = run_timers(l);
	has_run |= run_tasks(l, &l->tasks);
	has_run |= run_fibers(l);
	has_run |= loop_settle(l);
	has_run |= look_at_bells(l);
	own_ns = loop_due(l);
	has_run &= is_watched;
	/* Mail is served in this turn: who waits outside is not to come back for its alarm. */
	l->is_needed_soon = has_run || (own_ns <= l->now_ns && !l->is_waited_for);
	if (has_run)
		due_ns = l->now_ns;
	r = l->ops->poll(l, own_ns < due_ns ? own_ns : due_ns);
	serve_mail(l);
	loop_settle(l);
	free_closed(l);
	if (l->is_waited_for)
		sleep_outside(l);

	l->is_turning = false;
	node_current = outer;
	return r;
}

int loop_turn(struct loop *l, uint64_t due_ns)
{
	/* What the caller did since the last turn is no stall of ours. */
	l->polled_ns = 0;
	return turn(l, due_ns, true);
}

int loop_run(struct loop *l)
{
	int r = 0;

	l->polled_ns = 0;
	while (r >= 0 && !l->must_stop)
		r = turn(l, UINT64_MAX, false);
	l->must_stop = false;
	return r;
}

void loop_stop(struct loop *l)
{
	assert(loop_is_mine(l));
	l->must_stop = true;
}

int loop_fd(struct loop *l)
{
	int fd = l->ops->fd ? l->ops->fd(l) : -EOPNOTSUPP;

	if (fd < 0)
		return fd;
	l->is_waited_for = true;
	sleep_outside(l);
	return fd;
}

void loop_close(struct loop *l)
{
	struct node *outer = node_current;

	assert(loop_is_mine(l) && !l->is_turning);
	node_current = l->node;
	while (l->inbox || !mailbox_is_empty(&l->mail))
		serve_mail(l);
	free_closed(l);
	assert(!heap_top(&l->timers) && list_is_empty(&l->tasks) && list_is_empty(&l->following) &&
	       list_is_empty(&l->finishing));
	fibers_fini(&l->fibers);
	l->ops->close(l);
	node_current = outer;
}
