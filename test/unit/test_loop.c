/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a loop of either backend runs timers, tasks, fibers, streams and letters in
 * the order that loop.h promises. Method: what runs writes a note; the tests read
 * the notes. Those about threads and real time are for the epoll backend alone.
 */
#include "test.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/container.h"
#include "base/limits.h"
#include "loop/stream.h"
#include "world.h"

static bool is_simulated;
static char notes[512];

static void note(const char *what)
{
	size_t used = strlen(notes);

	snprintf(notes + used, sizeof(notes) - used, "%s ", what);
}

#define expect_notes(text)                        \
	do {                                      \
		assert_string_equal(notes, text); \
		notes[0] = '\0';                  \
	} while (0)

static int setup(void **state)
{
	notes[0] = '\0';
	world_open(is_simulated);
	return 0;
}

static int teardown(void **state)
{
	world_close();
	return 0;
}

/* A turn that waits for nothing. */
static void turn(void)
{
	assert_int_equal(loop_turn(loop, 0), 0);
}

/* Something of each kind, which has a name, notes it, and may act on another. */
struct thing {
	struct timer timer;
	struct task task;
	struct letter letter;
	struct closing closing;
	const char *name;
	uint64_t fired_ns;
	void (*then)(struct thing *t);
	struct thing *other;
};

static void act(struct thing *t)
{
	t->fired_ns = loop->now_ns;
	note(t->name);
	if (t->then)
		t->then(t);
}

static void fire(struct timer *t)
{
	act(container_of(t, struct thing, timer));
}

static void run(struct task *t)
{
	act(container_of(t, struct thing, task));
}

static void read_letter(struct letter *l)
{
	act(container_of(l, struct thing, letter));
}

static void free_thing(struct closing *c)
{
	note(container_of(c, struct thing, closing)->name);
}

static struct thing thing(const char *name)
{
	return (struct thing){ .name = name,
			       .timer.fire = fire,
			       .task.run = run,
			       .letter.run = read_letter,
			       .closing.free = free_thing };
}

static void start_in(struct thing *t, uint64_t ns)
{
	timer_start(loop, &t->timer, loop->now_ns + ns);
}

static void timers_fire_in_the_order_of_their_due_times(void **state)
{
	struct thing a = thing("a"), b = thing("b"), c = thing("c");
	uint64_t begin_ns = loop->now_ns;

	start_in(&a, 3 * MS);
	start_in(&b, 1 * MS);
	start_in(&c, 2 * MS);
	assert_true(timer_is_running(&a.timer));
	turn_for(10 * MS);
	expect_notes("b c a ");
	assert_true(b.fired_ns >= begin_ns + 1 * MS);
	assert_true(c.fired_ns >= begin_ns + 2 * MS);
	assert_true(a.fired_ns >= begin_ns + 3 * MS);
	assert_false(timer_is_running(&a.timer));
	turn_for(5 * MS);
	expect_notes("");
}

static void timers_that_are_due_together_all_fire(void **state)
{
	struct thing a = thing("x"), b = thing("x"), c = thing("x");
	uint64_t due_ns = loop->now_ns + MS;

	timer_start(loop, &a.timer, due_ns);
	timer_start(loop, &b.timer, due_ns);
	timer_start(loop, &c.timer, due_ns);
	WAIT_FOR(notes[0]);
	expect_notes("x x x ");
}

static void a_timer_that_is_started_again_moves(void **state)
{
	struct thing a = thing("a"), b = thing("b");

	start_in(&a, MS);
	start_in(&b, 3 * MS);
	start_in(&a, 6 * MS);
	turn_for(15 * MS);
	expect_notes("b a ");
}

static void a_timer_that_is_stopped_does_not_fire(void **state)
{
	struct thing a = thing("a"), b = thing("b");

	timer_stop(loop, &a.timer);
	start_in(&a, MS);
	start_in(&b, MS);
	timer_stop(loop, &a.timer);
	assert_false(timer_is_running(&a.timer));
	turn_for(5 * MS);
	expect_notes("b ");
}

