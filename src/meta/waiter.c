/* SPDX-License-Identifier: Apache-2.0 */
/*
 * waiter: requests that wait for something to appear at a path, for a count, or for a
 * read to be decided. Each is a record of 96 bytes, on the list of what it waits for.
 *
 * A wake-up is a hint: the catalog is asked again. Many are woken in steps, a bounded
 * number in each turn.
 */
#include <assert.h>

#include "base/node.h"
#include "base/plant.h"
#include "meta/shard_priv.h"

/* What the allocator and tables take of each. */
#define BESIDE 16

/* One job has a quarter of what there is for all, as of their number. */
#define PARKED_JOB_SHARE (PARKED_PER_SHARD / PARKED_PER_JOB)

/* Each is a look at the catalog, and an answer. */
#define WAKES_PER_TURN (TICK_STEP / 4)

static uint64_t hash_of(const struct wake_key *key)
{
	return key->hash.hi ^ key->job;
}

static struct waited *waited_find(const struct shard *s, const struct wake_key *key)
{
	struct hlink *l = htable_first(&s->waited, hash_of(key));

	for (; l; l = htable_next(l)) {
		struct waited *w = container_of(l, struct waited, by_key);

		if (w->key.hash.hi == key->hash.hi && w->key.hash.lo == key->hash.lo &&
		    w->key.job == key->job)
			return w;
	}
	return NULL;
}

static struct job_waits *job_waits_find(const struct shard *s, uint64_t job)
{
	struct hlink *l = htable_first(&s->job_waits, job);

	for (; l; l = htable_next(l)) {
		struct job_waits *of = container_of(l, struct job_waits, by_job);

		if (of->job == job)
			return of;
	}
	return NULL;
}

struct job_waits *job_waits_get(struct shard *s, uint64_t job)
{
	struct job_waits *of = job_waits_find(s, job);

	if (of)
		return of;
	of = node_alloc(sizeof(*of));
	if (of) {
		of->job = job;
		htable_add(&s->job_waits, &of->by_job, job);
	}
	return of;
}

void job_waits_rest(struct shard *s, struct job_waits *of)
{
	if (of->count > 0)
		return;
	htable_remove(&s->job_waits, &of->by_job);
	node_free(of);
}

static void count_bytes(struct shard *s, struct job_waits *of, int64_t more)
{
	of->bytes += (uint64_t)more;
	s->parked_bytes += (uint64_t)more;
}

static size_t waiter_size(const struct lookup_req *lookup)
{
	return lookup ? sizeof(struct lookup_waiter) + lookup->path.len : sizeof(struct waiter);
}

static struct waited *waited_get(struct shard *s, const struct wake_key *key)
{
	struct waited *w = waited_find(s, key);

	if (w)
		return w;
	w = node_alloc(sizeof(*w));
	if (!w)
		return NULL;
	w->of_job = job_waits_get(s, key->job);
	if (!w->of_job) {
		node_free(w);
		return NULL;
	}
	w->key = *key;
	count_bytes(s, w->of_job, sizeof(*w) + BESIDE);
	list_init(&w->all);
	list_init(&w->woken);
	list_init(&w->waiters);
	list_insert(&s->all_waited, &w->all);
	s->waited_count++;
	htable_add(&s->waited, &w->by_key, hash_of(key));
	return w;
}

static void waited_rest(struct shard *s, struct waited *w)
{
	if (!list_is_empty(&w->waiters))
		return;
	list_remove(&w->all);
	list_remove(&w->woken);
	htable_remove(&s->waited, &w->by_key);
	s->waited_count--;
	count_bytes(s, w->of_job, -(int64_t)(sizeof(*w) + BESIDE));
	job_waits_rest(s, w->of_job);
	node_free(w);
}

static struct lookup_waiter *looking_find(const struct shard *s, uint64_t session, uint64_t request)
{
	struct hlink *l = htable_first(&s->looking, request_hash(s, session, request));

	for (; l; l = htable_next(l)) {
		struct lookup_waiter *w = container_of(l, struct lookup_waiter, by_request);

		if (w->req.session == session && w->req.request == request)
			return w;
	}
	return NULL;
}

