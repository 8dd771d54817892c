/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the janitor is to do: first what somebody waits for, then what gives memory
 * back, then what will be asked for next, as far as the last second tells.
 *
 * A decision puts a segment into MAKING, REFILLING, SCRUBBING or UNMAKING and on `begun`;
 * the work on it goes out in pieces, so that what is urgent never waits for all of a
 * large one.
 */
#include "store/pool_priv.h"

#include <assert.h>
#include <errno.h>

#include "base/container.h"

/* A step is at most so long: a millisecond of touching. */
#define PIECE_BYTES (4u << 20)

/* Of what somebody waits for, so much is reported at once. */
#define WANTED_BYTES (4u << 20)

/* Decisions ahead of the work; more of them only make the queues longer. */
#define DECISIONS_MAX 64

/* Kept in stock: what was granted in a quarter of a second, and never more than 1/8 of the limit.
 */
#define STOCK_DEMAND_SHARE 4
#define STOCK_LIMIT_SHARE  8

/* With nothing to do: this many of the smallest, so that the first put finds one. */
#define IDLE_SMALLEST 4

/* Of what an ended job leaves, this share of the limit is scrubbed and kept while others ask. */
#define KEEP_LIMIT_SHARE 4
#define KEEP_NS          2000000000ull

/*
 * A job that has not come back for what it freed will not. It may take its time, from one stage
 * to the next, while there is memory to spare.
 */
#define WARM_NS     1000000000ull
#define WARM_NS_MAX 10000000000ull

/* Who replaces at once frees segments before, as whole as they were. */
#define PUNCH_NS 1000000000ull

/* What functions may have touched again is looked at so many at once: a call of the kernel each. */
#define LOOKS 32

/* What was punched of a segment is made again if it is no more than this share. */
#define REFILL_SHARE 2

/* The machine said no: ask it again after so long. */
#define FAILED_NS 100000000ull

static uint64_t demand_of(const struct pool *p, unsigned class_of_size, uint64_t now_ns)
{
	uint64_t halves = (now_ns - p->demand_ns) / DEMAND_HALF_NS;
	uint64_t d = halves < 64 ? p->demand[class_of_size] >> halves : 0;

	return d < class_size(class_of_size) / 8 ? 0 : d;
}

void pool_demand_add(struct pool *p, unsigned class_of_size, uint64_t now_ns)
{
	uint64_t halves = (now_ns - p->demand_ns) / DEMAND_HALF_NS;

	if (halves > 0) {
		for (unsigned i = 0; i < POOL_CLASSES; i++)
			p->demand[i] = demand_of(p, i, now_ns);
		p->demand_ns += halves * DEMAND_HALF_NS;
	}
	p->demand[class_of_size] += class_size(class_of_size);
}

/* How many clean segments of each class to have ahead. */
static void targets(const struct pool *p, uint64_t now_ns, unsigned ret[POOL_CLASSES])
{
	uint64_t left = p->limit / STOCK_LIMIT_SHARE;

	for (unsigned i = 0; i < POOL_CLASSES; i++) {
		uint64_t size = class_size(i), d = demand_of(p, i, now_ns) / STOCK_DEMAND_SHARE;
		uint64_t n = (d + size - 1) / size;

		if (i == 0 && n < IDLE_SMALLEST)
			n = IDLE_SMALLEST;
		if (size > p->size_max)
			n = 0;
		if (n > left / size)
			n = left / size;
		left -= n * size;
		ret[i] = (unsigned)n;
	}
}

static bool is_idle(const struct pool *p, uint64_t now_ns)
{
	return now_ns - p->granted_ns >= KEEP_NS;
}

static unsigned supply(const struct pool *p, unsigned class_of_size)
{
	return p->clean_count[class_of_size] + p->coming_count[class_of_size];
}

struct planning {
	struct pool *p;
	uint64_t now_ns;
	unsigned decisions;
	unsigned target[POOL_CLASSES];
	unsigned have[POOL_CLASSES]; /* clean and coming, less what those who wait will get */
};