static void stop_other(struct thing *t)
{
	timer_stop(loop, &t->other->timer);
	if (!list_is_empty(&t->other->task.link))
		task_stop(&t->other->task);
}

static void a_timer_may_stop_one_that_is_due_in_the_same_turn(void **state)
{
	struct thing a = thing("a"), b = thing("b");

	list_init(&a.task.link);
	list_init(&b.task.link);
	a.then = b.then = stop_other;
	a.other = &b;
	b.other = &a;
	start_in(&a, MS);
	start_in(&b, MS);
	turn_for(5 * MS);
	assert_int_equal(strlen(notes), 2); /* one of them */
}

static void start_again(struct thing *t)
{
	timer_start(loop, &t->timer, 0);
}

static void a_timer_that_starts_itself_fires_once_a_turn(void **state)
{
	struct thing a = thing("a");

	a.then = start_again;
	start_in(&a, MS);
	WAIT_FOR(notes[0]);
	expect_notes("a ");
	WAIT_FOR(notes[0]);
	expect_notes("a ");
	timer_stop(loop, &a.timer);
}

static void a_task_runs_once_in_the_next_turn(void **state)
{
	struct thing a = thing("a"), b = thing("b"), c = thing("c");

	list_init(&a.task.link);
	list_init(&b.task.link);
	list_init(&c.task.link);
	loop_defer(loop, &a.task);
	loop_defer(loop, &b.task);
	loop_defer(loop, &c.task);
	loop_defer(loop, &b.task); /* and it goes to the end */
	task_stop(&a.task);
	expect_notes("");
	turn();
	expect_notes("c b ");
	turn();
	expect_notes("");
}

static void defer_other(struct thing *t)
{
	if (!t->other)
		return;
	loop_defer(loop, &t->other->task);
	t->other = NULL;
}

static void what_a_task_defers_is_for_the_turn_after(void **state)
{
	struct thing a = thing("a"), b = thing("b");

	list_init(&a.task.link);
	list_init(&b.task.link);
	a.then = b.then = defer_other;
	a.other = &a;
	b.other = &a;
	loop_defer(loop, &a.task);
	loop_defer(loop, &b.task);
	turn();
	expect_notes("a b ");
	turn();
	expect_notes("a ");
	turn();
	expect_notes("");
}

static void follow_other(struct thing *t)
{
	if (t->other)
		loop_follow(loop, &t->other->task);
}

static void what_follows_runs_in_the_same_turn(void **state)
{
	struct thing a = thing("a"), b = thing("b"), c = thing("c");

	list_init(&a.task.link);
	list_init(&b.task.link);
	list_init(&c.task.link);
	a.then = b.then = follow_other;
	a.other = &b;
	b.other = &c;
	loop_defer(loop, &a.task);
	turn();
	expect_notes("a b c ");
	loop_follow(loop, &c.task);
	assert_int_equal(loop_due(loop), loop->now_ns);
	loop_post(loop, &a.letter);
	turn();
	expect_notes("c a b c ");
	turn();
	expect_notes("");
}

static struct thing last;

static void finish_and_follow(struct thing *t)
{
	loop_finish(loop, &last.task);
	follow_other(t);
}

static void what_is_done_once_for_many_comes_after_all_that_follows(void **state)
{
	struct thing a = thing("a"), b = thing("b"), c = thing("c");

	last = thing("last");
	list_init(&a.task.link);
	list_init(&b.task.link);
	list_init(&c.task.link);
	list_init(&last.task.link);
	a.then = b.then = finish_and_follow;
	a.other = &b;
	b.other = &c;
	loop_defer(loop, &a.task);
	turn();
	expect_notes("a b c last ");
	/* What follows from that is not left for later. */
	last.then = follow_other;
	last.other = &c;
	loop_finish(loop, &last.task);
	assert_int_equal(loop_due(loop), loop->now_ns);
	turn();
	expect_notes("last c ");
	turn();
	expect_notes("");
}

