/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Those who wait for segments, by the age of the put that needs them. They stand in
 * one line; who is younger passes only if enough is left for all before him, so that
 * to wait for the janitor does not mean to wait for each other.
 */
#include "store/pool_priv.h"

#include <errno.h>

#include "base/container.h"

/* A segment is at most this part of what is free, if that is enough for what is needed. */
#define OPEN_SHARE 8

uint64_t pool_ask_bytes(const struct ask *a)
{
	uint64_t most = (uint64_t)a->size * LEASE_SEGMENTS_MAX;

	if (a->need < a->size)
		return a->size;
	return a->need < most ? a->need : most;
}

/*
 * Of the size that was asked for, the last of several as small as will do, and all as
 * small as the room is: who waits is better served with a little than with nothing,
 * but what one segment can hold is not torn apart.
 */
unsigned pool_ask_classes(const struct ask *a, uint64_t room, uint8_t ret[LEASE_SEGMENTS_MAX])
{
	uint32_t least = a->need <= a->size ? segment_size_for(a->need) : SEGMENT_BYTES_MIN;
	uint64_t left = a->need;
	unsigned n = 0;

	while (n < LEASE_SEGMENTS_MAX && (n == 0 || left > 0)) {
		uint32_t size = n > 0 && left < a->size ? segment_size_for(left) : a->size;

		if (size > room)
			size = pool_size_within(room);
		if (size < least)
			break;
		ret[n++] = (uint8_t)pool_class_of(size);
		room -= size;
		left -= left < size ? left : size;
	}
	if (a->is_whole && left > 0 && n < LEASE_SEGMENTS_MAX)
		return 0;
	return n;
}

uint64_t pool_ask_room(const struct pool *p, const struct ask *a, bool is_oldest, uint64_t ahead)
{
	uint64_t reserve = p->limit / POOL_RESERVE_SHARE, taken = p->used + ahead;

	/* What is wanted to be lent goes first. */
	if (p->lend_wanted > p->lent)
		taken += p->lend_wanted - p->lent;
	if (a->is_move)
		reserve = 0;
	else if (is_oldest)
		reserve = p->moving;
	return taken + reserve < p->limit ? p->limit - taken - reserve : 0;
}

const struct ask *pool_oldest(const struct pool *p)
{
	for (struct list *l = p->asks.next; l != &p->asks; l = l->next)
		if (!container_of(l, struct ask, link)->is_move)
			return container_of(l, struct ask, link);
	return NULL;
}

static uint64_t less(uint64_t bytes, uint64_t there_is)
{
	return bytes > there_is ? bytes - there_is : 0;
}

uint64_t pool_lacking(const struct pool *p)
{
	const struct ask *a = pool_oldest(p);
	uint64_t lent = less(less(p->lend_wanted, p->lent), less(p->limit, p->used));

	return lent + (a ? less(pool_ask_bytes(a), pool_ask_room(p, a, false, 0)) : 0);
}

/*
 * The smallest size: what is asked for, until half of the segments are in use; then so
 * much that the other half is enough for the rest of the limit.
 */
static uint32_t smallest(const struct pool *p)
{
	unsigned left = p->segment_max - (p->segment_count - p->void_count);
	uint64_t bytes = p->used < p->limit ? p->limit - p->used : 0;

	return left >= p->segment_max / 2 ? SEGMENT_BYTES_MIN
					  : segment_size_for(bytes / (left ? left : 1));
}

static void normalize(const struct pool *p, struct ask *a, uint64_t now_ns)
{
	uint32_t most = pool_size_within(a->size < p->size_max ? a->size : p->size_max);
	uint32_t size = most, least = smallest(p), open;

	/* The fuller the pool, the less of it is open: but what is needed stays in one piece. */
	open = pool_size_within((p->limit - p->used) / OPEN_SHARE);
	if (open < segment_size_for(a->need))
		open = segment_size_for(a->need);
	if (size > open)
		size = open;
	a->size = size > least ? size : least;
	if (a->size > p->size_max)
		a->size = p->size_max;
	a->size_most = most > a->size ? most : a->size;
	a->need = a->need ? a->need : 1;
	a->arrived_ns = now_ns;
	a->birth_ns = ASK_EPOCH_NS + now_ns;
	a->birth_ns -= a->age_ns < a->birth_ns ? a->age_ns : a->birth_ns;
	if (a->is_move)
		a->birth_ns = 0;
	a->refusal = -ENOSPC;
	list_init(&a->link);
	a->due = (struct heap_link){ 0 };
}