static void decide(struct planning *g, struct segment *s, enum segment_state state,
		   enum pool_urgency urgency)
{
	if (s->state == SEGMENT_DIRTY)
		pool_disown(g->p, s);
	s->done = 0;
	pool_enter(g->p, s, state);
	s->urgency =
		urgency == POOL_WANTED && s->size > PIECE_BYTES ? POOL_LARGE : (uint8_t)urgency;
	list_insert(&g->p->begun[s->urgency], &s->link);
	g->decisions++;
}

static bool has_failed(const struct pool *p, uint64_t now_ns)
{
	return p->failed_ns && now_ns - p->failed_ns < FAILED_NS;
}

bool pool_is_short(const struct pool *p, uint64_t bytes)
{
	return p->reserved + bytes > p->limit - p->limit / POOL_RESERVE_SHARE;
}

static bool has_to_spare(const struct pool *p)
{
	return p->ask_count == 0 && !pool_is_short(p, 0);
}

/* When nobody will have it any more as it is. */
static uint64_t cold_ns(const struct pool *p, const struct segment *s)
{
	return s->since_ns + (has_to_spare(p) ? WARM_NS_MAX : WARM_NS);
}

/* First in line is another job: it gets room sooner than this one gets its pages. */
static bool do_others_wait(const struct pool *p, const struct pool_job *j)
{
	return p->ask_count > 0 && container_of(p->asks.next, struct ask, link)->job != j->id;
}

/*
 * To make all of it anew would take as many more pages as were not punched, and where memory is
 * short, this much would be unmade first.
 */
bool pool_refill(struct pool *p, struct segment *s, uint64_t now_ns)
{
	uint32_t gone = s->size - s->held;

	if (s->job->is_over || gone > s->size / REFILL_SHARE || has_failed(p, now_ns) ||
	    do_others_wait(p, s->job) || p->reserved + gone > p->limit)
		return false;
	pool_hold(p, s, s->size);
	pool_enter(p, s, SEGMENT_REFILLING);
	s->done = middle_begin(s);
	s->urgency = POOL_WARMED;
	list_insert(&p->begun[POOL_WARMED], &s->link);
	list_insert(&s->job->refilling, &s->of_job);
	return true;
}

static bool make(struct planning *g, unsigned class_of_size, enum pool_urgency urgency)
{
	struct pool *p = g->p;
	uint32_t size = class_size(class_of_size);
	struct segment *s;

	if (p->reserved + size > p->limit || has_failed(p, g->now_ns))
		return false;
	s = pool_segment_new(p);
	if (!s)
		return false;
	s->size = size;
	s->class_of_size = (uint8_t)class_of_size;
	pool_hold(p, s, size);
	decide(g, s, SEGMENT_MAKING, urgency);
	return true;
}

static struct segment *oldest_dirty(const struct pool *p, unsigned class_of_size)
{
	const struct list *l = &p->dirty[class_of_size];

	return list_is_empty(l) ? NULL : container_of(l->next, struct segment, link);
}

/* Nobody but its job can have it: to others it is worth no more than the room that it takes. */
static struct segment *oldest_exported(const struct pool *p, unsigned class_of_size)
{
	const struct list *l = &p->exported[class_of_size];

	return list_is_empty(l) ? NULL : container_of(l->next, struct segment, link);
}

/* Of either kind. */
static struct segment *coldest(const struct pool *p, unsigned class_of_size)
{
	struct segment *a = oldest_dirty(p, class_of_size), *b = oldest_exported(p, class_of_size);

	return !a || (b && b->since_ns < a->since_ns) ? b : a;
}

/* A clean one that is not spoken for, if there are more than `least`. */
static struct segment *spare_clean(struct planning *g, unsigned class_of_size, unsigned least)
{
	struct pool *p = g->p;

	if (g->have[class_of_size] <= least || p->clean_count[class_of_size] == 0)
		return NULL;
	g->have[class_of_size]--;
	return container_of(p->clean[class_of_size].prev, struct segment, link);
}

