/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/fiber.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(low, top) 0
#endif

#include "base/container.h"
#include "base/limits.h"

#define SLOT_BYTES ((size_t)FIBER_GUARD_BYTES + FIBER_STACK_BYTES)

/* The top of a slot; below it the stack itself, and below that the guard. */
struct stack {
	_Alignas(16) struct stack *next;
};

static uint8_t *stack_low(struct stack *s)
{
	return (uint8_t *)(s + 1) - FIBER_STACK_BYTES;
}

static struct stack *stack_new(void)
{
	uint8_t *slot = mmap(NULL, SLOT_BYTES, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct stack *s;

	if (slot == MAP_FAILED)
		return NULL;
	if (mprotect(slot, FIBER_GUARD_BYTES, PROT_NONE) < 0) {
		munmap(slot, SLOT_BYTES);
		return NULL;
	}
	s = (struct stack *)(slot + SLOT_BYTES) - 1;
	/* What only a waiting fiber points at is not leaked. */
	ON_ASAN(__lsan_register_root_region(stack_low(s), FIBER_STACK_BYTES);)
	(void)VALGRIND_STACK_REGISTER(stack_low(s), s);
	return s;
}

static void stack_free(struct stack *s)
{
	ON_ASAN(__lsan_unregister_root_region(stack_low(s), FIBER_STACK_BYTES);)
	munmap(stack_low(s) - FIBER_GUARD_BYTES, SLOT_BYTES);
}

static int stack_take(struct fibers *fs, struct stack **ret)
{
	if (!fs->spare) {
		if (fs->stack_count >= fs->stack_count_max)
			return -EAGAIN;
		*ret = stack_new();
		if (!*ret)
			return -ENOMEM;
		fs->stack_count++;
		return 0;
	}
	*ret = fs->spare;
	fs->spare = fs->spare->next;
	return 0;
}

static void stack_give(struct fibers *fs, struct stack *s)
{
	/* fiber_main() never returned, so what it fenced off is still fenced off. */
	ON_ASAN(__asan_unpoison_memory_region(stack_low(s), FIBER_STACK_BYTES);)
	s->next = fs->spare;
	fs->spare = s;
}

void fibers_init(struct fibers *fs, unsigned stack_count_max)
{
	*fs = (struct fibers){ .stack_count_max = stack_count_max };
	list_init(&fs->ready);
	list_init(&fs->yielded);
	list_init(&fs->due);
}

void fibers_allow(struct fibers *fs, unsigned more)
{
	fs->stack_count_max += more;
}

void fibers_fini(struct fibers *fs)
{
	struct stack *s;

	assert(fs->alive_count == 0);
	while (fs->spare && stack_take(fs, &s) == 0)
		stack_free(s);
}

static void make_ready(struct fiber *f, int result)
{
	list_remove(&f->link);
	list_remove(&f->due_link);
	f->state = FIBER_READY;
	f->result = result;
	list_insert(&f->home->ready, &f->link);
	f->home->ready_count++;
}

/* Back to the loop, until it runs this fiber on. */
static int park(struct fiber *f)
{
	context_switch(&f->context, &f->home->context, false);
	return f->result;
}

static void fiber_main(void *arg)
{
	struct fiber *f = arg;

	context_arrived(&f->context, &f->home->context);
	f->run(f);
	f->state = FIBER_ENDED;
	context_switch(&f->context, &f->home->context, true);
	abort();
}

int fiber_start(struct fibers *fs, struct fiber *f, fiber_fn *run, fiber_fn *ended)
{
	struct stack *s;
	int r = stack_take(fs, &s);

	if (r < 0)
		return r;
	*f = (struct fiber){ .home = fs, .stack = s, .run = run, .ended = ended };
	f->context.low = stack_low(s);
	f->context.size = (size_t)((uint8_t *)s - stack_low(s));
	f->context.sp = switch_prepare(s, fiber_main, f);
	ON_TSAN(f->context.tsan = __tsan_create_fiber(0);)
	list_init(&f->link);
	list_init(&f->due_link);
	make_ready(f, 0);
	fs->alive_count++;
	return 0;
}

int fiber_refused(int r, const char *too_many, const char **ret_why)
{
	*ret_why = r == -EAGAIN ? too_many
				: "for an operation: the machine has no memory, or this process "
				  "more mappings than vm.max_map_count allows";
	return r == -EAGAIN ? -EUSERS : r;
}

static void bury(struct fiber *f)
{
	ON_TSAN(__tsan_destroy_fiber(f->context.tsan);)
	stack_give(f->home, f->stack);
	f->home->alive_count--;
}

static void run_on(struct fiber *f)
{
	struct fibers *fs = f->home;

	list_remove(&f->link);
	fs->ready_count--;
	f->state = FIBER_RUNNING;
	fs->running = f;
	fs->run_count++;
	context_switch(&fs->context, &f->context, false);
	fs->running = NULL;
	if (f->state != FIBER_ENDED)
		return;

	bury(f);
	if (f->ended)
		f->ended(f);
}

static struct fiber *soonest(const struct fibers *fs)
{
	return list_is_empty(&fs->due) ? NULL : container_of(fs->due.next, struct fiber, due_link);
}

uint64_t fibers_due(const struct fibers *fs)
{
	struct fiber *f = soonest(fs);

	if (fs->ready_count > 0 || !list_is_empty(&fs->yielded))
		return 0;
	return f ? f->due_ns : UINT64_MAX;
}

static void ready_again(struct fibers *fs)
{
	while (!list_is_empty(&fs->yielded))
		make_ready(container_of(fs->yielded.next, struct fiber, link), 0);
}

uint64_t fibers_run(struct fibers *fs, uint64_t now_ns)
{
	struct fiber *f;

	assert(!fs->running);
	fs->now_ns = now_ns;
	ready_again(fs);
	while ((f = soonest(fs)) && f->due_ns <= now_ns)
		make_ready(f, -ETIMEDOUT);
	fibers_go_on(fs);
	return fibers_due(fs) > now_ns ? fibers_due(fs) : now_ns;
}

void fibers_go_on(struct fibers *fs)
{
	/* Who becomes ready from here on is for the next round. */
	for (unsigned n = fs->ready_count; n > 0; n--)
		run_on(container_of(fs->ready.next, struct fiber, link));
}

void fibers_drop(struct fibers *fs)
{
	struct fiber *f;

	assert(!fs->running);
	while ((f = soonest(fs)))
		make_ready(f, -ECANCELED);
	ready_again(fs);
	while (!list_is_empty(&fs->ready)) {
		f = container_of(fs->ready.next, struct fiber, link);
		list_remove(&f->link);
		fs->ready_count--;
		bury(f);
	}
}

void fiber_cancel(struct fiber *f)
{
	f->is_canceled = true;
	if (f->state == FIBER_WAITING)
		make_ready(f, -ECANCELED);
}

void waitq_init(struct waitq *q, struct fibers *home)
{
	q->home = home;
	list_init(&q->waiting);
}

bool waitq_wake(struct waitq *q)
{
	if (list_is_empty(&q->waiting))
		return false;
	make_ready(container_of(q->waiting.next, struct fiber, link), 0);
	return true;
}

/* From the far end: the waits of one loop are about equally long, so the newest is due last. */
static void insert_by_due(struct fibers *fs, struct fiber *f)
{
	struct list *at = &fs->due;

	while (at->prev != &fs->due &&
	       container_of(at->prev, struct fiber, due_link)->due_ns > f->due_ns)
		at = at->prev;
	list_insert(at, &f->due_link);
}

int waitq_wait(struct waitq *q, uint64_t due_ns)
{
	struct fiber *f = q->home->running;

	assert(f);
	if (f->is_canceled)
		return -ECANCELED;
	if (due_ns <= q->home->now_ns)
		return -ETIMEDOUT;
	f->state = FIBER_WAITING;
	f->due_ns = due_ns;
	list_insert(&q->waiting, &f->link);
	insert_by_due(q->home, f);
	return park(f);
}

int fiber_yield(struct fibers *fs)
{
	struct fiber *f = fs->running;

	assert(f);
	if (f->is_canceled)
		return -ECANCELED;
	f->state = FIBER_READY;
	f->result = 0;
	list_insert(&fs->yielded, &f->link);
	return park(f);
}