/* But LOOP_ROUNDS_TO_SETTLE times. */
static void what_follows_itself_for_ever_does_not_keep_the_turn(void **state)
{
	struct thing a = thing("a"), timer = thing("timer");

	list_init(&a.task.link);
	a.then = follow_other;
	a.other = &a;
	loop_follow(loop, &a.task);
	start_in(&timer, 0);
	for (int i = 0; i < 100 && !strstr(notes, "timer"); i++) {
		notes[0] = '\0';
		turn();
	}
	assert_non_null(strstr(notes, "timer"));
	task_stop(&a.task);
	notes[0] = '\0';
}

static void a_task_may_stop_one_that_was_to_run_in_the_same_turn(void **state)
{
	struct thing a = thing("a"), b = thing("b");

	list_init(&a.task.link);
	list_init(&b.task.link);
	a.then = stop_other;
	a.other = &b;
	loop_defer(loop, &a.task);
	loop_defer(loop, &b.task);
	turn();
	turn();
	expect_notes("a ");
}

static void post_other(struct thing *t)
{
	if (t->other)
		loop_post(loop, &t->other->letter);
}

static void letters_are_read_in_the_order_they_were_posted(void **state)
{
	struct thing a = thing("a"), b = thing("b"), c = thing("c");

	a.then = post_other;
	a.other = &c;
	loop_post(loop, &a.letter);
	loop_post(loop, &b.letter);
	expect_notes("");
	turn();
	expect_notes("a b ");
	turn();
	expect_notes("c ");
}

static void free_later(struct thing *t)
{
	loop_free_later(loop, &t->closing);
}

static void what_is_closed_is_freed_at_the_end_of_the_turn(void **state)
{
	struct thing a = thing("a"), b = thing("b"), c = thing("c");

	a.then = free_later;
	list_init(&a.task.link);
	list_init(&b.task.link);
	loop_defer(loop, &a.task);
	loop_defer(loop, &b.task);
	loop_post(loop, &c.letter);
	turn();
	expect_notes("a b c a ");
}

static struct stream *far;

static void ready(struct stream *s)
{
	char buf[16];

	while (stream_recv(s, buf, sizeof(buf)) > 0)
		;
	note("ready");
}

static void ignore(struct stream *s)
{
}

static void accepted(struct listener *lr, struct stream *s)
{
	far = s;
	s->ready = ready;
}

static void step(struct fiber *self)
{
	note("fiber");
}

/* Everything is set going before each turn, until a turn has come by in which all of it ran. */
static void a_turn_has_an_order(void **state)
{
	struct thing timer = thing("timer"), task = thing("task"), letter = thing("letter");
	struct listener lr = { .accepted = accepted };
	struct iovec iov = { (void *)"x", 1 };
	struct address at;
	struct stream *near;
	struct fiber fiber;

	assert_int_equal(address_parse(is_simulated ? "sim://1:0" : "tcp://127.0.0.1:0", &at), 0);
	assert_int_equal(listener_open(loop, &at, &lr), 0);
	assert_int_equal(stream_connect(loop, &lr.address, &near), 0);
	near->ready = ignore;
	far = NULL;
	WAIT_FOR(far);
	turn_for(5 * MS);

	list_init(&task.task.link);
	letter.then = free_later; /* noted as a second letter */
	for (int i = 0; i < 100000 && !(strstr(notes, "ready") && strstr(notes, "timer")); i++) {
		notes[0] = '\0';
		assert_int_equal(stream_send(near, &iov, 1), 1);
		loop_post(loop, &letter.letter);
		assert_int_equal(fiber_start(&loop->fibers, &fiber, step, NULL), 0);
		loop_defer(loop, &task.task);
		if (!timer_is_running(&timer.timer))
			start_in(&timer, 0);
		turn();
	}
	expect_notes("timer task fiber ready letter letter ");
	timer_stop(loop, &timer.timer);
	stream_close(near);
	stream_close(far);
	listener_close(&lr);
	turn_for(5 * MS);
}

/* A connection to ourselves; the other end is `far`. */
struct pair {
	struct listener listener;
	struct stream *near;
};

