/* SPDX-License-Identifier: Apache-2.0 */
/*
 * errand: a request that runs by itself, for what its asker leaves behind: it gives back,
 * or finds out what became of a request whose answer nobody waits for, and undoes that. It
 * goes on until there is an answer.
 *
 * It is made before there is anything to undo, so that want of memory comes too early to
 * do harm; one that is not needed is kept for the next. Where there is no stack for it, it
 * waits for one.
 */
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/container.h"
#include "base/node.h"
#include "core/core_priv.h"

/* One try; then it looks whether the core is being closed. */
#define TRY_MS   1000
#define PAUSE_MS 100

#define ERRAND_BYTES  80
#define BYTES_u16     2
#define BYTES_u32     4
#define BYTES_u64     8
#define F(type, name) +BYTES_##type
_Static_assert(0 LEASE_REQ(F) <= ERRAND_BYTES, "the longest request that is undone");
#undef F

struct errand {
	struct fiber fiber;
	struct list link; /* of the core's, once it is started */
	struct core *core;
	uint64_t job;
	errand_fn *answered; /* may be NULL */
	bool is_running;
	uint16_t msg, len;
	uint8_t bytes[ERRAND_BYTES];
};

bool is_answer(int r)
{
	return r != -ETIMEDOUT && r != -EHOSTUNREACH && r != -ECONNRESET && r != -ENOMEM &&
	       r != -ECANCELED;
}

bool is_to_be_repeated(int r)
{
	return !is_answer(r) || r == -ENOBUFS;
}

static int errand_try(struct errand *e)
{
	struct core *c = e->core;
	uint8_t room[GRANTS_BYTES];
	struct ask a;
	struct wcur w = ask_begin(c, &a, e->msg, slot_of_id(e->job));
	int r;

	a.call.room = room;
	a.call.room_cap = sizeof(room);
	put_bytes(&w, e->bytes, e->len);
	r = ask_wait(&a, &w, NULL, c->loop->now_ns + TRY_MS * 1000000ull);
	if (r == 0 && e->answered)
		r = e->answered(c, e->job, &a);
	ask_end(&a);
	return r;
}

static void errand_run(struct fiber *self)
{
	struct errand *e = container_of(self, struct errand, fiber);
	struct core *c = e->core;

	while (is_to_be_repeated(errand_try(e)) && !c->is_closing)
		if (core_sleep(c, c->loop->now_ns + PAUSE_MS * 1000000ull) < 0)
			return;
}

static void errand_over(struct errand *e)
{
	list_remove(&e->link);
	e->core->errand_count--;
	errand_free(e);
}

static void errand_ended(struct fiber *self)
{
	struct errand *e = container_of(self, struct errand, fiber);

	errand_over(e);
}

int errand_new(struct core *c, uint64_t job, struct errand **ret, char *why, size_t why_cap)
{
	struct errand *e;

	*ret = NULL;
	if (c->errand_count >= ERRANDS_MAX) {
		snprintf(why, why_cap,
			 "%u requests are to be undone here, which is the limit, "
			 "and metadata does not answer",
			 ERRANDS_MAX);
		return -EUSERS;
	}
	e = c->spare_errand ? TAKE_PTR(c->spare_errand) : node_alloc(sizeof(*e));
	if (!e) {
		snprintf(why, why_cap, "no memory to undo it with");
		return -ENOMEM;
	}
	why[0] = '\0';
	*e = (struct errand){ .core = c, .job = job };
	*ret = e;
	return 0;
}

void errand_free(struct errand *e)
{
	if (!e || e->core->spare_errand)
		node_free(e);
	else
		e->core->spare_errand = e;
}

static void errand_go(struct errand *e)
{
	e->is_running =
		fiber_start(&e->core->loop->fibers, &e->fiber, errand_run, errand_ended) == 0;
}

void errand_start(struct errand *e, uint16_t msg, const struct wcur *body, errand_fn *answered)
{
	ptrdiff_t len = wcur_finish(body);

	if (len < 0 || len > ERRAND_BYTES || e->core->is_closing) {
		errand_free(e);
		return;
	}
	e->answered = answered;
	e->msg = msg;
	e->len = (uint16_t)len;
	memcpy(e->bytes, body->start, (size_t)len);
	list_init(&e->link);
	list_insert(&e->core->errands, &e->link);
	e->core->errand_count++;
	errand_go(e);
}

void errands_look(struct core *c)
{
	for (struct list *l = c->errands.next; l != &c->errands; l = l->next) {
		struct errand *e = container_of(l, struct errand, link);

		if (!e->is_running)
			errand_go(e);
	}
}

void errands_stop(struct core *c)
{
	for (struct list *l = c->errands.next, *next; l != &c->errands; l = next) {
		struct errand *e = container_of(l, struct errand, link);

		next = l->next;
		if (e->is_running) {
			fiber_cancel(&e->fiber);
		} else {
			errand_over(e);
		}
	}
}

void errands_close(struct core *c)
{
	c->spare_errand = node_free(c->spare_errand);
}
