/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of segments against a naive model. Random requests of a few jobs, random
 * pins, a janitor that takes its time and may find no memory; after each step the
 * pool is counted anew, and every byte that is read must be its job's. Now and then the
 * process is killed in the middle of the janitor's work, and its successor must have all
 * that was granted, and nothing else.
 *
 * usage: test_segment_model [SEED [STEPS]]
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/node.h"
#include "loop/sim.h"
#include "shm/keep_heap.h"
#include "store/janitor.h"
#include "store/restore.h"

#define KB      1024u
#define MB      (1024u * KB)
#define MS      1000000ull
#define LIMIT   (24 * MB) /* segments of up to 256 KiB */
#define JOBS    6
#define ASKS    40
#define HELDS   3600
#define FLIGHTS 4

/* What went wrong, and how to see it again. */
#define CHECK(condition)                                                                         \
	do {                                                                                     \
		if (!(condition)) {                                                              \
			printf("step %" PRIu64 ": %s:%d: not true: %s\n"                         \
			       "again: %s %" PRIu64 " %" PRIu64 "\n",                            \
			       step, __FILE__, __LINE__, #condition, program, seed, step_count); \
			exit(1);                                                                 \
		}                                                                                \
	} while (0)

static const char *program;
static uint64_t seed, step, step_count, now, state;

/* Every number follows from the seed. */
static uint64_t roll(uint64_t below)
{
	uint64_t z = (state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (z ^ (z >> 31)) % below;
}

/* A segment as its slot knows it. */
struct held {
	struct grant g;
	uint64_t job, request, stamp_ns;
	uint32_t front, back, booked;
	bool is_sealed, is_revoked, is_freed, is_free_answered;
	unsigned reads, writes; /* pins of ours */
};

struct waiting {
	struct ask ask;
	bool is_waiting, is_withdrawn;
	int64_t birth_ns, asked_ns;
	uint64_t need, size;
};

/* Steps that the janitor was given and has not reported. */
struct flight {
	struct step steps[8];
	unsigned count;
};

static struct pool p;
static struct retired retired;
static struct sim *sim;
static struct sim_node *process, *home; /* the keeper's memory is of a node of its own */
static struct keep_heap *keeper;
static struct keep *keep;
static struct held helds[HELDS];
static struct waiting asks[ASKS];
static struct flight flights[FLIGHTS];
static bool job_over[JOBS];
static uint64_t job_turn[JOBS], next_request;
static uint64_t booked_bytes;
static unsigned __int128 booked_moments;
static bool machine_is_full;
static struct {
	uint64_t grants, waits, withdrawals, refusals, frees, overs, seals, pins, late_frees,
		repeats, fails, refills, exports, touches, kills, losses;
} did;

static uint64_t job_id(unsigned j)
{
	return (uint64_t)(j + 1) << ID_SLOT_SHIFT | job_turn[j];
}

static unsigned job_index(uint64_t id)
{
	return slot_of_id(id) - 1;
}

/* What a job writes, in each eighth kilobyte: its own id, so that a foreign byte is seen. */
static void mark(uint8_t *bytes, uint32_t len, uint64_t job)
{
	for (uint32_t i = 0; i + 8 <= len; i += 1024)
		memcpy(bytes + i, &job, 8);
}

static void check_marks(const uint8_t *bytes, uint32_t len, uint64_t job)
{
	for (uint32_t i = 0; i + 8 <= len; i += 1024) {
		uint64_t v;

		memcpy(&v, bytes + i, 8);
		CHECK(v == 0 || v == job);
	}
}

static void book(int64_t delta, uint64_t stamp_ns)
{
	booked_bytes += (uint64_t)delta;
	booked_moments += (unsigned __int128)((__int128)delta * (__int128)stamp_ns);
}

static int scarce_fill(struct memory *m, size_t from, size_t to)
{
	if (machine_is_full && roll(2))
		return -ENOMEM;
	return media_heap.fill(m, from, to);
}

static struct media media;

static void take_grants(uint64_t job, uint64_t request, uint64_t need, uint32_t size,
			const struct grants *g)
{
	uint64_t sum = 0;

	CHECK(g->count >= 1 && g->count <= LEASE_SEGMENTS_MAX);
	for (unsigned i = 0; i < g->count; i++) {
		const struct grant *n = &g->list[i];
		struct held *h = NULL;
		struct segment *s;
		uint8_t *bytes;

		CHECK(n->size >= SEGMENT_BYTES_MIN && n->size <= p.size_max);
		CHECK(n->size <= size || size < SEGMENT_BYTES_MIN);
		CHECK(sum < need || sum == 0);
		sum += n->size;
		for (unsigned k = 0; k < HELDS; k++) {
			if (helds[k].g.segment == 0)
				h = h ? h : &helds[k];
			else if (!helds[k].is_free_answered)
				CHECK(helds[k].g.segment != n->segment);
			else if (helds[k].g.segment == n->segment)
				CHECK(helds[k].g.generation < n->generation);
		}
		CHECK(h);
		*h = (struct held){ .g = *n,
				    .job = job,
				    .request = request,
				    .stamp_ns = g->stamp_ns,
				    .back = n->size,
				    .booked = n->size };
		book(n->size, g->stamp_ns);
		CHECK(pool_pin_to_write(&p, job, n->segment, n->generation, n->key, 0, n->size, &s,
					&bytes) == 0);
		check_marks(bytes, n->size, job);
		mark(bytes, n->size, job);
		pool_unpin(&p, s, true, now);
	}
	did.grants++;
}

static unsigned live_count(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < HELDS; i++)
		n += helds[i].g.segment != 0;
	return n;
}

/* A pool knows of a job's end what it needs for the segments that it has. */
static bool has_segments(uint64_t job)
{
	for (unsigned k = 0; k < HELDS; k++)
		if (helds[k].g.segment && helds[k].job == job && !helds[k].is_free_answered)
			return true;
	return false;
}

static uint64_t lacks(const struct waiting *w)
{
	uint64_t size = w->size, most = size * LEASE_SEGMENTS_MAX;

	return w->need < size ? size : w->need < most ? w->need : most;
}

/*
 * Who came later got nothing that those before him lack, and the last 20th is for the
 * oldest, if he has waited, but for two segments, which are for moves, as all of it is.
 */
static void check_order(const struct waiting *w, bool has_waited)
{
	uint64_t limit = LIMIT - LIMIT / 20, ahead = 0;
	bool is_oldest = has_waited;

	if (w->ask.is_move) {
		CHECK(p.used <= LIMIT);
		return;
	}
	for (unsigned k = 0; k < ASKS; k++) {
		const struct waiting *o = &asks[k];

		if (!o->is_waiting || o == w || (has_waited && o->birth_ns >= w->birth_ns))
			continue;
		ahead += lacks(o);
		is_oldest = is_oldest && o->ask.is_move;
	}
	if (is_oldest && now - (uint64_t)w->asked_ns >= 50 * MS)
		limit = LIMIT - 2 * (uint64_t)p.size_max;
	CHECK(p.used + ahead <= limit);
}

/* Who asked for all of it did not get a part. */
static void check_whole(const struct ask *a, const struct grants *g)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < g->count; i++)
		sum += g->list[i].size;
	CHECK(!a->is_whole || sum >= a->need || g->count == LEASE_SEGMENTS_MAX);
}

