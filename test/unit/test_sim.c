/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a simulated cluster repeats itself from its seed, its nodes die, pause and
 * lose each other as real ones do, and a dead one leaves nothing. That its loops and
 * streams keep their contracts is tested with the real ones'. Method: a small server
 * and client on each node that send each other bytes for ever.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/container.h"
#include "loop/sim.h"
#include "loop/stream.h"

#define MS     1000000ull
#define SECOND (1000 * MS)

#define NODES 4
#define PORT  7

/* One connection's end: what it gets it sends back, changed; who connects begins. */
struct talker {
	struct stream *stream;
	struct list link;
	uint64_t got_bytes;
	int error; /* 1: the peer has ended */
};

/* A node's program. All of it is in the node's memory, as a server's would be. */
struct program {
	struct loop *loop;
	struct listener listener;
	struct talker calls[NODES];
	struct list served;
	struct timer tick;
	unsigned tick_count, accepted_count;
	struct fiber fiber;
	struct waitq door;
};

static struct sim *sim;
static struct sim_node *nodes[NODES + 1]; /* by id, from 1 on */
static struct program *programs[NODES + 1];

static void talk(struct stream *s)
{
	struct talker *t = s->owner;
	uint8_t buf[3000];
	ssize_t r = -EAGAIN;

	if (t->error)
		return;
	for (int i = 0; i < 4; i++) {
		struct iovec iov = { buf, 0 };

		r = stream_recv(s, buf, sizeof(buf));
		if (r <= 0)
			break;
		t->got_bytes += (uint64_t)r;
		iov.iov_len = (size_t)r;
		buf[0]++;
		stream_send(s, &iov, 1);
	}
	if (r != -EAGAIN && r <= 0)
		t->error = r == 0 ? 1 : (int)r;
}

static void accepted(struct listener *lr, struct stream *s)
{
	struct program *p = container_of(lr, struct program, listener);
	struct talker *t = node_alloc(sizeof(*t));

	p->accepted_count++;
	t->stream = s;
	s->owner = t;
	s->ready = talk;
	list_insert(&p->served, &t->link);
}

static void tick(struct timer *t)
{
	struct program *p = container_of(t, struct program, tick);

	p->tick_count++;
	timer_start(p->loop, t, p->loop->now_ns + MS + node_random_u64() % MS);
}

static void wait_for_ever(struct fiber *self)
{
	struct program *p = container_of(self, struct program, fiber);
	uint8_t on_stack[1000];

	memset(on_stack, 1, sizeof(on_stack));
	while (waitq_wait(&p->door, UINT64_MAX) == 0 || on_stack[0])
		;
}

static struct address address_of(unsigned id)
{
	struct address a = { .kind = ADDRESS_SIM, .len = sizeof(a.u.sim) };

	a.u.sim.node = id;
	a.u.sim.port = PORT;
	return a;
}

static struct program *start(unsigned id)
{
	struct address at = address_of(id);
	struct program *p;

	node_current = sim_node_of(nodes[id]);
	p = node_alloc(sizeof(*p));
	list_init(&p->served);
	p->tick.fire = tick;
	p->listener.accepted = accepted;
	assert_int_equal(sim_loop_open(nodes[id], &p->loop), 0);
	assert_int_equal(listener_open(p->loop, &at, &p->listener), 0);
	timer_start(p->loop, &p->tick, p->loop->now_ns + MS);
	waitq_init(&p->door, &p->loop->fibers);
	assert_int_equal(fiber_start(&p->loop->fibers, &p->fiber, wait_for_ever, NULL), 0);
	node_current = NULL;
	programs[id] = p;
	return p;
}

static struct talker *call(unsigned from, unsigned to)
{
	struct program *p = programs[from];
	struct talker *t = &p->calls[to - 1];
	struct address at = address_of(to);
	struct iovec iov = { (void *)"x", 1 }; /* it goes to and fro for ever */

	node_current = sim_node_of(nodes[from]);
	*t = (struct talker){ 0 };
	assert_int_equal(stream_connect(p->loop, &at, &t->stream), 0);
	t->stream->owner = t;
	t->stream->ready = talk;
	node_current = NULL;
	sim_run(sim, sim_now_ns(sim) + 20 * MS);
	node_current = sim_node_of(nodes[from]);
	stream_send(t->stream, &iov, 1);
	node_current = NULL;
	return t;
}