/*
 * Memory that is good for another class: what nobody has asked for lately, then what its job may
 * come back for, then the stock.
 */
static struct segment *victim(struct planning *g, unsigned except)
{
	struct segment *s = NULL;

	for (unsigned i = POOL_CLASSES; !s && i-- > 0;)
		s = i == except ? NULL : spare_clean(g, i, g->target[i]);
	for (unsigned i = POOL_CLASSES; !s && i-- > 0;) {
		s = oldest_exported(g->p, i);
		if (!s && i != except)
			s = oldest_dirty(g->p, i);
	}
	for (unsigned i = POOL_CLASSES; !s && i-- > 0;)
		s = i == except ? NULL : spare_clean(g, i, 0);
	return s;
}

/* Lacking, beyond what is on its way out already: bytes, or just a segment. */
static bool lacks_room(const struct pool *p, unsigned class_of_size)
{
	unsigned segments = p->segment_max - p->segment_count + p->void_count + p->leaving_count;

	return p->limit - p->reserved + p->leaving < class_size(class_of_size) || segments == 0;
}

static void make_room(struct planning *g, unsigned class_of_size)
{
	while (g->decisions < DECISIONS_MAX && lacks_room(g->p, class_of_size)) {
		struct segment *s = victim(g, class_of_size);

		if (!s)
			return;
		decide(g, s, SEGMENT_UNMAKING, POOL_WANTED);
	}
}

/* One more of a class, for somebody who waits. */
static void produce(struct planning *g, unsigned class_of_size)
{
	struct segment *s = oldest_dirty(g->p, class_of_size);

	if (s)
		decide(g, s, SEGMENT_SCRUBBING, POOL_WANTED);
	else if (!make(g, class_of_size, POOL_WANTED))
		make_room(g, class_of_size);
}

static void plan_for_asks(struct planning *g)
{
	struct pool *p = g->p;
	struct list *l = p->asks.next;
	bool is_oldest = true;
	uint64_t ahead = 0;

	for (unsigned i = 0; i < ASK_SCAN && l != &p->asks; i++, l = l->next) {
		const struct ask *a = container_of(l, struct ask, link);
		uint64_t room = pool_ask_room(p, a, is_oldest, ahead);
		uint8_t classes[LEASE_SEGMENTS_MAX];
		unsigned n = !is_oldest && room < a->size ? 0 : pool_ask_classes(a, room, classes);

		if (n == 0 || g->decisions >= DECISIONS_MAX)
			return;
		for (unsigned k = 0; k < n && g->decisions < DECISIONS_MAX; k++) {
			if (g->have[classes[k]] > 0)
				g->have[classes[k]]--;
			else
				produce(g, classes[k]);
		}
		is_oldest = is_oldest && a->is_move;
		ahead += pool_ask_bytes(a);
	}
}

/* What is to be lent comes from what nobody uses. */
static void plan_for_lending(struct planning *g)
{
	struct pool *p = g->p;

	while (g->decisions < DECISIONS_MAX && p->lend_wanted > p->lent &&
	       p->limit - p->reserved + p->leaving < p->lend_wanted - p->lent) {
		struct segment *s = victim(g, POOL_CLASSES);

		if (!s)
			return;
		decide(g, s, SEGMENT_UNMAKING, POOL_WANTED);
	}
}

/* What nobody will have as it is: scrubbed for others, or given back. */
static void clear(struct planning *g, struct segment *s)
{
	struct pool *p = g->p;
	unsigned k = s->class_of_size;
	uint64_t stock = s->size;

	if (s->is_exported) {
		decide(g, s, SEGMENT_UNMAKING, POOL_CLEARED);
		return;
	}
	for (unsigned i = 0; i < POOL_CLASSES; i++)
		stock += (uint64_t)supply(p, i) * class_size(i);
	if (supply(p, k) < g->target[k] ||
	    (!is_idle(p, g->now_ns) && stock <= p->limit / KEEP_LIMIT_SHARE))
		decide(g, s, SEGMENT_SCRUBBING, POOL_CLEARED);
	else
		decide(g, s, SEGMENT_UNMAKING, POOL_CLEARED);
}