/* Of what all have and wait for. */
static uint64_t taken(void)
{
	uint64_t bytes = p.used;

	for (unsigned k = 0; k < ASKS; k++)
		bytes += asks[k].is_waiting ? lacks(&asks[k]) : 0;
	return bytes;
}

static void ask_some(void)
{
	unsigned j = (unsigned)roll(JOBS), k = (unsigned)roll(ASKS);
	struct waiting *w = &asks[k];
	uint64_t size, most, before = taken();
	struct grants g;
	bool has_room;
	int r;

	if (w->is_waiting || live_count() + ASKS * LEASE_SEGMENTS_MAX > HELDS ||
	    (job_over[j] && (roll(8) || !has_segments(job_id(j)))))
		return;
	w->ask = (struct ask){ .job = job_id(j),
			       .request = ++next_request,
			       .stamp_ns = 1700000000ull * 1000000000 + now,
			       .age_ns = roll(200) * MS,
			       .due_ns = now + roll(3000) * MS,
			       .need = roll(20) ? 1 + roll(MB) : 1 + roll(2 * LIMIT),
			       .size = (uint32_t)(64 * KB) << roll(5),
			       .is_move = roll(6) == 0,
			       .is_whole = roll(3) == 0 };
	w->ask.is_now = !w->ask.is_move && roll(4) == 0;
	w->birth_ns = w->ask.is_move ? INT64_MIN : (int64_t)(now - w->ask.age_ns);
	w->asked_ns = (int64_t)now;
	w->is_withdrawn = false;
	w->need = w->ask.need;
	size = w->ask.size < LIMIT / 64 ? w->ask.size : 256 * KB;
	most = LIMIT - (w->ask.is_move ? 0 : 2 * (uint64_t)p.size_max);
	r = pool_ask(&p, &w->ask, now, &g);
	/* Less than that is open in a pool that is nearly full; what is needed stays whole. */
	w->size = w->ask.size;
	CHECK(w->size == size || (w->size < size && (w->need <= w->size || w->size == 256 * KB)));
	has_room = !w->ask.is_now || before + lacks(w) <= LIMIT - LIMIT / 20;
	CHECK(has_room || r == -ENOSPC || job_over[j]);
	if (r == 0) {
		check_order(w, false);
		check_whole(&w->ask, &g);
		take_grants(w->ask.job, w->ask.request, w->ask.need, w->ask.size_most, &g);
	} else if (r == -EAGAIN) {
		w->is_waiting = true;
		did.waits++;
	} else {
		CHECK(job_over[j] ? r == -EIDRM
				  : r == -ENOSPC && (w->ask.need > most || !has_room));
		did.refusals++;
	}
}

