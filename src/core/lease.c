/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/container.h"
#include "base/due.h"
#include "base/node.h"
#include "base/plant.h"
#include "core/core_priv.h"

#define TIDY_MS 250

/* How long the catalog is asked to take a segment back before it is asked again. */
#define SETTLE_MS       10000
#define SETTLE_PAUSE_MS 100

/* So many at a time; of the loop's stacks the others are for who asks. */
#define SETTLING_MAX (FIBERS_PER_LOOP / 16)

bool segment_is_near(const struct segment *s)
{
	return s->core->config.reach && s->store == s->core->config.reach_store;
}

struct segment *segment_new(struct core *c, uint64_t job, const struct grant *g)
{
	struct segment *s = node_alloc(sizeof(*s));

	if (!s)
		return NULL;
	*s = (struct segment){ .core = c,
			       .id = g->segment,
			       .key = g->key,
			       .store = g->store,
			       .job = job,
			       .generation = g->generation,
			       .size = g->size,
			       .back = g->size,
			       .used_ns = c->loop->now_ns };
	list_init(&s->link);
	list_insert(&c->segments, &s->link);
	return s;
}

static void segment_forget(struct segment *s)
{
	list_remove(&s->link);
	node_free(s);
}

static void settled(struct fiber *self)
{
	struct segment *s = container_of(self, struct segment, fiber);

	s->core->settling_count--;
	segment_forget(s);
}

/* Tells the catalog what was used. It takes the segment from there, whoever asks again. */
static void settle(struct fiber *self)
{
	struct segment *s = container_of(self, struct segment, fiber);
	struct core *c = s->core;
	int r;

	do {
		struct ask a;
		struct wcur w = ask_begin(c, &a, MSG_SETTLE, slot_of_id(s->job));

		settle_req_put(&w, &(struct settle_req){ .job = s->job,
							 .segment = s->id,
							 .generation = s->generation,
							 .front = s->front,
							 .back = s->back });
		r = ask_wait(&a, &w, NULL, c->loop->now_ns + SETTLE_MS * 1000000ull);
		ask_end(&a);
	} while (is_to_be_repeated(r) && !c->is_closing &&
		 core_sleep(c, c->loop->now_ns + SETTLE_PAUSE_MS * 1000000ull) == 0);
}

static void segment_end_if_done(struct segment *s)
{
	if (s->reservation_count > 0)
		return;
	if (s->state == SEGMENT_LOST) {
		segment_forget(s);
	} else if (s->state == SEGMENT_SEALING && !s->core->is_closing &&
		   s->core->settling_count < SETTLING_MAX &&
		   fiber_start(&s->core->loop->fibers, &s->fiber, settle, settled) == 0) {
		/* Else it stays SEALING, and tidy() tries again. */
		s->state = SEGMENT_SETTLING;
		s->core->settling_count++;
	}
}

static struct writer *writer_find(struct core *c, uint64_t job, uint64_t author)
{
	for (struct hlink *l = htable_first(&c->writers, job ^ author); l; l = htable_next(l)) {
		struct writer *w = container_of(l, struct writer, link);

		if (w->job == job && w->author == author)
			return w;
	}
	return NULL;
}

/* Nobody finds it any more who has something to put. */
static void writer_leave(struct segment *s)
{
	struct writer *w = writer_find(s->core, s->job, s->author);

	if (w && w->open == s)
		w->open = NULL;
}

void segment_seal(struct segment *s)
{
	writer_leave(s);
	if (s->state == SEGMENT_OPEN)
		s->state = SEGMENT_SEALING;
	segment_end_if_done(s);
}

void segment_reserved(struct segment *s)
{
	s->reservation_count++;
	s->used_ns = s->core->loop->now_ns;
}

void segment_unreserved(struct segment *s)
{
	assert(s->reservation_count > 0);
	s->reservation_count--;
	segment_end_if_done(s);
}

void segments_lose(struct core *c, uint64_t job, struct shard_link *link)
{
	for (struct list *l = c->segments.next, *next; l != &c->segments; l = next) {
		struct segment *s = container_of(l, struct segment, link);

		next = l->next;
		if (link ? shard_of(c, slot_of_id(s->job)) != link : s->job != job)
			continue;
		if (s->state == SEGMENT_SETTLING || s->state == SEGMENT_LOST)
			continue;
		writer_leave(s);
		s->state = SEGMENT_LOST;
		segment_end_if_done(s);
	}
}

