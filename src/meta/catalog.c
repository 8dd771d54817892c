/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/catalog.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/node.h"
#include "meta/catalog_priv.h"

/* What one tick does of each kind: a few dozen microseconds. */
#define CLEAR_STEP  (TICK_STEP / 4)
#define DEBRIS_STEP 2
#define LEASE_STEP  16

static struct slice job_key(const struct index_link *l)
{
	const struct job *j = container_of((struct index_link *)l, struct job, in_order);

	return (struct slice){ j->name, j->name_len + 1u + 8u };
}

static uint64_t job_priority(const struct index_link *l)
{
	return container_of((struct index_link *)l, struct job, in_order)->by_id.hash;
}

static const struct index_ops JOB_OPS = { job_key, job_priority };

void catalog_tables(struct catalog *c, struct htable *ret[CATALOG_TABLES])
{
	struct htable *all[CATALOG_TABLES] = {
		&c->jobs,          &c->names,         &c->entries,  &c->directories,
		&c->attempts,      &c->ends,          &c->segments, &c->requests,
		&c->sessions,      &c->holds,         &c->reads,    &c->opens,
		&c->open_requests, &c->hold_requests, &c->shares,   &c->held,
	};

	memcpy(ret, all, sizeof(all));
}

struct catalog *catalog_new(uint16_t slot, uint64_t seed, const struct catalog_ops *ops,
			    void *owner)
{
	struct catalog *c = node_alloc(sizeof(*c));
	struct htable *all[CATALOG_TABLES];

	if (!c)
		return NULL;
	*c = (struct catalog){ .slot = slot,
			       .seed = seed,
			       .ops = ops,
			       .owner = owner,
			       .next_job = 1,
			       .next_id = 1,
			       .next_number = 1,
			       .job_order = { .ops = &JOB_OPS } };
	list_init(&c->living);
	list_init(&c->clearing);
	list_init(&c->ended);
	list_init(&c->untold);
	list_init(&c->debris);
	list_init(&c->dropped);
	list_init(&c->over_sessions);
	list_init(&c->pools);
	list_init(&c->fenced);
	list_init(&c->free_values);
	list_init(&c->empty_values);
	catalog_tables(c, all);
	for (int i = 0; i < CATALOG_TABLES; i++)
		if (htable_reserve(all[i]) < 0)
			return catalog_free(c);
	return c;
}

void *catalog_owner(const struct catalog *c)
{
	return c->owner;
}

uint16_t catalog_slot(const struct catalog *c)
{
	return c->slot;
}

uint64_t catalog_last_ns(const struct catalog *c)
{
	return c->last_ns;
}

void catalog_set_blank(struct catalog *c)
{
	c->is_blank = true;
}

void catalog_set_lacking(struct catalog *c)
{
	c->is_lacking = true;
}

void catalog_skip(struct catalog *c, const struct ids *ids)
{
	c->next_job += ids->jobs;
	c->next_id += ids->others;
	for (struct list *l = c->living.next; l != &c->living; l = l->next)
		container_of(l, struct job, link)->version += ids->versions;
}

int refuse(struct outcome *ret, int r, const char *format, ...)
{
	va_list args;

	if (!ret)
		return r;
	va_start(args, format);
	vsnprintf(ret->detail, sizeof(ret->detail), format, args);
	va_end(args);
	return r;
}

void outcome_begin(struct catalog *c, struct outcome *ret)
{
	ret->detail[0] = '\0';
	ret->must_wait = false;
	ret->seen_ns = UINT64_MAX;
	ret->may_fit = false;
	ret->wake_count = 0;
	ret->wakes_all = false;
	ret->ask.is_needed = false;
	ret->has_ended = ret->is_to_forget = ret->is_repeat = false;
	c->out = ret;
}

void catalog_wake_hash(struct catalog *c, uint64_t job, struct hash_128 hash)
{
	struct outcome *out = c->out;

	if (!out)
		return;
	if (out->wake_count == WAKES_MAX)
		out->wakes_all = true;
	else
		out->wakes[out->wake_count++] = (struct wake_key){ .hash = hash, .job = job };
}

void catalog_wake(struct catalog *c, const struct job *j, struct slice path)
{
	if (c->out)
		catalog_wake_hash(c, j->id, path_hash(c, j->id, path));
}

void catalog_id_used(struct catalog *c, uint64_t id)
{
	uint64_t n = id & ((1ull << ID_SLOT_SHIFT) - 1);

	if (n >= c->next_id)
		c->next_id = n + 1;
}

static void *give_back(void *p)
{
	return p ? node_free(p) : NULL; /* nearly all of them are NULL, so nobody is called */
}