/* Of all lists; the parked call has been answered, or is dropped by the caller. */
static void leave(struct shard *s, struct waiter *w)
{
	struct waited *waited = w->waited;
	const struct lookup_req *lookup = NULL;

	if (w->parked.msg == MSG_LOOKUP) {
		struct lookup_waiter *lw = container_of(w, struct lookup_waiter, waiter);

		lookup = &lw->req;
		if (lw->req.request)
			htable_remove(&s->looking, &lw->by_request);
	}
	waited->count--;
	waited->of_job->count--;
	count_bytes(s, waited->of_job, -(int64_t)(waiter_size(lookup) + BESIDE));
	heap_remove(&s->wait_dues, &w->parked.due);
	list_remove(&w->link);
	s->waiter_count--;
	waited_rest(s, waited);
	node_free(w);
}

bool request_may_wait(struct request *r, const struct shard *s, uint64_t job)
{
	const struct job_waits *of = job_waits_find(s, job);

	if (s->waiter_count + s->asking_count + s->held_parked_count >= PARKED_PER_SHARD)
		request_fail(r, -EUSERS, "%u requests wait here, which is the limit",
			     PARKED_PER_SHARD);
	else if (of && of->count >= PARKED_PER_JOB)
		request_fail(r, -EUSERS, "%u requests of the job wait, which is the limit",
			     PARKED_PER_JOB);
	else
		return true;
	return false;
}

/* Likewise. Who waits for room is not held up by those who wait for something to appear. */
static bool has_memory_to_wait(struct request *r, const struct shard *s, uint64_t job)
{
	const struct job_waits *of = job_waits_find(s, job);
	uint64_t most = s->config.parked_bytes ? s->config.parked_bytes : UINT64_MAX;

	if (s->parked_bytes >= most)
		request_fail(r, -EUSERS,
			     "requests that wait here have all their share of --memory");
	else if (of && of->bytes >= most / PARKED_JOB_SHARE)
		request_fail(r, -EUSERS,
			     "requests of the job that wait have all its share of --memory");
	else
		return true;
	return false;
}

void waiter_park(struct request *r, struct slot *slot, const struct outcome *out, uint64_t count,
		 const struct lookup_req *lookup)
{
	struct shard *s = slot->shard;
	struct waited *waited;
	struct waiter *w;
	uint64_t due_ns = r->due_ns;

	if (!request_may_wait(r, s, out->key.job) || !has_memory_to_wait(r, s, out->key.job))
		return;
	waited = waited_get(s, &out->key);
	w = waited ? node_alloc(waiter_size(lookup)) : NULL;
	if (!w) {
		if (waited)
			waited_rest(s, waited);
		request_fail(r, -ENOMEM, "no memory to wait with");
		return;
	}
	w->waited = waited;
	w->count = count;
	if (lookup) {
		struct lookup_waiter *lw = container_of(w, struct lookup_waiter, waiter);

		lw->req = *lookup;
		lw->req.path.ptr = lw->path;
		memcpy(lw->path, lookup->path.ptr, lookup->path.len);
		if (lookup->request)
			htable_add(&s->looking, &lw->by_request,
				   request_hash(s, lookup->session, lookup->request));
	}
	list_init(&w->link);
	list_insert(&waited->waiters, &w->link);
	waited->count++;
	waited->of_job->count++;
	count_bytes(s, waited->of_job, (int64_t)(waiter_size(lookup) + BESIDE));
	request_park(r, &w->parked);
	heap_add(&s->wait_dues, &w->parked.due, due_ns);
	s->waiter_count++;
	shard_plan(s);
}

void lookups_give_up(struct shard *s, uint64_t session, uint64_t request)
{
	struct lookup_waiter *w;

	while (request && (w = looking_find(s, session, request)) != NULL) {
		parked_fail(&w->waiter.parked, -ETIMEDOUT, "who asked has given it up");
		leave(s, &w->waiter);
	}
}