void segments_fence(struct core *c, struct shard_link *link)
{
	for (struct list *l = c->segments.next, *next; l != &c->segments; l = next) {
		struct segment *s = container_of(l, struct segment, link);

		next = l->next;
		if (s->state == SEGMENT_OPEN && shard_of(c, slot_of_id(s->job)) == link)
			segment_seal(s);
	}
}

/* All that were granted, or none. The count. */
static int grants_take(struct core *c, uint64_t job, struct ask *a,
		       struct segment *ret[LEASE_SEGMENTS_MAX])
{
	struct rcur body = ask_reply(a), grants = rcur_make(a->call.room, a->call.room_len);
	struct lease_rep rep;
	int r = lease_rep_get(&body, &rep), count = 0;

	if (r == 0 && (rep.count == 0 || rep.count > LEASE_SEGMENTS_MAX))
		r = -EBADMSG;
	for (; r == 0 && count < rep.count; count++) {
		struct grant g;

		grant_get(&grants, &g);
		if (grants.bad || g.size < SEGMENT_BYTES_MIN || g.size > SEGMENT_BYTES_MAX ||
		    g.size & (g.size - 1))
			r = -EBADMSG;
		else if (!(ret[count] = segment_new(c, job, &g)))
			r = -ENOMEM;
		if (r < 0)
			break;
		ret[count]->is_last_of_quota = rep.is_short_of_quota;
	}
	while (r < 0 && count > 0)
		segment_forget(ret[--count]);
	return r < 0 ? r : count;
}

/* Nobody is left who wants them. */
static int grants_give_back(struct core *c, uint64_t job, struct ask *a)
{
	struct segment *segments[LEASE_SEGMENTS_MAX];
	int count = grants_take(c, job, a, segments);

	for (int i = 0; i < count; i++)
		segment_seal(segments[i]);
	return count;
}

/* Those that the caller has no room for are given back. */
static int grants_hand_on(struct core *c, uint64_t job, struct ask *a, struct segment **ret,
			  unsigned cap)
{
	struct segment *segments[LEASE_SEGMENTS_MAX];
	int count = grants_take(c, job, a, segments);

	for (int i = 0; i < count; i++)
		if ((unsigned)i < cap)
			ret[i] = segments[i];
		else
			segment_seal(segments[i]);
	return count > (int)cap ? (int)cap : count;
}

/* What may have been granted, or may yet be by a store that was asked, is given back. */
static void lease_undo(struct errand *undo, struct lease_req *req)
{
	uint8_t bytes[2 * sizeof(*req)];
	struct wcur w = wcur_make(bytes, sizeof(bytes));

	req->is_over = 1;
	lease_req_put(&w, req);
	errand_start(undo, MSG_LEASE, &w, grants_give_back);
}

int segments_lease(struct core *c, const struct want *want, uint64_t due_ns, struct segment **ret,
		   unsigned cap, char *why, size_t why_cap)
{
	struct lease_req req = { .job = want->job,
				 .request = number_next(c),
				 .age_ms = want->age_ms,
				 .need = want->need,
				 .least = want->least,
				 .author = want->author,
				 .size = want->size,
				 .tier = TIER_DRAM,
				 .is_move = want->is_move,
				 .is_whole = want->is_whole };
	struct errand *undo;
	uint8_t room[GRANTS_BYTES];
	struct ask a;
	struct wcur w;
	int r;

	if (planted(LEASE_REFUSED) && c->links[slot_of_id(want->job) % c->shard_count]->epoch > 1)
		return -EHOSTUNREACH;
	r = errand_new(c, want->job, &undo, why, why_cap);
	if (r < 0)
		return r;
	w = ask_begin(c, &a, MSG_LEASE, slot_of_id(want->job));
	a.call.room = room;
	a.call.room_cap = sizeof(room);
	lease_req_put(&w, &req);
	r = ask_wait(&a, &w, NULL, due_ns);
	snprintf(why, why_cap, "%s", a.detail);
	if (r == 0)
		r = grants_hand_on(c, want->job, &a, ret, cap);
	if (is_answer(r))
		errand_free(undo);
	else
		lease_undo(undo, &req);
	ask_end(&a);
	return r;
}