/* The answer was lost: the same again, and everything of it that was not freed since. */
static void ask_again(void)
{
	const struct held *h = &helds[roll(HELDS)];
	struct grants g;
	struct ask a;
	unsigned expected = 0;

	if (!h->g.segment || h->is_freed)
		return;
	a = (struct ask){
		.job = h->job, .request = h->request, .need = 1, .size = 1, .due_ns = now + MS
	};
	CHECK(pool_ask(&p, &a, now, &g) == 0);
	CHECK(g.stamp_ns == h->stamp_ns);
	for (unsigned k = 0; k < HELDS; k++) {
		const struct held *o = &helds[k];
		bool is_there = false;

		if (!o->g.segment || o->is_freed || o->job != h->job || o->request != h->request)
			continue;
		expected++;
		for (unsigned i = 0; i < g.count; i++)
			is_there |= g.list[i].segment == o->g.segment &&
				    g.list[i].generation == o->g.generation &&
				    g.list[i].key == o->g.key;
		CHECK(is_there);
	}
	CHECK(g.count == expected);
	did.repeats++;
}

/* Nobody wants what it waits for: it has nothing yet, and gets nothing. */
static void withdraw_some(void)
{
	struct waiting *w = &asks[roll(ASKS)];
	const struct ask a = { .job = w->ask.job, .request = w->ask.request };
	struct grants g;

	if (!w->is_waiting)
		return;
	pool_withdraw(&p, &a, &g);
	CHECK(g.count == 0);
	w->is_withdrawn = true;
	did.withdrawals++;
}

static void serve(void)
{
	struct grants g;
	struct ask *a;
	int r;

	while ((a = pool_next(&p, now, &g, &r)) != NULL) {
		struct waiting *w = NULL;

		for (unsigned k = 0; k < ASKS; k++)
			if (&asks[k].ask == a)
				w = &asks[k];
		CHECK(w && w->is_waiting);
		w->is_waiting = false;
		CHECK(w->is_withdrawn == (r == -ECANCELED));
		if (w->is_withdrawn)
			continue;
		if (r == 0) {
			check_order(w, true);
			check_whole(a, &g);
			take_grants(a->job, a->request, a->need, a->size_most, &g);
		} else if (r == -ENOSPC) {
			CHECK(a->due_ns <= now);
			did.refusals++;
		} else {
			CHECK(r == -EIDRM &&
			      (job_over[job_index(a->job)] || a->job != job_id(job_index(a->job))));
		}
	}
	/* Nobody waits past his time. */
	for (unsigned k = 0; k < ASKS; k++)
		CHECK(!asks[k].is_waiting || (asks[k].ask.due_ns > now && !asks[k].is_withdrawn));
}

