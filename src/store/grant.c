/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of the pool's memory somebody is given: what his job has freed before it, as it is, or
 * clean segments.
 */
#include "store/pool_priv.h"

#include <errno.h>

#include "base/container.h"
#include "base/node.h"

static struct grant grant_of(const struct pool *p, const struct segment *s)
{
	return (struct grant){ .segment = s->id,
			       .generation = s->generation,
			       .size = s->size,
			       .key = s->key,
			       .store = p->number };
}

bool pool_granted(const struct pool *p, const struct ask *a, struct grants *ret)
{
	struct hlink *l = htable_first(&p->requests, pool_request_hash(p, a->job, a->request));

	ret->count = 0;
	for (; l; l = htable_next(l)) {
		struct segment *s = container_of(l, struct segment, by_request);

		if (s->job->id != a->job || s->request != a->request || s->state == SEGMENT_FREEING)
			continue;
		ret->stamp_ns = s->stamp_ns;
		ret->list[ret->count++] = grant_of(p, s);
	}
	return ret->count > 0;
}

struct segment *pool_find_warm(const struct pool_job *j, unsigned class_of_size, uint64_t author)
{
	const struct list *warm = j ? &j->warm[class_of_size] : NULL;
	struct segment *s;

	if (!warm || list_is_empty(warm))
		return NULL;
	for (const struct list *l = warm->next; author && l != warm; l = l->next) {
		s = container_of((struct list *)l, struct segment, of_job);
		if (s->author == author)
			return s;
		if (!s->author)
			break;
	}
	s = container_of(warm->prev, struct segment, of_job);
	return s->author ? NULL : s;
}

/* One of its own job's, as it is, or a clean one. */
static struct segment *find_free(const struct pool *p, const struct pool_job *j,
				 unsigned class_of_size, uint64_t author)
{
	const struct list *clean = &p->clean[class_of_size];
	struct segment *s = pool_find_warm(j, class_of_size, author);

	if (s || list_is_empty(clean))
		return s;
	return container_of(clean->next, struct segment, link);
}

/* Less than this part of what was asked for would be full, and another needed, too soon. */
#define NEAR_SHARE 4

/*
 * Where to make one would take memory from others, another size that the job has back is better:
 * twice as large, if so much was asked for, or smaller, if what is at hand fits.
 */
static struct segment *find_near(const struct pool *p, const struct pool_job *j,
				 const struct ask *a, uint64_t room, unsigned class_of_size)
{
	uint32_t size = class_size(class_of_size), least = segment_size_for(a->need);
	struct segment *s = NULL;

	if (!j || !pool_is_short(p, size))
		return NULL;
	if (least < size / NEAR_SHARE)
		least = size / NEAR_SHARE;
	if (2 * size <= a->size_most && 2 * size <= room)
		s = pool_find_warm(j, class_of_size + 1, a->author);
	while (!s && class_of_size > 0 && class_size(class_of_size - 1) >= least)
		s = pool_find_warm(j, --class_of_size, a->author);
	return s;
}

static void give(struct pool *p, struct segment *s, struct pool_job *j, const struct ask *a,
		 uint64_t stamp_ns)
{
	if (s->state == SEGMENT_DIRTY) {
		p->counters.warm_count++;
		list_remove(&s->of_job);
	} else {
		s->job = j;
		j->count++;
	}
	list_insert(&j->used, &s->of_job);
	s->key = node_random_u64();
	s->request = a->request;
	s->stamp_ns = stamp_ns;
	s->front = 0;
	s->back = s->size;
	s->is_revoked = s->was_sealed = false;
	pool_enter(p, s, SEGMENT_OPEN);
	htable_add(&p->requests, &s->by_request, pool_request_hash(p, a->job, a->request));
	pool_note(p, s);
	book_add(&p->book, s->size, stamp_ns);
	p->counters.granted_count++;
	p->counters.granted_bytes += s->size;
}

static bool is_for(const struct segment *s, const struct ask *a)
{
	return !s->author || s->author == a->author;
}

/* Is there one of each? */
static bool has_all(const struct pool *p, const struct pool_job *j, const struct ask *a,
		    const uint8_t *classes, unsigned n)
{
	unsigned lack[POOL_CLASSES] = { 0 };

	for (unsigned i = 0; i < n; i++)
		lack[classes[i]]++;
	for (unsigned c = 0; c < POOL_CLASSES; c++) {
		struct list *l = j ? j->warm[c].next : NULL;

		lack[c] -= lack[c] < p->clean_count[c] ? lack[c] : p->clean_count[c];
		for (; lack[c] > 0 && l && l != &j->warm[c]; l = l->next)
			lack[c] -= is_for(container_of(l, struct segment, of_job), a);
		if (lack[c] > 0)
			return false;
	}
	return true;
}

int pool_grant(struct pool *p, const struct ask *a, uint64_t room, uint64_t now_ns,
	       struct grants *ret)
{
	uint8_t classes[LEASE_SEGMENTS_MAX];
	unsigned n = pool_ask_classes(a, room, classes);
	struct pool_job *j = pool_job_find(p, a->job);
	struct segment *first;

	ret->count = 0;
	ret->stamp_ns = a->stamp_ns + (now_ns - a->arrived_ns);
	first = n > 0 ? find_free(p, j, classes[0], a->author) : NULL;
	if (!first && n == 1)
		first = find_near(p, j, a, room, classes[0]);
	if (!first || (a->is_whole && n > 1 && !has_all(p, j, a, classes, n)))
		return -EAGAIN;
	j = htable_reserve(&p->requests) < 0 ? NULL : pool_job_ref(p, a->job);
	if (!j)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		struct segment *s = i == 0 ? first : find_free(p, j, classes[i], a->author);

		if (!s)
			break;
		/* What a job has back needs no stock. */
		if (s->state == SEGMENT_CLEAN)
			pool_demand_add(p, classes[i], now_ns);
		give(p, s, j, a, ret->stamp_ns);
		ret->list[ret->count++] = grant_of(p, s);
	}
	pool_job_unref(p, j);
	p->granted_ns = now_ns;
	return 0;
}
