/* SPDX-License-Identifier: Apache-2.0 */
/*
 * errand: a request that runs by itself, for what its asker has left behind: it gives
 * back, or finds out what became of a request whose answer nobody waited for and undoes
 * that. It goes on until there is an answer. Where there is no memory or no stack for it,
 * the session's end does its work.
 */
#include <errno.h>

#include "base/container.h"
#include "base/node.h"
#include "core/core_priv.h"

/* One try; then it looks whether the core is being closed. */
#define TRY_MS   1000
#define PAUSE_MS 100

/* The longest: LEASE. */
#define ERRAND_BYTES 64

struct errand {
	struct fiber fiber;
	struct list link;
	struct core *core;
	uint64_t job;
	errand_fn *answered; /* may be NULL */
	uint16_t msg, len;
	uint8_t bytes[ERRAND_BYTES];
};

bool is_answer(int r)
{
	return r != -ETIMEDOUT && r != -EHOSTUNREACH && r != -ECONNRESET && r != -ENOMEM &&
	       r != -ECANCELED;
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
		e->answered(c, e->job, &a);
	ask_end(&a);
	return r;
}

static void errand_run(struct fiber *self)
{
	struct errand *e = container_of(self, struct errand, fiber);
	struct core *c = e->core;

	while (!is_answer(errand_try(e)) && !c->is_closing)
		if (core_sleep(c, c->loop->now_ns + PAUSE_MS * 1000000ull) < 0)
			return;
}

static void errand_ended(struct fiber *self)
{
	struct errand *e = container_of(self, struct errand, fiber);

	list_remove(&e->link);
	node_free(e);
}

void errands_stop(struct core *c)
{
	for (struct list *l = c->errands.next; l != &c->errands; l = l->next)
		fiber_cancel(&container_of(l, struct errand, link)->fiber);
}

static void errand_start(struct core *c, uint64_t job, uint16_t msg, const struct wcur *body,
			 errand_fn *answered)
{
	ptrdiff_t len = wcur_finish(body);
	struct errand *e = NULL;

	if (len >= 0 && len <= ERRAND_BYTES && !c->is_closing)
		e = node_alloc(sizeof(*e));
	if (!e)
		return;
	e->core = c;
	e->job = job;
	e->answered = answered;
	e->msg = msg;
	e->len = (uint16_t)len;
	memcpy(e->bytes, body->start, (size_t)len);
	list_init(&e->link);
	if (fiber_start(&c->loop->fibers, &e->fiber, errand_run, errand_ended) < 0)
		node_free(e);
	else
		list_insert(&c->errands, &e->link);
}

void ask_and_forget(struct core *c, uint64_t job, uint16_t msg, const struct wcur *body)
{
	errand_start(c, job, msg, body, NULL);
}

void ask_and_undo(struct core *c, int result, uint64_t job, uint16_t msg, const struct wcur *body,
		  errand_fn *undo)
{
	if (!is_answer(result))
		errand_start(c, job, msg, body, undo);
}
