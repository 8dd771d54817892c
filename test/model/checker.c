/* SPDX-License-Identifier: Apache-2.0 */
#include "checker.h"

#include <assert.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checker_memory.h"
#include "shm/shared.h"

#define DEPTH 1000

static const char *const OP_NAMES[] = { "ends",       "load",       "store",       "add",
					"fence",      "clock",      "acknowledge", "acknowledged",
					"read bytes", "write bytes" };

/* Of the search. */
static struct {
	const struct scenario *scenario;
	struct verdict *verdict;
	struct state *states; /* on the way to the present one */
	const char *trail[DEPTH];
	struct op trail_ops[DEPTH];
	uint64_t trail_values[DEPTH];
	/* What was visited: digests of 128 bits, open addressing. */
	struct hash_128 *seen;
	size_t seen_cap, seen_count;
} search;

/* Of the thread that runs; all of it is set before setjmp(), or by who jumps. */
static struct {
	bool is_setup;
	struct state *state;
	struct thread *thread;
	unsigned self, cursor;
	struct op op;
	jmp_buf back;
} run;

/* Threads. */

static void answer(struct thread *t, uint64_t value)
{
	assert(t->answer_count < ANSWERS);
	t->answers[t->answer_count++] = value;
	t->digest = hash_64(&value, sizeof(value), t->digest + t->answer_count);
}

/* Only the thread itself can tell when a fence that is not seq_cst happened. */
static bool is_private(const struct op *op)
{
	return op->kind == OP_FENCE && op->order != memory_order_seq_cst;
}

static void next_time(struct thread *t, unsigned times)
{
	t->answer_count = 0;
	t->digest = 0;
	if (++t->time_count == times) {
		t->has_ended = true;
		t->next = (struct op){ .word = WORDS };
		memset(&t->now, 0, sizeof(t->now));
		memset(&t->acquired, 0, sizeof(t->acquired));
		memset(&t->released, 0, sizeof(t->released));
	}
}

/* To its next step that others can notice. */
static void thread_go(struct state *s, unsigned self)
{
	const struct checked_thread *program = &search.scenario->threads[self];

	run.state = s;
	run.thread = &s->threads[self];
	run.self = self;
	while (!run.thread->has_ended && !search.verdict->why) {
		run.cursor = 0;
		search.scenario->restore();
		if (setjmp(run.back) == 0) {
			program->run(run.self);
			next_time(run.thread, program->times);
			continue;
		}
		run.thread->next = run.op;
		if (!is_private(&run.op))
			return;
		memory_fence(run.state, run.thread, run.op.order);
		answer(run.thread, 0);
	}
}

static uint64_t step(struct op op)
{
	if (run.cursor < run.thread->answer_count)
		return run.thread->answers[run.cursor++];
	run.op = op;
	longjmp(run.back, 1);
}

void checked_fail(const char *why)
{
	search.verdict->why = why;
	longjmp(run.back, 1);
}

uint64_t checked_load(const void *p, size_t size, memory_order order)
{
	uint64_t v = 0;

	if (!run.is_setup)
		return step((struct op){ OP_LOAD, order, memory_word(p, size), (unsigned)size, 0 });
	memcpy(&v, p, size);
	return v;
}

void checked_store(void *p, uint64_t v, size_t size, memory_order order)
{
	if (!run.is_setup)
		step((struct op){ OP_STORE, order, memory_word(p, size), (unsigned)size, v });
	else
		memcpy(p, &v, size);
}

void checked_add(void *p, uint64_t n, size_t size, memory_order order)
{
	assert(!run.is_setup);
	step((struct op){ OP_ADD, order, memory_word(p, size), (unsigned)size, n });
}

void checked_fence(memory_order order)
{
	if (!run.is_setup)
		step((struct op){ OP_FENCE, order, WORDS, 0, 0 });
}

uint64_t checked_clock(void)
{
	return step((struct op){ OP_CLOCK, memory_order_relaxed, WORDS, 0, 0 });
}

void checked_acknowledge(uint64_t what)
{
	step((struct op){ OP_ACKNOWLEDGE, memory_order_relaxed, WORDS, 0, what });
}

uint64_t checked_acknowledged(void)
{
	return step((struct op){ OP_ACKNOWLEDGED, memory_order_relaxed, WORDS, 0, 0 });
}

uint64_t checked_bytes_read(void *p)
{
	return step((struct op){ OP_READ, memory_order_relaxed, memory_word(p, 8), 8, 0 });
}

void checked_bytes_write(void *p, uint64_t v)
{
	step((struct op){ OP_WRITE, memory_order_relaxed, memory_word(p, 8), 8, v });
}

/* The search. */

static bool seen_insert(struct hash_128 *table, size_t cap, struct hash_128 h)
{
	size_t i = h.lo & (cap - 1);

	while (table[i].lo | table[i].hi) {
		if (table[i].lo == h.lo && table[i].hi == h.hi)
			return false;
		i = (i + 1) & (cap - 1);
	}
	table[i] = h;
	return true;
}