static void open_cluster(uint64_t seed)
{
	struct sim_config config = {
		.seed = seed, .delay_ns_min = MS / 10, .delay_ns_max = MS, .cut_permille = 100
	};

	assert_int_equal(sim_open(&config, &sim), 0);
	for (unsigned id = 1; id <= NODES; id++) {
		assert_int_equal(sim_node_add(sim, id, &nodes[id]), 0);
		start(id);
	}
}

static int setup(void **state)
{
	open_cluster(42);
	return 0;
}

static int teardown(void **state)
{
	node_current = NULL;
	sim_close(sim);
	return 0;
}

static void run_for(uint64_t ns)
{
	sim_run(sim, sim_now_ns(sim) + ns);
	assert_null(node_current);
}

/* A history with everything in it. */
static void live(uint64_t seed, uint64_t fingerprints[20])
{
	open_cluster(seed);
	for (unsigned from = 1; from <= NODES; from++)
		call(from, 1 + from % NODES);
	for (unsigned i = 0; i < 20; i++) {
		run_for(5 * MS);
		fingerprints[i] = sim_fingerprint(sim);
		if (i == 5)
			sim_cut(sim, 1, 2, true);
		if (i == 8)
			sim_node_kill(nodes[3]);
		if (i == 11)
			start(3);
		if (i == 12)
			call(4, 3);
		if (i == 14)
			sim_node_pause(nodes[4], true);
		if (i == 17)
			sim_node_pause(nodes[4], false);
	}
	sim_close(sim);
}

static void one_seed_is_one_history(void **state)
{
	uint64_t a[20], b[20], other[20];

	live(7, a);
	live(7, b);
	live(8, other);
	assert_memory_equal(a, b, sizeof(a));
	for (int i = 0; i < 20; i++)
		assert_true(a[i] != other[i]);
}

static void the_workload_s_dice_do_not_depend_on_what_happens(void **state)
{
	uint64_t first[10];

	for (int i = 0; i < 10; i++)
		first[i] = sim_random(sim);
	sim_close(sim);
	open_cluster(42);
	call(1, 2);
	run_for(100 * MS);
	for (int i = 0; i < 10; i++)
		assert_true(sim_random(sim) == first[i]);
}

static void a_conversation_goes_on_at_the_speed_of_the_network(void **state)
{
	struct talker *t = call(1, 2);

	/* There and back is 0.2 to 2 ms. */
	run_for(SECOND);
	assert_in_range(t->got_bytes, 500, 5000);
	assert_int_equal(t->error, 0);
}

static void a_killed_node_leaves_nothing_and_its_peers_notice(void **state)
{
	struct talker *caller = call(1, 2), *back = call(2, 3);
	struct talker *served_by_3;
	uint64_t before;

	(void)back;
	run_for(20 * MS);
	served_by_3 = container_of(programs[3]->served.next, struct talker, link);
	assert_true(sim_node_bytes(nodes[2]) > sizeof(struct program));
	sim_node_kill(nodes[2]);
	assert_int_equal(sim_node_bytes(nodes[2]), 0);
	assert_int_equal(caller->error, 0);
	run_for(20 * MS);
	assert_true(caller->error == 1 || caller->error == -ECONNRESET);
	assert_true(served_by_3->error == 1 || served_by_3->error == -ECONNRESET);
	before = programs[1]->tick_count;
	run_for(20 * MS);
	assert_true(programs[1]->tick_count > before);

	assert_int_equal(call(3, 2)->error, -ECONNREFUSED);
	start(2);
	caller = call(4, 2);
	run_for(20 * MS);
	assert_true(caller->got_bytes > 0);
	assert_int_equal(caller->error, 0);
}

/* The seeds vary whether the peers see an end or a reset; over many, both. */
static void a_killed_peer_is_an_end_or_a_reset(void **state)
{
	unsigned ends = 0, resets = 0;

	for (uint64_t seed = 0; seed < 30; seed++) {
		struct talker *t;

		sim_close(sim);
		open_cluster(seed);
		t = call(1, 2);
		run_for(5 * MS);
		sim_node_kill(nodes[2]);
		run_for(20 * MS);
		ends += t->error == 1;
		resets += t->error == -ECONNRESET;
	}
	assert_int_equal(ends + resets, 30);
	assert_true(ends > 3 && resets > 3);
}