static struct segment *leftover(const struct pool_job *j)
{
	for (unsigned i = 0; i < POOL_CLASSES; i++)
		if (!list_is_empty(&j->warm[i]))
			return container_of(j->warm[i].next, struct segment, of_job);
	return NULL;
}

static void plan_for_ended(struct planning *g)
{
	struct list *over = &g->p->over;

	while (!list_is_empty(over) && g->decisions < DECISIONS_MAX) {
		struct pool_job *j = container_of(over->next, struct pool_job, link);
		struct segment *s = leftover(j);

		/* The last one takes the job with it, and off the list. */
		if (s)
			clear(g, s);
		else
			list_remove(&j->link);
	}
}

static void plan_for_idle(struct planning *g)
{
	struct pool *p = g->p;
	/* Where the machine has no more, what is idle is what those who wait lack. */
	bool is_useless = p->ask_count == 0 || has_failed(p, g->now_ns);

	for (unsigned i = 0; i < POOL_CLASSES; i++) {
		struct segment *s;

		while (g->decisions < DECISIONS_MAX && (s = coldest(p, i)) &&
		       cold_ns(p, s) <= g->now_ns)
			clear(g, s);
		while (g->decisions < DECISIONS_MAX && is_idle(p, g->now_ns) &&
		       p->clean_count[i] > g->target[i] && is_useless)
			decide(g, container_of(p->clean[i].prev, struct segment, link),
			       SEGMENT_UNMAKING, POOL_CLEARED);
	}
}

static void plan_for_stock(struct planning *g)
{
	struct pool *p = g->p;

	if (p->segment_count - p->void_count > p->segment_max / 2)
		return; /* too many segments to have some that nobody asked for */
	if (p->lend_wanted > p->lent)
		return; /* it would be given back at once */

	for (unsigned i = 0; i < POOL_CLASSES; i++)
		while (g->decisions < DECISIONS_MAX && supply(p, i) < g->target[i] &&
		       !pool_is_short(p, class_size(i)))
			if (!make(g, i, POOL_STOCKED))
				return;
}

static struct step step_of(enum step_kind kind, struct segment *s, uint32_t from, uint32_t to)
{
	s->is_away = true;
	list_remove(&s->link);
	return (struct step){ .kind = kind,
			      .segment = s,
			      .index = s->index,
			      .memory = s->memory,
			      .size = s->size,
			      .from = from,
			      .to = to,
			      .is_exported = s->is_exported };
}

/* What is begun of it ends here. */
static uint32_t end_of(const struct segment *s)
{
	return s->state == SEGMENT_REFILLING ? middle_end(s) : s->size;
}

static struct step next_piece(struct segment *s)
{
	static const enum step_kind kinds[SEGMENT_STATES] = {
		[SEGMENT_MAKING] = STEP_MAKE,
		[SEGMENT_REFILLING] = STEP_REFILL,
		[SEGMENT_SCRUBBING] = STEP_SCRUB,
		[SEGMENT_UNMAKING] = STEP_UNMAKE,
	};
	uint32_t left = end_of(s) - s->done;
	uint32_t to = s->done + (left < PIECE_BYTES ? left : PIECE_BYTES);

	return step_of(kinds[s->state], s, s->done, to);
}

static struct step punch_of(struct segment *s)
{
	return step_of(STEP_PUNCH, s, middle_begin(s), middle_end(s));
}

static const struct segment *next_punch(const struct pool *p)
{
	const struct list *l = &p->punches;

	return list_is_empty(l) ? NULL : container_of(l->next, struct segment, link);
}

static bool may_punch(const struct pool *p, uint64_t now_ns)
{
	const struct segment *s = next_punch(p);

	return s && (now_ns - s->since_ns >= PUNCH_NS || !has_to_spare(p));
}