static void pair_open(struct pair *p)
{
	struct address at;

	*p = (struct pair){ .listener.accepted = accepted };
	assert_int_equal(address_parse("tcp://127.0.0.1:0", &at), 0);
	assert_int_equal(listener_open(loop, &at, &p->listener), 0);
	assert_int_equal(stream_connect(loop, &p->listener.address, &p->near), 0);
	p->near->ready = ignore;
	far = NULL;
	WAIT_FOR(far);
	turn_for(5 * MS);
}

static void pair_close(struct pair *p)
{
	stream_close(p->near);
	stream_close(far);
	listener_close(&p->listener);
	turn_for(5 * MS);
	notes[0] = '\0';
}

/* Turns that run this, until the kernel is asked, and tells of a byte that has come. */
static unsigned turns_unasked(struct thing *a, uint64_t *ret_ns)
{
	struct iovec iov = { (void *)"x", 1 };
	struct pair p;
	unsigned unasked = 0;

	pair_open(&p);
	turn(); /* asks */
	notes[0] = '\0';

	assert_int_equal(stream_send(p.near, &iov, 1), 1);
	list_init(&a->task.link);
	*ret_ns = node_now_ns();
	while (!strstr(notes, "ready") && unasked < 1000) {
		loop_defer(loop, &a->task);
		turn();
		unasked++;
	}
	*ret_ns = node_now_ns() - *ret_ns;
	pair_close(&p);
	return unasked;
}

/* Who turns has perhaps got what he waits for, and to ask the kernel takes as long as a request. */
static void a_turn_that_has_run_something_leaves_the_kernel_alone(void **state)
{
	struct thing a = thing("a");
	uint64_t took_ns;
	unsigned n = turns_unasked(&a, &took_ns);

	/* But not for ever; where turns are slow, sooner. */
	if (took_ns < LOOP_UNASKED_NS)
		assert_int_equal(n, LOOP_TURNS_UNASKED + 1);
	else
		assert_in_range(n, 2, LOOP_TURNS_UNASKED + 1);
}

static void take_long(struct thing *t)
{
	uint64_t begin_ns = node_now_ns();

	while (node_now_ns() - begin_ns < LOOP_UNASKED_NS)
		;
}

static void turns_that_take_long_ask_the_kernel_between_them(void **state)
{
	struct thing a = thing("a");
	uint64_t took_ns;

	a.then = take_long;
	assert_int_equal(turns_unasked(&a, &took_ns), 2);
}

static struct thing then_this;

static void ready_and_follow(struct stream *s)
{
	struct fiber *fiber = s->owner;

	ready(s);
	loop_follow(loop, &then_this.task);
	if (fiber)
		assert_int_equal(fiber_start(&loop->fibers, fiber, step, NULL), 0);
	s->owner = NULL;
}

/* Two of them have come before a turn; what follows from the first is over when the second begins.
 */
static void what_follows_an_event_comes_before_the_next_event(void **state)
{
	struct listener lr = { .accepted = accepted };
	struct iovec iov = { (void *)"x", 1 };
	struct stream *near[2], *there[2];
	struct fiber fibers[2];
	struct address at;

	assert_int_equal(address_parse(is_simulated ? "sim://1:0" : "tcp://127.0.0.1:0", &at), 0);
	assert_int_equal(listener_open(loop, &at, &lr), 0);
	for (int i = 0; i < 2; i++) {
		far = NULL;
		assert_int_equal(stream_connect(loop, &lr.address, &near[i]), 0);
		near[i]->ready = ignore;
		WAIT_FOR(far);
		there[i] = far;
	}
	turn_for(5 * MS);
	then_this = thing("after");
	list_init(&then_this.task.link);
	for (int i = 0; i < 100000 && strlen(notes) < strlen("ready after fiber ready"); i++) {
		notes[0] = '\0';
		for (int k = 0; k < 2; k++) {
			there[k]->ready = ready_and_follow;
			there[k]->owner = &fibers[k];
			assert_int_equal(stream_send(near[k], &iov, 1), 1);
		}
		turn();
		for (int k = 0; k < 2; k++)
			there[k]->ready = ignore;
		WAIT_FOR(loop->fibers.alive_count == 0);
	}
	expect_notes("ready after fiber ready after fiber ");
	for (int k = 0; k < 2; k++) {
		stream_close(near[k]);
		stream_close(there[k]);
	}
	listener_close(&lr);
	turn_for(5 * MS);
}