static void a_paused_node_does_nothing_but_its_kernel_and_clock_go_on(void **state)
{
	uint64_t now_ns, now_after_ns;
	unsigned tick_count;
	struct talker *t;

	sim_node_pause(nodes[2], true);
	run_for(5 * MS);
	tick_count = programs[2]->tick_count;
	node_current = sim_node_of(nodes[2]);
	now_ns = node_now_ns();
	node_current = NULL;
	t = call(1, 2);
	run_for(100 * MS);
	assert_int_equal(programs[2]->tick_count, tick_count);
	assert_int_equal(programs[2]->accepted_count, 0);
	assert_int_equal(t->error, 0); /* connected: nobody knows yet */

	node_current = sim_node_of(nodes[2]);
	now_after_ns = node_now_ns();
	node_current = NULL;
	assert_true(now_after_ns >= now_ns + 100 * MS);
	sim_node_pause(nodes[2], false);
	run_for(20 * MS);
	assert_int_equal(programs[2]->accepted_count, 1);
	assert_true(programs[2]->tick_count > tick_count);
	assert_true(t->got_bytes > 0);
}

static void who_is_cut_off_is_cut_off_until_healed(void **state)
{
	struct talker *t = call(1, 2), *other = call(3, 2);
	uint8_t buf[100] = { 0 };
	struct iovec iov = { buf, sizeof(buf) };
	struct talker *served;
	uint64_t got;

	run_for(20 * MS);
	served = container_of(programs[2]->served.next, struct talker, link);
	assert_int_equal(stream_send(served->stream, &iov, 1), sizeof(buf)); /* lost on its way */
	sim_cut(sim, 2, 1, true);
	got = t->got_bytes;
	run_for(20 * MS);
	assert_int_equal(t->error, -ECONNRESET);
	assert_int_equal(t->got_bytes, got);
	assert_int_equal(other->error, 0);
	assert_int_equal(served->error, -ECONNRESET);

	node_current = sim_node_of(nodes[1]);
	assert_int_equal(stream_recv(t->stream, buf, sizeof(buf)), -ECONNRESET);
	stream_close(t->stream);
	node_current = NULL;
	assert_int_equal(call(1, 2)->error, -ECONNREFUSED);
	sim_cut(sim, 1, 2, false);
	t = call(1, 2);
	run_for(20 * MS);
	assert_true(t->got_bytes > 0);
}

static void what_is_stalled_arrives_later_and_nobody_is_told(void **state)
{
	struct talker *t = call(1, 2), *other = call(3, 2);
	uint64_t got, others;

	run_for(20 * MS);
	sim_stall(sim, 2, 1, true);
	run_for(20 * MS); /* what has arrived is talked about to its end */
	got = t->got_bytes;
	others = other->got_bytes;
	assert_true(got > 0);
	run_for(5000 * MS);
	assert_int_equal(t->got_bytes, got);
	assert_int_equal(t->error, 0);
	assert_true(other->got_bytes > others);
	sim_stall(sim, 1, 2, false);
	run_for(20 * MS);
	assert_true(t->got_bytes > got);
	assert_int_equal(t->error, 0);
}

static void a_slow_network_is_slow_until_it_is_not(void **state)
{
	struct talker *t = call(1, 2);
	uint64_t got;

	run_for(200 * MS);
	got = t->got_bytes;
	sim_set_delay(sim, 200 * MS);
	run_for(200 * MS);
	assert_true(t->got_bytes - got < got / 4);
	got = t->got_bytes;
	sim_set_delay(sim, MS);
	run_for(1000 * MS);
	assert_true(t->got_bytes > 2 * got);
}

static void a_watch_stops_at_the_nth_piece_between_two(void **state)
{
	struct sim_watch w = { .a = 2, .b = 1, .left = 3 }, any = { .a = 3, .left = 1 };
	uint64_t begun_ns;

	list_init(&w.link);
	list_init(&any.link);
	call(1, 2);
	run_for(20 * MS);
	sim_watch(sim, &w);
	sim_watch(sim, &any);
	begun_ns = sim_now_ns(sim);
	assert_true(sim_run(sim, begun_ns + 1000 * MS));
	assert_int_equal(w.left, 0);
	assert_int_equal(any.left, 1);
	assert_true(sim_now_ns(sim) < begun_ns + 20 * MS);
	sim_unwatch(&w);
	call(3, 2);
	run_for(1000 * MS);
	assert_int_equal(any.left, 0);
	sim_unwatch(&any);
}