static struct held *any_held(void)
{
	for (unsigned i = 0; i < 20; i++) {
		struct held *h = &helds[roll(HELDS)];

		if (h->g.segment && !h->is_free_answered)
			return h;
	}
	return NULL;
}

static bool is_over(const struct held *h)
{
	return job_over[job_index(h->job)] || h->job != job_id(job_index(h->job));
}

static void pin_some(void)
{
	struct held *h = any_held();
	uint32_t offset, len, low, high;
	struct segment *s;
	uint8_t *bytes;
	bool is_to_write = roll(2);
	uint64_t key;
	int r, expected;

	if (!h)
		return;
	offset = (uint32_t)roll(h->g.size + 100);
	len = (uint32_t)roll(h->g.size / 2);
	key = roll(10) ? h->g.key : h->g.key + 1;
	low = (h->front + 4095) / 4096 * 4096;
	high = h->back / 4096 * 4096;
	if (h->is_freed)
		expected = -ESTALE;
	else if (is_to_write && (h->is_sealed || h->is_revoked || key != h->g.key))
		expected = -EACCES;
	else if (is_over(h))
		expected = -EIDRM;
	else if ((uint64_t)offset + len > h->g.size)
		expected = -ERANGE;
	else if (h->is_sealed && low < high && offset + len > low && offset < high)
		expected = -ERANGE;
	else
		expected = 0;
	r = is_to_write
		    ? pool_pin_to_write(&p, h->job, h->g.segment, h->g.generation, key, offset, len,
					&s, &bytes)
		    : pool_pin(&p, h->job, h->g.segment, h->g.generation, offset, len, &s, &bytes);
	CHECK(r == expected);
	CHECK(pool_pin(&p, h->job + 1000, h->g.segment, h->g.generation, 0, 1, &s, &bytes) < 0);
	if (r < 0)
		return;
	did.pins++;
	if (is_to_write)
		h->writes++;
	else
		h->reads++;
}

static void unpin_some(void)
{
	struct held *h = any_held();
	struct segment *s;
	bool is_to_write;

	if (!h || h->reads + h->writes == 0)
		return;
	is_to_write = h->reads == 0 || (h->writes > 0 && roll(2));
	s = pool_pinned(&p, h->g.segment);
	CHECK(s->pin_count == h->reads + h->writes);
	/* What is pinned is still there, whatever happened meanwhile. */
	check_marks(s->memory.ptr, h->is_sealed ? h->front : h->g.size, h->job);
	pool_unpin(&p, s, is_to_write, now);
	if (is_to_write)
		h->writes--;
	else
		h->reads--;
	if (h->is_freed && h->reads + h->writes == 0) {
		CHECK(s->generation == h->g.generation + 1);
		h->is_free_answered = true;
		did.late_frees++;
	}
}

static void seal_some(void)
{
	struct held *h = any_held();
	uint32_t a, b, booked;
	uint64_t stamp_ns = 1700000000ull * 1000000000 + now;

	if (!h || h->is_freed)
		return;
	a = (uint32_t)roll(h->g.size + 1);
	b = (uint32_t)roll(h->g.size + 1);
	if (a > b) {
		CHECK(pool_seal(&p, h->g.segment, h->g.generation, a, b, 1, now) == -EINVAL);
		return;
	}
	CHECK(pool_seal(&p, h->g.segment, h->g.generation, a, b, stamp_ns, now) == 0);
	if (h->is_sealed)
		return;
	h->is_sealed = true;
	h->front = a;
	h->back = b;
	booked = segment_booked(h->g.size, a, b);
	book((int64_t)booked - h->booked, stamp_ns);
	h->booked = booked;
	did.seals++;
}

/* Functions may map it from now on, and touch what was punched. */
static void export_some(void)
{
	struct held *h = any_held();
	struct segment *s;

	if (!h)
		return;
	CHECK(pool_export(&p, h->job, h->g.segment, h->g.generation, now, &s) ==
	      (h->is_freed  ? -ESTALE
	       : is_over(h) ? -EIDRM
			    : 0));
	did.exports++;
}