/* Two ends of a segment grow towards each other. */
int segment_take(struct segment *s, uint32_t len, bool is_paged, uint32_t *ret_offset)
{
	uint32_t front = (s->front + SEGMENT_PAGE - 1) & ~(uint32_t)(SEGMENT_PAGE - 1), back;

	if (s->state != SEGMENT_OPEN || s->back < len)
		return -EAGAIN;
	back = (s->back - len) & ~(uint32_t)(SEGMENT_ALIGN - 1);
	if (back < (is_paged ? front : s->front))
		return -EAGAIN;
	*ret_offset = is_paged ? front : back;
	if (planted(RANGE_TWICE) && *ret_offset / SEGMENT_ALIGN % 16 == 5)
		return 0;
	if (is_paged)
		s->front = front + len;
	else
		s->back = back;
	return 0;
}

static int take_open(struct core *c, struct writer *w, uint32_t len, struct piece *ret)
{
	struct segment *s = w->open;
	uint32_t offset;
	int r;

	if (!s || segment_take(s, len, false, &offset) < 0)
		return -EAGAIN;
	r = piece_at(c, s, offset, len, ret);
	if (r == -ESTALE) {
		/* The store took it away: fenced, or its job is over. */
		w->open = NULL;
		segment_seal(s);
		return -EAGAIN;
	}
	w->wrote += r == 0 ? len : 0;
	return r;
}

int piece_try(struct core *c, uint64_t job, uint32_t len, struct piece *ret)
{
	struct writer *w = writer_find(c, job, 0);

	*ret = (struct piece){ 0 };
	return w ? take_open(c, w, len, ret) : -EAGAIN;
}

static struct writer *writer_get(struct core *c, uint64_t job, uint64_t author)
{
	struct writer *w = writer_find(c, job, author);

	if (w)
		return w;
	w = htable_reserve(&c->writers) < 0 ? NULL : node_alloc(sizeof(*w));
	if (!w)
		return NULL;
	*w = (struct writer){ .job = job, .author = author };
	waitq_init(&w->leased, &c->loop->fibers);
	htable_add(&c->writers, &w->link, job ^ author);
	return w;
}

uint32_t segment_size_after(uint64_t len, uint64_t wrote)
{
	uint32_t size = segment_size_for(len);

	while (size < SEGMENT_BYTES_MAX && 2ull * size <= wrote)
		size *= 2;
	return size;
}

static int writer_lease(struct core *c, struct writer *w, uint32_t len, uint64_t age_ms,
			uint64_t due_ns, char *why, size_t why_cap)
{
	const struct want want = { .job = w->job,
				   .author = w->author,
				   .need = len,
				   .age_ms = age_ms,
				   .size = segment_size_after(len, w->wrote) };
	bool is_first = !w->is_leasing;
	struct segment *s;
	int r;

	w->is_leasing = true;
	r = segments_lease(c, &want, due_ns, &s, 1, why, why_cap);
	if (is_first)
		w->is_leasing = false;
	while (waitq_wake(&w->leased))
		;
	if (r < 0)
		return r;
	if (w->open)
		segment_seal(w->open);
	s->author = w->author;
	w->open = s;
	if (s->size < len) {
		snprintf(why, why_cap, "the largest segment of this store has %u bytes", s->size);
		return -EMSGSIZE;
	}
	return 0;
}

int author_reserve(struct core *c, uint64_t job, uint64_t author, uint32_t len, uint64_t age_ms,
		   uint64_t due_ns, struct piece *ret, char *why, size_t why_cap)
{
	/* Then it asks beside who does, who may wait for longer than it can. */
	uint64_t own_ns = due_again(c->loop->now_ns, due_ns);
	struct writer *w = writer_get(c, job, author);
	int r;

	*ret = (struct piece){ 0 };
	if (!w)
		return -ENOMEM;
	w->user_count++;
	for (;;) {
		r = take_open(c, w, len, ret);
		if (r != -EAGAIN)
			break;
		if (w->is_leasing && c->loop->now_ns < own_ns)
			r = waitq_wait(&w->leased, own_ns);
		else
			r = writer_lease(c, w, len, age_ms, due_ns, why, why_cap);
		if (r < 0 && (r != -ETIMEDOUT || c->loop->now_ns >= due_ns))
			break;
	}
	w->user_count--;
	return r;
}