static struct waitq door;
static uint64_t fiber_due_ns;

static void visit(struct fiber *self)
{
	note("fiber");
	note(waitq_wait(&door, fiber_due_ns) == -ETIMEDOUT ? "late" : "woken");
}

static void visited(struct fiber *self)
{
	note("ended");
}

static void a_fiber_s_deadline_ends_a_wait(void **state)
{
	struct fiber fiber;

	waitq_init(&door, &loop->fibers);
	fiber_due_ns = loop->now_ns + 3 * MS;
	assert_int_equal(fiber_start(&loop->fibers, &fiber, visit, visited), 0);
	WAIT_FOR(loop->fibers.alive_count == 0);
	assert_true(loop->now_ns >= fiber_due_ns && loop->now_ns < fiber_due_ns + 15 * SECOND);
	expect_notes("fiber late ended ");
}

static void a_turn_tells_when_the_next_must_be(void **state)
{
	struct thing a = thing("a");
	struct fiber fiber;
	uint64_t due_ns;

	assert_int_equal(loop_due(loop), UINT64_MAX);
	due_ns = loop->now_ns + 70 * MS;
	timer_start(loop, &a.timer, due_ns);
	assert_int_equal(loop_due(loop), due_ns);
	waitq_init(&door, &loop->fibers);
	fiber_due_ns = loop->now_ns + 50 * MS;
	assert_int_equal(fiber_start(&loop->fibers, &fiber, visit, NULL), 0);
	assert_int_equal(loop_due(loop), loop->now_ns);
	turn();
	assert_int_equal(loop_due(loop), fiber_due_ns);
	waitq_wake(&door);
	assert_int_equal(loop_due(loop), loop->now_ns);
	turn();
	assert_int_equal(loop_due(loop), due_ns);
	timer_stop(loop, &a.timer);

	list_init(&a.task.link);
	loop_defer(loop, &a.task);
	assert_int_equal(loop_due(loop), loop->now_ns);
	turn();
	assert_int_equal(loop_due(loop), UINT64_MAX);
	loop_post(loop, &a.letter);
	assert_int_equal(loop_due(loop), loop->now_ns);
	turn();
	assert_int_equal(loop_due(loop), UINT64_MAX);
}

static void a_turn_that_has_run_something_does_not_wait(void **state)
{
	struct thing a = thing("a");

	list_init(&a.task.link);
	loop_defer(loop, &a.task);
	assert_int_equal(loop_turn(loop, loop->now_ns + 25 * SECOND), 0);
	expect_notes("a ");
	start_in(&a, MS);
	while (!notes[0])
		assert_int_equal(loop_turn(loop, loop->now_ns + 25 * SECOND), 0);
	assert_true(a.fired_ns + 15 * SECOND > loop->now_ns);
	assert_true(loop->now_ns - a.fired_ns < 15 * SECOND);
}

static void a_crowd_of_timers_fires_in_pieces(void **state)
{
	enum { COUNT = 3 * LOOP_TIMERS_PER_TURN };
	static struct thing things[COUNT];
	int fired_count = 0, before;

	for (int i = 0; i < COUNT; i++) {
		things[i] = thing("");
		start_in(&things[i], 0);
	}
	do {
		before = fired_count;
		turn();
		fired_count = 0;
		for (int i = 0; i < COUNT; i++)
			fired_count += things[i].fired_ns > 0;
		assert_true(fired_count - before <= LOOP_TIMERS_PER_TURN);
	} while (fired_count < COUNT);
}