/* True: it is new. */
static bool seen_add(struct hash_128 h)
{
	if (search.seen_count * 2 >= search.seen_cap) {
		size_t cap = search.seen_cap ? 2 * search.seen_cap : 1u << 16;
		struct hash_128 *table = calloc(cap, sizeof(*table));

		assert(table);
		for (size_t i = 0; i < search.seen_cap; i++)
			if (search.seen[i].lo | search.seen[i].hi)
				seen_insert(table, cap, search.seen[i]);
		free(search.seen);
		search.seen = table;
		search.seen_cap = cap;
	}
	if (!seen_insert(search.seen, search.seen_cap, h))
		return false;
	search.seen_count++;
	return true;
}

static void print_trail(unsigned depth)
{
	printf("%s: %s\n", search.scenario->name, search.verdict->why);
	for (unsigned i = 0; i <= depth; i++) {
		const struct op *op = &search.trail_ops[i];

		printf("  %3u %-10s %-12s", i, search.trail[i], OP_NAMES[op->kind]);
		if (op->word < WORDS)
			printf(" word %-2u", op->word);
		printf(" %" PRIu64 "\n", search.trail_values[i]);
	}
}

static void visit(unsigned depth);

static void arrived(unsigned depth, const char *who, struct op op, uint64_t value)
{
	struct state *s = &search.states[depth + 1];

	search.trail[depth] = who;
	search.trail_ops[depth] = op;
	search.trail_values[depth] = value;
	search.verdict->steps++;
	if (search.verdict->why) {
		print_trail(depth);
		return;
	}
	memory_trim(s);
	if (!seen_add(memory_digest(s)))
		return;
	search.verdict->states++;
	visit(depth + 1);
}

static struct state *fork_state(unsigned depth)
{
	assert(depth + 1 < DEPTH);
	memory_copy(&search.states[depth + 1], &search.states[depth]);
	return &search.states[depth + 1];
}

static void step_thread(unsigned depth, unsigned self)
{
	unsigned count = memory_choices(&search.states[depth], &search.states[depth].threads[self]);

	for (unsigned i = 0; i < count && !search.verdict->why; i++) {
		struct state *s = fork_state(depth);
		struct op op = s->threads[self].next;
		uint64_t value;

		search.verdict->why = memory_step(s, self, i, &value);
		answer(&s->threads[self], value);
		thread_go(s, self);
		arrived(depth, search.scenario->threads[self].name, op,
			op.kind == OP_LOAD || op.kind == OP_READ ? value : op.value);
	}
}

static void tick(unsigned depth)
{
	if (search.verdict->why || search.states[depth].time >= search.scenario->time_max)
		return;
	fork_state(depth)->time++;
	arrived(depth, "time", (struct op){ .word = WORDS }, search.states[depth + 1].time);
}

/* Whoever waits for the lease to be over has waited. */
static void lapse(unsigned depth)
{
	const struct state *before = &search.states[depth];

	if (search.verdict->why || search.scenario->lapse == 0 || before->acknowledged ||
	    before->time < search.scenario->lapse)
		return;
	fork_state(depth)->acknowledged = 2;
	arrived(depth, "lapse", (struct op){ .word = WORDS }, 2);
}

static void kill_one(unsigned depth)
{
	unsigned killed = search.scenario->killed, successor = search.scenario->successor;
	struct state *s;

	if (search.verdict->why || successor == 0 ||
	    !thread_is_awake(&search.states[depth].threads[killed]) ||
	    search.states[depth].threads[successor].is_running)
		return;
	s = fork_state(depth);
	memory_inherit(s, killed, successor);
	thread_go(s, successor);
	arrived(depth, "killed", (struct op){ .word = WORDS }, killed);
}

static void visit(unsigned depth)
{
	for (unsigned i = 0; i < CHECKED_THREADS; i++)
		if (thread_is_awake(&search.states[depth].threads[i]))
			step_thread(depth, i);
	tick(depth);
	lapse(depth);
	kill_one(depth);
}

void checker_explore(const struct scenario *s, struct verdict *ret)
{
	struct state *first;

	*ret = (struct verdict){ 0 };
	memset(&search, 0, sizeof(search));
	memset(&words, 0, sizeof(words));
	search.scenario = s;
	search.verdict = ret;
	search.states = calloc(DEPTH, sizeof(*search.states));
	assert(search.states);
	run.is_setup = true;
	s->setup();
	run.is_setup = false;
	first = &search.states[0];
	for (unsigned i = 0; i < CHECKED_THREADS; i++)
		first->threads[i].is_running =
			s->threads[i].name && (!s->successor || i != s->successor);
	for (unsigned i = 0; i < CHECKED_THREADS; i++)
		if (first->threads[i].is_running)
			thread_go(first, i);
	visit(0);
	free(search.states);
	free(search.seen);
}