static void who_closes_without_reading_breaks_off(void **state)
{
	struct talker *t = call(1, 2), *back;

	run_for(20 * MS);
	sim_node_pause(nodes[1], true);
	run_for(5 * MS); /* a byte from 2 has arrived at 1, unread */
	back = container_of(programs[2]->served.next, struct talker, link);
	node_current = sim_node_of(nodes[1]);
	stream_close(t->stream);
	node_current = NULL;
	run_for(5 * MS);
	assert_int_equal(back->error, -ECONNRESET);
}

static struct stream *served_by(unsigned id)
{
	return container_of(programs[id]->served.next, struct talker, link)->stream;
}

/* With the bytes that are on their way; what nobody took in time is closed, and with its node. */
static void descriptors_pass_within_a_host(void **state)
{
	struct talker *t, *far;
	int ends[2], got[STREAM_FDS_MAX];
	uint8_t byte;

	assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
	for (unsigned i = 1; i <= 3; i++)
		sim_node_set_host(nodes[i], i < 3 ? 7 : 8);
	t = call(1, 2);
	far = call(1, 3);
	run_for(5 * MS);
	assert_int_equal(served_by(2)->peer.address.kind, ADDRESS_UNIX);
	assert_int_equal(served_by(3)->peer.address.kind, ADDRESS_SIM);
	assert_int_equal(stream_pass(far->stream, &ends[1], 1), -EOPNOTSUPP);

	/* Nobody wants any yet. */
	assert_int_equal(stream_pass(t->stream, &ends[1], 1), 0);
	assert_int_equal(stream_pass(t->stream, &ends[1], 1), -EBUSY);
	run_for(5 * MS);
	assert_int_equal(stream_take(served_by(2), got, STREAM_FDS_MAX), 0);

	assert_int_equal(stream_pass(t->stream, &ends[1], 1), 0);
	run_for(5 * MS);
	assert_int_equal(stream_take(served_by(2), got, STREAM_FDS_MAX), 1);
	assert_int_equal(stream_take(served_by(2), got + 1, 1), 0);
	assert_int_equal(write(got[0], "x", 1), 1);
	close(got[0]);
	assert_int_equal(read(ends[0], &byte, 1), 1);

	assert_int_equal(stream_pass(t->stream, (int[]){ ends[1], ends[1] }, 2), 0);
	close(ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), -1);
	sim_node_kill(nodes[1]);
	sim_node_kill(nodes[2]);
	run_for(5 * MS);
	assert_int_equal(read(ends[0], &byte, 1), 0); /* nobody has the other end any more */
	close(ends[0]);
}

static uint64_t clock_of(unsigned id, uint64_t (*read)(void))
{
	uint64_t ns;

	node_current = sim_node_of(nodes[id]);
	ns = read();
	node_current = NULL;
	return ns;
}

static void every_node_has_clocks_of_its_own(void **state)
{
	uint64_t boot = clock_of(1, node_now_ns), wall = clock_of(1, node_wall_ns);
	uint64_t other_wall = clock_of(2, node_wall_ns);

	assert_true(boot != clock_of(2, node_now_ns));
	assert_true(wall != other_wall);
	assert_true(wall / SECOND - other_wall / SECOND + 1 <= 2);
	run_for(SECOND);
	assert_int_equal(clock_of(1, node_now_ns) - boot, SECOND);
	assert_int_equal(clock_of(1, node_wall_ns) - wall, SECOND);
	sim_node_set_wall(nodes[1], 5 * SECOND);
	run_for(SECOND);
	assert_int_equal(clock_of(1, node_wall_ns), 6 * SECOND);
	assert_int_equal(clock_of(1, node_now_ns) - boot, 2 * SECOND);
	assert_int_equal(clock_of(2, node_wall_ns) - other_wall, 2 * SECOND);
}

static void a_node_s_dice_and_memory_are_its_own(void **state)
{
	uint64_t a, b;
	size_t before = sim_node_bytes(nodes[1]), other = sim_node_bytes(nodes[2]);
	uint8_t *p, zeroes[64] = { 0 };

	node_current = sim_node_of(nodes[1]);
	a = node_random_u64();
	p = node_alloc(64);
	assert_memory_equal(p, zeroes, 64);
	p[63] = 9;
	assert_int_equal(sim_node_bytes(nodes[1]), before + 64);
	p = node_resize(p, 100000);
	assert_int_equal(p[63], 9);
	assert_int_equal(sim_node_bytes(nodes[1]), before + 100000);
	p = node_resize(p, 32);
	node_free(p);
	p = node_resize(NULL, 8);
	node_free(p);
	assert_int_equal(sim_node_bytes(nodes[1]), before);
	assert_int_equal(sim_node_bytes(nodes[2]), other);
	node_current->fail_countdown = 1;
	assert_null(node_alloc(1));
	node_current = sim_node_of(nodes[2]);
	b = node_random_u64();
	assert_true(a != b);
}