int piece_reserve(struct core *c, uint64_t job, uint32_t len, uint64_t age_ms, uint64_t due_ns,
		  struct piece *ret, char *why, size_t why_cap)
{
	return author_reserve(c, job, 0, len, age_ms, due_ns, ret, why, why_cap);
}

void author_over(struct core *c, uint64_t job, uint64_t author)
{
	struct writer *w = writer_find(c, job, author);

	if (w && w->open)
		segment_seal(w->open);
	c->config.reach_ops->author_over(c->config.reach, job, author);
}

int table_reserve(struct core *c, uint64_t job, uint32_t len, uint64_t due_ns, struct piece *ret,
		  char *why, size_t why_cap)
{
	return piece_reserve(c, job, len, HOLDER_AGE_MS, due_ns, ret, why, why_cap);
}

/* Seals what nothing was put into for a while. True: the writer has nothing, and was forgotten. */
static bool writer_tidy(struct core *c, struct writer *w)
{
	struct segment *s = w->open;

	if (s && s->reservation_count == 0 &&
	    c->loop->now_ns - s->used_ns > SEGMENT_IDLE_MS * 1000000ull) {
		w->open = NULL;
		w->wrote = 0;
		segment_seal(s);
	}
	if (w->open || w->user_count > 0)
		return false;
	htable_remove(&c->writers, &w->link);
	node_free(w);
	return true;
}

static void tidy(struct timer *t)
{
	struct core *c = container_of(t, struct core, tidy);
	unsigned forgotten = 0;
	struct hlink *l, *next;
	size_t at = 0;

	timer_start(c->loop, t, c->loop->now_ns + TIDY_MS * 1000000ull);
	errands_look(c);
	stores_tidy(c);
	for (struct list *i = c->segments.next, *following; i != &c->segments; i = following) {
		following = i->next;
		segment_end_if_done(container_of(i, struct segment, link));
	}
	/* Nothing is added meanwhile, so the next one stays where it is when this one goes. */
	for (l = htable_walk(&c->writers, &at, NULL); l && forgotten < TICK_STEP; l = next) {
		next = htable_walk(&c->writers, &at, l);
		forgotten += writer_tidy(c, container_of(l, struct writer, link));
	}
}

void leases_rest(struct core *c)
{
	for (struct list *l = c->segments.next, *next; l != &c->segments; l = next) {
		struct segment *s = container_of(l, struct segment, link);

		next = l->next;
		if (s->state == SEGMENT_OPEN && s->reservation_count == 0)
			segment_seal(s);
	}
}

void leases_open(struct core *c)
{
	c->tidy = (struct timer){ .fire = tidy };
	timer_start(c->loop, &c->tidy, c->loop->now_ns + TIDY_MS * 1000000ull);
}

void leases_stop(struct core *c)
{
	timer_stop(c->loop, &c->tidy);
	for (struct list *l = c->segments.next; l != &c->segments; l = l->next) {
		struct segment *s = container_of(l, struct segment, link);

		if (s->state == SEGMENT_SETTLING)
			fiber_cancel(&s->fiber);
	}
}

bool leases_are_settling(const struct core *c)
{
	for (struct list *l = c->segments.next; l != &c->segments; l = l->next)
		if (container_of(l, struct segment, link)->state == SEGMENT_SETTLING)
			return true;
	return false;
}

void leases_close(struct core *c)
{
	struct hlink *l;
	size_t at;

	at = 0;
	while ((l = htable_any(&c->writers, &at)) != NULL) {
		htable_remove(&c->writers, l);
		node_free(container_of(l, struct writer, link));
	}
	htable_fini(&c->writers);
	while (!list_is_empty(&c->segments))
		segment_forget(container_of(c->segments.next, struct segment, link));
}