static void free_one(struct held *h)
{
	uint64_t stamp_ns = 1700000000ull * 1000000000 + now;
	struct segment *s;
	int r = pool_free(&p, h->g.segment, h->g.generation, stamp_ns, now, &s);

	CHECK(r == (h->reads + h->writes > 0 ? -EAGAIN : 0));
	if (!h->is_freed)
		book(-(int64_t)h->booked, stamp_ns);
	h->is_freed = true;
	h->is_free_answered = r == 0;
	did.frees++;
}

static void free_some(void)
{
	struct held *h = any_held();

	if (h)
		free_one(h);
}

static void revoke_some(void)
{
	struct held *h = any_held();
	struct segment *s;
	int r;

	if (!h || h->is_freed)
		return;
	r = pool_revoke(&p, h->g.segment, h->g.generation, &s);
	h->is_revoked = true;
	/* Exact here, because we say which kind of pin we give back. */
	CHECK(r == (h->writes > 0 ? -EAGAIN : 0));
}

/* The slot forgets what was freed, so that a later generation may be seen. */
static void forget_some(void)
{
	struct held *h = &helds[roll(HELDS)];

	if (h->g.segment && h->is_free_answered)
		*h = (struct held){ .g.segment = 0 };
}

static void job_some(void)
{
	unsigned j = (unsigned)roll(JOBS);
	bool is_empty = true;

	if (!job_over[j]) {
		if (roll(4))
			return;
		pool_job_over(&p, job_id(j));
		job_over[j] = true;
		did.overs++;
		return;
	}
	/* Its segments are freed, one by one, and then there is a new job in its place. */
	for (unsigned k = 0; k < HELDS; k++) {
		struct held *h = &helds[k];

		if (!h->g.segment || h->job != job_id(j) || h->is_free_answered)
			continue;
		free_one(h);
		is_empty &= h->is_free_answered;
	}
	for (unsigned k = 0; k < ASKS; k++)
		is_empty &= !asks[k].is_waiting || asks[k].ask.job != job_id(j);
	if (is_empty) {
		job_over[j] = false;
		job_turn[j]++;
	}
}

static void janitor_begins(void)
{
	struct flight *f = &flights[roll(FLIGHTS)];

	if (f->count == 0)
		f->count = pool_plan(&p, f->steps, 1 + (unsigned)roll(8), 1 + roll(2 * MB), now);
}

/* What it was given happens now: until then the memory is as it was. */
static void janitor_ends(void)
{
	struct flight *f = &flights[roll(FLIGHTS)];

	for (unsigned i = 0; i < f->count; i++) {
		janitor_step(&media, keep, &retired, &f->steps[i]);
		if (f->steps[i].kind == STEP_LOOK && roll(2)) {
			f->steps[i].there = f->steps[i].size;
			did.touches++;
		}
		did.fails += f->steps[i].result < 0;
		did.refills += f->steps[i].kind == STEP_REFILL && f->steps[i].result == 0;
	}
	pool_done(&p, f->steps, f->count, now);
	f->count = 0;
}

/* Every byte of it is as its job wrote it, but for what was punched. */
static void check_bytes(const struct held *h)
{
	uint32_t low = (h->front + 4095) / 4096 * 4096, high = h->back / 4096 * 4096;
	uint8_t *bytes = p.chunks[0][0].memory.ptr;

	for (unsigned i = 0; i < p.segment_count; i++)
		if (p.chunks[i / 256][i % 256].id == h->g.segment)
			bytes = p.chunks[i / 256][i % 256].memory.ptr;
	for (uint32_t i = 0; i + 8 <= h->g.size; i += 1024)
		if (!h->is_sealed || i + 8 <= low || i >= high)
			CHECK(memcmp(bytes + i, &h->job, 8) == 0);
}

/* The keeper has lost one: its slot will hear of that. */
static void lose_some(uint64_t wall_ns)
{
	struct held *h = any_held();

	if (!h || h->is_freed)
		return;
	keep_drop(keep, segment_name((uint32_t)h->g.segment & 0xfffff));
	book(-(int64_t)h->booked, wall_ns);
	h->is_freed = true;
	did.losses++;
}