/* What was not needed after all. */
static void effect_free(struct effect *e)
{
	e->made.job = give_back(e->made.job);
	e->made.entry = give_back(e->made.entry);
	e->made.directory = give_back(e->made.directory);
	e->made.attempt = give_back(e->made.attempt);
	while (e->made.spares) {
		struct attempt *a = e->made.spares;

		e->made.spares = (struct attempt *)a->link.next;
		node_free(a);
	}
	while (e->made.segments) {
		struct segment *s = e->made.segments;

		e->made.segments = s->next_new;
		node_free(s->claimed);
		node_free(s);
	}
	e->made.session = give_back(e->made.session);
	e->made.share = give_back(e->made.share);
	e->made.hold = give_back(e->made.hold);
	e->made.open = give_back(e->made.open);
	e->made.part = give_back(e->made.part);
	e->made.chunk = give_back(e->made.chunk);
	e->made.body = give_back(e->made.body);
}

/* What must be done whatever happens, or gives something back. */
static bool is_own(enum effect_kind kind)
{
	return kind != EFFECT_OBJECT_PUT && kind != EFFECT_OBJECT_RENAMED &&
	       kind != EFFECT_JOB_MADE && kind != EFFECT_OPEN_MADE &&
	       kind != EFFECT_OPEN_EXTENDED && kind != EFFECT_HOLD_MADE;
}

static int no_room(struct catalog *c, int r)
{
	if (r == -ENOSPC)
		return refuse(c->out, r,
			      "metadata and data use all memory of the server; remove objects, end "
			      "jobs, or raise --memory");
	return refuse(c->out, r,
		      "the log of the metadata server can take no more for now: it has no "
		      "memory, or its disk takes nothing");
}

int effect_reserve(struct catalog *c, struct effect *e)
{
	int r = -EBADMSG;

	if (c->out && c->ops->room) {
		r = c->ops->room(c, is_own(e->kind));
		if (r < 0)
			return no_room(c, r);
		r = -EBADMSG;
	}
	if (e->at_ns < c->last_ns)
		e->at_ns = c->last_ns;
	switch (e->kind) {
#define E(id, NAME, name)                 \
	case EFFECT_##NAME:               \
		r = name##_reserve(c, e); \
		break;
		EFFECTS(E)
#undef E
	case EFFECT_KINDS:
		break;
	}
	if (r < 0)
		effect_free(e);
	return r;
}

static void effect_apply(struct catalog *c, struct effect *e)
{
	c->last_ns = e->at_ns;
	switch (e->kind) {
#define E(id, NAME, name)           \
	case EFFECT_##NAME:         \
		name##_apply(c, e); \
		break;
		EFFECTS(E)
#undef E
	case EFFECT_KINDS:
		break;
	}
	effect_free(e);
}

void effect_finish(struct catalog *c, struct effect *e)
{
	c->ops->log(c, e);
	effect_apply(c, e);
}

int effect_do(struct catalog *c, struct effect *e)
{
	int r = effect_reserve(c, e);

	if (r == 0)
		effect_finish(c, e);
	return r;
}

int catalog_replay(struct catalog *c, struct rcur *effect)
{
	struct effect e;
	int r = effect_get(effect, &e);

	c->out = NULL;
	if (r == 0)
		r = record_check(c, &e);
	if (r == 0)
		r = effect_reserve(c, &e);
	if (r == 0)
		effect_apply(c, &e);
	return r;
}

static uint64_t soonest(uint64_t due, const struct heap *h)
{
	const struct heap_link *l = heap_top(h);

	return l && l->due < due ? l->due : due;
}

static uint64_t fenced_due(const struct catalog *c)
{
	return container_of(c->fenced.next, struct segment, owed)->fenced_ns + FENCED_MS_MAX * MS;
}

uint64_t catalog_due(const struct catalog *c)
{
	uint64_t due = UINT64_MAX;

	if (!list_is_empty(&c->clearing) || !list_is_empty(&c->debris) ||
	    !list_is_empty(&c->dropped) || !list_is_empty(&c->over_sessions) || !values_are_tidy(c))
		return 0;
	due = soonest(due, &c->expiries);
	due = soonest(due, &c->leases);
	if (!list_is_empty(&c->fenced) && fenced_due(c) < due)
		due = fenced_due(c);
	return soonest(due, &c->read_dues);
}

