/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/sim_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/container.h"

#define TURN_NS 1000

/* splitmix64: every seed is a good one, and all of its state is a number. */
uint64_t dice_roll(struct dice *d)
{
	uint64_t z = d->state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

uint64_t dice_below(struct dice *d, uint64_t count)
{
	return dice_roll(d) % count;
}

void sim_note(struct sim *s, uint64_t what, uint64_t value)
{
	struct dice mix = { s->fingerprint ^ s->now_ns };

	mix.state = dice_roll(&mix) ^ what;
	mix.state = dice_roll(&mix) ^ value;
	s->fingerprint = dice_roll(&mix);
}

void event_set(struct sim *s, struct event *e, uint64_t due_ns)
{
	heap_add(&s->events, &e->link, due_ns);
}

void notice_put(struct sim_loop *sl, struct notice *n)
{
	list_remove(&n->link);
	list_insert(&sl->notices, &n->link);
}

static struct sim_loop *sim_loop_of(struct loop *l)
{
	return container_of(l, struct sim_loop, loop);
}

/* From a node's clock to the simulation's. */
static uint64_t sim_time(const struct sim_loop *sl, uint64_t node_ns)
{
	if (node_ns == UINT64_MAX)
		return UINT64_MAX;
	return node_ns > sl->node->boot_ns ? node_ns - sl->node->boot_ns : 0;
}

static uint64_t wants_turn_at(const struct sim_loop *sl)
{
	uint64_t due_ns = list_is_empty(&sl->notices) ? sim_time(sl, loop_due(&sl->loop)) : 0;

	if (sl->node->is_paused || sl->loop.is_turning)
		return UINT64_MAX;
	return due_ns > sl->rested_ns ? due_ns : sl->rested_ns;
}

/*
 * The loop that wants to be turned soonest, and when, which is not in the past. Of
 * several the dice choose, as the scheduler of a real machine might choose any.
 */
static struct sim_loop *soonest_loop(struct sim *s, uint64_t *ret_ns)
{
	struct sim_loop *soonest = NULL;
	unsigned equal_count = 0;

	*ret_ns = UINT64_MAX;
	for (struct list *i = s->nodes.next; i != &s->nodes; i = i->next) {
		struct sim_node *n = container_of(i, struct sim_node, link);

		for (struct list *j = n->loops.next; j != &n->loops; j = j->next) {
			struct sim_loop *sl = container_of(j, struct sim_loop, link);
			uint64_t at_ns = wants_turn_at(sl);

			at_ns = at_ns > s->now_ns ? at_ns : s->now_ns;
			if (at_ns < *ret_ns)
				equal_count = 0;
			if (at_ns == UINT64_MAX || at_ns > *ret_ns)
				continue;
			*ret_ns = at_ns;
			if (dice_below(&s->order, ++equal_count) == 0)
				soonest = sl;
		}
	}
	return soonest;
}

static void turn(struct sim *s, struct sim_loop *sl)
{
	struct sim_loop *outer = s->turning;

	sim_note(s, sl->node->id, sl->loop.now_ns);
	s->turning = sl;
	sl->rested_ns = s->now_ns + TURN_NS;
	loop_turn(&sl->loop, UINT64_MAX);
	s->turning = outer;
}

static void free_closed(struct sim *s)
{
	while (!list_is_empty(&s->closed)) {
		struct closing *c = container_of(s->closed.next, struct closing, link);

		list_remove(&c->link);
		c->free(c);
	}
}

/* The next thing that happens. False if that is later than `until_ns`, or never. */
static bool step(struct sim *s, uint64_t until_ns)
{
	struct heap_link *top = heap_top(&s->events);
	uint64_t at_ns;
	struct sim_loop *sl = soonest_loop(s, &at_ns);
	bool is_event = top && top->due <= at_ns;

	if (is_event)
		at_ns = top->due;
	if (at_ns == UINT64_MAX || at_ns > until_ns)
		return false;
	if (at_ns > s->now_ns)
		s->now_ns = at_ns;
	if (is_event) {
		struct event *e = container_of(top, struct event, link);

		heap_remove(&s->events, top);
		e->happen(e);
	} else {
		turn(s, sl);
	}
	free_closed(s);
	return true;
}

bool sim_run(struct sim *s, uint64_t until_ns)
{
	uint64_t next_ns;

	assert(!s->turning);
	s->must_stop = false;
	while (!s->must_stop && step(s, until_ns))
		;
	if (s->must_stop)
		return true;
	if (until_ns != UINT64_MAX && until_ns > s->now_ns)
		s->now_ns = until_ns;
	return soonest_loop(s, &next_ns) || heap_top(&s->events);
}

void sim_stop(struct sim *s)
{
	s->must_stop = true;
}

static void run_until(struct sim *s, uint64_t until_ns)
{
	while (step(s, until_ns))
		;
	if (until_ns > s->now_ns)
		s->now_ns = until_ns;
}

/*
 * A turn that was not begun by step(): for as long as it takes all others run, and
 * on until there is something for this loop.
 */
static int run_others(struct sim_loop *sl, uint64_t due_ns)
{
	struct sim *s = sl->node->sim;
	uint64_t until_ns = sim_time(sl, due_ns);
	int r = 0;

	run_until(s, s->now_ns + TURN_NS);
	while (r == 0 && list_is_empty(&sl->notices) && mailbox_is_empty(&sl->loop.mail) &&
	       s->now_ns < until_ns) {
		if (step(s, until_ns))
			continue;
		if (until_ns == UINT64_MAX)
			r = -EDEADLK;
		else
			s->now_ns = until_ns;
	}
	sl->loop.now_ns = node_now_ns();
	return r;
}

static int sim_poll(struct loop *l, uint64_t due_ns)
{
	struct sim_loop *sl = sim_loop_of(l);
	int r = sl->node->sim->turning == sl ? 0 : run_others(sl, due_ns);
	unsigned count = 0;

	/* As many as there are now; what comes meanwhile is for the next turn. */
	for (struct list *i = sl->notices.next; i != &sl->notices; i = i->next)
		count++;
	for (; count > 0 && !list_is_empty(&sl->notices); count--) {
		struct notice *n = container_of(sl->notices.next, struct notice, link);

		list_remove(&n->link);
		n->tell(n);
		loop_settle(l);
	}
	return r;
}

/* Another loop posted: loop_due() knows. */
static void sim_wake(struct loop *l)
{
	(void)l;
}

static void sim_loop_close(struct loop *l)
{
	struct sim_loop *sl = sim_loop_of(l);

	assert(list_is_empty(&sl->notices) && list_is_empty(&sl->acceptors));
	list_remove(&sl->link);
	free(sl);
}

static const struct loop_ops SIM_OPS = {
	.poll = sim_poll,
	.wake = sim_wake,
	.connect = sim_net_connect,
	.listen = sim_net_listen,
	.unlisten = sim_net_unlisten,
	.close = sim_loop_close,
	.is_simulated = true,
};

int sim_loop_open(struct sim_node *n, struct loop **ret)
{
	struct sim_loop *sl = calloc(1, sizeof(*sl));
	struct node *outer = node_current;

	if (!sl)
		return -ENOMEM;
	node_current = &n->node;
	loop_init(&sl->loop, &SIM_OPS);
	node_current = outer;
	sl->node = n;
	list_init(&sl->notices);
	list_init(&sl->acceptors);
	list_insert(&n->loops, &sl->link);
	*ret = &sl->loop;
	return 0;
}

int sim_open(const struct sim_config *config, struct sim **ret)
{
	struct sim *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->config = *config;
	s->net.state = config->seed ^ 0x6e6574;
	s->order.state = config->seed ^ 0x6f72646572;
	s->workload.state = config->seed ^ 0x776f726b;
	list_init(&s->nodes);
	list_init(&s->cables);
	list_init(&s->cuts);
	list_init(&s->stalls);
	list_init(&s->watches);
	list_init(&s->closed);
	*ret = s;
	return 0;
}

void sim_close(struct sim *s)
{
	assert(!s->turning);
	while (!list_is_empty(&s->nodes)) {
		struct sim_node *n = container_of(s->nodes.next, struct sim_node, link);

		sim_node_kill(n);
		list_remove(&n->link);
		free(n);
	}
	sim_net_close(s);
	free_closed(s);
	free(s);
}

uint64_t sim_now_ns(const struct sim *s)
{
	return s->now_ns;
}

void sim_watch(struct sim *s, struct sim_watch *w)
{
	list_remove(&w->link);
	list_insert(&s->watches, &w->link);
}

void sim_unwatch(struct sim_watch *w)
{
	list_remove(&w->link);
}

void sim_set_delay(struct sim *s, uint64_t delay_ns_max)
{
	s->config.delay_ns_max = delay_ns_max;
}

uint64_t sim_random(struct sim *s)
{
	return dice_roll(&s->workload);
}

uint64_t sim_fingerprint(const struct sim *s)
{
	return s->fingerprint;
}