/* Steps that were given may be done, to any of them; nobody hears of it. */
static void kill_in_the_middle(void)
{
	for (unsigned k = 0; k < FLIGHTS; k++) {
		for (unsigned i = 0; i < flights[k].count && roll(4); i++)
			janitor_step(&media, keep, &retired, &flights[k].steps[i]);
		flights[k].count = 0;
	}
	sim_node_kill(process);
	keep_heap_owner_gone(keeper);
	keep_heap_set_down(keeper, false);
	memset(&p, 0xa5, sizeof(p));
	for (unsigned k = 0; k < ASKS; k++)
		asks[k].is_waiting = false;
}

static void restart(void)
{
	uint64_t number = p.number, losses = did.losses, wall_ns = 1700000000ull * 1000000000 + now;
	struct restored restored;
	struct segment *viewed;
	unsigned count = 0, at = 0;
	int r;

	kill_in_the_middle();
	if (roll(4) == 0)
		lose_some(wall_ns);
	r = pool_open(&p, keep, &media, &retired, LIMIT, wall_ns, &restored);
	if (r < 0) {
		/* No memory to start with; all is still there for who has some. */
		CHECK(r == -ENOMEM && machine_is_full);
		sim_node_kill(process);
		keep_heap_owner_gone(keeper);
		machine_is_full = false;
		r = pool_open(&p, keep, &media, &retired, LIMIT, wall_ns, &restored);
	}
	CHECK(r == 0 && restored.is_again && p.number == number && p.limit == LIMIT);
	while ((viewed = pool_view_over(&p, &at)) != NULL)
		pool_unpin(&p, viewed, false, now);
	keep_drop_rest(keep);
	for (unsigned k = 0; k < HELDS; k++) {
		struct held *h = &helds[k];

		h->reads = h->writes = 0;
		h->is_free_answered = h->is_freed;
		if (!h->g.segment || h->is_freed)
			continue;
		count++;
		check_bytes(h);
	}
	CHECK(restored.count == count && restored.lost == did.losses - losses);
	CHECK(p.reserved == p.used && keep_heap_count(keeper) == count + 1);
	did.kills++;
}

static void check_pool(void)
{
	uint64_t reserved = 0, used = 0, lingering = 0;
	unsigned count = 0, clean = 0, dirty = 0;

	for (unsigned i = 0; i < p.segment_count; i++) {
		const struct segment *s = &p.chunks[i / 256][i % 256];

		reserved += s->held;
		lingering += s->lingering;
		CHECK(s->lingering == 0 || (s->is_exported && s->held + s->lingering == s->size));
		CHECK(s->held <= s->size);
		CHECK(s->state != SEGMENT_VOID || (s->held == 0 && !s->memory.ptr));
		CHECK(s->state != SEGMENT_DIRTY || s->held == s->size);
		if (s->state >= SEGMENT_OPEN && s->state <= SEGMENT_FREEING) {
			used += s->held;
			count++;
		}
		clean += s->state == SEGMENT_CLEAN;
		dirty += s->state == SEGMENT_DIRTY;
	}
	CHECK(reserved == p.reserved && reserved <= LIMIT);
	CHECK(lingering == p.counters.lingering_bytes);
	CHECK(used == p.used && count == p.used_count);
	for (unsigned i = 0; i < POOL_CLASSES; i++) {
		clean -= p.clean_count[i];
		dirty -= p.dirty_count[i];
	}
	CHECK(clean == 0 && dirty == 0);
	CHECK(p.book.bytes == booked_bytes && p.book.moments == booked_moments);
	count = 0;
	for (unsigned k = 0; k < HELDS; k++)
		count += helds[k].g.segment && !helds[k].is_free_answered;
	CHECK(count == p.used_count);
}