static unsigned first_to_run;
static struct timer race[2];

static void win(struct timer *t)
{
	if (!first_to_run)
		first_to_run = (unsigned)(t - race) + 1;
}

static void loops_that_are_due_together_run_in_any_order(void **state)
{
	unsigned wins[3] = { 0 };

	for (uint64_t seed = 0; seed < 40; seed++) {
		sim_close(sim);
		open_cluster(seed);
		first_to_run = 0;
		for (unsigned i = 0; i < 2; i++) {
			struct loop *l = programs[i + 1]->loop;

			race[i] = (struct timer){ .fire = win };
			timer_start(l, &race[i], l->now_ns + MS / 2);
		}
		run_for(MS);
		wins[first_to_run]++;
	}
	assert_int_equal(wins[0], 0);
	assert_true(wins[1] > 5 && wins[2] > 5);
}

static bool is_over;

static void yield_until_over(struct fiber *self)
{
	while (!is_over)
		fiber_yield(self->home);
}

/* It would go round for ever if a turn took no time. */
static void who_only_yields_still_gets_on_in_time(void **state)
{
	struct fiber f;

	is_over = false;
	assert_int_equal(fiber_start(&programs[1]->loop->fibers, &f, yield_until_over, NULL), 0);
	assert_true(sim_run(sim, 10 * MS));
	assert_int_equal(sim_now_ns(sim), 10 * MS);
	is_over = true;
	run_for(MS);
}

static void stop_sim(struct timer *t)
{
	sim_stop(sim);
}

static void a_run_ends_at_its_time_at_a_stop_or_when_nothing_is_left(void **state)
{
	struct timer stop = { .fire = stop_sim };

	assert_true(sim_run(sim, 3 * MS));
	assert_int_equal(sim_now_ns(sim), 3 * MS);
	timer_start(programs[1]->loop, &stop, programs[1]->loop->now_ns + 7 * MS);
	assert_true(sim_run(sim, SECOND));
	assert_true(sim_now_ns(sim) >= 7 * MS && sim_now_ns(sim) < 12 * MS);
	for (unsigned id = 1; id <= NODES; id++)
		timer_stop(programs[id]->loop, &programs[id]->tick);
	assert_false(sim_run(sim, UINT64_MAX));
	assert_true(sim_now_ns(sim) < 15 * MS);
	assert_false(sim_run(sim, SECOND));
	assert_int_equal(sim_now_ns(sim), SECOND);
}

static void an_address_that_is_not_this_node_s_cannot_be_listened_at(void **state)
{
	struct listener lr = { .accepted = accepted };
	struct address at = address_of(2);

	assert_int_equal(listener_open(programs[1]->loop, &at, &lr), -EADDRNOTAVAIL);
	at = (struct address){ .kind = ADDRESS_TCP };
	assert_int_equal(listener_open(programs[1]->loop, &at, &lr), -EAFNOSUPPORT);
	assert_int_equal(stream_connect(programs[1]->loop, &at, &(struct stream *){ NULL }),
			 -EAFNOSUPPORT);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_seed_is_one_history),
		T(the_workload_s_dice_do_not_depend_on_what_happens),
		T(a_conversation_goes_on_at_the_speed_of_the_network),
		T(a_killed_node_leaves_nothing_and_its_peers_notice),
		T(a_killed_peer_is_an_end_or_a_reset),
		T(a_paused_node_does_nothing_but_its_kernel_and_clock_go_on),
		T(who_is_cut_off_is_cut_off_until_healed),
		T(what_is_stalled_arrives_later_and_nobody_is_told),
		T(a_slow_network_is_slow_until_it_is_not),
		T(a_watch_stops_at_the_nth_piece_between_two),
		T(who_closes_without_reading_breaks_off),
		T(descriptors_pass_within_a_host),
		T(every_node_has_clocks_of_its_own),
		T(a_node_s_dice_and_memory_are_its_own),
		T(loops_that_are_due_together_run_in_any_order),
		T(who_only_yields_still_gets_on_in_time),
		T(a_run_ends_at_its_time_at_a_stop_or_when_nothing_is_left),
		T(an_address_that_is_not_this_node_s_cannot_be_listened_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