/* Asks the catalog once more. True: it was answered, and is gone. */
static bool ask_again(struct shard *s, struct slot *slot, struct waiter *w)
{
	struct outcome *out = &s->wake_out;
	struct wcur body;
	int r;

	if (w->parked.msg == MSG_LOOKUP) {
		struct lookup_waiter *lw = container_of(w, struct lookup_waiter, waiter);

		if (!lookup_answer(s, slot, lw))
			return false;
		leave(s, w);
		return true;
	}
	if (w->parked.msg == MSG_WAIT)
		r = catalog_wait_key(slot->catalog, &w->waited->key, shard_now(s), out);
	else
		r = catalog_wait_count_key(slot->catalog, &w->waited->key, w->count, shard_now(s),
					   out);
	if (r == 0 && out->must_wait)
		return false;
	if (r < 0) {
		parked_refuse_when_safe(&w->parked, slot, w->waited->key.job, r, out->detail);
	} else {
		const struct said said = { w->waited->key.job, out->seen_ns };

		body = parked_answer(&w->parked);
		if (w->parked.msg == MSG_WAIT) {
			struct wait_rep rep;

			memcpy(&rep, &out->rep.stat, sizeof(rep));
			_Static_assert(sizeof(rep) == sizeof(out->rep.stat), "the same fields");
			wait_rep_put(&body, &rep);
		} else {
			wait_count_rep_put(&body, &out->rep.wait_count);
		}
		parked_reply_when_safe(&w->parked, slot, &said, &body, NULL);
	}
	leave(s, w);
	return true;
}

static void wake(struct shard *s, struct waited *w)
{
	w->left = w->count;
	if (list_is_empty(&w->woken))
		list_insert(&s->woken, &w->woken);
	loop_defer(s->loop, &s->wake);
}

void waiters_wake(struct slot *slot, const struct outcome *out)
{
	struct shard *s = slot->shard;

	if (s->waited_count == 0)
		return;
	for (unsigned i = 0; i < out->wake_count; i++) {
		struct waited *w = waited_find(s, &out->wakes[i]);

		if (planted(WAKE_LOST) && out->wakes[i].hash.lo % 4 == 1)
			continue;
		if (w)
			wake(s, w);
	}
	if (out->wakes_all) {
		s->sweep_left = s->waited_count;
		loop_defer(s->loop, &s->wake);
	}
}

/* The next of those who were woken; NULL if there are none. The rest go to the end of their line.
 */
static struct waiter *next_woken(struct shard *s)
{
	while (!list_is_empty(&s->woken)) {
		struct waited *w = container_of(s->woken.next, struct waited, woken);
		struct list *first = w->waiters.next;

		if (w->left > 0 && first != &w->waiters) {
			w->left--;
			list_remove(first);
			list_insert(&w->waiters, first);
			return container_of(first, struct waiter, link);
		}
		list_remove(&w->woken);
	}
	return NULL;
}

void waiters_work(struct task *t)
{
	struct shard *s = container_of(t, struct shard, wake);

	for (int i = 0; i < WAKES_PER_TURN; i++) {
		struct waiter *w = next_woken(s);
		struct slot *slot;

		if (w) {
			slot = s->slots[w->parked.slot];
			(void)ask_again(s, slot, w);
			shard_after(slot, &s->wake_out);
		} else if (s->sweep_left > 0 && !list_is_empty(&s->all_waited)) {
			struct list *first = s->all_waited.next;

			s->sweep_left--;
			list_remove(first);
			list_insert(&s->all_waited, first);
			wake(s, container_of(first, struct waited, all));
		} else {
			s->sweep_left = 0;
			return;
		}
	}
	loop_defer(s->loop, t);
}

void waiters_due(struct shard *s)
{
	for (int i = 0; i < LOOP_TIMERS_PER_TURN; i++) {
		struct heap_link *l = heap_top(&s->wait_dues);
		struct parked *p;
		struct waiter *w;

		if (!l || l->due > s->loop->now_ns)
			return;
		p = container_of(l, struct parked, due);
		w = container_of(p, struct waiter, parked);
		parked_fail(&w->parked, -ETIMEDOUT,
			    w->parked.msg == MSG_LOOKUP
				    ? "all its reads are granted, and none was decided in time"
				    : "it did not come in time");
		leave(s, w);
	}
}

void waiter_forget(struct shard *s, struct waiter *w)
{
	parked_drop(&w->parked);
	leave(s, w);
}

void parkeds_of_conn_over(struct conn *c)
{
	struct shard *s = ((struct peer_state *)c->state)->shard;
	struct parked *p;

	while ((p = conn_next_parked(c)) != NULL) {
		if (p->msg == MSG_LEASE)
			asking_of_conn_over(p);
		else if (p->msg == MSG_JOB_END)
			parked_drop(p); /* what was begun for it goes on, and tells nobody */
		else if (!parked_was_held(p))
			waiter_forget(s, container_of(p, struct waiter, parked));
	}
}