/* Everything ends: all is given back, and nobody waits. */
static void end_all(void)
{
	for (unsigned k = 0; k < ASKS; k++)
		if (asks[k].is_waiting)
			pool_forget(&p, &asks[k].ask);
	for (unsigned k = 0; k < HELDS; k++) {
		struct held *h = &helds[k];

		while (h->reads + h->writes > 0) {
			pool_unpin(&p, pool_pinned(&p, h->g.segment), h->writes > 0, now);
			if (h->writes > 0)
				h->writes--;
			else
				h->reads--;
		}
		if (h->g.segment && !h->is_free_answered)
			free_one(h);
	}
	for (unsigned j = 0; j < JOBS; j++)
		pool_job_over(&p, job_id(j));
	machine_is_full = false;
	for (unsigned i = 0; i < 3000; i++) {
		janitor_begins();
		janitor_ends();
		now += 10 * MS;
	}
	for (unsigned i = 0; i < FLIGHTS; i++)
		CHECK(flights[i].count == 0);
	CHECK(p.used == 0 && p.used_count == 0 && p.book.bytes == 0);
	CHECK(p.ask_count == 0 && p.asked_bytes == 0 && p.jobs.count == 0 && p.requests.count == 0);
	CHECK(p.reserved == 4 * 64 * KB && pool_clean_bytes(&p) == p.reserved);
}

static void one_step(void)
{
	switch (roll(20)) {
	case 0 ... 3:
		ask_some();
		break;
	case 4 ... 5:
		free_some();
		break;
	case 6 ... 7:
		pin_some();
		break;
	case 8 ... 9:
		unpin_some();
		break;
	case 10:
		seal_some();
		break;
	case 11:
		for (unsigned i = 0; i < 50; i++)
			forget_some();
		ask_again();
		break;
	case 12 ... 13:
		janitor_begins();
		break;
	case 14 ... 17:
		janitor_ends();
		break;
	case 18:
		now += roll(4) ? roll(5 * MS) : roll(1000 * MS);
		break;
	default:
		if (roll(15) == 0)
			job_some();
		if (roll(10) == 0)
			revoke_some();
		if (roll(3) == 0)
			export_some();
		if (roll(10) == 0)
			withdraw_some();
		if (roll(200) == 0)
			machine_is_full = !machine_is_full;
		if (roll(100) == 0)
			keep_heap_set_down(keeper, roll(2));
		if (roll(30) == 0)
			restart();
		break;
	}
	serve();
}

int main(int argc, char **argv)
{
	struct sim_config config;
	struct restored restored;
	const char *given = getenv("WADI_SEED");

	program = argv[0];
	seed = argc > 1 ? strtoull(argv[1], NULL, 0) : given ? strtoull(given, NULL, 0) : 1;
	step_count = argc > 2 ? strtoull(argv[2], NULL, 0) : 100000;
	printf("seed %" PRIu64 "\n", seed);
	fflush(stdout);
	state = seed;
	now = 1000 * MS;
	media = media_heap;
	media.fill = scarce_fill;
	config = (struct sim_config){ .seed = seed };
	CHECK(sim_open(&config, &sim) == 0);
	CHECK(sim_node_add(sim, 1, &process) == 0 && sim_node_add(sim, 2, &home) == 0);
	CHECK(keep_heap_open(sim_node_of(home), &keeper) == 0);
	keep = keep_heap_keep(keeper);
	node_current = sim_node_of(process);
	CHECK(pool_open(&p, keep, &media, &retired, LIMIT, now, &restored) == 0 &&
	      !restored.is_again);
	for (step = 0; step < step_count; step++) {
		one_step();
		check_pool();
	}
	keep_heap_set_down(keeper, false);
	end_all();
	CHECK(keep_heap_count(keeper) == 4 + 1); /* clean ones, and the table */
	pool_fini(&p, &media);
	keep_heap_close(keeper);
	CHECK(sim_node_bytes(process) == 0 && sim_node_bytes(home) == 0);
	node_current = NULL;
	sim_close(sim);
	printf("%" PRIu64 " steps: %" PRIu64 " grants, %" PRIu64 " waits, %" PRIu64
	       " withdrawals, %" PRIu64 " refusals, %" PRIu64 " frees, %" PRIu64
	       " after pins, %" PRIu64 " seals, %" PRIu64 " pins, %" PRIu64 " repeats, %" PRIu64
	       " jobs ended, %" PRIu64 " failed steps, %" PRIu64 " refills, %" PRIu64
	       " exports, %" PRIu64 " touched, %" PRIu64 " kills, %" PRIu64 " losses\n",
	       step, did.grants, did.waits, did.withdrawals, did.refusals, did.frees,
	       did.late_frees, did.seals, did.pins, did.repeats, did.overs, did.fails, did.refills,
	       did.exports, did.touches, did.kills, did.losses);
	return 0;
}