/*
 * Much may have been touched, out of malice: it is punched one at a time, so that nobody who waits
 * is held up for all of it.
 */
static unsigned emit_looks(struct pool *p, struct step *steps, unsigned cap, uint64_t now_ns)
{
	struct segment *s = pool_next_touched(p);
	unsigned n = 0;

	if (s && n < cap)
		steps[n++] = punch_of(s);
	if (pool_look_due_ns(p) > now_ns)
		return n;
	while (n < cap && n < LOOKS && (s = pool_next_look(p, now_ns)))
		steps[n++] = step_of(STEP_LOOK, s, 0, s->size);
	return n;
}

static uint64_t step_add(struct step *to, struct step step)
{
	*to = step;
	return step.to - step.from;
}

static unsigned emit(struct pool *p, enum pool_urgency urgency, struct step *steps, unsigned n,
		     unsigned cap, uint64_t bytes, uint64_t *sum)
{
	struct list *from = &p->begun[urgency];

	while (n < cap && *sum < bytes && !list_is_empty(from))
		*sum += step_add(&steps[n++],
				 next_piece(container_of(from->next, struct segment, link)));
	return n;
}

unsigned pool_plan(struct pool *p, struct step *steps, unsigned cap, uint64_t bytes,
		   uint64_t now_ns)
{
	struct planning g = { .p = p, .now_ns = now_ns };
	enum pool_urgency first;
	uint64_t sum = 0;
	unsigned looks = emit_looks(p, steps, cap, now_ns), n = looks;

	targets(p, now_ns, g.target);
	for (unsigned i = 0; i < POOL_CLASSES; i++)
		g.have[i] = supply(p, i);
	plan_for_lending(&g);
	plan_for_asks(&g);
	if (list_is_empty(&p->begun[POOL_CLEARED])) {
		plan_for_ended(&g);
		plan_for_idle(&g);
	}
	if (list_is_empty(&p->begun[POOL_STOCKED]))
		plan_for_stock(&g);
	while (n < cap && sum < bytes && may_punch(p, now_ns))
		sum += step_add(&steps[n++],
				punch_of(container_of(p->punches.next, struct segment, link)));
	n = emit(p, POOL_WANTED, steps, n, cap, bytes < WANTED_BYTES ? bytes : WANTED_BYTES, &sum);
	/* And a piece of a large one, so that neither kind waits for all of the other. */
	n = emit(p, POOL_LARGE, steps, n, n < cap ? n + 1 : cap, bytes, &sum);
	if (n > looks && p->ask_count > 0)
		return n;
	n = emit(p, POOL_WARMED, steps, n, cap, bytes, &sum);
	/* What is in the making for the stock may be just what somebody waits for. */
	first = p->ask_count > 0 ? POOL_STOCKED : POOL_CLEARED;
	n = emit(p, first, steps, n, cap, bytes, &sum);
	return emit(p, POOL_CLEARED + POOL_STOCKED - first, steps, n, cap, bytes, &sum);
}

/* The machine has no memory, or no descriptor, although the limit says so. */
static void fail(struct pool *p, struct segment *s, int failure, uint64_t now_ns)
{
	p->counters.failed_count++;
	p->failed_ns = now_ns;
	p->failure = failure;
	if (s->state == SEGMENT_REFILLING)
		pool_disown(p, s);
	if (s->memory.ptr) {
		s->done = 0;
		pool_enter(p, s, SEGMENT_UNMAKING);
		list_insert(p->begun[s->urgency].next, &s->link);
		return;
	}
	pool_hold(p, s, 0);
	pool_enter(p, s, SEGMENT_VOID);
}

static void finish(struct pool *p, struct segment *s, uint64_t now_ns)
{
	if (s->state == SEGMENT_UNMAKING) {
		s->is_exported = false; /* what they map is not this one's any more */
		s->author = 0;
		pool_enter(p, s, SEGMENT_VOID);
	} else if (s->state == SEGMENT_REFILLING) {
		pool_keep_warm(p, s, now_ns);
	} else {
		pool_enter(p, s, SEGMENT_CLEAN);
	}
}