/* Jobs that are cleared, but for what others must do first, do not keep us busy. */
static int clear_some(struct catalog *c, uint64_t now_ns)
{
	struct effect e = { .at_ns = now_ns };
	int r = 0;

	if (!list_is_empty(&c->clearing)) {
		e.kind = EFFECT_JOB_CLEARED;
		e.u.job_cleared.job = container_of(c->clearing.next, struct job, link)->id;
		e.u.job_cleared.count = CLEAR_STEP;
		r = effect_do(c, &e);
	}
	if (r == 0 && !list_is_empty(&c->over_sessions)) {
		e = (struct effect){ .kind = EFFECT_SESSION_CLEARED, .at_ns = now_ns };
		e.u.session_cleared.session =
			container_of(c->over_sessions.next, struct session, link)->id;
		e.u.session_cleared.count = CLEAR_STEP;
		r = effect_do(c, &e);
	}
	if (r == 0 && (!list_is_empty(&c->debris) || !list_is_empty(&c->dropped))) {
		e = (struct effect){ .kind = EFFECT_DEBRIS_CLEARED, .at_ns = now_ns };
		e.u.debris_cleared.count = DEBRIS_STEP;
		r = effect_do(c, &e);
	}
	return r;
}

static int expire_one(struct catalog *c, struct heap_link *l, uint64_t now_ns)
{
	struct life *life = container_of(l, struct life, expiry);
	struct entry *entry = (struct entry *)life - 1;
	struct effect e = { .kind = EFFECT_OBJECT_REMOVED, .at_ns = now_ns };

	e.u.object_removed.job = entry->job->id;
	e.u.object_removed.what = GONE_EXPIRED;
	e.u.object_removed.path = entry_path(entry);
	return effect_do(c, &e);
}

int catalog_expire(struct catalog *c, uint64_t now_ns)
{
	int r = 0;

	for (int i = 0; r == 0 && i < CLEAR_STEP; i++) {
		struct heap_link *l = heap_top(&c->expiries);

		if (!l || l->due > now_ns)
			break;
		r = expire_one(c, l, now_ns);
	}
	return r;
}

static int end_lease(struct catalog *c, struct job *j, const struct moment *at)
{
	struct effect e = { .at_ns = at->now_ns };

	if (j->lease.due <= at->awake_ns) {
		/* Nobody could renew it while we did not listen. */
		e.kind = EFFECT_JOB_RENEWED;
		e.u.job_renewed.job = j->id;
		e.u.job_renewed.lease_ms = j->lease_ms;
	} else {
		e.kind = EFFECT_JOB_ENDED;
		e.u.job_ended.job = j->id;
		e.u.job_ended.has_expired = 1;
	}
	return effect_do(c, &e);
}

static int give_back_read(struct catalog *c, struct hold *h, uint64_t now_ns)
{
	struct effect e = { .kind = EFFECT_HOLD_ENDED, .at_ns = now_ns };
	uint64_t due = h->touched_ns + HOLD_MS_MAX * MS;

	if (due > now_ns) {
		heap_remove(&c->read_dues, &h->due);
		heap_add(&c->read_dues, &h->due, due);
		return 0;
	}
	e.u.hold_ended.hold = h->id;
	return effect_do(c, &e);
}

int catalog_tick(struct catalog *c, const struct moment *at, struct outcome *ret)
{
	uint64_t now_ns = at->now_ns;
	struct heap_link *l;
	int r;

	outcome_begin(c, ret);
	values_tidy(c);
	r = clear_some(c, now_ns);
	if (r == 0)
		r = catalog_expire(c, now_ns);
	for (int i = 0; r == 0 && i < LEASE_STEP; i++) {
		l = heap_top(&c->leases);
		if (!l || l->due > at->read_ns)
			break;
		r = end_lease(c, container_of(l, struct job, lease), at);
	}
	for (int i = 0; r == 0 && i < LEASE_STEP; i++) {
		l = heap_top(&c->read_dues);
		if (!l || l->due > now_ns)
			break;
		r = give_back_read(c, container_of(l, struct hold, due), now_ns);
	}
	for (int i = 0; r == 0 && i < LEASE_STEP && !list_is_empty(&c->fenced); i++) {
		if (fenced_due(c) > now_ns)
			break;
		r = fenced_give_up(c, now_ns);
	}
	return r;
}

void catalog_sums(const struct catalog *c, uint64_t now_ns, struct catalog_sums *ret)
{
	*ret = (struct catalog_sums){
		.job_count = c->job_count,
		.object_count = c->object_count,
		.segment_count = c->segment_count,
		.session_count = c->sessions.count,
		.value_bytes = c->value_account.bytes,
		.value_byte_ns = account_integral(&c->value_account, now_ns),
		.byte_ns = account_integral(&c->account, now_ns),
		.forgotten_byte_ns = account_integral(&c->forgotten, now_ns),
		.has_lost = c->has_lost,
	};
}