static void a_crowd_of_letters_is_read_in_order_and_in_pieces(void **state)
{
	enum { COUNT = 2 * LOOP_LETTERS_PER_TURN + 5 };
	static struct thing things[COUNT];
	int read_count = 0;

	for (int i = 0; i < COUNT; i++) {
		things[i] = thing("");
		loop_post(loop, &things[i].letter);
	}
	turn();
	while (read_count < COUNT && things[read_count].fired_ns)
		read_count++;
	assert_int_equal(read_count, LOOP_LETTERS_PER_TURN);
	for (int i = read_count; i < COUNT; i++)
		assert_int_equal(things[i].fired_ns, 0);
	assert_int_equal(loop_due(loop), loop->now_ns);
	turn();
	turn();
	assert_true(things[COUNT - 1].fired_ns);
}

static void stop_loop(struct thing *t)
{
	loop_stop(loop);
}

static void a_loop_runs_until_it_is_stopped(void **state)
{
	struct thing a = thing("a"), b = thing("b");

	b.then = stop_loop;
	start_in(&a, MS);
	start_in(&b, 2 * MS);
	assert_int_equal(loop_run(loop), 0);
	expect_notes("a b ");
	loop_post(loop, &b.letter);
	assert_int_equal(loop_run(loop), 0);
	expect_notes("b ");
	loop_stop(loop);
	assert_int_equal(loop_run(loop), 0);
	expect_notes("");
}

static void free_and_stop(struct closing *c)
{
	loop_stop(loop);
}

static void what_was_closed_is_freed_before_the_loop_waits(void **state)
{
	struct thing a = thing("a"), b = thing("b");
	uint64_t begin_ns = loop->now_ns;

	a.then = free_later;
	a.closing.free = free_and_stop;
	b.then = stop_loop;
	start_in(&a, MS);
	start_in(&b, 10 * SECOND);
	assert_int_equal(loop_run(loop), 0);
	assert_true(loop->now_ns < begin_ns + 5 * SECOND);
	expect_notes("a ");
	timer_stop(loop, &b.timer);
}

static void after_a_wait_the_clock_is_read_again(void **state)
{
	struct thing a = thing("a");
	uint64_t due_ns = loop->now_ns + 20 * MS;

	assert_int_equal(loop_turn(loop, due_ns), 0);
	assert_true(loop->now_ns >= due_ns);
	start_in(&a, 0);
	WAIT_FOR(notes[0]);
	assert_true(a.fired_ns >= due_ns);
}

/* Threads and real time. */

#define SENDERS 4
#define LETTERS 2000

struct sender {
	pthread_t thread;
	struct thing things[LETTERS];
	unsigned read_count;
	bool is_out_of_order;
};

static struct sender *senders;
static unsigned read_count;

static void count_letter(struct letter *l)
{
	struct thing *t = container_of(l, struct thing, letter);

	for (int i = 0; i < SENDERS; i++) {
		struct sender *s = &senders[i];

		if (t < s->things || t >= s->things + LETTERS)
			continue;
		s->is_out_of_order |= t != &s->things[s->read_count];
		s->read_count++;
	}
	read_count++;
}

static void *send_letters(void *arg)
{
	struct sender *s = arg;

	for (int i = 0; i < LETTERS; i++) {
		s->things[i].letter.run = count_letter;
		loop_post(loop, &s->things[i].letter);
		if (i % 100 == 0)
			nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	}
	return NULL;
}

/* A letter that did not wake the loop would be read only after the loop's own 20 seconds. */
static void letters_of_other_threads_wake_the_loop(void **state)
{
	uint64_t begin_ns = loop->now_ns;

	read_count = 0;
	senders = calloc(SENDERS, sizeof(*senders));
	for (int i = 0; i < SENDERS; i++)
		pthread_create(&senders[i].thread, NULL, send_letters, &senders[i]);
	WAIT_FOR(read_count == SENDERS * LETTERS);
	for (int i = 0; i < SENDERS; i++) {
		pthread_join(senders[i].thread, NULL);
		assert_false(senders[i].is_out_of_order);
	}
	assert_true(loop->now_ns - begin_ns < 15 * SECOND);
	free(senders);
}