/* If it failed, the pages are there and counted until the segment is freed. */
static void punched(struct pool *p, struct segment *s, uint32_t len)
{
	if (s->held < s->size) {
		p->counters.punched_again_bytes += s->lingering;
		return;
	}
	p->counters.punched_bytes += len;
	pool_hold(p, s, s->held - len);
}

/* A step of one that was in use, and may have been freed meanwhile. */
static void on_with(struct pool *p, struct segment *s, uint64_t now_ns)
{
	if (s->state == SEGMENT_UNMAKING)
		list_insert(&p->begun[s->urgency], &s->link);
	else
		pool_watch(p, s, now_ns);
}

static void step_done(struct pool *p, const struct step *step, uint64_t now_ns)
{
	struct segment *s = step->segment;
	uint32_t len = step->to - step->from;

	s->is_away = false;
	s->memory = step->memory;
	switch (step->kind) {
	case STEP_PUNCH:
		if (step->result == 0)
			punched(p, s, len);
		on_with(p, s, now_ns);
		return;
	case STEP_LOOK:
		pool_looked(p, s, step->there);
		on_with(p, s, now_ns);
		return;
	case STEP_MAKE:
	case STEP_REFILL:
		if (step->result < 0) {
			fail(p, s, step->result, now_ns);
			return;
		}
		if (step->kind == STEP_MAKE)
			p->counters.made_bytes += len;
		else
			p->counters.refilled_bytes += len;
		break;
	case STEP_SCRUB:
		p->counters.scrubbed_bytes += len;
		break;
	case STEP_UNMAKE:
		p->counters.unmade_bytes += len;
		if (s->size - step->to < s->held)
			pool_hold(p, s, s->size - step->to);
		break;
	}
	s->done = step->to;
	if (s->done == end_of(s))
		finish(p, s, now_ns);
	else
		list_insert(p->begun[s->urgency].next, &s->link);
}

void pool_done(struct pool *p, const struct step *steps, unsigned count, uint64_t now_ns)
{
	for (unsigned i = 0; i < count; i++)
		step_done(p, &steps[i], now_ns);
}

static void sooner(uint64_t *due_ns, uint64_t at_ns)
{
	if (at_ns < *due_ns)
		*due_ns = at_ns;
}

uint64_t pool_due_ns(const struct pool *p, uint64_t now_ns)
{
	const struct ask *oldest = pool_oldest(p);
	const struct segment *punch = next_punch(p);
	uint64_t due_ns = UINT64_MAX;
	unsigned surplus = 0;

	if (heap_top(&p->dues))
		sooner(&due_ns, heap_top(&p->dues)->due);
	if (oldest && oldest->arrived_ns + ASK_PATIENCE_NS > now_ns)
		sooner(&due_ns, oldest->arrived_ns + ASK_PATIENCE_NS);
	if (punch)
		sooner(&due_ns, has_to_spare(p) ? punch->since_ns + PUNCH_NS : now_ns);
	sooner(&due_ns, pool_look_due_ns(p));
	if (p->failed_ns && p->failed_ns + FAILED_NS > now_ns)
		sooner(&due_ns, p->failed_ns + FAILED_NS);
	for (unsigned i = 0; i < POOL_CLASSES; i++) {
		const struct segment *s = coldest(p, i);

		if (s)
			sooner(&due_ns, cold_ns(p, s));
		if (p->clean_count[i] > (i == 0 ? IDLE_SMALLEST : 0))
			surplus++;
	}
	if (surplus > 0) {
		uint64_t idle_ns = p->granted_ns + KEEP_NS;

		/* The stock shrinks as the demand is forgotten. */
		sooner(&due_ns, idle_ns > now_ns ? idle_ns : now_ns + DEMAND_HALF_NS);
	}
	return due_ns < now_ns ? now_ns : due_ns;
}