static void enqueue(struct pool *p, struct ask *a)
{
	struct list *at = &p->asks;

	/* From the youngest: most asks are younger than all others. */
	while (at->prev != &p->asks &&
	       container_of(at->prev, struct ask, link)->birth_ns > a->birth_ns)
		at = at->prev;
	list_insert(at, &a->link);
	heap_add(&p->dues, &a->due, a->due_ns);
	htable_add(&p->asked, &a->by_request, pool_request_hash(p, a->job, a->request));
	p->ask_count++;
	p->asking_count[pool_class_of(a->size)]++;
	p->asked_bytes += pool_ask_bytes(a);
	p->counters.waited_count++;
}

void pool_forget(struct pool *p, struct ask *a)
{
	if (list_is_empty(&a->link))
		return;
	list_remove(&a->link);
	heap_remove(&p->dues, &a->due);
	htable_remove(&p->asked, &a->by_request);
	p->ask_count--;
	p->asking_count[pool_class_of(a->size)]--;
	p->asked_bytes -= pool_ask_bytes(a);
}

int pool_ask(struct pool *p, struct ask *a, uint64_t now_ns, struct grants *ret)
{
	const struct pool_job *j = pool_job_find(p, a->job);
	uint64_t room;
	int r = -EAGAIN;

	normalize(p, a, now_ns);
	if (pool_granted(p, a, ret))
		return 0;
	if (j && j->is_over)
		return -EIDRM;
	if (a->need > p->limit - (a->is_move ? 0 : p->moving)) {
		p->counters.refused_count++;
		return -ENOSPC;
	}
	/* Past those who wait, if it takes neither room nor a segment made for them. */
	room = pool_ask_room(p, a, false, a->is_move ? 0 : p->asked_bytes);
	if (a->is_now && room < pool_ask_bytes(a))
		return -ENOSPC;
	if (p->ask_count == 0 || a->is_move ||
	    (room >= a->size && p->asking_count[pool_class_of(a->size)] == 0))
		r = pool_grant(p, a, room, now_ns, ret);
	if (r != -EAGAIN)
		return r;
	if (p->ask_count == POOL_ASKS_MAX)
		return -EUSERS;
	if (htable_reserve(&p->asked) < 0)
		return -ENOMEM;
	enqueue(p, a);
	return -EAGAIN;
}

void pool_refuse(struct pool *p, struct ask *a, int refusal)
{
	a->refusal = refusal;
	heap_remove(&p->dues, &a->due);
	heap_add(&p->dues, &a->due, 0);
}

void pool_withdraw(struct pool *p, const struct ask *a, struct grants *ret)
{
	struct hlink *l = htable_first(&p->asked, pool_request_hash(p, a->job, a->request));

	(void)pool_granted(p, a, ret);
	for (; l; l = htable_next(l)) {
		struct ask *waits = container_of(l, struct ask, by_request);

		if (waits->job == a->job && waits->request == a->request)
			pool_refuse(p, waits, -ECANCELED);
	}
}

/* Somebody whose time is over, or whose job is, or who wants nothing any more. */
static struct ask *next_late(struct pool *p, uint64_t now_ns, struct grants *ret, int *ret_result)
{
	struct heap_link *l = heap_top(&p->dues);
	struct ask *a = l && l->due <= now_ns ? container_of(l, struct ask, due) : NULL;

	if (!a)
		return NULL;
	ret->count = 0;
	*ret_result = a->refusal;
	if (a->refusal == -ENOSPC)
		p->counters.refused_count++;
	pool_forget(p, a);
	return a;
}

struct ask *pool_next(struct pool *p, uint64_t now_ns, struct grants *ret, int *ret_result)
{
	struct ask *late = next_late(p, now_ns, ret, ret_result);
	struct list *l = p->asks.next;
	bool is_oldest = true;
	uint64_t ahead = 0;

	if (late)
		return late;
	for (unsigned i = 0; i < ASK_SCAN && l != &p->asks; i++, l = l->next) {
		struct ask *a = container_of(l, struct ask, link);
		bool is_patient = is_oldest && now_ns - a->arrived_ns >= ASK_PATIENCE_NS;
		uint64_t room = pool_ask_room(p, a, is_patient, ahead);

		if (!is_oldest && room < a->size)
			break;
		/* Asked again meanwhile, on another connection. */
		*ret_result = pool_granted(p, a, ret) ? 0 : pool_grant(p, a, room, now_ns, ret);
		if (*ret_result != -EAGAIN) {
			pool_forget(p, a);
			return a;
		}
		is_oldest = is_oldest && a->is_move;
		ahead += pool_ask_bytes(a);
	}
	return NULL;
}