/* How often this thread has slept, while it waited ten times for a little. */
static long sleeps_of_ten_short_waits(void)
{
	struct rusage before, after;

	getrusage(RUSAGE_THREAD, &before);
	for (int i = 0; i < 10; i++)
		assert_int_equal(loop_turn(loop, node_now_ns() + 10000), 0);
	getrusage(RUSAGE_THREAD, &after);
	return after.ru_nvcsw - before.ru_nvcsw;
}

static void who_may_stay_awake_does_so_in_a_conversation(void **state)
{
	bool has_stayed = false;

	if (!has_short_waits(loop))
		skip();
	assert_true(sleeps_of_ten_short_waits() > 0);
	loop->may_stay_awake = true;
	/* On a busy machine the core is shared, and then it sleeps. */
	for (int i = 0; i < 200 && !has_stayed; i++) {
		has_stayed = sleeps_of_ten_short_waits() == 0;
		if (!has_stayed)
			usleep(10000);
	}
	assert_true(has_stayed);
}

static void who_waits_long_sleeps(void **state)
{
	struct timespec before, after;

	loop->may_stay_awake = true;
	sleeps_of_ten_short_waits();
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
	turn_for(400 * MS);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
	assert_true((after.tv_sec - before.tv_sec) * 1000 +
			    (after.tv_nsec - before.tv_nsec) / 1000000 <
		    100);
}

static bool is_readable(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1;
}

static void *post_one(void *arg)
{
	loop_post(loop, arg);
	return NULL;
}

static void somebody_else_s_loop_may_wait_for_ours(void **state)
{
	struct thing a = thing("a");
	pthread_t thread;
	int fd = loop_fd(loop);

	assert_true(fd >= 0);
	turn();
	assert_false(is_readable(fd, 5));
	for (int i = 0; i < 3; i++) {
		pthread_create(&thread, NULL, post_one, &a.letter);
		assert_true(is_readable(fd, 10000));
		pthread_join(thread, NULL);
		turn();
		expect_notes("a ");
		assert_false(is_readable(fd, 5));
	}
}

/* Also of one that is due before another that it waits for already. */
static void who_waits_for_our_descriptor_hears_when_a_turn_is_due(void **state)
{
	struct thing a = thing("a"), b = thing("b");
	int fd = loop_fd(loop);

	start_in(&b, 20 * SECOND);
	turn();
	assert_false(is_readable(fd, 5));
	turn();
	start_in(&a, 100 * MS);
	turn();
	while (!notes[0]) {
		assert_true(is_readable(fd, 10000));
		turn();
	}
	expect_notes("a ");
	turn();
	assert_false(is_readable(fd, 5));
	timer_stop(loop, &b.timer);
}

/* The descriptor goes on telling of it, so the kernel need not be asked by who has just sent. */
static void what_a_turn_leaves_unasked_the_descriptor_still_tells(void **state)
{
	struct thing a = thing("a"), b = thing("b");
	pthread_t thread;
	int fd = loop_fd(loop);

	turn();
	pthread_create(&thread, NULL, post_one, &b.letter);
	pthread_join(thread, NULL);
	list_init(&a.task.link);
	loop_defer(loop, &a.task);
	turn();
	expect_notes("a b ");
	assert_true(is_readable(fd, 10000));
	turn();
	assert_false(is_readable(fd, 5));
}

/* The kernel is asked for bytes, not which connection has some; and then it tells of none. */
static void the_only_connection_is_asked_itself(void **state)
{
	struct iovec iov = { (void *)"x", 1 };
	struct epoll_event event;
	struct pair p;
	int fd = loop_fd(loop);

	pair_open(&p);
	far->ready = ignore;
	p.near->ready = ready;
	for (int i = 0; i < 8; i++) {
		notes[0] = '\0';
		assert_int_equal(stream_send(far, &iov, 1), 1);
		assert_true(is_readable(fd, 10000));
		turn();
		expect_notes("ready ");
		assert_false(is_readable(fd, 5));
	}
	assert_int_equal(stream_send(far, &iov, 1), 1);
	assert_true(is_readable(fd, 10000));
	assert_int_equal(epoll_wait(fd, &event, 1, 0), 1); /* so epoll would tell of nothing */
	turn();
	expect_notes("ready ");
	pair_close(&p);
}

static void sleep_ms(struct thing *t)
{
	nanosleep(&(struct timespec){ .tv_nsec = 30 * (long)MS }, NULL);
}

static void the_longest_stall_is_known_and_a_wait_is_none(void **state)
{
	struct thing a = thing("a"), b = thing("b");

	b.then = stop_loop;
	/* Unless the machine has others to serve for so long: then once more. */
	for (unsigned i = 0; i < 50 && (i == 0 || loop->busy_ns_max >= 30 * MS); i++) {
		loop->busy_ns_max = 0;
		start_in(&b, 60 * MS);
		assert_int_equal(loop_run(loop), 0);
	}
	assert_true(loop->busy_ns_max < 30 * MS);
	a.then = sleep_ms;
	start_in(&a, MS);
	start_in(&b, 200 * MS);
	assert_int_equal(loop_run(loop), 0);
	assert_true(loop->busy_ns_max >= 30 * MS);
	assert_true(loop->busy_ns_max < SECOND);
}

static void only_the_simulator_s_loop_has_no_descriptor(void **state)
{
	assert_int_equal(loop_fd(loop), -EOPNOTSUPP);
}

static void waiting_for_nothing_at_all_is_an_error(void **state)
{
	assert_int_equal(loop_run(loop), -EDEADLK);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest both[] = {
		T(timers_fire_in_the_order_of_their_due_times),
		T(timers_that_are_due_together_all_fire),
		T(a_timer_that_is_started_again_moves),
		T(a_timer_that_is_stopped_does_not_fire),
		T(a_timer_may_stop_one_that_is_due_in_the_same_turn),
		T(a_timer_that_starts_itself_fires_once_a_turn),
		T(a_task_runs_once_in_the_next_turn),
		T(what_a_task_defers_is_for_the_turn_after),
		T(what_follows_runs_in_the_same_turn),
		T(what_is_done_once_for_many_comes_after_all_that_follows),
		T(what_follows_itself_for_ever_does_not_keep_the_turn),
		T(what_follows_an_event_comes_before_the_next_event),
		T(a_task_may_stop_one_that_was_to_run_in_the_same_turn),
		T(letters_are_read_in_the_order_they_were_posted),
		T(what_is_closed_is_freed_at_the_end_of_the_turn),
		T(a_turn_has_an_order),
		T(a_fiber_s_deadline_ends_a_wait),
		T(a_turn_tells_when_the_next_must_be),
		T(a_turn_that_has_run_something_does_not_wait),
		T(a_crowd_of_timers_fires_in_pieces),
		T(a_crowd_of_letters_is_read_in_order_and_in_pieces),
		T(a_loop_runs_until_it_is_stopped),
		T(what_was_closed_is_freed_before_the_loop_waits),
		T(after_a_wait_the_clock_is_read_again),
	};
	const struct CMUnitTest real[] = {
		T(a_turn_that_has_run_something_leaves_the_kernel_alone),
		T(turns_that_take_long_ask_the_kernel_between_them),
		T(letters_of_other_threads_wake_the_loop),
		T(somebody_else_s_loop_may_wait_for_ours),
		T(who_waits_for_our_descriptor_hears_when_a_turn_is_due),
		T(what_a_turn_leaves_unasked_the_descriptor_still_tells),
		T(the_only_connection_is_asked_itself),
		T(the_longest_stall_is_known_and_a_wait_is_none),
		T(who_may_stay_awake_does_so_in_a_conversation),
		T(who_waits_long_sleeps),
	};
	const struct CMUnitTest simulated[] = {
		T(only_the_simulator_s_loop_has_no_descriptor),
		T(waiting_for_nothing_at_all_is_an_error),
	};
	int failed_count = cmocka_run_group_tests_name("epoll", both, NULL, NULL) +
			   cmocka_run_group_tests_name("epoll alone", real, NULL, NULL);

	is_simulated = true;
	return failed_count + cmocka_run_group_tests_name("sim", both, NULL, NULL) +
	       cmocka_run_group_tests_name("sim alone", simulated, NULL, NULL);
}
